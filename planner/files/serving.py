"""What `rb serve` reads, watches and leaves behind: a plan folder, endpoints, logs, sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import Fault
from planner.files.endpoints import read_endpoints
from planner.files.plans import PLAN_FILE, ROUTES_FILE, read_plan, read_routes
from planner.files.sheets import SHEET_FILE, read_sheet
from planner.files.text import is_folder, is_link, is_there, shown
from planner.spec.endpoints import Server
from planner.spec.plan import Routes
from planner.spec.sheet import ServingSheet

if TYPE_CHECKING:
    from planner.spec.router import Router

ENDPOINTS_FILE = "endpoints.yaml"
_LONGEST_SOCKET_FOLDER = 80  # bytes; the path of a socket has at most 103 on some systems
_ROUTER_FILE = "router.npz"  # as in files/router.py, which loads numpy


@dataclass(frozen=True)
class ServingFiles:
    """What a plan folder and its endpoints say."""

    routes: Routes
    endpoints: dict[str, tuple[Server, ...]]
    sheet: ServingSheet | None
    models: dict[str, str]  # by pool; of plan.json, where there is no sheet
    router: Router | None


def read_serving(folder: Path, endpoints: Path, faults: list[Fault]) -> ServingFiles | None:
    """Returns what is to be served where; None after adding the faults of every file.

    A folder without serving.json or router.npz is served without them.
    """
    n_before = len(faults)
    routes = read_routes(folder, faults)
    # A folder that is not there has been told of, and so has all that would lie in it.
    is_gone = endpoints.parent == folder and not is_folder(folder)
    servers = {} if is_gone else _read_endpoints(endpoints, faults)
    sheet, models, router = None, {}, None
    if _is_given(folder / SHEET_FILE):
        sheet = read_sheet(folder, faults)
    elif _is_given(folder / PLAN_FILE):
        plan = read_plan(folder, faults)
        models = {} if plan is None else {d.pool: d.model_name for d in plan.deployment}
    if _is_given(folder / _ROUTER_FILE):
        from planner.files.router import read_router

        router = read_router(folder / _ROUTER_FILE, faults)
    if routes is None or len(faults) > n_before:
        return None
    return ServingFiles(routes, servers, sheet, models, router)


def _read_endpoints(path: Path, faults: list[Fault]) -> dict[str, tuple[Server, ...]]:
    if _is_given(path):
        return read_endpoints(path, faults)
    fix = "write a line 'POOL: http://HOST:PORT' for each pool of the plan, or name another file"
    faults.append(Fault(shown(path), "", "file not found", fix))
    return {}


def _is_given(path: Path) -> bool:
    return is_there(path) or is_link(path)


# ---- Watched -------------------------------------------------------------------------------------

Signature = tuple[tuple[int, int, int] | None, ...]
"""What tells that a file is another than before: when it was written, its size, its number."""


def watched_files(folder: Path, endpoints: Path) -> tuple[Path, ...]:
    """Returns the files whose change is a change of what is served."""
    return (*(folder / name for name in (ROUTES_FILE, SHEET_FILE, _ROUTER_FILE)), endpoints)


def signature(paths: Iterable[Path]) -> Signature:
    """Returns what tells whether one of some files has changed; None where there is none."""
    return tuple(_signature(path) for path in paths)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


# ---- Left behind ---------------------------------------------------------------------------------


def append_bytes(path: Path, content: bytes) -> None:
    """Adds whole lines at the end of a file that others may add to, too, or move away.

    Raises:
        OSError: the file cannot be written to.
    """
    with open(path, "ab", buffering=0) as file:
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]


def private_folder() -> str:
    """Returns a new folder that only this user sees; its path is short enough for sockets."""
    is_short = len(os.fsencode(tempfile.gettempdir())) < _LONGEST_SOCKET_FOLDER
    return tempfile.mkdtemp(prefix="rb-", dir=None if is_short else "/tmp")


def remove_folder(folder: str) -> None:
    """Removes a folder and what is in it, as far as that is still there."""
    shutil.rmtree(folder, ignore_errors=True)
