"""From measured times to rates.

Notation
    t      median seconds of a call
    rate   operations or bytes of a call / t
    n      GPUs that sum a message of b bytes: t = latency + b / bandwidth, through the smallest
           and the largest message
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from planner.errors import InputError
from planner.profile.device.collective import AllReduceTime
from planner.profile.device.machine import Machine
from planner.profile.device.measure import Result
from planner.profile.device.plan import (
    DecodeAttention,
    Gemm,
    Launch,
    PrefillAttention,
    Stream,
)
from planner.spec.hardware import (
    AllReduceRate,
    DecodeAttentionRates,
    GemmRates,
    GpuMeasured,
    KernelPrecision,
)

_NEEDED = (
    "launch", "memory copy", "memory triad", "decode attention", "prefill attention",
    "matrix product",
)  # fmt: skip


def calibrate(
    results: Sequence[Result],
    all_reduce: Sequence[AllReduceTime],
    machine: Machine,
    as_of: datetime.date,
) -> GpuMeasured:
    """Returns what a device reaches, four significant digits each.

    Raises:
        InputError: a kind of kernel could not be measured at all.
    """
    _check_complete(results)
    streams = {
        result.trial.triad: result.trial.n_bytes / result.median_s / 1e9
        for result in results
        if isinstance(result.trial, Stream)
    }
    launch_ms = {
        result.trial.by_graph: result.median_s * 1e3
        for result in results
        if isinstance(result.trial, Launch)
    }
    prefill_tflops = [
        result.trial.n_flop / result.median_s / 1e12
        for result in results
        if isinstance(result.trial, PrefillAttention)
    ]
    return GpuMeasured(
        device_name=machine.name,
        n_multiprocessors=machine.n_multiprocessors,
        driver=machine.driver,
        torch_version=machine.torch_version,
        memory_copy_gb_per_s=short(streams[False]),
        memory_triad_gb_per_s=short(streams[True]),
        launch_ms=short(launch_ms[False]),
        graph_launch_ms=short(launch_ms[True]) if True in launch_ms else None,
        gemm=_gemm_rates(results),
        decode_attention=_decode_rates(results),
        prefill_attention_tflops=short(max(prefill_tflops)),
        all_reduce=all_reduce_rates(all_reduce),
        spread_ratio=round(max(result.spread_ratio for result in results), 3),
        as_of=as_of,
    )


def all_reduce_rates(times: Sequence[AllReduceTime]) -> tuple[AllReduceRate, ...]:
    """Returns latency (ms) and bandwidth (GB/s of message) for each number of GPUs."""
    rates = []
    for n_gpus in sorted({each.n_gpus for each in times}):
        sizes = sorted((t.n_bytes, t.time_s) for t in times if t.n_gpus == n_gpus)
        (least_bytes, least_s), (most_bytes, most_s) = sizes[0], sizes[-1]
        s_per_byte = (most_s - least_s) / (most_bytes - least_bytes)
        if s_per_byte <= 0:  # noise: the large message alone bounds the bandwidth
            s_per_byte = most_s / most_bytes
        latency_s = max(least_s - least_bytes * s_per_byte, 0.0)
        rates.append(
            AllReduceRate(
                n_gpus=n_gpus,
                latency_ms=short(latency_s * 1e3),
                gb_per_s=short(1e-9 / s_per_byte),
            )
        )
    return tuple(rates)


def _check_complete(results: Sequence[Result]) -> None:
    measured = {result.trial.kind for result in results}
    missing = [kind for kind in _NEEDED if kind not in measured]
    if missing:
        raise InputError.single(
            "rb profile gpu",
            "",
            f"the device could not run: {', '.join(missing)}",
            "free its memory, or use another build of torch",
        )


def _gemm_rates(results: Sequence[Result]) -> tuple[GemmRates, ...]:
    """Returns one curve over the rows for each precision."""
    curves: dict[KernelPrecision, dict[int, float]] = {}
    shapes: dict[KernelPrecision, tuple[int, int]] = {}
    for result in results:
        trial = result.trial
        if isinstance(trial, Gemm):
            rate_tflops = trial.n_flop / result.median_s / 1e12
            curves.setdefault(trial.precision, {})[trial.n_rows] = short(rate_tflops)
            shapes[trial.precision] = trial.n_in, trial.n_out
    return tuple(
        GemmRates(
            precision=precision,
            n_in=shapes[precision][0],
            n_out=shapes[precision][1],
            n_rows=tuple(sorted(curve)),
            reached_tflops=tuple(curve[n_rows] for n_rows in sorted(curve)),
        )
        for precision, curve in curves.items()
    )


def _decode_rates(results: Sequence[Result]) -> DecodeAttentionRates:
    rows = sorted(
        (r.trial.n_streams, short(r.trial.n_bytes / r.median_s / 1e9), r.trial.precision)
        for r in results
        if isinstance(r.trial, DecodeAttention)
    )
    return DecodeAttentionRates(
        precision=rows[0][2],
        n_streams=tuple(n_streams for n_streams, _, _ in rows),
        reached_gb_per_s=tuple(gb_per_s for _, gb_per_s, _ in rows),
    )


def short(value: float) -> float:
    """Returns a figure with four significant digits: more would be noise in a file."""
    return float(f"{value:.4g}")
