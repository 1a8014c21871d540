"""Cascades in the simulator: what users see, what pools see, and whose answer it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cascade_options import option
from questions import inputs_of, small
from test_cascade_plans import Made, made

from planner.errors import InputError
from planner.files.plans import routes_of
from planner.quality.cascade import CascadeOption
from planner.simulate.cluster import Cluster, PoolSetup, Run, run
from planner.simulate.demand import CascadeDemand, Demand, TokenArrays, drawn_workload, make_demand
from planner.simulate.failures import parse
from planner.simulate.hosted import HostedSettings
from planner.simulate.learn import Lesson, learn
from planner.simulate.records import Outcome, Records
from planner.simulate.rehearse import Options, Rehearsal, rehearse
from planner.simulate.scene import Scene, make_scene
from planner.simulate.series import time_series
from planner.simulate.settings import EngineSettings, StepTimes
from planner.simulate.units import PS_PER_MS, PS_PER_S
from planner.spec.plan import CascadeEntry, Routes, WeightedPool

SMALL, LARGE = 0, 1
REQUEST_PS = (3 * PS_PER_MS, 7 * PS_PER_MS)
N_FIRST, N_SECOND = 20, 50  # output tokens


def engine(step_ms: float) -> EngineSettings:
    steps = StepTimes.linear(8, step_ms, prompt_token_ms=0.1)
    return EngineSettings(steps, 8, max_num_batched_tokens=512, kv_blocks=1000)


def e2e_ms(step_ms: float, n_output: int, t0_ps: int) -> float:
    """An answer on an idle replica: a prefill of 100 tokens, then a step for each further one."""
    return step_ms + 10.0 + (n_output - 1) * step_ms + t0_ps / PS_PER_MS


FIRST_MS = e2e_ms(5.0, N_FIRST, REQUEST_PS[SMALL])
SECOND_MS = e2e_ms(20.0, N_SECOND, REQUEST_PS[LARGE])
SECOND_TTFT_MS = 20.0 + 10.0 + REQUEST_PS[LARGE] / PS_PER_MS


def entry(share: float = 1.0) -> CascadeEntry:
    return CascadeEntry(
        share=share,
        signal="sure",
        below=0.5,
        escalated_ratio=0.3,
        quality=0.7,
        first=(WeightedPool(pool="small", share=1.0),),
        second=(WeightedPool(pool="large", share=1.0),),
    )


def demand_of(arrived_s: np.ndarray, escalated: np.ndarray) -> Demand:
    n = arrived_s.size
    prompt = np.full(n, 100)
    first = TokenArrays(prompt, prompt, np.full(n, N_FIRST))
    second = TokenArrays(prompt, prompt, np.full(n, N_SECOND))
    demand = Demand.of(arrived_s, prompt, first.output, n_pools=2)
    cascade = CascadeDemand(escalated, (first, None), (None, second))
    return replace(demand, cascades=(cascade,))


def play(
    arrived_s: np.ndarray,
    escalated: np.ndarray,
    *,
    share: float = 1.0,
    n_replicas: tuple[int, int] = (1, 1),
    failures: tuple[str, ...] = (),
    large: EngineSettings | HostedSettings | None = None,
    little: EngineSettings | HostedSettings | None = None,
    fallback: tuple[str, ...] = (),
) -> Run:
    engines = (little or engine(5.0), large or engine(20.0))
    pools = [
        PoolSetup(*setup)
        for setup in zip(("small", "large"), engines, n_replicas, REQUEST_PS, strict=True)
    ]
    shares = {"chat": {"large": 1.0 - share} if share < 1.0 else {}}
    cluster = Cluster.of(
        pools, shares, cascades={"chat": [entry(share)]}, fallback={"chat": fallback}
    )
    return run(cluster, demand_of(arrived_s, escalated), parse(failures))


APART_S = np.arange(100) * 5.0  # nobody meets anybody
THIRD = np.arange(100) % 3 == 0


# ---- What a user waits for -----------------------------------------------------------------------


def test_alone_on_the_cluster_a_request_takes_as_long_as_its_answers_together() -> None:
    records = play(APART_S, THIRD).records
    expected = np.where(THIRD, FIRST_MS + SECOND_MS, FIRST_MS)
    np.testing.assert_allclose(records.e2e_ms, expected, rtol=1e-12)
    # An accepted answer was held back: it comes at once. A second answer is streamed.
    expected = np.where(THIRD, FIRST_MS + SECOND_TTFT_MS, FIRST_MS)
    np.testing.assert_allclose(records.ttft_ms, expected, rtol=1e-12)
    np.testing.assert_allclose(records.tpot_ms, np.where(THIRD, 20.0, 0.0), atol=1e-9)
    assert records.pool_index.tolist() == np.where(THIRD, LARGE, SMALL).tolist()
    assert records.output_tokens.tolist() == np.where(THIRD, N_SECOND, N_FIRST).tolist()
    assert records.cascaded is not None
    assert (records.cascaded.cascade_index == 0).all()


def test_at_light_load_the_mean_is_that_of_the_first_answer_and_a_share_of_the_second() -> None:
    random = np.random.default_rng(0)
    n, share = 4000, 0.3
    arrived_s = np.cumsum(random.exponential(20.0, n))
    records = play(arrived_s, random.random(n) < share).records
    e2e = records.e2e_ms
    error = 4.0 * SECOND_MS * (share * (1.0 - share) / n) ** 0.5
    # Load delays some: 1 % of the time the other replica works.
    assert e2e.mean() == pytest.approx(FIRST_MS + share * SECOND_MS, abs=error + 10.0)


def test_every_stage_is_a_visit_of_its_pool() -> None:
    done = play(APART_S, THIRD)
    records, visits = done.records, done.records.visits
    assert visits.n_requests == records.n_requests + THIRD.sum()
    assert (np.diff(visits.arrived_ps) >= 0).all()
    second = visits.pool_index == LARGE
    assert second.sum() == THIRD.sum()
    first_done_ps = records.arrived_ps[THIRD] + round(FIRST_MS * PS_PER_MS)
    assert visits.arrived_ps[second].tolist() == first_done_ps.tolist()
    np.testing.assert_allclose(visits.e2e_ms[second], SECOND_MS, rtol=1e-12)
    np.testing.assert_allclose(visits.e2e_ms[~second], FIRST_MS, rtol=1e-12)
    decoded = done.usage.n_decoded_tokens.tolist()
    assert decoded == [100 * (N_FIRST - 1), int(THIRD.sum()) * (N_SECOND - 1)]
    assert records.cascaded is not None
    assert records.cascaded.visit_stage.tolist() == np.where(second, 1, 0).tolist()


def test_nobody_escalated_is_the_first_pool_alone_with_held_back_answers() -> None:
    random = np.random.default_rng(1)
    arrived_s = np.cumsum(random.exponential(0.05, 500))
    nobody = play(arrived_s, np.zeros(500, dtype=bool)).records
    engines = zip(("small", "large"), (engine(5.0), engine(20.0)), (1, 1), REQUEST_PS, strict=True)
    alone = Cluster.of([PoolSetup(*setup) for setup in engines], {"chat": {"small": 1.0}})
    plain = replace(demand_of(arrived_s, np.zeros(500, dtype=bool)), cascades=())
    expected = run(alone, plain).records
    assert nobody.done_ps.tolist() == expected.done_ps.tolist()
    assert nobody.first_ps.tolist() == expected.done_ps.tolist()
    assert nobody.visits.same_as(expected)


def test_shares_of_cascades_and_pools_are_met_in_short_windows() -> None:
    records = play(APART_S, THIRD, share=0.7).records
    assert records.cascaded is not None
    by_cascade = records.cascaded.cascade_index == 0
    n = np.arange(1, 101)
    assert (np.abs(np.cumsum(by_cascade) - 0.7 * n) < 1.0).all()
    assert (records.pool_index[~by_cascade] == LARGE).all()


# ---- Failures ------------------------------------------------------------------------------------


def test_a_first_answer_that_dies_before_anybody_saw_it_is_asked_for_again() -> None:
    # The first request is at 50 ms of its 113 ms when its replica dies; another takes over.
    records = play(np.array([0.0]), np.array([True]), n_replicas=(2, 1), failures=("small/1@0.05",))
    again = records.records
    assert again.outcome.tolist() == [Outcome.OK]
    assert again.e2e_ms[0] == pytest.approx(50.0 + FIRST_MS + SECOND_MS)


def test_a_second_answer_that_dies_while_it_is_streamed_is_lost() -> None:
    at_s = (FIRST_MS + SECOND_TTFT_MS + 100.0) / 1000.0
    one = (np.array([0.0]), np.array([True]))
    lost = play(*one, n_replicas=(1, 2), failures=(f"large/1@{at_s}",)).records
    assert lost.outcome.tolist() == [Outcome.FAILED]
    early_s = (FIRST_MS + 5.0) / 1000.0
    sent_again = play(*one, n_replicas=(1, 2), failures=(f"large/1@{early_s}",)).records
    assert sent_again.outcome.tolist() == [Outcome.OK]
    assert sent_again.e2e_ms[0] == pytest.approx(FIRST_MS + 5.0 + SECOND_MS)


def test_without_its_first_pool_a_cascade_is_the_fallback_alone() -> None:
    records = play(
        np.array([1.0]), np.array([True]), failures=("small/1@0.5",), fallback=("large",)
    ).records
    assert records.cascaded is not None
    assert records.cascaded.cascade_index.tolist() == [-1]
    assert (records.pool_index[0], records.output_tokens[0]) == (LARGE, N_FIRST)
    assert records.ttft_ms[0] == pytest.approx(SECOND_TTFT_MS)  # streamed: nothing is held back
    assert records.visits.n_requests == 1


def test_without_anybody_for_the_second_answer_there_is_none() -> None:
    records = play(np.array([1.0]), np.array([True]), failures=("large/1@0.5",)).records
    assert records.outcome.tolist() == [Outcome.FAILED]
    assert records.visits.n_requests == 2


# ---- Hosted pools --------------------------------------------------------------------------------


def test_a_hosted_first_stage_escalates_when_its_answer_is_there() -> None:
    provider = HostedSettings(ttft_ms=300.0, tpot_ms=10.0)
    records = play(APART_S, THIRD, little=provider).records
    visits = records.visits
    first = visits.pool_index == SMALL
    first_e2e_ms = visits.e2e_ms[first]  # in order of requests, which are far apart
    np.testing.assert_allclose(records.e2e_ms[~THIRD], first_e2e_ms[~THIRD])
    np.testing.assert_allclose(records.e2e_ms[THIRD], first_e2e_ms[THIRD] + SECOND_MS)


def test_a_time_that_nobody_knows_in_a_stage_is_one_of_the_whole() -> None:
    records = play(APART_S, THIRD, little=HostedSettings()).records
    assert (records.outcome == Outcome.UNTIMED).all()
    large = play(APART_S, THIRD, large=HostedSettings()).records
    expected = np.where(THIRD, Outcome.UNTIMED, Outcome.OK)
    assert large.outcome.tolist() == expected.tolist()


# ---- What is asked -------------------------------------------------------------------------------


def demand_of_question(folder: Path, *options: CascadeOption, **more: Any) -> Demand:
    inputs = inputs_of(folder, small())
    workload = drawn_workload(inputs.files, inputs.candidates, options)
    return make_demand(inputs.files, workload, duration_s=600.0, seed=1, **more)


def test_cascades_change_no_request_and_share_their_random_numbers(tmp_path: Path) -> None:
    without = demand_of_question(tmp_path)
    rare, often = (option(below=r, escalated_ratio=r) for r in (0.2, 0.5))
    with_both = demand_of_question(tmp_path, rare, often)
    assert without.arrived_ps.tolist() == with_both.arrived_ps.tolist()
    for one, other in zip(without.tokens, with_both.tokens, strict=True):
        assert one is not None
        assert other is not None
        assert one.output.tolist() == other.output.tolist()
    seldom, frequent = (cascade.escalated for cascade in with_both.cascades)
    assert (seldom <= frequent).all()  # who is hard for one threshold is so for a higher one
    alone = demand_of_question(tmp_path, often).cascades[0]
    assert alone.escalated.tolist() == frequent.tolist()


def test_stages_ask_what_was_measured_of_their_prompts(tmp_path: Path) -> None:
    made_option = option()
    demand = demand_of_question(tmp_path, made_option)
    (cascade,) = demand.cascades
    of_class = demand.class_index == 1
    n = int(of_class.sum())
    escalated = cascade.escalated[of_class]
    assert escalated.mean() == pytest.approx(0.4, abs=4 * (0.24 / n) ** 0.5)
    second = next(tokens for tokens in cascade.second if tokens is not None)
    (first_pool,) = (p for p, tokens in enumerate(cascade.first) if tokens is not None)
    first, direct = cascade.first[first_pool], demand.tokens[first_pool]
    assert first is not None
    assert direct is not None
    assert first.output[of_class].tolist() == direct.output[of_class].tolist()
    assert not second.output[~of_class].any()
    longer = made_option.second_output_tokens
    error = 4.0 * longer.std() / escalated.sum() ** 0.5
    answers = second.output[of_class][escalated]
    assert answers.mean() == pytest.approx(longer.mean(), abs=error + 1.0)


def test_by_length_the_longest_answers_are_sent_on(tmp_path: Path) -> None:
    by_length = option(signal="length", below=-500.0, escalated_ratio=0.25)
    demand = demand_of_question(tmp_path, by_length)
    (cascade,) = demand.cascades
    of_class = demand.class_index == 1
    first = next(tokens for tokens in cascade.first if tokens is not None).output[of_class]
    second = next(tokens for tokens in cascade.second if tokens is not None).output[of_class]
    escalated = cascade.escalated[of_class]
    assert first[escalated].min() >= first[~escalated].max()
    assert escalated.mean() == pytest.approx(0.25, abs=4 * (0.1875 / of_class.sum()) ** 0.5)
    # Their second answers are of all lengths that such ones have.
    longer = by_length.second_output_tokens
    error = 4.0 * longer.std() / escalated.sum() ** 0.5
    assert second[escalated].mean() == pytest.approx(longer.mean(), abs=error + 1.0)


# ---- Plans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("simulated"))


def scene_of_made(m: Made) -> Scene:
    return make_scene(m.inputs.files, m.case.models, m.case.cascades)


@pytest.fixture(scope="module")
def tried(planned: Made) -> Rehearsal:
    options = Options(seeds=(0, 1), duration_s=1200.0, n_processes=1)
    return rehearse(scene_of_made(planned), planned.plan, routes_of(planned.plan), options)


def test_a_plan_does_in_simulation_what_it_says(planned: Made, tried: Rehearsal) -> None:
    """The plan's figures come from tables and bounds, these from every step of every replica."""
    plan, simulated = planned.plan, tried.simulated
    assert plan.cascades
    assert simulated.quality == pytest.approx(plan.predicted.quality, abs=0.01)
    assert simulated.cost_usd_per_h == plan.predicted.cost_usd_per_h
    predicted_usd = plan.predicted.usd_per_million_output_tokens
    assert simulated.usd_per_million_output_tokens == pytest.approx(predicted_usd, rel=0.05)
    found = {f.pool: f for f in simulated.pools}
    for pool in plan.predicted.pools:
        assert found[pool.pool].rate_rps == pytest.approx(pool.rate_rps, rel=0.05)
        tokens_per_s = found[pool.pool].output_tokens_per_s
        assert tokens_per_s == pytest.approx(pool.output_tokens_per_s, rel=0.05)
    goodput = sum(pool.goodput_rps for pool in simulated.pools)
    assert goodput == pytest.approx(simulated.goodput_rps, abs=1e-4)
    ms = {(f.class_name, f.metric, f.statistic): f.ms for f in simulated.latency}
    means = {
        f.metric: f.ms
        for f in plan.predicted.latency
        if (f.class_name, f.statistic) == (None, "mean")
    }
    assert ms[None, "e2e", "mean"] == pytest.approx(means["e2e"], rel=0.08)
    assert ms[None, "ttft", "mean"] == pytest.approx(means["ttft"], rel=0.1)


