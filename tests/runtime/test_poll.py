"""Pages and probes off the hot path, on virtual time, against servers that a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
from fleets import ask, known_setup, servers, setup_of
from virtual_time import run_at_once

from planner.runtime.fleet import Fleet
from planner.runtime.health import FAILURES, MOST_OUT_S, SLOW_START_S, State
from planner.runtime.poll import AGAIN_S, EVERY_S, HEALTH_S, MOST_AT_ONCE, TIMEOUT_S, Poller
from planner.runtime.upstream import Upstream
from planner.runtime.wire import UpstreamError
from planner.spec.endpoints import Server

PAGE = "vllm:num_requests_running {}\nvllm:num_requests_waiting {}\n"
Answer = Callable[[str, str], Awaitable[tuple[int, str]]]


class World:
    """Servers as a poller meets them: who answers what, and everything that was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[float, str, str]] = []  # when, server, path
        self.headers: list[dict[str, str]] = []
        self.n_now = self.n_most = 0

    async def fetch(self, url: str, headers: dict[str, str], timeout_s: float) -> tuple[int, str]:
        server, _, path = url.removeprefix("http://").partition("/")
        self.asked.append((asyncio.get_running_loop().time(), server, f"/{path}"))
        self.headers.append(dict(headers))
        self.n_now += 1
        self.n_most = max(self.n_most, self.n_now)
        try:
            return await self.answer(server, f"/{path}")
        finally:
            self.n_now -= 1

    def times(self, server: str, path: str) -> list[float]:
        return [at for at, s, p in self.asked if (s, p) == (server, path)]


def watched(fleet: Fleet, world: World, seconds: float, *then: Callable[[], None]) -> None:
    """Runs a poller for so long, and again so long after each thing that happens then."""

    async def main() -> None:
        poller = asyncio.create_task(Poller(fleet, world.fetch).run())
        await asyncio.sleep(seconds)
        for happens in then:
            happens()
            await asyncio.sleep(seconds)
        poller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await poller

    run_at_once(main())


async def idle(server: str, path: str) -> tuple[int, str]:
    return 200, PAGE.format(0, 0)


def fleet_of(n: int, **changes: object) -> Fleet:
    return Fleet(setup_of({"pool": servers(n, **changes)}), 0.0)


def health_of(fleet: Fleet, k: int = 0):
    return fleet.backends[fleet.instances[k].backend].health


# ---- Pages ---------------------------------------------------------------------------------------


def test_every_server_is_asked_once_a_second_and_not_all_at_once():
    fleet, world = fleet_of(8), World(idle)
    watched(fleet, world, 10.0)
    firsts = sorted(world.times(f"10.0.0.1:{8000 + k}", "/metrics")[0] for k in range(8))
    assert firsts == pytest.approx([EVERY_S * k / 8 for k in range(8)], abs=0.02)
    for k in range(8):
        times = world.times(f"10.0.0.1:{8000 + k}", "/metrics")
        assert 9 <= len(times) <= 11
    assert world.n_most <= 2


def test_what_a_page_says_is_known_to_the_ledger():
    async def answer(server: str, path: str) -> tuple[int, str]:
        return 200, PAGE.format(5 if server.endswith("8000") else 0, 0)

    fleet, world = Fleet(known_setup(2), 0.0), World(answer)
    watched(fleet, world, 5.0)
    assert fleet.choose("pool", ask(), 5.0).name == "pool/1"
    rows = fleet.status(5.0)
    assert rows[0]["n_running"] > 2
    assert rows[1]["n_running"] < 0.5
    assert all(row["telemetry_age_s"] <= 1.1 for row in rows)


def test_each_rank_is_told_of_its_own_engine():
    async def answer(server: str, path: str) -> tuple[int, str]:
        return 200, "".join(
            f'vllm:num_requests_running{{engine="{k}"}} {2 * k}\n'
            f'vllm:num_requests_waiting{{engine="{k}"}} 0\n'
            for k in range(3)
        )

    setup = replace(known_setup(1), endpoints={"pool": servers(1, data_parallel_ranks=3)})
    fleet, world = Fleet(setup, 0.0), World(answer)
    watched(fleet, world, 4.0)
    assert [i.name for i in fleet.instances] == ["pool/0#0", "pool/0#1", "pool/0#2"]
    running = [row["n_running"] for row in fleet.status(4.0)]
    assert running[0] < 0.5 < running[1] < 2.0 < running[2]
    assert len(world.times("10.0.0.1:8000", "/metrics")) <= 5  # one page for all


def test_a_slow_page_is_not_asked_for_again_before_it_is_there():
    async def answer(server: str, path: str) -> tuple[int, str]:
        await asyncio.sleep(1.5)
        return 200, PAGE.format(1, 0)

    fleet, world = fleet_of(1), World(answer)
    watched(fleet, world, 20.0)
    times = world.times("10.0.0.1:8000", "/metrics")
    assert all(b - a >= 2.5 for a, b in pairwise(times))
    assert world.n_most == 1


