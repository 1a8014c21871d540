"""Robust fit of non-negative coefficients in log space.

Notation
    theta   coefficients > 0                                        (M,)
    x, y    rows of the design and log measured times               (N, M), (N,)
    z_i     (log(x_i . theta) - y_i) / scale_i
    q_j     (log theta_j - log centre_j) / width_j

Program
    minimise over log theta   sum_i 2 (sqrt(1 + z_i^2) - 1) + sum_j q_j^2
    by Levenberg-Marquardt on the reweighted residuals (weight 1/sqrt(1+z^2))

The loss is soft-l1 (Charbonnier et al. 1997, IEEE Trans. Image Processing 6(2)): one bad row
pulls with a bounded force. Logarithms make a factor of two too slow and too fast equally wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np

from planner.spec.arrays import FloatArray

MAX_STEPS = 200
TOLERANCE = 1e-10


@dataclass(frozen=True)
class LogProblem:
    """A fit of N log times by M positive coefficients with log-normal priors."""

    x: FloatArray  # (N, M)
    log_time: FloatArray  # (N,)
    scale: FloatArray  # (N,)
    centre: FloatArray  # (M,)
    width: FloatArray  # (M,)

    def loss(self, log_theta: FloatArray) -> float:
        """Returns the value to be minimised."""
        z = (np.log(self.x @ np.exp(log_theta)) - self.log_time) / self.scale
        q = (log_theta - np.log(self.centre)) / self.width
        return float(np.sum(2.0 * (np.sqrt(1.0 + z**2) - 1.0)) + np.sum(q**2))

    def normal_equations(self, log_theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns half the gradient (M,) and the reweighted Gauss-Newton matrix (M, M)."""
        parts = self.x * np.exp(log_theta)
        total = parts.sum(axis=1)
        z = (np.log(total) - self.log_time) / self.scale
        weight = 1.0 / np.sqrt(1.0 + z**2)
        slope = parts / total[:, None] / self.scale[:, None]
        prior = (log_theta - np.log(self.centre)) / self.width**2
        matrix = slope.T @ (weight[:, None] * slope) + np.diag(1.0 / self.width**2)
        return slope.T @ (weight * z) + prior, matrix


def fit_log(problem: LogProblem, start: FloatArray | None = None) -> FloatArray:
    """Returns the coefficients theta (M,) in the unit of the centre, all positive.

    `start` (M,) is the answer to nearly the same problem, where one is known.
    """
    if start is not None:
        return np.asarray(np.exp(descend(problem, np.log(start))[0]))
    centre = np.log(problem.centre)
    # A machine twice as slow as its datasheet is slow in everything: start at the right scale.
    pull = median((problem.log_time - np.log(problem.x @ problem.centre)).tolist())
    shifted = np.clip(centre + pull, centre - 2.0 * problem.width, centre + 2.0 * problem.width)
    ends = [descend(problem, shifted), descend(problem, centre)]
    best = ends[0] if ends[0][1] <= ends[1][1] + 1e-12 else ends[1]
    return np.asarray(np.exp(best[0]))


class Descent(Protocol):
    """What can be minimised over the logarithms of its coefficients."""

    def loss(self, log_theta: FloatArray, /) -> float:
        """Returns the value to be minimised."""
        ...

    def normal_equations(self, log_theta: FloatArray, /) -> tuple[FloatArray, FloatArray]:
        """Returns half the gradient (M,) and the reweighted Gauss-Newton matrix (M, M)."""
        ...


def descend(
    problem: Descent, start: FloatArray, tolerance: float = TOLERANCE
) -> tuple[FloatArray, float]:
    """Returns the end of the descent (log theta) and its loss.

    Done when a step lowers the loss by less than `tolerance` of it.
    """
    theta, damping = start.copy(), 1e-3
    loss = problem.loss(theta)
    gradient, matrix = problem.normal_equations(theta)
    for _ in range(MAX_STEPS):
        damped = matrix + damping * np.diag(np.diag(matrix))
        step = np.clip(-np.linalg.solve(damped, gradient), -1.0, 1.0)
        new_loss = problem.loss(theta + step)
        if new_loss > loss:
            damping *= 8.0
            if damping > 1e12:
                break
            continue
        small = loss - new_loss < tolerance * (1.0 + loss)
        theta, loss, damping = theta + step, new_loss, max(damping / 4.0, 1e-9)
        if small:
            break
        gradient, matrix = problem.normal_equations(theta)
    return theta, loss
