"""RouterWise for one set-up (arXiv 2604.10907): gradient ascent over load fractions, and bisection.

Notation
    w_m     load fraction of model m, on the simplex of the models that are there   ratio    (M,)
    S(w)    best mean quality at these fractions; alpha = dS/dw                     quality
    r_m     load per replica of its pool: w_m rate s_m / n_m                        dimensionless
    l_m(r)  figure of its pool over its limit                                       ratio
    L(w)    sum_m w_m l_m(r_m), over the limit (tau = 1)                            ratio
    tau     what L may be: 1, or less where the real limits were missed             ratio
    beta    price of L                                                              quality

Program
    stage 1   projected gradient ascent of  S(w) - beta (L(w) / tau - 1),
              dL/dw_m = l_m + r_m l_m'(r_m)
    stage 2   bisection on beta until L = tau; the best w with L <= tau is the answer

l_m is linear between the loads of the pool's table, and steep beyond its cap, as published. The
paper limits the mean latency. Where a question limits percentiles or classes, l_m is the worst of
the limits over the model's own traffic, and L is still their mean: a stand-in, judged by the real
limits afterwards. Without limits l_m is 1 up to the cap, so that only overload counts.

In the paper l_m depends on the rate alone. Here requests of one class make more work than those of
another, and a model gets the classes that it is best at: so s_m and l_m are those of the classes
that the last round gave it, at most four rounds, the first with the mix of all traffic; and what a
round missed of the real limits lowers tau of the next, what it left unserved the caps. On the rate
alone most set-ups overload.

Not published, and chosen here: steps (lengths 0.25, 0.25 a, 0.25 a^2, ... along the gradient of
norm 1, from the even split), their number, the slope beyond the cap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.named.fractions import Fractions
from planner.objectives import Evaluation
from planner.search.problem import ACCEPTED_VIOLATION
from planner.spec.arrays import FloatArray, IntArray

N_ROUNDS = 4
N_STEPS = 60
STEP = 0.25
SHORTER = 0.9
N_RAISES = 10
N_HALVINGS = 12
FIRST_BETA = 0.01
STEEP = 1000.0
"""Figures that one unit of relative overload adds."""
MARGIN = 1.005
"""What was missed is asked more strictly by this, too."""
_KEPT = 1e-6


@dataclass(frozen=True)
class _Curve:
    """The figure of a model's pool over its load fraction."""

    fraction: FloatArray  # (K,) ascending from 0; the last is the cap's
    figure: FloatArray  # (K,)

    def at(self, w: float) -> tuple[float, float]:
        """Returns l and its slope in w."""
        x, y = self.fraction, self.figure
        if w >= x[-1]:
            slope = STEEP * max(float(y[-1]), 1.0) / float(x[-1])
            return float(y[-1]) + slope * (w - float(x[-1])), slope
        k = int(np.searchsorted(x, w, side="right")) - 1
        slope = float((y[k + 1] - y[k]) / (x[k + 1] - x[k]))
        return float(y[k]) + slope * (w - float(x[k])), slope


@dataclass(frozen=True)
class Answered:
    """The load fractions that were found for a set-up."""

    fractions: FloatArray  # (M,)
    quality: float  # S
    latency: float  # L / tau, at most 1 where it keeps the limit


