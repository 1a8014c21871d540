"""Replicas that are others under the same name, what the way costs, and what is lost if it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hand_plan import BIG, SHARES, SMALL, hand_plan
from small_plans import Kind, small_plan

from planner.gate.diff import diff
from planner.gate.way.judges import ByFigures
from planner.gate.way.members import members_of
from planner.gate.way.room import Room
from planner.gate.way.steps import Transition
from planner.gate.way.tables import ByTables
from planner.gate.way.terms import Sides, offers_of, profiles_of, replaced_by_profiles, sides_of
from planner.gate.way.transition import transition, transition_of
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.question import Supply

B200 = "llama-3.1-70b-b200-tp2"
ELSEWHERE = {(c, B200 if p == BIG else p): share for (c, p), share in SHARES.items()}
FILE = f"profiles/{SMALL}/pool.yaml"
ON_A = {("c", "a"): 1.0}


def kinds_of(way: Transition) -> list[tuple[str, list[str]]]:
    return [(step.kind, [row.pool for row in step.pools]) for step in way.steps]


def asked(inputs: Inputs, **update: object) -> Inputs:
    question = inputs.question.model_copy(update=update)
    return replace(inputs, files=replace(inputs.files, question=question))


def hashed(plan: Plan, **inputs: str) -> Plan:
    own = plan.provenance.model_copy(update={"inputs": {**plan.provenance.inputs, **inputs}})
    return plan.model_copy(update={"provenance": own})


def hosted(plan: Plan) -> Plan:
    rows = tuple(
        d.model_copy(update={"gpu": None, "n_gpus": 0.0, "usd_per_h": 0.0}) for d in plan.deployment
    )
    return plan.model_copy(update={"deployment": rows})


# ---- Who is started anew -------------------------------------------------------------------------


def test_from_own_gpus_to_a_provider_under_the_same_name() -> None:
    """And back: the GPUs are held until what ran on them is drained."""
    own = small_plan({"a": Kind()}, {"a": 2}, ON_A, {"c": 1.5})
    for old, new in ((own, hosted(own)), (hosted(own), own)):
        way = transition_of(old, new)
        assert kinds_of(way) == [("start", ["a"]), ("shift", []), ("stop", ["a (as it was)"])]
        (peak,) = way.peak_gpus
        assert sorted([peak.old, peak.new]) == [0.0, 2.0] and peak.peak == 2.0
    assert transition_of(hosted(own), hosted(own)).steps == ()


def test_profiles_that_are_not_those_of_the_old_plan_are_not_believed(
    demo_inputs: Inputs, demo_plan: Plan
) -> None:
    """`rb diff OLD NEW --profiles DIR` reads one folder for both."""
    old = hashed(demo_plan, **{FILE: "0" * 64})
    way = transition_of(old, demo_plan, demo_inputs, demo_inputs)
    assert kinds_of(way) == [("start", [SMALL]), ("shift", []), ("stop", [f"{SMALL} (as it was)"])]
    assert diff(old, demo_plan, way).empty and diff(old, demo_plan, way).restarts
    same = transition_of(demo_plan, demo_plan, demo_inputs, demo_inputs)
    assert same.steps == () and not diff(demo_plan, demo_plan, same).restarts
    assert not diff(old, demo_plan).restarts  # nobody asked for the way


def test_tables_that_are_kept_are_those_that_would_be_made(
    demo_inputs: Inputs, demo_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replaced pool has one mix all the way; what is left to the others changes with x."""
    moved = {**SHARES, ("gsm", BIG): 0.7, ("gsm", SMALL): 0.3}
    new = hand_plan(demo_inputs, None, moved)
    judge = ByTables(sides_of(hashed(demo_plan, **{FILE: "0" * 64}), new, demo_inputs, demo_inputs))
    n = [max(m.n_old, m.n_new) for m in judge.members]
    kept = [judge.verdict(x, n) for x in (0.0, 0.3, 0.6)]
    judge._at.clear()
    monkeypatch.setattr(ByTables, "_tables", lambda self, case, mixes: case.tables(mixes))
    anew = [judge.verdict(x, n) for x in (0.0, 0.3, 0.6)]
    for one, other in zip(kept, anew, strict=True):
        assert one.latency_ratio == pytest.approx(other.latency_ratio, rel=1e-6)
        assert one.loads == pytest.approx(other.loads, rel=1e-6)
        assert one.problems == other.problems
    assert len({v.loads for v in kept}) == 3


