"""The proxy end to end over sockets: what goes up, what comes back, what is tried again."""

from __future__ import annotations

import asyncio
import json

import pytest
from proxy_stand import (
    ANSWER,
    ASKED,
    CHAT,
    DONE,
    KEY,
    STREAMED,
    USAGE,
    delta,
    good,
    run,
    stand,
)
from scripted_server import Line, Request, refused_port, until

from planner.runtime.ask import Refusal
from planner.runtime.served import Usage
from planner.runtime.upstream import Timeouts

OK_END = ("ok", "", Usage(7, 3), 200)


def saying(status: str, body: bytes = b"{}", *headers: str):
    """A server that always answers the same."""

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.answer(body, status, *headers)

    return script


async def stream(line: Line, *pieces: bytes) -> None:
    await line.begin_stream()
    await line.chunk(*pieces)
    await line.end_stream()


async def streaming(line: Line) -> None:
    while True:
        request = await line.request()
        wants = json.loads(request.body).get("stream_options", {}).get("include_usage")
        await stream(line, delta("a"), delta("b"), *([USAGE] if wants else []), DONE)


# ---- What passes ---------------------------------------------------------------------------------


def test_a_plain_answer_comes_back_as_it_is():
    async def test() -> None:
        async with stand(good) as s:
            reply = await s.ask()
            assert (reply.status, reply.body) == (200, ANSWER)
            assert reply.header("content-type") == "application/json"
            assert reply.header("content-length") == str(len(ANSWER))
            assert reply.header("x-rb-pool") == "pool-0"
            assert reply.header("x-request-id") == "rb-0"
            assert s.dispatcher.end == OK_END
            assert s.dispatcher.tickets[0].told[0] == ("first_token",)

    run(test)


def test_only_the_model_of_a_body_is_rewritten():
    seen: list[Request] = []

    async def script(line: Line) -> None:
        seen.append(await line.request())
        await line.answer(ANSWER)

    body = (
        b'{ "model": "rb/auto", "messages":[{"role":"user","content":"\\u00fc\\n"}],'
        b'"tools":[{"type":"function","x":1e2}],"response_format":{"type":"json_object"},'
        b'"unknown":{"deep":[1,2.50,null]}}'
    )

    async def test() -> None:
        async with stand(script) as s:
            await s.ask(body)

    run(test)
    sent = json.loads(seen[0].body)
    assert sent == {**json.loads(body), "model": "model-0"}
    assert b'{"type":"function","x":1e2}' in seen[0].body
    assert b'{"deep":[1,2.50,null]}' in seen[0].body
    assert seen[0].path == CHAT
    assert seen[0].header("content-type") == "application/json"


@pytest.mark.parametrize("base", ["", "/v1", "/prefix/v1", "/prefix"])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
def test_each_path_goes_to_its_own_below_the_address(path: str, base: str):
    seen: list[Request] = []

    async def script(line: Line) -> None:
        seen.append(await line.request())
        await line.answer(ANSWER)

    async def test() -> None:
        async with stand(script, base=base) as s:
            assert (await s.ask({"model": "m", "input": "x", "prompt": "x"}, path)).status == 200

    run(test)
    assert seen[0].path == base.removesuffix("/v1") + path


def test_a_stream_comes_piece_by_piece_and_without_the_usage_that_was_not_asked_for():
    go = asyncio.Event()

    async def script(line: Line) -> None:
        request = await line.request()
        assert json.loads(request.body)["stream_options"] == {"include_usage": True}
        await line.begin_stream()
        await line.chunk(delta("a"))
        await go.wait()
        await line.chunk(delta("b"), USAGE, DONE)
        await line.end_stream()
        await line.left()

    async def test() -> None:
        async with stand(script) as s:
            client = await s.client()
            await client.post(STREAMED)
            head = await client.head()
            assert head.header("content-type") == "text/event-stream; charset=utf-8"
            assert await client.chunk() == delta("a")  # while the rest is not even written
            assert s.dispatcher.tickets[0].told == [("first_token",)]
            go.set()
            rest = b""
            while piece := await client.chunk():
                rest += piece
            assert rest == delta("b") + DONE
            assert s.dispatcher.end == OK_END

    run(test)


