"""Ridge regression in closed form, with exact predictions that leave a row's group out.

Notation
    n, F, K   rows, features, targets
    X (n, F), y (n, K)     features and targets
    U (n, 1 + C)           a column of ones and one column per class: the levels
    k                      pseudo-count of the class levels, in rows; the common level is free
    M = I - U (U'U + D)^-1 U'     what the levels leave over; D = diag(0, k, ..., k)
    S_a = (X'MX + aI)^-1   b = S_a X'My     slopes at penalty a
    H                      I - H = M - MX S_a X'M, the residual maker: e = (I - H) y

For a group g of rows that stand for one prompt, the residual of a fit without them is
(I - H_gg)^-1 e_g: no fit is repeated. Without classes M = I: nothing is free, a level of zero.
A penalty is chosen per target where the squared left-out residuals are smallest. Where all rows
are one group, leaving it out leaves nothing to learn from: slopes are 0, predictions the levels.

References
    leave-one-out residuals: Allen, Technometrics 16 (1974) 125 (PRESS), by blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray, IntArray

PENALTIES_PER_ROW = np.geomspace(1e-4, 1e3, 15)
"""Penalties that are tried, per row, for features of unit variance."""


@dataclass(frozen=True)
class Levels:
    """Class levels that are fitted along with the slopes."""

    code: IntArray  # (n,) class of each row
    n_classes: int
    strength: float  # pseudo-count k


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge and what it says of each row when the row's group is left out."""

    slope: FloatArray  # (F, K)
    level: FloatArray  # (C, K) of each class; (0, K) without classes
    common: FloatArray  # (K,) level of an unknown class; 0 without classes
    left_out: FloatArray  # (n, K) predictions
    penalty: FloatArray  # (K,)


def fit_ridge(x: FloatArray, y: FloatArray, group: IntArray, levels: Levels | None = None) -> Ridge:
    """Returns the ridge of y (n, K) on x (n, F), each target with its best penalty."""
    maker = _LevelRemover(levels, x.shape[0])
    blocks = _blocks(group)
    if sum(rows.shape[0] for rows in blocks) < 2:
        common, level = maker.levels(y)
        nothing = np.zeros((x.shape[1], y.shape[1]))
        left_out = np.broadcast_to(common, y.shape).copy()
        return Ridge(nothing, level, common, left_out, np.full(y.shape[1], np.inf))
    path = _Path(x, y, blocks, maker)
    tried = PENALTIES_PER_ROW * x.shape[0]
    error = np.stack([(path.left_out_residual(p) ** 2).sum(axis=0) for p in tried])
    penalty = tried[error.argmin(axis=0)]
    slope, left_out = np.empty((x.shape[1], y.shape[1])), np.empty_like(y)
    for p in np.unique(penalty):
        chosen = penalty == p
        slope[:, chosen] = path.slope(p)[:, chosen]
        left_out[:, chosen] = (y - path.left_out_residual(p))[:, chosen]
    common, level = maker.levels(y - x @ slope)
    return Ridge(slope, level, common, left_out, penalty)


def class_sums(value: FloatArray, code: IntArray, n_classes: int) -> FloatArray:
    """Returns the sums of rows (n, K) by class, (C, K)."""
    return np.stack([np.bincount(code, column, n_classes) for column in value.T], axis=1)


class _Path:
    """The fits at all penalties: what does not depend on the penalty is made once."""

    def __init__(
        self, x: FloatArray, y: FloatArray, blocks: list[IntArray], maker: _LevelRemover
    ) -> None:
        left_x, self._left_y = maker.remove(x), maker.remove(y)
        self._value, self._vector = np.linalg.eigh(x.T @ left_x)
        self._turned = left_x @ self._vector
        self._moment = self._vector.T @ (x.T @ self._left_y)
        self._square = self._turned**2
        self._blocks = [(rows, maker.block(rows)) for rows in blocks]

    def slope(self, penalty: float) -> FloatArray:
        """Returns the slopes, (F, K)."""
        slope: FloatArray = self._vector @ (self._moment / (self._value + penalty)[:, None])
        return slope

    def left_out_residual(self, penalty: float) -> FloatArray:
        """Returns the residuals (n, K) of fits without each row's group."""
        stretched = self._value + penalty
        residual: FloatArray = self._left_y - self._turned @ (self._moment / stretched[:, None])
        leverage = self._square @ (1.0 / stretched)
        for rows, own in self._blocks:
            if rows.shape[1] == 1:
                residual[rows[:, 0]] /= (own[:, 0, 0] - leverage[rows[:, 0]])[:, None]
            else:
                turned = self._turned[rows]
                left = own - (turned / stretched) @ turned.transpose(0, 2, 1)
                residual[rows] = np.linalg.solve(left, residual[rows])
        return residual


class _LevelRemover:
    """Takes class levels out of columns: multiplies by M without ever building it."""

    def __init__(self, levels: Levels | None, n_rows: int) -> None:
        self._n_classes = 0 if levels is None else levels.n_classes
        self._code = np.zeros(n_rows, dtype=np.int64) if levels is None else levels.code
        self._inverse = np.zeros((self._n_classes + 1, self._n_classes + 1))
        if levels is not None and n_rows:
            count = np.bincount(self._code, minlength=self._n_classes).astype(np.float64)
            normal = np.diag(np.concatenate([[float(n_rows)], count + levels.strength]))
            normal[0, 1:] = normal[1:, 0] = count
            self._inverse = np.linalg.inv(normal)

    def levels(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the common level (K,) and that of every class (C, K), the common one included."""
        sums = np.zeros((self._n_classes + 1, y.shape[1]))
        if self._n_classes:
            sums[1:] = class_sums(y, self._code, self._n_classes)
            sums[0] = sums[1:].sum(axis=0)
        fitted = self._inverse @ sums
        return fitted[0], fitted[0] + fitted[1:]

    def remove(self, y: FloatArray) -> FloatArray:
        """Returns My, (n, K)."""
        if not self._n_classes:
            return y.copy()
        return y - self.levels(y)[1][self._code]

    def block(self, rows: IntArray) -> FloatArray:
        """Returns M among the rows of groups: (G, s) -> (G, s, s)."""
        identity = np.eye(rows.shape[1])
        if not self._n_classes:
            return np.broadcast_to(identity, (*rows.shape, rows.shape[1]))
        code = self._code[rows] + 1
        p = self._inverse
        shared = p[0, 0] + p[0, code][:, :, None] + p[0, code][:, None, :]
        left: FloatArray = identity - shared - p[code[:, :, None], code[:, None, :]]
        return left


def _blocks(group: IntArray) -> list[IntArray]:
    """Returns the rows of groups, one array (G, s) for every group size s."""
    order = np.argsort(group, kind="stable")
    _, first, size = np.unique(group[order], return_index=True, return_counts=True)
    return [order[first[size == s][:, None] + np.arange(s)] for s in np.unique(size).tolist()]
