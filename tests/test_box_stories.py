"""Plans over shared GPUs, hosted pools and a kept deployment, from the inputs to the check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import (
    GPU,
    GPU_USD_PER_H,
    HOSTED,
    OWN,
    enumerated,
    hosted_objectives,
    hosted_profiles,
    objectives_of,
    unlimited,
)
from questions import inputs_of, small, write_question

from planner.case import make_case
from planner.choose import choose
from planner.errors import InputError
from planner.files.inputs import read_inputs
from planner.files.plans import routes_of
from planner.gate.check import check
from planner.gate.finding import Finding
from planner.gate.plan.placement import placement_findings
from planner.keeping import starts_near
from planner.plan import make_plan
from planner.proofs.certify import proven_bound
from planner.simulate.engines import engine_of
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.pool import GpuShare

BIG, SMALL = OWN
OTHER = "other-8b"


def halves(folder: Path, slowdown_ratio: float = 1.1, **changes: Any) -> Inputs:
    """Two models of the size of the small one on halves of GPUs; one answers like the 70b."""
    read = inputs_of(folder, small(pools=[SMALL], **changes))
    (profile,) = read.candidates
    share = GpuShare(compute_ratio=0.5, memory_gib=36.0, slowdown_ratio=slowdown_ratio)
    half = profile.pool.model_copy(update={"share": share})
    names = {"name": OTHER, "model_name": "other", "scores_model_name": "llama-3.1-70b"}
    pools = (half, half.model_copy(update=names))
    return replace(read, candidates=tuple(replace(profile, pool=pool) for pool in pools))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    classes = small()["classes"]
    for each in classes:
        each["rate_rps"] *= 3
    return halves(tmp_path_factory.mktemp("halves"), stock={GPU: 2}, classes=classes)


@pytest.fixture(scope="module")
def plan(inputs: Inputs) -> Plan:
    return make_plan(inputs, "quick", "enumerate")


def what(findings: Iterable[Finding]) -> list[str]:
    return [f"{f.code}: {f.where}: {f.what}" for f in findings]


def test_models_that_share_a_gpu_lie_side_by_side_and_pay_it_once(plan: Plan) -> None:
    n = {row.pool: row.replicas for row in plan.deployment}
    assert set(n) == {SMALL, OTHER}
    n_gpus = max(n.values())  # each GPU carries one half of each model
    assert sum(row.n_gpus for row in plan.deployment) == pytest.approx(n_gpus)
    assert plan.predicted.cost_usd_per_h == pytest.approx(GPU_USD_PER_H * n_gpus)
    places = {(entry.pool, entry.replica): entry.gpus for entry in plan.placement}
    assert len(places) == sum(n.values())
    assert {gpu for gpus in places.values() for gpu in gpus} == set(range(n_gpus))
    assert plan.bound is not None and plan.bound.gap_ratio <= 0.01


def test_an_assumed_slowdown_is_marked(plan: Plan) -> None:
    assert plan.predicted.origin == "assumed"
    (sentence,) = (line for line in plan.why if line.startswith(f"{OTHER} takes"))
    assert sentence == (
        f"{OTHER} takes 50% of a GPU and 36 GiB of it; that neighbours make everything take "
        "1.10 times as long is assumed"
    )


def test_the_check_reads_the_places(inputs: Inputs, plan: Plan) -> None:
    assert {f.code for f in check(inputs, plan, routes_of(plan))} <= {"extrapolated"}
    old = plan.model_copy(update={"placement": ()})  # from before there were places
    assert {f.code for f in check(inputs, old, routes_of(old))} <= {"extrapolated"}
    assert "placement" not in old.model_dump(by_alias=True)
    assert Plan.model_validate(plan.model_dump(by_alias=True)) == plan


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gpus": (4,)}, "lies on GPU 4, the last one is 1"),
        ({"gpus": (0, 1)}, "lies on GPUs 0, 1, it needs 1 different ones"),
        ({"replica": 9}, "the deployment has"),
        ({"pool": SMALL, "replica": 9}, "the deployment has"),
    ],
)
def test_a_wrong_place_is_found(
    inputs: Inputs, plan: Plan, change: dict[str, Any], says: str
) -> None:
    last = plan.placement[-1].model_copy(update=change)
    wrong = plan.model_copy(update={"placement": (*plan.placement[:-1], last)})
    found = what(placement_findings(make_case(inputs), wrong))
    assert any(line.startswith("placement") and says in line for line in found), found


def test_too_much_on_a_gpu_is_found(inputs: Inputs, plan: Plan) -> None:
    on_first = [entry.model_copy(update={"gpus": (0,)}) for entry in plan.placement]
    crowded = plan.model_copy(update={"placement": tuple(on_first)})
    case = make_case(inputs)
    found = " ".join(what(placement_findings(case, crowded)))
    n = {row.pool: row.replicas for row in plan.deployment}
    assert f"{sum(n.values()) * 0.5:.0%} of its compute is given away" in found
    assert "of its memory is given away" in found
    assert f"carries other {n[OTHER]} times" in found
    apart = [e.model_copy(update={"gpus": (i,)}) for i, e in enumerate(plan.placement)]
    spread = plan.model_copy(update={"placement": tuple(apart)})
    opened = [line for line in what(placement_findings(case, spread)) if "opens" in line]
    assert opened and "are paid for" in opened[0]


def test_neighbours_slow_tables_and_simulated_replicas_alike(tmp_path: Path) -> None:
    alone, beside = (make_case(halves(tmp_path / str(r), r)) for r in (1.0, 1.25))
    before, after = alone.tables()[0], beside.tables()[0]
    assert after.work_s == pytest.approx(1.25 * before.work_s)
    assert after.mean_ms["e2e"] == pytest.approx(1.25 * before.mean_ms["e2e"])
    steps = [np.array(engine_of(c.models[0]).steps.decode_ps) for c in (alone, beside)]
    assert steps[1] == pytest.approx(1.25 * steps[0], rel=1e-6)
    assert set(after.origin.values()) == {"assumed"}


def test_a_replica_larger_than_a_node_says_that_it_spans_nodes(tmp_path: Path) -> None:
    folder = write_question(tmp_path / "plan", small(stock={GPU: 16}))
    profiles = hosted_profiles(tmp_path, price=0.4, max_rps=9.0)
    pool = profiles / BIG / "pool.yaml"
    four_stages = pool.read_text().replace("pipeline_parallel: 1", "pipeline_parallel: 4")
    pool.write_text(four_stages)
    with pytest.raises(InputError) as failed:
        read_inputs(folder, profiles)
    (fault,) = failed.value.faults
    assert fault.field == "spans_nodes"
    assert fault.what == "is false, got a replica of 16 GPUs on nodes of 8"
    pool.write_text(four_stages + "spans_nodes: true\n")
    case = make_case(read_inputs(folder, profiles))
    assert case.space.gpus_per_replica.tolist() == [16.0, 1.0]


# ---- hosted pools ---------------------------------------------------------------------------


def test_a_provider_gets_no_more_than_it_allows(tmp_path: Path) -> None:
    """Both in the plan, and in the check of a plan that sends it more."""
    pools, rate = [HOSTED, *OWN], {"stock": {GPU: 5}, "quality_at_least": 0.75}
    folder = write_question(tmp_path / "plan", unlimited(pools=pools, **rate))
    inputs = read_inputs(folder, hosted_profiles(tmp_path, price=0.4, max_rps=9.0))
    plan = make_plan(inputs, "quick", "enumerate")
    used = {figure.pool: figure for figure in plan.predicted.pools}
    assert HOSTED in used
    assert used[HOSTED].rate_rps <= 9.0 * 0.9 + 1e-4  # the headroom is left to it as well
    lower = replace(
        inputs,
        candidates=tuple(
            replace(p, pool=p.pool.model_copy(update={"max_rps": 6.0})) if p.name == HOSTED else p
            for p in inputs.candidates
        ),
    )
    codes = {f.code for f in check(lower, plan, routes_of(plan))}
    assert "capacity" in codes


def test_the_best_quality_of_a_budget_is_proved_with_hosted_requests(tmp_path: Path) -> None:
    objectives = hosted_objectives(
        tmp_path, choose="best_quality", budget_usd_per_h=11.0, quality_at_least=None
    )
    chosen, _ = choose(objectives, enumerated(objectives), None, signed=False)
    assert chosen is not None and chosen.routing.hosted_usd_per_h > 0
    assert chosen.cost_usd_per_h == pytest.approx(11.0, rel=1e-4)
    proof = proven_bound(objectives, chosen)
    assert proof is not None and proof.objective == "quality"
    assert chosen.score.quality - 1e-6 <= proof.best_possible <= chosen.score.quality + 1e-3
    (price,) = (price for price in chosen.routing.prices if price.what == "budget")
    assert price.unit == "quality per USD per hour" and price.value > 0


# ---- a deployment that is kept --------------------------------------------------------------


@pytest.mark.parametrize(
    ("usd", "n_moved"), [(0.5, 1), pytest.param(20.0, 0, marks=pytest.mark.slow)]
)
def test_the_bound_speaks_of_the_money_that_a_change_must_save(
    usd: float, n_moved: int, tmp_path: Path
) -> None:
    keep = {"plan": "../production", "usd_per_replica_change": usd}
    asked = unlimited(stock={GPU: 9}, quality_at_least=0.7, keep=keep)
    objectives = objectives_of(tmp_path, asked)
    explored = enumerated(objectives)
    free, _ = choose(objectives, explored, None, signed=False)
    assert free is not None
    production = free.replicas + np.array([0, 1])  # one small replica too many
    chosen, _ = choose(objectives, explored, production, signed=False)
    assert chosen is not None
    assert np.abs(chosen.replicas - production).sum() == n_moved
    proof = proven_bound(objectives, chosen, production)
    assert proof is not None and proof.method.endswith("with the cost of changes")
    assert proof.value == pytest.approx(chosen.cost_usd_per_h + usd * n_moved)
    assert proof.best_possible == pytest.approx(proof.value, rel=1e-4)
    *_, near = starts_near(objectives, production)
    assert near.tolist() == chosen.replicas.tolist()
    careless = proven_bound(objectives, chosen)  # of rent alone, which is less than either
    assert careless is not None and careless.best_possible == pytest.approx(free.cost_usd_per_h)
