"""All prompts and the deployment together, by outer approximation: a deployment and its gap.

Notation: see fleet.py and routing/prices.py
    l_m      load of option m that the deployment carries                 load       (M,)
    v        quality of all prompts                                       ratio
    V(l)     the best quality of all prompts within loads l: concave      ratio

The program, for the best quality (or the least rent, with v >= floor)
    max   v
    s.t.  v <= V(l)
          l_m <= sum_{s of m} y_s,   y_s <= n_p width_s,   sum_s slope_ls y_s <= 1     flows
          n and its money as in rent.py, n whole

V has no formula in l, but any prices mu give a cut that holds everywhere and for every single
prompt (one pass over them, weak duality):
    v <= sum_n p_n max_m (q_nm - mu_m w_nm) + mu . l
and where no routing keeps the loads, Farkas prices say what they must be at least:
    0 <= sum_n p_n max_m (-mu_m w_nm) + mu . l
So a master program in n, y, l and v needs no prompts, whatever their number (Kelley 1960, Benders
1962). Its bound holds for all deployments. The exact routing of all prompts in the deployment that
it proposes (prices.py) is what that deployment truly reaches; between the two lies the gap.

    1  the relaxation, n in parts, by columns (Dantzig-Wolfe): the prices of its rounds are cuts,
       and so are prices spread around the last of them, where whole replicas will lie
    2  the integer program over these cuts proposes a deployment; it is routed exactly, and cut at
       its loads and at the master's; again, until the gap is closed or rounds are over

Kelley's own rounds on the relaxation jump from corner to corner and do not get there: hence 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.exact.fleet import Fleet
from planner.exact.rent import Rent, add_budget, add_rent, dearest_offer_usd_per_h
from planner.routing.linear import (
    Entry,
    IntegerSolution,
    Program,
    maximise,
    maximise_integer,
)
from planner.routing.master import Prices
from planner.routing.policies import ColumnPool, Policy, Prompts
from planner.routing.prices import Curves, Priced, route_all
from planner.spec.arrays import FloatArray, IntArray

RELAXED_ROUNDS = 80
RELAXED_GAP = 1e-5  # what a column must add, in quality
DRAWN = 0.5  # how far the relaxation's prices are drawn towards those before
NOTHING_SERVED = -10.0  # quality of the column that serves nothing: only for a first solution
N_SPREAD = 200
SPREAD = 0.6  # standard deviation of the logarithm of spread prices
LEAST_PRICE_RATIO = 0.02  # of the highest price, for options that the relaxation has no price of
ROUNDS = 12
GAP_RATIO = 1e-3
NODES = 400
INNER_GAP_RATIO = 0.05  # of the gap asked for: how exactly prompts are routed on the way
SAFETY_RATIO = 1e-6
MOST_LOAD = 2.0  # of an option, beside its load with all prompts
AIM_BEYOND = 1.5  # times what a deployment missed the floor by, for the next try


@dataclass(frozen=True)
class ForAll:
    """The best deployment found for all prompts, and what is proved about every other one."""

    status: Literal["found", "none", "unknown"]  # none: proved that no deployment serves them all
    replicas: IntArray  # (P,) zeros where none was found
    value: float | None  # quality, or $/h of rent
    best_possible: float | None  # no deployment is better; None: nothing is proved
    gap_ratio: float | None  # of the two
    routing: Priced | None  # of all prompts in the deployment, with its prices
    n_rounds: int  # integer programs solved
    n_cuts: int


def deploy_for_all(
    prompts: Prompts,
    fleet: Fleet,
    floor: float | None = None,
    budget_usd_per_h: float | None = None,
    gap_ratio: float = GAP_RATIO,
    n_rounds: int = ROUNDS,
    n_nodes: int = NODES,
    optimistic: Fleet | None = None,
    start: IntArray | None = None,
) -> ForAll:
    """Returns the deployment with the best quality of all prompts, or the cheapest at a floor.

    Args:
        prompts: what is known of them; the objective is quality.
        fleet: what replicas can carry, as a plan must read it.
        floor: least mean quality: then rent is minimised, else quality is maximised.
        budget_usd_per_h: of rent.
        gap_ratio: of value and bound, at which the rounds end.
        n_rounds: integer programs at most.
        n_nodes: of each of them.
        optimistic: the fleet as a bound must read it, if that differs.
        start: a deployment (P,) known to be good, such as the best for clusters of the prompts.

    Raises:
        ValueError: the start is not in the box, or beyond the budget.
    """
    if start is not None and not _may_be(fleet, start, budget_usd_per_h):
        raise ValueError(f"no deployment of the box and the budget: {start.tolist()}")
    bound_fleet = fleet if optimistic is None else optimistic
    outer = _Outer(prompts, bound_fleet, floor, budget_usd_per_h, INNER_GAP_RATIO * gap_ratio)
    outer.relax()
    best = _Best(outer, fleet)
    if start is not None:
        best.judge(start)
    n_programs = 0
    while n_programs < n_rounds and not best.ends(gap_ratio):
        n_programs += 1
        if not best.improve(gap_ratio, n_nodes):
            break
    return best.answer(n_programs)


def _may_be(fleet: Fleet, replicas: IntArray, budget_usd_per_h: float | None) -> bool:
    """Returns whether a deployment (P,) is in the box and within the budget."""
    most = np.inf if budget_usd_per_h is None else budget_usd_per_h * (1.0 + SAFETY_RATIO)
    return fleet.space.admits(replicas) and float(fleet.space.cost_usd_per_h(replicas)) <= most


@dataclass(frozen=True)
class _Cut:
    """of_gain v <= worth + price . l for every deployment, with l in scaled units."""

    of_gain: float  # 1, or 0 for what loads must be at least
    price: FloatArray  # (M,)
    worth: float


@dataclass(frozen=True)
class _Master:
    """A master program, and where its columns are."""

    program: Program
    rent: Rent
    load: IntArray  # (M,)
    quality: IntArray  # (1,)


class _Outer:
    """The cuts found so far, and the master programs over them."""

    def __init__(
        self,
        prompts: Prompts,
        fleet: Fleet,
        floor: float | None,
        budget_usd_per_h: float | None,
        inner_gap: float,
    ) -> None:
        self.prompts, self.fleet, self.floor = prompts, fleet, floor
        self.budget_usd_per_h, self.inner_gap = budget_usd_per_h, inner_gap
        self.unit_usd = dearest_offer_usd_per_h(fleet.space) or 1.0
        self.options = np.arange(prompts.n_options)
        self.pool = ColumnPool(prompts)
        self.cuts: list[_Cut] = []
        self._add_cut(np.zeros(prompts.n_options), 1.0)

    def relax(self) -> None:
        """Adds the cuts of the relaxation, replicas in parts, and some around its prices."""
        nothing = np.zeros(self.options.size)
        columns = [(NOTHING_SERVED, nothing)]
        drawn: FloatArray | None = None
        for _ in range(RELAXED_ROUNDS):
            found = self._relaxed(columns)
            if found is None:
                break
            price, worth = found
            for part in (0.0,) if drawn is None else (DRAWN, 0.0):
                asked = price if drawn is None else part * drawn + (1.0 - part) * price
                policy = self._add_cut(asked, 1.0)
                if policy.gain - float(price @ policy.load) > worth + RELAXED_GAP:
                    break
            else:
                break
            drawn = asked
            columns.append((policy.gain, policy.load))
        if drawn is not None:
            self._spread(drawn)

    def _spread(self, price: FloatArray) -> None:
        """Adds cuts at prices (M,) around given ones; the same for the same input."""
        random = np.random.default_rng(0)
        around = np.maximum(price, LEAST_PRICE_RATIO * price.max())
        for factor in np.exp(random.normal(0.0, SPREAD, (N_SPREAD, price.size))):
            self._add_cut(around * factor, 1.0)

    def _relaxed(self, columns: list[tuple[float, FloatArray]]) -> tuple[FloatArray, float] | None:
        """Returns prices (M,) in quality and what a column must be worth; None without any."""
        program, n_options = Program(), self.options.size
        _, load = self._add_deployment(program, integer=False)
        gain = np.array([each for each, _ in columns])
        part = program.add_columns(gain.size, gain=gain if self.floor is None else 0.0)
        row = np.zeros(part.size, dtype=np.int64)
        program.add_rows("one", 1, [(row, part, 1.0)], 1.0, 1.0)
        mixed = np.stack([each for _, each in columns], axis=1)
        m, j = np.nonzero(mixed)
        entries: list[Entry] = [(m, part[j], mixed[m, j]), (np.arange(n_options), load, -1.0)]
        program.add_rows("mixed", n_options, entries)
        if self.floor is not None:
            missed = program.add_columns(1, gain=-self._quality_worth())
            first = np.zeros(1, dtype=np.int64)
            floor: list[Entry] = [(row, part, -gain), (first, missed, -1.0)]
            program.add_rows("floor", 1, floor, upper=-self.floor)
        solution = maximise(program)
        of_quality = 1.0 if self.floor is None else float(program.dual(solution, "floor").sum())
        if not solution.solved or of_quality <= 0.0:
            return None
        price = np.maximum(program.dual(solution, "mixed"), 0.0) / of_quality
        return price, float(program.dual(solution, "one").sum()) / of_quality

    def _quality_worth(self) -> float:
        """Returns what a unit of quality below the floor costs on the way: ten times all GPUs."""
        offers = [offer for each in self.fleet.space.offers.values() for offer in each]
        return 10.0 * sum(offer.count * offer.usd_per_h for offer in offers) / self.unit_usd

    def cut_at(self, load: FloatArray) -> float:
        """Returns V at scaled loads (M,), -inf where they serve too little; adds the cut there."""
        rooms = Curves.of_rooms(np.maximum(load, 0.0) * self.prompts.unit)
        found = route_all(self.prompts, rooms, gap=self.inner_gap, pool=self.pool)
        self._add_cut(found.prices * self.prompts.unit, float(found.feasible))
        return found.value

    def routed(self, fleet: Fleet, replicas: IntArray) -> Priced:
        """Returns the exact routing of all prompts in a deployment (P,)."""
        return route_all(self.prompts, fleet.curves(replicas), gap=self.inner_gap, pool=self.pool)

    def propose(
        self, floor: float | None, gap_ratio: float, n_nodes: int
    ) -> tuple[_Master, IntegerSolution]:
        """Returns the master over all cuts, with whole replicas, and its solution."""
        master = self._master(floor)
        return master, maximise_integer(master.program, 0.25 * gap_ratio, n_nodes)

    def _add_cut(self, price: FloatArray, of_gain: float) -> Policy:
        """Returns the policy at scaled prices; their cut is added, true for any not negative."""
        prices = Prices(price, np.zeros(0), 0.0)
        policy, worth = self.prompts.policy(self.options, prices, of_gain)
        self.cuts.append(_Cut(of_gain, price, worth))
        return policy

    def _add_deployment(self, program: Program, integer: bool) -> tuple[Rent, IntArray]:
        """Returns the columns of the deployment and of the loads (M,) that it carries."""
        saved = 0.0 if self.floor is None else -1.0 / self.unit_usd
        rent = add_rent(program, self.fleet.space, saved, integer)
        if self.budget_usd_per_h is not None:
            none = np.zeros(0, dtype=np.int64)
            add_budget(program, rent, self.budget_usd_per_h, none, np.zeros(0))
        load = program.add_columns(self.options.size, 0.0, MOST_LOAD)
        _add_flows(program, self.fleet, rent.replicas, load, self.prompts.unit)
        return rent, load

    def _master(self, floor: float | None) -> _Master:
        """Returns the master program over the cuts so far."""
        program, n_options = Program(), self.options.size
        rent, load = self._add_deployment(program, integer=True)
        least, gain = (-np.inf, 1.0) if floor is None else (floor, 0.0)
        quality = program.add_columns(1, least, np.inf, gain)
        row = np.repeat(np.arange(len(self.cuts)), n_options)
        price = np.concatenate([-cut.price for cut in self.cuts])
        of_gain = np.array([cut.of_gain for cut in self.cuts])
        entries: list[Entry] = [
            (row, np.tile(load, len(self.cuts)), price),
            (np.arange(of_gain.size), np.repeat(quality, of_gain.size), of_gain),
        ]
        most = np.array([cut.worth for cut in self.cuts])
        program.add_rows("cuts", most.size, entries, upper=most)
        return _Master(program, rent, load, quality)


def _add_flows(
    program: Program, fleet: Fleet, replicas: IntArray, load: IntArray, unit: FloatArray
) -> None:
    """Adds what the replicas (P,) carry of the loads (M,), scaled by their units, within limits."""
    option = fleet.option[fleet.pool]
    width, slope = fleet.width / unit[option], fleet.slope * unit[option]
    carried = program.add_columns(width.size)
    segment, limits = np.arange(width.size), np.arange(slope.shape[0])
    program.add_rows(
        "width", width.size, [(segment, carried, 1.0), (segment, replicas[fleet.pool], -width)]
    )
    program.add_rows(
        "load", load.size, [(np.arange(load.size), load, 1.0), (option, carried, -1.0)]
    )
    row = np.repeat(limits, width.size)
    program.add_rows(
        "limit", limits.size, [(row, np.tile(carried, limits.size), slope.ravel())], upper=1.0
    )


class _Best:
    """The best deployment so far, and the best bound."""

    def __init__(self, outer: _Outer, fleet: Fleet) -> None:
        self.outer, self.fleet = outer, fleet
        self.sign = 1.0 if outer.floor is None else -1.0  # larger sign x value is better
        self.value, self.bound = -np.inf, np.inf  # both times the sign
        self.replicas = np.zeros_like(fleet.space.lower)
        self.routing: Priced | None = None
        self.impossible = False

    def judge(self, replicas: IntArray) -> float:
        """Returns by how much a deployment (P,) misses the floor; it is kept if it is the best.

        Infinite where it is none: it does not serve all, or the master's rows leave out what it
        breaks (nodes of shared GPUs, rent.py).
        """
        if not _may_be(self.fleet, replicas, self.outer.budget_usd_per_h):
            return np.inf
        found = self.outer.routed(self.fleet, replicas)
        if not found.feasible:
            return np.inf
        self.outer.cut_at(found.load / self.outer.prompts.unit)
        floor = self.outer.floor
        if floor is not None and found.value < floor:
            return floor - found.value
        space = self.fleet.space
        value = found.value if floor is None else -float(space.cost_usd_per_h(replicas))
        if value > self.value:
            self.value, self.replicas, self.routing = value, replicas, found
        return 0.0

    def improve(self, gap_ratio: float, n_nodes: int) -> bool:
        """Returns whether another round may help; proposes, routes and cuts in this one."""
        outer = self.outer
        master, found = outer.propose(outer.floor, gap_ratio, n_nodes)
        if found.status == "none":
            self.impossible = True
            return False
        unit = 1.0 if outer.floor is None else outer.unit_usd
        self.bound = min(self.bound, found.bound * unit + SAFETY_RATIO * abs(found.bound * unit))
        if not found.found or self.ends(gap_ratio):
            return False
        missed = self._tried(master, found)
        if 0.0 < missed < np.inf and outer.floor is not None:
            # The cheapest that cuts allow just misses the floor: what lies a little above it?
            aimed, found = outer.propose(outer.floor + AIM_BEYOND * missed, gap_ratio, n_nodes)
            if found.found:
                self._tried(aimed, found)
        return True

    def ends(self, gap_ratio: float) -> bool:
        """Returns whether the gap is closed."""
        found = self.routing is not None
        return found and self.bound - self.value <= gap_ratio * abs(self.value)

    def answer(self, n_rounds: int) -> ForAll:
        """Returns the outcome."""
        status: Literal["found", "none", "unknown"] = "unknown"
        if self.routing is not None:
            status = "found"
        elif self.impossible:
            status = "none"
        value = self.sign * self.value if status == "found" else None
        best = self.sign * max(self.bound, self.value) if np.isfinite(self.bound) else None
        gap = None
        if value is not None and best is not None:
            gap = abs(best - value) / max(abs(value), 1e-12)
        n_cuts = len(self.outer.cuts)
        return ForAll(status, self.replicas, value, best, gap, self.routing, n_rounds, n_cuts)

    def _tried(self, master: _Master, found: IntegerSolution) -> float:
        """Returns what a proposed deployment misses the floor by; the cuts learn from it."""
        self.outer.cut_at(found.values[master.load])
        return self.judge(np.rint(found.values[master.rent.replicas]).astype(np.int64))
