"""An event loop whose clock jumps to the next timer: hours of waiting take no time, exactly."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Waits for nothing: moves the loop's clock instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everything waits, and nothing will ever happen"
            self.loop.now_s += max(0.0, timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, in s, from 0."""

    now_s = 0.0

    def __init__(self) -> None:
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


def run_at_once(work: Coroutine[object, object, T], at_most_s: float = 10_000.0) -> T:
    """What a coroutine returns, run in virtual time, of which it has so much."""

    async def bounded() -> T:
        async with asyncio.timeout(at_most_s):
            return await work

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(bounded())
