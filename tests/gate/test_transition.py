"""The way from one plan to another: what its steps are, what they rest on, what is said of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hand_plan import BIG, SHARES, SMALL, hand_plan
from questions import inputs_of, small
from small_plans import Kind, small_plan
from test_cascade_plans import OPTIONS, made

from planner.gate.way.judges import ByFigures, ByNothing
from planner.gate.way.members import as_it_was, members_of
from planner.gate.way.steps import Transition
from planner.gate.way.tables import ByTables
from planner.gate.way.terms import sides_of, terms_of
from planner.gate.way.transition import transition, transition_of
from planner.ordered import case_of, rescore
from planner.plan import make_plan
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.question import Limit, Robust, Supply

B200 = "llama-3.1-70b-b200-tp2"
ELSEWHERE = {(c, B200 if p == BIG else p): share for (c, p), share in SHARES.items()}


def told(way: Transition) -> list[tuple[str, list[tuple[str, int, int]]]]:
    return [(s.kind, [(p.pool, p.n_before, p.n_after) for p in s.pools]) for s in way.steps]


def asked(inputs: Inputs, **update: object) -> Inputs:
    question = inputs.question.model_copy(update=update)
    return replace(inputs, files=replace(inputs.files, question=question))


@pytest.fixture(scope="module")
def elsewhere(demo_inputs: Inputs) -> Plan:
    """The demo's plan with its big model on other GPUs, and one small replica more."""
    return hand_plan(demo_inputs, {B200: 6, SMALL: 2}, ELSEWHERE)


# ---- Judged by the tables ------------------------------------------------------------------------


def test_start_shift_stop(demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan) -> None:
    way = transition_of(demo_plan, elsewhere, demo_inputs, demo_inputs)
    assert told(way) == [
        ("start", [(B200, 0, 6), (SMALL, 1, 2)]),
        ("shift", []),
        ("stop", [(BIG, 6, 0)]),
    ]
    assert [s.shifted_ratio for s in way.steps] == [0.0, 1.0, 1.0]
    assert (way.judged_by, way.is_safe, way.needs) == ("tables", True, ())
    assert way.steps[0].gpus == {"h100-sxm-80g": 26.0, "b200-sxm-180g": 12.0}
    assert [(p.gpu, p.old, p.new, p.peak, p.stock) for p in way.peak_gpus] == [
        ("b200-sxm-180g", 0.0, 12.0, 12.0, 32.0),
        ("h100-sxm-80g", 25.0, 2.0, 26.0, 32.0),
    ]
    assert way.peak_gpus[1].extra == 1.0


@pytest.mark.parametrize("has_old_inputs", [True, False])
def test_the_ends_are_judged_as_the_plans_are(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan, has_old_inputs: bool
) -> None:
    """By `rescore`, which knows nothing of states between plans."""
    before = demo_inputs if has_old_inputs else None
    judge = ByTables(sides_of(demo_plan, elsewhere, demo_inputs, before))
    for x, plan in ((0.0, demo_plan), (1.0, elsewhere)):
        n = [m.n_new if x else m.n_old for m in judge.members]
        found = judge.verdict(x, n)
        scored = rescore(case_of(demo_inputs, plan), plan).score
        assert found.problems == scored.problems == () and found.holds
        assert found.utilisation_ratio == pytest.approx(scored.utilisation.max(), rel=1e-5)
        assert found.latency_ratio == pytest.approx(scored.latency_ratio, rel=1e-5)


