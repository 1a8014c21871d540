"""Whatever happens in whatever order: every try is opened and closed once, every request told once.

The truth is a plain list of the tries that are open, kept by hand beside the real fleet.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from plan_cases import Site, cascade, routes, setup

from planner.runtime.served import Usage

KINDS = ("connect", "timeout", "reset", "status", "busy")
GOOD = b'{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}'
BAD = b'{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 500}}'

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["begin", "next", "next", "fail", "first", "judge", "end", "end again", "renew", "wait"]
        ),
        st.integers(0, 5),
        st.integers(0, 4),
    ),
    max_size=60,
)
SETUPS = (
    setup(routes(cascades={"chat": [cascade(share=0.5)]}), max_tries=2),
    setup(routes(), max_tries=4, replicas={"3b-a30": 1, "7b-a30": 2, "14b-v100": 1, "72b-a100": 1}),
)
MODELS = ("rb/chat", "rb/math", "rb/auto", "qwen-7b", "72b-a100")


class Hand:
    """The requests under way and the fleet's account of them, side by side."""

    def __init__(self) -> None:
        self.site = Site(SETUPS[0])
        self.live = []
        self.n_begun = 0
        self.open = {}  # by request, the index of the instance where it is
        self.asked = {}

    def play(self, what: str, i: int, k: int) -> None:
        if what == "begin" or not self.live:
            ticket = self.site.begin(MODELS[k])
            self.live.append(ticket)
            self.asked[ticket.request_id] = []
            self.n_begun += 1
            return
        getattr(self, "do_" + what.replace(" ", "_"))(self.live[i % len(self.live)], k)

    def do_next(self, ticket, k: int) -> None:
        if ticket.request_id in self.open or ticket.is_done:
            return
        instance = self.site.dispatcher.next_instance(ticket, self.site.now_s)
        if instance is not None:
            self.open[ticket.request_id] = instance.index
            self.asked[ticket.request_id].append(instance.index)

    def do_fail(self, ticket, k: int) -> None:
        if ticket.last is not None:
            instance = ticket.last.instance
            self.site.dispatcher.failed_try(ticket, instance, self.site.now_s, KINDS[k])
            self.open.pop(ticket.request_id, None)

    def do_first(self, ticket, k: int) -> None:
        self.site.dispatcher.first_token(ticket, self.site.now_s)

    def do_judge(self, ticket, k: int) -> None:
        if ticket.is_buffered and ticket.request_id in self.open:
            answer = BAD if k % 2 else GOOD
            seen = self.site.dispatcher.judge(ticket, answer, False, self.site.now_s)
            assert seen == (None if k % 2 else GOOD)
            del self.open[ticket.request_id]

    def do_end(self, ticket, k: int) -> None:
        outcome = ("ok", "error", "cancelled", "ok", "error")[k]
        usage = Usage(9, 5) if k == 0 else None
        why, status = ("", "cut", "client left", "", "upstream status")[k], 500 if k == 4 else 200
        self.site.dispatcher.ended(ticket, self.site.now_s, outcome, why, usage, status)
        self.open.pop(ticket.request_id, None)

    do_end_again = do_end

    def do_renew(self, ticket, k: int) -> None:
        self.site.dispatcher.renew(SETUPS[k % 2], self.site.now_s)

    def do_wait(self, ticket, k: int) -> None:
        self.site.now_s += 10.0**k / 100.0

    def check(self) -> None:
        fleet = self.site.dispatcher.fleet
        for instance, told in zip(fleet.instances, fleet.status(self.site.now_s), strict=True):
            there = sum(index == instance.index for index in self.open.values())
            assert told["n_in_flight"] == there
        told = [each.request_id for each in self.site.served]
        assert len(told) == len(set(told))
        assert set(told) == {t.request_id for t in self.live if t.is_done}
        for indices in self.asked.values():
            assert len(indices) == len(set(indices))


@given(steps)
@settings(max_examples=60)
def test_every_try_is_closed_once_and_every_request_told_once(played):
    hand = Hand()
    for what, i, k in played:
        hand.play(what, i, k)
        hand.check()
    for ticket in hand.live:
        hand.do_end(ticket, 2)
    assert hand.site.n_in_flight() == 0
    assert len(hand.site.served) == hand.n_begun
    assert hand.site.dispatcher.fleet._sent == {}
