"""Scores against sampled requests, sums by hand, and the even-split truth of the routing room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.routing import truth
from planner.score import Figure, Score, score
from planner.spec.arrays import FloatArray
from planner.spec.base import METRICS, Metric, Statistic
from planner.spec.question import LatencyObjective, Limit
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit, Workload

LOADS = np.array([0.0, 0.25, 0.5, 0.75, 0.95])
SCALE: dict[Metric, float] = {"ttft": 0.1, "tpot": 0.01, "e2e": 1.0}  # ms of each metric per base
OBJECTIVE = LatencyObjective()


def scoped(name: str | None, metric: Metric, statistic: Statistic, at_most_ms: float = 1.0):
    return ScopedLimit(name, Limit(metric=metric, statistic=statistic, at_most_ms=at_most_ms))


def table(name: str, work_s, base_ms, **changes) -> PoolTable:
    """A pool with exponential latencies of mean base_ms / (1 - load), by class."""
    base = np.asarray(base_ms, dtype=float)
    work = np.asarray(work_s, dtype=float)
    means = {m: SCALE[m] * base[:, None] / (1.0 - LOADS) for m in METRICS}
    times = {m: SCALE[m] * np.geomspace(0.5, 2e5, 1500) for m in METRICS}
    fields = {
        "pool": name,
        "work_s": work,
        "mix": np.full(work.size, 1.0 / work.size),
        "loads": LOADS,
        "mean_ms": means,
        "times_ms": times,
        "survival": {m: np.exp(-times[m] / means[m][:, :, None]) for m in METRICS},
        "band_ratio": {m: np.full(LOADS.size, 0.2) for m in METRICS},
        "extrapolated": np.zeros(LOADS.size, dtype=bool),
        "origin": dict.fromkeys(METRICS, "measured"),
    }
    return PoolTable(**(fields | changes))


def workload_of(rates, quality, limits=(), **changes) -> Workload:
    quality = np.asarray(quality, dtype=float)
    n, n_pools = quality.shape
    shape = RequestShape(np.array([100.0]), np.array([30.0, 50.0]))
    fields = {
        "class_names": tuple("abcdef"[:n]),
        "pool_names": tuple(f"p{p}" for p in range(n_pools)),
        "rate_rps": np.asarray(rates, dtype=float),
        "mean_rate_rps": np.asarray(rates, dtype=float),
        "quality": quality,
        "allowed": np.isfinite(quality),
        "shapes": tuple(tuple(shape if np.isfinite(q) else None for q in row) for row in quality),
        "limits": tuple(limits),
        "quality_at_least": None,
        "class_quality_at_least": np.full(n, np.nan),
        "priority": np.ones(n),
        "request_usd": np.zeros((n, n_pools)),
        "origin": "measured",
    }
    return Workload(**(fields | changes))


# Two classes, two pools; with these shares the loads are grid loads, so the laws are exponential.
RATES = np.array([4.0, 1.0])
SHARES = np.array([[0.25, 0.75], [1.0, 0.0]])
REPLICAS = np.array([2, 3])
TABLES = (table("p0", [0.5, 0.5], [800.0, 3000.0]), table("p1", [0.25, np.nan], [200.0, 1.0]))
QUALITY = np.array([[0.9, 0.5], [0.7, np.nan]])
LIMITS = (
    scoped("a", "e2e", "p95", 4000.0),
    scoped("b", "e2e", "p90", 20_000.0),
    scoped(None, "ttft", "p99", 2500.0),
    scoped(None, "tpot", "mean", 40.0),
)
WORKLOAD = workload_of(RATES, QUALITY, LIMITS)


def scored(workload: Workload = WORKLOAD, shares: FloatArray = SHARES, **changes) -> Score:
    tables = changes.pop("tables", TABLES)
    replicas = np.asarray(changes.pop("replicas", REPLICAS))
    return score(workload, tables, replicas, shares, changes.pop("headroom", 0.1), OBJECTIVE)


def figure(result: Score, name: str | None, metric: Metric, statistic: Statistic) -> Figure:
    (found,) = (
        f
        for f in result.figures
        if (f.class_name, f.metric, f.statistic) == (name, metric, statistic)
    )
    return found


@pytest.fixture(scope="module")
def sampled() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class, pool and e2e latency in ms of many routed requests."""
    random = np.random.default_rng(11)
    n = 1_000_000
    cls = (random.random(n) < RATES[1] / RATES.sum()).astype(int)
    pool = np.where(random.random(n) < SHARES[cls, 0], 0, 1)
    base = np.array([[800.0, 200.0], [3000.0, np.nan]])
    load = np.array([0.5, 0.25])
    return cls, pool, random.exponential(base[cls, pool] / (1.0 - load[pool]))


