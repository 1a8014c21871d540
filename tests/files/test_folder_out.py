from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from planner.errors import InputError
from planner.files.folder_out import other_files, write_files


def below(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def test_files_are_written_below_a_folder_that_is_made(tmp_path):
    texts = {"a.txt": "one\n", "deep/er/b.txt": "zwei €\n"}
    paths = write_files(tmp_path / "new" / "place", texts)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "new/place/a.txt",
        "new/place/deep/er/b.txt",
    ]
    assert below(tmp_path / "new" / "place") == texts


def test_a_disk_that_fills_up_midway_changes_nothing(tmp_path, monkeypatch):
    write_files(tmp_path, {"a": "old a", "b": "old b"})
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("planner.files.folder_out.os.fsync", full)
    with pytest.raises(InputError, match="b: cannot be written: No space left"):
        write_files(tmp_path, {"a": "new a", "b": "new b"})
    assert below(tmp_path) == {"a": "old a", "b": "old b"}  # and nothing half-made beside them


def test_who_interrupts_it_finds_nothing_changed(tmp_path, monkeypatch):
    write_files(tmp_path, {"a": "old a", "b": "old b"})
    calls = []

    def interrupted(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("planner.files.folder_out.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path, {"a": "new a", "b": "new b"})
    assert below(tmp_path) == {"a": "old a", "b": "old b"}


def test_a_folder_in_the_way_changes_nothing(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="b: cannot be written"):
        write_files(tmp_path, {"a": "x", "b": "y"})
    assert below(tmp_path) == {}


def test_a_file_in_the_way_of_a_folder_is_a_fault(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_files(tmp_path, {"a/b": "x"})
    assert below(tmp_path) == {"a": "a file"}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ""])
def test_nothing_is_written_elsewhere(tmp_path, name):
    with pytest.raises(ValueError, match="not a path below a folder"):
        write_files(tmp_path / "here", {name: "x"})
    assert below(tmp_path) == {}


def test_permissions_of_a_file_stay(tmp_path):
    write_files(tmp_path, {"a": "1"})
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    (tmp_path / "a").chmod(0o755)
    write_files(tmp_path, {"a": "2"})
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def test_what_else_lies_there_is_named_but_for_hidden_files(tmp_path):
    write_files(tmp_path, {"a": "", "old/b": "", ".git/c": "", "old/.d": "", "z": ""})
    assert other_files(tmp_path, {"a": ""}) == ("old/b", "z")
    assert other_files(tmp_path / "none", {}) == ()
