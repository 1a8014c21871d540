"""A stand for real gateways: engines that say who came, a client that counts, what chance allows.

Every request carries its class as its prompt, so the engines know without the gateway's help.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from scipy.stats import binom

from planner.export.envoy import ADMIN_PORT

Request = tuple[bytes, Mapping[str, str]]  # body, headers
PATIENCE_S = 60.0  # of a busy machine
TOO_LONG = "too long for any engine"
CHANCE = 1e-5  # that a right configuration is found wanting, over all pools and classes
POINT = 0.01


class Engines:
    """Fake engines of each pool, on loopback; those of a pool that is `down` answer 503."""

    def __init__(self, pools: Sequence[str], n_each: int = 1) -> None:
        self.came: Counter[tuple[str, str]] = Counter()  # (class, pool)
        self.models: Counter[tuple[str, str]] = Counter()  # (pool, model that was asked for)
        self.bodies: list[bytes] = []  # of the latest requests
        self.heads: list[dict[str, str]] = []
        self.down: set[str] = set()
        self.n_refused = 0  # requests that came to a pool that is down
        self.go = threading.Event()  # a stream stands still after its first piece until it is set
        self.go.set()
        self._lock = threading.Lock()
        self.servers = [_Server(self, pool) for pool in pools for _ in range(n_each)]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def urls(self) -> dict[str, tuple[str, ...]]:
        """Returns the base addresses of each pool's engines, as endpoints.yaml would give them."""
        found: dict[str, tuple[str, ...]] = {}
        for server in self.servers:
            url = f"http://127.0.0.1:{server.server_address[1]}/v1"
            found[server.pool] = (*found.get(server.pool, ()), url)
        return found

    def note(self, pool: str, body: bytes, headers: dict[str, str]) -> bool:
        """Returns whether a stream is wanted, after counting the request."""
        asked = json.loads(body)
        with self._lock:
            self.came[asked["messages"][0]["content"].split()[0], pool] += 1
            self.models[pool, asked["model"]] += 1
            self.bodies = [*self.bodies[-9:], body]
            self.heads = [*self.heads[-9:], headers]
        return bool(asked.get("stream"))

    def forget(self) -> None:
        """Starts counting anew."""
        self.came.clear()
        self.models.clear()

    def close(self) -> None:
        """Ends all engines."""
        for server in self.servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, engines: Engines, pool: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engines, self.pool = engines, pool

    def handle_error(self, *_: object) -> None:
        """Says nothing of connections that were cut."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet per answer
    server: _Server

    def do_GET(self) -> None:
        self._answer(503 if self.server.pool in self.server.engines.down else 200, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        engines, pool = self.server.engines, self.server.pool
        if pool in engines.down:
            engines.n_refused += 1
            self._answer(503, b'{"error": {"message": "down"}}')
        elif TOO_LONG.encode() in body:
            engines.note(pool, body, dict(self.headers.items()))
            self._answer(400, b'{"error": {"message": "longer than max_model_len"}}')
        elif engines.note(pool, body, dict(self.headers.items())):
            self._stream()
        else:
            message = {"role": "assistant", "content": pool}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
            self._answer(200, json.dumps({**whole, "choices": [choice], "usage": usage}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for place, word in enumerate(("first", "second")):
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            piece = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            text = json.dumps({**piece, "choices": [choice]})
            self.wfile.write(f"data: {text}\n\n".encode())
            self.wfile.flush()
            if place == 0:
                self.server.engines.go.wait(PATIENCE_S)
        self.wfile.write(b"data: [DONE]\n\n")
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def fake_engines(pools: Sequence[str], n_each: int = 1) -> Iterator[Engines]:
    """Runs so many engines for each pool meanwhile."""
    engines = Engines(pools, n_each)
    try:
        yield engines
    finally:
        engines.go.set()
        engines.close()


def free_port() -> int:
    """Returns a port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], port_of: Callable[[], int | None], log: Path, **more: object
) -> Iterator[int]:
    """Runs a gateway meanwhile, from when it listens, and yields where; its output is in `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **more)
        try:
            yield _awaited(process, port_of, log)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _awaited(process: subprocess.Popen[bytes], port_of: Callable[[], int | None], log: Path) -> int:
    until = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        if (port := port_of()) is not None:
            return port
        time.sleep(0.05)
    raise AssertionError(f"it does not listen:\n{log.read_text()[-3000:]}")


def listens(port: int) -> Callable[[], int | None]:
    """Returns what tells the port, once somebody listens there."""

    def port_of() -> int | None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return port
        except OSError:
            return None

    return port_of


@contextmanager
def envoy_running(
    program: str, text: str, port: int, folder: Path, n_threads: int = 1, **more: object
) -> Iterator[int]:
    """Runs Envoy on an exported file meanwhile; yields the port that the kernel gave it.

    Args:
        text: what is exported; its gateway listens at `port` of all addresses.
        folder: where the file and `log` are written.
        more: arguments of subprocess.Popen.
    """
    path, admin = folder / "envoy.yaml", folder / "admin"
    path.write_text(on_loopback(text, port))
    command = [program, "-c", str(path), "--concurrency", str(n_threads)]
    command += ["--use-dynamic-base-id", "--admin-address-path", str(admin)]
    with running(command, lambda: _port_of_envoy(admin), folder / "log", **more) as found:
        yield found


def on_loopback(text: str, port: int) -> str:
    """Returns an exported envoy.yaml whose ports are the kernel's to choose, on loopback."""
    for said, instead in (
        ("'0.0.0.0'", "127.0.0.1"),
        (f"port_value: {port}\n", "port_value: 0\n"),
        (f"port_value: {ADMIN_PORT}\n", "port_value: 0\n"),
    ):
        assert said in text
        text = text.replace(said, instead, 1)
    return text


