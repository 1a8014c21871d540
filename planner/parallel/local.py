"""One function over many arguments, on as many cores of this machine as there are.

Calls run in processes that were started for that (spawned, so that they inherit no threads and no
state), and results come in the order of the arguments: what comes back does not depend on how many
processes there are. A script that calls this needs `if __name__ == "__main__":`, as spawned
processes import it.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TypeVar

from planner.errors import InputError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MOST_LOST = 3
"""Times that processes may be lost while one list of arguments is worked on."""


STUCK_S = 1.0
"""An old Python's pool that has not ended so long after its processes waits for their pipe."""


class LocalWorkers:
    """Processes of this machine, started when first needed and kept until the end of `with`."""

    def __init__(self, n_processes: int | None = None) -> None:
        self._n = n_processes or multiprocessing.cpu_count()
        self._pool: ProcessPoolExecutor | None = None
        self._others: list[BaseProcess] = []  # children that are not ours
        self._ours: list[BaseProcess] = []  # of the pool that is open, or of the last one

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop(at_once=kind is not None)

    def run(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> Iterator[Result]:
        """Yields function(argument) for each argument, in their order, as soon as it is known.

        When a call raises, the first exception in the order of the arguments is raised here; then,
        and on Ctrl-C, and when nobody wants further results, calls that still run are broken off.
        What a process had taken that was killed is evaluated again by another one.

        Args:
            function: of one argument; of a module, so that other processes can import it, unless
                there is but one argument or process.
            arguments: whatever the function reads; they and the results can be pickled.

        Raises:
            InputError: processes were lost again and again, or ended by themselves.
        """
        if min(self._n, len(arguments)) <= 1:
            yield from map(function, arguments)
            return
        calls: list[Future[Result]] = []
        try:
            calls = self._submitted(function, arguments)
            n_done = n_lost = 0
            while n_done < len(calls):
                try:
                    result = calls[n_done].result()
                except BrokenProcessPool:
                    n_lost += 1
                    self._stop_broken()
                    if n_lost > MOST_LOST:
                        raise _lost_again(self._n) from None
                    lost = [k for k in range(n_done, len(calls)) if not _has_result(calls[k])]
                    again = self._submitted(function, [arguments[k] for k in lost])
                    for k, call in zip(lost, again, strict=True):
                        calls[k] = call
                    continue
                yield result
                n_done += 1
        except BaseException:
            self._stop(at_once=True)
            raise

    def _submitted(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> list[Future[Result]]:
        for _ in range(MOST_LOST + 1):
            try:
                with _ctrl_c_ignored():
                    calls = [self._started().submit(function, each) for each in arguments]
                self._ours = self._children()
                return calls
            except BrokenProcessPool:  # a process was killed between two lists, or just now
                self._stop_broken()
        raise _lost_again(self._n)

    def _started(self) -> ProcessPoolExecutor:
        """Returns the processes; those that are missing are started by the calls they get."""
        if self._pool is None:
            self._others = multiprocessing.active_children()
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._n, context, initializer=_end_with_parent)
        return self._pool

    def _children(self) -> list[BaseProcess]:
        """Returns the processes of the pool that still run."""
        return [c for c in multiprocessing.active_children() if c not in self._others]

    def _stop_broken(self) -> None:
        """Ends processes of which one was lost.

        Raises:
            InputError: one was not killed but ended by itself: the next would do the same.
        """
        self._ours = list(dict.fromkeys((*self._ours, *self._children())))
        self._stop(at_once=True)
        if any((child.exitcode or 0) > 0 for child in self._ours):  # killed: below 0
            raise _ended_by_themselves() from None

    def _stop(self, at_once: bool) -> None:
        """Ends the processes; with at_once whatever they are doing."""
        if self._pool is None:
            return
        if at_once:
            # Not cancelled: the pool sees that its processes are gone, and gives up what they had.
            for child in self._children():
                child.terminate()
            _unblock(self._pool)
        self._pool.shutdown()
        self._pool = None


def _end_with_parent() -> None:
    """Lets this process end when the one that started it has: killed, it can end no other.

    Else it would wait for ever for calls that nobody makes.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None  # only processes that were started come here

    def watch() -> None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)  # which a process that was started does not handle

    threading.Thread(target=watch, daemon=True).start()


def _unblock(pool: ProcessPoolExecutor) -> None:
    """Lets a pool whose processes are gone end what it is still writing to them.

    Before Python 3.11.5 it waits for ever where the pipe to them is full (CPython issue 94777).
    Only then is the pipe closed here: a pool that is not stuck closes it itself, in another thread,
    and closed twice at once, it is a bad file, or one that was opened in between. Since then it
    always closes the pipe itself.
    """
    if sys.version_info >= (3, 11, 5):
        return
    manager = getattr(pool, "_executor_manager_thread", None)
    if manager is None:
        return
    manager.join(timeout=STUCK_S)
    if manager.is_alive():
        calls = getattr(pool, "_call_queue", None)
        reader = getattr(calls, "_reader", None)
        if reader is not None:
            reader.close()


def over_seeds(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    n_processes: int | None = None,
) -> Iterator[Result]:
    """Yields function(argument) for each argument, in their order: one LocalWorkers.run.

    Args:
        function: of one argument; of a module, so that other processes can import it, unless there
            is but one argument or process.
        arguments: seeds, or whatever else the function reads; they and the results can be pickled.
        n_processes: at most so many; by default one for each core.
    """
    n = min(len(arguments), n_processes or multiprocessing.cpu_count())
    with LocalWorkers(max(n, 1)) as workers:
        yield from workers.run(function, arguments)


def _has_result(call: Future[Result]) -> bool:
    """Returns whether a call was answered, by a result or an exception, before processes died."""
    return call.done() and not isinstance(call.exception(), BrokenProcessPool)


def _lost_again(n_processes: int) -> InputError:
    return InputError.single(
        "--workers", "", f"processes that evaluate were killed {MOST_LOST + 1} times, "
        f"most likely for want of memory, with {n_processes} at once", "use fewer: --workers 1",
    )  # fmt: skip


def _ended_by_themselves() -> InputError:
    what = "processes that evaluate ended with an error (see above)"
    fix = "in a script, call it below if __name__ == '__main__':, since each process imports it"
    return InputError.single("--workers", "", what, fix)


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
