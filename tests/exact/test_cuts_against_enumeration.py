"""Deployments for all prompts by outer approximation, against every deployment of a small box."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pytest
from scipy.optimize import linprog

from planner.exact import cuts
from planner.exact.cuts import ForAll, deploy_for_all
from planner.exact.fleet import Fleet
from planner.routing.policies import Prompts, prompts_of
from planner.space import Offer, Packing, Space
from planner.space.parts import Part
from planner.spec.arrays import FloatArray, IntArray

MOST = 2, 2, 3, 1
USD_PER_H = {"big": 3.0, "small": 1.0}


@dataclass(frozen=True)
class Small:
    """Two or three models on two kinds of GPU, four pools, a few dozen prompts."""

    weight: FloatArray
    quality: FloatArray
    work: FloatArray
    fleet: Fleet

    @property
    def prompts(self) -> Prompts:
        return prompts_of(self.weight, self.quality, self.work)

    def truth(self, replicas: IntArray) -> float | None:
        """The best quality in a deployment, by another solver on the whole program."""
        n, m = self.quality.shape
        curves, p = self.fleet.curves(replicas), self.weight / self.weight.sum()
        s, a = curves.option.size, curves.option
        upper = np.tile(np.isin(np.arange(m), a), n).astype(float)
        rows = np.zeros((m + curves.limit.size, n * m + s))
        j = np.arange(n * m)
        rows[j % m, j] = (p[:, None] * self.work).ravel()
        rows[a, n * m + np.arange(s)] = -1.0
        rows[m:, n * m :] = curves.slope
        one = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.zeros((n, s))], axis=1)
        found = linprog(
            np.concatenate([-(p[:, None] * self.quality).ravel(), np.zeros(s)]),
            rows,
            np.concatenate([np.zeros(m), curves.limit]),
            one,
            np.ones(n),
            np.stack([np.zeros(n * m + s), np.concatenate([upper, curves.width])], axis=1),
        )
        return -float(found.fun) if found.status == 0 else None

    @cached_property
    def deployments(self) -> list[tuple[float, float]]:
        """Quality and $/h of every deployment that serves all prompts within the limit."""
        found = []
        for counts in itertools.product(*(range(most + 1) for most in MOST)):
            replicas = np.array(counts)
            if self.fleet.space.admits(replicas):
                quality = self.truth(replicas) if replicas.any() else None
                if quality is not None:
                    found.append((quality, float(self.fleet.space.cost_usd_per_h(replicas))))
        return found


@cache
def small(seed: int, tightness: float = 1.0) -> Small:
    rng = np.random.default_rng(seed)
    n, option = 24, np.array([0, 1, 1, 2])
    quality = np.sort(rng.random((n, 3)), axis=1) * rng.uniform(0.8, 1.0, (n, 3))
    work = rng.lognormal(0.0, 0.6, (n, 3)) * np.array([1.0, 2.0, 4.0])
    pool = np.repeat(np.arange(4), 3)
    width = rng.uniform(0.2, 0.8, pool.size) * np.array([1.0, 2.0, 1.0, 3.0])[pool]
    slope = rng.exponential(0.15, (4, 3)).cumsum(axis=1).ravel()[None, :] * tightness
    gpus = np.array([1.0, 2.0, 1.0, 2.0])
    kinds = "small", "big", "small", "big"
    on = np.array([[kind == gpu for kind in kinds] for gpu in USD_PER_H], dtype=float)
    space = Space(
        pool_names=("a", "b", "c", "d"),
        lower=np.zeros(4, dtype=np.int64),
        upper=np.array(MOST),
        rows=on * gpus,
        limits=np.array([6.0, 4.0]),
        row_names=("stock:big", "stock:small"),
        gpu_of=kinds,
        gpus_per_replica=gpus,
        offers={gpu: (Offer(6.0, usd),) for gpu, usd in USD_PER_H.items()},
    )
    return Small(rng.random(n) + 0.5, quality, work, Fleet(space, option, pool, width, slope))


def assert_routed(case: Small, found: ForAll) -> None:
    """What is said of the deployment is true of it."""
    assert found.routing is not None and case.fleet.space.admits(found.replicas)
    truth = case.truth(found.replicas)
    assert truth is not None and found.routing.value == pytest.approx(truth, abs=1e-4)


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_quality_of_a_budget(seed: int) -> None:
    case = small(seed)
    known = case.deployments
    for budget in (6.0, 9.0, 30.0):
        within = [quality for quality, usd in known if usd <= budget]
        found = deploy_for_all(case.prompts, case.fleet, budget_usd_per_h=budget)
        if not within:
            assert found.status == "none" and found.value is None
            continue
        assert_routed(case, found)
        assert case.fleet.space.cost_usd_per_h(found.replicas) <= budget
        assert found.value is not None and found.best_possible is not None
        assert found.value <= max(within) + 1e-6 <= found.best_possible + 2e-6
        assert found.gap_ratio is not None and found.gap_ratio <= 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_least_rent_at_a_floor(seed: int) -> None:
    case = small(seed)
    known = case.deployments
    best = max(quality for quality, _ in known)
    for floor in (0.7 * best, 0.95 * best, best - 1e-3):
        least = min(usd for quality, usd in known if quality >= floor)
        found = deploy_for_all(case.prompts, case.fleet, floor=floor)
        assert_routed(case, found)
        assert found.routing is not None and found.routing.value >= floor
        assert found.value is not None and found.best_possible is not None
        assert found.best_possible <= least + 1e-9 and least <= found.value + 1e-9
        assert found.n_cuts > cuts.N_SPREAD  # the relaxation had prices
        assert found.gap_ratio is not None and found.gap_ratio <= 1e-3
    assert deploy_for_all(case.prompts, case.fleet, floor=best + 1e-3).status == "none"


def test_a_gap_that_stays_open_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few cuts, rounds and nodes: the bound is still one, and a start is not lost."""
    monkeypatch.setattr(cuts, "N_SPREAD", 0)
    monkeypatch.setattr(cuts, "RELAXED_ROUNDS", 2)
    n_open = 0
    for seed in range(3):
        case = small(seed)
        best = max(quality for quality, _ in case.deployments)
        start = np.array([0, 1, 1, 1])
        found = deploy_for_all(case.prompts, case.fleet, n_rounds=1, n_nodes=1, start=start)
        assert found.best_possible is not None and found.best_possible >= best - 1e-6
        known = case.truth(start)
        if known is not None:
            assert found.value is not None and best + 1e-6 >= found.value >= known - 1e-4
            n_open += found.best_possible > found.value + 1e-4
    assert n_open > 0


