"""The even-split truth against closed forms: exponential latencies, loads by hand."""

from __future__ import annotations

import numpy as np
import pytest
from routing_cases import limit, pool_table, workload

from planner.routing.truth import (
    class_means,
    class_survival,
    limit_exceedance,
    limit_met,
    limit_value,
    loads,
)

RATE = np.array([2.0, 1.0])
SHARES = np.array([[0.25, 0.75], [1.0, 0.0]])
REPLICAS = np.array([2, 1])
TABLES = (
    pool_table("p0", np.array([0.3, 0.25]), np.array([1000.0, 2000.0]), [3000.0]),
    pool_table("p1", np.array([0.2, np.nan]), np.array([500.0, np.nan]), [3000.0]),
)
WORKLOAD = workload(RATE, np.array([[0.5, 0.6], [0.7, np.nan]]))


def test_loads_are_work_per_replica() -> None:
    load = loads(WORKLOAD, TABLES, REPLICAS, SHARES)
    assert load == pytest.approx([(2 * 0.25 * 0.3 + 0.25) / 2, 2 * 0.75 * 0.2])


def test_load_without_a_replica_is_infinite_and_no_load_is_none() -> None:
    load = loads(WORKLOAD, TABLES, np.array([0, 0]), np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert load.tolist() == [np.inf, 0.0]


def test_means_mix_by_share_and_traffic() -> None:
    load = np.array([0.2, 0.3])  # both on the grid, where the table is exact
    slow, fast = 1000.0 / 0.8, 500.0 / 0.7
    c0 = 0.25 * slow + 0.75 * fast
    assert class_means(TABLES, load, SHARES, "e2e") == pytest.approx([c0, 2000.0 / 0.8])
    for_all = limit_value(WORKLOAD, TABLES, load, SHARES, limit(None, 1.0))
    assert for_all == pytest.approx((2 * c0 + 1 * 2500.0) / 3)


def test_exceedance_at_a_grid_time_is_exact() -> None:
    load = np.array([0.2, 0.3])
    scoped = limit("c0", 3000.0, "p95")
    expected = 0.25 * np.exp(-3000 * 0.8 / 1000) + 0.75 * np.exp(-3000 * 0.7 / 500)
    assert limit_exceedance(WORKLOAD, TABLES, load, SHARES, scoped) == pytest.approx(expected)


def test_percentile_is_where_the_mixed_survival_passes_the_tail() -> None:
    load = np.array([0.25, 0.3])
    for scoped in (limit("c0", 3000.0, "p95"), limit(None, 3000.0, "p90")):
        tail = scoped.limit.tail_ratio
        assert tail is not None
        at = limit_value(WORKLOAD, TABLES, load, SHARES, scoped)
        by_class = class_survival(TABLES, load, SHARES, "e2e", np.array([at * 0.9999, at * 1.0001]))
        weights = [1.0, 0.0] if scoped.class_name == "c0" else [2 / 3, 1 / 3]
        before, after = np.array(weights) @ by_class
        assert after < tail < before


def test_partly_served_classes_count_by_what_is_served() -> None:
    load = np.array([0.2, 0.3])
    half = SHARES * np.array([[0.5], [1.0]])
    assert class_means(TABLES, load, half, "e2e") == pytest.approx(
        class_means(TABLES, load, SHARES, "e2e")
    )
    c0 = class_means(TABLES, load, SHARES, "e2e")[0]
    for_all = limit_value(WORKLOAD, TABLES, load, half, limit(None, 1.0))
    assert for_all == pytest.approx((1.0 * c0 + 1.0 * 2500.0) / 2)


def test_nothing_served_has_no_statistic_and_misses_no_limit() -> None:
    none = np.zeros((2, 2))
    load = np.zeros(2)
    assert np.isnan(class_means(TABLES, load, none, "e2e")).all()
    for scoped in (limit(None, 1.0), limit("c0", 1.0, "p99")):
        assert np.isnan(limit_value(WORKLOAD, TABLES, load, none, scoped))
        assert limit_met(WORKLOAD, TABLES, load, none, scoped)


def test_limits_are_met_up_to_their_value() -> None:
    load = np.array([0.2, 0.3])
    mean = limit_value(WORKLOAD, TABLES, load, SHARES, limit("c0", 1.0))
    assert limit_met(WORKLOAD, TABLES, load, SHARES, limit("c0", mean))
    assert not limit_met(WORKLOAD, TABLES, load, SHARES, limit("c0", mean * 0.999))
    late = limit_value(WORKLOAD, TABLES, load, SHARES, limit("c0", 1.0, "p95"))
    assert limit_met(WORKLOAD, TABLES, load, SHARES, limit("c0", late * 1.001, "p95"))
    assert not limit_met(WORKLOAD, TABLES, load, SHARES, limit("c0", late * 0.999, "p95"))
