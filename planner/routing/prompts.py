"""Routing prompt by prompt within given loads: the case without curves and limits of prices.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.routing.policies import prompts_of
from planner.routing.prices import Curves, route_all
from planner.spec.arrays import BoolArray, FloatArray


@dataclass(frozen=True)
class PromptRouting:
    """The best routing of prompts within loads, or the proof that there is none."""

    feasible: bool
    prices: FloatArray  # (M,) quality per unit of work; where infeasible, those of the proof
    shares: FloatArray  # (N, M) rows sum to 1; few of them are not 0 or 1
    quality: float
    bound: float  # no routing within the loads has a higher quality
    n_rounds: int


def route_prompts(
    weight: FloatArray,
    quality: FloatArray,
    work: FloatArray,
    room: FloatArray,
    allowed: BoolArray | None = None,
) -> PromptRouting:
    """Returns the best routing of prompts by what the models are believed to be worth.

    Args:
        weight: of each prompt in the traffic, (N,), positive.
        quality: expected quality of each model on each prompt, (N, M).
        work: that each prompt makes for each model, (N, M), not negative.
        room: work per request that each model may be given, (M,); inf for as much as there is.
        allowed: which models may answer which prompts, (N, M).

    Raises:
        ValueError: shapes differ, there is no prompt, or one that no model may answer.
    """
    if room.shape != quality.shape[1:]:
        raise ValueError(f"shapes differ: {room.shape}, {quality.shape}")
    prompts = prompts_of(weight, quality, work, allowed)
    found = route_all(prompts, Curves.of_rooms(room))
    if not found.feasible:
        nothing = np.zeros_like(quality)
        return PromptRouting(False, found.prices, nothing, 0.0, found.bound, found.n_rounds)
    return PromptRouting(
        True, found.prices, found.shares(), found.value, found.bound, found.n_rounds
    )
