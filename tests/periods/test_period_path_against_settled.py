"""The path through a day against every path over every deployment, each settled like a plan."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from made_cases import HOSTED, OWN, hosted_profiles, unlimited
from period_questions import periods, round_of
from questions import inputs_of, small, write_question

from planner.files.inputs import read_inputs
from planner.periods.cases import Round, make_round
from planner.periods.search import FoundPath, find_path
from planner.periods.serving import make_servings
from planner.spec.arrays import IntArray

FACTORS = (0.15, 1.0, 0.45)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> list[list[IntArray]]:
    """Every deployment of the box that serves each period, by settling it."""
    made = round_of(tmp_path_factory.mktemp("box"), *FACTORS)
    servings = make_servings(made.sites)
    upper = made.case_of(0).space.upper
    every = [np.array(n) for n in itertools.product(*(range(int(n) + 1) for n in upper))]
    every = [n for n in every if n.any() and made.case_of(0).space.admits(n)]
    by_site = [[n for n in every if s.settled(n).acceptable] for s in servings]
    return [by_site[s] for s in made.site_of]


def least_usd(made: Round, served: list[list[IntArray]], change_usd: float) -> float:
    """The money of the cheapest of all paths, changes around the clock."""
    hours, space = made.schedule.hours, made.schedule.space
    least = np.inf
    for path in itertools.product(*served):
        rent = sum(h * float(space.cost_usd_per_h(n)) for h, n in zip(hours, path, strict=True))
        turns = zip(path, path[1:] + path[:1], strict=True)
        moved = sum(int(np.abs(a - b).sum()) for a, b in turns)
        least = min(least, rent + change_usd * moved)
    return float(least)


@pytest.mark.slow
@pytest.mark.parametrize("change_usd", [0.0, 6.0, 1000.0])
def test_no_path_is_cheaper(
    tmp_path: Path, served: list[list[IntArray]], change_usd: float
) -> None:
    made = round_of(tmp_path, *FACTORS, change_usd=change_usd)
    found = find_path(made, "quick")
    least = least_usd(made, served, change_usd)
    assert found.bill.usd == pytest.approx(least, rel=1e-9)
    assert found.at_least_usd <= least * (1 + 1e-9)
    assert found.at_least_usd >= 0.99 * least
    assert found.complete


def of(tmp_path: Path, *factors: float, **changes: object) -> FoundPath:
    return find_path(round_of(tmp_path, *factors, **changes), "quick")


@pytest.mark.slow
def test_equal_rates_have_one_deployment_whatever_a_change_costs(tmp_path: Path) -> None:
    free, dear = (of(tmp_path / str(c), 1.0, 1.0, 1.0, change_usd=c) for c in (0.0, 50.0))
    for found in (free, dear):
        assert len({tuple(s.replicas) for s in found.settled}) == 1
        assert found.bill.usd == pytest.approx(found.held_usd)
    assert free.bill == dear.bill


@pytest.mark.slow
def test_dear_changes_hold_what_serves_every_period(tmp_path: Path) -> None:
    found = of(tmp_path, *FACTORS, change_usd=1000.0)
    assert len({tuple(s.replicas) for s in found.settled}) == 1
    assert found.bill.changes_usd == 0.0
    assert found.bill.usd == pytest.approx(found.held_usd)


def test_reserved_gpus_are_paid_in_all_hours_and_used_where_that_pays(tmp_path: Path) -> None:
    supply = [
        {"gpu": "h100-sxm-80g", "count": 8, "usd_per_h": 3.0},
        {"gpu": "h100-sxm-80g", "count": 8, "usd_per_h": 1.6, "kind": "reserved"},
    ]
    asked = small(periods=periods(*FACTORS), supply=supply, stock=None)
    made = make_round(inputs_of(tmp_path, asked))
    found = find_path(made, "quick")
    gpus = [found.settled[t].replicas @ made.case_of(t).space.gpus_per_replica for t in range(3)]
    # A GPU that is in use for x of 24 hours is worth reserving where 24 * 1.6 < x * 3.
    in_use = [sum(h for h, n in zip((8, 12, 4), gpus, strict=True) if n >= k) for k in range(1, 9)]
    assert found.reserved["h100-sxm-80g"] == sum(hours > 24 * 1.6 / 3.0 for hours in in_use)
    assert found.bill.reserved_usd == pytest.approx(24 * 1.6 * found.reserved["h100-sxm-80g"])
    assert found.at_least_usd <= found.bill.usd


@pytest.mark.slow
def test_hosted_requests_are_paid_as_they_come_and_start_for_nothing(tmp_path: Path) -> None:
    pools = [HOSTED, *OWN]
    asked = unlimited(pools=pools, periods=periods(0.05, 1.0, 0.1, usd_per_replica_change=20.0))
    folder = write_question(tmp_path / "plan", asked)
    made = make_round(read_inputs(folder, hosted_profiles(tmp_path, price=0.5, max_rps=50.0)))
    found = find_path(made, "quick")
    hours = made.schedule.hours
    by_hand = sum(h * s.score.hosted_usd_per_h for h, s in zip(hours, found.settled, strict=True))
    assert found.bill.hosted_usd == pytest.approx(by_hand)
    assert found.bill.hosted_usd > 0
    own = np.array([s.replicas[1:] for s in found.settled])
    moved = np.abs(own - np.roll(own, 1, axis=0)).sum()
    assert found.bill.changes_usd == pytest.approx(20.0 * moved)
    assert found.at_least_usd <= found.bill.usd
