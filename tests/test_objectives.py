"""The evaluation of a deployment: money, quality, latency and promises, each by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import GPU_USD_PER_H, hosted_objectives, objectives_of, small, unlimited, z

from planner.objectives import (
    FASTEST_RATIOS,
    LEVEL_RATIOS,
    UNSERVED_FACTOR,
    Objectives,
    features,
    violation,
)
from planner.routing import truth

DEPLOYMENTS = [z(1, 1), z(2, 0), z(1, 4), z(0, 3), z(1, 0), z(0, 0)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("base"), small())


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("free"), unlimited(quality_at_least=None))


@pytest.mark.parametrize("replicas", DEPLOYMENTS, ids=str)
def test_cost_is_the_rent_where_nothing_is_hosted(base: Objectives, replicas: Any) -> None:
    rent = GPU_USD_PER_H * (4 * replicas[0] + replicas[1])
    assert base.evaluate(replicas).cost_usd_per_h == pytest.approx(rent, abs=1e-9)


def test_cost_is_rent_and_hosted_requests(tmp_path: Path) -> None:
    price = 0.7
    objectives = hosted_objectives(tmp_path, price=price)
    e = objectives.evaluate(z(1, 0, 2))
    workload, shares = objectives.case.workload, e.routing.shares
    usd_per_s = 0.0
    for c, rate in enumerate(workload.rate_rps):
        shape = workload.shapes[c][0]
        assert shape is not None
        tokens = float(shape.input_tokens.mean() + shape.output_tokens.mean())
        usd_per_s += float(rate * shares[c, 0]) * tokens * price / 1e6
    assert usd_per_s > 0
    assert e.cost_usd_per_h == pytest.approx(2 * GPU_USD_PER_H + 3600 * usd_per_s, rel=1e-9)


def test_quality_is_the_traffic_weighted_mean(base: Objectives) -> None:
    e = base.evaluate(z(1, 1))
    scores = np.array([[0.90, 0.80], [0.60, 0.30]])  # easy, hard on 70b, 8b
    weights = np.array([24.0, 8.0]) / 32.0
    assert e.quality == pytest.approx(float(weights @ (e.routing.shares * scores).sum(axis=1)))


def test_the_price_of_unserved_load_is_ten_times_the_dearest_request(free: Objectives) -> None:
    dearest = 0.0
    for p, n_gpus in enumerate((4, 1)):
        table = free.tables[p]
        # One replica at the highest load serves max_load / work requests a second.
        per_h = table.max_load / table.work_s.max() * 3600.0
        dearest = max(dearest, n_gpus * GPU_USD_PER_H / per_h)
    assert free.unserved_usd == pytest.approx(UNSERVED_FACTOR * dearest, rel=1e-9)


def test_the_price_of_unserved_load_scales_with_prices(free: Objectives, tmp_path: Path) -> None:
    prices = {"h100-sxm-80g": 3 * GPU_USD_PER_H}
    dearer = objectives_of(tmp_path, unlimited(quality_at_least=None, prices=prices))
    assert dearer.unserved_usd == pytest.approx(3 * free.unserved_usd, rel=1e-9)


def test_what_cannot_be_rented_prices_nothing(tmp_path: Path) -> None:
    no_large = unlimited(quality_at_least=None, replicas={"llama-3.1-70b-h100-tp4": {"max": 0}})
    only_small = unlimited(quality_at_least=None, pools=["llama-3.1-8b-h100"])
    fenced = objectives_of(tmp_path / "fenced", no_large)
    alone = objectives_of(tmp_path / "alone", only_small)
    assert fenced.unserved_usd == pytest.approx(alone.unserved_usd, rel=1e-9)


def test_unserved_load_is_priced_by_the_request(base: Objectives) -> None:
    e = base.evaluate(z(1, 0))
    lost_rps = float(e.routing.unserved @ np.array([24.0, 8.0]))
    assert lost_rps > 1
    expected = lost_rps * 3600 * base.unserved_usd
    assert base.unserved_usd_per_h(e.routing) == pytest.approx(expected)


@pytest.mark.parametrize("replicas", [z(1, 1), z(2, 0), z(1, 4)], ids=str)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_no_violation_exactly_where_every_promise_is_kept(
    base: Objectives, replicas: Any, level: int
) -> None:
    e = base.evaluate(replicas, level)
    workload = base.levels[level]
    ratios = [
        truth.limit_value(workload, base.tables, e.routing.loads, e.routing.shares, s)
        / s.limit.at_most_ms
        for s in workload.limits
    ]
    served = bool(e.routing.unserved.max() <= 1e-6)
    kept = served and max(ratios) <= 1 + 1e-5 and e.quality >= 0.75 - 1e-6
    assert (e.violation <= 0) == kept
    assert e.violation >= 0


def test_violation_adds_up_what_is_missed(base: Objectives) -> None:
    e = base.evaluate(z(1, 0))
    workload = base.levels[0]
    lost = float(e.routing.unserved @ workload.weights)
    short = max(0.0, 0.75 - e.quality)
    assert e.violation == pytest.approx(lost + short, abs=1e-5)
    assert violation(workload, e.routing, 1.5) == pytest.approx(lost + short + 0.5, abs=1e-5)


def test_too_little_quality_is_a_violation_of_as_much(base: Objectives) -> None:
    e = base.evaluate(z(0, 3))  # all on the 8b: 0.675 = (24 * 0.8 + 8 * 0.3) / 32
    assert e.quality == pytest.approx(0.675)
    assert e.violation == pytest.approx(0.75 - 0.675, abs=1e-6)


def test_hosted_requests_beyond_the_budget_are_a_violation(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path, price=5.0, budget_usd_per_h=20.0)
    e = objectives.evaluate(z(1, 0, 1))
    assert e.cost_usd_per_h > 20.0
    assert e.violation == pytest.approx(e.cost_usd_per_h / 20.0 - 1, abs=1e-6)


@pytest.mark.parametrize("choose", ["best_quality", "knee"])
def test_a_budget_buys_as_many_hosted_requests_as_it_can(choose: str, tmp_path: Path) -> None:
    rich = hosted_objectives(tmp_path / "rich", choose=choose)
    tight = hosted_objectives(tmp_path / "tight", choose=choose, budget_usd_per_h=11.0)
    at = z(1, 0, 1)
    assert rich.evaluate(at).cost_usd_per_h > 11.0
    e = tight.evaluate(at)
    assert e.violation <= 0
    assert 10.9 < e.cost_usd_per_h <= 11.0
    # Upgrading an easy request is worth 0.1 for 330 tokens, a hard one 0.3 for 600: all the
    # hard ones go to the hosted 70b, and easy ones for what is left.
    assert e.routing.shares[1, 0] == pytest.approx(1.0, abs=1e-6)
    shapes = [row[0] for row in tight.case.workload.shapes]
    usd_per_h = [
        rate * float(s.input_tokens.mean() + s.output_tokens.mean()) * 0.4e-6 * 3600
        for rate, s in zip((24.0, 8.0), shapes, strict=True)
        if s is not None
    ]
    easy = (11.0 - GPU_USD_PER_H - usd_per_h[1]) / usd_per_h[0]
    assert e.routing.shares[0, 0] == pytest.approx(easy, abs=2e-3)


def test_a_budget_carries_as_much_traffic_as_it_can(tmp_path: Path) -> None:
    question = {"maximise": "rate_factor", "quality_at_least": None}
    objectives = hosted_objectives(tmp_path, price=1.0, budget_usd_per_h=30.0, **question)
    e = objectives.evaluate(z(1, 0, 1))
    own = objectives.evaluate(z(0, 0, 1))
    assert e.violation <= 0
    assert e.cost_usd_per_h <= 30.0
    assert e.routing.rate_factor > own.routing.rate_factor
    # The cheapest way to carry more fills the own GPU, then buys with what the budget leaves.
    assert e.routing.loads[2] == pytest.approx(0.9 * objectives.tables[2].max_load, rel=1e-2)
    assert e.cost_usd_per_h == pytest.approx(30.0, rel=2e-2)


@pytest.mark.parametrize("replicas", [z(1, 1), z(2, 0), z(1, 0)], ids=str)
def test_latency_is_the_largest_ratio_of_the_truth(base: Objectives, replicas: Any) -> None:
    e = base.evaluate(replicas)
    shares = e.routing.shares
    loads = truth.loads(base.case.workload, base.tables, replicas, shares)
    expected = max(
        truth.limit_value(base.case.workload, base.tables, loads, shares, s) / s.limit.at_most_ms
        for s in base.case.workload.limits
    )
    assert e.latency == pytest.approx(expected, rel=1e-9)


def test_nothing_rented_is_as_slow_as_can_be(base: Objectives, free: Objectives) -> None:
    for objectives in (base, free):
        slow = objectives.evaluate(z(0, 0))
        assert slow.violation >= 1.0
        others = [objectives.evaluate(r).latency for r in DEPLOYMENTS]
        assert slow.latency == max(others)


def test_levels_tighten_every_limit(base: Objectives) -> None:
    assert LEVEL_RATIOS[0] == 1.0
    assert list(LEVEL_RATIOS) == sorted(LEVEL_RATIOS, reverse=True)
    for ratio, level in zip(LEVEL_RATIOS, base.levels, strict=True):
        at_most = [s.limit.at_most_ms for s in level.limits]
        assert at_most == pytest.approx([15000 * ratio, 60000 * ratio])
    e = [base.evaluate(z(1, 1), level) for level in range(3)]
    for ratio, faster in zip(LEVEL_RATIOS, e, strict=True):
        assert faster.latency <= ratio * (1 + 1e-4)
    assert e[0].quality > e[1].quality > e[2].quality


def test_the_fastest_gets_finer_levels(tmp_path: Path) -> None:
    objectives = objectives_of(tmp_path, small(choose="fastest"))
    first = [level.limits[0].limit.at_most_ms for level in objectives.levels]
    assert first == pytest.approx([15000 * ratio for ratio in FASTEST_RATIOS])


def test_without_limits_latency_is_the_objective_over_all_traffic(free: Objectives) -> None:
    e = free.evaluate(z(1, 2))
    workload, shares = free.case.workload, e.routing.shares
    loads = truth.loads(workload, free.tables, z(1, 2), shares)
    # p95 by bisection: the time that 5 % of all requests exceed.
    low, high = 1.0, 1e7
    for _ in range(80):
        middle = float(np.sqrt(low * high))
        late = truth.class_survival(free.tables, loads, shares, "e2e", np.array([middle]))[:, 0]
        low, high = (middle, high) if workload.weights @ late > 0.05 else (low, middle)
    assert e.latency == pytest.approx(np.log2(low), abs=1e-6)


def test_without_limits_a_level_is_a_limit_on_the_objective(tmp_path: Path) -> None:
    objectives = objectives_of(
        tmp_path, unlimited(quality_at_least=None, stock={"h100-sxm-80g": 16})
    )
    assert not objectives.levels[0].limits
    targets = [level.limits[0].limit.at_most_ms for level in objectives.levels[1:]]
    assert targets[1] / targets[0] == pytest.approx(LEVEL_RATIOS[2] / LEVEL_RATIOS[1])
    met = 0
    for replicas in (z(3, 2), z(2, 2), z(1, 2), z(0, 4)):
        for level in (1, 2):
            e = objectives.evaluate(replicas, level)
            all_served = bool(e.routing.unserved.max() <= 1e-6)
            within = e.latency <= np.log2(targets[level - 1]) + 1e-4
            assert (e.violation <= 0) == (all_served and within)
            met += e.violation <= 0
    assert met > 0  # some deployment is acceptable at a faster level


def test_features_have_one_capacity_and_speed_per_model(base: Objectives) -> None:
    view = features(base)
    points = np.array([[1, 1, 0], [1, 2, 0], [2, 0, 0], [1, 1, 2], [0, 0, 1]])
    seen = view(points)
    assert seen.shape == (5, 2 + 2 + 2)
    assert np.isfinite(seen).all()
    large, small_model, cost, level = seen[:, 0], seen[:, 1], seen[:, 4], seen[:, 5]
    assert small_model[1] > small_model[0]
    assert large[1] == large[0]
    assert large[2] > large[0]
    assert small_model[2] == 0
    assert cost == pytest.approx(GPU_USD_PER_H * np.array([5, 6, 8, 5, 0]))
    assert level.tolist() == [0, 0, 0, 2, 1]
    assert seen[4, :2].tolist() == [0, 0]  # nothing rented, nothing carried
