"""What a proxy in the open must withstand, over raw sockets: framing, headers, targets."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from proxy_stand import (
    ANSWER,
    BODY,
    CHAT,
    CHUNKED,
    DONE,
    HEAD,
    IN_CHUNKS,
    KEY,
    LENGTH,
    SMALL,
    STREAMED,
    Stand,
    delta,
    good,
    run,
    stand,
)
from scripted_server import Line, Request, until


class Recorder:
    """A server that answers and keeps what it was sent, up to the last byte."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.surplus = b""

    async def __call__(self, line: Line) -> None:
        while True:
            try:
                request = await line.request()
            except asyncio.IncompleteReadError as left:
                self.surplus += left.partial
                raise
            self.requests.append(request)
            await line.answer(ANSWER)


async def refusals(s: Stand, data: bytes) -> list[int]:
    """The statuses of all that is answered to some bytes, until the server ends the connection."""
    client = await s.client()
    await client.send(data)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) [A-Z]", await client.rest())]


# ---- Framing: what two servers could read differently --------------------------------------------


SMUGGLING = {
    "length and chunked": HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + CHUNKED,
    "two lengths": HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "the same length twice": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a length in hexadecimal": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "a negative length": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "a length too large to be one": HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nhello",
    "space before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "folded header": HEAD + b"X: a\r\n Content-Length: 5\r\n" + LENGTH + b"\r\n" + BODY,
    "folded encoding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED,
    "bare line feeds": HEAD.replace(b"\r\n", b"\n") + LENGTH.replace(b"\r", b"") + b"\n" + BODY,
    "one bare line feed": HEAD + b"X: a\nContent-Length: 5\r\n\r\nhello",
    "bare carriage return": HEAD + b"X: a\rContent-Length: 5\r\n\r\nhello",
    "encoding with a tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED,
    "unknown encoding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "encoding in two": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + CHUNKED,
    "chunked not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "chunked in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n"
    + CHUNKED,
    "a chunk size that is none": IN_CHUNKS + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk size too large": IN_CHUNKS + b"f" * 17 + b"\r\nx",
    "chunk ended by a line feed": IN_CHUNKS + b"5\nhello\n0\n\n",
    "chunk longer than its size": IN_CHUNKS + b"2\r\nhello\r\n0\r\n\r\n",
    "null in a header": HEAD + b"X: a\x00b\r\n" + LENGTH + b"\r\n" + BODY,
    "control character in a header": HEAD + b"X: a\x01b\r\n" + LENGTH + b"\r\n" + BODY,
    "no header name": HEAD + b": x\r\n" + LENGTH + b"\r\n" + BODY,
    "space in a header name": HEAD + b"X y: z\r\n" + LENGTH + b"\r\n" + BODY,
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/9.9": HEAD.replace(b"1.1", b"9.9") + LENGTH + b"\r\n" + BODY,
}  # fmt: skip


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_could_be_read_in_two_ways_is_refused(data: bytes):
    recorder = Recorder()

    async def test() -> None:
        async with stand(recorder) as s:
            # A second request behind: nobody may take it for one.
            behind = HEAD + LENGTH + b"\r\n" + BODY
            assert await refusals(s, data + behind) in ([400], [501])

    run(test)
    assert recorder.requests == []
    assert recorder.surplus == b""


def test_a_chunked_body_goes_up_with_its_length_and_without_trailers():
    recorder = Recorder()
    trailers = CHUNKED[:-2] + b"Authorization: Bearer stolen\r\nX-Trailer: 1\r\n\r\n"

    async def test() -> None:
        async with stand(recorder) as s:
            client = await s.client()
            for tail in (CHUNKED, trailers, b"5;ext=1\r\n" + BODY[:5] + b"\r\n"
                         b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) - 5, BODY[5:])):  # fmt: skip
                await client.send(IN_CHUNKS + tail)
                assert (await client.reply()).status == 200

    run(test)
    for request in recorder.requests:
        assert request.header("transfer-encoding") is None
        assert request.header("content-length") == str(len(request.body))
        assert request.header("x-trailer") is None
        assert request.header("authorization") == f"Bearer {KEY}"
        assert json.loads(request.body)["model"] == "model-0"


def test_a_request_before_the_answer_to_the_last_one_is_not_taken():
    """Else a client that leaves would not be seen: its connection would not be read."""

    async def test() -> None:
        recorder = Recorder()
        async with stand(recorder) as s:
            one = HEAD + LENGTH + b"\r\n" + BODY
            client = await s.client()
            await client.send(one + one + one)
            reply = await client.reply()
            assert (reply.status, reply.header("connection")) == (200, "close")
            assert await client.rest() == b""
        assert len(recorder.requests) == 1

    run(test)


