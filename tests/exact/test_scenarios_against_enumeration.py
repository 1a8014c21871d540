"""Bounds with scenarios against every deployment of a small box, shares on a grid, all scenarios.

What a scenario does is written down here once more, from the sentences at the top of
planner/robust.py, for two pools: the requests of a pool that is gone go to the other one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from exact_cases import HEADROOM_RATIO, LOADS, STEPS, Joined, deployments, random_joined

from planner.exact.robust import Threats, robust_bound, surviving
from planner.exact.solve import Setting, Want
from planner.spec.scenario import calm

SEEDS = range(4)


@dataclass(frozen=True)
class Asked:
    """What is to be survived, in plain numbers."""

    rate_ratio: float = 1.0
    at_once: int = 0  # replicas of a pool that one failure takes
    limits_ratio: float = 1.0
    kept_free: float = 0.0  # of each pool's capacity while anything of this lasts
    class_ratio: tuple[float, float] = (1.0, 1.0)

    def threats(self, joined: Joined) -> Threats:
        ratio = np.array(self.class_ratio) * self.rate_ratio
        busier = replace(
            calm(joined.workload, "busier"), class_rate_ratio=ratio, headroom_ratio=self.kept_free
        )
        traffic = (busier,) if (ratio != 1.0).any() else ()
        return Threats(traffic, np.full(2, self.at_once), self.limits_ratio, self.kept_free)


def grid() -> np.ndarray:
    """Returns shares of two classes on two pools, (C, P, STEPS, STEPS)."""
    a, b = np.meshgrid(np.linspace(0, 1, STEPS), np.linspace(0, 1, STEPS), indexing="ij")
    return np.stack([np.stack([a, 1 - a]), np.stack([b, 1 - b])])


def kept(
    joined: Joined,
    shares: np.ndarray,
    replicas: np.ndarray,
    rate: np.ndarray,
    headroom: float,
    limits_ratio: float,
) -> np.ndarray:
    """Returns where all is served, within loads, limits and the floor, (STEPS, STEPS)."""
    w = joined.workload
    keeps = np.ones(shares.shape[2:], dtype=bool)
    used = [np.zeros(shares.shape[2:]) for _ in w.limits]
    for p, table in enumerate(joined.tables):
        arriving = np.tensordot(rate * table.work_s, shares[:, p], axes=1)
        load = arriving / max(int(replicas[p]), 1)
        keeps &= load <= table.max_load * (1.0 - headroom) + 1e-12
        keeps &= (arriving == 0) | (replicas[p] > 0)
        for number, scoped in enumerate(w.limits):
            tail = scoped.limit.tail_ratio
            c = w.class_names.index(scoped.class_name or "")
            allowed_ms = scoped.limit.at_most_ms * limits_ratio
            mean_ms = table.mean_ms["e2e"][c]
            figure = mean_ms / allowed_ms if tail is None else np.exp(-allowed_ms / mean_ms) / tail
            used[number] += shares[c, p] * np.interp(load, LOADS, figure)
    for total in used:
        keeps &= total <= 1.0
    quality = np.einsum("c,cp,cpij->ij", rate / rate.sum(), w.quality, shares)
    return keeps & (quality >= (w.quality_at_least or 0.0) - 1e-9)


def best_surviving_quality(joined: Joined, replicas: np.ndarray, asked: Asked) -> float:
    """Returns the best quality of a grid routing that survives everything, -inf without one."""
    w, shares = joined.workload, grid()
    fine = kept(joined, shares, replicas, w.rate_rps, HEADROOM_RATIO, 1.0)
    busier = w.rate_rps * asked.rate_ratio * np.array(asked.class_ratio)
    fine &= kept(joined, shares, replicas, busier, asked.kept_free, 1.0)
    for p in range(2) if asked.at_once else ():
        if replicas[p] == 0:
            continue
        left, moved = replicas.copy(), shares.copy()
        left[p] = max(replicas[p] - asked.at_once, 0)
        if left[p] == 0:
            moved[:, 1 - p] += moved[:, p]
            moved[:, p] = 0.0
        fine &= kept(joined, moved, left, w.rate_rps, asked.kept_free, asked.limits_ratio)
    quality = np.einsum("c,cp,cpij->ij", w.weights, w.quality, shares)
    return float(np.where(fine, quality, -np.inf).max())


def setting(joined: Joined) -> Setting:
    return Setting(joined.workload, joined.tables, joined.space, HEADROOM_RATIO)


def least_cost(joined: Joined, asked: Asked) -> float:
    costs = [
        float(joined.space.cost_usd_per_h(n))
        for n in deployments(joined.space)
        if best_surviving_quality(joined, n, asked) > -np.inf
    ]
    return min(costs, default=np.inf)


FAILURE = Asked(at_once=1)
LOOSER = Asked(at_once=1, limits_ratio=1.5, kept_free=0.08)
BUSIER = Asked(rate_ratio=1.3)
MIXED = Asked(class_ratio=(1.0, 1.6), at_once=2)


@pytest.mark.parametrize("asked", [FAILURE, LOOSER, BUSIER, MIXED], ids=str)
@pytest.mark.parametrize("seed", [0, 2, 4])
def test_no_deployment_that_survives_costs_less_than_the_bound(seed: int, asked: Asked) -> None:
    joined = random_joined(seed, stock=5)
    truth = least_cost(joined, asked)
    want = Want("cost", joined.workload.quality_at_least)
    found = robust_bound(setting(joined), want, asked.threats(joined))
    if truth == np.inf:
        assert found.infeasible or found.best_possible is not None
        return
    assert found.best_possible is not None
    assert 0.65 * truth <= found.best_possible <= truth + 1e-9


def test_bounds_with_scenarios_say_more_than_bounds_without() -> None:
    pairs = []
    for seed in SEEDS:
        joined = random_joined(seed, stock=5)
        want = Want("cost", joined.workload.quality_at_least)
        nothing = robust_bound(setting(joined), want, Asked().threats(joined))
        n_minus_1 = robust_bound(setting(joined), want, FAILURE.threats(joined))
        if nothing.best_possible is not None and n_minus_1.best_possible is not None:
            pairs.append((nothing.best_possible, n_minus_1.best_possible))
    assert len(pairs) >= 3
    assert all(more >= less - 1e-6 for less, more in pairs)
    assert any(more > 1.2 * less for less, more in pairs)


@pytest.mark.parametrize("seed", [0, 2])
def test_no_surviving_deployment_is_better_than_the_bound_on_quality(seed: int) -> None:
    joined = random_joined(seed, floor=False, stock=2)
    best = max(best_surviving_quality(joined, n, FAILURE) for n in deployments(joined.space))
    found = robust_bound(setting(joined), Want("quality"), FAILURE.threats(joined))
    if best == -np.inf:
        assert found.infeasible or found.best_possible is not None
        return
    assert found.best_possible is not None
    assert best - 1e-6 <= found.best_possible <= best + 0.2


def highest_factor(joined: Joined, replicas: np.ndarray, asked: Asked) -> float:
    """Returns a multiple of the traffic that some grid routing survives, by bisection."""
    low, high = 0.0, 64.0
    for _ in range(12):
        middle = (low + high) / 2
        w = joined.workload
        busier = replace(joined, workload=replace(w, rate_rps=w.rate_rps * middle))
        able = best_surviving_quality(busier, replicas, asked) > -np.inf
        low, high = (middle, high) if able else (low, middle)
    return low


@pytest.mark.parametrize("asked", [FAILURE, BUSIER], ids=str)
@pytest.mark.parametrize("seed", [0, 3])
def test_no_surviving_deployment_carries_more_than_the_bound(seed: int, asked: Asked) -> None:
    joined = random_joined(seed, stock=2)
    best = max(highest_factor(joined, n, asked) for n in deployments(joined.space))
    want = Want("rate_factor", joined.workload.quality_at_least)
    found = robust_bound(setting(joined), want, asked.threats(joined))
    assert found.best_possible is not None
    assert best - 1e-6 <= found.best_possible <= 1.8 * best


def test_the_start_of_a_search_mostly_survives() -> None:
    hits, n_able = 0, 0
    for seed in SEEDS:
        joined = random_joined(seed, stock=5)
        truth = least_cost(joined, FAILURE)
        want = Want("cost", joined.workload.quality_at_least)
        start = surviving(setting(joined), want, FAILURE.threats(joined))
        if truth == np.inf:
            continue
        n_able += 1
        assert start is not None
        assert float(joined.space.cost_usd_per_h(start)) <= 1.7 * truth
        hits += best_surviving_quality(joined, start, FAILURE) > -np.inf
    assert n_able >= 3
    assert hits >= n_able - 1
