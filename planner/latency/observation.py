"""From rows of points.csv to linear observations of the step law.

Every usable figure becomes   time_ms = x . theta   with theta = (A, b, C, D, s, t0):

    closed loop, N and tokens/s   t = 1000 n / X      x = (1, d, k d, (p/o) n, sqrt n, 0)
    closed loop, N and E2E        t = (n/N) e2e / o   the same x (Little's law)
    static batch, N and E2E       t = (n/N) e2e / o   the same x: n prefills, o steps; N/n waves
    closed loop, N and TPOT       T                   x = (1, d, k d, (p/o)(n-1), sqrt n, 0)
    open loop, rate and TPOT      T, L = rate o T     the same x at n = L + 1 (Little's law; a
                                                      request sees the others and itself)
    open loop, rate and E2E       t = e2e / o         x of tokens/s at n = rate e2e + 1
    TTFT at the lightest load     W                   x = (1.5, 1.5 d, 1.5 k d, p, 1.5 sqrt n, 1)
    TTFT of a static batch        W                   x = (1, d, k d, p n, sqrt n, 1)

N requests are in flight, of which n = min(N, max_num_seqs) run together: the rest waits for a
place. d = n (1 - 1/o) sequences decode, k = p + o/2 is the mean context of a decode step. 1.5
steps: half a step until the next one starts, and the own first one. TTFT above the lightest load,
or with more in flight than places, is queueing, not step law; so is the E2E of an open loop in
which requests wait for a place.

Where only a median was measured it stands for the mean and counts for less: the median TPOT is
close to the mean, the median E2E is that of a request of median length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.latency.moments import MixMoments
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.base import Statistic
from planner.spec.pool import Point

Kind = Literal["throughput", "tpot", "ttft"]
_STATISTICS: tuple[Statistic, ...] = ("mean", "p50")  # a mean is better than a median
FAILED_RATIO = 0.05  # runs with more failures answer a different, shorter workload
SCALE: dict[Kind, float] = {"throughput": 0.05, "tpot": 0.05, "ttft": 0.3}
MEDIAN_TPOT_SCALE = 0.1
MEDIAN_E2E_SCALE = 0.3
OVERLOADED = 0.9  # of the offered rate: below, E2E is that of a growing queue


@dataclass(frozen=True)
class Observation:
    """One measured time and the coefficients it consists of."""

    kind: Kind
    mode: Literal["open", "closed", "batch"]
    n: float  # sequences that run together
    time_ms: float
    weights: tuple[float, ...]  # x, (6,)
    moments: MixMoments
    scale: float  # of the log residual
    statistic: Statistic = "mean"


def observations(
    points: Sequence[Point], max_num_seqs: int | None = None
) -> tuple[list[Observation], int]:
    """Returns the usable observations of a profile and the number of rows that gave none.

    Args:
        points: the rows of points.csv.
        max_num_seqs: the places of the engine; None: more than requests were ever in flight.
    """
    places = float(max_num_seqs or np.inf)
    found: list[Observation] = []
    unused = 0
    for point in points:
        one = _step(point, places) if usable(point) else None
        if one is None:
            unused += 1
            continue
        found.append(one)
        waits = (point.concurrency or 0.0) > places
        first = None if waits else _first_token(point, one)
        if first is not None:
            found.append(first)
    return _lightest_ttft(found), unused


def usable(point: Point) -> bool:
    """Returns whether a row describes the workload that was sent: few requests failed."""
    if not point.n_failed or not point.n_requests:
        return True
    return point.n_failed <= FAILED_RATIO * point.n_requests


def kept_up(point: Point) -> bool:
    """Returns whether an open-loop row is a steady state: the replica answered what came."""
    rate_rps = answered_rps(point)
    return rate_rps is not None and rate_rps >= OVERLOADED * (point.offered_rps or rate_rps)


def answered_rps(point: Point) -> float | None:
    """Returns the requests per second that were answered, those that came if nobody counted."""
    return point.achieved_rps or point.offered_rps


def design(rows: Sequence[Observation]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns (x (N, 6), log time (N,), scale of the log residual (N,))."""
    x = np.array([r.weights for r in rows], dtype=np.float64).reshape(len(rows), 6)
    log_time = np.log(np.array([r.time_ms for r in rows], dtype=np.float64))
    scale = np.array([r.scale for r in rows], dtype=np.float64)
    return x, log_time, scale


def load_groups(rows: Sequence[Observation]) -> list[BoolArray]:
    """Returns one mask over the rows per measured load; loads within 10 % are one load."""
    n = np.array([r.n for r in rows])
    order = np.argsort(n, kind="stable")
    groups: list[BoolArray] = []
    start = 0
    for stop in range(1, n.size + 1):
        if stop == n.size or n[order[stop]] > 1.1 * n[order[start]]:
            mask = np.zeros(n.size, dtype=np.bool_)
            mask[order[start:stop]] = True
            groups.append(mask)
            start = stop
    return groups


