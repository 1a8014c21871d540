"""A pool's profile as a person reads it: what was measured, the fitted law, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from rich.console import Console

from planner.latency.memory import Memory
from planner.latency.model import LatencyModel
from planner.profile.describe import rows
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.figures import count, number, percent
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


@dataclass(frozen=True)
class ShapeCapacity:
    """The requests per second that saturate one replica at a measured request shape."""

    input_tokens: float
    output_tokens: float
    max_rps: float

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
        capacity=tuple(
            ShapeCapacity(p, o, model.capacity_rps(RequestShape(np.array([p]), np.array([o]))))
            for p, o in _shapes([*profile.points, *profile.capacity])
        ),
        notes=model.notes,
    )


def render_profile(summary: ProfileSummary, console: Console) -> None:
    """Writes a pool's measurements, its fitted law, memory, capacity, and what is estimated."""
    show(_sections(summary, console.width), console)


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
    yield heading(f"Measured ({count(len(points), 'load level')} of one replica)")
    for block in _blocks(cells, width):
        made = table([], block)
        for row in cells:
            made.add_row("", *(row[name] or "-" for name in block))
        for name, column in zip(block, made.columns[1:], strict=True):
            column.no_wrap, column.width = False, _width(name, cells)
        yield made
    yield from (bullet(f"[{n}] {source}") for n, source in enumerate(sources, 1))


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


def _capacity(summary: ProfileSummary) -> Iterator[RenderableType]:
    yield heading("Capacity of one replica")
    if summary.capacity:
        made = table([], ["input tokens", "output tokens", "requests/s", "output tokens/s"])
        for c in summary.capacity:
            figures = (c.input_tokens, c.output_tokens, c.max_rps, c.output_tokens_per_s)
            made.add_row("", *(number(value) for value in figures))
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
