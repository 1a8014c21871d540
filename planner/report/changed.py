"""How figures and fronts change, as text: what rounds to nothing is 'same', not +0.00 or -0.0%."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from planner.gate.diff import Change, FrontChange, PlanDiff
from planner.report.figures import NONE, listed, number, quality, signed_usd, usd

SAME = "same"
A_CENT, A_POINT, A_PERMILLE = 0.01, 0.0001, 0.001  # money in $, scores, ratios, as they are shown


def moves(change: Change, least: float) -> bool:
    """Returns whether a figure is there on both sides and differs by what would be shown."""
    return change.difference is not None and abs(change.difference) >= least / 2


def relative(change: Change) -> str:
    """Returns by how many per cent a figure changes; '-' where there is nothing to compare with."""
    if not change.old or change.new is None:
        return NONE
    ratio = change.new / change.old - 1.0
    return SAME if abs(ratio) < A_PERMILLE / 2 else f"{100.0 * ratio:+,.1f}%"


def usd_step(change: Change) -> str:
    """Returns a difference in $ with its sign."""
    if change.difference is None:
        return NONE
    return signed_usd(change.difference) if moves(change, A_CENT) else SAME


def quality_step(change: Change) -> str:
    """Returns a difference of mean scores with its sign."""
    if change.difference is None:
        return NONE
    return f"{change.difference:+.4f}" if moves(change, A_POINT) else SAME


def in_percent(step: str, change: Change) -> str:
    """Returns a difference with what it is in per cent, where it is one that can be told so."""
    ratio = relative(change)
    return step if step in (SAME, NONE) or ratio in (SAME, NONE) else f"{step} ({ratio})"


def classes_words(diff: PlanDiff, told: Callable[[str], str] = str) -> str:
    """Returns which classes only one of two plans has, '' for none, each name as it is told."""
    gone = [told(c.name) for c in diff.class_quality if c.new is None]
    new = [told(c.name) for c in diff.class_quality if c.old is None]
    words = [f"no longer there: {listed(gone)}"] if gone else []
    return "; ".join([*words, *([f"new: {listed(new)}"] if new else [])])


def front_words(change: FrontChange) -> Iterator[str]:
    """Yields how the best plans that were found have moved, seen from where the old plan stands."""
    told = []
    cost, best, traffic = change.cost_usd_per_h, change.quality, change.rate_factor
    good, money = quality(change.at_quality), usd(change.within_usd_per_h)
    if cost.new is None:
        told.append(f"no plan with a quality of {good} or better was found")
    elif cost.old is None or moves(cost, A_CENT):
        was = "" if cost.old is None else f", where {usd(cost.old)} was enough"
        told.append(f"a quality of {good} or better costs {usd(cost.new)} per hour{was}")
    if change.within_usd_per_h < A_CENT:
        pass  # nothing is to be had for nothing
    elif best.new is None:
        least = usd(change.least_usd_per_h.new)
        told.append(f"no plan for {money} per hour or less was found: the cheapest is {least}")
    elif best.old is None or moves(best, A_POINT):
        was = "" if best.old is None else f", where it bought {quality(best.old)}"
        told.append(f"{money} per hour buys a quality of {quality(best.new)}{was}")
    if traffic is not None and traffic.new is not None and traffic.difference != 0.0:
        was = "" if traffic.old is None else f", where it carried {number(traffic.old)} times"
        told.append(f"{money} per hour carries {number(traffic.new)} times the traffic{was}")
    if told and not change.same_question:
        told[-1] += " (each within what its own question allows: the questions differ)"
    yield from told
