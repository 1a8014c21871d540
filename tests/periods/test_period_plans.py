"""Whole plans of a day: what the files say, what a person reads, what check and diff make of it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import period_questions
import pytest
from period_questions import day_of
from questions import inputs_of, small

from planner.errors import Infeasible, InputError
from planner.files.plans import plan_hash, plan_text, routes_of
from planner.gate.check import check
from planner.gate.diff import diff
from planner.periods import search
from planner.periods.single import single_period
from planner.plan import make_plan
from planner.report.console import make_console
from planner.report.data import diff_data
from planner.report.diff import render_diff
from planner.report.periods import gpu_plot
from planner.report.plan import render_plan
from planner.sheet import make_sheet
from planner.spec.inputs import Inputs
from planner.spec.plan import PeriodsPlan, Plan, ReservedGpus


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return day_of(tmp_path_factory.mktemp("day"), 0.15, 1.0, 0.45, change_usd=1.0)


@pytest.fixture(scope="module")
def plan(day: Inputs) -> Plan:
    return make_plan(day, "quick")


@pytest.fixture(scope="module")
def periods(plan: Plan) -> PeriodsPlan:
    assert plan.periods is not None
    return plan.periods


def codes(inputs: Inputs, plan: Plan) -> set[tuple[str, str]]:
    """Codes and places of errors, routes.json taken from the plan itself."""
    found = check(inputs, plan, routes_of(plan))
    return {(f.code, f.where) for f in found if f.severity == "error"}


def changed(plan: Plan, **update: object) -> Plan:
    assert plan.periods is not None
    return plan.model_copy(update={"periods": plan.periods.model_copy(update=update)})


def with_first(plan: Plan, **update: object) -> Plan:
    """The plan with something changed in its first period."""
    assert plan.periods is not None
    first, *rest = plan.periods.each
    return changed(plan, each=(first.model_copy(update=update), *rest))


def test_a_day_is_clean_when_it_was_just_planned(day: Inputs, plan: Plan) -> None:
    assert check(day, plan, routes_of(plan), sheet=make_sheet(day, plan)) == ()


def test_money_adds_up(periods: PeriodsPlan) -> None:
    parts = periods.reserved_usd + periods.by_the_hour_usd + periods.hosted_usd
    assert periods.total_usd == pytest.approx(parts + periods.changes_usd, abs=1e-4)
    by_hand = sum(p.predicted.cost_usd_per_h * p.n_hours for p in periods.each)
    assert periods.by_the_hour_usd == pytest.approx(by_hand, abs=0.01)
    assert periods.changes_usd == sum(p.n_changes for p in periods.each) > 0
    assert periods.cost_usd_per_h == pytest.approx(periods.total_usd / 24, abs=1e-4)
    assert periods.bound is not None
    assert periods.bound.best_possible <= periods.bound.value
    assert periods.held_usd is not None
    assert periods.held_usd > periods.total_usd


def test_the_front_of_the_file_is_the_busiest_period(plan: Plan, periods: PeriodsPlan) -> None:
    busiest = next(p for p in periods.each if p.name == periods.busiest == "day")
    assert plan.deployment == busiest.deployment
    assert plan.predicted == busiest.predicted
    assert plan.simulated is not None


def test_files_come_back_as_they_were(plan: Plan) -> None:
    assert Plan.model_validate_json(plan_text(plan)) == plan
    routes = routes_of(plan)
    assert [r.name for r in routes.periods] == ["night", "day", "evening"]
    assert routes.periods[1].classes == routes.classes
    assert type(routes).model_validate(routes.model_dump(by_alias=True)) == routes


@pytest.mark.slow
def test_plans_without_periods_say_nothing_of_them(tmp_path: Path) -> None:
    plan = make_plan(inputs_of(tmp_path, small()), "quick", "local")
    assert "periods" not in plan_text(plan)
    assert "periods" not in routes_of(plan).model_dump(mode="json", by_alias=True)
    assert any(f.code == "periods" for f in check(day_of(tmp_path / "day"), plan, None))


def test_a_person_reads_hours_gpus_and_money_in_80_columns(plan: Plan) -> None:
    stream = io.StringIO()
    render_plan(plan, make_console(stream, 80))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("What to rent when", "GPUs in use, hour by hour", "What 24 hours cost"):
        assert part in text
    assert "one deployment held for all hours costs" in text
    assert "The busiest period, day" in text


def test_the_plot_has_as_many_cells_as_there_are_gpu_hours(periods: PeriodsPlan) -> None:
    rows = gpu_plot(periods)
    cells = sum(row.count("█") for row in rows[:-1])
    gpu_hours = sum(d.n_gpus * p.n_hours for p in periods.each for d in p.deployment)
    assert cells == 2 * gpu_hours  # two columns an hour, a row a GPU
    assert rows[-2].split() == ["0", "6", "12", "18", "24", "h"]


def test_another_deployment_of_a_period_is_found(day: Inputs, plan: Plan) -> None:
    assert plan.periods is not None
    night = plan.periods.each[0]
    row = night.deployment[0]
    more = row.model_copy(update={"replicas": row.replicas + 1})
    found = codes(day, with_first(plan, deployment=(more, *night.deployment[1:])))
    assert {code for code, _ in found} >= {"deployment-row", "periods", "prediction-drift"}
    assert any(where.startswith("plan.json:periods[night].deployment") for _, where in found)


@pytest.mark.parametrize(
    ("update", "where"),
    [
        ({"total_usd": 1.0}, "total_usd"),
        ({"changes_usd": 0.0}, "changes_usd"),
        ({"cost_usd_per_h": 1.0}, "cost_usd_per_h"),
        ({"busiest": "night"}, "busiest"),
        ({"held_usd": 1.0}, "held_usd"),
        ({"repeats": False}, "repeats"),
        ({"usd_per_replica_change": 5.0}, "usd_per_replica_change"),
        ({"n_hours": 12.0}, "n_hours"),
    ],
)
def test_wrong_money_and_other_questions_are_found(
    day: Inputs, plan: Plan, update: dict[str, object], where: str
) -> None:
    assert ("periods", f"plan.json:periods.{where}") in codes(day, changed(plan, **update))


def test_a_bound_that_lies_is_found(day: Inputs, plan: Plan, periods: PeriodsPlan) -> None:
    assert periods.bound is not None
    bound = periods.bound.model_copy(update={"best_possible": periods.bound.value * 1.1})
    assert ("periods", "plan.json:periods.bound") in codes(day, changed(plan, bound=bound))
    other = periods.bound.model_copy(update={"objective": "quality"})
    where = "plan.json:periods.bound.objective"
    assert ("periods", where) in codes(day, changed(plan, bound=other))


def test_missed_limits_and_wrong_changes_are_found(day: Inputs, plan: Plan) -> None:
    wrong = with_first(plan, n_changes=7, paid_usd_per_h=1.0, missed=("p95 e2e of easy",))
    found = codes(day, wrong)
    assert ("periods", "plan.json:periods[night].paid_usd_per_h") in found
    assert ("periods", "plan.json:periods[night].n_changes") in found
    assert ("simulated", "plan.json:periods[night].missed") in found
    assert wrong.contradicted
    assert not plan.contradicted


def test_what_is_wrong_names_its_period_and_is_said_once(
    day: Inputs, plan: Plan, periods: PeriodsPlan
) -> None:
    night, busy, evening = periods.each
    small_one = {name: getattr(night, name) for name in ("deployment", "routing", "predicted")}
    found = codes(day, changed(plan, each=(night, busy.model_copy(update=small_one), evening)))
    assert ("limit", "p95 e2e of easy in period day") in found
    missed = {"missed": ("p95 e2e of easy",)}
    both = (night.model_copy(update=missed), busy, evening.model_copy(update=missed))
    found = codes(day, changed(plan, each=both))
    assert found == {("simulated", "plan.json:periods[night].missed and 1 more")}


def test_more_reserved_gpus_than_there_are_are_found(day: Inputs, plan: Plan) -> None:
    kept = (ReservedGpus(gpu="h100-sxm-80g", n_gpus=9999, usd_per_h=1.0),)
    assert ("supply", "plan.json:periods.reserved") in codes(day, changed(plan, reserved=kept))


@pytest.mark.slow
def test_money_adds_up_where_gpus_are_reserved(tmp_path: Path) -> None:
    supply = [
        {"gpu": "h100-sxm-80g", "count": 8, "usd_per_h": 3.0},
        {"gpu": "h100-sxm-80g", "count": 3, "usd_per_h": 1.6, "kind": "reserved"},
        {"gpu": "h100-sxm-80g", "count": 2, "usd_per_h": 1.2, "kind": "spot"},
    ]
    asked = period_questions.periods(0.15, 1.0, 0.45, usd_per_replica_change=1.0)
    inputs = inputs_of(tmp_path, small(periods=asked, supply=supply, stock=None))
    plan = make_plan(inputs, "quick")
    made = plan.periods
    assert made is not None
    assert made.reserved_usd > 0
    assert made.reserved_usd == pytest.approx(24 * made.reserved[0].usd_per_h)
    by_hand = sum(p.paid_usd_per_h * p.n_hours for p in made.each)
    assert made.total_usd == pytest.approx(by_hand + made.changes_usd, abs=0.01)
    assert check(inputs, plan, routes_of(plan)) == ()
    stream = io.StringIO()
    render_plan(plan, make_console(stream, 80))
    assert "with all reserved GPUs, used or not" in stream.getvalue()
    twice = made.model_copy(update={"reserved": made.reserved * 2})
    found = codes(inputs, plan.model_copy(update={"periods": twice}))
    assert ("duplicate", "plan.json:periods.reserved") in found


@pytest.mark.slow
def test_a_budget_is_held_against_the_mean(day: Inputs, plan: Plan, tmp_path: Path) -> None:
    assert plan.periods is not None
    mean = plan.periods.cost_usd_per_h
    for budget, is_over in ((mean + 0.01, False), (mean - 0.01, True)):
        question = day.question.model_copy(update={"budget_usd_per_h": budget})
        inputs = replace(day, files=replace(day.files, question=question))
        assert any(code == "budget" for code, _ in codes(inputs, plan)) == is_over
        if is_over:
            with pytest.raises(Infeasible, match="over all periods the budget"):
                make_plan(inputs, "quick")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_search_leaves_the_best_path_so_far(day: Inputs) -> None:
    plan = make_plan(day, "quick", on_trial=interrupted)
    assert not plan.complete
    assert plan.periods is not None
    assert plan.periods.bound is None
    found = check(day, plan, routes_of(plan))
    assert [(f.severity, f.code) for f in found] == [("warning", "incomplete")]


def test_a_search_interrupted_before_it_found_anything_has_no_plan(
    day: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "best_of_period", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_plan(day, "quick")


@pytest.mark.slow
def test_an_unservable_period_is_named(tmp_path: Path) -> None:
    with pytest.raises(Infeasible, match="in period day"):
        make_plan(day_of(tmp_path, 0.2, 40.0, 0.5), "quick")


def test_methods_of_one_period_are_refused(day: Inputs) -> None:
    with pytest.raises(InputError, match="one period at a time"):
        make_plan(day, "quick", "local")


def test_the_runtime_and_the_diff_see_every_period(plan: Plan) -> None:
    assert plan.periods is not None
    night = plan.periods.each[0]
    row = night.deployment[0]
    other = with_first(
        plan, deployment=(row.model_copy(update={"replicas": 9}), *night.deployment[1:])
    )
    assert plan_hash(other) != plan_hash(plan)
    assert diff(plan, plan).empty
    found = diff(plan, other)
    assert not found.empty
    assert [(p.name, p.pools[0].n_new) for p in found.periods] == [("night", 9)]
    kept = (ReservedGpus(gpu="h100-sxm-80g", n_gpus=2, usd_per_h=3.2),)
    assert [(c.name, c.new) for c in diff(plan, changed(plan, reserved=kept)).reserved] == [
        ("h100-sxm-80g", 2)
    ]
    assert not diff(plan, changed(plan, reserved=kept)).empty
    assert diff_data(found)["periods_usd"]
    stream = io.StringIO()
    render_diff(found, make_console(stream, 80))
    assert "differs: 1 period" in stream.getvalue()


def test_one_period_can_be_looked_at_alone(day: Inputs, plan: Plan) -> None:
    inputs, alone, routes = single_period(day, plan, "night")
    assert alone.periods is None
    assert routes.plan_hash == plan_hash(alone)
    assert [c.rate_rps for c in inputs.question.classes] == pytest.approx([3.6, 1.2])
    assert single_period(day, plan)[1].predicted == plan.predicted
    with pytest.raises(InputError, match="is no period"):
        single_period(day, plan, "noon")
    none = replace(day, files=replace(day.files, question=inputs.question))
    with pytest.raises(InputError, match="the question has no periods"):
        single_period(none, plan, "night")
