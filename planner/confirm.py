"""When simulation contradicts a plan, the plan is wrong (§9): try it, learn, search again.

Program
    repeat   simulate the chosen plan under the question's arrivals, and in each scenario that it is
             to survive (drills.py)
             nothing is missed for certain: done
             simulate it at other multiples of its traffic, too; learn by how much each of its
             pools is slower than the formula, load by load (simulate/learn.py)
             search again on the corrected tables, from the front so far; choose; settle

What was learned is part of the plan, so that `rb check` finds the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.answer import make_answer, make_provenance
from planner.choose import choose
from planner.drills import drilled
from planner.explore import Effort, Explored, explore_again
from planner.files.plans import routes_of
from planner.objectives import Objectives, make_objectives
from planner.search.problem import Progress
from planner.settle import Settled
from planner.simulate.demand import FILL_S, busiest_window, own_duration_s
from planner.simulate.learn import Lesson, learn
from planner.simulate.rehearse import LEAST_S, MOST_S, Options, Rehearsal, rehearse
from planner.simulate.scene import Scene, make_scene
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Learned, Plan, Simulated, Survived

FACTORS = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
"""Multiples of a plan's traffic at which it teaches."""

FEWEST_SEEDS = 3
MOST_SEEDS = 20
"""Runs of the busiest window: with fewer, its parts are too alike for an honest interval."""

MOST_FACTOR = 3.0
"""Of a plan's traffic at which it teaches: scenarios load a pool more than all traffic would."""

LEAST_RPS = 1e-6
FAR_BEYOND = 10.0
MOST_REQUESTS = 500_000
"""Of one run: at a high rate a shorter part has to do."""


@dataclass(frozen=True)
class Care:
    """How much an effort simulates: never seconds, on which no answer may depend."""

    rounds: int  # of searching again
    n_requests: int  # per simulated plan, about
    n_front: int  # other points of the front that are simulated


CARE: dict[Effort, Care] = {
    "quick": Care(rounds=1, n_requests=10_000, n_front=0),
    "standard": Care(rounds=3, n_requests=30_000, n_front=4),
    "thorough": Care(rounds=6, n_requests=100_000, n_front=12),
}


@dataclass(frozen=True)
class Confirmed:
    """A chosen deployment that was tried, and what the search knew in the end."""

    objectives: Objectives
    explored: Explored
    chosen: Settled
    simulated: Simulated | None  # None: interrupted before it was tried
    why: tuple[str, ...] = ()
    survives: tuple[Survived, ...] = ()  # what it was to survive, simulated where that was done

    @property
    def holds(self) -> bool:
        """Returns whether simulation found nothing missed for certain."""
        assert self.simulated is not None  # asked of what was tried
        return not self.simulated.missed and not any(s.verdict == "missed" for s in self.survives)

    @property
    def latency_ratio(self) -> float:
        """Returns the largest simulated / allowed latency, in scenarios, too; 0 without limits."""
        assert self.simulated is not None  # asked of what was tried
        in_scenarios = (each.simulated_latency_ratio or 0.0 for each in self.survives)
        return max(self.simulated.latency_ratio or 0.0, *in_scenarios, 0.0)

    @property
    def warning(self) -> str | None:
        """Returns why nobody should rely on the plan; None where it holds."""
        if self.holds:
            return None
        return f"in simulation {_contradiction(self, 'is')}: do not rely on this plan"


