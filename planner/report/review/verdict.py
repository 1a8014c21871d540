"""The first line of a review: is the plan safe, is the way to it, and if that is unknown, why."""

from __future__ import annotations

from planner.gate.diff import PlanDiff
from planner.gate.judgement import Judgement
from planner.gate.way.steps import Transition
from planner.report.figures import count
from planner.report.review.escape import in_markdown

GOOD, UNSURE, BAD = "✅", "⚠️", "❌"  # beside words that say the same
_VERDICTS = {True: (GOOD, "Safe"), None: (UNSURE, "Partly judged"), False: (BAD, "Not safe")}


def headline(judgement: Judgement | None, diff: PlanDiff | None) -> str:
    """Returns the verdict in one line, with a mark that is seen at a glance.

    Safe is a plan without errors, and a change of which every step holds what it has to hold.
    """
    way, told = _way(diff)
    if judgement is None and diff is not None and diff.empty and not diff.restarts:
        return "Both plans order the same replicas and routes"
    if judgement is None and way is False:
        return f"{BAD} Not safe: {told[2:]}; the plan itself was not checked (`rb check`)"
    if judgement is None:
        so_far = told[2].upper() + told[3:] + "; the plan itself was" if told else "The plan was"
        return f"{UNSURE} {so_far} not checked (`rb check`)"
    n_errors = sum(f.severity == "error" for f in judgement.findings)
    if n_errors:
        return f"{BAD} Not safe: {count(n_errors, 'error')}{_aside(judgement)}{told}"
    mark, word = _VERDICTS[way]
    return f"{mark} {word}: the plan keeps every rule{_aside(judgement)}{told}"


def _way(diff: PlanDiff | None) -> tuple[bool | None, str]:
    """Returns whether each step of the change holds, None where that is not known; and in words."""
    if diff is None or (diff.empty and not diff.restarts):
        return True, ""
    way = diff.transition
    if way is None or way.judged_by == "nothing":
        return None, "; the steps of the change were not judged"
    if not way.steps and way.is_safe and diff.periods:
        return True, "; nothing to start, shift or stop in the busiest period"
    return way.is_safe, f"; {_of_way(way)}"


def _of_way(way: Transition) -> str:
    """Returns how the steps of a change do."""
    if way.is_safe is None:
        return "every step of the change has the capacity, its limits were not judged"
    if way.is_safe is False and not any(step.holds is False for step in way.steps):
        return f"the change takes {in_markdown(way.needs[0])}"
    if way.is_safe is False:
        return "not every step of the change holds what it has to"
    if way.begins_broken:
        return "the plan before does not hold its limits, the change leads out of that"
    if not way.steps:
        return "nothing to start, shift or stop"
    return "every step of the change holds its limits"


def _aside(judgement: Judgement) -> str:
    n_warnings = sum(f.severity != "error" for f in judgement.findings)
    n_off = judgement.n_kept_back
    parts = [count(n_warnings, "warning")] if n_warnings else []
    parts += [f"{count(n_off, 'finding')} switched off"] if n_off else []
    return f" ({', '.join(parts)})" if parts else ""
