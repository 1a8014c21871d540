"""How far off estimates of unmeasured pools are: those of the measured ones, each left out in turn.

Notation
    e_ki   log estimated/measured of row i of pool k, which the fit has not seen
    m      pools that were left out
    q      least q with  sum_k share_i(|e_ki| <= q) >= 0.9 (m + 1)

Program
    the next pool's figure lies within exp(+-q) of its estimate in 9 cases of 10

That is split conformal prediction with pools as the exchangeable units (Dunn, Wasserman, Ramdas
2023, JASA 118(544), pooling with equal weights): many rows of one pool are not many pools. With
fewer than 9 pools no such q exists, and a floor stands in its place.

What is left out is what the wanted pool lacks: its configuration, every pool on as many GPUs,
every pool of its model, or every pool on its type of GPU. Where loads of the wanted pool were
measured, as many loads of each left-out pool correct its estimate before it is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.latency.observation import Observation
from planner.profile.transfer import Estimator, PoolFacts, Transfer, fit_transfer
from planner.spec.arrays import FloatArray

Lack = Literal["configuration", "parallel", "model", "gpu"]
_KEY: dict[Lack, Callable[[PoolFacts], Hashable]] = {
    "configuration": lambda pool: pool.configuration,
    "parallel": lambda pool: pool.n_parallel,
    "model": lambda pool: pool.architecture,
    "gpu": lambda pool: pool.gpu.name,
}
ORDER: tuple[Lack, ...] = ("configuration", "parallel", "model", "gpu")  # the worst last
COVERED_RATIO = 0.9
MOST_PROBES = 3  # more loads than these are not asked of the pools that are left out
# The least a band may be, and what stands in for one that too few pools speak of.
FLOOR_RATIO: dict[Lack, float] = {"configuration": 0.15, "parallel": 0.2, "model": 0.3, "gpu": 0.7}
FEW_RATIO: dict[Lack, float] = {"configuration": 0.55, "parallel": 0.6, "model": 0.7, "gpu": 1.0}
FLOOR_PROBED_RATIO = 0.1
FEW_PROBED_RATIO = 0.35  # with MOST_PROBES loads; one or two are as good as none


@dataclass(frozen=True)
class Band:
    """Nine in ten figures lie between estimate / (1 + ratio) and estimate * (1 + ratio)."""

    ratio: float
    lack: Lack
    n_pools: int  # that were left out to find it


def lack_of(transfer: Transfer, pool: PoolFacts) -> Lack:
    """Returns what no measured pool of the fit shares with a pool, the worst of it."""
    if not transfer.knows_gpu(pool):
        return "gpu"
    if not transfer.knows_model(pool):
        return "model"
    return "configuration" if transfer.knows_parallel(pool) else "parallel"


def error_band(measured: Sequence[PoolFacts], lack: Lack, n_probes: int = 0) -> Band:
    """Returns the band of an estimate that lacks something and is corrected at n_probes loads."""
    errors = left_out_errors(measured, lack, n_probes)
    half_width = conformal_half_width(errors)
    floor = FLOOR_PROBED_RATIO if n_probes else FLOOR_RATIO[lack]
    if half_width is None:
        few = FEW_PROBED_RATIO if n_probes >= MOST_PROBES else FEW_RATIO[lack]
        worst = max((float(np.abs(e).max()) for e in errors), default=0.0)
        return Band(max(few, float(np.expm1(worst))), lack, len(errors))
    return Band(max(floor, float(np.expm1(half_width))), lack, len(errors))


def left_out_errors(
    measured: Sequence[PoolFacts], lack: Lack, n_probes: int = 0
) -> list[FloatArray]:
    """Returns log estimated/measured of the steps of every pool left out, (N_k,) per pool.

    A pool is judged only where the rest lacks no more than what is asked for, and, with probes,
    where it has steps beside them. The order is that of the configurations.
    """
    everything = fit_transfer(measured)
    groups: dict[Hashable, list[PoolFacts]] = {}
    for pool in sorted(measured, key=lambda p: p.configuration):
        groups.setdefault(_KEY[lack](pool), []).append(pool)
    found = []
    for left_out in groups.values():
        ids = {id(pool) for pool in left_out}
        transfer = fit_transfer([p for p in measured if id(p) not in ids], everything)
        for pool in left_out:
            judged = _judged(transfer, pool, lack, n_probes)
            if judged is not None:
                found.append(judged)
    return found


def conformal_half_width(errors: Sequence[FloatArray]) -> float | None:
    """Returns q, None where there are too few pools for one."""
    if not errors:
        return None
    size = np.concatenate([np.abs(e) for e in errors])
    share = np.concatenate([np.full(e.size, 1.0 / e.size) for e in errors])
    order = np.argsort(size, kind="stable")
    reached = np.cumsum(share[order])
    enough = np.flatnonzero(reached >= COVERED_RATIO * (len(errors) + 1) - 1e-9)
    return float(size[order][enough[0]]) if enough.size else None


def probes_of(pool: PoolFacts, n_probes: int) -> tuple[Observation, ...]:
    """Returns up to n_probes steps of one request shape, evenly spaced over its log loads.

    One probe lies in the middle; the shape is the one with the most loads.
    """
    by_shape: dict[tuple[int, int], list[Observation]] = {}
    for row in pool.steps:
        by_shape.setdefault(_shape(row), []).append(row)
    most = max(len(rows) for rows in by_shape.values())
    candidates = [rows for _, rows in sorted(by_shape.items()) if len(rows) == most]
    rows = sorted(candidates[len(candidates) // 2], key=lambda r: r.n)
    log_n = np.log([r.n for r in rows])
    middle = (log_n[0] + log_n[-1]) / 2.0
    wanted = np.linspace(log_n[0], log_n[-1], n_probes) if n_probes > 1 else [middle]
    nearest = sorted({int(np.argmin(np.abs(log_n - at))) for at in wanted})
    return tuple(rows[i] for i in nearest)


def _shape(row: Observation) -> tuple[int, int]:
    """Returns the request shape of a row, rounded: real requests vary a little between loads."""
    prompt, output = row.moments.prompt_tokens, row.moments.output_tokens
    return round(2.0 * np.log2(prompt)), round(2.0 * np.log2(output))


def _judged(transfer: Transfer, pool: PoolFacts, lack: Lack, n_probes: int) -> FloatArray | None:
    """Returns the log errors of a pool that the transfer has not seen, None where it is no test."""
    if ORDER.index(lack_of(transfer, pool)) > ORDER.index(lack):
        return None
    probes = probes_of(pool, min(n_probes, MOST_PROBES)) if n_probes else ()
    steps = [r for r in pool.steps if all(r is not probe for probe in probes)]
    if not steps:
        return None
    estimator = Estimator.of(transfer, replace(pool, rows=probes))
    measured = np.array([r.time_ms for r in steps])
    return np.asarray(np.log(estimator.time_ms(steps) / measured))
