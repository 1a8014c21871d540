"""The README tells the truth: its console example runs, its commands and links exist."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from router_folder import write_router_folder

from planner.cli.app import app, run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)

COMMANDS = [[str(command.name)] for command in app.registered_commands] + [
    [str(group.name), str(c.name or getattr(c.callback, "__name__", "")).strip("_")]
    for group in app.registered_groups
    for c in group.typer_instance.registered_commands
]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("plans/a100", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    write_router_folder(tmp_path / "plans" / "support", signals=False, stock={"h100-sxm-80g": 16})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.mark.slow
def test_console_examples_print_what_the_readme_shows(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other in one checkout, as a reader types them."""
    commands = [c for block in CONSOLE for c in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    assert len(commands) >= 3
    for command in commands:
        line, _, expected = command.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == "rb"
        assert run(arguments) == 0
        assert_same_text(capsys.readouterr().out, expected)


def assert_same_text(shown: str, expected: str) -> None:
    """The words agree exactly, the numbers to 0.2 %: their last digit may differ by processor."""
    found, wanted = shown.split(), expected.split()
    assert len(found) == len(wanted), shown
    for a, b in zip(found, wanted, strict=True):
        x, y = re.sub(r"[$,%():]", "", a), re.sub(r"[$,%():]", "", b)
        try:
            assert float(x) == pytest.approx(float(y), rel=2e-3), (a, b)
        except ValueError:
            assert a == b


def test_the_example_is_there() -> None:
    assert CONSOLE


def test_every_command_is_in_the_readme() -> None:
    assert len(COMMANDS) >= 15
    for words in COMMANDS:
        assert f"`rb {' '.join(words)}" in README, words


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_command_has_an_example_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert run([*name, "--help"]) == 0
        assert "Example: rb " in " ".join(capsys.readouterr().out.split()), name
