"""A plan of the small question tried out: what happens is what the plan and the options say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import (
    HOSTED,
    OWN,
    hosted_objectives,
    hosted_profiles,
    objectives_of,
    small,
    unlimited,
    z,
)
from questions import inputs_of, write_question

from planner.answer import make_answer, make_provenance
from planner.errors import InputError
from planner.files.inputs import read_inputs
from planner.files.plans import routes_of
from planner.latency.capacity import CapacityLaw
from planner.objectives import Objectives
from planner.settle import settle
from planner.simulate.failures import parse
from planner.simulate.records import Outcome, Records
from planner.simulate.rehearse import Options, Rehearsal, rehearse
from planner.simulate.scene import Scene, make_scene
from planner.simulate.units import PS_PER_S
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Routes, WeightedPool
from planner.spec.question import TraceRow

BIG, SMALL = OWN
SHORT = Options(duration_s=200.0, n_processes=1)


def plan_of(objectives: Objectives, replicas: IntArray) -> Plan:
    """A deployment with its best shares, as a plan."""
    settled = settle(objectives, replicas)
    provenance = make_provenance("hand", 0, "quick", 0, {})
    return make_answer(objectives.case, settled, (), (), provenance, complete=True)


def scene_and_plan(
    folder: Path, question: dict[str, Any], replicas: IntArray
) -> tuple[Scene, Plan]:
    objectives = objectives_of(folder, question)
    inputs = inputs_of(folder, question)
    return make_scene(inputs.files, objectives.case.models), plan_of(objectives, replicas)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Plan]:
    """Returns the small question with one replica of the large model, two of the small one."""
    return scene_and_plan(tmp_path_factory.mktemp("rehearse"), small(), z(1, 2))


@pytest.fixture(scope="module")
def tried(known: tuple[Scene, Plan]) -> Rehearsal:
    return rehearse(known[0], known[1], routes_of(known[1]), replace(SHORT, seeds=(5, 6)))


def changed(options: Options, known: tuple[Scene, Plan], **update: Any) -> Rehearsal:
    return rehearse(known[0], known[1], routes_of(known[1]), replace(options, **update))


def same(a: Records, b: Records) -> bool:
    """Returns whether two runs are equal to the last bit."""
    columns = [name for name in vars(a) if not name.endswith("_names")]
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns)


# ---- What is served ------------------------------------------------------------------------------


def test_the_long_run_shares_are_those_of_the_plan(
    known: tuple[Scene, Plan], tried: Rehearsal
) -> None:
    plan = known[1]
    assert len({r.pool for r in plan.routing}) == 2
    for records in tried.records:
        for route in plan.routing:
            of_class = records.class_index == records.class_names.index(route.class_name)
            here = of_class & (records.pool_index == records.pool_names.index(route.pool))
            # The bound of the routing table (§1): never a whole request off.
            assert abs(here.sum() - route.share * of_class.sum()) < 1.0


def test_every_replica_of_the_plan_works_and_no_other(
    known: tuple[Scene, Plan], tried: Rehearsal
) -> None:
    assert [entry.replicas for entry in known[1].deployment] == [1, 2]
    for records in tried.records:
        used = set(zip(records.pool_index.tolist(), records.replica_index.tolist(), strict=True))
        assert used == {(0, 0), (1, 0), (1, 1)}


def test_rates_and_money_are_those_of_the_question(
    known: tuple[Scene, Plan], tried: Rehearsal
) -> None:
    simulated, n = tried.simulated, tried.simulated.n_requests
    assert simulated.rate_rps == pytest.approx(32.0, abs=4 * np.sqrt(32.0 / 400.0))
    assert sum(simulated.class_rps.values()) == pytest.approx(simulated.rate_rps, abs=1e-5)
    assert simulated.cost_usd_per_h == pytest.approx(known[1].predicted.cost_usd_per_h)
    assert n == sum(r.between(tried.window.start_ps, tried.window.end_ps).n_requests
                    for r in tried.records)  # fmt: skip
    assert simulated.quality == pytest.approx(known[1].predicted.quality, abs=0.01)


def test_a_request_takes_its_fixed_time_beside_the_steps(
    known: tuple[Scene, Plan], tried: Rehearsal
) -> None:
    scene = known[0]
    for name, p in ((BIG, 0), (SMALL, 1)):
        assert scene.request_ps[name] > 0
        engine = scene.engines[name]
        for records in tried.records:
            first = (records.first_ps - records.arrived_ps)[records.pool_index == p]
            least = engine.steps.decode_ps[0] + engine.steps.prompt_token_ps  # type: ignore[union-attr]
            assert first.min() >= scene.request_ps[name] + least


# ---- The same again ------------------------------------------------------------------------------


def test_the_same_seeds_give_the_same_records_in_any_number_of_processes(
    known: tuple[Scene, Plan], tried: Rehearsal
) -> None:
    again = changed(SHORT, known, seeds=(5, 6), n_processes=2)
    assert all(same(a, b) for a, b in zip(tried.records, again.records, strict=True))
    assert again.simulated == tried.simulated
    assert again.window == tried.window


def test_another_seed_gives_other_requests_and_runs_do_not_depend_on_each_other(
    known: tuple[Scene, Plan], tried: Rehearsal
) -> None:
    alone = changed(SHORT, known, seeds=(6,))
    assert same(alone.records[0], tried.records[1])
    assert not np.array_equal(tried.records[0].arrived_ps[:100], tried.records[1].arrived_ps[:100])


def test_each_run_is_told_when_it_is_done(known: tuple[Scene, Plan]) -> None:
    told: list[tuple[int, int]] = []
    options = Options((1, 2, 3), duration_s=5.0, n_processes=1)
    rehearse(
        known[0], known[1], routes_of(known[1]), options, lambda k, n: told.append((k, n))
    )  # fmt: skip
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_trace_that_leaves_nothing_to_chance_is_one_run(known: tuple[Scene, Plan]) -> None:
    def row(k: int, output_tokens: int | None) -> TraceRow:
        told = {"class": "easy", "input_tokens": 200, "output_tokens": output_tokens}
        return TraceRow.model_validate({"timestamp_s": k / 20, **told})

    full, partly = (tuple(row(k, length) for k in range(1000)) for length in (100, None))
    told: list[tuple[int, int]] = []
    options = Options((0, 1, 2), trace=full, n_processes=1)
    again = rehearse(*known, routes_of(known[1]), options, lambda k, n: told.append((k, n)))
    assert told == [(1, 3), (2, 3)]  # the third would be the same again
    assert again.simulated == changed(Options(trace=full), known).simulated
    assert len(again.records) == len(again.usages) == len(again.simulated.seeds) == 1
    few = changed(Options((0, 1, 2), trace=full[:50], n_processes=1), known)
    assert few.simulated.seeds == (0,)
    assert len(changed(Options((0, 1, 2), trace=partly, n_processes=1), known).records) == 3


# ---- What counts ---------------------------------------------------------------------------------


def test_a_steady_run_counts_when_the_cluster_has_filled(tried: Rehearsal) -> None:
    window = tried.window
    assert 0 <= window.start_ps <= 100 * PS_PER_S
    assert window.end_ps == 200 * PS_PER_S
    assert tried.simulated.counted_from_s == pytest.approx(window.start_ps / PS_PER_S, abs=1e-3)


SCHEDULE = ((0, 6.0), (700, 30.0), (900, 40.0), (1100, 6.0), (1400, 6.0))


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Plan]:
    folder = tmp_path_factory.mktemp("schedule")
    rows = ["start_s,rate_rps", *(f"{start},{rate}" for start, rate in SCHEDULE)]
    (folder / "rates.csv").write_text("\n".join(rows) + "\n")
    question = small(arrivals={"process": "schedule", "file": "rates.csv"})
    return scene_and_plan(folder, question, z(1, 1))


def test_of_a_schedule_the_busiest_five_minutes_count(scheduled: tuple[Scene, Plan]) -> None:
    done = changed(Options(n_processes=1), scheduled)
    # By hand: 200 s at 40 and 100 s at 30 requests/s before them.
    assert (done.simulated.counted_from_s, done.simulated.duration_s) == (800.0, 300.0)
    expected = 200 * 40 + 100 * 30
    assert done.simulated.n_requests == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert scheduled[1].predicted.rate_rps == pytest.approx(expected / 300)
    (records,) = done.records
    counted = (records.arrived_ps >= 800 * PS_PER_S) & (records.arrived_ps <= 1100 * PS_PER_S)
    assert done.simulated.n_requests == counted.sum()
    whole = sum(rate * 300 for _, rate in SCHEDULE[3:]) + 700 * 6 + 200 * 30 + 200 * 40
    assert records.n_requests == pytest.approx(whole, abs=4 * np.sqrt(whole))  # one whole round


def test_a_run_may_begin_shortly_before_them(scheduled: tuple[Scene, Plan]) -> None:
    part = Options(start_s=650.0, duration_s=450.0, n_processes=1)
    done = changed(part, scheduled)
    assert (done.simulated.counted_from_s, done.simulated.duration_s) == (150.0, 300.0)
    # The same minutes, only that nothing before them is drawn.
    planned = 300 * scheduled[1].predicted.rate_rps
    assert done.simulated.n_requests == pytest.approx(planned, abs=4 * np.sqrt(planned))
    (records,) = done.records
    assert records.n_requests == pytest.approx(planned + 50 * 6 + 100 * 30, rel=0.05)


def test_a_wave_of_hours_is_judged_on_its_high_half(tmp_path: Path) -> None:
    """The first half comes to an empty cluster, so a run lasts until the second one is counted."""
    wave = {"process": "square", "low_rps": 5.0, "high_rps": 20.0, "period_s": 2400.0}
    known = scene_and_plan(tmp_path, small(arrivals=wave), z(1, 1))
    done = changed(Options(n_processes=1), known)
    assert (done.simulated.counted_from_s, done.simulated.duration_s) == (2400.0, 300.0)
    assert done.simulated.rate_rps == pytest.approx(20.0, abs=4 * np.sqrt(20.0 / 300.0))


def test_other_minutes_may_be_asked_for(scheduled: tuple[Scene, Plan]) -> None:
    done = changed(Options(n_processes=1, counted_s=(0.0, 600.0)), scheduled)
    assert (done.simulated.counted_from_s, done.simulated.duration_s) == (0.0, 600.0)
    assert done.simulated.rate_rps == pytest.approx(6.0, abs=4 * np.sqrt(6.0 / 600.0))


def test_traffic_without_end_lasts_until_it_says_something(tmp_path: Path) -> None:
    question = small()
    for cls in question["classes"]:
        cls["rate_rps"] /= 100.0
    scene, plan = scene_and_plan(tmp_path, question, z(1, 1))
    (records,) = changed(Options(n_processes=1), (scene, plan)).records
    assert records.n_requests == pytest.approx(20_000, abs=4 * np.sqrt(20_000))


def test_traffic_that_never_comes_breaks_nothing(tmp_path: Path) -> None:
    question = small()
    for cls in question["classes"]:
        cls["rate_rps"] *= 1e-12
    scene, plan = scene_and_plan(tmp_path, question, z(1, 1))
    assert changed(Options(n_processes=1), (scene, plan)).simulated.n_requests == 0


@pytest.mark.parametrize(
    "options",
    [
        Options(rate_factor=1e6),
        Options(duration_s=9e6),
        Options(rate_factor=1e-6, trace=(TraceRow(timestamp_s=0), TraceRow(timestamp_s=9))),
        Options(
            duration_s=1e6,
            rate_factor=1e4,
            trace=(TraceRow(timestamp_s=0), TraceRow(timestamp_s=9)),
        ),
    ],
)
def test_more_than_can_be_simulated_is_told(known: tuple[Scene, Plan], options: Options) -> None:
    with pytest.raises(
        InputError, match="more than can be simulated: 100,000,000, and 9,000,000 s"
    ):
        rehearse(known[0], known[1], routes_of(known[1]), options)


# ---- Failures ------------------------------------------------------------------------------------


def mean_e2e_ms(records: Records, pool: str, from_s: float) -> float:
    here = records.pool_index == records.pool_names.index(pool)
    late = records.arrived_ps >= from_s * PS_PER_S
    return float(np.nanmean(records.e2e_ms[here & late]))


def test_a_dead_replica_fails_its_answers_and_slows_the_other(known: tuple[Scene, Plan]) -> None:
    (well,) = changed(SHORT, known, seeds=(5,)).records
    done = changed(SHORT, known, seeds=(5,), failures=tuple(parse([f"{SMALL}/2@100"])))
    (ill,) = done.records
    assert np.array_equal(well.arrived_ps, ill.arrived_ps)
    died_ps = 100 * PS_PER_S
    on_it = (well.pool_index == 1) & (well.replica_index == 1)
    # Until it dies nothing is different, so who was being answered then is known from the run
    # in which nothing fails.
    first_ps, done_ps = (ps - known[0].request_ps[SMALL] for ps in (well.first_ps, well.done_ps))
    answering = on_it & (first_ps < died_ps) & (done_ps >= died_ps)
    assert answering.sum() > 5
    assert np.array_equal(ill.outcome == Outcome.FAILED, answering)
    after = (ill.arrived_ps >= died_ps) & (ill.pool_index == 1)
    assert set(ill.replica_index[after].tolist()) == {0}
    assert mean_e2e_ms(ill, SMALL, 100.0) > 1.05 * mean_e2e_ms(well, SMALL, 100.0)
    # All of the run counts, and who failed is told.
    assert (done.window.start_ps, done.window.end_ps) == (0, 200 * PS_PER_S)
    assert done.simulated.n_failed == answering.sum()
    assert done.simulated.failures == (f"{SMALL}/2@100",)


def test_without_any_replica_of_its_pool_the_other_pool_serves(known: tuple[Scene, Plan]) -> None:
    failures = tuple(parse([f"{SMALL}/1@100", f"{SMALL}/2@100"]))
    (records,) = changed(SHORT, known, seeds=(5,), failures=failures).records
    later = records.arrived_ps >= 100 * PS_PER_S
    assert set(records.pool_index[later].tolist()) == {0}
    assert (records.outcome[later] == Outcome.OK).all()


def test_a_failure_of_what_is_not_there_is_told(known: tuple[Scene, Plan]) -> None:
    with pytest.raises(InputError, match="no such replica"):
        changed(SHORT, known, failures=tuple(parse([f"{SMALL}/3@100"])))


def test_a_failure_after_the_last_arrival_is_told(known: tuple[Scene, Plan]) -> None:
    failures = tuple(parse([f"{SMALL}@199", f"{SMALL}@200", f"{BIG}@300"]))
    with pytest.raises(InputError, match="begins after the 200 s in which requests") as caught:
        changed(SHORT, known, failures=failures)
    assert [f"{SMALL}@200" in f.what for f in caught.value.faults] == [True, False]


# ---- Routes that lead nowhere --------------------------------------------------------------------


def broken(
    known: tuple[Scene, Plan], classes: dict[str, Sequence[tuple[str, float]]]
) -> InputError:
    """What is said of routes whose classes are these."""
    entries = {
        name: tuple(WeightedPool(pool=pool, share=share) for pool, share in row)
        for name, row in classes.items()
    }
    routes: Routes = routes_of(known[1]).model_copy(update={"classes": entries})
    with pytest.raises(InputError) as caught:
        rehearse(known[0], known[1], routes, SHORT)
    return caught.value


HARD = [(BIG, 1.0)]


@pytest.mark.parametrize(
    ("classes", "where", "what"),
    [
        ({"hard": HARD}, "classes.easy", "is missing, requests of it go nowhere"),
        ({"easy": [], "hard": HARD}, "classes.easy", "do not sum to 1, got 0"),
        ({"easy": [(BIG, 0.0)], "hard": HARD}, "classes.easy", "do not sum to 1, got 0"),
        ({"easy": [(BIG, 0.5)], "hard": HARD}, "classes.easy", "do not sum to 1, got 0.5"),
        ({"easy": HARD, "hard": HARD, "gone": []}, "classes.gone", "do not sum to 1, got 0"),
        (
            {"easy": [("llama-3.1-8b-b200", 1.0)], "hard": HARD},
            "classes.easy",
            "leads to a pool without replicas, got llama-3.1-8b-b200",
        ),
    ],
)
def test_routes_that_lead_nowhere_are_told(
    known: tuple[Scene, Plan], classes: dict[str, Any], where: str, what: str
) -> None:
    (fault,) = broken(known, classes).faults
    assert (fault.file, fault.field) == ("routes.json", where)
    assert what in fault.what


def test_all_faults_are_told_at_once(known: tuple[Scene, Plan]) -> None:
    faults = broken(known, {"easy": [("gone", 0.5), ("lost", 0.5)]}).faults
    assert [f.field for f in faults] == ["classes.easy", "classes.easy", "classes.hard"]


def test_a_pool_that_the_class_may_not_use_is_told(tmp_path: Path) -> None:
    question = small()
    question["classes"][1]["not_pools"] = [SMALL]
    known = scene_and_plan(tmp_path, question, z(1, 1))
    (fault,) = broken(known, {"easy": [(BIG, 1.0)], "hard": [(SMALL, 1.0)]}).faults
    assert fault.field == "classes.hard"
    assert "may not use" in fault.what


def test_a_pool_of_the_plan_that_is_gone_is_told(known: tuple[Scene, Plan]) -> None:
    scene, plan = known
    rows = tuple(
        row.model_copy(update={"pool": "gone"}) if row.pool == BIG else row
        for row in plan.deployment
    )
    with pytest.raises(InputError) as caught:
        rehearse(scene, plan.model_copy(update={"deployment": rows}), routes_of(plan), SHORT)
    assert ("plan.json", "deployment.gone") in [(f.file, f.field) for f in caught.value.faults]


# ---- Hosted pools --------------------------------------------------------------------------------


def hosted(
    folder: Path, latency_ms: tuple[float | None, float | None]
) -> tuple[Scene, Plan, Inputs]:
    """The unlimited small question with a hosted pool whose latency is this."""
    objectives = hosted_objectives(folder)
    question = unlimited(pools=[HOSTED, *OWN])
    inputs = read_inputs(
        write_question(folder / "plan", question), hosted_profiles(folder / "again", 0.4, 50.0)
    )
    models = [
        replace(m, capacity=CapacityLaw.hosted(50.0, *latency_ms)) if m.capacity else m
        for m in objectives.case.models
    ]
    return make_scene(inputs.files, models), plan_of(objectives, z(1, 0, 1)), inputs


def test_a_hosted_pool_whose_latency_nobody_knows_is_untimed(tmp_path: Path) -> None:
    scene, plan, _ = hosted(tmp_path, (None, None))
    done = changed(replace(SHORT, duration_s=100.0), (scene, plan))
    (records,) = done.records
    away = records.pool_index == records.pool_names.index(HOSTED)
    assert 100 < away.sum() < records.n_requests - 100
    assert np.array_equal(records.outcome == Outcome.UNTIMED, away)
    assert np.array_equal(np.isnan(records.e2e_ms), away)
    # Nobody limits the latency here, so the figures are of the others alone.
    (p95,) = [f for f in done.simulated.latency
              if (f.class_name, f.metric, f.statistic) == (None, "e2e", "p95")]  # fmt: skip
    counted = records.between(done.window.start_ps, done.window.end_ps)
    assert p95.ms == pytest.approx(np.nanquantile(counted.e2e_ms, 0.95), rel=0.01)


def test_a_hosted_pool_whose_latency_is_known_is_a_delay_that_costs_money(tmp_path: Path) -> None:
    scene, plan, _ = hosted(tmp_path, (250.0, 10.0))
    done = changed(replace(SHORT, duration_s=100.0), (scene, plan))
    (records,) = done.records
    assert (records.outcome == Outcome.OK).all()
    away = records.pool_index == records.pool_names.index(HOSTED)
    assert records.ttft_ms[away].mean() == pytest.approx(250.0, rel=0.1)
    assert np.nanmean(records.tpot_ms[away]) == pytest.approx(10.0, rel=0.1)
    rent = sum(row.usd_per_h for row in plan.deployment)
    ended = (records.done_ps >= done.window.start_ps) & (records.done_ps <= done.window.end_ps)
    paid = records.input_tokens + records.output_tokens  # each costs 0.4 $ per million
    usd = paid[away & ended].sum() * 0.4 / 1e6 / done.window.duration_s * 3600.0
    assert done.simulated.cost_usd_per_h == pytest.approx(rent + usd, rel=0.02)


# ---- Plans that carry as much as they can --------------------------------------------------------


def test_a_plan_that_maximises_traffic_is_tried_with_that_traffic(tmp_path: Path) -> None:
    known = scene_and_plan(tmp_path, small(maximise="rate_factor"), z(1, 1))
    factor = known[1].predicted.rate_factor
    assert factor is not None
    assert factor > 1.05
    done = changed(SHORT, known)
    assert done.simulated.rate_factor == factor
    rate = 32.0 * factor
    assert done.simulated.rate_rps == pytest.approx(rate, abs=4 * np.sqrt(rate / 100.0))
    assert rate == pytest.approx(known[1].predicted.rate_rps, rel=1e-5)
    half = changed(SHORT, known, rate_factor=0.5)
    assert half.simulated.rate_factor == pytest.approx(0.5 * factor)
    assert half.simulated.rate_rps == pytest.approx(rate / 2, abs=4 * np.sqrt(rate / 200.0))


def test_a_trace_keeps_its_own_speed_whatever_the_plan_can_carry(tmp_path: Path) -> None:
    known = scene_and_plan(tmp_path, small(maximise="rate_factor"), z(1, 1))
    rows = tuple(
        TraceRow.model_validate({"timestamp_s": k / 10, "class": "easy"}) for k in range(300)
    )
    done = changed(Options(trace=rows), known)
    assert done.simulated.rate_factor == 1.0
    assert done.simulated.rate_rps == pytest.approx(10.0, rel=0.01)
