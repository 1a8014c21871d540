"""Linear programs as arrays, solved anew each time by GLOP, with integers by HiGHS.

Notation
    N   columns          M   rows          E   non-zero entries

    maximise  gain . v
    subject to  row_lower <= A v <= row_upper,  lower <= v <= upper,  v_i integer where asked

Rows come in named blocks, so that a dual is found by the block and the place in it. The build goes
entry by entry through the C++ model: the batch call of OR-Tools needs scipy, which is no
dependency of this package, and is no faster over build and solve together.

Integer programs go to HiGHS by its own interface, where the bound of an unfinished search is a
bound (through OR-Tools it is the objective of the best point). Given a point to start from, or a
small program, its sub-searches for points are off: they take most of the time for little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Literal

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from highspy import Highs, HighsLp
    from highspy.highs import HighsCallbackEvent

Floor = tuple[FloatArray, float]  # gains (N,) of an earlier objective, and what it must reach
Entry = tuple[IntArray, IntArray, float | FloatArray]  # rows within a block, columns, values
NEGLIGIBLE = 1e-13  # entries that are rounding: they upset the solver's scaling
NO_ROW = np.empty(0, dtype=np.int64)
NODE_CELLS = 850_000  # nodes times cells (columns times tiers): a measure of work, not of time
OBJECTIVE_SCALE = 10.0  # of the largest gain: far smaller ones drown in the solver's tolerances
POLL_S = 0.1  # how long Ctrl-C waits for a running search at most; no answer depends on it
NO_SEARCHES = (
    "mip_heuristic_run_feasibility_jump",
    "mip_heuristic_run_rens",
    "mip_heuristic_run_rins",
    "mip_heuristic_run_root_reduced_cost",
)

SMALL_COLUMNS = 2000  # below, restarts and sub-searches take a third of the time and find nothing

Outcome = Literal["found", "none", "unknown"]


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

    status: Outcome  # none: proved that there is no point
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

    def set_gain(self, columns: IntArray, gain: float | FloatArray) -> None:
        """Replaces the objective coefficients of columns."""
        gains = np.concatenate(self.gain)
        gains[columns] = gain
        self.gain = [gains]

    def fixed(self, columns: IntArray, values: FloatArray) -> Program:
        """Returns the program with columns fixed at values, both (n,); it shares the rest."""
        lower, upper = np.concatenate(self.lower), np.concatenate(self.upper)
        lower[columns] = upper[columns] = values
        return replace(self, lower=[lower], upper=[upper])

    def relaxed(self) -> Program:
        """Returns the program without integers; it shares the rest."""
        return replace(self, integer=[np.zeros(self.n_columns, dtype=np.bool_)])

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


def _run(
    program: Program, gains: FloatArray, floors: Sequence[Floor], parameters: str
) -> tuple[FloatArray, FloatArray] | None:
    """Returns GLOP's values and duals for an objective and floors, None without an optimum."""
    from ortools.linear_solver.python.model_builder_helper import (
        ModelBuilderHelper,
        ModelSolverHelper,
        SolveStatus,
    )

    model = ModelBuilderHelper()
    lower, upper = np.concatenate(program.lower), np.concatenate(program.upper)
    whole = np.zeros(program.n_columns, dtype=np.bool_)
    # The stub of OR-Tools names the element type where numpy's generic wants a shape.
    model.add_var_array_with_bounds(lower, upper, whole, "")  # type: ignore[arg-type]
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
    solver = ModelSolverHelper("glop")
    solver.enable_output(False)
    solver.set_solver_specific_parameters(parameters)
    solver.solve(model)
    if solver.status() != SolveStatus.OPTIMAL:
        return None
    values = np.array(solver.variable_values(), dtype=np.float64)
    return values, np.array(solver.dual_values(), dtype=np.float64)


def maximise(
    program: Program, gains: FloatArray | None = None, floors: Sequence[Floor] = ()
) -> Solution:
    """Returns the optimum of a linear program (GLOP, one thread, deterministic).

    `gains` replaces the program's objective; each of `floors` keeps an earlier objective.
    """
    gains = program.gains() if gains is None else gains
    for parameters in ("", "use_scaling: false"):  # the second if the first fails by its numerics
        optimum = _run(program, gains, floors, parameters)
        if optimum is not None:
            values, duals = optimum
            objective = float(gains @ values)
            return Solution(True, values, duals[: program.n_rows], objective, objective)
    return _unsolved(program)


