"""A policy's rules one by one: at the value, beyond it, with old, new, difference and allowed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hand_plan import BIG, ROOT, SMALL
from hypothesis import given
from hypothesis import strategies as st

from planner.files.plans import need_plan
from planner.gate.finding import Finding
from planner.gate.judge import Asked, judge
from planner.gate.judgement import Judgement
from planner.gate.policy.case import PolicyCase, parts, usd, usd_change
from planner.gate.policy.table import policy_findings
from planner.gate.way.steps import PeakGpus, Step, Transition
from planner.spec.inputs import Inputs
from planner.spec.plan import PeriodPlan, PeriodsPlan, Plan, ReservedGpus
from planner.spec.policy import Policy

B200, H100 = "b200-sxm-180g", "h100-sxm-80g"
TODAY = datetime.date(2026, 6, 1)
PLAN = need_plan(ROOT / "tests" / "demo_plan")
LIMITED = [f for f in PLAN.predicted.latency if f.at_most_ms is not None]


def found(
    inputs: Inputs,
    plan: Plan = PLAN,
    old: Plan | None = None,
    way: Transition | None = None,
    **keys: Any,
) -> list[Finding]:
    """Returns what a policy with some keys finds."""
    policy = Policy.model_validate({"version": 1, **keys})
    findings, judged = policy_findings(PolicyCase(policy, plan, inputs, old, way, TODAY))
    assert {f.code for f in findings} <= set(judged)
    return findings


def predicting(plan: Plan, **update: Any) -> Plan:
    return plan.model_copy(update={"predicted": plan.predicted.model_copy(update=update)})


def figured(plan: Plan, place: int, **update: Any) -> Plan:
    """Returns a plan with one of its predicted latencies changed."""
    figures = list(plan.predicted.latency)
    figures[place] = figures[place].model_copy(update=update)
    return predicting(plan, latency=tuple(figures))


def resized(plan: Plan, pool: str, **update: Any) -> Plan:
    rows = tuple(d.model_copy(update=update) if d.pool == pool else d for d in plan.deployment)
    return plan.model_copy(update={"deployment": rows})


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(f.severity, f.code, f.where) for f in findings]


def by_day(plan: Plan, **night: Any) -> Plan:
    """Returns the plan with two periods: as it is by day, and with something changed at night."""
    own = {name: getattr(plan, name) for name in ("deployment", "routing", "prices", "predicted")}
    whole = {**own, "n_changes": 1, "paid_usd_per_h": 48.55}
    day = PeriodPlan.model_validate({"name": "day", "start_h": 8.0, "end_h": 24.0, **whole})
    dark = {"name": "night", "start_h": 0.0, "end_h": 8.0, **whole, **night}
    money = ("total", "reserved", "by_the_hour", "hosted", "changes")
    periods = PeriodsPlan(
        n_hours=24.0,
        repeats=True,
        usd_per_replica_change=0.0,
        cost_usd_per_h=40.0,
        reserved=(ReservedGpus(gpu=H100, n_gpus=10.0, usd_per_h=20.0),),
        bound=None,
        busiest="day",
        each=(PeriodPlan.model_validate(dark), day),
        **{f"{name}_usd": 0.0 for name in money},
    )
    return plan.model_copy(update={"periods": periods})


def test_the_demo_keeps_what_it_just_keeps(demo_inputs: Inputs) -> None:
    """At the value itself nothing is broken."""
    keys = {
        "max_cost_usd_per_h": PLAN.predicted.cost_usd_per_h,
        "min_quality": PLAN.predicted.quality,
        "min_class_quality": PLAN.predicted.class_quality,
        "max_limit_used_ratio": max(f.ms / f.at_most_ms for f in LIMITED),
        "max_limit_used_with_band_ratio": max(f.high_ms / f.at_most_ms for f in LIMITED),
        "max_gpus": {H100: 9, B200: 4},
        "max_gap_ratio": PLAN.bound.gap_ratio if PLAN.bound else None,
        "require_simulated": True,
        "require_complete": True,
        "max_extrapolated_traffic_ratio": 0,
    }
    assert found(demo_inputs, **keys) == []


# ---- Against the plan before ---------------------------------------------------------------------


def test_nothing_changes_from_a_plan_to_itself(demo_inputs: Inputs) -> None:
    keys = {
        "max_cost_increase_ratio": 0,
        "max_cost_increase_usd_per_h": 0,
        "max_quality_drop": 0,
        "max_latency_increase_ratio": 0,
        "keep_limits": True,
        "max_gpus_moved": 0,
        "max_traffic_moved_ratio": 0,
    }
    assert found(demo_inputs, old=PLAN, **keys) == []
    day = by_day(PLAN)
    assert found(demo_inputs, day, old=day, **keys) == []


def test_an_increase_tells_old_new_difference_and_allowed(demo_inputs: Inputs) -> None:
    old = predicting(PLAN, cost_usd_per_h=40.0, rate_rps=70.0)
    (finding,) = found(demo_inputs, old=old, max_cost_increase_ratio=0.1)
    assert finding.where == "plan.json:predicted.cost_usd_per_h"
    assert finding.what == (
        "goes from $40.00 to $48.55 per hour, +$8.55 (+21.4%): at most +10.0% is allowed, $44.00; "
        "the planned traffic goes from 70 to 78.8 requests/s"
    )


def test_of_two_limits_on_an_increase_the_tighter_one_is_told(demo_inputs: Inputs) -> None:
    old = predicting(PLAN, cost_usd_per_h=40.0)
    keys = {"max_cost_increase_ratio": 0.2, "max_cost_increase_usd_per_h": 5}
    (finding,) = found(demo_inputs, old=old, **keys)
    assert "at most +$5.00 is allowed, $45.00" in finding.what
    assert found(demo_inputs, old=old, max_cost_increase_usd_per_h=8.55) == []


def test_a_plan_that_cost_nothing_has_no_relative_increase(demo_inputs: Inputs) -> None:
    (finding,) = found(
        demo_inputs, old=predicting(PLAN, cost_usd_per_h=0.0), max_cost_increase_ratio=9
    )
    assert "(from nothing)" in finding.what


def test_a_cheaper_plan_is_no_increase(demo_inputs: Inputs) -> None:
    old = predicting(PLAN, cost_usd_per_h=60.0)
    assert found(demo_inputs, old=old, max_cost_increase_ratio=0) == []


def test_quality_that_falls_is_told_of_all_traffic_and_of_classes(demo_inputs: Inputs) -> None:
    better = {name: q + 0.05 for name, q in PLAN.predicted.class_quality.items() if name != "gsm"}
    old = predicting(PLAN, quality=0.75, class_quality={**better, "gone": 1.0})
    findings = found(demo_inputs, old=old, max_quality_drop=0.04)
    assert [f.where for f in findings] == [
        "plan.json:predicted.quality",
        "plan.json:predicted.class_quality[crux]",
        "plan.json:predicted.class_quality[math-l5]",
    ]  # gsm is new, and what is gone falls nowhere
    assert findings[1].what == (
        "falls from 0.6925 to 0.6425 of crux, -0.0500: at most -0.0400 is allowed"
    )


def test_traffic_that_falls_is_told_of_all_and_of_classes(demo_inputs: Inputs) -> None:
    """A class that is gone has lost all of its traffic, a new one none."""
    rates = {**PLAN.predicted.class_rps, "gone": 10.0}
    busy = predicting(PLAN, rate_rps=90.0, class_rps={n: r for n, r in rates.items() if n != "gsm"})
    findings = found(demo_inputs, old=busy, max_traffic_drop_ratio=0.1)
    assert [f.where for f in findings] == [
        "plan.json:predicted.rate_rps",
        "plan.json:predicted.class_rps[gone]",
    ]
    assert findings[0].what == (
        "goes from 90 to 78.8 requests/s of all traffic (-12.4%): at most -10.0% is allowed"
    )
    assert found(demo_inputs, old=busy, max_traffic_drop_ratio=1) == []
    assert found(demo_inputs, old=predicting(PLAN, rate_rps=10.0), max_traffic_drop_ratio=0) == []


def test_a_class_without_requests_has_no_quality_to_keep(demo_inputs: Inputs) -> None:
    rates, scores = PLAN.predicted.class_rps, PLAN.predicted.class_quality
    idle = predicting(PLAN, class_rps={**rates, "crux": 0.0}, class_quality={**scores, "crux": 0.0})
    assert found(demo_inputs, idle, min_class_quality={"crux": 0.6}) == []
    assert found(demo_inputs, idle, old=PLAN, max_quality_drop=0.1) == []


def test_a_latency_that_rises_within_its_limit(demo_inputs: Inputs) -> None:
    old = figured(PLAN, 0, ms=5000.0)
    (finding,) = found(demo_inputs, old=old, max_latency_increase_ratio=0.5)
    assert finding.where == "plan.json:predicted.latency[p95 e2e of gsm]"
    assert finding.what == (
        "goes from 5,000 to 9,986 ms (+99.7%): at most +50.0% is allowed, 7,500 ms; its limit is "
        "10,000 ms"
    )


def test_a_latency_without_a_limit_may_rise(demo_inputs: Inputs) -> None:
    old = predicting(
        PLAN,
        latency=tuple(
            f.model_copy(update={"ms": 1.0}) if f.at_most_ms is None else f
            for f in PLAN.predicted.latency
        ),
    )
    assert found(demo_inputs, old=old, max_latency_increase_ratio=0) == []


def test_a_limit_that_the_plan_before_knows_nothing_of_is_not_judged(demo_inputs: Inputs) -> None:
    old = predicting(PLAN, latency=PLAN.predicted.latency[1:])
    findings = found(demo_inputs, old=old, max_latency_increase_ratio=0)
    assert told(findings) == [
        ("warning", "policy-not-judged", "plan.json:predicted.latency[p95 e2e of gsm]")
    ]


@pytest.mark.parametrize(
    ("at_most_ms", "said"),
    [
        (None, "was limited to 10,000 ms, and has no limit any more"),
        (12000.0, "its limit goes from 10,000 to 12,000 ms (+20.0%), and may not be loosened"),
    ],
)
def test_a_limit_is_neither_left_out_nor_loosened(
    demo_inputs: Inputs, at_most_ms: float | None, said: str
) -> None:
    (finding,) = found(
        demo_inputs, figured(PLAN, 0, at_most_ms=at_most_ms), old=PLAN, keep_limits=True
    )
    assert (finding.code, finding.what) == ("policy-limits-kept", said)


def test_a_limit_may_be_tightened_or_new(demo_inputs: Inputs) -> None:
    assert found(demo_inputs, figured(PLAN, 0, at_most_ms=9990.0), old=PLAN, keep_limits=True) == []
    old = predicting(PLAN, latency=PLAN.predicted.latency[1:])
    assert found(demo_inputs, old=old, keep_limits=True) == []


def test_gpus_of_replicas_that_start_and_stop(demo_inputs: Inputs) -> None:
    old = resized(resized(PLAN, BIG, replicas=1, n_gpus=4.0), SMALL, replicas=3, n_gpus=3.0)
    assert found(demo_inputs, old=old, max_gpus_moved=6) == []
    (finding,) = found(demo_inputs, old=old, max_gpus_moved=5)
    assert finding.what == (
        "replicas with 4 GPUs start and with 2 stop, 6 together: at most 5 are allowed (+1)"
    )


def test_a_pool_that_is_another_one_under_its_name_stops_and_starts(demo_inputs: Inputs) -> None:
    old = resized(PLAN, BIG, model_name="llama-3-70b")
    (finding,) = found(demo_inputs, old=old, max_gpus_moved=15)
    assert "with 8 GPUs start and with 8 stop, 16 together" in finding.what


def test_a_pool_whose_settings_change_under_its_name_starts_anew(demo_inputs: Inputs) -> None:
    """Engine settings stand in pool.yaml alone, of which a plan has the hash."""
    hashes = {**PLAN.provenance.inputs, f"profiles/{BIG}/pool.yaml": "0" * 64}
    old = PLAN.model_copy(
        update={"provenance": PLAN.provenance.model_copy(update={"inputs": hashes})}
    )
    assert found(demo_inputs, old=old, max_gpus_moved=16) == []
    (finding,) = found(demo_inputs, old=old, max_gpus_moved=15)
    assert "with 8 GPUs start and with 8 stop, 16 together" in finding.what


def test_a_peak_on_a_way_that_nobody_knows_is_not_judged(demo_inputs: Inputs) -> None:
    (finding,) = found(demo_inputs, old=PLAN, max_peak_gpus={H100: 1})
    assert (finding.code, finding.severity) == ("policy-not-judged", "warning")


def test_traffic_that_goes_elsewhere(demo_inputs: Inputs) -> None:
    """Half of the requests of one class in so many, done by hand."""
    rates = PLAN.predicted.class_rps
    shares = {("gsm", BIG): 0.122487, ("gsm", SMALL): 0.795485}
    routes = tuple(
        r.model_copy(update={"share": shares.get((r.class_name, r.pool), r.share)})
        for r in PLAN.routing
    )
    moved = 0.5 * rates["gsm"] / sum(rates.values())
    old = PLAN.model_copy(update={"routing": routes})
    assert found(demo_inputs, old=old, max_traffic_moved_ratio=moved + 1e-6) == []
    (finding,) = found(demo_inputs, old=old, max_traffic_moved_ratio=moved - 1e-6)
    assert finding.what.startswith(f"{moved:.1%} of the requests go elsewhere")


def step(*problems: str) -> Step:
    return Step("shift", (), 1.0, {H100: 9.0}, not problems, 0.9, 0.9, problems)


def way(is_safe: bool | None, *problems: str, needs: tuple[str, ...] = ()) -> Transition:
    peak = PeakGpus(H100, 9.0, 9.0, 17.0, 32.0)
    judged_by = "nothing" if is_safe is None else "tables"
    return Transition((step(*problems),), (peak,), judged_by, is_safe, needs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "could not be judged"),
        (way(None), "could not be judged"),
        (way(False, "gsm takes 12 s, at most 10 s"), "gsm takes 12 s, at most 10 s"),
        (way(False, "slow", needs=("8 more h100 for a while",)), "8 more h100 for a while"),
    ],
)
def test_a_change_that_is_not_known_to_be_safe(
    demo_inputs: Inputs, change: Transition | None, said: str
) -> None:
    (finding,) = found(demo_inputs, old=PLAN, way=change, require_safe_transition=True)
    assert (finding.severity, finding.code) == ("error", "policy-transition")
    assert said in finding.what


def test_a_safe_change_and_its_peak(demo_inputs: Inputs) -> None:
    keys = {"require_safe_transition": True, "max_peak_gpus": {H100: 17, B200: 0}}
    assert found(demo_inputs, old=PLAN, way=way(True), **keys) == []
    (finding,) = found(demo_inputs, old=PLAN, way=way(True), max_peak_gpus={H100: 16})
    assert finding.what == (
        f"goes from 9 to 9 GPUs of {H100} and takes 17 on the way: at most 16 are allowed (+1)"
    )


def test_without_a_plan_before_every_comparing_key_is_named(demo_inputs: Inputs) -> None:
    keys = {"max_quality_drop": 0, "keep_limits": True, "min_quality": 0.1}
    (finding,) = found(demo_inputs, **keys)
    assert (finding.severity, finding.code) == ("warning", "policy-not-judged")
    assert finding.what.endswith(": max_quality_drop, keep_limits")
    assert "--against" in finding.fix


# ---- By itself -----------------------------------------------------------------------------------


def test_money_over_the_limit(demo_inputs: Inputs) -> None:
    (finding,) = found(demo_inputs, max_cost_usd_per_h=40)
    assert finding.what == "costs $48.55 per hour, at most $40.00 is allowed (+$8.55)"


def test_a_class_that_the_plan_does_not_know_is_at_zero(demo_inputs: Inputs) -> None:
    """A policy names classes of the question; a plan that leaves one out is not let off."""
    (finding,) = found(demo_inputs, min_class_quality={"poetry": 0.1})
    assert finding.what == "is 0.0000 of poetry, at least 0.1000 is asked for (-0.1000)"


@pytest.mark.parametrize(
    ("key", "name", "code"),
    [
        ("max_limit_used_ratio", "ms", "policy-limit-used"),
        ("max_limit_used_with_band_ratio", "high_ms", "policy-limit-band"),
    ],
)
def test_the_limit_used_most_alone_is_told_just_below_it(
    demo_inputs: Inputs, key: str, name: str, code: str
) -> None:
    used = sorted(getattr(f, name) / f.at_most_ms for f in LIMITED)
    below = (used[-1] + used[-2]) / 2
    (finding,) = found(demo_inputs, **{key: below})
    assert (finding.code, finding.severity) == (code, "error")
    (most,) = (f for f in LIMITED if getattr(f, name) / f.at_most_ms > below)
    assert most.class_name is not None and most.class_name in finding.where


def test_a_forbidden_gpu_is_told_where_it_is_rented_and_nowhere_else(demo_inputs: Inputs) -> None:
    rented = found(demo_inputs, forbidden_gpus=[H100])
    assert {f.code for f in rented} == {"policy-forbidden-gpu"}
    assert all(H100 in f.where + f.what for f in rented)
    assert found(demo_inputs, forbidden_gpus=["a100-sxm-80g"]) == []


@pytest.mark.parametrize("key", ["max_limit_used_ratio", "max_limit_used_with_band_ratio"])
def test_keys_about_limits_of_a_plan_without_any_are_not_judged(
    demo_inputs: Inputs, key: str
) -> None:
    unlimited = predicting(
        PLAN,
        latency=tuple(f.model_copy(update={"at_most_ms": None}) for f in PLAN.predicted.latency),
    )
    (finding,) = found(demo_inputs, unlimited, **{key: 0.5})
    assert (finding.code, key in finding.what) == ("policy-not-judged", True)


def test_headroom_is_of_each_pool(demo_inputs: Inputs) -> None:
    findings = found(demo_inputs, min_headroom_ratio=0.13)
    assert [f.where for f in findings] == [
        "plan.json:predicted.pools[llama-3.1-70b-b200-tp2].utilisation_ratio"
    ]
    assert "11.8% is free, at least 13.0% is asked for (-1.2 points)" in findings[0].what


def test_a_limit_that_was_never_simulated(demo_inputs: Inputs) -> None:
    assert PLAN.simulated is not None
    tried = PLAN.simulated.model_copy(update={"latency": PLAN.simulated.latency[1:]})
    (finding,) = found(
        demo_inputs, PLAN.model_copy(update={"simulated": tried}), require_simulated=True
    )
    assert finding.where == "plan.json:simulated.latency[p95 e2e of gsm]"


def test_a_scenario_must_be_told_and_survived_and_not_missed(demo_inputs: Inputs) -> None:
    from planner.spec.plan import Survived

    said = Survived(
        scenario="1.2 times the traffic",
        survives=True,
        utilisation_ratio=0.9,
        latency_ratio=0.9,
        quality=0.7,
        unserved_ratio=0.0,
    )
    wanted = {"required_scenarios": [said.scenario]}
    (finding,) = found(demo_inputs, **wanted)
    assert "says nothing of it" in finding.what
    for update, text in (
        ({}, None),
        ({"survives": False}, "not by its tables"),
        ({"verdict": "missed"}, "not in simulation"),
    ):
        survives = (said.model_copy(update=update),)
        findings = found(demo_inputs, PLAN.model_copy(update={"survives": survives}), **wanted)
        assert [text in f.what for f in findings] == ([] if text is None else [True])
    near = PLAN.model_copy(update={"survives": (said,)})
    (finding,) = found(demo_inputs, near, required_scenarios=["1.3 times the traffic"])
    assert "did you mean 1.2 times the traffic?" in finding.fix


def test_what_is_not_measured_is_named_file_by_file(demo_inputs: Inputs) -> None:
    findings = found(demo_inputs, measured_only=True)
    assert {f.where for f in findings} == {
        f"profiles/{row.pool}/points.csv" for row in PLAN.deployment
    }  # pools that the plan does not use may be guessed


def test_measured_pools_with_a_metric_that_nobody_measured(demo_inputs: Inputs) -> None:
    """Where all points are measured, a limited latency can still be estimated."""
    measured = tuple(
        replace(
            profile,
            points=tuple(
                p.model_copy(update={"origin": "measured", "estimated": ""}) for p in profile.points
            ),
        )
        for profile in demo_inputs.profiles.profiles
    )
    inputs = replace(demo_inputs, profiles=replace(demo_inputs.profiles, profiles=measured))
    findings = found(inputs, measured_only=True)
    assert {f.where.split("[")[0] for f in findings} == {"plan.json:predicted.latency"}
    sound = predicting(
        PLAN,
        latency=tuple(f.model_copy(update={"origin": "measured"}) for f in PLAN.predicted.latency),
    )
    assert found(inputs, sound, measured_only=True) == []


def priced(inputs: Inputs, date: datetime.date) -> Inputs:
    gpus = tuple(gpu.model_copy(update={"as_of": date}) for gpu in inputs.profiles.gpus)
    return replace(inputs, profiles=replace(inputs.profiles, gpus=gpus))


@pytest.mark.parametrize(
    ("days_ago", "where"), [(30, []), (31, [B200, H100]), (-1, [B200, H100]), (0, [])]
)
def test_prices_grow_old(demo_inputs: Inputs, days_ago: int, where: list[str]) -> None:
    """Of GPUs in use alone; the A100's price is of no interest, and no price is of tomorrow."""
    inputs = priced(demo_inputs, TODAY - datetime.timedelta(days=days_ago))
    findings = found(inputs, max_price_age_days=30)
    assert [f.where for f in findings] == [f"profiles/gpus.yaml:[{gpu}].as_of" for gpu in where]


