"""The parent of several workers on one port: starts them, starts them again, passes signals on.

Workers share a port (SO_REUSEPORT: the system deals connections out) and nothing else. Each is a
fork of the parent, which serves nothing and has no threads; it keeps the last plan that was in
order, for workers that it has to start again. Every worker holds the reading end of a pipe that
only the parent writes to: when that ends, the parent has, and the worker ends too.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from planner.cli.serve_files import (
    POLL_S,
    Job,
    Reloader,
    ending_words,
    open_port,
    plan_words,
    tell,
)
from planner.cli.serve_run import Place, run
from planner.errors import ExitCode, InputError, PlannerError

if TYPE_CHECKING:
    from planner.cli.serve_watch import Watch

QUICK_S = 10.0  # a worker that ends sooner is started again later and later,
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0  # but no later than that
START_POLL_S = 0.01  # between two looks whether all workers have begun
GRACE_S = 5.0  # beyond --drain-s, for workers to end

_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_IN_WORKER = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.SIG_IGN,
    signal.SIGHUP: signal.SIG_IGN,
    signal.SIGCHLD: signal.SIG_DFL,
}


@dataclass
class _Child:
    """One worker, alive or waiting to be started."""

    number: int
    pid: int = 0  # 0: it does not live
    started_s: float = 0.0
    n_quick: int = 0  # times in a row that it ended soon
    due_s: float = 0.0


class Parent:
    """Keeps all workers of a job going until a signal tells to end."""

    def __init__(
        self,
        job: Job,
        reloader: Reloader,
        folder: str,
        began: Callable[[], None],
        watch: Watch | None,
    ) -> None:
        self._job, self._reloader, self._folder, self._watch = job, reloader, folder, watch
        self._began: Callable[[], None] | None = began
        self._children = [_Child(number) for number in range(job.n_workers)]
        self._signals: list[int] = []
        self._ends_s: float | None = None  # when those that still live are killed
        self._code = 0
        self._life = os.pipe()
        self._wake = os.pipe()

    def run(self) -> int:
        """Returns the exit code when all workers have ended."""
        with self._listening():
            try:
                while True:
                    self._start_due()
                    if self._ends_s is not None and not any(c.pid for c in self._children):
                        return self._code
                    self._step()
            finally:
                for child in self._children:
                    if child.pid:
                        os.kill(child.pid, signal.SIGKILL)
                        os.waitpid(child.pid, 0)

    def _step(self) -> None:
        """Sleeps until something happens or a look at the files is due, and sees to it."""
        nap_s = POLL_S if self._began is None else START_POLL_S
        ready, _, _ = select.select([self._wake[0]], [], [], nap_s)
        if ready:
            os.read(self._wake[0], 4096)
        self._reap()
        signals, self._signals = self._signals, []
        for number in signals:
            self._hear(number)
        if self._ends_s is None:
            if self._reloader.poll():
                self._reload()
        elif time.monotonic() > self._ends_s:
            self._send(signal.SIGKILL)
        if self._began is not None and self._all_answer():
            self._began()
            self._began = None
        if self._watch is not None and self._watch.is_due():
            self._watch.show(self._status())

    # ---- Signals ---------------------------------------------------------------------------------

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Hears signals, each of which also ends a sleep, until it is left."""

        def hear(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)

        os.set_blocking(self._wake[1], False)
        before = {number: signal.signal(number, hear) for number in _HEARD}
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in (*self._life, *self._wake):
                os.close(end)

    def _hear(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._send(signal.SIGHUP)
            self._reload()
        elif number in (signal.SIGTERM, signal.SIGINT) and self._ends_s is None:
            self._mention(ending_words(self._job))
            self._end(signal.SIGTERM, self._job.drain_s)
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._end(signal.SIGQUIT, 0.0)

    def _end(self, how: signal.Signals, within_s: float) -> None:
        self._ends_s = time.monotonic() + within_s + GRACE_S
        self._send(how)

    def _send(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)

    # ---- Workers ---------------------------------------------------------------------------------

    def _start_due(self) -> None:
        """Starts the workers whose time has come."""
        now_s = time.monotonic()
        for child in self._children:
            if not child.pid and self._ends_s is None and now_s >= child.due_s:
                sys.stdout.flush()
                sys.stderr.flush()
                # A signal waits until the worker can hear it: the parent's ears are not its own.
                signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
                pid = os.fork()
                if pid == 0:
                    self._be_worker(child.number)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
                child.pid, child.started_s = pid, now_s

    def _reap(self) -> None:
        """Sees which workers have ended, and when they are to be started again."""
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            child.pid, now_s = 0, time.monotonic()
            code = os.waitstatus_to_exitcode(status)
            if self._ends_s is not None:
                continue
            if self._began is not None:  # the next one could not start either
                if code < 0:  # else it has told why
                    before = "before all workers took requests"
                    self._tell(f"worker {child.number} ended with signal {-code} {before}")
                self._code = code if code > 0 else int(ExitCode.OUR_BUG)
                self._end(signal.SIGTERM, self._job.drain_s)
                continue
            child.n_quick = child.n_quick + 1 if now_s - child.started_s < QUICK_S else 0
            pause_s = min(FIRST_PAUSE_S * 2.0 ** max(child.n_quick - 1, 0), LONGEST_PAUSE_S)
            child.due_s = now_s + pause_s
            how = f"signal {-code}" if code < 0 else f"code {code}"
            self._tell(f"worker {child.number} ended with {how}: started again in {pause_s:g} s")

    def _be_worker(self, number: int) -> NoReturn:
        """Serves as one of the workers, and ends with it."""
        code = int(ExitCode.OUR_BUG)
        try:
            signal.set_wakeup_fd(-1)
            # A terminal sends Ctrl-C to all processes; the parent hears it and says what it means.
            # Files that change before the worker hears SIGHUP are seen to have changed.
            for heard, how in _IN_WORKER.items():
                signal.signal(heard, how)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
            for end in (self._life[1], *self._wake):
                os.close(end)
            listening = open_port(self._job, is_shared=True)
            place = Place(number, token_hex(3), self._folder, self._life[0])
            code = run(self._job, self._reloader, listening, place, lambda: None)
        except PlannerError as error:
            code = int(error.exit_code)
            tell(str(error))
        except BaseException as error:
            import traceback

            traceback.print_exception(error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    # ---- The plan, and what is shown -------------------------------------------------------------

    def _reload(self) -> None:
        """Takes what the files say now, for workers to come; those that live read it themselves."""
        try:
            setup = self._reloader.take()
        except InputError as error:
            kept = self._reloader.setup.routes.plan_hash[:12]
            self._tell(f"{error}\nthe plan of before is kept: {kept}")
        else:
            self._mention(f"read anew: {plan_words(setup)}")

    def _all_answer(self) -> bool:
        """Returns whether every worker takes requests."""
        from planner.files.serving import signature
        from planner.runtime.peers import socket_path

        paths = (socket_path(self._folder, child.number) for child in self._children)
        return None not in signature(map(Path, paths))

    def _status(self) -> bytes | None:
        """Returns what the first worker that answers says of all of them."""
        from planner.runtime.page import STATUS
        from planner.runtime.peers import ask_now, socket_path

        for child in self._children:
            if child.pid:
                told = ask_now(socket_path(self._folder, child.number), STATUS)
                if told is not None:
                    return told
        return None

    def _mention(self, text: str) -> None:
        """Says what is no fault."""
        if not self._job.quiet:
            self._tell(text)

    def _tell(self, text: str) -> None:
        if self._watch is not None:
            self._watch.tell(text)
        else:
            tell(text)


def run_workers(
    job: Job, reloader: Reloader, began: Callable[[], None], watch: Watch | None
) -> int:
    """Returns the exit code of all workers of a job; calls began once they all take requests."""
    # Loaded once, for all forks.
    import planner.runtime.dispatch
    import planner.runtime.page
    import planner.runtime.poll
    import planner.runtime.server  # noqa: F401
    from planner.files.serving import private_folder, remove_folder

    folder = private_folder()
    try:
        return Parent(job, reloader, folder, began, watch).run()
    finally:
        remove_folder(folder)
