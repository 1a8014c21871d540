"""What `rb serve --watch` shows: the status of all workers, drawn by their parent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live

EVERY_S = 1.0


class Watch:
    """A picture that is drawn again over itself; messages go above it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._due_s = 0.0

    def is_due(self) -> bool:
        """Returns whether it is time for another picture."""
        return time.monotonic() >= self._due_s

    def show(self, told: bytes | None) -> None:
        """Draws what the workers tell; None: none answers, the last picture stays."""
        from planner.report.serve import status_view
        from planner.runtime.status import decode_status

        self._due_s = time.monotonic() + EVERY_S
        if told is not None:
            with suppress(OSError):  # a closed terminal is no reason to stop answering
                self._live.update(status_view(decode_status(told)), refresh=True)

    def tell(self, text: str) -> None:
        """Shows a message above the picture."""
        with suppress(OSError):
            self._live.console.print(text)


@contextmanager
def watching() -> Iterator[Watch]:
    """Yields the screen, until it is left."""
    from rich.live import Live

    from planner.report.console import make_console

    # Drawn by whoever has news, not by a thread of its own: workers are forks.
    live = Live(console=make_console(), auto_refresh=False)
    live.start()
    try:
        yield Watch(live)
    finally:
        with suppress(OSError):
            live.stop()
