"""What was sent ends once, and leaves nothing behind, whatever happens in between."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fleets import ask, known_setup, servers
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.runtime.fleet import Fleet

PAGE = "vllm:num_requests_running {}\nvllm:num_requests_waiting 0\n"
KINDS = ["connect", "timeout", "reset", "status"]

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "first", "answer", "cancel", "fail", "page", "load"]),
        st.integers(0, 50),
        st.sampled_from([0.0, 0.001, 0.3, 4.0]),  # seconds since the event before
    ),
    max_size=40,
)


def setup_at(port: int, n: int, policy: str):
    return replace(known_setup(n, policy=policy), endpoints={"pool": servers(n, port)})


@settings(derandomize=True, max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from(["least_delay", "fewest_requests"]))
def test_every_request_is_on_one_instance_until_it_ends(events, policy):
    fleet, now_s = Fleet(setup_at(8000, 3, policy), 0.0), 0.0
    there: dict[int, object] = {}  # instance by ticket
    for what, number, later_s in events:
        now_s += later_s
        if what == "ask":
            asked = ask(float(1 + 40 * number), 30.0, session=number % 3 or None)
            instance = fleet.choose("pool", asked, now_s)
            assert instance in fleet.instances  # somebody always takes it
            ticket = fleet.sent(instance, asked, now_s)
            assert ticket not in there
            there[ticket] = instance
        elif what == "page":
            backend = list(fleet.backends.values())[number % len(fleet.backends)]
            fleet.observed(backend, PAGE.format(number), now_s - later_s / 2, now_s)
        elif what == "load":
            fleet.renew(setup_at(8000 + number % 3, 1 + number % 4, policy), now_s)
        elif there:
            ticket = sorted(there)[number % len(there)]
            instance = there[ticket]
            if what == "first":
                fleet.first_token(ticket, now_s)
                continue
            if what == "fail":
                fleet.failed(instance, now_s, KINDS[number % 4], ticket)
            fleet.ended(ticket, now_s, 30.0 if what == "answer" else None)
            del there[ticket]
            with pytest.raises(KeyError):
                fleet.ended(ticket, now_s)
        in_flight = {row["instance"]: row["n_in_flight"] for row in fleet.status(now_s)}
        for each in fleet.instances:
            assert in_flight[each.name] == sum(each.index == i.index for i in there.values())
    for ticket in there:
        fleet.ended(ticket, now_s)
    now_s += 1_000.0  # what others were said to do is forgotten
    for row in fleet.status(now_s):
        assert row["n_in_flight"] == 0
        assert row["n_waiting"] == 0
        assert [row["n_running"], row["kv_tokens"]] == pytest.approx([0.0, 0.0], abs=1e-9)
