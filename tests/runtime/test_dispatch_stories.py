"""One request at a time: who is asked after whom, what is sent, and what is told of it."""

import asyncio
import json
from dataclasses import replace

import pytest
from fleets import servers
from plan_cases import MODEL_OF, REPLICAS, Site, call, headers, routes, setup

from planner.runtime.ask import Refusal
from planner.runtime.body import Call, read_call
from planner.runtime.served import Usage
from planner.runtime.ticket import Ticket

ONE = routes({"chat": {"7b-a30": 1.0}})
VECTORS = "/v1/embeddings"


def fails(site: Site, ticket, kind: str = "connect"):
    """The next instance, after it has failed."""
    instance = site.dispatcher.next_instance(ticket, site.now_s)
    site.dispatcher.failed_try(ticket, instance, site.now_s, kind)
    return instance


class TestRetries:
    def test_another_one_of_the_pool_then_nobody_after_three(self):
        site = Site(setup(ONE))
        ticket = site.begin()
        asked = [fails(site, ticket) for _ in range(3)]
        assert len({each.index for each in asked}) == 3
        assert {each.pool for each in asked} == {"7b-a30"}
        assert site.dispatcher.next_instance(ticket, site.now_s) is None
        site.dispatcher.ended(ticket, site.now_s, "error", "connect", None, 502)
        (served,) = site.served
        assert (served.outcome, served.why, served.status) == ("error", "connect", 502)
        assert served.n_tries == 3
        assert served.failed_tries == (("7b-a30", "connect"),) * 3
        assert site.n_in_flight() == 0

    def test_a_pool_without_anybody_left_falls_back_in_order(self):
        site = Site(setup(routes(), max_tries=20))
        ticket = site.begin(rb_class="math")
        order = [fails(site, ticket).pool for _ in range(2 + 3 + 5)]
        first, second = ("72b-a100", 2), ("14b-v100", 3)
        if order[0] == "14b-v100":
            first, second = second, first
        assert order == [first[0]] * first[1] + [second[0]] * second[1] + ["7b-a30"] * 5
        assert site.dispatcher.next_instance(ticket, site.now_s) is None  # math may not use 3b

    def test_a_dead_pool_is_passed_over_before_it_is_asked(self):
        site = Site(setup(ONE))
        site.take_down("7b-a30")
        served = site.ask()
        assert (served.pool, served.n_tries, served.outcome) == ("3b-a30", 1, "ok")

    def test_where_all_are_dead_one_is_asked_all_the_same(self):
        site = Site(setup(ONE))
        for pool in REPLICAS:
            site.take_down(pool)
        assert not site.dispatcher.is_ready(site.now_s)
        assert site.ask().pool == "7b-a30"

    def test_a_model_s_own_name_is_no_reason_to_answer_with_another(self):
        site = Site(setup(ONE, max_tries=20))
        ticket = site.begin("qwen-72b")
        assert {fails(site, ticket).pool for _ in range(2)} == {"72b-a100"}
        assert site.dispatcher.next_instance(ticket, site.now_s) is None

    def test_who_is_busy_is_not_ill(self):
        site = Site(setup(ONE, replicas={**REPLICAS, "7b-a30": 1}))
        for _ in range(30):
            ticket = site.begin()
            assert fails(site, ticket, "busy").pool == "7b-a30"
            site.end(ticket)
        assert site.dispatcher.fleet.is_up("7b-a30", site.now_s)

    def test_a_word_about_a_try_that_is_over_is_not_heard(self):
        site = Site(setup(ONE))
        ticket = site.begin()
        instance = fails(site, ticket)
        site.dispatcher.failed_try(ticket, instance, site.now_s, "connect")
        site.dispatcher.first_token(ticket, site.now_s)
        other = site.dispatcher.next_instance(ticket, site.now_s)
        site.dispatcher.failed_try(ticket, instance, site.now_s, "connect")
        assert ticket.at is not None
        assert ticket.at.instance is other
        assert ticket.failed_tries == (("7b-a30", "connect"),)


