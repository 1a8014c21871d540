"""Linear programs as arrays, and the only calls into OR-Tools.

Notation
    N   columns          M   rows          E   non-zero entries

    maximise  gain . v
    subject to  row_lower <= A v <= row_upper,  lower <= v <= upper,  v_i integer where asked

Rows come in named blocks, so that a dual is found by the block and the place in it. The build goes
entry by entry through the C++ model: the batch call of OR-Tools needs scipy, which is no
dependency of this package, and is no faster over build and solve together.

Integer programs go to SCIP with few rounds of cuts at the root: ours have weak cuts and many equal
columns, and by SCIP's own choice nearly all time goes into cuts, restarts and sub-searches at the
root. SCIP because its bound is a bound: 'highs' behind the same interface gives the objective of
the best point as the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray

Floor = tuple[FloatArray, float]  # gains (N,) of an earlier objective, and what it must reach
Entry = tuple[IntArray, IntArray, float | FloatArray]  # rows within a block, columns, values
NEGLIGIBLE = 1e-13  # entries that are rounding: they upset the solver's scaling
NO_ROW = np.empty(0, dtype=np.int64)
NODE_CELLS = 850_000  # nodes times cells (columns times tiers): a measure of work, not of time
SCIP_SETTINGS = """
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

Outcome = Literal["optimal", "found", "none", "unknown"]


@dataclass(frozen=True)
class Solution:
    """The outcome of one solve; values and duals are zero where there is none."""

    solved: bool
    values: FloatArray  # (N,)
    duals: FloatArray  # (M,) gain of one more unit of the row's upper bound
    objective: float
    bound: float  # proven upper bound on the objective


@dataclass(frozen=True)
class IntegerSolution:
    """The outcome of one search: a point if one was found, and what is proved in any case."""

    status: Literal["found", "none", "unknown"]  # none: proved that there is no point
    values: FloatArray  # (N,) zeros without a point
    objective: float  # -inf without a point
    bound: float  # proven upper bound on the objective; inf when nothing is proved

    @property
    def found(self) -> bool:
        """Returns whether there is a point."""
        return self.status == "found"


@dataclass
class Program:
    """A linear program under construction."""

    lower: list[FloatArray] = field(default_factory=list)
    upper: list[FloatArray] = field(default_factory=list)
    gain: list[FloatArray] = field(default_factory=list)
    integer: list[BoolArray] = field(default_factory=list)
    row_lower: list[FloatArray] = field(default_factory=list)
    row_upper: list[FloatArray] = field(default_factory=list)
    entry_row: list[IntArray] = field(default_factory=list)
    entry_column: list[IntArray] = field(default_factory=list)
    entry_value: list[FloatArray] = field(default_factory=list)
    blocks: dict[str, IntArray] = field(default_factory=dict)
    n_columns: int = 0
    n_rows: int = 0

    def add_columns(
        self,
        n: int,
        lower: float | FloatArray = 0.0,
        upper: float | FloatArray = np.inf,
        gain: float | FloatArray = 0.0,
        integer: bool = False,
    ) -> IntArray:
        """Returns the indices of n new columns with their bounds and gains, (n,)."""
        for chunks, value in ((self.lower, lower), (self.upper, upper), (self.gain, gain)):
            chunks.append(_filled(value, n))
        self.integer.append(np.full(n, integer))
        self.n_columns += n
        return np.arange(self.n_columns - n, self.n_columns)

    def add_rows(
        self,
        block: str,
        n: int,
        entries: Sequence[Entry],
        lower: float | FloatArray = -np.inf,
        upper: float | FloatArray = 0.0,
    ) -> IntArray:
        """Returns the indices of n new rows; an entry is (row within the block, column, value)."""
        self.row_lower.append(_filled(lower, n))
        self.row_upper.append(_filled(upper, n))
        for row, column, value in entries:
            self.entry_row.append(row + self.n_rows)
            self.entry_column.append(column)
            self.entry_value.append(_filled(value, column.size))
        ids = np.arange(self.n_rows, self.n_rows + n)
        self.blocks[block] = ids
        self.n_rows += n
        return ids

    def set_upper(self, columns: IntArray, upper: float | FloatArray) -> None:
        """Replaces the upper bounds of columns."""
        bounds = np.concatenate(self.upper)
        bounds[columns] = upper
        self.upper = [bounds]

    def gains(self) -> FloatArray:
        """Returns the objective coefficient of every column, (N,)."""
        return np.concatenate(self.gain)

    def dual(self, solution: Solution, block: str) -> FloatArray:
        """Returns the duals of a block of rows; empty when the program has no such block."""
        return solution.duals[self.blocks.get(block, NO_ROW)]


def _filled(value: float | FloatArray, n: int) -> FloatArray:
    """Returns n values: the array itself, or a number repeated."""
    if isinstance(value, np.ndarray):
        return value
    filled = np.empty(n)
    filled.fill(value)  # half the time of np.full, and called two dozen times per program
    return filled


def _rows(
    program: Program, floors: Sequence[Floor]
) -> tuple[list[float], list[float], list[tuple[int, int, float]]]:
    """Returns lower and upper bounds of all rows and their entries; floors are further rows."""
    low = np.concatenate(program.row_lower).tolist() + [at_least for _, at_least in floors]
    high = np.concatenate(program.row_upper).tolist() + [np.inf] * len(floors)
    values = np.concatenate([*program.entry_value, *[gains for gains, _ in floors]])
    every = np.arange(program.n_columns)
    columns = np.concatenate([*program.entry_column, *[every] * len(floors)])
    floor_rows = [np.full(program.n_columns, program.n_rows + n) for n in range(len(floors))]
    rows = np.concatenate([*program.entry_row, *floor_rows])
    kept = np.abs(values) > NEGLIGIBLE
    entries = zip(rows[kept].tolist(), columns[kept].tolist(), values[kept].tolist(), strict=True)
    return low, high, list(entries)


