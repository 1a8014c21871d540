"""The feasible box of deployments: how many replicas of each pool there can be, and what they cost.

Notation (P pools, G kinds of GPU, R rows)
    z_p    replicas of pool p                          count
    s_p    GPUs that one replica of p lies on          GPUs (a part of each where it shares them)
    c_p    part of their compute, m_p of their memory  ratio (1 unless it shares them)
    D_g    GPUs of kind g that can be counted on       GPUs
    N_g    GPUs of a node                              GPUs
    u_g(z) GPUs that carry anything                    GPUs
    k_gj   price of the j-th cheapest GPU of kind g    $/h

Program
    lower <= z <= upper
    stock:<g>          sum_{p on g} c_p s_p z_p          <= D_g
    memory:<g>         sum_{p on g} GiB_g m_p s_p z_p    <= D_g GiB_g     (only where pools share)
    copies:<g>:<model> sum of s_p z_p of the model's shards and of whole GPUs <= D_g    (as above)
    halves:<g>         replicas larger than half a node  <= nodes      (sizes that leave gaps)
    budget             cost(z)                           <= B
    placement:<g>      every replica has its GPUs        (packing.py)
    cost(z) = sum_g cost_g(u_g(z)), piecewise linear and convex: cheapest first.

Replicas are whole, and so are the GPUs that are paid for: of one that pools share all is paid, and
one that nothing lies on is not. A replica lies on one node, unless its pool spans nodes. Rows are
linear; they say all where each size divides the next and the node. Where pools share GPUs or sizes
leave gaps they are necessary only, and the placement decides. A row of the budget counts shared
GPUs by their sums there; `admits` counts those that the placement opens.

Prices say what is paid, not where GPUs stand: those of one kind are one stock, whoever rents them
out. In one period reserved GPUs are reserved as used. Of spot GPUs as many count as are there for
availability_ratio of the time, rounded down.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from planner.space.packing import Packing
from planner.space.parts import Part, Places
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.pool import Profile
from planner.spec.question import Question

MOST_ROWS = 64  # of a budget: beyond, rows count shared GPUs by their compute alone
MOST_PLACED_GPUS = 4096  # beyond, no places are looked for where rows do not say all

SupplyKind = Literal["reserved", "on_demand", "spot"]


@dataclass(frozen=True)
class Offer:
    """GPUs of one kind to be had at one price."""

    count: float
    usd_per_h: float
    kind: SupplyKind = "on_demand"


@dataclass(frozen=True)
class Space:
    """Integer bounds, linear rows (rows @ z <= limits), placement and prices of the deployments."""

    pool_names: tuple[str, ...]
    lower: IntArray  # (P,)
    upper: IntArray  # (P,)
    rows: FloatArray  # (R, P)
    limits: FloatArray  # (R,)
    row_names: tuple[str, ...]
    gpu_of: tuple[str | None, ...]  # (P,)
    gpus_per_replica: FloatArray  # (P,) a part of each where GPUs are shared; 0: it fits nowhere
    offers: Mapping[str, tuple[Offer, ...]]  # by GPU, cheapest first
    budget_usd_per_h: float | None = None
    packings: Mapping[str, Packing] = field(default_factory=dict)  # where rows do not say all

    @property
    def shares_gpus(self) -> bool:
        """Returns whether pools share GPUs: then rows count them at least, not exactly."""
        return any(packing.shared for packing in self.packings.values())

    def pools_on(self, gpu: str) -> IntArray:
        """Returns the pools on a kind of GPU, ascending: in the order of its packing's parts."""
        return np.flatnonzero([g == gpu for g in self.gpu_of])

    def gpu_count(self, replicas: IntArray) -> dict[str, float]:
        """Returns the GPUs of each kind that a deployment (P,) takes."""
        return {gpu: float(self._gpus_used(gpu, replicas)) for gpu in self.offers}

    def spot_count(self, replicas: IntArray) -> dict[str, float]:
        """Returns the spot GPUs of each kind that a deployment (P,) takes, where it takes any."""
        found: dict[str, float] = {}
        for gpu, n_gpus in self.gpu_count(replicas).items():
            before = 0.0
            for offer in self.offers[gpu]:
                taken = min(max(n_gpus - before, 0.0), offer.count)
                before += offer.count
                if offer.kind == "spot" and taken > 0:
                    found[gpu] = found.get(gpu, 0.0) + taken
        return found

    def pool_gpus(self, replicas: IntArray) -> FloatArray:
        """Returns the GPUs that are paid for each pool of a deployment (P,), (P,).

        Shared ones are split by what the pools take of them.
        """
        gpus = np.asarray(self.gpus_per_replica * replicas, dtype=np.float64)
        for gpu, packing in self.packings.items():
            shared = self.pools_on(gpu)[list(packing.shared)]
            parts = float(gpus[shared].sum())
            if parts > 0:
                whole = float(gpus[self.pools_on(gpu)].sum()) - parts
                gpus[shared] *= (float(self._gpus_used(gpu, replicas)) - whole) / parts
        return gpus

    def cost_usd_per_h(self, replicas: IntArray) -> FloatArray:
        """Returns the rent in $/h of deployments, (n, P) -> (n,) or (P,) -> ()."""
        total = np.zeros(np.shape(replicas)[:-1])
        for gpu, offers in self.offers.items():
            n_gpus = self._gpus_used(gpu, np.asarray(replicas))
            taken = 0.0
            for offer in offers:
                total = total + offer.usd_per_h * np.clip(n_gpus - taken, 0.0, offer.count)
                taken += offer.count
        return np.asarray(total, dtype=np.float64)

    def _gpus_used(self, gpu: str, replicas: IntArray) -> FloatArray:
        """Returns the GPUs of a kind that deployments use, (..., P) -> (...)."""
        packing = self.packings.get(gpu)
        if packing is None or not packing.shared:
            mask = np.array([g == gpu for g in self.gpu_of], dtype=float)
            return np.asarray(replicas @ (mask * self.gpus_per_replica))
        counts = replicas[..., self.pools_on(gpu)]
        distinct, which = np.unique(
            counts.reshape(-1, counts.shape[-1]), axis=0, return_inverse=True
        )
        used = np.array([float(packing.used(each)[0]) for each in distinct.tolist()])
        return np.asarray(used[which].reshape(counts.shape[:-1]))

    def pool_usd_per_h(self, replicas: IntArray) -> FloatArray:
        """Returns each pool's part of the rent in $/h, (P,): each kind's is split by GPUs used."""
        parts = np.zeros(len(self.pool_names))
        gpus = self.pool_gpus(replicas)
        for gpu in self.offers:
            mine = np.where([g == gpu for g in self.gpu_of], gpus, 0.0)
            if mine.sum() > 0:
                rent = float(self.cost_usd_per_h(np.where(mine > 0, replicas, 0)))
                parts += rent * mine / mine.sum()
        return parts

    def admits(self, replicas: IntArray) -> bool:
        """Returns whether a deployment (P,) lies in the box, has its places and is in budget."""
        return not self.broken(replicas)

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
        names += [name for name, bad in zip(self.row_names, over, strict=True) if bad]
        if names:
            return names  # of too many replicas no places need be looked for
        names += [f"placement:{gpu}" for gpu in self.unplaced(replicas)]
        return [*names, "budget"] if self._is_dearer_than_its_rows(replicas) else names

    def _is_dearer_than_its_rows(self, replicas: IntArray) -> bool:
        """Returns whether a deployment (P,) that keeps the rows of the budget is over it."""
        budget = self.budget_usd_per_h
        if budget is None or not self.shares_gpus:
            return False
        return float(self.cost_usd_per_h(replicas)) > budget + 1e-9

    def unplaced(self, replicas: IntArray) -> list[str]:
        """Returns the kinds of GPU on which a deployment (P,) has no places for its replicas."""
        return [
            gpu
            for gpu, packing in self.packings.items()
            if not packing.used(replicas[self.pools_on(gpu)].tolist())[1]
        ]

    def placement(self, replicas: IntArray) -> dict[int, Places] | None:
        """Returns the GPUs of each replica of pools where more than rows decides; None: no place.

        By pool; the GPUs of a kind are numbered through, node after node.
        """
        found: dict[int, Places] = {}
        for gpu, packing in self.packings.items():
            pools = self.pools_on(gpu)
            packed = packing.packed(replicas[pools].tolist())
            if packed.places is None:
                return None
            found |= {p: at for p, at in zip(pools.tolist(), packed.places, strict=True) if at}
        return found


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
    packings = {gpu: _packing(gpu, offers[gpu], pools) for gpu in offers}
    gpu_of = tuple(p.pool.gpu for p in pools)
    most = _most_alone(gpu_of, packings)
    lower = np.zeros(len(pools), dtype=np.int64)
    upper = np.zeros(len(pools), dtype=np.int64)
    for i, profile in enumerate(pools):
        bounds = question.replicas.get(profile.name)
        lower[i] = bounds.min if bounds else 0
        if usable[i]:
            can_be = min(int(most[i]), max(int(enough[i]), int(lower[i])))
            upper[i] = can_be if bounds is None or bounds.max is None else min(can_be, bounds.max)
    taken = np.array([_gpus_taken(p) for p in pools]).reshape(len(pools), 2)
    taken[most == 0] = 0.0
    space = Space(
        pool_names=tuple(p.name for p in pools),
        lower=lower,
        upper=upper,
        rows=np.zeros((0, len(pools))),
        limits=np.zeros(0),
        row_names=(),
        gpu_of=gpu_of,
        gpus_per_replica=taken.max(axis=1),
        offers=offers,
        budget_usd_per_h=question.budget_usd_per_h,
    )
    space = _with_rows(space, pools, packings, taken)
    return replace(space, packings=_that_decide(space, packings))


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
            entries = [s for s in question.supply if s.gpu == gpu]
            entries.sort(key=lambda s: (s.usd_per_h, s.kind, s.count))
            offers[gpu] = tuple(Offer(float(s.n_counted), s.usd_per_h, s.kind) for s in entries)
    return offers


