"""The options of `rb profile run`: what each takes, and what is said of a wrong one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.offers import among, pools
from planner.cli.options import one_of

APIS = ("completions", "chat")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def _time(value: str) -> str:
    """Returns a time budget as it was given; refuses what is none."""
    seconds(value)
    return value


def seconds(text: str) -> float:
    """Returns a time such as 90s, 30m or 2h in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{text} is no time above zero, such as 90s, 30m or 2h")
    return float(found[1]) * _UNITS_S[found[2]]


def _arrivals(value: str) -> str:
    found = re.fullmatch(r"poisson|trace|gamma:(\d+(?:\.\d+)?)", value)
    if found is None or (found[1] is not None and not float(found[1])):
        raise typer.BadParameter(f"{value} is not poisson, trace or gamma:CV with a CV above zero")
    return value


def _list(value: str | None) -> str | None:
    """Returns a list of loads as it was given; refuses what is none."""
    numbers(value)
    return value


def _whole(value: str | None) -> str | None:
    """Returns a list of requests in flight as it was given; refuses what is none."""
    if any(load != int(load) for load in numbers(value)):
        raise typer.BadParameter(f"{value} must hold whole numbers: requests in flight")
    return value


def numbers(text: str | None) -> tuple[float, ...]:
    """Returns the numbers of a list such as 1,2,4; none of none."""
    try:
        values = tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"{text} is no list of numbers such as 1,2,4") from None
    if not all(0 < value < 1e6 for value in values) or (text is not None and not values):
        raise typer.BadParameter(f"{text} must hold numbers above zero")
    return values


Url = Annotated[str, typer.Option("--url", metavar="URL", help="Of an OpenAI-compatible server.")]
ModelName = Annotated[str, typer.Option("--model", metavar="NAME", help="As the server names it.")]
GpuName = Annotated[str, typer.Option("--gpu", metavar="NAME", help="GPU id as in gpus.yaml.")]
PoolName = Annotated[
    str | None,
    typer.Option(
        "--pool", metavar="NAME", help="Default: made of model and GPU.", autocompletion=pools
    ),
]
TensorParallel = Annotated[
    int, typer.Option("--tensor-parallel", min=1, help="GPUs that one replica spreads over.")
]
Api = Annotated[
    str,
    typer.Option(
        "--api",
        metavar="|".join(APIS),
        callback=one_of(APIS),
        autocompletion=among(APIS),
        help="What to call.",
    ),
]
InputTokens = Annotated[int, typer.Option("--input-tokens", min=1, help="Of every prompt.")]
OutputTokens = Annotated[int, typer.Option("--output-tokens", min=2, help="Of every answer.")]
WorkloadFile = Annotated[
    Path | None,
    typer.Option("--workload", metavar="FILE", help="Lengths instead: input_tokens,output_tokens."),
]
MaxError = Annotated[
    float, typer.Option("--max-error-ratio", min=0.0, help="Stop when the band is this narrow.")
]
TimeBudget = Annotated[
    str, typer.Option("--time-budget", metavar="TIME", callback=_time, help="E.g. 90s, 30m, 2h.")
]
Loads = Annotated[
    str | None,
    typer.Option(
        "--loads", metavar="N,...", callback=_whole, help="Requests in flight; no others."
    ),
]
Rates = Annotated[
    str | None,
    typer.Option("--rate-rps", metavar="R,...", callback=_list, help="Open loop; no others."),
]
Arrivals = Annotated[
    str,
    typer.Option(
        "--arrivals",
        metavar="poisson|gamma:CV|trace",
        callback=_arrivals,
        help="Of open loops; trace: the times of --workload.",
    ),
]
Repeats = Annotated[int, typer.Option("--repeats", min=1, max=20, help="Of every load.")]
KeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="NAME", help="Environment variable with the API key."),
]
MaxNumSeqs = Annotated[
    int | None, typer.Option("--max-num-seqs", min=1, help="The engine's setting, if known.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the arrival times.")]
ProfilesOut = Annotated[
    Path, typer.Option("--profiles", metavar="DIR", help="Profiles folder; made if missing.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Drop what was measured before.")]
