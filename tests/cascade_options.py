"""Cascades made by hand: as options of a small question, and as rows of a made workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from planner.quality.cascade import CascadeOption
from planner.spec.workload import Cascade, Workload

SMALL_MODEL, LARGE_MODEL = "llama-3.1-8b", "llama-3.1-70b"
SPLIT = 0.3


def option(class_name: str = "hard", **changes: Any) -> CascadeOption:
    """A cascade of the 8b and the 70b: better than either on average, by a signal of its own."""
    random = np.random.default_rng(7)
    answers = random.lognormal(6.0, 0.6, 200)
    made: dict[str, Any] = {
        "class_name": class_name,
        "first": SMALL_MODEL,
        "second": LARGE_MODEL,
        "signal": "agreement",
        "below": 0.6,
        "escalated_ratio": 0.4,
        "quality": 0.62,
        "quality_low": 0.58,
        "quality_high": 0.66,
        "gain": 5.0,
        "gain_low": 1.0,
        "gain_high": 9.0,
        "first_input_tokens": random.lognormal(5.0, 0.5, 200),
        "first_output_tokens": answers,
        "second_input_tokens": random.lognormal(5.1, 0.5, 80),
        "second_output_tokens": random.lognormal(6.1, 0.6, 80),
    }
    return CascadeOption(**(made | changes))


def with_cascade(
    w: Workload,
    c: int,
    first: Sequence[int],
    second: Sequence[int],
    escalated_ratio: float,
    quality: float,
    signal: str = "grade",
) -> Workload:
    """Returns a workload with a cascade of class c from some pools to others."""
    allowed = np.zeros((2, w.n_pools), dtype=bool)
    allowed[0, list(first)], allowed[1, list(second)] = True, True
    name, part = w.class_names[c], np.array([1.0, escalated_ratio])
    cascade = Cascade(
        class_name=name,
        class_index=c,
        first_row=w.n_rows,
        second_row=w.n_rows + 1,
        first_model=f"m{first[0]}",
        second_model=f"m{second[0]}",
        signal=signal,
        below=0.5,
        escalated_ratio=escalated_ratio,
        quality=quality,
        first_time_ratio={"e2e": SPLIT, "ttft": SPLIT},
    )
    shape = next(shape for shape in w.shapes[c] if shape is not None)
    worth = np.where(allowed, [[quality], [0.0]], np.nan)
    return replace(
        w,
        rate_rps=np.append(w.rate_rps, part * w.rate_rps[c]),
        mean_rate_rps=np.append(w.mean_rate_rps, part * w.mean_rate_rps[c]),
        quality=np.vstack([w.quality, worth]),
        allowed=np.vstack([w.allowed, allowed]),
        shapes=(*w.shapes, *(tuple(shape if a else None for a in row) for row in allowed)),
        request_usd=np.vstack([w.request_usd, np.where(allowed, w.request_usd[c], 0.0)]),
        cascades=(*w.cascades, cascade),
    )
