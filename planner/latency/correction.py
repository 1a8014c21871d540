"""Measured open-loop latency corrects the predicted one, load by load.

At every open-loop row that has the metric: log(measured mean / predicted mean) at the row's own
load and request shape; monotone interpolation over the load, constant outside (§8).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.latency.model import LatencyModel
from planner.latency.observation import answered_rps, kept_up, usable
from planner.latency.pchip import Pchip
from planner.spec.arrays import FloatArray
from planner.spec.base import Metric
from planner.spec.pool import Point
from planner.spec.workload import RequestShape

# A measured mean further off than this says that the row is at a load the model cannot place.
MOST = np.log(4.0)


def corrected(model: LatencyModel) -> LatencyModel:
    """Returns the model with its means drawn through the open-loop rows of its profile."""
    rows = [p for p in model.profile.points if p.mode == "open" and usable(p) and kept_up(p)]
    if not rows:
        return model
    tpot = _curve(model, rows, "tpot")
    model = replace(model, tpot_correction=tpot)
    return replace(model, ttft_correction=_curve(model, rows, "ttft"))


def _curve(model: LatencyModel, rows: list[Point], metric: Metric) -> Pchip:
    found: list[tuple[float, float]] = []
    for row in rows:
        measured = row.figure_ms(metric, "mean")
        rate_rps = answered_rps(row)
        if measured is None or rate_rps is None or metric in row.estimated:
            continue
        shape = RequestShape(np.array([row.input_tokens]), np.array([row.output_tokens]))
        load = rate_rps * model.work_s(shape)
        table = model.tabulate([shape], np.ones(1))
        if load > table.max_load:
            continue
        predicted = float(table.mean_at(metric, load)[0])
        found.append((load, float(np.clip(np.log(measured / predicted), -MOST, MOST))))
    return _merged(found)


def _merged(found: list[tuple[float, float]]) -> Pchip:
    """Returns the curve through the points; loads closer than 0.01 are averaged."""
    loads: list[float] = []
    logs: list[list[float]] = []
    for load, log_ratio in sorted(found):
        if loads and load - loads[-1] < 0.01:
            logs[-1].append(log_ratio)
            continue
        loads.append(load)
        logs.append([log_ratio])
    values: FloatArray = np.array([np.mean(v) for v in logs])
    return Pchip.through(np.array(loads), values)
