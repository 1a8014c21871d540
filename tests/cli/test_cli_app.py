"""The command `rb` as a whole: one command by itself is what it is among all of them."""

from __future__ import annotations

import gc

import pytest
from typer.main import get_command

from planner.cli.app import _COMMANDS, _app_for, _app_with, app, run
from planner.cli.check import _no_collections

ALONE = [name for name, *_ in _COMMANDS]


def test_only_the_command_that_is_asked_for_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [c.name for c in _app_for(["check", "plans/demo"]).registered_commands] == ["check"]
    for arguments in ([], ["--help"], ["chek"], ["profile", "show"], ["-x", "check"]):
        assert _app_for(arguments) is app
    monkeypatch.setenv("_RB_COMPLETE", "complete_bash")  # a shell asks for all of them
    assert _app_for(["check"]) is app


def test_alone_it_has_the_same_help(capsys: pytest.CaptureFixture[str]) -> None:
    whole = get_command(app)
    for name in ALONE:
        assert run([name, "--help"]) == 0
        said = capsys.readouterr().out
        assert whole.main([name, "--help"], prog_name="rb", standalone_mode=False) == 0
        assert said == capsys.readouterr().out and said.startswith(f"Usage: rb {name} ")


@pytest.mark.parametrize("line", [["check"], ["check", "--polcy", "x"], ["diff", "a"]])
def test_alone_it_says_the_same_of_what_is_wrong(
    line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    said = capsys.readouterr().err
    monkeypatch.setattr("planner.cli.app._app_for", lambda arguments: app)
    assert run(line) == 2
    assert said == capsys.readouterr().err and said.startswith(f"Usage: rb {line[0]} ")


def test_the_version_needs_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert _app_with([]).registered_commands == []
    assert run(["--version"]) == 0 and capsys.readouterr().out.startswith("rb ")


def test_garbage_is_collected_again_afterwards() -> None:
    def fails() -> None:
        with _no_collections():
            assert not gc.isenabled()
            raise ValueError("a fault")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="a fault"):
        fails()
    assert gc.isenabled()
    gc.disable()
    try:
        with _no_collections():
            pass
        assert not gc.isenabled()  # whoever has switched it off
    finally:
        gc.enable()
