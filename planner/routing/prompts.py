"""Routing prompt by prompt within given loads: exact, by prices.

Notation
    N prompts, M models, J policies (columns of the master program)
    p_n    weight of prompt n in the traffic; they sum to 1                    ratio        (N,)
    q_nm   what model m is believed to be worth on prompt n                    quality      (N, M)
    w_nm   work that prompt n makes for model m                                any unit     (N, M)
    b_m    work per request that model m may be given                          same unit    (M,)
    x_nm   share of prompt n that goes to model m                              ratio        (N, M)
    mu_m   price of the work of model m                                        quality/unit (M,)
    Q_j, l_jm   quality and loads of policy j, which sends every prompt to one model

The program
    max   sum_nm p_n q_nm x_nm
    s.t.  sum_m x_nm = 1                        every prompt is served
          sum_n p_n w_nm x_nm <= b_m            no model gets more work than it may

For fixed prices every prompt goes where q - mu w is largest. That policy is a column, and its value
with the prices is a bound for all routings:
    g(mu) = sum_n p_n max_m (q_nm - mu_m w_nm) + sum_m mu_m b_m
The master program mixes the columns found so far and gives new prices (Dantzig-Wolfe); prices are
drawn towards the best ones so far, which saves rounds (Wentges' smoothing). It ends when bound and
value meet. Where no mix of columns keeps the loads, the same is done with q = 0 and the overload as
objective: either it vanishes, or its prices prove that no routing can keep the loads (Farkas).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.routing.linear import Entry, Program, Solution, maximise
from planner.spec.arrays import BoolArray, FloatArray, IntArray

GAP = 1e-6  # in units of quality
MOST_ROUNDS = 300
TOWARDS_BEST = 0.4  # how far prices are drawn towards the best so far
OVERLOAD = 1e-7  # of all work of a model: rounding of the solver


@dataclass(frozen=True)
class PromptRouting:
    """The best routing of prompts within loads, or the proof that there is none."""

    feasible: bool
    prices: FloatArray  # (M,) quality per unit of work; where infeasible, those of the proof, or
    # zeros: none was found in MOST_ROUNDS, and neither was a routing
    shares: FloatArray  # (N, M) rows sum to 1; few of them are not 0 or 1
    quality: float
    bound: float  # no routing within the loads has a higher quality
    n_rounds: int


@dataclass
class _Columns:
    """The policies found so far."""

    choice: list[IntArray] = field(default_factory=list)  # (N,) each
    quality: list[float] = field(default_factory=list)
    load: list[FloatArray] = field(default_factory=list)  # (M,) each


@dataclass(frozen=True)
class _Prompts:
    """The problem: what never changes while it is solved."""

    weight: FloatArray  # (N,) sums to 1
    quality: FloatArray  # (N, M) -inf where not allowed
    work: FloatArray  # (N, M) in units of `unit`, 0 where not allowed
    room: FloatArray  # (M,) likewise
    unit: FloatArray  # (M,) so that no model's unit dominates the solver's arithmetic

    def policy(
        self, worth: FloatArray, prices: FloatArray
    ) -> tuple[IntArray, float, FloatArray, float]:
        """Returns a policy (N,), its quality and loads (M,), and the bound at the prices (M,)."""
        net = worth - self.work * prices
        choice: IntArray = np.argmax(net, axis=1).astype(np.int64)
        rows = np.arange(choice.size)
        work = self.weight * self.work[rows, choice]
        load = np.asarray(np.bincount(choice, work, self.room.size), dtype=np.float64)
        bound = float(self.weight @ net[rows, choice]) + float(prices @ self.room)
        return choice, float(self.weight @ self.quality[rows, choice]), load, bound


def route_prompts(
    weight: FloatArray,
    quality: FloatArray,
    work: FloatArray,
    room: FloatArray,
    allowed: BoolArray | None = None,
) -> PromptRouting:
    """Returns the best routing of prompts by what the models are believed to be worth.

    Args:
        weight: of each prompt in the traffic, (N,), positive.
        quality: expected quality of each model on each prompt, (N, M).
        work: that each prompt makes for each model, (N, M), not negative.
        room: work per request that each model may be given, (M,); inf for as much as there is.
        allowed: which models may answer which prompts, (N, M).

    Raises:
        ValueError: shapes differ, there is no prompt, or one that no model may answer.
    """
    problem = _checked(weight, quality, work, room, allowed)
    columns = _Columns()
    proof, n_first = _keep_the_loads(problem, columns)
    if proof is not None:
        nothing = np.zeros_like(problem.work)
        return PromptRouting(False, proof / problem.unit, nothing, 0.0, -np.inf, n_first)
    return _best(problem, columns, n_first)


def _checked(
    weight: FloatArray,
    quality: FloatArray,
    work: FloatArray,
    room: FloatArray,
    allowed: BoolArray | None,
) -> _Prompts:
    n, m = quality.shape
    if weight.shape != (n,) or work.shape != (n, m) or room.shape != (m,) or n == 0:
        raise ValueError(f"shapes differ: {weight.shape}, {quality.shape}, {work.shape}")
    may = np.isfinite(quality) & np.isfinite(work)
    may &= True if allowed is None else allowed
    if not may.any(axis=1).all():
        raise ValueError("a prompt has no model that may answer it")
    needed = np.where(may, work, 0.0)
    all_of_it = weight @ needed / weight.sum()
    # More room than all prompts together need binds nothing, and is written as a finite number.
    room = np.minimum(room, 2.0 * all_of_it)
    unit = np.where(all_of_it > 0, all_of_it, 1.0)
    return _Prompts(
        weight / weight.sum(), np.where(may, quality, -np.inf), needed / unit, room / unit, unit
    )


def _keep_the_loads(problem: _Prompts, columns: _Columns) -> tuple[FloatArray | None, int]:
    """Adds columns until a mix of them keeps the loads; returns the proof (M,) that none can.

    Zeros prove nothing: the rounds were spent before it was decided.
    """
    nothing = np.where(np.isfinite(problem.quality), 0.0, -np.inf)
    choice, quality, load, _ = problem.policy(problem.quality, np.zeros_like(problem.room))
    for n_rounds in range(MOST_ROUNDS):
        _add(columns, choice, quality, load)
        solution, overload = _least_overload(columns, problem.room)
        if overload <= OVERLOAD:
            return None, n_rounds + 1
        prices = solution.duals[1:]
        choice, quality, load, least = problem.policy(nothing, prices)
        # With q = 0 the bound is minus the least overload that any routing has at these prices.
        if -least >= overload * (1.0 - 1e-9) - OVERLOAD:
            return prices, n_rounds + 1
    return np.zeros_like(prices), MOST_ROUNDS  # not decided: nothing is proved


def _best(problem: _Prompts, columns: _Columns, n_rounds: int) -> PromptRouting:
    """Returns the best mix, once bound and value meet."""
    bound, best_prices = np.inf, np.zeros_like(problem.room)
    solution = _master(columns, problem.room)
    for each in range(MOST_ROUNDS):
        prices = np.maximum(solution.duals[1:], 0.0)
        draws = (TOWARDS_BEST, 0.0) if each else (0.0,)
        for towards in draws:  # where a drawn price finds nothing new, the true one must
            asked = towards * best_prices + (1.0 - towards) * prices
            choice, quality, load, value = problem.policy(problem.quality, asked)
            if value < bound:
                bound, best_prices = value, asked
            gain = quality - float(prices @ load) - float(solution.duals[0])
            if gain > 0.1 * GAP:
                break
        n_rounds += 1
        if bound - solution.objective <= GAP or gain <= 0.1 * GAP:
            break
        _add(columns, choice, quality, load)
        solution = _master(columns, problem.room)
    shares = _mixed(columns, solution, problem.work.shape)
    bound = max(bound, solution.objective)
    prices = best_prices / problem.unit
    return PromptRouting(True, prices, shares, solution.objective, bound, n_rounds)


def _add(columns: _Columns, choice: IntArray, quality: float, load: FloatArray) -> None:
    columns.choice.append(choice)
    columns.quality.append(quality)
    columns.load.append(load)


def _master(columns: _Columns, room: FloatArray) -> Solution:
    """Returns the best mix of the columns within the loads; rows: one, then the loads."""
    program = Program()
    z = program.add_columns(len(columns.quality), gain=np.array(columns.quality))
    _add_rows(program, columns, room, z)
    return maximise(program)


def _least_overload(columns: _Columns, room: FloatArray) -> tuple[Solution, float]:
    """Returns the mix with the least sum of overloads, and that sum."""
    program = Program()
    z = program.add_columns(len(columns.quality))
    over = program.add_columns(room.size, gain=-1.0)
    _add_rows(program, columns, room, z, over)
    solution = maximise(program)
    return solution, -solution.objective


def _add_rows(
    program: Program,
    columns: _Columns,
    room: FloatArray,
    z: IntArray,
    over: IntArray | None = None,
) -> None:
    """Adds that the parts z (J,) sum to 1 and keep the loads, but for what is over (M,)."""
    program.add_rows("one", 1, [(np.zeros(z.size, dtype=np.int64), z, 1.0)], 1.0, 1.0)
    load = np.stack(columns.load, axis=1)  # (M, J)
    model, column = np.nonzero(load)
    entries: list[Entry] = [(model, z[column], load[model, column])]
    if over is not None:
        entries.append((np.arange(room.size), over, -1.0))
    program.add_rows("load", room.size, entries, upper=room)


def _mixed(columns: _Columns, solution: Solution, shape: tuple[int, ...]) -> FloatArray:
    """Returns the shares (N, M) of a mix of policies."""
    shares = np.zeros(shape)
    rows = np.arange(shape[0])
    part = np.maximum(solution.values[: len(columns.choice)], 0.0)
    for j in np.flatnonzero(part > 0).tolist():
        shares[rows, columns.choice[j]] += part[j]
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
