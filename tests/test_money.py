"""What an answer costs, against what its capacity costs, and who wins at which worth of quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_cases import GPU, GPU_USD_PER_H, HOSTED, OWN, case_of, hosted_profiles, unlimited
from questions import PROFILES, SCORES, write_question

from planner.case import Case, make_case
from planner.files.inputs import read_inputs
from planner.money import (
    exchange_rate,
    priced,
    reigns,
    request_usd,
    usd_per_token,
)
from planner.quality.scores import Scores, make_scores
from planner.spec.plan import FrontPoint, Plan, Price

BIG, SMALL = OWN
MODELS = ("llama-3.1-405b", "llama-3.1-70b", "llama-3.1-8b")


def scores_of(*class_names: str) -> Scores:
    """Scores of three models, of which the cases here serve two; nothing but the names counts."""
    codes = np.arange(len(class_names))
    return make_scores(class_names, MODELS, codes, np.full((len(class_names), 3), 0.5))


def test_prompts_stand_for_the_traffic_of_their_class(tmp_path: Path) -> None:
    """Three prompts of a class share its traffic, whatever the scores hold of the others."""
    case = case_of(tmp_path, unlimited())
    names = case.workload.class_names
    codes = np.array([0, 0, 0, 1])
    made = make_scores(names, MODELS, codes, np.full((4, 3), 0.5))
    weight = priced(case, made).weight
    assert weight[:3] == pytest.approx(np.full(3, case.workload.weights[0] / 3))
    assert weight.sum() == pytest.approx(1.0)


def hosted_case(folder: Path, price: float) -> Case:
    """Own GPUs and a hosted API of the large model."""
    profiles = hosted_profiles(folder, price, max_rps=50.0)
    question = unlimited(pools=[*OWN, HOSTED])
    return make_case(read_inputs(write_question(folder / "plan", question), profiles))


def test_a_replica_at_its_planned_load_is_paid_by_its_requests(tmp_path: Path) -> None:
    """One class alone: rate x money of a request is the rent, at the most that may be planned."""
    only_easy = unlimited(quality_at_least=None)
    del only_easy["classes"][1]
    scores = "\n".join(row for row in SCORES.splitlines() if not row.startswith("hard"))
    write_question(tmp_path, only_easy, scores)
    case = make_case(read_inputs(tmp_path, PROFILES))
    usd = request_usd(case)
    for p, n_gpus in enumerate((4, 1)):
        shape, table = case.workload.shapes[0][p], case.tables()[p]
        most_rps = case.models[p].capacity_rps(shape) * table.max_load * 0.9
        assert usd[0, p] * most_rps * 3600.0 == pytest.approx(n_gpus * GPU_USD_PER_H, rel=1e-6)


def test_a_hosted_request_costs_what_the_provider_charges(tmp_path: Path) -> None:
    case = hosted_case(tmp_path, price=2.0)
    p = case.workload.pool_names.index(HOSTED)
    for c, (n_input, n_output) in enumerate(((150.0, 180.0), (200.0, 400.0))):
        assert request_usd(case)[c, p] == pytest.approx((n_input + n_output) * 2e-6, rel=1e-3)


@pytest.mark.parametrize(("price", "own"), [(1e-4, False), (100.0, True)])
def test_the_cheapest_pool_of_a_model_counts(tmp_path: Path, price: float, own: bool) -> None:
    case = hosted_case(tmp_path, price)
    found = usd_per_token(case, scores_of("easy", "hard"), request_usd(case))
    pool = case.workload.pool_names.index(BIG if own else HOSTED)
    tokens = [row[pool].mean_output_tokens for row in case.workload.shapes]
    assert found[:, 1] == pytest.approx(request_usd(case)[:, pool] / tokens)


def test_classes_come_in_the_order_of_the_scores(tmp_path: Path) -> None:
    case = case_of(tmp_path, unlimited())
    one, two = usd_per_token(case, scores_of("easy", "hard"), request_usd(case))
    assert usd_per_token(case, scores_of("hard", "easy"), request_usd(case))[
        :, 1:
    ] == pytest.approx(np.array([two, one])[:, 1:])
    assert (one[1:] != two[1:]).all()


def test_models_that_no_pool_serves_are_left_out(tmp_path: Path) -> None:
    nan = np.nan
    grid = np.array([[0.1, 0.2, 0.3], [0.4, nan, nan], [0.5, 0.6, nan]])
    scores = make_scores(("easy", "hard"), MODELS, np.array([0, 1, 1]), grid, signals={"s": grid})
    case = case_of(tmp_path, unlimited())
    assert np.isnan(usd_per_token(case, scores, request_usd(case))[:, 0]).all()
    found = priced(case, scores)
    assert found.left_out == ("llama-3.1-405b",)
    assert found.left_out_score[:, 0].tolist() == [0.1, 0.5]
    assert found.scores.model_names == MODELS[1:]
    assert found.scores.prompt_ids == ("p000000", "p000002")  # the other one says nothing here
    assert found.usd_per_token == pytest.approx(
        usd_per_token(case, scores, request_usd(case))[:, 1:]
    )
    for values in (found.scores.score, found.scores.signals["s"]):
        assert np.array_equal(values, grid[[0, 2], 1:], equal_nan=True)
    assert found.scores.n_samples.tolist() == [[1, 1], [1, 0]]


def test_a_class_that_may_not_use_a_model_weighs_it_at_its_other_price(tmp_path: Path) -> None:
    question = unlimited(quality_at_least=None)
    question["classes"][0]["not_pools"] = [BIG]
    case = case_of(tmp_path, question)
    assert np.isnan(request_usd(case)[0, 0])
    scores = scores_of("easy", "hard")
    found = priced(case, scores).answer_usd
    large, small = (request_usd(case)[:, case.workload.pool_names.index(p)] for p in (BIG, SMALL))
    assert np.isnan(found[0, 0]) and found[1, 0] == large[1]
    assert found[:, 1].tolist() == small.tolist()
    found = usd_per_token(case, scores_of("easy", "hard", "unheard-of"), request_usd(case))
    assert found[0, 1] == found[1, 1] > 0
    assert np.isnan(found[2]).all()


def test_a_pool_of_which_no_replica_can_be_rented_has_no_price(tmp_path: Path) -> None:
    case = case_of(tmp_path, unlimited(stock={GPU: 3}))  # the large model takes four
    assert np.isnan(request_usd(case)[:, 0]).all()
    assert np.isfinite(request_usd(case)[:, 1]).all()


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=7
    )
)  # fmt: skip
def test_who_reigns_is_who_nets_most_at_every_rate(points: list[tuple[int, int]]) -> None:
    quality = np.array([q / 20 for q, _ in points])
    usd = np.array([float(money) for _, money in points])
    found = reigns(quality, usd)
    starts = [r.from_usd for r in found]
    assert starts[0] == 0.0 and starts == sorted(set(starts))
    for rate in np.linspace(0.0, 500.0, 211):
        last = [r for r in found if r.from_usd <= rate][-1]
        net = rate * quality - usd
        assert net[last.model] == pytest.approx(net.max(), abs=1e-6)
    assert len({r.model for r in found}) == len(found)


def test_who_has_no_price_never_reigns() -> None:
    quality, usd = np.array([0.9, 0.5]), np.array([np.nan, 1.0])
    assert [r.model for r in reigns(quality, usd)] == [1]
    assert reigns(quality[:1], usd[:1]) == ()


# ---- What quality is worth -----------------------------------------------------------------------


def point(
    usd: float, quality: float, chosen: bool = False, factor: float | None = None
) -> FrontPoint:
    return FrontPoint(
        deployment={BIG: 1}, cost_usd_per_h=usd, quality=quality, latency_ratio=None,
        latency_ms=None, rate_factor=factor, chosen=chosen,
    )  # fmt: skip


def plan_with(plan: Plan, *front: FrontPoint, price: float | None = None) -> Plan:
    """The plan with another front, at 100 requests/s, and with a price of its quality floor."""
    unit = "USD per hour per unit of quality"
    prices = () if price is None else (Price(what="quality", value=price, unit=unit),)
    at_100_rps = plan.predicted.model_copy(update={"rate_rps": 100.0})
    changes = {"front": front, "prices": prices, "predicted": at_100_rps}
    return plan.model_copy(update=changes)


def test_the_cheapest_step_up_says_what_quality_is_worth(demo_plan: Plan) -> None:
    """$36/h for .02 at 100 requests/s is $0.005 for a unit of quality of one answer."""
    front = (
        point(39, 0.61),  # better and cheaper: slower, or it would have been chosen
        point(20, 0.5),
        point(40, 0.6, True),
        point(76, 0.62),
        point(140, 0.65),
        point(90, 0.6),
    )
    found = exchange_rate(plan_with(demo_plan, *front, price=1.0))
    assert found is not None and found.usd == pytest.approx(0.005)
    assert found.why == "the next better choice of the plan is $36.00/h for 2.00 points more"


def test_without_a_better_choice_the_price_of_the_floor_says_it(demo_plan: Plan) -> None:
    best = (point(20, 0.5), point(40, 0.6, True))
    found = exchange_rate(plan_with(demo_plan, *best, price=3600.0))
    assert found is not None and found.usd == pytest.approx(0.01)
    assert exchange_rate(plan_with(demo_plan, *best)) is None


def test_points_at_other_rates_are_no_steps(demo_plan: Plan) -> None:
    front = (point(40, 0.6, True, factor=1.0), point(76, 0.62, factor=1.5))
    assert exchange_rate(plan_with(demo_plan, *front)) is None
