"""Curves and gaps against hand-made cases, brute force over prices, and explicit resampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.quality.curve import (
    MAX_BAGS,
    Interval,
    Outcome,
    as_gap,
    curve_of,
    interval_of,
    measure,
    resamples_of,
    sweep_of,
    yardstick_of,
)


def made(n_prompts: int, n_models: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Estimates and truth of random prompts: dearer models tend to be better."""
    random = np.random.default_rng(seed)
    base = np.linspace(0.3, 0.8, n_models)
    price = np.sort(random.uniform(1.0, 20.0, n_models))
    quality_hat = np.clip(base + random.normal(0, 0.15, (n_prompts, n_models)), 0, 1)
    cost_hat = price * random.lognormal(0, 0.4, (n_prompts, n_models))
    score = (random.random((n_prompts, n_models)) < quality_hat).astype(float)
    cost = cost_hat * random.lognormal(0, 0.5, (n_prompts, n_models))
    return quality_hat, cost_hat, score, cost


def equally(score: np.ndarray, cost: np.ndarray) -> Outcome:
    return Outcome(score, cost, np.ones(len(score)))


def alone(n_prompts: int):
    """No resamples: only the data as they are."""
    return resamples_of(np.arange(n_prompts), 0)


def path_by_brute_force(quality_hat, cost_hat, score, cost) -> tuple[np.ndarray, np.ndarray]:
    """Points (mean cost, mean score) between all prices at which any two models tie anywhere."""
    n, m = score.shape
    ties = [
        (quality_hat[:, i] - quality_hat[:, j]) / (cost_hat[:, i] - cost_hat[:, j])
        for i in range(m)
        for j in range(i)
    ]
    prices = np.unique(np.concatenate(ties))
    prices = prices[prices > 0][::-1]
    between = [2 * prices[0], *(0.5 * (prices[1:] + prices[:-1])), 0.5 * prices[-1]]
    points = []
    for price in between:
        picked = (quality_hat - price * cost_hat).argmax(axis=1)
        points.append((cost[np.arange(n), picked].mean(), score[np.arange(n), picked].mean()))
    return tuple(np.array(points).T)


def area_by_small_steps(cost, score, low, high) -> float:
    """Mean score over [low, high] of a line through points, which may turn back."""
    cost = np.concatenate([cost, [max(cost[-1], high)]])
    score = np.append(score, score[-1])
    total = 0.0
    for i in range(cost.size - 1):
        x = np.linspace(cost[i], cost[i + 1], 4001)
        y = np.linspace(score[i], score[i + 1], 4001)
        middle, height = 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])
        total += float((np.diff(x) * height)[(middle >= low) & (middle <= high)].sum())
    return total / (high - low)


@pytest.mark.parametrize("seed", range(4))
def test_quality_over_the_range_is_that_of_brute_force(seed):
    quality_hat, cost_hat, score, cost = made(25, 4, seed)
    yardstick = yardstick_of(equally(score, cost), alone(25))
    found = measure(quality_hat, cost_hat, yardstick)
    hull = yardstick.hull
    xs, ys = path_by_brute_force(quality_hat, cost_hat, score, cost)
    low, high = hull.cost[0, 0], hull.cost[0, -1]
    by_hand = area_by_small_steps(
        np.concatenate([[low], xs]), np.concatenate([[hull.score[0, 0]], ys]), low, high
    )
    assert found.quality[0] == pytest.approx(by_hand, abs=2e-4)
    xs, ys = path_by_brute_force(score + 1e-12 * quality_hat, cost, score, cost)
    by_hand = area_by_small_steps(
        np.concatenate([[low], xs]), np.concatenate([[hull.score[0, 0]], ys]), low, high
    )
    assert yardstick.oracle_quality[0] == pytest.approx(by_hand, abs=2e-4)


