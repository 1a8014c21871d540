"""One replica: small runs that can be followed by hand, and what holds for every run.

By hand: a step takes 10 ps however many decode, plus 1 ps per prompt token where that matters.
"""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planner.simulate.replica import Replica, n_steps_before
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens


def engine(
    max_num_seqs=4, step_ps=10, context_ps=0, token_ps=0, attention_ps=0, **settings
) -> EngineSettings:
    """An engine with flat tables and, unless said, plenty of everything."""
    n_entries = max_num_seqs + 1
    steps = StepTimes((step_ps,) * n_entries, (context_ps,) * n_entries, token_ps, attention_ps)
    plenty = {"max_num_batched_tokens": 1000, "kv_blocks": 1000, "block_tokens": 1}
    return EngineSettings(steps, max_num_seqs, **(plenty | settings))


def run(settings, requests, priority=()):
    """The times of requests (arrived, prompt, output[, fresh]), and the replica that ran them."""
    tokens = Tokens(
        [each[1] for each in requests],
        [each[3] if len(each) == 4 else each[1] for each in requests],
        [each[2] for each in requests],
    )
    times = Times.none_yet(len(requests))
    replica = Replica(settings, tokens, times, priority)
    for i, each in enumerate(requests):
        replica.advance(each[0])
        replica.submit(i, each[0])
    replica.drain()
    return times, replica


# By hand: one request, chunks, company ----------------------------------------------------------


def test_one_request_alone():
    steps = StepTimes((10, 20), (0, 2), prompt_token_ps=1)
    settings = EngineSettings(steps, 1, max_num_batched_tokens=1000, kv_blocks=100)
    times, replica = run(settings, [(1000, 100, 3)])
    # prefill 10 + 100, then decodes that read 101 and 102 tokens: 20 + 202, 20 + 204
    assert times.first_ps == [1110]
    assert times.done_ps == [1110 + 222 + 224]
    assert replica.busy_ps == 110 + 222 + 224
    assert (replica.n_steps, replica.n_decoded, replica.n_prefilled_tokens) == (3, 2, 100)
    assert replica.n_outstanding == replica.kv_tokens == 0


def test_a_single_token_ends_with_its_prefill():
    times, replica = run(engine(token_ps=1), [(0, 5, 1)])
    assert times.first_ps == times.done_ps == [15]
    assert (replica.n_steps, replica.n_decoded) == (1, 0)


def test_a_long_prompt_takes_chunks_and_attention_looks_back():
    settings = engine(token_ps=1, attention_ps=2, max_num_batched_tokens=100)
    times, _ = run(settings, [(0, 250, 1)])
    # E*c*(2x + c)//2 with x = 0, 100, 200
    attention = [100 * 100, 100 * (200 + 100), 50 * (400 + 50)]
    assert times.first_ps == [3 * 10 + 250 + sum(attention)]


def test_cached_tokens_are_not_prefilled_but_looked_back_at():
    times, replica = run(engine(token_ps=1, attention_ps=2), [(0, 100, 1, 30)])
    assert times.first_ps == [10 + 30 + 30 * (2 * 70 + 30)]
    assert replica.n_prefilled_tokens == 30


def test_a_decode_takes_one_token_of_the_budget_from_prefills():
    settings = engine(max_num_batched_tokens=4)
    times, _ = run(settings, [(0, 4, 10), (5, 7, 1)])
    # the second prompt gets 3 tokens in [10, 20], 3 in [20, 30], 1 in [30, 40]
    assert times.first_ps == [10, 40]
    assert times.done_ps == [10 + 9 * 10, 40]


def test_the_rest_of_a_budget_goes_to_the_next_in_line():
    settings = engine(max_num_batched_tokens=6)
    times, _ = run(settings, [(0, 4, 1), (0, 4, 1), (0, 4, 1)])
    # 4 + 2 tokens in [0, 10], 2 + 4 in [10, 20]
    assert times.first_ps == [10, 20, 20]


def test_requests_at_the_same_moment_share_the_first_step():
    times, _ = run(engine(), [(7, 3, 2), (7, 3, 2)])
    assert times.first_ps == [17, 17]
    assert times.done_ps == [27, 27]


