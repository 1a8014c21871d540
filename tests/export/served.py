"""An export's folder for `rb serve`, read as the command reads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from planner.errors import Fault
from planner.export.fleet import File, Fleet
from planner.files.serving import ServingFiles, read_serving
from planner.runtime.setup import Options, Setup, setup_faults


def write(files: Iterable[File], folder: Path) -> Path:
    """Writes an export below a folder; returns the folder."""
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    return folder


def read_router(folder: Path, fleet: Fleet) -> ServingFiles:
    """What `rb serve` reads of an exported plan, without a fault in it."""
    faults: list[Fault] = []
    read = read_serving(folder, folder / "endpoints.yaml", faults)
    assert not faults and read is not None
    keys = dict.fromkeys(fleet.router_keys, "key")
    setup = Setup(
        routes=read.routes,
        endpoints=read.endpoints,
        sheet=read.sheet,
        models=read.models,
        keys=keys,
        router=None,
        options=Options(),
    )
    # A fleet with a pool beside its plan's is one of the tests alone.
    wrong = [fault for fault in setup_faults(setup) if not fleet.hosted]
    assert wrong == []
    return read
