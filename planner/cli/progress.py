"""The bar that long work moves on stderr, where a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BAR_WIDTH = 30

Moved = Callable[[int, int, str], None]
"""Called with what is done, what there is in all, and a note to show behind the count."""


@contextmanager
def progress_bar(show: bool, what: str) -> Iterator[Moved]:
    """Yields a callback that moves a bar; it does nothing where nobody would see one.

    Args:
        show: whether one is wanted at all.
        what: what is being done, e.g. 'searching'.
    """
    if not show or not sys.stderr.isatty():
        yield lambda _done, _total, _note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(what),
        BarColumn(bar_width=BAR_WIDTH),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, note="")

        def moved(done: int, total: int, note: str) -> None:
            bar.update(task, completed=min(done, total), total=total, note=note)

        yield moved
