"""What is played near a confirmed choice, and when something else becomes the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import small, unlimited
from questions import inputs_of

from planner import refine as refining
from planner.case import make_case
from planner.choose import choose, settled_front
from planner.confirm import CARE, Confirmed, Stage, confirm, make_stage, simulated_ratios
from planner.explore import Effort, explore
from planner.objectives import WORST_RATIO, make_objectives
from planner.parallel.local import LocalWorkers
from planner.parallel.workers import open_workers
from planner.refine import TRYING, Key, Refined, refine
from planner.search.calibration import calibrated
from planner.search.problem import Trials
from planner.settle import Settled
from planner.simulate.rehearse import Rehearsal
from planner.spec.plan import Plan, Simulated
from planner.spec.table import PoolTable


@dataclass(frozen=True)
class Setting:
    """A question up to its confirmed choice."""

    stage: Stage
    confirmed: Confirmed

    def refined(self, effort: Effort = "standard", **changes: Any) -> Refined:
        asked: dict[str, Any] = {"stage": self.stage, "confirmed": self.confirmed, **changes}
        return refine(effort=effort, workers=asked.pop("workers", LocalWorkers(1)), **asked)


def setting_of(folder: Path, question: dict[str, Any]) -> Setting:
    inputs = inputs_of(folder, question)
    objectives = make_objectives(make_case(inputs))
    explored = explore(objectives, "quick", "auto", 0)
    chosen, _ = choose(objectives, explored, None)
    assert chosen is not None
    stage = make_stage(inputs, objectives, "quick", 0)
    return Setting(stage, confirm(stage, objectives, explored, chosen, "quick"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return setting_of(tmp_path_factory.mktemp("known"), small())


@pytest.fixture(autouse=True, scope="module")
def few_in_order() -> Iterator[None]:
    """Plays little, in the order of the question's choice, as without the `plan` extra.

    What is settled is remembered from test to test: the tables are the same in all of them.
    """
    settle = refining.Theatre._settled
    memory: dict[tuple[int, Key], Settled | None] = {}

    def remembered(theatre: refining.Theatre, key: Key) -> Settled | None:
        at = id(theatre._objectives), key
        if at not in memory:
            memory[at] = settle(theatre, key)
        return memory[at]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refining.Theatre, "_settled", remembered)
        few = replace(TRYING["standard"], n_plays=4, n_looks=4)
        patch.setitem(TRYING, "standard", few)
        patch.setattr(refining, "_has_botorch", lambda: False)
        yield


@dataclass(frozen=True)
class Told(Stage):
    """A stage on which each deployment misses its limits as it is told to."""

    says: Simulated | None = None
    ratio_of: dict[tuple[int, ...], float] = field(default_factory=dict)
    played: list[tuple[int, ...]] = field(default_factory=list)
    stop_at: int = -1

    def rehearse(self, plan: Plan, rate_factor: float = 1.0) -> Rehearsal:
        if len(self.played) == self.stop_at:
            raise KeyboardInterrupt
        key = tuple(entry.replicas for entry in plan.deployment)
        self.played.append(key)
        assert self.says is not None
        said = missing(self.says, self.ratio_of.get(key, 0.9))
        return Rehearsal(said, (), (), None)  # type: ignore[arg-type]


def missing(simulated: Simulated, ratio: float) -> Simulated:
    """The same outcome with every limit at a share of what is allowed, for certain."""
    verdict = "met" if ratio <= 1.0 else "missed"
    figures = []
    for f in simulated.latency:
        if f.at_most_ms is not None:
            ms = ratio * f.at_most_ms
            changes = {"ms": ms, "low_ms": 0.999 * ms, "high_ms": 1.001 * ms, "verdict": verdict}
            figures.append(f.model_copy(update=changes))
    return simulated.model_copy(update={"latency": tuple(figures), "latency_ratio": ratio})


def told(known: Setting, ratio: float, **ratio_of: Any) -> Setting:
    """The setting with a choice that plays at a ratio, and others as they are told to."""
    simulated = known.confirmed.simulated
    assert simulated is not None
    stage = Told(known.stage.scene, CARE["quick"], 0, simulated, **ratio_of)
    return Setting(stage, replace(known.confirmed, simulated=missing(simulated, ratio)))


def chosen_key(known: Setting) -> Key:
    return (*known.confirmed.chosen.replicas.tolist(), known.confirmed.chosen.level)


# ---- What is played ------------------------------------------------------------------------------


def test_a_quick_plan_is_not_refined(known: Setting) -> None:
    done = known.refined("quick")
    assert done.confirmed is known.confirmed
    assert done.plays == {}


def test_without_limits_there_is_nothing_that_simulation_could_contradict(tmp_path: Path) -> None:
    free = setting_of(tmp_path, unlimited())
    assert free.refined("thorough").plays == {}


def test_an_interrupted_search_is_not_followed_by_another(known: Setting) -> None:
    cut = replace(known.confirmed, explored=replace(known.confirmed.explored, complete=False))
    assert known.refined("thorough", confirmed=cut).plays == {}


class Counting:
    """Workers that write down how much they are given at once, and whether they come to its end."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.ended: list[int] = []

    def run(self, function: Any, arguments: Sequence[Any]) -> Iterator[Any]:
        self.given.append(len(arguments))
        yield from map(function, arguments)
        self.ended.append(len(arguments))


