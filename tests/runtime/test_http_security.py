"""What a proxy in the open must withstand, over raw sockets: framing, headers, time, size."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from proxy_stand import ANSWER, ASKED, CHAT, DONE, KEY, STREAMED, Stand, delta, good, run, stand
from scripted_server import Line, Request, until

from planner.runtime.server import Limits

SMALL = Limits(head_bytes=2000, head_s=0.2, body_bytes_per_s=1e6, kept_s=0.2, unread_s=0.2)
BODY = json.dumps(ASKED).encode()
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n".encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


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


@pytest.mark.parametrize(
    "head",
    [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n",
    ],
    ids=["websocket", "h2c"],
)
def test_nothing_is_upgraded(head: bytes):
    recorder = Recorder()

    async def test() -> None:
        async with stand(recorder) as s:
            assert await refusals(s, HEAD + head + LENGTH + b"\r\n" + BODY) == [400]
            assert await refusals(s, b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n") == [400]

    run(test)
    assert recorder.requests == []


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
            assert 0.15 < loop.time() - begun_s < 1.5
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
        limits = Limits(head_s=0.2, body_bytes_per_s=20_000.0)
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
