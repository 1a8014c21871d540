"""`rb router show "prompt"`: why this model, in money."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.options import Json
from planner.cli.router_options import UsdPerPoint, plan_there, rate_of, router_there
from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.spec.router import Router

MOST_CHARACTERS = 1_000_000


def show(
    words: Annotated[
        list[str], typer.Argument(metavar="[DIR] PROMPT", help="PROMPT, or - to read it.")
    ],
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class it declares.")
    ] = None,
    usd_per_point: UsdPerPoint = None,
    json: Json = False,
) -> None:
    """Shows why a prompt goes to a model, in money.

    Quality, tokens and money of each model's answer, who wins at which worth of quality, and what
    would have to change for the next best to win. Reads router.npz and, for what quality is worth,
    plan.json. DIR is the working folder unless given. The prompt is never written anywhere.

    Example: rb router show plans/mine "Prove that the square root of 2 is irrational."
    """
    from planner.files.write import canonical_json
    from planner.report.console import make_console
    from planner.report.router_show import explain, render_shown, shown_data

    folder, text = _folder_and_text(words)
    router = _router(folder)
    if class_name is not None:
        _check_class(router, class_name)
    plan = plan_there(folder)
    shown = explain(router, text, class_name, rate_of(usd_per_point, plan), plan)
    if json:
        typer.echo(canonical_json(shown_data(shown)), nl=False)
    else:
        render_shown(shown, make_console())


def _folder_and_text(words: list[str]) -> tuple[Path, str]:
    """Returns the plan folder and the prompt.

    Raises:
        InputError: the prompt is empty, or there are more words than these two.
    """
    if len(words) > 2:
        what = f"at most a folder and a prompt are read, got {len(words)} words"
        raise InputError.single("PROMPT", "", what, 'put the prompt in quotes: "..."')
    folder = Path(words[0]) if len(words) == 2 else Path()
    text = words[-1] if words[-1] != "-" else sys.stdin.read(MOST_CHARACTERS)
    if not text.strip():
        raise InputError.single("PROMPT", "", "is empty", "give the text of a request")
    return folder, text


def _router(folder: Path) -> Router:
    """Returns the trained router of a folder; raises InputError where there is none."""
    from planner.files.folders import not_a_plan
    from planner.files.router import ROUTER_FILE
    from planner.files.text import shown

    router = router_there(folder)
    if router is None:
        fix = "make one with: rb router train DIR"
        missing = Fault(shown(folder / ROUTER_FILE), "", "file not found", fix)
        raise InputError([not_a_plan(folder, ROUTER_FILE) or missing])
    return router


def _check_class(router: Router, name: str) -> None:
    """Returns where the router knows a class; raises InputError otherwise."""
    from planner.files.faults import unknown_name

    if name not in router.class_names:
        raise InputError([unknown_name("--class", "", name, router.class_names, "class")])
