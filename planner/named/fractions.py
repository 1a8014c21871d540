"""What load fractions and a deployment achieve: the evaluation inside the published methods.

BOute and RouterWise decide on a deployment and on the share of all requests that each model gets,
and evaluate the two together. What is inside a fraction follows from it:

    classes   the best assignment of classes to models at these fractions (routing/transport.py)
    pools     a model's traffic is split over its pools so that the worst of them is as good as can
              be: the least T with sum_p y_p(T) >= 1, y_p(T) the part of the model's traffic that
              pool p carries while its figure is at most T
    figure    the largest limit used, of the limits that cover the model's classes; the latency
              objective in ms where the question has none

What is beyond the pools' caps is unserved. Then all is judged by the same tables as every other
routing. Cascades are left out: neither method knows them.

A "model" here is what a fraction can tell apart: pools of one scored model that may answer the same
classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.errors import InputError
from planner.explore import Explored
from planner.memo import values
from planner.objectives import Evaluation, Objectives
from planner.routing import truth
from planner.routing.problem import Routing
from planner.routing.program import UNSERVED_TOLERANCE
from planner.routing.transport import Transport
from planner.search.problem import Trials
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.question import Limit
from planner.spec.table import PoolTable, quantile_ms
from planner.spec.workload import ScopedLimit

_HALVINGS = 40
_FULL = 1e-9
_BEYOND = 1e12
"""A figure above all: what is infinite is not carried at any."""


@dataclass(frozen=True)
class Group:
    """A model: its name and its pools."""

    name: str
    pools: IntArray  # (n,) of all pools
    quality: FloatArray  # (C,) NaN where it may not answer


class Fractions:
    """The evaluation of deployments (P,) at load fractions (M,) of a case that can be served."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        case = objectives.case
        self.groups = _groups(objectives)
        workload = case.workload
        self.transport = Transport(
            workload.weights, np.column_stack([group.quality for group in self.groups])
        )
        self.group_of = np.full(workload.n_pools, -1, dtype=np.int64)
        for m, group in enumerate(self.groups):
            self.group_of[group.pools] = m
        room = 1.0 - case.question.headroom_ratio
        self.caps = np.array([table.max_load * room for table in objectives.tables])

    @property
    def n_models(self) -> int:
        """Returns M, the number of models that may answer something."""
        return len(self.groups)

    def evaluate(self, replicas: IntArray, fractions: FloatArray) -> Evaluation:
        """Returns what a deployment (P,) achieves at load fractions (M,)."""
        workload = self.objectives.case.workload
        assigned = self.transport.at(fractions).shares
        shares = np.zeros((workload.n_rows, workload.n_pools))
        for m, group in enumerate(self.groups):
            if assigned[:, m].any():
                parts = self._parts(replicas, group, assigned[:, m])
                shares[: workload.n_classes, group.pools] = np.outer(assigned[:, m], parts)
        return self.objectives.judged(replicas, 0, self._routing(replicas, shares))

    def figures(self, pool: int, flow: FloatArray) -> FloatArray:
        """Returns what a pool's figure is at each of its table's loads, (K,), never falling.

        Args:
            pool: its number.
            flow: rate of each class that it serves, (C,), in any unit.
        """
        table, limits = self.objectives.tables[pool], self.objectives.levels[0].limits
        if not limits:
            wanted = self.objectives.case.question.latency_objective
            one = Limit(metric=wanted.metric, statistic=wanted.statistic, at_most_ms=1.0)
            limits = (ScopedLimit(None, one),) if table.has_latency else ()
        names = self.objectives.case.workload.class_names
        worst = np.zeros(table.loads.size)
        for scoped in limits:
            of_class = None if scoped.class_name is None else names.index(scoped.class_name)
            if of_class is None or flow[of_class] > 0:
                served = flow if of_class is None else np.eye(flow.size)[of_class]
                worst = np.maximum(worst, _statistic_ms(table, scoped.limit, served))
        return np.asarray(np.maximum.accumulate(worst))

    def work_s(self, pool: int, flow: FloatArray) -> float:
        """Returns the mean work in replica-seconds of a request of a flow of classes (C,)."""
        work = self.objectives.tables[pool].work_s[: flow.size]
        return float(np.nan_to_num(work) @ flow / flow.sum())

    def _parts(self, replicas: IntArray, group: Group, assigned: FloatArray) -> FloatArray:
        """Returns how the traffic of a model is split over its pools, (n,), at most 1 in all."""
        flow = self.objectives.case.workload.class_rate_rps * assigned
        used = np.flatnonzero(replicas[group.pools] > 0)
        parts = np.zeros(group.pools.size)
        if not used.size or flow.sum() <= 0:
            return parts
        pools = group.pools[used].tolist()
        curves = [self.figures(p, flow) for p in pools]
        # How much of the traffic a pool carries per unit of load of each replica.
        per_load = np.array(
            [replicas[p] / max(self.work_s(p, flow) * flow.sum(), 1e-12) for p in pools]
        )
        loads = [self.objectives.tables[p].loads for p in pools]
        caps = self.caps[pools]

        def carried(figure: float) -> FloatArray:
            at = [_load_at(*both, figure) for both in zip(loads, curves, strict=True)]
            return np.asarray(np.minimum(np.array(at), caps) * per_load)

        parts[used] = _least(carried, float(max(curve[-1] for curve in curves)))
        return parts

    def _routing(self, replicas: IntArray, shares: FloatArray) -> Routing:
        case, tables = self.objectives.case, self.objectives.tables
        workload = case.workload
        direct = shares[: workload.n_classes]
        unserved = np.clip(1.0 - direct.sum(axis=1), 0.0, 1.0)
        unserved = np.where(unserved > UNSERVED_TOLERANCE, unserved, 0.0)
        loads = truth.loads(workload, tables, replicas, shares)
        served = not unserved.any()
        met = all(
            truth.limit_met(workload, tables, loads, shares, scoped) for scoped in workload.limits
        )
        usd_per_s = float((workload.rate_rps[:, None] * workload.request_usd * shares).sum())
        quality = np.nan_to_num(workload.quality[: workload.n_classes])
        return Routing(
            shares=shares,
            unserved=unserved,
            loads=loads,
            quality=float(workload.weights @ (quality * direct).sum(axis=1)),
            hosted_usd_per_h=usd_per_s * 3600.0,
            rate_factor=1.0,
            prices=(),
            feasible=served and met,
            status="unserved" if not served else "feasible" if met else "limits_missed",
            tier_loads=loads,
        )


