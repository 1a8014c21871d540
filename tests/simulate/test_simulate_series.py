"""Time series of a run against sampling it moment by moment."""

import time
from dataclasses import replace

import numpy as np
import pytest
from made_runs import in_ps, records, usage

from planner.simulate.records import Outcome
from planner.simulate.series import busy_spans_s, held_tokens, mean_level, time_series
from planner.simulate.units import PS_PER_S

EDGES = np.linspace(0.0, 10.0, 6)


def random_run(seed: int, n: int = 300, until_s: float = 50.0):
    random = np.random.default_rng(seed)
    return records(
        np.sort(random.uniform(0, until_s, n)),
        random.gamma(2, 0.05, n),
        random.gamma(9, 0.002, n),
        output_tokens=random.integers(1, 80, n),
        class_index=random.integers(0, 2, n),
        pool_index=random.integers(0, 2, n),
        replica_index=random.integers(0, 3, n),
        outcome=random.choice([0, 0, 0, 0, 1, 2, 3], n),
    )


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0.0, 10.0), [1, 1, 1, 1, 1]),
        ((1.0, 5.0), [0.5, 1, 0.5, 0, 0]),
        ((2.0, 4.0), [0, 1, 0, 0, 0]),
        ((-3.0, 1.0), [0.5, 0, 0, 0, 0]),
        ((9.0, 99.0), [0, 0, 0, 0, 0.5]),
        ((3.0, 3.0), [0, 0, 0, 0, 0]),
        ((11.0, 12.0), [0, 0, 0, 0, 0]),
    ],
)
def test_one_span(span, expected):
    start_s, end_s = (np.array([t]) for t in span)
    np.testing.assert_allclose(mean_level(start_s, end_s, EDGES), expected, atol=1e-12)
    weighted = mean_level(start_s, end_s, EDGES, np.array([3.0]))
    np.testing.assert_allclose(weighted, 3 * np.array(expected), atol=1e-12)


def test_no_span_is_level_zero():
    assert mean_level(np.empty(0), np.empty(0), EDGES).tolist() == [0] * 5


def test_no_level_is_below_zero_by_rounding():
    run = random_run(3, n=5, until_s=7.0)
    series = time_series(run, usage((3, 3)), 50 * PS_PER_S)
    assert series.n_waiting_mean.min() == series.n_decoding_mean.min() == 0.0


def overlap(start_s, end_s, edges_s, weights):
    """The mean level by clipping every span to every bucket."""
    low = np.maximum(start_s[:, None], edges_s[None, :-1])
    high = np.minimum(end_s[:, None], edges_s[None, 1:])
    return (np.maximum(high - low, 0) * weights[:, None]).sum(axis=0) / np.diff(edges_s)