def test_loads_are_grid_loads() -> None:
    assert scored().loads == pytest.approx([0.5, 0.25])
    assert scored().utilisation == pytest.approx([0.5 / 0.95, 0.25 / 0.95])


@pytest.mark.parametrize("name", [None, "a", "b"])
@pytest.mark.parametrize("statistic", ["mean", "p50", "p90", "p95", "p99"])
def test_latency_figures_are_those_of_sampled_requests(
    sampled, name: str | None, statistic: Statistic
) -> None:
    cls, _, e2e_ms = sampled
    mine = e2e_ms if name is None else e2e_ms[cls == "ab".index(name)]
    expected = mine.mean() if statistic == "mean" else np.quantile(mine, int(statistic[1:]) / 100)
    result = scored(replace(WORKLOAD, limits=(scoped(name, "e2e", statistic, 5000.0),)))
    found = figure(result, name, "e2e", statistic)
    assert found.ms == pytest.approx(expected, rel=0.01)
    assert found.ratio == pytest.approx(expected / 5000.0, rel=0.01)
    assert result.latency_ratio == found.ratio
    assert (found.low_ms, found.high_ms) == pytest.approx((0.8 * found.ms, 1.2 * found.ms))


def test_means_by_hand() -> None:
    by_pool = np.array([[1600.0, 800 / 3], [6000.0, 0.0]])
    by_class = (SHARES * by_pool).sum(axis=1)
    result = scored()
    assert figure(result, None, "e2e", "mean").ms == pytest.approx(RATES @ by_class / 5)
    assert figure(result, None, "tpot", "mean").ms == pytest.approx(RATES @ by_class / 500)


def test_goodput_is_that_of_sampled_requests(sampled) -> None:
    cls, pool, e2e_ms = sampled
    limits = (scoped("a", "e2e", "p95", 2000.0), scoped("b", "e2e", "p90", 5000.0))
    within = e2e_ms <= np.array([2000.0, 5000.0])[cls]
    expected = [RATES.sum() * (within & (pool == p)).mean() for p in range(2)]
    result = scored(replace(WORKLOAD, limits=limits))
    assert result.goodput_rps == pytest.approx(expected, rel=0.01)
    assert result.pool_rps == pytest.approx([2.0, 3.0])
    assert (result.goodput_rps < result.pool_rps).all()


def test_of_several_limits_the_hardest_counts_for_goodput() -> None:
    hard, easy = scoped("a", "e2e", "p95", 1000.0), scoped(None, "e2e", "p95", 3000.0)
    both = scored(replace(WORKLOAD, limits=(hard, easy))).goodput_rps
    late = np.exp(-np.array([1000 / 1600, 1000 / (800 / 3)]))
    late_b = np.exp(-3000 / 6000)
    assert both == pytest.approx([1 - late[0] + 1 - late_b, 3 * (1 - late[1])], rel=1e-3)
    means = scored(replace(WORKLOAD, limits=(scoped(None, "e2e", "mean", 10.0),)))
    assert means.goodput_rps == pytest.approx(means.pool_rps)  # no request violates a mean


def test_quality_tokens_and_hosted_money_by_hand() -> None:
    usd = np.array([[0.0, 0.002], [0.0, 0.001]])
    result = scored(replace(WORKLOAD, request_usd=usd))
    assert result.class_quality == pytest.approx([0.25 * 0.9 + 0.75 * 0.5, 0.7])
    assert result.quality == pytest.approx((4 * 0.6 + 1 * 0.7) / 5)
    assert result.output_tokens_per_s == pytest.approx([2 * 40.0, 3 * 40.0])
    assert result.hosted_usd_per_h == pytest.approx(3 * 0.002 * 3600)