def test_a_price_of_the_question_has_no_age(demo_inputs: Inputs) -> None:
    question = demo_inputs.question.model_copy(update={"prices": {H100: 2.0}})
    inputs = replace(demo_inputs, files=replace(demo_inputs.files, question=question))
    findings = found(priced(inputs, TODAY), max_price_age_days=30)
    assert told(findings) == [("warning", "policy-not-judged", "question.yaml:prices")]


# ---- Plans with periods --------------------------------------------------------------------------


def test_each_period_with_limits_must_have_been_simulated(demo_inputs: Inputs) -> None:
    ratios = {"simulated_latency_ratio": 0.9}
    (finding,) = found(demo_inputs, by_day(PLAN, **ratios), require_simulated=True)
    assert finding.where == "plan.json:periods[day].simulated_latency_ratio"
    free = predicting(PLAN, latency=()).predicted
    (finding,) = found(demo_inputs, by_day(PLAN, predicted=free), require_simulated=True)
    assert "period day" in finding.what  # by night there are no limits to be tried


def test_what_a_hosted_pool_charges_has_no_age(demo_inputs: Inputs) -> None:
    hosted = PLAN.deployment[0].model_copy(update={"pool": "api", "gpu": None})
    plan = PLAN.model_copy(update={"deployment": (*PLAN.deployment, hosted)})
    findings = found(priced(demo_inputs, TODAY), plan, max_price_age_days=30)
    assert told(findings) == [("warning", "policy-not-judged", "profiles/api/pool.yaml:price")]


