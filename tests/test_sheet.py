"""The serving sheet: the plan's own figures, the simulator's own steps, and work that scales."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cascade_options import option
from hand_plan import BIG, ROOT, SMALL
from made_cases import HOSTED, OWN, hosted_profiles
from questions import inputs_of, small, write_question

from planner.answer import make_answer, make_provenance
from planner.case import make_case
from planner.files.inputs import read_inputs
from planner.files.plans import need_plan, plan_hash
from planner.files.sheets import sheet_text
from planner.gate.plan.sheet import sheet_findings
from planner.latency.steplaw import StepLaw
from planner.objectives import make_objectives
from planner.ordered import Rescored, rescore
from planner.periods.cases import inputs_in, spans_of
from planner.settle import settle
from planner.sheet import _delay_price_per_s, _knots, make_sheet
from planner.simulate.engines import step_times
from planner.simulate.settings import StepTimes
from planner.simulate.units import PS_PER_MS
from planner.spec.inputs import Inputs
from planner.spec.plan import PeriodPlan, PeriodsPlan, Plan, Price
from planner.spec.sheet import PoolSheet, ServingSheet, StepKnots

WITHIN = 0.005


def settled_plan(inputs: Inputs, n: tuple[int, ...], **cascades: Any) -> Plan:
    """A plan of a question with given replicas, its shares solved, nothing searched."""
    objectives = make_objectives(make_case(inputs, **cascades))
    settled = settle(objectives, np.array(n, dtype=np.int64))
    provenance = make_provenance("by hand", 0, "none", 1, inputs.hashes)
    return make_answer(objectives.case, settled, [settled], ["made"], provenance, True)


def load_of(sheet: ServingSheet, plan: Plan, pool: str) -> float:
    """Utilisation of a pool by the sheet's work and the plan's routes alone."""
    each, total = sheet.pools[pool], 0.0
    for route in plan.routing:
        if route.pool == pool:
            cls = sheet.classes[route.class_name]
            total += cls.rate_rps * route.share * cls.answers[pool].work_s
    for cascade in plan.cascades:
        cls = sheet.classes[cascade.class_name]
        for part, stage in ((1.0, cascade.first), (cascade.escalated_ratio, cascade.second)):
            visits = sum(e.share for e in stage if e.pool == pool) * part * cascade.share
            if visits:
                total += cls.rate_rps * visits * cls.answers[pool].work_s
    return total / each.n_replicas / each.max_load_ratio


# ---- Figures -------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_plan(demo_plan: Plan, demo_sheet: ServingSheet) -> None:
    said = demo_plan.predicted
    assert demo_sheet.plan_hash == plan_hash(demo_plan)
    assert demo_sheet.quality == said.quality
    assert {n: c.rate_rps for n, c in demo_sheet.classes.items()} == said.class_rps
    assert {n: c.quality for n, c in demo_sheet.classes.items()} == said.class_quality
    for figure in said.pools:
        pool = demo_sheet.pools[figure.pool]
        assert pool.rate_rps == pytest.approx(figure.rate_rps, abs=1e-6)
        assert pool.utilisation_ratio == pytest.approx(figure.utilisation_ratio, abs=1e-6)
    for f in said.latency:
        cls = demo_sheet if f.class_name is None else demo_sheet.classes[f.class_name]
        found = [e for e in cls.latency if (e.metric, e.statistic) == (f.metric, f.statistic)]
        assert [(e.ms, e.low_ms, e.high_ms) for e in found] == [(f.ms, f.low_ms, f.high_ms)]


def test_the_work_of_all_requests_is_the_utilisation(
    demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    for name, pool in demo_sheet.pools.items():
        assert load_of(demo_sheet, demo_plan, name) == pytest.approx(
            pool.utilisation_ratio, rel=2e-5
        )


def test_every_class_has_its_usual_latencies_and_only_deployed_pools(
    demo_sheet: ServingSheet,
) -> None:
    usual = set(itertools.product(("ttft", "tpot", "e2e"), ("mean", "p50", "p95")))
    for cls in demo_sheet.classes.values():
        assert usual <= {(e.metric, e.statistic) for e in cls.latency}
        assert cls.answers.keys() == {BIG, SMALL}
        for each in cls.latency:
            assert each.low_ms <= each.ms <= each.high_ms
    gsm = demo_sheet.classes["gsm"]
    assert (gsm.input_tokens, gsm.answers[SMALL].output_tokens) == (136.98, 211.0)
    assert gsm.mean_rate_rps < gsm.rate_rps  # a schedule, planned at its busiest five minutes
    assert demo_sheet.rate_varies


def test_the_same_inputs_give_the_same_text(
    demo_inputs: Inputs, demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    assert sheet_text(make_sheet(demo_inputs, demo_plan)) == sheet_text(demo_sheet)


def test_the_committed_sheet_is_that_of_the_committed_plan(demo_inputs: Inputs) -> None:
    folder = ROOT / "tests" / "demo_plan"
    written = ServingSheet.model_validate_json((folder / "serving.json").read_text())
    plan = need_plan(folder)
    assert sheet_findings(plan, written, lambda: make_sheet(demo_inputs, plan)) == []


# ---- Steps ---------------------------------------------------------------------------------------


def worst_error(knots: StepKnots, steps: StepTimes) -> float:
    n, errors = np.arange(len(steps.decode_ps)), [0.0]
    for told, true_ps in (
        (knots.decode_ms, steps.decode_ps),
        (knots.context_token_ms, steps.context_ps),
    ):
        true_ms = np.array(true_ps) / PS_PER_MS
        assert (true_ms > 0).all()
        errors.append(float(np.abs(np.interp(n, knots.n, told) / true_ms - 1.0).max()))
    return max(errors)


def test_steps_between_knots_are_those_of_the_simulator(demo_inputs: Inputs) -> None:
    case = make_case(demo_inputs)
    for model in case.models:
        assert model.law is not None
        for n_ranks in (1, 4):
            steps = step_times(model.law, model.max_num_seqs // n_ranks, n_ranks)
            knots = _knots(steps)
            assert knots.n[-1] == model.max_num_seqs // n_ranks
            assert len(knots.n) < 40
            assert worst_error(knots, steps) < WITHIN


@pytest.mark.parametrize("max_num_seqs", [1, 2, 3, 7, 64, 100])
def test_any_number_of_places_has_its_knots(max_num_seqs: int) -> None:
    law = StepLaw(5.0, 0.05, 1e-5, 0.02, 3.0)
    steps = step_times(law, max_num_seqs)
    knots = _knots(steps)
    assert (knots.n[0], knots.n[-1]) == (0, max_num_seqs)
    assert worst_error(knots, steps) < WITHIN


def test_the_engine_is_the_one_that_is_simulated(demo_sheet: ServingSheet) -> None:
    pool = demo_sheet.pools[SMALL]
    assert (pool.max_num_seqs, pool.n_ranks, pool.max_num_batched_tokens) == (512, 1, 8192)
    assert pool.request_ms > 0 and pool.prompt_token_ms > 0
    assert pool.kv_capacity_tokens is not None and pool.kv_capacity_tokens % 16 == 0
    assert pool.low_ratio < 1 < pool.high_ratio
    assert pool.steps is not None
    assert list(pool.steps.decode_ms) == sorted(pool.steps.decode_ms)


def test_a_data_parallel_replica_is_told_rank_by_rank(demo_inputs: Inputs, demo_plan: Plan) -> None:
    in_ranks = tuple(
        replace(p, pool=p.pool.model_copy(update={"data_parallel": 2})) if p.name == SMALL else p
        for p in demo_inputs.candidates
    )
    inputs = replace(demo_inputs, candidates=in_ranks)
    model = next(m for m in make_case(inputs).models if m.profile.name == SMALL)
    rank = make_sheet(inputs, demo_plan).pools[SMALL]
    assert (rank.n_ranks, rank.max_num_seqs) == (2, model.max_num_seqs // 2)
    assert rank.kv_capacity_tokens == pytest.approx(model.memory.kv_capacity_tokens / 2, abs=16)
    assert model.law is not None and rank.steps is not None
    assert rank.prompt_token_ms == pytest.approx(2 * model.law.prompt_token_ms, rel=1e-5)
    assert worst_error(rank.steps, step_times(model.law, model.max_num_seqs // 2, 2)) < WITHIN


def test_prices_and_routers_know_a_model_by_its_name_in_the_scores(
    demo_inputs: Inputs, demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    renamed = {
        p.name: {"model_name": "build", "scores_model_name": p.pool.model_name}
        for p in demo_inputs.candidates
    }
    scored = tuple(
        replace(p, pool=p.pool.model_copy(update=renamed[p.name])) for p in demo_inputs.candidates
    )
    sheet = make_sheet(replace(demo_inputs, candidates=scored), demo_plan)
    for name, pool in sheet.pools.items():
        assert pool.scored_as == demo_sheet.pools[name].scored_as == pool.scores_model_name
        assert demo_sheet.pools[name].scores_model_name is None


# ---- Work at other lengths -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "ratio"),
    [
        ("output", 1.3),
        pytest.param("input", 1.3, marks=pytest.mark.slow),
        pytest.param("output", 0.75, marks=pytest.mark.slow),
    ],
)
def test_work_at_other_lengths_is_near_what_the_tables_say(
    tmp_path: Path, side: str, ratio: float
) -> None:
    """All classes a third longer or a quarter shorter: the utilisation is within 2 %."""
    lengths = {"input": 200.0, "output": 300.0}

    def question(factor: float) -> dict[str, Any]:
        question = small()
        for cls, (name, mean) in itertools.product(question["classes"], lengths.items()):
            times = factor if name == side else 1.0
            cls[f"{name}_tokens"] = {"mean": mean * times, "cv": 0.5}
        return question

    before, after = (inputs_of(tmp_path / str(f), question(f)) for f in (1.0, ratio))
    plan = settled_plan(before, (1, 1))
    sheet, again = make_sheet(before, plan), rescore(make_case(after), plan)
    for pool, each in sheet.pools.items():
        total = 0.0
        for route in plan.routing:
            cls = sheet.classes[route.class_name]
            answer = cls.answers[pool] if route.pool == pool else None
            if answer is not None:
                more = getattr(answer, f"{side}_tokens") * (ratio - 1.0)
                work_s = answer.work_s + more * getattr(answer, f"work_s_per_{side}_token")
                total += cls.rate_rps * route.share * work_s
        predicted = total / each.n_replicas / each.max_load_ratio
        truth = float(again.score.utilisation[again.workload.pool_names.index(pool)])
        assert predicted == pytest.approx(truth, rel=0.02)
        assert predicted != pytest.approx(each.utilisation_ratio, rel=0.02)


# ---- Other pools, cascades, periods --------------------------------------------------------------


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> PoolSheet:
    folder = tmp_path_factory.mktemp("hosted")
    question = small(pools=[HOSTED, *OWN])
    for cls in question["classes"]:
        del cls["limits"]
    profiles = hosted_profiles(folder, price=0.4, max_rps=50.0)
    inputs = read_inputs(write_question(folder / "plan", question), profiles)
    plan = settled_plan(inputs, (1, 0, 1))
    return make_sheet(inputs, plan).pools[HOSTED]


def test_a_hosted_pool_has_prices_and_no_steps(hosted: PoolSheet) -> None:
    assert hosted.is_hosted
    assert (hosted.usd_per_million_output_tokens, hosted.max_rps) == (0.4, 50.0)
    assert hosted.usd_per_h == 0.0
    assert (hosted.steps, hosted.max_num_seqs, hosted.ttft_ms) == (None, None, None)
    assert (hosted.low_ratio, hosted.high_ratio) == (1.0, 1.0)  # nothing is predicted


def test_both_stages_of_a_cascade_are_work(tmp_path: Path) -> None:
    options = (option(), option("easy", quality=0.88, escalated_ratio=0.2))
    inputs = inputs_of(tmp_path, small(quality_at_least=0.8))
    plan = settled_plan(inputs, (1, 1), cascades=options)
    assert plan.cascades
    sheet = make_sheet(inputs, plan, options)
    for name, pool in sheet.pools.items():
        assert load_of(sheet, plan, name) == pytest.approx(pool.utilisation_ratio, rel=2e-5)
    assert sheet.quality == plan.predicted.quality


def of_periods(night: Plan, day: Plan) -> PeriodsPlan:
    """Two plans as the periods of one."""
    each = tuple(
        PeriodPlan(
            name=name,
            start_h=start_h,
            end_h=end_h,
            n_changes=0,
            paid_usd_per_h=plan.predicted.cost_usd_per_h,
            deployment=plan.deployment,
            routing=plan.routing,
            prices=plan.prices,
            predicted=plan.predicted,
        )
        for name, start_h, end_h, plan in (("night", 0.0, 8.0, night), ("day", 8.0, 24.0, day))
    )
    money = ("total", "reserved", "by_the_hour", "hosted", "changes")
    return PeriodsPlan.model_validate(
        {
            **dict.fromkeys((f"{name}_usd" for name in money), 0.0),
            "n_hours": 24.0,
            "repeats": True,
            "usd_per_replica_change": 0.0,
            "cost_usd_per_h": 0.0,
            "reserved": (),
            "bound": None,
            "busiest": "day",
            "each": each,
        }
    )


def test_of_a_day_it_is_that_of_the_busiest_period(tmp_path: Path) -> None:
    spans = [
        {"name": "night", "hours": [0, 8], "rate_factor": 0.2},
        {"name": "day", "hours": [8, 24], "rate_factor": 1.0},
    ]
    inputs = inputs_of(tmp_path, small(periods={"spans": spans}))
    night, day = (settled_plan(inputs_in(inputs, span), (1, 1)) for span in spans_of(inputs.files))
    plan = day.model_copy(update={"periods": of_periods(night, day)})
    sheet = make_sheet(inputs, plan)
    assert sheet.period == "day"
    assert sheet.rate_varies
    assert {n: c.rate_rps for n, c in sheet.classes.items()} == {"easy": 24.0, "hard": 8.0}
    for figure in plan.predicted.pools:
        assert sheet.pools[figure.pool].rate_rps == pytest.approx(figure.rate_rps, abs=1e-6)


# ---- What a delay is worth -----------------------------------------------------------------------


def priced(plan: Plan, *prices: tuple[str, float, str]) -> Plan:
    made = tuple(Price(what=what, value=value, unit=unit) for what, value, unit in prices)
    return plan.model_copy(update={"prices": made})


@pytest.fixture(scope="module")
def again(demo_inputs: Inputs, demo_plan: Plan) -> Rescored:
    return rescore(make_case(demo_inputs), demo_plan)


TAIL = "quality per ratio of requests above the limit"


def test_a_delay_costs_what_the_limits_price_times_the_density_there(
    demo_plan: Plan, again: Rescored
) -> None:
    """By moving the limit: one second less of it lets so many more requests be late."""
    limited = priced(demo_plan, ("limit:p95 e2e of gsm", 2.0, TAIL))
    found = _delay_price_per_s(again, limited)
    at_s, late = 10.0, []
    for half_s in (-0.5, 0.5):
        share = 0.0
        for pool, part in ((BIG, 0.6), (SMALL, 0.4)):
            p = again.workload.pool_names.index(pool)
            table = again.tables[p]
            curve = table.survival_at("e2e", float(again.score.loads[p]))[0]
            log_t = np.log(table.times_ms["e2e"])
            share += part * float(np.interp(np.log(1000 * (at_s + half_s)), log_t, curve))
        late.append(share)
    assert found == pytest.approx(2.0 * (late[0] - late[1]), rel=0.02)
    assert found > 0


@pytest.mark.parametrize(
    "price",
    [
        ("limit:p95 tpot of crux", 2.0, TAIL),  # no wait changes the time per token
        ("limit:p95 e2e of gsm", 2.0, "USD per hour per ratio of requests above the limit"),
        (f"load:{BIG}", 2.0, "quality per replica-second per second"),
    ],
)
def test_what_has_no_price_in_quality_makes_no_delay_dear(
    demo_plan: Plan, again: Rescored, price: tuple[str, float, str]
) -> None:
    assert _delay_price_per_s(again, priced(demo_plan, price)) == 0.0


def test_a_limit_on_a_mean_is_priced_by_the_second(tmp_path: Path) -> None:
    limit = {"metric": "e2e", "statistic": "mean", "at_most_ms": 60000}
    inputs = inputs_of(tmp_path, small(limits=[limit]))
    plan = priced(
        settled_plan(inputs, (1, 1)), ("limit:mean e2e of all traffic", 0.002, "quality per ms")
    )
    assert make_sheet(inputs, plan).delay_price_per_s == 2.0