def test_mix_shift_is_the_distance_to_the_mix_of_the_tables() -> None:
    assert scored().mix_shift_ratio == pytest.approx(0.5)  # p1: all a against half and half
    tables = (TABLES[0], replace(TABLES[1], mix=np.array([1.0, 0.0])))
    assert scored(tables=tables).mix_shift_ratio == pytest.approx(0.0)


def test_without_limits_the_objective_is_the_latency() -> None:
    free = scored(replace(WORKLOAD, limits=()))
    assert free.latency_ratio is None
    assert free.objective_ms == figure(free, None, "e2e", "p95").ms
    assert scored().objective_ms is None
    keys = [(f.class_name, f.metric, f.statistic) for f in free.figures]
    assert len(keys) == len(set(keys)) and ("b", "e2e", "p95") in keys


# ---- the same truth as the routing program's ------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_loads_and_limits_are_those_of_the_routing_room(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, n_pools = 4, 3
    quality = random.random((n, n_pools))
    quality[random.random(quality.shape) < 0.25] = np.nan
    quality[:, 0] = random.random(n)
    shares = np.where(np.isfinite(quality), random.random((n, n_pools)), 0.0)
    shares[random.random(shares.shape) < 0.3] = 0.0
    shares[:, 0] += 0.01
    shares /= shares.sum(axis=1, keepdims=True)
    shares[3] *= [1.0, 0.5, 0.0][seed % 3]  # all, half or none of a class is served
    tables = tuple(
        table(
            f"p{p}",
            np.where(np.isfinite(quality[:, p]), random.uniform(0.05, 0.4, n), np.nan),
            random.uniform(100.0, 3000.0, n),
            has_latency=bool(p != 2 or seed % 2),
        )
        for p in range(n_pools)
    )
    replicas = random.integers(1, 5, n_pools)
    statistics: list[Statistic] = ["mean", "p50", "p95", "p99"]
    limits = tuple(
        scoped(name, METRICS[int(random.integers(3))], statistic, 700.0)
        for name in (None, *"abcd")
        for statistic in statistics
    )
    work = workload_of(random.uniform(0.1, 2.0, n), quality, limits)
    result = scored(work, shares, tables=tables, replicas=replicas)
    load = truth.loads(work, tables, replicas, shares)
    assert result.loads == pytest.approx(load, rel=1e-12)
    for found, limit in zip(result.figures, limits, strict=False):
        assert found.label == limit.label
        value = truth.limit_value(work, tables, load, shares, limit)
        assert found.ms == pytest.approx(0.0 if np.isnan(value) else value, rel=1e-9)
        met = truth.limit_met(work, tables, load, shares, limit)
        if abs(found.ratio - 1.0) > 1e-3:
            assert met == (found.ratio < 1.0)
    ratios = [f.ratio for f in result.figures if f.at_most_ms is not None]
    assert len(ratios) == len(limits) and result.latency_ratio == max(ratios)
    assert np.isfinite(result.quality) and np.isfinite(result.goodput_rps).all()


# ---- what makes a plan unacceptable ---------------------------------------------------------


def test_a_plan_that_keeps_everything_has_no_problem() -> None:
    floors = np.array([0.6, 0.7])
    kept = replace(WORKLOAD, quality_at_least=0.62, class_quality_at_least=floors)
    assert scored(kept).problems == ()


BROKEN = {
    "p95 e2e of a is": replace(WORKLOAD, limits=(scoped("a", "e2e", "p95", 1000.0),)),
    "mean ttft of all traffic is": replace(WORKLOAD, limits=(scoped(None, "ttft", "mean", 9.0),)),
    "quality is 0.6200, floor 0.6300": replace(WORKLOAD, quality_at_least=0.63),
    "quality of b is 0.7000, floor 0.7500": replace(
        WORKLOAD, class_quality_at_least=np.array([0.5, 0.75])
    ),
    "p0 runs at": replace(WORKLOAD, rate_rps=RATES * 1.72),
}


@pytest.mark.parametrize("start", BROKEN)
def test_each_broken_promise_is_the_one_problem(start: str) -> None:
    work = BROKEN[start]
    if start == "p0 runs at":
        work = replace(work, limits=())
    (problem,) = scored(work).problems
    assert problem.startswith(start)


