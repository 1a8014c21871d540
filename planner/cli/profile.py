"""`rb profile ...`: what the hardware can do."""

from __future__ import annotations

import typer

from planner.cli import profile_estimate, profile_gpu, profile_import, profile_run, profile_show

app = typer.Typer(help="Import and inspect measured profiles.", no_args_is_help=True)

app.command(name="import")(profile_import.import_)
app.command()(profile_run.run)
app.command()(profile_gpu.gpu)
app.command()(profile_estimate.estimate)
app.command()(profile_show.show)
