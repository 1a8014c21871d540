"""Intervals of many means at once cover all truths together as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from planner.quality.simultaneous import means_of, reach


def tries(seed: int, n: int, t: int) -> list[tuple[np.ndarray, np.ndarray]]:
    values = np.random.default_rng(seed).exponential(1.0, (n, t)) - 1.0
    return [(column, np.ones(n, bool)) for column in values.T]


def test_a_mean_and_its_error_are_those_of_the_values_that_count() -> None:
    values = np.array([1.0, 3.0, 5.0, 100.0])
    found = means_of([(values, np.array([True, True, True, False]))], np.arange(4))
    assert found.mean[0] == 3.0
    assert found.error[0] == pytest.approx(np.std([1.0, 3.0, 5.0]) / 3**0.5)


def test_a_group_counts_once() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    once = means_of([(values, np.ones(50, bool))], np.arange(50))
    thrice = means_of([(np.tile(values, 3), np.ones(150, bool))], np.tile(np.arange(50), 3))
    assert thrice.error == pytest.approx(once.error)


def test_bags_of_groups_keep_the_error() -> None:
    """The mean over draws of s in random bags is s; of 2,000 bags it is known to 2 %."""
    values = np.random.default_rng(0).standard_normal(9000)
    found = means_of([(values, np.ones(9000, bool))], np.arange(9000))
    assert len(found.residual) == 2000
    assert found.error[0] == pytest.approx(values.std() / 9000**0.5, rel=0.06)


def test_the_lower_bounds_of_many_skewed_means_hold_together() -> None:
    """True means are 0, so a bound above 0 is an error: 2.5 % of 200 runs, 10 at 97 % certainty."""
    missed = 0
    for seed in range(200):
        found = means_of(tries(seed, 100, 12), np.arange(100))
        missed += bool((found.mean > reach([found], seed) * found.error).any())
    assert missed <= 10


def test_more_tries_reach_farther_and_copies_of_one_do_not() -> None:
    one, many = (means_of(tries(0, 400, t), np.arange(400)) for t in (1, 30))
    copies = means_of(tries(0, 400, 1) * 30, np.arange(400))
    assert reach([many], 0) > reach([one], 0) + 0.5
    assert reach([copies], 0) == pytest.approx(reach([one], 0), abs=0.05)
    assert reach([one, many], 0) >= reach([many], 0) - 0.3


def test_tries_that_lose_clearly_do_not_count() -> None:
    n = np.arange(400)
    own, losers = tries(0, 400, 1), [(v - 5.0, u) for v, u in tries(1, 400, 50)]
    assert reach([means_of(own + losers, n)], 0) == reach([means_of(own, n)], 0)
    assert reach([means_of(losers, n)], 0) == 1.96