def test_two_models_by_hand():
    """Costs 1 and 3; on half of the prompts the dear model is right and the cheap one wrong.

    Mixing goes from (1, .5) to (3, 1): mean .75. The oracle buys the dear model only where it
    helps: from (1, .5) to (2, 1), then flat: (.75 + 1) / 2 = .875. A router that buys it first
    where it does not help goes (1, .5), (2, .5), (3, 1): (.5 + .75) / 2 = .625, gap -1.
    """
    score = np.array([[1.0, 1.0], [0.0, 1.0]] * 4)
    cost = np.tile([1.0, 3.0], (8, 1))
    yardstick = yardstick_of(equally(score, cost), alone(8))
    assert yardstick.hull_quality[0] == pytest.approx(0.75)
    assert yardstick.oracle_quality[0] == pytest.approx(0.875)
    wrong = np.array([[0.0, 1.0], [0.0, 0.5]] * 4)
    found = measure(wrong, cost, yardstick)
    np.testing.assert_allclose(found.curve.cost[0], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(found.curve.score[0], [0.5, 0.5, 1.0])
    assert found.quality[0] == pytest.approx(0.625)
    assert found.gap[0] == pytest.approx(-1.0)


def test_the_hull_of_single_models_leaves_out_what_mixing_beats():
    """Points (1, .2), (2, .3), (3, .6), (4, .5): the hull joins the first and the third."""
    means, cost = np.array([0.2, 0.3, 0.6, 0.5]), np.tile([1.0, 2.0, 3.0, 4.0], (10, 1))
    score = (np.arange(10)[:, None] < 10 * means).astype(float)
    hull = yardstick_of(equally(score, cost), alone(10)).hull
    np.testing.assert_allclose(hull.cost[0, [0, -1]], [1.0, 3.0])
    np.testing.assert_allclose(hull.score[0, [0, -1]], [0.2, 0.6])
    np.testing.assert_allclose(hull.cost[0, 1], 3.0)


def test_knowing_everything_closes_the_gap_and_knowing_only_the_fleet_none():
    _, _, score, cost = made(60, 4)
    yardstick = yardstick_of(equally(score, cost), alone(60))
    assert measure(score, cost, yardstick).gap[0] == pytest.approx(1.0)
    fleet = np.tile(score.mean(axis=0), (60, 1))
    constant = measure(fleet, np.tile(cost.mean(axis=0), (60, 1)), yardstick)
    assert constant.gap[0] == pytest.approx(0.0, abs=1e-12)


def test_a_curve_that_turns_back_is_not_counted_twice():
    """Predicted costs rise where realised ones fall: the line goes back and forth."""
    score = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    cost = np.array([[1.0, 5.0], [5.0, 1.0], [1.0, 8.0]])
    quality_hat = np.array([[0.0, 0.9], [0.0, 0.6], [0.0, 0.3]])
    yardstick = yardstick_of(equally(score, cost), alone(3))
    found = measure(quality_hat, np.tile([1.0, 2.0], (3, 1)), yardstick)
    xs, ys = found.curve.cost[0], found.curve.score[0]
    assert (np.diff(xs) < 0).any()
    low, high = yardstick.hull.cost[0, 0], yardstick.hull.cost[0, -1]
    by_hand = area_by_small_steps(np.append(low, xs), np.append(0.0, ys), low, high)
    assert found.quality[0] == pytest.approx(by_hand, abs=1e-3)
    assert found.quality[0] <= 1.0


def test_resampling_is_that_of_repeated_prompts():
    quality_hat, cost_hat, score, cost = made(40, 3, 5)
    group = np.arange(40) // 2  # every prompt has a duplicate
    resamples = resamples_of(group, 6, seed=3)
    yardstick = yardstick_of(equally(score, cost), resamples)
    found = measure(quality_hat, cost_hat, yardstick)
    for row, count in enumerate(resamples.count):
        rows = np.repeat(np.arange(40), count[resamples.bag].astype(int))
        again = yardstick_of(equally(score[rows], cost[rows]), alone(rows.size))
        assert again.hull_quality[0] == pytest.approx(yardstick.hull_quality[row])
        by_rows = measure(quality_hat[rows], cost_hat[rows], again)
        assert found.gap[row] == pytest.approx(by_rows.gap[0])


def test_a_weight_counts_like_so_many_prompts():
    quality_hat, cost_hat, score, cost = made(30, 3, 7)
    times = np.random.default_rng(0).integers(1, 4, 30)
    weighted = yardstick_of(Outcome(score, cost, times.astype(float)), alone(30))
    rows = np.repeat(np.arange(30), times)
    repeated = yardstick_of(equally(score[rows], cost[rows]), alone(rows.size))
    assert measure(quality_hat, cost_hat, weighted).gap[0] == pytest.approx(
        measure(quality_hat[rows], cost_hat[rows], repeated).gap[0]
    )


def test_groups_stay_together_and_many_groups_spread_as_much_in_bags():
    group = np.repeat(np.arange(3000), 2)
    resamples = resamples_of(group, 400, seed=1)
    assert resamples.count.shape == (401, MAX_BAGS)
    assert (resamples.bag[::2] == resamples.bag[1::2]).all()
    assert (resamples.count[0] == 1).all()
    assert (resamples.count.sum(axis=1) == MAX_BAGS).all()
    value = np.random.default_rng(2).normal(size=3000)[group]
    sums = np.bincount(resamples.bag, value)
    means = resamples.count @ sums / (resamples.count @ np.bincount(resamples.bag))
    assert means[1:].std() == pytest.approx(value.std() / np.sqrt(3000), rel=0.15)


def test_few_prices_do_as_well_as_all():
    quality_hat, cost_hat, score, cost = made(900, 5, 2)
    outcome = equally(score, cost)
    few = sweep_of(quality_hat, cost_hat)
    all_of_them = sweep_of(quality_hat, cost_hat, n_points=10**6)
    assert few.spend.size <= 256 < all_of_them.spend.size
    coarse = curve_of(few, outcome, alone(900))
    fine = curve_of(all_of_them, outcome, alone(900))
    between = np.linspace(coarse.cost[0, 0], coarse.cost[0, -1], 50)
    np.testing.assert_allclose(
        np.interp(between, coarse.cost[0], coarse.score[0]),
        np.interp(between, fine.cost[0], fine.score[0]),
        atol=3e-3,
    )


def test_where_the_cheapest_model_is_the_best_there_is_nothing_to_close():
    score = np.tile([0.9, 0.2], (20, 1))
    cost = np.tile([1.0, 2.0], (20, 1))
    yardstick = yardstick_of(equally(score, cost), resamples_of(np.arange(20), 5))
    found = measure(score, cost, yardstick)
    assert np.isnan(found.gap).all() and np.isnan(found.quality).all()
    assert np.isnan(as_gap(np.zeros(6), yardstick)).all()
    assert np.isnan(interval_of(found.gap).low)


def test_an_interval_is_the_middle_of_the_resamples():
    values = np.concatenate([[5.0], np.arange(1001.0), [np.nan]])
    assert interval_of(values) == Interval(5.0, 25.0, 975.0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6), n_models=st.integers(1, 6))
