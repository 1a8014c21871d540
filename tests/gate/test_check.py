"""Every code of `rb check`: a valid plan with exactly one thing broken gives exactly that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hand_plan import BIG, REPLICAS, SHARES, SMALL, hand_plan

from planner.case import Case, make_case
from planner.errors import InputError
from planner.files.plans import routes_of
from planner.gate.check import check
from planner.gate.finding import Finding
from planner.gate.plan.drift import drift_findings
from planner.gate.plan.resources import resource_findings
from planner.ordered import case_of, rescore
from planner.spec.inputs import Inputs
from planner.spec.plan import LatencyFigure, Plan, PoolFigure
from planner.spec.pool import GpuShare, HostedPrice, Pool, Profile
from planner.spec.question import Limit, ReplicaRange

API = "api-70b"


@pytest.fixture(scope="module")
def inputs(demo_inputs: Inputs) -> Inputs:
    """Returns the demo with two candidate pools, which is quick to score."""
    two = tuple(p for p in demo_inputs.candidates if p.name in (BIG, SMALL))
    return replace(demo_inputs, candidates=two)


@pytest.fixture(scope="module")
def plan(inputs: Inputs) -> Plan:
    return hand_plan(inputs)


def judge(inputs: Inputs, plan: Plan) -> tuple[Finding, ...]:
    return check(inputs, plan, routes_of(plan))


def codes(findings: Iterable[Finding]) -> set[str]:
    return {f.code for f in findings}


def asked(inputs: Inputs, **update: Any) -> Inputs:
    """Returns the inputs with fields of the question changed, hashes left as they are."""
    question = inputs.question.model_copy(update=update)
    return replace(inputs, files=replace(inputs.files, question=question))


def classes(inputs: Inputs, name: str | None, **update: Any) -> Inputs:
    """Returns the inputs with fields of one class (or of all) changed."""
    changed = tuple(
        c.model_copy(update=update) if name in (None, c.name) else c
        for c in inputs.question.classes
    )
    return asked(inputs, classes=changed)


def predicting(plan: Plan, **update: Any) -> Plan:
    """Returns a plan with other figures, the front's point of it alike."""
    said = plan.predicted.model_copy(update=update)
    figures = {n: getattr(said, n) for n in ("cost_usd_per_h", "quality", "latency_ratio")}
    return chosen(plan.model_copy(update={"predicted": said}), **figures)


def with_rows(plan: Plan, name: str, **update: Any) -> Plan:
    """Returns a plan with another row of its deployment, the front's point of it alike."""
    rows = tuple(d.model_copy(update=update) if d.pool == name else d for d in plan.deployment)
    deployment = {row.pool: row.replicas for row in rows}
    return chosen(plan.model_copy(update={"deployment": rows}), deployment=deployment)


def chosen(plan: Plan, **update: Any) -> Plan:
    front = tuple(p.model_copy(update=update) if p.chosen else p for p in plan.front)
    return plan.model_copy(update={"front": front})


def with_shares(plan: Plan, shares: dict[tuple[str, str], float]) -> Plan:
    """Returns a plan whose routing is changed by hand, its figures left as they are."""
    routes = tuple(
        r.model_copy(update={"share": shares.get((r.class_name, r.pool), r.share)})
        for r in plan.routing
    )
    return plan.model_copy(update={"routing": routes})


def with_profile(inputs: Inputs, name: str, profile: Profile) -> Inputs:
    candidates = tuple(profile if p.name == name else p for p in inputs.candidates)
    return replace(inputs, candidates=candidates)


def with_api(inputs: Inputs) -> Inputs:
    """Returns the inputs with a hosted pool whose latency nobody measured."""
    api = Pool(
        name=API,
        model_name="llama-3.1-70b",
        price=HostedPrice(usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=2.0),
        max_rps=100.0,
        source="made up for this test",
    )
    return replace(inputs, candidates=(Profile(api, None, None), *inputs.candidates))


def resources(case: Case, plan: Plan) -> list[str]:
    return [f.code for f in resource_findings(case, plan)]


