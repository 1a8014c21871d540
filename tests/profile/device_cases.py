"""What the tests of `rb profile gpu` share: a made-up machine whose speed is known."""

from __future__ import annotations

import datetime

from planner.profile.device.machine import Machine
from planner.profile.device.measure import Result
from planner.profile.device.plan import (
    DecodeAttention,
    Gemm,
    Launch,
    PrefillAttention,
    Stream,
    Trial,
    sizes_for,
    trials,
)
from planner.spec.hardware import DecodeAttentionRates, GemmRates, GpuMeasured

DAY = datetime.date(2026, 1, 31)
H200 = Machine(
    device="cuda",
    name="NVIDIA H200",
    memory_gib=139.8,
    n_devices=8,
    n_free_bytes=138 * 2.0**30,
    n_cold_bytes=200 * 2.0**20,
    n_multiprocessors=132,
    bus_gb_per_s=4917.0,
    driver="580.65",
    torch_version="2.13.0",
)
COPY_GB_PER_S, TRIAD_GB_PER_S, CACHE_GB_PER_S = 4000.0, 4200.0, 3600.0
WEIGHTS_GB_PER_S = 4100.0
PREFILL_TFLOPS = 500.0
LAUNCH_S, GRAPH_LAUNCH_S = 4e-6, 1.5e-6
PEAK_TFLOPS = {"bfloat16": 750.0, "fp16": 740.0, "fp8": 1400.0, "fp32": 50.0}


def true_s(trial: Trial) -> float:
    """How long a call takes on the made-up machine: the slower of memory and arithmetic."""
    match trial:
        case Launch(by_graph=by_graph):
            return GRAPH_LAUNCH_S if by_graph else LAUNCH_S
        case Stream(triad=triad):
            return trial.n_bytes / (TRIAD_GB_PER_S if triad else COPY_GB_PER_S) / 1e9
        case DecodeAttention():
            return trial.n_bytes / CACHE_GB_PER_S / 1e9
        case PrefillAttention():
            return trial.n_flop / PREFILL_TFLOPS / 1e12
        case Gemm():
            read_s = trial.n_bytes / WEIGHTS_GB_PER_S / 1e9
            return max(read_s, trial.n_flop / PEAK_TFLOPS[trial.precision] / 1e12)


def results(quick: bool = False) -> list[Result]:
    """What the made-up machine is measured at, with a spread of 2 %."""
    planned = trials(sizes_for(True, quick), True, H200.n_free_bytes)
    return [Result(t, tuple(true_s(t) * f for f in (0.98, 0.99, 1, 1.01, 1.02))) for t in planned]


def measured(**changed: object) -> GpuMeasured:
    """Round figures for predictions that are checked by hand."""
    figures: dict[str, object] = {
        "device_name": "a device",
        "torch_version": "2.13.0",
        "memory_copy_gb_per_s": 1000.0,
        "memory_triad_gb_per_s": 1000.0,
        "launch_ms": 0.004,
        "graph_launch_ms": 0.002,
        "gemm": (
            GemmRates(
                precision="bfloat16", n_in=1000, n_out=1000, n_rows=(1, 100), reached_tflops=(1, 50)
            ),
        ),
        "decode_attention": DecodeAttentionRates(
            precision="bfloat16", n_streams=(8, 800), reached_gb_per_s=(100, 1000)
        ),
        "prefill_attention_tflops": 100.0,
        "spread_ratio": 0.01,
        "as_of": DAY,
    }
    return GpuMeasured.model_validate(figures | changed)