def _port_of_envoy(admin: Path) -> int | None:
    """Returns where Envoy's gateway listens; None where it does not yet serve."""
    try:
        connection = HTTPConnection(admin.read_text().strip(), timeout=PATIENCE_S)
        connection.request("GET", "/ready")
        ready = connection.getresponse()
        ready.read()
        connection.request("GET", "/listeners?format=json")
        listeners = json.loads(connection.getresponse().read())["listener_statuses"]
        connection.close()
    except (OSError, HTTPException):
        return None
    if ready.status != 200:
        return None
    (gateway,) = [each for each in listeners if each["name"] == "gateway"]
    return int(gateway["local_address"]["socket_address"]["port_value"])


def chat(class_name: str, model: str, words: str = "prompt", **more: object) -> bytes:
    """Returns the body of a request of one class; no engine takes one whose words are too long."""
    prompt = [{"role": "user", "content": f"{class_name} {words}"}]
    return json.dumps({"model": model, "messages": prompt, **more}).encode()


def send(
    port: int, body: bytes, headers: Mapping[str, str], n: int, n_clients: int = 8
) -> Counter[int]:
    """Returns how many of n requests got which status; 0 where the connection failed."""
    return send_all(port, [(body, headers)] * n, n_clients)


def send_all(port: int, requests: Sequence[Request], n_clients: int = 8) -> Counter[int]:
    """Returns how many requests got which status; 0 where the connection failed."""
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def client(own_requests: Sequence[Request]) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        own = Counter(_ask(connection, body, headers) for body, headers in own_requests)
        connection.close()
        with lock:
            statuses.update(own)

    parts = [requests[i::n_clients] for i in range(n_clients)]
    clients = [threading.Thread(target=client, args=(part,)) for part in parts]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return statuses


def send_mixed(port: int, of_class: Callable[[str], Request], n: Mapping[str, int]) -> Counter[int]:
    """Returns how many requests got which status, of n of each class in an order of no pattern."""
    requests = [of_class(name) for name, k in n.items() for _ in range(k)]
    random.Random(0).shuffle(requests)
    return send_all(port, requests)


def send_the_plans_10_000(
    port: int,
    of_class: Callable[[str], Request],
    engines: Engines,
    shares: Mapping[str, Mapping[str, int]],
    n: Mapping[str, int],
) -> dict[str, int]:
    """Sends n requests of each class; returns how many of each were sent, all answered 200.

    A gateway that draws at random puts some pool a point of 10,000 requests off by chance once in
    250 times. So where one is, as many again are sent, after which a right gateway is nowhere a
    point of all requests off (but once in 100,000 times), and a wrong one still is.
    """
    engines.forget()
    for rounds in (1, 2):
        assert send_mixed(port, of_class, n) == {200: sum(n.values())}
        sent = {name: rounds * k for name, k in n.items()}
        if furthest_ratio(engines.came, shares, sent) <= POINT:
            break
    return sent


def _ask(connection: HTTPConnection, body: bytes, headers: Mapping[str, str]) -> int:
    given = {"content-type": "application/json", **headers}
    try:
        connection.request("POST", "/v1/chat/completions", body, given)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, HTTPException):
        connection.close()
        return 0


def allowed(n: int, share: float, n_compared: int) -> tuple[int, int]:
    """Returns the least and most of n draws that chance allows an entry of this share.

    Each of `n_compared` such intervals is missed by a right gateway with probability below
    CHANCE / n_compared, so all of them hold with more than 1 - CHANCE.
    """
    low, high = binom.interval(1.0 - CHANCE / n_compared, n, share)
    return int(low), int(high)


def strays(
    came: Counter[tuple[str, str]], shares: Mapping[str, Mapping[str, int]], n: Mapping[str, int]
) -> list[str]:
    """Returns what chance does not explain: the pools of classes with too few or too many.

    Args:
        came: requests by (class, pool).
        shares: by class and pool, in millionths.
        n: requests that were sent, by class.
    """
    n_compared = sum(len(pools) for pools in shares.values())
    found = []
    for name, pools in shares.items():
        for pool in {p for c, p in came if c == name} | set(pools):
            low, high = allowed(n[name], pools.get(pool, 0) / 1e6, n_compared)
            if not low <= came[name, pool] <= high:
                found.append(f"{name} to {pool}: {came[name, pool]}, allowed {low} to {high}")
    return found


def furthest_ratio(
    came: Counter[tuple[str, str]], shares: Mapping[str, Mapping[str, int]], n: Mapping[str, int]
) -> float:
    """Returns the largest |came - expected| over all classes and pools, of all that were sent."""
    return max(
        abs(came[name, pool] - n[name] * share / 1e6) / sum(n.values())
        for name, pools in shares.items()
        for pool, share in pools.items()
    )