def test_a_valid_plan_is_clean(inputs: Inputs, plan: Plan) -> None:
    assert judge(inputs, plan) == ()


def test_a_valid_plan_is_clean_among_all_candidates(demo_inputs: Inputs, demo_plan: Plan) -> None:
    assert judge(demo_inputs, demo_plan) == ()


# ---- what the plan orders ----------------------------------------------------------------------


def test_unknown_pool(inputs: Inputs, plan: Plan) -> None:
    renamed = tuple(
        r.model_copy(update={"pool": "gone"}) if r.pool == SMALL else r for r in plan.routing
    )
    broken = with_rows(plan, SMALL, pool="gone").model_copy(update={"routing": renamed})
    findings = judge(inputs, broken)
    assert [(f.code, f.where) for f in findings] == [("unknown-pool", "plan.json:deployment[gone]")]
    assert "is not in the profiles" in findings[0].what


def test_a_pool_that_is_no_candidate_any_more_is_unknown(inputs: Inputs, plan: Plan) -> None:
    one = replace(inputs, candidates=tuple(p for p in inputs.candidates if p.name == BIG))
    findings = judge(one, plan)
    assert codes(findings) == {"unknown-pool", "stale"}  # its files are no inputs any more
    assert "may not be planned with" in next(f.what for f in findings if f.code == "unknown-pool")


def test_unknown_class(inputs: Inputs, plan: Plan) -> None:
    route = plan.routing[0].model_copy(update={"class_name": "poetry", "share": 1.0})
    broken = plan.model_copy(update={"routing": (*plan.routing, route)})
    assert codes(judge(inputs, broken)) == {"unknown-class"}


def test_duplicate_route(inputs: Inputs, plan: Plan) -> None:
    half = plan.routing[0].model_copy(update={"share": 0.3})
    broken = plan.model_copy(update={"routing": (half, half, *plan.routing[1:])})
    assert codes(judge(inputs, broken)) == {"duplicate"}


def test_duplicate_deployment_row(inputs: Inputs, plan: Plan) -> None:
    broken = plan.model_copy(update={"deployment": (*plan.deployment, plan.deployment[0])})
    assert codes(judge(inputs, broken)) == {"duplicate"}


@pytest.mark.parametrize("share", [0.599999, 0.600001, 0.59])
def test_shares_sum(inputs: Inputs, plan: Plan, share: float) -> None:
    findings = judge(inputs, with_shares(plan, {("gsm", BIG): share}))
    assert "shares-sum" in codes(findings)
    assert codes(findings) <= {"shares-sum", "prediction-drift"}
    assert f"sum to {share + 0.4:.6f}" in findings[0].what


def test_a_class_without_any_route_does_not_sum_to_one(inputs: Inputs, plan: Plan) -> None:
    routing = tuple(r for r in plan.routing if r.class_name != "crux")
    findings = judge(inputs, plan.model_copy(update={"routing": routing}))
    assert ("shares-sum", "plan.json:routing[crux]") in [(f.code, f.where) for f in findings]


def test_shares_with_more_than_6_decimals(inputs: Inputs, plan: Plan) -> None:
    broken = with_shares(plan, {("gsm", BIG): 0.6000001, ("gsm", SMALL): 0.3999999})
    findings = judge(inputs, broken)
    assert [f.code for f in findings] == ["shares-sum", "shares-sum"]
    assert all("more than 6 decimals" in f.what for f in findings)


def test_no_replica(inputs: Inputs) -> None:
    findings = judge(inputs, hand_plan(inputs, replicas={BIG: 6}))
    assert [f.code for f in findings] == ["no-replica"]
    assert "40.00% of gsm" in findings[0].what


def test_a_share_of_zero_needs_no_replica(inputs: Inputs) -> None:
    shares = {**SHARES, ("gsm", BIG): 1.0, ("gsm", SMALL): 0.0}
    loose = classes(inputs, "math-l5", limits=())
    assert judge(loose, hand_plan(loose, {BIG: 6}, shares)) == ()


def test_not_allowed(inputs: Inputs, plan: Plan) -> None:
    findings = judge(classes(inputs, "gsm", not_pools=(SMALL,)), plan)
    assert [(f.code, f.where) for f in findings] == [
        ("not-allowed", f"plan.json:routing[gsm][{SMALL}]")
    ]


