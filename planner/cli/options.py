"""The options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PlanFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Plan folder with question.yaml.")]
ProfilesFolder = Annotated[
    Path | None,
    typer.Option(
        "--profiles",
        metavar="DIR",
        help="Profiles folder. Default: 'profiles' beside the plan's parent or here.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Data on stdout, talk on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
