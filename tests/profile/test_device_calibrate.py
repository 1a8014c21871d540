"""Rates from made-up times: what went in comes out, and what is missing is said."""

import pytest
from device_cases import (
    CACHE_GB_PER_S,
    COPY_GB_PER_S,
    DAY,
    GRAPH_LAUNCH_S,
    H200,
    LAUNCH_S,
    PEAK_TFLOPS,
    PREFILL_TFLOPS,
    TRIAD_GB_PER_S,
    results,
    true_s,
)

from planner.errors import InputError
from planner.profile.device.calibrate import all_reduce_rates, calibrate
from planner.profile.device.collective import MESSAGE_BYTES, AllReduceTime
from planner.profile.device.plan import Gemm
from planner.spec.hardware import GpuMeasured


@pytest.fixture(scope="module")
def found() -> GpuMeasured:
    return calibrate(results(), (), H200, DAY)


def test_known_rates_come_back(found):
    assert found.memory_copy_gb_per_s == COPY_GB_PER_S
    assert found.memory_triad_gb_per_s == TRIAD_GB_PER_S
    assert set(found.decode_attention.reached_gb_per_s) == {CACHE_GB_PER_S}
    assert found.prefill_attention_tflops == PREFILL_TFLOPS
    assert found.launch_ms == LAUNCH_S * 1e3
    assert found.graph_launch_ms == GRAPH_LAUNCH_S * 1e3
    assert found.spread_ratio == 0.02
    assert (found.device_name, found.driver, found.as_of) == ("NVIDIA H200", "580.65", DAY)
    assert found.origin == "measured"


def test_products_are_a_curve_per_precision(found):
    assert [rates.precision for rates in found.gemm] == ["bfloat16", "fp16", "fp8"]
    for rates in found.gemm:
        assert rates.n_rows == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048, 8192)
        assert rates.reached_tflops[-1] == PEAK_TFLOPS[rates.precision]
        for n_rows, tflops in zip(rates.n_rows, rates.reached_tflops, strict=True):
            trial = Gemm(rates.precision, n_rows, rates.n_in, rates.n_out)
            assert tflops == pytest.approx(trial.n_flop / true_s(trial) / 1e12, rel=5e-4)


def test_a_precision_that_is_not_there_is_left_out():
    halves = [r for r in results() if getattr(r.trial, "precision", None) != "fp8"]
    assert [r.precision for r in calibrate(halves, (), H200, DAY).gemm] == ["bfloat16", "fp16"]


def test_without_graphs_there_is_no_figure_of_them():
    eager = [r for r in results() if r.trial.kind != "launch in a graph"]
    assert calibrate(eager, (), H200, DAY).graph_launch_ms is None


def test_order_of_measuring_does_not_matter(found):
    assert calibrate(results()[::-1], (), H200, DAY).model_copy(update={"gemm": ()}) == (
        found.model_copy(update={"gemm": ()})
    )


@pytest.mark.parametrize(
    "kind",
    ["launch", "memory copy", "memory triad", "matrix product", "decode attention",
     "prefill attention"],
)  # fmt: skip
def test_what_could_not_run_at_all_is_named(kind):
    rest = [r for r in results() if r.trial.kind != kind]
    with pytest.raises(InputError, match=f"could not run: {kind}"):
        calibrate(rest, (), H200, DAY)


def test_all_reduce_of_a_known_machine():
    def time_s(n_gpus: int, n_bytes: int) -> float:
        return 1e-5 * n_gpus + n_bytes / (100e9 / n_gpus)

    times = [AllReduceTime(n, b, time_s(n, b)) for n in (4, 2) for b in MESSAGE_BYTES]
    two, four = all_reduce_rates(times)
    assert (two.n_gpus, two.latency_ms, two.gb_per_s) == (2, 0.02, 50.0)
    assert (four.n_gpus, four.latency_ms, four.gb_per_s) == (4, 0.04, 25.0)


def test_all_reduce_noise_gives_no_negative_figure():
    times = [AllReduceTime(2, b, 1e-3) for b in MESSAGE_BYTES]
    (rate,) = all_reduce_rates(times)
    assert rate.latency_ms >= 0 and rate.gb_per_s == pytest.approx(
        MESSAGE_BYTES[1] / 1e-3 / 1e9, 1e-3
    )
    assert all_reduce_rates(()) == ()