def test_money_of_a_day_is_the_mean_over_its_hours(demo_inputs: Inputs) -> None:
    (finding,) = found(demo_inputs, by_day(PLAN), max_cost_usd_per_h=39)
    assert finding.where == "plan.json:periods.cost_usd_per_h"
    assert "costs $40.00 per hour" in finding.what


def test_each_period_is_held_to_the_policy(demo_inputs: Inputs) -> None:
    dull = PLAN.predicted.model_copy(update={"quality": 0.5})
    (finding,) = found(demo_inputs, by_day(PLAN, predicted=dull), min_quality=0.7)
    assert finding.where == "plan.json:periods[night].predicted.quality"
    assert "of all traffic in period night" in finding.what


def test_reserved_gpus_count_as_used(demo_inputs: Inputs) -> None:
    day = by_day(PLAN)
    assert found(demo_inputs, day, max_gpus={H100: 10}) == []
    (finding,) = found(demo_inputs, day, max_gpus={H100: 9})
    assert finding.where == f"plan.json:periods.reserved[{H100}]"


def test_periods_are_held_against_those_of_their_name(demo_inputs: Inputs) -> None:
    rows = PLAN.deployment
    night = (rows[0].model_copy(update={"replicas": 1, "n_gpus": 2.0}), *rows[1:])
    (finding,) = found(
        demo_inputs, by_day(PLAN, deployment=night), old=by_day(PLAN), max_gpus_moved=1
    )
    assert finding.where == "plan.json:periods[night].deployment"


