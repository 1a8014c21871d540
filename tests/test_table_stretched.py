"""Latencies times a ratio: the stretched table is the table of samples that took so much longer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from planner.case import corrected
from planner.spec.arrays import FloatArray
from planner.spec.plan import Learned
from planner.spec.table import PoolTable

LOADS = np.array([0.0, 0.4, 0.8])
MEANS_MS = np.array([[100.0, 150.0, 400.0], [300.0, 330.0, 900.0]])  # (C, K)
LIMIT_MS = 777.0
N_TIMES = 250
NAMES = ("chat", "code")


def grid(low_ms: float = 0.5, high_ms: float = 2e4) -> FloatArray:
    """Times as a pool's table has them: even in log t, with the limit among them."""
    return np.unique(np.append(np.geomspace(low_ms, high_ms, N_TIMES), LIMIT_MS))


def samples(c: int, k: int) -> FloatArray:
    """Lognormal latencies in ms of class c at grid load k, whose mean is MEANS_MS[c, k]."""
    sigma = 0.8
    law = stats.lognorm(sigma, scale=MEANS_MS[c, k] * np.exp(-(sigma**2) / 2))
    return law.ppf((np.arange(20_000) + 0.5) / 20_000)


def table_of(ratio: FloatArray, times_ms: FloatArray) -> PoolTable:
    """The table of the samples times a ratio (C, K), counted one by one."""
    mean, survival = np.zeros((2, 3)), np.zeros((2, 3, times_ms.size))
    for c, k in np.ndindex(2, 3):
        seen = np.sort(samples(c, k) * ratio[c, k])
        mean[c, k] = seen.mean()
        survival[c, k] = 1.0 - np.searchsorted(seen, times_ms, side="right") / seen.size
    return PoolTable(
        pool="p",
        work_s=np.array([0.1, 0.05]),
        mix=np.array([0.5, 0.5]),
        loads=LOADS,
        mean_ms={"e2e": mean, "ttft": mean / 10},
        times_ms={"e2e": times_ms, "ttft": times_ms / 10},
        survival={"e2e": survival, "ttft": survival},
        band_ratio={"e2e": np.full(3, 0.1), "ttft": np.full(3, 0.1)},
        extrapolated=np.zeros(3, dtype=np.bool_),
        origin={"e2e": "measured", "ttft": "measured"},
    )


PLAIN = table_of(np.ones((2, 3)), grid())


RATIOS = {
    "all alike": np.full((2, 3), 1.7),
    "by class": np.array([[1.3] * 3, [2.5] * 3]),
    "by load": np.array([[1.0, 1.2, 3.0], [1.0, 1.1, 1.4]]),
    "a hundredfold": np.full((2, 3), 100.0),  # nearly all lies beyond the old grid
}


@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("statistic", ["mean", "p50", "p90", "p95", "p99"])
def test_it_is_the_table_of_samples_that_took_so_much_longer(name: str, statistic: str) -> None:
    ratio = RATIOS[name]
    stretched = PLAIN.stretched({"e2e": ratio})
    fine = table_of(ratio, grid(0.5, 2e6))
    found = stretched.statistic_ms("e2e", statistic)
    assert found == pytest.approx(fine.statistic_ms("e2e", statistic), rel=5e-3)
    for c, k in np.ndindex(2, 3):
        slow = samples(c, k) * ratio[c, k]
        tail = {"mean": None, "p50": 50, "p90": 90, "p95": 95, "p99": 99}[statistic]
        truth = slow.mean() if tail is None else np.percentile(slow, tail)
        assert found[c, k] == pytest.approx(truth, rel=1e-2)


@pytest.mark.parametrize("name", RATIOS)
def test_a_limit_is_missed_as_often_as_by_those_samples(name: str) -> None:
    ratio = RATIOS[name]
    stretched = PLAIN.stretched({"e2e": ratio})
    over = stretched.exceedance("e2e", LIMIT_MS)
    for c, k in np.ndindex(2, 3):
        truth = float(np.mean(samples(c, k) * ratio[c, k] > LIMIT_MS))
        assert over[c, k] == pytest.approx(truth, abs=2e-3)


