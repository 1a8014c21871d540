"""Cascades of the plan at work: a first answer is held back, judged, delivered or thrown away."""

import json
from collections import Counter

import pytest
from plan_cases import CHAT, REPLICAS, Site, cascade, routes, setup, weighted

from planner.runtime.body import read_call
from planner.runtime.served import Usage
from planner.spec.plan import CascadeEntry

ALL = setup(routes({"chat": {}}, {"chat": [cascade()]}))
SHORT, LONG = (
    json.dumps(
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": n_tokens}}
    ).encode()
    for n_tokens in (50, 500)
)


def first_stage(site: Site, model: str = "rb/chat"):
    """A request at the first model of its cascade."""
    ticket = site.begin(model)
    instance = site.dispatcher.next_instance(ticket, site.now_s)
    return ticket, instance


class TestStories:
    def test_a_good_first_answer_is_delivered(self):
        site = Site(ALL)
        ticket, instance = first_stage(site)
        assert (instance.pool, ticket.is_buffered) == ("3b-a30", True)
        site.dispatcher.first_token(ticket, 100.2)
        assert site.dispatcher.judge(ticket, SHORT, False, 101.0) == SHORT
        assert site.n_in_flight() == 0
        site.now_s = 101.5
        site.end(ticket, None)
        (served,) = site.served
        assert (served.pool, served.cascade) == ("3b-a30", "qwen-3b, then qwen-72b")
        assert (served.escalated, served.n_tries) == (False, 1)
        assert (served.n_input, served.n_output, served.usage_known) == (9, 50, True)
        assert served.ttft_s == served.e2e_s == 1.5  # it came whole, when it was known to be good

    def test_a_bad_one_is_thrown_away(self):
        site = Site(ALL)
        ticket, _ = first_stage(site)
        site.dispatcher.first_token(ticket, 100.2)
        assert site.dispatcher.judge(ticket, LONG, False, 101.0) is None
        second = site.dispatcher.next_instance(ticket, 101.0)
        assert (second.pool, ticket.is_buffered) == ("72b-a100", False)
        assert site.n_in_flight() == 1
        site.dispatcher.first_token(ticket, 102.0)
        site.now_s = 104.0
        site.end(ticket, Usage(11, 30))
        (served,) = site.served
        assert (served.pool, served.escalated, served.n_tries) == ("72b-a100", True, 2)
        assert (served.first_pool, served.first_usage) == ("3b-a30", Usage(9, 500))
        assert (served.ttft_s, served.e2e_s) == (2.0, 4.0)
        assert (served.n_input, served.n_output) == (11, 30)

    def test_nobody_of_the_first_stage_then_another_pool_answers_alone(self):
        site = Site(ALL)
        site.take_down("3b-a30")
        ticket, instance = first_stage(site)
        assert (instance.pool, ticket.is_buffered) == ("7b-a30", False)  # next in the order
        site.end(ticket)
        assert (site.served[0].cascade, site.served[0].escalated) == (None, False)

    def test_a_first_stage_that_fails_on_its_way_is_asked_again(self):
        site = Site(ALL)
        ticket, instance = first_stage(site)
        site.dispatcher.failed_try(ticket, instance, site.now_s, "reset")
        other = site.dispatcher.next_instance(ticket, site.now_s)
        assert (other.pool, ticket.is_buffered) == ("3b-a30", True)
        assert other is not instance

    def test_nobody_of_the_second_stage_then_the_first_answer_has_to_do(self):
        site = Site(ALL)
        ticket, first = first_stage(site)
        assert ticket.first_answer is None
        assert site.dispatcher.judge(ticket, LONG, False, 101.0) is None
        for _ in range(REPLICAS["72b-a100"]):
            second = site.dispatcher.next_instance(ticket, 101.0)
            site.dispatcher.failed_try(ticket, second, 101.0, "connect")
        assert site.dispatcher.next_instance(ticket, 101.0) is None
        assert ticket.first_answer == LONG
        site.end(ticket, None)
        (served,) = site.served
        assert (served.pool, served.instance) == ("3b-a30", first.name)
        assert (served.n_output, served.escalated, served.outcome) == (500, True, "ok")
        assert served.failed_tries == (("72b-a100", "connect"),) * 2

    def test_the_second_stage_has_tries_of_its_own(self):
        site = Site(setup(routes({"chat": {}}, {"chat": [cascade()]}), max_tries=2))
        ticket, instance = first_stage(site)
        site.dispatcher.failed_try(ticket, instance, site.now_s, "connect")
        assert site.dispatcher.next_instance(ticket, site.now_s) is not None
        assert site.dispatcher.judge(ticket, LONG, False, 101.0) is None
        for _ in range(2):
            second = site.dispatcher.next_instance(ticket, site.now_s)
            site.dispatcher.failed_try(ticket, second, site.now_s, "connect")
        assert ticket.n_tries == 4

    def test_a_client_that_leaves_meanwhile(self):
        site = Site(ALL)
        ticket, _ = first_stage(site)
        site.dispatcher.first_token(ticket, 100.2)
        site.dispatcher.ended(ticket, 100.5, "cancelled", "client left", None, 499)
        assert site.n_in_flight() == 0
        (served,) = site.served
        assert (served.outcome, served.ttft_s, served.pool) == ("cancelled", None, "3b-a30")

    def test_what_is_no_cascade_is_delivered_as_it_is(self):
        site = Site(setup())
        ticket, _ = first_stage(site)
        assert not ticket.is_buffered
        assert site.dispatcher.judge(ticket, LONG, False, 101.0) == LONG
        assert site.n_in_flight() == 1

    def test_embeddings_have_nothing_to_judge(self):
        site = Site(ALL)
        wanted = read_call("/v1/embeddings", b'{"model": "rb/chat", "input": "x"}')
        ticket = site.dispatcher.begin(wanted, [], site.now_s)
        assert (ticket.is_buffered, ticket.cascade) == (False, None)