def test_headroom_is_a_share_of_what_the_table_allows() -> None:
    free = replace(WORKLOAD, limits=())
    just = 0.5 / 0.95
    assert scored(free, headroom=1 - just).problems == ()
    assert scored(free, headroom=1 - just + 1e-4).problems == (
        "p0 runs at 52.6% of its capacity, at most 52.6% leaves the headroom",
    )


def test_unserved_traffic_is_a_problem_and_counts_as_quality_zero() -> None:
    limited_mean = replace(WORKLOAD, limits=(scoped("a", "e2e", "mean", 4000.0),))
    result = scored(shares=SHARES * np.array([[0.75], [1.0]]))
    assert result.problems == ("25.00% of class a has no place to go",)
    assert result.class_quality == pytest.approx([0.75 * 0.6, 0.7])
    assert result.pool_rps.sum() == pytest.approx(4 * 0.75 + 1)
    # Latencies are over what is served: a still sends a quarter of it to p0.
    by_pool = np.array([800 / (1 - result.loads[0]), 200 / (1 - result.loads[1])])
    of_a = figure(
        scored(limited_mean, shares=SHARES * np.array([[0.75], [1.0]])), "a", "e2e", "mean"
    )
    assert of_a.ms == pytest.approx([0.25, 0.75] @ by_pool, rel=0.05)  # linear between grid loads


def test_a_class_that_is_not_served_at_all_has_no_latency() -> None:
    shares = SHARES * np.array([[1.0], [0.0]])
    result = scored(shares=shares)
    assert result.problems == ("100.00% of class b has no place to go",)
    assert figure(result, "b", "e2e", "p90").ms == 0.0  # limited: kept, with nothing in it
    keys = [(f.class_name, f.metric, f.statistic) for f in result.figures]
    assert ("b", "e2e", "p95") not in keys
    nothing = scored(replace(WORKLOAD, limits=()), SHARES * 0.0)
    assert nothing.figures == () and nothing.objective_ms is None and nothing.quality == 0.0


def test_shares_above_one_are_a_problem() -> None:
    assert (
        "the shares of class b sum to 110.00%"
        in scored(shares=SHARES * np.array([[1.0], [1.1]])).problems
    )


def test_traffic_without_a_replica_is_a_problem() -> None:
    result = scored(replace(WORKLOAD, limits=()), replicas=[2, 0])
    assert result.problems == ("p1 gets traffic but has no replica",)
    assert result.loads.tolist() == [0.5, np.inf]
    assert result.extrapolated == (False, False)
    idle = scored(replace(WORKLOAD, limits=()), np.array([[1.0, 0.0]] * 2), replicas=[5, 0])
    assert idle.problems == () and idle.loads.tolist() == [0.5, 0.0]


def test_only_pools_that_carry_something_are_marked_as_extrapolated() -> None:
    tables = tuple(replace(t, extrapolated=np.ones(LOADS.size, dtype=bool)) for t in TABLES)
    assert scored(tables=tables).extrapolated == (True, True)
    assert scored(tables=tables, replicas=[2, 0]).extrapolated == (True, False)
    unused = scored(shares=np.array([[1.0, 0.0]] * 2), tables=tables, replicas=[5, 3])
    assert unused.extrapolated == (True, False)


def test_requests_on_a_pool_that_they_may_not_use_are_unserved() -> None:
    shares = np.array([[0.25, 0.75], [0.5, 0.5]])
    result = scored(shares=shares)
    assert result.problems == ("p1 gets requests of class b, which may not use it",)
    assert result.class_quality[1] == pytest.approx(0.35)
    numbers = [result.quality, *result.loads, *result.goodput_rps, *(f.ms for f in result.figures)]
    assert np.isfinite(numbers).all()


def test_a_class_that_may_use_no_pool_is_unserved() -> None:
    work = replace(WORKLOAD, quality=np.array([[0.9, 0.5], [np.nan, np.nan]]))
    work = replace(work, allowed=np.isfinite(work.quality), shapes=(work.shapes[0], (None, None)))
    result = scored(work, np.array([[0.25, 0.75], [0.0, 0.0]]))
    assert result.problems == ("100.00% of class b has no place to go",)
    assert np.isfinite(result.quality)


