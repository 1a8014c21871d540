"""A closed loop: a number of users, each of whom sends again when the last answer is there.

Notation
    k     a user, 0..N-1                        i     a request, in order of sending
    Z     thinking time (ps), at least 1        B     time over which the users start (ps)

    user k sends its first request at floor(B k / N), and each further one Z after its last answer

Requests are sent until their token counts are used up or the duration is over; then those that
run are answered. With Z = 1 ps this is the load that keeps N requests in flight, up to the one step
that a request waits for that is sent while its predecessor's place is given away.
"""

from __future__ import annotations

import heapq
from typing import Protocol

from planner.simulate.replica import NEVER
from planner.simulate.settings import Times


class Station(Protocol):
    """A replica, or a group of data-parallel ranks."""

    @property
    def ended(self) -> list[int]:
        """Returns the requests that were answered at the last boundary."""

    def submit(self, i: int, at_ps: int) -> bool:
        """Takes request i at a moment; returns whether it can ever be served."""

    def advance(self, until_ps: int, to_completion: bool = False) -> bool:
        """Goes on to a moment; returns whether it stopped before, as something was answered."""


def run_closed_loop(
    station: Station,
    times: Times,
    *,
    n_users: int,
    think_ps: int = 1,
    start_over_ps: int = 0,
    duration_ps: int | None = None,
) -> list[int]:
    """Returns when each request was sent, in ps, in order; at the end all of them are answered.

    Args:
        station: an idle replica or group; what its requests ask is known to it.
        times: where it notes when requests are answered, one entry for each that may be sent.
        n_users: users, N.
        think_ps: between an answer and the user's next request, Z.
        start_over_ps: over which the users start, B; 0 is all at once.
        duration_ps: nothing is sent from then on; None sends all requests that there are.

    Raises:
        ValueError: no users, no thinking time, or a request that does not fit into the replica.
    """
    if n_users < 1 or think_ps < 1 or start_over_ps < 0:
        raise ValueError(f"need a user and 1 ps of thinking, got {n_users} and {think_ps}")
    end_ps = NEVER if duration_ps is None else duration_ps
    due_ps = [start_over_ps * user // n_users for user in range(n_users)]
    sent_ps: list[int] = []
    n_in_flight = 0
    while True:
        i = len(sent_ps)
        at_ps = due_ps[0] if due_ps and i < len(times.done_ps) else NEVER
        if at_ps >= end_ps:
            at_ps = NEVER
        if at_ps == NEVER and not n_in_flight:
            return sent_ps
        if station.advance(at_ps, to_completion=True):
            n_in_flight -= len(station.ended)
            for answered in station.ended:
                heapq.heappush(due_ps, times.done_ps[answered] + think_ps)
            continue
        if not station.submit(i, at_ps):
            raise ValueError(f"request {i} asks for more than the KV cache of the replica")
        heapq.heappop(due_ps)
        sent_ps.append(at_ps)
        n_in_flight += 1
