"""A valid plan of plans/demo made by hand: the orders are written down, the figures are scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from planner import __version__
from planner.case import make_case
from planner.score import score
from planner.spec.inputs import Inputs
from planner.spec.plan import (
    DeployedPool,
    FrontPoint,
    LatencyFigure,
    Plan,
    PoolFigure,
    Predicted,
    Price,
    Provenance,
    Route,
)

ROOT = Path(__file__).resolve().parent.parent
BIG, SMALL = "llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100"
REPLICAS = {BIG: 6, SMALL: 1}
SHARES = {
    ("gsm", BIG): 0.6,
    ("gsm", SMALL): 0.4,
    ("crux", BIG): 1.0,
    ("math-l5", BIG): 1.0,
}


def hand_plan(
    inputs: Inputs,
    replicas: dict[str, int] | None = None,
    shares: dict[tuple[str, str], float] | None = None,
    rate_factor: float | None = None,
) -> Plan:
    """Returns a plan with the given orders, its figures scored at its own mix, nothing judged."""
    case = make_case(inputs)
    workload = case.workload
    n = np.array([(replicas or REPLICAS).get(name, 0) for name in workload.pool_names])
    x = np.array(
        [
            [(shares or SHARES).get((c, p), 0.0) for p in workload.pool_names]
            for c in workload.class_names
        ]
    )
    workload = replace(workload, rate_rps=workload.rate_rps * (rate_factor or 1.0))
    tables = case.tables((workload.rate_rps[:, None] * x).T)
    s = score(workload, tables, n, x, inputs.question.headroom_ratio, _objective(inputs))
    rent, gpus = case.space.pool_usd_per_h(n), case.space.pool_gpus(n)
    # Rent is paid all day, requests are paid and answered at the mean rates.
    per_h = 3600.0 * (rate_factor or 1.0) * workload.mean_rate_rps[:, None] * x
    usd_per_h = rent + (per_h * workload.request_usd).sum(axis=0)
    answers = [[shape.mean_output_tokens if shape else 0.0 for shape in r] for r in workload.shapes]
    tokens_per_h = (per_h * np.array(answers)).sum(axis=0)
    rows = tuple(
        DeployedPool(
            pool=p.name,
            model_name=p.pool.model_name,
            gpu=p.pool.gpu,
            tensor_parallel=p.pool.tensor_parallel,
            replicas=int(n[i]),
            n_gpus=float(gpus[i]),
            usd_per_h=round(float(rent[i]), 4),
        )
        for i, p in enumerate(case.pools)
        if n[i]
    )
    cost = round(float(rent.sum()) + s.hosted_usd_per_h, 4)
    predicted = Predicted(
        rate_rps=round(workload.total_rps, 6),
        class_rps={
            name: round(float(rate), 6)
            for name, rate in zip(workload.class_names, workload.rate_rps, strict=True)
        },
        rate_factor=rate_factor,
        cost_usd_per_h=cost,
        usd_per_million_output_tokens=_per_million(usd_per_h.sum(), tokens_per_h.sum()),
        quality=round(s.quality, 6),
        class_quality={
            c: round(float(q), 6)
            for c, q in zip(workload.class_names, s.class_quality, strict=True)
        },
        latency=tuple(
            LatencyFigure.model_validate(
                {
                    "class": f.class_name,
                    "metric": f.metric,
                    "statistic": f.statistic,
                    "ms": in_file(f.ms),
                    "low_ms": in_file(f.low_ms),
                    "high_ms": in_file(f.high_ms),
                    "at_most_ms": f.at_most_ms,
                    "origin": f.origin,
                }
            )
            for f in s.figures
        ),
        latency_ratio=_finite(s.latency_ratio),
        pools=tuple(
            PoolFigure(
                pool=name,
                utilisation_ratio=float(s.utilisation[i]),
                rate_rps=float(s.pool_rps[i]),
                output_tokens_per_s=float(s.output_tokens_per_s[i]),
                goodput_rps=float(s.goodput_rps[i]),
                usd_per_million_output_tokens=_per_million(usd_per_h[i], tokens_per_h[i]),
                extrapolated=s.extrapolated[i],
            )
            for i, name in enumerate(workload.pool_names)
            if n[i]
        ),
        mix_shift_ratio=0.0,
        origin="assumed",
    )
    used = {row.pool: row.replicas for row in rows}
    return Plan(
        title=inputs.question.title,
        complete=True,
        deployment=rows,
        routing=tuple(
            Route.model_validate({"class": c, "pool": p, "share": share})
            for (c, p), share in (shares or SHARES).items()
        ),
        prices=(
            Price(what=f"load:{BIG}", value=0.5, unit="quality per replica-second per second"),
        ),
        predicted=predicted,
        front=(
            FrontPoint(
                deployment=used,
                cost_usd_per_h=cost,
                quality=round(s.quality, 6),
                latency_ratio=_finite(s.latency_ratio),
                latency_ms=None if s.objective_ms is None else in_file(s.objective_ms),
                rate_factor=rate_factor,
                chosen=True,
            ),
        ),
        why=("it was written down by hand",),
        provenance=Provenance(
            rb_version=__version__,
            method="by hand",
            seed=0,
            effort="none",
            n_evaluations=1,
            inputs=inputs.hashes,
        ),
    )


def in_file(ms: float) -> float:
    """Returns a latency as a plan writes it: 0.1 ms, a day where it is beyond every table."""
    return round(min(ms, 86_400_000.0), 1)


def _per_million(usd_per_h: float, tokens_per_h: float) -> float | None:
    return round(1e6 * float(usd_per_h / tokens_per_h), 4) if tokens_per_h >= 1 else None


def _finite(ratio: float | None) -> float | None:
    return None if ratio is None else min(ratio, 1e6)


def _objective(inputs: Inputs):
    return inputs.question.latency_objective
