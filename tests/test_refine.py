"""What is played near a confirmed choice, and when something else becomes the plan."""

from __future__ import annotations

import importlib.util
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
from planner.objectives import make_objectives
from planner.parallel.local import LocalWorkers
from planner.refine import TRYING, Key, Refined, refine
from planner.simulate.rehearse import Rehearsal
from planner.spec.plan import Plan, Simulated


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
    """Plays little, in the order of the question's choice, as without the `plan` extra."""
    with pytest.MonkeyPatch.context() as patch:
        few = replace(TRYING["standard"], n_plays=5, n_looks=6)
        patch.setitem(TRYING, "standard", few)
        patch.setattr(importlib.util, "find_spec", lambda name: None)
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


@pytest.fixture(scope="module")
def held(known: Setting) -> Refined:
    """What is played where everything holds."""
    return told(known, 0.9).refined()


def test_what_is_played_is_accepted_by_the_tables(known: Setting, held: Refined) -> None:
    assert len(held.plays) == 5
    assert chosen_key(known) in held.plays
    assert all(play.settled.acceptable for play in held.plays.values())


@pytest.mark.slow
def test_the_simulator_itself_is_the_same_in_other_processes(known: Setting) -> None:
    alone = known.refined()
    with LocalWorkers(2) as workers:
        together = known.refined(workers=workers)
    assert list(alone.plays) == list(together.plays)
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
    done = setting.refined()
    now = done.confirmed
    assert now.simulated is not None
    assert now.simulated.missed == ()
    holding = [p.settled.cost_usd_per_h for p in done.plays.values() if p.holds]
    assert now.chosen.cost_usd_per_h == min(holding)
    assert now.why[-1].endswith("which misses a limit in simulation")


def test_where_nothing_holds_the_choice_stays(known: Setting) -> None:
    class Always(dict[Any, float]):
        def get(self, key: Any, default: Any = None) -> float:
            return 1.3

    done = told(known, 1.2, ratio_of=Always()).refined()
    assert done.confirmed.chosen is known.confirmed.chosen


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
    own = tuple(n for n in known.confirmed.chosen.replicas.tolist() if n)
    setting = told(known, 1.2, ratio_of={own: 1.2}, stop_at=3)
    done = setting.refined()
    assert not done.confirmed.explored.complete
    assert done.confirmed.simulated is not None
    assert done.confirmed.simulated.missed == ()


# ---- How it is searched --------------------------------------------------------------------------


class Counting:
    """Workers that write down how much they are given at once."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def run(self, function: Any, arguments: Sequence[Any]) -> Iterator[Any]:
        self.given.append(len(arguments))
        yield from map(function, arguments)


@pytest.mark.slow
def test_bayesian_optimisation_plays_several_at_once(
    known: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("botorch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    counting = Counting()
    seen: list[tuple[int, int]] = []
    setting = told(known, 0.9)
    done = setting.refined(workers=counting, on_trial=lambda n, total, _: seen.append((n, total)))
    assert max(counting.given) > 1
    assert seen[0] == (1, 5)
    assert len(done.plays) == len(seen) <= 5
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
