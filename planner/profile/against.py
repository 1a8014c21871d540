"""Drift of the prediction: a later measurement against what a plan's profiles predicted.

figure    measured / predicted at the measurement's own load and shape, and whether it lies in
          the nominal 90 % band of the LatencyModel that the plan was made with
metric    slower (faster) when more than half of its figures lie outside on that side: of
          figures that are right, one in ten lies outside by chance
pool      slower when any metric is, else faster when any metric is, else within
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from planner.errors import Fault, InputError
from planner.latency.model import LatencyModel
from planner.latency.predict import Figure, figures
from planner.profile.review import condition_of
from planner.spec.base import METRICS, STATISTICS
from planner.spec.plan import Plan
from planner.spec.pool import Point

Verdict = Literal["within", "slower", "faster"]

THROUGHPUT = "throughput"
_COLUMNS: dict[str, tuple[str, ...]] = {
    THROUGHPUT: ("output_tokens_per_s",),
    **{m: tuple(f"{m}_{s}_ms" for s in STATISTICS) for m in METRICS},
}
_ADVICE: dict[Verdict, str] = {
    "within": "the prediction holds, the plan needs nothing",
    "slower": "import these results without --against and plan again: limits may be missed",
    "faster": "import these results without --against and plan again: it may take fewer GPUs",
}


@dataclass(frozen=True)
class Compared:
    """One figure of one measured load and what was predicted there, in the unit of its column."""

    metric: str
    column: str
    measured: float
    predicted: float
    low: float
    high: float
    extrapolated: bool

    @property
    def measured_ratio(self) -> float:
        """Returns measured over predicted."""
        return self.measured / self.predicted

    @property
    def verdict(self) -> Verdict:
        """Returns where the measured figure lies; more throughput is faster, more ms slower."""
        if self.low <= self.measured <= self.high:
            return "within"
        return "faster" if (self.measured > self.high) == (self.metric == THROUGHPUT) else "slower"


@dataclass(frozen=True)
class ComparedLoad:
    """One measured load of one replica with its figures that were predicted."""

    point: Point
    figures: tuple[Compared, ...]


@dataclass(frozen=True)
class MetricDrift:
    """How one metric came out over all loads."""

    metric: str
    n_figures: int
    n_within: int
    measured_ratio: float  # median of measured over predicted
    verdict: Verdict


@dataclass(frozen=True)
class PlannedLoad:
    """What the plan says that one replica of a pool does, and the measured load nearest to it."""

    replicas: int
    rate_rps: float  # of one replica
    output_tokens_per_s: float  # of one replica
    utilisation_ratio: float
    extrapolated: bool
    nearest: Point | None  # the measured load with the nearest output tokens/s


@dataclass(frozen=True)
class PoolDrift:
    """How the prediction for one pool came out."""

    pool: str
    verdict: Verdict
    advice: str
    metrics: tuple[MetricDrift, ...]
    loads: tuple[ComparedLoad, ...]
    n_not_judged: int  # loads beyond what the profile can predict (§8)
    planned: PlannedLoad


def compare(
    plan: Plan, models: Mapping[str, LatencyModel], measured: Mapping[str, Sequence[Point]]
) -> tuple[PoolDrift, ...]:
    """Returns how the predictions of a plan came out, one entry per measured pool.

    Args:
        plan: what was planned.
        models: the latency models of the plan's profiles, by pool.
        measured: the new points of one replica, by pool.

    Raises:
        InputError: a pool is not deployed by the plan, or none of its loads can be predicted.
    """
    faults = list(_not_deployed(plan, measured))
    if faults:
        raise InputError(faults)
    drifts = [_drift(plan, models[pool], pool, points) for pool, points in measured.items()]
    faults = [_nothing_predicted(d.pool) for d in drifts if not d.metrics]
    if faults:
        raise InputError(faults)
    return tuple(drifts)


def changed_since(plan: Plan, hashes: Mapping[str, str], pools: Sequence[str]) -> list[Fault]:
    """Returns a fault for each pool whose profile is not the one that the plan was made with (§7).

    Args:
        plan: what was planned, with the hashes of its inputs.
        hashes: of the profiles as they are now, by logical name.
        pools: which pools matter.
    """
    then = plan.provenance.inputs
    names = {name for name in (*then, *hashes) if name.split("/")[1:2] and name.count("/") == 2}
    return [
        Fault(
            name,
            "",
            "is not what the plan was made with, got another hash",
            "plan again first, or give the profiles of that time with --profiles",
        )
        for name in sorted(names)
        if name.split("/")[1] in pools and then.get(name) != hashes.get(name)
    ]


def _drift(plan: Plan, model: LatencyModel, pool: str, points: Sequence[Point]) -> PoolDrift:
    loads = [ComparedLoad(point, tuple(_compared(model, point))) for point in points]
    judged = tuple(load for load in loads if load.figures)
    metrics = tuple(_metrics([f for load in judged for f in load.figures]))
    verdicts = [metric.verdict for metric in metrics]
    verdict: Verdict = next((v for v in _WORST_FIRST if v in verdicts), "within")
    planned = _planned(plan, pool, points)
    n_beyond = len(loads) - len(judged)
    return PoolDrift(pool, verdict, _ADVICE[verdict], metrics, judged, n_beyond, planned)


_WORST_FIRST: tuple[Verdict, ...] = ("slower", "faster", "within")


def _compared(model: LatencyModel, point: Point) -> Iterator[Compared]:
    """Yields the measured figures of a point that are predicted at its load and shape."""
    at = condition_of(point)
    predicted = {} if at is None else figures(model, at)
    for metric, columns in _COLUMNS.items():
        for column in columns:
            value, figure = getattr(point, column), predicted.get(column)
            # A figure without a band follows from the load itself and says nothing of the pool.
            if value is not None and figure is not None and figure.low < figure.high:
                yield _one(metric, column, value, figure)


def _one(metric: str, column: str, measured: float, at: Figure) -> Compared:
    return Compared(metric, column, measured, at.value, at.low, at.high, at.extrapolated)


def _metrics(compared: Sequence[Compared]) -> Iterator[MetricDrift]:
    """Yields the verdict on each metric that was measured and predicted."""
    for metric in _COLUMNS:
        own = [figure for figure in compared if figure.metric == metric]
        if not own:
            continue
        verdicts = [figure.verdict for figure in own]
        verdict: Verdict = next(
            (v for v in _WORST_FIRST if verdicts.count(v) > len(own) / 2), "within"
        )
        ratio = median(figure.measured_ratio for figure in own)
        yield MetricDrift(metric, len(own), verdicts.count("within"), ratio, verdict)


def _planned(plan: Plan, pool: str, points: Sequence[Point]) -> PlannedLoad:
    """Returns what the plan says of one replica of a pool that it deploys."""
    replicas = next(d.replicas for d in plan.deployment if d.pool == pool)
    figure = next((f for f in plan.predicted.pools if f.pool == pool), None)
    if figure is None:
        return PlannedLoad(replicas, 0.0, 0.0, 0.0, False, None)
    tokens_per_s = figure.output_tokens_per_s / replicas
    known = [(abs(_tokens_per_s(p) - tokens_per_s), n) for n, p in enumerate(points)]
    return PlannedLoad(
        replicas=replicas,
        rate_rps=figure.rate_rps / replicas,
        output_tokens_per_s=tokens_per_s,
        utilisation_ratio=figure.utilisation_ratio,
        extrapolated=figure.extrapolated,
        nearest=points[min(known)[1]] if known else None,
    )


def _tokens_per_s(point: Point) -> float:
    """Returns the output tokens/s of a point, infinite where neither they nor a rate are known."""
    if point.output_tokens_per_s is not None:
        return point.output_tokens_per_s
    rate_rps = point.achieved_rps or point.offered_rps
    return float("inf") if rate_rps is None else rate_rps * point.output_tokens


def _not_deployed(plan: Plan, measured: Mapping[str, Sequence[Point]]) -> Iterator[Fault]:
    """Yields a fault for each measured pool that the plan does not use, or that has no point."""
    deployed = [d.pool for d in plan.deployment]
    for pool, points in measured.items():
        if pool not in deployed:
            fix = f"its pools are: {', '.join(deployed)}"
            yield Fault("plan.json", "deployment", f"does not use this pool, got {pool}", fix)
        if not points:
            what = f"capacities alone judge no prediction, got no points of {pool}"
            yield Fault("import", "files", what, "give results with latencies")


def _nothing_predicted(pool: str) -> Fault:
    what = f"no measured load of {pool} is within what its profile predicts, got none to judge"
    return Fault("import", "files", what, "measure at loads up to twice those of its profile")