@pytest.mark.parametrize("at_ps", [10, 20, 30, 40, 50])
def test_who_comes_at_a_boundary_is_in_the_step_that_begins_there(at_ps):
    """Whether it is one that is jumped over, the last such, or one at which a request ends."""
    requests = [(0, 3, 5), (0, 3, 9), (at_ps, 3, 1), (at_ps + 1, 3, 1)]
    times, _ = run(engine(), requests)
    assert times.first_ps[2:] == [at_ps + 10, at_ps + 20]
    assert times.done_ps[:2] == [50, 90]


def test_places_are_given_away_as_soon_as_they_are_free():
    times, _ = run(engine(max_num_seqs=1), [(0, 3, 2), (1, 3, 2), (2, 3, 1)])
    assert times.first_ps == [10, 30, 50]
    assert times.done_ps == [20, 40, 50]


def test_context_grows_while_nobody_looks():
    times, replica = run(engine(context_ps=1), [(0, 10, 101)])
    # decodes read 11 ... 110 tokens
    assert times.done_ps == [10 + 100 * 10 + sum(range(11, 111))]
    assert replica.n_steps == 101


# By hand: memory --------------------------------------------------------------------------------


def test_the_last_admitted_is_preempted_and_prefills_all_it_knew():
    times, replica = run(engine(kv_blocks=10, token_ps=1), [(0, 3, 4), (0, 3, 4)])
    # tokens held: 3+3 in [0, 16], 4+4 in [16, 26], 5+5 in [26, 36]; 6+6 are too many:
    # one decodes alone in [36, 46] and is done, the other prefills 3 + 3 in [46, 62]
    assert times.first_ps == [16, 16]
    assert times.done_ps == [46, 62]
    assert times.n_preempted == [0, 1]
    assert replica.n_prefilled_tokens == 12
    assert replica.n_decoded == 3 + 2


def test_nobody_is_admitted_when_somebody_was_preempted():
    settings = engine(kv_blocks=10, max_num_batched_tokens=4, reserve_prompt=False)
    times, _ = run(settings, [(0, 3, 8), (0, 3, 4)])
    # prefills of 3 and 1, then 2 tokens; at 30 they need 6 + 5 tokens: the second is put back.
    # At 40 the first needs 7 and a chunk of 3 fits again; at 50 it needs 8: put back again.
    # At 60 a chunk of 3 does not fit; at 80 the first is done: 4 tokens, 1 token, one decode
    assert times.n_preempted == [0, 2]
    assert times.first_ps == [10, 20]
    assert times.done_ps == [80, 110]
    times, _ = run(settings, [(0, 3, 4), (0, 3, 4)])
    # a chunk of 3 would fit at 30 already, beside the first one's last decode
    assert times.n_preempted == [0, 1]
    assert times.done_ps == [40, 70]


def test_a_prompt_is_admitted_when_all_of_it_fits():
    settings = engine(kv_blocks=10, max_num_batched_tokens=4)
    requests = [(0, 3, 3), (0, 8, 1)]
    # the first holds 3, 4 and 5 tokens until 30; a chunk of 1 fits at 0, all 8 not before 30
    times, _ = run(settings, requests)
    assert times.first_ps == [10, 50] and times.n_preempted == [0, 0]
    # admitted at 0: 1, then 3 tokens, and at 20 it would need 7 beside 5: back
    times, _ = run(replace(settings, reserve_prompt=False), requests)
    assert times.first_ps == [10, 50] and times.n_preempted == [0, 1]


def test_who_was_preempted_is_first_in_line():
    # at 40 there is room for 6 + 4 tokens, or for 5
    times, _ = run(engine(kv_blocks=10), [(0, 3, 4), (0, 3, 4), (0, 5, 1)])
    assert times.n_preempted == [0, 1, 0]
    assert times.done_ps == [40, 50, 60]


def test_a_greater_priority_passes_a_head_without_blocks():
    settings = engine(kv_blocks=8, by_priority=True)
    times, _ = run(settings, [(0, 2, 5), (15, 7, 1), (25, 1, 1)], priority=[0, 1, 2])
    assert times.first_ps == [10, 60, 40]


