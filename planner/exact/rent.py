"""The deployment's part of a joint program: whole replicas inside the box, and what they cost.

Notation: see joint.py
    n_p      replicas of pool p                                       count             (P,)
    y_o      GPUs taken of one price offer o, usd_o its price         GPUs, $/h         (O,)

Rows
    gpus:<gpu>    sum_{p on gpu} g_p n_p - sum_{o of gpu} y_o  =  0
    space         rows n <= limits,  lower <= n <= upper,  0 <= y_o <= count_o

Offers of one GPU are convex (cheapest first), so y needs no integers. A program may hold several
deployments (one per period); each has its own prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.routing.linear import Entry, Program
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Rent:
    """Where the columns of one deployment are in a program."""

    replicas: IntArray  # (P,)
    taken: dict[str, IntArray]  # GPUs taken of each price offer of a kind of GPU, (O,)


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
    for gpu, offers in space.offers.items():
        count = np.array([offer.count for offer in offers])
        usd = np.array([offer.usd_per_h for offer in offers])
        taken[gpu] = program.add_columns(len(offers), 0.0, count, gain_per_usd * usd)
        mine = np.flatnonzero([on == gpu for on in space.gpu_of])
        zeros = np.zeros(mine.size, dtype=np.int64)
        used = (zeros, replicas[mine], space.gpus_per_replica[mine])
        offered = (np.zeros(len(offers), dtype=np.int64), taken[gpu], -1.0)
        program.add_rows(f"{prefix}gpus:{gpu}", 1, [used, offered], lower=0.0)
    return Rent(replicas, taken)


def dearest_offer_usd_per_h(space: Space) -> float:
    """Returns the highest price of a GPU in the box, in $/h; 0 without GPUs."""
    prices: FloatArray = np.array(
        [offer.usd_per_h for offers in space.offers.values() for offer in offers]
    )
    return float(prices.max(initial=0.0))
