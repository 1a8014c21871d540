"""A page by HTTP: got whole, or a fault that says why not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from planner.errors import InputError
from planner.runtime import page_fetch
from planner.runtime.page_fetch import fetch_page, is_url


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/metrics")
        elif self.path == "/metrics":
            self.send_response(200)
        else:
            self.send_response(404)
        body = f"rb_x 1 {self.headers['Accept']} \u00e9\n".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


def refused(url: str) -> str:
    with pytest.raises(InputError) as caught:
        fetch_page(url)
    (fault,) = caught.value.faults
    assert fault.file == url
    return fault.what


def test_a_page_is_got_whole(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # is not asked
    assert fetch_page(f"{server}/metrics") == "rb_x 1 text/plain \u00e9\n"


def test_other_answers_are_faults(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(f"{server}/nothing") == "answers with status 404"
    assert refused(f"{server}/away") == "answers with status 302"
    monkeypatch.setattr(page_fetch, "MOST_BYTES", 5)
    assert refused(f"{server}/metrics").startswith("has more than")


def test_who_does_not_answer_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert "refused" in refused(f"http://127.0.0.1:{port}/metrics")
    assert "names no host" in refused("http:///metrics")
    assert refused("http://[::1/metrics").startswith("does not answer")


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_fetch, "SILENCE_S", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/metrics"
        assert "nothing came for" in refused(url)


@pytest.mark.parametrize(
    ("place", "expected"),
    [("http://a/b", True), ("HTTPS://a", True), ("page.txt", False), ("file:///x", False)],
)
def test_an_address_is_told_from_a_file(place: str, expected: bool) -> None:
    assert is_url(place) is expected
