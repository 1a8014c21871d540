"""BR-0 and BR-H against a literal reading of the paper: every candidate and subset enumerated.

All numbers are whole (no discount, predictions of one known length), so equality is exact.
"""

from itertools import combinations

import numpy as np
import pytest
from batch_cases import group, waiting_tokens
from hypothesis import given
from hypothesis import strategies as st

from planner.scheduling.balanceroute import R_MAX, S_GREEDY, BalanceRoute
from planner.scheduling.batch import DecodeWorkers
from planner.scheduling.margin import expected_loads, f_score
from planner.scheduling.survival import ExactMatch, Survival


def imbalance(loads):
    return len(loads) * max(loads) - sum(loads)


@given(
    st.lists(st.integers(0, 5_000), min_size=1, max_size=8),
    st.lists(st.integers(1, 5_000), min_size=1, max_size=6),
    st.data(),
)
def test_f_is_the_exact_fall_of_the_imbalance(loads, sizes, data):
    g = data.draw(st.integers(0, len(loads) - 1))
    margin = np.array([max(loads) - loads[g]])
    scores = f_score(np.array(sizes)[:, None], margin, np.ones(1), len(loads))
    for size, score in zip(sizes, scores.tolist(), strict=True):
        after = [load + size * (h == g) for h, load in enumerate(loads)]
        assert score == imbalance(loads) - imbalance(after)


@given(st.integers(0, 10**6))
def test_f_over_horizons_is_the_weighted_fall(seed):
    """Constant and fading placements: the sum over horizons of what each changes there."""
    random = np.random.default_rng(seed)
    n_workers, n_horizons = random.integers(1, 6), random.integers(1, 5)
    loads = random.integers(0, 900, (n_workers, n_horizons))
    weights = random.integers(1, 4, n_horizons)
    g = random.integers(n_workers)
    margin = loads.max(axis=0) - loads[g]
    for added in (random.integers(0, 900, (3, n_horizons)), random.integers(0, 900, (3, 1))):
        scores = f_score(added, margin, weights, n_workers)
        for x, score in zip(np.broadcast_to(added, (3, n_horizons)), scores, strict=True):
            after = loads.copy()
            after[g] += x
            fall = [imbalance(loads[:, h]) - imbalance(after[:, h]) for h in range(n_horizons)]
            assert score == np.dot(weights, fall)


def balance_fall(loads, g, total):
    """By how much the imbalance falls, all horizons together, by total tokens more on worker g."""
    after = loads.copy()
    after[g] += total
    n_workers = len(loads)

    def all_horizons(values):
        return (n_workers * values.max(axis=0) - values.sum(axis=0)).sum()

    return all_horizons(loads) - all_horizons(after)


def literal(waiting, workers, loads):
    """The two stages as the paper has them; `loads` (G, H + 1) is used up."""
    free, rest = list(workers.free_slots), list(range(len(waiting)))
    current, placed = list(workers.load_tokens), []

    def place(g, chosen):
        for i in chosen:
            placed.append((i, g))
            rest.remove(i)
            loads[g] += waiting[i]
            current[g] += waiting[i]
            free[g] -= 1

    while rest and max(free) > S_GREEDY:  # stage 1
        g = min(range(len(free)), key=lambda g: (-free[g], current[g], g))
        place(g, [max(rest, key=lambda i: (balance_fall(loads, g, waiting[i]), -i))])
    while rest and max(free) > 0:  # stage 2
        g = min(range(len(free)), key=lambda g: (-free[g], current[g], g))
        first = rest[:R_MAX]
        subsets = [
            list(s) for k in range(1, min(free[g], len(first)) + 1) for s in combinations(first, k)
        ]
        falls = [balance_fall(loads, g, sum(waiting[i] for i in s)) for s in subsets]
        if max(falls) <= 0:
            subsets, falls = subsets[: len(first)], falls[: len(first)]  # the single ones
        place(g, subsets[falls.index(max(falls))])
    return placed


@pytest.mark.parametrize("n_places", [4, 12])
@pytest.mark.parametrize("seed", range(40))
def test_br0_against_enumeration(seed, n_places):
    random = np.random.default_rng(seed)
    workers, waiting = group(random, 5, n_places), waiting_tokens(random)
    loads = np.array(workers.load_tokens)[:, None]
    assert BalanceRoute()(waiting, workers) == literal(waiting, workers, loads)


class NobodyEnds:
    """What is expected of requests without a history."""

    def alive(self, age_tokens, horizons, keys):
        return np.ones((len(age_tokens), len(horizons)))

    def observe(self, key, output_tokens):
        pass


@pytest.mark.parametrize("n_places", [4, 12])
@pytest.mark.parametrize("seed", range(25))
def test_brh_against_enumeration(seed, n_places):
    random = np.random.default_rng(1000 + seed)
    workers, waiting = group(random, 4, n_places), waiting_tokens(random)
    lengths = {key: int(random.integers(1, 320)) for key in range(0, 50, 2)}
    known = ExactMatch(NobodyEnds())
    for key, length in lengths.items():
        known.observe(key, length)
    horizon = 24
    loads = np.zeros((4, horizon + 1))
    for (g, place), age in np.ndenumerate(workers.running.age_tokens):
        if age < 0:
            continue
        length = lengths.get(int(workers.running.keys[g, place]), 0)
        for h in range(horizon + 1):
            if length <= age or length > age + h:  # a history of shorter answers says nothing
                loads[g, h] += workers.running.kv_tokens[g, place] + h
    placed = BalanceRoute(known, horizon=horizon, gamma=1.0)(waiting, workers)
    assert placed == literal(waiting, workers, loads)


def test_margins_decide_which_subset():
    """Worker 1 lacks 100: 70 + 30 fill it exactly, better than 90 or 70 + 40."""
    workers = DecodeWorkers([500, 400], [0, 3])
    placed = BalanceRoute()([90, 70, 40, 30], workers)
    assert placed[:2] == [(1, 1), (3, 1)]


def test_when_nothing_fits_the_least_harm_is_done():
    workers = DecodeWorkers([100, 100], [1, 1])
    assert BalanceRoute()([50, 20, 30], workers)[0] == (1, 0)


def test_worker_0_gets_no_more_than_its_part():
    """With room everywhere nothing overflows, and ties go to the least loaded worker."""
    workers = DecodeWorkers([10**6] + [0] * 7, [0] + [20] * 7)
    placed = BalanceRoute()([100] * 70, workers)
    assert [sum(worker == g for _, worker in placed) for g in range(8)] == [0] + [10] * 7


def test_looking_ahead_needs_to_know_what_runs():
    with pytest.raises(ValueError, match="needs DecodeWorkers"):
        BalanceRoute(Survival())([10], DecodeWorkers([0], [1]))


@pytest.mark.parametrize("seed", range(10))
def test_expected_loads_against_a_double_loop(seed):
    random = np.random.default_rng(seed)
    running = group(random, 6, 4).running
    running.age_tokens[2] = -1  # a worker with nothing to do
    survival, horizons = Survival([5, 50, 250, 320]), np.array([0, 3, 90])
    found = expected_loads(running, horizons, survival)
    for g in range(6):
        for j, h in enumerate(horizons.tolist()):
            expected = 0.0
            for age, kv in zip(running.age_tokens[g], running.kv_tokens[g], strict=True):
                if age >= 0:
                    alive = survival.alive(np.array([age]), np.array([h]), np.array([0]))
                    expected += (kv + h) * float(alive[0, 0])
            assert found[g, j] == pytest.approx(expected, rel=1e-12, abs=1e-12)