def fractions_of(objectives: Objectives, method: str) -> Fractions | None:
    """Returns the evaluation of a case; None where a class has no pool in the box that may answer.

    Raises:
        InputError: the question asks for the largest traffic, which no named method can vary.
    """
    if objectives.maximises_rate:
        raise InputError.single(
            "--method", method, "plans for given traffic, got maximise: rate_factor",
            "use --method auto",
        )  # fmt: skip
    workload, upper = objectives.case.workload, objectives.case.space.upper
    may = np.isfinite(workload.quality[: workload.n_classes]) & (upper > 0)
    return Fractions(objectives) if may.any(axis=1).all() else None


def _groups(objectives: Objectives) -> tuple[Group, ...]:
    """Returns the models of a case: by name, then by the classes that they may answer."""
    case = objectives.case
    quality = case.workload.quality[: case.workload.n_classes]
    found: dict[tuple[str, bytes], list[int]] = {}
    for p, profile in enumerate(case.pools):
        may = np.isfinite(quality[:, p])
        if case.space.upper[p] > 0 and may.any():
            found.setdefault((profile.pool.scored_as, may.tobytes()), []).append(p)
    return tuple(
        Group(name, np.array(found[name, may], dtype=np.int64), quality[:, found[name, may][0]])
        for name, may in sorted(found)
    )


def _statistic_ms(table: PoolTable, limit: Limit, flow: FloatArray) -> FloatArray:
    """Returns a limit's statistic over a flow (C,) as a ratio of the limit, at each load, (K,)."""
    mix = flow / flow.sum()
    metric, tail = limit.metric, limit.tail_ratio
    if metric not in table.mean_ms:
        return np.full(table.loads.size, np.inf)  # capacity alone: it may carry nothing limited
    served = np.flatnonzero(mix > 0)
    if tail is None:
        at_ms = mix[served] @ table.mean_ms[metric][served]
    else:
        survival = np.tensordot(mix[served], table.survival[metric][served], axes=1)
        at_ms = quantile_ms(table.times_ms[metric], survival, tail)
    return np.asarray(at_ms / limit.at_most_ms)


def _load_at(loads: FloatArray, curve: FloatArray, figure: float) -> float:
    """Returns the highest load at which a rising curve (K,) is at most a figure; 0 for none."""
    last = int(np.searchsorted(curve, figure, side="right"))
    if last == 0:
        return 0.0
    if last == curve.size or not np.isfinite(curve[last]):
        return float(loads[last - 1])
    part = (figure - curve[last - 1]) / (curve[last] - curve[last - 1])
    return float(loads[last - 1] + part * (loads[last] - loads[last - 1]))


def _least(carried: Callable[[float], FloatArray], highest: float) -> FloatArray:
    """Returns the parts (n,) carried at the least figure that carries all; or all there is."""
    most = carried(_BEYOND)
    if most.sum() <= 1.0 + _FULL:
        return most / max(float(most.sum()), 1.0)
    low, high, parts = 0.0, min(highest, _BEYOND), most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = carried(middle)
        if tried.sum() >= 1.0:
            high, parts = middle, tried
        else:
            low = middle
    return np.asarray(parts / parts.sum())


def best_of_each(
    objectives: Objectives, evaluations: Sequence[Evaluation], method: str, complete: bool
) -> Explored:
    """Returns the best evaluation of each deployment, and the front over these."""
    fastest = objectives.case.question.choose == "fastest"

    def rank(one: Evaluation) -> tuple[float, float]:
        return one.violation, one.latency if fastest else -one.quality

    best: dict[bytes, Evaluation] = {}
    for one in evaluations:
        key = one.replicas.tobytes()
        best[key] = min(best.get(key, one), one, key=rank)
    kept = tuple(best.values())
    if not kept:
        return Explored((), (), method, exhaustive=False, complete=complete)
    trials = Trials(
        np.array([one.replicas for one in kept]),
        np.array([values(objectives, one) for one in kept]),
        np.array([one.violation for one in kept]),
        complete,
    )
    front = tuple(kept[int(i)] for i in trials.front())
    return Explored(kept, front, method, exhaustive=False, complete=complete)
