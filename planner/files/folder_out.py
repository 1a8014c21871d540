"""Several files out at once: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile

from planner.errors import InputError
from planner.files.text import shown


def write_files(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    """Writes files below a folder, made where it is not there; returns their paths.

    All texts reach the disk under other names before the first file takes its own, so that a full
    disk or a missing permission leaves everything as it was.

    Args:
        folder: where they go.
        texts: by path below it, with forward slashes.

    Raises:
        InputError: a file cannot be written; nothing has changed but empty folders.
    """
    targets = {_below(folder, name): text for name, text in texts.items()}
    staged: list[tuple[Path, Path]] = []
    at = folder
    try:
        for at, text in targets.items():
            at.parent.mkdir(parents=True, exist_ok=True)
            if at.is_dir():
                raise IsADirectoryError(21, "is a folder")
            staged.append((_staged(at, text), at))
        for temporary, at in staged:
            temporary.replace(at)
    except OSError as error:
        why = error.strerror or type(error).__name__
        what, fix = f"cannot be written: {why}", "check the folder and its permissions"
        raise InputError.single(shown(at), "", what, fix) from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
    return tuple(targets)


def other_files(folder: Path, names: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the files below a folder that are not among some names, in order; hidden ones not."""
    if not folder.is_dir():
        return ()
    found = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return tuple(
        name
        for name in found
        if name not in names and not any(part.startswith(".") for part in name.split("/"))
    )


def _below(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ValueError(f"not a path below a folder: {name}")
    return folder.joinpath(*parts)


def _staged(path: Path, text: str) -> Path:
    """Returns a file beside the one that is to be, with its text on the disk."""
    with NamedTemporaryFile(
        "wb", dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        except BaseException:  # Ctrl-C, too
            temporary.unlink(missing_ok=True)
            raise
    return temporary
