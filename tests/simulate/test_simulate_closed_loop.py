"""Closed loops: who sends when, on a server that can be reckoned by hand and on real replicas."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.simulate.barrier import Group
from planner.simulate.closed_loop import run_closed_loop
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens

EXAMPLES = settings(max_examples=80, deadline=None, derandomize=True)


class OneByOne:
    """A server that answers in order of arrival, each request in its own time."""

    def __init__(self, times: Times, service_ps: list[int]) -> None:
        self.ended: list[int] = []
        self._times, self._service_ps = times, service_ps
        self._queue: deque[tuple[int, int]] = deque()
        self._free_ps = 0

    def submit(self, i: int, at_ps: int) -> bool:
        if self._service_ps[i] < 0:
            return False
        self._free_ps = max(self._free_ps, at_ps) + self._service_ps[i]
        self._queue.append((self._free_ps, i))
        return True

    def advance(self, until_ps: int, to_completion: bool = False) -> bool:
        assert to_completion
        if not self._queue or self._queue[0][0] >= until_ps:
            return False
        done_ps, i = self._queue.popleft()
        self._times.done_ps[i] = done_ps
        self.ended = [i]
        return True


def by_hand(service_ps, **more):
    """When requests are sent to one server, and when they are answered."""
    times = Times.none_yet(len(service_ps))
    sent_ps = run_closed_loop(OneByOne(times, service_ps), times, **more)
    return sent_ps, times.done_ps


def test_one_user_sends_one_after_the_other():
    assert by_hand([10, 20, 30], n_users=1, think_ps=5) == ([0, 15, 40], [10, 35, 70])


def test_users_send_when_their_own_answer_is_there():
    sent_ps, done_ps = by_hand([10] * 5, n_users=2, think_ps=1)
    assert sent_ps == [0, 0, 11, 21, 31]
    assert done_ps == [10, 20, 30, 40, 50]


def test_users_start_one_after_the_other():
    sent_ps, _ = by_hand([10] * 4, n_users=4, start_over_ps=100)
    assert sent_ps == [0, 11, 22, 25]  # the first user is back before the third one starts


def test_nothing_is_sent_when_the_time_is_over_and_what_was_sent_is_answered():
    sent_ps, done_ps = by_hand([10] * 9, n_users=2, duration_ps=21)
    assert sent_ps == [0, 0, 11]
    assert done_ps[:4] == [10, 20, 30, -1]


def test_more_users_than_requests():
    assert by_hand([10, 10], n_users=5) == ([0, 0], [10, 20])


def test_no_requests():
    assert by_hand([], n_users=2) == ([], [])


@pytest.mark.parametrize(
    "wrong", [{"n_users": 0}, {"n_users": 1, "think_ps": 0}, {"n_users": 1, "start_over_ps": -1}]
)
def test_loops_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="need a user"):
        by_hand([10], **wrong)


def test_a_request_that_does_not_fit_is_told():
    with pytest.raises(ValueError, match="request 1 asks for more than the KV cache"):
        by_hand([10, -1], n_users=1)


# ---- On real replicas ----------------------------------------------------------------------------


def engine(n_ranks: int = 1, **changes) -> EngineSettings:
    steps = StepTimes((50, *range(100, 900, 100)), (0, *[1] * 8), 3)
    given = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "kv_blocks": 40, "n_ranks": n_ranks}
    return EngineSettings(steps, **(given | changes))


def made(n_ranks: int, tokens: Tokens, times: Times, **changes) -> Replica | Group:
    kind = Replica if n_ranks == 1 else Group
    return kind(engine(n_ranks, **changes), tokens, times)


@EXAMPLES
@given(
    seed=st.integers(0, 10_000),
    n_users=st.integers(1, 12),
    think_ps=st.sampled_from([1, 7, 100, 5000]),
    start_over_ps=st.sampled_from([0, 1000]),
    n_ranks=st.sampled_from([1, 1, 2]),
    kv_blocks=st.sampled_from([14, 40]),
    lag_steps=st.sampled_from([0, 1]),
)
def test_a_closed_loop_is_an_open_one_of_the_times_that_it_chose(
    seed, n_users, think_ps, start_over_ps, n_ranks, kv_blocks, lag_steps
):
    random, n = np.random.default_rng(seed), 30
    prompt = random.integers(1, 100, n).tolist()
    tokens = Tokens(prompt, prompt, random.integers(1, 60, n).tolist())
    times, again = Times.none_yet(n), Times.none_yet(n)
    changes = {"kv_blocks": kv_blocks, "lag_steps": lag_steps}
    sent_ps = run_closed_loop(
        made(n_ranks, tokens, times, **changes),
        times,
        n_users=n_users,
        think_ps=think_ps,
        start_over_ps=start_over_ps,
    )
    station = made(n_ranks, tokens, again, **changes)
    for i, at_ps in enumerate(sent_ps):
        station.advance(at_ps)
        assert station.submit(i, at_ps)
    station.drain()
    assert (times.first_ps, times.done_ps) == (again.first_ps, again.done_ps)
    # Every request beyond the users' first ones follows an answer; each answer calls for one.
    due_ps = [start_over_ps * k // n_users for k in range(n_users)]
    due_ps += [done_ps + think_ps for done_ps in times.done_ps]
    assert sent_ps == sorted(due_ps)[:n]


def test_alone_every_request_takes_its_own_time():
    """Prefill 10 tokens: 50 + 3*10; then the k-th decode reads 10 + k tokens: 100 + 10 + k."""
    tokens = Tokens([10] * 3, [10] * 3, [4] * 3)
    times = Times.none_yet(3)
    sent_ps = run_closed_loop(made(1, tokens, times), times, n_users=1, think_ps=20)
    e2e_ps = 80 + 111 + 112 + 113
    assert sent_ps == [0, e2e_ps + 20, 2 * (e2e_ps + 20)]
    assert [d - s for d, s in zip(times.done_ps, sent_ps, strict=True)] == [e2e_ps] * 3


def test_requests_in_flight_follow_little():
    """Eight users, no thinking: the mean in flight is eight but for the start and the end."""
    random, n = np.random.default_rng(0), 4000
    prompt = random.integers(1, 30, n).tolist()
    tokens = Tokens(prompt, prompt, random.integers(1, 30, n).tolist())
    times = Times.none_yet(n)
    station = made(1, tokens, times, kv_blocks=1000)
    sent_ps = np.array(run_closed_loop(station, times, n_users=8))
    e2e_ps = np.array(times.done_ps) - sent_ps
    assert e2e_ps.sum() / max(times.done_ps) == pytest.approx(8.0, rel=0.01)
