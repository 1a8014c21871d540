from __future__ import annotations

import errno
import hashlib
import os
import signal
import threading
from pathlib import Path

import pytest

from planner.errors import InputError
from planner.files.folder_out import RECORD, Written, write_files


def below(folder: Path) -> dict[str, str]:
    """Every file below a folder but the record."""
    return {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in folder.rglob("*")
        if p.is_file() and p.name != RECORD
    }


def test_files_are_written_below_a_folder_that_is_made(tmp_path):
    texts = {"a.txt": "one\n", "deep/er/b.txt": "zwei €\n"}
    written = write_files(tmp_path / "new" / "place", texts)
    assert written == Written(("a.txt", "deep/er/b.txt", RECORD), kept=(), left=())
    assert below(tmp_path / "new" / "place") == texts


def test_the_record_is_what_sha256sum_checks(tmp_path):
    write_files(tmp_path, {"b c": "zwei €\n", "a": "one\n"})
    sums = {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a", "b c")
    }
    assert (tmp_path / RECORD).read_text() == "".join(f"{sums[n]}  {n}\n" for n in ("a", "b c"))


def test_a_disk_that_fills_up_midway_changes_nothing(tmp_path, monkeypatch):
    write_files(tmp_path, {"a": "old a", "b": "old b"})
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("planner.files.folder_out.os.fsync", full)
    with pytest.raises(InputError, match=r"b: cannot be written: No space left[^\0]*make room"):
        write_files(tmp_path, {"new/er/a": "new a", "b": "new b"})
    assert below(tmp_path) == {"a": "old a", "b": "old b"}  # and nothing half-made beside them
    assert not (tmp_path / "new").exists()


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


def test_whoever_runs_it_may_read_what_was_written(tmp_path):
    """The router's container is another user, and a umask of 077 is nobody's mistake."""
    (tmp_path / "mine").mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        write_files(tmp_path / "out", {"plan/a": "1"})
        write_files(tmp_path / "mine", {"a": "1"})
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "out").rglob("*")}
    assert modes == {"plan": 0o755, "a": 0o644, RECORD: 0o644}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700  # what was there stays as it is


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("how", ["refused", "interrupted"])
def test_no_half_of_the_files_is_new(tmp_path, monkeypatch, at, how):
    """A rename may fail (a file that must not change), and Ctrl-C come between two of them."""
    write_files(tmp_path, {"a": "old a", "c": "old c"})
    record = (tmp_path / RECORD).read_text()
    rename, calls = Path.replace, []

    def disturbed(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == at and how == "refused":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", disturbed)
    texts = {"a": "new a", "b": "new b", "c": "new c"}
    if how == "refused":
        with pytest.raises(InputError, match=f"{'abc'[at - 1]}: cannot be written: Operation not"):
            write_files(tmp_path, texts)
        assert below(tmp_path) == {"a": "old a", "c": "old c"}
        assert (tmp_path / RECORD).read_text() == record
    else:  # what was begun is finished, then Ctrl-C is heard
        with pytest.raises(KeyboardInterrupt):
            write_files(tmp_path, texts)
        assert below(tmp_path) == texts
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_writes_too(tmp_path):
    thread = threading.Thread(target=write_files, args=(tmp_path, {"a": "1"}))
    thread.start()
    thread.join()
    assert below(tmp_path) == {"a": "1"}


def test_what_a_person_changed_is_kept_under_another_name(tmp_path):
    write_files(tmp_path, {"a": "one", "d/b": "two", "c": "three"})
    (tmp_path / "d" / "b").write_text("by hand")
    (tmp_path / "d" / "b").chmod(0o600)
    (tmp_path / "c").write_text("new three")  # what would be written anyway
    written = write_files(tmp_path, {"a": "new one", "d/b": "new two", "c": "new three"})
    assert written.kept == (("d/b", "d/b.kept"),)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "d").iterdir()}
    assert modes == {"b": 0o600, "b.kept": 0o600}  # it may hold what others must not see
    assert below(tmp_path) == {
        "a": "new one", "d/b": "new two", "c": "new three", "d/b.kept": "by hand",
    }  # fmt: skip
    (tmp_path / "d" / "b").write_text("by hand again")
    written = write_files(tmp_path, {"d/b": "newer"})
    assert written.kept == (("d/b", "d/b.kept-2"),)
    assert below(tmp_path)["d/b.kept-2"] == "by hand again"
    assert below(tmp_path)["d/b.kept"] == "by hand"
    assert write_files(tmp_path, {"d/b": "newest"}).kept == ()


def test_a_file_that_was_there_before_any_export_is_kept(tmp_path):
    (tmp_path / "a").write_text("mine")
    assert write_files(tmp_path, {"a": "1"}).kept == (("a", "a.kept"),)
    (tmp_path / RECORD).write_text("0" * 64 + "  a\n\x00 ? \n" + "0" * 64 + "  ../../a\n")
    assert write_files(tmp_path, {"a": "2"}).kept == (("a", "a.kept-2"),)
    assert below(tmp_path) == {"a": "2", "a.kept": "mine", "a.kept-2": "1"}


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "elsewhere").write_text("theirs")
    place = tmp_path / "out"
    place.mkdir()
    (place / "a").symlink_to(tmp_path / "elsewhere")
    (place / "b").symlink_to(tmp_path / "nowhere")
    written = write_files(place, {"a": "1", "b": "2"})
    assert written.kept == (("a", "a.kept"),)
    assert below(place) == {"a": "1", "b": "2", "a.kept": "theirs"}
    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert not (tmp_path / "nowhere").exists()


def test_a_pipe_in_the_way_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(InputError, match="a: cannot be written: is there, and is no file"):
        write_files(tmp_path, {"a": "1"})


def test_files_of_an_earlier_export_are_named_until_they_are_gone(tmp_path):
    write_files(tmp_path, {"a": "1", "old/b": "2", ".env.example": "3"})
    (tmp_path / "theirs").write_text("")  # of nobody's export
    for _ in range(2):
        assert write_files(tmp_path, {"a": "1"}).left == (".env.example", "old/b")
    (tmp_path / "old" / "b").unlink()
    assert write_files(tmp_path, {"a": "1"}).left == (".env.example",)
    assert write_files(tmp_path, {"a": "1", ".env.example": "4"}).left == ()
    assert write_files(tmp_path / "none", {}).names == (RECORD,)
