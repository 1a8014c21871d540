"""The command `rb`: its commands, and the one place that maps errors to exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, TextIO

import typer

from planner import __version__
from planner.cli import (
    check,
    completion,
    diff,
    drift,
    export,
    init,
    plan,
    profile,
    report,
    router,
    schema,
    serve,
    simulate,
)
from planner.cli.greeting import greeting
from planner.errors import ExitCode, Fault, InputError, PlannerError

COMPLETING = "_RB_COMPLETE"  # set by a shell that asks what to offer
INTERRUPTED = 130  # what shells expect after Ctrl-C


_COMMANDS = (  # in the order in which they are needed; what each does fits one line of 80 columns
    ("init", init.init, "Writes a commented question, the start of a plan."),
    ("plan", plan.plan, "Answers the question: deployment, routes, proof."),
    ("simulate", simulate.simulate, "Tries a plan, request by request."),
    ("check", check.check, "Judges a plan, and a change of it, without solving."),
    ("diff", diff.diff, "Shows what changes from one plan to another."),
    ("report", report.report, "Explains a plan on one page that needs no network."),
    ("export", export.export, "Writes the files of what runs a plan."),
    ("serve", serve.serve, "Serves a plan: one address in front of all pools."),
    ("drift", drift.drift, "Judges real traffic against the plan that serves it."),
    ("schema", schema.schema, "Prints the JSON Schema of a file kind."),
    ("completion", completion.completion, "Prints what makes a shell complete commands."),
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rb {__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(greeting(__version__), nl=False)


def _app_with(commands: Iterable[tuple[str, Callable[..., None], str]]) -> typer.Typer:
    """Returns `rb` with some of its commands."""
    made = typer.Typer(
        name="rb",
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog=(
            "Exit codes: 0 clean; 1 judged and found wanting; 2 could not judge; 70 a bug of ours."
        ),
        help=(
            "Plans which LLMs to serve on which GPUs, how many replicas, and which share of "
            "requests goes where."
        ),
    )
    made.callback(invoke_without_command=True)(_options)
    for name, command, does in commands:
        made.command(name=name, short_help=does)(command)
    return made


app = _app_with(_COMMANDS)
app.add_typer(profile.app, name="profile")
app.add_typer(router.app, name="router")


def _app_for(arguments: Sequence[str]) -> typer.Typer:
    """Returns `rb`, with no more than the command that is asked for where one is.

    What typer makes of the options of all the others takes as long as some commands do.
    """
    asked = [each for each in _COMMANDS if each[0] in arguments[:1]]
    return _app_with(asked) if asked and COMPLETING not in os.environ else app


def main() -> None:
    """Runs `rb` and exits with its code; a user's mistake never shows a traceback."""
    # What is valid follows from the files alone: nothing that is installed beside rb has a say,
    # and pydantic need not look through every package for it.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Returns the exit code of `rb` with the given arguments."""
    try:
        if arguments[:1] == ["--install-completion"]:
            completion.need_shell()
        # Outside its standalone mode, typer hands errors and exits over instead of acting itself.
        code = int(_app_for(arguments)(arguments, prog_name="rb", standalone_mode=False) or 0)
    except PlannerError as error:
        _report(error)
        return int(error.exit_code)
    except typer.Abort:
        code = INTERRUPTED
    except SystemExit as left:
        if COMPLETING in os.environ:  # fish reads the answer from it
            return int(left.code or 0)
        return int(ExitCode.CLEAN)  # `rb ... | head`: whoever reads has gone, which is no fault
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _unwritten(error)
        return _usage_or_bug(error)
    if code == INTERRUPTED:  # typer has caught the interrupt
        typer.echo("interrupted; nothing was written", err=True)
    return code


def _unwritten(error: OSError) -> int:
    """Returns the exit code where stdout takes no more, e.g. a file on a full disk."""
    _drop(sys.__stdout__)
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


def _drop(stream: TextIO | None) -> None:
    """Lets what is still buffered go nowhere: the interpreter would try again as it ends."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report(error: PlannerError) -> None:
    try:
        typer.echo(str(error), err=True)
        if isinstance(error, InputError) and len(error.faults) > 1:
            typer.echo(f"{len(error.faults)} faults", err=True)
    except OSError:  # stderr takes nothing: the exit code says it all
        _drop(sys.__stderr__)
