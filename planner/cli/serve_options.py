"""The options of `rb serve`: what each takes, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.offers import among, plans
from planner.cli.options import one_of

_DRAWN = ("random", "round_robin", "fewest_requests", "least_kv", "power_of_two", "vllm")
POLICIES = ("least_delay", *_DRAWN)
RANK_POLICIES = (*_DRAWN, "largest_first", "best_match", "br0", "brh", "lookahead")
GRADERS = ("exact", "regex", "numeric", "choice", "expression")
ROUTINGS = (
    *("shares", "prices"),
    *(f"routebalance:{name}" for name in ("balance", "quality", "latency", "cost")),
)


def _seconds(value: float) -> float:
    if not 0 < value <= 86_400:
        raise typer.BadParameter(f"must lie above 0, up to a day, got {value:g}")
    return value


def _url(value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{value} is no address such as http://localhost:4318")
    return value


# ---- Where ---------------------------------------------------------------------------------------

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="Plan folder with routes.json, as rb plan writes it.",
        autocompletion=plans,
    ),
]
Endpoints = Annotated[
    Path | None,
    typer.Option(
        "--endpoints",
        metavar="FILE",
        help="YAML, pool or model: url, or {url, served_model_name, api_key_env}, or a list. "
        "Default: DIR/endpoints.yaml.",
    ),
]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="To listen on.")]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65_535, help="To listen on; 0: any that is free.")
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=1, max=256, help="Processes on one port.")
]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="NAME",
        help="Environment variable with the key that clients must send.",
    ),
]

# ---- How requests are sent on --------------------------------------------------------------------

RouteBy = Annotated[
    str,
    typer.Option(
        "--route-by",
        metavar="HOW",
        callback=one_of(ROUTINGS),
        autocompletion=among(ROUTINGS),
        help="To pools: shares of the plan, prices (prompt by prompt, needs router.npz), or "
        "routebalance:balance|quality|latency|cost.",
    ),
]
Policy = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="POLICY",
        callback=one_of(POLICIES),
        autocompletion=among(POLICIES),
        help=f"To the instances of a pool: {', '.join(POLICIES)}.",
    ),
]
RankPolicy = Annotated[
    str,
    typer.Option(
        "--rank-policy",
        metavar="POLICY",
        callback=one_of(RANK_POLICIES),
        autocompletion=among(RANK_POLICIES),
        help="To the data-parallel ranks of an instance that has several: "
        f"{', '.join(RANK_POLICIES)}; from largest_first on, requests are held and dealt together.",
    ),
]
Admission = Annotated[
    bool,
    typer.Option(
        "--admission/--no-admission", help="Refuse what exceeds the plan's capacity (429)."
    ),
]
AnsweredBy = Annotated[
    str | None,
    typer.Option(
        "--answered-by",
        metavar="GRADER",
        callback=one_of(GRADERS),
        autocompletion=among(GRADERS),
        help="How a cascade's scores were graded, where it goes by whether an answer was found: "
        f"{', '.join(GRADERS)}.",
    ),
]
Shadow = Annotated[
    bool,
    typer.Option("--shadow", help="Decide and --log, but send every request where it asked to go."),
]

# ---- How long ------------------------------------------------------------------------------------

ConnectTimeout = Annotated[
    float, typer.Option("--connect-timeout-s", metavar="S", callback=_seconds, help="To an engine.")
]
FirstTokenTimeout = Annotated[
    float,
    typer.Option(
        "--first-token-timeout-s", metavar="S", callback=_seconds, help="Of a streamed answer."
    ),
]
AnswerTimeout = Annotated[
    float,
    typer.Option(
        "--answer-timeout-s", metavar="S", callback=_seconds, help="Of an answer that comes whole."
    ),
]
IdleTimeout = Annotated[
    float,
    typer.Option("--idle-timeout-s", metavar="S", callback=_seconds, help="Between two chunks."),
]
Drain = Annotated[
    float,
    typer.Option(
        "--drain-s",
        metavar="S",
        callback=_seconds,
        help="After SIGTERM or Ctrl-C, for what is being answered; a second one ends it at once.",
    ),
]

# ---- What is told --------------------------------------------------------------------------------

Watch = Annotated[
    bool, typer.Option("--watch", help="Show shares, rates, latency and health as they change.")
]
Log = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="One line of JSON per request, without its text."),
]
Otlp = Annotated[
    str | None,
    typer.Option(
        "--otlp",
        metavar="URL",
        callback=_url,
        help="Send a span per request to an OpenTelemetry collector; needs the extra 'otel'.",
    ),
]
