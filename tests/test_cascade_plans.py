"""A plan with cascades from end to end: planned, written, read, checked, compared, shown."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cascade_options import LARGE_MODEL, SMALL_MODEL, option
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import inputs_of, small
from rich.console import Console

from planner.answer import make_answer, make_provenance
from planner.case import Case, make_case
from planner.files.plans import plan_hash, plan_text, read_plan, read_routes, routes_of, write_plan
from planner.gate.check import check
from planner.gate.diff import diff
from planner.objectives import Objectives, make_objectives
from planner.proofs.certify import proven_bound
from planner.quality.cascade import CascadeOption
from planner.reasons.why import _cascades
from planner.report.diff import render_diff
from planner.report.plan import render_plan
from planner.routing import truth
from planner.score import score
from planner.settle import Settled, _tidy, class_mixes, settle
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan

OPTIONS = (option(), option("easy", quality=0.88, escalated_ratio=0.2, signal="length", below=-250))
BIG, TINY = "llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100"  # the order of the pools in a case


@dataclass(frozen=True)
class Made:
    """A settled deployment with its question."""

    inputs: Inputs
    objectives: Objectives
    settled: Settled
    plan: Plan

    @property
    def case(self) -> Case:
        return self.objectives.case


def made(
    folder: Path,
    cascades: tuple[CascadeOption, ...] = OPTIONS,
    n: tuple[int, int] = (1, 1),
    question: dict[str, Any] | None = None,
) -> Made:
    inputs = inputs_of(folder, question or small(quality_at_least=0.8))
    objectives = make_objectives(make_case(inputs, cascades=cascades))
    settled = settle(objectives, np.array(n, dtype=np.int64))
    provenance = make_provenance("by hand", 0, "none", 1, inputs.hashes)
    plan = make_answer(objectives.case, settled, [settled], ["made"], provenance, True)
    return Made(inputs, objectives, settled, plan)


@pytest.fixture(scope="module")
def cascaded(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("cascaded"))


def codes(m: Made, plan: Plan, cascades: tuple[CascadeOption, ...] = OPTIONS) -> set[str]:
    return {f.code for f in check(m.inputs, plan, routes_of(plan), cascades)}


def edited(plan: Plan, **changes: Any) -> Plan:
    """The plan with its first cascade changed."""
    first = plan.cascades[0].model_copy(update=changes)
    return plan.model_copy(update={"cascades": (first, *plan.cascades[1:])})


def test_a_cascade_reaches_a_floor_that_single_pools_do_not(cascaded: Made, tmp_path: Path) -> None:
    without = made(tmp_path, ())
    assert cascaded.settled.acceptable
    assert not without.settled.acceptable
    assert cascaded.settled.score.quality >= 0.8 > without.settled.score.quality


def test_shares_add_up_in_whole_millionths(cascaded: Made) -> None:
    w, plan = cascaded.case.workload, cascaded.plan
    units: dict[str, int] = dict.fromkeys(w.class_names, 0)
    for entry in (*plan.routing, *plan.cascades):
        units[entry.class_name] += round(entry.share * 1e6)
    assert set(units.values()) == {1_000_000}
    assert plan.cascades
    for cascade in plan.cascades:
        for stage in (cascade.first, cascade.second):
            assert sum(round(e.share * 1e6) for e in stage) == 1_000_000
    served = truth.served_shares(cascaded.settled.shares, w.cascades)
    np.testing.assert_allclose(served, 1.0, atol=1e-12)


def test_requests_are_counted_once(cascaded: Made) -> None:
    case, predicted = cascaded.case, cascaded.plan.predicted
    assert predicted.rate_rps == 32.0
    assert predicted.class_rps == {"easy": 24.0, "hard": 8.0}
    assert set(predicted.class_quality) == {"easy", "hard"}
    assert {f.class_name for f in predicted.latency} == {None, "easy", "hard"}
    assert case.workload.total_rps == 32.0
    np.testing.assert_allclose(case.workload.weights, [0.75, 0.25])
    asked = sum(p.rate_rps for p in predicted.pools)
    twice = sum(
        c.share * c.escalated_ratio * predicted.class_rps[c.class_name]
        for c in cascaded.plan.cascades
    )
    assert asked == pytest.approx(32.0 + twice, rel=1e-6)
    good = sum(p.goodput_rps for p in predicted.pools)
    assert 0.9 * 32.0 < good <= 32.0 + 1e-6
    assert predicted.usd_per_million_output_tokens is not None
    tokens = sum(p.output_tokens_per_s for p in predicted.pools) * 3600.0
    per_generated = predicted.cost_usd_per_h / tokens * 1e6
    assert predicted.usd_per_million_output_tokens > per_generated  # some of it nobody reads


def test_quality_is_that_of_cascades_and_pools(cascaded: Made) -> None:
    case, plan = cascaded.case, cascaded.plan
    quality = dict.fromkeys(case.workload.class_names, 0.0)
    score = {("easy", BIG): 0.9, ("easy", TINY): 0.8, ("hard", BIG): 0.6, ("hard", TINY): 0.3}
    for route in plan.routing:
        quality[route.class_name] += route.share * score[route.class_name, route.pool]
    for cascade in plan.cascades:
        quality[cascade.class_name] += cascade.share * cascade.quality
    for name, value in quality.items():
        assert plan.predicted.class_quality[name] == pytest.approx(value, abs=2e-6)
    mean = 0.75 * quality["easy"] + 0.25 * quality["hard"]
    assert plan.predicted.quality == pytest.approx(mean, abs=2e-6)


def test_a_plan_with_cascades_is_clean_and_stays_so_through_its_files(
    cascaded: Made, tmp_path: Path
) -> None:
    write_plan(tmp_path, cascaded.plan)
    plan, routes = read_plan(tmp_path, []), read_routes(tmp_path, [])
    assert plan == cascaded.plan
    assert plan is not None
    assert routes == routes_of(plan)
    assert check(cascaded.inputs, plan, routes, OPTIONS) == ()


def test_a_check_does_not_depend_on_cascades_that_the_plan_does_not_use(cascaded: Made) -> None:
    long = np.random.default_rng(1).lognormal(7.5, 1.2, 100)  # stretches the tables' grids
    more = option("easy", below=0.1, second_output_tokens=long)
    assert codes(cascaded, cascaded.plan, (more, *reversed(OPTIONS))) == set()


MANY = (
    *OPTIONS,
    option(below=0.3, escalated_ratio=0.2, quality=0.5),
    option(below=0.9, escalated_ratio=0.8, quality=0.64),
    option("easy", below=0.4, escalated_ratio=0.1, quality=0.85),
)


def test_the_score_is_that_of_a_case_with_the_used_cascades_alone(cascaded: Made) -> None:
    used: set[tuple[object, ...]] = set()
    objectives = make_objectives(make_case(cascaded.inputs, cascades=MANY))
    w, question = objectives.case.workload, objectives.case.question
    for n, level in itertools.product(((1, 1), (2, 1)), (0, 1)):
        settled = settle(objectives, np.array(n), level)
        unused = [k for k in w.cascades if not settled.shares[k.first_row].any()]
        used.add(tuple(k.key for k in w.cascades if k not in unused))
        alone = replace(objectives.case, workload=w.without(unused))
        shares = settled.shares[w.rows_without(unused)]
        again = score(
            alone.workload,
            alone.tables(class_mixes(alone.workload, shares)),
            settled.replicas,
            shares,
            question.headroom_ratio,
            question.latency_objective,
        )
        assert [f.ms for f in again.figures] == [f.ms for f in settled.score.figures]
        assert settled.shares.shape == settled.routing.shares.shape == (12, 2)
    assert len(used) > 1


def test_a_cascade_that_is_not_the_first_finds_its_rows_again(tmp_path: Path) -> None:
    """The first one is useless, so settling goes on without it; shares stay in their rows."""
    m = made(tmp_path, (option(quality=0.31, below=0.1), option()))
    assert not m.settled.shares[2:4].any()
    assert m.settled.shares[4:6].any()
    assert [c.below for c in m.plan.cascades] == [0.6]
    assert m.settled.shares.shape == m.settled.routing.shares.shape == (6, 2)
    assert {table.work_s.size for table in m.settled.tables} == {6}


def test_routes_name_every_class_and_carry_the_cascades(cascaded: Made) -> None:
    routes = json.loads(json.dumps(routes_of(cascaded.plan).model_dump(mode="json", by_alias=True)))
    assert set(routes["classes"]) == {"easy", "hard"} == set(routes["fallback"])
    said = json.loads(plan_text(cascaded.plan))["cascades"]
    assert list(said[0]) == [
        "class", "share", "signal", "below", "escalated_ratio", "quality", "first", "second",
    ]  # fmt: skip
    for entry in said:
        of_class = routes["cascades"][entry.pop("class")]
        assert entry in of_class
    assert set(routes["fallback"]["hard"]) == {BIG, TINY}


def test_files_without_cascades_do_not_speak_of_them(tmp_path: Path) -> None:
    plan = made(tmp_path, ()).plan
    assert "cascades" not in plan_text(plan)
    assert "cascades" not in routes_of(plan).model_dump(mode="json", by_alias=True)
    unused = made(tmp_path, (option(quality=0.31),))  # hardly better than the small model alone
    assert unused.plan.cascades == ()
    assert codes(unused, unused.plan, ()) == {"quality-floor"}  # and no figure drifts
    assert unused.plan.predicted.quality == pytest.approx(plan.predicted.quality, abs=1e-4)
    assert "cascades" not in plan_text(unused.plan)


def test_a_plan_is_stale_in_its_cascades_where_the_scores_no_longer_prove_them(
    cascaded: Made,
) -> None:
    assert codes(cascaded, cascaded.plan, ()) == {"unknown-cascade"}
    worse = tuple(replace(o, quality=o.quality - 0.01) for o in OPTIONS)
    assert "cascade-drift" in codes(cascaded, cascaded.plan, worse)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"share": 0.5}, "shares-sum"),
        ({"below": 0.7}, "unknown-cascade"),
        ({"signal": "other"}, "unknown-cascade"),
        ({"class_name": "odd"}, "unknown-class"),
        ({"quality": 0.9}, "cascade-drift"),
    ],
)
def test_what_is_wrong_with_a_cascade_is_found(
    cascaded: Made, changes: dict[str, Any], code: str
) -> None:
    assert code in codes(cascaded, edited(cascaded.plan, **changes))


def test_stages_on_the_wrong_pools_are_found(cascaded: Made) -> None:
    cascade = cascaded.plan.cascades[0]
    swapped = edited(cascaded.plan, first=cascade.second, second=cascade.first)
    assert "unknown-cascade" in codes(cascaded, swapped)
    entry = cascade.first[0].model_copy(update={"pool": "nowhere"})
    assert "unknown-pool" in codes(cascaded, edited(cascaded.plan, first=(entry,)))
    part = cascade.first[0].model_copy(update={"share": 0.9})
    assert "shares-sum" in codes(cascaded, edited(cascaded.plan, first=(part,)))
    gone = tuple(d for d in cascaded.plan.deployment if d.pool != BIG)
    lost = cascaded.plan.model_copy(update={"deployment": gone})
    assert "no-replica" in codes(cascaded, lost)
    doubled = cascaded.plan.model_copy(update={"cascades": cascaded.plan.cascades[:1] * 2})
    assert "duplicate" in codes(cascaded, doubled)


def test_moved_shares_of_a_cascade_drift(cascaded: Made) -> None:
    """Five points of a class from the cascade to the large pool: figures no longer hold."""
    plan, cascade = cascaded.plan, cascaded.plan.cascades[0]
    moved = edited(plan, share=round(cascade.share - 0.05, 6))
    route = {"class": cascade.class_name, "pool": BIG, "share": 0.05}
    extra = type(plan.routing[0]).model_validate(route)
    assert "prediction-drift" in codes(
        cascaded, moved.model_copy(update={"routing": (*plan.routing, extra)})
    )


def test_a_difference_in_cascades_is_a_difference(cascaded: Made, tmp_path: Path) -> None:
    assert diff(cascaded.plan, cascaded.plan).empty
    without = made(tmp_path, ()).plan
    change = diff(without, cascaded.plan)
    assert not change.empty
    assert f"{TINY}, then {BIG} where agreement < 0.6" in {s.pool for s in change.shares}
    assert change.moved_ratio > 0.1
    out = io.StringIO()
    render_diff(change, Console(file=out, width=120))
    assert f"{TINY}, then {BIG}" in " ".join(out.getvalue().split())
    assert plan_hash(without) != plan_hash(cascaded.plan)
    only_cascade = edited(cascaded.plan, below=0.55)
    assert not diff(cascaded.plan, only_cascade).empty
    assert plan_hash(only_cascade) != plan_hash(cascaded.plan)


def test_a_person_reads_of_cascades_in_the_report_and_the_reasons(cascaded: Made) -> None:
    out = io.StringIO()
    render_plan(cascaded.plan, Console(file=out, width=100))
    shown = " ".join(out.getvalue().split())
    assert "cascade A" in shown
    assert f"{TINY}, then {BIG} for 40% (agreement < 0.6), quality 0.6200" in shown
    (reason, *_) = [r for r in _cascades(cascaded.objectives, cascaded.settled) if "hard" in r]
    assert f"{SMALL_MODEL} first" in reason
    assert f"{LARGE_MODEL} where the signal agreement is below 0.6 (40%)" in reason
    assert "0.3000 and 0.6000" in reason


MEAN_SLOWLY = [pytest.param("mean", marks=pytest.mark.slow), "p95"]


def with_limit(folder: Path, metric: str, statistic: str, at_most_ms: float) -> Made:
    """The small question with one more limit on its hard class."""
    question = small(quality_at_least=None)
    limit = {"metric": metric, "statistic": statistic, "at_most_ms": at_most_ms}
    question["classes"][1]["limits"].append(limit)
    return made(folder, question=question)


@pytest.mark.parametrize("statistic", MEAN_SLOWLY)
def test_who_wants_the_first_token_at_once_waits_for_no_first_answer(
    tmp_path: Path, statistic: str
) -> None:
    shares = []
    for at_most_ms in (40_000.0, 500.0):
        m = with_limit(tmp_path, "ttft", statistic, at_most_ms)
        assert m.settled.acceptable
        figures = {f.label: f.ms for f in m.settled.score.figures}
        assert figures[f"{statistic} ttft of hard"] <= at_most_ms * (1.0 + 1e-6)
        assert codes(m, m.plan) <= {"extrapolated"}
        shares.append(sum(c.share for c in m.plan.cascades if c.class_name == "hard"))
    assert shares[0] > 0.5
    assert shares[1] < 0.1


@pytest.mark.parametrize("statistic", MEAN_SLOWLY)
def test_a_limit_on_the_pace_of_a_cascade_holds(tmp_path: Path, statistic: str) -> None:
    label = f"{statistic} tpot of hard"
    loose = with_limit(tmp_path, "tpot", statistic, 500.0)
    free_ms = {f.label: f.ms for f in loose.settled.score.figures}[label]
    tight = with_limit(tmp_path, "tpot", statistic, 0.85 * free_ms)
    assert tight.settled.acceptable
    assert {f.label: f.ms for f in tight.settled.score.figures}[label] <= 0.85 * free_ms * (
        1 + 1e-6
    )
    assert tight.settled.score.quality <= loose.settled.score.quality + 1e-6
    assert any(c.class_name == "hard" for c in tight.plan.cascades)


def test_the_mean_time_to_the_first_token_is_written_down_by_hand(cascaded: Made) -> None:
    s, w = cascaded.settled, cascaded.case.workload
    total = 0.0
    for r in range(w.n_rows):
        for p in np.flatnonzero(s.shares[r]).tolist():
            load = float(s.score.loads[p])
            ttft, e2e = (s.tables[p].mean_at(m, load)[r] for m in ("ttft", "e2e"))
            is_first = r in [cascade.first_row for cascade in w.cascades]
            total += float(w.rate_rps[r] * s.shares[r, p]) * float(e2e if is_first else ttft)
    (said,) = [f.ms for f in s.score.figures if f.label == "mean ttft of all traffic"]
    assert said == pytest.approx(total / 32.0, rel=1e-3)


def test_the_bound_holds_for_a_plan_with_cascades(cascaded: Made) -> None:
    bound = proven_bound(cascaded.objectives, cascaded.settled)
    assert bound is not None
    assert bound.best_possible <= bound.value + 1e-6


def test_more_traffic_is_planned_with_cascades_too(tmp_path: Path) -> None:
    m = made(tmp_path, n=(1, 2), question=small(quality_at_least=0.8, maximise="rate_factor"))
    assert m.settled.acceptable
    plain = make_objectives(make_case(m.inputs))
    assert m.settled.rate_factor > settle(plain, np.array([1, 2], dtype=np.int64)).rate_factor
    assert m.plan.predicted.rate_rps == pytest.approx(32.0 * m.settled.rate_factor, rel=1e-6)
    assert codes(m, m.plan) == set()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), crumb=st.floats(1e-9, 1e-2))
def test_rounded_stages_stay_equal(cascaded: Made, seed: int, crumb: float) -> None:
    """Whatever the shares are: both stages of a cascade, and every class, sum as they should."""
    random, w = np.random.default_rng(seed), cascaded.case.workload
    shares = np.zeros((w.n_rows, w.n_pools))
    for c in range(w.n_classes):
        mine = [k for k in w.cascades if k.class_index == c]
        parts = random.dirichlet(np.ones(w.n_pools + len(mine)))
        parts[random.integers(parts.size)] *= crumb
        parts /= parts.sum()
        shares[c] = parts[: w.n_pools]
        for cascade, whole in zip(mine, parts[w.n_pools :], strict=True):
            for row in (cascade.first_row, cascade.second_row):
                split = np.where(random.random(w.n_pools) < 0.5, 1.0, crumb)
                shares[row] = whole * split / split.sum()
    routing = replace(cascaded.settled.routing, shares=shares, unserved=np.zeros(w.n_classes))
    tidy = _tidy(routing, w.cascades)
    by_row = tidy.sum(axis=1)
    np.testing.assert_allclose(truth.served_shares(tidy, w.cascades), 1.0, atol=1e-12)
    for cascade in w.cascades:
        whole = by_row[cascade.first_row]
        assert whole == pytest.approx(by_row[cascade.second_row], abs=1e-12)
        assert whole * 1e6 == pytest.approx(round(whole * 1e6), abs=1e-6)
        for row in (cascade.first_row, cascade.second_row):
            if whole > 0:
                units = tidy[row] / whole * 1e6
                np.testing.assert_allclose(units, np.rint(units), atol=1e-4)
