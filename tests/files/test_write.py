"""Files are written whole or not at all, and the same content gives the same bytes."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import planner
from planner.errors import InputError
from planner.files.plans import PLAN_FILE, ROUTES_FILE, write_plan
from planner.files.write import canonical_json, write_text

OLD = "the old plan\n"

# Writes a file and stops for good at the moment at which the named function is called.
STOPPED = """
import os, pathlib, sys, time
from planner.files.write import write_text
stop_at, path = sys.argv[1:]
def stop(*_args, **_options):
    print("stopped", flush=True)
    time.sleep(60)
if stop_at == "fsync":
    os.fsync = stop
else:
    pathlib.Path.replace = stop
write_text(pathlib.Path(path), "x" * 5_000_000)
"""


def killed_while_writing(path: Path, stop_at: str) -> None:
    """Starts a process that writes to a path and kills it, kill -9, in the middle of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, stop_at, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(planner.__file__).parent.parent)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(timeout=20) == -signal.SIGKILL
        process.stdout.close()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("stop_at", ["fsync", "replace"])
def test_a_kill_leaves_the_old_file_whole(tmp_path, stop_at):
    path = tmp_path / "plan.json"
    path.write_text(OLD)
    killed_while_writing(path, stop_at)
    assert path.read_text() == OLD
    write_text(path, "new\n")  # what the killed process left behind is in nobody's way
    assert path.read_text() == "new\n"


@pytest.mark.parametrize("stop_at", ["fsync", "replace"])
def test_a_kill_leaves_no_half_file_under_the_final_name(tmp_path, stop_at):
    path = tmp_path / "plan.json"
    killed_while_writing(path, stop_at)
    assert not path.exists()
    rest = list(tmp_path.iterdir())
    assert rest  # the process was indeed in the middle of it
    assert all(p.name.startswith(".plan.json.") and p.name.endswith(".part") for p in rest)


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    path.write_text(OLD)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"plan\.json: cannot be written: No space left"):
        write_text(path, "new\n")
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    path.write_text(OLD)

    def interrupted(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new\n")
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_one_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"a\.txt: cannot be written: .*\n  fix: ") as caught:
        write_text(tmp_path / "file" / "a.txt", "new\n")
    assert len(caught.value.faults) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_the_users_mistake(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        write_text(tmp_path / "a.txt", "new\n")
    tmp_path.chmod(0o700)


def test_a_read_only_file_system_is_the_users_mistake(tmp_path, monkeypatch):
    import planner.files.write as writing

    def denied(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(writing, "NamedTemporaryFile", denied)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        write_text(tmp_path / "a.txt", "new\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENOSPC, "make room on the disk"), (errno.EROFS, "write to a folder that is not")],
)
def test_the_fix_is_that_of_the_reason(tmp_path, monkeypatch, number, fix):
    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=f"cannot be written: .*\n  fix: {fix}"):
        write_text(tmp_path / "a.txt", "new\n")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_a_folder_is_kept(tmp_path):
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "plan.json", "new\n")
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_are_kept(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text(OLD)
    path.chmod(mode)
    write_text(path, "new\n")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_can_be_read_by_all(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "new\n")
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c.txt").stat().st_mode) == 0o644


def test_a_reader_never_sees_a_part(tmp_path):
    """An open file keeps its old content; the new one is there at once."""
    path = tmp_path / "a.txt"
    path.write_text(OLD)
    with path.open() as reader:
        write_text(path, "new\n")
        assert reader.read() == OLD
    assert path.read_text() == "new\n"


def test_text_is_written_as_utf_8_without_changes(tmp_path):
    write_text(tmp_path / "a.txt", "ä €\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä €\r\n\n".encode()


def test_the_same_plan_gives_the_same_bytes(tmp_path, demo_plan):
    for name in ("first", "second"):
        write_plan(tmp_path / name, demo_plan)
        time.sleep(0.01)
    for file in (PLAN_FILE, ROUTES_FILE):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("first", "second"))
        assert first == second
        assert first.endswith(b"}\n")


def test_a_plan_says_nothing_of_when_and_where_it_was_made(tmp_path, demo_plan):
    write_plan(tmp_path, demo_plan)
    text = (tmp_path / PLAN_FILE).read_text() + (tmp_path / ROUTES_FILE).read_text()
    assert str(tmp_path) not in text
    assert "/" + str(Path.home()).strip("/") + "/" not in text
    assert re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d", text) is None


def test_json_keeps_order_and_refuses_what_json_does_not_know():
    assert canonical_json({"b": 1.5, "a": "ü"}) == '{\n  "b": 1.5,\n  "a": "ü"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
