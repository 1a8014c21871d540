"""What holds for every batch policy, and the simple ones against their definitions."""

import numpy as np
import pytest
from batch_cases import group, waiting_tokens

from planner.scheduling.balance import POLICIES, make_policy
from planner.scheduling.balanceroute import BalanceRoute
from planner.scheduling.batch import (
    AGE_GUARD,
    DecodeWorkers,
    OneByOne,
    Running,
    fifo,
    largest_first,
    n_overdue,
)
from planner.scheduling.lookahead import Lookahead
from planner.scheduling.survival import Survival

LENGTHS = [3, 20, 20, 75, 120, 300, 310]
ALL = {
    "fifo": lambda: fifo,
    "largest_first": lambda: largest_first,
    "br0": BalanceRoute,
    "brh": lambda: BalanceRoute(Survival(LENGTHS)),
    "lookahead": lambda: Lookahead(Survival(LENGTHS), window=8),
    **{name: lambda name=name: OneByOne(make_policy(name, 1)) for name in POLICIES},
}
SELECTIVE = ["br0", "brh", "lookahead"]  # may let younger requests pass


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(12))
def test_places_are_filled_and_never_more(name, seed):
    random = np.random.default_rng(seed)
    workers, waiting = group(random, 5, 6), waiting_tokens(random)
    before = list(workers.free_slots), list(workers.load_tokens), list(waiting)
    placed = ALL[name]()(waiting, workers)
    requests = [i for i, _ in placed]
    assert len(placed) == min(len(waiting), sum(workers.free_slots))
    assert len(set(requests)) == len(requests)
    assert set(requests) <= set(range(len(waiting)))
    for g, free in enumerate(workers.free_slots):
        assert sum(worker == g for _, worker in placed) <= free
    assert before == (list(workers.free_slots), list(workers.load_tokens), list(waiting))


@pytest.mark.parametrize("name", ALL)
def test_nothing_to_do(name):
    idle = group(np.random.default_rng(0), 3, 4)
    full = DecodeWorkers(idle.load_tokens, [0, 0, 0], idle.running)
    assert ALL[name]()([], idle) == []
    assert ALL[name]()([100, 200], full) == []


@pytest.mark.parametrize("name", ALL)
def test_the_same_moment_gets_the_same_answer(name):
    random = np.random.default_rng(3)
    workers, waiting = group(random, 4, 6), waiting_tokens(random)
    assert ALL[name]()(waiting, workers) == ALL[name]()(waiting, workers)


# ---- One by one ----------------------------------------------------------------------------------


def naive_least_loaded(order, waiting, workers):
    """Each request of an order on the least loaded worker with a place: O(n m)."""
    loads, free, placed = list(workers.load_tokens), list(workers.free_slots), []
    for i in order:
        open_workers = [g for g in range(len(free)) if free[g] > 0]
        g = min(open_workers, key=lambda g: (loads[g], g))
        placed.append((i, g))
        loads[g] += waiting[i]
        free[g] -= 1
    return placed


@pytest.mark.parametrize("seed", range(25))
def test_fifo_and_largest_first_against_the_naive_loop(seed):
    random = np.random.default_rng(seed)
    workers, waiting = group(random, 7, 5), waiting_tokens(random)
    batch = range(min(len(waiting), sum(workers.free_slots)))
    by_size = sorted(batch, key=lambda i: (-waiting[i], i))
    assert fifo(waiting, workers) == naive_least_loaded(batch, waiting, workers)
    assert largest_first(waiting, workers) == naive_least_loaded(by_size, waiting, workers)


@pytest.mark.parametrize("seed", range(10))
def test_least_kv_one_by_one_is_fifo_but_for_ties(seed):
    random = np.random.default_rng(seed)
    workers, waiting = group(random, 4, 9), waiting_tokens(random)
    ours = OneByOne(make_policy("least_kv", 0))(waiting, workers)
    assert ours == fifo(waiting, workers)


def test_fewest_requests_fills_the_emptiest_first():
    workers = DecodeWorkers([0, 9_000, 0], [1, 4, 2])
    placed = OneByOne(make_policy("fewest_requests", 0))([5] * 7, workers)
    assert [g for _, g in placed[:2]] == [1, 1]  # 4 free, then 3
    assert sorted(g for _, g in placed) == [0, 1, 1, 1, 1, 2, 2]


# ---- Nobody is passed over for ever --------------------------------------------------------------


@pytest.mark.parametrize("name", SELECTIVE)
@pytest.mark.parametrize("n_first", [1, 3, 100])
def test_the_overdue_go_first_and_in_order(name, n_first):
    random = np.random.default_rng(8)
    workers, waiting = group(random, 4, 6), waiting_tokens(random, most=400)
    assert len(waiting) > 50
    placed = ALL[name]()(waiting, workers, n_first)
    forced = min(n_first, len(placed))
    assert [i for i, _ in placed[:forced]] == list(range(forced))


def test_overtaking_is_counted():
    """Five came (turns 0-4); 1, 3 and 4 were placed: 0 was overtaken by three, 2 by two."""
    assert n_overdue([], 10) == 0
    turns, n_placed = [0, 2], 3
    overtaken = [n_placed + j - turn for j, turn in enumerate(turns)]
    assert overtaken == [3, 2]
    assert n_overdue(turns, n_placed) == 0
    assert n_overdue(turns, n_placed + AGE_GUARD - 3) == 1
    assert n_overdue(turns, n_placed + AGE_GUARD - 2) == 2


def overtakes_of_the_odd_one(policy, guarded, n_boundaries):
    """Returns how often a request that the policy dislikes is overtaken, and if it is placed.

    Every request lasts one step, so that the workers are empty at every boundary.
    """
    waiting, turns = [10**9] + [10] * 5, list(range(6))
    none = np.full((2, 2), -1)
    workers = DecodeWorkers([0, 0], [2, 2], Running(none * 0, none, none))
    n_placed, n_came = 0, 6
    for _ in range(n_boundaries):
        due = n_overdue(turns, n_placed) if guarded else 0
        gone = {i for i, _ in policy(waiting, workers, due)}
        if 0 in gone:
            return n_placed, True
        n_placed += len(gone)
        waiting = [s for i, s in enumerate(waiting) if i not in gone] + [10] * len(gone)
        turns = [t for i, t in enumerate(turns) if i not in gone]
        turns += range(n_came, n_came + len(gone))
        n_came += len(gone)
    return n_placed, False


@pytest.mark.parametrize("name", SELECTIVE)
def test_nobody_starves_with_the_age_guard(name):
    n_boundaries = AGE_GUARD // 3
    starved = overtakes_of_the_odd_one(ALL[name](), False, n_boundaries)
    assert starved == (4 * n_boundaries, False)
    overtaken, placed = overtakes_of_the_odd_one(ALL[name](), True, n_boundaries)
    assert placed
    assert AGE_GUARD <= overtaken < AGE_GUARD + 4  # at most the places of the group more