class TestWhatIsSent:
    def test_the_name_that_the_instance_knows(self):
        site = Site(setup(ONE))
        ticket = site.begin()
        instance = site.dispatcher.next_instance(ticket, site.now_s)
        body = json.loads(site.dispatcher.body_for(ticket, instance))
        assert body == {
            "model": instance.served_model_name,
            "messages": [{"role": "user", "content": "what is 2 + 2?"}],
        }
        assert not ticket.drop_usage

    def streamed(self, site: Site, options: str = ""):
        body = f'{{"model": "rb/auto", "stream": true, "messages": []{options}}}'
        ticket = site.dispatcher.begin(read_call("/v1/chat/completions", body.encode()), [], 1.0)
        instance = site.dispatcher.next_instance(ticket, site.now_s)
        return ticket, instance, json.loads(site.dispatcher.body_for(ticket, instance))

    def test_usage_is_asked_for_and_dropped(self):
        ticket, _, body = self.streamed(Site(setup(ONE)))
        assert body["stream_options"] == {"include_usage": True}
        assert ticket.drop_usage

    def test_usage_that_the_client_wants_is_left_to_it(self):
        options = ', "stream_options": {"include_usage": true}'
        ticket, _, body = self.streamed(Site(setup(ONE)), options)
        assert body["stream_options"] == {"include_usage": True}
        assert not ticket.drop_usage

    def test_who_refuses_the_field_is_not_asked_again(self):
        site = Site(setup(ONE, replicas={**REPLICAS, "7b-a30": 1}))
        ticket, instance, _ = self.streamed(site)
        site.dispatcher.refuses_usage(instance)
        assert "stream_options" not in json.loads(site.dispatcher.body_for(ticket, instance))
        assert not ticket.drop_usage
        ticket, _, body = self.streamed(site)
        assert "stream_options" not in body
        site.dispatcher.renew(setup(ONE, replicas={**REPLICAS, "7b-a30": 1}), site.now_s)
        ticket, _, body = self.streamed(site)
        assert "stream_options" not in body

    def test_what_the_client_is_told(self):
        site = Site(setup(ONE))
        ticket = site.begin(rb_class="chat", request_id="abc-1")
        instance = site.dispatcher.next_instance(ticket, site.now_s)
        assert dict(ticket.response_headers(instance)) == {
            b"x-request-id": b"abc-1",
            b"x-rb-pool": b"7b-a30",
            b"x-rb-instance": instance.name.encode(),
            b"x-rb-plan": b"0" * 12,
            b"x-rb-class": b"chat",
        }
        unknown = Site(setup()).begin()
        assert b"x-rb-class" not in dict(unknown.response_headers(instance))

    @pytest.mark.parametrize("sent", [b"", b"a\r\nb", b"\xff", b"x" * 200])
    def test_an_id_that_may_not_stand_in_a_header_is_replaced(self, sent):
        site = Site(setup(ONE, request_prefix="w3-"))
        ticket = site.dispatcher.begin(call(), [(b"x-request-id", sent)], 0.0)
        assert ticket.request_id == "w3-1"
        assert site.begin().request_id == "w3-2"

    def test_a_trace_goes_on(self):
        parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        site = Site(setup(ONE))
        ticket = site.dispatcher.begin(call(), [(b"traceparent", parent)], 0.0)
        assert (ticket.traceparent, ticket.parent) == (parent.decode(), parent.decode())

        class Spans:
            def begin(self, parent):
                return f"child of {parent}"

        site = Site(setup(ONE), spans=Spans())
        assert site.begin().traceparent == "child of None"

    def test_embeddings_are_routed_like_all_else(self):
        site = Site(setup(ONE))
        wanted = read_call(VECTORS, b'{"model": "rb/auto", "input": "some words"}')
        assert isinstance(wanted, Call)
        ticket = site.dispatcher.begin(wanted, [], site.now_s)
        assert site.dispatcher.next_instance(ticket, site.now_s).pool == "7b-a30"
        site.end(ticket, Usage(3, 0))
        assert site.served[0].operation == "embeddings"


