"""Plans of any size to be drawn, and drawings read back: boxes of words, values at places."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations

import numpy as np
from hand_plan import ROOT

from planner.files.plans import need_plan
from planner.report.drawing.marks import Drawing, Label
from planner.report.drawing.text import left_of, right_of
from planner.spec.plan import (
    CascadeRoute,
    DeployedPool,
    FrontPoint,
    LatencyFigure,
    PeriodPlan,
    PeriodsPlan,
    Plan,
    PoolFigure,
    Route,
    SimulatedFigure,
)

DEMO = ROOT / "tests" / "demo_plan"


@cache
def demo() -> Plan:
    """The plan of plans/demo as `rb plan` wrote it."""
    return need_plan(DEMO)


def named(kind: str, k: int) -> str:
    """Names that differ in length: every third is as long as names may get in practice."""
    return f"{kind}-{k}" + "-with-a-name-that-nobody-can-read-at-a-glance" * (k % 3 == 2)


@cache
def plan_of(n_classes: int, n_pools: int, seed: int = 0) -> Plan:
    """A plan of so many classes and pools whose figures follow from its routes."""
    random = np.random.default_rng(seed)
    classes = [named("class", k) for k in range(n_classes)]
    pools = [named("pool", k) for k in range(n_pools)]
    rates = {
        c: round(float(r), 6)
        for c, r in zip(classes, random.lognormal(1, 1.2, n_classes), strict=True)
    }
    shares = _shares(random, n_classes, n_pools)
    loads = np.array(list(rates.values())) @ shares
    routing = tuple(
        Route.model_validate({"class": c, "pool": p, "share": float(shares[i, j])})
        for i, c in enumerate(classes)
        for j, p in enumerate(pools)
        if shares[i, j] > 0
    )
    plan = demo()
    predicted = plan.predicted.model_copy(
        update={
            "rate_rps": sum(rates.values()),
            "class_rps": rates,
            "class_quality": dict.fromkeys(classes, 0.5),
            "pools": tuple(_pool_figure(p, r, random) for p, r in zip(pools, loads, strict=True)),
            "latency": tuple(_limit(c, random) for c in classes),
        }
    )
    simulated = plan.simulated.model_copy(
        update={"latency": tuple(_seen(f, random) for f in predicted.latency)}
    )
    return plan.model_copy(
        update={
            "deployment": tuple(_deployed(p, k) for k, p in enumerate(pools)),
            "routing": routing,
            "predicted": predicted,
            "simulated": simulated,
            "front": tuple(_point(k, pools, random) for k in range(max(n_pools, 2))),
        }
    )


def _shares(random, n_classes, n_pools):
    raw = random.random((n_classes, n_pools)) ** 4
    raw[raw < 0.05] = 0.0
    raw[np.arange(n_classes), np.arange(n_classes) % n_pools] += 0.5
    whole = np.floor(1e6 * raw / raw.sum(axis=1, keepdims=True))
    whole[np.arange(n_classes), whole.argmax(axis=1)] += 1e6 - whole.sum(axis=1)
    return whole / 1e6


def _pool_figure(pool, rate_rps, random):
    return PoolFigure(
        pool=pool,
        utilisation_ratio=round(float(random.uniform(0.05, 1.1)), 6),
        rate_rps=float(rate_rps),
        output_tokens_per_s=1.0,
        goodput_rps=float(rate_rps),
        usd_per_million_output_tokens=1.0,
        extrapolated=bool(random.random() < 0.3),
    )


def _limit(name, random):
    allowed = float(random.choice([60.0, 2000.0, 10_000.0, 120_000.0]))
    ms = round(allowed * float(random.uniform(0.2, 1.2)), 1)
    return LatencyFigure.model_validate(
        {"class": name, "metric": "e2e", "statistic": "p95", "ms": ms, "at_most_ms": allowed,
         "low_ms": round(0.8 * ms, 1), "high_ms": round(1.2 * ms, 1), "origin": "measured"}
    )  # fmt: skip


def _seen(figure, random):
    ms = round(figure.ms * float(random.uniform(0.9, 1.1)), 1)
    low, high = round(0.95 * ms, 1), round(1.05 * ms, 1)
    allowed = figure.at_most_ms
    verdict = "met" if high <= allowed else "missed" if low > allowed else "too close to call"
    return SimulatedFigure.model_validate(
        {"class": figure.class_name, "metric": figure.metric, "statistic": figure.statistic,
         "ms": ms, "low_ms": low, "high_ms": high, "at_most_ms": allowed, "verdict": verdict}
    )  # fmt: skip


def _deployed(pool, k):
    return DeployedPool(
        pool=pool,
        model_name=f"model-{k % 4}",
        gpu="h100-sxm-80g",
        tensor_parallel=1,
        replicas=1 + k % 5,
        n_gpus=1.0 + k % 5,
        usd_per_h=3.0,
    )


def _point(k, pools, random):
    quality = round(0.5 + 0.3 * (1 - math.exp(-k / 5)) + 0.01 * float(random.random()), 6)
    best = round(quality + 0.02 * float(random.random()), 6)
    return FrontPoint(
        deployment={pools[k % len(pools)]: k + 1},
        cost_usd_per_h=round(20.0 + 15.0 * k + 5 * float(random.random()), 4),
        quality=quality,
        latency_ratio=round(float(random.uniform(0.4, 1.0)), 6),
        latency_ms=None,
        best_possible=best,
        gap_ratio=round(best / quality - 1, 6),
        chosen=k == 0,
    )


def with_cascade(plan: Plan) -> Plan:
    """The plan with half of its first class sent through a cascade of its first two pools."""
    name = plan.routing[0].class_name
    first, second = (row.pool for row in plan.deployment[:2])
    routing = tuple(
        r.model_copy(update={"share": r.share / 2}) if r.class_name == name else r
        for r in plan.routing
    )
    cascade = CascadeRoute.model_validate(
        {"class": name, "share": 0.5, "signal": "length", "below": -800.0, "quality": 0.6,
         "escalated_ratio": 0.4, "first": [{"pool": first, "share": 1.0}],
         "second": [{"pool": second, "share": 1.0}]}
    )  # fmt: skip
    return plan.model_copy(update={"routing": routing, "cascades": (cascade,)})


def with_periods(plan: Plan, n_hours: int = 24) -> Plan:
    """The plan as that of a day: traffic, replicas and money rise and fall with the hour."""
    each = tuple(_period(plan, h) for h in range(n_hours))
    total = sum(p.paid_usd_per_h for p in each)
    periods = PeriodsPlan(
        n_hours=n_hours,
        repeats=True,
        usd_per_replica_change=0.0,
        total_usd=total,
        reserved_usd=0.0,
        by_the_hour_usd=total,
        hosted_usd=0.0,
        changes_usd=0.0,
        cost_usd_per_h=total / n_hours,
        held_usd=70.0 * n_hours,
        reserved=(),
        bound=None,
        busiest=max(each, key=lambda p: p.predicted.rate_rps).name,
        each=each,
    )
    return plan.model_copy(update={"periods": periods})


def _period(plan, hour):
    part = 0.55 - 0.45 * math.cos(2 * math.pi * (hour - 3) / 24)
    deployment = tuple(
        row.model_copy(update={"replicas": max(1, math.ceil(part * row.replicas * 2))})
        for row in plan.deployment
    )
    rate_rps = round(part * plan.predicted.rate_rps, 6)
    return PeriodPlan(
        name=f"{hour:02d}-{hour + 1:02d}",
        start_h=hour,
        end_h=hour + 1,
        n_changes=0,
        paid_usd_per_h=round(20 + 60 * part, 4),
        deployment=deployment,
        routing=plan.routing,
        prices=(),
        predicted=plan.predicted.model_copy(update={"rate_rps": rate_rps}),
    )


def labels(drawing: Drawing) -> list[Label]:
    """Every label of a drawing."""
    return [mark for mark in drawing.leaves() if isinstance(mark, Label)]


def box(label: Label) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a label's letters, in px."""
    return left_of(label), label.y - 0.73 * label.size, right_of(label), label.y + 0.22 * label.size


def overlapping(drawing: Drawing) -> list[tuple[str, str]]:
    """Pairs of labels that lie on each other."""
    boxes = [(label.text, box(label)) for label in labels(drawing)]
    return [
        (a, b)
        for (a, p), (b, q) in combinations(boxes, 2)
        if p[0] < q[2] and q[0] < p[2] and p[1] < q[3] and q[1] < p[3]
    ]


def outside(drawing: Drawing, slack: float = 0.5) -> list[str]:
    """Labels that leave the drawing."""
    return [
        label.text
        for label in labels(drawing)
        for left, top, right, bottom in [box(label)]
        if left < -slack
        or top < -slack
        or right > drawing.width + slack
        or bottom > drawing.height + slack
    ]
