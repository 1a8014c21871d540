"""The client of upstream servers: connections, answers, failures, against a server to order."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable

import pytest
from scripted_server import Line, ScriptedServer, refused_port, until

from planner.runtime import upstream as upstream_module
from planner.runtime.upstream import Timeouts, Upstream, read_whole
from planner.runtime.wire import HELD_BYTES, MAX_HEAD_BYTES, Address, Answer, UpstreamError

ASK = b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
QUICK = Timeouts(connect_s=1.0, first_token_s=0.2, answer_s=0.2, idle_s=0.2)


def play(
    script: Callable[[Line], Awaitable[None]],
    use: Callable[[Upstream, Address, ScriptedServer], Awaitable[object]],
    timeouts: Timeouts | None = None,
) -> ScriptedServer:
    """Runs a use of the client against a server that follows a script."""

    async def main() -> ScriptedServer:
        async with ScriptedServer(script) as server:
            client = Upstream(timeouts)
            try:
                await use(client, Address("127.0.0.1", server.port, False), server)
            finally:
                await client.close()
            assert client.n_in_flight == 0
            assert client.n_free == 0
            return server

    return asyncio.run(main())


async def whole(client: Upstream, address: Address, first_byte_s: float = 2.0) -> tuple[int, bytes]:
    answer = await client.send(address, ASK, first_byte_s)
    return answer.status, await read_whole(answer, 1 << 30)


async def failure(client: Upstream, address: Address, first_byte_s: float = 2.0) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await whole(client, address, first_byte_s)
    return caught.value


async def echo(line: Line) -> None:
    """Answers every request with its body."""
    while True:
        request = await line.request()
        await line.answer(request.body)


# ---- Answers -------------------------------------------------------------------------------------


FRAMES = {
    "length": OK + b"Content-Length: 5\r\n\r\nhello",
    "chunked": CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "chunk extensions": CHUNKED.replace(b"chunked", b"Chunked") + b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + OK
    + b"Content-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("pieces", [1, 3, 1000], ids=["whole", "thirds", "bytes"])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_an_answer_is_read_however_it_is_framed_and_cut(frame: bytes, pieces: int):
    size = max(1, len(frame) // pieces)

    async def script(line: Line) -> None:
        for _ in range(2):  # the same connection serves again
            await line.request()
            for k in range(0, len(frame), size):
                line.writer.write(frame[k : k + size])
                await asyncio.sleep(0)
        await line.left()

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        for _ in range(2):
            answer = await client.send(address, ASK, 2.0)
            assert answer.status == 200
            assert await read_whole(answer, 100) == b"hello"
            assert b"x-t" not in dict(answer.headers)
            assert b"link" not in dict(answer.headers)
            assert answer.is_over
        assert server.n_opened == client.n_opened == 1

    play(script, use)


def test_an_answer_without_length_ends_with_its_connection():
    async def script(line: Line) -> None:
        await line.request()
        await line.send(OK + b"\r\nhel", b"lo")

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        answer = await client.send(address, ASK, 2.0)
        assert not answer.is_delimited
        assert await read_whole(answer, 100) == b"hello"
        assert client.n_free == 0

    play(script, use)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_that_has_no_body_leaves_its_connection_free(status: str):
    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.send(f"HTTP/1.1 {status}\r\n\r\n".encode())

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        for _ in range(2):
            assert await whole(client, address) == (int(status[:3]), b"")
        assert server.n_opened == 1

    play(script, use)


BROKEN = {
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "other encoding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "folded header": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare line feed": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "control character": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "switching": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "no status": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "bad chunk": CHUNKED + b"zz\r\n",
}


@pytest.mark.parametrize("frame", BROKEN.values(), ids=BROKEN.keys())
def test_an_answer_that_is_not_http_is_refused(frame: bytes):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(frame)
        await line.left()

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        assert (await failure(client, address)).kind == "protocol"

    play(script, use)


@pytest.mark.parametrize(
    "endless",
    [
        OK + b"X: " + b"a" * (MAX_HEAD_BYTES + 10),
        OK + b"X: " + b"a" * (MAX_HEAD_BYTES + 10) + b"\r\nContent-Length: 0\r\n\r\n",
        OK + b"" + b"X: a\r\n" * 20_000,
        CHUNKED + b"0\r\nX: " + b"a" * 200_000,
        CHUNKED + b"1;" + b"a" * 200_000,
    ],
    ids=["one", "one that ends", "many", "trailers", "chunk extension"],
)
def test_headers_without_end_are_refused(endless: bytes):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(endless)
        await line.left()

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        assert (await failure(client, address)).kind == "protocol"

    play(script, use)


CUT = {
    "before a byte": b"",
    "in the head": OK + b"Content-Le",
    "after the head": OK + b"Content-Length: 5\r\n\r\n",
    "in the body": OK + b"Content-Length: 5\r\n\r\nhel",
    "in a chunk": CHUNKED + b"5\r\nhel",
    "before the last chunk": CHUNKED + b"5\r\nhello\r\n",
}


@pytest.mark.parametrize("with_rst", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("frame", CUT.values(), ids=CUT.keys())
def test_an_answer_that_is_cut_is_a_failure_and_never_an_end(frame: bytes, with_rst: bool):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(frame)
        await asyncio.sleep(0.01)
        if with_rst:
            line.reset()

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        error = await failure(client, address)
        assert error.kind == "reset"
        assert error.is_unanswered == (frame == b"")
        assert server.n_opened == 1  # it was a new connection: not sent again

    play(script, use)


@pytest.mark.parametrize("with_rst", [False, True], ids=["closed", "reset"])
def test_a_server_that_hangs_up_on_everybody_is_a_failure_each_time(with_rst: bool):
    async def script(line: Line) -> None:
        if with_rst:
            line.reset()

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        for _ in range(20):
            async with asyncio.timeout(2.0):
                assert (await failure(client, address)).kind == "reset"
        assert client.n_in_flight == 0

    play(script, use)


def test_what_came_before_the_cut_is_read_first():
    async def script(line: Line) -> None:
        await line.request()
        await line.send(OK + b"Content-Length: 50\r\n\r\n", b"hel", b"lo")

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        answer = await client.send(address, ASK, 2.0)
        await until(lambda: server.n_open == 0)
        await asyncio.sleep(0.01)
        assert await answer.read() == b"hello"
        with pytest.raises(UpstreamError):
            await answer.read()

    play(script, use)


# ---- Connections ---------------------------------------------------------------------------------


def test_never_more_connections_than_requests_at_once():
    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        for n_at_once in (1, 4, 2, 4, 1):
            for _ in range(5):
                done = await asyncio.gather(*(whole(client, address) for _ in range(n_at_once)))
                assert done == [(200, b"{}")] * n_at_once
        assert server.n_opened == client.n_opened == server.n_most_open == 4
        assert client.n_free == 4

    play(echo, use)


def test_the_connection_used_last_is_taken_first():
    ports: list[int] = []

    async def script(line: Line) -> None:
        while True:
            await line.request()
            ports.append(line.writer.get_extra_info("peername")[1])
            await line.answer(b"{}")

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        await asyncio.gather(*(whole(client, address) for _ in range(3)))
        del ports[:]
        for _ in range(5):
            await whole(client, address)
        assert len(set(ports)) == 1

    play(script, use)


def test_a_stale_connection_is_replaced_once_before_any_byte():
    async def script(line: Line) -> None:
        await line.request()
        await line.answer(b"{}")
        await line.request()  # taken, and never answered

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        assert await whole(client, address) == (200, b"{}")
        assert await whole(client, address) == (200, b"{}")
        assert server.n_opened == 2

    play(script, use)


def test_a_reused_connection_that_ends_after_a_byte_is_not_asked_again():
    n_requests = 0

    async def script(line: Line) -> None:
        nonlocal n_requests
        await line.request()
        await line.answer(b"{}")
        await line.request()
        n_requests += 1
        await line.send(b"HTTP")

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        await whole(client, address)
        assert (await failure(client, address)).kind == "reset"
        assert server.n_opened == n_requests == 1

    play(script, use)


@pytest.mark.parametrize(
    "frame",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake",
        OK + b"Content-Length: 2\r\n\r\n{}surplus",
    ],
    ids=["close", "1.0", "another answer", "surplus"],
)
def test_a_connection_that_cannot_be_trusted_is_not_used_again(frame: bytes):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(frame)
        await line.left()

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        for _ in range(3):
            assert await whole(client, address) == (200, b"{}")
        assert server.n_opened == 3
        assert client.n_free == 0

    play(script, use)


def test_an_idle_connection_that_speaks_is_closed():
    async def script(line: Line) -> None:
        await line.request()
        await line.answer(b"{}")
        await asyncio.sleep(0.02)
        await line.send(OK + b"Content-Length: 4\r\n\r\nfake")
        await line.left()

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        await whole(client, address)
        await until(lambda: client.n_free == 0)
        assert await whole(client, address) == (200, b"{}")
        assert server.n_opened == 2

    play(script, use)


def test_free_connections_are_closed_when_they_are_old(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upstream_module, "FREE_S", 0.1)

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        await asyncio.gather(*(whole(client, address) for _ in range(3)))
        await until(lambda: server.n_open == 0)
        assert client.n_free == 0
        await whole(client, address)
        assert server.n_opened == 4

    play(echo, use, QUICK)


def test_an_answer_before_the_request_was_read_ends_the_connection():
    big = b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 20000000\r\n\r\n" + b"x" * 20_000_000

    async def script(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.answer(b"too large", "413 Content Too Large")
        await asyncio.sleep(0.05)

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        answer = await client.send(address, big, 2.0)
        assert answer.status == 413
        assert await answer.read() == b"too large"
        assert client.n_free == 0

    play(script, use)


# ---- Time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", "first"),
        (OK + b"Content-Length: 5\r\n\r\n", "first"),
        (OK + b"Content-Length: 5\r\n\r\nhel", "idle"),
    ],
    ids=["silent", "head only", "stops"],
)
def test_a_server_that_stops_is_given_up(sent: bytes, kind: str):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(sent)
        await line.left()

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        error = await failure(client, address, 0.1 if kind == "first" else 10.0)
        assert error.kind == "timeout"
        assert 0.09 < loop.time() - begun_s < 5.0
        await until(lambda: server.n_open == 0)

    play(script, use, QUICK)


@pytest.mark.parametrize(
    ("begun", "drop"),
    [
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1;", b"x"),
    ],
    ids=["interim answers", "headers", "chunk extensions"],
)
def test_what_is_no_body_does_not_pass_for_an_answer_that_goes_on(begun: bytes, drop: bytes):
    async def script(line: Line) -> None:
        await line.request()
        await line.send(begun)
        while True:
            await line.send(drop)
            await asyncio.sleep(0.01)

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        error = await failure(client, address, 0.1)
        assert error.kind == "timeout"
        assert 0.09 < loop.time() - begun_s < 5.0
        await until(lambda: server.n_open == 0)

    play(script, use, QUICK)


def test_a_slow_answer_that_keeps_coming_is_not_given_up():
    async def script(line: Line) -> None:
        await line.request()
        await line.begin_stream()
        for _ in range(6):  # together longer than each wait may be, each far shorter
            await asyncio.sleep(0.2)
            await line.chunk(b"x")
        await line.end_stream()
        await line.left()

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        assert await whole(client, address) == (200, b"xxxxxx")

    play(script, use, Timeouts(connect_s=1.0, first_token_s=1.0, answer_s=1.0, idle_s=1.0))


def test_no_connection_is_told_as_such():
    async def main() -> None:
        client = Upstream(QUICK)
        port = await refused_port()
        for address in (Address("127.0.0.1", port, False), Address("no.such.invalid", 80, False)):
            with pytest.raises(UpstreamError) as caught:
                await client.send(address, ASK, 1.0)
            assert caught.value.kind == "connect"
        await client.close()
        with pytest.raises(UpstreamError):
            await client.send(address, ASK, 1.0)

    asyncio.run(main())


def test_a_connect_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def hang(*_args: object, **_options: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(loop, "create_connection", hang)
        client = Upstream(Timeouts(connect_s=0.05))
        with pytest.raises(UpstreamError) as caught:
            await client.send(Address("127.0.0.1", 1, False), ASK, 1.0)
        assert caught.value.kind == "connect"
        await client.close()

    asyncio.run(main())


# ---- Cancelling, pressure ------------------------------------------------------------------------


@pytest.mark.parametrize("has_begun", [False, True], ids=["before", "after"])
def test_a_cancelled_request_reaches_its_server_at_once(has_begun: bool):
    async def script(line: Line) -> None:
        await line.request()
        if has_begun:
            await line.begin_stream()
            await line.chunk(b"x")
        await line.left()

    async def use(client: Upstream, address: Address, server: ScriptedServer) -> None:
        async def ask() -> None:
            answer = await client.send(address, ASK, 5.0)
            try:
                await read_whole(answer, 100)
            finally:
                answer.abort()

        waits_s = []
        for _ in range(3):  # a busy machine may be late once
            task = asyncio.ensure_future(ask())
            await until(lambda: server.n_open == 1)
            await asyncio.sleep(0.01)
            task.cancel()
            waits_s.append(await until(lambda: server.n_open == 0))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.n_in_flight == 0
        assert min(waits_s) < 0.05

    play(script, use)


def test_what_nobody_reads_is_not_taken():
    n_sent = 0

    async def script(line: Line) -> None:
        nonlocal n_sent
        await line.request()
        await line.begin_stream()
        for _ in range(2000):
            await line.chunk(b"x" * 10_000)
            n_sent += 10_000
        await line.end_stream()

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        answer = await client.send(address, ASK, 5.0)
        seen = -1
        while seen != n_sent:  # until the server is stuck
            seen = n_sent
            await asyncio.sleep(0.4)
        held = len(await answer.read())
        assert HELD_BYTES < held < HELD_BYTES + 300_000
        assert n_sent < 20_000_000

        answer.abort()

    play(script, use, Timeouts(idle_s=0.3))  # a server that is made to wait is not overdue


def test_a_slow_reader_gets_every_byte():
    body = bytes(range(256)) * 4000

    async def script(line: Line) -> None:
        await line.request()
        await line.answer(body)

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        answer = await client.send(address, ASK, 5.0)
        got = bytearray()
        while piece := await answer.read():
            got += piece
            await asyncio.sleep(0.002)
        assert got == body

    play(script, use)


def test_peeking_leaves_the_answer_to_be_read():
    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        answer = await client.send(address, ASK, 5.0)
        assert await answer.peek(100) == b"{}"
        assert not answer.is_over
        assert await answer.read() == b"{}"
        assert answer.is_over

    play(echo, use)


def test_a_connection_that_ended_before_it_was_asked_says_so():
    """Between connecting and asking the loop turns; nobody would ever wake who asks then."""

    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        connection = await client._connect(address)
        connection.abort()
        for _ in range(2):  # closing, and lost
            with pytest.raises(UpstreamError) as caught:
                connection.ask(ASK, 1.0, 1.0)
            assert caught.value.kind == "reset"
            await asyncio.sleep(0.01)

    play(echo, use)


# ---- fetch, addresses, TLS -----------------------------------------------------------------------


def test_fetch_returns_status_and_text():
    async def script(line: Line) -> None:
        while True:
            request = await line.request()
            assert request.head.startswith(b"GET /metrics?x=1 HTTP/1.1\r\n")
            assert request.header("authorization") == "Bearer k"
            await line.answer("übrig".encode(), "503 Busy")

    async def use(client: Upstream, _address: Address, server: ScriptedServer) -> None:
        url = f"{server.url}/metrics?x=1"
        assert await client.fetch(url, {"authorization": "Bearer k"}, 1.0) == (503, "übrig")
        with pytest.raises(ValueError, match="control"):
            await client.fetch(url, {"x": "a\r\nb: c"}, 1.0)

    play(script, use)


def test_fetch_gives_up_in_time_and_on_pages_too_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upstream_module, "MAX_TEXT_BYTES", 1000)

    async def script(line: Line) -> None:
        request = await line.request()
        if request.path == "/long":
            await line.answer(b"x" * 2_000_000)
        await line.left()

    async def use(client: Upstream, _address: Address, server: ScriptedServer) -> None:
        with pytest.raises(TimeoutError):
            await client.fetch(f"{server.url}/silent", {}, 0.05)
        with pytest.raises(UpstreamError):
            await client.fetch(f"{server.url}/long", {}, 1.0)
        await until(lambda: server.n_open == 0)

    play(script, use)


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://a:8000/x", Address("a", 8000, False), "a:8000"),
        ("http://a", Address("a", 80, False), "a"),
        ("https://a/v1", Address("a", 443, True), "a"),
        ("https://[::1]:8443", Address("::1", 8443, True), "[::1]:8443"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, address: Address, authority: str):
    assert Address.of(url) == address
    assert address.authority == authority


@pytest.mark.parametrize("url", ["ftp://a", "a:8000", "http://"])
def test_what_is_no_http_url_is_refused(url: str):
    with pytest.raises(ValueError, match="not an http address"):
        Address.of(url)


@pytest.mark.parametrize("field", ["connect_s", "first_token_s", "answer_s", "idle_s"])
def test_a_timeout_must_be_positive(field: str):
    with pytest.raises(ValueError, match=field):
        Timeouts(**{field: 0.0})


def test_tls_checks_the_certificate(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(cert, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK + b"Content-Length: 2\r\n\r\nok")
            await writer.drain()
            await reader.read()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ours)
        port = server.sockets[0].getsockname()[1]
        trusting = Upstream(tls=ssl.create_default_context(cafile=str(cert)))
        assert await trusting.fetch(f"https://localhost:{port}/", {}, 2.0) == (200, "ok")
        for client, host in ((Upstream(), "localhost"), (trusting, "127.0.0.1")):
            with pytest.raises(UpstreamError) as caught:
                await client.fetch(f"https://{host}:{port}/", {}, 2.0)
            assert caught.value.kind == "connect"
            await client.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_an_answer_belongs_to_one_request():
    async def use(client: Upstream, address: Address, _server: ScriptedServer) -> None:
        first = await client.send(address, ASK, 5.0)
        assert isinstance(first, Answer)
        second = await client.send(address, ASK.replace(b"{}", b"[]"), 5.0)
        first.abort()  # complete: of no effect on whoever has its connection now
        assert await second.read() == b"[]"
        assert await first.read() == b"{}"

    play(echo, use)
