"""One request at a time against a server that pretends, on the loopback."""

import asyncio
import json
import math
import socket

import pytest
from fake_server import CHAT_OVERHEAD_TOKENS, serving

from planner.profile.load.client import Client, Dialect, Endpoint, Outcome
from planner.profile.load.prompts import Ask

ASK = Ask("one two three four five", 5, 6)
OPTIONAL = ("ignore_eos", "stream_options", "temperature")


def ask_once(api="completions", timeout_s=5.0, probe=False, **behaviour):
    """The answer of a server to one request, and the server."""

    async def run():
        async with serving(**behaviour) as server:
            endpoint = Endpoint(server.url, "fake", api)
            async with Client(endpoint, timeout_s=timeout_s) as client:
                answer = await (client.probe(ASK) if probe else client.send(ASK))
                return answer, server, client.dialect

    return asyncio.run(run())


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_the_body_says_what_is_wanted(api):
    _, server, _ = ask_once(api)
    body = server.bodies[0]
    text = body["prompt"] if api == "completions" else body["messages"][0]["content"]
    assert text == ASK.text
    assert body["max_tokens"] == 6
    assert (body["stream"], body["ignore_eos"], body["temperature"]) == (True, True, 0)
    assert body["stream_options"] == {"include_usage": True}
    assert body["model"] == "fake"


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize(
    "behaviour",
    [
        {},
        {"tokens_per_chunk": 4},
        {"cut_bytes": 7},
        {"cut_bytes": 1, "line_end": "\r\n"},
        {"line_end": "\r"},
        {"null_usage": True},
        {"reasons_first": True},
        {"says_done": False},
        {"texts": ("", "", "word ")},
    ],
    ids=str,
)
def test_tokens_are_those_of_usage_however_they_are_sent(api, behaviour):
    answer, _, _ = ask_once(api, **behaviour)
    assert (answer.outcome, answer.detail, answer.status) == (Outcome.OK, "", 200)
    assert answer.n_output == 6
    assert answer.n_input == 5 + (CHAT_OVERHEAD_TOKENS if api == "chat" else 0)
    assert answer.sent_s <= answer.first_s <= answer.done_s


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_times_are_those_of_first_and_last_text(api):
    """A chat's role comes at once and is not the first token."""
    answer, _, _ = ask_once(api, ttft_s=0.1, tpot_s=0.02)
    assert 0.1 <= answer.first_s - answer.sent_s < 3.0
    assert 5 * 0.02 <= answer.done_s - answer.first_s < 3.0


def test_an_empty_first_text_does_not_count_as_first_token():
    answer, _, _ = ask_once(tpot_s=0.02, texts=("", "", "", "a"))
    assert answer.first_s - answer.sent_s >= 3 * 0.02


@pytest.mark.parametrize(
    ("behaviour", "outcome", "status", "detail"),
    [
        ({"status": 404}, Outcome.HTTP, 404, "no"),
        ({"status": 500}, Outcome.HTTP, 500, "no"),
        ({"fail_every": 1}, Outcome.HTTP, 503, "overloaded"),
        ({"refused": ("temperature",)}, Outcome.HTTP, 400, "Unexpected fields: temperature"),
        ({"gives_usage": False}, Outcome.NO_USAGE, 200, "no usage"),
        ({"texts": ("",)}, Outcome.EMPTY, 200, "no text"),
        ({"error_after": 3}, Outcome.STREAM, 200, "out of memory"),
        ({"error_after": 0}, Outcome.STREAM, 200, "out of memory"),
        ({"cut_after": 3}, Outcome.STREAM, 200, "broke off"),
        ({"cut_after": 0}, Outcome.STREAM, 200, "broke off"),
    ],
    ids=str,
)
def test_every_failure_has_a_kind_of_its_own(behaviour, outcome, status, detail):
    answer, _, _ = ask_once(**behaviour)
    assert (answer.outcome, answer.status) == (outcome, status)
    assert detail in answer.detail
    assert answer.done_s >= answer.sent_s


@pytest.mark.parametrize("slow", [{"ttft_s": 30.0}, {"tpot_s": 30.0}], ids=str)
def test_a_request_has_a_time_limit(slow):
    answer, _, _ = ask_once(timeout_s=0.3, **slow)
    assert answer.outcome is Outcome.TIMEOUT
    assert 0.3 <= answer.done_s - answer.sent_s < 10.0
    assert math.isnan(answer.first_s) == ("ttft_s" in slow)


def test_nobody_there_is_a_failure_to_connect():
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        async def run():
            async with Client(Endpoint(url, "fake")) as client:
                return await client.probe(ASK)

        answer = asyncio.run(run())
    assert (answer.outcome, answer.status) == (Outcome.CONNECTION, 0)
    assert answer.detail == "connection refused"


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1:1"])
def test_an_address_that_is_none_is_a_failure_to_connect(url):
    async def run():
        async with Client(Endpoint(url, "fake")) as client:
            return await client.send(ASK)

    assert asyncio.run(run()).outcome is Outcome.CONNECTION


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("names_field", [True, False])
@pytest.mark.parametrize(
    "refused",
    [(), ("ignore_eos",), ("stream_options",), ("ignore_eos", "stream_options"), OPTIONAL],
    ids=str,
)
def test_a_probe_learns_what_a_server_takes(status, names_field, refused):
    answer, server, dialect = ask_once(
        probe=True, refused=refused, names_field=names_field, refusal_status=status
    )
    assert (answer.outcome, answer.n_output) == (Outcome.OK, 6)
    assert not set(dialect.optional) & set(refused)
    assert set(server.bodies[-1]) & set(OPTIONAL) == set(dialect.optional)
    if names_field:
        assert set(dialect.optional) == set(OPTIONAL) - set(refused)
        assert len(server.bodies) == 1 + len(refused)


