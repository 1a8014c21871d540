"""A pool's profile as a person reads it: what was measured, the fitted law, and how sure it is."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from rich.console import Console

from planner.latency.fit import notes_of
from planner.latency.memory import Memory
from planner.latency.model import LatencyModel
from planner.profile.describe import rows
from planner.profile.review import Chart, LeftOut, charts, left_out
from planner.report.console import (
    RenderableType,
    bullet,
    heading,
    indented,
    line,
    literal,
    make_console,
    show,
    table,
)
from planner.report.figures import count, number, percent
from planner.report.plot import BAND, CURVE, POINT, plot
from planner.report.titles import load_title, title
from planner.spec.base import METRICS, Metric, Origin
from planner.spec.pool import CapacityPoint, Point, Pool
from planner.spec.workload import RequestShape

LAW_WORDS = {
    "step_ms": ("each step, whatever is in it", "ms"),
    "sequence_ms": ("per sequence decoded", "ms"),
    "context_token_ms": ("per context token read from the KV cache", "ms"),
    "prompt_token_ms": ("per prompt token prefilled", "ms"),
    "root_ms": ("per square root of the sequences", "ms"),
    "request_ms": ("once per request, before its first token", "ms"),
}

COMMON_SHAPES = ((128.0, 128.0), (512.0, 256.0), (2048.0, 256.0), (8192.0, 512.0))
"""Request lengths at which the capacity is shown whatever was measured."""

RESIDUALS = (
    "output_tokens_per_s", "tpot_mean_ms", "itl_mean_ms", "itl_p50_ms", "ttft_mean_ms",
    "e2e_mean_ms", "tpot_p95_ms", "itl_p95_ms", "ttft_p95_ms", "e2e_p95_ms",
)  # fmt: skip
MOST_RESIDUALS = 5
PAGE_WIDTH = 110


@dataclass(frozen=True)
class ShapeCapacity:
    """The requests per second that saturate one replica at a request shape."""

    input_tokens: float
    output_tokens: float
    max_rps: float
    is_measured_shape: bool

    @property
    def output_tokens_per_s(self) -> float:
        """Returns the output tokens per second at that rate."""
        return self.max_rps * self.output_tokens


@dataclass(frozen=True)
class ProfileSummary:
    """Everything that `rb profile show` says of a pool."""

    pool: Pool
    points: tuple[Point, ...]
    capacity_points: tuple[CapacityPoint, ...]
    law: Mapping[str, float]  # empty where only a capacity is known
    fit_error_ratio: float  # leave-one-load-out
    band_ratio: Mapping[Metric, float]
    band_origin: Mapping[Metric, Origin]
    measured_concurrency: tuple[float, float]
    max_num_seqs: int
    memory: Memory
    capacity: tuple[ShapeCapacity, ...]
    left_out: tuple[LeftOut, ...]
    charts: tuple[Chart, ...]
    notes: tuple[str, ...]


def summarise(model: LatencyModel) -> ProfileSummary:
    """Returns what there is to say of a fitted pool."""
    profile, law = model.profile, model.law
    return ProfileSummary(
        pool=profile.pool,
        points=profile.points,
        capacity_points=profile.capacity,
        law={} if law is None else {name: getattr(law, name) for name in LAW_WORDS},
        fit_error_ratio=model.fit_error_ratio,
        band_ratio=model.bands.ratio,
        band_origin=model.bands.origin,
        measured_concurrency=model.measured_concurrency,
        max_num_seqs=model.max_num_seqs,
        memory=model.memory,
        capacity=_capacities(model),
        left_out=left_out(profile),
        charts=charts(model),
        notes=notes_of(model),
    )


def _capacities(model: LatencyModel) -> tuple[ShapeCapacity, ...]:
    """Returns the capacity at every measured request shape and at some that are common."""
    measured = _shapes([*model.profile.points, *model.profile.capacity])
    longest = model.profile.facts.max_context_tokens if model.profile.facts else np.inf
    common = [(p, o) for p, o in COMMON_SHAPES if p + o <= longest]
    return tuple(
        ShapeCapacity(p, o, model.capacity_rps(RequestShape(np.array([p]), np.array([o]))), known)
        for known, shapes in ((True, measured), (False, common))
        for p, o in shapes
    )


def render_profile(summary: ProfileSummary, console: Console) -> None:
    """Writes a pool's measurements, its fitted law, memory, capacity, and what is estimated."""
    show(_sections(summary, console.width), console)


def profile_text(summary: ProfileSummary) -> str:
    """Returns what a pool's page says below its charts, as plain text."""
    stream = io.StringIO()
    without_drawings = replace(summary, charts=())
    render_profile(without_drawings, make_console(stream, PAGE_WIDTH))
    return stream.getvalue()


def render_points(points: Sequence[Point], console: Console) -> None:
    """Writes measured points, one row each, with units and origins."""
    show(_points(points, console.width), console)


def _sections(summary: ProfileSummary, width: int) -> Iterator[RenderableType]:
    pool = summary.pool
    where = f"{pool.n_gpus:g} x {pool.gpu} per replica" if pool.gpu else "hosted"
    yield line(pool.name, "bold")
    yield line(f"{pool.model_name}, {where}, engine {pool.engine or 'not named'}")
    yield from _points(summary.points, width)
    yield from _law(summary)
    yield from _left_out(summary.left_out)
    yield from _charts(summary.charts, width)
    yield from _capacity(summary)
    if summary.notes:
        yield heading("Not measured, estimated")
        yield from (bullet(note) for note in summary.notes)


