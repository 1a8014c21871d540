"""How good a profile's fit is: every load predicted without it, and the curves through them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.errors import FitError
from planner.latency.fit import fit
from planner.latency.loadcurve import SAME_LOAD
from planner.latency.model import LatencyModel
from planner.latency.observation import answered_rps
from planner.latency.predict import (
    FIGURES,
    SAME_SHAPE,
    Condition,
    Figure,
    figures,
    figures_over,
    shape_distance,
)
from planner.spec.arrays import FloatArray
from planner.spec.pool import Point, Profile

Mode = Literal["open", "closed", "batch"]

N_CURVE = 60
BEYOND = 1.5  # how far a curve is drawn beyond the measured loads
# Requests per second are tokens per second over again.
_COLUMNS = tuple(column for column in FIGURES if column != "achieved_rps")
# Of each group the first that was measured is drawn.
_DRAWN = (
    ("output_tokens_per_s",),
    ("tpot_mean_ms", "itl_mean_ms", "tpot_p50_ms", "itl_p50_ms", "e2e_mean_ms"),
    ("ttft_mean_ms", "ttft_p50_ms", "ttft_p95_ms"),
    ("e2e_p95_ms", "tpot_p95_ms", "itl_p95_ms", "e2e_p99_ms"),
)


@dataclass(frozen=True)
class LeftOut:
    """One measured figure and what the other loads say it should be, in the unit of its column."""

    load: float  # requests in flight, or requests/s of an open loop
    mode: Mode
    column: str
    measured: float
    predicted: Figure

    @property
    def error_ratio(self) -> float:
        """Returns predicted over measured less one."""
        return self.predicted.value / self.measured - 1.0

    @property
    def within(self) -> bool:
        """Returns whether the measured figure lies in the 90 % band."""
        return self.predicted.low <= self.measured <= self.predicted.high


@dataclass(frozen=True)
class Chart:
    """One figure over the load: the fitted curve with its 90 % band, and what was measured."""

    column: str
    mode: Mode
    input_tokens: float
    output_tokens: float
    loads: FloatArray  # (N,) ascending
    value: FloatArray  # (N,)
    low: FloatArray  # (N,)
    high: FloatArray  # (N,)
    measured: tuple[tuple[float, float], ...]  # (load, figure)


def load_of(point: Point) -> float | None:
    """Returns the load of a point: requests in flight, or requests/s of an open loop."""
    if point.mode == "open":
        return answered_rps(point)
    return point.concurrency


def condition_of(point: Point) -> Condition | None:
    """Returns the condition under which a point was measured, None where its load is unknown."""
    load = load_of(point)
    if load is None:
        return None
    return Condition(point.mode, point.input_tokens, point.output_tokens, load)


def left_out(profile: Profile) -> tuple[LeftOut, ...]:
    """Returns every measured figure with its prediction from the profile's other loads."""
    found: list[LeftOut] = []
    for group in _load_groups(profile.points):
        others = tuple(p for p in profile.points if p not in group)
        try:
            model = fit(replace(profile, points=others))
        except FitError:
            continue
        for point in group:
            found += _compared(model, point)
    return tuple(found)


def charts(model: LatencyModel, n_curve: int | None = None) -> tuple[Chart, ...]:
    """Returns the curves of what was measured, one figure of each kind per way of measuring.

    Args:
        model: a fitted pool.
        n_curve: how many loads a curve has, N_CURVE of them by default.
    """
    n_loads = n_curve or N_CURVE
    made: list[Chart] = []
    for mode in ("closed", "batch", "open"):
        points = [p for p in model.profile.points if p.mode == mode and load_of(p)]
        shape = _commonest_shape(points)
        if shape is None:
            continue
        alike = [p for p in points if shape_distance(p, shape) <= np.log(SAME_SHAPE)]
        for columns in _DRAWN:
            column = next((c for c in columns if any(getattr(p, c) for p in alike)), None)
            if column is None:
                continue
            chart = _chart(model, shape, alike, column, n_loads)
            made += [] if chart is None else [chart]
    return tuple(made)


def _compared(model: LatencyModel, point: Point) -> Iterator[LeftOut]:
    at = condition_of(point)
    if at is None:
        return
    predicted = figures(model, at)
    for column in _COLUMNS:
        measured = getattr(point, column)
        if measured is not None and column in predicted:
            yield LeftOut(at.load, point.mode, column, measured, predicted[column])


def _load_groups(points: Sequence[Point]) -> list[list[Point]]:
    """Returns the points of each load and mode, lightest first; the same load counts as one."""
    groups: list[list[Point]] = []
    known = [p for p in points if load_of(p)]
    for point in sorted(known, key=lambda p: (p.mode, load_of(p) or 0.0)):
        first = groups[-1][0] if groups else None
        same = first is not None and first.mode == point.mode
        if (
            same
            and first is not None
            and (load_of(point) or 0) <= SAME_LOAD * (load_of(first) or 0)
        ):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _commonest_shape(points: Sequence[Point]) -> Point | None:
    """Returns the point whose request shape most points share, the first of equals."""
    limit = np.log(SAME_SHAPE)
    return max(
        points, key=lambda p: sum(shape_distance(q, p) <= limit for q in points), default=None
    )


def _chart(
    model: LatencyModel,
    shape: Point,
    points: Sequence[Point],
    column: str,
    n_loads: int,
) -> Chart | None:
    """Returns the curve of a figure at a request shape, None where the model says nothing."""
    measured = tuple(
        (load_of(p) or 0.0, float(getattr(p, column)))
        for p in points
        if getattr(p, column) is not None
    )
    lightest, heaviest = min(measured)[0], max(measured)[0]
    even = np.geomspace(lightest / BEYOND, heaviest * BEYOND, n_loads)
    loads = np.union1d(even, (lightest, heaviest)).tolist()  # it ends where measuring did
    at = Condition(shape.mode, shape.input_tokens, shape.output_tokens, lightest)
    said = figures_over(model, at, loads, (column,))
    found = [(load, each[column]) for load, each in zip(loads, said, strict=True) if column in each]
    if len(found) < 2:
        return None
    return Chart(
        column=column,
        mode=shape.mode,
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        loads=np.array([load for load, _ in found]),
        value=np.array([f.value for _, f in found]),
        low=np.array([f.low for _, f in found]),
        high=np.array([f.high for _, f in found]),
        measured=measured,
    )
