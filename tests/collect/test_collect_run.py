"""Working off requests against servers that pretend: bounded, shared, given up, passed on."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
from answering_server import answering

from planner.errors import InputError
from planner.profile.collect import client as client_module
from planner.profile.collect.client import ChatClient
from planner.profile.collect.run import GIVEN_UP_AFTER, wanted, work_off
from planner.profile.load.client import Endpoint
from planner.spec.prompts import PromptLine

PROMPTS = [
    PromptLine(**{"prompt_id": f"p{n}", "class": "c", "text": f"Number {n}?"}) for n in range(30)
]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "PAUSE_S", 0.001)


@contextmanager
def servers(*manners):
    """Servers in a loop of their own: `work_off` runs one itself."""
    loop, found, ready, over = asyncio.new_event_loop(), [], threading.Event(), asyncio.Event()

    async def serve():
        async with asyncio.TaskGroup() as group:
            for each in manners:
                group.create_task(one(each))

    async def one(each):
        async with answering(**each) as server:
            found.append((each, server))
            if len(found) == len(manners):
                ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield [server for each in manners for key, server in found if key is each]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def clients(*found):
    return [ChatClient(Endpoint(server.url, "tiny", "chat")) for server in found]


def asked(fleet, concurrency=4, n=30, on_reply=None, **more):
    tasks = wanted(PROMPTS[:n], list(fleet), 1, max_tokens=8, temperature=0.0)
    replies = []
    take = on_reply or (lambda task, reply: replies.append((task.key, reply.text)))
    return work_off(tasks, fleet, concurrency, take, **more), replies


def test_everything_is_asked_once_and_no_more_than_so_many_at_a_time():
    with servers({"delay_s": 0.1}, {"delay_s": 0.1}) as found:
        fleet = {"a": clients(found[0]), "b": clients(found[1])}
        worked, replies = asked(fleet, n=12)
        most = [server.n_most_in_flight for server in found]
    assert max(most) <= 4 and min(most) >= 2
    assert worked.failures == worked.given_up == ()
    assert len(replies) == len({key for key, _ in replies}) == 24


def test_servers_of_one_model_share_its_requests():
    with servers({"delay_s": 0.05}, {"delay_s": 0.05}) as found:
        asked({"a": clients(*found)})
        shares = [len(server.bodies) for server in found]
    assert sum(shares) == 30
    assert min(shares) >= 8


def test_a_model_that_only_fails_is_given_up_and_others_go_on():
    with servers({"fails_on": "Number", "status": 403}, {}) as found:
        fleet = {"bad": clients(found[0]), "good": clients(found[1])}
        seen = []
        worked, replies = asked(fleet, concurrency=1, on_failure=seen.append)
        assert len(found[0].bodies) == GIVEN_UP_AFTER
    assert worked.given_up == ("bad",)
    assert len(worked.failures) == len(seen) == GIVEN_UP_AFTER
    assert {key.model_name for key, _ in replies} == {"good"}
    assert len(replies) == 30


def test_failures_now_and_then_do_not_count_as_a_row():
    with servers({"fails_on": "1", "status": 400}) as found:
        worked, replies = asked({"a": clients(*found)}, concurrency=1)
    assert worked.given_up == ("a",)  # p10 to p19 are ten in a row
    assert len(worked.failures) == 1 + GIVEN_UP_AFTER
    assert len(replies) == 9
    with servers({"fails_on": "5", "status": 400}) as found:
        worked, _ = asked({"a": clients(*found)}, concurrency=1)
    assert (len(worked.failures), worked.given_up) == (3, ())


def test_an_error_on_the_way_to_the_disk_ends_the_work_as_itself():
    def full(task, reply):
        raise InputError.single("answers.jsonl", "", "cannot be written: full", "make room")

    with servers({}) as found, pytest.raises(InputError, match="full"):
        asked({"a": clients(*found)}, on_reply=full)


def test_clients_serve_one_call_after_another():
    """What a client has learnt in the pilot it knows in the bulk."""
    with servers({"refused": ("logprobs",)}) as found:
        fleet = {"a": clients(*found)}
        asked(fleet, n=2, concurrency=1)
        asked(fleet, n=4, concurrency=1)
        assert ["logprobs" in body for body in found[0].bodies] == [True] + [False] * 6
