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

app.command()(router_collect.collect)
app.command(name="import")(router_import.import_)
app.command()(router_train.train)
app.command(name="eval")(router_eval.eval_)
app.command()(router_show.show)
app.command(name="next")(router_next.next_)