def test_the_least_priority_is_preempted_and_the_greatest_admitted():
    settings = engine(kv_blocks=10, by_priority=True)
    times, _ = run(settings, [(0, 3, 4), (0, 3, 4)], priority=[0, 1])
    assert times.n_preempted == [1, 0]
    assert times.done_ps == [50, 40]
    times, _ = run(engine(max_num_seqs=1, by_priority=True), [(0, 1, 1)] * 4, [1, 3, 2, 3])
    assert times.done_ps == [40, 10, 30, 20]


def test_a_head_without_blocks_holds_up_the_line():
    # [0, 10]: 6 of 8 blocks; the second needs 5, the third would fit with 1 but waits behind it
    times, _ = run(engine(kv_blocks=8), [(0, 6, 2), (0, 5, 1), (0, 1, 1)])
    assert times.first_ps == [10, 30, 30]
    assert times.n_preempted == [0, 0, 0]


def test_blocks_are_whole():
    # 2 blocks of 4 tokens: prompts of 3 take one each; the fifth token of either needs a third
    settings = engine(kv_blocks=2, block_tokens=4)
    times, _ = run(settings, [(0, 3, 2), (0, 3, 2)])
    assert times.n_preempted == [0, 0] and times.done_ps == [20, 20]
    times, _ = run(settings, [(0, 3, 3), (0, 3, 3)])
    assert times.n_preempted == [0, 1] and times.done_ps == [30, 40]
    times, _ = run(settings, [(0, 2, 1)] * 3)
    assert times.done_ps == [10, 10, 20]


def test_what_can_never_fit_is_refused():
    tokens = Tokens([8, 8], [8, 8], [3, 4])
    times = Times.none_yet(2)
    replica = Replica(engine(kv_blocks=10), tokens, times)
    assert replica.submit(0, 0)  # 8 + 3 - 1 tokens at most
    assert not replica.submit(1, 0)
    replica.drain()
    assert times.done_ps == [30, -1]


# By hand: other engines -------------------------------------------------------------------------


def test_prefills_pause_decodes():
    settings = engine(prefill="pausing", waiting_ratio=2.0, most_decode_steps=3)
    times, replica = run(settings, [(0, 3, 10), (5, 3, 2), (55, 3, 1)])
    # one waits, 2.0 * 1 are asked: three decodes until 40, then [40, 50] prefills;
    # another waits: three decodes until 80, then [80, 90] prefills
    assert times.first_ps == [10, 50, 90]
    assert times.done_ps == [10 + 9 * 10 + 2 * 10, 60, 90]
    assert (replica.n_steps, replica.n_decoded) == (12, 10)


def test_enough_waiting_requests_pause_at_once():
    settings = engine(prefill="pausing", waiting_ratio=2.0, most_decode_steps=100)
    times, _ = run(settings, [(0, 3, 10), (5, 3, 1), (15, 3, 1)])
    assert times.first_ps == [10, 30, 30]
    assert times.done_ps[0] == 110


def test_an_empty_engine_prefills_whatever_the_ratio():
    settings = engine(prefill="pausing", waiting_ratio=math.inf, most_decode_steps=100)
    assert run(settings, [(0, 3, 1), (5, 3, 1)])[0].first_ps == [10, 20]


def test_memory_is_set_aside_for_the_whole_request():
    settings = engine(prefill="pausing", kv_blocks=10)
    times, _ = run(settings, [(0, 3, 4), (0, 3, 4)])  # 6 blocks each
    assert times.n_preempted == [0, 0]
    assert times.done_ps == [40, 80]


def test_the_first_prompt_of_a_pause_is_never_too_long():
    settings = engine(prefill="pausing", max_num_batched_tokens=10, token_ps=1)
    times, _ = run(settings, [(0, 30, 1), (0, 6, 1), (0, 6, 1)])
    assert times.first_ps == [40, 56, 72]


