"""Several periods in one program: a deployment for each, changes between them, GPUs kept reserved.

Notation
    T periods, P pools, G kinds of GPU, O offers of GPUs (H by the hour, R reserved)
    h_t      length of period t, H their sum                          hours             (T,)
    n_tp     replicas of pool p in period t                           count             (T, P)
    F_t      deployments that serve period t within its limits and floors
    y_to     GPUs used of offer o in period t                         GPUs              (T, O)
    r_o      GPUs of a reserved offer that are paid for               GPUs              (O,)
    usd_o    price of an offer                                        $/h               (O,)
    a_t      money of hosted requests in period t                     $/h               (T,)
    c_p      money of starting or stopping a replica; 0 of a hosted pool     $          (P,)
    u_tp     price of one more replica than in the period before      $                 (T, P)
    v_to     price of using a reserved GPU in period t                $                 (T, O)

The program
    min   H sum_R usd_o r_o + sum_t h_t (sum_H usd_o y_to + a_t) + sum_tp c_p |n_tp - n_t-1,p|
    n_t in F_t
    sum_{p on g} g_p n_tp - sum_{o of g} y_to = 0
    0 <= y_to <= count_o of an offer by the hour,  0 <= y_to <= r_o <= count_o of a reserved one
where the period before the first is the last one if periods repeat, else the first itself.

All periods are held together by few rows only, so the program is solved by its periods. With
-c_p <= u_tp <= c_p and v_to >= 0, and w_tp = u_tp - u_t+1,p, every answer costs at least
    L(u, v) = sum_t min { h_t (sum_H usd_o y_to + a_t) + sum_R v_to y_to + w_t n_t : n_t in F_t }
              + sum_R count_o min(0, H usd_o - sum_t v_to)
because c |d| >= u d, and usd_o r_o H >= sum_t v_to y_to + r_o (H usd_o - sum_t v_to). Each minimum
is an ordinary joint program of one period with other prices (joint.py): read optimistically its
proven bound holds for every plan, so L(u, v) is a bound for every plan at any prices (§5).

Prices come from the linear program over the deployments known so far (a mixture of them in each
period): its duals are u and v. The best deployment at these prices joins them, and so on: column
generation (Dantzig and Wolfe, Operations Research 8, 1960). What stays between the best path over
whole deployments and the best L is the gap. With one price for all hours and free changes it is
that of the single periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.exact.joint import gains
from planner.exact.readings import Tiers
from planner.exact.rent import add_rent
from planner.exact.service import add_service
from planner.routing.linear import (
    Entry,
    Program,
    Solution,
    maximise,
    maximise_integer,
    nodes_within,
)
from planner.space import Offer, Space
from planner.spec.arrays import FloatArray, IntArray

NODES = 1000
GAP_RATIO = 1e-4
MOST_CLASSES = 24
"""Beyond, the programs of single periods are relaxed: whole replicas would take too long."""

SAFETY_RATIO = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A deployment that serves a period."""

    replicas: IntArray  # (P,)
    hosted_usd_per_h: float


@dataclass(frozen=True)
class Schedule:
    """The periods that follow each other, and what holds them together."""

    hours: FloatArray  # (T,)
    repeats: bool  # whether the first period follows the last one
    space: Space  # of every period
    change_usd: FloatArray  # (P,) of starting or stopping one replica

    @property
    def n_periods(self) -> int:
        """Returns the number of periods."""
        return self.hours.size

    @property
    def before(self) -> IntArray:
        """Returns the period before each period, (T,)."""
        earlier = np.arange(self.n_periods) - 1
        return earlier % self.n_periods if self.repeats else np.maximum(earlier, 0)


@dataclass(frozen=True)
class Prices:
    """What holds the periods together, as prices of one period."""

    replica_usd: FloatArray  # (T, P) w: of one replica, on top of its rent
    reserved_usd: Mapping[str, FloatArray]  # (T, O) v by kind of GPU, NaN of an offer by the hour

    def offers_of(self, space: Space, period: int, hours: float) -> dict[str, tuple[Offer, ...]]:
        """Returns the offers of each kind of GPU in a period, reserved ones at their own price."""
        return {
            gpu: tuple(
                offer if np.isnan(usd) else replace(offer, usd_per_h=float(usd) / hours)
                for offer, usd in zip(offers, self.reserved_usd[gpu][period], strict=True)
            )
            for gpu, offers in space.offers.items()
        }