def _packing(gpu: str, offers: Sequence[Offer], pools: Sequence[Profile]) -> Packing:
    """Returns the GPUs of a kind with the pools that want places on them."""
    on_gpu = [p for p in pools if p.gpu is not None and p.gpu.name == gpu]
    facts = on_gpu[0].gpu
    assert facts is not None  # it is theirs
    parts = tuple(part_of(profile, facts.memory_gib) for profile in on_gpu)
    return Packing(int(sum(offer.count for offer in offers)), facts.gpus_per_node, parts)


def part_of(profile: Profile, memory_gib: float) -> Part:
    """Returns what one replica of a pool takes of GPUs with so much memory."""
    pool, share = profile.pool, profile.pool.share
    compute = share.compute_ratio if share else 1.0
    memory = share.memory_gib / memory_gib if share else 1.0
    return Part(pool.replica_gpus, pool.model_name, compute, memory, pool.spans_nodes)


def _most_alone(gpu_of: Sequence[str | None], packings: Mapping[str, Packing]) -> IntArray:
    """Returns how many replicas of each pool can be placed alone, (P,); 1 of a hosted one."""
    most = np.ones(len(gpu_of), dtype=np.int64)
    for gpu, packing in packings.items():
        for i, p in enumerate(np.flatnonzero([g == gpu for g in gpu_of]).tolist()):
            most[p] = packing.most(i)
    return most


