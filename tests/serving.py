"""`rb serve` as a shell runs it: the process, an engine that answers by script, a client."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hand_plan import ROOT
from prometheus_client.parser import text_string_to_metric_families

from planner.cli.serve_files import Job
from planner.runtime.setup import Options

PATIENCE_S = 20.0  # of a busy machine; what is waited for takes milliseconds
DEMO_PLAN = ROOT / "tests" / "demo_plan"  # as `rb plan plans/demo` writes it
ROUTES = DEMO_PLAN / "routes.json"
POOLS = ("llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100", "llama-3.1-70b-b200-tp2")


class Engine(ThreadingHTTPServer):
    """Answers like a model; a stream stands still after its first piece until `go` is set."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.go = threading.Event()
        self.go.set()
        self.asked: Counter[str] = Counter()  # by model
        self.bodies: list[bytes] = []  # as they came
        self.heads: list[dict[str, str]] = []  # of every request
        self.traces: list[bytes] = []  # it is a collector of traces, too
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Says nothing of connections that were cut: some are, on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Engine

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            self.server.traces.append(content)
            self.do_GET()
            return
        self.server.heads.append({k.lower(): v for k, v in self.headers.items()})
        body = json.loads(content)
        self.server.asked[body["model"]] += 1
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        if body.get("stream"):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for k in range(3):
                self._piece({"choices": [{"index": 0, "delta": {"content": f"word{k} "}}]})
                self.server.go.wait(PATIENCE_S)
            self._piece({"choices": [], "usage": usage})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
            return
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = json.dumps({"model": body["model"], "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _piece(self, data: object) -> None:
        self._chunk(f"data: {json.dumps(data)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def engine() -> Iterator[Engine]:
    """Yields an engine that answers, until it is left."""
    with Engine() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.go.set()
            server.shutdown()
            thread.join()


def plan_folder(folder: Path, url: str, with_sheet: bool = False) -> Path:
    """Makes a copy of the demo's plan whose pools are all at one address; returns it."""
    folder.mkdir()
    for name in ("plan.json", "routes.json", *(["serving.json"] if with_sheet else [])):
        shutil.copy(DEMO_PLAN / name, folder)
    (folder / "endpoints.yaml").write_text("".join(f"{pool}: {url}\n" for pool in POOLS))
    return folder


def job(folder: Path, n_workers: int = 1) -> Job:
    """What a `rb serve` without further options is to do."""
    return Job(
        folder=folder,
        endpoints=folder / "endpoints.yaml",
        host="127.0.0.1",
        port=0,
        n_workers=n_workers,
        options=Options(),
        client_key=None,
        log=None,
        otlp=None,
        drain_s=30.0,
        quiet=False,
    )


class Serving:
    """A running `rb serve`."""

    def __init__(self, process: subprocess.Popen[str], stderr: Path) -> None:
        self.process, self._stderr = process, stderr
        self.lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("plan "):
                break
        assert self.lines, self.err
        found = re.match(r"serving at http://127\.0\.0\.1:(\d+)/v1", self.lines[0])
        assert found is not None, (self.lines, self.err)
        self.port = int(found[1])

    @property
    def err(self) -> str:
        return self._stderr.read_text()

    def connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def get(self, path: str) -> tuple[int, bytes]:
        line = self.connection()
        try:
            line.request("GET", path)
            answer = line.getresponse()
            return answer.status, answer.read()
        finally:
            line.close()

    def ask(self, model: str, **headers: str) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer that comes whole."""
        line = self.connection()
        try:
            ask(line, model, **headers)
            answer = line.getresponse()
            answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}
        finally:
            line.close()

    def count(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that bear some labels."""
        _, page = self.get("/metrics")
        return sum(
            s.value
            for family in text_string_to_metric_families(page.decode())
            for s in family.samples
            if s.name == name and labels.items() <= s.labels.items()
        )

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(PATIENCE_S)


def ask(line: HTTPConnection, model: str, stream: bool = False, **headers: str) -> None:
    """Sends a request on a connection."""
    content = [{"role": "user", "content": "hello"}]
    body = json.dumps({"model": model, "messages": content, "stream": stream})
    line.request("POST", "/v1/chat/completions", body, headers)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Serving]:
    """Yields a `rb serve` of a folder that takes requests; whatever happens, it ends."""
    stderr = folder / "stderr.txt"
    command = [sys.executable, "-m", "planner", "serve", str(folder), "--port", "0", *arguments]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    with (
        stderr.open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        try:
            yield Serving(process, stderr)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def until(is_so: Callable[[], bool], what: str) -> None:
    """Waits until something is so; fails where it does not become so."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s, f"in {PATIENCE_S:g} s not so: {what}"
        time.sleep(0.02)
