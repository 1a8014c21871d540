"""Fewer classes that stand for many: a joint program that finds deployments quickly.

Notation
    v_c    features of a class: its quality and the logarithm of its work on every pool   (2P,)
    w_c    rate of a class                                                            requests/s

Ward's rule: while there are too many, the two classes are merged whose merging loses least
variance, w_a w_b / (w_a + w_b) |v_a - v_b|^2. A merged class has the means of its members over
their rates. It routes all of them alike, so its program is a restriction: what it finds is good for
all, what it proves is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

WORK_WEIGHT = 0.15  # of a factor of e in work against a whole unit of quality


def merged(
    workload: Workload, tables: Sequence[PoolTable], n_classes: int
) -> tuple[Workload, tuple[PoolTable, ...]]:
    """Returns the workload and its tables in at most n_classes classes.

    A pool that one member may not or cannot use is closed to all of a class.

    Args:
        workload: C classes over P pools, without cascades and without limits of single classes.
        tables: the pools' tables, (P,).
        n_classes: at most this many are left.
    """
    work_s = np.stack([table.work_s for table in tables], axis=1)
    usable = workload.allowed & np.isfinite(work_s)
    group = _groups(workload, work_s, usable, n_classes)
    n = int(group.max()) + 1
    member = np.zeros((n, group.size))
    member[group, np.arange(group.size)] = 1.0
    rate = member @ workload.rate_rps
    part = member * workload.rate_rps / np.where(rate > 0, rate, 1.0)[:, None]

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.tensordot(part, np.nan_to_num(values), axes=1))

    allowed = np.array([usable[group == g].all(axis=0) for g in range(n)])
    floors = np.array([_highest(workload.class_quality_at_least[group == g]) for g in range(n)])
    first = [int(np.flatnonzero(group == g)[0]) for g in range(n)]
    fewer = replace(
        workload,
        class_names=tuple(f"merged {g}" for g in range(n)),
        rate_rps=rate,
        mean_rate_rps=member @ workload.mean_rate_rps,
        quality=np.where(allowed, mean(workload.quality), np.nan),
        allowed=allowed,
        shapes=tuple(workload.shapes[c] for c in first),
        class_quality_at_least=floors,
        priority=np.ones(n),
        request_usd=mean(workload.request_usd),
    )
    closed = np.where(allowed, 0.0, np.nan).T
    return fewer, tuple(
        replace(
            table,
            work_s=mean(table.work_s) + closed[p],
            mix=member @ np.nan_to_num(table.mix),
            mean_ms={m: mean(values) for m, values in table.mean_ms.items()},
            survival={m: mean(values) for m, values in table.survival.items()},
        )
        for p, table in enumerate(tables)
    )


def _highest(floors: FloatArray) -> float:
    """Returns the highest of some floors, NaN where there is none."""
    return float(np.nanmax(floors)) if np.isfinite(floors).any() else np.nan


def _groups(workload: Workload, work_s: FloatArray, usable: BoolArray, n_classes: int) -> IntArray:
    """Returns the merged class of each class, (C,)."""
    known = usable & (work_s > 0)
    logs = np.log(np.where(known, work_s, 1.0))
    quality = np.where(known, workload.quality, -1.0)
    centre = np.concatenate([quality, WORK_WEIGHT * logs], axis=1)
    weight = np.maximum(workload.rate_rps, 1e-12)
    squares = (centre**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2.0 * centre @ centre.T, 0.0)
    loss = apart * weight[:, None] * weight / (weight[:, None] + weight)
    np.fill_diagonal(loss, np.inf)
    group = np.arange(weight.size)
    for _ in range(weight.size - n_classes):
        a, b = divmod(int(loss.argmin()), weight.size)
        both = weight[a] + weight[b]
        centre[a] = (weight[a] * centre[a] + weight[b] * centre[b]) / both
        weight[a] = both
        group[group == b] = a
        loss[b] = loss[:, b] = np.inf
        again = ((centre - centre[a]) ** 2).sum(axis=1) * weight * both / (weight + both)
        again = np.where(np.isfinite(loss[a]), again, np.inf)
        loss[a] = loss[:, a] = again
    return np.unique(group, return_inverse=True)[1]
