"""What the router's commands share: their options, and how they read scores with their money."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.case import Case
    from planner.money import ExchangeRate, Priced
    from planner.spec.inputs import Inputs
    from planner.spec.plan import Plan
    from planner.spec.router import Router


def _above_zero(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value:g} is not above zero")
    return value


Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")]
UsdPerPoint = Annotated[
    float | None,
    typer.Option(
        "--usd-per-point",
        metavar="USD",
        callback=_above_zero,
        help="What one point of quality (0.01) of 1,000 answers is worth. Default: the plan's.",
    ),
]


class Scored(NamedTuple):
    """A question with its pools, and the scores of the models that they serve."""

    inputs: Inputs
    case: Case
    priced: Priced


def read_scored(folder: Path, profiles: Path | None) -> Scored:
    """Returns what a plan folder knows of single prompts.

    Raises:
        InputError: with every fault of its files, or as it has no scores of single prompts.
    """
    from planner.case import make_case
    from planner.files.inputs import read_inputs
    from planner.money import priced
    from planner.quality.scores import scores_of

    inputs = read_inputs(folder, profiles, with_router=False)
    scores = scores_of(inputs.files)
    if scores is None:
        raise InputError.single(
            inputs.files.name,
            "class_scores",
            "holds means of classes, and a router learns from the scores of single prompts",
            "name a scores.csv instead (scores:); rb router collect and rb router import make one",
        )
    case = make_case(inputs)
    return Scored(inputs, case, priced(case, scores))


def rate_of(usd_per_point: float | None, plan: Plan | None) -> ExchangeRate | None:
    """Returns what quality is worth: as said, else as the plan would pay; None if neither says."""
    from planner.money import ANSWERS, POINTS, ExchangeRate, exchange_rate

    if usd_per_point is not None:
        return ExchangeRate(usd_per_point * POINTS / ANSWERS, "--usd-per-point")
    return None if plan is None else exchange_rate(plan)


def plan_there(folder: Path) -> Plan | None:
    """Returns the plan of a folder; None where it has none.

    Raises:
        InputError: there is one, and it is faulty.
    """
    from planner.files.plans import PLAN_FILE, need_plan
    from planner.files.text import is_there

    return need_plan(folder) if is_there(folder / PLAN_FILE) else None


def router_there(folder: Path) -> Router | None:
    """Returns the trained router of a folder; None where it has none.

    Raises:
        InputError: there is one, and it is damaged or of another version.
    """
    from planner.files.router import ROUTER_FILE, read_router
    from planner.files.text import is_there

    path = folder / ROUTER_FILE
    if not is_there(path):
        return None
    faults: list[Fault] = []
    router = read_router(path, faults)
    if router is None:
        raise InputError(faults)
    return router
