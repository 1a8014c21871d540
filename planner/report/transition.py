"""The way from one plan to another as a person reads it: steps, what they take, what holds."""

from __future__ import annotations

from collections.abc import Iterator

from planner.gate.way.steps import PeakGpus, PoolStep, Rent, Step, Transition
from planner.report.changed import A_CENT
from planner.report.console import RenderableType, bullet, heading, table
from planner.report.figures import count, number, percent, usd

JUDGED = {
    "tables": "judged by the fitted tables of every pool",
    "figures": "judged by the figures of both plans",
    "nothing": "not judged",
}
HOLDS = {True: "holds", False: "DOES NOT HOLD", None: "not judged"}
MOST_STEPS = 30
"""A fleet that moves by one GPU has hundreds."""
MOST_USED = 10.0
"""Of a limit or a capacity: beyond, nobody is helped by how much."""


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
    if way.rent is not None:
        yield bullet(f"rent of GPUs: {rent_words(way.rent)}")
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
            return "NOT SAFE: it takes what is not there"
        return f"NOT SAFE: after {n} of {len(way.steps)} steps something does not hold"
    if way.begins_broken:
        return "safe: the old plan does not hold as it is; what it shifts to does, step by step"
    if way.judged_by == "figures":
        return (
            "no pool is beyond its capacity on the way; whether limits and floors hold, and "
            "whether there are so many GPUs, takes the questions beside the plans"
        )
    if way.is_safe is None:
        return "nobody can say whether capacity lasts on the way: some pool has no figures"
    return "safe: capacity, headroom, limits and floors hold after every step"


def peak_words(peak: PeakGpus) -> str:
    """Returns how many GPUs of a kind there are before, after, and at most meanwhile."""
    words = f"{number(peak.old)} -> {number(peak.new)} GPUs"
    if peak.extra > 0:
        words += f", {number(peak.peak)} meanwhile"
    return words if peak.stock is None else f"{words}, {number(peak.stock)} in stock"


def rent_words(rent: Rent) -> str:
    """Returns what the GPUs cost before, after, and at most meanwhile, in $/h."""
    words = f"{usd(rent.old_usd_per_h)} -> {usd(rent.new_usd_per_h)} per hour"
    extra = rent.extra_usd_per_h >= A_CENT / 2
    return f"{words}, up to {usd(rent.peak_usd_per_h)} meanwhile" if extra else words


def _steps(way: Transition) -> RenderableType:
    made = table(["step"], ["GPUs", "load", "limits"], [""])
    for k, step in enumerate(way.steps[:MOST_STEPS], 1):
        late = step.holds is False and way.begins_broken
        made.add_row(
            "",
            f"{k}. {step_words(step)}",
            number(sum(step.gpus.values())),
            used_words(step.utilisation_ratio),
            used_words(step.latency_ratio),
            "not yet" if late else HOLDS[step.holds],
            style="red" if step.holds is False and not late else "",
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
    where = "" if change.gpu else "hosted, "
    return f"{n} {change.pool} ({where}{change.n_before} -> {change.n_after})"


def used_words(ratio: float | None, decimals: int = 0) -> str:
    """Returns how much of a capacity or a limit is used; figures without sense are not shown."""
    if ratio is not None and ratio > MOST_USED:
        return f"over {percent(MOST_USED, 0)}"
    return percent(ratio, decimals)


def _problems(way: Transition) -> Iterator[str]:
    """Yields what does not hold, each with the step after which it first does not."""
    told: set[str] = set()
    for k, step in enumerate(way.steps, 1):
        for text in step.problems:
            if text not in told:
                told.add(text)
                yield f"after step {k}: {text}"