def _gpus_taken(profile: Profile) -> tuple[float, float]:
    """Returns the GPUs that one replica takes, by compute and by memory."""
    if profile.gpu is None:
        return 0.0, 0.0
    part = part_of(profile, profile.gpu.memory_gib)
    if not part.shares:
        return float(part.n_gpus), float(part.n_gpus)
    return part.n_gpus * part.compute_ratio, part.n_gpus * part.memory_ratio


def _that_decide(space: Space, packings: Mapping[str, Packing]) -> dict[str, Packing]:
    """Returns the packings of which rows do not say all, of as many GPUs as matter."""
    found = {}
    for gpu, packing in packings.items():
        if packing.is_plain:
            continue
        # A node for each replica is room enough, whatever the stock.
        nodes = [
            int(n) * -(-part.n_gpus // packing.node_size)
            for part, n in zip(packing.parts, space.upper[space.pools_on(gpu)], strict=True)
        ]
        most = min(MOST_PLACED_GPUS, packing.node_size * sum(nodes))
        found[gpu] = replace(packing, n_gpus=min(packing.n_gpus, most))
    return found


def _with_rows(
    space: Space, pools: Sequence[Profile], packings: Mapping[str, Packing], taken: FloatArray
) -> Space:
    """Returns the space with its rows, for GPUs taken by compute and by memory, (P, 2)."""
    rows: list[tuple[FloatArray, float, str]] = []
    for gpu, packing in packings.items():
        on_gpu = np.array([g == gpu for g in space.gpu_of], dtype=float)
        rows.append((on_gpu * taken[:, 0], float(packing.n_gpus), f"stock:{gpu}"))
        rows += _rows_of_nodes(space, gpu, packing)
        if packing.shared:
            memory_gib = next(p.gpu.memory_gib for p in pools if p.gpu and p.gpu.name == gpu)
            all_gib = packing.n_gpus * memory_gib
            rows.append((on_gpu * taken[:, 1] * memory_gib, all_gib, f"memory:{gpu}"))
            rows += _rows_of_models(space, gpu, packing)
    if space.budget_usd_per_h is not None:
        uses = {gpu: _gpu_rows(space, gpu, packings[gpu], taken) for gpu in space.offers}
        if math.prod(len(space.offers[gpu]) * len(use) for gpu, use in uses.items()) > MOST_ROWS:
            uses = {gpu: use[:1] for gpu, use in uses.items()}
        rows += _budget_rows(space, uses, space.budget_usd_per_h)
    return replace(
        space,
        rows=np.array([row for row, _, _ in rows]).reshape(len(rows), len(pools)),
        limits=np.array([limit for _, limit, _ in rows]),
        row_names=tuple(name for _, _, name in rows),
    )


def _rows_of_nodes(space: Space, gpu: str, packing: Packing) -> list[tuple[FloatArray, float, str]]:
    """Returns the row of replicas of which no two lie on one node, where sizes leave gaps."""
    size = packing.node_size
    large = [
        (p, part.n_gpus)
        for p, part in zip(space.pools_on(gpu).tolist(), packing.parts, strict=True)
        if not part.shares and not part.spans_nodes and size < 2 * part.n_gpus < 2 * size
    ]
    if packing.is_plain or not large:
        return []
    row = np.zeros(len(space.pool_names))
    row[[p for p, _ in large]] = 1.0
    smallest = min(n for _, n in large)
    full, rest = divmod(packing.n_gpus, size)
    return [(row, float(full + (rest >= smallest)), f"halves:{gpu}")]


def _rows_of_models(
    space: Space, gpu: str, packing: Packing
) -> list[tuple[FloatArray, float, str]]:
    """Returns the rows that give each shard of a model a GPU of its own, besides whole GPUs."""
    shared_models = sorted({packing.parts[i].model_name for i in packing.shared})
    rows = []
    for model_name in shared_models:
        row = np.zeros(len(space.pool_names))
        for p, part in zip(space.pools_on(gpu).tolist(), packing.parts, strict=True):
            if not part.shares or part.model_name == model_name:
                row[p] = part.n_gpus
        rows.append((row, float(packing.n_gpus), f"copies:{gpu}:{model_name}"))
    return rows


def _gpu_rows(space: Space, gpu: str, packing: Packing, taken: FloatArray) -> list[FloatArray]:
    """Returns rows each of which says how many GPUs of a kind are used at least, (P,) each."""
    on_gpu = np.array([g == gpu for g in space.gpu_of], dtype=float)
    if not packing.shared:
        return [on_gpu * taken[:, 0]]
    models = [row for row, _, _ in _rows_of_models(space, gpu, packing)]
    return [on_gpu * taken[:, 0], on_gpu * taken[:, 1], *models]


def _budget_rows(
    space: Space, gpu_rows: Mapping[str, Sequence[FloatArray]], budget: float
) -> list[tuple[FloatArray, float, str]]:
    """Returns the linear rows of cost(z) <= budget: one per choice of a price step for each GPU.

    A convex piecewise linear cost is the largest of its tangents, so a sum of such costs is
    under the budget exactly when every sum of tangents is.
    """
    tangents: list[list[tuple[FloatArray, float]]] = []
    for gpu, offers in space.offers.items():
        taken = paid = 0.0
        steps: list[tuple[FloatArray, float]] = []
        for offer in offers:
            offset = paid - taken * offer.usd_per_h
            steps += [(use * offer.usd_per_h, offset) for use in gpu_rows[gpu]]
            taken += offer.count
            paid += offer.count * offer.usd_per_h
        tangents.append(steps)
    rows = []
    for choice in itertools.product(*tangents):
        row = np.zeros(len(space.pool_names)) + sum(slope for slope, _ in choice)
        rows.append((np.asarray(row), budget - sum(offset for _, offset in choice), "budget"))
    return rows
