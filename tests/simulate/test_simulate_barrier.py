"""Groups of ranks under a step barrier: by hand, against the reference, and how policies rank."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from playing import play
from random_clusters import group_case, replica_case
from reference_engine import ReferenceReplica
from reference_policies import arrival_by, batch_by

from planner.scheduling.balance import make_policy
from planner.scheduling.balanceroute import BalanceRoute
from planner.scheduling.batch import AGE_GUARD, OneByOne, fifo, largest_first
from planner.scheduling.lookahead import Lookahead
from planner.scheduling.matching import BestMatch
from planner.scheduling.survival import Survival
from planner.simulate.barrier import Group
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens

FOREVER = 1 << 62


def engine(n_ranks, n_places, *, step_ps=10, context_ps=1, prefill="elsewhere", **changed):
    """Ranks of which a step takes step_ps and context_ps per token that it reads."""
    n = n_places + 1
    settings = EngineSettings(
        steps=StepTimes((step_ps,) * n, (context_ps,) * n, 1),
        max_num_seqs=n_places,
        max_num_batched_tokens=1_000,
        kv_blocks=10**9,
        block_tokens=1,
        prefill=prefill,
        n_ranks=n_ranks,
    )
    return replace(settings, **changed)


def wanting(*requests):
    """Requests of (prompt, output) tokens."""
    prompt, output = zip(*requests, strict=True)
    return Tokens(list(prompt), list(prompt), list(output))


# By hand


def two_uneven_ranks():
    """Rank 0 reads 5, 6 and is done; rank 1 reads 1, 2, 3, 4 tokens."""
    tokens, times = wanting((5, 2), (1, 4)), Times.none_yet(2)
    group = Group(engine(2, 1), tokens, times, arrival=make_policy("round_robin", 0))
    assert group.submit(0, 0) and group.submit(1, 0)
    return group, times


def test_every_step_lasts_as_long_as_the_longest_rank_takes():
    group, times = two_uneven_ranks()
    group.drain()
    assert times.first_ps == [15, 15]
    assert times.done_ps == [31, 31 + 13 + 14]
    assert (group.busy_ps, group.n_steps, group.n_decoded) == (58, 4, 6)


def test_idle_time_and_imbalance():
    group, _ = two_uneven_ranks()
    assert np.isnan(group.imbalance_tokens) and np.isnan(group.imbalance_ratio)
    group.drain()
    assert group.own_ps == 15 + 16 + 11 + 12 + 13 + 14
    assert group.barrier_idle_ps == (2 * 58 - group.own_ps) // 2
    assert group.imbalance_tokens == (4 + 4 + 3 + 4) / 4
    assert group.imbalance_ratio == pytest.approx(2 * (5 + 6 + 3 + 4) / (11 + 3 + 7) - 1)


def test_a_rank_that_starts_shorter_but_grows_faster_takes_the_lead():
    """One request that reads 100 tokens against four that read 90: 100 + j against 90 + 4 j."""
    tokens = wanting((100, 30), (30, 30), (30, 30), (15, 30), (15, 30))
    times = Times.none_yet(5)
    group = Group(engine(2, 4), tokens, times, arrival=Sent([0, 1, 1, 1, 1]))
    for i in range(5):
        group.submit(i, 0)
    longest = [10 + max(100 + j, 90 + 4 * j) for j in range(30)]
    for n_steps in (1, 3, 4, 5, 29):
        group.advance(sum(longest[:n_steps]))
        assert (group.n_steps, group.busy_ps) == (n_steps - 1, sum(longest[: n_steps - 1]))
        group.advance(sum(longest[:n_steps]) + 1)
        assert (group.n_steps, group.busy_ps) == (n_steps, sum(longest[:n_steps]))
    assert group.kv_tokens == 100 + 90 + 5 * 29
    group.drain()
    assert times.done_ps == [sum(longest)] * 5


class Sent:
    """An arrival policy that sends requests to given ranks."""

    reads_state = False

    def __init__(self, ranks):
        self._ranks = iter(ranks)

    def pick(self, request_tokens, workers):
        return next(self._ranks)


def test_without_a_policy_requests_go_where_vllm_would_send_them():
    """Rank 0 runs one and lets one wait, which counts as 5; rank 1 runs two and is chosen."""
    tokens = wanting((9, 9), (9, 9), (9, 9), (9, 1))
    times = Times.none_yet(4)
    group = Group(engine(2, 2), tokens, times)
    for i in range(2):
        group.submit(i, 0)
    group.advance(1)
    group.submit(2, 1)
    group.submit(3, 1)
    group.drain()
    by_hand = Times.none_yet(4)
    other = Group(engine(2, 2), tokens, by_hand, arrival=Sent([0, 1, 0, 1]))
    other.submit(0, 0)
    other.submit(1, 0)
    other.advance(1)
    other.submit(2, 1)
    other.submit(3, 1)
    other.drain()
    assert times == by_hand


def test_a_closed_loop_stops_behind_each_end():
    group, times = two_uneven_ranks()
    assert group.advance(FOREVER, to_completion=True)
    assert (group.ended, group.n_steps, times.done_ps[1]) == ([0], 2, -1)
    assert group.advance(FOREVER, to_completion=True)
    assert (group.ended, group.n_outstanding) == ([1], 0)
    assert not group.advance(FOREVER, to_completion=True)


def test_a_batch_policy_decides_at_the_boundary_or_not_at_all():
    for changed in ({"lag_steps": 1}, {"by_priority": True}):
        with pytest.raises(ValueError, match="batch policy"):
            Group(engine(2, 1, **changed), wanting((1, 1)), Times.none_yet(1), [0], batch=fifo)


def test_a_batch_policy_that_places_nobody_is_an_error():
    group = Group(engine(2, 1), wanting((1, 1)), Times.none_yet(1), batch=lambda *_: [])
    group.submit(0, 0)
    with pytest.raises(ValueError, match="places nobody"):
        group.drain()


# Against the replica and the reference


def test_a_group_of_one_is_a_replica_to_the_bit():
    for seed in range(300):
        case, stories = replica_case(seed), []
        for kind in (Replica, Group):
            times = Times.none_yet(len(case.tokens.prompt))
            station = kind(case.settings, case.tokens, times, case.priority)
            stories.append(play(station, case, times))
        assert stories[0] == stories[1], seed


def test_tokens_read_add_up_to_those_of_the_reference():
    n_compared = 0
    for seed in range(200):
        case = group_case(seed)
        if case.is_central or any(event.kind in ("fail", "slow") for event in case.events):
            continue
        times = Times.none_yet(len(case.tokens.prompt))
        policy = make_policy(case.policy, 0)
        group = Group(case.settings, case.tokens, times, case.priority, arrival=policy)
        play(group, case, times)
        assert (group.largest_tokens, group.read_tokens) == read_by_the_reference(case), seed
        n_compared += group.n_steps > 0
    assert n_compared > 50


def read_by_the_reference(case):
    """The tokens that the most loaded rank reads, and all ranks, summed over steps."""
    policy = arrival_by(make_policy(case.policy, 0))
    times = Times.none_yet(len(case.tokens.prompt))
    group = ReferenceReplica(case.settings, case.tokens, times, case.priority, arrival=policy)
    largest = everything = 0
    end_steps = group.end_steps

    def counted(steps, now_ps):
        nonlocal largest, everything
        read = [sum(request.tokens for request in step.decoding) for step in steps]
        largest, everything = largest + max(read), everything + sum(read)
        end_steps(steps, now_ps)

    group.end_steps = counted
    play(group, case, times)
    return largest, everything


class Spy:
    """A batch policy with a predictor, which notes what it is shown."""

    def __init__(self):
        self.predictor = self
        self.shown, self.observed = [], []

    def observe(self, key, output_tokens):
        self.observed.append((key, output_tokens))

    def __call__(self, waiting, workers, n_overdue=0):
        running = workers.running
        ranks = zip(running.keys, running.kv_tokens, running.age_tokens, strict=True)
        rows = [sorted(zip(*map(np.ndarray.tolist, rank), strict=True)) for rank in ranks]
        self.shown.append([[row for row in rank if row != (-1, 0, -1)] for rank in rows])
        return fifo(waiting, workers)


def test_policies_that_look_ahead_see_who_decodes():
    n_shown = 0
    for seed in range(400):
        case = group_case(seed)
        if not case.is_central:
            continue
        spy, truth = Spy(), []

        def batch(waiting, ranks, truth=truth):
            free = [r.settings.max_num_seqs - len(r.running) - len(r.waiting) for r in ranks]
            if waiting and any(free):
                truth.append([decoding(rank) for rank in ranks])
            return batch_by(fifo)(waiting, ranks)

        times, again = (Times.none_yet(len(case.tokens.prompt)) for _ in range(2))
        play(Group(case.settings, case.tokens, times, batch=spy), case, times)
        play(ReferenceReplica(case.settings, case.tokens, again, batch=batch), case, again)
        assert spy.shown == truth, seed
        outputs, done_ps = case.tokens.output, np.array(times.done_ps)
        assert set(spy.observed) >= {(i, outputs[i]) for i in np.flatnonzero(done_ps >= 0)}
        n_shown += sum(map(len, truth))
    assert n_shown > 1_000


def decoding(rank):
    return sorted(
        (request.index, request.tokens, request.generated)
        for request in rank.running
        if request.rest == 0
    )


def test_who_was_passed_over_too_often_is_overdue():
    seen = []

    def youngest_first(waiting, workers, n_overdue=0):
        seen.append(n_overdue)
        order = [*range(n_overdue), *range(len(waiting) - 1, n_overdue - 1, -1)]
        return [(order[0], 0)]

    n = AGE_GUARD + 10
    times = Times.none_yet(n)
    group = Group(engine(1, 1), wanting(*[(1, 1)] * n), times, batch=youngest_first)
    for i in range(n):
        group.submit(i, 0)
    group.drain()
    assert seen == [0] * AGE_GUARD + [n - AGE_GUARD - j for j in range(10)]
    assert np.argsort(times.done_ps)[AGE_GUARD:].tolist() == list(range(10))


# How policies rank in saturation, small


N_RANKS, N_PLACES, N_POOLED = 8, 16, 100


def lengths(seed, n_requests):
    random = Random(seed)
    prompt = [1 + round(random.lognormvariate(4.8, 0.8)) for _ in range(n_requests)]
    output = [1 + round(random.lognormvariate(3.4, 0.7)) for _ in range(n_requests)]
    return Tokens(prompt, prompt, output)


HISTORY = lengths(99, 5_000).output
POLICIES = {
    "random": lambda: OneByOne(make_policy("random", 0)),
    "round_robin": lambda: OneByOne(make_policy("round_robin", 0)),
    "power_of_two": lambda: OneByOne(make_policy("power_of_two", 0)),
    "fewest_requests": lambda: OneByOne(make_policy("fewest_requests", 0)),
    "largest_first": lambda: largest_first,
    "br0": BalanceRoute,
    "lookahead": lambda: Lookahead(Survival(HISTORY)),
    "best_match": BestMatch,
}


def saturated(policy, seed, n_requests=3_000):
    """(tokens per time, efficiency) of a closed loop that keeps every place taken."""
    tokens, times = lengths(seed, n_requests), Times.none_yet(n_requests)
    settings = engine(N_RANKS, N_PLACES, step_ps=N_PLACES * 200)  # half of a mean step
    group = Group(settings, tokens, times, batch=POLICIES[policy]())
    n_submitted = N_RANKS * N_PLACES + N_POOLED
    for i in range(n_submitted):
        group.submit(i, 0)
    while n_submitted < n_requests:
        group.advance(FOREVER, to_completion=True)
        at_ps = times.done_ps[group.ended[0]]
        for i in range(n_submitted, min(n_submitted + len(group.ended), n_requests)):
            group.submit(i, at_ps)
        n_submitted += len(group.ended)
    assert group.own_ps <= N_RANKS * group.busy_ps
    return group.n_decoded / group.busy_ps, group.own_ps / (N_RANKS * group.busy_ps)


@pytest.fixture(scope="module")
def figures():
    """By policy: (tokens per time, efficiency), the mean over seeds, over those of round robin."""
    return {p: np.mean([saturated(p, seed) for seed in range(3)], axis=0) for p in POLICIES}


def test_policies_blind_to_tokens_are_all_alike(figures):
    base, _ = figures["round_robin"]
    for policy in ("random", "power_of_two", "fewest_requests"):
        assert figures[policy][0] == pytest.approx(base, rel=0.02), policy


def test_policies_rank_as_published(figures):
    """BalanceRoute, arXiv 2605.06113, table of results: each line beats the ones before it."""
    throughput = {policy: found[0] for policy, found in figures.items()}
    blind = max(throughput[p] for p in ("random", "round_robin", "power_of_two", "fewest_requests"))
    assert throughput["largest_first"] > 1.05 * blind
    assert throughput["br0"] > 1.07 * blind
    assert throughput["best_match"] > throughput["br0"]
    assert throughput["lookahead"] > throughput["br0"]


def test_the_best_policies_are_nearly_even(figures):
    assert figures["round_robin"][1] < 0.89
    assert figures["best_match"][1] > 0.96
    assert figures["lookahead"][1] > 0.96