def test_usage_that_was_asked_for_stays():
    async def test() -> None:
        async with stand(streaming) as s:
            asked = {**STREAMED, "stream_options": {"include_usage": True}}
            reply = await s.ask(asked)
            assert reply.body == delta("a") + delta("b") + USAGE + DONE
            assert s.dispatcher.end == OK_END

    run(test)


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
def test_who_refuses_stream_options_is_asked_without_them_and_remembered(status: str):
    n_refused = 0

    async def script(line: Line) -> None:
        nonlocal n_refused
        while True:
            request = await line.request()
            if b"stream_options" in request.body:
                n_refused += 1
                await line.answer(b'{"error":"extra field: stream_options"}', status)
            else:
                await stream(line, delta("a"), DONE)

    async def test() -> None:
        async with stand(script) as s:
            for _ in range(2):
                assert (await s.ask(STREAMED)).body == delta("a") + DONE
                assert s.dispatcher.end == ("ok", "", None, 200)
            assert n_refused == 1
            assert s.dispatcher.tickets[0].tried == [0]

    run(test)


def test_other_refusals_come_back_as_they_are():
    async def test() -> None:
        text = b'{"error":{"message":"too long"}}'
        async with stand(saying("400 Bad Request", text), good) as s:
            for asked in (ASKED, STREAMED):
                reply = await s.ask(asked)
                assert (reply.status, reply.body) == (400, text)
                assert s.dispatcher.end == ("error", "upstream status", None, 400)
                assert s.dispatcher.tickets[-1].tried == [0]

    run(test)


@pytest.mark.parametrize(
    "frame",
    [b"204 No Content\r\n\r\n", b"304 Not Modified\r\nContent-Length: 55\r\n\r\n"],
    ids=["204", "304"],
)
def test_an_answer_without_body_passes_as_it_is(frame: bytes):
    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.send(b"HTTP/1.1 " + frame)

    async def test() -> None:
        async with stand(script) as s:
            client = await s.client()
            for _ in range(2):
                await client.post(ASKED)
                assert (await client.head()).status == int(frame[:3])
                assert s.dispatcher.end[0] == "ok"
            assert s.behind[0].n_opened == 1

    run(test)


def test_a_large_answer_passes_whole():
    large = (
        b'{"data":"' + b"x" * 3_000_000 + b'","usage":{"prompt_tokens":7,"completion_tokens":3}}'
    )

    async def test() -> None:
        async with stand(saying("200 OK", large)) as s:
            assert (await s.ask()).body == large
            assert s.dispatcher.end == OK_END

    run(test)


def test_a_large_body_goes_up_whole():
    asked = {**ASKED, "picture": "x" * 3_000_000}

    async def script(line: Line) -> None:
        request = await line.request()
        assert json.loads(request.body) == {**asked, "model": "model-0"}
        await line.answer(ANSWER)

    async def test() -> None:
        async with stand(script) as s:
            assert (await s.ask(asked)).status == 200

    run(test)


def test_connections_are_kept_on_both_sides():
    async def test() -> None:
        async with stand(good, streaming) as s:
            client = await s.client()
            for _ in range(20):
                await client.post(ASKED)
                assert (await client.reply()).status == 200
            assert s.behind[0].n_opened == s.upstream.n_opened == 1
            await asyncio.gather(*(s.ask() for _ in range(4)))
            assert s.behind[0].n_opened <= 4

    run(test)


