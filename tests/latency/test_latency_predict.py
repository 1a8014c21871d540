"""What a measurement would read at a load that nobody measured, and how sure that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_latency_fit import TRUTH, closed, profile, shape

from planner.errors import FitError
from planner.latency.fit import fit
from planner.latency.loadcurve import LoadCurve
from planner.latency.moments import MixMoments
from planner.latency.predict import Condition, figures
from planner.spec.pool import CapacityPoint, HostedPrice, Point, Pool, Profile
from planner.spec.table import quantile_ms

LOADS = (1, 4, 16, 64)
PROMPT, OUTPUT = 300.0, 200.0


def at(load, mode="closed", prompt=PROMPT, output=OUTPUT):
    return Condition(mode, prompt, output, float(load))


def truth(n):
    """(time per token, decode step) of the known law at n, in ms."""
    mix = MixMoments.of_point(PROMPT, OUTPUT)
    n = np.array([float(n)])
    return float(TRUTH.token_ms(n, mix)[0]), float(TRUTH.decode_ms(n, mix)[0])


def full(n, factor=1.0):
    """A closed-loop row with many figures, consistent with the known law."""
    token, step = truth(n)
    return Point(
        input_tokens=PROMPT,
        output_tokens=OUTPUT,
        mode="closed",
        concurrency=n,
        output_tokens_per_s=1000 * n / token / factor,
        achieved_rps=1000 * n / token / OUTPUT / factor,
        ttft_mean_ms=(3 * step + 12) * factor,
        ttft_p95_ms=(6 * step + 20) * factor,
        tpot_mean_ms=(step + TRUTH.prompt_token_ms * PROMPT / OUTPUT * (n - 1)) * factor,
        tpot_p95_ms=1.3 * token * factor,
        itl_p99_ms=2.5 * token * factor,
        e2e_mean_ms=OUTPUT * token * factor,
        source="test",
    )


def test_measured_loads_are_read_back():
    points = [full(n, f) for n, f in zip(LOADS, (1.0, 1.1, 0.95, 1.0), strict=True)]
    model = fit(profile(points))
    for point in points:
        found = figures(model, at(point.concurrency))
        for column, figure in found.items():
            assert figure.value == pytest.approx(getattr(point, column), rel=1e-9), column
            assert figure.low < figure.value < figure.high and not figure.extrapolated


def test_between_the_loads_the_known_law_is_met():
    model = fit(profile([full(n) for n in LOADS]))
    for n in (2, 8, 32):
        token, step = truth(n)
        found = figures(model, at(n))
        expected = {
            "output_tokens_per_s": 1000 * n / token,
            "achieved_rps": 1000 * n / token / OUTPUT,
            "e2e_mean_ms": OUTPUT * token,
            "tpot_p95_ms": 1.3 * token,
            "itl_p99_ms": 2.5 * token,
            "ttft_p95_ms": 6 * step + 20,
        }
        for column, value in expected.items():
            assert found[column].value == pytest.approx(value, rel=0.03), column
            assert found[column].low < value < found[column].high


def test_one_doubling_beyond_is_a_straight_line_and_further_is_refused():
    model = fit(profile([full(n) for n in LOADS]))
    token, _ = truth(128)
    found = figures(model, at(128))
    assert all(f.extrapolated for f in found.values())
    assert found["output_tokens_per_s"].value == pytest.approx(1000 * 128 / token, rel=0.05)
    e2e = {n: figures(model, at(n))["e2e_mean_ms"].value for n in (16, 64, 96)}
    line = e2e[64] + (e2e[64] - e2e[16]) / 48 * 32
    assert e2e[96] == pytest.approx(line, rel=1e-9)
    # Loads within 10 % are one load: a benchmark asked for 128 may have kept 140 in flight.
    assert figures(model, at(140)) and figures(model, at(142)) == {}


def test_bands_widen_with_the_distance_to_measured_loads():
    model = fit(profile([full(n) for n in LOADS]))

    def width(n, column="output_tokens_per_s"):
        figure = figures(model, at(n))[column]
        return np.log(figure.high / figure.low)

    assert width(4) < width(5) < width(8)
    assert width(64) < width(80) < width(128)
    assert width(1) < width(0.5) < width(0.1)
    assert width(8) < width(8, "tpot_p95_ms")


def test_no_band_is_narrower_than_the_repeat_noise():
    rng = np.random.default_rng(2)
    noise = 0.15
    points = [closed(n, factor=float(np.exp(rng.normal(0, noise)))) for n in LOADS for _ in "12345"]
    model = fit(profile(points))
    measured = [p.output_tokens_per_s for p in points if p.concurrency == 16]
    spread = float(np.std(np.log(measured), ddof=1))
    figure = figures(model, at(16))["output_tokens_per_s"]
    half = np.log(figure.high / figure.value)
    assert half > 1.645 * 0.6 * noise and half > 0.8 * spread
    inside = [figure.low <= m <= figure.high for m in measured]
    assert np.mean(inside) >= 0.8


def test_means_that_nobody_measured_follow_from_the_law_with_a_wider_band():
    bare = figures(fit(profile([closed(n) for n in LOADS])), at(16))
    known = figures(fit(profile([full(n) for n in LOADS])), at(16))
    token, _ = truth(16)
    assert bare["e2e_mean_ms"].value == pytest.approx(OUTPUT * token, rel=0.01)
    for column in ("e2e_mean_ms", "tpot_mean_ms", "ttft_mean_ms"):
        assert bare[column].high / bare[column].low > known[column].high / known[column].low
    # Nobody measured a percentile, so none is given.
    assert not any("_p" in column and column.endswith("ms") for column in bare)


def test_other_request_shapes_do_not_bend_the_asked_one():
    long = [closed(n, 4000.0, 200.0) for n in LOADS]
    model = fit(profile([*(full(n) for n in LOADS), *long]))
    for n in LOADS:
        near = figures(model, at(n))["output_tokens_per_s"]
        assert near.value == pytest.approx(full(n).output_tokens_per_s, rel=1e-6)
        far = figures(model, at(n, prompt=4000.0))["output_tokens_per_s"]
        assert far.value == pytest.approx(closed(n, 4000.0, 200.0).output_tokens_per_s, rel=1e-6)


def row(n, **figures_ms):
    return Point(
        input_tokens=PROMPT,
        output_tokens=OUTPUT,
        mode="closed",
        concurrency=n,
        source="test",
        **figures_ms,
    )


@pytest.mark.parametrize(
    "figures_of",
    [
        lambda token, tpot: {"tpot_mean_ms": tpot},
        lambda token, tpot: {"tpot_p50_ms": tpot},
        lambda token, tpot: {"e2e_mean_ms": OUTPUT * token},
        lambda token, tpot: {"e2e_p50_ms": OUTPUT * token},
        lambda token, tpot: {"ttft_mean_ms": 50.0, "e2e_mean_ms": 50.0 + tpot * (OUTPUT - 1)},
        lambda token, tpot: {"ttft_p50_ms": 50.0, "e2e_p50_ms": 50.0 + tpot * (OUTPUT - 1)},
        lambda token, tpot: {"itl_mean_ms": tpot},
        lambda token, tpot: {"achieved_rps": None},
    ],
    ids=["tpot", "tpot p50", "e2e", "e2e p50", "ttft+e2e", "ttft+e2e p50", "itl", "rate"],
)
def test_any_mix_of_figures_makes_a_model(figures_of):
    points = []
    for n in LOADS:
        token, step = truth(n)
        tpot = step + TRUTH.prompt_token_ms * PROMPT / OUTPUT * (n - 1)
        known = figures_of(token, tpot)
        if "achieved_rps" in known:
            known = {"achieved_rps": 1000 * n / token / OUTPUT}
        points.append(row(n, **known))
    model = fit(profile(points))
    token, _ = truth(16)
    rate = model.closed_loop_rps(shape(PROMPT, OUTPUT), 16)
    assert rate == pytest.approx(1000 * 16 / token / OUTPUT, rel=0.03)
    medians = any("_p50_" in c for c, v in points[0] if v is not None)
    assert medians == any("medians" in note for note in model.notes)


def test_only_ttft_says_what_to_measure():
    with pytest.raises(FitError, match="concurrency"):
        fit(profile([row(4, ttft_mean_ms=80.0)]))


def open_row(rate, **figures_ms):
    return Point(
        input_tokens=PROMPT,
        output_tokens=OUTPUT,
        mode="open",
        offered_rps=rate,
        achieved_rps=rate,
        source="test",
        **figures_ms,
    )


def test_open_loop_is_the_table():
    model = fit(profile([closed(n) for n in LOADS]))
    table = model.tabulate([shape(PROMPT, OUTPUT)], np.ones(1))
    rate = 0.5 / float(table.work_s[0])
    found = figures(model, at(rate, "open"))
    assert found["tpot_mean_ms"].value == pytest.approx(float(table.mean_at("tpot", 0.5)[0]))
    tail = quantile_ms(table.times_ms["e2e"], table.survival_at("e2e", 0.5), 0.05)
    assert found["e2e_p95_ms"].value == pytest.approx(float(tail[0]))
    band = 1 + table.band_at("tpot", 0.5)
    assert found["tpot_mean_ms"].high == pytest.approx(found["tpot_mean_ms"].value * band)
    assert figures(model, at(1.01 * table.max_load / float(table.work_s[0]), "open")) == {}


def test_open_loop_percentiles_that_were_measured_are_read_back():
    base = fit(profile([closed(n) for n in LOADS]))
    rates = [1.0, 4.0, 8.0]
    points = [closed(n) for n in LOADS]
    for rate in rates:
        told = figures(base, at(rate, "open"))
        points.append(open_row(rate, ttft_p95_ms=1.5 * told["ttft_p95_ms"].value))
    model = fit(profile(points))
    for point in points[len(LOADS) :]:
        found = figures(model, at(point.offered_rps, "open"))
        assert found["ttft_p95_ms"].value == pytest.approx(point.ttft_p95_ms, rel=1e-6)
    between = figures(model, at(6.0, "open"))["ttft_p95_ms"].value
    assert between == pytest.approx(
        1.5 * figures(base, at(6.0, "open"))["ttft_p95_ms"].value, rel=0.1
    )


def test_overloaded_rows_do_not_speak_of_e2e():
    flooded = replace_rate(open_row(50.0, e2e_mean_ms=90_000.0), 10.0)
    good = [closed(n) for n in LOADS]
    assert fit(profile([*good, flooded])).law == fit(profile(good)).law


def replace_rate(point, achieved_rps):
    return point.model_copy(update={"achieved_rps": achieved_rps})


def test_pools_without_a_law():
    hosted = Pool(
        name="api",
        model_name="m",
        price=HostedPrice(usd_per_million_input_tokens=1, usd_per_million_output_tokens=2),
        max_rps=4.0,
        source="test",
    )
    seen = Point(
        input_tokens=300,
        output_tokens=200,
        mode="open",
        ttft_mean_ms=400,
        tpot_mean_ms=10,
        source="test",
    )
    model = fit(Profile(hosted, None, None, (seen,)))
    assert figures(model, at(1.0, "open"))["ttft_mean_ms"].value == pytest.approx(400)
    assert figures(model, at(4)) == {}
    own = Pool(name="own", model_name="m", gpu="gpu", source="test")
    capacity = (CapacityPoint(input_tokens=300, output_tokens=200, max_rps=3, source="test"),)
    bare = fit(Profile(own, None, None, (), capacity))
    assert figures(bare, at(1.0, "open")) == {} and figures(bare, at(8)) == {}


def test_left_out_errors_are_those_of_refitted_curves():
    x = np.log([1.0, 2.0, 8.0, 32.0])
    curve = LoadCurve(x, np.array([0.0, 0.1, -0.1, 0.2]), np.array([1.0, 1.3, 1.5, 2.4]), 0.0)
    base = curve.log_value - curve.log_ratio
    for i, error in enumerate(curve.left_out()):
        rest = np.arange(4) != i
        others = replace(
            curve, x=x[rest], log_ratio=curve.log_ratio[rest], log_value=curve.log_value[rest]
        )
        assert error == pytest.approx(others.at(x[i], base[i]) - curve.log_value[i])


def test_repeats_are_averaged_and_their_noise_kept():
    curve = LoadCurve.of([8, 2, 8.4, 2], [0.3, 0.1, 0.5, 0.1], [1.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(np.exp(curve.x), [2.0, np.sqrt(8 * 8.4)])
    np.testing.assert_allclose(curve.log_ratio, [0.1, 0.4])
    assert curve.noise == pytest.approx(np.sqrt((0.1**2 + 0.1**2) / 2))


def test_a_figure_measured_at_light_loads_only_is_not_told_at_heavy_ones():
    rows = [full(n) for n in (1, 4)] + [closed(n) for n in (16, 64)]
    model = fit(profile(rows))
    assert "ttft_p95_ms" in figures(model, at(8))
    heavy = figures(model, at(64))
    assert "ttft_p95_ms" not in heavy and "itl_p99_ms" not in heavy
    light = figures(model, at(4))["ttft_mean_ms"]
    assert heavy["ttft_mean_ms"].high / heavy["ttft_mean_ms"].low > light.high / light.low
