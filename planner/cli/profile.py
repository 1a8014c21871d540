"""`rb profile ...`: what the hardware can do."""

from __future__ import annotations

import typer

from planner.cli import profile_estimate, profile_gpu, profile_import, profile_run, profile_show

app = typer.Typer(help="Measure, import and inspect profiles.", no_args_is_help=True)

for _name, _command, _does in (
    ("run", profile_run.run, "Measures one replica of an OpenAI-compatible server."),
    ("import", profile_import.import_, "Reads results of ten benchmark tools into profiles."),
    ("gpu", profile_gpu.gpu, "Measures this machine's accelerator."),
    ("estimate", profile_estimate.estimate, "Estimates a pool that nobody measured."),
    ("show", profile_show.show, "Shows what was measured, the fit and its error."),
):
    app.command(name=_name, short_help=_does)(_command)
