"""`rb schema NAME`: the JSON Schema of a file kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.offers import among
from planner.cli.options import guess

if TYPE_CHECKING:
    from planner.spec.base import Spec

KINDS = (
    "question",
    "plan",
    "routes",
    "serving",
    "policy",
    "export",
    "pool",
    "rb-pool",
    "points",
    "capacity",
    "gpus",
    "models",
    "class_scores",
    "scores",
    "prompts",
    "answers",
    "endpoints",
    "schedule",
    "hour_rates",
    "trace",
)


def schema(
    name: Annotated[
        str,
        typer.Argument(
            autocompletion=among(KINDS), metavar="NAME", help=f"One of: {', '.join(KINDS)}."
        ),
    ],
) -> None:
    """Prints the JSON Schema of a file kind (of one entry, for tables and journals).

    Example: rb schema question > question.schema.json
    """
    kind = kinds().get(name)
    if kind is None:
        raise typer.BadParameter(
            f"unknown file kind {name}; one of {', '.join(KINDS)}{guess(name, KINDS)}"
        )
    from planner.files.write import canonical_json
    from planner.spec.described import schema_with_meanings

    typer.echo(canonical_json(schema_with_meanings(kind)), nl=False)


def kinds() -> dict[str, type[Spec]]:
    """Returns the type of an entry of each file kind, by its name."""
    from planner.spec import (
        answers,
        endpoints,
        export,
        hardware,
        periods,
        plan,
        policy,
        pool,
        prompts,
        question,
        sheet,
    )

    return {
        "question": question.Question,
        "plan": plan.Plan,
        "routes": plan.Routes,
        "serving": sheet.ServingSheet,
        "policy": policy.Policy,
        "export": export.ExportSettings,
        "pool": pool.Pool,
        "rb-pool": pool.PoolSettings,
        "points": pool.Point,
        "capacity": pool.CapacityPoint,
        "gpus": hardware.Gpu,
        "models": hardware.ModelFacts,
        "class_scores": question.ClassScore,
        "scores": question.PromptScore,
        "prompts": prompts.PromptLine,
        "answers": answers.Answer,
        "endpoints": endpoints.Server,
        "schedule": question.RatePoint,
        "hour_rates": periods.HourRate,
        "trace": question.TraceRow,
    }
