"""RouterWise's set-ups (arXiv 2604.10907): every choice of a pool for each model that packs.

A set-up gives each model a tensor parallel size and a share of its GPUs' compute and memory: here
one pool (with `share`, where pools share GPUs) and its number of replicas, or nothing.

Program
    list     one of (pool, replicas) or nothing for each model, within stock, budget and ranges
    prune    total use of GPUs (of the budget, where that is scarcer) between gamma and 1 of the
             largest that any set-up has; not where the least cost is asked for
    prune    memory: first-fit decreasing, no two shards of one model on one GPU

Published: one replica per model, on one kind of GPU. Chosen here: several replicas of a pool and a
model left out are set-ups, too, since the paper's clusters are as small as its models; gamma, which
the paper does not give; and where there are more set-ups than an effort allows, as many at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.case import Case
from planner.named.fractions import Fractions
from planner.spec.arrays import FloatArray, IntArray

GAMMA = 0.75
MOST_LISTED = 200_000
"""Choices up to which all are listed; beyond, they are drawn."""
_TRIES = 20
"""Draws per set-up that is wanted, after which those found must do."""


@dataclass(frozen=True)
class Setups:
    """Deployments (n, P) of at most one pool per model, and whether these are all."""

    replicas: IntArray
    complete: bool


def list_setups(fractions: Fractions, at_most: int, seed: int, uses_all: bool) -> Setups:
    """Returns the set-ups that survive the pruning, by rent, at most a number of them.

    Args:
        fractions: the case and its models.
        at_most: how many; a random part where there are more.
        seed: of that part.
        uses_all: prune set-ups that use less than gamma of what there is.
    """
    case, rng = fractions.objectives.case, np.random.default_rng(seed)
    options = [_options(case, group.pools) for group in fractions.groups]
    n_choices = float(np.prod([float(len(own)) for own in options]))
    complete = n_choices <= MOST_LISTED
    found = _every(case, options) if complete else _drawn(case, options, at_most, rng)
    if uses_all and len(found):
        use = _use(case, found)
        found = found[use >= GAMMA * use.max()]
    if len(found) > at_most:
        found, complete = found[np.sort(rng.permutation(len(found))[:at_most])], False
    packed = [n for n in found if packs(case, n)]
    kept = np.array(packed, dtype=np.int64).reshape(-1, len(case.pools))
    return Setups(kept[np.lexsort((*kept.T[::-1], case.space.cost_usd_per_h(kept)))], complete)


def packs(case: Case, replicas: IntArray) -> bool:
    """Returns whether first-fit decreasing by memory finds room for every shard of a deployment."""
    kinds = {p.gpu.name: p.gpu for p, n in zip(case.pools, replicas, strict=True) if n and p.gpu}
    for name, gpu in kinds.items():
        shards = [
            (profile.pool.share.memory_gib if profile.pool.share else gpu.memory_gib, p)
            for p, profile in enumerate(case.pools)
            if profile.pool.gpu == name
            for _ in range(int(replicas[p]))
        ]
        n_gpus = int(sum(offer.count for offer in case.space.offers[name]))
        free_gib = np.full(n_gpus, gpu.memory_gib)
        there: list[set[str]] = [set() for _ in range(n_gpus)]
        for needed_gib, p in sorted(shards, key=lambda shard: (-shard[0], shard[1])):
            pool = case.pools[p].pool
            able = [
                g
                for g in range(n_gpus)
                if free_gib[g] >= needed_gib - 1e-9 and pool.model_name not in there[g]
            ]
            if len(able) < pool.replica_gpus:
                return False
            for g in able[: pool.replica_gpus]:
                free_gib[g] -= needed_gib
                there[g].add(pool.model_name)
    return True


def _options(case: Case, pools: IntArray) -> IntArray:
    """Returns the ways to run one model, (n, P): nothing, or some replicas of one of its pools."""
    nothing = np.zeros(len(case.pools), dtype=np.int64)
    found = [nothing]
    for p in pools.tolist():
        for n in range(max(1, int(case.space.lower[p])), int(case.space.upper[p]) + 1):
            one = nothing.copy()
            one[p] = n
            if np.all(case.space.rows @ one <= case.space.limits + 1e-9):
                found.append(one)
    return np.array(found)


def _every(case: Case, options: list[IntArray]) -> IntArray:
    """Returns all combinations that lie in the box, (n, P), model by model."""
    found = np.zeros((1, len(case.pools)), dtype=np.int64)
    for own in options:
        found = (found[:, None, :] + own).reshape(-1, found.shape[1])
        # Rows count use: what is too much already does not come back.
        found = found[np.all(found @ case.space.rows.T <= case.space.limits + 1e-9, axis=1)]
    return _in_the_box(case, found)


def _drawn(case: Case, options: list[IntArray], n: int, rng: np.random.Generator) -> IntArray:
    """Returns random combinations that lie in the box, (<= n, P), each once."""
    found: dict[bytes, IntArray] = {}
    for _ in range(_TRIES * n):
        if len(found) == n:
            break
        one = np.zeros(len(case.pools), dtype=np.int64)
        for m in rng.permutation(len(options)).tolist():
            trial = one + options[m]
            fits = np.all(trial @ case.space.rows.T <= case.space.limits + 1e-9, axis=1)
            one = trial[rng.choice(np.flatnonzero(fits))]  # nothing always fits
        found.setdefault(one.tobytes(), one)
    return _in_the_box(case, np.array(list(found.values())).reshape(-1, len(case.pools)))


def _in_the_box(case: Case, found: IntArray) -> IntArray:
    admitted = [n.any() and case.space.admits(n) for n in found]
    return np.asarray(found[np.array(admitted, dtype=bool)])


def _use(case: Case, replicas: IntArray) -> FloatArray:
    """Returns the part of all GPUs, or of the budget if larger, that deployments use, (n,)."""
    space, budget = case.space, case.question.budget_usd_per_h
    total = sum(offer.count for offers in space.offers.values() for offer in offers)
    use = replicas @ space.gpus_per_replica / max(total, 1e-9)
    if budget is not None:
        use = np.maximum(use, space.cost_usd_per_h(replicas) / budget)
    return np.asarray(use)
