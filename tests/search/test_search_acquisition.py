"""The batch by samples: against trying every batch, and what one sample must give."""

from itertools import combinations

import numpy as np
import pytest

from planner.search.acquisition import best_batch
from planner.search.hypervolume import hypervolume


def promised(gains, accepted, chance, fronts, order):
    """The gain of candidates taken one after the other, by volumes of whole sets."""
    total = 0.0
    for i, c in enumerate(order):
        added = []
        for s, front in enumerate(fronts):
            known = [*front, *(gains[s, b] for b in order[:i] if accepted[s, b])]
            origin = np.zeros(gains.shape[2])
            before = hypervolume(-np.array(known), origin)
            added.append(hypervolume(-np.array([*known, gains[s, c]]), origin) - before)
        total += chance[c] * np.mean(added)
    return total


@pytest.fixture(params=range(4))
def asked(request):
    rng = np.random.default_rng(request.param)
    gains = rng.uniform(-0.2, 1.0, (6, 7, 3))
    fronts = rng.uniform(0.0, 0.7, (6, 4, 3))
    return gains, rng.random((6, 7)) < 0.7, rng.random(7), fronts


def test_the_first_is_the_best_of_all_and_each_next_the_best_after_those(asked):
    gains, accepted, chance, fronts = asked
    chosen, promise = best_batch(gains, accepted, chance, fronts, 3)
    taken: list[int] = []
    for c in chosen.tolist():
        after = {
            k: promised(gains, accepted, chance, fronts, [*taken, k])
            for k in range(7)
            if k not in taken
        }
        assert after[c] == pytest.approx(max(after.values()), abs=1e-12)
        taken.append(c)
    assert promise == pytest.approx(promised(gains, accepted, chance, fronts, taken))


def test_greedy_is_near_the_best_batch(asked):
    gains, _, _, fronts = asked
    sure = np.ones(7)
    always = np.ones((6, 7), dtype=bool)
    _, promise = best_batch(gains, always, sure, fronts, 2)
    best = max(promised(gains, always, sure, fronts, pair) for pair in combinations(range(7), 2))
    assert (1.0 - 1.0 / np.e) * best <= promise <= best + 1e-12


def test_two_alike_are_not_chosen_together():
    gains = np.array([[[0.9, 0.5], [0.9, 0.5], [0.3, 0.8]]])
    chosen, _ = best_batch(gains, np.ones((1, 3), dtype=bool), np.ones(3), np.empty((1, 0, 2)), 2)
    assert sorted(chosen.tolist()) in ([0, 2], [1, 2])


def test_no_candidate_no_batch():
    chosen, promise = best_batch(
        np.empty((2, 0, 2)), np.empty((2, 0), dtype=bool), np.empty(0), np.empty((2, 0, 2)), 4
    )
    assert chosen.tolist() == []
    assert promise == 0.0