def _points(points: Sequence[Point], width: int) -> Iterator[RenderableType]:
    """Yields the points in as many blocks of columns as the width asks for, then their sources."""
    if not points:
        return
    shown = rows(points)
    sources = list(dict.fromkeys(row["source"] for row in shown))
    cells = [
        {"row": str(n), **row, "source": f"[{sources.index(row['source']) + 1}]"}
        for n, row in enumerate(shown, 1)
    ]
    yield heading(f"{_how_known(points)} ({count(len(points), 'load level')} of one replica)")
    for block in _blocks(cells, width):
        made = table([], block)
        for row in cells:
            made.add_row("", *(row[name] or "-" for name in block))
        for name, column in zip(block, made.columns[1:], strict=True):
            column.no_wrap, column.width = False, _width(name, cells)
        yield made
    yield from (bullet(f"[{n}] {source}") for n, source in enumerate(sources, 1))


def _how_known(points: Sequence[Point]) -> str:
    """Returns whether points were measured; rows of any other origin are called estimated."""
    n_measured = sum(point.origin == "measured" for point in points)
    if n_measured == len(points):
        return "Measured"
    return "Measured and estimated" if n_measured else "Estimated"


def _blocks(cells: Sequence[Mapping[str, str]], width: int) -> Iterator[list[str]]:
    """Yields runs of columns that fit side by side; each begins with the row's number."""
    first, *names = cells[0]
    start = 3 + _width(first, cells) + 2
    block, used = [first], start
    for name in names:
        need = _width(name, cells) + 2
        if len(block) > 1 and used + need > width:
            yield block
            block, used = [first], start
        block.append(name)
        used += need
    yield block


def _width(name: str, cells: Sequence[Mapping[str, str]]) -> int:
    """Returns the columns that a figure needs: a title may break between words, a number not."""
    return max(len(word) for row in cells for word in (*name.split(), row[name]))


def _law(summary: ProfileSummary) -> Iterator[RenderableType]:
    yield heading("Fitted")
    if summary.law:
        made = table(["time of one engine step"], ["value", "unit"])
        for name, value in summary.law.items():
            words, unit = LAW_WORDS[name]
            made.add_row("", words, f"{value:.4g}", unit)
        yield made
        low, high = summary.measured_concurrency
        yield bullet(
            f"off by {percent(summary.fit_error_ratio)} on average at a load left out of the fit; "
            f"measured from {number(low)} to {number(high)} requests in flight"
        )
    for metric in METRICS:
        origin = summary.band_origin[metric]
        yield bullet(f"{metric}: {origin}, within +-{percent(summary.band_ratio[metric], 0)}")


def _left_out(found: Sequence[LeftOut]) -> Iterator[RenderableType]:
    """Yields how far off the fit is at each load when it has not seen it."""
    if not found:
        return
    columns = [c for c in RESIDUALS if any(f.column == c for f in found)][:MOST_RESIDUALS]
    yield heading("Each load predicted from the others (error, ! outside the 90% band)")
    made = table(["measured in"], ["load", *(title(c) for c in columns)])
    loads = dict.fromkeys((f.mode, f.load) for f in found)
    for mode, load in loads:
        here = {f.column: f for f in found if (f.mode, f.load) == (mode, load)}
        cells = [_error(here.get(c)) for c in columns]
        made.add_row("", f"{mode} loop" if mode != "batch" else mode, number(load), *cells)
    for column in made.columns[2:]:
        column.no_wrap = False
    yield made
    inside = sum(f.within for f in found)
    yield bullet(f"{inside} of {count(len(found), 'figure')} lie in the band")


def _error(found: LeftOut | None) -> str:
    if found is None:
        return "-"
    return f"{100.0 * found.error_ratio:+.1f}%{'' if found.within else '!'}"


def _charts(found: Sequence[Chart], width: int) -> Iterator[RenderableType]:
    """Yields the fitted curves with their bands."""
    for chart in found:
        shape = f"{number(chart.input_tokens)} in, {number(chart.output_tokens)} out"
        yield heading(f"{title(chart.column)} over {load_title(chart.mode)} ({shape})")
        for text in plot(chart, width - 1):
            yield literal(text)
    if found:
        yield indented(f"{POINT} measured   {CURVE} fitted   {BAND} 90% band")


def _capacity(summary: ProfileSummary) -> Iterator[RenderableType]:
    yield heading("Capacity of one replica")
    if summary.capacity:
        made = table([], ["tokens in", "tokens out", "requests/s", "tokens/s out"], [""])
        for c in summary.capacity:
            figures = (c.input_tokens, c.output_tokens, c.max_rps, c.output_tokens_per_s)
            known = "measured" if c.is_measured_shape else "estimated"
            made.add_row("", *(number(value) for value in figures), known)
        yield made
    yield from (bullet(text) for text in _memory(summary))


def _memory(summary: ProfileSummary) -> Iterator[str]:
    memory = summary.memory
    if memory.weights_gib_per_gpu > 0:
        yield f"weights take {memory.weights_gib_per_gpu:.1f} GiB of each GPU"
    if not memory.fits:
        yield "DOES NOT FIT: no room for the weights and a KV cache"
    elif np.isfinite(memory.kv_capacity_tokens):
        yield f"the KV cache holds {memory.kv_capacity_tokens:,.0f} tokens"
    yield f"at most {count(summary.max_num_seqs, 'sequence')} run together"


def _shapes(points: Sequence[Point | CapacityPoint]) -> list[tuple[float, float]]:
    """Returns the mean (input, output) tokens of each group of points of about the same shape."""
    groups: dict[tuple[float, float], list[Point | CapacityPoint]] = {}
    for point in points:
        key = round(log(point.input_tokens) * 4), round(log(point.output_tokens) * 4)
        groups.setdefault(key, []).append(point)
    return [
        (
            float(np.mean([p.input_tokens for p in group])),
            float(np.mean([p.output_tokens for p in group])),
        )
        for _, group in sorted(groups.items())
    ]
