"""The certified front against a world whose best gain for every budget and level is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.exact.front import Cell, Front, Grid, certified_front
from planner.exact.solve import Solved, Want
from planner.spec.arrays import FloatArray, IntArray

RATIOS = (1.0, 0.7, 0.5)


@dataclass(frozen=True)
class World:
    """Deployments with their money, gain and least ratio of the limits, and an honest solver."""

    cost: FloatArray  # (n,)
    gain: FloatArray  # (n,)
    ratio: FloatArray  # (n,) of the limits that each keeps
    slack: FloatArray  # (calls,) by how much each proof is too loose, reused in a cycle
    asked: list[tuple[int, Want]]

    def __call__(self, level: int, want: Want, start: IntArray | None) -> Solved:
        """Returns the best deployment, and a bound that is true but not always tight."""
        able = self.ratio <= RATIOS[level]
        budget = np.inf if want.budget_usd_per_h is None else want.budget_usd_per_h
        able &= self.cost <= budget
        if start is not None:
            assert able[start[0]], "a start lies within the budget and the limits"
        slack = float(self.slack[len(self.asked) % self.slack.size])
        self.asked.append((level, want))
        if not able.any():
            return solved("none", -1, None, None, None)
        value = -self.cost if want.objective == "cost" else self.gain
        at = max(np.flatnonzero(able).tolist(), key=lambda i: (value[i], -self.cost[i]))
        if want.objective == "cost":
            cost = float(self.cost[at])
            return solved("found", at, cost, cost, cost * (1.0 - slack))
        gain = float(self.gain[at])
        return solved("found", at, gain, float(self.cost[at]), gain * (1.0 + slack))

    def best(self, level: int, budget: float) -> float:
        """The truth."""
        able = (self.ratio <= RATIOS[level]) & (self.cost <= budget)
        return float(self.gain[able].max(initial=-np.inf))


def solved(
    status: str, at: int, value: float | None, cost: float | None, best: float | None
) -> Solved:
    """An answer of the solver; the deployment is its number."""
    return Solved(
        status=status,  # type: ignore[arg-type]
        replicas=np.array([at]),
        value=value,
        best_possible=best,
        solve_gap_ratio=0.0,
        tier_gap_ratio=0.0,
        method="a list",
        cost_usd_per_h=cost,
    )


def world(seed: int, n: int = 40, slack: float = 0.0) -> World:
    """A world of n deployments, in which money buys gain and speed, more or less."""
    random = np.random.default_rng(seed)
    cost = np.round(random.uniform(5.0, 100.0, n), 2)
    gain = np.round(np.log(cost) / 5.0 * random.uniform(0.5, 1.0, n), 4)
    ratio = random.choice([0.45, 0.6, 0.95, 1.2], n)
    return World(cost, gain, ratio, random.uniform(0.0, slack, 17), [])


def front_of(made: World, n_cells: int, budget: float | None = None) -> Front:
    return certified_front(made, RATIOS, "quality", None, Grid(n_cells, 0.0, 1), budget)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), n_cells=st.integers(6, 40), slack=st.sampled_from([0.0, 0.05]))
def test_what_is_reached_and_what_is_proved_bracket_the_truth_at_every_budget(
    seed: int, n_cells: int, slack: float
) -> None:
    made = world(seed, slack=slack)
    front = front_of(made, n_cells)
    budgets = np.concatenate([made.cost, made.cost - 1e-6, [0.0, 1.0, 200.0]])
    for level in range(len(RATIOS)):
        truth = np.array([made.best(level, b) for b in budgets.tolist()])
        assert (front.reached(level, budgets) <= truth).all()
        assert (truth <= front.at_most(level, budgets) + 1e-12).all()


@pytest.mark.parametrize("seed", range(6))
def test_with_enough_cells_the_front_is_the_true_one(seed: int) -> None:
    made = world(seed)
    front = front_of(made, 400)
    worst, floor = float(made.cost.max()) + 10.0, 0.0
    truth = sum(
        sum((high - low) * max(0.0, made.best(level, low)) for low, high in pairwise(ends))
        for level in range(len(RATIOS))
        for ends in [[*np.unique(made.cost).tolist(), worst]]
    )
    reached, at_most = front.volumes(worst, floor)
    assert reached <= truth + 1e-9 <= at_most + 2e-9
    # Steps narrower than a five-hundredth of all money are left alone.
    assert at_most - reached < 0.02 * truth
    assert len(made.asked) < 120  # a step that is narrow or flat is not cut further


def test_more_cells_never_make_the_front_worse() -> None:
    volumes = [front_of(world(3, slack=0.03), n).volumes(120.0, 0.0) for n in (9, 15, 30, 60)]
    assert [v[0] for v in volumes] == sorted(v[0] for v in volumes)
    assert [v[1] for v in volumes] == sorted((v[1] for v in volumes), reverse=True)


def test_the_best_cells_are_those_that_nothing_beats_and_each_once() -> None:
    made = world(8)
    front = front_of(made, 60)
    best = front.best()
    for cell in best:
        assert cell.replicas is not None
        at = int(cell.replicas[0])
        assert (cell.cost_usd_per_h, cell.gain) == (made.cost[at], made.gain[at])
        assert cell.gain == made.best(cell.level, cell.budget_usd_per_h)
        assert cell.gap_ratio == 0.0
    for level in range(len(RATIOS)):
        mine = [cell for cell in best if cell.level == level]
        assert mine == sorted(mine, key=lambda cell: cell.cost_usd_per_h)
        assert [cell.gain for cell in mine] == sorted({cell.gain for cell in mine})


def test_levels_that_nothing_keeps_are_not_asked_about_again() -> None:
    made = world(1)
    none = replace(made, ratio=np.where(made.ratio < 0.7, 0.9, made.ratio))
    front = front_of(none, 30)
    assert front.least_usd_per_h[1:] == (np.inf, np.inf)
    assert {level for level, _ in none.asked} == {0, 1}
    assert sum(level == 1 for level, _ in none.asked) == 1
    budgets = np.array([50.0, 500.0])
    assert (front.at_most(1, budgets) == -np.inf).all()
    assert (front.reached(1, budgets) == -np.inf).all()


def test_nothing_is_asked_beyond_the_budget() -> None:
    made = world(2)
    front = front_of(made, 30, budget=40.0)
    assert all((want.budget_usd_per_h or np.inf) <= 40.0 for _, want in made.asked)
    assert all(cell.cost_usd_per_h <= 40.0 for cell in front.best())


def test_a_cell_without_a_deployment_says_what_is_open() -> None:
    nothing = Cell(0, 10.0, None, np.inf, -np.inf, -np.inf)
    assert nothing.gap_ratio == 0.0
    assert replace(nothing, best_possible=0.9).gap_ratio == np.inf
    found = Cell(0, 10.0, np.array([1]), 9.0, 0.8, 0.9)
    assert found.gap_ratio == pytest.approx(0.125)
