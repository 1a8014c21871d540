"""Docker Compose itself: which program reads compose files here, and what it makes of one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

PATIENCE_S = 60.0
PROGRAMS = (["docker", "compose"], ["docker-compose"])
"""The plugin of Docker, and what Debian has as a program of its own (version 1 or 2)."""
FAKE = {"_ADDRESS": "10.0.0.1", "_KEY": "sesame"}
"""What .env is filled in with, by the end of a variable's name."""


def compose_tool(
    programs: Sequence[Sequence[str]] = PROGRAMS,
) -> tuple[list[str], tuple[int, ...]] | None:
    """The command of Docker Compose and its version; None where it is not installed."""
    for command in programs:
        if shutil.which(command[0]) is None:
            continue
        done = _run([*command, "version"], Path.cwd())
        found = re.search(r"\bversion v?(\d+)\.(\d+)", done.stdout)
        if done.returncode == 0 and found is not None and "ompose" in done.stdout:
            return list(command), (int(found[1]), int(found[2]))
    return None


def config(command: list[str], version: tuple[int, ...], file: Path) -> dict[str, Any]:
    """What `docker compose config` makes of a file whose .env is filled in; raises what it says.

    Version 1 (until 2023) knows no name of a project in the file, so it gets the file without.
    """
    example = (file.parent / ".env.example").read_text(encoding="utf-8")
    for end, value in FAKE.items():
        example = re.sub(rf"^(\w+{end}=)$", rf"\g<1>{value}", example, flags=re.MULTILINE)
    (file.parent / ".env").write_text(example, encoding="utf-8")
    if version < (2,):
        text = re.sub(r"^name: .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        file = file.with_name("without-name.yaml")
        file.write_text(text, encoding="utf-8")
    done = _run([*command, "-f", file.name, "config"], file.parent)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    read: dict[str, Any] = yaml.safe_load(done.stdout)
    return read


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "COMPOSE_"))}
    return subprocess.run(
        command,
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