def test_a_limit_that_nothing_keeps() -> None:
    case = small(0, tightness=1e4)
    assert case.deployments == []
    found = deploy_for_all(case.prompts, case.fleet)
    assert found.status == "none" and found.routing is None and not found.replicas.any()


def test_the_bound_may_read_the_tables_otherwise() -> None:
    case, wider = small(1), small(1, tightness=0.5)
    best = max(quality for quality, _ in wider.deployments)
    found = deploy_for_all(case.prompts, case.fleet, optimistic=wider.fleet)
    assert_routed(case, found)
    assert found.best_possible is not None and found.best_possible >= best - 1e-6


def test_a_start_beyond_the_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        deploy_for_all(
            small(0).prompts, small(0).fleet, budget_usd_per_h=1.0, start=np.array([0, 1, 0, 0])
        )


def test_a_deployment_that_has_no_places_is_none() -> None:
    """On nodes of three and one GPU only one replica on two shared GPUs lies; rows allow two."""
    on_two = [Part(2, model, 0.6, 0.6) for model in "ab"]
    space = Space(
        pool_names=("a", "b"),
        lower=np.zeros(2, dtype=np.int64),
        upper=np.ones(2, dtype=np.int64),
        rows=np.full((1, 2), 1.2),
        limits=np.array([4.0]),
        row_names=("stock:g",),
        gpu_of=("g", "g"),
        gpus_per_replica=np.full(2, 1.2),
        offers={"g": (Offer(4.0, 1.0),)},
        packings={"g": Packing(4, 3, tuple(on_two))},
    )
    assert space.admits(np.array([1, 0])) and not space.admits(np.array([1, 1]))
    pools, none = np.arange(2), np.zeros((0, 2))
    fleet = Fleet(space, pools, pools, np.ones(2), none)
    prompts = prompts_of(np.ones(2), np.eye(2), np.ones((2, 2)))
    both = deploy_for_all(prompts, fleet)
    assert both.best_possible == pytest.approx(1.0, abs=1e-5)  # what rows alone can tell
    assert both.status == "unknown" and both.value is None
    one = deploy_for_all(prompts, fleet, start=np.array([1, 0]))
    assert one.status == "found" and one.value == pytest.approx(0.5)
