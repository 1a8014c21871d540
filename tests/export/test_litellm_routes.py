"""LiteLLM itself, started on the exported config.yaml, sends each class where its shares say.

10,000 requests, mixed as the demo's rates have them: no pool of a class is more than 1 point of all
requests off its share. LiteLLM draws at random, so each class has to keep the exact bounds of the
binomial, too (gateway_stand.py says which); a uniform draw fails both by far.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from gateway_fleets import BIG, N_OF_10_000, NEW, SHARES, SMALL, made_fleet
from gateway_stand import (
    POINT,
    TOO_LONG,
    Engines,
    chat,
    fake_engines,
    free_port,
    furthest_ratio,
    listens,
    running,
    send,
    send_the_plans_10_000,
    strays,
)

from planner.export.litellm import files

pytestmark = pytest.mark.slow

KEY = "sk-not-a-secret"
HEADERS = {"authorization": f"Bearer {KEY}"}


def _program() -> str:
    program = os.environ.get("LITELLM") or shutil.which("litellm")
    if program is None:
        pytest.skip("needs LiteLLM: pip install 'litellm[proxy]', or its path in $LITELLM")
    return program


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Returns two engines of each of the demo plan's pools."""
    with fake_engines([BIG, SMALL, NEW], n_each=2) as made:
        yield made


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns where LiteLLM's output goes."""
    return tmp_path_factory.mktemp("litellm") / "log"


@pytest.fixture(scope="module")
def port(engines: Engines, log: Path) -> Iterator[int]:
    """Returns where LiteLLM listens, started on what is exported."""
    program, folder, port = _program(), log.parent, free_port()
    config = folder / "config.yaml"
    config.write_text(files(made_fleet(engines.urls))[0].text)
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DISABLE_ADMIN_UI": "True",
        "NO_PROXY": "127.0.0.1",
    }
    with running(command, listens(port), log, env=env, cwd=folder) as found:
        yield found


def test_10_000_requests_go_where_the_shares_say(port: int, engines: Engines) -> None:
    def of_class(name: str) -> tuple[bytes, dict[str, str]]:
        return chat(name, name), HEADERS

    sent = send_the_plans_10_000(port, of_class, engines, SHARES, N_OF_10_000)
    assert furthest_ratio(engines.came, SHARES, sent) <= POINT
    assert strays(engines.came, SHARES, sent) == []
    assert set(engines.models) == {(p, f"served/{p}") for p in (BIG, SMALL, NEW)}


def test_clients_give_no_addresses(port: int, engines: Engines) -> None:
    engines.forget()
    elsewhere = chat("gsm", "gsm", api_base=engines.urls[SMALL][0])
    assert send(port, elsewhere, HEADERS, 1)[200] == 0
    assert not engines.came


def test_a_prompt_that_no_engine_takes_gets_their_400(port: int, engines: Engines) -> None:
    engines.forget()
    assert send(port, chat("crux", "crux", words=TOO_LONG), HEADERS, 4) == {400: 4}
    assert set(engines.came) == {("crux", BIG), ("crux", SMALL), ("crux", NEW)}  # it tries them all
    engines.forget()
    assert send(port, chat("crux", "crux"), HEADERS, 20) == {200: 20}
    assert engines.came == {("crux", NEW): 20}  # and none of them is left out for it


def test_clients_of_rb_serve_need_no_change(port: int, engines: Engines) -> None:
    engines.forget()
    assert send(port, chat("gsm", "rb/gsm"), HEADERS, 400) == {200: 400}
    assert strays(engines.came, {"gsm": SHARES["gsm"]}, {"gsm": 400}) == []


def test_a_pool_can_be_asked_by_itself(port: int, engines: Engines) -> None:
    engines.forget()
    assert send(port, chat("gsm", f"pool/{SMALL}"), HEADERS, 8) == {200: 8}
    assert engines.came == {("gsm", SMALL): 8}


def test_nobody_enters_without_the_key_or_with_an_unknown_class(port: int) -> None:
    assert send(port, chat("gsm", "gsm"), {"authorization": "Bearer sk-wrong"}, 1)[200] == 0
    assert send(port, chat("gsm", "no-such-class"), HEADERS, 1) == {400: 1}


def test_a_stream_passes_piece_by_piece(port: int, engines: Engines) -> None:
    engines.go.clear()
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    given = {"content-type": "application/json", **HEADERS}
    connection.request("POST", "/v1/chat/completions", chat("gsm", "gsm", stream=True), given)
    response = connection.getresponse()
    assert b"first" in response.readline()  # while the engine stands still
    engines.go.set()
    assert b"second" in response.read()
    connection.close()


def test_last_what_fails_is_answered_by_another_pool(port: int, engines: Engines) -> None:
    engines.forget()  # last of all: it leaves out for a while what failed
    engines.down.add(NEW)
    try:
        assert send(port, chat("crux", "crux"), HEADERS, 40) == {200: 40}
    finally:
        engines.down.clear()
    assert engines.came == {("crux", BIG): 40}  # the first of its fallbacks that is up


def test_last_of_all_what_nobody_can_answer_comes_to_each_pool_twice_at_most(
    port: int, engines: Engines, log: Path
) -> None:
    engines.down.update({BIG, SMALL, NEW})
    engines.n_refused = 0
    body = chat("math-l5", "math-l5", words="never-to-be-seen")
    try:
        assert send(port, body, HEADERS, 1) == {503: 1}
    finally:
        engines.down.clear()
    assert engines.n_refused <= 4  # the draw, then the three fallbacks: no storm
    assert "never-to-be-seen" not in log.read_text()
