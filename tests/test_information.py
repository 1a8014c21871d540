"""What measuring a pool is worth, against every deployment of the box in every world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_cases import GPU, enumerated, objectives_of, small, unlimited

from planner.choose import choose
from planner.explore import Explored
from planner.objectives import Objectives
from planner.reasons.information import TOLERANCE, to_measure
from planner.settle import Settled
from planner.spec.table import quantile_ms

Tight = tuple[Objectives, Settled, Explored]


def worlds(band: float) -> tuple[float, float]:
    """How much slower a pool is in the slow and in the fast world of a 90 % band."""
    reach = 3.0**0.5 * np.log(1.0 + band) / 1.645
    return float(np.exp(reach)), float(np.exp(-reach))


def best_cost(objectives: Objectives, chosen: Settled, p: int, slower: float) -> float:
    """The rent of the cheapest deployment of the whole box in a world."""
    tables = list(chosen.tables)
    tables[p] = tables[p].slowed(slower)
    world = replace(objectives, tables=tuple(tables))
    space = objectives.case.space
    box = [np.array(replicas) for replicas in np.ndindex(*(space.upper + 1))]
    box = [point for point in box if point.any() and space.admits(point)]
    for point in sorted(box, key=lambda point: float(space.cost_usd_per_h(point))):
        e = world.evaluate(point, start_loads=chosen.routing.loads)
        assert e.cost_usd_per_h == pytest.approx(float(space.cost_usd_per_h(point)))
        if e.violation <= TOLERANCE:
            return e.cost_usd_per_h
    raise AssertionError("nothing keeps what was promised")


@pytest.fixture(scope="module", params=[0.75, 1.75], ids=["may be faster", "may be slower"])
def tight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tight:
    """A question at a rate at which a faster, or a slower, pool changes the answer."""
    question = small(stock={GPU: 14})
    for cls in question["classes"]:
        cls["rate_rps"] *= request.param
    objectives = objectives_of(tmp_path_factory.mktemp("tight"), question)
    explored = enumerated(objectives)
    chosen, _ = choose(objectives, explored, None)
    assert chosen is not None
    return objectives, chosen, explored


def test_the_worth_is_that_of_all_deployments_in_three_worlds(
    tight: Tight,
) -> None:
    objectives, chosen, explored = tight
    found = {m.pool: m for m in to_measure(objectives, chosen, explored, "thorough")}
    assert found
    for p, name in enumerate(objectives.case.space.pool_names):
        table = chosen.tables[p]
        slow, fast = worlds(table.band_at("tpot", 0.6 * table.max_load))
        costs = [best_cost(objectives, chosen, p, slower) for slower in (slow, 1.0, fast)]
        worth = costs[0] - costs[0] / 6 - 2 * costs[1] / 3 - costs[2] / 6
        assert (found[name].worth if name in found else 0.0) == pytest.approx(worth, abs=0.011)
    assert [m.worth for m in found.values()] == sorted(m.worth for m in found.values())[::-1]


def test_the_load_to_measure_at_is_that_of_the_plan(
    tight: Tight,
) -> None:
    """By Little's law: requests/s of a replica times their time in the engine, and the own one."""
    objectives, chosen, explored = tight
    case = objectives.case
    for found in to_measure(objectives, chosen, explored, "quick"):
        p = case.space.pool_names.index(found.pool)
        if chosen.replicas[p] == 0:
            continue
        table, load = chosen.tables[p], float(chosen.routing.loads[p])
        rps = load / float(table.work_s @ table.mix)
        e2e_ms = float(table.mean_at("e2e", load) @ table.mix)
        ttft_ms = float(table.mean_at("ttft", load) @ table.mix)
        assert found.concurrency is not None
        assert rps * (e2e_ms - ttft_ms) / 1000.0 < found.concurrency
        assert found.concurrency < rps * e2e_ms / 1000.0 + 2.0


def test_what_is_known_exactly_needs_no_measuring(
    tight: Tight,
) -> None:
    objectives, chosen, explored = tight
    sure = tuple(
        replace(t, band_ratio={m: np.zeros_like(b) for m, b in t.band_ratio.items()})
        for t in chosen.tables
    )
    known = replace(chosen, tables=sure)
    assert to_measure(objectives, known, explored, "thorough") == ()


def test_the_worth_of_quality_is_counted_in_quality(tmp_path: Path) -> None:
    question = unlimited(choose="best_quality", stock={GPU: 5}, budget_usd_per_h=15.0)
    objectives = objectives_of(tmp_path, question)
    explored = enumerated(objectives)
    chosen, _ = choose(objectives, explored, None)
    assert chosen is not None
    found = to_measure(objectives, chosen, explored, "thorough")
    assert all(m.unit == "quality" and 0 < m.worth < 1 for m in found)
    assert len(found) > 0


def test_a_slowed_table_stretches_every_time(tight: Tight) -> None:
    table = tight[1].tables[0]
    slow = table.slowed(1.5)
    assert np.allclose(slow.work_s, 1.5 * table.work_s)
    for metric in ("ttft", "tpot", "e2e"):
        assert np.allclose(slow.mean_ms[metric], 1.5 * table.mean_ms[metric])
        before = quantile_ms(table.times_ms[metric], table.survival[metric], 0.05)
        after = quantile_ms(slow.times_ms[metric], slow.survival[metric], 0.05)
        assert np.allclose(after, 1.5 * before)