def test_a_probe_learns_the_newer_name_of_the_limit():
    answer, server, dialect = ask_once("chat", probe=True, wants_completion_limit=True)
    assert answer.outcome is Outcome.OK
    assert dialect == Dialect(limit="max_completion_tokens")
    assert server.bodies[-1]["max_completion_tokens"] == 6


def test_a_refusal_for_another_reason_teaches_nothing():
    answer, server, dialect = ask_once(probe=True, status=400)
    assert (answer.outcome, answer.status) == (Outcome.HTTP, 400)
    assert answer.detail == "no to 7 fields"  # what it said to the full request
    assert dialect == Dialect()
    assert len(server.bodies) == 4  # with all fields, and without one more each time


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_a_probe_tries_again_only_what_may_be_a_field_refused(status):
    _, server, _ = ask_once(probe=True, status=status)
    assert len(server.bodies) == 1


def test_a_request_that_is_measured_is_sent_once():
    _, server, _ = ask_once(refused=("ignore_eos",))
    assert len(server.bodies) == 1


def test_the_key_is_sent_and_never_shown():
    endpoint = Endpoint("http://127.0.0.1:9", "fake", "chat", api_key="not-to-be-seen")
    assert "not-to-be-seen" not in repr(endpoint)

    async def run():
        async with serving(status=401) as server:
            with_key = Endpoint(server.url, "fake", api_key="not-to-be-seen")
            async with Client(with_key) as client, Client(Endpoint(server.url, "fake")) as other:
                answer = await client.send(ASK)
                await other.send(ASK)
            return answer, server.headers

    answer, (ours, theirs) = asyncio.run(run())
    assert ours["Authorization"] == "Bearer not-to-be-seen"
    assert "Authorization" not in theirs
    assert "not-to-be-seen" not in repr(answer)


@pytest.mark.parametrize(
    ("url", "api", "expected"),
    [
        ("http://a:1", "completions", "http://a:1/v1/completions"),
        ("http://a:1/", "chat", "http://a:1/v1/chat/completions"),
        ("http://a:1/v1", "chat", "http://a:1/v1/chat/completions"),
        ("http://a/x/v1/", "completions", "http://a/x/v1/completions"),
        ("http://a:1/v1/chat/completions", "chat", "http://a:1/v1/chat/completions"),
        ("http://a:1/other/completions", "completions", "http://a:1/other/completions"),
    ],
)
def test_the_address_is_made_of_the_url(url, api, expected):
    assert Endpoint(url, "m", api).address == expected


def test_connections_are_used_again():
    async def run():
        async with serving() as server, Client(Endpoint(server.url, "fake")) as client:
            for _ in range(5):
                assert (await client.send(ASK)).outcome is Outcome.OK
            return server.n_connections

    assert asyncio.run(run()) == 1


def test_a_connection_closed_without_a_word_costs_no_request():
    """llama.cpp closes after a stream, although it promises to keep the connection."""

    async def run():
        async with (
            serving(drops_connections=True) as server,
            Client(Endpoint(server.url, "fake")) as client,
        ):
            assert client.reuses_connections
            answers = [await client.send(ASK) for _ in range(6)]
            answers += await asyncio.gather(*[client.send(ASK) for _ in range(10)])
            return answers, client.reuses_connections, len(server.bodies)

    answers, reuses, n_bodies = asyncio.run(run())
    assert [answer.outcome for answer in answers] == [Outcome.OK] * 16
    assert n_bodies == 16
    assert not reuses


def test_many_requests_run_at_once():
    """More than the hundred connections that HTTP clients allow themselves."""

    async def run():
        async with serving(ttft_s=0.5) as server, Client(Endpoint(server.url, "fake")) as client:
            answers = await asyncio.gather(*[client.send(ASK) for _ in range(150)])
            return {answer.outcome for answer in answers}, server.n_most_in_flight

    assert asyncio.run(run()) == ({Outcome.OK}, 150)


def test_a_cancelled_request_is_closed():
    async def run():
        async with serving(ttft_s=30.0) as server, Client(Endpoint(server.url, "fake")) as client:
            task = asyncio.create_task(client.send(ASK))
            while not server.n_in_flight:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while server.n_in_flight:
                await asyncio.sleep(0.01)
            return server.n_aborted

    assert asyncio.run(asyncio.wait_for(run(), 5.0)) == 1


def test_a_prompt_in_any_script_arrives_as_it_is():
    async def run():
        async with serving() as server, Client(Endpoint(server.url, "fake")) as client:
            await client.send(Ask('ü "quoted" \n 日本', 1, 1))
            return server.bodies[0]["prompt"]

    assert asyncio.run(run()) == 'ü "quoted" \n 日本'


def test_a_dialect_gives_up_when_nothing_is_left():
    assert Dialect(optional=()).without("bad request") is None
    plain = json.loads(Dialect(optional=()).body(Endpoint("u", "m"), ASK))
    assert set(plain) == {"model", "prompt", "max_tokens", "stream"}
