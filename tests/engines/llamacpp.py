"""llama.cpp's own HTTP server in a process of its own: `llamacpp.serving(model)`.

python tests/engines/llamacpp.py MODEL.gguf PORT SLOTS ALIAS [CPU]
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

CONTEXT_TOKENS = 2048  # per slot
START_S = 20.0


class Replica:
    """A server of one model on a loopback port of its own, which it keeps when started again."""

    def __init__(self, gguf: Path, slots: int = 4, alias: str = "tiny", cpu: int | None = None):
        self.alias = alias
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        where = [] if cpu is None else [str(cpu)]
        self._command = [sys.executable, __file__, str(gguf), str(self.port), str(slots), alias]
        self._command += where
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; `wait` says when it answers."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self) -> None:
        assert self._process is not None
        _await(self.url, self._process)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def serving(
    gguf: Path, slots: int = 4, cpu: int | None = None, alias: str = "tiny"
) -> Iterator[str]:
    """Yields the base URL of a running server of the model."""
    replica = Replica(gguf, slots, alias, cpu)
    replica.start()
    try:
        replica.wait()
        yield replica.url
    finally:
        replica.kill()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    end = monotonic() + START_S
    while monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            sleep(0.05)
    raise RuntimeError(f"the server did not answer within {START_S:g} s")


def _serve(gguf: str, port: int, slots: int, alias: str) -> None:
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = gguf
    p.model_alias = {alias}
    p.hostnames = ["127.0.0.1"]
    p.port = port
    p.n_parallel = slots
    p.n_ctx = CONTEXT_TOKENS * slots
    p.cpuparams.n_threads = 1
    p.cpuparams_batch.n_threads = 1
    p.n_threads_http = 16
    p.endpoint_metrics = True
    p.ui = False
    p.cache_prompt = False  # each prompt is prefilled in full, as the profile assumes
    p.cache_ram_mib = 0
    p.fit_params = False
    p.offline = True
    p.verbosity = 1
    server = xllamacpp.Server(p)  # serves until the process ends
    assert server.listening_address
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    os._exit(0)


if __name__ == "__main__":
    file, port, slots, alias, *cpu = sys.argv[1:]
    if cpu:
        os.sched_setaffinity(0, {int(cpu[0])})
    _serve(file, int(port), int(slots), alias)