def test_shared_gpus_are_those_of_the_plans_where_nothing_else_is_known() -> None:
    """Half a GPU each; alone, the whole of it is the one's that is left."""
    kinds = {"a": Kind(), "b": Kind()}
    both = small_plan(kinds, {"a": 1, "b": 1}, {("c", "a"): 0.5, ("c", "b"): 0.5}, {"c": 0.5})
    halves = tuple(d.model_copy(update={"n_gpus": 0.5}) for d in both.deployment)
    old = both.model_copy(update={"deployment": halves})
    way = transition_of(old, small_plan(kinds, {"a": 1}, ON_A, {"c": 0.5}))
    (peak,) = way.peak_gpus
    assert (peak.old, peak.new, peak.peak) == (1.0, 1.0, 1.0)
    assert [step.gpus for step in way.steps] == [{"h100": 1.0}, {"h100": 1.0}]


def test_each_side_runs_on_its_own_profile(demo_inputs: Inputs, demo_plan: Plan) -> None:
    """Before and after are two engines where pool.yaml says so; what goes on is the new one."""
    profiles = tuple(
        replace(p, pool=p.pool.model_copy(update={"max_num_seqs": 7}))
        for p in demo_inputs.profiles.profiles
    )
    before = replace(demo_inputs, profiles=replace(demo_inputs.profiles, profiles=profiles))
    sides = sides_of(demo_plan, demo_plan, demo_inputs, before)
    assert replaced_by_profiles(sides) == {BIG, SMALL}
    members = members_of(demo_plan, demo_plan, frozenset({SMALL}))
    own = {p.name: p.pool.max_num_seqs for p in demo_inputs.profiles.profiles}
    assert {p.name: p.pool.max_num_seqs for p in profiles_of(members, sides)} == {
        BIG: own[BIG], f"{SMALL} (as it was)": 7, SMALL: own[SMALL]
    }  # fmt: skip


# ---- What it costs meanwhile ---------------------------------------------------------------------


def test_the_rent_on_the_way_is_that_of_all_gpus_held(demo_inputs: Inputs, demo_plan: Plan) -> None:
    """By the offers of the new question: the cheap ones first, the dear ones for what is more."""
    elsewhere = hand_plan(demo_inputs, {B200: 6, SMALL: 2}, ELSEWHERE)
    supply = (
        Supply(gpu="h100-sxm-80g", count=10, usd_per_h=3.0),
        Supply(gpu="h100-sxm-80g", count=20, usd_per_h=2.0, kind="reserved"),
        Supply(gpu="b200-sxm-180g", count=12, usd_per_h=5.0),
    )
    rented = asked(demo_inputs, stock=None, supply=supply)
    way = transition_of(demo_plan, elsewhere, rented, demo_inputs)
    assert way.rent is not None  # 26 H100s and 12 B200s
    assert way.rent.peak_usd_per_h == 20 * 2.0 + 6 * 3.0 + 12 * 5.0
    assert way.rent.old_usd_per_h == sum(d.usd_per_h for d in demo_plan.deployment)
    assert way.rent.new_usd_per_h == sum(d.usd_per_h for d in elsewhere.deployment)


def test_gpus_have_the_prices_of_the_question_that_knows_them_last(
    demo_inputs: Inputs, demo_plan: Plan
) -> None:
    members = members_of(demo_plan, hand_plan(demo_inputs, {B200: 6}, ELSEWHERE), frozenset())

    def rent(old: Inputs, new: Inputs, **n_gpus: float) -> float | None:
        offers = offers_of(members, Sides(demo_plan, demo_plan, new, old))
        named = {gpu.replace("_", "-"): n for gpu, n in n_gpus.items()}
        return Room(members, offers=offers).rent_usd_per_h(named)

    dear = asked(demo_inputs, prices={"h100-sxm-80g": 4.0})
    given_back = asked(demo_inputs, stock={"b200-sxm-180g": 12}, prices={"b200-sxm-180g": 5.0})
    assert rent(dear, given_back, h100_sxm_80g=25.0, b200_sxm_180g=12.0) == 25 * 4.0 + 12 * 5.0
    assert rent(given_back, dear, h100_sxm_80g=1.0, b200_sxm_180g=2.0) == 4.0 + 2 * 5.5  # as listed
    assert rent(dear, dear, h100_sxm_80g=0.0) == 0.0
    assert rent(given_back, given_back, h100_sxm_80g=1.0) is None  # nobody says
    some = (Supply(gpu="h100-sxm-80g", count=2, usd_per_h=3.0),)
    few = asked(demo_inputs, stock=None, supply=some)
    assert rent(demo_inputs, few, h100_sxm_80g=5.0) == 15.0  # what is more is as dear as the last


