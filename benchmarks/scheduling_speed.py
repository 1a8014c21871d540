"""Speed of the online decisions: CPU time of one decision, p50 and p99, against its target.

    python benchmarks/scheduling_speed.py

CPU time of one thread (set OMP_NUM_THREADS=1). A data-parallel group has 144 workers of 32 places
and 500 requests waiting. "steady" is a boundary in saturation: 24 places have become free, about as
many as end in one step. Other moments: every worker has room for one more, or for four.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner.scheduling.balance import POLICIES, Workers, make_policy
from planner.scheduling.balanceroute import BalanceRoute
from planner.scheduling.batch import BatchPolicy, DecodeWorkers, Running, largest_first
from planner.scheduling.lookahead import Lookahead
from planner.scheduling.survival import Survival
from planner.scheduling.table import Turns

N_WORKERS, N_PLACES, N_WAITING, N_STEADY = 144, 32, 500, 24


@dataclass(frozen=True)
class Row:
    """One decision and how long it may take; without a target it is only told."""

    name: str
    decide: Callable[[], object]
    n_repeats: int = 300
    n_per_repeat: int = 1
    p50_us: float | None = None
    p99_us: float | None = None


def times_us(row: Row) -> tuple[float, float]:
    """Returns the median and the 99th percentile of the time of one decision in microseconds."""
    taken = np.empty(row.n_repeats)
    row.decide()
    for k in range(row.n_repeats):
        start = time.thread_time()
        for _ in range(row.n_per_repeat):
            row.decide()
        taken[k] = time.thread_time() - start
    p50, p99 = np.percentile(taken / row.n_per_repeat * 1e6, [50, 99])
    return float(p50), float(p99)


def group(n_free: int) -> DecodeWorkers:
    """Returns a group of which so many places are free, worker after worker, first places first."""
    random = np.random.default_rng(0)
    shape = (N_WORKERS, N_PLACES)
    age = random.geometric(1 / 200, shape)
    free = np.arange(n_free)
    age[free % N_WORKERS, free // N_WORKERS] = -1
    kv = np.where(age < 0, 0, age + random.integers(100, 4000, shape))
    running = Running(kv, age, keys=np.arange(age.size).reshape(shape))
    return DecodeWorkers(kv.sum(axis=1).tolist(), (age < 0).sum(axis=1).tolist(), running)


def batch_rows() -> list[Row]:
    """Returns the batch policies at boundaries with few and many free places."""
    random = np.random.default_rng(1)
    waiting = random.integers(100, 4000, N_WAITING).tolist()
    survival = Survival(random.geometric(1 / 200, 20_000).tolist())
    moments = {n: group(n) for n in (N_STEADY, N_WORKERS, 4 * N_WORKERS)}

    def row(
        name: str, policy: BatchPolicy, n_free: int, p50: float | None, p99: float | None
    ) -> Row:
        text = f"{name}, {min(N_WAITING, n_free)} of {N_WAITING} placed"
        return Row(text, lambda: policy(waiting, moments[n_free]), 300, 1, p50, p99)

    rows = [row("largest_first", largest_first, n, 1e3, 5e3) for n in moments]
    for window in (32, 64, 128):
        policy = Lookahead(survival, window=window)
        rows += [row(f"lookahead {window}", policy, n, 5e3, 15e3) for n in list(moments)[:2]]
    for name, br in (("br0", BalanceRoute()), ("brh", BalanceRoute(survival))):
        rows += [row(name, br, n, None, None) for n in list(moments)[:2]]
    return rows


def arrival_rows(n_workers: int) -> list[Row]:
    """Returns the arrival policies over so many workers."""
    random = np.random.default_rng(2)
    columns = [random.integers(0, most, n_workers).tolist() for most in (40, 3, 50_000)]
    workers = Workers(*columns, is_up=[True] * n_workers)

    def row(name: str) -> Row:
        policy = make_policy(name, 0)
        return Row(f"{name}, {n_workers} workers", lambda: policy.pick(700, workers), 200, 100)

    return [row(name) for name in POLICIES]


def table_rows() -> list[Row]:
    """Returns the routing table's choice between few and many pools."""
    return [
        Row(f"table, {k} pools", Turns([round(1 / k, 6)] * k).next, 200, 100, 2.0, None)
        for k in (2, 5, 20)
    ]


def verdict(row: Row, p50: float, p99: float) -> str:
    """Returns whether a row's targets are met, in words."""
    if row.p50_us is None:
        return ""
    most = f"<= {row.p50_us:g}" + (f" / {row.p99_us:g}" if row.p99_us else "")
    met = p50 <= row.p50_us and (row.p99_us is None or p99 <= row.p99_us)
    return f"{most}: {'met' if met else 'MISSED'}"


def main() -> None:
    """Prints one line per decision."""
    print(f"{'decision':40}   p50 us   p99 us  target (p50 / p99)")
    for row in [*batch_rows(), *table_rows(), *arrival_rows(20), *arrival_rows(144)]:
        p50, p99 = times_us(row)
        print(f"{row.name:40} {p50:8.1f} {p99:8.1f}  {verdict(row, p50, p99)}")


if __name__ == "__main__":
    main()
