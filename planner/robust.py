"""What a plan survives: one deployment and one routing table, held against what may happen.

A question with `robust:` names scenarios. The deployment and the shares of a plan are fixed; a
scenario changes what comes, or what is left to serve it, and nobody plans again meanwhile.

    rate_ratio        every class comes at so many times its planned rate
    class_rate_ratio  one class after the other comes at so many times its rate, the others as
                      planned: another mix
    latency_band      every pool's latencies are at the upper end of their error bands, at the
                      planned traffic
    failures replica  one replica of a pool is down; a scenario for each pool of the plan. Replicas
                      of a pool are alike, so that stands for every single replica
    failures node     one node is down with every replica on it. Where replicas stand is not
                      planned, so any of them that fit on one node of their kind may be lost
                      together, or fewer of them; single replicas are among these
    limits_ratio      while a failure lasts each latency limit counts so many times as long

Hosted pools do not fail here: what happens to them is their provider's promise.

In each scenario, by the tables
    shares    stay: the runtime meets them blind to load (§1). A lost replica's requests go to the
              rest of its pool, evenly. Those of a pool that is gone go to the first pool of their
              class's fallback order (routes.json) that is up and that the class may use
    loads     load per replica <= what its table allows, less half of the headroom: the headroom is
              there to be used now, but a pool at the brim answers as late as chance will have it
    limits    every latency limit holds, times limits_ratio while a failure lasts
    floors    every quality floor holds, over the traffic as it comes
    unserved  nothing: a request without a place is one that the plan does not survive
Tables are at the class mix that the scenario sends to each pool. What a replica was answering when
it died is lost under any plan and is no part of the promise; a failure lasts from then on.

Search, choice, `rb check` and the sentences of a plan all read `survive`; simulation plays the
same scenarios (drills.py), and the integer program relaxes them (exact/robust.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case
from planner.exact.robust import Threats
from planner.routing import truth
from planner.score import MET_TOLERANCE
from planner.space import Packing
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.question import Robust
from planner.spec.scenario import Scenario, calm
from planner.spec.stress import at_upper_band
from planner.spec.table import PoolTable
from planner.spec.workload import ScopedLimit, Workload

SPARE_DIGITS = 6  # of a utilisation in plan.json, from which the fallback order is made

HEADROOM_KEPT = 0.5
"""Of the headroom, while a scenario lasts."""

WORST_MISS = 4.0
"""Of one scenario: a load or latency beyond this many times what is allowed is as bad."""

Fits = Callable[[tuple[int, ...]], bool]
"""Returns whether so many replicas of each pool lie together; fewer of them always do."""

Retabulate = Callable[[FloatArray], tuple[PoolTable, ...]]
"""Returns the pools' tables at class mixes (P, R); a row of zeros keeps what there is."""


