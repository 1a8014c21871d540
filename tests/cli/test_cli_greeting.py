"""`rb` by itself, and the lists of commands: short, in 80 columns, nothing cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from shell import Run

from planner import __version__
from planner.cli.app import app, run
from planner.cli.greeting import greeting


def test_rb_alone_greets_with_three_commands_that_are_there(rb: Run) -> None:
    done = rb()
    assert (done.code, done.err) == (0, "")
    assert done.out == greeting(__version__)
    commands = re.findall(r"^  rb (\w+) ", done.out, re.M)
    assert commands == ["init", "plan", "check"]
    known = {command.name for command in app.registered_commands}
    assert set(commands) <= known
    rows = done.out.splitlines()
    assert len(rows) <= 8 and max(map(len, rows)) <= 80 and done.out.isascii()


def test_it_leads_to_the_help(rb: Run) -> None:
    assert "rb --help" in rb().out
    assert "Usage: rb" in rb("--help").out


@pytest.mark.parametrize("group", [(), ("profile",), ("router",)])
def test_the_list_of_commands_is_told_in_whole_sentences(rb: Run, group: tuple[str, ...]) -> None:
    out = rb(*group, "--help").out
    listed = out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert len(listed) >= 5
    for row in listed:
        assert re.fullmatch(r"  [a-z]+ +\S.*\.", row), row
        assert not row.endswith("...") and len(row) <= 80


@pytest.mark.parametrize("name", sorted(str(c.name) for c in app.registered_commands))
def test_every_help_fits_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "Example: " in out


def test_every_option_says_what_it_is_for() -> None:
    seen = list(commands_of(typer.main.get_command(app)))
    assert len(seen) >= 20
    for name, command in seen:
        for option in command.params:
            assert option.help and option.help[-1] in ".])", f"rb {name}: {option.name}"


def commands_of(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its name behind `rb`."""
    for word, inner in getattr(command, "commands", {}).items():
        yield from commands_of(inner, f"{name} {word}".strip())
    if not hasattr(command, "commands"):
        yield name, command