def test_only_so_many_visits_run_together():
    async def answer(server: str, path: str) -> tuple[int, str]:
        await asyncio.sleep(1.9)
        return 200, PAGE.format(1, 0)

    fleet, world = fleet_of(60), World(answer)
    watched(fleet, world, 30.0)
    assert world.n_most == MOST_AT_ONCE
    assert len({server for _, server, _ in world.asked}) == 60


def test_a_server_without_a_page_is_left_to_the_ledger_and_seldom_asked_again():
    async def answer(server: str, path: str) -> tuple[int, str]:
        return 404, "not here"

    fleet, world = fleet_of(1), World(answer)
    watched(fleet, world, AGAIN_S + 30.0)
    assert len(world.times("10.0.0.1:8000", "/metrics")) == 2
    assert health_of(fleet).is_clear


def test_a_page_of_something_else_leaves_health_to_look_at():
    async def answer(server: str, path: str) -> tuple[int, str]:
        return 200, "python_info 1\n"

    fleet, world = fleet_of(1), World(answer)
    watched(fleet, world, 4 * HEALTH_S)
    assert len(world.times("10.0.0.1:8000", "/metrics")) == 1
    assert 3 <= len(world.times("10.0.0.1:8000", "/health")) <= 5


def test_an_engine_that_has_no_page_before_its_first_request_is_heard_later():
    pages = ["", PAGE.format(0, 0)]

    async def answer(server: str, path: str) -> tuple[int, str]:
        return 200, pages[0] if path == "/metrics" else ""

    fleet, world = fleet_of(1), World(answer)
    watched(fleet, world, AGAIN_S / 2, pages.reverse)
    assert fleet.status(AGAIN_S)[0]["telemetry_age_s"] is None
    fleet, world, pages = fleet_of(1), World(answer), ["", PAGE.format(0, 0)]
    watched(fleet, world, AGAIN_S + HEALTH_S, pages.reverse)
    assert fleet.status(2 * AGAIN_S + 2 * HEALTH_S)[0]["telemetry_age_s"] <= 2 * HEALTH_S


def test_an_engine_that_is_started_anew_is_asked_for_its_page_at_once():
    pages = ["", PAGE.format(0, 0)]

    async def answer(server: str, path: str) -> tuple[int, str]:
        return 200, pages[0] if path == "/metrics" else ""

    fleet, world = fleet_of(1), World(answer)

    def restart() -> None:
        fleet.failed(fleet.instances[0], 8.0, "connect")
        pages.reverse()

    watched(fleet, world, 8.0, restart)
    assert fleet.status(16.0)[0]["telemetry_age_s"] <= 2.0


def test_off_means_that_nothing_is_asked_until_it_fails():
    fleet, world = fleet_of(1, metrics="off"), World(idle)
    watched(fleet, world, 100.0, lambda: fleet.failed(fleet.instances[0], 100.0, "connect"))
    assert {path for _, _, path in world.asked} == {"/health"}
    assert len(world.asked) == 1
    assert health_of(fleet).state(200.0) is State.UP


def test_pages_elsewhere_are_asked_without_the_servers_key():
    there = servers(1, metrics="http://10.9.9.9:9/metrics", api_key_env="K")
    setup = replace(setup_of({"pool": there}), keys={"K": "s3cret"})
    fleet, world = Fleet(setup, 0.0), World(idle)
    watched(fleet, world, 2.0, lambda: fleet.failed(fleet.instances[0], 2.0, "connect"))
    sent = {
        server: "authorization" in headers
        for (_, server, _), headers in zip(world.asked, world.headers, strict=True)
    }
    assert sent == {"10.9.9.9:9": False, "10.0.0.1:8000": True}


# ---- Failures ------------------------------------------------------------------------------------


def test_a_dead_server_is_ejected_before_any_request_meets_it_and_found_when_it_is_back():
    is_dead = True

    async def answer(server: str, path: str) -> tuple[int, str]:
        if is_dead and server.endswith("8001"):
            raise UpstreamError("connect", "refused")
        return 200, PAGE.format(0, 0)

    fleet, world = fleet_of(2), World(answer)
    loop_s: list[float] = []

    def revive() -> None:
        nonlocal is_dead
        assert health_of(fleet, 1).state(200.0) is not State.UP
        loop_s.extend(world.times("10.0.0.1:8001", "/health"))
        is_dead = False

    watched(fleet, world, 200.0, revive)
    gaps = [b - a for a, b in pairwise(loop_s)]
    assert all(gap <= MOST_OUT_S + EVERY_S for gap in gaps)
    assert gaps[-1] > 20.0  # it backs off
    assert len(loop_s) < 15
    assert health_of(fleet, 1).state(400.0) is State.UP
    back = next(t for t in world.times("10.0.0.1:8001", "/metrics") if t > 200.0)
    assert back <= 200.0 + MOST_OUT_S + 2 * EVERY_S
    assert back + SLOW_START_S < 400.0


