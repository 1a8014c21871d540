"""The certified front: the best gain for every budget and level of the limits, with what is proved.

Notation
    l         level of the limits: ratio r_l of each limit may be used      (L,) descending
    B         budget                                                       $/h
    G_l(B)    best gain (quality or rate factor) of any deployment of at most B at level l
    c, g      cost and gain of the deployment that a solve found: c <= B, g <= G_l(B)
    u         what the same solve proved: G_l(B) <= u
    t_l       weight of a level in the volume                              (L,)

Program
    of every level   minimise cost;  maximise the gain at that cost;  maximise it at any cost
    repeat           maximise the gain at the budget in the middle of the widest step

G_l rises with the budget and falls with stricter limits, so cells speak for each other:
    G_l(B) >= g of every cell with c <= B and r <= r_l
    G_l(B) <= u of every cell with budget >= B and r >= r_l
Between neighbouring costs and budgets both are constant: a step from B to B', in which g is reached
and u' cannot be exceeded. What further cells can still close of it is t_l (B' - B) (g' - g), with
the gain g' that was found where u' was proved: the widest step is the one where that is largest. A
bound is one of the tables that the solves read (§5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from planner.exact.joint import Objective
from planner.exact.solve import Solved, Want
from planner.search import pareto
from planner.spec.arrays import FloatArray, IntArray

Gain = Literal["quality", "rate_factor"]

Solve = Callable[[int, Want, IntArray | None], Solved]
"""Solves one problem at a level of the limits, from a deployment (P,) if one is known."""

ROUNDING = 1e-9  # of a cost that comes from a solve
POOR_RATIO = 0.02  # a start that is so far from what may be hoped for is none
NARROW_RATIO = 2e-3  # steps narrower than this part of all money between both ends are left alone


@dataclass(frozen=True)
class Grid:
    """How fine a front is: never seconds, on which no answer may depend."""

    n_cells: int  # solved in all, at least three of each level
    gap_ratio: float  # at which a solve stops
    n_nodes: int  # after which it stops as well
    open_ratio: float = 0.0  # done once further cells could add no more than this to the volume
    reading: Literal["plan", "both"] = "both"  # plan: deployments alone, without proofs


@dataclass(frozen=True)
class Cell:
    """The best gain within a budget at a level: a deployment, and what none can beat."""

    level: int
    budget_usd_per_h: float  # inf: any
    replicas: IntArray | None  # (P,); None: nothing found
    cost_usd_per_h: float  # of the deployment; inf without one
    gain: float  # -inf without one
    best_possible: float  # -inf: proved that no deployment keeps every promise; inf: nothing proved

    @property
    def gap_ratio(self) -> float:
        """Returns how much better another deployment could be at most, as part of the gain."""
        if self.replicas is None:
            return 0.0 if self.best_possible == -np.inf else np.inf
        return max(0.0, self.best_possible - self.gain) / max(abs(self.gain), 1e-12)


@dataclass(frozen=True)
class Front:
    """All cells that were solved, in their order, and the least money of each level."""

    ratios: tuple[float, ...]  # of the limits, by level
    cells: tuple[Cell, ...]
    least_usd_per_h: tuple[float, ...]  # proved for each level; inf: nothing keeps every promise

    def best(self) -> tuple[Cell, ...]:
        """Returns the cells whose deployments none of the others beats, by level and by cost."""
        found = [cell for cell in self.cells if cell.replicas is not None]
        values = [(c.cost_usd_per_h, -c.gain, self.ratios[c.level]) for c in found]
        keep = pareto.non_dominated(np.array(values).reshape(-1, 3))
        first = {value: cell for cell, value, k in zip(found, values, keep, strict=True) if k}
        return tuple(sorted(first.values(), key=lambda cell: (cell.level, cell.cost_usd_per_h)))

    def reached(self, level: int, usd_per_h: FloatArray) -> FloatArray:
        """Returns the best gain found within budgets (n,) at a level, (n,); -inf where none is."""
        able = self._column("cost_usd_per_h") <= usd_per_h[:, None]
        able &= self._ratio() <= self.ratios[level]
        return np.asarray(np.where(able, self._column("gain"), -np.inf).max(1, initial=-np.inf))

    def at_most(self, level: int, usd_per_h: FloatArray) -> FloatArray:
        """Returns the gain that nothing within budgets (n,) exceeds at a level, (n,)."""
        proved = self._least(level, usd_per_h, self._column("best_possible"))
        return np.where(usd_per_h < self.least_usd_per_h[level], -np.inf, proved)

    def volumes(
        self, worst_usd_per_h: float, worst_gain: float, weights: Sequence[float] | None = None
    ) -> tuple[float, float]:
        """Returns the volume that is reached and the one that nothing exceeds, in $/h times gain.

        Args:
            worst_usd_per_h: money beyond which nothing counts.
            worst_gain: gain below which nothing counts.
            weights: of the levels, (L,); by default 1 each.
        """
        low, high = self.steps(worst_usd_per_h)
        reached = at_most = 0.0
        for level, weight in enumerate(weights or [1.0] * len(self.ratios)):
            width = weight * (high - low)
            reached += float(width @ np.maximum(0.0, self.reached(level, low) - worst_gain))
            proved = self.over_steps(level, low, high, "best_possible")
            at_most += float(width @ np.maximum(0.0, proved - worst_gain))
        return reached, at_most

    def steps(self, worst_usd_per_h: float) -> tuple[FloatArray, FloatArray]:
        """Returns the ends in $/h of the steps from no money to a limit, [low, high), (n,) each."""
        known = [self._column("cost_usd_per_h"), self._column("budget_usd_per_h")]
        inside = np.unique(np.concatenate([[worst_usd_per_h, *self.least_usd_per_h], *known]))
        inside = inside[(inside > 0.0) & (inside <= worst_usd_per_h)]
        return np.append(0.0, inside[:-1]), inside

    def over_steps(
        self, level: int, low: FloatArray, high: FloatArray, name: Literal["best_possible", "gain"]
    ) -> FloatArray:
        """Returns what no budget of a step exceeds at a level, (n,); -inf where nothing is to be.

        By what was proved; by the gain, what further cells may hope to find: what was found for at
        least as much money, or at looser limits.
        """
        over = self._least(level, high, self._column(name))
        return np.where(low < self.least_usd_per_h[level], -np.inf, over)

    def _least(self, level: int, usd_per_h: FloatArray, figure: FloatArray) -> FloatArray:
        """Returns the least figure of all cells with as much money and limits as loose, (n,)."""
        holds = self._column("budget_usd_per_h") >= usd_per_h[:, None]
        holds &= self._ratio() >= self.ratios[level]
        return np.asarray(np.where(holds, figure, np.inf).min(axis=1, initial=np.inf))

    def _column(self, name: str) -> FloatArray:
        """Returns one figure of every cell, (cells,)."""
        return np.array([getattr(cell, name) for cell in self.cells], dtype=np.float64)

    def _ratio(self) -> FloatArray:
        """Returns the ratio of the level of every cell, (cells,)."""
        return np.array([self.ratios[cell.level] for cell in self.cells], dtype=np.float64)


def certified_front(
    solve: Solve,
    ratios: Sequence[float],
    gain: Gain,
    floor: float | None,
    grid: Grid,
    budget_usd_per_h: float | None = None,
    weights: Sequence[float] | None = None,
) -> Front:
    """Returns the front of cost and gain at every level of the limits, with its proofs.

    Args:
        solve: solves one problem at a level.
        ratios: of the limits, by level, descending.
        gain: what more of is better.
        floor: least mean quality of all traffic, if any.
        grid: how many cells, and how exact each.
        budget_usd_per_h: at most this is spent, if anything bounds it.
        weights: of the levels, (L,); by default 1 each.
    """
    sweep = _Sweep(solve, tuple(ratios), gain, floor, grid, budget_usd_per_h or np.inf)
    for level in range(len(sweep.ratios)):
        sweep.add_ends(level)
    while len(sweep.cells) < grid.n_cells:
        widest = sweep.widest_step(weights or [1.0] * len(sweep.ratios))
        if widest is None:
            break
        sweep.add_cell(*widest)
    return sweep.front()


@dataclass
class _Sweep:
    """What a sweep has solved so far."""

    solve: Solve
    ratios: tuple[float, ...]
    gain: Gain
    floor: float | None
    grid: Grid
    most_usd_per_h: float
    cells: list[Cell] = field(default_factory=list)
    least_usd_per_h: list[float] = field(default_factory=list)

    def front(self) -> Front:
        """Returns all cells as a front."""
        return Front(self.ratios, tuple(self.cells), tuple(self.least_usd_per_h))

    def add_ends(self, level: int) -> None:
        """Solves the cheapest deployment of a level, the best one for its cost, and the best."""
        if self.least_usd_per_h and self.least_usd_per_h[-1] == np.inf:
            self.least_usd_per_h.append(np.inf)  # what nothing keeps, nothing keeps more strictly
            return
        cheapest = self.solve(level, self._want("cost", self.most_usd_per_h), None)
        if cheapest.status == "none":
            self.least_usd_per_h.append(np.inf)
            return
        self.least_usd_per_h.append(cheapest.best_possible or 0.0)
        if cheapest.value is not None:
            self.add_cell(level, cheapest.value * (1.0 + ROUNDING), cheapest.replicas)
        self.add_cell(level, self.most_usd_per_h)

    def add_cell(self, level: int, budget_usd_per_h: float, start: IntArray | None = None) -> None:
        """Solves for the best gain within a budget at a level."""
        start = self._best_known(level, budget_usd_per_h) if start is None else start
        solved = self.solve(level, self._want(self.gain, budget_usd_per_h), start)
        best = -np.inf if solved.status == "none" else np.inf
        best = best if solved.best_possible is None else solved.best_possible
        if solved.value is None or solved.cost_usd_per_h is None:
            cell = Cell(level, budget_usd_per_h, None, np.inf, -np.inf, best)
        else:
            cost, gain = solved.cost_usd_per_h, solved.value
            cell = Cell(level, budget_usd_per_h, solved.replicas, cost, gain, best)
        self.cells.append(cell)

    def widest_step(self, weights: Sequence[float]) -> tuple[int, float] | None:
        """Returns the level of the widest step and the money in its middle; None: all are narrow.

        Steps that differ in nothing but other levels' budgets are one.
        """
        found = [cell for cell in self.cells if cell.replicas is not None]
        if not found:
            return None
        front, worst_gain = self.front(), min(cell.gain for cell in found)
        worst = max(cell.cost_usd_per_h for cell in found)
        narrow = NARROW_RATIO * (worst - min(self.least_usd_per_h))
        low, high = front.steps(worst)
        widest: tuple[float, int, float] | None = None
        total = 0.0
        for level, weight in enumerate(weights):
            reached = np.maximum(front.reached(level, low), worst_gain)
            hoped = np.maximum(front.over_steps(level, low, high, "gain"), worst_gain)
            new = np.append(True, (np.diff(reached) != 0) | (np.diff(hoped) != 0))
            first = np.flatnonzero(new)
            last = np.append(first[1:], new.size) - 1
            width = high[last] - low[first]
            gain = np.maximum(hoped - reached, 0.0)[first]
            area = np.where(width > narrow, weight * width * gain, 0.0)
            total += float(area.sum())
            at = int(np.argmax(area))
            if area[at] > 0 and (widest is None or area[at] > widest[0]):
                widest = float(area[at]), level, float(low[first[at]] + high[last[at]]) / 2.0
        volume, _ = front.volumes(worst, worst_gain, weights)
        return None if widest is None or total <= self.grid.open_ratio * volume else widest[1:]

    def _best_known(self, level: int, budget_usd_per_h: float) -> IntArray | None:
        """Returns the best deployment (P,) found so far within a budget at a level, if it is good.

        From a poor one a solver is slower than from what it finds by itself.
        """
        ratio = self.ratios[level]
        able = [
            cell
            for cell in self.cells
            if cell.cost_usd_per_h <= budget_usd_per_h and self.ratios[cell.level] <= ratio
        ]
        if not able:
            return None
        best, at = max(able, key=lambda cell: cell.gain), np.array([budget_usd_per_h])
        hoped = float(self.front().over_steps(level, at, at, "gain")[0])
        return best.replicas if best.gain >= hoped - POOR_RATIO * abs(hoped) else None

    def _want(self, objective: Objective, budget_usd_per_h: float) -> Want:
        """Returns what to ask of one solve."""
        return Want(
            objective=objective,
            floor=self.floor,
            budget_usd_per_h=None if budget_usd_per_h == np.inf else budget_usd_per_h,
            gap_ratio=self.grid.gap_ratio,
            n_nodes=self.grid.n_nodes,
            reading=self.grid.reading,
        )