def test_the_old_times_stay_nodes() -> None:
    stretched = PLAIN.stretched({"e2e": RATIOS["by load"]})
    n = PLAIN.times_ms["e2e"].size
    assert stretched.times_ms["e2e"][:n].tolist() == PLAIN.times_ms["e2e"].tolist()
    assert LIMIT_MS in stretched.times_ms["e2e"]
    assert stretched.survival["e2e"].shape == (2, 3, stretched.times_ms["e2e"].size)


def test_a_ratio_of_one_changes_nothing() -> None:
    same = PLAIN.stretched({"e2e": np.ones((2, 3))})
    assert same.times_ms["e2e"].tolist() == PLAIN.times_ms["e2e"].tolist()
    assert same.survival["e2e"] == pytest.approx(PLAIN.survival["e2e"], abs=1e-12)
    assert same.mean_ms["e2e"] == pytest.approx(PLAIN.mean_ms["e2e"], rel=1e-12)


def test_other_metrics_work_and_loads_stay() -> None:
    stretched = PLAIN.stretched({"e2e": np.full((2, 3), 2.0)})
    assert stretched.survival["ttft"] is PLAIN.survival["ttft"]
    assert stretched.mean_ms["ttft"] is PLAIN.mean_ms["ttft"]
    assert stretched.work_s is PLAIN.work_s
    assert stretched.loads is PLAIN.loads
    assert PLAIN.times_ms["e2e"].size == grid().size  # the table itself is left alone


@given(st.lists(st.floats(1.0, 50.0), min_size=6, max_size=6))
def test_survival_falls_with_time_and_never_with_the_load(ratios: list[float]) -> None:
    stretched = PLAIN.stretched({"e2e": np.array(ratios).reshape(2, 3)})
    assert (np.diff(stretched.times_ms["e2e"]) > 0).all()
    assert (np.diff(stretched.survival["e2e"], axis=2) <= 1e-12).all()
    assert (np.diff(stretched.survival["e2e"], axis=1) >= 0).all()
    assert (np.diff(stretched.mean_ms["e2e"], axis=1) >= 0).all()
    # Slower never misses a time less often.
    n = PLAIN.times_ms["e2e"].size
    assert (stretched.survival["e2e"][:, :, :n] >= PLAIN.survival["e2e"] - 1e-12).all()


# ---- What was learned, put on a table ------------------------------------------------------------


def lesson(name: str | None, ratio: dict[float, float], pool: str = "p") -> Learned:
    return Learned.model_validate(
        {
            "class": name,
            "pool": pool,
            "metric": "e2e",
            "load_ratio": tuple(ratio),
            "slower_ratio": tuple(ratio.values()),
        }
    )


def test_a_lesson_is_linear_between_its_loads_and_constant_outside() -> None:
    learned = (lesson("chat", {0.2: 2.0, 0.6: 4.0}),)
    found = corrected(PLAIN, learned, NAMES)
    asked = PLAIN.stretched({"e2e": np.array([[2.0, 3.0, 4.0], [1.0, 1.0, 1.0]])})
    assert found.mean_ms["e2e"].tolist() == asked.mean_ms["e2e"].tolist()
    assert found.survival["e2e"].tolist() == asked.survival["e2e"].tolist()


def test_a_class_that_is_not_named_follows_the_entry_without_a_class() -> None:
    learned = (lesson(None, {0.4: 3.0}), lesson("chat", {0.4: 1.5}))
    found = corrected(PLAIN, learned, NAMES).mean_ms["e2e"] / PLAIN.mean_ms["e2e"]
    assert found == pytest.approx(np.array([[1.5] * 3, [3.0] * 3]))


def test_lessons_of_other_pools_and_tables_without_latency_change_nothing() -> None:
    assert corrected(PLAIN, (lesson(None, {0.4: 3.0}, pool="q"),), NAMES) is PLAIN
    unknown = replace(PLAIN, has_latency=False)
    assert corrected(unknown, (lesson(None, {0.4: 3.0}),), NAMES) is unknown


@pytest.mark.parametrize("loads", [(0.4, 0.4), (0.6, 0.4)])
def test_loads_of_a_lesson_ascend(loads: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="load_ratio ascends"):
        Learned.model_validate(
            {
                "class": None,
                "pool": "p",
                "metric": "e2e",
                "load_ratio": loads,
                "slower_ratio": (1.0, 2.0),
            }
        )
