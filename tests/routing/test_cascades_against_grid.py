"""One class on a small and a large pool and their cascade, against every mix on a grid."""

from __future__ import annotations

import numpy as np
import pytest
from cascade_cases import toy
from cascade_options import SPLIT
from routing_cases import LOADS, limit

from planner.routing import truth
from planner.routing.problem import RoutingProblem
from planner.routing.solve import solve
from planner.spec.base import Statistic

STEPS = 81


def best_on_grid(problem: RoutingProblem, statistic: Statistic | None, at_ms: float) -> float:
    """Returns the best quality of any (x0, x1, X) on a grid that keeps loads and the limit.

    Latency is written down anew: an exponential of mean base / (1 - load) at each grid load.
    """
    w, e = problem.workload, problem.workload.cascades[0].escalated_ratio
    rate, steps = float(w.rate_rps[0]), np.linspace(0.0, 1.0, STEPS)
    x0, whole = (a.ravel() for a in np.meshgrid(steps, steps))
    keeps = x0 + whole <= 1.0 + 1e-12
    x0, whole = x0[keeps], whole[keeps]
    x1 = np.maximum(1.0 - x0 - whole, 0.0)
    small, large = problem.tables
    n = problem.replicas
    load0 = rate * (x0 + whole) * small.work_s[0] / n[0]
    load1 = rate * (x1 * large.work_s[0] + e * whole * large.work_s[2]) / n[1]
    good = (load0 <= 0.95) & (load1 <= 0.95)

    def figure(base_ms: float, load: np.ndarray, time_ratio: float) -> np.ndarray:
        mean = base_ms / (1.0 - LOADS)
        return np.interp(load, LOADS, mean if tail is None else np.exp(-time_ratio * at_ms / mean))

    tail = None if statistic in (None, "mean") else 0.05
    if statistic is not None:
        direct = x0 * figure(500.0, load0, 1.0) + x1 * figure(2000.0, load1, 1.0)
        if tail is None:
            staged = figure(500.0, load0, 1.0) + e * figure(2400.0, load1, 1.0)
        else:
            accepted = 0.0 if w.cascades[0].signal == "length" else 1.0 - e
            staged = accepted * figure(500.0, load0, 1.0)
            staged += (1.0 - accepted) * figure(500.0, load0, SPLIT)
            staged += e * figure(2400.0, load1, 1.0 - SPLIT)
        good &= direct + whole * staged <= (at_ms if tail is None else tail)
    quality = 0.5 * x0 + 0.8 * x1 + w.cascades[0].quality * whole
    return float(quality[good].max(initial=-np.inf))


CASES = [
    (None, 1.0, 0.3, 0.75, 1.0),
    (None, 1.0, 0.3, 0.75, 0.5),
    (None, 1.0, 0.3, 0.82, 0.8),
    ("mean", 2500.0, 0.3, 0.75, 0.7),
    ("mean", 1800.0, 0.3, 0.75, 0.9),
    ("mean", 3000.0, 0.6, 0.79, 0.6),
    ("p95", 9000.0, 0.3, 0.75, 0.5),
    ("p95", 6000.0, 0.1, 0.7, 0.6),
    ("p95", 12_000.0, 0.4, 0.85, 0.4),
]


@pytest.mark.parametrize("method", ["fast", "exact"])
@pytest.mark.parametrize("signal", ["grade", "length"])
@pytest.mark.parametrize("scope", ["c0", None])
def test_no_mix_on_a_grid_is_better(scope: str | None, signal: str, method: str) -> None:
    used = 0
    for statistic, at_ms, e, quality, rate in CASES:
        limits = [] if statistic is None else [limit(scope, at_ms, statistic)]
        problem = toy(limits, e, quality, rate, signal=signal)
        routing = solve(problem, method)  # type: ignore[arg-type]
        expected = best_on_grid(problem, statistic, at_ms)
        if not np.isfinite(expected):
            continue
        assert routing.feasible
        assert expected - 1e-3 <= routing.quality <= expected + 1.5 * 0.35 / STEPS
        assert routing.bound is None or routing.bound >= routing.quality - 1e-6
        shares = routing.shares
        assert shares[:2].sum() == pytest.approx(1.0)
        assert shares[1].sum() == pytest.approx(shares[2].sum(), abs=1e-12)
        loads = truth.loads(problem.workload, problem.tables, problem.replicas, shares)
        assert all(
            truth.limit_met(problem.workload, problem.tables, loads, shares, scoped)
            for scoped in limits
        )
        used += bool(shares[1].any())
    assert used >= 4
