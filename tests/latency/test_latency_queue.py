"""More requests in flight than places: only max_num_seqs run, the rest waits (made-up engine)."""

from __future__ import annotations

import numpy as np
import pytest
from test_latency_fit import TRUTH, closed, profile, shape

from planner.latency.fit import fit
from planner.latency.loadcurve import Full, LoadCurve
from planner.latency.moments import MixMoments
from planner.latency.observation import observations
from planner.latency.predict import Condition, figures
from planner.spec.pool import Point

PLACES = 4
PROMPT, OUTPUT = 300.0, 200.0
MIX = MixMoments.of_point(PROMPT, OUTPUT)
FIRST_MS = 60.0  # from getting a place to the first token
COLUMNS = ("output_tokens_per_s", "achieved_rps", "ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms")


def cycle_ms(in_flight):
    """(E2E, wait for a place) of users who ask again at once, on PLACES equal servers, by events.

    Every answer takes what TRUTH says with min(in_flight, PLACES) running.
    """
    running = min(in_flight, PLACES)
    serve = OUTPUT * float(TRUTH.token_ms(np.array([float(running)]), MIX)[0])
    free = [serve * i / running for i in range(running)]  # staggered, as they end up
    asked = [0.0] * in_flight  # first come, first served
    e2e, wait = [], []
    n_answers = 20 * in_flight + 100
    for _ in range(n_answers):
        place = int(np.argmin(free))
        since = asked.pop(0)
        start = max(free[place], since)
        free[place] = start + serve
        asked.append(free[place])
        e2e.append(free[place] - since)
        wait.append(start - since)
    steady = slice(n_answers // 2, None)
    return float(np.mean(e2e[steady])), float(np.mean(wait[steady]))


def measured(in_flight, only=COLUMNS, mode="closed"):
    e2e, wait = cycle_ms(in_flight)
    step = float(TRUTH.token_ms(np.array([float(min(in_flight, PLACES))]), MIX)[0])
    known = {
        "achieved_rps": 1000 * in_flight / e2e,
        "output_tokens_per_s": 1000 * in_flight * OUTPUT / e2e,
        "ttft_mean_ms": FIRST_MS + wait,
        "tpot_mean_ms": 0.98 * step,
        "e2e_mean_ms": e2e,
    }
    return Point(
        input_tokens=PROMPT,
        output_tokens=OUTPUT,
        mode=mode,
        concurrency=in_flight,
        source="test",
        **{column: known[column] for column in only},
    )


def pool(loads, only=COLUMNS):
    return profile([measured(n, only) for n in loads], max_num_seqs=PLACES)


def at(in_flight):
    return Condition("closed", PROMPT, OUTPUT, float(in_flight))


@pytest.mark.parametrize(
    "only", [["output_tokens_per_s"], ["achieved_rps"], ["e2e_mean_ms"], list(COLUMNS)]
)
def test_a_full_engine_tells_the_step_of_its_places(only):
    for in_flight in (1, 4, 8, 30):
        (row, *_), unused = observations([measured(in_flight, only)], PLACES)
        n = min(in_flight, PLACES)
        assert row.n == n and unused == 0
        assert row.time_ms == pytest.approx(
            float(TRUTH.token_ms(np.array([float(n)]), MIX)[0]), rel=0.01
        )


def test_waiting_is_not_a_first_token_time():
    assert not any(r.kind == "ttft" for r in observations([measured(8)], PLACES)[0])
    assert any(r.kind == "ttft" for r in observations([measured(4)], PLACES)[0])


def test_an_open_loop_that_waits_says_nothing_of_the_step():
    row = {"input_tokens": PROMPT, "output_tokens": OUTPUT, "mode": "open", "source": "test"}
    waiting = Point(**row, offered_rps=2.0, e2e_mean_ms=4000.0)  # 8 in the system
    assert observations([waiting], PLACES) == ([], 1)
    assert observations([waiting], 16)[0][0].n == pytest.approx(9.0)


@pytest.mark.parametrize("loads", [(1, 2, 4), (1, 2, 4, 8), (1, 2, 8, 16)])
def test_beyond_the_places_throughput_is_flat_and_ttft_grows_by_the_queue(loads):
    model = fit(pool(loads))
    assert model.max_num_seqs == PLACES and model.measured_concurrency == (1.0, PLACES)
    for in_flight in (4, 6, 8, 12, 16, 64, 200):
        truth, found = measured(in_flight), figures(model, at(in_flight))
        for column in COLUMNS:
            between = column.startswith("ttft") and in_flight == 4 and 4 not in loads
            within = 0.2 if between else 0.01
            assert found[column].value == pytest.approx(getattr(truth, column), rel=within), (
                in_flight,
                column,
            )
            assert found[column].extrapolated == (in_flight > 1.1 * max(loads)), column
    rate = model.closed_loop_rps(shape(PROMPT, OUTPUT), 64)
    assert rate == pytest.approx(measured(64).achieved_rps, rel=0.005)


def test_what_nobody_measured_in_the_queue_follows_from_the_law():
    model = fit(pool((1, 2, 4), ["output_tokens_per_s"]))
    e2e, wait = cycle_ms(20)
    found = figures(model, at(20))
    assert found["e2e_mean_ms"].value == pytest.approx(e2e, rel=0.01)
    assert found["ttft_mean_ms"].value == pytest.approx(wait, rel=0.05)
    assert found["ttft_mean_ms"].value > wait


def test_eight_in_flight_on_four_places_are_not_a_step_of_eight():
    full = fit(pool((1, 2, 4, 8)))
    fewer = fit(pool((1, 2, 4)))
    n = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(full.law.token_ms(n, MIX), fewer.law.token_ms(n, MIX), rtol=0.01)
    assert full.capacity_rps(shape(PROMPT, OUTPUT)) == pytest.approx(
        fewer.capacity_rps(shape(PROMPT, OUTPUT)), rel=0.005
    )
    unlimited = fit(profile([measured(n) for n in (1, 2, 4, 8)]))
    assert unlimited.measured_concurrency == (1.0, 8.0)


def test_a_batch_beyond_the_places_runs_in_waves():
    one, three = measured(4, ["e2e_mean_ms"], "batch"), measured(12, ["e2e_mean_ms"], "batch")
    assert three.e2e_mean_ms == pytest.approx(3 * one.e2e_mean_ms, rel=0.01)
    (row,), _ = observations([three], PLACES)
    assert row.n == PLACES and row.time_ms == pytest.approx(one.e2e_mean_ms / OUTPUT, rel=0.01)


@pytest.mark.parametrize("mode", ["closed", "batch"])
def test_figures_rise_through_the_knee_without_a_jump(mode):
    points = [closed(n).model_copy(update={"mode": mode}) for n in (1, 2, 8, 16)]
    model = fit(profile(points, max_num_seqs=5))
    loads = np.geomspace(0.5, 60.0, 400)
    found = [figures(model, Condition(mode, PROMPT, OUTPUT, float(n))) for n in loads]
    slowest_ms = 1000.0 / min(f["achieved_rps"].value for f in found if f)
    for column in ("ttft_mean_ms", "e2e_mean_ms"):
        values = np.array([f[column].value for f in found])
        assert np.all(np.diff(np.log(values)) > -1e-9), column
        # No jump: one more in flight costs no more than its turn at the slowest rate.
        assert np.all(np.diff(values) <= 1.1 * slowest_ms * np.diff(loads)), column


def test_the_curve_above_the_places_is_a_straight_line():
    curve = LoadCurve(
        np.log([2.0, 8.0]), np.zeros(2), np.log([10.0, 25.0]), 0.0, Full(np.log(4.0), np.log(13.0))
    )

    def value(load, base):
        return float(np.exp(curve.at(np.log(load), np.log(base))))

    assert value(4.0, 13.0) == pytest.approx(13.0)
    assert value(6.0, 99.0) == pytest.approx(19.0)
    assert value(16.0, 49.0) == pytest.approx(49.0)
    assert value(3.0, 11.0) == pytest.approx(11.0)