def test_routes_missing(inputs: Inputs, plan: Plan) -> None:
    assert codes(check(inputs, plan, None)) == {"routes-missing"}


def test_routes_of_another_plan(inputs: Inputs, plan: Plan) -> None:
    routes = routes_of(plan).model_copy(update={"plan_hash": "0" * 64})
    assert codes(check(inputs, plan, routes)) == {"routes-differ"}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("classes", {}),
        ("load_prices", {}),
        ("model_prices", {"llama-3.1-8b": 0.1}),
        ("fallback", {"gsm": (SMALL,)}),
    ],
)
def test_routes_edited_by_hand(inputs: Inputs, plan: Plan, part: str, value: object) -> None:
    findings = check(inputs, plan, routes_of(plan).model_copy(update={part: value}))
    assert [(f.code, f.where) for f in findings] == [("routes-differ", f"routes.json:{part}")]


# ---- what the deployment takes ---------------------------------------------------------------


def test_stock(inputs: Inputs, plan: Plan) -> None:
    findings = judge(asked(inputs, stock={"h100-sxm-80g": 24}), plan)
    assert [f.code for f in findings] == ["stock"]
    assert "takes 25 GPUs of h100-sxm-80g, 24 exist" in findings[0].what


def test_budget(inputs: Inputs, plan: Plan) -> None:
    assert plan.predicted.cost_usd_per_h == 73.75  # 25 GPUs at $2.95
    assert judge(asked(inputs, budget_usd_per_h=73.75), plan) == ()
    assert codes(judge(asked(inputs, budget_usd_per_h=73.74), plan)) == {"budget"}


def test_budget_with_hosted_requests(inputs: Inputs) -> None:
    free = classes(with_api(inputs), None, limits=())
    shares = {**SHARES, ("crux", BIG): 0.0, ("crux", API): 1.0}
    plan = hand_plan(free, {**REPLICAS, API: 1}, shares)
    assert judge(free, plan) == ()
    tight = asked(free, budget_usd_per_h=(73.75 + plan.predicted.cost_usd_per_h) / 2)
    findings = judge(tight, plan)
    assert [(f.code, f.where) for f in findings] == [("budget", "plan.json:routing")]


@pytest.mark.parametrize("bounds", [ReplicaRange(min=7), ReplicaRange(max=5)])
def test_replica_range(inputs: Inputs, plan: Plan, bounds: ReplicaRange) -> None:
    assert codes(judge(asked(inputs, replicas={BIG: bounds}), plan)) == {"replica-range"}


def test_a_hosted_pool_has_one_replica(inputs: Inputs) -> None:
    free = classes(with_api(inputs), None, limits=())
    shares = {**SHARES, ("crux", BIG): 0.0, ("crux", API): 1.0}
    assert codes(judge(free, hand_plan(free, {**REPLICAS, API: 2}, shares))) == {"replica-range"}


def test_memory_of_the_weights(inputs: Inputs, plan: Plan) -> None:
    models = [
        replace(m, memory=replace(m.memory, fits=m.profile.name != BIG))
        for m in make_case(inputs).models
    ]
    assert resources(make_case(inputs, models), plan) == ["memory"]


def test_memory_of_pools_that_share_gpus(inputs: Inputs) -> None:
    profile = next(p for p in inputs.candidates if p.name == SMALL)
    half = GpuShare(compute_ratio=0.5, memory_gib=60)
    shared = replace(profile, pool=profile.pool.model_copy(update={"share": half}))
    one = asked(replace(inputs, candidates=(shared,)), stock={"h100-sxm-80g": 1})
    shares = {(c, SMALL): 1.0 for c in ("gsm", "crux", "math-l5")}
    case = make_case(one)
    assert resources(case, hand_plan(one, {SMALL: 1}, shares)) == []
    # 120 GiB of 80, and two replicas of one model never lie on one GPU.
    assert resources(case, hand_plan(one, {SMALL: 2}, shares)) == ["memory", "copies"]