def test_without_a_question_gpus_cost_what_the_plans_pay() -> None:
    kinds = {"a": Kind(), "b": Kind(gpu="b200", n_gpus=2)}
    old = small_plan(kinds, {"a": 2}, ON_A, {"c": 1.5})
    new = small_plan(kinds, {"b": 2}, {("c", "b"): 1.0}, {"c": 1.5})
    way = transition_of(old, new)  # a replica costs $1: $1 and $0.5 a GPU
    assert way.rent is not None
    found = way.rent.old_usd_per_h, way.rent.new_usd_per_h, way.rent.peak_usd_per_h
    assert found == (2.0, 2.0, 4.0)
    assert way.rent.extra_usd_per_h == 2.0


# ---- Where it cannot be held ---------------------------------------------------------------------


def test_nothing_is_shifted_to_replicas_that_are_not_there() -> None:
    """Two GPUs, one replica of two: it must go before the other one comes, and b grows before."""
    kinds = {"a": Kind(n_gpus=2), "b": Kind(gpu="b200"), "z": Kind(n_gpus=2)}
    shares = {("c", "a"): 1.0, ("d", "b"): 1.0}
    old = small_plan(kinds, {"a": 1, "b": 1}, shares, {"c": 0.9, "d": 0.9})
    moved = {("c", "z"): 1.0, ("d", "b"): 1.0}
    new = small_plan(kinds, {"z": 1, "b": 3}, moved, {"c": 0.9, "d": 2.7})
    stock = {"h100": 2.0, "b200": 3.0}
    way = transition(old, new, ByFigures(old, new, stock=stock))
    assert way.is_safe is False and way.needs == ("2 more h100 for a while",)
    assert kinds_of(way) == [("start", ["b"]), ("stop", ["a"]), ("start", ["z"]), ("shift", [])]
    assert [step.holds for step in way.steps] == [True, False, False, True]
    assert way.steps[1].problems == ("a gets traffic but has no replica",)
    assert all(step.gpus["h100"] <= 2.0 for step in way.steps)


def test_only_what_is_in_the_way_is_stopped() -> None:
    """The small old pool makes room for the new one; the large one has not to go for it."""
    kinds = {"big": Kind(n_gpus=4), "few": Kind(n_gpus=1), "new": Kind(n_gpus=1)}
    shares = {("c", "big"): 1.0, ("d", "few"): 1.0}
    old = small_plan(kinds, {"big": 1, "few": 1}, shares, {"c": 0.9, "d": 0.9})
    moved = {("c", "new"): 0.5, ("c", "few"): 0.5, ("d", "new"): 1.0}
    shift = small_plan(kinds, {"few": 1, "new": 4}, moved, {"c": 0.9, "d": 0.9})
    way = transition(old, shift, ByFigures(old, shift, stock={"h100": 5.0}))
    assert way.is_safe is False
    assert way.steps[0].kind == "stop" and [r.pool for r in way.steps[0].pools] == ["big"]
    other = small_plan(kinds, {"big": 1, "new": 1}, {("c", "big"): 1.0, ("d", "new"): 1.0},
                       {"c": 0.9, "d": 0.9})  # fmt: skip
    way = transition(old, other, ByFigures(old, other, stock={"h100": 5.0}))
    assert kinds_of(way) == [("stop", ["few"]), ("start", ["new"]), ("shift", [])]


@pytest.mark.parametrize(
    ("before", "after", "falls"),
    [
        ({"c": 1.0}, {"c": 0.5}, True),
        ({"c": 1.0, "d": 0.5}, {"c": 1.0}, True),  # a class goes
        ({"c": 1.0, "d": 0.5}, {"c": 1.0, "e": 0.5}, False),  # it is called otherwise
        ({"c": 0.5}, {"c": 1.0}, False),
    ],
)
def test_whose_traffic_was_judged_is_said(
    before: dict[str, float], after: dict[str, float], falls: bool
) -> None:
    old, new = (
        small_plan({"a": Kind()}, {"a": 2}, {(c, "a"): 1.0 for c in rates}, rates)
        for rates in (before, after)
    )
    (note,) = [text for text in transition_of(old, new).notes if "traffic" in text]
    assert note.startswith("judged with the old plan's traffic until the last shift")
    assert ("fallen" in note) is falls
    assert not any("traffic" in text for text in transition_of(old, old).notes)
