"""The workload as arrays: what the question asks for, class by class and pool by pool.

Notation
    C   number of request classes          P   number of pools
    c   a class                            p   a pool
    O   number of cascades                 R   rows, C + 2 O
    e   share of a cascade's requests whose first answer is not trusted

Rows. The first C rows are the classes: a request that takes such a row is answered by one pool.
A cascade of a class has two rows more, its stages: in the first all its requests are answered by
one model, in the second the share e of them by another one. A first stage counts as traffic of its
class, in place of the class's own row; a second one is work for requests that were counted before.
Who needs requests, classes or quality reads the first C rows or sums over `counted` ones; work,
tokens and money are those of all rows.

What a cascade's users see. The first answer is held back until it is known to be trusted; then it
is delivered at once, or thrown away and the second one streamed. So with T1, T2 of the two stages
    e2e     T1_e2e, or T1_e2e + T2_e2e for the share e
    ttft    T1_e2e, or T1_e2e + T2_ttft for the share e
    tpot    0, or T2_tpot for the share e: a first answer comes whole
Means add up. For P(T1 + T2 > t) there is the union bound P(T1 > a t) + P(T2 > (1 - a) t) with a
fixed a, whatever the two have to do with each other: linear in the shares of both stages. A long
answer is as likely trusted as a short one, unless the signal is its length: then all requests are
counted late where T1 > a t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.base import Metric, Origin, latency_label
from planner.spec.question import Limit


@dataclass(frozen=True)
class RequestShape:
    """The token counts of one class on one pool, as equally likely nodes of their distributions."""

    input_tokens: FloatArray  # (n_in,) ascending, before prefix-cache hits
    output_tokens: FloatArray  # (n_out,) ascending, at least 1
    cached_input_ratio: float = 0.0

    @property
    def mean_output_tokens(self) -> float:
        """Returns the mean answer length in tokens."""
        return float(self.output_tokens.mean())


@dataclass(frozen=True)
class ScopedLimit:
    """A latency limit with its scope: one class, or all traffic when class_name is None (§2)."""

    class_name: str | None
    limit: Limit

    @property
    def label(self) -> str:
        """Returns a short unique name, e.g. 'p95 e2e of math' or 'mean tpot of all traffic'."""
        return latency_label(self.class_name, self.limit.metric, self.limit.statistic)


@dataclass(frozen=True)
class StagePart:
    """One term of a cascade's latency: weight * figure of a stage, read at time_ratio * t."""

    row: int
    metric: Metric
    weight: float
    time_ratio: float


LENGTH_SIGNAL = "length"
"""The signal that is the answer's own length: who is slow is not trusted."""


@dataclass(frozen=True)
class Cascade:
    """A small model first, a larger one where a signal of its answer is too low; two rows."""

    class_name: str
    class_index: int
    first_row: int
    second_row: int
    first_model: str
    second_model: str
    signal: str
    below: float  # the second model is asked where the signal is below
    escalated_ratio: float  # e
    quality: float
    first_time_ratio: Mapping[Metric, float]  # a, of e2e and ttft

    @property
    def key(self) -> tuple[str, str, str, str, float]:
        """Returns what tells it from every other cascade of a question."""
        return self.class_name, self.first_model, self.second_model, self.signal, self.below

    @property
    def label(self) -> str:
        """Returns a short name, e.g. 'math: llama-8b, then llama-70b where length < -800'."""
        models = f"{self.first_model}, then {self.second_model}"
        return f"{self.class_name}: {models} where {self.signal} < {self.below:g}"

    def parts(self, metric: Metric) -> tuple[StagePart, ...]:
        """Returns the terms whose sum is the mean, or the exceedance, of a metric."""
        e, first, second = self.escalated_ratio, self.first_row, self.second_row
        if metric == "tpot":
            return (StagePart(second, "tpot", e, 1.0),)
        a = self.first_time_ratio[metric]
        accepted = 0.0 if self.signal == LENGTH_SIGNAL and e > 0 else 1.0 - e
        return (
            StagePart(first, "e2e", accepted, 1.0),
            StagePart(first, "e2e", 1.0 - accepted, a),
            StagePart(second, metric, e, 1.0 - a),
        )


