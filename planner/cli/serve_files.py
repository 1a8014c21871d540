"""What `rb serve` serves: read at its start, and again when the files change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.runtime.server import Listening
    from planner.runtime.setup import Options, Setup
    from planner.spec.endpoints import Server

POLL_S = 0.5  # between two looks at the files


@dataclass(frozen=True)
class Job:
    """What one `rb serve` serves, and how."""

    folder: Path
    endpoints: Path
    host: str
    port: int
    n_workers: int
    options: Options
    client_key: str | None
    log: Path | None
    otlp: str | None
    drain_s: float
    quiet: bool


def read_setup(job: Job) -> Setup:
    """Returns a plan and where it is served.

    Raises:
        InputError: with every fault of every file, and every key that is not there.
    """
    from planner.files.serving import read_serving
    from planner.runtime.setup import Setup, setup_faults

    faults: list[Fault] = []
    read = read_serving(job.folder, job.endpoints, faults)
    if read is None:
        raise InputError(faults)
    setup = Setup(
        routes=read.routes,
        endpoints=read.endpoints,
        sheet=read.sheet,
        models=read.models,
        keys=_keys(job.endpoints, read.endpoints, faults),
        router=read.router,
        options=job.options,
    )
    faults += setup_faults(setup)
    if faults:
        raise InputError(faults)
    return setup


def _keys(
    file: Path, endpoints: Mapping[str, Iterable[Server]], faults: list[Fault]
) -> dict[str, str]:
    """Returns the keys of the servers by their environment variables; adds the faults of the rest.

    They are read here and handed on: the runtime reads no environment.
    """
    from planner.files.text import shown

    keys = {}
    for name, servers in endpoints.items():
        for variable in dict.fromkeys(s.api_key_env for s in servers if s.api_key_env is not None):
            key = read_key(variable, shown(file), f"{name}.api_key_env")
            if isinstance(key, Fault):
                faults.append(key)
            else:
                keys[variable] = key
    return keys


def read_key(variable: str, file: str, where: str) -> str | Fault:
    """Returns the key that an environment variable holds; a fault, without the key, if it cannot.

    Args:
        variable: its name.
        file: where the name stands, for the fault.
        where: the place in that file.
    """
    import os

    key = os.environ.get(variable)
    if not key:
        what = f"names a variable that is not set, got {variable}"
        return Fault(file, where, what, f"export {variable}=...")
    if not (key.isascii() and key.isprintable() and key == key.strip()):
        # E.g. the line end of a file that the key was read from.
        what = f"names a variable whose key no header can carry, got {variable}"
        return Fault(file, where, what, "take out blanks at its ends, line ends and odd characters")
    return key


class Reloader:
    """The last setup that was in order; sees when the files change, and when they stand still.

    A fork of it goes on from what its parent has taken.

    Args:
        job: whose files are read at once; raises InputError where they are wrong.
    """

    def __init__(self, job: Job) -> None:
        from planner.files.serving import watched_files

        self._job = job
        self._paths = watched_files(job.folder, job.endpoints)
        self.setup = self.take()
        self._waiting = self._taken

    def poll(self) -> bool:
        """Returns whether the files are others than those taken, and those of the last look.

        What was written between two looks may be half of it; what stands still is whole.
        """
        from planner.files.serving import signature

        before, self._waiting = self._waiting, signature(self._paths)
        return before == self._waiting != self._taken

    def take(self) -> Setup:
        """Returns what the files say now, and keeps it.

        Raises:
            InputError: they are wrong. What was there before is kept, and they are not due again
                until they change.
        """
        from planner.files.serving import signature

        self._taken = signature(self._paths)
        self.setup = read_setup(self._job)
        return self.setup


def open_port(job: Job, *, is_shared: bool = False) -> Listening:
    """Returns the socket that clients come to; one that is shared others may open, too.

    Raises:
        InputError: the port is taken, or the address is not one of this machine.
    """
    from planner.runtime.server import listen

    try:
        return listen(job.host, job.port, reuse_port=is_shared)
    except OSError as error:
        what = f"cannot be listened on: {error.strerror or error}"
        fix = "choose another --port (0: any that is free) or --host"
        raise InputError.single(f"{job.host}:{job.port}", "", what, fix) from error


def tell(text: str) -> None:
    """Shows a sentence to whoever runs the server."""
    # A closed terminal is no reason to stop answering.
    with suppress(OSError):
        typer.echo(text, err=True)


def ending_words(job: Job) -> str:
    """Returns what is said to whoever has told it to end."""
    return f"ending: what is being answered has {job.drain_s:g} s; again to end at once"


def plan_words(setup: Setup) -> str:
    """Returns which plan is served where, in a few words."""
    n_pools = sum(bool(servers) for servers in setup.servers().values())
    n_servers = sum(len(servers) for servers in setup.servers().values())
    pools = f"{n_pools} pool{'s' if n_pools != 1 else ''}"
    servers = f"{n_servers} server{'s' if n_servers != 1 else ''}"
    bare = ", without serving.json" if setup.sheet is None else ""
    return f"plan {setup.routes.plan_hash[:12]}: {pools} on {servers}{bare}{_fewer(setup)}"


def _fewer(setup: Setup) -> str:
    """Returns which pools have fewer servers than the plan has replicas, in a few words."""
    planned = setup.sheet.pools if setup.sheet is not None else {}
    there = {pool: len(servers) for pool, servers in setup.servers().items()}
    short = [
        f"{name} has {there[name]} of {pool.n_replicas}"
        for name, pool in planned.items()
        if 0 < there.get(name, 0) < pool.n_replicas
    ]
    return f"; fewer than planned: {', '.join(short)}" if short else ""