# ---- What is tried again -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("429 Too Many Requests", "busy"),
        ("502 Bad Gateway", "status"),
        ("503 Service Unavailable", "status"),
        ("504 Gateway Timeout", "status"),
        ("401 Unauthorized", "status"),
        ("403 Forbidden", "status"),
    ],
)
def test_an_instance_that_cannot_now_is_replaced(status: str, kind: str):
    async def test() -> None:
        async with stand(saying(status), good) as s:
            reply = await s.ask()
            assert (reply.status, reply.header("x-rb-pool")) == (200, "pool-1")
            assert s.dispatcher.tickets[0].told[0] == ("failed", 0, kind)
            assert s.dispatcher.end == OK_END

    run(test)


def test_the_last_refusal_is_what_the_client_hears():
    async def test() -> None:
        busy = saying("429 Too Many Requests", b'{"error":{}}', "retry-after: 7")
        async with stand(busy) as s:
            reply = await s.ask()
            assert (reply.status, reply.body) == (429, b'{"error":{}}')
            assert reply.header("retry-after") == "7"
            assert s.dispatcher.end == ("error", "busy", None, 429)

    run(test)


def test_a_key_that_is_refused_is_not_shown_to_the_client():
    async def test() -> None:
        said = f'{{"error":"Incorrect API key provided: {KEY}"}}'.encode()
        async with stand(saying("401 Unauthorized", said)) as s:
            reply = await s.ask()
            assert (reply.status, reply.code) == (502, "upstream_key_refused")
            assert KEY.encode() not in reply.body

    run(test)


CUT_EARLY = {
    "at once": b"",
    "in the head": b"HTTP/1.1 200 OK\r\ncontent-",
    "after the head": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    "no HTTP": b"what?\r\n\r\n",
}


@pytest.mark.parametrize("frame", CUT_EARLY.values(), ids=CUT_EARLY.keys())
def test_an_instance_that_ends_before_the_first_byte_is_replaced(frame: bytes):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(frame)

    async def test() -> None:
        async with stand(script, good) as s:
            for asked in (ASKED, STREAMED):
                reply = await s.ask(asked)
                assert (reply.status, reply.body) == (200, ANSWER)
                assert s.dispatcher.tickets[-1].told[0] == ("failed", 0, "reset")

    run(test)


def test_nobody_there_is_502_at_once_and_another_is_taken_where_there_is_one():
    async def test() -> None:
        dead = [await refused_port(), await refused_port()]
        async with stand(dead_ports=dead) as s:
            begun_s = asyncio.get_running_loop().time()
            reply = await s.ask()
            assert asyncio.get_running_loop().time() - begun_s < 2.0
            assert (reply.status, reply.code) == (502, "upstream_failed")
            assert s.dispatcher.end == ("error", "connect", None, 502)
            assert s.dispatcher.tickets[0].tried == [0, 1]
        async with stand(good, dead_ports=dead) as s:
            assert (await s.ask()).header("x-rb-pool") == "pool-2"

    run(test)


def test_no_instance_at_all_is_503_with_a_time_to_come_back():
    async def test() -> None:
        async with stand() as s:
            reply = await s.ask()
            assert (reply.status, reply.code) == (503, "no_instance")
            assert reply.header("retry-after") == "1"
            assert s.dispatcher.end == ("error", "no instance", None, 503)

    run(test)


@pytest.mark.parametrize("asked", [ASKED, STREAMED], ids=["plain", "stream"])
def test_an_instance_that_is_silent_is_504_and_nobody_else_is_asked(asked: object):
    async def silent(line: Line) -> None:
        await line.request()
        await line.left()

    async def test() -> None:
        times = Timeouts(first_token_s=0.1, answer_s=0.1, idle_s=0.1)
        async with stand(silent, good, timeouts=times) as s:
            reply = await s.ask(asked)
            assert (reply.status, reply.code) == (504, "upstream_timeout")
            assert s.dispatcher.end == ("error", "timeout", None, 504)
            assert s.dispatcher.tickets[0].tried == [0]
            await until(lambda: s.behind[0].n_open == 0)

    run(test)


