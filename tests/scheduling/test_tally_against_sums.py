"""The tally's sums, kept as they change, against sums over all answers made anew each time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.scheduling.tally import Sent, Tally


class Plain:
    """The same by adding up."""

    def __init__(self, floor_ratio):
        self.floor_ratio, self.clock, self.began = floor_ratio, 0.0, {}

    def tick(self, n_steps):
        self.clock += n_steps

    @property
    def decode_tokens(self):
        return sum(
            max(one.output_tokens - (self.clock - at), self.floor_ratio * one.output_tokens)
            for one, at in self.began.items()
        )

    @property
    def kv_tokens(self):
        return sum(one.input_tokens + self.clock - at for one, at in self.began.items())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "leave", "tick", "again"]),
        st.floats(0, 300),
        st.floats(0, 2000),
    ),
    max_size=80,
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([0.0, 0.25, 0.6, 1.0]), st.randoms(use_true_random=False))
def test_against_sums(steps, floor_ratio, random):
    tally, plain = Tally(floor_ratio), Plain(floor_ratio)
    for what, x, y in steps:
        there = list(plain.began)
        if what == "begin":
            one = Sent(y, x, 0.0, 0.0)
            tally.begin(one)
            plain.began[one] = plain.clock
        elif what == "tick":
            tally.tick(x / 5)
            plain.tick(x / 5)
        elif there:
            one = random.choice(there)
            tally.leave(one)
            del plain.began[one]
            if what == "again":
                tally.begin(one)
                plain.began[one] = plain.clock
        assert tally.n == len(plain.began)
        assert tally.decode_tokens == pytest.approx(plain.decode_tokens, rel=1e-9, abs=1e-6)
        assert tally.kv_tokens == pytest.approx(plain.kv_tokens, rel=1e-9, abs=1e-6)
    for one in list(plain.began):
        tally.leave(one)
    assert (tally.n, tally.decode_tokens, tally.kv_tokens) == (0, 0.0, 0.0)


def test_what_has_left_takes_no_memory():
    """A clock that stands still never comes to the entries of those who have left."""
    tally, stays = Tally(0.5), Sent(1.0, 50.0, 0.0, 0.0)
    tally.begin(stays)
    for _ in range(1000):
        one = Sent(1.0, 100.0, 0.0, 0.0)
        tally.begin(one)
        tally.leave(one)
    assert len(tally._heap) < 100
    tally.tick(30.0)
    assert tally.decode_tokens == 25.0
