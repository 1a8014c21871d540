"""What `rb profile gpu` shows: a data sheet's figures only where the entry has a data sheet's."""

from __future__ import annotations

import io
import re

from planner.report.console import make_console
from planner.report.device import render_device
from planner.spec.hardware import Gpu

MEASURED = {
    "device_name": "NVIDIA H200",
    "torch_version": "2.13.0",
    "memory_copy_gb_per_s": 4100.0,
    "memory_triad_gb_per_s": 4200.0,
    "launch_ms": 0.002,
    "gemm": [
        {"precision": "bfloat16", "n_in": 8, "n_out": 8, "n_rows": [1, 64],
         "reached_tflops": [4.0, 700.0]},
    ],
    "decode_attention": {"precision": "bfloat16", "n_streams": [8], "reached_gb_per_s": [3900.0]},
    "prefill_attention_tflops": 400.0,
    "spread_ratio": 0.01,
    "as_of": "2026-06-01",
}  # fmt: skip


def rows(fp16_tflops: float, memory_gb_per_s: float) -> dict[str, list[str]]:
    """The table of figures by what they are of: reached, data sheet, ratio, unit."""
    gpu = Gpu.model_validate(
        {
            "name": "h200", "memory_gib": 141, "gpus_per_node": 8, "source": "x",
            "as_of": "2026-06-01",
            "fp16_tflops": fp16_tflops, "memory_gb_per_s": memory_gb_per_s, "measured": MEASURED,
        }
    )  # fmt: skip
    out = io.StringIO()
    render_device(gpu, make_console(out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    return {re.split("  +", line.strip())[0]: line.split()[-4:] for line in lines if "/s" in line}


def test_what_was_reached_stands_beside_the_data_sheet():
    found = rows(1000.0, 4800.0)
    assert found["memory triad"] == ["4,200", "4,800", "87.5%", "GB/s"]
    assert found["matrix product, bfloat16"] == ["700", "1,000", "70.0%", "TFLOP/s"]


def test_a_measured_figure_is_not_called_a_data_sheets():
    found = rows(700.0, 4200.0)
    assert found["memory copy"] == ["4,100", "-", "-", "GB/s"]
    assert found["matrix product, bfloat16"] == ["700", "-", "-", "TFLOP/s"]
