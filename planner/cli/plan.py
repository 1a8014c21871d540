"""`rb plan DIR`: answers the question."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.cli.options import Json, PlanFolder, ProfilesFolder, Quiet

EFFORTS = ("quick", "standard", "thorough")
METHODS = ("auto", "mobo", "local", "random", "enumerate")


def _one_of(words: tuple[str, ...]) -> object:
    def check(value: str) -> str:
        if value not in words:
            raise typer.BadParameter(f"{value} is not one of {', '.join(words)}")
        return value

    return check


def plan(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    effort: Annotated[
        str,
        typer.Option(
            "--effort",
            metavar="|".join(EFFORTS),
            callback=_one_of(EFFORTS),
            help="How many deployments to evaluate.",
        ),
    ] = "standard",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="|".join(METHODS),
            callback=_one_of(METHODS),
            help="auto: all of a small box, else Bayesian optimisation and local search.",
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answers the question of a plan folder; writes plan.json and routes.json there.

    Ctrl-C keeps the best answer so far (complete: false).
    Exit 1: no deployment meets the limits; the message says what would.

    Example: rb plan plans/demo --effort quick
    """
    from planner.cli.plan_run import run_plan

    run_plan(folder, profiles, effort, method, seed, as_json=json, quiet=quiet)
