"""What is said of the steps of a change against the simulator, request by request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_plan import BIG, SMALL, hand_plan

from planner.errors import InputError
from planner.gate.way.played import Options, Played, play
from planner.gate.way.steps import Step, Transition
from planner.gate.way.terms import Sides, sides_of
from planner.gate.way.transition import transition_of
from planner.simulate.records import Outcome
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.question import Poisson

B200, OTHER = "llama-3.1-70b-b200-tp2", "llama-3.1-8b-b200"
CLASSES = ("gsm", "crux", "math-l5")
ON_BIG = {(c, BIG): 1.0 for c in CLASSES}
ON_B200 = {(c, B200): 1.0 for c in CLASSES}
ON_BOTH = {**ON_BIG, ("gsm", BIG): 0.6, ("gsm", SMALL): 0.4}
STOCK = {"h100-sxm-80g": 80, "b200-sxm-180g": 32}
OPTIONS = Options(step_s=60.0, fill_s=300.0, n_processes=1)


def at_rate(inputs: Inputs, factor: float, **update: object) -> Inputs:
    """The demo's question at a part of its traffic, at random times."""
    classes = tuple(
        c.model_copy(update={"rate_rps": c.rate_rps * factor}) for c in inputs.question.classes
    )
    question = inputs.question.model_copy(
        update={"classes": classes, "arrivals": Poisson(), **update}
    )
    return replace(inputs, files=replace(inputs.files, question=question))


@pytest.fixture(scope="module")
def small(demo_inputs: Inputs) -> Inputs:
    """Traffic that two replicas of the big pool carry."""
    return at_rate(demo_inputs, 4.0)


def planned(old: Plan, new: Plan, inputs: Inputs, old_inputs: Inputs) -> tuple[Sides, Transition]:
    way = transition_of(old, new, inputs, old_inputs)
    assert way.judged_by == "tables"
    return sides_of(old, new, inputs, old_inputs), way


def in_order(way: Transition, *kinds: str) -> Transition:
    """The same steps in another order, of which nobody says anything."""
    steps: list[Step] = []
    x = 0.0
    for kind in kinds:
        step = next(s for s in way.steps if s.kind == kind)
        x = 1.0 if kind == "shift" else x
        steps.append(replace(step, shifted_ratio=x, holds=None))
    return replace(way, steps=tuple(steps), is_safe=None)


def missed_in(played: Played) -> set[str]:
    return {step.step.kind if step.step else "before" for step in played.steps if step.missed}


# ---- From one kind of GPU to another -------------------------------------------------------------


@pytest.fixture(scope="module")
def swap(small: Inputs) -> tuple[Sides, Transition]:
    old, new = hand_plan(small, {BIG: 2}, ON_BIG), hand_plan(small, {B200: 2}, ON_B200)
    return planned(old, new, small, small)


def test_what_is_said_to_be_safe_is(swap: tuple[Sides, Transition]) -> None:
    sides, way = swap
    assert way.is_safe and [s.kind for s in way.steps] == ["start", "shift", "stop"]
    played = play(sides, way, OPTIONS)
    assert not played.missed and sum(s.n_unanswered for s in played.steps) == 0
    # Nobody was cut off: the last answers of the stopped pool come after the stop.
    records = played.records[0]
    at = records.pool_names.index(BIG)
    stop_ps = round(played.steps[-1].begin_s * 1e12)
    on_old = records.pool_index == at
    assert records.arrived_ps[on_old].max() < stop_ps < records.done_ps[on_old].max()


def test_stopping_first_breaks_limits(swap: tuple[Sides, Transition]) -> None:
    sides, way = swap
    played = play(sides, in_order(way, "stop", "start", "shift"), OPTIONS)
    assert "stop" in missed_in(played)


def test_shifting_before_the_start_breaks_limits(swap: tuple[Sides, Transition]) -> None:
    sides, way = swap
    # With the old pool stopped, too: else requests fall back to it, and nobody would notice.
    played = play(sides, in_order(way, "shift", "stop", "start"), OPTIONS)
    assert "stop" in missed_in(played)
    records = played.records[0]
    assert (records.outcome == Outcome.FAILED).any()


# ---- Other changes -------------------------------------------------------------------------------


def test_more_traffic_comes_with_the_last_shift(demo_inputs: Inputs) -> None:
    """Three times the traffic, on three times the replicas and new routes: safe, and played so."""
    before, after = at_rate(demo_inputs, 2.0), at_rate(demo_inputs, 6.0)
    old = hand_plan(before, {BIG: 1}, ON_BIG)
    new = hand_plan(after, {BIG: 3, SMALL: 1}, ON_BOTH)
    sides, way = planned(old, new, after, before)
    assert way.is_safe and [s.kind for s in way.steps] == ["start", "shift"]
    assert any("traffic" in note for note in way.notes)
    played = play(sides, way, OPTIONS)
    assert not played.missed
    rates = [step.n_requests / (step.end_s - step.begin_s) for step in played.steps]
    assert rates == pytest.approx([old.predicted.rate_rps] * 2 + [new.predicted.rate_rps], rel=0.1)
    hasty = replace(way, steps=tuple(s for s in way.steps if s.kind == "shift"))
    assert play(sides, hasty, OPTIONS).missed  # the traffic, and nobody for it


