"""A question made computable: its workload, the fitted pools, the box of deployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.errors import Fault, FitError, InputError
from planner.latency.fit import fit
from planner.latency.model import LatencyModel
from planner.space import Space, make_space, replica_faults
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.inputs import Inputs
from planner.spec.pool import Profile
from planner.spec.question import Question
from planner.spec.table import PoolTable
from planner.spec.workload import ScopedLimit, Workload
from planner.workload import arrival_cv, make_workload

IDLE_LOAD = 0.2
"""More replicas than keep a pool busier than this, with all traffic on it, are not considered."""


@dataclass(frozen=True)
class Case:
    """Everything that search, score and check need; no file is read after this."""

    question: Question
    workload: Workload
    pools: tuple[Profile, ...]
    models: tuple[LatencyModel, ...]
    space: Space
    arrival_cv: float

    def tables(
        self,
        mixes: FloatArray | None = None,
        limits: Sequence[ScopedLimit] | None = None,
        unused: Sequence[PoolTable] | None = None,
    ) -> tuple[PoolTable, ...]:
        """Returns the pools' tables at class mixes (P, C); by default each at the traffic's mix.

        Args:
            mixes: class shares of each pool's requests; a row of zeros means the default.
            limits: where exceedances must be exact; by default the question's limits.
            unused: tables to keep for pools whose row in mixes is zero, which saves making them.
        """
        exact_at = self.workload.limits if limits is None else tuple(limits)
        made = []
        for p, model in enumerate(self.models):
            idle = mixes is None or mixes[p].sum() <= 0
            if idle and unused is not None:
                made.append(unused[p])
                continue
            shapes = [row[p] for row in self.workload.shapes]
            mix = self.default_mix(p)
            if mixes is not None and not idle:
                mix = mixes[p] / mixes[p].sum()
            made.append(model.tabulate(shapes, mix, exact_at, self.arrival_cv))
        return tuple(made)

    def default_mix(self, p: int) -> FloatArray:
        """Returns the class shares, (C,), of all traffic that pool p may serve."""
        allowed = self.workload.rate_rps * self.workload.allowed[:, p]
        total = float(allowed.sum())
        return np.asarray(allowed / total if total > 0 else self.workload.weights)


def make_case(inputs: Inputs, models: Sequence[LatencyModel] | None = None) -> Case:
    """Returns the computable form of a question.

    Args:
        inputs: the question and the candidate pools, (P,).
        models: the pools' fitted models, (P,), where they are known already.

    Raises:
        InputError: pools that cannot be fitted, or replica ranges that no stock fulfils.
    """
    pools = inputs.candidates
    workload = make_workload(inputs.files, pools)
    models = _fit_all(pools, inputs.profiles.folder) if models is None else tuple(models)
    usable = [
        model.memory.fits and bool(workload.allowed[:, p].any()) for p, model in enumerate(models)
    ]
    space = make_space(inputs.question, pools, usable, _enough(inputs.question, workload, models))
    faults = [
        Fault(inputs.files.name, f"replicas.{text.split(':')[0]}", text, "raise stock or lower min")
        for text in replica_faults(space)
    ]
    if faults:
        raise InputError(faults)
    return Case(inputs.question, workload, pools, models, space, arrival_cv(inputs.question))


def _fit_all(pools: Sequence[Profile], folder: str) -> tuple[LatencyModel, ...]:
    models, faults = [], []
    for profile in pools:
        try:
            models.append(fit(profile))
        except FitError as error:
            where = f"{folder}/{error.pool}/points.csv"
            faults.append(Fault(where, "", error.what, error.measure_next))
    if faults:
        raise InputError(faults)
    return tuple(models)


def _enough(question: Question, workload: Workload, models: Sequence[LatencyModel]) -> IntArray:
    """Returns the replicas of each pool, (P,), that all traffic would not keep busy."""
    if question.maximise == "rate_factor":
        return np.full(len(models), 10**6, dtype=np.int64)
    enough = np.zeros(len(models), dtype=np.int64)
    for p, model in enumerate(models):
        shapes = [row[p] for row in workload.shapes]
        rated = zip(workload.rate_rps.tolist(), shapes, strict=True)
        load = sum(rate * model.work_s(shape) for rate, shape in rated if shape is not None)
        enough[p] = max(1, int(np.ceil(min(load / IDLE_LOAD, 1e6)))) if load > 0 else 0
    return enough
