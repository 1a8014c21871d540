"""Reading a PoolTable: survival and quantile undo each other, figures are linear in the load."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.spec.table import PoolTable, quantile_ms, survival_at_time

EXAMPLES = settings(max_examples=80, deadline=None, derandomize=True)
TIMES = np.geomspace(10.0, 1000.0, 7)


@st.composite
def curves(draw: st.DrawFn) -> np.ndarray:
    """A survival that falls, with level stretches here and there."""
    drops = draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, 3.0, 10.0]), min_size=6, max_size=6))
    if not any(drops):
        drops[0] = 1.0
    last = draw(st.sampled_from([0.0, 0.001]))
    return 1.0 - np.concatenate([[0.0], np.cumsum(drops)]) / sum(drops) * (1.0 - last)


@EXAMPLES
@given(curves(), st.floats(0.002, 0.998))
def test_a_quantile_is_exceeded_by_exactly_its_tail(curve: np.ndarray, tail: float) -> None:
    at = float(quantile_ms(TIMES, curve, tail))
    assert float(survival_at_time(TIMES, curve, at)) == pytest.approx(tail, abs=1e-9)


@EXAMPLES
@given(curves(), st.floats(10.0, 1000.0))
def test_the_quantile_of_a_times_survival_is_the_first_such_time(
    curve: np.ndarray, at: float
) -> None:
    tail = float(survival_at_time(TIMES, curve, at))
    back = float(quantile_ms(TIMES, curve, tail))
    assert back <= at * (1 + 1e-9)
    assert float(survival_at_time(TIMES, curve, back)) == pytest.approx(tail, abs=1e-9)
    before = back * (1 - 1e-3)
    if before > TIMES[0] and tail < 1.0:
        assert float(survival_at_time(TIMES, curve, before)) > tail


@pytest.mark.parametrize("tail", [0.5, 0.1, 0.05, 0.01])
def test_a_fine_grid_gives_the_quantiles_of_a_known_law(tail: float) -> None:
    law = stats.gamma(2.0, scale=100.0)
    times = np.geomspace(1.0, 5000.0, 400)
    at = float(quantile_ms(times, law.sf(times), tail))
    assert at == pytest.approx(law.isf(tail), rel=1e-3)
    assert float(survival_at_time(times, law.sf(times), 333.0)) == pytest.approx(
        law.sf(333.0), rel=1e-3
    )


def test_grid_times_are_exact_and_beyond_the_grid_its_ends_hold() -> None:
    curve = np.array([0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.04])
    for t, s in zip(TIMES, curve, strict=True):
        assert float(survival_at_time(TIMES, curve, float(t))) == pytest.approx(s, abs=1e-12)
    assert float(survival_at_time(TIMES, curve, 1.0)) == 0.9
    assert float(survival_at_time(TIMES, curve, 1e6)) == 0.04
    assert float(quantile_ms(TIMES, curve, 0.04)) == pytest.approx(1000.0)
    assert float(quantile_ms(TIMES, curve, 0.95)) == 10.0
    assert float(quantile_ms(TIMES, curve, 0.03)) == np.inf


def test_flat_survivals() -> None:
    always, never = np.ones(7), np.zeros(7)
    assert float(quantile_ms(TIMES, always, 0.05)) == np.inf  # all above
    assert float(quantile_ms(TIMES, never, 0.05)) == 10.0  # all below
    level = np.array([1.0, 0.4, 0.4, 0.4, 0.4, 0.0, 0.0])
    assert float(quantile_ms(TIMES, level, 0.4)) == pytest.approx(TIMES[1])
    assert float(quantile_ms(TIMES, level, 0.2)) == pytest.approx(np.sqrt(TIMES[4] * TIMES[5]))


def test_many_curves_at_once_are_read_like_one_at_a_time() -> None:
    random = np.random.default_rng(5)
    many = np.sort(random.random((3, 4, 7)), axis=-1)[..., ::-1]
    at = quantile_ms(TIMES, many, 0.3)
    over = survival_at_time(TIMES, many, 123.0)
    for c, k in np.ndindex(3, 4):
        assert float(at[c, k]) == float(quantile_ms(TIMES, many[c, k], 0.3))
        assert float(over[c, k]) == float(survival_at_time(TIMES, many[c, k], 123.0))


LOADS = np.array([0.0, 0.5, 0.8])


def table() -> PoolTable:
    mean = np.array([[100.0, 200.0, 500.0], [50.0, 100.0, 250.0]])
    survival = np.exp(-TIMES[None, None, :] / mean[:, :, None])
    return PoolTable(
        pool="p",
        work_s=np.array([0.1, 0.05]),
        mix=np.array([0.5, 0.5]),
        loads=LOADS,
        mean_ms={"e2e": mean},
        times_ms={"e2e": TIMES},
        survival={"e2e": survival},
        band_ratio={"e2e": np.array([0.3, 0.1, 0.2])},
        extrapolated=np.array([True, False, False]),
        origin={"e2e": "measured"},
    )


@EXAMPLES
@given(st.floats(0.0, 0.8))
def test_figures_are_linear_between_grid_loads(load: float) -> None:
    t = table()
    for c in range(2):
        mean = np.interp(load, LOADS, t.mean_ms["e2e"][c])
        assert t.mean_at("e2e", load)[c] == pytest.approx(mean)
        for i in range(TIMES.size):
            over = np.interp(load, LOADS, t.survival["e2e"][c, :, i])
            assert t.survival_at("e2e", load)[c, i] == pytest.approx(over)
    assert t.band_at("e2e", load) == pytest.approx(np.interp(load, LOADS, [0.3, 0.1, 0.2]))


@pytest.mark.parametrize("load", [0.8, 0.9, 5.0, np.inf])
def test_above_the_last_load_its_figures_hold(load: float) -> None:
    t = table()
    assert t.mean_at("e2e", load).tolist() == [500.0, 250.0]
    assert t.survival_at("e2e", load) == pytest.approx(t.survival["e2e"][:, 2])
    assert t.band_at("e2e", load) == pytest.approx(0.2)
    assert t.max_load == 0.8


def test_statistics_and_exceedances_at_the_grid_loads() -> None:
    t = table()
    assert t.statistic_ms("e2e", "mean") is t.mean_ms["e2e"]
    over = t.exceedance("e2e", float(TIMES[3]))
    assert over == pytest.approx(t.survival["e2e"][:, :, 3])
    p90 = t.statistic_ms("e2e", "p90")
    assert p90[0, 0] == pytest.approx(100.0 * np.log(10.0), rel=0.1)  # the grid is coarse
    assert p90.shape == (2, 3)


def test_a_load_is_extrapolated_where_a_load_beside_it_was_not_measured() -> None:
    t = table()
    marked = [t.is_extrapolated(load) for load in (0.0, 0.2, 0.5, 0.6, 0.8, 0.9)]
    assert marked == [True, True, False, False, False, False]
    high = PoolTable(**(t.__dict__ | {"extrapolated": np.array([False, False, True])}))
    marked = [high.is_extrapolated(load) for load in (0.0, 0.2, 0.5, 0.6, 0.8, 0.9)]
    assert marked == [False, False, False, True, True, True]
