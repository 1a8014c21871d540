"""What `rb profile gpu` found, as a person reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rich.console import Console

from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.figures import number, percent
from planner.spec.hardware import Gpu, GpuMeasured


def render_device(gpu: Gpu, console: Console) -> None:
    """Writes what a device reached, beside the figures of its data sheet."""
    show(_sections(gpu), console)


def _sections(gpu: Gpu) -> Iterator[RenderableType]:
    yield line(gpu.name, "bold")
    measured = gpu.measured
    if measured is None:
        yield bullet("nothing is measured")
        return
    units = measured.n_multiprocessors
    about = "" if units is None else f", {units} multiprocessors"
    driver = "" if measured.driver is None else f", driver {measured.driver}"
    yield line(f"{measured.device_name}{about}, torch {measured.torch_version}{driver}")
    yield heading("Reached, beside the entry's data sheet figures")
    yield _figures(gpu, measured)
    yield from _products(measured)
    yield from _caches(measured)
    yield bullet(f"quartiles of a figure lie at most {percent(measured.spread_ratio)} apart")


def _figures(gpu: Gpu, measured: GpuMeasured) -> RenderableType:
    made = table(["figure"], ["reached", "data sheet", "ratio"], ["unit"])
    traffic = {
        "memory copy": measured.memory_copy_gb_per_s,
        "memory triad": measured.memory_triad_gb_per_s,
        "cache read by decode attention": max(measured.decode_attention.reached_gb_per_s),
    }
    products = {rates.precision: max(rates.reached_tflops) for rates in measured.gemm}
    for name, value in traffic.items():
        sheet = _against(value, gpu.memory_gb_per_s, traffic.values())
        made.add_row("", name, number(value), *sheet, "GB/s")
    for precision, best in products.items():
        halves = precision in ("fp16", "bfloat16")
        sheet = _against(best, gpu.fp16_tflops, products.values()) if halves else ("-", "-")
        made.add_row("", f"matrix product, {precision}", number(best), *sheet, "TFLOP/s")
    prefill = measured.prefill_attention_tflops
    made.add_row("", "prefill attention", number(prefill), "-", "-", "TFLOP/s")
    made.add_row("", "launch by the host", number(measured.launch_ms * 1e3), "-", "-", "us")
    if measured.graph_launch_ms is not None:
        us = number(measured.graph_launch_ms * 1e3)
        made.add_row("", "launch inside a graph", us, "-", "-", "us")
    for rate in measured.all_reduce:
        where = f"all-reduce of {rate.n_gpus} GPUs"
        made.add_row("", f"{where}, latency", number(rate.latency_ms * 1e3), "-", "-", "us")
        made.add_row("", f"{where}, message", number(rate.gb_per_s), "-", "-", "GB/s")
    return made


def _against(value: float, sheet: float, reached: Collection[float]) -> tuple[str, str]:
    """Returns the data sheet's figure and the part of it that was reached, as text.

    An entry made without a data sheet holds what was reached instead: that is none.
    """
    return ("-", "-") if sheet in reached else (number(sheet), percent(value / sheet))


def _products(measured: GpuMeasured) -> Iterator[RenderableType]:
    """Yields the rate of products by their rows: tokens in a step."""
    shape = measured.gemm[0]
    yield heading(f"Matrix products with {shape.n_in} x {shape.n_out} weights, TFLOP/s")
    made = table([], ["rows", *(rates.precision for rates in measured.gemm)])
    known = [dict(zip(rates.n_rows, rates.reached_tflops, strict=True)) for rates in measured.gemm]
    for n_rows in sorted({n for curve in known for n in curve}):
        made.add_row("", str(n_rows), *(number(curve.get(n_rows)) for curve in known))
    yield made


def _caches(measured: GpuMeasured) -> Iterator[RenderableType]:
    reading = measured.decode_attention
    yield heading(f"Decode attention in {reading.precision}")
    made = table([], ["caches read at once", "GB/s"])
    for n_streams, gb_per_s in zip(reading.n_streams, reading.reached_gb_per_s, strict=True):
        made.add_row("", str(n_streams), number(gb_per_s))
    yield made