@pytest.fixture(scope="module")
def counting() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def held(known: Setting, counting: Counting) -> Refined:
    """What is played where everything holds."""
    return told(known, 0.9).refined(workers=counting)


def test_what_is_played_is_accepted_by_the_tables(known: Setting, held: Refined) -> None:
    assert len(held.plays) == 4
    assert chosen_key(known) in held.plays
    assert all(play.settled.acceptable for play in held.plays.values())


def test_workers_are_not_left_half_way_where_they_would_be_ended(
    held: Refined, counting: Counting
) -> None:
    assert held.plays
    assert counting.ended == counting.given == [3]  # the choice was played before


@pytest.mark.slow
@pytest.mark.parametrize("by_gain", [False, True])
def test_the_simulator_itself_is_the_same_in_other_processes(
    known: Setting, by_gain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_gain:
        pytest.importorskip("botorch")
    monkeypatch.setattr(refining, "_has_botorch", lambda: by_gain)
    monkeypatch.setitem(TRYING, "standard", replace(TRYING["standard"], n_plays=6, n_looks=16))
    done = []
    for n_processes in (1, 2):
        with open_workers(n_processes) as workers:
            done.append(known.refined(workers=workers))
    alone, together = done
    assert len(alone.plays) == 6
    assert list(alone.plays) == list(together.plays)
    assert alone.confirmed.chosen.replicas.tolist() == together.confirmed.chosen.replicas.tolist()
    assert alone.confirmed.why == together.confirmed.why
    assert [p.simulated for p in alone.plays.values()] == [
        p.simulated for p in together.plays.values()
    ]


def test_the_front_says_what_was_played(known: Setting, held: Refined) -> None:
    now = held.confirmed
    front = settled_front(now.objectives, now.explored, now.chosen, held.settled)
    quiet = Told(known.stage.scene, replace(CARE["quick"], n_front=0), 0)
    ratios = simulated_ratios(quiet, now.objectives, front, now, held.ratios)
    played = {id(play.settled) for play in held.plays.values()}
    assert [r is not None for r in ratios] == [id(point) in played for point in front]
    assert sum(r is not None for r in ratios) > 1


# ---- What becomes the plan -----------------------------------------------------------------------


def test_a_choice_that_holds_and_is_best_stays(known: Setting, held: Refined) -> None:
    assert held.confirmed.chosen is known.confirmed.chosen
    assert held.confirmed.why == known.confirmed.why


def test_a_choice_that_misses_gives_way_to_the_cheapest_that_holds(known: Setting) -> None:
    own = tuple(n for n in known.confirmed.chosen.replicas.tolist() if n)
    setting = told(known, 1.2, ratio_of={own: 1.2})
    warning = setting.confirmed.warning
    assert warning is not None
    assert "do not rely" in warning
    warned = replace(setting.confirmed, why=("searched again", warning))
    done = setting.refined(confirmed=warned)
    now = done.confirmed
    assert now.simulated is not None
    assert now.simulated.missed == ()
    holding = [p.settled.cost_usd_per_h for p in done.plays.values() if p.holds]
    assert now.chosen.cost_usd_per_h == min(holding)
    assert now.why[0] == "searched again"
    assert now.why[1:] == now.why[-1:]  # the warning was of another plan
    assert now.why[-1].endswith("which misses a limit in simulation")


def test_where_nothing_holds_the_choice_stays(known: Setting) -> None:
    class Always(dict[Any, float]):
        def get(self, key: Any, default: Any = None) -> float:
            return 1.3

    setting = told(known, 1.2, ratio_of=Always())
    warned = replace(setting.confirmed, why=(setting.confirmed.warning or "",))
    done = setting.refined(confirmed=warned)
    assert done.confirmed.chosen is known.confirmed.chosen
    assert done.confirmed.why == warned.why


@pytest.mark.slow
def test_the_fastest_is_the_one_that_plays_fastest(tmp_path: Path) -> None:
    fast = setting_of(tmp_path, small(choose="fastest", budget_usd_per_h=20.0))
    own = tuple(n for n in fast.confirmed.chosen.replicas.tolist() if n)
    done = told(fast, 0.8, ratio_of={own: 0.8}).refined()
    others = {key for key in done.plays if tuple(n for n in key[:-1] if n) != own}
    assert others  # they play at 0.9: slower, whatever the tables say
    assert done.confirmed.chosen is fast.confirmed.chosen
    slow = told(fast, 0.95, ratio_of={own: 0.95}).refined()
    assert slow.confirmed.chosen is not fast.confirmed.chosen
    assert slow.confirmed.simulated is not None
    assert slow.confirmed.simulated.latency_ratio == 0.9


def test_ctrl_c_keeps_what_was_played(known: Setting) -> None:
    setting = told(known, 1.2, stop_at=2)
    done = setting.refined()
    assert len(done.plays) == 3
    assert not done.confirmed.explored.complete
    assert done.confirmed.simulated is not None
    assert done.confirmed.simulated.missed == ()


def test_ctrl_c_before_the_first_play_keeps_the_choice(
    known: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for stage in ("look", "problem"):
        with monkeypatch.context() as patch:
            patch.setattr(refining.Theatre, "look", lambda *_: [])
            patch.setattr(refining.Theatre, stage, interrupted)
            done = known.refined()
        assert done.confirmed.chosen is known.confirmed.chosen
        assert not done.confirmed.explored.complete
        assert done.plays == {}


# ---- How it is searched --------------------------------------------------------------------------


@pytest.mark.slow
def test_bayesian_optimisation_plays_several_at_once(
    known: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("botorch")
    monkeypatch.setattr(refining, "_has_botorch", lambda: True)
    counting = Counting()
    seen: list[tuple[int, int]] = []
    setting = told(known, 0.9)
    done = setting.refined(workers=counting, on_trial=lambda n, total, _: seen.append((n, total)))
    assert max(counting.given) > 1
    assert seen[0] == (1, 4)
    assert len(done.plays) == len(seen) <= 4
    again = told(known, 0.9).refined()
    assert list(again.plays) == list(done.plays)


def test_what_the_tables_expect_moves_with_slower_pools(known: Setting) -> None:
    objectives, explored = known.confirmed.objectives, known.confirmed.explored
    able = [e for e in explored.front if e.level == 0]
    prior = refining._prior(objectives, able)
    points = np.array([(*e.replicas.tolist(), e.level) for e in able])
    still = prior.expect(points, np.zeros(prior.spreads.size))
    slower = prior.expect(points, np.full(prior.spreads.size, 0.05))
    assert still.margins == pytest.approx([np.log2(e.latency) for e in able], abs=1e-6)
    # All pools 5 % slower: every latency at least as much slower, more where queues grow.
    assert (slower.margins - still.margins >= 0.9 * 0.05 / np.log(2.0)).all()


def test_one_play_teaches_slowness_as_bayes_says(known: Setting) -> None:
    objectives = known.confirmed.objectives
    able = [e for e in known.confirmed.explored.front if e.level == 0][:1]
    prior = refining._prior(objectives, able)
    points = np.array([(*able[0].replicas.tolist(), 0)])
    still = prior.expect(points, np.zeros(prior.spreads.size))
    slopes = np.array(
        [prior.expect(points, unit).margins[0] for unit in np.eye(prior.spreads.size)]
    )
    slopes -= still.margins[0]
    found = still.margins + 0.1
    variance = 0.03**2
    outcome = Trials(
        points,
        np.array([[*still.values[0, :2], 2.0 ** found[0]]]),
        np.zeros(1),
        True,
        found,
        np.array([[0.0, 0.0, 0.0, variance]]),
    )
    weight = np.diag(prior.spreads**2) @ slopes
    expected = weight * 0.1 / (slopes @ weight + prior.errors[-1] ** 2 + variance)
    assert calibrated(prior, outcome) == pytest.approx(expected, rel=1e-2)


def test_a_latency_beyond_the_tables_is_not_overlooked(known: Setting) -> None:
    objectives = known.confirmed.objectives
    e = known.confirmed.explored.front[0]

    def endless(table: PoolTable) -> PoolTable:
        survival = {metric: values.copy() for metric, values in table.survival.items()}
        for values in survival.values():
            values[0] = 1.0  # of the first class alone
        return replace(table, survival=survival)

    slow = replace(objectives, tables=tuple(endless(table) for table in objectives.tables))
    assert refining._log_ratio(objectives, e, None) < 0.0
    assert refining._log_ratio(slow, e, None) == np.log2(WORST_RATIO)


def test_the_noise_of_a_play_comes_from_its_interval(known: Setting, held: Refined) -> None:
    theatre = refining.Theatre(known.stage, known.confirmed, LocalWorkers(1), None)
    play = held.plays[chosen_key(known)]
    said = missing(play.simulated, 0.9)  # intervals of 0.1 % of it to either side
    outcome = theatre._outcome(replace(play, simulated=said))
    assert outcome.variances is not None
    deviation = 0.0009 / 1.959964
    drawn = np.log2(np.random.default_rng(0).normal(0.9, deviation, 20_000))
    assert outcome.variances[:2].tolist() == [0.0, 0.0]
    assert outcome.variances[2] == pytest.approx(deviation**2, rel=1e-3)
    assert outcome.variances[3] == pytest.approx(drawn.var(), rel=0.05)
    assert outcome.margin == pytest.approx(np.log2(0.9))