def _step(point: Point, places: float) -> Observation | None:
    """Returns the observation of the step time in one row, None where there is none."""
    if point.mode == "open":
        return _open_step(point, places)
    in_flight = point.concurrency
    if in_flight is None:
        return None
    n = min(in_flight, places)
    if point.mode == "batch" and point.e2e_mean_ms is not None:
        return _total(point, n, n / in_flight * point.e2e_mean_ms / point.output_tokens)
    tokens_per_s = _output_tokens_per_s(point)
    if tokens_per_s is not None:
        return _total(point, n, 1000.0 * n / tokens_per_s)
    return _kept_step(point, n, in_flight)


def _kept_step(point: Point, n: float, in_flight: float) -> Observation | None:
    """Returns the observation of a kept concurrency of which only latencies are known."""
    for statistic in _STATISTICS:
        tpot_ms, e2e_ms = _tpot_ms(point, statistic), point.figure_ms("e2e", statistic)
        if tpot_ms is not None:
            return _decode(point, n, tpot_ms, statistic)
        if e2e_ms is not None:
            return _total(point, n, n / in_flight * e2e_ms / point.output_tokens, statistic)
    return None


def _open_step(point: Point, places: float) -> Observation | None:
    """Returns the observation of the step time in an open-loop row, None where there is none."""
    rate_rps = answered_rps(point)
    if rate_rps is None:
        return None
    for statistic in _STATISTICS:
        tpot_ms, e2e_ms = _tpot_ms(point, statistic), point.figure_ms("e2e", statistic)
        if tpot_ms is not None:
            others = rate_rps / 1000.0 * point.output_tokens * tpot_ms
            return _decode(point, min(others + 1.0, places), tpot_ms, statistic)
        if e2e_ms is not None and kept_up(point):
            n = rate_rps / 1000.0 * e2e_ms + 1.0
            if n <= places:
                return _total(point, n, e2e_ms / point.output_tokens, statistic)
    return None


def _output_tokens_per_s(point: Point) -> float | None:
    if point.output_tokens_per_s is None and point.achieved_rps is not None:
        return point.achieved_rps * point.output_tokens
    return point.output_tokens_per_s


def _tpot_ms(point: Point, statistic: Statistic) -> float | None:
    """Returns the mean (or median) time per output token after the first in ms, if measured."""
    tpot_ms = point.figure_ms("tpot", statistic)
    if tpot_ms is not None:
        return tpot_ms
    e2e_ms, ttft_ms = point.figure_ms("e2e", statistic), point.figure_ms("ttft", statistic)
    if e2e_ms and ttft_ms and point.output_tokens > 1.5 and e2e_ms > ttft_ms:
        return (e2e_ms - ttft_ms) / (point.output_tokens - 1.0)
    # All gaps between tokens weigh the same in the mean ITL: the token-weighted mean of TPOT.
    # The median ITL hides the stalls, so it says nothing of the mean.
    return point.itl_mean_ms if statistic == "mean" else None


def _total(point: Point, n: float, time_ms: float, statistic: Statistic = "mean") -> Observation:
    moments = MixMoments.of_point(point.input_tokens, point.output_tokens)
    prefill = point.input_tokens / point.output_tokens * n
    x = _decode_weights(n, moments, prefill)
    scale = SCALE["throughput"] if statistic == "mean" else MEDIAN_E2E_SCALE
    return Observation("throughput", point.mode, n, time_ms, x, moments, scale, statistic)


def _decode(point: Point, n: float, time_ms: float, statistic: Statistic) -> Observation:
    moments = MixMoments.of_point(point.input_tokens, point.output_tokens)
    prefill = point.input_tokens / point.output_tokens * max(n - 1.0, 0.0)
    x = _decode_weights(n, moments, prefill)
    scale = SCALE["tpot"] if statistic == "mean" else MEDIAN_TPOT_SCALE
    return Observation("tpot", point.mode, n, time_ms, x, moments, scale, statistic)


def _first_token(point: Point, step: Observation) -> Observation | None:
    time_ms = point.ttft_mean_ms or point.ttft_p50_ms
    if time_ms is None:
        return None
    steps, prefills = (1.0, step.n) if point.mode == "batch" else (1.5, 1.0)
    decode = _decode_weights(step.n, step.moments, 0.0)
    one, n, context, _, root, _ = (steps * v for v in decode)
    x = (one, n, context, point.input_tokens * prefills, root, 1.0)
    return Observation("ttft", point.mode, step.n, time_ms, x, step.moments, SCALE["ttft"])


def _decode_weights(
    n: float, moments: MixMoments, prefill: float
) -> tuple[float, float, float, float, float, float]:
    """Returns x of one step with n sequences and some prefilled tokens."""
    decoding = n * moments.decode_ratio
    return (1.0, decoding, moments.context_tokens * decoding, prefill, n**0.5, 0.0)


def _lightest_ttft(rows: list[Observation]) -> list[Observation]:
    """Returns the rows without the TTFTs above the lightest load of their prompt length."""
    lightest: dict[float, float] = {}
    for row in rows:
        if row.kind == "ttft" and row.mode != "batch":
            key = row.moments.prompt_tokens
            lightest[key] = min(lightest.get(key, row.n), row.n)
    return [
        r
        for r in rows
        if r.kind != "ttft" or r.mode == "batch" or r.n <= lightest[r.moments.prompt_tokens]
    ]