def test_prefilled_elsewhere_a_request_decodes_at_once():
    times, replica = run(engine(prefill="elsewhere", context_ps=1), [(0, 5, 2)])
    assert times.first_ps == [10 + 5]
    assert times.done_ps == [10 + 5 + 10 + 6]
    assert (replica.n_decoded, replica.n_prefilled_tokens) == (2, 0)


def test_prefilled_elsewhere_and_preempted_it_comes_back_with_its_tokens():
    # 3+3, 4+4, 5+5 tokens; then one alone with 6 of 10 blocks, the other joins with 5 ... too many
    times, _ = run(engine(prefill="elsewhere", kv_blocks=10), [(0, 3, 4), (0, 3, 4)])
    assert times.first_ps == [10, 10]
    assert times.done_ps == [40, 50]
    assert times.n_preempted == [0, 1]


def test_async_scheduling_sees_requests_one_step_later():
    requests = [(0, 3, 20), (10, 3, 1), (15, 3, 1)]
    assert run(engine(), requests)[0].first_ps == [10, 20, 30]
    # the step [20, 30] was decided at 10, the step [30, 40] at 20
    assert run(engine(lag_steps=1), [(0, 3, 20), (15, 3, 1)])[0].first_ps == [10, 40]
    assert run(engine(lag_steps=1), [(0, 3, 20), (10, 3, 1)])[0].first_ps == [10, 30]


def test_async_scheduling_frees_places_one_step_later():
    requests = [(0, 3, 2), (0, 3, 10), (0, 3, 1)]
    assert run(engine(max_num_seqs=2), requests)[0].first_ps == [10, 10, 30]
    assert run(engine(max_num_seqs=2, lag_steps=1), requests)[0].first_ps == [10, 10, 40]


def test_async_scheduling_frees_blocks_one_step_later():
    # the first ends at 20 with 7 blocks; the second then takes 5, at 30 it takes 6 of 18
    requests = [(0, 6, 2), (0, 3, 10), (0, 12, 1)]
    assert run(engine(kv_blocks=18), requests)[0].first_ps == [10, 10, 30]
    assert run(engine(kv_blocks=18, lag_steps=1), requests)[0].first_ps == [10, 10, 40]


def test_async_scheduling_sees_what_follows_an_end_one_step_later():
    tokens, times = Tokens([3] * 3, [3] * 3, [2, 9, 1]), Times.none_yet(3)
    replica = Replica(engine(lag_steps=1), tokens, times)
    replica.submit(0, 0)
    replica.submit(1, 0)
    replica.advance(1000, to_completion=True)
    replica.submit(2, 20)  # in time for the step that is decided when [20, 30] begins
    replica.drain()
    assert times.first_ps[2] == 40


def test_async_scheduling_does_not_wait_with_nothing_to_do():
    settings = engine(max_num_seqs=1, lag_steps=1)
    assert run(settings, [(0, 3, 2), (0, 3, 2)])[0].done_ps == [20, 40]


# By hand: what happens to a replica -------------------------------------------------------------


def test_a_failure_drops_everything_in_order_of_submission():
    tokens, times = Tokens([3] * 4, [3] * 4, [1, 9, 9, 9]), Times.none_yet(4)
    replica = Replica(engine(max_num_seqs=2), tokens, times)
    for i in (0, 2, 3):
        replica.submit(i, 0)
    replica.advance(25)
    replica.submit(1, 25)
    assert (replica.n_running, replica.n_waiting) == (2, 1)
    assert replica.kv_tokens == (3 + 2) + (3 + 1) + 3
    assert replica.fail(28) == [2, 3, 1]
    assert replica.n_outstanding == replica.kv_tokens == 0
    assert replica.busy_ps == 20  # the step that ended; the one at 28 never did
    replica.advance(100)
    replica.submit(1, 100)
    replica.drain()
    assert times.first_ps == [10, 110, 10, 20]
    assert times.done_ps == [10, 190, -1, -1]


def test_a_slow_replica_is_slow_from_the_next_step_on():
    tokens, times = Tokens([3], [3], [5]), Times.none_yet(1)
    replica = Replica(engine(), tokens, times)
    replica.submit(0, 0)
    replica.slow(15, 3.0)
    replica.slow(45, 1.0)
    replica.drain()
    assert times.done_ps == [10 + 10 + 30 + 10 + 10]


