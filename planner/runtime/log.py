"""One line of JSON per request, written beside the traffic and never in its way.

A line says what was decided and what became of it; prompts, answers and keys are in none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from planner.runtime.served import Served

FLUSH_S = 0.25
MOST_LINES = 50_000  # that wait for a slow disk; further ones are lost, and counted
LONGEST = 200  # characters of what a client wrote

_encode = msgspec.json.Encoder().encode


class RequestLog:
    """Keeps a line of each request until it is written; an observer of the Dispatcher.

    Args:
        write: appends bytes to the log; it may block, and raise OSError.
        plan_hash: of the plan that is served.
        wall_s: the time of day in seconds since 1970.
        tell: shows a sentence to whoever runs the server.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        plan_hash: str,
        wall_s: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self.plan_hash = plan_hash
        self.n_lost = 0
        self._write, self._wall_s, self._tell = write, wall_s, tell
        self._lines: list[bytes] = []

    def __call__(self, served: Served) -> None:
        """Takes the line of one request that has ended."""
        if len(self._lines) >= MOST_LINES:
            self._lose(1, "the disk is too slow for them")
            return
        line = request_line(served, self._wall_s() - served.e2e_s, self.plan_hash)
        self._lines.append(_encode(line) + b"\n")

    async def run(self) -> None:
        """Writes what there is, again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what there is."""
        lines, self._lines = self._lines, []
        if lines:
            try:
                await asyncio.to_thread(self._write, b"".join(lines))
            except OSError as error:
                self._lose(len(lines), error.strerror or type(error).__name__)

    def _lose(self, n: int, why: str) -> None:
        if self.n_lost == 0:
            self._tell(f"warning: lines of the log are lost: {why}")
        self.n_lost += n


def request_line(served: Served, started_s: float, plan_hash: str) -> dict[str, object]:
    """Returns what the log says of one request; started_s is the time of day in seconds."""
    return {
        "time_s": round(started_s, 3),
        "request_id": served.request_id[:LONGEST],
        "operation": served.operation,
        "class": served.class_name,
        "asked_model": served.asked_model[:LONGEST],
        "model_name": served.model_name,
        "pool": served.pool,
        "decided_pool": served.decided_pool,
        "instance": served.instance,
        "outcome": served.outcome,
        "why": served.why,
        "status": served.status,
        "ttft_ms": None if served.ttft_s is None else round(1000 * served.ttft_s, 3),
        "e2e_ms": round(1000 * served.e2e_s, 3),
        "input_tokens": served.n_input,
        "output_tokens": served.n_output,
        "usage_known": served.usage_known,
        "n_tries": served.n_tries,
        "failed_tries": served.failed_tries,
        "cascade": served.cascade,
        "escalated": served.escalated,
        "streamed": served.streamed,
        "plan": plan_hash[:12],
    }