def test_a_class_without_traffic_still_has_its_own_latency() -> None:
    work = replace(WORKLOAD, rate_rps=np.array([4.0, 0.0]))
    result = scored(work)
    assert result.loads == pytest.approx([0.25, 0.25])
    assert figure(result, "b", "e2e", "p90").ms == pytest.approx(4000 * np.log(10), rel=1e-3)
    assert figure(result, None, "tpot", "mean").ms == pytest.approx(
        figure(scored(replace(work, limits=())), None, "tpot", "mean").ms
    )
    assert result.quality == pytest.approx(0.6)


UNMEASURED = (TABLES[0], replace(TABLES[1], has_latency=False))


def test_a_limit_on_a_pool_without_measured_latency_is_a_problem() -> None:
    of_b = replace(WORKLOAD, limits=(scoped("b", "e2e", "p90", 20_000.0),))
    assert scored(of_b, tables=UNMEASURED).problems == ()
    of_a = replace(WORKLOAD, limits=(scoped("a", "e2e", "p95", 90_000.0),))
    found = scored(of_a, tables=UNMEASURED)
    assert found.problems == (
        "p1 carries what p95 e2e of a limits, and its latency is not measured",
    )
    assert found.goodput_rps == pytest.approx([2.0, 0.0])


def test_figures_without_a_limit_are_over_what_is_measured() -> None:
    free = replace(WORKLOAD, limits=())
    forever = {m: np.ones_like(t) for m, t in TABLES[1].survival.items()}
    unknown = (TABLES[0], replace(TABLES[1], has_latency=False, survival=forever))
    result = scored(free, tables=unknown)
    # a on p0 is 1 req/s with mean 1600 ms, b on p0 is 1 req/s with mean 6000 ms.
    assert figure(result, None, "e2e", "mean").ms == pytest.approx(3800.0)
    assert figure(result, "a", "e2e", "p95").ms == pytest.approx(1600 * np.log(20), rel=1e-3)
    assert result.objective_ms == np.inf  # three of five requests take nobody knows how long
    assert result.goodput_rps == pytest.approx(result.pool_rps)  # there is no limit to miss


def test_nothing_is_said_about_latency_where_nothing_is_measured() -> None:
    tables = tuple(replace(t, has_latency=False) for t in TABLES)
    result = scored(replace(WORKLOAD, limits=()), tables=tables)
    assert result.figures == () and result.problems == ()


def test_a_percentile_beyond_the_tables_is_infinite_and_a_problem() -> None:
    short = {m: TABLES[0].times_ms[m][:900] for m in METRICS}
    tables = (
        replace(
            TABLES[0],
            times_ms=short,
            survival={m: TABLES[0].survival[m][:, :, :900] for m in METRICS},
            band_ratio={m: np.full(LOADS.size, 1.5) for m in METRICS},
        ),
        TABLES[1],
    )
    work = replace(WORKLOAD, limits=(scoped("b", "e2e", "p99", 100.0),))
    result = scored(work, tables=tables)
    found = figure(result, "b", "e2e", "p99")
    assert (found.ms, found.low_ms, found.high_ms) == (np.inf, np.inf, np.inf)
    (problem,) = result.problems
    assert problem == "p99 e2e of b is beyond every time that was tabled, limit 100 ms"


def test_a_figure_is_as_good_as_the_worst_pool_that_it_is_made_of() -> None:
    tables = (TABLES[0], replace(TABLES[1], origin=dict.fromkeys(METRICS, "estimated")))
    result = scored(tables=tables)
    assert figure(result, "a", "e2e", "p95").origin == "estimated"
    assert figure(result, "b", "e2e", "p90").origin == "measured"  # b never goes to p1


def test_the_band_of_a_mixture_is_the_mean_of_its_pools() -> None:
    wide = replace(TABLES[1], band_ratio={m: np.full(LOADS.size, 0.6) for m in METRICS})
    found = figure(scored(tables=(TABLES[0], wide)), "a", "e2e", "p95")
    band = 0.25 * 0.2 + 0.75 * 0.6
    assert found.high_ms == pytest.approx(found.ms * (1 + band))
    assert found.low_ms == pytest.approx(found.ms * (1 - band))
    of_all = figure(scored(tables=(TABLES[0], wide)), None, "ttft", "p99")
    assert of_all.high_ms == pytest.approx(of_all.ms * (1 + (2 * 0.2 + 3 * 0.6) / 5))
