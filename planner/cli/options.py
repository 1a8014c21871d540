"""The options that several commands share, spelled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.offers import plans

PlanFolder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Plan folder with question.yaml.", autocompletion=plans),
]
ProfilesFolder = Annotated[
    Path | None,
    typer.Option(
        "--profiles",
        metavar="DIR",
        help="Profiles folder. Default: 'profiles' beside the plan's parent or here.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Data on stdout, talk on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def one_of(words: Sequence[str]) -> Callable[[str | None], str | None]:
    """Returns the callback of an option that takes one of some words; None stays None.

    A wrong word is refused with the nearest right one.
    """

    def check(value: str | None) -> str | None:
        if value is not None and value not in words:
            what = f"{value} is not one of {', '.join(words)}{guess(value, words)}"
            raise typer.BadParameter(what)
        return value

    return check


def guess(wrong: str, words: Sequence[str]) -> str:
    """Returns what to say behind a refusal: which of the right words may be meant; or nothing."""
    from planner.nearest import nearest

    near = nearest(wrong, words)
    return f"; did you mean {near[0]}?" if near else ""
