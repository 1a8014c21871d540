"""The options of `rb router collect`: what each takes, and what is said of a wrong one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.offers import among, plans
from planner.cli.options import one_of
from planner.cli.run_options import seconds

GRADERS = ("exact", "regex", "numeric", "choice", "expression", "llm")


def _time(value: str) -> str:
    """Returns a time as it was given; refuses what is none."""
    seconds(value)
    return value


def prices(given: list[str] | None) -> dict[str, float]:
    """Returns prices by name, of texts NAME=USD."""
    found = {}
    for text in given or []:
        name, _, value = text.rpartition("=")
        try:
            usd = float(value)
        except ValueError:
            usd = math.nan
        if not name or not (math.isfinite(usd) and usd >= 0):
            raise typer.BadParameter(f"{text} is no price such as llama-8b=0.2")
        found[name] = usd
    return found


def _prices(value: list[str] | None) -> list[str] | None:
    prices(value)
    return value


Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Plan folder, or one that is to become one.", autocompletion=plans
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="JSON lines: prompt_id, class, text or messages, reference. "
        "Default: DIR/prompts.jsonl.",
    ),
]
Endpoints = Annotated[
    Path | None,
    typer.Option(
        "--endpoints",
        metavar="FILE",
        help="YAML, pool or model: url, or {url, served_model_name, api_key_env}, or a list.",
    ),
]
Grader = Annotated[
    str,
    typer.Option(
        "--grader",
        metavar="|".join(GRADERS),
        callback=one_of(GRADERS),
        autocompletion=among(GRADERS),
        help="How to score.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", help="Ask only these of --endpoints; repeatable."),
]
Samples = Annotated[int, typer.Option("--samples", min=1, max=100, help="Of each prompt.")]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, max=1024, help="Requests in flight at each model.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Of an answer.")]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        min=0.0,
        max=5.0,
        help="Of the sampling. Default: 0; 0.7 with several --samples.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only so many prompts, drawn by a hash of their ids."),
]
Only = Annotated[
    Path | None,
    typer.Option(
        "--only", metavar="FILE", help="Ask only what FILE lists: rb router next DIR --json > FILE."
    ),
]
Tolerance = Annotated[
    float, typer.Option("--tolerance", min=0.0, max=1.0, help="Of numbers, relative.")
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="TIME", callback=_time, help="Of a request, e.g. 90s.")
]
Prices = Annotated[
    list[str] | None,
    typer.Option(
        "--usd-per-million-output",
        metavar="NAME=X",
        callback=_prices,
        help="Price of a model's output tokens, to show the cost; repeatable.",
    ),
]
Rubric = Annotated[
    Path | None, typer.Option("--rubric", metavar="FILE", help="Text by which the llm grades.")
]
Judge = Annotated[
    str | None, typer.Option("--judge", metavar="NAME", help="Of --endpoints: the llm that grades.")
]
Labelled = Annotated[
    Path | None,
    typer.Option(
        "--labelled",
        metavar="FILE",
        help="CSV of people's scores (prompt_id,model_name,score): how far the llm agrees.",
    ),
]
Regrade = Annotated[
    bool, typer.Option("--regrade", help="Grade the answers that are there; send nothing.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the bulk is sent.")]
ProfilesFolder = Annotated[
    Path | None,
    typer.Option("--profiles", metavar="DIR", help="Where pools say which model they serve."),
]
