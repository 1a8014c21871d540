"""The deployment's part of a joint program: whole replicas inside the box, and what they cost.

Notation: see joint.py; of one kind of GPU
    n_p      replicas of pool p                                       count             (P,)
    y_o      GPUs taken of one price offer o, usd_o its price         GPUs, $/h         (O,)
    s_p      GPUs of one replica                                      count             (P,)
    v_k      shared GPUs that carry pattern k, a set of shards        count
    a_dk     nodes of size d that are filled by pattern k             count
    b_ki     replicas of whole size i in a filling                    count
    d_p      replicas by which pool p differs from the kept ones      count             (P,)

Rows
    space         rows n <= limits,  lower <= n <= upper,  0 <= y_o <= count_o
    gpus:<gpu>    sum_{p whole} s_p n_p + sum_k v_k - sum_o y_o              =  0
    parts:<gpu>   sum_{p of kind i} s_p n_p - sum_{k with i} v_k            <=  0   (shards alike)
    nodes:<gpu>   sum_k a_dk                                                <=  nodes of size d
    blocks:<gpu>  sum_{p of size i} n_p - sum_dk b_ki a_dk                  <=  0   (each size i)
    budget        sum_o usd_o y_o + sum_j hosted_j x_j                      <=  B
    change        n_p - d_p <= kept_p,   -n_p - d_p <= -kept_p

Offers of one GPU are convex (cheapest first), so y needs no integers. Patterns say exactly which
replicas have places, but for replicas of several shared GPUs on several nodes, where they leave
nodes out; with too many patterns their sums stand in. Both only add solutions: a bound stays one.
A program may hold several deployments (one per period); each has its own prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.routing.linear import Entry, Program
from planner.space import Packing, Space
from planner.spec.arrays import FloatArray, IntArray

MOST_PATTERNS = 300  # of one kind of GPU: beyond, a program has the sums instead


@dataclass(frozen=True)
class Rent:
    """Where the columns of one deployment are in a program, and the prices of its GPUs."""

    replicas: IntArray  # (P,)
    taken: dict[str, IntArray]  # GPUs taken of each price offer of a kind of GPU, (O,)
    usd_per_h: dict[str, FloatArray]  # prices of the offers, (O,)


@dataclass(frozen=True)
class Change:
    """The deployment in production, and what the change of one replica must save."""

    kept: IntArray  # (P,)
    usd_per_replica: float  # $/h

    def usd_per_h(self, replicas: IntArray) -> float:
        """Returns what moving to a deployment (P,) must save, in $/h."""
        return self.usd_per_replica * float(np.abs(replicas - self.kept).sum())


def add_rent(
    program: Program, space: Space, gain_per_usd: float, integer: bool, prefix: str = ""
) -> Rent:
    """Returns the columns of a deployment inside the box, added to a program with their rows.

    Args:
        program: to which they are added.
        space: the box of deployments.
        gain_per_usd: objective of one $/h of rent: negative where money is saved, 0 where it is
            no objective.
        integer: whether replicas are whole.
        prefix: before the names of the blocks of rows.
    """
    lower, upper = space.lower.astype(np.float64), space.upper.astype(np.float64)
    replicas = program.add_columns(lower.size, lower, upper, 0.0, integer)
    row, pool = np.nonzero(space.rows)
    entries: list[Entry] = [(row, replicas[pool], space.rows[row, pool])]
    program.add_rows(f"{prefix}space", space.limits.size, entries, upper=space.limits)
    taken: dict[str, IntArray] = {}
    prices: dict[str, FloatArray] = {}
    for gpu, offers in space.offers.items():
        count = np.array([offer.count for offer in offers])
        prices[gpu] = np.array([offer.usd_per_h for offer in offers])
        taken[gpu] = program.add_columns(len(offers), 0.0, count, gain_per_usd * prices[gpu])
        used = _add_places(program, space, gpu, replicas, integer, prefix)
        offered = (_first_row(len(offers)), taken[gpu], -1.0)
        program.add_rows(f"{prefix}gpus:{gpu}", 1, [*used, offered], lower=0.0)
    return Rent(replicas, taken, prices)


def add_budget(
    program: Program,
    rent: Rent,
    budget_usd_per_h: float,
    shares: IntArray,
    hosted_usd_per_h: FloatArray,
    prefix: str = "",
) -> None:
    """Adds the row of a budget over rent and hosted requests.

    Args:
        program: to which it is added.
        rent: the columns of the deployment.
        budget_usd_per_h: of both together.
        shares: columns of shares, (n,).
        hosted_usd_per_h: what each share costs in hosted requests, (n,).
        prefix: before the name of the row.
    """
    entries: list[Entry] = [
        (_first_row(columns.size), columns, rent.usd_per_h[gpu])
        for gpu, columns in rent.taken.items()
    ]
    entries.append((_first_row(shares.size), shares, hosted_usd_per_h))
    program.add_rows(f"{prefix}budget", 1, entries, upper=budget_usd_per_h)


def add_change(
    program: Program, rent: Rent, change: Change, gain_per_usd: float, prefix: str = ""
) -> IntArray:
    """Returns the columns of the replicas that change, (P,), added with their money.

    Args:
        program: to which they are added.
        rent: the columns of the deployment.
        change: from which deployment, and what a replica more or less must save.
        gain_per_usd: objective of one $/h, negative where money is saved.
        prefix: before the name of the rows.
    """
    n, kept = rent.replicas.size, change.kept.astype(np.float64)
    moved = program.add_columns(n, 0.0, np.inf, gain_per_usd * change.usd_per_replica)
    every = np.arange(n)
    more: list[Entry] = [(every, rent.replicas, 1.0), (every, moved, -1.0)]
    fewer: list[Entry] = [(every, rent.replicas, -1.0), (every, moved, -1.0)]
    program.add_rows(f"{prefix}change:more", n, more, upper=kept)
    program.add_rows(f"{prefix}change:fewer", n, fewer, upper=-kept)
    return moved


def dearest_offer_usd_per_h(space: Space) -> float:
    """Returns the highest price of a GPU in the box, in $/h; 0 without GPUs."""
    prices: FloatArray = np.array(
        [offer.usd_per_h for offers in space.offers.values() for offer in offers]
    )
    return float(prices.max(initial=0.0))


def _add_places(
    program: Program, space: Space, gpu: str, replicas: IntArray, integer: bool, prefix: str
) -> list[Entry]:
    """Returns the entries that count the GPUs used of a kind; adds the rows of their places."""
    mine = space.pools_on(gpu)
    packing = space.packings.get(gpu)
    if packing is None:
        return [(_first_row(mine.size), replicas[mine], space.gpus_per_replica[mine])]
    of_part = replicas[mine]
    _add_nodes(program, packing, of_part, integer, f"{prefix}{gpu}")
    whole = np.array([i for i in range(mine.size) if i not in packing.shared], dtype=np.int64)
    size = np.array([float(part.n_gpus) for part in packing.parts])
    entries: list[Entry] = [(_first_row(whole.size), of_part[whole], size[whole])]
    if packing.shared:
        opened = _add_shared(program, packing, of_part, integer, prefix, gpu)
        entries.append((_first_row(opened.size), opened, 1.0))
    return entries


def _add_shared(
    program: Program, packing: Packing, of_part: IntArray, integer: bool, prefix: str, gpu: str
) -> IntArray:
    """Returns the columns of the GPUs that are shared, by pattern, with the rows of their parts."""
    parts = [packing.parts[i] for i in packing.shared]
    shared = of_part[list(packing.shared)]
    size = np.array([float(part.n_gpus) for part in parts])
    patterns = packing.gpu_patterns
    if patterns is not None and len(patterns) <= MOST_PATTERNS:
        kinds = packing.shard_kinds
        opened = program.add_columns(len(patterns), 0.0, float(packing.n_gpus), 0.0, integer)
        pattern, kind = np.nonzero(np.array(patterns).reshape(len(patterns), len(kinds)))
        member = np.array([[i in members for members in kinds] for i in packing.shared])
        on: list[Entry] = [(member.argmax(axis=1), shared, size)]
        on.append((kind, opened[pattern], -1.0))
        program.add_rows(f"{prefix}parts:{gpu}", len(kinds), on)
        return opened
    opened = program.add_columns(1, 0.0, float(packing.n_gpus), 0.0, integer)
    names = sorted({part.model_name for part in parts})
    sums = [
        np.array([part.compute_ratio for part in parts]),
        np.array([part.memory_ratio for part in parts]),
        *(np.array([float(part.model_name == name) for part in parts]) for name in names),
    ]
    for number, each in enumerate(sums):
        entries: list[Entry] = [(_first_row(shared.size), shared, size * each)]
        entries.append((_first_row(1), opened, -1.0))
        program.add_rows(f"{prefix}parts:{gpu}:{number}", 1, entries)
    return opened


def _add_nodes(
    program: Program, packing: Packing, of_part: IntArray, integer: bool, where: str
) -> None:
    """Adds the rows that give whole replicas their nodes, where sizes leave gaps."""
    sizes = packing.whole_sizes
    if packing.fills_nodes or not sizes:
        return
    of_size: list[Entry] = [
        (np.array([sizes.index(part.n_gpus)]), of_part[[i]], 1.0)
        for i, part in enumerate(packing.parts)
        if not part.shares and not part.spans_nodes
    ]
    placed: list[Entry] = []
    for node in sorted(set(packing.nodes)):
        patterns = packing.node_patterns(node)
        if patterns is None or len(patterns) > MOST_PATTERNS:
            return
        n_nodes = float(packing.nodes.count(node))
        filled = program.add_columns(len(patterns), 0.0, n_nodes, 0.0, integer)
        entries: list[Entry] = [(_first_row(filled.size), filled, 1.0)]
        program.add_rows(f"nodes:{where}:{node}", 1, entries, upper=n_nodes)
        fitting = np.array(patterns, dtype=np.float64).reshape(len(patterns), len(sizes))
        k, i = np.nonzero(fitting)  # none on a last node that is too small for any size
        placed.append((i, filled[k], -fitting[k, i]))
    program.add_rows(f"blocks:{where}", len(sizes), [*of_size, *placed])


def _first_row(n: int) -> IntArray:
    """Returns the row of n entries of a block of one row."""
    return np.zeros(n, dtype=np.int64)
