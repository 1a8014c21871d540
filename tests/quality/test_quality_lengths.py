"""Token-count nodes against scipy's lognormal law and against the numbers they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.quality.lengths import (
    lognormal_nodes,
    node_probabilities,
    observed_nodes,
    quantile_nodes,
)

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)


def lognormal(mean: float, cv: float):
    sigma = np.sqrt(np.log1p(cv**2))
    return stats.lognorm(s=sigma, scale=mean * np.exp(-(sigma**2) / 2))


@pytest.mark.parametrize("cv", [0.3, 0.8, 1.5])
def test_nodes_are_the_quantiles_of_the_lognormal_law_up_to_one_factor(cv: float) -> None:
    law = lognormal(400.0, cv)
    nodes = lognormal_nodes(400.0, cv, 64)
    ratio = nodes / law.ppf(node_probabilities(64))
    assert ratio == pytest.approx(ratio[0])  # one factor for all
    assert 1.0 <= ratio[0] <= 1.12  # it makes up for the tail that 64 nodes cannot see


@pytest.mark.parametrize("cv", [0.2, 0.5, 1.0])
def test_many_nodes_have_the_moments_of_the_lognormal_law(cv: float) -> None:
    law = lognormal(500.0, cv)
    nodes = lognormal_nodes(500.0, cv, 1000)
    assert nodes.mean() == pytest.approx(law.mean())
    assert nodes.std() == pytest.approx(law.std(), rel=0.04)
    assert np.quantile(nodes, 0.95) == pytest.approx(law.ppf(0.95), rel=0.005)


def test_without_spread_every_node_is_the_mean() -> None:
    assert lognormal_nodes(120.0, 0.0, 8).tolist() == [120.0] * 8
    assert lognormal_nodes(120.0, 0.0, 8, maximum=200.0).tolist() == [120.0] * 8


@EXAMPLES
@given(
    mean=st.floats(1.0, 5e4),
    cv=st.floats(0.0, 6.0),
    n=st.sampled_from([1, 2, 16, 64]),
    room=st.none() | st.floats(1.0, 20.0),
)
def test_the_mean_is_exact_under_any_cut(
    mean: float, cv: float, n: int, room: float | None
) -> None:
    nodes = lognormal_nodes(mean, cv, n, None if room is None else room * mean)
    assert nodes.mean() == pytest.approx(mean, rel=1e-9)
    assert (np.diff(nodes) >= 0).all()
    assert nodes.min() >= 1.0
    if room is not None:
        assert nodes.max() <= room * mean * (1 + 1e-12)


def test_a_cut_raises_what_it_leaves_by_one_factor() -> None:
    free, cut = lognormal_nodes(400.0, 1.2, 64), lognormal_nodes(400.0, 1.2, 64, 900.0)
    below = cut < 900.0 * (1 - 1e-12)
    assert 0 < below.sum() < 64
    ratio = cut[below] / free[below]
    assert ratio == pytest.approx(ratio[0]) and ratio[0] > 1.0


def test_a_mean_above_the_maximum_wins() -> None:
    assert lognormal_nodes(500.0, 1.0, 4, maximum=300.0).tolist() == [500.0] * 4


def test_a_mean_below_one_token_is_one_token() -> None:
    assert lognormal_nodes(0.4, 1.0, 8).tolist() == [1.0] * 8


@EXAMPLES
@given(st.lists(st.integers(1, 8000), min_size=1, max_size=200))
def test_observed_nodes_keep_mean_and_range_of_the_sample(sample: list[int]) -> None:
    tokens = np.array(sample, dtype=float)
    nodes = observed_nodes(tokens, 16)
    assert nodes.mean() == pytest.approx(tokens.mean(), rel=1e-9)
    assert nodes.min() >= 1.0 and nodes.max() <= tokens.max() * (1 + 1e-12)
    assert (np.diff(nodes) >= 0).all()


def test_observed_nodes_follow_the_law_that_the_sample_came_from() -> None:
    law = lognormal(300.0, 0.6)
    sample = law.rvs(size=20_000, random_state=np.random.default_rng(1))
    u = node_probabilities(64)
    assert observed_nodes(sample, 64)[2:-2] == pytest.approx(law.ppf(u)[2:-2], rel=0.05)


LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def test_quantile_nodes_give_the_quantiles_back_up_to_one_factor() -> None:
    values = np.array([100.0, 150.0, 220.0, 330.0, 480.0, 640.0, 1100.0, 4000.0])
    mean = 280.0
    nodes = quantile_nodes(LEVELS, values, mean, 1000)
    assert nodes.mean() == pytest.approx(mean)
    ratio = np.quantile(nodes, LEVELS[:-1]) / values[:-1]
    assert ratio == pytest.approx(ratio[2], rel=0.02)
    assert abs(ratio[2] - 1) < 0.05  # these quantiles and this mean nearly belong together
    assert nodes.max() <= 4000.0


def test_quantiles_of_a_lognormal_law_make_its_tail_beyond_the_last_one() -> None:
    # Only up to p90 is known: what lies above has to be longer than p90, as it is in the law.
    law = lognormal(300.0, 0.9)
    levels = (0.1, 0.25, 0.5, 0.75, 0.9)
    nodes = quantile_nodes(levels, law.ppf(levels), law.mean(), 64)
    u = node_probabilities(64)
    assert nodes[u > 0.9] == pytest.approx(law.ppf(u[u > 0.9]), rel=0.1)
    assert nodes.mean() == pytest.approx(300.0)


@EXAMPLES
@given(
    data=st.lists(st.floats(1.0, 5000.0), min_size=2, max_size=8),
    with_max=st.booleans(),
    where=st.floats(0.0, 1.0),
)
def test_quantile_nodes_have_the_mean_and_stay_under_a_known_maximum(
    data: list[float], with_max: bool, where: float
) -> None:
    values = sorted(data)
    levels = LEVELS[-len(values) :] if with_max else LEVELS[: len(values)]
    if levels[-1] == 1.0:
        mean = values[0] + where * (values[-1] - values[0])
        nodes = quantile_nodes(levels, values, mean, 64)
        assert nodes.max() <= max(values[-1], mean) * (1 + 1e-12)
    else:
        mean = 10.0 + where * 1000.0
        nodes = quantile_nodes(levels, values, mean, 64)
    assert nodes.mean() == pytest.approx(mean, rel=1e-9)
    assert np.isfinite(nodes).all() and (np.diff(nodes) >= -1e-9).all()
