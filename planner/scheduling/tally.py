"""The answers that an instance is decoding: how much is still to come and what they hold, in O(1).

Notation
    J         clock: decode steps since nobody decoded last                     1
    i         an answer; o_i its expected length; p_i its prompt                tokens
    J_i       the clock when it began                                           1
    v         how uncertain its length is, var/mean^2, at most 1                1

Program
    yet to decode     sum of max(o_i - (J - J_i), v o_i)
    in the cache      sum of p_i + (J - J_i)

What is left of an answer. A length with mean o and gamma law has o left at first, and v o at great
age: the larger of o - age and v o is a bound below what is left at any age, near it at both ends.
So an answer counts down to its floor and stays there until it ends. Both sums are kept as they
change: sum of o_i + J_i over those that count down, of v o_i over the others; a heap says who comes
to its floor next.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

QUEUED, COUNTING, AT_FLOOR, GONE = range(4)


@dataclass(slots=True, eq=False)
class Sent:
    """A request that is at an instance."""

    input_tokens: float
    output_tokens: float  # expected
    at_s: float  # when it was sent
    unfilled_tokens: float  # of its prompt, yet to be prefilled
    state: int = QUEUED
    began: float = 0.0  # J_i
    n_pushed: int = -1  # which entry of the heap is its own
    has_token: bool = False  # its first token was seen, not only reckoned
    token_nominal: float = 0.0  # the steps of the curve, when it was


class Tally:
    """The sums over those that decode on one instance."""

    __slots__ = (
        "_began_sum", "_clock", "_ends_sum", "_floor_ratio", "_floors_sum", "_heap",
        "_inputs_sum", "_n_counting", "_n_pushed", "n",
    )  # fmt: skip

    def __init__(self, floor_ratio: float) -> None:
        self._floor_ratio = floor_ratio  # v
        self._heap: list[tuple[float, int, Sent]] = []  # when it comes to its floor, number, who
        self._n_pushed = self._n_counting = 0
        self.n = 0
        """How many decode."""
        self._forget()

    def _forget(self) -> None:
        """Makes sums over nobody exactly 0: what was added and taken away leaves dust."""
        self._clock = self._ends_sum = self._floors_sum = self._began_sum = self._inputs_sum = 0.0
        self._heap.clear()

    @property
    def decode_tokens(self) -> float:
        """Returns what is expected still to come."""
        tokens = self._ends_sum - self._n_counting * self._clock + self._floors_sum
        return tokens if tokens > 0.0 else 0.0

    @property
    def kv_tokens(self) -> float:
        """Returns what they hold in the cache."""
        tokens = self._inputs_sum + self.n * self._clock - self._began_sum
        return tokens if tokens > 0.0 else 0.0

    def begin(self, one: Sent) -> None:
        """Lets a request decode from now on."""
        clock, length = self._clock, one.output_tokens
        one.began, one.state = clock, COUNTING
        self.n += 1
        self._began_sum += clock
        self._inputs_sum += one.input_tokens
        self._n_counting += 1
        self._ends_sum += length + clock
        one.n_pushed = self._n_pushed = self._n_pushed + 1
        heappush(self._heap, (clock + (1.0 - self._floor_ratio) * length, one.n_pushed, one))
        if len(self._heap) > 64 + 2 * self.n:  # most are of those who have left
            self._heap = [entry for entry in self._heap if _is_valid(entry)]
            heapify(self._heap)

    def leave(self, one: Sent) -> None:
        """Takes out a request that decodes."""
        if one.state == COUNTING:
            self._uncount(one)
        else:
            self._floors_sum -= self._floor_ratio * one.output_tokens
        one.state = GONE
        self.n -= 1
        self._began_sum -= one.began
        self._inputs_sum -= one.input_tokens
        if not self.n:
            self._forget()

    def tick(self, n_steps: float) -> None:
        """Lets the clock go on by so many steps, or parts of one."""
        self._clock = clock = self._clock + n_steps
        heap = self._heap
        while heap and heap[0][0] <= clock:
            entry = heappop(heap)
            if _is_valid(entry):
                one = entry[2]
                self._uncount(one)
                self._floors_sum += self._floor_ratio * one.output_tokens
                one.state = AT_FLOOR

    def _uncount(self, one: Sent) -> None:
        self._n_counting -= 1
        self._ends_sum -= one.output_tokens + one.began
        if not self._n_counting:
            self._ends_sum = 0.0


def _is_valid(entry: tuple[float, int, Sent]) -> bool:
    """Returns whether an entry of the heap is of somebody who still counts down as it says."""
    _, n_pushed, one = entry
    return one.state == COUNTING and one.n_pushed == n_pushed
