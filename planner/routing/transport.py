"""The best answers at given load fractions: which classes go to which models.

Notation
    p_c      traffic share of class c; they sum to 1                          ratio    (C,)
    q_cm     quality of model m on class c, NaN where it may not answer it    ratio    (C, M)
    w_m      load fraction: the share of all requests that model m gets       ratio    (M,)
    x_cm     share of class c that goes to model m                            ratio    (C, M)
    alpha_m  price of a request on model m: dS/dw_m                           quality  (M,)

The program   [RouterWise, arXiv 2604.10907: S(w), whose dual is min over alpha of
               mean_c max_m (q_cm - alpha_m) + w alpha, and whose gradient is that alpha]
    S(w) = max  sum_cm p_c q_cm x_cm
           s.t. sum_m x_cm = 1                       every class is answered
                sum_c p_c x_cm + l_m - h_m = w_m     every model gets its fraction

l and h are there for fractions that no assignment reaches (a class that only one model may answer):
each costs more than any quality, so the assignment then is the best of those that come closest.
With two models the optimum sends a class by q_1 - q_2 against one threshold, as BOute does.

Between two solves only w changes, so GLOP goes on from its last basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray

_AWAY = 4.0
"""Price of a fraction that is not reached, in quality: more than two models can differ by."""


@dataclass(frozen=True)
class Assigned:
    """The best assignment at load fractions."""

    value: float  # S(w), less what is not reached
    shares: FloatArray  # (C, M) rows sum to 1
    prices: FloatArray  # (M,) alpha


class Transport:
    """S(w) of one workload, kept by GLOP between solves."""

    def __init__(self, weight: FloatArray, quality: FloatArray) -> None:
        from ortools.linear_solver import pywraplp

        n_classes, n_models = quality.shape
        if not np.isfinite(quality).any(axis=1).all():
            raise ValueError("a class has no model that may answer it")
        self._solver = pywraplp.Solver.CreateSolver("GLOP")
        self._optimal = pywraplp.Solver.OPTIMAL
        self._parameters = pywraplp.MPSolverParameters()
        # With presolve or scaling GLOP would start anew each time.
        self._parameters.SetIntegerParam(self._parameters.PRESOLVE, self._parameters.PRESOLVE_OFF)
        self._parameters.SetIntegerParam(self._parameters.SCALING, self._parameters.SCALING_OFF)
        infinity = self._solver.infinity()
        objective = self._solver.Objective()
        objective.SetMaximization()
        served = [self._solver.Constraint(1.0, 1.0) for _ in range(n_classes)]
        self._fractions = [self._solver.Constraint(0.0, 0.0) for _ in range(n_models)]
        self._cells = [tuple(at) for at in np.argwhere(np.isfinite(quality)).tolist()]
        self._shares = []
        for c, m in self._cells:
            share = self._solver.NumVar(0.0, infinity, "")
            served[c].SetCoefficient(share, 1.0)
            self._fractions[m].SetCoefficient(share, float(weight[c]))
            objective.SetCoefficient(share, float(weight[c] * quality[c, m]))
            self._shares.append(share)
        for row in self._fractions:
            for sign in (1.0, -1.0):
                away = self._solver.NumVar(0.0, infinity, "")
                row.SetCoefficient(away, sign)
                objective.SetCoefficient(away, -_AWAY)
        self._shape = quality.shape

    def at(self, fractions: FloatArray) -> Assigned:
        """Returns the best assignment at load fractions (M,), not negative and summing to 1."""
        for row, fraction in zip(self._fractions, fractions.tolist(), strict=True):
            row.SetBounds(fraction, fraction)
        status = self._solver.Solve(self._parameters)
        if status != self._optimal:
            raise RuntimeError(f"the assignment program has an optimum, GLOP says {status}")
        shares = np.zeros(self._shape)
        for (c, m), share in zip(self._cells, self._shares, strict=True):
            shares[c, m] = max(share.solution_value(), 0.0)
        prices = np.array([row.dual_value() for row in self._fractions])
        value = float(self._solver.Objective().Value())
        return Assigned(value, shares / shares.sum(axis=1, keepdims=True), prices)
