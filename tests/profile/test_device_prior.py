"""The latency model's prior takes measured kernels where a GPU has them."""

import numpy as np
import pytest
from device_cases import measured

from planner.latency.physics import HOST_MS, WIDTHS, WIDTHS_MEASURED, prior
from planner.spec.hardware import GemmRates, Gpu, ModelFacts
from planner.spec.pool import Pool, Profile

FACTS = ModelFacts(
    name="m", n_parameters=8e9, n_active_parameters=8e9, n_layers=32, hidden_size=4096, n_heads=32,
    n_kv_heads=8, head_dim=128, bytes_per_parameter=2, max_context_tokens=8192, source="a test",
)  # fmt: skip
GPU = Gpu(
    name="g", memory_gib=141, fp16_tflops=1000, memory_gb_per_s=4800, source="a test",
    as_of="2026-01-31",
)  # fmt: skip
BF16 = GemmRates(
    precision="bfloat16", n_in=4096, n_out=14336, n_rows=(1, 8, 4096), reached_tflops=(3, 32, 700)
)
FP8 = GemmRates(
    precision="fp8", n_in=4096, n_out=14336, n_rows=(1, 8, 4096), reached_tflops=(6, 64, 1300)
)


def guess(gpu: Gpu, **pool: object):
    settings = {"name": "p", "model_name": "m", "gpu": "g", "source": "a test"} | pool
    return prior(Profile(Pool.model_validate(settings), gpu, FACTS, (), ()), [10.0], [1.0])


def with_figures(**changed: object) -> Gpu:
    return GPU.model_copy(update={"measured": measured(gemm=(BF16, FP8), **changed)})


def test_measured_rates_stand_in_the_prior():
    found = guess(with_figures())
    step_ms, sequence_ms, context_ms, prompt_ms, _, _ = found.centre_ms
    # 8 rows at 32 TFLOP/s are 2e12 weights/s of 2 bytes: 4 TB/s.
    assert step_ms == pytest.approx(HOST_MS + 16e9 / 4e12 * 1e3)
    assert context_ms == pytest.approx(2 * 32 * 8 * 128 * 2 / 1000e9 * 1e3)
    assert prompt_ms == pytest.approx(2 * 8e9 / 700e12 * 1e3)
    assert sequence_ms == guess(GPU).centre_ms[1]  # no kernel says what the host adds


def test_precision_of_the_weights_chooses_the_products():
    found = guess(with_figures(), weight_precision="fp8")
    assert found.centre_ms[0] == pytest.approx(HOST_MS + 8e9 / 4e12 * 1e3)
    assert found.centre_ms[3] == pytest.approx(2 * 8e9 / 1300e12 * 1e3)


def test_tensor_parallel_divides_measured_work():
    one, two = guess(with_figures()), guess(with_figures(), tensor_parallel=2)
    assert (one.centre_ms[0] - HOST_MS) / 2 == pytest.approx(two.centre_ms[0] - HOST_MS)
    np.testing.assert_allclose(one.centre_ms[[2, 3]] / 2, two.centre_ms[[2, 3]])


def test_measured_is_surer_and_the_bound_stays_the_data_sheets():
    found, assumed = guess(with_figures()), guess(GPU)
    np.testing.assert_array_equal(found.width, WIDTHS_MEASURED)
    np.testing.assert_array_equal(assumed.width, WIDTHS)
    assert (WIDTHS_MEASURED <= WIDTHS).all() and (WIDTHS_MEASURED < WIDTHS).any()
    assert found.roofline_ms == assumed.roofline_ms
