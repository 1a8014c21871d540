"""Where one replica is full, read from the closed-loop levels of a run.

Notation
    N        requests kept in flight                  X(N)   output tokens per second
    F(N)     mean time to the first token             r(N)   answers per second
    W(N)     requests that wait in the engine         g      gain per doubling

    g = (X(N') / X(N))^(1/log2(N'/N)) - 1
    W = what /metrics shows; unseen, r(N') (F(N') - F(N)): Little's law for the time added to the
        first token, where that is a good part of N'

A level is full when its engine queues, when max_num_seqs requests run, when more than 5 % of its
requests fail, or when g against the level below is less than 5 %. Repeats of a load count by their
means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from planner.profile.load.options import SessionSettings
from planner.spec.pool import Point
from planner.spec.run import LevelRecord, Step

GAIN_RATIO = 0.05  # of throughput per doubling: less is saturation
FAILED_RATIO = 0.05
WAITING = 0.5  # requests in the engine's queue that count as a queue, if they also are
WAITING_RATIO = 0.1  # this share of those in flight: some only wait for the next step to begin
UNSEEN_RATIO = 0.25  # the same where the queue is inferred
MOST_IN_FLIGHT = 4096


@dataclass(frozen=True)
class Measured:
    """One finished level; without a point where no request was answered."""

    level: LevelRecord
    point: Point | None

    @property
    def step(self) -> Step:
        """Returns the load that was asked for."""
        return self.level.step


@dataclass(frozen=True)
class Rung:
    """All levels of one closed-loop load at the run's own request shape."""

    load: float
    tokens_per_s: float  # 0 where nothing was answered
    rps: float
    ttft_ms: float | None
    n_waiting: float | None  # seen on /metrics
    failed_ratio: float


@dataclass(frozen=True)
class Saturation:
    """Where one replica is full at the run's request shape."""

    max_rps: float  # the most requests/s of any closed-loop level
    concurrency: int  # the most requests that run together, or the most that were tried
    queue_seen: bool  # the engine showed that it queues what comes on top


def ramp(measured: Sequence[Measured], settings: SessionSettings) -> list[Rung]:
    """Returns the closed-loop loads at the run's own request shape, ascending."""
    by_load: dict[float, list[Measured]] = {}
    for m in measured:
        if m.step.mode == "closed" and not is_other_shape(m.step, settings):
            by_load.setdefault(m.step.load, []).append(m)
    return [_rung(load, by_load[load]) for load in sorted(by_load)]


def is_other_shape(step: Step, settings: SessionSettings) -> bool:
    """Returns whether a step is not at the run's own request shape."""
    own = (settings.input_tokens, settings.output_tokens)
    return (step.input_tokens, step.output_tokens) != own


def saturation(measured: Sequence[Measured], settings: SessionSettings) -> Saturation | None:
    """Returns where the replica is full, None while no measured level is."""
    rungs = ramp(measured, settings)
    good = [rung for rung in rungs if not _is_failing(rung)]
    if first_full(rungs, settings) is None or not good:
        return None
    most = min(good[-1].load, settings.max_num_seqs or MOST_IN_FLIGHT)
    queue = next((at for at in range(len(rungs)) if queued(rungs, at)), None)
    if queue is not None:
        most = min(most, max(round(rungs[queue].load - queued(rungs, queue)), 1))
    seen = queue is not None and rungs[queue].n_waiting is not None
    return Saturation(max(rung.rps for rung in good), int(most), seen)


def first_full(rungs: Sequence[Rung], settings: SessionSettings) -> int | None:
    """Returns the place of the lightest load at which the replica is full, None where none is."""
    limit = settings.max_num_seqs or MOST_IN_FLIGHT
    for at, rung in enumerate(rungs):
        above = rungs[at:]  # a single slow level below faster ones is noise, not saturation
        flat = at > 0 and all(gain_ratio(rungs[at - 1], each) < GAIN_RATIO for each in above)
        if _is_failing(rung) or flat or rung.load >= limit or queued(rungs, at):
            return at
    return None


def queued(rungs: Sequence[Rung], at: int) -> float:
    """Returns the requests in the engine's queue at a load, 0 where that is no queue."""
    rung, below = rungs[at], rungs[at - 1] if at else None
    if rung.n_waiting is not None:
        is_queue = rung.n_waiting >= max(WAITING, WAITING_RATIO * rung.load)
        return rung.n_waiting if is_queue else 0.0
    if below is None or rung.ttft_ms is None or below.ttft_ms is None:
        return 0.0
    waiting = rung.rps * (rung.ttft_ms - below.ttft_ms) / 1000.0
    return waiting if waiting >= UNSEEN_RATIO * rung.load else 0.0


def gain_ratio(low: Rung, high: Rung) -> float:
    """Returns the relative gain of throughput per doubling of the load."""
    if not low.tokens_per_s:
        return 0.0
    gain = high.tokens_per_s / low.tokens_per_s
    return float(gain ** (1.0 / log2(high.load / low.load)) - 1.0)


def _is_failing(rung: Rung) -> bool:
    return not rung.tokens_per_s or rung.failed_ratio > FAILED_RATIO


def _rung(load: float, levels: Sequence[Measured]) -> Rung:
    points = [m.point for m in levels if m.point is not None]
    failed = [(p.n_failed or 0) / p.n_requests for p in points if p.n_requests]
    return Rung(
        load=load,
        tokens_per_s=_mean([p.output_tokens_per_s for p in points]) or 0.0,
        rps=_mean([p.achieved_rps for p in points]) or 0.0,
        ttft_ms=_mean([p.ttft_mean_ms for p in points]),
        n_waiting=_mean([m.level.n_waiting for m in levels]),
        failed_ratio=max(failed, default=0.0),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean of what is known, None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
