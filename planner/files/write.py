"""Files out: whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile

from planner.errors import InputError
from planner.files.text import shown

_FIX = {
    errno.ENOSPC: "make room on the disk, or write to another one",
    errno.EDQUOT: "make room within your quota, or write to another disk",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "write to a folder that is not read-only",
    errno.ENAMETOOLONG: "give a shorter name",
}
"""What helps where a system refuses to write, by its reason; else it is the folder."""


def canonical_json(data: object) -> str:
    """Returns JSON text in the order given, two spaces deep, with a final newline (§6)."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new content, never a part.

    The text goes to a temporary file in the same folder, reaches the disk, and is renamed
    over the old one. A kill at any moment leaves the old file whole.

    Raises:
        InputError: the folder cannot be written to.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a binary file as write_text does; raises InputError where it cannot."""
    write_parts(path, (content,))


def check_writable(path: Path) -> None:
    """Returns when a file can be made at a path, as far as its folder tells.

    Raises:
        InputError: the nearest folder that is there is none, or cannot be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        what = f"cannot be written: {shown(folder)} is no folder that you may write to"
        raise InputError.single(shown(path), "", what, "check the folder and its permissions")


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file part by part, whole or not at all; raises InputError where it cannot."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(
            "wb", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        temporary.chmod(mode)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> InputError:
    """Returns what is said of a file that the system refuses to write, with what helps."""
    what = f"cannot be written: {error.strerror or type(error).__name__}"
    fix = _FIX.get(error.errno or 0, "check the folder and its permissions")
    return InputError.single(shown(path), "", what, fix)


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable, where the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse it; the rename itself still holds
        pass
    finally:
        os.close(descriptor)