class Ascent:
    """The two stages for set-ups of one case."""

    def __init__(self, fractions: Fractions) -> None:
        self._fractions = fractions
        workload = fractions.objectives.case.workload
        self._rate_rps = workload.total_rps
        self._limited = bool(workload.limits)

    def evaluate(self, replicas: IntArray) -> Evaluation:
        """Returns the best evaluation of a set-up (P,) of at most one pool per model."""
        workload = self._fractions.objectives.case.workload
        mixes = np.tile(workload.weights, (self._fractions.n_models, 1))
        start, tau, room, best = None, 1.0, 1.0, None
        for _ in range(N_ROUNDS):
            answer = self.solve(replicas, mixes, tau, room, start)
            found = self._fractions.evaluate(replicas, answer.fractions)
            if best is None or _rank(found) < _rank(best):
                best = found
            given = self._fractions.transport.at(answer.fractions).shares.T * workload.weights
            there = given.sum(axis=1) > 0
            mixes[there] = given[there] / given[there].sum(axis=1, keepdims=True)
            missed = found.latency if workload.limits else 1.0
            lost = float(found.routing.unserved @ workload.weights)
            if found.violation <= ACCEPTED_VIOLATION or (missed <= 1.0 and lost == 0.0):
                break  # acceptable, or short of quality alone
            start, tau = answer.fractions, tau / max(1.0, MARGIN * missed)
            room *= max(0.5, 1.0 - 2.0 * lost)
        assert best is not None  # there is at least one round
        return best

    def solve(
        self,
        replicas: IntArray,
        mixes: FloatArray,
        tau: float = 1.0,
        room: float = 1.0,
        start: FloatArray | None = None,
    ) -> Answered:
        """Returns the best load fractions of a set-up (P,) with given class mixes.

        Args:
            replicas: of each pool; at most one pool per model.
            mixes: classes of each model's traffic, (M, C).
            tau: what L may be.
            room: part of each pool's cap that may be used.
            start: load fractions to start from, (M,); None: all models alike.
        """
        curves = self._curves(replicas, mixes, tau, room)
        there = np.array([curve is not None for curve in curves])
        best = self._climb(curves, there, 0.0, there / there.sum() if start is None else start)
        if best.latency <= 1.0 + _KEPT:
            return best
        low, high = 0.0, FIRST_BETA
        for _ in range(N_RAISES):
            tried = self._climb(curves, there, high, best.fractions)
            best = _better(best, tried)
            if tried.latency <= 1.0 + _KEPT:
                break
            low, high = high, 4.0 * high
        else:
            return best  # no price of latency keeps the limit
        for _ in range(N_HALVINGS):
            beta = (low + high) / 2
            tried = self._climb(curves, there, beta, best.fractions)
            best = _better(best, tried)
            low, high = (low, beta) if tried.latency <= 1.0 else (beta, high)
        return best

    def _climb(
        self,
        curves: list[_Curve | None],
        there: FloatArray,
        beta: float,
        start: FloatArray,
    ) -> Answered:
        """Returns the best point of stage 1 at a price."""
        w, best_value = start, -np.inf
        best = Answered(start, -np.inf, np.inf)
        for step in range(N_STEPS):
            assigned = self._fractions.transport.at(w)
            latency, slope = _latency(curves, w)
            value = assigned.value - beta * (latency - 1.0)
            if value > best_value:
                best_value, best = value, Answered(w, assigned.value, latency)
            uphill = np.where(there, assigned.prices - beta * slope, 0.0)
            uphill = np.where(there, uphill - uphill.sum() / there.sum(), 0.0)
            length = float(np.linalg.norm(uphill))
            if length < 1e-12:
                break
            w = on_simplex(w + STEP * SHORTER**step * uphill / length, there)
        return best

    def _curves(
        self, replicas: IntArray, mixes: FloatArray, tau: float, room: float
    ) -> list[_Curve | None]:
        found: list[_Curve | None] = []
        for group, mix in zip(self._fractions.groups, mixes, strict=True):
            used = group.pools[replicas[group.pools] > 0]
            flow = np.where(np.isfinite(group.quality), mix, 0.0)
            if not used.size or flow.sum() <= 0:
                found.append(None)
                continue
            found.append(self._curve(int(used[0]), int(replicas[used[0]]), flow, tau, room))
        return found

    def _curve(
        self, pool: int, n_replicas: int, flow: FloatArray, tau: float, room: float
    ) -> _Curve:
        """Returns the curve of replicas of a pool for a flow of classes (C,), over tau."""
        table, cap = self._fractions.objectives.tables[pool], float(self._fractions.caps[pool])
        cap *= room
        loads = np.append(table.loads[table.loads < cap - 1e-12], cap)
        figure = np.ones(loads.size)
        if self._limited:
            figure = np.interp(loads, table.loads, self._fractions.figures(pool, flow)) / tau
        whole = self._rate_rps * self._fractions.work_s(pool, flow) / n_replicas
        return _Curve(loads / max(whole, 1e-12), np.minimum(figure, STEEP))


def on_simplex(point: FloatArray, there: FloatArray) -> FloatArray:
    """Returns the nearest point of the simplex, (M,), zero where a model is not there."""
    inside = np.flatnonzero(there)
    ordered = np.sort(point[inside])[::-1]
    over = np.cumsum(ordered) - 1.0
    last = int(np.flatnonzero(ordered > over / np.arange(1, ordered.size + 1))[-1])
    projected = np.zeros_like(point)
    projected[inside] = np.maximum(point[inside] - over[last] / (last + 1), 0.0)
    return projected


def _latency(curves: list[_Curve | None], w: FloatArray) -> tuple[float, FloatArray]:
    """Returns L(w) and its gradient, (M,)."""
    total, gradient = 0.0, np.zeros_like(w)
    for m, curve in enumerate(curves):
        if curve is not None:
            figure, slope = curve.at(float(w[m]))
            total += float(w[m]) * figure
            gradient[m] = figure + float(w[m]) * slope
    return total, gradient


def _rank(evaluation: Evaluation) -> tuple[float, float]:
    return evaluation.violation, -evaluation.quality


def _better(one: Answered, other: Answered) -> Answered:
    """Returns the one that keeps the limit with more quality; else the one nearer to it."""

    def rank(answer: Answered) -> tuple[bool, float]:
        keeps = answer.latency <= 1.0 + _KEPT
        return keeps, answer.quality if keeps else -answer.latency

    return max(one, other, key=rank)
