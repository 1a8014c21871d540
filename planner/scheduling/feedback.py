"""Prices kept right by realised work, so that no model gets more than its cap.

A plan's prices balance predicted work. Realised work differs: answers are longer than predicted
just where a router likes to send them, and the mix of requests moves. So every request is charged
to its model, and the model's price moves with how far it is ahead of its cap.

Notation
    m      models                     T      window: requests, or seconds
    b_m    cap: work per request, or per second; inf: none             (M,)
    eps    by how much the work in any window may exceed T b_m
    W_m    work charged: predicted when a request is sent, corrected to realised when it ends
    L_m    eps T b_m / 2, the room
    Z_m    virtual queue: how far W_m is ahead of the cap, from -L_m to 10 L_m
    p_m    slow price, mu_m price: quality per unit of work

Program, for each request
    Z_m  <- max(-L_m, Z_m + W_m - b_m)
    f_m   = sinh(3 min(Z_m / L_m, 1.5)) / (2 L_m)
    p_m  <- p_m + (6 / T) min(f_m, sinh(3) / (2 L_m)), from 0 to sinh(4.5) / (2 L_m)
    mu_m  = max(0, p_m + f_m)

Bound. Credit below -L is lost, so the work in a window of T requests is at most T b_m + Z at its
end - Z at its beginning, whatever was predicted: within eps of the cap while Z stays below L. There
work of L / 5 costs the whole range of quality, at 1.5 L work of L / 22: the model is closed. Only
requests that are themselves a good part of eps T b, or many in flight, can take Z beyond.

Why this form: f is the drift-plus-penalty price of the potential cosh: small steps near balance,
where a price that jumps costs quality, steep ones at the end of the room. Its integral p brings Z
back to 0 at any price, after a change of the mix too: nothing needs to be reset.

Where the demand is above the caps of all models no price can hold them: Z and p are cut, so that
the time after does not pay for it all, and the excess is spread over the models.

Reference: M. J. Neely, Stochastic Network Optimization with Application to Communication and
Queueing Systems, Morgan & Claypool, 2010, chapter 4.
"""

from __future__ import annotations

import numpy as np

from planner.spec.arrays import FloatArray

_ROOM = 0.5  # L, as a share of what a window may exceed
_LEAST, _CLOSED, _MOST = -1.0, 1.5, 10.0  # of the queue, in L
_SLOPE, _STEEPNESS = 0.5, 3.0  # of f
_LEARNING = 6.0  # what of f the slow price takes on in a window


class PriceKeeper:
    """Prices of models with caps, moved by the work that requests turn out to be."""

    def __init__(
        self,
        prices: FloatArray,
        caps: FloatArray,
        *,
        window: float = 2000.0,
        excess_ratio: float = 0.05,
    ) -> None:
        """Starts from a plan's prices, or from zeros.

        Args:
            prices: (M,) quality per unit of work, at least 0; kept as they are without a cap.
            caps: (M,) work per request, or per second; inf: none.
            window: over how many requests, or seconds, a cap is to be met.
            excess_ratio: by how much the work in a window may exceed its cap.

        Raises:
            ValueError: a price is negative or not finite, or a cap is not above 0.
        """
        if not (np.isfinite(prices).all() and (prices >= 0.0).all()):
            raise ValueError(f"prices must be finite and at least 0, got {prices.tolist()}")
        if not (caps > 0.0).all():
            raise ValueError(f"caps must be above 0, got {caps.tolist()}")
        self.price = prices.astype(np.float64)
        """What a unit of each model's work costs now, in quality, (M,); not to be written to."""
        self._slow = self.price.copy()
        capped = np.isfinite(caps)
        room = np.where(capped, _ROOM * excess_ratio * window * caps, np.inf)
        self._per_room = 1.0 / room  # 0 without a cap: such a queue never moves
        self._drain = np.where(capped, 1.0 / (_ROOM * excess_ratio * window), 0.0)
        self._queue = np.zeros(caps.shape)  # in rooms
        self._learning = _LEARNING / window
        # How far a model is beyond its room says nothing of its right price: learning is bounded.
        self._most_learned = _push(np.ones(caps.shape)) * self._per_room
        self._most_slow = np.maximum(_push(self._queue + _CLOSED) * self._per_room, self.price)

    def routed(self, model: int, work: float, elapsed: float = 1.0) -> None:
        """Charges a request to the model that it is sent to.

        Args:
            model: its index.
            work: what it is predicted to be.
            elapsed: requests, this one included, or seconds since the last call.
        """
        self._queue -= elapsed * self._drain
        self._charge(model, work)
        push = _push(self._queue) * self._per_room
        self._slow += self._learning * elapsed * np.minimum(push, self._most_learned)
        np.clip(self._slow, 0.0, self._most_slow, out=self._slow)
        np.maximum(self._slow + push, 0.0, out=self.price)

    def finished(self, model: int, predicted: float, realised: float) -> None:
        """Corrects the charge of a request that has ended; prices follow with the next one."""
        self._charge(model, realised - predicted)

    def _charge(self, model: int, work: float) -> None:
        self._queue[model] += work * self._per_room[model]
        np.clip(self._queue, _LEAST, _MOST, out=self._queue)


def _push(queue: FloatArray) -> FloatArray:
    """Returns f of queues in rooms, times the room: quality, (M,)."""
    pushed: FloatArray = _SLOPE * np.sinh(_STEEPNESS * np.minimum(queue, _CLOSED))
    return pushed
