"""What a proxy hears of the requests that it has sent on: first tokens and ends, in order of time.

A proxy hears of a token when it has passed the engine and the time t0 that a request takes beside
any step: that is when its client has it, too.
"""

from __future__ import annotations

from planner.simulate.settings import Times

Event = tuple[int, bool, int]
"""When it was heard in ps, whether it was the end (else the first token), of which request."""


class Heard:
    """The requests in flight, and what has been heard of each."""

    def __init__(self, times: Times) -> None:
        self._first_ps, self._done_ps = times.first_ps, times.done_ps
        self._silent: dict[int, int] = {}  # request -> t0 of its pool; no first token yet
        self._talking: dict[int, int] = {}

    def sent(self, i: int, request_ps: int) -> None:
        """Takes note of a request that a replica has taken."""
        self._silent[i] = request_ps

    def lost(self, i: int) -> None:
        """Forgets a request of which nothing more will be heard."""
        self._silent.pop(i, None)
        self._talking.pop(i, None)

    def before(self, at_ps: int) -> list[Event]:
        """Returns what was heard before a moment and not returned yet, in order of time.

        Every replica must have been brought to that moment. At one and the same moment first tokens
        come before ends, then the older request.
        """
        found: list[Event] = []
        first_ps, done_ps = self._first_ps, self._done_ps
        for i, request_ps in list(self._silent.items()):
            if 0 <= first_ps[i] < at_ps - request_ps:
                found.append((first_ps[i] + request_ps, False, i))
                self._talking[i] = self._silent.pop(i)
        for i, request_ps in list(self._talking.items()):
            if 0 <= done_ps[i] < at_ps - request_ps:
                found.append((done_ps[i] + request_ps, True, i))
                del self._talking[i]
        found.sort()
        return found