def test_a_client_that_sent_more_and_leaves_is_seen():
    async def script(line: Line) -> None:
        await line.request()
        await line.left()

    async def test() -> None:
        async with stand(script) as s:
            client = await s.client()
            one = HEAD + LENGTH + b"\r\n" + BODY
            await client.send(one + one)
            await until(lambda: s.behind[0].n_open == 1)
            client.leave()
            await until(lambda: s.behind[0].n_open == 0)

    run(test)


@pytest.mark.parametrize("rubbish", [b"rubbish\r\n\r\n", HEAD, b"P"])
def test_rubbish_in_the_middle_of_an_answer_is_not_answered_into_it(rubbish: bytes):
    go = asyncio.Event()

    async def script(line: Line) -> None:
        await line.request()
        await line.begin_stream()
        await line.chunk(delta("a"))
        await go.wait()
        await line.chunk(DONE)
        await line.end_stream()

    async def test() -> None:
        async with stand(script, limits=SMALL) as s:
            client = await s.client()
            await client.post(STREAMED)
            await client.head()
            await client.chunk()
            await client.send(rubbish)
            await asyncio.sleep(0.3)  # longer than a head may take
            go.set()
            assert await client.chunk() == DONE
            assert await client.chunk() == b""
            assert await client.rest() == b""
            assert s.dispatcher.end[0] == "ok"

    run(test)


def test_a_body_that_breaks_on_its_way_is_refused_in_words():
    async def test() -> None:
        async with stand(good) as s:
            client = await s.client()
            await client.send(IN_CHUNKS + b"5\r\nhello\r\n")
            await asyncio.sleep(0.02)  # the application waits for the rest by now
            await client.send(b"zz\r\n")
            reply = await client.reply()
            assert (reply.status, reply.code) == (400, "invalid_http")
            assert await client.rest() == b""
            assert s.dispatcher.tickets == []

    run(test)


def test_a_fault_of_ours_is_500_and_tells_nothing(caplog: pytest.LogCaptureFixture):
    async def test() -> None:
        async with stand(good) as s:
            s.dispatcher.begin = None
            reply = await s.ask()
            assert (reply.status, reply.code) == (500, "internal_error")
            assert b"NoneType" not in reply.body

    run(test)
    assert "NoneType" in caplog.text


# ---- Headers, both ways --------------------------------------------------------------------------


def test_of_the_clients_headers_only_those_pass_that_may():
    recorder = Recorder()
    hidden = {
        "Authorization": "Bearer client-key",
        "Api-Key": "client-key",
        "X-Api-Key": "client-key",
        "Proxy-Authorization": "Basic client-key",
        "Cookie": "session=client-key",
        "OpenAI-Organization": "client-key",
        "Connection": "keep-alive, X-Hop , x-second",
        "Keep-Alive": "timeout=5",
        "Proxy-Connection": "keep-alive",
        "TE": "trailers",
        "Trailer": "X-T",
        "X-Hop": "1",
        "X-Second": "1",
        "Expect": "something",
        "Accept-Encoding": "gzip",
        "Content-Type": "text/plain",
        "X-Forwarded-For": "10.1.2.3",
        "Forwarded": "for=10.1.2.3",
        "X-Data-Parallel-Rank": "3",
        "X-RB-Class": "chat",
        "X-Rb-Anything": "1",
        "Traceparent": "00-1",
    }
    passed = {"X-Custom": "kept", "OpenAI-Beta": "assistants=v2", "Tracestate": "a=b"}
    lines = [f"{name}: {value}" for name, value in {**hidden, **passed}.items()]

    async def test() -> None:
        async with stand(recorder) as s:
            assert (await s.ask(None, CHAT, *lines, "X-Request-ID: mine")).status == 200

    run(test)
    (request,) = recorder.requests
    assert b"client-key" not in request.head
    assert b"10.1.2.3" not in request.head
    names = [
        line.split(b":")[0].decode().lower() for line in request.head.split(b"\r\n")[1:] if line
    ]
    assert sorted(names) == sorted(
        ["host", "content-type", "accept-encoding", "authorization", "content-length",
         "x-request-id", *(name.lower() for name in passed)]
    )  # fmt: skip
    assert request.header("authorization") == f"Bearer {KEY}"
    assert request.header("accept-encoding") == "identity"
    assert request.header("content-type") == "application/json"
    assert request.header("x-request-id") == "mine"
    assert request.header("x-custom") == "kept"


def test_of_the_servers_headers_only_those_pass_that_may():
    async def script(line: Line) -> None:
        await line.request()
        await line.answer(
            ANSWER, "200 OK", "Server: engine/1.0", "Date: now", "Via: 1.1 x",
            "Set-Cookie: a=b", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5",
            "OpenAI-Organization: org-of-the-operator", "X-Request-ID: theirs", "X-RB-Pool: forged",
            "Proxy-Authenticate: Basic", "Alt-Svc: h3", "X-Custom: kept", "Upgrade: h2c",
        )  # fmt: skip

    async def test() -> None:
        async with stand(script) as s:
            reply = await s.ask()
            assert dict(reply.headers) == {
                "content-length": str(len(ANSWER)),
                "content-type": "application/json",
                "x-custom": "kept",
                "x-rb-pool": "pool-0",
                "x-request-id": "rb-0",
            }
            assert len(reply.headers) == 5

    run(test)