def test_a_period_that_is_gone_is_held_against_what_serves_its_hours_now(
    demo_inputs: Inputs,
) -> None:
    rows = PLAN.deployment
    night = (rows[0].model_copy(update={"replicas": 1, "n_gpus": 2.0}), *rows[1:])
    (finding,) = found(demo_inputs, PLAN, old=by_day(PLAN, deployment=night), max_gpus_moved=1)
    assert "start and with 0 stop since period night" in finding.what
    (finding,) = found(demo_inputs, by_day(PLAN, deployment=night), old=PLAN, max_gpus_moved=1)
    assert finding.where == "plan.json:periods[night].deployment"


def test_a_day_needs_a_bound_of_its_own(demo_inputs: Inputs) -> None:
    (finding,) = found(demo_inputs, by_day(PLAN), max_gap_ratio=1)
    assert finding.where == "plan.json:periods.bound"


def test_a_plan_without_periods_is_one_part() -> None:
    assert [(p.at, p.of) for p in parts(PLAN)] == [("plan.json:", "")]
    assert [p.of for p in parts(by_day(PLAN))] == [" in period night", " in period day"]


# ---- Properties ----------------------------------------------------------------------------------


@given(allowed=st.floats(0, 100), more=st.floats(0, 100))
def test_who_allows_more_finds_no_more(demo_inputs: Inputs, allowed: float, more: float) -> None:
    def n(value: float) -> int:
        keys: Mapping[str, Any] = {
            "max_cost_usd_per_h": value,
            "max_limit_used_ratio": value / 50,
            "max_limit_used_with_band_ratio": value / 50,
            "max_gpus": {H100: value / 5, B200: value / 5},
            "max_cost_increase_ratio": value / 100,
            "max_latency_increase_ratio": value / 50,
            "max_gpus_moved": value / 5,
        }
        return len(found(demo_inputs, old=OLD, **keys))

    assert n(allowed + more) <= n(allowed)