def test_levels_are_those_of_all_visits(tried: Rehearsal) -> None:
    records, usage = tried.records[0], tried.usages[0]
    end_ps = int(records.done_ps.max()) + PS_PER_S
    whole = time_series(records, usage, end_ps)
    parts = [time_series(records, usage, end_ps, p) for p in range(len(records.pool_names))]
    both = sum(part.n_decoding_mean for part in parts)
    np.testing.assert_allclose(whole.n_decoding_mean, both, atol=1e-9)
    n_arrived = (whole.arrivals_rps * np.diff(whole.edges_s)).sum()
    assert n_arrived == pytest.approx(records.n_requests)
    n_visits = sum((part.arrivals_rps * np.diff(part.edges_s)).sum() for part in parts)
    assert n_visits == pytest.approx(records.visits.n_requests)


def test_a_part_of_a_run_has_the_visits_of_its_time(tried: Rehearsal) -> None:
    records = tried.records[0]
    start_ps, end_ps = 100 * PS_PER_S, 200 * PS_PER_S
    part = records.between(start_ps, end_ps)
    assert part.cascaded is not None
    assert part.cascaded.cascade_index.size == part.n_requests
    assert part.cascaded.visit_stage.size == part.visits.n_requests
    assert part.visits.arrived_ps.min() >= start_ps
    assert part.visits.arrived_ps.max() <= end_ps
    assert part.between(start_ps, end_ps).same_as(part)
    assert not part.same_as(replace(part, cascaded=None))