def test_a_server_that_a_reload_drops_while_its_visit_begins_does_no_harm(caplog):
    fleet, world = fleet_of(2), World(idle)
    for k in range(20):  # whatever order the two tasks wake in
        other = setup_of({"pool": servers(2, 9000 + 10 * k)})
        watched(fleet, world, 0.0, partial(fleet.renew, other, 0.0), lambda: None)
    watched(fleet, world, 3.0)
    assert {server for at, server, _ in world.asked if at > 1.0} == {
        "10.0.0.1:9190", "10.0.0.1:9191",
    }  # fmt: skip
    assert not caplog.records


@pytest.mark.parametrize(("status", "is_back"), [(200, True), (401, True), (503, False)])
def test_an_answer_to_a_probe_below_500_brings_a_server_back(status, is_back):
    async def answer(server: str, path: str) -> tuple[int, str]:
        return status, ""

    fleet, world = fleet_of(1, metrics="off"), World(answer)
    fleet.failed(fleet.instances[0], 0.0, "connect")
    watched(fleet, world, 3.0)
    models = world.times("10.0.0.1:8000", "/v1/models")
    assert len(models) == (status == 401)  # asked where /health tells nothing
    assert fleet.is_up("pool", 3.0) == is_back


def test_a_server_that_never_answers_is_ejected_after_so_many_pages():
    async def answer(server: str, path: str) -> tuple[int, str]:
        await asyncio.sleep(1e6)
        raise AssertionError

    fleet, world = fleet_of(1), World(answer)
    watched(fleet, world, FAILURES * (TIMEOUT_S + EVERY_S))
    assert not fleet.is_up("pool", FAILURES * (TIMEOUT_S + EVERY_S))
    assert len(world.times("10.0.0.1:8000", "/metrics")) == FAILURES


def test_a_server_too_busy_for_its_page_is_not_ejected_while_it_answers_requests():
    async def answer(server: str, path: str) -> tuple[int, str]:
        await asyncio.sleep(1.0)
        fleet.succeeded(fleet.instances[0], asyncio.get_running_loop().time())
        await asyncio.sleep(1e6)
        raise AssertionError

    fleet, world = fleet_of(1), World(answer)
    watched(fleet, world, 60.0)
    assert health_of(fleet).is_clear
    assert len(world.asked) > 10


def test_a_page_clears_no_suspicion():
    fleet, world = fleet_of(1), World(idle)
    fleet.failed(fleet.instances[0], 0.0, "status")
    watched(fleet, world, 5.0)
    assert health_of(fleet).state(5.0) is State.SUSPECTED


def test_a_cancelled_poller_leaves_no_visit_and_no_probe_behind():
    async def answer(server: str, path: str) -> tuple[int, str]:
        await asyncio.sleep(1.0)
        return 200, ""

    fleet, world = fleet_of(3, metrics="off"), World(answer)
    for instance in fleet.instances:
        fleet.failed(instance, 0.0, "connect")

    async def main() -> None:
        poller = asyncio.create_task(Poller(fleet, world.fetch).run())
        await asyncio.sleep(1.3)
        assert world.n_now == 3
        poller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await poller
        assert world.n_now == 0
        assert len(asyncio.all_tasks()) == 1

    run_at_once(main())
    assert all(health_of(fleet, k).may_probe(1.3) for k in range(3))


def test_a_reload_adds_and_drops_servers():
    fleet, world = fleet_of(2), World(idle)
    later = setup_of({"pool": (*servers(1), *servers(1, 9000))})
    watched(fleet, world, 5.0, lambda: fleet.renew(later, 5.0))
    assert max(world.times("10.0.0.1:8001", "/metrics")) < 5.0
    assert min(world.times("10.0.0.1:9000", "/metrics")) <= 5.0 + EVERY_S
    assert len(world.times("10.0.0.1:8000", "/metrics")) >= 8


# ---- The real client -----------------------------------------------------------------------------


def test_over_a_real_socket():
    """A page, then a closed port: seen, then ejected."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = PAGE.format(4, 1).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        there = {"pool": (Server(url=f"http://127.0.0.1:{port}"),)}
        loop = asyncio.get_running_loop()
        fleet = Fleet(replace(known_setup(1), endpoints=there), loop.time())
        upstream = Upstream()
        poller = asyncio.create_task(Poller(fleet, upstream.fetch, every_s=0.02).run())
        async with asyncio.timeout(10.0):
            while fleet.status(loop.time())[0]["telemetry_age_s"] is None:
                await asyncio.sleep(0.01)
            server.close()
            await server.wait_closed()
            while fleet.is_up("pool", loop.time()):
                await asyncio.sleep(0.01)
        poller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await poller
        await upstream.close()

    asyncio.run(main())
