"""`rb serve` in front of engines that keep time and compute nothing: its books, in all weathers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleets import HASH, class_sheet, pool_sheet, sheet_of
from plan_cases import weighted
from replaying import Asked, replay
from serving import Serving, serving
from timed_engine import Engine, Law, engines

from planner.files.sheets import write_sheet
from planner.files.write import canonical_json
from planner.spec.plan import Routes
from planner.spec.sheet import StepKnots

HOST = "127.0.0.1"
STEP_MS = {"small": 4.0, "large": 8.0}
SEQUENCE_MS, PLACES = 0.5, 16
SERVERS = ("small", "small", "large")
SHARES = {"chat": {"small": 0.7, "large": 0.3}, "code": {"large": 1.0}}
N_IN, N_OUT = 30, 10


def write_plan(folder: Path, started: Sequence[Engine]) -> Path:
    """Writes the routes, the sheet and the endpoints of two pools on three engines."""
    folder.mkdir()
    routes = Routes(
        classes={name: weighted(shares) for name, shares in SHARES.items()},
        load_prices={},
        fallback={name: tuple(STEP_MS) for name in SHARES},
        plan_hash=HASH,
    )
    (folder / "routes.json").write_text(canonical_json(routes.model_dump(mode="json")))
    pools = {
        name: pool_sheet(
            model_name=name,
            n_replicas=SERVERS.count(name),
            steps=StepKnots(
                n=(0, PLACES),
                decode_ms=(step_ms, step_ms + PLACES * SEQUENCE_MS),
                context_token_ms=(0.0, 0.0),
            ),
            prompt_token_ms=0.0,
            max_num_seqs=PLACES,
            rate_rps=50.0,
        )
        for name, step_ms in STEP_MS.items()
    }
    sizes = {"rate_rps": 50.0, "input_tokens": float(N_IN), "output_tokens": float(N_OUT)}
    classes = {name: class_sheet(list(STEP_MS), **sizes) for name in SHARES}
    write_sheet(folder, sheet_of(pools, classes))
    urls: dict[str, list[str]] = {name: [] for name in STEP_MS}
    for name, each in zip(SERVERS, started, strict=True):
        urls[name].append(each.url)
    (folder / "endpoints.yaml").write_text(
        json.dumps({name: [{"url": url} for url in each] for name, each in urls.items()})
    )
    return folder


@asynccontextmanager
async def site(folder: Path, *arguments: str, cut_every: int = 0) -> AsyncIterator[Site]:
    laws = [Law(name, STEP_MS[name], SEQUENCE_MS, cut_every=cut_every) for name in SERVERS]
    async with engines(laws) as started:
        with serving(write_plan(folder, started), "--no-admission", *arguments) as rb:
            yield Site(rb, started)


@dataclass
class Site:
    """A running `rb serve`, and what is behind it."""

    rb: Serving
    engines: list[Engine]

    async def status(self) -> dict:
        return json.loads((await asyncio.to_thread(self.rb.get, "/rb/status"))[1])

    async def n_in_flight(self) -> int:
        return sum(row["n_in_flight"] for row in (await self.status())["instances"])

    async def count(self, name: str, **labels: str) -> float:
        return await asyncio.to_thread(lambda: self.rb.count(name, **labels))

    async def until_idle(self, within_s: float = 10.0) -> float:
        """Returns how long it took until nothing was in flight, here or at the engines."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        while await self.n_in_flight() or any(engine.n_there for engine in self.engines):
            assert loop.time() < start_s + within_s
            await asyncio.sleep(0.01)
        return loop.time() - start_s


def even_trace(n: int, rate_rps: float) -> list[Asked]:
    """So many requests of the class chat, one after another in even steps."""
    return [Asked(k / rate_rps, "chat", N_IN, N_OUT + k % 5) for k in range(n)]


def test_books_are_right_and_servers_share_evenly(tmp_path):
    async def test() -> None:
        async with site(tmp_path / "plan") as s:
            got = await replay(HOST, s.rb.port, even_trace(n := 100, 100.0), timeout_s=30)
            assert all((g.status, g.n_output) == (200, g.asked.n_output) for g in got)
            pools = Counter(g.pool for g in got)
            for pool, share in SHARES["chat"].items():
                assert abs(pools[pool] / n - share) <= 0.01
            small = Counter(g.headers["x-rb-instance"] for g in got if g.pool == "small")
            assert min(small[f"small/{k}"] for k in (0, 1)) > 0.35 * pools["small"]
            await s.until_idle()
            for engine, name in zip(s.engines, ("small/0", "small/1", "large/0"), strict=True):
                assert engine.n_served == sum(g.headers["x-rb-instance"] == name for g in got)
            of_pool = {"rb_class": "chat", "rb_pool": "small"}
            assert await s.count("rb_requests_total", outcome="ok", **of_pool) == pools["small"]
            tokens = sum(g.n_output for g in got if g.pool == "small")
            assert await s.count("rb_output_tokens_total", **of_pool) == tokens
            assert await s.count("rb_input_tokens_total", **of_pool) == N_IN * pools["small"]

    asyncio.run(test())


