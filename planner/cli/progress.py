"""What long work shows on stderr, where a person looks at it: how far it is, and with what."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

BAR_WIDTH = 24
NOTE_WIDTH = 28  # with a stage, a bar, a count and a time in 80 columns

Moved = Callable[[int, int, str], None]
"""Called with what is done, what there is in all, and a note to show behind the count."""

Said = Callable[[str], None]
"""Called with what is being done now."""


class Bar:
    """What moves a bar; by itself it shows nothing, for where nobody looks."""

    def __call__(self, done: int, total: int, note: str) -> None:
        """Moves the bar: so much of so many is done."""

    def stage(self, what: str) -> None:
        """Begins other work, of which nobody knows yet how much it is."""


class _Shown(Bar):
    def __init__(self, bar: Progress, what: str) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=None, note="", count="")

    def __call__(self, done: int, total: int, note: str) -> None:
        shown = min(done, total)
        count = f"{shown}/{total}"
        self._bar.update(
            self._task, completed=shown, total=total, count=count, note=note[:NOTE_WIDTH]
        )

    def stage(self, what: str) -> None:
        self._bar.reset(self._task, total=None, description=what, note="", count="")


@contextmanager
def progress_bar(show: bool, what: str) -> Iterator[Bar]:
    """Yields what moves a bar; it does nothing where nobody would see one.

    Args:
        show: whether one is wanted at all.
        what: what is being done, e.g. 'searching'.
    """
    if not show or not _is_watched():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Shown(bar, what)


@contextmanager
def working(show: bool, what: str) -> Iterator[Said]:
    """Yields what tells which part of some work is being done, where nobody can count the parts.

    Args:
        show: whether anything is wanted at all.
        what: what is being done, until something else is told.
    """
    with progress_bar(show, what) as bar:
        yield bar.stage


def _is_watched() -> bool:
    """Returns whether a person sees stderr as it is written: not a pipe, a file or a CI log."""
    if not sys.stderr.isatty():
        return False
    return os.environ.get("TERM") not in ("dumb", "unknown") and not os.environ.get("CI")