OLD = figured(resized(predicting(PLAN, cost_usd_per_h=30.0), BIG, n_gpus=2.0), 0, ms=4000.0)


@given(value=st.floats(0, 1e6))
def test_money_is_told_in_cents_or_finer(value: float) -> None:
    assert float(usd(value).replace("$", "").replace(",", "")) == pytest.approx(value, abs=5e-3)
    assert usd_change(-value).startswith("-$" if value > 0 else "+$")


# ---- Severities ----------------------------------------------------------------------------------


def judged(inputs: Inputs, plan: Plan, **keys: Any) -> Judgement:
    """Returns the judgement of a plan without routes.json, by a policy with some keys."""
    policy = Policy.model_validate({"version": 1, **keys})
    return judge(inputs, plan, None, None, Asked(policy, TODAY))


def test_a_policy_sets_severities_and_what_is_off_is_counted(
    demo_inputs: Inputs, demo_plan: Plan
) -> None:
    broken = demo_plan.model_copy(update={"complete": False})
    usual = judge(demo_inputs, broken, None)
    assert [(f.severity, f.code) for f in usual.findings] == [
        ("error", "routes-missing"),
        ("warning", "incomplete"),
    ]
    assert not usual.ok and usual.switched_off == ()
    turned = judged(
        demo_inputs, broken, severity={"routes-missing": "warning", "incomplete": "error"}
    )
    assert [(f.severity, f.code) for f in turned.findings] == [
        ("error", "incomplete"),
        ("warning", "routes-missing"),
    ]
    levels = {rule.id: rule.severity for rule in turned.judged}
    assert (levels["incomplete"], levels["routes-missing"]) == ("error", "warning")


