"""Plans tried in simulation: what contradicts them is learned, and the search goes on (§9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import OWN, small, unlimited
from questions import inputs_of

from planner import confirm as confirming
from planner.answer import make_answer, make_provenance
from planner.case import make_case
from planner.choose import choose, settled_front
from planner.confirm import CARE, Confirmed, Stage, confirm, make_stage, simulated_ratios
from planner.explore import Effort, Explored, explore
from planner.files.plans import need_plan, plan_text, routes_of, write_plan
from planner.gate.check import check
from planner.objectives import Objectives, make_objectives
from planner.plan import make_plan
from planner.settle import Settled
from planner.simulate.demand import FILL_S
from planner.simulate.rehearse import Rehearsal
from planner.simulate.scene import make_scene
from planner.simulate.units import PS_PER_S
from planner.spec.inputs import Inputs
from planner.spec.plan import Learned, Plan, Simulated

ONE_POOL: dict[str, Any] = {"pools": [OWN[1]], "quality_at_least": None}
WAVE: dict[str, Any] = {"process": "square", "low_rps": 0.0, "high_rps": 24.0, "period_s": 120.0}
"""Planned at 14.4 requests/s over five minutes: the formula knows nothing of a minute at 24."""


def at_most(limit_ms: float, **changes: Any) -> dict[str, Any]:
    """The small question on its small pool alone, with another limit on its easy class."""
    question = small(**ONE_POOL, **changes)
    question["classes"][0]["limits"][0]["at_most_ms"] = limit_ms
    return question


def draft_of(objectives: Objectives, settled: Settled) -> Plan:
    """A settled deployment as a plan, as far as simulation needs one."""
    provenance = make_provenance("hand", 0, "quick", 0, {})
    return make_answer(objectives.case, settled, (), (), provenance, complete=True)


@dataclass(frozen=True)
class Setting:
    """A question up to where its choice is tried."""

    inputs: Inputs
    objectives: Objectives
    explored: Explored
    chosen: Settled
    stage: Stage

    def confirmed(self, **changes: Any) -> Confirmed:
        asked = {"stage": self.stage, "explored": self.explored, "effort": "quick", **changes}
        return confirm(objectives=self.objectives, chosen=self.chosen, **asked)


def setting_of(folder: Path, question: dict[str, Any], effort: Effort = "quick") -> Setting:
    inputs = inputs_of(folder, question)
    objectives = make_objectives(make_case(inputs))
    explored = explore(objectives, effort, "auto", 0)
    chosen, _ = choose(objectives, explored, None)
    assert chosen is not None
    stage = make_stage(inputs, objectives, effort, 0)
    return Setting(inputs, objectives, explored, chosen, stage)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Returns a question whose formula is wrong on purpose."""
    return setting_of(tmp_path_factory.mktemp("wrong"), at_most(5000.0, arrivals=WAVE))


@pytest.fixture(scope="module")
def plan(wrong: Setting) -> Plan:
    return make_plan(wrong.inputs, "quick")


# ---- A choice that simulation contradicts --------------------------------------------------------


def test_the_first_choice_misses_and_the_confirmed_one_does_not(wrong: Setting, plan: Plan) -> None:
    first = wrong.stage.rehearse(draft_of(wrong.objectives, wrong.chosen)).simulated
    assert wrong.chosen.acceptable
    assert [(f.class_name, f.metric, f.statistic) for f in first.missed] == [("easy", "e2e", "p95")]
    assert plan.simulated is not None
    assert plan.simulated.missed == ()
    (row,) = plan.deployment
    assert row.replicas > wrong.chosen.replicas[0]
    assert plan.predicted.cost_usd_per_h > wrong.chosen.cost_usd_per_h
    assert plan.complete


def test_the_plan_says_what_it_learned_and_why(wrong: Setting, plan: Plan) -> None:
    assert {entry.pool for entry in plan.learned} == {OWN[1]}
    assert max(r for entry in plan.learned for r in entry.slower_ratio) > 1.1
    (said,) = [text for text in plan.why if "was given up" in text]
    assert said.startswith(f"a choice of {wrong.chosen.cost_usd_per_h:.2f} $/h was given up")
    assert "p95 e2e of easy" in said
    assert said.endswith(f"as slow as simulated: {OWN[1]}")


