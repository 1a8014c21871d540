"""What the tests of collecting share: the command, and a server in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import pytest

from planner.cli.app import run

SERVER = Path(__file__).with_name("answering_server.py")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def rb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., Ran]:
    """Returns a function that runs rb in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        assert "Traceback" not in streams.err
        return Ran(code, streams.out, streams.err)

    return ran


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Yields a function that starts a server with given manners and returns its URL."""
    with ExitStack() as stack:

        def start(**manners: object) -> str:
            port_file = tmp_path_factory.mktemp("server") / "port"
            command = [sys.executable, str(SERVER), str(port_file), json.dumps(manners)]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            assert process.stdin is not None
            stack.callback(process.stdin.close)
            while process.poll() is None and not (port_file.exists() and port_file.read_text()):
                sleep(0.02)
            return f"http://127.0.0.1:{port_file.read_text()}"

        yield start
