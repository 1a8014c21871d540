"""The column master: a small linear program that grows and is solved again from where it stood.

Notation: see prices.py; here one row per option, limit and floor, all scaled near 1
    z_j   part of policy j in the mixture        y_s   load of segment s        v_r   shortfall

    phase 2   max  sum_j G_j z_j
    phase 1   max  -sum_r v_r
    s.t.  one       sum_j z_j                                   =  1
          load:m    sum_j l_jm z_j - sum_{s of m} y_s - v_m     <= 0           price mu_m
          limit:l   sum_s slope_ls y_s - v_l                    <= b_l         price lambda_l
          floor     sum_j Q_j z_j + v_floor                     >= floor       price nu
          0 <= y_s <= width_s,   0 <= v_r  (phase 2: <= what phase 1 left, which is rounding)

The solver is kept alive between solves: GLOP goes on from its last basis, which takes a tenth of a
millisecond for a dozen rows, a fresh program several times that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from ortools.linear_solver.pywraplp import Constraint, Variable


@dataclass(frozen=True)
class Rows:
    """What the mixture must keep, in scaled units: segments (S,), options (M,) and limits (L,)."""

    option: IntArray  # (S,) row of the option whose load a segment carries
    width: FloatArray  # (S,)
    slope: FloatArray  # (L, S)
    limit: FloatArray  # (L,)
    floor: float | None
    n_options: int

    def take(self, kept: BoolArray) -> Rows:
        """Returns the rows with some of the segments only, (S,)."""
        option, width = self.option[kept], self.width[kept]
        return replace(self, option=option, width=width, slope=self.slope[:, kept])

    def carried(self, prices: Prices) -> float:
        """Returns what segments, limits and floor are worth at prices: their part of the bound."""
        profit = np.maximum(0.0, prices.load[self.option] - prices.limit @ self.slope)
        floor = 0.0 if self.floor is None else prices.floor * self.floor
        return float(self.width @ profit + prices.limit @ self.limit) - floor


@dataclass(frozen=True)
class Prices:
    """Prices of the rows, none of them negative, in the units of whoever holds them."""

    load: FloatArray  # mu (M,)
    limit: FloatArray  # lambda (L,)
    floor: float  # nu

    def towards(self, other: Prices, part: float) -> Prices:
        """Returns the prices that lie a part of the way to others."""
        return Prices(
            self.load + part * (other.load - self.load),
            self.limit + part * (other.limit - self.limit),
            self.floor + part * (other.floor - self.floor),
        )


@dataclass(frozen=True)
class Mixed:
    """The best mixture of the columns."""

    value: float
    worth: float  # theta: what a column must be worth at the prices to enter the mixture
    prices: Prices


class ColumnMaster:
    """A mixture of policies over the segments of one deployment, kept by GLOP."""

    def __init__(self, rows: Rows) -> None:
        from ortools.linear_solver import pywraplp

        self._solver = pywraplp.Solver.CreateSolver("GLOP")
        self._cautious = pywraplp.MPSolverParameters()
        self._parameters = pywraplp.MPSolverParameters()
        # Both take longer than such a solve; the rows are scaled already.
        self._parameters.SetIntegerParam(self._parameters.PRESOLVE, self._parameters.PRESOLVE_OFF)
        self._parameters.SetIntegerParam(self._parameters.SCALING, self._parameters.SCALING_OFF)
        self._infinity = float(self._solver.infinity())
        self._objective = self._solver.Objective()
        self._objective.SetMaximization()
        self._parts: list[Variable] = []
        self._gains: list[float] = []
        self._add_rows(rows)
        self._first_phase = False

    def add(self, gain: float, quality: float, load: FloatArray) -> None:
        """Adds a policy with its gain, quality and loads (M,)."""
        part = self._solver.NumVar(0.0, self._infinity, "")
        self._one.SetCoefficient(part, 1.0)
        for row, value in zip(self._load, load.tolist(), strict=True):
            if value:
                row.SetCoefficient(part, value)
        if self._floor is not None:
            self._floor.SetCoefficient(part, quality)
        if not self._first_phase:
            self._objective.SetCoefficient(part, gain)
        self._parts.append(part)
        self._gains.append(gain)

    def set_limits(self, limit: FloatArray) -> None:
        """Replaces the limits (L,); the next solve goes on from the last one."""
        for row, most in zip(self._limit, limit.tolist(), strict=True):
            row.SetUb(most)

    def begin_first_phase(self) -> None:
        """Makes the least sum of shortfalls the objective."""
        self._first_phase = True
        for part in self._parts:
            self._objective.SetCoefficient(part, 0.0)
        for short in self._short:
            short.SetUb(self._infinity)
            self._objective.SetCoefficient(short, -1.0)

    def end_first_phase(self, with_rest: bool) -> None:
        """Makes the gain the objective again; with what rest of the shortfalls is left, or none."""
        rest = [max(0.0, short.solution_value()) if with_rest else 0.0 for short in self._short]
        for short, most in zip(self._short, rest, strict=True):
            short.SetUb(most)
            self._objective.SetCoefficient(short, 0.0)
        for part, gain in zip(self._parts, self._gains, strict=True):
            self._objective.SetCoefficient(part, gain)
        self._first_phase = False

    def solve(self) -> Mixed | None:
        """Returns the best mixture; None where no mixture of the columns keeps the rows."""
        status = self._solver.Solve(self._parameters)
        if status not in (self._solver.OPTIMAL, self._solver.INFEASIBLE):
            status = self._solver.Solve(self._cautious)  # it fell over its numerics
        if status != self._solver.OPTIMAL:
            return None
        prices = Prices(
            np.array([max(0.0, row.dual_value()) for row in self._load]),
            np.array([max(0.0, row.dual_value()) for row in self._limit]),
            0.0 if self._floor is None else max(0.0, -self._floor.dual_value()),
        )
        return Mixed(float(self._objective.Value()), float(self._one.dual_value()), prices)

    def parts(self) -> FloatArray:
        """Returns the parts of all columns in the last mixture; they sum to 1."""
        parts = np.array([part.solution_value() for part in self._parts])
        parts = np.where(parts > 0, parts, 0.0)
        return np.asarray(parts / parts.sum())

    def _add_rows(self, rows: Rows) -> None:
        solver, infinity = self._solver, self._infinity
        self._one: Constraint = solver.Constraint(1.0, 1.0)
        self._load = [solver.Constraint(-infinity, 0.0) for _ in range(rows.n_options)]
        self._limit = [solver.Constraint(-infinity, most) for most in rows.limit.tolist()]
        self._floor: Constraint | None = None
        self._short: list[Variable] = []
        for row in [*self._load, *self._limit]:
            self._short.append(solver.NumVar(0.0, 0.0, ""))
            row.SetCoefficient(self._short[-1], -1.0)
        if rows.floor is not None:
            self._floor = solver.Constraint(rows.floor, infinity)
            self._short.append(solver.NumVar(0.0, 0.0, ""))
            self._floor.SetCoefficient(self._short[-1], 1.0)
        slopes = rows.slope.T.tolist()
        segments = zip(rows.option.tolist(), rows.width.tolist(), slopes, strict=True)
        for option, width, slope in segments:
            carried = solver.NumVar(0.0, width, "")
            self._load[option].SetCoefficient(carried, -1.0)
            for row, value in zip(self._limit, slope, strict=True):
                if value:
                    row.SetCoefficient(carried, value)
