"""What serving.json says, held against the plan and against what today's inputs give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from planner.files.plans import plan_hash
from planner.gate.finding import Finding, error
from planner.spec.plan import Plan
from planner.spec.sheet import ServingSheet

NEAR_RATIO = 1e-3
"""What the arithmetic of another machine may make of a figure."""

NEAR = 1e-6
MOST_DIFFERENCES = 3  # a sheet of other inputs differs everywhere: a few places say enough
FIX = "rb plan DIR writes it with the plan; do not edit serving.json"


def sheet_findings(
    plan: Plan, sheet: ServingSheet, again: Callable[[], ServingSheet] | None
) -> list[Finding]:
    """Returns whether serving.json is of this plan and says what its inputs give.

    Args:
        plan: what was planned.
        sheet: what the runtime is told of it.
        again: makes what today's inputs give; None where something else is wrong: a plan that must
            be made anew has its sheet made anew.
    """
    if sheet.plan_hash != plan_hash(plan):
        what = "belongs to another plan: its plan_hash is not that of plan.json"
        return [error("sheet-differs", "serving.json:plan_hash", what, FIX)]
    if again is None:
        return []
    wanted = again().model_dump()
    found = [
        error("sheet-differs", f"serving.json:{place}", f"says {said}, the plan gives {now}", FIX)
        for place, said, now in _differences(sheet.model_dump(), wanted)
    ]
    if len(found) > MOST_DIFFERENCES:
        what = f"{len(found) - MOST_DIFFERENCES} more figures differ"
        found[MOST_DIFFERENCES:] = [error("sheet-differs", "serving.json", what, FIX)]
    return found


def _differences(said: object, now: object, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Yields (place, said, now) of everything that two nested values do not have alike."""
    if isinstance(said, dict) and isinstance(now, dict) and said.keys() == now.keys():
        for key in now:
            yield from _differences(said[key], now[key], f"{place}.{key}" if place else key)
    elif isinstance(said, list | tuple) and isinstance(now, list | tuple) and len(said) == len(now):
        for k, (old, new) in enumerate(zip(said, now, strict=True)):
            yield from _differences(old, new, f"{place}[{k}]")
    elif not _alike(said, now):
        yield place, _shown(said), _shown(now)


def _alike(said: object, now: object) -> bool:
    if isinstance(said, float) and isinstance(now, float):
        return abs(said - now) <= NEAR_RATIO * abs(now) + NEAR
    return said == now


def _shown(value: object) -> str:
    """Returns a value for a message; of what holds others, what it holds."""
    if isinstance(value, dict):
        return f"[{', '.join(value)}]"
    return f"{len(value)} entries" if isinstance(value, list | tuple) else f"{value}"
