"""LatencyModel: what one replica of a pool does to any mix of requests at any load.

Notation
    rho    load of one replica: replica-seconds of work arriving per second    (K,)
    s_c    work of one request of class c                                      (C,)
    lam    arrivals at a load: rho / mean work of the mix
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.latency.bands import Bands
from planner.latency.capacity import CapacityLaw
from planner.latency.chain import Stationary, companions, group_size, states, stationary
from planner.latency.lattice import time_grid
from planner.latency.memory import Memory
from planner.latency.moments import ClassMoments, MixMoments
from planner.latency.pchip import Pchip
from planner.latency.prefill import PrefillLoad
from planner.latency.saturation import Caps, Saturation, decode_curve_ms, saturation, work_ms
from planner.latency.sojourn import Replica, Sojourn, sojourn
from planner.latency.steplaw import StepLaw
from planner.spec.arrays import FloatArray
from planner.spec.base import METRICS, Metric, Origin, worst_origin
from planner.spec.pool import Profile
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit

# Finer where the curves bend. The last one is the highest load that a table offers.
LOADS = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.68, 0.76, 0.83, 0.88, 0.92, 0.95, 0.97])
TOKENS_PER_STEP = 8192  # max_num_batched_tokens where the pool does not say


@dataclass(frozen=True)
class LatencyModel:
    """The fitted latency of one pool's replica; made by fit.fit, pure, cheap to evaluate."""

    profile: Profile
    law: StepLaw | None  # None: only the capacity is known
    capacity: CapacityLaw | None  # set where law is None, and for hosted pools
    memory: Memory
    max_num_seqs: int  # engine setting, or twice the largest measured concurrency if lower
    measured_concurrency: tuple[float, float]  # (low, high) mean sequences on one replica
    bands: Bands
    fit_error_ratio: float  # mean leave-one-load-out error of the step time
    notes: tuple[str, ...] = ()
    ttft_correction: Pchip = field(default_factory=Pchip)  # log measured/predicted over rho
    tpot_correction: Pchip = field(default_factory=Pchip)
    measured_shape: RequestShape | None = None  # of the first measured load

    def tabulate(
        self,
        shapes: Sequence[RequestShape | None],
        mix: FloatArray,
        limits: Sequence[ScopedLimit] = (),
        arrival_cv: float = 1.0,
    ) -> PoolTable:
        """Returns the latency table of one replica at a class mix.

        Args:
            shapes: token counts per class, (C,); None where the class may not use the pool.
            mix: shares of the pool's requests per class, (C,); need not be normalised.
            limits: limits whose times become exact nodes of the survival grids.
            arrival_cv: cv of the gaps between arrivals; 1 is Poisson.

        A class that may not use the pool gets work NaN and, so that arithmetic with a zero share
        stays finite, the slowest latency of the table with certainty.
        """
        if self.law is None or self.capacity is not None:
            assert self.capacity is not None
            return self.capacity.tabulate(self.profile, self.bands, shapes, mix, limits)
        classes = ClassMoments.of(shapes)
        share = classes.share(np.asarray(mix, dtype=np.float64))
        mixed = classes.mixed(share)
        at = saturation(self.law, mixed, self._caps())
        loads = self._offered_loads(mixed, at, arrival_cv)
        replica = self._replica(mixed, at, loads, arrival_cv)
        stay = sojourn(replica, [s or _TINY for s in shapes])
        running = replica.chain.running
        low, high = self.measured_concurrency
        extrapolated = (running > high * (1 + 1e-9)) | (running + 1.0 < low)
        times, mean, survival = _tables(stay, limits, classes)
        return PoolTable(
            pool=self.profile.name,
            work_s=work_ms(self.law, classes, share, at) / 1000.0,
            mix=share,
            loads=loads,
            mean_ms=mean,
            times_ms=times,
            survival=survival,
            band_ratio=self.bands.at(running, extrapolated, mean, replica.prefill.ratio),
            extrapolated=extrapolated,
            origin=self.bands.origin,
        )

    def slowed(self, ratio: float, origin: Origin) -> LatencyModel:
        """Returns the model of a replica that needs `ratio` times as long for everything.

        Its figures are at best of the origin of the ratio.
        """
        origins = {metric: worst_origin(o, origin) for metric, o in self.bands.origin.items()}
        return replace(
            self,
            law=None if self.law is None else self.law.scaled(ratio),
            capacity=None if self.capacity is None else self.capacity.scaled(ratio),
            bands=replace(self.bands, origin=origins),
        )

    def works_s(self, shapes: Sequence[RequestShape | None], mix: FloatArray) -> FloatArray:
        """Returns the replica-seconds that one request of each class takes, (C,), NaN if barred.

        Args:
            shapes: token counts per class, (C,); None where the class may not use the pool.
            mix: shares of the pool's requests per class, (C,); need not be normalised.
        """
        if self.law is None or self.capacity is not None:
            assert self.capacity is not None
            return self.capacity.work_s(shapes)
        classes = ClassMoments.of(shapes)
        share = classes.share(np.asarray(mix, dtype=np.float64))
        at = saturation(self.law, classes.mixed(share), self._caps())
        return work_ms(self.law, classes, share, at) / 1000.0

    def work_s(self, shape: RequestShape) -> float:
        """Returns the replica-seconds that one request takes where only such requests come."""
        if self.law is None or self.capacity is not None:
            assert self.capacity is not None
            return float(self.capacity.work_s([shape])[0])
        return saturation(self.law, _single(shape), self._caps()).work_ms / 1000.0

    def capacity_rps(self, shape: RequestShape) -> float:
        """Returns the requests per second that saturate one replica with such requests alone."""
        return 1.0 / self.work_s(shape)

    def closed_loop_rps(self, shape: RequestShape, concurrency: float) -> float:
        """Returns the requests per second of a closed loop that keeps `concurrency` running."""
        if self.law is None or self.capacity is not None:
            return self.capacity_rps(shape)
        mix = _single(shape)
        places, _ = self._caps().places(mix.context_tokens)
        n = np.array([min(max(concurrency, 1e-9), places)])
        return float(1000.0 * n[0] / (mix.output_tokens * self.law.token_ms(n, mix)[0]))

    def chain(self, mix: MixMoments, loads: FloatArray, arrival_cv: float = 1.0) -> Stationary:
        """Returns the stationary law of the running sequences at the given loads, (K,)."""
        assert self.law is not None
        at = saturation(self.law, mix, self._caps())
        return self._replica(mix, at, loads, arrival_cv).chain

    def _caps(self) -> Caps:
        return Caps(self.max_num_seqs, self.memory.kv_capacity_tokens)

    def _offered_loads(self, mix: MixMoments, at: Saturation, arrival_cv: float) -> FloatArray:
        """Returns the load grid, cut where the mean batch doubles the largest measured one (§8)."""
        running = self._replica(mix, at, LOADS, arrival_cv).chain.running
        most = 2.0 * self.measured_concurrency[1]
        if running[-1] <= most:
            return LOADS
        cut = float(np.interp(most, np.maximum.accumulate(running), LOADS))
        return np.asarray(LOADS * (cut / LOADS[-1]))

    def _replica(
        self, mix: MixMoments, at: Saturation, loads: FloatArray, arrival_cv: float
    ) -> Replica:
        """Returns the replica at loads (K,), with its chain solved."""
        assert self.law is not None
        n = states(at.n, group_size(arrival_cv))
        step_ms = np.append(0.0, decode_curve_ms(self.law, n[1:], mix))
        arrivals = loads / at.work_ms
        prefill = PrefillLoad.of(self.law, mix, arrivals, companions(arrival_cv))
        # Stalled sequences keep their places, less and less so as the places fill up.
        own = np.array([self.law.prompt_token_ms * mix.prompt_tokens])
        stalled = prefill.delay_ms(own)[0][:, None] * (1.0 - n[1:] / n[-1])
        decoding = mix.output_tokens * step_ms[1:] / (1.0 - prefill.ratio)[:, None]
        departures = n[1:] / (decoding + stalled)
        queue_group = (max(arrival_cv, 1.0) ** 2 + mix.output_cv_sq) / 2.0
        chain = stationary(n, departures, arrivals, queue_group)
        return Replica(
            law=self.law,
            mix=mix,
            chain=chain,
            prefill=prefill,
            arrivals_per_ms=arrivals,
            step_ms=step_ms,
            tokens_per_step=float(self.profile.pool.max_num_batched_tokens or TOKENS_PER_STEP),
            n_companions=companions(arrival_cv),
            ttft_ratio=np.exp(self.ttft_correction(loads)),
            tpot_ratio=np.exp(self.tpot_correction(loads)),
        )


_TINY = RequestShape(np.ones(1), np.full(1, 2.0))


def _single(shape: RequestShape) -> MixMoments:
    return ClassMoments.of([shape]).mixed(np.ones(1))


def _tables(
    stay: Sojourn, limits: Sequence[ScopedLimit], classes: ClassMoments
) -> tuple[dict[Metric, FloatArray], dict[Metric, FloatArray], dict[Metric, FloatArray]]:
    """Returns (times, means, survivals) per metric, rising with the load."""
    times: dict[Metric, FloatArray] = {}
    mean: dict[Metric, FloatArray] = {}
    survival: dict[Metric, FloatArray] = {}
    barred = ~classes.allowed
    for metric in METRICS:
        law = stay.survival[metric]
        nodes = [s.limit.at_most_ms for s in limits if s.limit.metric == metric]
        times[metric] = time_grid(*law.span_ms(), nodes)
        survival[metric] = np.maximum.accumulate(law.at(times[metric]), axis=1)
        mean[metric] = np.maximum.accumulate(stay.mean_ms[metric], axis=1)
        survival[metric][barred] = 1.0
        mean[metric][barred] = times[metric][-1]
    return times, mean, survival
