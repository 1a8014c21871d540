"""Fitting: a known law is recovered, real pools are predicted from their other loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from latency_cases import draw_lengths, simulate_engine

from planner.errors import FitError
from planner.files.profiles import read_profiles
from planner.latency.chain import envelope_gap
from planner.latency.fit import fit, isotonic, notes_of
from planner.latency.moments import MixMoments
from planner.latency.physics import prior
from planner.latency.regress import LogProblem, fit_log
from planner.latency.steplaw import StepLaw
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.pool import CapacityPoint, HostedPrice, Point, Pool, Profile
from planner.spec.workload import RequestShape

PROFILES = Path(__file__).parents[2] / "profiles"
GPU = Gpu(
    name="gpu",
    memory_gib=80,
    fp16_tflops=1000,
    memory_gb_per_s=3300,
    source="test",
    as_of="2025-01-01",
)
FACTS = ModelFacts(
    name="m",
    n_parameters=8e9,
    n_active_parameters=8e9,
    n_layers=32,
    hidden_size=4096,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    bytes_per_parameter=2,
    max_context_tokens=128_000,
    source="test",
)
TRUTH = StepLaw(7.0, 0.06, 6e-5, 0.035, 0.25)


def profile(points, facts=True, **pool):
    base = {"name": "pool", "model_name": "m", "gpu": "gpu", "source": "test"} | pool
    known = (GPU, FACTS) if facts else (None, None)
    return Profile(Pool(**base), *known, points=tuple(points))


def closed(n, prompt=300.0, output=200.0, law=TRUTH, factor=1.0):
    t = float(law.token_ms(np.array([float(n)]), MixMoments.of_point(prompt, output))[0])
    return Point(
        input_tokens=prompt,
        output_tokens=output,
        mode="closed",
        concurrency=n,
        output_tokens_per_s=1000.0 * n / t * factor,
        source="test",
    )


def shape(prompt, output):
    return RequestShape(np.array([float(prompt)]), np.array([float(output)]))


@pytest.mark.parametrize("facts", [True, False])
def test_a_known_law_is_recovered_at_the_measured_shape(facts):
    model = fit(profile([closed(n) for n in (1, 4, 16, 64, 128)], facts))
    n = np.array([2.0, 8.0, 32.0, 100.0])
    mix = MixMoments.of_point(300.0, 200.0)
    np.testing.assert_allclose(model.law.token_ms(n, mix), TRUTH.token_ms(n, mix), rtol=0.02)
    assert model.fit_error_ratio < 0.06
    assert model.measured_concurrency == (1.0, 128.0)


def test_three_shapes_identify_the_terms():
    shapes = [(300.0, 200.0), (4000.0, 200.0), (200.0, 3000.0)]
    points = [closed(n, *s) for s in shapes for n in (1, 8, 32, 128)]
    model = fit(profile(points))
    n, unseen = np.array([4.0, 64.0]), MixMoments.of_point(1500.0, 600.0)
    np.testing.assert_allclose(model.law.token_ms(n, unseen), TRUTH.token_ms(n, unseen), rtol=0.04)
    assert model.law.context_token_ms == pytest.approx(TRUTH.context_token_ms, rel=0.3)
    assert model.law.prompt_token_ms == pytest.approx(TRUTH.prompt_token_ms, rel=0.3)


def test_one_bad_row_does_not_bend_the_law():
    good = [closed(n) for n in (1, 2, 4, 8, 16, 64, 128)]
    rows = np.array([[1.0, p.concurrency, 0, 0, 0, 0] for p in good])
    x = rows[:, :2]
    time = x @ np.array([7.0, 0.2])
    time[3] *= 3.0
    problem = LogProblem(
        x, np.log(time), np.full(7, 0.05), np.array([5.0, 0.1]), np.array([1.0, 1.0])
    )
    found = fit_log(problem)
    np.testing.assert_allclose(found, [7.0, 0.2], rtol=0.12)


def test_the_log_fit_against_scipy():
    from scipy.optimize import minimize

    rng = np.random.default_rng(4)
    x = rng.uniform(0.1, 5.0, (12, 4))
    time = x @ np.array([3.0, 0.5, 1.0, 0.2]) * rng.lognormal(0, 0.1, 12)
    problem = LogProblem(x, np.log(time), np.full(12, 0.05), np.ones(4), np.full(4, 1.5))
    mine = np.log(fit_log(problem))
    theirs = min(
        (minimize(problem.loss, start, tol=1e-12) for start in (np.zeros(4), mine + 0.3)),
        key=lambda r: r.fun,
    )
    assert problem.loss(mine) <= theirs.fun + 1e-6


def test_isotonic_is_the_nearest_rising_sequence():
    found = isotonic(np.array([1.0, 3.0, 2.0, 2.0, 5.0, 4.0]), np.array([1.0, 1, 1, 1, 1, 3]))
    np.testing.assert_allclose(found, [1, 7 / 3, 7 / 3, 7 / 3, 4.25, 4.25])


def test_every_mode_tells_the_same_law():
    n, mix = 24.0, MixMoments.of_point(300.0, 200.0)
    t = float(TRUTH.token_ms(np.array([n]), mix)[0])
    decode = float(TRUTH.decode_ms(np.array([n]), mix)[0])
    common = {"input_tokens": 300.0, "output_tokens": 200.0, "source": "test"}
    prefill = TRUTH.prompt_token_ms * 300.0
    opened_tpot = decode + prefill / 200.0 * (n - 1)
    rows = {
        "closed": {"mode": "closed", "concurrency": n, "achieved_rps": 1000 * n / t / 200},
        "closed tpot": {"mode": "closed", "concurrency": n, "tpot_mean_ms": opened_tpot},
        "batch": {"mode": "batch", "concurrency": n, "e2e_mean_ms": 200 * t},
        "open": {
            "mode": "open",
            "achieved_rps": 1000 * (n - 1) / (200 * opened_tpot),
            "tpot_mean_ms": opened_tpot,
        },
    }
    for name, row in rows.items():
        others = [closed(m) for m in (1, 6, 96)]
        model = fit(profile([*others, Point(**common, **row)]))
        found = float(model.law.token_ms(np.array([n]), mix)[0])
        assert found == pytest.approx(t, rel=0.02), name


def test_no_usable_row_says_what_to_measure():
    row = Point(input_tokens=10, output_tokens=10, mode="open", offered_rps=2.0, source="test")
    with pytest.raises(FitError, match="concurrency 16") as caught:
        fit(profile([row], max_num_seqs=256))
    assert caught.value.pool == "pool"
    with pytest.raises(FitError):
        fit(profile([]))


def test_rows_with_failures_or_faster_than_memory_are_dropped():
    good = [closed(n) for n in (1, 8, 64)]
    failed = closed(32, factor=3.0).model_copy(update={"n_requests": 100, "n_failed": 20})
    # 8e9 parameters of 2 bytes at 3300 GB/s take 4.8 ms; this row claims 0.5 ms.
    impossible = closed(2).model_copy(update={"output_tokens_per_s": 4000.0})
    model = fit(profile([*good, failed, impossible]))
    assert model.law == fit(profile(good)).law
    assert any("2 rows" in note for note in model.notes)
    with pytest.raises(FitError, match="faster"):
        fit(profile([impossible]))


def test_one_load_gives_a_wide_band_and_a_note():
    model = fit(profile([closed(16)]))
    table = model.tabulate([shape(300, 200)], np.ones(1))
    band = table.band_ratio["tpot"]
    assert band[0] >= 0.5  # four doublings below what was measured
    known = fit(profile([closed(1), closed(16)]))
    assert np.all(band >= known.tabulate([shape(300, 200)], np.ones(1)).band_ratio["tpot"])
    assert any("one measured load" in note for note in model.notes)
    measured = closed(16).output_tokens_per_s / 200
    assert model.closed_loop_rps(shape(300, 200), 16) == pytest.approx(measured, rel=1e-6)


def test_measured_loads_are_met_exactly():
    points = [closed(n, factor=f) for n, f in ((1, 1.0), (8, 0.9), (32, 1.05), (128, 0.95))]
    model = fit(profile(points))
    for point in points:
        rate = point.output_tokens_per_s / 200
        assert model.closed_loop_rps(shape(300, 200), point.concurrency) == pytest.approx(
            rate, rel=1e-9
        )


def test_nothing_beyond_one_doubling_is_relied_on():
    model = fit(profile([closed(n) for n in (1, 4, 16)]))
    assert model.max_num_seqs == 32
    table = model.tabulate([shape(300, 200)], np.ones(1))
    running = model.chain(MixMoments.of_point(300.0, 200.0), table.loads).running
    assert running.max() <= 32.0
    np.testing.assert_array_equal(table.extrapolated, running > 16.0)
    outside = table.band_ratio["tpot"][table.extrapolated]
    assert np.all(np.diff(outside) > 0)
    assert outside.max() > 1.3 * table.band_ratio["tpot"][~table.extrapolated].max()
    assert fit(profile([closed(4)], max_num_seqs=5)).max_num_seqs == 5


def test_throughput_that_falls_caps_the_batch_at_its_peak():
    points = [closed(1), closed(16), closed(64), closed(128, factor=0.4)]
    model = fit(profile(points))
    peak = 64 / float(model.law.token_ms(np.array([64.0]), MixMoments.of_point(300.0, 200.0))[0])
    rate_rps = model.capacity_rps(shape(300, 200))
    assert rate_rps == pytest.approx(1000 * peak / 200, rel=0.05)


def test_open_loop_measurements_are_met_and_called_measured():
    rng = np.random.default_rng(8)
    slow = StepLaw(12.0, 0.1, 1e-4, 0.08, 0.3, 0.0)
    points = []
    for rate_rps in (0.5, 2.0, 4.0, 6.0):
        count = 1500
        arrivals = np.cumsum(rng.exponential(1000 / rate_rps, count))
        prompts, outputs = draw_lengths(rng, 300, 0, count), draw_lengths(rng, 200, 0, count)
        ttft, tpot, e2e = simulate_engine(slow, 256, arrivals, prompts, outputs)
        points.append(
            Point(
                input_tokens=300,
                output_tokens=200,
                mode="open",
                offered_rps=rate_rps,
                achieved_rps=rate_rps,
                ttft_mean_ms=ttft.mean() + 25.0,
                tpot_mean_ms=tpot.mean(),
                e2e_mean_ms=e2e.mean() + 25.0,
                source="test",
            )
        )
    model = fit(profile(points, max_num_seqs=256))
    table = model.tabulate([shape(300, 200)], np.ones(1))
    assert set(table.origin.values()) == {"measured"}
    for point in points:
        load = point.achieved_rps * model.work_s(shape(300, 200))
        for metric in ("ttft", "tpot", "e2e"):
            found = float(table.mean_at(metric, load)[0])
            assert found == pytest.approx(point.figure_ms(metric, "mean"), rel=0.05), metric


def test_closed_loops_make_open_loop_figures_estimates():
    model = fit(profile([closed(n) for n in (1, 8, 64)]))
    table = model.tabulate([shape(300, 200)], np.ones(1))
    assert set(table.origin.values()) == {"estimated"}
    assert table.band_ratio["ttft"].min() >= 0.5
    assumed = fit(profile([closed(1), closed(8)], origin="assumed"))
    assert set(assumed.tabulate([shape(300, 200)], np.ones(1)).origin.values()) == {"assumed"}


def test_hosted_pools_and_capacity_pools():
    hosted = Pool(
        name="api",
        model_name="m",
        price=HostedPrice(usd_per_million_input_tokens=1, usd_per_million_output_tokens=2),
        max_rps=4.0,
        source="test",
    )
    blind = fit(Profile(hosted, None, None))
    table = blind.tabulate([shape(300, 200), None], np.ones(2))
    assert not table.has_latency
    assert table.work_s[0] == pytest.approx(0.25) and np.isnan(table.work_s[1])
    seen = Point(
        input_tokens=300,
        output_tokens=200,
        mode="open",
        ttft_mean_ms=400,
        tpot_mean_ms=10,
        source="test",
    )
    flat = fit(Profile(hosted, None, None, (seen,))).tabulate([shape(300, 200)], np.ones(1))
    assert flat.has_latency
    assert flat.mean_at("e2e", 0.7)[0] == pytest.approx(400 + 199 * 10)

    truth = np.array([1e-4, 2e-3])
    sizes = [(100.0, 100.0), (2000.0, 100.0), (200.0, 900.0)]
    capacity = tuple(
        CapacityPoint(
            input_tokens=p, output_tokens=o, max_rps=1 / (truth @ np.array([p, o])), source="test"
        )
        for p, o in sizes
    )
    own = Pool(name="own", model_name="m", gpu="gpu", source="test")
    model = fit(Profile(own, GPU, FACTS, (), capacity))
    assert model.work_s(shape(700, 400)) == pytest.approx(truth @ np.array([700, 400]), rel=0.01)
    assert not model.tabulate([shape(700, 400)], np.ones(1)).has_latency


def _real_profiles():
    faults = []
    profiles = read_profiles(PROFILES, faults)
    assert profiles is not None and not faults
    return profiles.by_name()


def test_real_pools_are_predicted_from_their_other_loads():
    # A pool with two loads has nothing between them to predict (its band says so).
    found = {
        name: fit(p).fit_error_ratio
        for name, p in _real_profiles().items()
        if len({round(row.concurrency or 0) for row in p.points}) >= 4
    }
    assert len(found) >= 5
    assert max(found.values()) < 0.08, found
    assert float(np.median(list(found.values()))) < 0.05, found


def test_real_pools_stay_above_the_roofline():
    for name, real in _real_profiles().items():
        if real.pool.price is not None or not real.points:
            continue
        model = fit(real)
        first = model.law.decode_ms(np.array([1.0]), MixMoments.of_point(300.0, 300.0))
        assert first[0] >= 0.9 * prior(real, [1.0], [1.0]).roofline_ms, name


def test_a_curve_that_is_not_convex_is_noted():
    # Beyond 16 the step costs five times as much, and then hardly more.
    points = [closed(n, factor=f) for n, f in ((1, 1), (16, 1), (20, 0.25), (64, 0.6))]
    assert any("convex hull" in note for note in notes_of(fit(profile(points))))
    plain = fit(profile([closed(n) for n in (1, 16, 64)]))
    assert not any("convex hull" in note for note in notes_of(plain))


def test_real_pools_have_a_nearly_convex_number_in_the_system():
    # The routing program sees the convex hull of N(load) = rate x E2E.
    chat = RequestShape(np.array([100.0, 500.0]), np.array([50.0, 200.0, 600.0]))
    gaps = {}
    for name, real in _real_profiles().items():
        table = fit(real).tabulate([chat], np.ones(1))
        gaps[name] = envelope_gap(table.loads, table.loads * table.mean_ms["e2e"][0])
    assert max(gaps.values()) < 0.05, gaps
