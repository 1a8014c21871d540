"""Settled deployments: shares that add up, figures that an independent score finds again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cases import (
    GPU_USD_PER_H,
    hosted_objectives,
    objectives_of,
    small,
    unlimited,
    z,
)

from planner.objectives import Objectives, make_objectives
from planner.score import Score, score
from planner.settle import SMALLEST_SHARE, Settled, _tidy, class_mixes, merit, settle


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("base"), small())


@pytest.fixture(scope="module")
def rate(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("rate"), small(maximise="rate_factor"))


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    """No limits and no floor: whatever is full is full to the brim."""
    question = unlimited(quality_at_least=None, choose="best_quality", stock={"h100-sxm-80g": 24})
    return objectives_of(tmp_path_factory.mktemp("free"), question)


def with_rates(objectives: Objectives, easy: float, hard: float) -> Objectives:
    """The same question at other rates."""
    case = objectives.case
    workload = replace(case.workload, rate_rps=np.array([easy, hard]))
    return make_objectives(replace(case, workload=workload))


def scored_again(objectives: Objectives, settled: Settled) -> Score:
    """The score of a settled plan, from its replicas, its shares and its rate factor alone."""
    case, question = objectives.case, objectives.case.question
    workload = replace(
        case.workload, rate_rps=case.workload.rate_rps * max(settled.rate_factor, 1e-12)
    )
    flow = (workload.rate_rps[:, None] * settled.shares).T
    return score(
        workload,
        case.tables(flow),
        settled.replicas,
        settled.shares,
        question.headroom_ratio,
        question.latency_objective,
    )


def assert_shares_add_up(settled: Settled) -> None:
    millionths = settled.shares * 1e6
    assert np.abs(millionths - np.rint(millionths)).max() < 1e-6
    assert np.rint(millionths).astype(np.int64).sum(axis=1).tolist() == [1_000_000] * 2
    used = settled.shares[settled.shares > 0]
    assert used.min() >= SMALLEST_SHARE * (1 - 1e-2)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("replicas", [z(1, 1), z(1, 3), z(2, 0)], ids=str)
def test_shares_are_whole_millionths_that_sum_to_one(
    base: Objectives, replicas: Any, level: int
) -> None:
    settled = settle(base, replicas, level)
    if settled.routing.unserved.max() == 0:
        assert_shares_add_up(settled)
    assert (settled.shares >= 0).all()
    assert (settled.shares.sum(axis=1) <= 1 + 1e-9).all()


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(
    easy=st.floats(5, 60),
    hard=st.floats(5, 60),
    replicas=st.sampled_from([(1, 2), (1, 3), (2, 3), (2, 6)]),
)
def test_what_the_search_accepts_without_limits_can_be_signed(
    free: Objectives, easy: float, hard: float, replicas: tuple[int, ...]
) -> None:
    objectives = with_rates(free, easy, hard)
    found = objectives.evaluate(z(*replicas))
    settled = settle(objectives, z(*replicas))
    if found.violation <= 0:
        assert_shares_add_up(settled)
        assert settled.acceptable, settled.score.problems
        assert settled.score.quality == pytest.approx(found.quality, abs=5e-4)


@pytest.mark.parametrize(("easy", "hard"), [(46.82, 45.89), (31.95, 46.88)])
def test_rounding_a_share_up_does_not_overload_a_full_pool(
    free: Objectives, easy: float, hard: float
) -> None:
    # At these rates the 70b is full and its share rounds up, by more than a score tolerates.
    objectives = with_rates(free, easy, hard)
    settled = settle(objectives, z(1, 3))
    assert settled.acceptable, settled.score.problems
    assert settled.score.utilisation[0] == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize("method", ["fast", "exact"])
@pytest.mark.parametrize("replicas", [z(1, 1), z(2, 0), z(1, 0), z(0, 2)], ids=str)
def test_the_score_is_what_anybody_finds_again(
    base: Objectives, replicas: Any, method: Any
) -> None:
    settled = settle(base, replicas, 0, method)
    again = scored_again(base, settled)
    assert again.quality == pytest.approx(settled.score.quality, abs=1e-12)
    assert again.utilisation == pytest.approx(settled.score.utilisation, abs=1e-9)
    assert [f.label for f in again.figures] == [f.label for f in settled.score.figures]
    assert [f.ms for f in again.figures] == pytest.approx(
        [f.ms for f in settled.score.figures], rel=1e-9
    )
    assert again.problems == settled.score.problems
    assert settled.score.mix_shift_ratio == pytest.approx(0.0, abs=1e-9)


def test_tables_are_at_the_mix_of_the_plan(base: Objectives) -> None:
    settled = settle(base, z(1, 1))
    mixes = class_mixes(base.case.workload, settled.shares)
    flow = np.array([24.0, 8.0])[:, None] * settled.shares
    for p in range(2):
        assert mixes[p] == pytest.approx(flow[:, p] / flow[:, p].sum())
        assert settled.tables[p].mix == pytest.approx(mixes[p])


def test_an_unused_pool_has_no_mix(base: Objectives) -> None:
    shares = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert class_mixes(base.case.workload, shares).tolist() == [[0.75, 0.25], [0.0, 0.0]]


@pytest.mark.parametrize("replicas", [z(1, 1), z(1, 2), z(2, 0)], ids=str)
def test_acceptable_means_that_every_promise_is_kept(base: Objectives, replicas: Any) -> None:
    settled = settle(base, replicas)
    s = settled.score
    kept = (
        s.quality >= 0.75 - 1e-6
        and all(f.ratio <= 1 + 1e-6 for f in s.figures)
        and s.utilisation.max() <= 0.9 + 1e-6
        and np.abs(settled.shares.sum(axis=1) - 1).max() <= 1e-6
    )
    assert settled.acceptable == kept
    assert kept


def test_too_little_of_anything_is_not_acceptable(base: Objectives) -> None:
    for replicas, what in ((z(0, 3), "floor"), (z(1, 0), "no place to go")):
        settled = settle(base, replicas)
        assert not settled.acceptable
        assert what in " ".join(settled.score.problems)


def test_nothing_rented_does_not_crash(base: Objectives, rate: Objectives) -> None:
    for objectives in (base, rate):
        settled = settle(objectives, z(0, 0))
        assert not settled.acceptable
        assert not settled.shares.any()
        assert settled.cost_usd_per_h == 0.0


def test_a_class_without_a_place_does_not_crash(tmp_path: Path) -> None:
    question = small()
    question["classes"][1]["pools"] = ["llama-3.1-70b-h100-tp4"]
    settled = settle(objectives_of(tmp_path, question), z(0, 3))
    assert settled.shares.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert any("class hard has no place" in p for p in settled.score.problems)


@pytest.mark.parametrize("method", ["fast", "exact"])
@pytest.mark.parametrize("replicas", [z(1, 1), z(1, 3), z(2, 0)], ids=str)
def test_the_rate_factor_never_overloads(rate: Objectives, replicas: Any, method: Any) -> None:
    settled = settle(rate, replicas, 0, method)
    assert settled.acceptable, settled.score.problems
    assert settled.rate_factor > 0.5
    assert round(settled.rate_factor, 6) == settled.rate_factor
    again = scored_again(rate, settled)
    assert again.utilisation.max() <= 0.9 + 1e-9
    assert again.problems == ()
    assert settled.rate_factor >= settled.routing.rate_factor * (1 - 1e-3)


@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(easy=st.floats(1, 60), hard=st.floats(1, 60), n_small=st.integers(1, 5))
def test_a_rounded_rate_factor_never_overloads(
    free: Objectives, easy: float, hard: float, n_small: int
) -> None:
    question = free.case.question.model_copy(update={"maximise": "rate_factor"})
    objectives = replace(free, case=replace(free.case, question=question))
    settled = settle(with_rates(objectives, easy, hard), z(1, n_small))
    assert settled.score.utilisation.max() <= 0.9 + 1e-9
    assert settled.score.utilisation.max() >= 0.9 - 1e-3
    assert settled.acceptable


def test_cost_is_rent_and_hosted_requests_at_the_planned_rate(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path, price=0.4)
    settled = settle(objectives, z(1, 0, 1))
    hosted = objectives.case.workload.request_usd[:, 0] * np.array([24.0, 8.0])
    usd_per_h = float(hosted @ settled.shares[:, 0]) * 3600
    assert usd_per_h > 0
    assert settled.cost_usd_per_h == pytest.approx(GPU_USD_PER_H + usd_per_h)


def test_the_cheaper_routing_wins_where_requests_are_paid(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path)
    few, many = (settle(objectives, r) for r in (z(1, 0, 1), z(1, 0, 0)))
    assert few.cost_usd_per_h < many.cost_usd_per_h
    assert few.score.quality < many.score.quality
    assert merit(objectives, few) > merit(objectives, many)


def test_hosted_requests_stay_within_the_budget(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path, choose="best_quality", budget_usd_per_h=11.0)
    settled = settle(objectives, z(1, 0, 1))
    assert settled.acceptable
    assert 10.9 < settled.cost_usd_per_h <= 11.0


def test_a_pool_that_gets_no_traffic_keeps_its_table(base: Objectives) -> None:
    case = base.case
    unused = case.tables()
    tables = case.tables(np.array([[0.5, 0.5], [0.0, 0.0]]), unused=unused)
    assert tables[1] is unused[1]
    assert tables[0] is not unused[0]


def test_crumbs_are_swept_up(base: Objectives) -> None:
    crumbs = np.array([[5e-5, 1 - 5e-5], [0.3, 0.7]])
    routing = replace(settle(base, z(1, 1)).routing, shares=crumbs, unserved=np.zeros(2))
    assert _tidy(routing).tolist() == [[0.0, 1.0], [0.3, 0.7]]
