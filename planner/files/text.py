"""Text in: a regular UTF-8 file of bounded size, or a fault that says why not."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

from planner.errors import Fault

MAX_YAML_BYTES = 2_000_000
MAX_CSV_BYTES = 64_000_000


def shown(path: Path) -> str:
    """Returns a path as the user would write it: relative to the working folder where possible."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()


def read_text(path: Path, max_bytes: int, faults: list[Fault]) -> str | None:
    """Returns the text of a file, without a byte order mark; None after adding a fault."""
    name = shown(path)
    try:
        info = path.stat()
    except FileNotFoundError:
        faults.append(Fault(name, "", "file not found", "create it, or correct the path"))
        return None
    except OSError as error:  # a symlink loop, a denied folder, a name too long
        why = error.strerror or type(error).__name__
        faults.append(Fault(name, "", f"cannot be opened: {why}", "check the path and its links"))
        return None
    if not stat.S_ISREG(info.st_mode):
        faults.append(Fault(name, "", "is not a regular file", "name a file, not a folder"))
        return None
    if info.st_size > max_bytes:
        size = f"got {info.st_size:,} bytes, at most {max_bytes:,} are read"
        faults.append(Fault(name, "", f"file is too large, {size}", "keep only what is needed"))
        return None
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text, got byte 0x{error.object[error.start]:02x} at {error.start}"
        faults.append(Fault(name, "", what, "save the file as UTF-8"))
        return None
    except OSError as error:
        why = error.strerror or type(error).__name__
        faults.append(Fault(name, "", f"cannot be read: {why}", "check its permissions"))
        return None
    if "\x00" in text:
        what = f"is not text, got a NUL byte at {text.index(chr(0))}"
        faults.append(Fault(name, "", what, "save the file as plain text"))
        return None
    return text


def content_hash(parsed: object) -> str:
    """Returns the sha256 (hex) of parsed content: comments, order of keys and spacing do not count (§7)."""
    canonical = json.dumps(parsed, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
