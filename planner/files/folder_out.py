"""Several files out at once: all of them, or none; and nothing is lost that a person changed.

Beside the files lies a record of what was written, in the form of sha256sum. By it the next export
knows a file that somebody has changed since, which it keeps under another name, and files of its
own that it does not write any more, which it names.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile

from planner.errors import InputError
from planner.files.write import not_written

RECORD = ".rb-export"
KEPT = ".kept"
_FOLDER_MODE, _FILE_MODE = 0o755, 0o644
"""Whoever runs the containers reads them, whatever the umask of the one who exports."""


@dataclass(frozen=True)
class Written:
    """What became of a folder; names are below it, with forward slashes."""

    names: tuple[str, ...]  # of the files that were written, the record last
    kept: tuple[tuple[str, str], ...]
    """Files that somebody had changed, and the name that what was in them has now."""
    left: tuple[str, ...]  # files of earlier exports that this one does not write


def write_files(folder: Path, texts: Mapping[str, str]) -> Written:
    """Writes files below a folder, made where it is not there; returns what became of it.

    All texts reach the disk under other names before the first file takes its own, so that a full
    disk, a missing permission or Ctrl-C leaves everything as it was.

    Args:
        folder: where they go.
        texts: by path below it, with forward slashes.

    Raises:
        InputError: a file cannot be written; nothing has changed.
    """
    contents = {name: text.encode("utf-8") for name, text in texts.items()}
    there = {name: _content(_below(folder, name)) for name in contents}
    known = _recorded(folder)
    changed = [
        name
        for name, old in there.items()
        if old is not None and old != contents[name] and _digest(old) != known.get(name)
    ]
    kept = {name: _free_name(folder, name) for name in changed}
    left = tuple(n for n in known if n not in contents and _below(folder, n).is_file())
    lines = {n: known[n] for n in left} | {n: _digest(c) for n, c in contents.items()}
    record = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines.items()))
    copies = {copy: there[name] or b"" for name, copy in kept.items()}
    modes = {copy: _mode(_below(folder, name)) for name, copy in kept.items()}
    _write_all(folder, {**copies, **contents, RECORD: record.encode("utf-8")}, modes)
    return Written((*contents, RECORD), tuple(kept.items()), left)


def _write_all(folder: Path, contents: Mapping[str, bytes], modes: Mapping[str, int]) -> None:
    """Writes all of some files below a folder, or leaves them all as they were.

    Those without a mode of their own have that of the file that was there.
    """
    before = {_below(folder, name): _content(_below(folder, name)) for name in contents}
    staged: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for name, content in contents.items():
            at = _below(folder, name)
            with _told_of(at):
                _make_folder(at.parent, made)
                staged.append((_staged(at, content, modes.get(name, _mode(at))), at))
        with _ctrl_c_later():
            _rename(staged, before)
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
        for each in reversed(made):
            with suppress(OSError):  # it is not empty: all went well
                each.rmdir()


def _rename(staged: Sequence[tuple[Path, Path]], before: Mapping[Path, bytes | None]) -> None:
    """Gives all staged files their names; takes all back where one cannot have its own."""
    done: dict[Path, int] = {}
    try:
        for temporary, at in staged:
            mode = _mode(at)
            with _told_of(at):
                temporary.replace(at)
            done[at] = mode
    except InputError:
        for at, mode in done.items():
            old = before[at]
            with suppress(OSError):
                at.unlink() if old is None else _staged(at, old, mode).replace(at)
        raise


# ---- What lies there -----------------------------------------------------------------------------


def _content(at: Path) -> bytes | None:
    """Returns what is in a file that may be overwritten; None where there is none."""
    with _told_of(at):
        if not at.exists():
            return None
        if at.is_dir():
            raise IsADirectoryError(21, "is a folder")
        if not at.is_file():  # a pipe would be waited for
            raise FileExistsError(17, "is there, and is no file")
        return at.read_bytes()


def _recorded(folder: Path) -> dict[str, str]:
    """Returns the digests of the files that earlier exports wrote, by name."""
    text = (_content(folder / RECORD) or b"").decode("utf-8", errors="replace")
    lines = re.findall(r"^([0-9a-f]{64})  (\S.*)$", text, re.MULTILINE)
    return {name: digest for digest, name in lines if _is_below(name)}


def _free_name(folder: Path, name: str) -> str:
    """Returns a name beside a file that nothing there has."""
    found, n = f"{name}{KEPT}", 1
    while os.path.lexists(_below(folder, found)):
        n += 1
        found = f"{name}{KEPT}-{n}"
    return found


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _is_below(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts


def _below(folder: Path, name: str) -> Path:
    if not _is_below(name):
        raise ValueError(f"not a path below a folder: {name}")
    return folder.joinpath(*PurePosixPath(name).parts)


# ---- Writing -------------------------------------------------------------------------------------


@contextmanager
def _told_of(at: Path) -> Iterator[None]:
    """Says of which file it is that the system does not do what is asked."""
    try:
        yield
    except OSError as error:
        raise not_written(at, error) from error


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Lets Ctrl-C wait until the block is done; only the main thread ever hears of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if pressed and callable(before):  # not where it is ignored
        before(pressed[0], None)


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Makes a folder and those that it lies in; adds the new ones, outermost first."""
    for each in reversed((folder, *folder.parents)):
        if not each.exists():
            each.mkdir(exist_ok=True)
            made.append(each)
            each.chmod(_FOLDER_MODE)


def _mode(path: Path) -> int:
    """Returns the permissions of a file, those of a new one where there is none."""
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return _FILE_MODE


def _staged(path: Path, content: bytes, mode: int) -> Path:
    """Returns a file beside the one that is to be, with its content on the disk."""
    with NamedTemporaryFile(
        "wb", dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(mode)
        except BaseException:  # Ctrl-C, too
            temporary.unlink(missing_ok=True)
            raise
    return temporary
