"""Where reports are written: a terminal, or a pipe without colours, boxes or control characters."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

RenderableType = Table | Text


def make_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """Returns a console that shows text as it is: no markup, emoji or guessed highlighting.

    Args:
        file: where to write; standard output by default.
        width: columns; by default those of the terminal, 80 in a pipe.
    """
    stream = file if file is not None else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a title that the terminal cannot show is no fault
    return Console(
        file=stream, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def show(parts: Iterable[RenderableType], console: Console) -> None:
    """Writes parts one after the other; a pipe gets no blanks at the ends of lines."""
    if console.is_terminal:
        for part in parts:
            console.print(part)
        return
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    console.file.write("".join(f"{row.rstrip()}\n" for row in captured.get().splitlines()))


def plain(text: str) -> str:
    """Returns text from a file without control characters, which could steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def heading(text: str) -> Text:
    """Returns the title of a section."""
    return Text(f"\n{plain(text)}", style="bold")


def line(text: str, style: str = "") -> Text:
    """Returns one paragraph, wrapped at the width of the console."""
    return Text(plain(text), style=style)


def literal(text: str) -> Text:
    """Returns one line as it is, never wrapped: part of a drawing."""
    return Text(plain(text), no_wrap=True, overflow="crop")


def bullet(text: str) -> Table:
    """Returns one sentence with a dash before it and its further lines indented."""
    return indented(text, "  -")


def indented(text: str, mark: str = " ") -> Table:
    """Returns one paragraph to the right of a mark."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(mark, plain(text))
    return grid


def table(names: list[str], numbers: list[str], notes: list[str] | None = None) -> Table:
    """Returns an empty table without lines: text columns, right-aligned numbers, text columns."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    made.add_column("", width=1)  # the indent under a heading
    for name in names:
        made.add_column(name, overflow="fold")
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    for name in notes or []:
        made.add_column(name, overflow="fold")
    return made
