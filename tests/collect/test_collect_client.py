"""One chat request against a server that pretends, on the loopback."""

import asyncio
import math
import socket

import pytest
from answering_server import answering

from planner.profile.collect import client as module
from planner.profile.collect.client import ChatClient, Request, mean_logprob
from planner.profile.load.client import Endpoint, Outcome

ASK = Request(({"role": "user", "content": "What is 2+2?"},), 64, 0.0)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.01)


def ask(n=1, timeout_s=5.0, **manners):
    """The replies of a server to requests one after the other, the server, and the client."""

    async def run():
        async with answering(**manners) as server:
            endpoint = Endpoint(server.url, "tiny", "chat")
            async with ChatClient(endpoint, timeout_s=timeout_s) as client:
                return [await client.ask(ASK) for _ in range(n)], server, client

    return asyncio.run(run())


def test_an_answer_with_its_tokens_and_log_probabilities():
    [reply], server, client = ask(replies={"2+2": "It is 4."})
    assert (reply.outcome, reply.text, reply.finish_reason) == (Outcome.OK, "It is 4. ", "stop")
    assert (reply.input_tokens, reply.output_tokens, reply.tokens_estimated) == (3, 6, False)
    assert reply.mean_logprob == -0.25
    assert reply.duration_s > 0
    assert server.bodies[0] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "What is 2+2?"}],
        "max_tokens": 64,
        "stream": True,
        "logprobs": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
    }
    assert client.left_out == ()


def test_without_usage_chunks_are_counted_and_marked():
    [reply], _, _ = ask(replies={"2+2": "one two three"}, usage=False)
    assert (reply.input_tokens, reply.output_tokens, reply.tokens_estimated) == (3, 3, True)


def test_an_empty_answer_is_an_answer():
    [reply], _, _ = ask(replies={"2+2": ""}, logprob=None)
    assert (reply.outcome, reply.text.strip(), reply.mean_logprob) == (Outcome.OK, "", None)


@pytest.mark.parametrize("names_field", [True, False])
def test_a_refused_field_is_remembered(names_field):
    replies, server, client = ask(n=2, refused=("logprobs",), names_field=names_field)
    assert [reply.outcome for reply in replies] == [Outcome.OK] * 2
    assert ["logprobs" in body for body in server.bodies] == [True, False, False]
    assert client.left_out == ("logprobs",)


def test_a_refusal_for_another_reason_leaves_all_fields():
    replies, server, client = ask(n=2, fails_on="2+2", status=400)
    assert [(r.outcome, r.status, r.detail) for r in replies] == [
        (Outcome.HTTP, 400, "overloaded")
    ] * 2
    assert client.left_out == ()
    assert {"logprobs", "temperature"} <= server.bodies[4].keys()


def test_a_server_that_took_all_fields_is_not_asked_with_less():
    async def run():
        async with answering(fails_on="long") as server:
            server.manners.status = 422
            async with ChatClient(Endpoint(server.url, "tiny", "chat")) as client:
                await client.ask(ASK)
                too_long = Request(({"role": "user", "content": "long"},), 64, 0.0)
                return await client.ask(too_long), len(server.bodies)

    reply, n_bodies = asyncio.run(run())
    assert (reply.status, n_bodies) == (422, 2)


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_busy_servers_are_asked_again(status):
    [reply], server, _ = ask(fails_first=3, status=status)
    assert (reply.outcome, len(server.bodies)) == (Outcome.OK, 4)


def test_in_the_end_it_is_a_failure():
    [reply], server, _ = ask(fails_on="2+2", status=503)
    assert (reply.outcome, reply.status, len(server.bodies)) == (Outcome.HTTP, 503, 5)
    assert reply.detail == "overloaded"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_will_not_change_is_asked_once(status):
    [reply], server, _ = ask(fails_on="2+2", status=status)
    assert (reply.status, len(server.bodies)) == (status, 1)


def pauses_of(monkeypatch, **manners):
    """The outcome of a request, and the pauses in s between its tries, none of them waited for."""
    pauses = []

    async def no_sleep(pause_s):
        pauses.append(pause_s)

    real = asyncio.sleep
    monkeypatch.setattr(module.asyncio, "sleep", no_sleep)

    async def run():
        busy = answering(**manners)
        async with busy as server, ChatClient(Endpoint(server.url, "tiny", "chat")) as client:
            return await client.ask(ASK)

    reply = asyncio.run(run())
    monkeypatch.setattr(module.asyncio, "sleep", real)
    return reply.outcome, [pause for pause in pauses if pause]


def test_a_server_says_how_long_to_wait(monkeypatch):
    found = pauses_of(monkeypatch, fails_first=2, status=429, retry_after="7")
    assert found == (Outcome.OK, [7.0, 7.0])


def test_pauses_double_and_have_an_end(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 20.0)
    assert pauses_of(monkeypatch, fails_on="2+2") == (Outcome.HTTP, [20.0, 40.0, 60.0, 60.0])


def test_an_answer_that_breaks_off_is_none():
    [reply], server, _ = ask(cut_on="2+2", replies={"2+2": "one two"})
    assert (reply.outcome, reply.text, len(server.bodies)) == (Outcome.STREAM, "", 5)


def test_a_request_has_a_time_limit(monkeypatch):
    monkeypatch.setattr(module, "N_TRIES", 2)
    [reply], server, _ = ask(delay_s=30.0, timeout_s=0.5)
    assert (reply.outcome, len(server.bodies)) == (Outcome.TIMEOUT, 2)


def test_a_server_that_is_not_there_is_tried_once():
    async def run(url):
        async with ChatClient(Endpoint(url, "tiny", "chat")) as client:
            return await asyncio.wait_for(client.ask(ASK), 5.0)

    with socket.socket() as silent:  # bound, so that nobody else listens there
        silent.bind(("127.0.0.1", 0))
        reply = asyncio.run(run(f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert (reply.outcome, reply.detail) == (Outcome.CONNECTION, "connection refused")


@pytest.mark.parametrize(("key", "status"), [("sk-1", 200), ("sk-2", 401), (None, 401)])
def test_the_key_goes_into_the_header(key, status):
    async def run():
        strict = answering(key="sk-1")
        async with strict as server, ChatClient(Endpoint(server.url, "t", "chat", key)) as client:
            return await client.ask(ASK), repr(client.endpoint)

    reply, shown = asyncio.run(run())
    assert reply.status == status
    assert "sk-" not in shown + reply.detail


@pytest.mark.parametrize(
    ("values", "mean"),
    [([], None), ([-1.0, -3.0], -2.0), ([0.0005], 0.0), ([-0.5], -0.5)],
)
def test_mean_log_probabilities_are_never_above_zero(values, mean):
    assert mean_logprob(values) == mean


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ({"content": [{"logprob": -0.5}, {"logprob": -1}]}, [-0.5, -1.0]),
        ({"token_logprobs": [None, -0.5]}, [-0.5]),
        ({"content": [{"logprob": -9999.0}, {"logprob": None}, "x"]}, []),
        ({"content": [{"logprob": math.nan}]}, []),
        ({"content": None}, []),
        (None, []),
        ([], []),
    ],
)
def test_log_probabilities_in_all_spellings(said, values):
    assert module._logprobs(said) == values