def test_a_closed_loop_goes_on_where_a_request_ends():
    tokens, times = Tokens([3] * 3, [3] * 3, [2, 3, 2]), Times.none_yet(3)
    replica = Replica(engine(), tokens, times)
    replica.submit(0, 0)
    replica.submit(1, 0)
    assert replica.advance(1000, to_completion=True)
    assert replica.ended == [0]
    assert replica.submit(2, times.done_ps[0])  # the step [20, 30] is composed already
    assert replica.advance(1000, to_completion=True)
    assert replica.ended == [1]
    assert replica.advance(1000, to_completion=True)
    assert not replica.advance(1000, to_completion=True)
    assert times.first_ps == [10, 10, 40]
    assert times.done_ps == [20, 30, 50]


def test_a_lone_replica_waits_for_nobody():
    _, replica = run(engine(kv_blocks=7, block_tokens=16), [(0, 3, 2)])
    assert replica.barrier_idle_ps == 0 and math.isnan(replica.imbalance_tokens)
    assert replica.kv_capacity_tokens == 112
    with pytest.raises(ValueError, match="Group"):
        Replica(engine(n_ranks=2), Tokens([], [], []), Times())


def test_priorities_are_asked_for():
    with pytest.raises(ValueError, match="priority of every request"):
        run(engine(by_priority=True), [(0, 3, 2)], priority=[])


# For every run ----------------------------------------------------------------------------------


@st.composite
def stories(draw, prefill=("chunked", "pausing", "elsewhere"), **fixed):
    """Settings of a small engine, and requests that press it hard."""
    max_num_seqs = draw(st.integers(1, 6))
    table = st.lists(st.integers(0, 50), min_size=max_num_seqs + 1, max_size=max_num_seqs + 1)
    steps = StepTimes(
        tuple(each + 1 for each in draw(table)),
        tuple(draw(table)),
        draw(st.integers(0, 5)),
        draw(st.integers(0, 3)),
    )
    settings = EngineSettings(
        steps,
        max_num_seqs,
        max_num_batched_tokens=draw(st.integers(max_num_seqs, 40)),
        kv_blocks=draw(st.integers(4, 60)),
        block_tokens=draw(st.sampled_from([1, 3, 4])),
        prefill=draw(st.sampled_from(prefill)),
        waiting_ratio=draw(st.sampled_from([0.0, 0.3, 1.5])),
        most_decode_steps=draw(st.integers(0, 8)),
        reserve_prompt=draw(st.booleans()),
        lag_steps=draw(st.integers(0, 1)),
        by_priority=draw(st.booleans()),
    )
    settings = replace(settings, **fixed)
    row = st.tuples(st.integers(0, 2000), st.integers(1, 20), st.integers(1, 25))
    requests = sorted(draw(st.lists(row, min_size=1, max_size=14)))
    most_tokens = settings.kv_blocks * settings.block_tokens
    requests = [each for each in requests if each[1] + each[2] - 1 <= most_tokens]
    assume(requests)
    rows = [(at, p, o, draw(st.integers(1, p))) for at, p, o in requests]
    return settings, rows, [draw(st.integers(0, 2)) for _ in rows]


@given(stories())
def test_everybody_is_served_in_time_order(story):
    settings, requests, priority = story
    times, replica = run(settings, requests, priority)
    for (arrived_ps, *_), first_ps, done_ps in zip(
        requests, times.first_ps, times.done_ps, strict=True
    ):
        assert arrived_ps < first_ps <= done_ps
    assert replica.n_outstanding == replica.kv_tokens == 0


@given(stories())
def test_tokens_are_conserved(story):
    settings, requests, priority = story
    times, replica = run(settings, requests, priority)
    n_output = sum(each[2] for each in requests)
    fresh = sum(each[3] for each in requests)
    if settings.prefill == "elsewhere":
        assert replica.n_decoded == n_output and replica.n_prefilled_tokens == 0
    elif sum(times.n_preempted) == 0:
        assert replica.n_decoded == n_output - len(requests)
        assert replica.n_prefilled_tokens == fresh
    else:
        # every preemption is made good by one prefill, which yields one token
        assert replica.n_decoded >= n_output - len(requests) - sum(times.n_preempted)
        assert replica.n_prefilled_tokens > fresh


