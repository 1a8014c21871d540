"""`rb completion SHELL`: what makes a shell complete what is typed after `rb`."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.cli.offers import among
from planner.cli.options import one_of
from planner.errors import InputError

SHELLS = ("bash", "zsh", "fish", "powershell")


def need_shell() -> None:
    """Returns where the shell that `rb` was called from is known.

    Raises:
        InputError: it is not, or it is one for which there is no script.
    """
    import shellingham  # type: ignore[import-untyped]

    try:
        shell, _ = shellingham.detect_shell()
    except shellingham.ShellDetectionFailure:
        shell = "none"
    if shell not in (*SHELLS, "pwsh"):
        what = f"knows {', '.join(SHELLS)}, got {shell}"
        fix = "put what rb completion SHELL prints where your shell reads it at its start"
        raise InputError.single("--install-completion", "", what, fix)


def completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="SHELL",
            help=f"One of: {', '.join(SHELLS)}.",
            callback=one_of(SHELLS),
            autocompletion=among(SHELLS),
        ),
    ],
) -> None:
    """Prints what makes a shell complete commands, options, plan folders, pools and targets.

    `rb --install-completion` puts it where the current shell finds it; for one shell alone:
    source <(rb completion bash).

    Example: rb completion zsh > ~/.zfunc/_rb
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="rb", complete_var="_RB_COMPLETE", shell=shell))
