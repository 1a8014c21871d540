"""A curve with its band and its measured points, drawn with characters on a logarithmic load."""

from __future__ import annotations

import numpy as np

from planner.profile.review import Chart
from planner.report.figures import number
from planner.spec.arrays import FloatArray

BAND, CURVE, POINT = "░", "─", "●"
HEIGHT = 10
LABEL_WIDTH = 9


def plot(chart: Chart, width: int) -> list[str]:
    """Returns the lines of a plot: HEIGHT rows, an axis and its labels, at most `width` wide."""
    columns = max(width - LABEL_WIDTH - 2, 10)
    cells = [[" "] * columns for _ in range(HEIGHT)]
    at = _log_columns(chart, columns)
    low, high = np.interp(at, chart.loads, chart.low), np.interp(at, chart.loads, chart.high)
    value = np.interp(at, chart.loads, chart.value)
    measured = np.array([figure for _, figure in chart.measured])
    bottom, top = _span(np.concatenate([low, high, measured]))
    for column in range(columns):
        first, last = _row(low[column], bottom, top), _row(high[column], bottom, top)
        for row in range(first, last + 1):
            cells[row][column] = BAND
        cells[_row(value[column], bottom, top)][column] = CURVE
    for load, figure in chart.measured:
        column = int(np.argmin(np.abs(np.log(at) - np.log(load))))
        cells[_row(figure, bottom, top)][column] = POINT
    return [*_body(cells, bottom, top), *_axis(at, columns)]


def _log_columns(chart: Chart, columns: int) -> FloatArray:
    """Returns the load of every column, (columns,)."""
    return np.asarray(np.geomspace(chart.loads[0], chart.loads[-1], columns))


def _span(values: FloatArray) -> tuple[float, float]:
    """Returns the figures at the lower and upper end of the plot; from 0 unless that wastes it."""
    low, high = float(values.min()), float(values.max())
    return (0.0 if low < 0.5 * high else low), high if high > low else low + 1.0


def _row(value: float, bottom: float, top: float) -> int:
    """Returns the row, from the bottom, of a figure."""
    place = (value - bottom) / (top - bottom) * (HEIGHT - 1)
    return int(np.clip(np.rint(place), 0, HEIGHT - 1))


def _body(cells: list[list[str]], bottom: float, top: float) -> list[str]:
    labels = {0: number(bottom), HEIGHT // 2: number(_middle(bottom, top)), HEIGHT - 1: number(top)}
    return [
        f"{labels.get(row, ''):>{LABEL_WIDTH}} │{''.join(cells[row])}".rstrip()
        for row in reversed(range(HEIGHT))
    ]


def _middle(bottom: float, top: float) -> float:
    return bottom + (top - bottom) * (HEIGHT // 2) / (HEIGHT - 1)


def _axis(at: FloatArray, columns: int) -> list[str]:
    """Returns the axis and, below it, the loads at its ends and in between."""
    marks = [0, columns // 3, 2 * columns // 3, columns - 1]
    line = [" "] * columns
    for mark in marks:
        text = number(float(f"{at[mark]:.2g}"))
        start = min(mark, columns - len(text))
        line[start : start + len(text)] = list(text)
    pad = " " * LABEL_WIDTH
    return [f"{pad} └{'─' * columns}", f"{pad}  {''.join(line)}".rstrip()]