def test_its_prediction_is_that_of_the_corrected_tables(wrong: Setting, plan: Plan) -> None:
    case = replace(wrong.objectives.case, learned=plan.learned)
    (row,) = plan.deployment
    shares = np.ones((2, 1))
    table = case.tables((case.workload.rate_rps[:, None] * shares).T)[0]
    said = {(f.class_name, f.metric, f.statistic): f.ms for f in plan.predicted.latency}
    load = float(table.work_s @ case.workload.rate_rps) / row.replicas
    (figure,) = plan.predicted.pools
    assert figure.utilisation_ratio == pytest.approx(load / table.max_load, rel=1e-3)
    over = np.interp(load, table.loads, table.exceedance("e2e", said["easy", "e2e", "p95"])[0])
    assert over == pytest.approx(0.05, abs=1e-3)
    # The simulated p95 is what the lesson is about, so the two are near.
    assert plan.simulated is not None
    (seen,) = [f.ms for f in plan.simulated.latency if f.at_most_ms and f.class_name == "easy"]
    assert said["easy", "e2e", "p95"] == pytest.approx(seen, rel=0.1)


def test_rb_check_finds_the_same_figures_in_the_written_plan(
    wrong: Setting, plan: Plan, tmp_path: Path
) -> None:
    write_plan(tmp_path, plan)
    read = need_plan(tmp_path)
    assert read == plan
    assert check(wrong.inputs, read, routes_of(read)) == ()
    # Without what was learned, the same figures are nowhere to be found.
    forgetful = read.model_copy(update={"learned": ()})
    found = {f.code for f in check(wrong.inputs, forgetful, routes_of(forgetful))}
    assert found == {"prediction-drift"}


def test_the_same_inputs_give_the_same_bytes(wrong: Setting, plan: Plan) -> None:
    assert plan_text(make_plan(wrong.inputs, "quick")) == plan_text(plan)


@pytest.mark.slow
def test_two_pools_may_change_their_shares_only(tmp_path: Path) -> None:
    known = setting_of(tmp_path, small(arrivals=WAVE | {"high_rps": 70.0}))
    done = known.confirmed()
    assert done.simulated is not None
    assert done.simulated.missed == ()
    assert done.chosen.cost_usd_per_h >= known.chosen.cost_usd_per_h
    changed = (done.chosen.replicas != known.chosen.replicas).any()
    assert changed or (done.chosen.shares != known.chosen.shares).any()
    assert done.objectives.case.learned


# ---- A choice that holds -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Returns a question of one pool, quick to answer, that simulation does not contradict."""
    return setting_of(tmp_path_factory.mktemp("quiet"), at_most(5000.0))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return setting_of(tmp_path_factory.mktemp("right"), small())


def test_a_plan_that_holds_is_the_one_that_was_chosen(right: Setting) -> None:
    made = make_plan(right.inputs, "quick")
    draft = draft_of(right.objectives, right.chosen)
    assert made.learned == ()
    assert made.deployment == draft.deployment
    assert made.routing == draft.routing
    assert made.predicted == draft.predicted
    assert made.simulated == right.stage.rehearse(draft).simulated
    assert made.simulated is not None
    assert made.simulated.missed == ()
    assert not [text for text in made.why if "simulation" in text]


def test_questions_without_limits_are_simulated_too(tmp_path: Path) -> None:
    known = setting_of(tmp_path, unlimited())
    done = known.confirmed()
    assert done.chosen is known.chosen
    assert done.simulated is not None
    assert done.simulated.latency_ratio is None
    # Nothing is to be held against other points of the front, so they are not tried.
    front = settled_front(known.objectives, known.explored, known.chosen)
    silent = Silent(known.stage.scene, CARE["thorough"], 0)
    assert simulated_ratios(silent, known.objectives, front, done) == (None,) * len(front)


