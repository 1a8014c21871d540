"""The calibrated roofline of a decode step, checked by hand and by what must not change."""

import pytest
from device_cases import H200, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.profile.device.predict import N_SMALL_KERNELS, StepShape, decode_step
from planner.spec.hardware import AllReduceRate, GemmRates

KERNEL_MS = 0.002
SHAPE = StepShape(1000, 10, 5, 100, 3000, 2, 4000)


def test_the_matrices_of_a_layer():
    assert SHAPE.matrices == ((1000, 2000), (1000, 1000), (1000, 6000), (3000, 1000))
    half = StepShape(1000, 10, 5, 100, 3000, 2, 4000, tensor_parallel=10)
    # Ten GPUs, five KV heads: each keeps a whole one.
    assert half.matrices == ((1000, 300), (100, 1000), (1000, 600), (300, 1000))
    assert (SHAPE.head, half.head) == ((1000, 4000), (1000, 400))


def test_a_step_by_hand():
    step = decode_step(measured(), SHAPE, 1, 1000, "bfloat16")
    # 10^6 weights at 1 row: 2e6 operations at 1e12 per s are 0.002 ms: nothing but the launch.
    assert step.products_ms == pytest.approx(2 * 4 * KERNEL_MS + KERNEL_MS)
    # Five streams, fewer than measured: 2 * 5 * 100 * 1000 * 2 bytes at 100 GB/s are 0.02 ms.
    assert step.attention_ms == pytest.approx(2 * (KERNEL_MS + 0.02))
    traffic_ms = (10 * 1000 + 5 * 3000) * 2 / 1000e9 * 1e3
    assert step.rest_ms == pytest.approx(2 * (N_SMALL_KERNELS * KERNEL_MS + traffic_ms) + KERNEL_MS)
    assert step.all_reduce_ms == 0
    assert step.total_ms == pytest.approx(step.products_ms + step.attention_ms + step.rest_ms)


def test_the_measured_product_is_predicted_as_measured():
    rates = GemmRates(
        precision="bfloat16", n_in=1000, n_out=4000, n_rows=(1, 64), reached_tflops=(0.1, 5)
    )
    only_head = StepShape(1000, 10, 5, 100, 3000, 0, 4000)
    for n, tflops in zip(rates.n_rows, rates.reached_tflops, strict=True):
        step = decode_step(measured(gemm=(rates,)), only_head, n, 100, "bfloat16")
        assert step.products_ms == pytest.approx(2 * n * 4e6 / (tflops * 1e9))


def test_between_measured_rows_and_streams_figures_are_interpolated_in_logarithms():
    step = decode_step(measured(), SHAPE, 16, 1000, "bfloat16")  # 80 streams: the middle
    cache_ms = 2 * 80 * 100 * 1000 * 2 / (100e9 * 1000e9) ** 0.5 * 1e3
    assert step.attention_ms == pytest.approx(2 * (KERNEL_MS + cache_ms))


def test_all_reduce_counts_where_it_was_measured_for_so_many():
    spread = StepShape(1000, 10, 5, 100, 3000, 2, 4000, tensor_parallel=2)
    rate = AllReduceRate(n_gpus=2, latency_ms=0.01, gb_per_s=100.0)
    step = decode_step(measured(all_reduce=(rate,)), spread, 8, 100, "bfloat16")
    assert step.all_reduce_ms == pytest.approx(2 * 2 * (0.01 + 8 * 1000 * 2 / 100e9 * 1e3))
    assert decode_step(measured(), spread, 8, 100, "bfloat16").all_reduce_ms == 0


def test_without_graphs_a_launch_is_the_hosts():
    eager = decode_step(measured(graph_launch_ms=None), SHAPE, 1, 10, "bfloat16")
    graph = decode_step(measured(), SHAPE, 1, 10, "bfloat16")
    assert eager.rest_ms > graph.rest_ms


def test_a_precision_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="measured in fp16"):
        decode_step(measured(), SHAPE, 1, 10, "fp16")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(n=st.integers(1, 300), more=st.integers(1, 300), context=st.integers(1, 10_000))
def test_more_work_never_takes_less(n, more, context):
    step = decode_step(measured(), SHAPE, n, context, "bfloat16")
    assert decode_step(measured(), SHAPE, n, context + more, "bfloat16").total_ms > step.total_ms
    larger = StepShape(1000, 10, 5, 100, 3000, 3, 4000)
    assert decode_step(measured(), larger, n, context, "bfloat16").total_ms > step.total_ms


def test_a_model_of_8_billion_on_the_made_up_h200():
    """16 GB of weights at 4.1 TB/s are 3.9 ms; a step is that and a little."""
    from device_cases import DAY, results

    from planner.profile.device.calibrate import calibrate

    shape = StepShape(4096, 32, 8, 128, 14336, 32, 128256)
    found = calibrate(results(), (), H200, DAY)
    step = decode_step(found, shape, 1, 512, "bfloat16")
    n_weights = 32 * sum(a * b for a, b in shape.matrices) + 4096 * 128256
    assert 1.0 < step.total_ms / (n_weights * 2 / 4.1e12 * 1e3) < 1.2