# ---- What is cut ---------------------------------------------------------------------------------


async def cut_stream(line: Line) -> None:
    await line.request()
    await line.begin_stream()
    await line.chunk(delta("a"))
    await asyncio.sleep(0.01)


async def cut_plain(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", b"hel")


async def cut_unframed(line: Line) -> None:
    """Ends as its framing allows, but without what ends a stream of events."""
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", delta("a"))


async def stops(line: Line) -> None:
    await line.request()
    await line.begin_stream()
    await line.chunk(delta("a"))
    await line.left()


@pytest.mark.parametrize("script", [cut_stream, cut_plain, cut_unframed, stops])
def test_an_answer_that_is_cut_is_cut_for_the_client_too(script):
    async def test() -> None:
        times = Timeouts(first_token_s=5.0, idle_s=0.1)
        async with stand(script, good, timeouts=times) as s:
            client = await s.client()
            await client.post(STREAMED)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.reply()
            assert DONE not in await client.rest()
            assert s.dispatcher.end == ("error", "cut", None, 200)
            assert s.dispatcher.tickets[0].tried == [0]

    run(test)


def test_a_stream_that_ends_with_its_connection_and_says_so_is_whole():
    async def script(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", delta("a"))
        await line.send(DONE)

    async def test() -> None:
        async with stand(script) as s:
            assert (await s.ask(STREAMED)).body == delta("a") + DONE

    run(test)


def test_a_request_that_is_held_back_is_sent_when_its_time_has_come():
    async def test() -> None:
        async with stand(good) as s:
            s.dispatcher.held_s = 0.05
            begun_s = asyncio.get_running_loop().time()
            assert (await s.ask()).body == ANSWER
            assert asyncio.get_running_loop().time() - begun_s >= 0.05
            s.dispatcher.held_s = 10.0
            client = await s.client()
            await client.post(ASKED)
            await until(lambda: len(s.dispatcher.tickets) == 2)
            client.leave()
            await until(lambda: bool(s.dispatcher.tickets[1].told))
            assert s.dispatcher.end[0] == "cancelled"

    run(test)


# ---- Clients that leave, or do not read ----------------------------------------------------------


@pytest.mark.parametrize("has_begun", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("asked", [ASKED, STREAMED], ids=["plain", "stream"])
def test_a_client_that_leaves_frees_its_instance_at_once(asked: object, has_begun: bool):
    async def script(line: Line) -> None:
        await line.request()
        if has_begun:
            await line.begin_stream()
            await line.chunk(delta("a"))
        await line.left()

    async def test() -> None:
        async with stand(script) as s:
            waits_s = []
            for _ in range(3):  # a busy machine may be late once
                client = await s.client()
                await client.post(asked)
                await until(lambda: s.behind[0].n_open == 1)
                if has_begun:
                    await client.head()
                    await client.chunk()
                else:
                    await asyncio.sleep(0.01)
                client.leave()
                waits_s.append(await until(lambda: s.behind[0].n_open == 0))
                assert s.dispatcher.end == ("cancelled", "client left", None, 499)
                assert s.upstream.n_in_flight == 0
            assert min(waits_s) < 0.05

    run(test)


def test_a_client_that_leaves_while_its_body_is_on_the_way_is_nothing():
    async def test() -> None:
        async with stand(good) as s:
            client = await s.client()
            await client.send(b"POST %b HTTP/1.1\r\ncontent-length: 100\r\n\r\n{" % CHAT.encode())
            await asyncio.sleep(0.02)
            client.leave()
            await asyncio.sleep(0.02)
            assert s.dispatcher.tickets == []

    run(test)


def test_a_client_that_does_not_read_stops_its_instance_and_takes_no_memory():
    n_sent = 0

    async def script(line: Line) -> None:
        nonlocal n_sent
        await line.request()
        await line.begin_stream()
        piece = delta("x" * 50_000)
        for _ in range(600):
            await line.chunk(piece)
            n_sent += len(piece)
        await line.chunk(DONE)
        await line.end_stream()
        await line.left()

    async def test() -> None:
        async with stand(script, timeouts=Timeouts(idle_s=0.5)) as s:
            client = await s.client()
            client.writer.transport.pause_reading()
            await client.post(STREAMED)
            seen = -1
            while seen != n_sent:
                seen = n_sent
                await asyncio.sleep(0.7)  # an instance that is made to wait is not overdue
            assert n_sent < 15_000_000  # what the kernels hold, not what we do
            client.writer.transport.resume_reading()
            reply = await client.reply()
            assert len(reply.body) > 600 * 50_000
            assert reply.body.endswith(DONE)
            assert s.dispatcher.end[0] == "ok"

    run(test)


# ---- Cascades ------------------------------------------------------------------------------------


def test_a_first_answer_that_is_trusted_is_delivered_as_judged():
    async def test() -> None:
        async with stand(streaming, good) as s:
            s.dispatcher.is_buffered = True
            s.dispatcher.verdicts = [delta("judged") + DONE]
            reply = await s.ask(STREAMED)
            assert reply.body == delta("judged") + DONE
            assert reply.header("content-type") == "text/event-stream; charset=utf-8"
            assert s.dispatcher.judged == [(delta("a") + delta("b") + USAGE + DONE, True)]
            assert s.dispatcher.end == OK_END

    run(test)


def test_a_first_answer_that_is_not_trusted_is_never_seen():
    async def test() -> None:
        async with stand(saying("200 OK", b"small"), good) as s:
            s.dispatcher.is_buffered = True
            s.dispatcher.verdicts = [None]
            reply = await s.ask()
            assert (reply.body, reply.header("x-rb-pool")) == (ANSWER, "pool-1")
            assert s.dispatcher.judged == [(b"small", False)]
            assert s.dispatcher.end == OK_END

    run(test)


def test_where_the_second_stage_is_down_the_first_answer_is_better_than_none():
    async def test() -> None:
        async with stand(saying("200 OK", b"small"), saying("503 Busy")) as s:
            s.dispatcher.is_buffered = True
            s.dispatcher.verdicts = [None]
            reply = await s.ask()
            assert (reply.status, reply.body) == (200, b"small")
            assert reply.header("x-rb-pool") == "pool-0"
            assert s.dispatcher.end == ("ok", "", None, 200)

    run(test)


def test_a_first_answer_that_is_cut_goes_on_to_the_next_instance():
    async def cut_late(line: Line) -> None:
        await asyncio.sleep(0.3)
        await cut_stream(line)

    async def test() -> None:
        async with stand(cut_late, streaming) as s:
            s.dispatcher.is_buffered = True
            s.dispatcher.verdicts = [b"good"]
            reply = await s.ask(STREAMED)
            assert (reply.body, reply.header("x-rb-pool")) == (b"good", "pool-1")
            (ticket,) = s.dispatcher.tickets
            assert ticket.told[1] == ("failed", 0, "reset")
            assert 0.0 < ticket.decision_s < 0.25  # of the first instance, without its failure

    run(test)


# ---- Refusals and pages --------------------------------------------------------------------------


def test_a_refusal_of_the_dispatcher_is_told_with_its_time():
    async def test() -> None:
        async with stand(good) as s:
            s.dispatcher.refusal = Refusal(429, "over_capacity", "full", 2.2)
            reply = await s.ask()
            assert (reply.status, reply.code) == (429, "over_capacity")
            assert reply.header("retry-after") == "3"

    run(test)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model":1}', b"{}", b'{"model":"m","stream":3}', b"\xff"]
)
def test_a_body_that_cannot_be_read_is_400(body: bytes):
    async def test() -> None:
        async with stand(good) as s:
            reply = await s.ask(body)
            assert (reply.status, reply.code) == (400, "invalid_body")
            assert s.behind[0].n_opened == 0

    run(test)


async def page(s, request: bytes):
    client = await s.client()
    await client.send(request)
    reply = await client.reply()
    client.leave()
    return reply


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        ("GET /health", 200, b'{"status":"ok"}'),
        ("GET /ready", 200, b'{"status":"ready"}'),
        ("GET /metrics", 200, b"accept text/plain"),
        ("GET /rb/status", 200, b'{"pools":[]}'),
        ("GET /rb/drift", 200, b'{"fits":true}'),
        ("POST /health", 405, None),
        ("GET /v1/chat/completions", 405, None),
        ("DELETE /rb/feedback", 405, None),
        ("GET /", 404, None),
        ("GET /v1", 404, None),
        ("POST /v1/files", 404, None),
    ],
)
def test_pages(line: str, status: int, body: bytes | None):
    async def test() -> None:
        async with stand() as s:
            reply = await page(s, f"{line} HTTP/1.1\r\nAccept: text/plain\r\n\r\n".encode())
            assert reply.status == status
            assert body is None or reply.body == body
            assert status != 405 or reply.header("allow") in ("GET", "POST")

    run(test)