def test_a_connection_header_cannot_take_away_what_an_answer_needs():
    async def script(line: Line) -> None:
        await line.request()
        await line.answer(ANSWER, "200 OK", "Connection: content-length, content-type")

    async def test() -> None:
        async with stand(script) as s:
            reply = await s.ask()
            assert reply.header("content-length") == str(len(ANSWER))
            assert reply.header("content-type") == "application/json"

    run(test)


@pytest.mark.parametrize(
    "frame",
    [
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b=c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
    ids=["carriage return", "line feed", "two lengths", "length and chunked"],
)
def test_a_server_cannot_split_an_answer(frame: bytes):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(frame)
        await line.left()

    async def test() -> None:
        async with stand(script) as s:
            reply = await s.ask()
            assert (reply.status, reply.code) == (502, "upstream_failed")
            assert reply.header("set-cookie") is None

    run(test)


def test_the_answer_to_one_client_never_holds_bytes_meant_for_another():
    """A server that sends a second answer ahead: it must not be given to the next request."""

    async def script(line: Line) -> None:
        n_before = 0
        while True:
            await line.request()
            assert n_before == 0
            n_before += 1
            forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
            await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright" + forged)

    async def test() -> None:
        async with stand(script) as s:
            for _ in range(3):
                assert (await s.ask()).body == b"right"

    run(test)


# ---- Targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/v1/chat/completions", 200),  # the host is not looked at
        ("/v1/chat/completions?api-version=1#x", 200),  # queries go nowhere
        ("/v1/../v1/chat/completions", 404),
        ("/v1/chat/completions/../../../admin", 404),
        ("/v1//chat/completions", 404),
        ("//v1/chat/completions", 404),
        ("/v1/chat%2fcompletions", 404),
        ("/v1/chat/completions/", 404),
        ("/v1/chat/completions%0d%0aX:1", 404),
        ("/V1/CHAT/COMPLETIONS", 404),
        ("/%2e%2e/metrics", 404),
        ("*", 404),
        ("evil.example:443", 400),
    ],
)
def test_only_the_known_paths_lead_anywhere(target: str, status: int):
    recorder = Recorder()

    async def test() -> None:
        async with stand(recorder) as s:
            data = HEAD.replace(CHAT.encode(), target.encode()) + LENGTH + b"\r\n" + BODY
            client = await s.client()
            await client.send(data)
            assert (await client.reply()).status == status

    run(test)
    assert [request.path for request in recorder.requests] == ([CHAT] if status == 200 else [])
    for request in recorder.requests:
        assert b"evil" not in request.head
        assert (request.header("host") or "").startswith("127.0.0.1:")


OFFERS = {
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n",
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
@pytest.mark.parametrize("size", [1 << 20, 7], ids=["at once", "in pieces"])
def test_an_offer_to_upgrade_is_ignored_and_its_body_is_a_body(offer: bytes, size: int):
    recorder = Recorder()
    forms = [HEAD + offer + LENGTH + b"\r\n" + BODY, IN_CHUNKS[:-2] + offer + b"\r\n" + CHUNKED]

    async def test() -> None:
        async with stand(recorder) as s:
            client = await s.client()
            for data in (*forms, b"GET /health HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n"):
                await client.send(*(data[k : k + size] for k in range(0, len(data), size)))
                reply = await client.reply()
                assert (reply.status, reply.header("connection")) == (200, None)

    run(test)
    assert [json.loads(request.body)["model"] for request in recorder.requests] == ["model-0"] * 2
    for request in recorder.requests:
        assert all(request.header(name) is None for name in ("upgrade", "http2-settings"))


@pytest.mark.parametrize("name", ["length and chunked", "two lengths", "unknown encoding"])
def test_an_offer_to_upgrade_hides_no_second_request(name: str):
    recorder = Recorder()
    head, _, rest = SMUGGLING[name].partition(b"\r\n")

    async def test() -> None:
        async with stand(recorder) as s:
            offered = head + b"\r\n" + OFFERS["h2c"] + rest
            assert await refusals(s, offered) in ([400], [501])
            body_is_request = HEAD + OFFERS["h2c"] + b"Content-Length: %d\r\n\r\n"
            inner = HEAD + LENGTH + b"\r\n" + BODY
            client = await s.client()
            await client.send(body_is_request % len(inner) + inner)
            assert (await client.reply()).code == "invalid_body"

    run(test)
    assert recorder.requests == []


def test_nobody_connects_through():
    async def test() -> None:
        async with stand(good) as s:
            assert await refusals(s, b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n") == [400]

    run(test)