# ---- How much is tried ---------------------------------------------------------------------------


class Silent(Stage):
    """A stage on which nothing may be tried."""

    def rehearse(self, plan: Plan, rate_factor: float = 1.0) -> Rehearsal:
        raise AssertionError("nothing is to be tried here")


@dataclass(frozen=True)
class Stubborn(Stage):
    """A stage that says of every plan what it is told to, and writes down what was tried."""

    says: Sequence[Rehearsal] = ()  # of one choice after the other, the last one of all others
    stop_at: int = -1
    tried: list[float] = field(default_factory=list)

    def rehearse(self, plan: Plan, rate_factor: float = 1.0) -> Rehearsal:
        if len(self.tried) == self.stop_at:
            raise KeyboardInterrupt
        n_choices = self.tried.count(1.0)
        self.tried.append(rate_factor)
        return self.says[min(n_choices, len(self.says) - 1)]


def stubborn(
    known: Setting, effort: Effort, stop_at: int = -1, ratios: Sequence[float] = (1.1,)
) -> Stubborn:
    """A stage on which every choice misses its limits, one after the other by so much."""
    draft = draft_of(known.objectives, known.chosen)
    done = known.stage.rehearse(draft)
    says = [replace(done, simulated=_missing(done.simulated, ratio)) for ratio in ratios]
    return Stubborn(known.stage.scene, CARE[effort], 0, says, stop_at)


