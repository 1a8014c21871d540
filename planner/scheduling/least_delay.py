"""Which replica of a pool takes a request: where it costs least time, its own and the others'.

Notation
    g       replica
    T_g     predicted time of the request there                     ms
    X_g     time that it costs the others there and to come         ms, delay.py

    choice = argmin_g T_g + X_g over those that are up

In a tie the search starts behind the replica chosen last, as in balance.py: an idle pool is one
long tie. This is the choice of fused.py where all offers are of one pool and money does not differ,
without prices. It needs to know how fast the pool is, so `balance.POLICIES`, which knows numbers of
requests only, does not have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from planner.scheduling.balance import POLICIES
from planner.scheduling.delay import Delay, Load, StepCurve, predict_delay

NAME = "least_delay"
NAMES = (NAME, *POLICIES)
"""All policies between the replicas of one pool."""


def cost_ms(delay: Delay) -> float:
    """Returns what is to be least: T + X, ms."""
    return delay.e2e_ms + delay.others_ms


class LeastDelay:
    """The policy; it remembers only where it searches first."""

    def __init__(self, curve: StepCurve) -> None:
        self.curve = curve
        self._start = 0

    def pick(
        self,
        fresh_tokens: Sequence[float],
        input_tokens: float,
        output_tokens: float,
        loads: Sequence[Load],
        is_up: Sequence[bool],
    ) -> int:
        """Returns the replica that takes a request.

        Args:
            fresh_tokens: its prompt tokens that are not in the prefix cache of each, (G,).
            input_tokens: all its prompt tokens.
            output_tokens: expected length of its answer.
            loads: what each has to do, (G,); of one that is not up it is not looked at.
            is_up: which may take requests, (G,).

        Raises:
            ValueError: no replica is up.
        """
        curve = self.curve
        delays = [
            predict_delay(curve, loads[g], fresh_tokens[g], input_tokens, output_tokens)
            if is_up[g]
            else None
            for g in range(len(loads))
        ]
        return self.best(delays, is_up)

    def best(self, delays: Sequence[Delay | None], is_up: Sequence[bool]) -> int:
        """Returns the replica that takes a request of which the delay on each is predicted.

        Args:
            delays: on each, (G,); of one that is not up it is not looked at.
            is_up: which may take requests, (G,).

        Raises:
            ValueError: no replica is up.
        """
        costs_ms = [
            cost_ms(delay) if up and delay is not None else inf
            for delay, up in zip(delays, is_up, strict=True)
        ]
        return self.least(costs_ms)

    def least(self, costs_ms: Sequence[float]) -> int:
        """Returns the replica that takes a request, given what it costs on each.

        Args:
            costs_ms: `cost_ms` of its delay there, (G,); inf where it may not go.

        Raises:
            ValueError: it may go nowhere.
        """
        least_ms = min(costs_ms, default=inf)
        if least_ms == inf:
            raise ValueError("no replica is up")
        first = self._start if least_ms in costs_ms[self._start :] else 0
        best = costs_ms.index(least_ms, first)
        self._start = (best + 1) % len(costs_ms)
        return best
