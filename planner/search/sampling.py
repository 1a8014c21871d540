"""Points of a box: sparse draws, uniform draws, repair, neighbours.

Notation
    z        a point                                                        (d,)
    A, b     rows and limits of the box: A z <= b                           (r, d), (r,)
    e_j      one unit of coordinate j
    excess   sum over rows of max(0, A z - b) / max|A|: how far z is outside  scalar
    scarce   a coordinate that some row counts; the others are free

Why sparse. Independent uniform integers, repaired, nearly always fill every limit: small
deployments are then never drawn, though they are one end of every front. A sparse draw
fills the box in a random order until nothing fits, and keeps a random beginning of that
filling, so every amount of use is as likely as any other. A free coordinate uses nothing,
has no sparse end, and is drawn uniformly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from planner.search.problem import (
    ROW_TOLERANCE,
    BoolVector,
    Box,
    FloatVector,
    IntMatrix,
    IntVector,
)

_MAX_UNITS = 256
"""Units placed in one filling at most; bounds the time of a draw in a very wide box."""
_DRAWS = 64
"""Points drawn at once while unseen ones are looked for."""
_PATIENCE = 20
"""Draws without anything unseen before a sampler is taken to have nothing left."""
_LISTED = 50_000
"""Boxes up to this size are listed, which makes a uniform draw exact."""
_SWEEPS = 20
"""Gibbs sweeps over all coordinates before a uniform draw from a box too large to list."""


def sparse_points(box: Box, n_points: int, rng: np.random.Generator) -> IntMatrix:
    """Returns at most `n_points` random admitted points, (n, d), most with few units placed.

    Points may repeat. Fewer come back where a draw cannot be repaired into the box.
    """
    points, placed = _filled(box, n_points, rng)
    n_placed = np.sum(placed >= 0, axis=1)
    keep = rng.integers(np.minimum(1, n_placed), n_placed + 1)
    late = (np.arange(placed.shape[1]) >= keep[:, None]) & (placed >= 0)
    who, step = np.nonzero(late)
    np.subtract.at(points, (who, placed[who, step]), 1)
    for i in np.flatnonzero(~box.admits(points)):
        points[i] = repaired(points[i], box, rng)
    return points[box.admits(points)]


def _filled(box: Box, n_points: int, rng: np.random.Generator) -> tuple[IntMatrix, IntMatrix]:
    """Random maximal fillings (n, d), and the coordinate of each step (n, steps), -1 = none."""
    free = ~np.any(box.rows != 0.0, axis=0)
    points = np.tile(box.lower, (n_points, 1))
    points[:, free] = rng.integers(box.lower[free], box.upper[free] + 1, (n_points, free.sum()))
    steps: list[IntVector] = []
    for _ in range(_MAX_UNITS):
        fits = _fitting(points, box) & ~free
        can = fits.any(axis=1)
        if not can.any():
            break
        pick = np.argmax(np.where(fits, rng.random(fits.shape), -1.0), axis=1)
        points[can, pick[can]] += 1
        steps.append(np.where(can, pick, -1))
    placed = np.stack(steps, axis=1) if steps else np.empty((n_points, 0), dtype=np.int64)
    return points, placed


def _fitting(points: IntMatrix, box: Box) -> BoolVector:
    """Which units e_j may be added to which points (n, d): no limit is newly broken, and
    one that is broken already (a least amount not yet met) gets no worse."""
    used = points @ box.rows.T
    ceiling = np.maximum(box.limits, used) + ROW_TOLERANCE
    after = used[:, None, :] + box.rows.T
    fits = np.all(after <= ceiling[:, None, :], axis=2) & (points < box.upper)
    return np.asarray(fits, dtype=np.bool_)


def repaired(point: IntVector, box: Box, rng: np.random.Generator) -> IntVector:
    """Returns `point` (d,) after moves to a neighbour, each the one that lowers the excess most.

    Ties are broken at random. Stops where no move helps, so the result may still be outside.
    """
    current = np.clip(point, box.lower, box.upper)
    excess = _excess(current[None, :], box)[0]
    while excess > 0.0:
        moves = _moved(current, box)
        if not len(moves):
            break
        after = _excess(moves, box)
        if after.min() >= excess:
            break
        current = moves[rng.choice(np.flatnonzero(after == after.min()))]
        excess = after.min()
    return current


def _excess(points: IntMatrix, box: Box) -> FloatVector:
    scale = np.max(np.abs(box.rows), axis=1, initial=0.0)
    over = points @ box.rows.T - box.limits
    over = np.where(over > ROW_TOLERANCE, over, 0.0)
    return np.asarray(np.sum(over / np.where(scale > 0, scale, 1.0), axis=1), dtype=np.float64)


def uniform_points(box: Box, n_points: int, rng: np.random.Generator) -> IntMatrix:
    """Returns at most `n_points` admitted points, each equally likely, (n, d); may repeat.

    Exact in boxes of up to 50,000 points. In larger ones each point is the end of its own
    Gibbs walk of 20 sweeps, so it is uniform only in the limit of long walks.
    """
    if box.count(_LISTED) <= _LISTED:
        listed = box.points(_LISTED)
        return listed[rng.integers(len(listed), size=n_points)] if len(listed) else listed
    points = sparse_points(box, n_points, rng)
    for _ in range(_SWEEPS):
        for j in rng.permutation(box.n_dims):
            low, high = _interval(points, int(j), box)
            points[:, j] = rng.integers(low, high + 1)
    return points


def _interval(points: IntMatrix, j: int, box: Box) -> tuple[IntVector, IntVector]:
    """The lowest and highest admitted value of coordinate j, all others as they are, (n,)."""
    coefficient = box.rows[:, j]
    room = box.limits + ROW_TOLERANCE - points @ box.rows.T + points[:, [j]] * coefficient
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = room / coefficient
    high = np.where(coefficient > 0, np.floor(edge), box.upper[j]).min(axis=1, initial=box.upper[j])
    low = np.where(coefficient < 0, np.ceil(edge), box.lower[j]).max(axis=1, initial=box.lower[j])
    # The present value is admitted; rounding of `edge` must not push it out.
    here = points[:, j]
    return np.minimum(low, here).astype(np.int64), np.maximum(high, here).astype(np.int64)


def neighbours(point: IntVector, box: Box) -> IntMatrix:
    """Returns the admitted points one move away from `point` (d,), (n, d), lexicographic.

    A move adds or removes one unit, or exchanges units of two coordinates one for one, one
    for two or two for one (units of different size rarely swap one for one).
    """
    moved = _moved(point, box)
    return np.asarray(np.unique(moved[box.admits(moved)], axis=0), dtype=np.int64)


def _moved(point: IntVector, box: Box) -> IntMatrix:
    """All moves from `point` that stay between lower and upper, rows not regarded, (n, d)."""
    unit = np.eye(box.n_dims, dtype=np.int64)
    pairs = np.outer(point > box.lower, point < box.upper) & ~np.eye(box.n_dims, dtype=np.bool_)
    give, take = np.nonzero(pairs)
    exchanges = [n * unit[take] - k * unit[give] for k, n in ((1, 1), (1, 2), (2, 1))]
    moved = point + np.concatenate([unit, -unit, *exchanges])
    inside = np.all((moved >= box.lower) & (moved <= box.upper), axis=1)
    return np.asarray(moved[inside], dtype=np.int64)


def unseen_points(
    box: Box,
    n_points: int,
    rng: np.random.Generator,
    unseen: Callable[[IntMatrix], IntMatrix],
) -> IntMatrix:
    """Returns `n_points` distinct points that `unseen` lets pass, (n, d), fewer if fewer exist.

    Sparse draws first; where those find nothing new any more, the rest of the box in random
    order if it can be listed, else uniform draws.
    """
    found = np.empty((0, box.n_dims), dtype=np.int64)
    misses = 0
    while len(found) < n_points and misses < _PATIENCE:
        before = len(found)
        found = unseen(np.concatenate([found, sparse_points(box, _DRAWS, rng)]))
        misses = misses + 1 if len(found) == before else 0
    if len(found) < n_points:
        listed = box.count(_LISTED) <= _LISTED
        rest = box.points(_LISTED) if listed else uniform_points(box, _PATIENCE * _DRAWS, rng)
        found = unseen(np.concatenate([found, rng.permutation(rest)]))
    return found[:n_points]