@dataclass(frozen=True)
class Stage:
    """Where plans of one question are tried."""

    scene: Scene
    care: Care
    seed: int

    def rehearse(self, plan: Plan, rate_factor: float = 1.0) -> Rehearsal:
        """Returns what a plan does at a multiple of its own traffic."""
        return rehearse(self.scene, plan, routes_of(plan), self._options(plan, rate_factor))

    def survived(self, objectives: Objectives, settled: Settled) -> tuple[Survived, ...]:
        """Returns what becomes of a plan in each scenario of its question, simulated."""
        if not settled.survivals:
            return ()
        plan = draft_of(objectives, settled)
        return drilled(
            self.scene, plan, lambda factor: self._options(plan, factor), settled.survivals
        )

    def _options(self, plan: Plan, rate_factor: float) -> Options:
        """Returns about as many requests as the effort asks for, of the part that counts."""
        files, factor = self.scene.files, rate_factor * (plan.predicted.rate_factor or 1.0)
        rate_rps = max(plan.predicted.rate_rps * rate_factor, LEAST_RPS)
        most_s = min(MOST_REQUESTS / rate_rps, MOST_S)
        window = busiest_window(files, factor)
        if window is None:
            duration_s = self.care.n_requests / rate_rps
            if self.scene.changes_rate:  # what it is on average, only a whole round can tell
                duration_s = own_duration_s(files, factor) or max(duration_s, LEAST_S)
            options = Options((self.seed,), min(duration_s, most_s))
        else:
            counted_s = min(window[1] - window[0], most_s / 2)
            start_s = max(window[0] - min(FILL_S, most_s / 2), 0.0)
            n_seeds = math.ceil(self.care.n_requests / max(rate_rps * counted_s, 1.0))
            options = Options(
                seeds=tuple(self.seed + k for k in range(max(n_seeds, FEWEST_SEEDS))[:MOST_SEEDS]),
                duration_s=window[0] + counted_s - start_s,
                start_s=start_s,
                counted_s=(window[0], window[0] + counted_s),
            )
        return replace(options, rate_factor=rate_factor, n_processes=1)


def make_stage(inputs: Inputs, objectives: Objectives, effort: Effort, seed: int) -> Stage:
    """Returns where the plans of a question are tried."""
    case = objectives.case
    return Stage(make_scene(inputs.files, case.models, case.cascades), CARE[effort], seed)


def confirm(
    stage: Stage,
    objectives: Objectives,
    explored: Explored,
    chosen: Settled,
    effort: Effort,
    kept: IntArray | None = None,
    on_trial: Progress | None = None,
) -> Confirmed:
    """Returns a chosen deployment that simulation does not contradict, if there is one.

    Otherwise the one that misses its limits by least; its `simulated` says so. After Ctrl-C it is
    the best that was tried, or else the given one untried, and the search is not complete.
    """
    given, tried = Confirmed(objectives, explored, chosen, None), []
    try:
        for each in _rounds(stage, given, effort, kept, on_trial):
            tried.append(each)  # noqa: PERF402  what was tried before Ctrl-C is kept
    except KeyboardInterrupt:
        why = ("interrupted: it was not simulated",)
        best = _best(tried) if tried else replace(given, why=why)
        return replace(best, explored=replace(best.explored, complete=False))
    return _best(tried)


def _rounds(
    stage: Stage,
    now: Confirmed,
    effort: Effort,
    kept: IntArray | None,
    on_trial: Progress | None,
) -> Iterator[Confirmed]:
    """Yields one tried choice after the other, until one holds or the effort is spent.

    A search that was interrupted is not followed by another one.
    """
    for left in range(stage.care.rounds, -1, -1):
        draft = draft_of(now.objectives, now.chosen)
        rehearsal = stage.rehearse(draft)
        now = replace(now, simulated=rehearsal.simulated)
        if not (rehearsal.simulated.missed and left):  # what will be given up is not tried further
            now = replace(now, survives=stage.survived(now.objectives, now.chosen))
        yield now
        if now.holds or not left or not now.explored.complete:
            return
        learned = learned_from(stage, now.objectives, now.chosen, draft, rehearsal)
        if learned == now.objectives.case.learned:
            return  # the same tables again would give the same answer
        objectives = make_objectives(replace(now.objectives.case, learned=learned))
        explored = explore_again(objectives, now.explored, effort, on_trial)
        found, _ = choose(objectives, explored, kept)
        if found is None:
            return
        now = Confirmed(objectives, explored, found, None)


def _best(tried: Sequence[Confirmed]) -> Confirmed:
    """Returns the choice that holds, else the one that misses by least, and says what happened."""

    def miss(each: Confirmed) -> tuple[bool, float]:
        return not each.holds, each.latency_ratio

    best = min(tried, key=miss)
    complete = all(each.explored.complete for each in tried)
    best = replace(best, explored=replace(best.explored, complete=complete))
    return replace(best, why=tuple(_sentences(tried[0], best, len(tried))))


def _sentences(first: Confirmed, best: Confirmed, n_tried: int) -> Iterator[str]:
    """Yields what simulation had to say, where it contradicted a choice."""
    if first.chosen is not best.chosen and not first.holds:
        pools = ", ".join(sorted({entry.pool for entry in best.objectives.case.learned}))
        yield (
            f"a choice of {first.chosen.cost_usd_per_h:.2f} $/h was given up: in simulation "
            f"{_contradiction(first, 'was')}; searched again {n_tried - 1} times with "
            f"these pools as slow as simulated: {pools}"
        )
    if best.warning is not None:
        yield best.warning