@pytest.mark.parametrize("seed", range(5))
def test_levels_are_the_overlaps_of_all_spans(seed):
    run = random_run(seed)
    series = time_series(run, usage((3, 3)), 50 * PS_PER_S, n_buckets=17)
    here = run.is_answered
    a, f, d = (t[here] / PS_PER_S for t in (run.arrived_ps, run.first_ps, run.done_ps))
    ones = np.ones(a.size)
    edges = series.edges_s
    np.testing.assert_allclose(series.n_waiting_mean, overlap(a, f, edges, ones), atol=1e-9)
    np.testing.assert_allclose(series.n_decoding_mean, overlap(f, d, edges, ones), atol=1e-9)
    kv = overlap(f, d, edges, held_tokens(run)[here]) / 60_000
    np.testing.assert_allclose(series.kv_ratio, kv, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pool", [None, 1])
def test_busy_is_what_sampling_sees(seed, pool):
    run = random_run(seed, until_s=30.0)
    series = time_series(run, usage((3, 3)), 30 * PS_PER_S, pool, n_buckets=6)
    moments = np.linspace(0, 30, 6 * 400, endpoint=False) + 0.006
    busy = np.zeros(moments.size)
    for p in (0, 1) if pool is None else (pool,):
        for r in range(3):
            here = run.is_answered & (run.pool_index == p) & (run.replica_index == r)
            a, d = run.arrived_ps[here] / PS_PER_S, run.done_ps[here] / PS_PER_S
            busy += ((a[:, None] <= moments) & (moments < d[:, None])).any(axis=0)
    sampled = busy.reshape(6, 400).mean(axis=1) / (6 if pool is None else 3)
    np.testing.assert_allclose(series.busy_ratio, sampled, atol=0.02)


def test_busy_spans_join_what_overlaps():
    run = records([0.0, 0.5, 4.0, 4.0], 0.9, replica_index=[0, 0, 1, 0])
    starts, ends = busy_spans_s(run, run.is_answered)
    np.testing.assert_allclose(sorted(zip(starts, ends, strict=True)), [(0, 1.5), (4, 5), (4, 5)])
    nothing = busy_spans_s(run, ~run.is_answered)
    assert [part.size for part in nothing] == [0, 0]


def test_arrivals_and_latency_are_by_time_of_arrival():
    run = records([0.0, 1.0, 2.5, 9.5, 10.0], [0.1, 0.3, 9.0, 0.4, 0.6])
    series = time_series(run, usage(), 10 * PS_PER_S, n_buckets=5)
    np.testing.assert_allclose(series.arrivals_rps, [1, 0.5, 0, 0, 1])
    np.testing.assert_allclose(series.ttft_p95_ms, [290, 9000, np.nan, np.nan, 590])


def test_a_pool_is_seen_alone_and_what_is_not_answered_arrives_only():
    run = records([0.0, 1.0, 2.0], 0.5, pool_index=[0, 1, 1], outcome=[0, 0, Outcome.FAILED])
    big = time_series(run, usage((1, 2)), 4 * PS_PER_S, pool_index=1, n_buckets=1)
    assert big.arrivals_rps.tolist() == [0.5]
    np.testing.assert_allclose(big.n_waiting_mean, [0.125])
    np.testing.assert_allclose(big.n_decoding_mean, [0.025])
    np.testing.assert_allclose(big.busy_ratio, [0.6 / 4 / 2])


def test_pools_without_a_kv_cache_have_no_share_of_it():
    series = time_series(records([0.0], 0.5), usage(kv_capacity_tokens=0), PS_PER_S)
    assert np.isnan(series.kv_ratio).all()


def test_a_hosted_pool_fills_no_cache_and_keeps_no_replica_busy():
    hosted = replace(usage((2, 1)), kv_capacity_tokens=np.array([10_000, 10_000, 0]))
    run = random_run(4)
    mine = replace(run, outcome=np.where(run.pool_index == 1, Outcome.FAILED, run.outcome))
    mine, run = (replace(each, replica_index=each.replica_index % 2) for each in (mine, run))
    end_ps = int(run.done_ps.max())
    both, alone = (time_series(each, hosted, end_ps) for each in (run, mine))
    np.testing.assert_allclose(both.kv_ratio, alone.kv_ratio, atol=1e-12)
    np.testing.assert_allclose(both.busy_ratio, alone.busy_ratio, atol=1e-12)
    assert both.n_decoding_mean.sum() > alone.n_decoding_mean.sum()
    away = time_series(run, hosted, end_ps, pool_index=1)
    assert np.isnan(away.kv_ratio).all() and not away.busy_ratio.any()


def test_waiting_and_decoding_obey_little():
    run = random_run(9)
    end_ps = int(run.done_ps.max())
    series = time_series(run, usage((3, 3)), end_ps)
    here, end_s = run.is_answered, end_ps / PS_PER_S
    in_flight = (series.n_waiting_mean + series.n_decoding_mean).mean()
    rate_rps = here.sum() / end_s
    mean_s = (run.done_ps - run.arrived_ps)[here].mean() / PS_PER_S
    assert in_flight == pytest.approx(rate_rps * mean_s, rel=1e-9)


def test_a_month_is_as_exact_as_a_minute():
    month_s = 30 * 86_400.0
    n = 48_000  # 400 in every bucket
    arrived = (np.arange(n) + 0.5) * month_s / n
    run = records(arrived, 0.25, 0.0, output_tokens=1)
    series = time_series(run, usage(), int(in_ps([month_s])[0]))
    np.testing.assert_allclose(series.n_waiting_mean, n * 0.25 / month_s, rtol=1e-4)


def test_a_million_requests_take_about_a_second():
    n = 1_000_000
    random = np.random.default_rng(0)
    run = records(np.sort(random.uniform(0, 1800, n)), 0.2, replica_index=random.integers(0, 50, n))
    began = time.process_time()
    time_series(run, usage((50, 50)), 1800 * PS_PER_S)
    assert time.process_time() - began < 3.0  # 0.6 on an idle core