class TestWhatBecameOfIt:
    def test_times_and_tokens(self):
        site = Site(setup(ONE))
        ticket = site.begin(rb_class="chat", rb_session="s", rb_priority=4)
        site.dispatcher.next_instance(ticket, 100.0)
        site.dispatcher.first_token(ticket, 100.25)
        site.dispatcher.first_token(ticket, 100.5)
        site.now_s = 102.0
        site.end(ticket, Usage(31, 7, 16))
        (served,) = site.served
        assert (served.class_name, served.asked_model) == ("chat", "rb/auto")
        assert (served.model_name, served.pool) == (MODEL_OF["7b-a30"], "7b-a30")
        assert (served.started_s, served.ttft_s, served.e2e_s) == (100.0, 0.25, 2.0)
        assert (served.n_input, served.n_output, served.usage_known) == (31, 7, True)
        assert served.session is not None
        assert served.priority == 4

    def test_only_the_first_end_counts(self):
        site = Site(setup(ONE))
        ticket = site.begin()
        site.dispatcher.next_instance(ticket, site.now_s)
        site.dispatcher.ended(ticket, site.now_s, "cancelled", "client left", None, 499)
        site.end(ticket)
        (served,) = site.served
        assert (served.outcome, served.ttft_s) == ("cancelled", None)
        assert (served.n_input, served.usage_known) == (None, False)
        assert site.n_in_flight() == 0

    def test_without_usage_the_lengths_are_estimates(self):
        site = Site(setup(ONE))
        ticket = site.begin(rb_class="chat")
        site.dispatcher.next_instance(ticket, site.now_s)
        site.end(ticket, None)
        (served,) = site.served
        assert served.usage_known is False
        assert (served.n_input, served.n_output) == (round(14 / 4 + 4), 50)

    @pytest.mark.parametrize(
        ("why", "status", "is_ill"),
        [
            ("upstream status", 400, False),
            ("upstream status", 500, True),
            ("cut", 200, True),
            ("bug", 500, False),
        ],
    )
    def test_an_error_of_the_client_is_none_of_the_server(self, why, status, is_ill):
        site = Site(setup(ONE, replicas={**REPLICAS, "7b-a30": 1}))
        for _ in range(20):
            ticket = site.begin("7b-a30")
            site.dispatcher.next_instance(ticket, site.now_s)
            site.dispatcher.ended(ticket, site.now_s, "error", why, None, status)
        assert site.dispatcher.fleet.is_up("7b-a30", site.now_s) is not is_ill

    def test_who_is_refused_is_counted_too(self):
        site = Site(setup(ONE))
        refusal = site.refused(rb_priority="high")
        assert refusal == Refusal(400, "invalid_header", refusal.message)
        (served,) = site.served
        assert (served.outcome, served.why, served.n_tries) == ("refused", "invalid_header", 0)

    def test_ready_needs_somebody_for_every_class(self):
        site = Site(setup(routes({"math": {"72b-a100": 1.0}})))
        assert site.dispatcher.is_ready(site.now_s)
        for pool in ("72b-a100", "14b-v100"):
            site.take_down(pool)
        assert site.dispatcher.is_ready(site.now_s)
        site.take_down("7b-a30")
        assert not site.dispatcher.is_ready(site.now_s)


