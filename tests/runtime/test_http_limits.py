"""What a proxy in the open must withstand: size, slowness, clients of HTTP/1.0."""

from __future__ import annotations

import asyncio
import json

import pytest
from proxy_stand import (
    ANSWER,
    ASKED,
    BODY,
    DONE,
    HEAD,
    IN_CHUNKS,
    LENGTH,
    SMALL,
    STREAMED,
    delta,
    good,
    run,
    stand,
)
from scripted_server import Line, until

from planner.runtime.server import Limits

# ---- Size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X: " + b"a" * 3000 + b"\r\n\r\n",
        HEAD + b"X: " + b"a" * 3000,
        HEAD + b"X: aaaaaaaa\r\n" * 300 + b"\r\n",
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 3000,
    ],
    ids=["one", "one without end", "many", "target", "target without end"],
)
@pytest.mark.parametrize("size", [1 << 20, 500], ids=["at once", "in pieces"])
def test_a_head_that_is_too_large_is_refused(head: bytes, size: int):
    async def test() -> None:
        async with stand(limits=SMALL) as s:
            client = await s.client()
            await client.send(*(head[k : k + size] for k in range(0, len(head), size)))
            reply = await client.reply()
            assert (reply.status, reply.code) == (431, "headers_too_large")
            assert await client.rest() == b""

    run(test)


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_body_that_is_too_large_is_refused_and_the_client_can_read_why(is_chunked: bool):
    body = b'{"x":"' + b"x" * 500_000 + b'"}'

    async def test() -> None:
        async with stand(good, max_body_bytes=100_000) as s:
            client = await s.client()
            if is_chunked:
                data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                await client.send(IN_CHUNKS + data)
            else:
                await client.post(body)
            reply = await client.reply()
            assert (reply.status, reply.code) == (413, "body_too_large")
            await client.post(ASKED)  # what was left of the body is not taken for a request
            assert (await client.reply()).status == 200
            assert len(s.dispatcher.tickets) == 1

    run(test)


def test_a_request_that_was_answered_before_its_body_gets_no_second_answer():
    """Whoever sits in front would take it for the answer to the next request."""

    async def test() -> None:
        for rest in (b"", b"1\r\nx", b"zz\r\n"):
            async with stand(good, max_body_bytes=1000, limits=SMALL) as s:
                client = await s.client()
                await client.send(IN_CHUNKS + b"7d0\r\n" + b"x" * 2000 + b"\r\n")
                assert (await client.reply()).status == 413
                await client.send(rest)
                assert await client.rest() == b""

    run(test)


@pytest.mark.parametrize("field", ["x", "stream_options", "messages"])
def test_a_body_nested_too_deep_is_refused_or_passed_on_but_no_fault(
    field: str, caplog: pytest.LogCaptureFixture
):
    async def test() -> None:
        async with stand(good) as s:
            for depth in (100, *range(880, 1000, 3), 100_000):
                deep = b'{"model":"m","stream":true,"%b":' % field.encode()
                reply = await s.ask(deep + b"[" * depth + b"]" * depth + b"}")
                assert reply.status == 200 or reply.code == "invalid_body"

    run(test)
    assert caplog.text == ""


