"""The points that BOute searches, what its kernel sees of them, and what they achieve.

Notation
    f_m     load fraction of model m, in hundredths; they sum to 1            ratio       (M,)
    c_m     candidate deployment of model m, of its list C_m, or none         replicas    (P,)
    z       point of the search: f in hundredths, then sum_m c_m              integers    (M + P,)
    a_mn    GPUs of type n given to model m                                   GPUs
    s_mn    how well type n suits model m, against its mean over the types     log ratio
    L       largest limit used; the latency objective in ms without limits     ratio or ms
    Q       mean quality over all traffic                                      ratio

What the kernel sees: f without its last entry; a_mn and the mean log2 of the GPUs per replica of
each model and type; sum_mn a_mn s_mn. Points are drawn model by model, in random order, from the
candidates that still fit into stock and budget.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.named.fractions import Fractions
from planner.objectives import WORST_RATIO, Evaluation, Objectives
from planner.search import boute
from planner.search.problem import Box, Outcome, Problem
from planner.spec.arrays import FloatArray, IntArray

UNITS = 100
"""Steps of a load fraction."""

NONE_RATIO = 0.25
"""How often a drawn deployment leaves a model out."""

OVERLOAD = 4.0
"""What serving nothing adds to log L."""

WORST_LOG_MS = 24.0 * np.log(2.0)


@dataclass
class BouteSpace:
    """The space that the method searches, and what it has evaluated."""

    fractions: Fractions
    lists: list[IntArray]  # (n, P) candidates of each model
    budget_usd_per_h: float
    seen: dict[bytes, Evaluation] = field(default_factory=dict)

    @property
    def objectives(self) -> Objectives:
        """Returns the case's own evaluation."""
        return self.fractions.objectives

    @property
    def n_models(self) -> int:
        """Returns M."""
        return self.fractions.n_models

    def evaluate(self, point: IntArray) -> Outcome:
        """Returns (log L, -logit Q) of a point (M + P,)."""
        key = point.tobytes()
        if key not in self.seen:
            split = point[: self.n_models] / UNITS
            self.seen[key] = self.fractions.evaluate(point[self.n_models :], split)
        found = self.seen[key]
        latency = found.latency * np.log(2.0)
        if self.objectives.levels[0].limits:
            latency = float(np.log(max(found.latency, 1e-6)))
        lost = float(found.routing.unserved @ self.objectives.case.workload.weights)
        return Outcome(
            np.array([latency + OVERLOAD * lost, -_logit(found.quality)]), found.violation
        )

    def problem(self) -> Problem:
        """Returns the domain-blind problem over points."""
        space, n = self.objectives.case.space, self.n_models
        whole = np.ones((1, n))
        box = Box(
            lower=np.concatenate([np.zeros(n, dtype=np.int64), space.lower]),
            upper=np.concatenate([np.full(n, UNITS, dtype=np.int64), space.upper]),
            rows=np.block(
                [
                    [whole, np.zeros((1, len(space.lower)))],
                    [-whole, np.zeros((1, len(space.lower)))],
                    [np.zeros((len(space.limits), n)), space.rows],
                ]
            ),
            limits=np.concatenate([[UNITS, -UNITS], space.limits]),
        )
        workload = self.objectives.case.workload
        lowest = float(np.nanmin(workload.quality[: workload.n_classes]))
        slowest = np.log(WORST_RATIO) if workload.limits else WORST_LOG_MS
        reference = np.array([slowest, -_logit(min(lowest, workload.quality_at_least or 1.0))])
        return Problem(box, 2, self.evaluate, reference + 1e-6)

    def parts(self) -> boute.Parts:
        """Returns what the method's kernel sees, and where its points come from."""
        case, n = self.objectives.case, self.n_models
        space = case.space
        kind = [gpu or name for gpu, name in zip(space.gpu_of, space.pool_names, strict=True)]
        kinds = sorted(set(kind))
        column = [kinds.index(each) for each in kind]
        cell = np.maximum(self.fractions.group_of, 0) * len(kinds) + np.array(column)
        member = (cell == np.arange(n * len(kinds))[:, None]).astype(float)
        size = np.maximum(space.gpus_per_replica, 1e-3)
        suits = _suits(self.fractions, member)
        stock = max(sum(o.count for offers in space.offers.values() for o in offers), 1.0)

        def deployment(points: IntArray) -> FloatArray:
            gpus = points[:, n:] * size
            taken = gpus @ member.T
            each = (gpus * np.log2(size)) @ member.T / np.maximum(taken, 1e-3)
            return np.column_stack([taken, each])

        workload = case.workload
        floor = workload.quality_at_least
        most = np.log(1.0 + 1e-6) if workload.limits else np.inf
        return boute.Parts(
            routing=lambda points: points[:, : max(n - 1, 1)] / UNITS,
            deployment=deployment,
            preference=lambda points: (points[:, n:] * size) @ member.T @ suits / stock,
            draw=self.draw,
            near=self.near,
            ceilings=np.array([most, np.inf if floor is None else -_logit(floor)]),
        )

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """Returns random points of the search space, (<= n, M + P)."""
        points = [self._drawn(rng) for _ in range(n)]
        return self._stacked([p for p in points if p is not None])

    def _drawn(self, rng: np.random.Generator) -> IntArray | None:
        chosen = self.objectives.case.space.lower.copy()
        for m in rng.permutation(self.n_models).tolist():
            if rng.random() >= NONE_RATIO:
                chosen = self._with(chosen, m, rng)
        return self._split(chosen, None, rng)

    def near(self, point: IntArray, n: int, rng: np.random.Generator) -> IntArray:
        """Returns points with other fractions, or with another candidate of one model, (<= n,)."""
        found = []
        for _ in range(n):
            split, replicas = point[: self.n_models].copy(), point[self.n_models :].copy()
            if rng.random() < 0.5:
                give, take = rng.integers(0, self.n_models, 2)
                moved = min(int(rng.integers(1, UNITS // 5)), int(split[give]))
                split[give] -= moved
                split[take] += moved
            else:
                m = int(rng.integers(self.n_models))
                own = self.fractions.group_of == m
                replicas[own] = self.objectives.case.space.lower[own]
                if rng.random() >= NONE_RATIO:
                    replicas = self._with(replicas, m, rng)
            made = self._split(replicas, split, rng)
            if made is not None:
                found.append(made)
        return self._stacked(found)

    def _with(self, replicas: IntArray, m: int, rng: np.random.Generator) -> IntArray:
        """Returns a deployment with a random candidate of model m that still fits."""
        space = self.objectives.case.space
        own = self.fractions.group_of == m
        trial = np.where(own, np.maximum(self.lists[m], space.lower), replicas)
        fits = np.all(trial @ space.rows.T <= space.limits + 1e-9, axis=1)
        fits &= space.cost_usd_per_h(trial) <= self.budget_usd_per_h + 1e-9
        able = np.flatnonzero(fits)
        return trial[rng.choice(able)] if able.size else replicas

    def _split(
        self, replicas: IntArray, units: IntArray | None, rng: np.random.Generator
    ) -> IntArray | None:
        """Returns a point with given units of load per model (M,), or with drawn ones.

        A model without replicas gets nothing; None where no model has any, or the rent is too high.
        """
        space = self.objectives.case.space
        there = np.zeros(self.n_models)
        np.maximum.at(there, self.fractions.group_of[replicas > 0], 1.0)
        if not there.any() or space.cost_usd_per_h(replicas) > self.budget_usd_per_h + 1e-9:
            return None
        weight = there * rng.dirichlet(np.ones(self.n_models)) if units is None else there * units
        if weight.sum() <= 0:
            weight = there
        exact = weight / weight.sum() * UNITS
        whole = np.floor(exact).astype(np.int64)
        whole[np.argsort(whole - exact, kind="stable")[: UNITS - whole.sum()]] += 1
        return np.concatenate([whole, replicas])

    def _stacked(self, points: list[IntArray]) -> IntArray:
        width = self.n_models + self.objectives.case.space.lower.size
        return np.array(points, dtype=np.int64).reshape(-1, width)


def _logit(quality: float) -> float:
    q = min(max(quality, 1e-4), 1.0 - 1e-4)
    return float(np.log(q / (1.0 - q)))


def _suits(fractions: Fractions, member: FloatArray) -> FloatArray:
    """Returns s_mn as a column, (models x types,): log requests/s per dollar, against the mean."""
    case = fractions.objectives.case
    rate = case.workload.class_rate_rps
    usd = case.space.cost_usd_per_h(np.eye(len(fractions.caps), dtype=np.int64))
    per_usd = np.zeros(len(fractions.caps))
    for group in fractions.groups:
        flow = np.where(np.isfinite(group.quality), rate, 0.0)
        for p in group.pools.tolist():
            per_usd[p] = fractions.caps[p] / max(fractions.work_s(p, flow) * usd[p], 1e-12)
    best = (member * per_usd).max(axis=1).reshape(fractions.n_models, -1)
    logs = np.log(np.where(best > 0, best, np.nan))
    mean = np.array([[np.mean(row[np.isfinite(row)])] for row in logs])
    return np.asarray(np.nan_to_num(logs - mean).ravel())