def _missing(simulated: Simulated, ratio: float) -> Simulated:
    figures = tuple(
        f
        if f.at_most_ms is None
        else f.model_copy(update={"ms": ratio * f.at_most_ms, "verdict": "missed"})
        for f in simulated.latency
    )
    return simulated.model_copy(update={"latency": figures, "latency_ratio": ratio})


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes every trial teach something new; returns the number of lessons of each."""
    given: list[int] = []

    def teach(*asked: Any) -> tuple[Learned, ...]:
        given.append(len(asked[-1]))
        entry = {"class": None, "pool": OWN[1], "metric": "ttft"}
        entry |= {"load_ratio": (0.5,), "slower_ratio": (1.0 + 0.01 * len(given),)}
        return (Learned.model_validate(entry),)

    monkeypatch.setattr(confirming, "learn", teach)
    return given


@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_the_effort_decides_how_often_it_searches_again(
    quiet: Setting, lessons: list[int], effort: Effort
) -> None:
    stage = stubborn(quiet, effort)
    done = quiet.confirmed(stage=stage)
    n_again = {"quick": 1, "standard": 3}[effort]
    assert lessons == [len(confirming.FACTORS)] * n_again
    # Each choice as it is; and at the other multiples of its traffic, where it is learned from.
    assert stage.tried.count(1.0) == n_again + 1
    assert len(stage.tried) == n_again + 1 + (len(confirming.FACTORS) - 1) * n_again
    assert done.simulated is not None
    assert done.simulated.missed
    assert done.why[-1].endswith("do not rely on this plan")


def test_a_trial_that_teaches_nothing_is_not_followed_by_the_same_search(
    quiet: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "learn", lambda *_: ())
    monkeypatch.setattr(confirming, "explore_again", None)  # must not be called
    done = quiet.confirmed(stage=stubborn(quiet, "thorough"))
    assert done.chosen is quiet.chosen
    assert done.explored.evaluations == quiet.explored.evaluations


@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_the_effort_decides_how_many_requests_are_tried(quiet: Setting, effort: Effort) -> None:
    stage = Stage(quiet.stage.scene, CARE[effort], 0)
    done = stage.rehearse(draft_of(quiet.objectives, quiet.chosen))
    n = {"quick": 10_000, "standard": 30_000}[effort]
    assert sum(r.n_requests for r in done.records) == pytest.approx(n, abs=4 * np.sqrt(n))
    assert done.simulated.settled
    faster = stage.rehearse(draft_of(quiet.objectives, quiet.chosen), 1.1)
    assert sum(r.n_requests for r in faster.records) == pytest.approx(n, abs=4 * np.sqrt(n))
    assert faster.simulated.rate_rps == pytest.approx(1.1 * 32.0, rel=0.04)


def test_the_effort_decides_how_much_of_the_front_is_tried(quiet: Setting) -> None:
    done = quiet.confirmed()
    front = settled_front(quiet.objectives, quiet.explored, quiet.chosen)
    at = next(k for k, point in enumerate(front) if point is quiet.chosen)
    assert len(front) >= 4
    quick = simulated_ratios(quiet.stage, quiet.objectives, front, done)
    assert done.simulated is not None
    assert [k for k, r in enumerate(quick) if r is not None] == [at]
    assert quick[at] == done.simulated.latency_ratio
    care = replace(CARE["quick"], n_front=2)
    some = simulated_ratios(replace(quiet.stage, care=care), quiet.objectives, front, done)
    tried = [k for k, r in enumerate(some) if r is not None]
    assert len(tried) == 3
    assert max(abs(k - at) for k in tried) <= 2
    assert some[at] == quick[at]
    for k in tried:
        own = quiet.stage.rehearse(draft_of(quiet.objectives, front[k])).simulated
        assert some[k] == own.latency_ratio


# ---- Which part of the traffic is tried ----------------------------------------------------------


def test_of_a_wave_the_five_minutes_it_was_planned_for(wrong: Setting) -> None:
    done = wrong.stage.rehearse(draft_of(wrong.objectives, wrong.chosen))
    # Of a later period: before the first the cluster is empty.
    assert (done.simulated.counted_from_s, done.simulated.duration_s) == (FILL_S, 300.0)
    assert done.simulated.seeds == (0, 1, 2)
    rate = wrong.chosen.score.pool_rps.sum()
    assert rate == pytest.approx(14.4)
    assert done.simulated.rate_rps == pytest.approx(rate, abs=4 * np.sqrt(rate / 900.0))


def test_of_a_schedule_its_busiest_minutes_and_the_time_before(tmp_path: Path) -> None:
    rows = ["start_s,rate_rps", "0,2", "3000,30", "3300,2", "6000,2"]
    (tmp_path / "rates.csv").write_text("\n".join(rows) + "\n")
    known = setting_of(tmp_path, small(arrivals={"process": "schedule", "file": "rates.csv"}))
    done = known.stage.rehearse(draft_of(known.objectives, known.chosen))
    assert (done.simulated.counted_from_s, done.simulated.duration_s) == (FILL_S, 300.0)
    assert done.simulated.seeds == (0, 1, 2)
    for records in done.records:
        before = records.between(0, round(FILL_S * PS_PER_S)).n_requests
        assert before == pytest.approx(2 * FILL_S, abs=4 * np.sqrt(2 * FILL_S))
    assert done.simulated.rate_rps == pytest.approx(30.0, abs=4 * np.sqrt(30.0 / 900.0))


@pytest.mark.parametrize(("lengths", "n_runs"), [("200,100", 1), (",", 3)])
def test_a_trace_that_tells_everything_is_tried_once(
    tmp_path: Path, lengths: str, n_runs: int
) -> None:
    rows = [f"{t:.1f},{'hard' if t % 4 == 0 else 'easy'},{lengths}" for t in np.arange(0, 600, 0.5)]
    header = "timestamp_s,class,input_tokens,output_tokens"
    (tmp_path / "trace.csv").write_text("\n".join([header, *rows]) + "\n")
    inputs = inputs_of(tmp_path, small(arrivals={"process": "trace", "trace": "trace.csv"}))
    objectives = make_objectives(make_case(inputs))
    care = replace(CARE["quick"], n_requests=1500)
    stage = Stage(make_scene(inputs.files, objectives.case.models), care, 0)
    explored = explore(objectives, "quick", "auto", 0)
    chosen, _ = choose(objectives, explored, None)
    assert chosen is not None
    done = stage.rehearse(draft_of(objectives, chosen))
    assert len(done.records) == n_runs
    seen = [r.output_tokens.tolist() for r in done.records]
    assert all(other != seen[0] for other in seen[1:])


def test_hardly_any_traffic_breaks_no_plan(tmp_path: Path) -> None:
    question = small()
    for cls in question["classes"]:
        cls["rate_rps"] *= 1e-12
    made = make_plan(inputs_of(tmp_path, question), "quick")
    assert made.simulated is not None
    assert made.simulated.n_requests == 0
    assert made.simulated.missed == ()


# ---- Interrupted ---------------------------------------------------------------------------------


def test_ctrl_c_before_anything_was_tried_gives_the_choice_untried(quiet: Setting) -> None:
    done = quiet.confirmed(stage=stubborn(quiet, "quick", stop_at=0))
    assert done.chosen is quiet.chosen
    assert done.simulated is None
    assert not done.explored.complete
    assert done.why == ("interrupted: it was not simulated",)
    front = settled_front(quiet.objectives, quiet.explored, quiet.chosen)
    ratios = simulated_ratios(quiet.stage, quiet.objectives, front, done)
    assert ratios == (None,) * len(front)


def test_ctrl_c_while_it_learns_keeps_what_was_tried(quiet: Setting) -> None:
    done = quiet.confirmed(stage=stubborn(quiet, "quick", stop_at=3))
    assert done.chosen is quiet.chosen
    assert done.simulated is not None
    assert done.simulated.missed
    assert not done.explored.complete


def test_a_search_that_was_interrupted_is_not_followed_by_another(
    quiet: Setting, lessons: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "explore_again", None)  # must not be called
    cut = replace(quiet.explored, complete=False)
    done = quiet.confirmed(stage=stubborn(quiet, "thorough"), explored=cut)
    assert done.chosen is quiet.chosen
    assert not done.explored.complete
    assert lessons == []


# ---- A plan that stays missed --------------------------------------------------------------------


def test_of_choices_that_all_miss_the_nearest_is_the_plan(
    quiet: Setting, lessons: list[int]
) -> None:
    done = quiet.confirmed(stage=stubborn(quiet, "standard", ratios=(1.5, 1.2, 1.3, 1.4)))
    assert lessons == [len(confirming.FACTORS)] * 3
    assert done.simulated is not None
    assert done.simulated.latency_ratio == 1.2
    assert [entry.slower_ratio for entry in done.objectives.case.learned] == [(1.01,)]
    assert done.explored.complete


def test_where_nothing_holds_any_more_the_choice_stays(
    quiet: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"class": None, "pool": OWN[1], "metric": "e2e"}
    entry |= {"load_ratio": (0.5,), "slower_ratio": (1000.0,)}
    monkeypatch.setattr(confirming, "learn", lambda *_: (Learned.model_validate(entry),))
    done = quiet.confirmed(stage=stubborn(quiet, "thorough", ratios=(1.5,)))
    assert done.chosen is quiet.chosen
    assert done.objectives is quiet.objectives
    assert done.why == (
        "in simulation p95 e2e of hard is at 150.0% of its limit: do not rely on this plan",
    )


def test_rb_check_tells_each_limit_that_simulation_missed(wrong: Setting, plan: Plan) -> None:
    assert plan.simulated is not None
    figures = [
        f.model_copy(
            update={"ms": 5125.0, "low_ms": 5100.0, "high_ms": 5150.0, "verdict": "missed"}
        )
        if f.class_name == "easy"
        else f
        for f in plan.simulated.latency
        if f.at_most_ms is not None
    ]
    ratio = max(f.ms / f.at_most_ms for f in figures if f.at_most_ms is not None)
    update = {"latency": tuple(figures), "latency_ratio": round(ratio, 6)}
    missed = plan.simulated.model_copy(update=update)
    front = tuple(
        p.model_copy(update={"simulated_latency_ratio": missed.latency_ratio}) if p.chosen else p
        for p in plan.front
    )
    again = plan.model_copy(update={"simulated": missed, "front": front})
    (found,) = check(wrong.inputs, again, routes_of(again))
    assert (found.severity, found.code) == ("error", "simulated")
    assert found.where == "plan.json:simulated.p95 e2e of easy"
    assert "missed the limit: 5.1" in found.what