def test_quality_follows_who_answered(planned: Made, tried: Rehearsal) -> None:
    records = tried.records[0]
    assert records.cascaded is not None
    by_cascade = records.cascaded.cascade_index >= 0
    assert set(records.class_index[by_cascade].tolist()) == {1}
    assert tried.simulated.class_quality["hard"] == planned.plan.cascades[0].quality


def slowed(records: Records, factor: float) -> Records:
    """The same run with every visit so many times as long."""
    visits, cascaded = records.visits, records.cascaded
    assert cascaded is not None

    def later(ps: np.ndarray) -> np.ndarray:
        return np.rint(visits.arrived_ps + factor * (ps - visits.arrived_ps)).astype(np.int64)

    changed = replace(visits, first_ps=later(visits.first_ps), done_ps=later(visits.done_ps))
    return replace(records, cascaded=replace(cascaded, visits=changed))


def test_lessons_hold_stages_against_their_own_rows(planned: Made, tried: Rehearsal) -> None:
    case, settled = planned.case, planned.settled
    mixes = (case.workload.rate_rps[:, None] * settled.shares).T
    tables, loads = case.tables(mixes), settled.score.loads

    def learned(factor: float) -> float:
        runs = tuple(slowed(records, factor) for records in tried.records)
        found = learn(case, tables, loads, [Lesson(1.0, runs, tried.cascades)])
        ratios = [
            max(each.slower_ratio)
            for each in found
            if (each.class_name, each.metric) == ("hard", "e2e")
        ]
        return max(ratios, default=1.0)

    # Second answers are of longer prompts than the class's: by its own row they would seem slow.
    assert learned(1.0) < 1.15
    assert learned(1.5) == pytest.approx(1.5 * learned(1.0), rel=0.15)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"below": 0.1}, "do not prove"),
        ({"signal": "other"}, "do not prove"),
        ({"share": 0.5}, "do not sum to 1"),
    ],
)
def test_routes_with_another_cascade_are_faults(
    planned: Made, change: dict[str, Any], said: str
) -> None:
    routes = routes_of(planned.plan)
    first = routes.cascades["hard"][0].model_copy(update=change)
    others = {"hard": (first, *routes.cascades["hard"][1:])}
    changed = routes.model_copy(update={"cascades": others})
    with pytest.raises(InputError, match=said):
        rehearse(scene_of_made(planned), planned.plan, changed, Options(duration_s=10.0))


