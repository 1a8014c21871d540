"""The operation's part of a joint program: shares of all classes over replicas that are variables.

Notation and rows: see joint.py. One program may hold several operations over the same or over
different deployments (scenarios, periods); each has its own prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.exact.readings import Tiers
from planner.routing.case import Case
from planner.routing.linear import Entry, Program
from planner.routing.program import HIGHEST_RATE_FACTOR, add_stages
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Service:
    """Where the columns of one operation are in a program."""

    shares: IntArray  # (J, T)
    unserved: IntArray  # (C,)
    rate_factor: IntArray  # (1,)
    groups: IntArray  # (A, T)


def add_service(
    program: Program,
    tiers: Tiers,
    replicas: IntArray,
    gain: FloatArray,
    floor: float | None,
    one_tier: bool = False,
    maximises_rate: bool = False,
    unserved_loss: FloatArray | None = None,
    prefix: str = "",
) -> Service:
    """Returns the columns of an operation of a deployment, added to a program with their rows.

    Args:
        program: to which they are added.
        tiers: loads and figures.
        replicas: the columns of the deployment, (P,).
        gain: objective of each share, (J,).
        floor: least mean quality of the served traffic, if any.
        one_tier: whether all replicas of a pool run at the same tier (adds binaries).
        maximises_rate: whether the rate factor is free, and worth 1.
        unserved_loss: objective lost where a class is not served, (C,); None: all is served.
        prefix: before the names of the blocks of rows.
    """
    case, (n_slots, n_tiers) = tiers.case, tiers.loads.shape
    served = add_served(
        program,
        case,
        tiers.space,
        tiers.loads[:, -1],
        np.repeat(gain, n_tiers),
        maximises_rate,
        unserved_loss,
        prefix,
    )
    groups = program.add_columns(n_slots * n_tiers).reshape(n_slots, n_tiers)
    service = Service(served.shares, served.unserved, served.rate_factor, groups)
    _add_loads(program, tiers, replicas, service, prefix)
    _add_limits(program, tiers, service, prefix)
    add_floors(program, case, service.shares, floor, tiers.slack_ratio, prefix)
    if one_tier:
        _add_one_tier(program, tiers, service, served.most_phi, prefix)
    return service


@dataclass(frozen=True)
class Served:
    """Where the columns of who is served are, whatever the form of the limits."""

    shares: IntArray  # (J, T)
    unserved: IntArray  # (C,)
    rate_factor: IntArray  # (1,)
    most_phi: float  # what the rate factor can be


def add_served(
    program: Program,
    case: Case,
    space: Space,
    most_load: FloatArray,
    gain: FloatArray,
    maximises_rate: bool,
    unserved_loss: FloatArray | None,
    prefix: str,
) -> Served:
    """Returns the columns of the shares of all classes, added with the rows that serve them.

    Args:
        program: to which they are added.
        case: all usable pools with one replica each.
        space: the box of deployments.
        most_load: highest load per replica, (A,).
        gain: objective of each share, (J * T,): T per class and pool.
        maximises_rate: whether the rate factor is free, and worth 1.
        unserved_loss: objective lost where a class is not served, (C,); None: all is served.
        prefix: before the names of the blocks of rows.
    """
    n_columns, n_classes = case.work.size, case.n_classes
    most_phi = _highest_rate_factor(case, space, most_load) if maximises_rate else 1.0
    shares = program.add_columns(gain.size, 0.0, most_phi, gain)
    shares = shares.reshape(n_columns, -1 if n_columns else 1)
    loss = np.zeros(n_classes) if unserved_loss is None else unserved_loss
    most_unserved = 0.0 if unserved_loss is None else 1.0
    unserved = program.add_columns(n_classes, 0.0, most_unserved, -loss)
    free = float(maximises_rate)
    factor = program.add_columns(1, 1.0 - free, most_phi, free)
    n_tiers, x = shares.shape[1], shares.ravel()
    counted = np.repeat(case.counted, n_tiers)
    classes, phi = np.arange(n_classes), np.repeat(factor, n_classes)
    serve: list[Entry] = [(np.repeat(case.column_class, n_tiers), x, counted)]
    serve += [(classes, unserved, 1.0), (classes, phi, -1.0)]
    program.add_rows(f"{prefix}serve", n_classes, serve, lower=0.0)
    cascades = np.repeat(case.column_cascade, n_tiers)
    add_stages(program, cascades, counted, x, f"{prefix}stages")
    return Served(shares, unserved, factor, most_phi)


def _highest_rate_factor(case: Case, space: Space, most_load: FloatArray) -> float:
    """Returns what the class with the least room could reach with the whole box for itself."""
    upper = space.upper[case.pools[case.column_slot]]
    room = most_load[case.column_slot] * upper
    alone = np.divide(room, case.work, out=np.full(room.size, np.inf), where=case.work > 0)
    first = case.counted > 0
    by_class = np.bincount(case.column_class[first], alone[first], case.n_classes)
    return min(float(by_class.min()) * (1.0 + 1e-9), HIGHEST_RATE_FACTOR)


def _add_loads(
    program: Program, tiers: Tiers, replicas: IntArray, service: Service, prefix: str
) -> None:
    """Adds the rows that keep every tier within its load, and its replicas within the pool's."""
    case, (n_slots, n_tiers) = tiers.case, tiers.loads.shape
    x = service.shares
    cell = np.arange(n_slots * n_tiers)
    row = (case.column_slot[:, None] * n_tiers + np.arange(n_tiers)).ravel()
    within = [
        (row, x.ravel(), np.repeat(case.work, n_tiers)),
        (cell, service.groups.ravel(), -tiers.loads.ravel()),
    ]
    program.add_rows(f"{prefix}tier", cell.size, within)
    slots = np.arange(n_slots)
    group = [
        (cell // n_tiers, service.groups.ravel(), 1.0),
        (slots, replicas[case.pools], -1.0),
    ]
    program.add_rows(f"{prefix}group", n_slots, group)


def _add_limits(program: Program, tiers: Tiers, service: Service, prefix: str) -> None:
    """Adds the rows of latency limits."""
    f = tiers.case.figures
    allowed = (1.0 + tiers.slack_ratio) * f.counted[:, None]
    over = tiers.figures / f.bound[f.limit, None] - allowed
    value = (f.traffic[:, None] * over).ravel()
    limit = np.repeat(f.limit, tiers.loads.shape[1])
    program.add_rows(f"{prefix}limit", f.n, [(limit, service.shares[f.column].ravel(), value)])


def add_floors(
    program: Program,
    case: Case,
    shares: IntArray,
    floor: float | None,
    slack_ratio: float,
    prefix: str,
) -> None:
    """Adds the rows of quality floors: of the served traffic, and of single classes.

    Args:
        program: to which they are added.
        case: says which classes have floors, and every column's quality.
        shares: columns of the shares, (J, T).
        floor: least mean quality of the served traffic, if any.
        slack_ratio: taken from every floor, so that a bound binds no plan.
        prefix: before the names of the blocks of rows.
    """
    c, n_tiers, flat = case.column_class, shares.shape[1], shares.ravel()
    if floor is not None:
        below = case.counted * case.weight[c] * (floor - slack_ratio - case.quality)
        entries = [(np.zeros(flat.size, dtype=np.int64), flat, np.repeat(below, n_tiers))]
        program.add_rows(f"{prefix}quality", 1, entries)
    floors = case.problem.workload.class_quality_at_least
    floored = np.isfinite(floors)
    if floored.any():
        row = np.cumsum(floored) - 1
        j = np.flatnonzero(floored[c])
        below = case.counted[j] * (floors[c[j]] - slack_ratio - case.quality[j])
        below = np.repeat(below, n_tiers)
        entries = [(np.repeat(row[c[j]], n_tiers), shares[j].ravel(), below)]
        program.add_rows(f"{prefix}class_quality", int(floored.sum()), entries)


def _add_one_tier(
    program: Program, tiers: Tiers, service: Service, most_phi: float, prefix: str
) -> None:
    """Adds binaries so that all replicas of a pool run at the same tier."""
    n_slots, n_tiers = tiers.loads.shape
    cell = np.arange(n_slots * n_tiers)
    z = program.add_columns(cell.size, 0.0, 1.0, 0.0, True)
    program.add_rows(f"{prefix}one", n_slots, [(cell // n_tiers, z, 1.0)], upper=1.0)
    most = _most_at_tiers(tiers, most_phi).ravel()
    choice: list[Entry] = [(cell, service.groups.ravel(), 1.0), (cell, z, -most)]
    program.add_rows(f"{prefix}choice", cell.size, choice)


def _most_at_tiers(tiers: Tiers, most_phi: float) -> FloatArray:
    """Returns the most replicas that can run at each tier, (A, T).

    A pool whose load per replica is above rho_k-1 has fewer than (load of all classes) / rho_k-1
    replicas; with no more load than that a lower tier is as good.
    """
    case = tiers.case
    upper = tiers.space.upper[case.pools].astype(np.float64)[:, None]
    every = most_phi * np.bincount(case.column_slot, case.work, case.n_slots)[:, None]
    below = np.concatenate([np.zeros_like(upper), tiers.loads[:, :-1]], axis=1)
    enough = np.divide(every, below, out=np.full(below.shape, np.inf), where=below > 0)
    most = np.minimum(upper, np.floor(enough * (1.0 + 1e-9)))
    return np.asarray(np.where(tiers.loads > below, most, 0.0))  # repeated tiers are not needed
