"""What was sent to which instance and has not come back: tickets, each ended exactly once.

An account per instance (account.py) says what it has to do. A ticket belongs to an account, not to
an index: when instances are renewed, those that are kept take their accounts along, and tickets of
the others still end, which then changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.scheduling.account import Account, Seen
from planner.scheduling.delay import Delay, Load, StepCurve, predict_delay
from planner.scheduling.habits import Pace
from planner.scheduling.tally import Sent

__all__ = ["LENGTH_CV", "Ledger", "Seen"]

LENGTH_CV = 0.75
"""How uncertain the length of an answer is, standard deviation over mean: between 1, where only the
mean of its class is known, and the 0.5 of a router that has read the prompt."""


class Ledger:
    """The accounts of all instances.

    Moments are in seconds of any clock; one before the last of an instance is taken to be that.
    """

    def __init__(self, curves: Sequence[StepCurve | None], *, length_cv: float = LENGTH_CV) -> None:
        """Starts with nothing sent.

        Args:
            curves: how fast each instance is; None: unknown, nothing is reckoned between events.
                Instances of one pool have the same object: they learn together how wrong it is.
            length_cv: of the answers, given what is predicted of them; 0: they are known, 1 and
                more: their age tells nothing of what is left.
        """
        self._length_cv = length_cv
        paces = _paces(curves)
        self._accounts = [Account(curve, paces[id(curve)], length_cv) for curve in curves]
        self._sent: dict[int, tuple[Account, Sent]] = {}
        self._n_tickets = 0

    def sent(
        self,
        instance: int,
        input_tokens: float,
        output_tokens: float,
        now_s: float,
        fresh_tokens: float | None = None,
    ) -> int:
        """Returns the ticket of a request that is sent to an instance now.

        Args:
            instance: its index.
            input_tokens: prompt tokens.
            output_tokens: expected length of the answer.
            now_s: the moment.
            fresh_tokens: prompt tokens that are not in a prefix cache there; None: all.
        """
        fresh = input_tokens if fresh_tokens is None else fresh_tokens
        ticket = self._n_tickets
        self._n_tickets += 1
        account = self._accounts[instance]
        self._sent[ticket] = account, account.sent(input_tokens, fresh, output_tokens, now_s)
        return ticket

    def first_token(self, ticket: int, now_s: float) -> None:
        """Notes that an answer has begun; where that is not seen, it is reckoned.

        Raises:
            KeyError: the ticket is unknown or has ended.
        """
        account, one = self._sent[ticket]
        account.first_token(one, now_s)

    def ended(self, ticket: int, now_s: float, output_tokens: float | None = None) -> None:
        """Notes that a request is over: answered, cancelled or failed.

        Args:
            ticket: of the request.
            now_s: the moment.
            output_tokens: how long an answer was that came in full; None: it did not.

        Raises:
            KeyError: the ticket is unknown or has ended before.
        """
        account, one = self._sent.pop(ticket)
        account.ended(one, now_s, output_tokens)

    def reconcile(self, instance: int, seen: Seen, now_s: float) -> None:
        """Takes what an instance says of itself: as much as its age allows.

        What was sent or ended after the moment of its telling is known here and counts on top.
        """
        self._accounts[instance].reconcile(seen, now_s)

    def load(self, instance: int, now_s: float) -> Load:
        """Returns what an instance has to do now, as far as is known."""
        return self._accounts[instance].load(now_s)

    def delay(
        self,
        instance: int,
        fresh_tokens: float,
        input_tokens: float,
        output_tokens: float,
        now_s: float,
    ) -> Delay:
        """Returns what is predicted of a request that would be sent to an instance now.

        Raises:
            ValueError: nothing is known of how fast it is.
        """
        account = self._accounts[instance]
        curve = account.known_curve()
        return predict_delay(curve, account.load(now_s), fresh_tokens, input_tokens, output_tokens)

    def n_in_flight(self, instance: int) -> int:
        """Returns how many requests sent from here have not ended."""
        return self._accounts[instance].n_in_flight

    def renewed(self, kept: Mapping[int, int], curves: Sequence[StepCurve | None]) -> None:
        """Takes other instances in place of these.

        Args:
            kept: new index of each old one that stays.
            curves: of the new ones.

        Raises:
            ValueError: two old instances would become one.
        """
        if len(set(kept.values())) < len(kept):
            raise ValueError(f"two instances cannot become one, got {dict(kept)}")
        paces = _paces(curves)
        for old, new in kept.items():
            account = self._accounts[old]
            if account.curve == curves[new]:  # the same pool, read again
                paces[id(curves[new])] = account.pace
        accounts = [Account(curve, paces[id(curve)], self._length_cv) for curve in curves]
        for old, new in kept.items():
            accounts[new] = self._accounts[old]
            accounts[new].renew(curves[new], paces[id(curves[new])])
        self._accounts = accounts


def _paces(curves: Sequence[StepCurve | None]) -> dict[int, Pace]:
    """Returns a pace for each curve, by the identity of the object: that is how pools differ."""
    return {id(curve): Pace() for curve in curves}
