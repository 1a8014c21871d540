"""Small questions with periods, on the repository's own profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from questions import inputs_of, small

from planner.periods.cases import Round, make_round
from planner.spec.inputs import Inputs

SPANS = (
    {"name": "night", "hours": [0, 8], "rate_factor": 0.2},
    {"name": "day", "hours": [8, 20], "rate_factor": 1.0},
    {"name": "evening", "hours": [20, 24], "rate_factor": 0.6},
)


def periods(*factors: float, **changes: Any) -> dict[str, Any]:
    """Returns `periods` of a question: night, day and evening at the given rate factors."""
    spans = [
        {**span, "rate_factor": factor}
        for span, factor in zip(SPANS, factors or (0.2, 1.0, 0.6), strict=True)
    ]
    return {"spans": spans, **changes}


def day_of(folder: Path, *factors: float, change_usd: float = 0.0, **changes: Any) -> Inputs:
    """Returns the inputs of the small question with three periods."""
    asked = periods(*factors, usd_per_replica_change=change_usd)
    return inputs_of(folder, small(periods=asked, **changes))


def round_of(folder: Path, *factors: float, change_usd: float = 0.0, **changes: Any) -> Round:
    """Returns the same, computable."""
    return make_round(day_of(folder, *factors, change_usd=change_usd, **changes))