def test_node(inputs: Inputs, plan: Plan) -> None:
    profile = next(p for p in inputs.candidates if p.name == BIG)
    assert profile.gpu is not None
    narrow = replace(profile, gpu=profile.gpu.model_copy(update={"gpus_per_node": 2}))
    assert resources(make_case(with_profile(inputs, BIG, narrow)), plan) == ["node"]


def test_replicas_of_more_than_half_a_node(inputs: Inputs) -> None:
    """Twelve GPUs on two nodes: three replicas of four would fill them, and two find a place."""
    profile = next(p for p in inputs.candidates if p.name == BIG)
    assert profile.gpu is not None
    six = replace(profile, gpu=profile.gpu.model_copy(update={"gpus_per_node": 6}))
    two_nodes = asked(replace(inputs, candidates=(six,)), stock={"h100-sxm-80g": 12})
    shares = {(c, BIG): 1.0 for c in ("gsm", "crux", "math-l5")}
    case = make_case(two_nodes)
    assert resources(case, hand_plan(two_nodes, {BIG: 2}, shares)) == []
    assert resources(case, hand_plan(two_nodes, {BIG: 3}, shares)) == ["halves"]


def test_idle_replicas_are_a_warning(inputs: Inputs) -> None:
    rich = asked(inputs, stock={"h100-sxm-80g": 64})
    findings = resource_findings(make_case(rich), hand_plan(rich, {BIG: 6, SMALL: 40}))
    assert [(f.severity, f.code) for f in findings] == [("warning", "idle")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_name", "llama-3.1-8b"),
        ("gpu", "b200-sxm-180g"),
        ("tensor_parallel", 8),
        ("n_gpus", 25.0),
        ("usd_per_h", 70.7999),
    ],
)
def test_deployment_row(inputs: Inputs, plan: Plan, field: str, value: object) -> None:
    findings = judge(inputs, with_rows(plan, BIG, **{field: value}))
    assert [(f.code, f.where) for f in findings] == [
        ("deployment-row", f"plan.json:deployment[{BIG}].{field}")
    ]


# ---- what its users will see -------------------------------------------------------------------


def test_capacity(inputs: Inputs, plan: Plan) -> None:
    findings = judge(asked(inputs, headroom_ratio=0.5), plan)
    assert [(f.code, f.where) for f in findings] == [("capacity", BIG)]
    used = next(p.utilisation_ratio for p in plan.predicted.pools if p.pool == BIG)
    assert f"{used:.1%}" in findings[0].what
    assert judge(asked(inputs, headroom_ratio=1 - used), plan) == ()


def test_limit(inputs: Inputs, plan: Plan) -> None:
    figure = next(f for f in plan.predicted.latency if f.class_name == "math-l5")
    tight = Limit(metric="e2e", statistic="p95", at_most_ms=figure.ms * 0.97)
    tightened = classes(inputs, "math-l5", limits=(tight,))
    findings = judge(tightened, hand_plan(tightened))
    assert [(f.code, f.where) for f in findings] == [("limit", "p95 e2e of math-l5")]
    loose = Limit(metric="e2e", statistic="p95", at_most_ms=figure.ms * 1.03)
    loosened = classes(inputs, "math-l5", limits=(loose,))
    assert judge(loosened, hand_plan(loosened)) == ()


def test_a_limit_over_all_traffic(inputs: Inputs) -> None:
    tight = Limit(metric="tpot", statistic="mean", at_most_ms=20.0)  # 26 ms are predicted
    tightened = asked(inputs, limits=(tight,))
    findings = judge(tightened, hand_plan(tightened))
    assert [(f.code, f.where) for f in findings] == [("limit", "mean tpot of all traffic")]


def test_no_latency(inputs: Inputs) -> None:
    hosted = with_api(inputs)
    shares = {**SHARES, ("crux", BIG): 0.0, ("crux", API): 1.0}
    findings = judge(hosted, hand_plan(hosted, {**REPLICAS, API: 1}, shares))
    assert [(f.code, f.where) for f in findings] == [("no-latency", API)]


