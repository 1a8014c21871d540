"""Sampling: what is drawn is admitted, sparse, and varied; neighbours are what they say."""

import itertools

import numpy as np
import pytest

from planner.search import sampling
from planner.search.problem import Box

STOCK = Box(  # two resources, six consumers of 1, 2 or 4 units, and a free coordinate
    lower=np.zeros(7, np.int64),
    upper=np.array([8, 4, 2, 8, 4, 2, 5]),
    rows=np.array([[1.0, 2, 4, 0, 0, 0, 0], [0, 0, 0, 1, 2, 4, 0]]),
    limits=np.array([8.0, 8.0]),
)
COVERED = Box(  # at least 3 of the first two, at most 5 of all
    lower=np.zeros(3, np.int64),
    upper=np.full(3, 5),
    rows=np.array([[-1.0, -1, 0], [1, 1, 1]]),
    limits=np.array([-3.0, 5.0]),
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("box", [STOCK, COVERED])
@pytest.mark.parametrize("draw", [sampling.sparse_points, sampling.uniform_points])
def test_draws_are_admitted_and_repeatable(box, draw):
    points = draw(box, 200, rng())
    assert len(points) >= 190
    assert box.admits(points).all()
    assert np.array_equal(points, draw(box, 200, rng()))
    assert not np.array_equal(points, draw(box, 200, rng(1)))


def test_sparse_draws_reach_from_nearly_empty_to_full():
    used = sampling.sparse_points(STOCK, 400, rng())[:, :6] @ STOCK.rows[:, :6].sum(axis=0)
    assert (used <= 3).mean() > 0.05
    assert (used >= 14).mean() > 0.05
    uniform = sampling.uniform_points(STOCK, 400, rng())[:, :6] @ STOCK.rows[:, :6].sum(axis=0)
    assert used.mean() < uniform.mean()


def test_a_free_coordinate_is_drawn_evenly():
    level = sampling.sparse_points(STOCK, 600, rng())[:, 6]
    assert np.bincount(level, minlength=6).min() > 60


def test_uniform_draws_of_a_listed_box_are_even():
    drawn, counts = np.unique(
        sampling.uniform_points(COVERED, 4000, rng()), axis=0, return_counts=True
    )
    assert np.array_equal(drawn, COVERED.points(1000))
    expected = 4000 / len(drawn)
    # Pearson's statistic has mean n - 1 and variance 2 (n - 1).
    assert np.sum((counts - expected) ** 2 / expected) < len(drawn) + 4 * np.sqrt(2 * len(drawn))


def test_uniform_draws_of_a_box_too_large_to_list_follow_the_truth():
    # z_0 + ... + z_9 <= 12, z_i <= 9: the mean of z_0 follows from counting, by symmetry.
    box = Box(np.zeros(10, np.int64), np.full(10, 9), np.ones((1, 10)), np.array([12.0]))
    ways = np.zeros(13)
    ways[0] = 1
    for _ in range(10):
        ways = np.array([ways[max(0, s - 9) : s + 1].sum() for s in range(13)])
    truth = ways @ np.arange(13) / ways.sum()
    points = sampling.uniform_points(box, 500, rng())
    assert box.admits(points).all()
    assert points.sum(axis=1).mean() == pytest.approx(truth, rel=0.03)


def test_repair_brings_points_into_the_box():
    outside = np.array([[0, 0, 5], [5, 5, 5], [0, 0, 0], [9, -2, 1]])
    for point in outside:
        assert COVERED.admits(sampling.repaired(point, COVERED, rng())[None, :]).all()


def test_repair_leaves_admitted_points_alone():
    for point in COVERED.points(1000):
        assert np.array_equal(sampling.repaired(point, COVERED, rng()), point)


@pytest.mark.parametrize("box", [STOCK, COVERED])
def test_neighbours_equal_their_definition(box):
    for point in sampling.sparse_points(box, 5, rng()):
        moves = set()
        for i in range(box.n_dims):
            for step in (1, -1):
                moves.add(tuple(step * (np.arange(box.n_dims) == i)))
        for i, j in itertools.permutations(range(box.n_dims), 2):
            for take, give in ((1, 1), (2, 1), (1, 2)):
                move = np.zeros(box.n_dims, int)
                move[i], move[j] = take, -give
                moves.add(tuple(move))
        around = np.array(sorted(tuple(point + np.array(move)) for move in moves))
        assert sampling.neighbours(point, box).tolist() == around[box.admits(around)].tolist()


def test_unseen_points_exhaust_a_small_box_without_repeats():
    seen = {(3, 0, 0), (0, 3, 0)}

    def unseen(points):
        fresh = dict.fromkeys(tuple(p) for p in points.tolist())
        return np.array([p for p in fresh if p not in seen], dtype=np.int64).reshape(-1, 3)

    found = sampling.unseen_points(COVERED, 10_000, rng(), unseen)
    assert {tuple(p) for p in found.tolist()} == {
        tuple(p) for p in COVERED.points(1000).tolist()
    } - seen
    assert len(found) == len(COVERED.points(1000)) - 2