def test_who_asks_before_sending_a_body_is_answered_first():
    async def test() -> None:
        async with stand(good, max_body_bytes=100_000) as s:
            client = await s.client()
            await client.send(HEAD + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n")
            assert (await client.head()).status == 100
            await client.send(BODY)
            assert (await client.reply()).body == ANSWER
            other = await s.client()
            await other.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 200000\r\n\r\n")
            reply = await other.reply()
            assert (reply.status, reply.header("connection")) == (413, "close")
            assert await other.rest() == b""
            old = await s.client()  # who knows no interim answers is sent none
            await old.send(HEAD.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\n" + LENGTH)
            await old.send(b"\r\n" + BODY)
            assert (await old.reply()).status == 200

    run(test)


# ---- Time ----------------------------------------------------------------------------------------


SLOW = {
    "nothing": [],
    "half a line": [b"POST /v1"],
    "a header at a time": [HEAD] + [b"X-%d: 1\r\n" % k for k in range(200)],
    "a byte of a body at a time": [HEAD + b"Content-Length: 300\r\n\r\n"] + [b"x"] * 200,
    "after a whole request": [b"GET /health HTTP/1.1\r\n\r\n", b"GET /hea"],
}


@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW.keys())
def test_who_takes_too_long_is_given_up(pieces: list[bytes]):
    async def test() -> None:
        async with stand(good, limits=SMALL) as s:
            client = await s.client()
            loop = asyncio.get_running_loop()

            async def drip() -> None:
                for piece in pieces:
                    client.writer.write(piece)
                    await asyncio.sleep(0.02)

            dripping = asyncio.ensure_future(drip())
            begun_s = loop.time()
            text = await client.rest()
            assert 0.15 < loop.time() - begun_s < 3.8  # dripping takes 4 s
            assert b"408 Request Timeout" in text
            dripping.cancel()
            assert s.behind[0].n_opened == 0

    run(test)


def test_a_connection_that_is_not_used_is_closed_without_a_word():
    async def test() -> None:
        async with stand(limits=SMALL) as s:
            client = await s.client()
            await client.send(b"GET /health HTTP/1.1\r\n\r\n")
            await client.reply()
            assert await client.rest() == b""

    run(test)


def test_a_slow_line_is_waited_for_as_long_as_it_sends():
    async def test() -> None:
        limits = Limits(head_s=0.2, body_bytes_per_s=5_000.0)
        async with stand(good, limits=limits) as s:
            body = json.dumps({**ASKED, "pad": "x" * 10_000}).encode()
            client = await s.client()
            await client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
            for k in range(0, len(body), 1000):  # 0.4 s in all
                await client.send(body[k : k + 1000])
                await asyncio.sleep(0.035)
            assert (await client.reply()).status == 200

    run(test)


def test_a_client_that_never_reads_is_cut_and_frees_its_instance():
    async def script(line: Line) -> None:
        await line.request()
        await line.begin_stream()
        while True:
            await line.chunk(delta("x" * 100_000))

    async def test() -> None:
        async with stand(script, limits=SMALL) as s:
            client = await s.client()
            client.writer.transport.pause_reading()
            await client.post(STREAMED)
            await until(lambda: s.behind[0].n_open == 1)
            assert await until(lambda: s.behind[0].n_open == 0, 5.0) > 0.1
            assert s.dispatcher.end[:2] == ("cancelled", "client left")

    run(test)


def test_a_long_answer_is_no_idle_connection():
    async def script(line: Line) -> None:
        await line.request()
        await line.begin_stream()
        for _ in range(4):
            await asyncio.sleep(0.1)
            await line.chunk(delta("a"))
        await line.chunk(DONE)
        await line.end_stream()

    async def test() -> None:
        async with stand(script, limits=SMALL) as s:
            assert (await s.ask(STREAMED)).body == delta("a") * 4 + DONE

    run(test)


# ---- HTTP/1.0 ------------------------------------------------------------------------------------


async def in_bits(line: Line) -> None:
    await line.request()
    await line.begin_stream()
    await line.chunk(delta("a"), DONE)
    await line.end_stream()


async def cut_in_bits(line: Line) -> None:
    await line.request()
    await line.begin_stream()
    await line.chunk(delta("a"))


@pytest.mark.parametrize("script", [in_bits, good])
def test_an_old_client_gets_no_chunks_and_a_closed_connection(script):
    async def test() -> None:
        async with stand(script) as s:
            client = await s.client()
            body = json.dumps(STREAMED).encode()
            await client.send(
                HEAD.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n" % len(body)
            )
            await client.send(body)
            reply = await client.head()
            assert reply.header("transfer-encoding") is None
            assert reply.header("connection") == "close"
            assert await client.rest() == (ANSWER if script is good else delta("a") + DONE)

    run(test)


def test_an_old_client_sees_that_an_answer_was_cut():
    async def test() -> None:
        async with stand(cut_in_bits) as s:
            client = await s.client()
            body = json.dumps(STREAMED).encode()
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            await client.send(HEAD.replace(b"1.1", b"1.0") + length + body)
            with pytest.raises(ConnectionError):
                await client.reader.read()

    run(test)