@dataclass(frozen=True)
class Answer:
    """The best deployment of one period at given prices, if one was found, and a proven bound."""

    replicas: IntArray | None  # (P,)
    at_least_usd: float  # no deployment costs less at these prices; -inf when nothing is proved


def free_prices(schedule: Schedule) -> Prices:
    """Returns prices that leave every period to itself, reserved GPUs at their own price."""
    shape = schedule.n_periods, len(schedule.space.pool_names)
    reserved = {
        gpu: np.array([[o.usd_per_h * h if _kept(o) else np.nan for o in offers]
                       for h in schedule.hours.tolist()])
        for gpu, offers in schedule.space.offers.items()
    }  # fmt: skip
    return Prices(np.zeros(shape), reserved)


def mixed(one: Prices, other: Prices, weight: float) -> Prices:
    """Returns prices between two, with the weight of the second."""
    return Prices(
        (1.0 - weight) * one.replica_usd + weight * other.replica_usd,
        {
            gpu: (1.0 - weight) * usd + weight * other.reserved_usd[gpu]
            for gpu, usd in one.reserved_usd.items()
        },
    )


def best_of_period(schedule: Schedule, period: int, tiers: Tiers, prices: Prices) -> Answer:
    """Returns the cheapest deployment of a period at the prices that hold the periods together.

    Args:
        schedule: the periods.
        period: which of them.
        tiers: a reading of the tables at its rates; the proof needs the optimistic one.
        prices: of replicas and of reserved GPUs.
    """
    hours = float(schedule.hours[period])
    offers = prices.offers_of(schedule.space, period, hours)
    tiers = replace(tiers, space=replace(schedule.space, offers=offers))
    whole = tiers.case.n_classes <= MOST_CLASSES
    program = Program()
    gain, per_usd, unit = gains(tiers, "cost")
    rent = add_rent(program, tiers.space, per_usd, whole)
    program.set_gain(rent.replicas, -prices.replica_usd[period] / (hours * unit))
    floor = tiers.case.problem.workload.quality_at_least
    shares = add_service(program, tiers, rent.replicas, gain, floor, one_tier=whole).shares
    if not whole:
        relaxed = maximise(program)
        bound = relaxed.bound if relaxed.solved else np.inf
        return Answer(None, _safe_usd(-bound * unit * hours))
    found = maximise_integer(program, GAP_RATIO, nodes_within(NODES, shares.size))
    replicas = None
    if found.found:
        replicas = np.rint(found.values[rent.replicas]).astype(np.int64)
    return Answer(replicas, _safe_usd(-found.bound * unit * hours))


def _safe_usd(usd: float) -> float:
    """Returns a floating-point bound moved to the safe side; one without end stays as it is."""
    return usd - SAFETY_RATIO * abs(usd) if np.isfinite(usd) else usd


def at_least_usd(schedule: Schedule, prices: Prices, answers: Sequence[Answer]) -> float:
    """Returns L(u, v) in $: what no path can cost less than, from the answers of all periods."""
    total_h = float(schedule.hours.sum())
    spare = 0.0
    for gpu, offers in schedule.space.offers.items():
        for o, offer in enumerate(offers):
            if _kept(offer):
                paid_usd = float(prices.reserved_usd[gpu][:, o].sum())
                spare += offer.count * min(0.0, total_h * offer.usd_per_h - paid_usd)
    return spare + sum(answer.at_least_usd for answer in answers)


def prices_of(schedule: Schedule, known: Sequence[Sequence[Candidate]]) -> Prices | None:
    """Returns the prices at which mixtures of known deployments are cheapest together.

    None where the linear program has no solution, which a candidate in every period rules out.

    Args:
        schedule: the periods.
        known: deployments that serve each period, (T,).
    """
    program = Program()
    changes = _add_mixtures(program, schedule, known)
    solution = maximise(program)
    if not solution.solved:
        return None
    change = schedule.change_usd
    up, down = (
        program.dual(solution, way).reshape(changes.shape) for way in ("started", "stopped")
    )
    u = np.clip((up - down) * _unit(schedule), -change, change)
    if not schedule.repeats:
        u[0] = 0.0
    reserved = _reserved_usd(program, solution, schedule)
    return Prices(u - np.roll(u, -1, axis=0), reserved)


