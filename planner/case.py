"""A question made computable: its workload, the fitted pools, the box of deployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from planner.errors import Fault, FitError, InputError
from planner.latency.fit import fit
from planner.latency.model import LatencyModel
from planner.space import Space, make_space, replica_faults
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import METRICS, Metric
from planner.spec.inputs import Inputs
from planner.spec.plan import Learned
from planner.spec.pool import Profile
from planner.spec.question import Question
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit, Workload
from planner.workload import arrival_cv, make_workload, with_split_times

if TYPE_CHECKING:
    from planner.quality.cascade import CascadeOption

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
    learned: tuple[Learned, ...] = ()  # from simulations that contradicted the tables (§9)
    cascades: tuple[CascadeOption, ...] = ()  # that were offered, with or without pools for them

    def tables(
        self,
        mixes: FloatArray | None = None,
        limits: Sequence[ScopedLimit] | None = None,
        unused: Sequence[PoolTable] | None = None,
    ) -> tuple[PoolTable, ...]:
        """Returns the pools' tables at class mixes (P, R); by default each at the traffic's mix.

        Args:
            mixes: shares of each pool's requests by row of the workload; zeros mean the default.
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
            mix = self.default_mix(p)
            if mixes is not None and not idle:
                mix = mixes[p] / mixes[p].sum()
            shapes, alike = self._distinct_shapes(p)
            whole = np.asarray(np.bincount(alike, mix, len(shapes)), dtype=np.float64)
            table = model.tabulate(shapes, whole, exact_at, self.arrival_cv)
            if alike.size > len(shapes):
                table = table.with_rows(alike, mix)
            made.append(corrected(table, self.learned, self._row_class_names))
        return tuple(made)

    def _distinct_shapes(self, p: int) -> tuple[list[RequestShape | None], IntArray]:
        """Returns the shapes of the classes on pool p and those that only stages have, (D,).

        And which of them each row has, (R,): first stages are like their class, and making a table
        takes time row by row.
        """
        rows = [row[p] for row in self.workload.shapes]
        shapes, alike = rows[: self.workload.n_classes], list(range(self.workload.n_classes))
        for shape in rows[self.workload.n_classes :]:
            found = [d for d, other in enumerate(shapes) if other is shape]
            if not found:
                shapes.append(shape)
            alike.append(found[0] if found else len(shapes) - 1)
        return shapes, np.array(alike, dtype=np.int64)

    @property
    def _row_class_names(self) -> tuple[str, ...]:
        """Returns the name of the class of each row, (R,)."""
        names = self.workload.class_names
        return tuple(names[c] for c in self.workload.row_class.tolist())

    def default_mix(self, p: int) -> FloatArray:
        """Returns the shares, (R,), of all traffic that pool p may serve, without cascades."""
        rates = self.workload.class_rate_rps
        allowed = rates * self.workload.allowed[: rates.size, p]
        total = float(allowed.sum())
        mix = allowed / total if total > 0 else self.workload.weights
        return np.append(mix, np.zeros(self.workload.n_rows - rates.size))


def corrected(
    table: PoolTable, learned: Sequence[Learned], class_names: Sequence[str]
) -> PoolTable:
    """Returns a pool's table as slow as simulations found it, constant outside their loads.

    Args:
        table: of R rows.
        learned: how much slower each class was, of this pool and of others.
        class_names: the class of each row, (R,).
    """
    ratio: dict[Metric, FloatArray] = {}
    for metric in METRICS:
        about = {e.class_name: e for e in learned if (e.pool, e.metric) == (table.pool, metric)}
        if not about or not table.has_latency:
            continue
        ratio[metric] = np.ones((len(class_names), table.loads.size))
        for c, name in enumerate(class_names):
            entry = about.get(name, about.get(None))
            if entry is not None:
                ratio[metric][c] = np.interp(table.loads, entry.load_ratio, entry.slower_ratio)
    return table.stretched(ratio) if ratio else table


def make_case(
    inputs: Inputs,
    models: Sequence[LatencyModel] | None = None,
    learned: Sequence[Learned] = (),
    cascades: Sequence[CascadeOption] = (),
) -> Case:
    """Returns the computable form of a question.

    Args:
        inputs: the question and the candidate pools, (P,).
        models: the pools' fitted models, (P,), where they are known already.
        learned: what simulations have taught about the pools.
        cascades: that may be used beside single pools.

    Raises:
        InputError: pools that cannot be fitted, or replica ranges that no stock fulfils.
    """
    pools = inputs.candidates
    workload = make_workload(inputs.files, pools, cascades=cascades)
    models = fit_all(pools, inputs.profiles.folder) if models is None else tuple(models)
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
    cv = arrival_cv(inputs.question)
    case = Case(
        inputs.question, workload, pools, models, space, cv, tuple(learned), tuple(cascades)
    )
    if workload.cascades:  # split by the formula alone: a plan is checked with what it has taught
        tables = replace(case, learned=()).tables()
        case = replace(case, workload=with_split_times(workload, tables))
    return case


def fit_all(pools: Sequence[Profile], folder: str) -> tuple[LatencyModel, ...]:
    """Returns the fitted models of pools, (P,), whose profiles lie in a folder.

    A profile is of a replica alone on its part of a GPU; here its neighbours are there.

    Raises:
        InputError: pools that cannot be fitted, all of them.
    """
    models, faults = [], []
    for profile in pools:
        try:
            models.append(_beside_neighbours(fit(profile)))
        except FitError as error:
            where = f"{folder}/{error.pool}/points.csv"
            faults.append(Fault(where, "", error.what, error.measure_next))
    if faults:
        raise InputError(faults)
    return tuple(models)


def _beside_neighbours(model: LatencyModel) -> LatencyModel:
    """Returns the model of a pool as slow as those make it with whom it shares its GPUs."""
    share = model.profile.pool.share
    return model if share is None else model.slowed(share.slowdown_ratio, share.slowdown_origin)


def _enough(question: Question, workload: Workload, models: Sequence[LatencyModel]) -> IntArray:
    """Returns the replicas of each pool, (P,), that all traffic would not keep busy.

    A class comes to a pool in one way at a time: directly, or by a stage of a cascade.
    """
    if question.maximise == "rate_factor":
        return np.full(len(models), 10**6, dtype=np.int64)
    enough = np.zeros(len(models), dtype=np.int64)
    for p, model in enumerate(models):
        shapes = [row[p] for row in workload.shapes]
        most = [0.0] * workload.n_classes
        rows = zip(workload.row_class.tolist(), workload.rate_rps.tolist(), shapes, strict=True)
        for c, rate, shape in rows:
            if shape is not None:
                most[c] = max(most[c], rate * model.work_s(shape))
        load = sum(most)
        enough[p] = max(1, int(np.ceil(min(load / IDLE_LOAD, 1e6)))) if load > 0 else 0
    return enough
