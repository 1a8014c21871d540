"""What the fields of the planning files mean, in one sentence each: the manual and the schemas.

    shared.py   names that mean the same in every file, e.g. `pool`
    asked.py    fields of what people write and measure, e.g. `Question.keep`
    answered.py fields of what rb writes, e.g. `Plan.bound`

A field may say it where it stands, in a docstring or a comment behind it; a comment speaks to who
reads the code beside it, so an entry of the field's own wins here. A test keeps the tables whole:
every public field has a meaning, and no entry is unused.
"""

from __future__ import annotations

import re

from planner.spec.glossary.answered import ANSWERED
from planner.spec.glossary.asked import ASKED
from planner.spec.glossary.shared import SHARED

__all__ = ["OWN", "SHARED", "meaning_of_name"]

OWN: dict[str, str] = ASKED | ANSWERED

_LATENCY = re.compile(r"(ttft|tpot|itl|e2e)_(mean|p50|p90|p95|p99)_ms")
_LENGTHS = re.compile(r"(input|output)_tokens_(mean|cv|p\d\d|max)")
_METRICS = {
    "ttft": "time to the first token",
    "tpot": "time per further token, by request",
    "itl": "gap between single tokens",
    "e2e": "time to the whole answer",
}
_STATISTICS = {"mean": "Mean", "max": "Largest"}


def meaning_of_name(field: str) -> str | None:
    """Returns what a field of this name means in every file; None where that depends."""
    if field in SHARED:
        return SHARED[field]
    if found := _LATENCY.fullmatch(field):
        metric, statistic = found.groups()
        return f"{_figure(statistic)} {_METRICS[metric]}, in ms; blank: not measured."
    if found := _LENGTHS.fullmatch(field):
        what, statistic = found.groups()
        of = "prompts" if what == "input" else "answers"
        if statistic == "cv":
            return f"Standard deviation over mean of the lengths of the {of}."
        return f"{_figure(statistic)} length of the {of}, in tokens."
    return None


def _figure(statistic: str) -> str:
    return _STATISTICS.get(statistic, f"{statistic} of the")
