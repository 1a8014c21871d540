"""The way from one plan to another as a person reads it: steps, what they take, what holds."""

from __future__ import annotations

from collections.abc import Iterator

from planner.gate.way.steps import PeakGpus, PoolStep, Step, Transition
from planner.report.console import RenderableType, bullet, heading, table
from planner.report.figures import NONE, count, number, percent

JUDGED = {
    "tables": "judged by the fitted tables of every pool",
    "figures": "judged by the figures of both plans",
    "nothing": "not judged",
}
HOLDS = {True: "holds", False: "DOES NOT HOLD", None: "not judged"}
MOST_STEPS = 30
"""A fleet that moves by one GPU has hundreds."""


def transition_sections(way: Transition) -> Iterator[RenderableType]:
    """Yields the steps, the GPUs that they take at most, and what the judgement rests on."""
    if not way.steps:
        if way.is_safe is False:
            yield heading("The way there")
            yield bullet(safety_words(way))
            yield from (bullet(f"a safe way takes {text}") for text in way.needs)
        return
    yield heading(f"The way there ({JUDGED[way.judged_by]})")
    yield _steps(way)
    if len(way.steps) > MOST_STEPS:
        yield bullet(f"{len(way.steps) - MOST_STEPS} more steps of the same kind: --format json")
    yield from (bullet(f"{peak.gpu}: {peak_words(peak)}") for peak in way.peak_gpus)
    yield bullet(safety_words(way))
    yield from (bullet(f"a safe way takes {text}") for text in way.needs)
    yield from (bullet(text) for text in dict.fromkeys(_problems(way)))
    yield bullet("the next step begins when what started answers, and what stops has drained")
    yield from (bullet(text) for text in way.notes)


def safety_words(way: Transition) -> str:
    """Returns in one sentence whether what was promised holds on the way."""
    if way.is_safe is False:
        n = sum(step.holds is False for step in way.steps)
        if not n:
            return "NOT SAFE: the new plan itself does not hold"
        return f"NOT SAFE: after {n} of {len(way.steps)} steps something does not hold"
    if way.judged_by == "figures":
        return (
            "no pool is beyond its capacity on the way; whether limits and floors hold, and "
            "whether there are so many GPUs, takes the questions beside the plans"
        )
    if way.is_safe is None:
        return "nobody can say whether capacity lasts on the way: no figures of every pool"
    return "safe: capacity, headroom, limits and floors hold after every step"


def peak_words(peak: PeakGpus) -> str:
    """Returns how many GPUs of a kind there are before, after, and at most meanwhile."""
    words = f"{number(peak.old)} -> {number(peak.new)} GPUs"
    if peak.extra > 0:
        words += f", {number(peak.peak)} meanwhile"
    return words if peak.stock is None else f"{words}, {number(peak.stock)} in stock"


def _steps(way: Transition) -> RenderableType:
    made = table(["step"], ["GPUs", "load", "limits"], [""])
    for k, step in enumerate(way.steps[:MOST_STEPS], 1):
        made.add_row(
            "",
            f"{k}. {step_words(step)}",
            number(sum(step.gpus.values())),
            _used(step.utilisation_ratio),
            _used(step.latency_ratio),
            HOLDS[step.holds],
            style={True: "", False: "red", None: ""}[step.holds],
        )
    return made


def step_words(step: Step) -> str:
    """Returns what is done in a step."""
    if step.kind == "shift":
        if step.shifted_ratio >= 1.0:
            return "shift the traffic to the new routes"
        return f"shift {percent(step.shifted_ratio, 0)} of the way to the new routes"
    done = "start" if step.kind == "start" else "drain, then stop"
    return f"{done} {', '.join(map(_pool_words, step.pools))}"


def brief_words(step: Step) -> str:
    """Returns what is done in a step, without the names of its pools."""
    if step.kind == "shift":
        return f"shift to {percent(step.shifted_ratio, 0)}"
    n = sum(abs(row.n_after - row.n_before) for row in step.pools)
    return f"{'start' if step.kind == 'start' else 'drain, stop'} {count(n, 'replica')}"


def _pool_words(change: PoolStep) -> str:
    n = abs(change.n_after - change.n_before)
    return f"{n} {change.pool} ({change.n_before} -> {change.n_after})"


def _used(ratio: float | None) -> str:
    return NONE if ratio is None else percent(ratio, 0)


def _problems(way: Transition) -> Iterator[str]:
    """Yields what does not hold, each with the step after which it first does not."""
    told: set[str] = set()
    for k, step in enumerate(way.steps, 1):
        for text in step.problems:
            if text not in told:
                told.add(text)
                yield f"after step {k}: {text}"
