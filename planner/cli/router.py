"""`rb router ...`: what the router believes of models, and how much of it holds."""

from __future__ import annotations

import typer

from planner.cli import (
    router_collect,
    router_eval,
    router_import,
    router_next,
    router_show,
    router_train,
)

app = typer.Typer(help="Collect scores; train and judge the router.", no_args_is_help=True)

for _name, _command, _does in (
    ("collect", router_collect.collect, "Asks models prompts, grades the answers; resumes."),
    ("import", router_import.import_, "Reads scores of other tools' logs and tables."),
    ("train", router_train.train, "Learns from scores what to believe."),
    ("eval", router_eval.eval_, "Judges the router on prompts that it never saw."),
    ("show", router_show.show, "Shows why a prompt goes to a model, in money."),
    ("next", router_next.next_, "Says which answers to score next."),
):
    app.command(name=_name, short_help=_does)(_command)