def test_units_and_the_order_of_models_and_prompts_do_not_matter(seed, scale, n_models):
    quality_hat, cost_hat, score, cost = made(20, n_models, seed)
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(20), random.permutation(n_models)
    plain = yardstick_of(equally(score, cost), alone(20))
    mixed = np.ix_(rows, columns)
    other = yardstick_of(equally(score[mixed], scale * cost[mixed]), alone(20))
    np.testing.assert_allclose(
        measure(quality_hat[mixed], scale * cost_hat[mixed], other).gap,
        measure(quality_hat, cost_hat, plain).gap,
        rtol=1e-6,
        atol=1e-9,
    )


def test_folds_are_joined_at_equal_predicted_spend():
    quality_hat, cost_hat, score, cost = made(40, 4, 11)
    fold = np.arange(40) % 2
    joined = curve_of(sweep_of(quality_hat, cost_hat, fold), equally(score, cost), alone(40))
    spend = np.linspace(0.0, 1.0, 201)
    expected = np.zeros((2, 201))
    predicted = np.zeros(201)
    for f in (0, 1):
        rows = fold == f
        sweep = sweep_of(quality_hat[rows], cost_hat[rows])
        spent = curve_of(sweep, equally(score[rows], cost_hat[rows]), alone(20)).cost[0]
        share = (spent - spent[0]) / (spent[-1] - spent[0])
        real = curve_of(sweep, equally(score[rows], cost[rows]), alone(20))
        expected += 0.5 * np.stack([np.interp(spend, share, v[0]) for v in (real.cost, real.score)])
        predicted += 0.5 * np.interp(spend, share, spent)
    at = sweep_of(quality_hat, cost_hat, fold).spend
    np.testing.assert_allclose(np.interp(spend, at, joined.cost[0]), expected[0])
    np.testing.assert_allclose(np.interp(spend, at, joined.score[0]), expected[1])
    planned = curve_of(sweep_of(quality_hat, cost_hat, fold), equally(score, cost_hat), alone(40))
    np.testing.assert_allclose(np.interp(spend, at, planned.cost[0]), predicted)


@pytest.mark.parametrize("seed", range(5))
def test_lucky_folds_do_not_make_class_means_look_worse_than_mixing(seed):
    """One class: cross-fitted means know nothing but the fleet, whatever the folds hold."""
    random = np.random.default_rng(seed)
    score = (random.random((200, 3)) < [0.4, 0.6, 0.8]).astype(float)
    fold = np.arange(200) % 5
    means = np.stack([score[fold != f].mean(axis=0) for f in range(5)])[fold]
    cost = np.tile([1.0, 3.0, 9.0], (200, 1))
    resamples = resamples_of(np.arange(200), 0)
    found = measure(means, cost, yardstick_of(equally(score, cost), resamples, fold))
    assert found.gap[0] == pytest.approx(0.0, abs=0.02)
    pooled = measure(means, cost, yardstick_of(equally(score, cost), resamples))
    assert pooled.gap[0] < -0.02
