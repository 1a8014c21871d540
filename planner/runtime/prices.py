"""The plan's prices of models at work, moved by what requests turn out to be.

Notation
    m      models with a price in the routes, by their names in the scores
    mu_m   price of a replica-second of its pools, in quality; at first the plan's
    b_m    cap: replica-seconds per second that the plan gives it, and this worker has its part of
               sum over its pools of replicas x utilisation x work per second at utilisation 1

A request is charged its predicted work when it is sent, which is corrected when it ends, and mu
moves so that no model gets more than its cap for long (scheduling/feedback.py). With the mix of
requests of the plan, its prices send each model what it planned; when the mix drifts, they move
until the work is that of the plan again, within bounds, so that one odd hour locks no model out. An
average over some windows that stays away from the plan's prices says that a new plan is due.

The window must see some thousands of requests: the work of N requests scatters by a few times
1 / sqrt(N) by itself, and within that no price can or should hold it.

Charges are noted when they are made and taken in with the next answer that begins or ends: a few
requests late, and off the way of those that wait for a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.runtime.setup import Setup
    from planner.spec.sheet import ServingSheet

N_IN_WINDOW = 2000  # requests over which a cap is to be met, at the rate of the plan
_LEAST = 1e-3  # that a plan of no traffic expects: req/s, and replica-seconds per second


class PlanPrices:
    """What a replica-second of each model costs now."""

    def __init__(self, setup: Setup, now_s: float) -> None:
        import numpy as np

        from planner.scheduling.feedback import PriceKeeper

        sheet, n_workers = setup.sheet, setup.options.n_workers
        assert sheet is not None  # setup.py lets no prices in without one
        self._names = tuple(setup.routes.model_prices)
        index = {name: m for m, name in enumerate(self._names)}
        self._model_of = {pool: index.get(each.scored_as) for pool, each in sheet.pools.items()}
        prices = np.array([setup.routes.model_prices[name] for name in self._names])
        caps = np.array([_cap(sheet, name) for name in self._names]) / n_workers
        rate_rps = sum(each.rate_rps for each in sheet.classes.values()) / n_workers
        self._keeper = PriceKeeper(prices, caps, window=N_IN_WINDOW / max(rate_rps, _LEAST))
        self._now = dict(setup.routes.model_prices)
        self._at_s = now_s
        self._charges: list[tuple[int, float, float]] = []  # model, work, time

    def by_model(self) -> Mapping[str, float]:
        """Returns the price of a replica-second of each model, in quality."""
        return self._now

    def sent(self, pool: str, work_s: float, now_s: float) -> None:
        """Charges a request to the model of the pool that it is sent to."""
        m = self._model_of.get(pool)
        if m is not None:
            self._charges.append((m, work_s, now_s))

    def settle(self) -> None:
        """Takes in what was charged: the prices move."""
        if not self._charges:
            return
        for m, work_s, now_s in self._charges:
            self._keeper.routed(m, work_s, max(now_s - self._at_s, 0.0))
            self._at_s = max(now_s, self._at_s)
        self._charges.clear()
        self._now = dict(zip(self._names, self._keeper.price.tolist(), strict=True))

    def ended(self, pool: str, predicted_s: float, realised_s: float) -> None:
        """Corrects the charge of a request that has ended."""
        m = self._model_of.get(pool)
        if m is not None:
            self._keeper.finished(m, predicted_s, realised_s)


def _cap(sheet: ServingSheet, model: str) -> float:
    """Returns b of the notation."""
    given = sum(
        each.n_replicas * each.utilisation_ratio * each.max_load_ratio
        for each in sheet.pools.values()
        if each.scored_as == model and not each.is_hosted
    )
    if any(each.is_hosted for each in sheet.pools.values() if each.scored_as == model):
        return float("inf")  # paid by the request: nothing runs full
    return max(given, _LEAST)
