"""What of a session's next prompt an instance has in its prefix cache already.

A turn of a conversation begins with all turns before it, which the instance that answered the last
one still has in its cache: only the rest must be prefilled there, and providers that sell tokens
charge the cached ones less. So a session stays where it was as long as that is worth more than the
longer queue there, by what the latency model says a prompt token takes; nothing is pinned.

What an instance evicts is not known here: `share` of a prompt is taken to be still there, and only
so many sessions are remembered, of which the ones used longest ago go first.
"""

from __future__ import annotations

from collections.abc import Hashable

MOST_SESSIONS = 20_000
SHARE = 0.9


class Affinity:
    """Where sessions went last. An instance is named by a number that is never given again."""

    def __init__(self, most_sessions: int = MOST_SESSIONS, share: float = SHARE) -> None:
        """Starts with none; `share` (0..1): how much of a session's last turn is still cached."""
        self._most, self._share = most_sessions, share
        self._homes: dict[Hashable, tuple[int, float]] = {}  # oldest use first

    def went(self, session: Hashable, instance: int, tokens: float) -> None:
        """Notes where a session went; it will have so many tokens there, prompt and answer."""
        homes = self._homes
        homes.pop(session, None)
        homes[session] = instance, tokens * self._share
        if len(homes) > self._most:
            del homes[next(iter(homes))]

    def home(self, session: Hashable) -> tuple[int, float] | None:
        """Returns the instance of a session and the tokens it has there; None: not known."""
        return self._homes.get(session)
