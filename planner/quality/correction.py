"""Realised over predicted tokens per model, kept up to date request by request.

The prompts that a router sends to a model are not average ones, and models change: totals that were
right on the test set are 20 to 30 % off where they are used. What is realised tells.
"""

from __future__ import annotations

import numpy as np

from planner.spec.arrays import FloatArray

_LARGEST = 4.0  # beyond a factor of 4 either way something else is wrong than the lengths


class RealisedRatio:
    """Realised / predicted tokens per model, older requests weighing exponentially less."""

    def __init__(self, n_models: int, memory: float = 500.0, prior: float = 20.0) -> None:
        """Starts at a ratio of 1.

        Args:
            n_models: M.
            memory: requests of a model after which one weighs 1/e.
            prior: how many requests of average length the start counts for.
        """
        self._keep = float(np.exp(-1.0 / memory))
        self._prior = prior
        self._weight = np.zeros(n_models)
        self._predicted = np.zeros(n_models)
        self._realised = np.zeros(n_models)

    def observe(self, model: int, predicted: float, realised: float) -> None:
        """Takes in a finished request: tokens that were predicted and that came."""
        for total, value in (
            (self._weight, 1.0),
            (self._predicted, predicted),
            (self._realised, realised),
        ):
            total[model] = self._keep * total[model] + value

    def ratio(self) -> FloatArray:
        """Returns the factor by which predictions of each model are to be multiplied, (M,)."""
        typical = self._predicted / np.maximum(self._weight, 1.0)
        prior = np.where(self._weight > 0.0, self._prior * typical, 1.0)
        ratio = (self._realised + prior) / (self._predicted + prior)
        return np.clip(ratio, 1.0 / _LARGEST, _LARGEST)
