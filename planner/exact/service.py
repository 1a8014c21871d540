"""The operation's part of a joint program: shares of all classes over replicas that are variables.

Notation and rows: see joint.py. One program may hold several operations over the same or over
different deployments (scenarios, periods); each has its own prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.exact.readings import Tiers
from planner.routing.linear import Entry, Program
from planner.routing.program import add_stages
from planner.spec.arrays import FloatArray, IntArray

HIGHEST_RATE_FACTOR = 1e6


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
    case = tiers.case
    n_columns, (n_slots, n_tiers) = case.work.size, tiers.loads.shape
    most_phi = _highest_rate_factor(tiers) if maximises_rate else 1.0
    shares = program.add_columns(
        n_columns * n_tiers, 0.0, most_phi, np.repeat(gain, n_tiers)
    ).reshape(n_columns, n_tiers)
    loss = np.zeros(case.n_classes) if unserved_loss is None else unserved_loss
    most_unserved = 0.0 if unserved_loss is None else 1.0
    unserved = program.add_columns(case.n_classes, 0.0, most_unserved, -loss)
    free = float(maximises_rate)
    factor = program.add_columns(1, 1.0 - free, most_phi, free)
    groups = program.add_columns(n_slots * n_tiers).reshape(n_slots, n_tiers)
    service = Service(shares, unserved, factor, groups)
    _add_loads(program, tiers, replicas, service, prefix)
    _add_promises(program, tiers, service, floor, prefix)
    if one_tier:
        _add_one_tier(program, tiers, service, most_phi, prefix)
    return service


def _highest_rate_factor(tiers: Tiers) -> float:
    """Returns what the class with the least room could reach with the whole box for itself."""
    case = tiers.case
    upper = tiers.space.upper[case.pools[case.column_slot]]
    room = tiers.loads[case.column_slot, -1] * upper
    alone = np.divide(room, case.work, out=np.full(room.size, np.inf), where=case.work > 0)
    first = case.counted > 0
    by_class = np.bincount(case.column_class[first], alone[first], case.n_classes)
    return float(min(by_class.min(initial=np.inf) * (1.0 + 1e-9), HIGHEST_RATE_FACTOR))


def _add_loads(
    program: Program, tiers: Tiers, replicas: IntArray, service: Service, prefix: str
) -> None:
    """Adds the rows that serve every class within the loads of the tiers."""
    case, (n_slots, n_tiers) = tiers.case, tiers.loads.shape
    x, classes = service.shares, np.arange(case.n_classes)
    counted = np.repeat(case.counted, n_tiers)
    served: Entry = (np.repeat(case.column_class, n_tiers), x.ravel(), counted)
    phi = np.repeat(service.rate_factor, case.n_classes)
    serve: list[Entry] = [served, (classes, service.unserved, 1.0), (classes, phi, -1.0)]
    program.add_rows(f"{prefix}serve", case.n_classes, serve, lower=0.0)
    cascades = np.repeat(case.column_cascade, n_tiers)
    add_stages(program, cascades, counted, x.ravel(), f"{prefix}stages")
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


def _add_promises(
    program: Program, tiers: Tiers, service: Service, floor: float | None, prefix: str
) -> None:
    """Adds the rows of latency limits and of quality floors."""
    case, f = tiers.case, tiers.case.figures
    n_tiers, c = tiers.loads.shape[1], case.column_class
    allowed = (1.0 + tiers.slack_ratio) * f.counted[:, None]
    over = tiers.figures / f.bound[f.limit, None] - allowed
    value = (f.traffic[:, None] * over).ravel()
    limit = np.repeat(f.limit, n_tiers)
    program.add_rows(f"{prefix}limit", f.n, [(limit, service.shares[f.column].ravel(), value)])
    flat = service.shares.ravel()
    if floor is not None:
        below = case.counted * case.weight[c] * (floor - tiers.slack_ratio - case.quality)
        entries = [(np.zeros(flat.size, dtype=np.int64), flat, np.repeat(below, n_tiers))]
        program.add_rows(f"{prefix}quality", 1, entries)
    floors = case.problem.workload.class_quality_at_least
    floored = np.isfinite(floors)
    if floored.any():
        row = np.cumsum(floored) - 1
        j = np.flatnonzero(floored[c])
        below = case.counted[j] * (floors[c[j]] - tiers.slack_ratio - case.quality[j])
        below = np.repeat(below, n_tiers)
        entries = [(np.repeat(row[c[j]], n_tiers), service.shares[j].ravel(), below)]
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
