"""The bar on stderr: there where a person looks, silent elsewhere."""

from __future__ import annotations

import sys

import pytest

from planner.cli.progress import progress_bar


def told(capsys: pytest.CaptureFixture[str], show: bool) -> str:
    """What a bar that is moved twice writes."""
    with progress_bar(show, "searching") as moved:
        moved(1, 4, "hypervolume 0.5")
        moved(9, 4, "hypervolume 0.7")
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_nothing_is_written_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, show=True) == ""


def test_on_a_terminal_it_says_what_and_how_far(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    shown = told(capsys, show=True)
    assert "searching" in shown
    assert "4/4" in shown  # never more than all
    assert "hypervolume 0.7" in shown
    assert told(capsys, show=False) == ""
