"""Text from files inside Markdown: it is shown as it is, and can neither format nor link nor call.

A reader of a pull request sees what the file says, whatever it says: no table row is broken, no
heading, link, image or HTML comes in, nobody is mentioned, no issue is referred to. Text is only
ever put behind words of ours, never at the start of a line, where GitLab would obey it.
"""

from __future__ import annotations

import re

from planner.report.console import plain

MOST = 160  # characters of one text; the rest is for the file itself
_ENTITIES = {"&": "&amp;", "<": "&lt;", "$": "&#36;"}
# An underscore within a word formats nothing, nor does a dollar before a figure.
_MARKS = re.compile(r"[\\`*|~\[]|(?<![^\W_])_|_(?![^\W_])|[&<]|\$(?!\d)")
_ZERO_WIDTH = "\u200b"  # seen by nobody, but what it stands in is no name and no address any more
# @name, #12, GH-12, !12, ~label, http://, www. and :name: become something by themselves.
_CALLS = re.compile(
    r"([@#!%~&^](?=[\w(\"'-])|\b[a-z][a-z0-9+.-]*:(?=//)|\bwww(?=\.)|\bGH(?=-\d)|:(?=\w+:))", re.I
)


def in_markdown(text: str, most: int = MOST) -> str:
    """Returns a text as Markdown that shows it, in one line; longer ones end in '...'."""
    line = " ".join(plain(text).split())
    broken = _CALLS.sub(lambda found: found[0] + _ZERO_WIDTH, shortened(line, most))
    return _MARKS.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), broken)


def as_code(text: str, most: int = MOST) -> str:
    """Returns a name or a place as Markdown that shows it in a code span, in tables, too."""
    line = " ".join(plain(text).split())
    # Within a table a bar ends the cell even in code, and outside of it a backslash would show.
    safe = shortened(line, most).replace("`", "'").replace("|", "/")
    return f"`{safe}`" if safe else "-"


def shortened(text: str, most: int) -> str:
    """Returns the beginning of a text, with dots where something was left out."""
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."