@dataclass(frozen=True)
class Survival:
    """What becomes of a plan in one scenario, by the tables."""

    scenario: Scenario
    loads: FloatArray  # (P,) per replica that is left; inf where load meets none
    utilisation_ratio: float  # of the fullest pool: load over what its table allows
    limit_ratios: FloatArray  # (L,) predicted over allowed meanwhile, in the workload's order
    quality: float  # mean score of what comes, unserved requests count 0
    unserved_ratio: float
    miss: float  # the sum of all relative misses; 0 = survived
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Returns whether every promise is kept."""
        return not self.problems

    @property
    def latency_ratio(self) -> float | None:
        """Returns the largest predicted over allowed; None without limits."""
        return float(self.limit_ratios.max()) if self.limit_ratios.size else None


# ---- What may happen -----------------------------------------------------------------------------


def scenarios(case: Case, replicas: IntArray) -> tuple[Scenario, ...]:
    """Returns what a deployment (P,) is to survive, in a fixed order; nothing without `robust:`."""
    asked = case.question.robust
    if asked is None:
        return ()
    found = list(_other_traffic(case.workload, asked))
    if asked.latency_band:
        label = "latencies at the upper end of their error bands"
        found.append(replace(calm(case.workload, label), latency_band=True))
    losses = {"none": _nothing, "replica": _single_losses, "node": _node_losses}[asked.failures]
    for lost in losses(case, replicas):
        scenario = calm(case.workload, _loss_label(case, replicas, lost))
        found.append(replace(scenario, lost=lost, limits_ratio=asked.limits_ratio))
    return tuple(replace(scenario, headroom_ratio=_kept_free(case)) for scenario in found)


def _kept_free(case: Case) -> float:
    return HEADROOM_KEPT * case.question.headroom_ratio


def _other_traffic(workload: Workload, asked: Robust) -> Iterator[Scenario]:
    if asked.rate_ratio > 1.0:
        ratio = np.full(workload.n_classes, asked.rate_ratio)
        label = f"{asked.rate_ratio:g} times the traffic"
        yield replace(calm(workload, label), class_rate_ratio=ratio)
    for c, name in enumerate(workload.class_names):
        times = asked.class_rate_ratio.get(name, 1.0)
        if times != 1.0:
            ratio = np.ones(workload.n_classes)
            ratio[c] = times
            label = f"{times:g} times the requests of {name}"
            yield replace(calm(workload, label), class_rate_ratio=ratio)


def _nothing(case: Case, replicas: IntArray) -> Iterator[IntArray]:
    yield from ()


def _may_fail(case: Case, replicas: IntArray) -> list[int]:
    """Returns the pools with replicas of our own."""
    return [p for p, n in enumerate(replicas.tolist()) if n > 0 and case.space.gpu_of[p]]


def _single_losses(case: Case, replicas: IntArray) -> Iterator[IntArray]:
    """Yields one replica of each pool, (P,)."""
    for p in _may_fail(case, replicas):
        lost = np.zeros(replicas.size, dtype=np.int64)
        lost[p] = 1
        yield lost


def on_one_node(case: Case) -> IntArray:
    """Returns how many replicas of each pool fit on one node, (P,); 0 for hosted ones.

    One that spans nodes is lost with any of them, so it counts as one. Replicas of one pool never
    share a GPU, whatever part of it they take.
    """
    found = np.zeros(len(case.pools), dtype=np.int64)
    for p, profile in enumerate(case.pools):
        if profile.gpu is not None and case.space.gpus_per_replica[p] > 0:
            found[p] = max(1, profile.gpu.gpus_per_node // profile.pool.replica_gpus)
    return found


def _node_losses(case: Case, replicas: IntArray) -> Iterator[IntArray]:
    """Yields what one node of each kind may take with it, (P,): whatever else is not as bad.

    Losing more of a pool is worse, unless none of it is left: then others take its requests.
    """
    most = np.minimum(on_one_node(case), replicas)
    may_fail = _may_fail(case, replicas)
    for gpu in sorted({case.space.gpu_of[p] or "" for p in may_fail}):
        pools = [p for p in may_fail if case.space.gpu_of[p] == gpu]
        fits = _fits_on_a_node(case, gpu, pools)
        for loss in _worst_losses(most[pools].tolist(), replicas[pools].tolist(), fits):
            lost = np.zeros(replicas.size, dtype=np.int64)
            lost[pools] = loss
            yield lost


def _fits_on_a_node(case: Case, gpu: str, pools: Sequence[int]) -> Fits:
    """Returns whether so many replicas of each of some pools can lie on one node of a GPU."""
    node = next(p.gpu.gpus_per_node for p in case.pools if p.gpu is not None and p.gpu.name == gpu)
    packing = case.space.packings.get(gpu)
    if packing is None:
        each = np.minimum(case.space.gpus_per_replica[pools], node)
        return lambda loss: bool(np.dot(loss, each) <= node)
    part_of = dict(zip(case.space.pools_on(gpu).tolist(), packing.parts, strict=True))
    parts = [replace(part_of[p], n_gpus=min(part_of[p].n_gpus, node)) for p in pools]
    one_node = Packing(node, node, tuple(parts))
    return lambda loss: one_node.least_gpus(loss) <= node


def _worst_losses(most: list[int], replicas: list[int], fits: Fits) -> Iterator[tuple[int, ...]]:
    """Yields the losses that no other one, with the same pools gone, is at least as bad."""

    def together(loss: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(loss) == len(most):
            yield loss
            return
        others = (0,) * (len(most) - len(loss) - 1)
        for n in range(most[len(loss)] + 1):
            if not fits((*loss, n, *others)):
                return
            yield from together((*loss, n))

    def may_grow(loss: tuple[int, ...], k: int) -> bool:
        more = loss[k] + 1
        return more <= most[k] and more < replicas[k] and fits((*loss[:k], more, *loss[k + 1 :]))

    for loss in together(()):
        if any(loss) and not any(may_grow(loss, k) for k in range(len(loss))):
            yield loss


def _loss_label(case: Case, replicas: IntArray, lost: IntArray) -> str:
    """Returns a loss in plain words, e.g. 'without 1 of 3 llama-70b'."""
    names = case.space.pool_names
    parts = [f"{lost[p]} of {replicas[p]} {names[p]}" for p in np.flatnonzero(lost).tolist()]
    return f"without {' and '.join(parts)}"


def threats(case: Case) -> Threats | None:
    """Returns what the integer program is told of the scenarios; None without `robust:`."""
    asked = case.question.robust
    if asked is None:
        return None
    nothing = np.zeros(len(case.pools), dtype=np.int64)
    at_once = nothing
    if asked.failures != "none":
        at_once = on_one_node(case)
    if asked.failures == "replica":
        at_once = np.minimum(at_once, 1)
    traffic = scenarios(case, nothing)  # of no replicas none is lost
    return Threats(traffic, at_once, asked.limits_ratio, _kept_free(case))


# ---- What becomes of the plan --------------------------------------------------------------------


def survivals(
    case: Case,
    workload: Workload,
    tables: Sequence[PoolTable],
    replicas: IntArray,
    shares: FloatArray,
    retabulate: Retabulate | None = None,
) -> tuple[Survival, ...]:
    """Returns what becomes of a routed deployment in each scenario of its question.

    Args:
        case: the question.
        workload: what is planned for, at the rate factor that is carried.
        tables: of the pools, (P,), at the mix of the shares.
        replicas: of each pool, (P,).
        shares: of each row on each pool, (R, P).
        retabulate: makes tables at the mix of a scenario; None: those given are near enough.
    """
    return tuple(
        survive(workload, tables, replicas, shares, scenario, retabulate)
        for scenario in scenarios(case, replicas)
    )


def survive(
    planned: Workload,
    tables: Sequence[PoolTable],
    replicas: IntArray,
    shares: FloatArray,
    scenario: Scenario,
    retabulate: Retabulate | None = None,
) -> Survival:
    """Returns what becomes of a routed deployment in one scenario; arguments as in survivals."""
    workload = scenario.workload(planned)
    left = replicas - scenario.lost
    loads = truth.loads(planned, tables, replicas, shares)
    used = loads / np.array([table.max_load for table in tables])
    moved = fallen_back(planned, replicas, left, shares, used)
    if retabulate is not None:
        tables = _at_own_mix(planned, workload, shares, moved, tables, retabulate)
    if scenario.latency_band:
        tables = [at_upper_band(table) if table.has_latency else table for table in tables]
    return _judged(scenario, workload, tables, left, moved)


def fallen_back(
    workload: Workload,
    replicas: IntArray,
    left: IntArray,
    shares: FloatArray,
    utilisation: FloatArray,
) -> FloatArray:
    """Returns the shares (R, P) when only some replicas are left: of pools that are gone, moved.

    Args:
        workload: which class may use which pool.
        replicas: of each pool by the plan, (P,).
        left: of them, (P,).
        shares: by the plan, (R, P), without cascades where a pool is gone.
        utilisation: of each pool by the plan, (P,).
    """
    gone = (replicas > 0) & (left <= 0)
    moved = shares.copy()
    for c in np.flatnonzero(shares[:, gone].any(axis=1)).tolist():
        lost = float(shares[c, gone].sum())
        moved[c, gone] = 0.0
        for p in fallback_order(workload, replicas, shares[c], utilisation):
            if left[p] > 0 and workload.allowed[c, p]:
                moved[c, p] += lost
                break
    return moved


def fallback_order(
    workload: Workload, replicas: IntArray, shares: FloatArray, utilisation: FloatArray
) -> list[int]:
    """Returns who takes over for a class with shares (P,), in the order that routes.json has.

    Its own pools by share, then the plan's other pools by spare capacity (files/plans.py).
    """
    names = workload.pool_names
    spare = 1.0 - np.round(utilisation, SPARE_DIGITS)
    own = np.flatnonzero(shares > 0).tolist()
    others = np.flatnonzero((replicas > 0) & (shares <= 0)).tolist()
    own.sort(key=lambda p: (-shares[p], names[p]))
    others.sort(key=lambda p: (-spare[p], names[p]))
    return [*own, *others]


def _at_own_mix(
    planned: Workload,
    workload: Workload,
    shares: FloatArray,
    moved: FloatArray,
    tables: Sequence[PoolTable],
    retabulate: Retabulate,
) -> Sequence[PoolTable]:
    """Returns tables at the mix that a scenario sends to each pool, as they are where it stays."""
    before, now = planned.rate_rps[:, None] * shares, workload.rate_rps[:, None] * moved
    total = np.maximum(before.sum(axis=0), 1e-300), np.maximum(now.sum(axis=0), 1e-300)
    shifted = np.abs(before / total[0] - now / total[1]).max(axis=0) > 1e-9
    if not (shifted & (now.sum(axis=0) > 0)).any():
        return tables
    made = retabulate(np.where(shifted, now, 0.0).T)
    return [new if moves else old for new, old, moves in zip(made, tables, shifted, strict=True)]


def _judged(
    scenario: Scenario,
    workload: Workload,
    tables: Sequence[PoolTable],
    left: IntArray,
    shares: FloatArray,
) -> Survival:
    """Returns how replicas that are left bear what comes to them."""
    loads = truth.loads(workload, tables, left, shares)
    used = loads / np.array([table.max_load for table in tables])
    limits = np.array([_limit_ratio(workload, tables, loads, shares, s) for s in workload.limits])
    per_row = np.where(shares > 0, shares * workload.quality, 0.0).sum(axis=1)
    per_class = workload.by_class(per_row)
    quality = float(workload.weights @ per_class)
    served = truth.served_shares(shares, workload.cascades)
    unserved = float(workload.weights @ np.maximum(1.0 - served - MET_TOLERANCE, 0.0))
    floors = np.nan_to_num(workload.class_quality_at_least)
    below = np.maximum(floors - per_class - MET_TOLERANCE, 0.0)
    short = max(0.0, (workload.quality_at_least or 0.0) - quality - MET_TOLERANCE)
    allowed = 1.0 - scenario.headroom_ratio
    over = np.minimum(np.append(used / allowed, limits), WORST_MISS) - 1.0 - MET_TOLERANCE
    problems = [
        *_overloads(workload, used, allowed),
        *_problems(workload, limits, unserved, quality, per_class, short, below),
    ]
    return Survival(
        scenario=scenario,
        loads=loads,
        utilisation_ratio=float(used.max(initial=0.0)),
        limit_ratios=limits,
        quality=quality,
        unserved_ratio=unserved,
        miss=unserved + short + float(below.sum()) + float(np.maximum(over, 0.0).sum()),
        problems=tuple(f"{scenario.label}, {problem}" for problem in problems),
    )


def _limit_ratio(
    workload: Workload,
    tables: Sequence[PoolTable],
    loads: FloatArray,
    shares: FloatArray,
    scoped: ScopedLimit,
) -> float:
    """Returns predicted over allowed; 0 where nothing in scope is served, inf where unknown."""
    value = truth.limit_value(workload, tables, loads, shares, scoped)
    if np.isnan(value):
        return np.inf if shares[workload.in_scope(scoped)].any() else 0.0
    return value / scoped.limit.at_most_ms


def _overloads(workload: Workload, used: FloatArray, allowed: float) -> Iterator[str]:
    """Yields the pools that would be fuller than allowed; none is left of one at inf."""
    for p in np.flatnonzero(used / allowed > 1.0 + MET_TOLERANCE).tolist():
        if np.isfinite(used[p]):
            name = workload.pool_names[p]
            yield f"{name} would run at {used[p]:.1%} of its capacity, at most {allowed:.1%}"


def _problems(
    workload: Workload,
    limits: FloatArray,
    unserved: float,
    quality: float,
    class_quality: FloatArray,
    short: float,
    below: FloatArray,
) -> Iterator[str]:
    """Yields every promise that is not kept, in plain words."""
    if unserved > 0:
        yield f"{unserved:.2%} of the traffic has no place to go"
    for scoped, ratio in zip(workload.limits, limits.tolist(), strict=True):
        if ratio > 1.0 + MET_TOLERANCE:
            times = f"{ratio:.1%}" if np.isfinite(ratio) else "an unknown part"
            yield f"{scoped.label} is at {times} of what is allowed"
    if short > 0:
        yield f"quality is {quality:.4f}, floor {workload.quality_at_least:.4f}"
    for c in np.flatnonzero(below > 0).tolist():
        floor = workload.class_quality_at_least[c]
        yield f"quality of {workload.class_names[c]} is {class_quality[c]:.4f}, floor {floor:.4f}"
