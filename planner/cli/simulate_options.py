"""The options of `rb simulate`: what each takes, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.offers import among, plans, pools
from planner.cli.options import one_of

BALANCES = (
    "round_robin",
    "random",
    "fewest_requests",
    "least_kv",
    "power_of_two",
    "vllm",
    "least_delay",
)


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1e6:
        raise typer.BadParameter(f"must lie above 0, up to a million, got {value:g}")
    return value


TraceFile = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE", help="Recorded requests instead of its arrivals."),
]
RateFactor = Annotated[
    float,
    typer.Option("--rate-factor", metavar="X", callback=_positive, help="Times the traffic."),
]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration-s",
        metavar="S",
        callback=_positive,
        help="Of arrivals. Default: one round of a trace or schedule, else half an hour or more.",
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        "--seeds",
        metavar="N",
        min=1,
        max=1000,
        help="Runs: seeds 0 to N - 1; one where a trace tells everything.",
    ),
]
Fail = Annotated[
    list[str] | None,
    typer.Option(
        "--fail",
        metavar="POOL[/N]@t[-t2][xR]",
        autocompletion=pools,
        help="A replica dies at t s (till t2: POOL/3@0-120 is a cold start), or takes R times as "
        "long; the whole run counts then, not the busiest minutes. May be repeated.",
    ),
]
Balance = Annotated[
    str,
    typer.Option(
        "--balance",
        metavar="POLICY",
        callback=one_of(BALANCES),
        autocompletion=among(BALANCES),
        help=f"Between the replicas of a pool: {', '.join(BALANCES)}.",
    ),
]
Period = Annotated[
    str | None,
    typer.Option(
        "--period",
        metavar="NAME",
        help="Which period of a plan with periods; by default the busiest.",
        show_default=False,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="OLD",
        autocompletion=plans,
        help="Play the change from this plan: a folder, or a git revision (main:plans/prod).",
    ),
]
StepS = Annotated[
    float,
    typer.Option(
        "--step-s",
        metavar="S",
        callback=_positive,
        help="With --from: how long each step takes, starting replicas among them.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="One row per request: .csv or .parquet."),
]
