"""Integer programs by SCIP, tuned for the joint program: few rounds of cuts at the root.

The joint program has weak cuts and many equal columns: with SCIP's own choice nearly all time goes
into cutting, restarts and sub-searches at the root, twenty times what branching takes. The bound
is SCIP's own; 'highs' behind the same interface gives the incumbent's objective as the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from planner.routing.linear import NEGLIGIBLE, Program
from planner.spec.arrays import FloatArray

if TYPE_CHECKING:
    from ortools.linear_solver.python.model_builder_helper import ModelBuilderHelper

SETTINGS = """
lp/threads = 1
presolving/maxrestarts = 0
separating/maxroundsroot = 5
separating/maxstallroundsroot = 2
heuristics/rens/freq = -1
heuristics/rins/freq = -1
heuristics/crossover/freq = -1
heuristics/alns/freq = -1
heuristics/gins/freq = -1
heuristics/undercover/freq = -1
heuristics/clique/freq = -1
heuristics/vbounds/freq = -1
"""


NODE_CELLS = 850_000  # nodes times cells (columns times tiers): a measure of work, not of time


def nodes_within(most: int, n_cells: int) -> int:
    """Returns how many nodes a program of a size may take: fewer for larger ones, at least 5."""
    return max(5, min(most, NODE_CELLS * most // (1000 * max(n_cells, 1))))


@dataclass(frozen=True)
class WholeSolution:
    """The outcome of one search: a point if one was found, and what is proved in any case."""

    status: Literal["found", "none", "unknown"]  # none: proved that there is no point
    values: FloatArray  # (N,) zeros without a point
    objective: float  # -inf without a point
    bound: float  # proven upper bound on the objective; inf when nothing is proved

    @property
    def found(self) -> bool:
        """Returns whether there is a point."""
        return self.status == "found"


def maximise_whole(program: Program, gap_ratio: float, n_nodes: int) -> WholeSolution:
    """Returns the best point and the proven bound, within a relative gap or after n_nodes nodes.

    Deterministic: one thread, and nodes are counted, never seconds.
    """
    from ortools.linear_solver.python.model_builder_helper import (
        ModelBuilderHelper,
        ModelSolverHelper,
        SolveStatus,
    )

    model = ModelBuilderHelper()
    gains = program.gains()
    lower, upper = np.concatenate(program.lower), np.concatenate(program.upper)
    # The stub of OR-Tools names the element type where numpy's generic wants a shape.
    model.add_var_array_with_bounds(lower, upper, np.concatenate(program.integer), "")  # type: ignore[arg-type]
    priced = np.flatnonzero(gains)
    model.set_objective_coefficients(priced.tolist(), gains[priced].tolist())
    model.set_maximize(True)
    _add_rows(model, program)
    solver = ModelSolverHelper("scip")
    solver.enable_output(False)
    limits = f"limits/gap = {gap_ratio!r}\nlimits/totalnodes = {n_nodes}\n"
    solver.set_solver_specific_parameters(limits + SETTINGS)
    solver.solve(model)
    status, nothing = solver.status(), np.zeros(program.n_columns)
    if status == SolveStatus.INFEASIBLE:
        return WholeSolution("none", nothing, -np.inf, -np.inf)
    if status not in (SolveStatus.OPTIMAL, SolveStatus.FEASIBLE):
        return WholeSolution("unknown", nothing, -np.inf, np.inf)
    values = np.array(solver.variable_values(), dtype=np.float64)
    objective = float(gains @ values)
    bound = max(objective, float(solver.best_objective_bound()))
    return WholeSolution("found", values, objective, bound)


def _add_rows(model: ModelBuilderHelper, program: Program) -> None:
    """Adds the rows of a program to a solver's model."""
    low, high = np.concatenate(program.row_lower), np.concatenate(program.row_upper)
    for row_low, row_high in zip(low.tolist(), high.tolist(), strict=True):
        row = model.add_linear_constraint()
        model.set_constraint_lower_bound(row, row_low)
        model.set_constraint_upper_bound(row, row_high)
    value = np.concatenate(program.entry_value)
    kept = np.abs(value) > NEGLIGIBLE
    rows = np.concatenate(program.entry_row)[kept].tolist()
    columns = np.concatenate(program.entry_column)[kept].tolist()
    for entry in zip(rows, columns, value[kept].tolist(), strict=True):
        model.add_term_to_constraint(*entry)
