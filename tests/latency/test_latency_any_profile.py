"""Any profile at all: fit says what to measure, or all that it tells is finite and ordered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_latency_fit import closed, profile

from planner.errors import FitError
from planner.latency.fit import fit
from planner.latency.predict import Condition, figures
from planner.spec.base import METRICS, STATISTICS
from planner.spec.pool import Point
from planner.spec.workload import RequestShape

TIMES_MS = st.floats(0.01, 1e6)
TOKENS = st.one_of(st.floats(1.0, 2e5), st.sampled_from([0.5, 1.0, 1.5, 2.0]))
LOADS = st.one_of(st.floats(0.01, 1e3), st.sampled_from([1.0, 4.0, 8.0, 1e6]))
COLUMNS = ("output_tokens_per_s", *(f"{m}_{s}_ms" for m in (*METRICS, "itl") for s in STATISTICS))


@st.composite
def rows(draw):
    mode = draw(st.sampled_from(["open", "closed", "batch"]))
    load = draw(LOADS)
    known = {column: draw(TIMES_MS) for column in draw(st.sets(st.sampled_from(COLUMNS)))}
    if mode == "open":
        known["offered_rps"] = load
        if draw(st.booleans()):
            known["achieved_rps"] = load * draw(st.floats(0.5, 1.0))
    else:
        known["concurrency"] = load
    if draw(st.booleans()):
        known |= {"n_requests": 100, "n_failed": draw(st.integers(0, 100))}
    return Point(
        input_tokens=draw(TOKENS), output_tokens=draw(TOKENS), mode=mode, source="test", **known
    )


def check_table(model, request):
    table = model.tabulate([request, None], np.ones(2))
    assert np.isfinite(table.work_s[0]) and table.work_s[0] > 0
    assert np.all(np.diff(table.loads) > 0)
    for metric in METRICS:
        mean, survival, band = (
            table.mean_ms[metric],
            table.survival[metric],
            table.band_ratio[metric],
        )
        assert np.all(np.isfinite(mean)) and np.all(mean > 0), metric
        assert np.all(np.diff(mean, axis=1) >= -1e-9 * mean[:, 1:]), metric
        assert np.all((survival >= 0) & (survival <= 1)), metric
        assert np.all(np.diff(survival, axis=2) <= 1e-12), metric
        assert np.all(np.isfinite(band)) and np.all(band >= 0), metric
    return table


def check_figures(model, at):
    for column, figure in figures(model, at).items():
        assert np.isfinite([figure.value, figure.low, figure.high]).all(), column
        assert 0 < figure.low <= figure.value <= figure.high, column


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    points=st.lists(rows(), min_size=1, max_size=5),
    places=st.one_of(st.none(), st.integers(1, 512)),
    cache=st.one_of(st.none(), st.integers(1, 200_000)),
    facts=st.booleans(),
    load=LOADS,
)
def test_any_profile_makes_a_finite_model_or_says_what_to_measure(
    points, places, cache, facts, load
):
    settings = {"max_num_seqs": places, "kv_capacity_tokens": cache}
    try:
        model = fit(profile(points, facts, **settings))
    except FitError:
        return
    assert np.all(np.isfinite(model.law.theta)) and np.all(model.law.theta >= 0)
    request = RequestShape(np.array([20.0, 700.0]), np.array([1.0, 50.0, 400.0]))
    check_table(model, request)
    last = points[-1]
    for mode in ("open", "closed", "batch"):
        check_figures(model, Condition(mode, last.input_tokens, last.output_tokens, load))
    assert fit(profile(points, facts, **settings)).law == model.law


def opened(rate_rps, **figures_ms):
    return Point(
        input_tokens=300,
        output_tokens=200,
        mode="open",
        offered_rps=rate_rps,
        source="test",
        **figures_ms,
    )


def one_token(n):
    return Point(
        input_tokens=300,
        output_tokens=1,
        mode="closed",
        concurrency=n,
        e2e_p50_ms=10.0 + n,
        source="test",
    )


@pytest.mark.parametrize(
    ("points", "pool"),
    [
        ([closed(16)], {}),
        ([closed(4), closed(4, factor=1.1)], {}),
        ([closed(1), closed(10**6)], {}),
        ([one_token(n) for n in (1, 4, 16)], {}),
        ([opened(r, tpot_p50_ms=10.0 + r, ttft_p50_ms=40.0) for r in (1, 2, 4)], {}),
        ([opened(r, e2e_mean_ms=2000.0 + 300 * r) for r in (1, 2, 4)], {}),
        ([closed(n) for n in (1, 8, 64)], {"kv_capacity_tokens": 900}),
        ([closed(n) for n in (1, 8, 64)], {"kv_capacity_tokens": 1, "max_num_seqs": 1}),
    ],
    ids=["1 load", "equal", "million", "1 token", "p50 only", "open only", "tight", "no room"],
)
def test_extremes(points, pool):
    model = fit(profile(points, facts=False, **pool))
    last = points[-1]
    at = Condition(last.mode, last.input_tokens, last.output_tokens, last.concurrency or 1.5)
    check_table(model, RequestShape(np.array([300.0]), np.array([1.0, 200.0])))
    assert figures(model, at)
    check_figures(model, at)


def test_a_ttft_of_an_open_loop_at_an_unknown_batch_still_corrects_the_ttft():
    loads = [closed(n) for n in (1, 8, 64)]
    bare = fit(profile(loads))
    told = figures(bare, Condition("open", 300.0, 200.0, 4.0))["ttft_mean_ms"]
    model = fit(profile([*loads, opened(4.0, ttft_mean_ms=1.5 * told.value)]))
    found = figures(model, Condition("open", 300.0, 200.0, 4.0))["ttft_mean_ms"]
    assert found.value == pytest.approx(1.5 * told.value, rel=0.01)
    check_table(model, RequestShape(np.array([300.0]), np.array([200.0])))


def test_a_growing_queue_corrects_nothing():
    loads = [closed(n) for n in (1, 8, 64)]
    flooded = opened(6.0, achieved_rps=4.0, ttft_mean_ms=60_000.0, tpot_mean_ms=30.0)
    model = fit(profile([*loads, flooded]))
    assert model.ttft_correction == model.tpot_correction == fit(profile(loads)).ttft_correction
    assert model.bands.origin["ttft"] == "estimated"
