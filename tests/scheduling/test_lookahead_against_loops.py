"""The windowed lookahead against plain loops: every choice is the best one at its moment."""

import numpy as np
import pytest
from batch_cases import group, waiting_tokens

from planner.scheduling.batch import DecodeWorkers, Running
from planner.scheduling.lookahead import Lookahead
from planner.scheduling.survival import ExactMatch, Survival

LENGTHS = np.random.default_rng(0).geometric(0.008, 300).tolist()
HORIZONS = (0, 4, 16, 100)


def alive(survival, age, horizon):
    return float(survival.alive(np.array([age]), np.array([horizon]), np.array([0]))[0, 0])


class Board:
    """The expected loads of a group, kept by loops over workers, requests and horizons."""

    def __init__(self, waiting, workers, survival, gamma):
        self.waiting, self.free = waiting, list(workers.free_slots)
        self.weights = [gamma**h / sum(gamma**k for k in HORIZONS) for h in HORIZONS]
        self.fresh = [alive(survival, 0, h) for h in HORIZONS]
        running = workers.running
        self.loads = [
            [
                sum(
                    (int(kv) + h) * alive(survival, int(age), h)
                    for kv, age in zip(running.kv_tokens[g], running.age_tokens[g], strict=True)
                    if age >= 0
                )
                for h in HORIZONS
            ]
            for g in range(len(self.free))
        ]

    def added(self, i):
        return [(self.waiting[i] + h) * p for h, p in zip(HORIZONS, self.fresh, strict=True)]

    def outlook(self, g):
        return sum(w * load for w, load in zip(self.weights, self.loads[g], strict=True))

    def score(self, i, g):
        total = 0.0
        for h, added in enumerate(self.added(i)):
            envelope = max(load[h] for load in self.loads)
            above = max(0.0, added - (envelope - self.loads[g][h]))
            total += self.weights[h] * (added - len(self.free) * above)
        return total

    def place(self, i, g):
        self.free[g] -= 1
        self.loads[g] = [a + b for a, b in zip(self.loads[g], self.added(i), strict=True)]


@pytest.mark.parametrize("window", [1, 5, 64])
@pytest.mark.parametrize("seed", range(12))
def test_every_choice_is_the_best_at_its_moment(seed, window):
    random = np.random.default_rng(seed)
    workers, waiting = group(random, 5, 6), waiting_tokens(random)
    survival = Survival(LENGTHS)
    policy = Lookahead(survival, window=window, horizons=HORIZONS, gamma=0.96)
    board, rest = Board(waiting, workers, survival, 0.96), list(range(len(waiting)))
    for i, g in policy(waiting, workers):
        open_workers = [each for each, free in enumerate(board.free) if free > 0]
        assert board.outlook(g) <= min(map(board.outlook, open_workers)) + 1e-6
        assert i in rest[:window]
        best = max(board.score(each, g) for each in rest[:window])
        assert board.score(i, g) >= best - 1e-6 * abs(best)
        board.place(i, g)
        rest.remove(i)


@pytest.mark.parametrize("seed", range(12))
def test_the_next_step_alone_against_an_exact_loop(seed):
    """One horizon, whole numbers: the very same placements, ties as documented."""
    random = np.random.default_rng(100 + seed)
    workers, waiting = group(random, 5, 6), waiting_tokens(random)
    loads, free = list(workers.load_tokens), list(workers.free_slots)
    rest, expected = list(range(len(waiting))), []
    while rest and any(free):
        g = min((g for g in range(5) if free[g]), key=lambda g: (loads[g], g))
        margin = max(loads) - loads[g]
        window = rest[:7]
        i = max(window, key=lambda i: (waiting[i] - 5 * max(0, waiting[i] - margin), -i))
        expected.append((i, g))
        rest.remove(i)
        loads[g] += waiting[i]
        free[g] -= 1
    assert Lookahead(Survival(), window=7, horizons=(0,))(waiting, workers) == expected


def test_it_sees_who_will_soon_be_free():
    """Equal loads now; what runs on worker 0 ends at once, so the large request goes there."""
    oracle = ExactMatch(Survival())
    oracle.observe(0, 11)
    oracle.observe(1, 1000)
    running = Running(np.array([[900], [900]]), np.array([[10], [10]]), np.array([[0], [1]]))
    workers = DecodeWorkers([900, 900], [1, 1], running)
    assert Lookahead(oracle)([500], workers) == [(0, 0)]
    swapped = Running(running.kv_tokens, running.age_tokens, running.keys[::-1])
    assert Lookahead(oracle)([500], DecodeWorkers([900, 900], [1, 1], swapped)) == [(0, 1)]


def test_it_needs_to_know_what_runs():
    with pytest.raises(ValueError, match="needs DecodeWorkers"):
        Lookahead(Survival())([10], DecodeWorkers([0], [1]))