@dataclass(frozen=True)
class Workload:
    """What must be served; immutable, a row per class and per stage, a column per pool."""

    class_names: tuple[str, ...]
    pool_names: tuple[str, ...]
    rate_rps: FloatArray  # (R,) planned rate of the requests that could take a row
    mean_rate_rps: FloatArray  # (R,) the same as long-run mean, for money per token
    quality: FloatArray  # (R, P) mean score in [0, 1], of a whole cascade in its first stage and 0
    # in its second one; NaN where the pool is not allowed
    allowed: BoolArray  # (R, P)
    shapes: tuple[tuple[RequestShape | None, ...], ...]  # (R, P); None where not allowed
    limits: tuple[ScopedLimit, ...]
    quality_at_least: float | None
    class_quality_at_least: FloatArray  # (C,) NaN = no floor
    priority: FloatArray  # (C,) who is shed last has the largest
    request_usd: FloatArray  # (R, P) price of one request on a hosted pool, 0 on own GPUs
    origin: Origin  # of scores and lengths
    cascades: tuple[Cascade, ...] = ()  # (O,) in the order of their rows

    @property
    def n_classes(self) -> int:
        """Returns the number of request classes."""
        return len(self.class_names)

    @property
    def n_rows(self) -> int:
        """Returns the number of rows: classes, and two stages per cascade."""
        return self.n_classes + 2 * len(self.cascades)

    @property
    def row_class(self) -> IntArray:
        """Returns the class of each row, (R,)."""
        stages = np.repeat([cascade.class_index for cascade in self.cascades], 2)
        return np.concatenate([np.arange(self.n_classes), stages]).astype(np.int64)

    @property
    def counted(self) -> BoolArray:
        """Returns which rows' requests count as traffic, (R,): all but second stages."""
        rows = np.ones(self.n_rows, dtype=np.bool_)
        rows[[cascade.second_row for cascade in self.cascades]] = False
        return rows

    @property
    def row_names(self) -> tuple[str, ...]:
        """Returns what each row is called in a message, (R,)."""
        stages = [
            f"{cascade.class_name} ({which} answer of a cascade)"
            for cascade in self.cascades
            for which in ("first", "second")
        ]
        return *self.class_names, *stages

    @property
    def class_rate_rps(self) -> FloatArray:
        """Returns the planned rate of each class, (C,)."""
        return self.rate_rps[: self.n_classes]

    def in_scope(self, scoped: ScopedLimit) -> BoolArray:
        """Returns which rows a limit covers, (R,): those of its class, or all."""
        covered = [scoped.class_name in (None, name) for name in self.class_names]
        return np.array(covered, dtype=np.bool_)[self.row_class]

    @property
    def n_pools(self) -> int:
        """Returns the number of pools."""
        return len(self.pool_names)

    @property
    def total_rps(self) -> float:
        """Returns the planned rate of all classes together, in requests per second."""
        return float(self.class_rate_rps.sum())

    @property
    def dearest_request_usd(self) -> float:
        """Returns what a request costs at most on hosted pools, all its answers together."""
        each = [float(self.request_usd[: self.n_classes].max(initial=0.0))]
        for cascade in self.cascades:
            first, second = self.request_usd[[cascade.first_row, cascade.second_row]].max(axis=1)
            each.append(float(first + cascade.escalated_ratio * second))
        return max(each)

    @property
    def weights(self) -> FloatArray:
        """Returns the traffic share of each class, (C,), summing to 1."""
        rates = self.class_rate_rps
        return np.asarray(rates / rates.sum(), dtype=np.float64)

    def rows_without(self, unused: Sequence[Cascade]) -> IntArray:
        """Returns the rows that are left without some cascades, ascending."""
        gone = [row for cascade in unused for row in (cascade.first_row, cascade.second_row)]
        return np.setdiff1d(np.arange(self.n_rows), gone)

    def without(self, unused: Sequence[Cascade]) -> Workload:
        """Returns the same workload without some of its cascades."""
        rows = self.rows_without(unused)
        kept = [cascade for cascade in self.cascades if cascade not in unused]
        first = self.n_classes + 2 * np.arange(len(kept))
        return replace(
            self,
            rate_rps=self.rate_rps[rows],
            mean_rate_rps=self.mean_rate_rps[rows],
            quality=self.quality[rows],
            allowed=self.allowed[rows],
            shapes=tuple(self.shapes[row] for row in rows.tolist()),
            request_usd=self.request_usd[rows],
            cascades=tuple(
                replace(cascade, first_row=row, second_row=row + 1)
                for cascade, row in zip(kept, first.tolist(), strict=True)
            ),
        )

    def by_class(self, per_row: FloatArray) -> FloatArray:
        """Returns row figures summed over the rows of each class that count, (R,) -> (C,)."""
        if not self.cascades:
            return per_row
        counted = np.where(self.counted, per_row, 0.0)
        return np.asarray(np.bincount(self.row_class, counted, self.n_classes))

    def with_limits_scaled(self, ratio: float) -> Workload:
        """Returns the same workload with every latency limit multiplied by ratio."""
        scaled = tuple(
            ScopedLimit(
                s.class_name,
                s.limit.model_copy(update={"at_most_ms": s.limit.at_most_ms * ratio}),
            )
            for s in self.limits
        )
        return replace(self, limits=scaled)
