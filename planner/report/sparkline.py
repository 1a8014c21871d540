"""A series as one line of characters, as high as its figures; plain ones where blocks cannot go."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from planner.spec.arrays import FloatArray

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-=+*#@"


def levels_for(encoding: str) -> str:
    """Returns the characters from low to high that an encoding can hold."""
    try:
        BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return BLOCKS


def sparkline(values: FloatArray, width: int, levels: str = BLOCKS, peaks: bool = False) -> str:
    """Returns values (B,) from 0 to their largest as at most `width` characters.

    Args:
        values: in order of time; NaN, which is nothing, becomes a blank.
        width: columns; where there are more values, several share one.
        levels: characters from low to high.
        peaks: whether the largest stands for values that share a column, instead of their mean.
    """
    parts = _columns(values, width)
    known = [part[np.isfinite(part)] for part in parts]
    drawn = [(float(part.max() if peaks else part.mean())) if part.size else None for part in known]
    top = max((value for value in drawn if value is not None), default=0.0)
    return "".join(" " if value is None else _level(value, top, levels) for value in drawn)


def _columns(values: FloatArray, width: int) -> list[FloatArray]:
    """Returns the values of each column, one or more, as even as can be."""
    edges = np.linspace(0, values.size, min(values.size, max(width, 1)) + 1).astype(int)
    return [values[a:b] for a, b in pairwise(edges.tolist())]


def _level(value: float, top: float, levels: str) -> str:
    place = value / top * (len(levels) - 1) if top > 0 else 0.0
    return levels[round(max(place, 0.0))]
