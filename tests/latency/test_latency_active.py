"""Active profiling: the next load is the one that shrinks the widest band most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_latency_fit import closed

from planner.latency.active import next_load, widest_band_ratio
from planner.latency.bands import NO_LOAD_RATIO

LOW, HIGH = 1.0, 256.0


def test_the_choice_is_the_best_of_all_loads():
    points = [closed(n) for n in (1, 3, 256)]
    chosen = next_load(points, LOW, HIGH)
    # Independent of the candidates: add a point that lies on the law at every load and look.
    after = {n: widest_band_ratio([*points, closed(n)], LOW, HIGH) for n in range(2, 256, 5)}
    best = min(after.values())
    assert widest_band_ratio([*points, closed(chosen.concurrency)], LOW, HIGH) <= 1.1 * best
    assert chosen.band_now_ratio == widest_band_ratio(points, LOW, HIGH)
    assert chosen.band_then_ratio < chosen.band_now_ratio


def test_between_two_ends_the_middle_is_measured():
    points = [closed(1), closed(256)]
    assert next_load(points, LOW, HIGH).concurrency == pytest.approx(16, rel=0.1)


def test_a_wide_gap_comes_before_a_narrow_one():
    points = [closed(n) for n in (1, 2, 4, 8, 16, 256)]
    assert 32 <= next_load(points, LOW, HIGH).concurrency <= 128


def test_without_the_heavy_end_the_heavy_end_comes_first():
    points = [closed(n) for n in (1, 4, 16)]
    assert next_load(points, LOW, HIGH).concurrency > 64


def test_loads_that_are_measured_are_not_chosen_again():
    points = []
    for _ in range(8):
        chosen = next_load(points, LOW, HIGH)
        assert all(abs(np.log(chosen.concurrency / p.concurrency)) > np.log(1.1) for p in points)
        points.append(closed(chosen.concurrency))
    assert widest_band_ratio(points, LOW, HIGH) < 0.1
    assert min(p.concurrency for p in points) == 1.0


def test_nothing_measured_is_nothing_known():
    assert widest_band_ratio([], LOW, HIGH) == NO_LOAD_RATIO
    first = next_load([], LOW, HIGH)
    assert first.band_now_ratio == NO_LOAD_RATIO and first.band_then_ratio < NO_LOAD_RATIO


def test_a_pool_that_misbehaves_gets_a_wider_band():
    loads = (1, 4, 16, 64, 256)
    tame = [closed(n) for n in loads]
    wild = [closed(n, factor=f) for n, f in zip(loads, (1, 0.7, 1.2, 0.8, 1.1), strict=True)]
    assert widest_band_ratio(wild, LOW, HIGH) > 1.5 * widest_band_ratio(tame, LOW, HIGH)


def test_a_range_of_one_load():
    chosen = next_load([closed(4)], 4.0, 4.0)
    assert chosen.concurrency == 4.0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    loads=st.lists(st.integers(1, 256), min_size=1, max_size=6, unique=True),
    more=st.integers(1, 256),
)
def test_a_further_load_that_fits_never_widens_the_band(loads, more):
    points = [closed(n) for n in loads]
    before = widest_band_ratio(points, LOW, HIGH)
    assert widest_band_ratio([*points, closed(more)], LOW, HIGH) <= before * 1.1
    assert next_load(points, LOW, HIGH) == next_load(list(reversed(points)), LOW, HIGH)