def test_models_feedback_and_readiness():
    async def test() -> None:
        async with stand() as s:
            models = await page(s, b"GET /v1/models HTTP/1.1\r\n\r\n")
            assert [m["id"] for m in json.loads(models.body)["data"]] == ["rb/auto", "small"]
            assert (await s.ask({"score": 1}, "/rb/feedback")).status == 400
            assert (await s.ask(b'{"score":1}', "/rb/feedback")).status == 200
            s.dispatcher.ready = False
            reply = await page(s, b"GET /ready HTTP/1.1\r\n\r\n")
            assert (reply.status, reply.code) == (503, "not_ready")

    run(test)


def test_who_has_no_key_comes_no_further_than_health():
    async def test() -> None:
        async with stand(good, client_key="secret") as s:
            for sent in ((), ("Authorization: Bearer wrong",), ("Authorization: secret",),
                         ("Authorization: Bearer secret", "Authorization: Bearer x")):  # fmt: skip
                reply = await s.ask(None, CHAT, *sent)
                assert (reply.status, reply.code) == (401, "invalid_api_key")
            assert (await page(s, b"GET /rb/status HTTP/1.1\r\n\r\n")).status == 401
            assert (await page(s, b"GET /health HTTP/1.1\r\n\r\n")).status == 200
            assert s.behind[0].n_opened == 0
            assert (await s.ask(None, CHAT, "Authorization: Bearer secret")).status == 200

    run(test)


