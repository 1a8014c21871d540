"""Text in: a regular UTF-8 file of bounded size, or a fault that says why not."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from planner.errors import Fault

MAX_YAML_BYTES = 1_000_000
MAX_CSV_BYTES = 64_000_000
MAX_PROMPTS_BYTES = 512_000_000  # scores of 100,000 prompts by 40 models, or the prompts themselves


def shown(path: Path) -> str:
    """Returns a path as the user would write it: relative to the working folder where possible."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder; a path that no system could hold is none."""
    try:
        return path.is_dir()
    except OSError:  # e.g. a name too long
        return False


def is_there(path: Path) -> bool:
    """Returns whether a path leads to something, followed through links."""
    try:
        return path.exists()
    except OSError:
        return False


def is_link(path: Path) -> bool:
    """Returns whether a path is a link, be it to nothing."""
    try:
        return path.is_symlink()
    except OSError:
        return False


def read_text(path: Path, max_bytes: int, faults: list[Fault]) -> str | None:
    """Returns the text of a file, without a byte order mark; None after adding a fault."""
    try:
        data = _bounded(path, max_bytes)
        text = data.decode("utf-8-sig")
        if "\x00" in text:
            what = f"is not text, got a NUL byte at {text.index(chr(0))}"
            raise _UnreadableError(what, "save the file as plain text")
    except _UnreadableError as error:
        faults.append(Fault(shown(path), "", error.what, error.fix))
        return None
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text, got byte 0x{error.object[error.start]:02x} at {error.start}"
        faults.append(Fault(shown(path), "", what, "save the file as UTF-8"))
        return None
    return text


def read_bytes(path: Path, max_bytes: int, faults: list[Fault]) -> bytes | None:
    """Returns the bytes of a regular file of bounded size; None after adding a fault."""
    try:
        return _bounded(path, max_bytes)
    except _UnreadableError as error:
        faults.append(Fault(shown(path), "", error.what, error.fix))
        return None


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def lines(text: str) -> Iterator[str]:
    """Yields the lines of a text with their ends, without a second copy of the text."""
    return (match.group() for match in _LINE.finditer(text))


class _UnreadableError(Exception):
    """A file that is not taken as it is: what is wrong, and what to do about it."""

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(what)


def _bounded(path: Path, max_bytes: int) -> bytes:
    """Returns the bytes of a regular file of bounded size.

    Raises:
        _UnreadableError: there is none, or it cannot be had.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise _UnreadableError("is not a regular file", "name a file, not a folder")
        if info.st_size > max_bytes:
            size = f"got {info.st_size:,} bytes, at most {max_bytes:,} are read"
            raise _UnreadableError(f"file is too large, {size}", "keep only what is needed")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _UnreadableError("file not found", "create it, or correct the path") from error
    except OSError as error:  # a symlink loop, a denied folder, a name too long
        why = error.strerror or type(error).__name__
        fix = "check the path, its links and its permissions"
        raise _UnreadableError(f"cannot be read: {why}", fix) from error


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str)


def content_hash(parsed: object) -> str:
    """Returns the sha256 (hex) of parsed content, without comments, key order, spacing (§7)."""
    canonical = _CANONICAL.encode(parsed)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


class ListHash:
    """The content hash of a list whose items come one by one, so that it need not be kept."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"[")
        self._separator = b""

    def add(self, item: object) -> None:
        """Takes the next item in."""
        canonical = _CANONICAL.encode(item)
        self._hash.update(self._separator + canonical.encode("utf-8", "surrogatepass"))
        self._separator = b", "

    def hexdigest(self) -> str:
        """Returns content_hash of the list of all items so far."""
        whole = self._hash.copy()
        whole.update(b"]")
        return whole.hexdigest()