class TestShares:
    def test_cascades_and_pools_take_turns_and_so_do_both_stages(self):
        second = weighted({"14b-v100": 0.25, "72b-a100": 0.75})
        entry = CascadeEntry(
            share=0.4,
            signal="length",
            below=-100.0,
            escalated_ratio=0.5,
            quality=0.7,
            first=weighted({"3b-a30": 0.5, "7b-a30": 0.5}),
            second=second,
        )
        site = Site(setup(routes({"chat": {"14b-v100": 0.6}}, {"chat": [entry]})))
        firsts, seconds = Counter(), Counter()
        for _ in range(1000):
            ticket, instance = first_stage(site)
            firsts[instance.pool, ticket.is_buffered] += 1
            if ticket.is_buffered:
                assert site.dispatcher.judge(ticket, LONG, False, site.now_s) is None
                seconds[site.dispatcher.next_instance(ticket, site.now_s).pool] += 1
            site.end(ticket)
        assert firsts == {("14b-v100", False): 600, ("3b-a30", True): 200, ("7b-a30", True): 200}
        assert seconds == {"14b-v100": 100, "72b-a100": 300}

    def test_of_an_unknown_class_they_weigh_by_its_rate(self):
        of = routes({"chat": {}, "math": {"72b-a100": 1.0}}, {"chat": [cascade()]})
        site = Site(setup(of))
        pools = Counter(first_stage(site, "rb/auto")[1].pool for _ in range(1000))
        assert pools == {"3b-a30": 750, "72b-a100": 250}  # 9 and 3 requests per second

    def test_in_shadow_mode_none_is_played(self):
        of = routes({"chat": {}}, {"chat": [cascade()]})
        ticket, instance = first_stage(Site(setup(of, shadow=True)))
        assert (ticket.is_buffered, instance.pool) == (False, "3b-a30")
        assert ticket.decided_pool == "3b-a30"


class TestLogprobs:
    OF = setup(routes({"chat": {}}, {"chat": [cascade(signal="mean_logprob", below=-1.0)]}))

    def sent(self, site: Site, more: str = ""):
        body = f'{{"model": "rb/chat", "messages": []{more}}}'
        ticket = site.dispatcher.begin(read_call(CHAT, body.encode()), [], site.now_s)
        instance = site.dispatcher.next_instance(ticket, site.now_s)
        return ticket, json.loads(site.dispatcher.body_for(ticket, instance))

    def answer(self, value: float) -> bytes:
        choice = {"message": {"content": "x"}, "logprobs": {"content": [{"logprob": value}]}}
        return json.dumps({"choices": [choice]}).encode()

    def test_they_are_asked_for_and_hidden(self):
        site = Site(self.OF)
        ticket, body = self.sent(site)
        assert body["logprobs"] is True
        seen = site.dispatcher.judge(ticket, self.answer(-0.5), False, site.now_s)
        assert json.loads(seen)["choices"][0] == {"message": {"content": "x"}, "logprobs": None}

    def test_a_client_that_wants_them_sees_them(self):
        site = Site(self.OF)
        ticket, body = self.sent(site, ', "logprobs": true, "top_logprobs": 2')
        assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
        answer = self.answer(-0.5)
        assert site.dispatcher.judge(ticket, answer, False, site.now_s) == answer

    def test_the_second_model_need_not_tell_them(self):
        site = Site(self.OF)
        ticket, _ = self.sent(site)
        assert site.dispatcher.judge(ticket, self.answer(-1.5), False, site.now_s) is None
        instance = site.dispatcher.next_instance(ticket, site.now_s)
        assert "logprobs" not in json.loads(site.dispatcher.body_for(ticket, instance))
        assert b"null" in ticket.first_answer  # delivered only where the second cannot be had


@pytest.mark.parametrize("place", ["begin", "end"])
def test_a_reload_does_not_change_a_cascade_that_has_begun(place):
    site = Site(ALL)
    ticket, _ = first_stage(site)
    if place == "begin":
        site.dispatcher.renew(setup(routes({"chat": {"7b-a30": 1.0}})), site.now_s)
    assert site.dispatcher.judge(ticket, LONG, False, site.now_s) is None
    if place == "end":
        site.dispatcher.renew(setup(routes({"chat": {"7b-a30": 1.0}})), site.now_s)
    assert site.dispatcher.next_instance(ticket, site.now_s).pool == "72b-a100"