def _contradiction(tried: Confirmed, verb: str) -> str:
    """Returns what simulation missed by most, the plan as such before its scenarios."""
    assert tried.simulated is not None  # asked of what was tried
    if tried.simulated.missed:
        ratio, what = worst(tried.simulated)
        return f"{what} {verb} at {_share(ratio)} of its limit"
    ratio, lost, scenario = max(
        (each.simulated_latency_ratio or 0.0, each.simulated_lost_ratio or 0.0, each.scenario)
        for each in tried.survives
        if each.verdict == "missed"
    )
    if ratio > 1.0:
        return f"{scenario}, a limit {verb} at {_share(ratio)} of what is allowed"
    return f"{scenario}, {lost:.2%} of the requests had no place"


def _share(ratio: float) -> str:
    """Returns simulated / allowed for a sentence; far beyond a limit the figure says nothing."""
    return f"{ratio:.1%}" if ratio < FAR_BEYOND else f"more than {FAR_BEYOND:.0f} times"


def worst(simulated: Simulated) -> tuple[float, str]:
    """Returns the largest simulated / allowed latency and the name of that statistic."""
    return max(
        (f.ms / f.at_most_ms, f.label) for f in simulated.latency if f.at_most_ms is not None
    )


def simulated_ratios(
    stage: Stage,
    objectives: Objectives,
    front: Sequence[Settled],
    chosen: Confirmed,
    known: Sequence[tuple[Settled, float]] = (),
) -> tuple[float | None, ...]:
    """Returns simulated / allowed latency of points of the front, None where not simulated.

    Those that are `known`, the chosen one, and the next by cost on either side.
    """
    at = next(k for k, point in enumerate(front) if point is chosen.chosen)
    near = sorted(range(len(front)), key=lambda k: (abs(k - at), k))[: stage.care.n_front + 1]
    ratios: list[float | None] = [None] * len(front)
    if chosen.simulated is None or chosen.simulated.latency_ratio is None:
        return tuple(ratios)  # not simulated, or without limits to hold the others against
    for settled, ratio in known:
        for k in (k for k, point in enumerate(front) if point is settled):
            ratios[k] = ratio
    ratios[at] = chosen.simulated.latency_ratio
    try:
        for k in (k for k in near if ratios[k] is None):
            ratios[k] = stage.rehearse(draft_of(objectives, front[k])).simulated.latency_ratio
    except KeyboardInterrupt:
        pass  # the plan itself was tried; the others stay without a figure
    return tuple(ratios)


def draft_of(objectives: Objectives, settled: Settled) -> Plan:
    """Returns a settled deployment as a plan, as far as simulation needs one."""
    provenance = make_provenance("draft", 0, "quick", 0, {})
    return make_answer(objectives.case, settled, (), (), provenance, complete=True)


def _factors_of_scenarios(chosen: Settled) -> set[float]:
    """Returns the multiples of the traffic that load some pool as a scenario does."""
    planned = np.maximum(chosen.score.loads, 1e-12)
    most = [float(np.max(each.loads / planned)) for each in chosen.survivals]
    return {round(factor, 2) for factor in most if max(FACTORS) < factor <= MOST_FACTOR}


def learned_from(
    stage: Stage, objectives: Objectives, chosen: Settled, draft: Plan, rehearsal: Rehearsal
) -> tuple[Learned, ...]:
    """Returns what is known after a plan was tried at several multiples of its traffic.

    Of the plan's own pools the newest lesson counts, of others what was learned before.
    """
    case = objectives.case
    lessons = []
    for factor in sorted({*FACTORS, *_factors_of_scenarios(chosen)}):
        tried = rehearsal if factor == 1.0 else stage.rehearse(draft, factor)
        start_ps, end_ps = tried.window.start_ps, tried.window.end_ps
        runs = tuple(records.between(start_ps, end_ps) for records in tried.records)
        lessons.append(Lesson(factor, runs, tried.cascades))
    plain = replace(case, learned=())
    mixes = (case.workload.rate_rps[:, None] * chosen.shares).T
    new = learn(plain, plain.tables(mixes), chosen.score.loads, lessons)
    used = {entry.pool for entry in draft.deployment}
    return (*(entry for entry in case.learned if entry.pool not in used), *new)
