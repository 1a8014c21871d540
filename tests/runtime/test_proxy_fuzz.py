"""Broken answers and broken clients at random: nobody ever gets a byte that was meant for another.

Every request carries a mark, and every answer repeats it. Servers break their answers (a flipped
byte, a piece too much or too few, an end in the wrong place); clients keep their connections, leave
in the middle, ask too early, speak HTTP/1.0. Whatever a client can read as an answer is its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import re

import pytest
from proxy_stand import ASKED, DONE, STREAMED, Client, Stand, delta, run, stand
from scripted_server import Line, until

from planner.runtime.server import Limits, new_event_loop
from planner.runtime.upstream import Timeouts

MARK = re.compile(rb"[0-9a-f]{16}")
TIMES = Timeouts(connect_s=0.5, first_token_s=0.1, answer_s=0.1, idle_s=0.1)
LIMITS = Limits(head_s=0.3, kept_s=0.3, unread_s=0.3)


def right_answer(chance: random.Random, mark: bytes) -> bytes:
    """A good answer of one of the forms that HTTP has."""
    body = b'{"mark":"' + (mark * chance.choice((1, 1, 300))) + b'"}'
    form = chance.choice(("length", "chunks", "stream", "close"))
    if form == "length":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    if form == "close":
        return b"HTTP/1.0 200 OK\r\n\r\n" + body
    pieces = [body[:5], body[5:]] if form == "chunks" else [delta(mark.decode()), DONE]
    kind = b"application/json" if form == "chunks" else b"text/event-stream"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def broken(chance: random.Random, answer: bytes) -> bytes:
    """The answer with a fault in it."""
    at = chance.randrange(min(len(answer), 150))
    return chance.choice((
        answer[:at],
        answer[:at] + bytes([chance.randrange(256)]) + answer[at + 1 :],
        answer[:at] + answer[at + chance.randrange(1, 30) :],
        answer + answer,  # one more than was asked for
        answer.replace(b"\r\n", b"\n", 1),
        answer.replace(b"\r\n", b"\r\nContent-Length: 3\r\n", 1),
        b"HTTP/1.1 103 Early\r\nX: 1\r\n\r\n" + answer,
    ))  # fmt: skip


def rude_server(chance: random.Random):
    async def script(line: Line) -> None:
        while True:
            request = await line.request()
            answer = right_answer(chance, json.loads(request.body)["user"].encode())
            if chance.random() < 0.4:
                answer = broken(chance, answer)
            if chance.random() < 0.1:
                return line.reset()
            at = chance.randrange(len(answer) + 1)
            # What is too much comes with the rest: a server that sends it later, when the next
            # request is there already, could not be told from one that answers that.
            for piece in (answer[:at], answer[at:]) if chance.random() < 0.5 else (answer,):
                await line.send(piece)
            if chance.random() < 0.3 or answer.startswith(b"HTTP/1.0"):
                return None

    return script


async def rude_client(s: Stand, chance: random.Random, marks: set[bytes], n_requests: int) -> int:
    """Asks again and again, on one connection while that lasts; the answers that were whole."""
    n_whole, client = 0, await s.client()
    for _ in range(n_requests):
        mark = b"%016x" % chance.getrandbits(64)
        marks.add(mark)
        asked = STREAMED if chance.random() < 0.5 else ASKED
        body = {**asked, "user": mark.decode()}
        try:
            await client.post(body, "/v1/chat/completions", *chance.choice(
                ([], [], ["Connection: close"], ["Connection: Upgrade", "Upgrade: h2c"])
            ))  # fmt: skip
            habit = chance.random()
            if habit < 0.1:
                await client.send(b"POST /v1")  # too early
            if habit > 0.9:
                await asyncio.sleep(0.02 * chance.random())
                raise ConnectionError
            n_whole += await read_own(client, marks - {mark})
        except (asyncio.IncompleteReadError, ConnectionError):
            client.leave()
            client = await s.client()
    client.leave()
    return n_whole


async def read_own(client: Client, of_others: set[bytes]) -> int:
    """Reads an answer, of which every byte may be looked at; 1 where it is whole and good."""
    reply = await client.reply()
    assert not of_others.intersection(MARK.findall(reply.body))
    if reply.header("connection") == "close":
        assert await client.rest() == b""
        raise ConnectionError
    return int(reply.status == 200)


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, new_event_loop])
@pytest.mark.parametrize("seed", range(2))
def test_nobody_gets_what_was_meant_for_another(seed: int, new_loop):
    chance = random.Random(seed)

    async def test() -> None:
        servers = [rude_server(chance) for _ in range(2)]
        async with stand(*servers, timeouts=TIMES, limits=LIMITS) as s:
            marks: set[bytes] = set()
            clients = [rude_client(s, chance, marks, 8) for _ in range(12)]
            assert sum(await asyncio.gather(*clients)) >= 12
            await until(lambda: s.upstream.n_in_flight == 0 and not s.server._state.tasks)
            ends = [[t for t in ticket.told if t[0] == "ended"] for ticket in s.dispatcher.tickets]
            assert all(len(each) == 1 for each in ends)
            assert all(each[0][2] != "bug" for each in ends)

    run(test, new_loop)