def test_quality_floor_of_all_traffic(inputs: Inputs, plan: Plan) -> None:
    reached = plan.predicted.quality
    findings = judge(asked(inputs, quality_at_least=reached + 1e-4), plan)
    assert [(f.code, f.where) for f in findings] == [("quality-floor", "quality of all traffic")]
    assert judge(asked(inputs, quality_at_least=reached - 1e-4), plan) == ()


def test_quality_floor_of_a_class(inputs: Inputs, plan: Plan) -> None:
    findings = judge(classes(inputs, "crux", quality_at_least=0.65), plan)  # the 70B scores 0.6425
    assert [(f.code, f.where) for f in findings] == [("quality-floor", "quality of crux")]


def test_extrapolated_is_a_warning(inputs: Inputs) -> None:
    profile = next(p for p in inputs.candidates if p.name == SMALL)
    few = with_profile(inputs, SMALL, replace(profile, points=profile.points[:2]))
    few = asked(few, quality_at_least=None)
    shares = {**SHARES, ("gsm", BIG): 0.4, ("gsm", SMALL): 0.6}  # more than 32 in flight
    findings = judge(few, hand_plan(few, shares=shares))
    assert [(f.severity, f.code, f.where) for f in findings] == [("warning", "extrapolated", SMALL)]


def test_incomplete_is_a_warning(inputs: Inputs, plan: Plan) -> None:
    findings = judge(inputs, plan.model_copy(update={"complete": False}))
    assert [(f.severity, f.code) for f in findings] == [("warning", "incomplete")]


def test_stale_names_each_input_that_differs(inputs: Inputs, plan: Plan) -> None:
    hashes = dict(plan.provenance.inputs)
    del hashes["arrivals.csv"]
    hashes |= {f"profiles/{BIG}/points.csv": "0" * 64, "profiles/gone/points.csv": "1" * 64}
    provenance = plan.provenance.model_copy(update={"inputs": hashes})
    wrong = predicting(plan, quality=0.9).model_copy(update={"provenance": provenance})
    findings = judge(inputs, wrong)
    assert codes(findings) == {"stale"}  # figures that rest on other inputs are no drift
    assert {f.where: f.what.split(",")[0] for f in findings} == {
        "arrivals.csv": "is new",
        f"profiles/{BIG}/points.csv": "has changed since the plan was made",
        "profiles/gone/points.csv": "the plan was made with it",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate_rps", 70.0),
        ("cost_usd_per_h", 73.7),
        ("quality", 0.7094),
        ("class_quality", {"gsm": 0.9, "crux": 0.6425}),
        ("latency", ()),
    ],
)
def test_prediction_drift(inputs: Inputs, plan: Plan, field: str, value: object) -> None:
    findings = judge(inputs, predicting(plan, **{field: value}))
    assert codes(findings) == {"prediction-drift"}
    assert all(f.severity == "error" for f in findings)
    assert findings[0].where.startswith(f"plan.json:predicted.{field}")
    assert len(findings) <= 6


@pytest.mark.parametrize(("off_ms", "n"), [(0.05, 0), (200.0, 1)])
def test_a_latency_may_differ_by_rounding_only(
    inputs: Inputs, plan: Plan, off_ms: float, n: int
) -> None:
    first, *rest = plan.predicted.latency
    moved = first.model_copy(update={"ms": first.ms + off_ms})
    assert len(judge(inputs, predicting(plan, latency=(moved, *rest)))) == n


@pytest.mark.parametrize(
    ("field", "value"),
    [("at_most_ms", None), ("at_most_ms", 1e9), ("high_ms", 1.0), ("origin", "measured")],
)
def test_drift_of_what_a_latency_is_held_against(
    inputs: Inputs, plan: Plan, field: str, value: object
) -> None:
    """A limit or an error band that is edited in the plan changes what a policy makes of it."""
    first, *rest = plan.predicted.latency
    edited = first.model_copy(update={field: value})
    findings = judge(inputs, predicting(plan, latency=(edited, *rest)))
    assert [(f.code, f.where) for f in findings] == [
        ("prediction-drift", f"plan.json:predicted.latency[p95 e2e of gsm].{field}")
    ]


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [("rate_rps", 1.0, "rate_rps"), ("extrapolated", True, "extrapolated")],
)
def test_drift_of_what_a_pool_gets(
    inputs: Inputs, plan: Plan, field: str, value: object, where: str
) -> None:
    first, *rest = plan.predicted.pools
    edited = first.model_copy(update={field: value})
    findings = judge(inputs, predicting(plan, pools=(edited, *rest)))
    assert [(f.code, f.where) for f in findings] == [
        ("prediction-drift", f"plan.json:predicted.pools[{BIG}].{where}")
    ]