def _add_mixtures(
    program: Program, schedule: Schedule, known: Sequence[Sequence[Candidate]]
) -> IntArray:
    """Adds the linear program over known deployments; returns the columns of changes, (T, P)."""
    unit, total_h = _unit(schedule), float(schedule.hours.sum())
    n_periods, n_pools = schedule.n_periods, len(schedule.space.pool_names)
    period = np.repeat(np.arange(n_periods), [len(each) for each in known])
    every = [candidate for each in known for candidate in each]
    hosted = np.array([candidate.hosted_usd_per_h for candidate in every])
    mix = program.add_columns(period.size, gain=-schedule.hours[period] * hosted / unit)
    program.add_rows("one", n_periods, [(period, mix, 1.0)], lower=1.0, upper=1.0)
    gpus = [schedule.space.gpu_count(candidate.replicas) for candidate in every]
    for gpu, offers in schedule.space.offers.items():
        used = np.array([counts[gpu] for counts in gpus])
        entries: list[Entry] = [(period, mix, used)]
        for o, offer in enumerate(offers):
            kept = _kept(offer)
            usd = 0.0 if kept else offer.usd_per_h
            most = np.inf if kept else offer.count
            taken = program.add_columns(n_periods, 0.0, most, -schedule.hours * usd / unit)
            entries.append((np.arange(n_periods), taken, -1.0))
            if kept:
                paid = program.add_columns(1, 0.0, offer.count, -total_h * offer.usd_per_h / unit)
                rows = np.arange(n_periods)
                within: list[Entry] = [(rows, taken, 1.0), (rows, np.repeat(paid, n_periods), -1.0)]
                program.add_rows(f"reserved:{gpu}:{o}", n_periods, within)
        program.add_rows(f"gpus:{gpu}", n_periods, entries)
    gain = -np.tile(schedule.change_usd, n_periods) / unit
    changes = program.add_columns(n_periods * n_pools, gain=gain).reshape(n_periods, n_pools)
    _add_changes(program, schedule, (period, mix, every), changes)
    return changes


def _add_changes(
    program: Program,
    schedule: Schedule,
    mixtures: tuple[IntArray, IntArray, Sequence[Candidate]],
    changes: IntArray,
) -> None:
    """Adds the rows that count replicas started and stopped, for each period and pool."""
    period, mix, every = mixtures
    n_pools = changes.shape[1]
    replicas = np.array([candidate.replicas for candidate in every], dtype=np.float64)
    candidate, pool = np.nonzero(replicas)
    value, now = replicas[candidate, pool], period[candidate]
    own: list[Entry] = []
    for t, earlier in enumerate(schedule.before.tolist()):
        if earlier == t:  # nothing changes into it; its replicas would stand twice in one row
            continue
        for sign, at in ((1.0, t), (-1.0, earlier)):
            mine = np.flatnonzero(now == at)
            own.append((t * n_pools + pool[mine], mix[candidate[mine]], sign * value[mine]))
    flat = np.arange(changes.size)
    for name, sign in (("started", 1.0), ("stopped", -1.0)):
        moved: list[Entry] = [(row, column, sign * np.asarray(v)) for row, column, v in own]
        program.add_rows(name, changes.size, [*moved, (flat, changes.ravel(), -1.0)])


def _reserved_usd(
    program: Program, solution: Solution, schedule: Schedule
) -> dict[str, FloatArray]:
    """Returns v of every offer, (T, O) by kind of GPU; NaN of an offer by the hour."""
    found = {}
    for gpu, offers in schedule.space.offers.items():
        usd = np.full((schedule.n_periods, len(offers)), np.nan)
        for o, offer in enumerate(offers):
            if _kept(offer):
                dual = program.dual(solution, f"reserved:{gpu}:{o}")
                usd[:, o] = np.maximum(dual * _unit(schedule), 0.0)
        found[gpu] = usd
    return found


def _kept(offer: Offer) -> bool:
    """Returns whether an offer is paid for in all hours."""
    return offer.kind == "reserved"


def _unit(schedule: Schedule) -> float:
    """Returns the money of one unit of the linear program, $: a GPU for all hours, about."""
    offers = [offer.usd_per_h for offers in schedule.space.offers.values() for offer in offers]
    return max(offers, default=0.0) * float(schedule.hours.sum()) or 1.0
