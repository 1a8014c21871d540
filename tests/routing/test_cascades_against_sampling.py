"""What users of a cascade see, against requests drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest
from cascade_cases import toy
from routing_cases import LOADS

from planner.routing import truth

N = 200_000


def drawn(seed: int, first_ms: float, second_ms: float, e: float, how: str) -> np.ndarray:
    """Returns e2e of requests of a cascade whose two answers are independent, alike, or opposed."""
    random = np.random.default_rng(seed)
    u = random.random(N)
    v = {"independent": random.random(N), "alike": u, "opposed": 1.0 - u}[how]
    escalated = random.random(N) < e
    return -first_ms * np.log1p(-u) - np.where(escalated, second_ms * np.log1p(-v), 0.0)


@pytest.mark.parametrize("e", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("how", ["independent", "alike", "opposed"])
def test_the_mean_is_exact_and_the_survival_never_too_small(how: str, e: float) -> None:
    problem = toy(escalated_ratio=e)
    load = np.array([0.3, 0.6])  # on the grid of the tables: their means are exact there
    assert set(load) <= set(LOADS.tolist())
    shares = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    cascades = problem.workload.cascades
    e2e = drawn(3, 500.0 / 0.7, 2400.0 / 0.4, e, how)
    mean = truth.class_means(problem.tables, load, shares, "e2e", cascades)
    assert mean[0] == pytest.approx(e2e.mean(), rel=0.01)
    times = np.geomspace(300.0, 60_000.0, 25)
    said = truth.class_survival(problem.tables, load, shares, "e2e", times, cascades)[0]
    seen = (e2e[:, None] > times).mean(axis=0)
    assert (said >= seen - 0.005).all()  # the tables are linear in log t: a little above, too
    assert (np.diff(said) <= 1e-12).all()
    if e == 0.0:
        assert np.abs(said - seen).max() < 0.02


def test_where_the_signal_is_the_length_slow_requests_are_the_escalated_ones() -> None:
    e, load = 0.3, np.array([0.3, 0.6])
    random = np.random.default_rng(5)
    first = random.exponential(500.0 / 0.7, N)
    escalated = first > np.quantile(first, 1.0 - e)
    e2e = first + np.where(escalated, random.exponential(2400.0 / 0.4, N), 0.0)
    shares = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    times = np.geomspace(300.0, 60_000.0, 25)
    seen = (e2e[:, None] > times).mean(axis=0)
    problem = toy(escalated_ratio=e, signal="length")
    said = truth.class_survival(
        problem.tables, load, shares, "e2e", times, problem.workload.cascades
    )
    assert (said[0] >= seen - 0.005).all()


def test_a_class_is_the_mix_of_its_own_pools_and_its_cascades() -> None:
    problem = toy(escalated_ratio=0.25)
    cascades, load = problem.workload.cascades, np.array([0.2, 0.5])
    shares = np.array([[0.3, 0.1], [0.6, 0.0], [0.0, 0.6]])
    np.testing.assert_allclose(truth.served_shares(shares, cascades), [1.0])
    mean = truth.class_means(problem.tables, load, shares, "e2e", cascades)[0]
    small, large, second = 500.0 / 0.8, 2000.0 / 0.5, 2400.0 / 0.5
    assert mean == pytest.approx(0.3 * small + 0.1 * large + 0.6 * (small + 0.25 * second))
    loads = truth.loads(problem.workload, problem.tables, np.array([2, 1]), shares)
    np.testing.assert_allclose(loads, [0.9 * 0.4 / 2, 0.1 * 1.5 + 0.6 * 0.25 * 1.8])


def test_time_to_the_first_token_waits_for_the_first_answer() -> None:
    cascade = toy(escalated_ratio=0.25).workload.cascades[0]
    terms = [(p.row, p.metric, p.weight) for p in cascade.parts("ttft")]
    assert terms == [(1, "e2e", 0.75), (1, "e2e", 0.25), (2, "ttft", 0.25)]


def test_a_first_answer_that_is_trusted_comes_whole() -> None:
    """tpot is (e2e - ttft) / (n - 1): zero where e2e is ttft."""
    cascade = toy(escalated_ratio=0.25).workload.cascades[0]
    assert [(p.row, p.metric, p.weight) for p in cascade.parts("tpot")] == [(2, "tpot", 0.25)]