def test_drift_of_the_rate_of_a_class(inputs: Inputs, plan: Plan) -> None:
    rates = {**plan.predicted.class_rps, "crux": 1.0}
    (finding,) = judge(inputs, predicting(plan, class_rps=rates))
    assert (finding.code, finding.where) == (
        "prediction-drift",
        "plan.json:predicted.class_rps[crux]",
    )


def test_drift_of_a_pool(inputs: Inputs, plan: Plan) -> None:
    pools = tuple(
        p.model_copy(update={"utilisation_ratio": p.utilisation_ratio + 0.01})
        for p in plan.predicted.pools
    )
    assert [f.code for f in judge(inputs, predicting(plan, pools=pools))] == [
        "prediction-drift"
    ] * 2


def test_mix_shift_is_a_warning(inputs: Inputs, plan: Plan) -> None:
    shifted = predicting(plan, mix_shift_ratio=0.1)
    assert [(f.severity, f.code) for f in judge(inputs, shifted)] == [("warning", "mix-shift")]


def slower(plan: Plan, times: float) -> tuple[LatencyFigure, ...]:
    return tuple(
        f.model_copy(update={"ms": times * f.ms, "high_ms": times * f.high_ms})
        for f in plan.predicted.latency
    )


@pytest.mark.parametrize(("shift", "severity"), [(0.01, "warning"), (0.004, "error"), (0, "error")])
def test_mix_shift_explains_as_much_drift_as_it_can(
    inputs: Inputs, plan: Plan, shift: float, severity: str
) -> None:
    """Latencies that are 7 % off: a mix that is 1 % off may do that, one of 0.4 % may not."""
    drifted = predicting(plan, mix_shift_ratio=shift, latency=slower(plan, 1.07))
    findings = [f for f in judge(inputs, drifted) if f.code == "prediction-drift"]
    assert {f.severity for f in findings} == {severity}


@pytest.mark.parametrize(
    "update",
    [
        {"quality": 0.9},
        {"cost_usd_per_h": 20.0},
        {"rate_rps": 100.0},
        {"origin": "measured"},
        {"rate_factor": 2.0},
    ],
    ids=lambda update: next(iter(update)),
)
def test_mix_shift_explains_nothing_that_no_mix_moves(
    inputs: Inputs, plan: Plan, update: dict[str, object]
) -> None:
    """Else a small number in the file would make every figure of it a matter of taste."""
    shifted = predicting(plan, mix_shift_ratio=0.04, **update)
    assert ("error", "prediction-drift") in {(f.severity, f.code) for f in judge(inputs, shifted)}


def test_every_figure_of_a_plan_is_held_against_its_inputs(inputs: Inputs, plan: Plan) -> None:
    """Field by field, so that a figure that is added later is not left out here."""
    case, said = case_of(inputs, plan), plan.predicted
    again = rescore(case, plan)

    def differs(**update: object) -> bool:
        return any(drift_findings(case, predicting(plan, **update), again))

    def edited(figure: PoolFigure | LatencyFigure, name: str) -> tuple[object, ...]:
        return (figure.model_copy(update={name: another(getattr(figure, name))}),)

    assert not differs()
    pool, latency = said.pools[0], said.latency[0]
    names = set(type(said).model_fields) - {"mix_shift_ratio"}  # of tables that nobody has any more
    assert [name for name in names if not differs(**{name: another(getattr(said, name))})] == []
    of_pool = [
        n for n in type(pool).model_fields if not differs(pools=edited(pool, n) + said.pools[1:])
    ]
    figures = said.latency[1:]
    of_latency = [
        n for n in type(latency).model_fields if not differs(latency=edited(latency, n) + figures)
    ]
    assert of_pool + of_latency == []


