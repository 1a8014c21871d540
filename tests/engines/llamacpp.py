"""llama.cpp's own HTTP server in a process of its own: `llamacpp.serving(model)`.

python tests/engines/llamacpp.py MODEL.gguf PORT [SLOTS] [CPU]
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


@contextmanager
def serving(gguf: Path, slots: int = 4, cpu: int | None = None) -> Iterator[str]:
    """Yields the base URL of a server of the model named `tiny`, on a free loopback port."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    where = [] if cpu is None else [str(cpu)]
    process = subprocess.Popen(
        [sys.executable, __file__, str(gguf), str(port), str(slots), *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(url, process)
        yield url
    finally:
        process.kill()
        process.wait()


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


def _serve(gguf: str, port: int, slots: int) -> None:
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = gguf
    p.model_alias = {"tiny"}
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
    arguments = sys.argv[1:]
    if len(arguments) > 3:
        os.sched_setaffinity(0, {int(arguments[3])})
    _serve(arguments[0], int(arguments[1]), int(arguments[2]) if len(arguments) > 2 else 4)
