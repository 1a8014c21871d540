"""What is found out about an endpoint, and what is said of one that cannot be measured."""

from __future__ import annotations

import asyncio
import socket

import pytest
from fake_server import serving

from planner.errors import InputError
from planner.profile.load.client import Client, Endpoint
from planner.profile.load.probe import Probed, Watch, checked_url, probe
from planner.profile.load.prompts import Lengths

KEY = "sk-very-secret"


def probed(key: str | None = None, url: str | None = None, **behaviour: object) -> Probed:
    async def look() -> Probed:
        async with serving(**behaviour) as server:
            endpoint = Endpoint(url or server.url, "fake", "completions", key)
            async with Client(endpoint, timeout_s=5) as client, Watch(endpoint) as watch:
                return await probe(client, watch, Lengths.fixed(200, 20), seed=1)

    return asyncio.run(look())


def fault(**options: object) -> str:
    with pytest.raises(InputError) as caught:
        probed(**options)
    return str(caught.value)


def test_prompts_come_out_as_long_as_wanted():
    found = probed(tokens_per_word=1.5)
    assert found.calibration.tokens_per_word == pytest.approx(1.5, rel=0.02)
    words = found.calibration.words(200)
    assert words * 1.5 == pytest.approx(200, rel=0.02)


def test_one_request_alone_is_timed():
    assert 0.05 <= probed(ttft_s=0.02, tpot_s=0.002).alone_s < 0.5


def test_without_metrics_is_a_note():
    found = probed()
    assert found.state is None
    assert any("/metrics" in note for note in found.notes)


def test_a_server_without_ignore_eos_is_a_note():
    assert any("ignore_eos" in note for note in probed(refused=("ignore_eos",)).notes)
    assert not any("ignore_eos" in note for note in probed().notes)


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = fault(url=f"http://127.0.0.1:{port}")
    assert "cannot connect" in text and "--url" in text


def test_another_model():
    text = fault(model_name="fakes")
    assert "unknown served model, got fake" in text and "did you mean fakes?" in text


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_is_needed(status):
    assert f"a key is needed ({status})" in fault(status=status)
    text = fault(status=status, key=KEY)
    assert "the key was refused" in text and "--api-key-env" in text and KEY not in text


def test_no_such_path_or_model():
    text = fault(status=404)
    assert "404" in text and "--model" in text


def test_no_token_counts():
    assert "without token counts" in fault(gives_usage=False)


def test_no_stream():
    assert "does not stream" in fault(cut_after=0)


def test_a_refused_request():
    assert "refused a request (500)" in fault(status=500)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("localhost:8000", "must be the address"),
        ("ftp://host", "must be the address"),
        ("http://", "must be the address"),
        ("http://host:port", "must be the address"),
        ("", "must be the address"),
        ("http://me:secret@host", "no user, password or query"),
        ("http://host/?key=secret", "no user, password or query"),
    ],
)
def test_addresses_that_are_none(url, what):
    with pytest.raises(InputError) as caught:
        checked_url(url)
    assert what in str(caught.value) and "secret" not in str(caught.value)


def test_addresses():
    assert checked_url("http://host:8000/v1/") == "http://host:8000/v1"