def another(value: object) -> object:
    """Returns a value that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return 1.05 * value + 0.1
    if isinstance(value, str):
        return {"assumed": "measured", "estimated": "measured"}.get(value, "p99")
    if isinstance(value, dict):
        return {name: 0.9 * each for name, each in value.items()}
    return 3.0 if value is None else ()


@pytest.mark.parametrize("part", ["pools", "latency"])
def test_figures_are_there_once_each(inputs: Inputs, plan: Plan, part: str) -> None:
    figures = getattr(plan.predicted, part)
    for changed in (figures[1:], (*figures, figures[0]), ()):
        findings = judge(inputs, predicting(plan, **{part: changed}))
        assert {f.code for f in findings} == {"prediction-drift"}


# ---- the rate factor ---------------------------------------------------------------------------


def test_a_maximised_plan_is_judged_at_its_rate_factor(inputs: Inputs) -> None:
    most = asked(inputs, maximise="rate_factor")
    assert judge(most, hand_plan(most, rate_factor=0.5)) == ()
    findings = judge(most, hand_plan(most, rate_factor=1.6))
    assert ("capacity", BIG) in [(f.code, f.where) for f in findings]
    assert "prediction-drift" not in codes(findings)


def test_a_rate_factor_that_nobody_asked_for_hides_nothing(inputs: Inputs) -> None:
    findings = judge(inputs, hand_plan(inputs, {BIG: 3, SMALL: 1}, rate_factor=0.1))
    assert {"capacity", "prediction-drift"} <= codes(findings)


# ---- as a whole --------------------------------------------------------------------------------


def test_errors_come_first(inputs: Inputs, plan: Plan) -> None:
    broken = plan.model_copy(update={"complete": False})
    findings = check(inputs, broken, None)
    assert [f.severity for f in findings] == ["error", "warning"]


def test_a_pool_that_cannot_be_fitted_cannot_be_judged(inputs: Inputs, plan: Plan) -> None:
    profile = next(p for p in inputs.candidates if p.name == BIG)
    blank = with_profile(inputs, BIG, replace(profile, points=()))
    with pytest.raises(InputError, match=f"profiles/{BIG}/points.csv"):
        judge(blank, plan)


def test_pools_that_the_plan_leaves_out_are_not_fitted(
    demo_inputs: Inputs, demo_plan: Plan
) -> None:
    """Nobody need measure a pool for a plan without it; `rb plan` would refuse."""
    unused = tuple(
        p if p.name in (BIG, SMALL) else replace(p, points=()) for p in demo_inputs.candidates
    )
    assert len(unused) > 2
    assert judge(replace(demo_inputs, candidates=unused), demo_plan) == ()


def test_pools_that_the_plan_leaves_out_change_no_finding(
    demo_inputs: Inputs, demo_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = {"h100-sxm-80g": 24, "b200-sxm-180g": 32}
    asks = asked(demo_inputs, headroom_ratio=0.5, quality_at_least=0.9, stock=stock)
    broken = predicting(demo_plan, quality=0.9, class_rps={})
    narrow = judge(asks, broken)
    monkeypatch.setattr("planner.gate.check.with_pools_of", lambda inputs, plan: inputs)
    assert judge(asks, broken) == narrow
    assert codes(narrow) >= {"capacity", "quality-floor", "stock", "prediction-drift"}


def test_the_shares_of_the_plan_are_what_is_scored(inputs: Inputs, plan: Plan) -> None:
    # Independent of score(): the mean of the class scores, weighted by hand.
    rates = np.array([2.541, 1.541, 1.389])
    crux, math = 0.6425, 0.431345
    expected = rates @ [0.6 * 0.941622 + 0.4 * 0.84003, crux, math] / rates.sum()
    assert plan.predicted.quality == pytest.approx(expected, abs=2e-6)
    off = predicting(plan, quality=round(expected + 0.001, 6))
    assert codes(judge(inputs, off)) == {"prediction-drift"}
