"""Pools whose latency was never measured under load: capacity.csv pools and hosted APIs.

Notation
    s      work of a request: the part of a replica's second that it takes      s
    p, o   its prefilled prompt and its output tokens
    x      the largest rate one replica sustains at a shape                      1/s
    R      measured over fitted work, between the measured shapes                ratio
    d      distance of two shapes: of log tokens of prompt and output            log ratio

Program
    capacity.csv   s = (a p + b o) R(p, o), with a, b fitted to s = 1/x of the measured shapes
                   R = sum_i R_i / d_i^2 over sum_i 1 / d_i^2: at a measured shape exactly its own
    hosted API     s = 1 / max_rps for every request: the provider limits requests, and queues none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.latency.bands import Bands
from planner.latency.lattice import NOISE_WEIGHT, Survival, noise_factor, time_grid
from planner.latency.moments import ClassMoments
from planner.latency.regress import LogProblem, fit_log
from planner.spec.arrays import FloatArray, distinct
from planner.spec.base import METRICS, Metric
from planner.spec.pool import CapacityPoint, Profile
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit

UNKNOWN_MS = 1e7  # stands for a latency nobody measured; such a pool may carry no limited class
PROMPT_RATIO = 0.05  # work of a prompt token over that of an output token, before any data
SAME_SHAPE = 1e-24  # squared distance below which a shape is a measured one
# Spread of single requests around a hosted API's published means: an assumption.
HOSTED_CV: dict[Metric, float] = {"ttft": 0.6, "tpot": 0.3}
_LOADS = np.array([0.0, 0.5, 1.0])


@dataclass(frozen=True)
class CapacityLaw:
    """The work of a request as a linear function of its tokens, and flat latencies if known."""

    request_s: float
    prompt_token_s: float
    output_token_s: float
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    measured_at: tuple[tuple[float, float, float], ...] = ()  # prompt and output tokens, R

    @classmethod
    def hosted(cls, max_rps: float, ttft_ms: float | None, tpot_ms: float | None) -> CapacityLaw:
        """Returns the law of a provider that allows max_rps."""
        return cls(1.0 / max_rps, 0.0, 0.0, ttft_ms, tpot_ms)

    @classmethod
    def measured(cls, points: Sequence[CapacityPoint]) -> CapacityLaw:
        """Returns the law through the measured capacities (relative least squares, robust).

        Where it misses them it is bent: a table of capacities is what its maker measured.
        """
        x = np.array([[p.input_tokens, p.output_tokens] for p in points])
        work = np.array([1.0 / p.max_rps for p in points])
        output_s = float(np.median(work / (x @ np.array([PROMPT_RATIO, 1.0]))))
        centre = np.array([PROMPT_RATIO * output_s, output_s])
        scale, width = np.full(work.size, 0.05), np.array([1.5, 3.0])
        fitted = fit_log(LogProblem(x, np.log(work), scale, centre, width))
        shapes, which = np.unique(x, axis=0, return_inverse=True)
        ratio = work / (x @ fitted)
        at = [float(np.median(ratio[which == i])) for i in range(len(shapes))]
        known = tuple((p, o, r) for (p, o), r in zip(shapes.tolist(), at, strict=True))
        return cls(0.0, float(fitted[0]), float(fitted[1]), measured_at=known)

    def scaled(self, ratio: float) -> CapacityLaw:
        """Returns the law of a replica that needs `ratio` times as long for everything."""
        return replace(
            self,
            request_s=self.request_s * ratio,
            prompt_token_s=self.prompt_token_s * ratio,
            output_token_s=self.output_token_s * ratio,
            ttft_ms=None if self.ttft_ms is None else self.ttft_ms * ratio,
            tpot_ms=None if self.tpot_ms is None else self.tpot_ms * ratio,
        )

    def work_s(self, shapes: Sequence[RequestShape | None]) -> FloatArray:
        """Returns the work per request of every class in replica-seconds, (C,), NaN if barred."""
        classes = ClassMoments.of(shapes)
        tokens_s = self.prompt_token_s * classes.prompt_tokens
        tokens_s = tokens_s + self.output_token_s * classes.output_tokens
        bent = self._measured_ratio(classes.prompt_tokens, classes.output_tokens)
        return np.asarray(self.request_s + tokens_s * bent)

    def _measured_ratio(self, prompt_tokens: FloatArray, output_tokens: FloatArray) -> FloatArray:
        """Returns measured over fitted work at shapes, (C,); 1 where nothing was measured."""
        if not self.measured_at:
            return np.ones(prompt_tokens.size)
        prompt, output, ratio = np.array(self.measured_at).T
        with np.errstate(invalid="ignore", divide="ignore"):
            along = np.log(prompt_tokens[:, None] / prompt), np.log(output_tokens[:, None] / output)
        weight = 1.0 / np.maximum(along[0] ** 2 + along[1] ** 2, SAME_SHAPE)
        return np.asarray((weight @ ratio) / weight.sum(axis=1))

    def tabulate(
        self,
        profile: Profile,
        bands: Bands,
        shapes: Sequence[RequestShape | None],
        mix: FloatArray,
        limits: Sequence[ScopedLimit],
    ) -> PoolTable:
        """Returns the table: flat latencies where they are known, else a table without latency."""
        classes = ClassMoments.of(shapes)
        known = self.ttft_ms is not None and self.tpot_ms is not None
        times, mean, survival = (
            self._flat(shapes, limits) if known else _unknown(len(shapes), limits)
        )
        extrapolated = np.zeros(_LOADS.size, dtype=np.bool_)
        for metric in METRICS:
            mean[metric][~classes.allowed] = times[metric][-1]
            survival[metric][~classes.allowed] = 1.0
        return PoolTable(
            pool=profile.name,
            work_s=self.work_s(shapes),
            mix=classes.share(np.asarray(mix, dtype=np.float64)),
            loads=_LOADS,
            mean_ms=mean,
            times_ms=times,
            survival=survival,
            band_ratio=bands.at(_LOADS, extrapolated, mean, np.zeros(_LOADS.size)),
            extrapolated=extrapolated,
            origin=bands.origin,
            has_latency=known,
        )

    def _flat(
        self, shapes: Sequence[RequestShape | None], limits: Sequence[ScopedLimit]
    ) -> tuple[dict[Metric, FloatArray], dict[Metric, FloatArray], dict[Metric, FloatArray]]:
        """Returns (times, means, survivals) that do not depend on the load."""
        assert self.ttft_ms is not None and self.tpot_ms is not None
        outputs = [np.ones(1) if s is None else np.maximum(s.output_tokens, 1.0) for s in shapes]
        width = max(o.size for o in outputs)
        output = np.array([np.resize(o, width) for o in outputs])
        weight = np.array([(np.arange(width) < o.size) / o.size for o in outputs])
        decoded = output - 1.0
        first = self.ttft_ms * noise_factor(np.array(HOSTED_CV["ttft"]))
        token = self.tpot_ms * noise_factor(np.array(HOSTED_CV["tpot"]))
        stay = first[:, None] + decoded[:, :, None, None] * token  # (C, O, 3, 3)
        pair = NOISE_WEIGHT[:, None] * NOISE_WEIGHT
        n_classes = len(outputs)
        ones = np.ones((n_classes, 1, 1))
        values: dict[Metric, tuple[FloatArray, FloatArray]] = {
            "ttft": (first * ones, NOISE_WEIGHT * ones),
            "tpot": (token * ones, NOISE_WEIGHT * ones),
            "e2e": (
                stay.reshape(n_classes, 1, -1),
                (weight[:, :, None, None] * pair).reshape(n_classes, 1, -1),
            ),
        }
        tokens = (weight * decoded).sum(axis=1)
        means: dict[Metric, FloatArray] = {
            "ttft": np.full(n_classes, self.ttft_ms),
            "tpot": np.full(n_classes, self.tpot_ms),
            "e2e": self.ttft_ms + tokens * self.tpot_ms,
        }
        times: dict[Metric, FloatArray] = {}
        survival: dict[Metric, FloatArray] = {}
        for metric in METRICS:
            law = Survival(*values[metric], (n_classes, 1))
            times[metric] = time_grid(*law.span_ms(), _nodes(metric, limits))
            survival[metric] = np.repeat(law.at(times[metric]), _LOADS.size, axis=1)
        mean = {m: np.repeat(v[:, None], _LOADS.size, axis=1) for m, v in means.items()}
        return times, mean, survival


def _nodes(metric: Metric, limits: Sequence[ScopedLimit]) -> list[float]:
    return [s.limit.at_most_ms for s in limits if s.limit.metric == metric]


def _unknown(
    n_classes: int, limits: Sequence[ScopedLimit]
) -> tuple[dict[Metric, FloatArray], dict[Metric, FloatArray], dict[Metric, FloatArray]]:
    """Returns a table in which every request takes forever."""
    times = {m: distinct(np.array([1.0, *_nodes(m, limits), UNKNOWN_MS])) for m in METRICS}
    mean = {m: np.full((n_classes, _LOADS.size), UNKNOWN_MS) for m in METRICS}
    survival = {m: np.ones((n_classes, _LOADS.size, times[m].size)) for m in METRICS}
    return times, mean, survival