def test_between_the_ends_loads_are_mixed(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    judge = ByTables(sides_of(demo_plan, elsewhere, demo_inputs, demo_inputs))
    n = [max(m.n_old, m.n_new) for m in judge.members]
    loads = [judge.verdict(x, n) for x in (0.0, 0.5, 1.0)]
    used = [v.utilisation_ratio or 0.0 for v in loads]
    assert used[1] < 0.7 * max(used[0], used[2])  # half of it on each of the big pools
    fewer = [k if m.name == SMALL else 3 for k, m in zip(n, judge.members, strict=True)]
    assert judge.verdict(0.5, fewer).holds and not judge.verdict(0.0, fewer).holds


def test_a_plan_that_does_not_hold_is_no_safe_end(demo_inputs: Inputs, demo_plan: Plan) -> None:
    worse = {**SHARES, ("gsm", BIG): 0.3, ("gsm", SMALL): 0.7}
    bad = hand_plan(demo_inputs, {BIG: 5, SMALL: 4}, worse)
    way = transition_of(demo_plan, bad, demo_inputs, demo_inputs)
    assert way.is_safe is False
    assert any(text.startswith("a new plan that holds by itself: quality is") for text in way.needs)
    assert [s.holds for s in way.steps] == [True, False, False]
    assert "floor" in way.steps[1].problems[0]
    back = transition_of(bad, demo_plan, demo_inputs, demo_inputs)
    assert back.is_safe is True  # out of it is a safe way, if there are GPUs enough
    assert back.begins_broken and not way.begins_broken
    assert any(note.startswith("the old plan itself does not hold") for note in back.notes)


def test_until_the_last_shift_the_looser_promises_hold(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    """A tighter floor, a tighter headroom and a new limit are of the new plan: not kept before."""
    tighter = asked(
        demo_inputs,
        quality_at_least=demo_plan.predicted.quality,
        headroom_ratio=0.3,
        limits=(
            *demo_inputs.question.limits,
            Limit(metric="ttft", statistic="p95", at_most_ms=1.0),
        ),
    )
    judge = ByTables(sides_of(demo_plan, elsewhere, tighter, demo_inputs))
    n = [max(m.n_old, m.n_new) for m in judge.members]
    assert judge.verdict(0.0, n).holds
    end = judge.verdict(1.0, n)
    assert not end.holds and any("p95 ttft" in text for text in end.problems)
    assert "until the last shift held to the looser limits and floors of both plans" in judge.notes
    looser = ByTables(sides_of(elsewhere, demo_plan, demo_inputs, tighter))
    n = [max(m.n_old, m.n_new) for m in looser.members]
    assert looser.verdict(0.0, n).holds and looser.verdict(1.0, n).holds


@pytest.mark.parametrize("tighter_is_new", [True, False])
def test_each_promise_is_the_looser_one_until_the_last_shift(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan, tighter_is_new: bool
) -> None:
    classes = demo_inputs.question.classes
    floor = {classes[0].name: (0.5, 0.6), classes[1].name: (None, 0.6)}
    loose, tight = (
        asked(
            demo_inputs,
            quality_at_least=quality,
            headroom_ratio=headroom,
            classes=tuple(
                c.model_copy(update={"quality_at_least": floor.get(c.name, (None, None))[k]})
                for c in classes
            ),
        )
        for k, quality, headroom in ((0, 0.65, 0.1), (1, 0.7, 0.3))
    )
    new, old = (tight, loose) if tighter_is_new else (loose, tight)
    sides = sides_of(demo_plan, elsewhere, new, old)
    members = members_of(demo_plan, elsewhere, frozenset())
    way, end = terms_of(members, sides, as_it_was(demo_plan, members))
    assert way.allowed_ratio == pytest.approx(0.9)
    assert way.case.workload.quality_at_least == 0.65
    assert way.case.workload.class_quality_at_least[0] == 0.5
    assert np.isnan(way.case.workload.class_quality_at_least[1])  # one plan promises nothing
    assert end.allowed_ratio == pytest.approx(0.7 if tighter_is_new else 0.9)
    assert end.case.workload.quality_at_least == (0.7 if tighter_is_new else 0.65)


def test_the_stock_is_the_new_questions_and_what_runs(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    """GPUs that the old question had and the new one has not were given back."""
    gone = asked(demo_inputs, stock={"h100-sxm-80g": 2, "b200-sxm-180g": 12})
    for old_inputs in (None, demo_inputs):
        way = transition_of(demo_plan, elsewhere, gone, old_inputs)
        assert {p.gpu: p.stock for p in way.peak_gpus} == {"h100-sxm-80g": 2, "b200-sxm-180g": 12}
        assert way.is_safe  # 25 H100s run already, and 26 are never needed
        assert max(step.gpus["h100-sxm-80g"] for step in way.steps) == 25.0


def test_gpus_that_may_go_away_are_not_counted(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    """Of spot GPUs those that are there for half of the time are half as many."""
    supply = (
        Supply(gpu="h100-sxm-80g", count=40, usd_per_h=2.0),
        Supply(gpu="b200-sxm-180g", count=8, usd_per_h=5.0),
        Supply(gpu="b200-sxm-180g", count=9, usd_per_h=3.0, kind="spot", availability_ratio=0.5),
    )
    rented = asked(demo_inputs, stock=None, supply=supply)
    way = transition_of(demo_plan, elsewhere, rented, demo_inputs)
    assert {p.gpu: p.stock for p in way.peak_gpus} == {"h100-sxm-80g": 40, "b200-sxm-180g": 12}
    assert way.is_safe
    fewer = asked(demo_inputs, stock=None, supply=(supply[0], supply[1]))
    short = transition_of(demo_plan, elsewhere, fewer, demo_inputs)
    assert short.is_safe is False
    assert short.needs == ("4 more b200-sxm-180g for good: the new plan takes 12",)


def test_more_traffic_than_the_new_plan_carries_is_not_safe(
    demo_inputs: Inputs, demo_plan: Plan
) -> None:
    """On the same routes, where no step but a start, or none at all, would tell."""
    kinds, shares = {"a": Kind()}, {("c", "a"): 1.0}
    few = small_plan(kinds, {"a": 2}, shares, {"c": 1.5})
    for n in (2, 3):
        way = transition_of(few, small_plan(kinds, {"a": n}, shares, {"c": 9.0}))
        assert way.is_safe is False
        assert way.needs[0].startswith("a new plan that holds by itself: a runs at")
    busy = demo_plan.predicted
    busy = busy.model_copy(update={"class_rps": {c: 9.0 * r for c, r in busy.class_rps.items()}})
    way = transition_of(
        demo_plan, demo_plan.model_copy(update={"predicted": busy}), demo_inputs, demo_inputs
    )
    assert (way.steps, way.judged_by, way.is_safe) == ((), "tables", False)


def test_what_is_not_judged_is_said(demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan) -> None:
    robust = asked(demo_inputs, robust=Robust(failures="replica"))
    cached = asked(
        demo_inputs,
        classes=tuple(
            c.model_copy(update={"cached_input_ratio": 0.5}) for c in demo_inputs.question.classes
        ),
    )
    way = transition_of(demo_plan, elsewhere, robust, demo_inputs)
    assert any("survive" in note for note in way.notes)
    assert any("whether 2 are free on one node" in note for note in way.notes)
    way = transition_of(demo_plan, elsewhere, cached, demo_inputs)
    assert any("empty caches" in note for note in way.notes)
    back = transition_of(elsewhere, elsewhere, demo_inputs, demo_inputs)
    assert back.notes == () and back.is_safe


def test_one_gpu_short_means_rounds_or_what_is_needed(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    """26 H100s are wanted for a while. With 25 one old replica must go before all has moved."""
    short = asked(demo_inputs, stock={"h100-sxm-80g": 25, "b200-sxm-180g": 12})
    way = transition_of(demo_plan, elsewhere, short, short)
    assert way.is_safe and way.needs == ()
    assert max(step.gpus["h100-sxm-80g"] for step in way.steps) <= 25.0
    assert [s.kind for s in way.steps].count(
        "shift"
    ) == 1  # what the last small one is not needed for
    assert told(way)[-1] == ("start", [(SMALL, 1, 2)])


def test_without_a_gpu_to_spare_it_says_how_many_more(demo_inputs: Inputs) -> None:
    """One replica of a model on four GPUs becomes one of another on the same four."""
    little = asked(
        demo_inputs,
        stock={"h100-sxm-80g": 4, "b200-sxm-180g": 0},
        classes=tuple(c.model_copy(update={"rate_rps": 0.2}) for c in demo_inputs.question.classes),
        arrivals=demo_inputs.question.arrivals.model_copy(update={"rate_factor": 1.0}),
    )
    old = hand_plan(little, {BIG: 1}, {(c, BIG): 1.0 for c in ("gsm", "crux", "math-l5")})
    new = hand_plan(little, {SMALL: 4}, {(c, SMALL): 1.0 for c in ("gsm", "crux", "math-l5")})
    low = asked(little, quality_at_least=None)
    way = transition_of(old, new, low, low)
    assert way.is_safe is False and way.needs == ("1 more h100-sxm-80g for a while",)
    assert way.peak_gpus[0].peak == 4.0
    worst = [s for s in way.steps if s.holds is False]
    assert worst and "gets traffic but has no replica" in " ".join(worst[0].problems)


# ---- Without inputs ------------------------------------------------------------------------------


def test_without_inputs_capacity_alone_is_judged(demo_plan: Plan, elsewhere: Plan) -> None:
    way = transition_of(demo_plan, elsewhere)
    assert (way.judged_by, way.is_safe) == ("figures", None)  # limits and stock: nobody looked
    assert {s.holds for s in way.steps} == {True}
    assert [s.latency_ratio for s in way.steps] == [None] * 3
    assert way.steps[-1].utilisation_ratio == pytest.approx(
        max(p.utilisation_ratio for p in elsewhere.predicted.pools)
    )
    assert all(p.stock is None for p in way.peak_gpus)


def test_without_figures_nothing_is_judged(demo_plan: Plan, elsewhere: Plan) -> None:
    blank = demo_plan.model_copy(
        update={"predicted": demo_plan.predicted.model_copy(update={"pools": ()})}
    )
    way = transition_of(blank, elsewhere)
    assert (way.judged_by, way.is_safe, way.needs) == ("nothing", None, ())
    assert [s.kind for s in way.steps] == ["start", "shift", "stop"]
    assert {s.holds for s in way.steps} == {None}


def test_inputs_that_do_not_know_a_pool_judge_nothing(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    fewer = replace(
        demo_inputs,
        profiles=replace(
            demo_inputs.profiles,
            profiles=tuple(p for p in demo_inputs.profiles.profiles if p.name != BIG),
        ),
    )
    way = transition_of(demo_plan, elsewhere, fewer)
    assert way.judged_by == "figures"
    assert any("do not know" in note for note in way.notes)


@pytest.mark.parametrize("has_inputs", [True, False])
def test_a_plan_that_sends_requests_to_nobody_is_not_safe(
    demo_inputs: Inputs, demo_plan: Plan, has_inputs: bool
) -> None:
    """Nor is it a crash: such plans are what reviews are for."""
    lost = demo_plan.routing[-1].model_copy(update={"pool": "nobody"})
    bad = demo_plan.model_copy(update={"routing": (*demo_plan.routing[:-1], lost)})
    inputs = demo_inputs if has_inputs else None
    way = transition_of(demo_plan, bad, inputs, inputs)
    assert way.is_safe is False
    assert way.needs == ("a new plan that holds by itself: nobody gets traffic but has no replica",)
    assert transition_of(bad, demo_plan, inputs, inputs).is_safe is None


def test_a_class_that_no_question_has_is_judged_by_figures(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    strange = demo_plan.routing[0].model_copy(update={"class_name": "strange"})
    odd = elsewhere.model_copy(update={"routing": (*elsewhere.routing, strange)})
    odd = odd.model_copy(update={"deployment": (*odd.deployment, demo_plan.deployment[0])})
    for way in (transition_of(demo_plan, odd, demo_inputs), transition_of(odd, odd, demo_inputs)):
        assert way.judged_by in ("figures", "nothing")


def test_replicas_of_another_kind_are_started_anew() -> None:
    """By the rows of the plans, or by the hash of pool.yaml; not where a pool is hosted."""
    kinds = {"a": Kind(), "b": Kind()}
    shares, rates = {("c", "a"): 1.0}, {"c": 1.0}
    file = "profiles/a/pool.yaml"
    old = small_plan(kinds, {"a": 2}, shares, rates, {file: "0" * 64})
    same = small_plan(kinds, {"a": 2}, shares, rates, {file: "0" * 64})
    other = small_plan(kinds, {"a": 2}, shares, rates, {file: "1" * 64})
    wider = small_plan({"a": Kind(n_gpus=2)}, {"a": 2}, shares, rates)
    assert transition_of(old, same).steps == ()
    for new in (other, wider):
        way = transition_of(old, new)
        assert told(way) == [
            ("start", [("a", 0, 2)]),
            ("shift", []),
            ("stop", [("a (as it was)", 2, 0)]),
        ]
    hosted = [
        plan.model_copy(
            update={
                "deployment": tuple(d.model_copy(update={"gpu": None}) for d in plan.deployment)
            }
        )
        for plan in (old, other)
    ]
    assert transition_of(*hosted).steps == ()


def test_more_replicas_of_the_same_kind_shift_nothing() -> None:
    kinds, shares, rates = {"a": Kind()}, {("c", "a"): 1.0}, {"c": 1.5}
    few, many = (small_plan(kinds, {"a": n}, shares, rates) for n in (2, 5))
    assert told(transition_of(few, many)) == [("start", [("a", 2, 5)])]
    assert told(transition_of(many, few)) == [("stop", [("a", 5, 2)])]


def test_traffic_is_the_old_plans_until_the_last_shift() -> None:
    kinds, shares = {"a": Kind(), "b": Kind()}, {("c", "a"): 1.0}
    old = small_plan(kinds, {"a": 1}, shares, {"c": 0.9})
    new = small_plan(kinds, {"a": 1, "b": 2}, {("c", "a"): 0.4, ("c", "b"): 0.6}, {"c": 2.5})
    judge = ByFigures(old, new)
    assert judge.verdict(0.0, (1, 0)).utilisation_ratio == pytest.approx(0.9)
    halfway = judge.verdict(0.5, (1, 1)).utilisation_ratio
    assert halfway == pytest.approx(0.9 * (0.5 + 0.5 * 0.4))  # pool a, at the old rate
    assert judge.verdict(1.0, (1, 2)).utilisation_ratio == pytest.approx(1.0)


def test_a_class_that_only_one_plan_has_goes_as_that_one_says() -> None:
    kinds = {"a": Kind(), "b": Kind()}
    old = small_plan(kinds, {"a": 1}, {("x", "a"): 1.0, ("y", "a"): 1.0}, {"x": 0.4, "y": 0.4})
    new = small_plan(kinds, {"b": 1}, {("x", "b"): 1.0, ("z", "b"): 1.0}, {"x": 0.4, "z": 0.4})
    judge = ByFigures(old, new)
    # Halfway y is on a as before, x on both, and z has not come yet.
    assert judge.verdict(0.5, (1, 0)).problems == ("b gets traffic but has no replica",)
    assert judge.verdict(0.5, (1, 1)).utilisation_ratio == pytest.approx(0.4 + 0.2)


def test_headroom_is_kept_where_it_is_known() -> None:
    kinds, shares = {"a": Kind(), "b": Kind()}, {("c", "a"): 1.0}
    old = small_plan(kinds, {"a": 2}, shares, {"c": 1.7})
    new = small_plan(kinds, {"b": 2}, {("c", "b"): 1.0}, {"c": 1.7})
    kept = transition(old, new, ByFigures(old, new, allowed_ratio=0.9))
    assert {step.holds for step in kept.steps} == {True}
    assert transition(old, new, ByFigures(old, new, allowed_ratio=0.8)).is_safe is False


def test_members_are_the_pools_of_both() -> None:
    kinds, shares = {"a": Kind(), "b": Kind(n_gpus=3)}, {("c", "a"): 1.0}
    old = small_plan(kinds, {"a": 2}, shares, {"c": 1.0})
    new = small_plan(kinds, {"a": 1, "b": 1}, {("c", "a"): 0.5, ("c", "b"): 0.5}, {"c": 1.0})
    found = members_of(old, new, frozenset())
    assert [(m.name, m.n_old, m.n_new, m.gpus_per_replica) for m in found] == [
        ("a", 2, 1, 1.0),
        ("b", 0, 1, 3.0),
    ]
    twice = members_of(old, new, frozenset({"a"}))
    assert [m.name for m in twice] == ["a (as it was)", "a", "b"]
    renamed = as_it_was(old, twice)
    assert (
        {d.pool for d in renamed.deployment}
        == {r.pool for r in renamed.routing}
        == {"a (as it was)"}
    )
    assert ByNothing(old, new).verdict(1.0, (1, 0)).holds is False


def test_periods_go_from_busiest_to_busiest(demo_plan: Plan, elsewhere: Plan) -> None:
    from planner.spec.plan import PeriodPlan, PeriodsPlan  # a day of one period

    def day(plan: Plan) -> Plan:
        own = {n: getattr(plan, n) for n in ("deployment", "routing", "prices", "predicted")}
        period = PeriodPlan(
            name="day", start_h=0.0, end_h=24.0, n_changes=0, paid_usd_per_h=1.0, **own
        )
        whole = PeriodsPlan(
            n_hours=24.0, repeats=True, usd_per_replica_change=0.0, total_usd=0.0, reserved_usd=0.0,
            by_the_hour_usd=0.0, hosted_usd=0.0, changes_usd=0.0, cost_usd_per_h=0.0, reserved=(),
            bound=None, busiest="day", each=(period,),
        )  # fmt: skip
        return plan.model_copy(update={"periods": whole})

    way = transition_of(day(demo_plan), day(elsewhere))
    assert [s.kind for s in way.steps] == ["start", "shift", "stop"]
    assert "from busiest period to busiest period" in way.notes


def test_judging_takes_no_longer_than_a_person_notices(
    demo_inputs: Inputs, demo_plan: Plan, elsewhere: Plan
) -> None:
    """By the number of tables made, which is what takes time: two states, not a search."""
    judge = ByTables(sides_of(demo_plan, elsewhere, demo_inputs, demo_inputs))
    transition(demo_plan, elsewhere, judge)
    assert set(judge._at) == {0.0, 1.0}
    assert np.isfinite(judge.verdict(1.0, [m.n_new for m in judge.members]).excess_ratio)


def test_cascades_shift_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan with a cascade and one without: both ends are judged with their own rows."""
    monkeypatch.setattr("planner.gate.way.terms.offered", lambda inputs, case: OPTIONS)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    enough = small(quality_at_least=0.8, stock={"h100-sxm-80g": 9})
    first = made(tmp_path / "with", question=enough)
    second = made(tmp_path / "without", cascades=(), n=(2, 1), question=enough)
    assert first.plan.cascades and not second.plan.cascades
    for old, new in ((first, second), (second, first)):
        way = transition_of(old.plan, new.plan, new.inputs, old.inputs)
        assert (way.judged_by, way.is_safe) == ("tables", True)
        assert [s.kind for s in way.steps].count("shift") == 1
        assert "cascades shift at once" in way.notes
        judge = ByTables(sides_of(old.plan, new.plan, new.inputs, old.inputs))
        for x, side in ((0.0, old), (1.0, new)):
            n = [m.n_new if x else m.n_old for m in judge.members]
            scored = rescore(case_of(side.inputs, side.plan, OPTIONS), side.plan).score
            assert judge.verdict(x, n).latency_ratio == pytest.approx(
                scored.latency_ratio, rel=1e-4
            )
            assert judge.verdict(x, n).utilisation_ratio == pytest.approx(
                scored.utilisation.max(), rel=1e-4
            )


@pytest.mark.slow
def test_planned_days_are_judged_by_their_busiest_periods(tmp_path: Path) -> None:
    days = []
    for name, factor in (("old", 1.0), ("new", 1.4)):
        (tmp_path / name).mkdir()
        asked = {"spans": [{"name": "night", "hours": [0, 8], "rate_factor": 0.2},
                           {"name": "day", "hours": [8, 24], "rate_factor": factor}]}  # fmt: skip
        inputs = inputs_of(tmp_path / name, small(periods=asked))
        days.append((make_plan(inputs, "quick"), inputs))
    (old, before), (new, after) = days
    way = transition_of(old, new, after, before)
    assert (way.judged_by, way.is_safe) == ("tables", True)
    assert any("busiest" in note for note in way.notes)
    judge = ByTables(sides_of(old, new, after, before))
    busiest = [m.n_new for m in judge.members]
    assert judge.verdict(1.0, busiest).utilisation_ratio == pytest.approx(
        max(f.utilisation_ratio for f in new.predicted.pools), rel=1e-3
    )
