"""Prices: the one engine for routing all prompts of a deployment, exact and with its own proof.

Notation
    N prompts, M options, S segments, L limits, J policies. An option is a model, where the works
    of its pools are in one ratio for all prompts and their segments merge; else a pool.
    p_n        weight of prompt n in the traffic; they sum to 1                ratio      (N,)
    g_nm       gain: quality, or minus the price, or minus the load            any        (N, M)
    q_nm       what option m is believed to be worth on prompt n               quality    (N, M)
    w_nm       load of option m if all traffic were like prompt n              load       (N, M)
    a_s        option whose load segment s carries                                        (S,)
    width_s    load that the segment carries at most                           load       (S,)
    slope_ls   flow of limit l per load in the segment (convex.py)             flow/load  (L, S)
    b_l        what the flows may add up to, over all traffic                  flow       (L,)
    x_nm       share of prompt n that goes to option m                         ratio      (N, M)
    y_s        load in segment s                                               load       (S,)
    mu_m, lambda_l, nu    prices of load, limit and quality floor: gain per load, flow, quality
    G_j, Q_j, l_jm        gain, quality and loads of policy j, which splits no prompt

The program
    max   sum_nm p_n g_nm x_nm
    s.t.  sum_m x_nm = 1                                      every prompt is served
          sum_n p_n w_nm x_nm <= sum_{s of m} y_s             its load is carried          mu_m
          sum_s slope_ls y_s  <= b_l                          limits over all traffic      lambda_l
          sum_nm p_n q_nm x_nm >= floor                       if there is one              nu
          0 <= y_s <= width_s

By Little's law the mean over all traffic is a sum of occupancies, and a percentile one of late
flows, so one number per pool, its load, is enough for them (routing/convex.py says when). The
slopes of a pool rise, so its segments fill in order without integers.

For fixed prices every prompt goes where g + nu q - mu w is largest. That policy is a column, and
what it is worth bounds all routings:
    bound = sum_n p_n max_m (g_nm + nu q_nm - mu_m w_nm) + lambda.b - nu floor
            + sum_s width_s max(0, mu_{a_s} - lambda.slope_s)
The master program (master.py) mixes the columns found so far and gives new prices (Dantzig and
Wolfe 1960); prices are drawn towards the best ones so far, which saves rounds (Wentges 1997). It
ends when bound and value meet: the bound holds for whatever prices it was taken at, so the gap
that is reported is true wherever the rounds end. A vertex of the master mixes at most M + L + 2
policies, so few prompts are split.

Where no mixture of the columns keeps the rows, phase 1 does the same with g = 0 and the shortfall
as objective: either it vanishes, or its prices are a proof that no routing keeps the rows: their
bound is negative (Farkas).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.routing.master import ColumnMaster, Prices, Rows
from planner.routing.policies import ColumnPool, Policy, Prompts
from planner.spec.arrays import FloatArray, IntArray

GAP = 5e-7  # in units of gain: quality, or the prompts' mean price or load
MOST_ROUNDS = 300  # of each phase
TOWARDS_BEST = 0.4  # how far prices are drawn towards the best so far
SHORTFALL = 1e-9  # of an option's load with all prompts, of a limit, of quality: rounding
MOST_ROOM = 2.0  # of the same load: more room binds nothing
NEGLIGIBLE = 1e-9  # load of a segment beside the same: it would upset the solver's arithmetic
LOADED_AT_FIRST = 40  # columns of the pool in a new master
LOADED_EACH_ROUND = 5

Status = Literal["optimal", "infeasible", "unknown"]


@dataclass(frozen=True)
class Curves:
    """What a deployment can carry, and what its limits cost: convex curves cut in segments.

    An option without any segment is not deployed, and no prompt may go there.
    """

    option: IntArray  # (S,)
    width: FloatArray  # (S,) inf for as much as there is
    slope: FloatArray  # (L, S)
    limit: FloatArray  # (L,) positive

    @classmethod
    def of_rooms(cls, room: FloatArray) -> Curves:
        """Returns the curves of options that each carry up to a load, (M,), without limits."""
        return cls(np.arange(room.size), room, np.zeros((0, room.size)), np.zeros(0))


@dataclass(frozen=True)
class Priced:
    """The best routing of all prompts, or the proof that there is none."""

    status: Status  # optimal: to the gap asked for; unknown: the rounds were over before that
    value: float  # of the objective: quality, or minus the price or load per request; -inf: none
    bound: float  # no routing has a higher value; inf where nothing is proved
    prices: FloatArray  # mu (M,); inf where an option is not deployed; of the proof if infeasible
    limit_prices: FloatArray  # lambda (L,)
    floor_price: float  # nu
    quality: float
    load: FloatArray  # (M,)
    mixture: tuple[tuple[float, Policy], ...]  # parts and policies; none without a routing
    n_rounds: int

    @property
    def feasible(self) -> bool:
        """Returns whether there is a routing."""
        return bool(self.mixture)

    def shares(self) -> FloatArray:
        """Returns the share of each prompt that goes to each option, (N, M); rows sum to 1."""
        n = self.mixture[0][1].choice.size
        shares = np.zeros((n, self.load.size))
        rows = np.arange(n)
        for part, policy in self.mixture:
            shares[rows, policy.choice] += part
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def route_all(
    prompts: Prompts,
    curves: Curves,
    floor: float | None = None,
    gap: float = GAP,
    pool: ColumnPool | None = None,
) -> Priced:
    """Returns the best routing of all prompts in one deployment.

    Args:
        prompts: what is known of them, and the objective (prompts_of).
        curves: what the deployment can carry, and its limits.
        floor: least mean quality, if any.
        gap: of value and bound, at which the rounds end, in units of gain.
        pool: policies of the same prompts that earlier solves found; new ones are added.

    Raises:
        ValueError: shapes differ, a limit is not positive, or the pool is of other prompts.
    """
    return route_sweep(prompts, curves, curves.limit[None, :], floor, gap, pool)[0]


def route_sweep(
    prompts: Prompts,
    curves: Curves,
    limits: FloatArray,
    floor: float | None = None,
    gap: float = GAP,
    pool: ColumnPool | None = None,
) -> list[Priced]:
    """Returns the best routing of all prompts for each row of limits (K, L), in their order.

    One after the other goes on from where the one before it ended. Arguments as in route_all; the
    limits replace those of the curves.
    """
    _check(prompts, curves, limits, pool)
    if not prompts.allowed(np.unique(curves.option)):
        return [_nowhere(prompts, curves) for _ in limits]
    pool = ColumnPool(prompts) if pool is None else pool
    search = _Search(prompts, curves, floor, gap, pool)
    return [search.at(limit) for limit in limits]


def _check(prompts: Prompts, curves: Curves, limits: FloatArray, pool: ColumnPool | None) -> None:
    n_limits, n_segments = curves.slope.shape
    if curves.option.shape != (n_segments,) or curves.width.shape != (n_segments,):
        raise ValueError(f"shapes differ: {curves.option.shape}, {curves.slope.shape}")
    if limits.shape[1:] != (n_limits,) or not (np.append(limits, curves.limit) > 0).all():
        raise ValueError(f"each of {n_limits} limits is a positive number, got {limits}")
    if pool is not None and pool.prompts is not prompts:
        raise ValueError("the pool holds policies of other prompts")


def _nowhere(prompts: Prompts, curves: Curves) -> Priced:
    """Returns that a prompt has no deployed option at all."""
    zeros, none = np.zeros(prompts.n_options), np.zeros(curves.limit.size)
    return Priced("infeasible", -np.inf, -np.inf, zeros, none, 0.0, 0.0, zeros, (), 0)


@dataclass(frozen=True)
class _End:
    """Where the rounds of a phase ended."""

    value: float  # of the master's objective
    bound: float
    prices: Prices | None  # where the bound was taken


class _Search:
    """The rounds of one deployment; prices, loads and gains are in scaled units here."""

    def __init__(
        self, prompts: Prompts, curves: Curves, floor: float | None, gap: float, pool: ColumnPool
    ) -> None:
        self.prompts, self.pool, self.gap = prompts, pool, gap
        self.options: IntArray = np.unique(curves.option)
        self.limit_unit = curves.limit
        self.rows = _scaled(prompts, curves, floor)
        # What the master leaves out carries next to nothing; the bound counts it all the same.
        steepest = self.rows.slope.max(axis=0, initial=0.0)
        kept = (self.rows.width > NEGLIGIBLE) & (steepest * NEGLIGIBLE < 1.0)
        self.master = ColumnMaster(self.rows.take(kept))
        self.columns: list[Policy] = []
        self.numbers: list[int] = []  # theirs in the pool
        self.n_rounds = 0
        self._begin()

    def at(self, limit: FloatArray) -> Priced:
        """Returns the best routing within limits (L,)."""
        self.rows = replace(self.rows, limit=limit / self.limit_unit)
        self.master.set_limits(self.rows.limit)
        self.master.end_first_phase(with_rest=False)  # of an earlier limit
        self.n_rounds = 0
        if self.master.solve() is None:
            self.master.begin_first_phase()
            end = self._rounds(of_gain=0.0)
            if end.value < -SHORTFALL:
                return self._none("infeasible" if end.bound < -SHORTFALL else "unknown", end)
            self.master.end_first_phase(with_rest=True)
        return self._mixture(self._rounds(of_gain=1.0))

    def _begin(self) -> None:
        """Loads the policies of the pool that the last prices liked best, or else any one."""
        prices = self.pool.prices
        if prices is None:
            prices = Prices(np.zeros(self.prompts.n_options), np.zeros(self.rows.limit.size), 0.0)
        worth = self.pool.worth(prices, 1.0, self.options)
        self._load(worth, -np.inf, LOADED_AT_FIRST)
        if not self.columns:
            self._add(self.prompts.policy(self.options, prices, 1.0)[0])

    def _rounds(self, of_gain: float) -> _End:
        """Returns where the rounds of a phase end; the master stays as it was solved last."""
        best, bound, value = None, np.inf, -np.inf
        for left in reversed(range(MOST_ROUNDS)):
            mixed = self.master.solve()
            if mixed is None:
                value = -np.inf  # the solver gave up: only the bound holds
                break
            value = mixed.value
            if self._ends(of_gain, value, bound):
                break
            self.n_rounds += 1
            enters = mixed.worth + 0.1 * self.gap * of_gain
            found = None
            for towards in (0.0,) if best is None else (TOWARDS_BEST, 0.0):
                asked = mixed.prices if best is None else mixed.prices.towards(best, towards)
                policy, worth = self.prompts.policy(self.options, asked, of_gain)
                proved = worth + self.rows.carried(asked)
                if proved < bound:
                    best, bound = asked, proved
                if policy.worth(mixed.prices, of_gain) > enters:
                    found = policy
                    break  # else the drawn prices found nothing new, and the true ones must
            if found is None or not left or self._ends(of_gain, value, bound):
                break
            worths = self.pool.worth(mixed.prices, of_gain, self.options)
            self._load(worths, enters, LOADED_EACH_ROUND)
            self._add(found)
        return _End(value, bound, best)

    def _ends(self, of_gain: float, value: float, bound: float) -> bool:
        """Returns whether a phase is over: the gap is closed, or it is known what phase 1 asks."""
        if of_gain:
            return bound - value <= self.gap
        return value >= -SHORTFALL or bound < -SHORTFALL

    def _add(self, policy: Policy) -> None:
        """Adds a new policy to the pool and to the master."""
        self._enter(self.pool.add(policy), policy)

    def _load(self, worth: FloatArray, more_than: float, most: int) -> None:
        """Adds the best of the pool's policies by their worth (J,), where they are worth it."""
        worth[self.numbers] = -np.inf
        for number in np.argsort(-worth, kind="stable")[:most].tolist():
            if worth[number] > more_than:
                self._enter(number, self.pool[number])

    def _enter(self, number: int, policy: Policy) -> None:
        self.numbers.append(number)
        self.columns.append(policy)
        self.master.add(policy.gain, policy.quality, policy.load)

    def _mixture(self, end: _End) -> Priced:
        """Returns the mixture of the last solve, and what is proved about it."""
        if end.value == -np.inf:
            return self._none("unknown", end)
        parts, unit = self.master.parts(), self.prompts.gain_unit
        mixed = np.flatnonzero(parts).tolist()
        mixture = tuple((float(parts[j]), self.columns[j]) for j in mixed)
        self.pool.note_use([self.numbers[j] for j in mixed])
        self.pool.prices = end.prices
        value = sum(part * policy.gain for part, policy in mixture)
        bound = max(end.bound, value)
        prices, limit_prices, floor_price = self._in_their_units(end.prices)
        return Priced(
            status="optimal" if bound - value <= self.gap else "unknown",
            value=value * unit,
            bound=bound * unit,
            prices=prices,
            limit_prices=limit_prices,
            floor_price=floor_price,
            quality=sum(part * policy.quality for part, policy in mixture),
            load=np.asarray(sum(part * policy.load for part, policy in mixture))
            * self.prompts.unit,
            mixture=mixture,
            n_rounds=self.n_rounds,
        )

    def _none(self, status: Status, end: _End) -> Priced:
        """Returns that there is no routing, with the prices that prove it, or none was found."""
        prices = self._in_their_units(end.prices)
        bound, load = -np.inf if status == "infeasible" else np.inf, np.zeros(prices[0].size)
        return Priced(status, -np.inf, bound, *prices, 0.0, load, (), self.n_rounds)

    def _in_their_units(self, prices: Prices | None) -> tuple[FloatArray, FloatArray, float]:
        """Returns prices of loads (M,), of limits (L,) and of the floor, per unit as given."""
        unit, load = self.prompts.gain_unit, np.full(self.prompts.n_options, np.inf)
        if prices is None:
            load[self.options] = 0.0
            return load, np.zeros(self.limit_unit.size), 0.0
        load[self.options] = (prices.load * unit / self.prompts.unit)[self.options]
        return load, prices.limit * unit / self.limit_unit, prices.floor * unit


def _scaled(prompts: Prompts, curves: Curves, floor: float | None) -> Rows:
    """Returns the curves in scaled units: loads of an option beside that of all prompts there."""
    unit = prompts.unit[curves.option]
    return Rows(
        option=curves.option,
        width=np.minimum(curves.width / unit, MOST_ROOM),
        slope=curves.slope * unit / curves.limit[:, None],
        limit=np.ones(curves.limit.size),
        floor=floor,
        n_options=prompts.n_options,
    )
