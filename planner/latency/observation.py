"""From rows of points.csv to linear observations of the step law.

Every usable figure becomes   time_ms = x . theta   with theta = (A, b, C, D, s, t0):

    closed loop, n and tokens/s   t = 1000 n / X      x = (1, d, k d, (p/o) n, sqrt n, 0)
    static batch, n and e2e       t = e2e / o         the same x: n prefills, then o steps
    closed loop, n and TPOT       T                   x = (1, d, k d, (p/o)(n-1), sqrt n, 0)
    open loop, rate and TPOT      T, N = rate o T     the same x at n = N + 1 (Little's law; a
                                                      request sees the others and itself)
    TTFT at the lightest load     W                   x = (1.5, 1.5 d, 1.5 k d, p, 1.5 sqrt n, 1)
    TTFT of a static batch        W                   x = (1, d, k d, p n, sqrt n, 1)

d = n (1 - 1/o) sequences decode, k = p + o/2 is the mean context of a decode step. 1.5 steps:
half a step until the next one starts, and the own first one. TTFT above the
lightest load is queueing, not step law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.latency.moments import MixMoments
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.pool import Point

Kind = Literal["throughput", "tpot", "ttft"]
FAILED_RATIO = 0.05  # runs with more failures answer a different, shorter workload
SCALE: dict[Kind, float] = {"throughput": 0.05, "tpot": 0.05, "ttft": 0.3}


@dataclass(frozen=True)
class Observation:
    """One measured time and the coefficients it consists of."""

    kind: Kind
    mode: Literal["open", "closed", "batch"]
    n: float  # sequences that run together
    time_ms: float
    weights: tuple[float, ...]  # x, (6,)
    moments: MixMoments


def observations(points: Sequence[Point]) -> tuple[list[Observation], int]:
    """Returns the usable observations of a profile and the number of rows that gave none."""
    found: list[Observation] = []
    unused = 0
    for point in points:
        one = None if _failed(point) else _step(point)
        if one is None:
            unused += 1
            continue
        found.append(one)
        first = _first_token(point, one)
        if first is not None:
            found.append(first)
    return _lightest_ttft(found), unused


def design(rows: Sequence[Observation]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns (x (N, 6), log time (N,), scale of the log residual (N,))."""
    x = np.array([r.weights for r in rows], dtype=np.float64).reshape(len(rows), 6)
    log_time = np.log(np.array([r.time_ms for r in rows], dtype=np.float64))
    scale = np.array([SCALE[r.kind] for r in rows], dtype=np.float64)
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


def _failed(point: Point) -> bool:
    if not point.n_failed or not point.n_requests:
        return False
    return point.n_failed > FAILED_RATIO * point.n_requests


def _step(point: Point) -> Observation | None:
    """Returns the observation of the step time in one row, None where there is none."""
    if point.mode == "open":
        return _open_step(point)
    n = point.concurrency
    if n is None:
        return None
    if point.mode == "batch" and point.e2e_mean_ms is not None:
        return _total(point, n, point.e2e_mean_ms / point.output_tokens)
    rate_tokens = point.output_tokens_per_s
    if rate_tokens is None and point.achieved_rps is not None:
        rate_tokens = point.achieved_rps * point.output_tokens
    if rate_tokens is not None:
        return _total(point, n, 1000.0 * n / rate_tokens)
    tpot_ms = _tpot_ms(point)
    return None if tpot_ms is None else _decode(point, n, n - 1.0, tpot_ms)


def _open_step(point: Point) -> Observation | None:
    tpot_ms = _tpot_ms(point)
    rate_rps = point.achieved_rps or point.offered_rps
    if tpot_ms is None or rate_rps is None:
        return None
    others = rate_rps / 1000.0 * point.output_tokens * tpot_ms
    return _decode(point, others + 1.0, others, tpot_ms)


def _tpot_ms(point: Point) -> float | None:
    """Returns the mean time per output token after the first in ms, from what was measured."""
    if point.tpot_mean_ms is not None:
        return point.tpot_mean_ms
    if point.e2e_mean_ms is not None and point.ttft_mean_ms is not None:
        if point.output_tokens > 1.5 and point.e2e_mean_ms > point.ttft_mean_ms:
            return (point.e2e_mean_ms - point.ttft_mean_ms) / (point.output_tokens - 1.0)
        return None
    # All gaps between tokens weigh the same in the mean ITL: the token-weighted mean of TPOT.
    return point.itl_mean_ms


def _total(point: Point, n: float, time_ms: float) -> Observation:
    moments = MixMoments.of_point(point.input_tokens, point.output_tokens)
    prefill = point.input_tokens / point.output_tokens * n
    x = _decode_weights(n, moments, prefill)
    return Observation("throughput", point.mode, n, time_ms, x, moments)


def _decode(point: Point, n: float, others: float, time_ms: float) -> Observation:
    moments = MixMoments.of_point(point.input_tokens, point.output_tokens)
    prefill = point.input_tokens / point.output_tokens * max(others, 0.0)
    x = _decode_weights(n, moments, prefill)
    return Observation("tpot", point.mode, n, time_ms, x, moments)


def _first_token(point: Point, step: Observation) -> Observation | None:
    time_ms = point.ttft_mean_ms or point.ttft_p50_ms
    if time_ms is None:
        return None
    steps, prefills = (1.0, step.n) if point.mode == "batch" else (1.5, 1.0)
    decode = _decode_weights(step.n, step.moments, 0.0)
    one, n, context, _, root, _ = (steps * v for v in decode)
    x = (one, n, context, point.input_tokens * prefills, root, 1.0)
    return Observation("ttft", point.mode, step.n, time_ms, x, step.moments)


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
