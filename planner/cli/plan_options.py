"""The options of `rb plan`: how hard, by which method, by whom."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.cli.offers import among
from planner.cli.options import one_of

EFFORTS = ("quick", "standard", "thorough")
METHODS = ("auto", "exact", "mobo", "boute", "routerwise", "enumerate", "local", "random")


Effort = Annotated[
    str,
    typer.Option(
        "--effort",
        metavar="|".join(EFFORTS),
        callback=one_of(EFFORTS),
        autocompletion=among(EFFORTS),
        help="How many programs, evaluations and simulations, and how small a proven gap.",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="|".join(METHODS),
        callback=one_of(METHODS),
        autocompletion=among(METHODS),
        help=(
            "auto: all of a small box, else the exact front and local search around it; "
            "exact: that front alone; mobo: auto with many more simulations; "
            "boute, routerwise: as published."
        ),
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")]
Processes = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes that simulate; by default one per core. The answer is the same.",
        show_default=False,
    ),
]
RayCluster = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Simulate on a Ray cluster instead: host:port, or auto for the one at hand.",
        show_default=False,
    ),
]
