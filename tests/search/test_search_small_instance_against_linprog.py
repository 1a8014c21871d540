"""The benchmark's instance: its programs, its bounds and its truth against other programs."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

scipy_optimize = pytest.importorskip("scipy.optimize")


@pytest.fixture(scope="module")
def small():
    path = Path(__file__).parents[2] / "benchmarks" / "small_instance.py"
    spec = importlib.util.spec_from_file_location("small_instance", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def instance(small):
    return small.Instance()


def by_replica(small, instance, replicas, limit_s):
    """The same question in natural units: shares of each class on each option, or None.

    Variables are the requests/s of every class on every option and the load on every
    segment; nothing is merged per model and nothing is scaled.
    """
    used = np.flatnonzero(replicas)
    n_classes, n_used = len(instance.shares), len(used)
    n_segments = instance.widths.shape[1]
    rate = small.ARRIVALS_RPS * instance.shares
    n_flows = n_classes * n_used
    worth = -(instance.quality[:, instance.model_of[used]] / small.ARRIVALS_RPS).ravel()
    equal = np.zeros((n_classes + n_used, n_flows + n_used * n_segments))
    for n in range(n_classes):
        equal[n, n * n_used : (n + 1) * n_used] = 1.0
        for k in range(n_used):
            equal[n_classes + k, n * n_used + k] = instance.tokens[n]
    for k in range(n_used):
        start = n_flows + k * n_segments
        equal[n_classes + k, start : start + n_segments] = -1.0
    late = np.append(np.zeros(n_flows), instance.slopes[used].ravel())
    widths = (replicas[used, None] * instance.widths[used]).ravel()
    found = scipy_optimize.linprog(
        np.append(worth, np.zeros(len(widths))),
        A_ub=late[None, :],
        b_ub=[small.ARRIVALS_RPS * limit_s],
        A_eq=equal,
        b_eq=np.append(rate, np.zeros(n_used)),
        bounds=[(0.0, None)] * n_flows + [(0.0, w) for w in widths],
        method="highs-ipm",
    )
    return -found.fun if found.status == 0 else None


def drawn(small, instance, n_cases, seed):
    rng = np.random.default_rng(seed)
    deployments = instance.deployments()
    levels = rng.integers(len(small.LIMITS_S), size=n_cases)
    rows = rng.integers(1, len(deployments), size=n_cases)
    return [np.append(deployments[i], level) for i, level in zip(rows, levels, strict=True)]


def test_the_instance_is_as_large_as_it_says(small, instance):
    assert len(instance.options) == 21
    assert len(instance.deployments()) == 23_562
    assert instance.box.count(10**6) == 23_562 * len(small.LIMITS_S)


def test_occupancy_is_convex(instance):
    assert (instance.widths > 0).all()
    assert (np.diff(instance.slopes, axis=1) >= 0).all()


def test_200_points_agree_with_an_unmerged_program(small, instance):
    n_missed = 0
    for point in drawn(small, instance, 200, seed=0):
        outcome = instance.evaluate(point)
        truth = by_replica(small, instance, point[:-1], small.LIMITS_S[point[-1]])
        assert (truth is None) == (outcome.violation > 0.0)
        if truth is None:
            n_missed += 1
        else:
            assert -outcome.values[1] == pytest.approx(truth, abs=1e-6)
    assert 20 < n_missed < 180


def test_prices_certify_every_routing_and_bound_every_other(small, instance):
    rng = np.random.default_rng(1)
    points = [z for z in drawn(small, instance, 120, seed=2) if instance.evaluate(z).violation == 0]
    solved = [(z, *instance.route(z[:-1], small.LIMITS_S[z[-1]])) for z in points]
    for z, quality, prices in solved:
        constant, gain = instance.bound(prices, small.LIMITS_S[z[-1]])
        assert constant + z[:-1] @ gain == pytest.approx(quality, abs=1e-7)
        other, others_quality, _ = solved[rng.integers(len(solved))]
        constant, gain = instance.bound(prices, small.LIMITS_S[other[-1]])
        assert constant + other[:-1] @ gain >= others_quality - 1e-7


def test_truth_equals_enumeration_of_a_smaller_stock(small):
    little = small.Instance(n_gpus_per_type=1, arrivals_rps=small.ARRIVALS_RPS / 4)
    points = little.box.points(10**4)
    outcomes = [little.evaluate(z) for z in points]
    values = np.array([o.values for o in outcomes])
    accepted = np.array([o.violation == 0.0 for o in outcomes])
    assert 10 < accepted.sum() < len(points)
    margin = np.array([0.0, 1e-7, 0.0])  # of the quality
    front = []
    for value in values[accepted]:
        better = np.all(values[accepted] <= value + margin, axis=1)
        strictly = np.any(values[accepted] < value - margin, axis=1)
        if not np.any(better & strictly):
            front.append(value)
    found = little.truth()[1]
    assert (
        np.unique(found.round(6), axis=0).tolist() == np.unique(np.round(front, 6), axis=0).tolist()
    )


def test_known_objectives_are_those_of_the_evaluation(small, instance):
    for point in drawn(small, instance, 20, seed=3):
        known = instance.known(point[None, :])[0]
        assert np.isnan(known[1])
        assert np.array_equal(known[[0, 2]], instance.evaluate(point).values[[0, 2]])


def test_features_are_finite_everywhere(small, instance):
    points = np.array(drawn(small, instance, 200, seed=4))
    points = np.vstack([points, np.zeros_like(points[:1])])
    assert np.isfinite(instance.features(points)).all()