@given(stories())
def test_work_is_conserved(story):
    """The engine is at work exactly while somebody is outstanding."""
    settings, requests, priority = story
    times, replica = run(settings, requests, priority)
    at_work_ps, until_ps = 0, 0
    for (arrived_ps, *_), done_ps in zip(requests, times.done_ps, strict=True):
        at_work_ps += max(0, done_ps - max(arrived_ps, until_ps))
        until_ps = max(until_ps, done_ps)
    assert replica.busy_ps == at_work_ps


@given(stories(by_priority=False))
def test_first_come_is_first_served(story):
    settings, requests, _ = story
    times, _ = run(settings, requests)
    if sum(times.n_preempted) == 0:
        assert times.first_ps == sorted(times.first_ps)


@given(stories(prefill=["chunked"], by_priority=True, lag_steps=0))
def test_the_greatest_priority_never_waits_for_memory(story):
    settings, requests, _ = story
    times, _ = run(settings, requests, range(len(requests)))
    assert times.n_preempted[-1] == 0


def watched(settings, requests, priority, moments):
    """Advances to each moment too; yields the moment and the replica, and last its times."""
    tokens = Tokens(*([each[column] for each in requests] for column in (1, 3, 2)))
    times = Times.none_yet(len(requests))
    replica = Replica(settings, tokens, times, priority)
    arrivals = [(each[0], i) for i, each in enumerate(requests)]
    for at_ps, i in sorted([*arrivals, *((moment, -1) for moment in moments)]):
        replica.advance(at_ps)
        if i >= 0:
            replica.submit(i, at_ps)
        else:
            yield at_ps, replica
    replica.drain()
    yield times, replica


@given(stories(), st.lists(st.integers(0, 8000), max_size=20))
def test_looking_changes_nothing(story, moments):
    settings, requests, priority = story
    times, replica = run(settings, requests, priority)
    *_, (times_watched, watched_replica) = watched(settings, requests, priority, moments)
    assert times_watched == times
    for count in ("busy_ps", "n_steps", "n_decoded", "n_prefilled_tokens"):
        assert getattr(watched_replica, count) == getattr(replica, count)


@given(stories(prefill=["chunked", "elsewhere"]), st.lists(st.integers(0, 4000), max_size=20))
def test_memory_is_never_overdrawn(story, moments):
    settings, requests, priority = story
    for _, replica in watched(settings, requests, priority, moments):
        decoding = replica._scheduler.decoding()
        held = sum(-(-n_tokens // settings.block_tokens) for _, n_tokens, _ in decoding)
        assert held <= settings.kv_blocks
        assert replica.n_running <= settings.max_num_seqs


@given(stories())
def test_littles_law(story):
    """The integral of the number outstanding is the sum of the sojourn times: L = rate * W."""
    settings, requests, priority = story
    times, _ = run(settings, requests, priority)
    events = sorted({*(each[0] for each in requests), *times.done_ps})
    watching = watched(settings, requests, priority, [at_ps + 1 for at_ps in events])
    n_after = [replica.n_outstanding for _, replica in watching]  # the last one is the end of all
    assert len(n_after) == len(events) + 1 and n_after[-1] == 0
    integral = sum(
        n * (later - earlier)
        for n, (earlier, later) in zip(n_after, pairwise(events), strict=False)
    )
    sojourns = [done - each[0] for done, each in zip(times.done_ps, requests, strict=True)]
    assert integral == sum(sojourns)


@given(st.integers(1, 10**17), st.integers(1, 10**12), st.integers(0, 10**9))
def test_the_root_is_exact(span_ps, duration_ps, growth_ps):
    def end_ps(k):
        return k * duration_ps + growth_ps * k * (k - 1) // 2

    k = n_steps_before(span_ps, duration_ps, growth_ps)
    assert end_ps(k) < span_ps <= end_ps(k + 1)
