"""`rb schema NAME`: the JSON Schema of a file kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from planner.spec.base import Spec

KINDS = (
    "question",
    "plan",
    "routes",
    "serving",
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
    "trace",
)


def schema(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(KINDS)}.")],
) -> None:
    """Prints the JSON Schema of a file kind (of one entry, for tables and journals).

    Example: rb schema question > question.schema.json
    """
    kind = _kinds().get(name)
    if kind is None:
        raise typer.BadParameter(f"unknown file kind {name}; one of {', '.join(KINDS)}")
    from planner.files.write import canonical_json

    typer.echo(canonical_json(kind.model_json_schema(by_alias=True)), nl=False)


def _kinds() -> dict[str, type[Spec]]:
    from planner.spec import answers, endpoints, hardware, plan, pool, prompts, question, sheet

    return {
        "question": question.Question,
        "plan": plan.Plan,
        "routes": plan.Routes,
        "serving": sheet.ServingSheet,
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
        "trace": question.TraceRow,
    }
