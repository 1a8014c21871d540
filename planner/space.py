"""The feasible box of deployments: how many replicas of each pool there can be, and what they cost.

Notation (P pools, G kinds of GPU, R rows)
    z_p    replicas of pool p                          count
    c_p    GPUs that one replica of p takes            GPUs (what packing leaves idle counted)
    m_p    the same by memory                          GPUs
    g_p    GPUs paid for: max(c_p, m_p)                GPUs
    D_g    GPUs of kind g that exist                   GPUs
    k_gj   price of the j-th cheapest GPU of kind g    $/h

Program
    lower <= z <= upper
    stock:<g>       sum_{p on g} c_p z_p           <= D_g
    memory:<g>      sum_{p on g} GiB_g m_p z_p     <= D_g GiB_g      (only where pools share GPUs)
    budget          cost(z)                        <= B
    cost(z) = sum_g cost_g(sum_{p on g} g_p z_p), piecewise linear and convex: cheapest first.

Replicas are whole. A tensor-parallel group lies inside a node (unless the pool spans nodes): where
its size divides the node's, groups of all such sizes pack without loss; a group of 3 GPUs on nodes
of 8 takes 4: two fit, two GPUs stay idle. A part of a GPU lies on one GPU, so replicas of 0.4 GPUs
take a half each.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.spec.arrays import FloatArray, IntArray
from planner.spec.pool import Profile
from planner.spec.question import Question


@dataclass(frozen=True)
class Offer:
    """GPUs of one kind to be had at one price."""

    count: float
    usd_per_h: float


@dataclass(frozen=True)
class Space:
    """Integer bounds, linear rows (rows @ z <= limits) and prices of the deployments."""

    pool_names: tuple[str, ...]
    lower: IntArray  # (P,)
    upper: IntArray  # (P,)
    rows: FloatArray  # (R, P)
    limits: FloatArray  # (R,)
    row_names: tuple[str, ...]
    gpu_of: tuple[str | None, ...]  # (P,)
    gpus_per_replica: FloatArray  # (P,) GPUs paid for, packing counted
    offers: Mapping[str, tuple[Offer, ...]]  # by GPU, cheapest first

    def gpu_count(self, replicas: IntArray) -> dict[str, float]:
        """Returns the GPUs of each kind that a deployment (P,) takes."""
        counts = dict.fromkeys(self.offers, 0.0)
        for gpu, each, n in zip(self.gpu_of, self.gpus_per_replica, replicas, strict=True):
            if gpu is not None:
                counts[gpu] += float(each * n)
        return counts

    def cost_usd_per_h(self, replicas: IntArray) -> FloatArray:
        """Returns the rent in $/h of deployments, (n, P) -> (n,) or (P,) -> ()."""
        total = np.zeros(np.shape(replicas)[:-1])
        for gpu, offers in self.offers.items():
            mask = np.array([g == gpu for g in self.gpu_of], dtype=float)
            n_gpus = np.asarray(replicas) @ (mask * self.gpus_per_replica)
            taken = 0.0
            for offer in offers:
                total = total + offer.usd_per_h * np.clip(n_gpus - taken, 0.0, offer.count)
                taken += offer.count
        return np.asarray(total, dtype=np.float64)

    def pool_usd_per_h(self, replicas: IntArray) -> FloatArray:
        """Returns each pool's part of the rent in $/h, (P,): each kind's is split by GPUs used."""
        parts = np.zeros(len(self.pool_names))
        counts = self.gpu_count(replicas)
        for gpu, n_gpus in counts.items():
            if n_gpus <= 0:
                continue
            mine = np.array([g == gpu for g in self.gpu_of]) * self.gpus_per_replica * replicas
            rent = float(self.cost_usd_per_h(np.where(mine > 0, replicas, 0)))
            parts += rent * mine / n_gpus
        return parts

    def admits(self, replicas: IntArray) -> bool:
        """Returns whether a deployment (P,) lies in the box."""
        in_range = bool(np.all((replicas >= self.lower) & (replicas <= self.upper)))
        return in_range and bool(np.all(self.rows @ replicas <= self.limits + 1e-9))

    def broken(self, replicas: IntArray) -> list[str]:
        """Returns what a deployment (P,) breaks: row names, and pools out of their range."""
        names = [
            f"replicas:{name}"
            for name, n, low, high in zip(
                self.pool_names, replicas, self.lower, self.upper, strict=True
            )
            if not low <= n <= high
        ]
        over = self.rows @ replicas > self.limits + 1e-9
        return names + [name for name, bad in zip(self.row_names, over, strict=True) if bad]


def make_space(
    question: Question, pools: Sequence[Profile], usable: Sequence[bool], enough: IntArray
) -> Space:
    """Returns the box of deployments of a question.

    Args:
        question: names stock or supply, prices, budget and replica ranges.
        pools: the candidate pools, (P,).
        usable: whether each pool's model fits its GPUs' memory, (P,).
        enough: replicas of each pool beyond which more would idle, (P,); bounds what no stock does.
    """
    offers = _offers(question, pools)
    count = {gpu: sum(o.count for o in listed) for gpu, listed in offers.items()}
    taken = np.array([_gpus_taken(p, count) for p in pools]).reshape(len(pools), 2)
    fits = np.isfinite(taken[:, 0])
    taken[~fits] = 0.0
    lower = np.zeros(len(pools), dtype=np.int64)
    upper = np.zeros(len(pools), dtype=np.int64)
    for i, profile in enumerate(pools):
        bounds = question.replicas.get(profile.name)
        lower[i] = bounds.min if bounds else 0
        if not usable[i] or not fits[i]:
            continue
        gpu = profile.pool.gpu
        most = 1 if gpu is None else int(count[gpu] / taken[i].max() + 1e-9)
        most = min(most, max(int(enough[i]), int(lower[i])))
        upper[i] = most if bounds is None or bounds.max is None else min(most, bounds.max)
    space = Space(
        pool_names=tuple(p.name for p in pools),
        lower=lower,
        upper=upper,
        rows=np.zeros((0, len(pools))),
        limits=np.zeros(0),
        row_names=(),
        gpu_of=tuple(p.pool.gpu for p in pools),
        gpus_per_replica=taken.max(axis=1),
        offers=offers,
    )
    return _with_rows(space, question, pools, taken)


def replica_faults(space: Space) -> list[str]:
    """Returns, in plain words, the replica ranges that no stock can fulfil."""
    found = []
    for name, low, high in zip(space.pool_names, space.lower, space.upper, strict=True):
        if low > high:
            found.append(f"{name}: at least {low} replicas are asked for, {high} are possible")
    return found


def _offers(question: Question, pools: Sequence[Profile]) -> dict[str, tuple[Offer, ...]]:
    """Returns what can be rented of each GPU that a candidate pool uses, cheapest first."""
    listed_price = {p.gpu.name: p.gpu.usd_per_h for p in pools if p.gpu is not None}
    offers: dict[str, tuple[Offer, ...]] = {}
    for gpu in sorted({p.pool.gpu for p in pools if p.pool.gpu is not None}):
        if question.stock is not None:
            usd = question.prices.get(gpu, listed_price[gpu])
            offers[gpu] = (Offer(float(question.stock[gpu]), float(usd or 0.0)),)
        else:
            entries = sorted((s.usd_per_h, s.count) for s in question.supply if s.gpu == gpu)
            offers[gpu] = tuple(Offer(float(n), usd) for usd, n in entries)
    return offers


def _gpus_taken(profile: Profile, count: Mapping[str, float]) -> tuple[float, float]:
    """Returns the GPUs that one replica takes, by compute and by memory; inf = it never fits."""
    pool, gpu = profile.pool, profile.gpu
    if gpu is None:
        return 0.0, 0.0
    whole = float(pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel)
    if pool.share is not None:
        by_compute = int(1.0 / pool.share.compute_ratio + 1e-9)
        by_memory = int(gpu.memory_gib / pool.share.memory_gib + 1e-9)
        never = by_memory == 0 or pool.tensor_parallel > count[gpu.name]
        return (np.inf, np.inf) if never else (whole / by_compute, whole / by_memory)
    node = min(float(gpu.gpus_per_node), count[gpu.name])
    group = pool.tensor_parallel
    if pool.spans_nodes or (gpu.gpus_per_node % group == 0 and group <= node):
        return whole, whole
    if group > node:
        return np.inf, np.inf
    each = whole / group * (node / (node // group))
    return each, each


def _with_rows(
    space: Space, question: Question, pools: Sequence[Profile], taken: FloatArray
) -> Space:
    """Returns the space with its rows, for GPUs taken by compute and by memory, (P, 2)."""
    rows: list[FloatArray] = []
    limits: list[float] = []
    names: list[str] = []
    for gpu, offers in space.offers.items():
        available = sum(offer.count for offer in offers)
        on_gpu = np.array([g == gpu for g in space.gpu_of], dtype=float)
        rows.append(on_gpu * taken[:, 0])
        limits.append(available)
        names.append(f"stock:{gpu}")
        if any(p.pool.gpu == gpu and p.pool.share is not None for p in pools):
            memory_gib = next(p.gpu.memory_gib for p in pools if p.gpu and p.gpu.name == gpu)
            rows.append(on_gpu * taken[:, 1] * memory_gib)
            limits.append(available * memory_gib)
            names.append(f"memory:{gpu}")
    if question.budget_usd_per_h is not None:
        for row, limit in _budget_rows(space, question.budget_usd_per_h):
            rows.append(row)
            limits.append(limit)
            names.append("budget")
    return replace(
        space,
        rows=np.array(rows).reshape(len(rows), len(pools)),
        limits=np.array(limits),
        row_names=tuple(names),
    )


def _budget_rows(space: Space, budget: float) -> list[tuple[FloatArray, float]]:
    """Returns the linear rows of cost(z) <= budget: one per choice of a price step for each GPU.

    A convex piecewise linear cost is the largest of its tangents, so a sum of such costs is
    under the budget exactly when every sum of tangents is.
    """
    tangents: list[list[tuple[FloatArray, float]]] = []
    for gpu, offers in space.offers.items():
        use = np.array([g == gpu for g in space.gpu_of]) * space.gpus_per_replica
        taken = paid = 0.0
        steps: list[tuple[FloatArray, float]] = []
        for offer in offers:
            steps.append((use * offer.usd_per_h, paid - taken * offer.usd_per_h))
            taken += offer.count
            paid += offer.count * offer.usd_per_h
        tangents.append(steps)
    rows = []
    for choice in itertools.product(*tangents):
        row = np.zeros(len(space.pool_names)) + sum(slope for slope, _ in choice)
        rows.append((np.asarray(row), budget - sum(offset for _, offset in choice)))
    return rows