@dataclass(frozen=True)
class _Run:
    """What a solver left behind."""

    outcome: Outcome
    values: FloatArray
    duals: FloatArray
    bound: float


def _run(
    program: Program, gains: FloatArray, floors: Sequence[Floor], solver_name: str, parameters: str
) -> _Run:
    """Returns the outcome of one solver on the program with the given objective and floors."""
    from ortools.linear_solver.python.model_builder_helper import (
        ModelBuilderHelper,
        ModelSolverHelper,
        SolveStatus,
    )

    model = ModelBuilderHelper()
    lower, upper = np.concatenate(program.lower), np.concatenate(program.upper)
    integer = np.concatenate(program.integer)
    # The stub of OR-Tools names the element type where numpy's generic wants a shape.
    model.add_var_array_with_bounds(lower, upper, integer, "")  # type: ignore[arg-type]
    priced = np.flatnonzero(gains)
    model.set_objective_coefficients(priced.tolist(), gains[priced].tolist())
    model.set_maximize(True)
    row_lower, row_upper, entries = _rows(program, floors)
    for low, high in zip(row_lower, row_upper, strict=True):
        row = model.add_linear_constraint()  # free until a bound is set
        if low != -np.inf:
            model.set_constraint_lower_bound(row, low)
        if high != np.inf:
            model.set_constraint_upper_bound(row, high)
    add = model.add_term_to_constraint
    for entry_row, entry_column, value in entries:
        add(entry_row, entry_column, value)
    solver = ModelSolverHelper(solver_name)
    solver.enable_output(False)
    solver.set_solver_specific_parameters(parameters)
    solver.solve(model)
    outcomes: dict[SolveStatus, Outcome] = {
        SolveStatus.OPTIMAL: "optimal",
        SolveStatus.FEASIBLE: "found",
        SolveStatus.INFEASIBLE: "none",
    }
    outcome = outcomes.get(solver.status(), "unknown")
    if outcome in ("none", "unknown"):
        nothing = np.empty(0)
        return _Run(outcome, nothing, nothing, -np.inf if outcome == "none" else np.inf)
    values = np.array(solver.variable_values(), dtype=np.float64)
    duals = np.array(solver.dual_values(), dtype=np.float64) if solver_name == "glop" else values
    return _Run(outcome, values, duals, float(solver.best_objective_bound()))


def maximise(
    program: Program, gains: FloatArray | None = None, floors: Sequence[Floor] = ()
) -> Solution:
    """Returns the optimum of a linear program (GLOP, one thread, deterministic).

    `gains` replaces the program's objective; each of `floors` keeps an earlier objective.
    """
    gains = program.gains() if gains is None else gains
    for parameters in ("", "use_scaling: false"):  # the second if the first fails by its numerics
        run = _run(program, gains, floors, "glop", parameters)
        if run.outcome == "optimal":
            objective = float(gains @ run.values)
            duals = run.duals[: program.n_rows]
            return Solution(True, run.values, duals, objective, objective)
    return _unsolved(program)


def maximise_integer(program: Program, gap_ratio: float, n_nodes: int) -> IntegerSolution:
    """Returns the best point and the proven bound of a program with integer columns (SCIP).

    Stops at a relative gap or after n_nodes nodes, never by the clock; one thread.
    """
    limits = f"limits/gap = {gap_ratio!r}\nlimits/totalnodes = {n_nodes}\n"
    run = _run(program, program.gains(), (), "scip", limits + SCIP_SETTINGS)
    if run.outcome in ("none", "unknown"):
        status: Literal["none", "unknown"] = "none" if run.outcome == "none" else "unknown"
        return IntegerSolution(status, np.zeros(program.n_columns), -np.inf, run.bound)
    objective = float(program.gains() @ run.values)
    return IntegerSolution("found", run.values, objective, max(objective, run.bound))


def nodes_within(most: int, n_cells: int) -> int:
    """Returns how many nodes a program of a size may take: fewer for larger ones, at least 5."""
    return max(5, min(most, NODE_CELLS * most // (1000 * max(n_cells, 1))))


def maximise_in_order(
    program: Program, start: Solution, reached: Sequence[FloatArray], further: Sequence[FloatArray]
) -> Solution:
    """Returns the optimum of the last objective among the optima of all earlier ones.

    `start` already is optimal for the objectives in `reached`. Each objective may give way by
    1e-9 of its value, so that rounding cannot empty the face. The duals stay those of `start`.
    """
    solution = start
    floors = [_floor(gains, start) for gains in reached]
    for gains in further:
        later = maximise(program, gains, floors)
        if not later.solved:
            break
        solution = later
        floors.append(_floor(gains, later))
    return replace(solution, duals=start.duals)


def _floor(gains: FloatArray, solution: Solution) -> Floor:
    """Returns the row that keeps what an objective has reached."""
    value = float(gains @ solution.values)
    return gains, value - 1e-9 * max(1.0, abs(value))


def _unsolved(program: Program) -> Solution:
    """Returns a solution that says that there is none."""
    zeros, duals = np.zeros(program.n_columns), np.zeros(program.n_rows)
    return Solution(False, zeros, duals, -np.inf, np.inf)
