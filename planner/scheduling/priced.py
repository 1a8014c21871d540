"""Which model takes a request, prompt by prompt, by the plan's prices and what has become of them.

Notation
    m     model                                                                          (M,)
    q     predicted quality of each on the prompt, less what its time is worth           (M,)
    w     predicted work of the request on each, in the plan's unit of load              (M,)
    mu    price of a unit of it, in quality: the plan's at first                         (M,)
    b     work per second that the plan allows each; inf: no price holds it              (M,)

Program, for each request
    m    = argmax q - mu w over the models it may go to          choice.py
    mu   moves with how far each model's work is ahead of b      feedback.py
    when the request has ended, its real work takes the place of the predicted one

With the mix of requests of the plan, its prices send each model what it planned. When the mix
drifts, the same prices would send too much to one and too little to another: then they move until
the work is that of the plan again, between 0 and the bound that feedback.py states, so one odd hour
cannot lock a model out. `moved` says by how much. It scatters about 0 as long as the plan fits; an
average over some windows that stays away from 0 says that a new plan is due.

The window must see some thousands of requests: the work of N requests scatters by a few times
1 / sqrt(N) by itself, and within that no price can or should hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.scheduling.choice import best_model
from planner.scheduling.feedback import PriceKeeper
from planner.spec.arrays import FloatArray

N_IN_WINDOW = 2000


class PricedModels:
    """Per-prompt routing: the plan's prices, kept right by realised work."""

    def __init__(
        self,
        prices: FloatArray,
        caps_per_s: FloatArray,
        *,
        rate_rps: float,
        excess_ratio: float = 0.05,
    ) -> None:
        """Starts from the plan.

        Args:
            prices: quality per unit of work, (M,).
            caps_per_s: the work per second that each may get, (M,); inf: as much as comes.
            rate_rps: how many requests the plan expects, which says how long a window is.
            excess_ratio: by how much the work in a window may be above its cap.

        Raises:
            ValueError: a price is negative or not finite, or a cap or the rate is not above 0.
        """
        if not rate_rps > 0.0:
            raise ValueError(f"rate_rps must be above 0, got {rate_rps}")
        self._keeper = PriceKeeper(
            prices, caps_per_s, window=N_IN_WINDOW / rate_rps, excess_ratio=excess_ratio
        )
        self._planned = prices.astype(np.float64)

    @property
    def price(self) -> FloatArray:
        """Returns what a unit of each model's work costs now, in quality, (M,); not to be changed.

        Models without a cap keep the price of the plan.
        """
        return self._keeper.price

    def moved(self) -> FloatArray:
        """Returns how far the price of each model is above the plan's, (M,)."""
        return self._keeper.price - self._planned

    def pick(
        self,
        quality: FloatArray,
        work: FloatArray,
        elapsed_s: float,
        allowed: Sequence[bool] | None = None,
    ) -> int:
        """Returns the model of a request, and charges it with the work.

        Args:
            quality: what each model is worth to it, (M,).
            work: predicted, (M,).
            elapsed_s: since the request before.
            allowed: which models it may go to, (M,); None: all.

        Raises:
            ValueError: it may go to none.
        """
        if allowed is not None:
            if not any(allowed):
                raise ValueError("the request may go to no model")
            quality = np.where(allowed, quality, -np.inf)
        model = int(best_model(quality[None, :], work[None, :], self._keeper.price)[0])
        self.routed(model, float(work[model]), elapsed_s)
        return model

    def routed(self, model: int, work: float, elapsed_s: float) -> None:
        """Charges a request that somebody else has picked a model for, by these prices."""
        self._keeper.routed(model, work, elapsed_s)

    def finished(self, model: int, predicted: float, realised: float) -> None:
        """Puts the real work of a request that has ended in place of the predicted one."""
        self._keeper.finished(model, predicted, realised)
