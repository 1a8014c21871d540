"""The server's sockets and framing, and what must hold whatever goes wrong around it."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import sys

import pytest
from proxy_stand import (
    ANSWER,
    ASKED,
    DONE,
    STREAMED,
    BookDispatcher,
    FewPages,
    Stand,
    delta,
    good,
    run,
    stand,
)
from scripted_server import Line, refused_port, until

from planner.runtime.proxy import Proxy
from planner.runtime.server import Server, listen, new_event_loop
from planner.runtime.upstream import Timeouts, Upstream

# ---- Sockets -------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_an_error_and_may_be_shared_on_purpose():
    with listen("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", port)
    with (
        listen("127.0.0.1", 0, reuse_port=True) as one,
        listen("127.0.0.1", one.getsockname()[1], reuse_port=True) as other,
    ):
        assert one.getsockname() == other.getsockname()
    with pytest.raises(socket.gaierror):
        listen("no.such.invalid", 0)


def test_several_sockets_lead_to_the_same_application():
    async def test() -> None:
        sockets = [listen("127.0.0.1", 0), listen("127.0.0.1", 0)]
        upstream = Upstream()
        clock = asyncio.get_running_loop().time
        server = Server(Proxy(BookDispatcher([]), upstream, FewPages(), clock), sockets)
        await server.start()
        for each in sockets:
            port = each.getsockname()[1]
            assert await upstream.fetch(f"http://127.0.0.1:{port}/health", {}, 1.0) == (
                200,
                '{"status":"ok"}',
            )
        await upstream.close()
        assert await server.closed(1.0)

    run(test)


def test_no_delay_is_set_on_both_sides():
    """Else a stream of small pieces waits 40 ms for the acknowledgement of each."""
    seen: list[int] = []

    async def test() -> None:
        async with stand(good) as s:
            await s.ask()
            for free in s.upstream._free.values():
                for connection in free:
                    sock = connection._transport.get_extra_info("socket")
                    seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            client = await s.client()
            await client.post(ASKED)
            await client.reply()
            for each in s.server._state.connections:
                sock = each.transport.get_extra_info("socket")
                seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    run(test)
    assert len(seen) >= 2
    assert all(seen)


def test_the_loop_is_uvloops_where_that_is_installed(monkeypatch: pytest.MonkeyPatch):
    uvloop = pytest.importorskip("uvloop")
    loop = new_event_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    loop.close()


def test_a_small_answer_is_one_write():
    async def test() -> None:
        async with stand(good) as s:
            client = await s.client()
            await client.post(ASKED)
            await client.reply()
            (connection,) = s.server._state.connections
            writes: list[bytes] = []
            write = connection.transport.write

            class Counting:
                def __getattr__(self, name: str) -> object:
                    return getattr(transport, name)

                def write(self, data: bytes) -> None:
                    writes.append(bytes(data))
                    write(data)

            transport, connection.transport = connection.transport, Counting()
            await client.post(ASKED)
            await client.reply()
            assert len(writes) == 1
            assert writes[0].endswith(ANSWER)

    run(test)


# ---- Whatever goes wrong -------------------------------------------------------------------------


def unreliable(chance: random.Random):
    """A server that does, request by request, one of the things that servers do."""

    async def script(line: Line) -> None:
        while True:
            request = await line.request()
            fate = chance.choice(
                ["good", "good", "stream", "stream", "503", "429", "400", "reset", "close",
                 "cut", "late", "close after"]
            )  # fmt: skip
            mark = json.loads(request.body)["user"]
            if fate == "good":
                await line.answer(json.dumps({"mark": mark}).encode())
            elif fate == "close after":
                await line.answer(json.dumps({"mark": mark}).encode())
                return None
            elif fate in ("stream", "cut"):
                await line.begin_stream()
                for _ in range(3):
                    await line.chunk(delta(mark))
                if fate == "cut":
                    return None
                await line.chunk(DONE)
                await line.end_stream()
            elif fate == "late":
                await line.left()
            elif fate == "reset":
                return line.reset()
            elif fate == "close":
                return None
            else:
                await line.answer(b"{}", f"{fate} Something")

    return script


async def one_client(s: Stand, chance: random.Random, mark: str) -> str:
    """Asks once, perhaps leaves too early; what came of it."""
    client = await s.client()
    asked = {**(STREAMED if chance.random() < 0.5 else ASKED), "user": mark}
    await client.post(asked)
    if chance.random() < 0.2:
        await asyncio.sleep(chance.random() * 0.02)
        client.leave()
        return "left"
    try:
        reply = await client.reply()
    except (asyncio.IncompleteReadError, ConnectionError):
        return "cut"
    client.leave()
    if reply.status == 200:
        # Nobody ever sees what was meant for another.
        assert set(re.findall(r"client-[0-9.e-]+", reply.body.decode())) == {mark}
    return str(reply.status)


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, new_event_loop])
@pytest.mark.parametrize("seed", range(2))
def test_every_request_is_ended_once_and_leaves_nothing_behind(seed: int, new_loop):
    chance = random.Random(seed)

    async def test() -> None:
        times = Timeouts(first_token_s=0.3, answer_s=0.3, idle_s=0.3)
        scripts = [unreliable(chance) for _ in range(3)]
        dead = [await refused_port()]
        async with stand(*scripts, timeouts=times, dead_ports=dead) as s:
            results: list[str] = []
            for _ in range(4):
                done = [one_client(s, chance, f"client-{chance.random()}") for _ in range(20)]
                results += await asyncio.gather(*done)
            await until(lambda: s.upstream.n_in_flight == 0)
            await until(lambda: not s.server._state.tasks)
            assert {"200", "400", "cut", "left"} <= set(results)
            ends = [[t for t in ticket.told if t[0] == "ended"] for ticket in s.dispatcher.tickets]
            assert all(len(each) == 1 for each in ends)
            n_ok = sum(each[0][1] == "ok" for each in ends)
            assert results.count("200") <= n_ok
            for server in s.behind:
                assert server.n_most_open <= 20

    run(test, new_loop)
