"""Flow of a limited figure over the load of a pool, as convex piecewise-linear curves.

Notation
    g_k    nodes: the grid loads up to the cap, and the cap itself                    (K,)
    f(r)   flow at load r per replica: (r / s) F(r), s the mean work of the pool's mix
           a mean gives requests in the system times ms, a percentile gives late requests per s

F is linear between nodes and rises, so f is convex there and its chords lie above it. Where slopes
fall from one segment to the next, the upper majorant keeps the larger slope (conservative); the
lower hull of nodes and tangents lies below f everywhere (a bound at the table's mix, §5).
"""

from __future__ import annotations

import numpy as np

from planner.spec.arrays import FloatArray


def upper_majorant(nodes: FloatArray, flow: FloatArray) -> FloatArray:
    """Returns slopes (K-1,) of a convex curve from flow[0] that is nowhere below the flow (K,)."""
    width = np.diff(nodes)
    slopes = np.empty_like(width)
    height, steepest = float(flow[0]), 0.0
    for k in range(width.size):
        steepest = max(steepest, (float(flow[k + 1]) - height) / float(width[k]))
        slopes[k] = steepest
        height += steepest * float(width[k])
    return slopes


def majorant_gap(nodes: FloatArray, flow: FloatArray, slopes: FloatArray) -> float:
    """Returns the largest distance of the majorant from the flow, as a ratio of the last flow."""
    heights = flow[0] + np.concatenate([[0.0], np.cumsum(slopes * np.diff(nodes))])
    return float(np.max(heights - flow) / max(float(flow[-1]), 1e-300))


def lower_hull(nodes: FloatArray, figure: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns points (x, y) of a convex curve below r F(r) for F linear between nodes, (H,), (H,).

    Per segment the quadratic r F(r) lies above its two end tangents, which meet in the middle.
    """
    width, rise = np.diff(nodes), np.diff(figure)
    flow = nodes * figure
    middle = 0.5 * (nodes[:-1] + nodes[1:])
    tangent = flow[:-1] + (figure[:-1] + nodes[:-1] * rise / width) * width / 2.0
    chord = 0.5 * (flow[:-1] + flow[1:])
    x = np.concatenate([nodes, middle])
    y = np.concatenate([flow, np.minimum(tangent, chord)])
    order = np.argsort(x, kind="stable")
    hull: list[tuple[float, float]] = []
    for point in zip(x[order].tolist(), y[order].tolist(), strict=True):
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return np.array([h[0] for h in hull]), np.array([h[1] for h in hull])


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Returns whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
