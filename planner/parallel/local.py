"""One function over many seeds, on as many cores as there are.

Every call runs in a process that was started for that (spawned, so that it inherits no threads and
no state), and results come in the order of the arguments: what comes back does not depend on how
many processes there are. A script that calls this needs `if __name__ == "__main__":`, as spawned
processes import it.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def over_seeds(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    n_processes: int | None = None,
) -> Iterator[Result]:
    """Yields function(argument) for each argument, in their order, as soon as it is known.

    When a call raises, the first exception in the order of the arguments is raised here; then, and
    on Ctrl-C, and when nobody wants further results, calls that still run are broken off.

    Args:
        function: of one argument; of a module, so that other processes can import it, unless there
            is but one argument or process.
        arguments: seeds, or whatever else the function reads; they and the results can be pickled.
        n_processes: at most so many; by default one for each core.
    """
    n = min(len(arguments), n_processes or multiprocessing.cpu_count())
    if n <= 1:
        yield from map(function, arguments)
        return
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"))
    try:
        with _ctrl_c_ignored():
            calls = deque(pool.submit(function, argument) for argument in arguments)
        while calls:
            yield calls.popleft().result()
    except BaseException:
        # Not cancelled: the pool sees that its processes are gone, and gives up what they had.
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        raise
    finally:
        pool.shutdown()


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Ignores Ctrl-C, and lets processes that are started meanwhile ignore it for good.

    A terminal sends it to every process, but only the first one is to act on it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers Ctrl-C to the main thread alone
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
