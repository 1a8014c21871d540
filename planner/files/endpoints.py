"""endpoints.yaml in: by pool or model, the servers that answer for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from planner.errors import Fault
from planner.files.faults import build
from planner.files.text import shown
from planner.files.yamls import read_yaml
from planner.spec.endpoints import Server

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


def read_endpoints(path: Path, faults: list[Fault]) -> dict[str, tuple[Server, ...]]:
    """Returns the servers by the name of their pool or model, those that are right.

    A server is {url, served_model_name, api_key_env, data_parallel_ranks, metrics}, or its url
    alone; a name may have one, or a list of them. Adds the faults of the rest.
    """
    data = read_yaml(path, faults)
    name = shown(path)
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not data:
        what = "must be a mapping of pools or models to their servers"
        faults.append(Fault(name, "", what, "write 'llama-8b: http://localhost:8000'"))
        return {}
    return {
        str(key): servers
        for key, value in data.items()
        if (servers := _servers(name, str(key), value, faults))
    }


def _servers(file: str, name: str, value: object, faults: list[Fault]) -> tuple[Server, ...]:
    if not _NAME.fullmatch(name):
        fix = "use letters, digits, '.', '_', '+' and '-'; give the server's as served_model_name"
        faults.append(Fault(file, name[:80], "is not a name", fix))
    entries = value if isinstance(value, list) else [value]
    if not entries:
        faults.append(Fault(file, name, "has no server", "give its url"))
    found = []
    for place, entry in enumerate(entries):
        at = f"{name}[{place}]" if isinstance(value, list) else name
        data = {"url": entry} if isinstance(entry, str) else entry
        server = build(Server, data, file, faults, at)
        if server is not None:
            found.append(server)
    return tuple(found)
