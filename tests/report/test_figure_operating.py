"""How the plan loads its pools: against the plan's own figures and against Little's law."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_plans import demo

from planner.report.figure.operating import operating


@pytest.fixture(scope="module")
def found(demo_inputs):
    return {each.pool: each for each in operating(demo_inputs, demo())}


def test_every_pool_of_the_plan_has_its_share_of_the_traffic(found):
    replicas = {row.pool: row.replicas for row in demo().deployment}
    assert found.keys() == replicas.keys()
    for figure in demo().predicted.pools:
        expected = figure.rate_rps / replicas[figure.pool]
        assert found[figure.pool].rate_rps == pytest.approx(expected, rel=1e-4)


def test_the_requests_in_flight_are_those_at_which_to_measure_first(found):
    asked = {row.pool: row.concurrency for row in demo().measure_first}
    assert asked
    for pool, n in asked.items():
        assert found[pool].n_in_flight == pytest.approx(n, rel=0.02)


def test_the_requests_in_flight_follow_from_rate_and_time(found):
    """Little's law: rate times the mean time in the replica, less the request itself."""
    for pool in found.values():
        ttft, tpot = pool.estimated
        here = [float(np.interp(pool.n_in_flight, c.loads, c.value)) for c in (ttft, tpot)]
        seconds = (here[0] + here[1] * (ttft.output_tokens - 1)) / 1000
        assert pool.n_in_flight - 1 == pytest.approx(pool.rate_rps * seconds, rel=0.15)


def test_the_simulation_saw_as_many(found):
    for pool in demo().simulated.pools:
        assert found[pool.pool].n_in_flight == pytest.approx(pool.n_in_flight_mean + 1, rel=0.15)


def test_the_estimated_curves_rise_and_reach_the_load_of_the_plan(found):
    for pool in found.values():
        for chart in pool.estimated:
            assert pool.n_in_flight in chart.loads
            assert (np.diff(chart.value) >= 0).all() and (np.diff(chart.loads) > 0).all()
            assert (chart.low <= chart.value).all() and (chart.value <= chart.high).all()
        low, high = pool.measured_ratio
        assert 0 < low < high <= 1