def test_a_rule_that_is_off_is_no_rule_that_passed(demo_inputs: Inputs, demo_plan: Plan) -> None:
    off = {"routes-missing": "off", "stale": "off"}
    quiet = judged(demo_inputs, demo_plan, severity=off)
    assert quiet.ok and quiet.findings == ()
    assert quiet.switched_off == (("stale", 0), ("routes-missing", 1))
    assert quiet.n_kept_back == 1
    assert not {"stale", "routes-missing"} & {rule.id for rule in quiet.judged}


def test_only_rules_that_had_their_say_are_judged(demo_inputs: Inputs, demo_plan: Plan) -> None:
    without = {rule.id for rule in judge(demo_inputs, demo_plan, None).judged}
    assert "sheet-differs" not in without  # there is no sheet
    assert not any(id.startswith("policy-") for id in without)
    asked = {rule.id for rule in judged(demo_inputs, demo_plan, min_quality=0.1).judged}
    assert asked - without == {"policy-not-judged", "policy-quality"}
    route = demo_plan.routing[0].model_copy(update={"class_name": "poetry", "share": 1.0})
    strange = demo_plan.model_copy(update={"routing": (*demo_plan.routing, route)})
    unknown = {rule.id for rule in judge(demo_inputs, strange, None).judged}
    assert "unknown-class" in unknown
    assert not {"limit", "capacity", "quality-floor", "prediction-drift"} & unknown
