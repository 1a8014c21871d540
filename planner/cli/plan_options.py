"""The options of `rb plan`: how hard, by which method, by whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

EFFORTS = ("quick", "standard", "thorough")
METHODS = ("auto", "exact", "mobo", "boute", "routerwise", "enumerate", "local", "random")


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in words:
            raise typer.BadParameter(f"{value} is not one of {', '.join(words)}")
        return value

    return check


Effort = Annotated[
    str,
    typer.Option(
        "--effort",
        metavar="|".join(EFFORTS),
        callback=_one_of(EFFORTS),
        help="How many programs, evaluations and simulations, and how small a proven gap.",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="|".join(METHODS),
        callback=_one_of(METHODS),
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
