"""Where on its curves a plan runs each pool: the load of one replica, and what was measured of it.

The requests in flight are those of the chain that the tables come from (latency/chain.py), with the
request itself: a closed loop of that many keeps a replica as busy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.case import Case
from planner.latency.model import LatencyModel
from planner.latency.moments import ClassMoments
from planner.ordered import Rescored, case_of, rescore, with_pools_of
from planner.periods.single import single_period
from planner.profile.review import Chart
from planner.spec.arrays import FloatArray
from planner.spec.base import METRICS
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.table import PoolTable


@dataclass(frozen=True)
class Operating:
    """How one replica of a pool is loaded by a plan."""

    pool: str
    model: LatencyModel
    rate_rps: float  # of one replica
    n_in_flight: float | None  # on one replica; None where nothing is known of its batch
    measured_ratio: tuple[float, float] | None
    """Least and largest utilisation at loads that were measured; None where none was."""
    estimated: tuple[Chart, ...] = ()
    """Mean TTFT and TPOT over the requests in flight, of the requests that the plan sends there."""


def operating(inputs: Inputs, plan: Plan) -> tuple[Operating, ...]:
    """Returns how the plan loads each of its pools, of a plan of periods in the busiest.

    Raises:
        InputError: a pool cannot be fitted, or the plan is about other periods.
    """
    if plan.periods is not None:
        inputs, plan, _ = single_period(inputs, plan)
    case = case_of(with_pools_of(inputs, plan), plan)
    again = rescore(case, plan)
    used = [p for p in range(case.workload.n_pools) if again.replicas[p] > 0]
    return tuple(_of_pool(case, again, p) for p in used)


def _of_pool(case: Case, again: Rescored, p: int) -> Operating:
    table, n = again.tables[p], int(again.replicas[p])
    load = float(again.score.utilisation[p]) * table.max_load
    known = table.loads[~table.extrapolated] / table.max_load
    loads = np.unique(np.append(table.loads, load))
    in_flight = _in_flight(case, p, table.mix, loads)
    return Operating(
        pool=case.workload.pool_names[p],
        model=case.models[p],
        rate_rps=float(again.score.pool_rps[p]) / n,
        n_in_flight=None if in_flight is None else float(in_flight[np.searchsorted(loads, load)]),
        measured_ratio=(float(known.min()), float(known.max())) if known.size else None,
        estimated=() if in_flight is None else _estimated(case, p, table, loads, in_flight),
    )


def _in_flight(case: Case, p: int, row_mix: FloatArray, loads: FloatArray) -> FloatArray | None:
    """Returns the requests in flight on a replica of pool p at some loads, (K,)."""
    model = case.models[p]
    if model.law is None or model.capacity is not None:
        return None
    classes = ClassMoments.of([row[p] for row in case.workload.shapes])
    mix = classes.mixed(classes.share(row_mix))
    return model.chain(mix, loads, case.arrival_cv).running + 1.0


def _estimated(
    case: Case, p: int, table: PoolTable, loads: FloatArray, in_flight: FloatArray
) -> tuple[Chart, ...]:
    """Returns the means of a pool's table over the requests in flight."""
    shapes = [row[p] for row in case.workload.shapes]
    tokens_in, tokens_out = (
        sum(
            share * float(np.mean(getattr(shape, name)))
            for share, shape in zip(table.mix, shapes, strict=True)
            if shape is not None and share > 0
        )
        for name in ("input_tokens", "output_tokens")
    )
    charts = []
    for metric in METRICS[:2]:
        value = np.interp(loads, table.loads, table.mix @ table.mean_ms[metric])
        band = np.interp(loads, table.loads, table.band_ratio[metric])
        low, high = value * np.maximum(1.0 - band, 0.0), value * (1.0 + band)
        column = f"{metric}_mean_ms"
        made = Chart(column, "closed", tokens_in, tokens_out, in_flight, value, low, high, ())
        charts.append(made)
    return tuple(charts)