def test_a_stage_without_replicas_is_a_fault(planned: Made) -> None:
    routes = routes_of(planned.plan)
    gone = replace_second(routes, "nowhere")
    with pytest.raises(InputError, match="do not prove"):
        rehearse(scene_of_made(planned), planned.plan, gone, Options(duration_s=10.0))
    half = replace_second(routes, routes.cascades["hard"][0].second[0].pool, 0.5)
    with pytest.raises(InputError, match="second: has shares that do not sum to 1"):
        rehearse(scene_of_made(planned), planned.plan, half, Options(duration_s=10.0))


def replace_second(routes: Routes, pool: str, share: float = 1.0) -> Routes:
    first = routes.cascades["hard"][0]
    changed = first.model_copy(update={"second": (WeightedPool(pool=pool, share=share),)})
    return routes.model_copy(update={"cascades": {"hard": (changed,)}})


def test_a_scene_without_cascades_refuses_a_plan_with_them(planned: Made) -> None:
    scene = make_scene(planned.inputs.files, planned.case.models)
    with pytest.raises(InputError, match="do not prove"):
        rehearse(scene, planned.plan, routes_of(planned.plan), Options(duration_s=10.0))


def test_a_cluster_knows_as_many_cascades_as_its_demand() -> None:
    demand = replace(demand_of(APART_S, THIRD), cascades=())
    pools = [PoolSetup("small", engine(5.0), 1), PoolSetup("large", engine(20.0), 1)]
    cluster = Cluster.of(pools, {"chat": {}}, cascades={"chat": [entry()]})
    with pytest.raises(ValueError, match="0 cascades, the routes of 1"):
        run(cluster, demand)
    with pytest.raises(ValueError, match="add up to 1"):
        Cluster.of(pools, {"chat": {"small": 0.5}}, cascades={"chat": [entry()]})


def test_a_scene_of_a_plan_has_the_rows_of_its_cascades_alone(planned: Made) -> None:
    scene = scene_of_made(planned)
    kept = scene.of_plan(planned.plan, routes_of(planned.plan)).workload
    assert len(kept.cascades) < len(scene.workload.cascades)
    assert [c.class_name for c in kept.cascades] == [c.class_name for c in planned.plan.cascades]
    assert kept.cascades[0].first_row == kept.n_classes
    assert len(kept.shapes) == kept.n_rows == kept.quality.shape[0]
