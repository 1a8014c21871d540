"""The command `rb`: its commands, and the one place that maps errors to exit codes."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from planner import __version__
from planner.cli import check, diff, drift, init, plan, profile, router, schema, serve, simulate
from planner.errors import ExitCode, Fault, InputError, PlannerError

INTERRUPTED = 130  # what shells expect after Ctrl-C

app = typer.Typer(
    name="rb",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 clean; 1 judged and found wanting; 2 could not judge; 70 a bug of ours.",
    help=(
        "Plans which LLMs to serve on which GPUs, how many replicas, and which share of "
        "requests goes where."
    ),
)
app.command(name="init")(init.init)
app.command(name="plan")(plan.plan)
app.command(name="simulate")(simulate.simulate)
app.command(name="serve")(serve.serve)
app.command(name="check")(check.check)
app.command(name="diff")(diff.diff)
app.command(name="drift")(drift.drift)
app.add_typer(profile.app, name="profile")
app.add_typer(router.app, name="router")
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
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Returns the exit code of `rb` with the given arguments."""
    try:
        # Outside its standalone mode, typer hands errors and exits over instead of acting itself.
        code = int(app(arguments, prog_name="rb", standalone_mode=False) or 0)
    except PlannerError as error:
        _report(error)
        return int(error.exit_code)
    except typer.Abort:
        code = INTERRUPTED
    except SystemExit:  # `rb ... | head`: whoever reads has gone, which is no fault
        return int(ExitCode.CLEAN)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _unwritten(error)
        return _usage_or_bug(error)
    if code == INTERRUPTED:  # typer has caught the interrupt
        typer.echo("interrupted; nothing was written", err=True)
    return code


def _unwritten(error: OSError) -> int:
    """Returns the exit code where stdout takes no more, e.g. a file on a full disk."""
    # What is still buffered goes nowhere: the interpreter would try again as it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    fault = Fault("stdout", "", f"cannot be written: {error.strerror}", "make room, or write less")
    _report(InputError([fault]))
    return int(ExitCode.COULD_NOT_JUDGE)


def _usage_or_bug(error: Exception) -> int:
    """Returns the exit code of a wrong option, or reports a bug of ours."""
    show = getattr(error, "show", None)  # typer's own click errors; their class is not public
    if callable(show) and hasattr(error, "exit_code"):
        show()
        return int(ExitCode.COULD_NOT_JUDGE)
    import traceback

    traceback.print_exception(error)
    typer.echo(f"\nThis is a bug in rb {__version__}. Please report it with the above.", err=True)
    return int(ExitCode.OUR_BUG)


def _report(error: PlannerError) -> None:
    typer.echo(str(error), err=True)
    if isinstance(error, InputError) and len(error.faults) > 1:
        typer.echo(f"{len(error.faults)} faults", err=True)
