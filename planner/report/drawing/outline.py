"""The corners of markers, for whatever draws them."""

from __future__ import annotations

from planner.report.drawing.marks import Marker, Points, Shape

# In half sizes around the middle; areas are about that of the circle.
_CORNERS: dict[Shape, Points] = {
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "diamond": ((0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)),
    "triangle": ((0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    "right": ((1.2, 0.0), (-0.9, 1.15), (-0.9, -1.15)),
}


def outline(mark: Marker) -> Points:
    """Returns the corners of a marker that is not a circle, in px."""
    half = mark.size / 2
    return tuple((mark.x + half * x, mark.y + half * y) for x, y in _CORNERS[mark.shape])
