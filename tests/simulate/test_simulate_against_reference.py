"""The engine, which jumps from event to event, against a plain simulator that takes every step.

All times are whole picoseconds and all comparisons are exact.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from playing import Played, play, play_closed
from random_clusters import GroupCase, busy_case, group_case, replica_case
from reference_engine import ReferenceReplica
from reference_policies import arrival_by, batch_by

from planner.scheduling.balance import make_policy
from planner.scheduling.batch import fifo, largest_first
from planner.simulate.barrier import Group
from planner.simulate.replica import Replica
from planner.simulate.settings import Times

N_CASES = 1_000
N_FAST = 400
BLOCK = 100
BLOCKS = pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, marks=[pytest.mark.slow] if block * BLOCK >= N_FAST else [])
        for block in range(N_CASES // BLOCK)
    ],
)
BATCHES = {"fifo": fifo, "largest_first": largest_first}


def seeds(block: int, every: int = 1) -> range:
    return range(block * BLOCK, (block + 1) * BLOCK, every)


@cache
def reference_story(seed: int, **changed_settings) -> Played:
    case = replica_case(seed)
    times = Times.none_yet(len(case.tokens.prompt))
    settings = replace(case.settings, **changed_settings)
    return play(ReferenceReplica(settings, case.tokens, times, case.priority), case, times)


@BLOCKS
def test_replicas(block):
    for seed in seeds(block):
        case = replica_case(seed)
        times = Times.none_yet(len(case.tokens.prompt))
        replica = Replica(case.settings, case.tokens, times, case.priority)
        assert play(replica, case, times) == reference_story(seed), seed


@BLOCKS
def test_closed_loops(block):
    for seed in seeds(block, every=5):
        case, stories = replica_case(seed), []
        for kind in (Replica, ReferenceReplica):
            times = Times.none_yet(len(case.tokens.prompt))
            replica = kind(case.settings, case.tokens, times, case.priority)
            stories.append(play_closed(replica, case, times, n_users=1 + seed % 7))
        assert stories[0] == stories[1], seed


@pytest.mark.parametrize("n", [N_FAST, pytest.param(N_CASES, marks=pytest.mark.slow)])
def test_the_random_replicas_meet_every_rule(n):
    """A rule that changes nothing in any case would be compared in vain."""
    met: Counter[str] = Counter()
    for seed in range(n):
        case, story = replica_case(seed), reference_story(seed)
        settings, answered = case.settings, [ps for ps in story.times.done_ps if ps >= 0]
        met["refused"] += len(story.refused)
        met["lost in a failure"] += len(story.lost)
        met["preempted " + settings.prefill] += sum(story.times.n_preempted)
        met["answered " + settings.prefill] += len(answered)
        met["ended together"] += len(answered) - len(set(answered))
        met["one token"] += sum(
            case.tokens.output[i] == 1 and ps >= 0 for i, ps in enumerate(story.times.done_ps)
        )
        met["cached prompts"] += case.tokens.fresh != case.tokens.prompt
        met["steps of no time"] += not any(settings.steps.decode_ps)
        met["slow"] += any(event.kind == "slow" and event.value != 1 for event in case.events)
        if seed % 4 == 0:
            met.update(rules_that_matter(seed))
    wanted = LEAST if n == N_CASES else dict.fromkeys(LEAST, 1)
    assert not [rule for rule, least in wanted.items() if met[rule] < least], met
    assert met["preempted pausing"] == 0  # it reserves the blocks of the whole answer


def rules_that_matter(seed: int) -> list[str]:
    """Returns the rules of a case without which its story would be another one."""
    settings = replica_case(seed).settings
    without = {
        "lag " + settings.prefill: {"lag_steps": 0},
        "reserved prompt": {"reserve_prompt": False},
        "priority": {"by_priority": False},
        "attention": {"steps": replace(settings.steps, attention_ps=0)},
        "budget": {"max_num_batched_tokens": 10**6},
        "blocks": {"kv_blocks": 10**6},
        "waiting ratio": {"waiting_ratio": 10**6},
        "decode steps": {"most_decode_steps": 10**6},
    }
    return [rule for rule, off in without.items() if differs(seed, **off)]


def differs(seed: int, **changed_settings) -> bool:
    settings = replica_case(seed).settings
    if replace(settings, **changed_settings) == settings:
        return False
    return reference_story(seed, **changed_settings).times != reference_story(seed).times


LEAST = {  # of all cases
    "refused": 300,
    "lost in a failure": 1_000,
    "preempted chunked": 1_000,
    "preempted elsewhere": 100,
    "answered chunked": 5_000,
    "answered pausing": 2_000,
    "answered elsewhere": 2_000,
    "ended together": 1_000,
    "one token": 1_000,
    "cached prompts": 500,
    "steps of no time": 100,
    "slow": 200,
    # of every fourth case
    "lag chunked": 20,
    "lag pausing": 5,
    "lag elsewhere": 3,
    "reserved prompt": 5,
    "priority": 30,
    "attention": 30,
    "budget": 80,
    "blocks": 80,
    "waiting ratio": 15,
    "decode steps": 3,
}


@pytest.mark.parametrize("n_requests", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_busy_replicas_of_real_size(n_requests):
    n_preempted = 0
    for seed in range(10):
        case, stories = busy_case(seed, n_requests, load=[0.5, 0.9, 1.1][seed % 3]), []
        for kind in (Replica, ReferenceReplica):
            times = Times.none_yet(n_requests)
            stories.append(
                play(kind(case.settings, case.tokens, times, case.priority), case, times)
            )
        assert stories[0] == stories[1], seed
        n_preempted += sum(stories[0].times.n_preempted)
    assert n_preempted > n_requests / 10


def group_story(case: GroupCase, kind: type) -> Played:
    """Plays a case to the engine's group or to the reference's, each asking a policy of its own."""
    times = Times.none_yet(len(case.tokens.prompt))
    arrival = None if case.is_central else make_policy(case.policy, 0)
    batch = BATCHES[case.policy] if case.is_central else None
    if kind is ReferenceReplica:
        arrival, batch = arrival and arrival_by(arrival), batch and batch_by(batch)
    group = kind(case.settings, case.tokens, times, case.priority, arrival=arrival, batch=batch)
    played = play(group, case, times)
    imbalance_tokens = group.imbalance_tokens if group.n_steps else 0
    idle = (group.own_ps, group.barrier_idle_ps, imbalance_tokens)
    return replace(played, totals=(*played.totals, *idle))


@BLOCKS
def test_groups(block):
    for seed in seeds(block):
        case = group_case(seed)
        assert group_story(case, Group) == group_story(case, ReferenceReplica), seed