def test_other_engine_settings_are_other_replicas(small: Inputs) -> None:
    """The same pool with smaller batches: all its replicas are started anew beside the old ones."""
    known = {p.name: p for p in small.candidates}
    pool = known[BIG].pool.model_copy(update={"max_num_seqs": 128})
    known[BIG] = replace(known[BIG], pool=pool)
    everyone = tuple(known.get(p.name, p) for p in small.profiles.profiles)
    other = replace(
        small,
        profiles=replace(small.profiles, profiles=everyone),
        candidates=tuple(known.values()),
    )
    old, new = hand_plan(small, {BIG: 2}, ON_BIG), hand_plan(other, {BIG: 2}, ON_BIG)
    assert transition_of(old, new, small, small).steps == ()
    sides, way = planned(old, new, other, small)
    assert [(s.kind, [(p.pool, p.n_before, p.n_after) for p in s.pools]) for s in way.steps] == [
        ("start", [(BIG, 0, 2)]),
        ("shift", []),
        ("stop", [(f"{BIG} (as it was)", 2, 0)]),
    ]
    (gpus,) = way.peak_gpus
    assert (gpus.old, gpus.new, gpus.peak, gpus.extra) == (8.0, 8.0, 16.0, 8.0)
    assert way.is_safe
    played = play(sides, way, OPTIONS)
    assert not played.missed
    assert set(played.records[0].pool_names) == {BIG, f"{BIG} (as it was)"}


def test_in_rounds_where_gpus_are_short(demo_inputs: Inputs) -> None:
    """Three replicas of four GPUs become twelve of one, with four GPUs to spare."""
    tight = at_rate(demo_inputs, 4.0, stock=STOCK | {"h100-sxm-80g": 16}, quality_at_least=None)
    old = hand_plan(tight, {BIG: 3}, ON_BIG)
    new = hand_plan(tight, {SMALL: 12}, {(c, SMALL): 1.0 for c in CLASSES})
    sides, way = planned(old, new, tight, tight)
    kinds = [step.kind for step in way.steps]
    assert way.is_safe, (way.steps, way.needs)
    assert kinds.count("shift") >= 1 and way.peak_gpus[0].peak <= 16.0
    assert not play(sides, way, OPTIONS).missed


def test_plans_with_other_classes_are_played_with_both_questions(demo_inputs: Inputs) -> None:
    """A class goes, with the last shift; the others stay."""
    before = at_rate(demo_inputs, 2.0)
    kept = tuple(c for c in before.question.classes if c.name != "crux")
    scores = tuple(s for s in before.files.class_scores if s.class_name != "crux")
    question = before.question.model_copy(update={"classes": kept})
    after = replace(before, files=replace(before.files, question=question, class_scores=scores))
    old = hand_plan(before, {BIG: 1}, ON_BIG)
    new = hand_plan(after, {BIG: 1, SMALL: 1}, {("gsm", SMALL): 1.0, ("math-l5", BIG): 1.0})
    sides, way = planned(old, new, after, before)
    played = play(sides, way, OPTIONS)
    records = played.records[0]
    crux = records.class_index == records.class_names.index("crux")
    shift_ps = next(s.begin_s for s in played.steps if s.step and s.step.kind == "shift") * 1e12
    assert crux.any() and records.arrived_ps[crux].max() < shift_ps
    assert not any(step.n_unanswered for step in played.steps)


def test_what_cannot_be_played_is_said(swap: tuple[Sides, Transition]) -> None:
    sides, way = swap
    lost = sides.old.model_copy(
        update={
            "deployment": tuple(d.model_copy(update={"pool": "x"}) for d in sides.old.deployment)
        }
    )
    with pytest.raises(InputError, match="no question or profile"):
        play(replace(sides, old=lost), way, OPTIONS)


# ---- Many changes --------------------------------------------------------------------------------


def random_plan(inputs: Inputs, random: np.random.Generator) -> Plan:
    """A plan of two pools with random shares, as few replicas as keep it at 90 % of its limits."""
    pools = [BIG, B200, SMALL, OTHER]
    used = random.choice(pools, 2, replace=False).tolist()
    shares = {}
    for c, part in zip(CLASSES, random.uniform(0.1, 0.9, len(CLASSES)).round(2), strict=True):
        shares |= {(c, used[0]): float(part), (c, used[1]): 1.0 - float(part)}
    n = dict.fromkeys(used, 1)
    while True:
        plan = hand_plan(inputs, n, shares)
        fullest = max(plan.predicted.pools, key=lambda f: f.utilisation_ratio)
        if fullest.utilisation_ratio <= 0.85 and (plan.predicted.latency_ratio or 0.0) <= 0.9:
            return plan
        n[fullest.pool] += 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_safe_ways_hold_whatever_the_change(demo_inputs: Inputs, seed: int) -> None:
    """Each second one with hardly a GPU to spare."""
    random = np.random.default_rng(seed)
    factors = random.uniform(3.0, 7.0, 2).tolist()
    asked = [at_rate(demo_inputs, f, quality_at_least=None, stock=STOCK) for f in factors]
    plans = [random_plan(inputs, random) for inputs in asked]
    if seed % 2:
        taken = [{d.gpu: 0.0 for d in p.deployment} for p in plans]
        for plan, count in zip(plans, taken, strict=True):
            for d in plan.deployment:
                count[d.gpu] += d.n_gpus
        most = {gpu: max(count.get(gpu, 0.0) for count in taken) for gpu in STOCK}
        stock = {gpu: int(n) + 1 for gpu, n in most.items()}
        asked = [at_rate(inputs, 1.0, stock=stock) for inputs in asked]
    both, way = planned(plans[0], plans[1], asked[1], asked[0])
    if way.is_safe:
        assert not play(both, way, replace(OPTIONS, seeds=(0, 1, 2))).missed
    else:
        assert seed % 2 and any("more" in text for text in way.needs)