class TestLengths:
    def test_expectations_follow_what_comes(self):
        site = Site(setup(ONE))
        before = site.begin(rb_class="chat").ask.size_at("7b-a30")
        for _ in range(400):
            ticket = site.begin(rb_class="chat")
            site.dispatcher.next_instance(ticket, site.now_s)
            site.end(ticket, Usage(15, 100))
        after = site.begin(rb_class="chat").ask.size_at("7b-a30")
        assert before == (7.5, 7.5, 50.0)
        assert after.input_tokens == pytest.approx(15.0, rel=0.06)
        assert after.output_tokens == pytest.approx(100.0, rel=0.06)
        other = site.begin(rb_class="chat").ask.size_at("3b-a30")
        assert other == (7.5, 7.5, 50.0)  # models differ

    def test_embeddings_say_nothing_of_answers(self):
        site = Site(setup(ONE))
        wanted = read_call(VECTORS, b'{"model": "rb/chat", "input": "some words"}')
        for _ in range(50):
            ticket = site.dispatcher.begin(wanted, [], site.now_s)
            site.dispatcher.next_instance(ticket, site.now_s)
            site.end(ticket, Usage(3, 0))
        assert site.begin(rb_class="chat").ask.size_at("7b-a30").output_tokens == 50.0
        ticket = site.dispatcher.begin(wanted, [], site.now_s)
        assert ticket.ask.size_at("7b-a30").output_tokens == 1.0  # nor are they as long as these

    def test_several_answers_to_one_prompt_are_so_much_work(self):
        site = Site(setup(ONE))
        body = b'{"model": "rb/chat", "messages": [], "n": 4, "max_tokens": 30}'
        for _ in range(50):
            ticket = site.dispatcher.begin(read_call("/v1/chat/completions", body), [], site.now_s)
            site.dispatcher.next_instance(ticket, site.now_s)
            assert ticket.ask.size_at("7b-a30").output_tokens == 4 * 30.0
            site.end(ticket, Usage(9, 4 * 30))
        assert site.begin(rb_class="chat").ask.size_at("7b-a30").output_tokens == 50.0

    def test_a_limit_of_the_request_bounds_its_answer(self):
        site = Site(setup(ONE))
        limited = b'{"model": "rb/chat", "messages": [], "max_tokens": 10}'
        ticket = site.dispatcher.begin(read_call("/v1/chat/completions", limited), [], 0.0)
        assert ticket.ask.size_at("7b-a30").output_tokens == 10.0

    def test_the_cached_part_of_a_class_need_not_be_prefilled(self):
        plain = setup(ONE)
        assert plain.sheet is not None
        chat = plain.sheet.classes["chat"].model_copy(update={"cached_input_ratio": 0.4})
        classes = {**plain.sheet.classes, "chat": chat}
        site = Site(setup(ONE, known=plain.sheet.model_copy(update={"classes": classes})))
        size = site.begin(rb_class="chat").ask.size_at("7b-a30")
        assert size.fresh_tokens == pytest.approx(0.6 * size.input_tokens)
        assert site.dispatcher.prices() == {}


def test_headers_of_another_proxy_do_no_harm():
    site = Site(setup(ONE))
    assert site.dispatcher.begin(call(), headers(rb_plan="x") * 50, 0.0).ask.class_name == "chat"


class TestHeld:
    """Pools whose requests wait here for a data-parallel rank."""

    def site(self) -> Site:
        plain = setup(
            routes({"chat": {"72b-a100": 1.0}}),
            rank_policy="best_match",
        )
        at = {**plain.endpoints, "72b-a100": servers(1, 9500, data_parallel_ranks=2)}
        return Site(replace(plain, endpoints=at))

    def next_of(self, site: Site, ticket: Ticket) -> str | None:
        async def asked():
            return await site.dispatcher.held_instance(ticket, lambda: site.now_s)

        instance = asyncio.run(asked())
        return None if instance is None else instance.pool

    def test_its_turn_comes_and_it_is_counted(self):
        site = self.site()
        ticket = site.begin()
        assert site.dispatcher.holds(ticket)
        assert self.next_of(site, ticket) == "72b-a100"
        site.end(ticket)
        assert site.n_in_flight() == 0

    def test_a_pool_that_is_down_comes_after_all_others(self):
        site = self.site()
        site.take_down("72b-a100")
        assert self.next_of(site, site.begin()) == "3b-a30"
        for pool in REPLICAS:
            if pool != "72b-a100":
                site.take_down(pool)
        assert self.next_of(site, site.begin()) is not None

    def test_after_so_many_tries_nobody_is_asked(self):
        site = self.site()
        ticket = site.begin()
        for _ in range(3):
            assert self.next_of(site, ticket) is not None
            site.dispatcher.failed_try(ticket, ticket.at.instance, site.now_s, "connect")
        assert self.next_of(site, ticket) is None
