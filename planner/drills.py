"""What a plan is to survive, played in the simulator: each scenario once.

    failures        the replicas are down from the first request to the last: what counts is the
                    time while a failure lasts, not what the dying replica was answering. Replicas
                    of a pool are alike, so one of each pool stands for any one of them
    other traffic   all requests, or those of one class, come at so many times their rate
    latency bands   are no event: nothing is played, tables alone judge them

A scenario is missed in simulation when a limit is, for certain, at what it allows meanwhile, or
when a request has no place to go (§9).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from planner.files.plans import routes_of
from planner.robust import Survival
from planner.simulate.demand import FILL_S
from planner.simulate.estimates import Estimate
from planner.simulate.failures import Failure
from planner.simulate.figures import verdict
from planner.simulate.rehearse import Options, rehearse
from planner.simulate.scene import Scene
from planner.spec.inputs import QuestionFiles
from planner.spec.plan import Plan, Simulated, SimulatedFigure, Survived, Verdict
from planner.spec.question import Bursty, Poisson, Question, Trace
from planner.spec.scenario import Scenario

FILL_RATIO = 0.2
"""A short run gives this part of itself to filling up, at most."""

RATIO_DIGITS = 6

OptionsAt = Callable[[float], Options]
"""Returns how long a plan is tried, and which part counts, at a multiple of its traffic."""


def by_tables(found: Sequence[Survival]) -> tuple[Survived, ...]:
    """Returns what becomes of a plan in its scenarios, as it stands in the file (§6)."""
    return tuple(
        Survived(
            scenario=each.scenario.label,
            survives=each.holds,
            utilisation_ratio=round(min(each.utilisation_ratio, 1e6), RATIO_DIGITS),
            latency_ratio=None
            if each.latency_ratio is None
            else round(min(each.latency_ratio, 1e6), RATIO_DIGITS),
            quality=round(min(each.quality, 1.0), RATIO_DIGITS),
            unserved_ratio=round(each.unserved_ratio, RATIO_DIGITS),
        )
        for each in found
    )


def drilled(
    scene: Scene, plan: Plan, options_at: OptionsAt, found: Sequence[Survival]
) -> tuple[Survived, ...]:
    """Returns what becomes of a plan in its scenarios, by the tables and in simulation.

    Args:
        scene: where plans of the question are tried.
        plan: the deployment with its routes.
        options_at: how it is tried.
        found: what the tables say, scenario by scenario.
    """
    return tuple(
        _with_simulation(said, each.scenario, played(scene, plan, options_at, each.scenario))
        for said, each in zip(by_tables(found), found, strict=True)
    )


def played(scene: Scene, plan: Plan, options_at: OptionsAt, scenario: Scenario) -> Simulated | None:
    """Returns what a scenario did in simulation; None for one that cannot be played."""
    files = scene.files
    if not is_playable(files.question, scenario):
        return None
    rate_factor = float(scenario.class_rate_ratio[0])
    if _is_by_class(scenario):
        files, rate_factor = _with_class_rates(files, scenario)
    options = replace(options_at(rate_factor), failures=_failures(scene, scenario))
    if options.failures and not scene.changes_rate:
        options = _filled(options)
    return rehearse(replace(scene, files=files), plan, routes_of(plan), options).simulated


def is_playable(question: Question, scenario: Scenario) -> bool:
    """Returns whether a scenario can be played: a trace has the classes that it has."""
    fixed = _is_by_class(scenario) and isinstance(question.arrivals, Trace)
    return not (scenario.latency_band or fixed)


def _is_by_class(scenario: Scenario) -> bool:
    return np.unique(scenario.class_rate_ratio).size > 1


def _with_class_rates(files: QuestionFiles, scenario: Scenario) -> tuple[QuestionFiles, float]:
    """Returns the question with other rates of its classes, and the factor of all arrivals.

    Where a curve says how many come in all, the classes' rates are only the mix.
    """
    question = files.question
    before = np.array([c.rate_rps for c in question.classes])
    after = before * scenario.class_rate_ratio
    classes = tuple(
        c.model_copy(update={"rate_rps": rate})
        for c, rate in zip(question.classes, after.tolist(), strict=True)
    )
    changed = replace(files, question=question.model_copy(update={"classes": classes}))
    adds_up = isinstance(question.arrivals, Poisson | Bursty)
    return changed, 1.0 if adds_up else float(after.sum() / before.sum())


def _failures(scene: Scene, scenario: Scenario) -> tuple[Failure, ...]:
    names = scene.workload.pool_names
    return tuple(
        Failure(names[p], replica, 0.0)
        for p in np.flatnonzero(scenario.lost).tolist()
        for replica in range(1, int(scenario.lost[p]) + 1)
    )


def _filled(options: Options) -> Options:
    """Returns the options of a run at one rate, counted when the cluster has filled."""
    if options.counted_s is not None or options.duration_s is None:
        return options
    fill_s = min(FILL_S, FILL_RATIO * options.duration_s)
    counted_s = options.start_s + fill_s, options.start_s + options.duration_s
    return replace(options, counted_s=counted_s)


def _with_simulation(said: Survived, scenario: Scenario, simulated: Simulated | None) -> Survived:
    """Returns what the tables say with what the simulation says."""
    if simulated is None:
        return said
    limited = [f for f in simulated.latency if f.at_most_ms is not None]
    verdicts = {_verdict(f, scenario.limits_ratio) for f in limited}
    if simulated.n_failed:
        verdicts.add("missed")
    worst: Verdict = "met"
    if "missed" in verdicts:
        worst = "missed"
    elif "too close to call" in verdicts:
        worst = "too close to call"
    ratio = None
    if simulated.latency_ratio is not None:
        ratio = round(simulated.latency_ratio / scenario.limits_ratio, RATIO_DIGITS)
    lost = (simulated.n_failed + simulated.n_refused) / max(simulated.n_requests, 1)
    return said.model_copy(
        update={
            "simulated_latency_ratio": ratio,
            "simulated_lost_ratio": round(lost, RATIO_DIGITS),
            "verdict": worst,
        }
    )


def _verdict(figure: SimulatedFigure, limits_ratio: float) -> Verdict:
    """Returns where an interval lies against what is allowed while a scenario lasts (§9)."""
    interval = Estimate(figure.ms, figure.low_ms, figure.high_ms)
    return verdict(interval, (figure.at_most_ms or 0.0) * limits_ratio)