# ---- The end of a server -------------------------------------------------------------------------


def test_draining_finishes_what_was_begun_and_takes_no_more():
    go = asyncio.Event()

    async def script(line: Line) -> None:
        await line.request()
        await line.begin_stream()
        await line.chunk(delta("a"))
        await go.wait()
        await line.chunk(DONE)
        await line.end_stream()
        await line.left()

    async def test() -> None:
        async with stand(script) as s:
            idle, busy = await s.client(), await s.client()
            await idle.send(b"GET /health HTTP/1.1\r\n\r\n")
            await idle.reply()
            await busy.post(STREAMED)
            await busy.head()
            closing = asyncio.ensure_future(s.server.closed(5.0))
            assert await idle.rest() == b""  # closed, nothing was due on it
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", s.port)
            assert not closing.done()
            go.set()
            assert await closing is True
            assert b"[DONE]" in await busy.rest()
            assert s.dispatcher.end[0] == "ok"

    run(test)


def test_what_is_not_done_in_time_is_aborted():
    async def test() -> None:
        async with stand(stops) as s:
            client = await s.client()
            await client.post(STREAMED)
            await client.head()
            assert await s.server.closed(0.1) is False
            assert s.dispatcher.end[0] == "cancelled"
            await until(lambda: s.behind[0].n_open == 0)
            assert DONE not in await client.rest()

    run(test)
