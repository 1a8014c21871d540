"""The command `rb`: its commands, and the one place that maps errors to exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from planner import __version__
from planner.cli import check, diff, init, plan, profile, schema
from planner.errors import ExitCode, InputError, PlannerError

EPILOG = "Exit codes: 0 clean; 1 judged and found wanting; 2 could not judge; 70 a bug of ours."

app = typer.Typer(
    name="rb",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EPILOG,
    help=(
        "Plans which LLMs to serve on which GPUs, how many replicas, and which share of "
        "requests goes where."
    ),
)
app.command(name="init")(init.init)
app.command(name="plan")(plan.plan)
app.command(name="check")(check.check)
app.command(name="diff")(diff.diff)
app.add_typer(profile.app, name="profile")
app.command(name="schema")(schema.schema)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rb {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs `rb` and exits with its code; a user's mistake never shows a traceback."""
    try:
        app()
    except PlannerError as error:
        _report(error)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `rb ... | head` is no fault; python must not complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(ExitCode.CLEAN))
    except Exception:
        import traceback

        traceback.print_exc()
        typer.echo(
            f"\nThis is a bug in rb {__version__}. Please report it with the above.", err=True
        )
        sys.exit(int(ExitCode.OUR_BUG))


def _report(error: PlannerError) -> None:
    typer.echo(str(error), err=True)
    if isinstance(error, InputError) and len(error.faults) > 1:
        typer.echo(f"{len(error.faults)} faults", err=True)
