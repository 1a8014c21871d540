"""`rb router ...`: what the router believes of models, and how much of it holds."""

from __future__ import annotations

import typer

from planner.cli import router_eval, router_next, router_show, router_train

app = typer.Typer(help="Train and judge the router.", no_args_is_help=True)

app.command()(router_train.train)
app.command(name="eval")(router_eval.eval_)
app.command()(router_show.show)
app.command(name="next")(router_next.next_)