def test_who_leaves_frees_the_engine(tmp_path):
    async def leave(s: Site, streams: bool) -> float:
        reader, writer = await asyncio.open_connection(HOST, s.rb.port)
        writer.write(request_bytes(Asked(0.0, "code", 5, 100_000), streams))
        while not (s.engines[2].n_there and await s.n_in_flight()):
            await asyncio.sleep(0.01)
        if streams:
            await reader.readuntil(b"data: ")
        writer.close()
        await writer.wait_closed()
        return await s.until_idle()

    async def test() -> None:
        async with site(tmp_path / "plan") as s:
            for n, streams in enumerate((True, False), 1):
                assert await leave(s, streams) < 5.0
                assert s.engines[2].n_cancelled == n
                assert await s.count("rb_requests_total", outcome="cancelled") == n

    asyncio.run(test())


def request_bytes(asked: Asked, streams: bool) -> bytes:
    body = {
        "model": "rb/auto",
        "messages": [{"role": "user", "content": "word " * asked.n_input}],
        "max_tokens": asked.n_output,
        "stream": streams,
    }
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-RB-Class: {asked.class_name}\r\n"
    return f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data


# ---- In all weathers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Weather:
    """How one client behaves."""

    streams: bool
    n_output: int
    leaves_after_s: float | None
    reads_every_s: float


def weathers(n: int, seed: int) -> list[Weather]:
    """Clients of whom a quarter leaves at some moment and a tenth reads slowly."""
    dice = random.Random(seed)
    return [
        Weather(
            streams=dice.random() < 0.7,
            n_output=dice.randint(1, 30),
            leaves_after_s=dice.uniform(0.0, 0.15) if dice.random() < 0.25 else None,
            reads_every_s=0.02 if dice.random() < 0.1 else 0.0,
        )
        for _ in range(n)
    ]


async def one_client(port: int, weather: Weather) -> str:
    """Returns what came of it: whole, cut, left, or a status that is none of 200."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=4096)
    try:
        asked = Asked(0.0, "chat", N_IN, weather.n_output)
        writer.write(request_bytes(asked, weather.streams))
        async with asyncio.timeout(weather.leaves_after_s):
            text = b""
            while piece := await reader.read(512):
                text += piece
                await asyncio.sleep(weather.reads_every_s)
    except TimeoutError:
        return "left"
    except ConnectionError:
        return "cut"
    finally:
        writer.transport.abort()
    if text and not text.startswith(b"HTTP/1.1 200"):
        return text[9:12].decode()
    return "whole" if is_whole(text) else "cut"


def is_whole(text: bytes) -> bool:
    head, _, body = text.partition(b"\r\n\r\n")
    if b"content-length: " in head:
        return len(body) == int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return body.endswith(b"\r\n0\r\n\r\n")


def memory_mib(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) / 1024 for row in rows if row.startswith("VmRSS"))


def n_sockets(pid: int) -> int:
    n = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            n += os.readlink(file).startswith("socket:")
    return n


@pytest.mark.slow
def test_after_all_weathers_nothing_is_left(tmp_path):
    """Clients leave, read slowly; engines die: no request, no memory, no connection stays."""
    n_at_once = 40

    async def crowd(s: Site, n: int, seed: int) -> Counter[str]:
        places = asyncio.Semaphore(n_at_once)

        async def one(weather: Weather) -> str:
            async with places:
                return await one_client(s.rb.port, weather)

        return Counter(await asyncio.gather(*(one(w) for w in weathers(n, seed))))

    async def test() -> None:
        async with site(tmp_path / "plan", cut_every=25) as s:
            pid = s.rb.process.pid
            first = await crowd(s, 500, seed=0)
            await s.until_idle()
            before_mib = memory_mib(pid)
            seen = await crowd(s, 2000, seed=1)
            assert await s.until_idle() < 10.0
            assert memory_mib(pid) - before_mib <= 5.0
            # The listener, the loop's own, and no more kept ones than were ever needed at once.
            assert n_sockets(pid) <= n_at_once + 8
            assert sum(seen.values()) == 2000
            assert seen["whole"] > 1200 and seen["left"] > 200 and seen["cut"] > 10, seen
            assert seen.keys() <= {"whole", "left", "cut", "502"}, seen
            both = first + seen
            n_ok = await s.count("rb_requests_total", outcome="ok")
            n_errors = await s.count("rb_requests_total", outcome="error")
            assert both["whole"] <= n_ok <= both["whole"] + both["left"]
            assert both["cut"] + both["502"] <= n_errors <= both.total() - both["whole"]
            print(f"{dict(seen)} {memory_mib(pid) - before_mib:.2f} MiB {n_sockets(pid)} sockets")
            states = {row["state"] for row in (await s.status())["instances"]}
            assert states <= {"up", "suspected", "slow start"}

    asyncio.run(test())