def maximise_integer(
    program: Program, gap_ratio: float, n_nodes: int, start: FloatArray | None = None
) -> IntegerSolution:
    """Returns the best point and the proven bound of a program with integer columns (HiGHS).

    Stops at a relative gap or after n_nodes nodes, never by the clock; one thread.

    Args:
        program: with integer columns.
        gap_ratio: of objective and bound, at which the search ends.
        n_nodes: after which it ends as well.
        start: a point (N,) to improve on; ignored where it breaks a row.
    """
    import highspy

    gains = program.gains()
    scale = OBJECTIVE_SCALE / max(float(np.abs(gains).max(initial=0.0)), NEGLIGIBLE)
    solver = highspy.Highs()
    settings: dict[str, bool | float | str] = {
        "output_flag": False, "threads": 1, "parallel": "off", "mip_abs_gap": 0.0,
        "mip_rel_gap": gap_ratio, "mip_max_nodes": n_nodes,
    }  # fmt: skip
    small = program.n_columns < SMALL_COLUMNS
    if small or start is not None:
        settings |= dict.fromkeys(NO_SEARCHES, False)
    settings["mip_allow_restart"] = not small
    for name, value in settings.items():
        solver.setOptionValue(name, value)
    solver.passModel(_highs_model(program, scale * gains))
    if start is not None:
        point = highspy.HighsSolution()
        point.col_value = start.tolist()
        solver.setSolution(point)
    _run_interruptibly(solver)
    status, info = solver.getModelStatus(), solver.getInfo()
    zeros = np.zeros(program.n_columns)
    if status == highspy.HighsModelStatus.kInfeasible:
        return IntegerSolution("none", zeros, -np.inf, -np.inf)
    has_integers = bool(np.concatenate(program.integer).any())
    # Beside a linear program HiGHS has no bound: it says 0 there, which proves nothing.
    bound = float(info.mip_dual_bound) / scale if has_integers else np.inf
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return IntegerSolution("unknown", zeros, -np.inf, bound)
    values = np.array(solver.getSolution().col_value, dtype=np.float64)
    objective = float(gains @ values)
    if not has_integers and status == highspy.HighsModelStatus.kOptimal:
        bound = objective
    return IntegerSolution("found", values, objective, max(objective, bound))


def _run_interruptibly(solver: Highs) -> None:
    """Runs HiGHS so that Ctrl-C comes through: the call into C++ would hold it back to its end.

    Waits for an event and not for the thread, which a KeyboardInterrupt in join marks as ended.
    """
    ended, stopped = Event(), Event()

    def look(event: HighsCallbackEvent) -> None:
        if stopped.is_set():
            event.interrupt()

    solver.cbMipInterrupt += look  # HiGHS's own handler also looks at every simplex step: slow

    def run() -> None:
        try:
            solver.run()
        finally:
            ended.set()

    Thread(target=run, daemon=True).start()
    try:
        while not ended.wait(POLL_S):
            pass
    except KeyboardInterrupt:
        stopped.set()
        ended.wait()  # it stops at its next look, within a moment
        raise


def _highs_model(program: Program, gains: FloatArray) -> HighsLp:
    """Returns a program with other gains as HiGHS takes it: entries by column, each place once."""
    import highspy

    values = np.concatenate(program.entry_value)
    kept = np.abs(values) > NEGLIGIBLE
    rows = np.concatenate(program.entry_row)[kept]
    columns = np.concatenate(program.entry_column)[kept]
    place, inverse = np.unique(columns * program.n_rows + rows, return_inverse=True)
    n_in_column = np.bincount(place // max(program.n_rows, 1), minlength=program.n_columns)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = program.n_columns, program.n_rows
    model.sense_ = highspy.ObjSense.kMaximize
    model.col_cost_ = gains
    model.col_lower_ = np.concatenate(program.lower)
    model.col_upper_ = np.concatenate(program.upper)
    model.row_lower_ = np.concatenate(program.row_lower)
    model.row_upper_ = np.concatenate(program.row_upper)
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(n_in_column)])
    model.a_matrix_.index_ = place % max(program.n_rows, 1)
    model.a_matrix_.value_ = np.bincount(inverse, values[kept], place.size)
    kind = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
    model.integrality_ = [kind[whole] for whole in np.concatenate(program.integer).tolist()]
    return model


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
