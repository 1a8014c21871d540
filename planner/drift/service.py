"""What users got, against what was promised and predicted: latency, failures, quality.

A limit on a percentile is judged by the share of answers above it, which the page counts exactly:
every limit of the plan is a bound of its histograms. A failed request is above every limit (§2).
What was predicted is judged by its band. The fuller the pools that answered, the more their
latencies vary together, and the more of them it takes (intervals.py). Quality samples have a mean
and nothing else, so their interval is that of right and wrong answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from planner.drift.finding import ALL, Finding
from planner.drift.flows import answers
from planner.drift.intervals import (
    Interval,
    dispersion_of,
    of_mean_ms,
    of_percentile_ms,
    of_share,
)
from planner.drift.observed import Cell, Latencies, Observed
from planner.drift.traffic import escalated_times
from planner.spec.base import Metric, tail_ratio
from planner.spec.plan import Routes
from planner.spec.question import Limit
from planner.spec.sheet import PredictedLatency, ServingSheet

ERROR_RATIO = 0.01
REFUSED_RATIO = 0.01
QUALITY = 0.02
FEWEST_ANSWERS = 30
BEYOND_MS = 86_400_000.0  # what stands for a latency beyond all tables


@dataclass(frozen=True)
class _Scope:
    """All traffic, or a class: what was seen of it, and how full the pools are that answered."""

    where: str
    cells: list[Cell]
    utilisation: float  # of the fullest
    n_running: float  # per replica of the one that runs most

    def latencies(self, metric: Metric) -> Latencies:
        return Latencies.of(cell.latency[metric] for cell in self.cells if metric in cell.latency)

    def dispersion(self, metric: Metric) -> float:
        return dispersion_of(metric, self.utilisation, self.n_running)


def latency_findings(
    observed: Observed, sheet: ServingSheet, utilisation: Mapping[str, float]
) -> Iterator[Finding]:
    """Yields every limit, then every predicted latency, of all traffic and of each class.

    Args:
        observed: what was seen.
        sheet: what was planned.
        utilisation: of each pool, with the traffic that was seen.
    """

    running = _running(observed, sheet)

    def scope(where: str, by_pool: Iterable[tuple[str, Cell]]) -> _Scope:
        found = list(by_pool)
        fullest = max((utilisation.get(pool, 0.0) for pool, _ in found), default=0.0)
        most = max((running.get(pool, 0.0) for pool, _ in found), default=0.0)
        return _Scope(where, [cell for _, cell in found], fullest, most)

    everywhere = ((pool, cell) for (_, pool), cell in observed.cells.items())
    scopes = [(scope(ALL, everywhere), sheet.limits, sheet.latency)]
    for name, each in sheet.classes.items():
        scopes.append((scope(name, observed.of_class(name).items()), each.limits, each.latency))
    for each_scope, limits, predicted in scopes:
        for limit in limits:
            yield _limit(each_scope, limit)
        for each_predicted in predicted:
            if each_predicted.ms < BEYOND_MS:
                yield _predicted(each_scope, each_predicted)


def _running(observed: Observed, sheet: ServingSheet) -> dict[str, float]:
    """Returns the mean number of requests that a replica of each pool runs at once (Little)."""
    found = dict.fromkeys(sheet.pools, 0.0)
    for (_, pool), cell in observed.cells.items():
        if pool in found and "e2e" in cell.latency:
            ran_s = cell.latency["e2e"].total_ms / 1000.0
            found[pool] += ran_s / observed.seconds / sheet.pools[pool].n_replicas
    return found


def _limit(scope: _Scope, limit: Limit) -> Finding:
    where, cells, dispersion = scope.where, scope.cells, scope.dispersion(limit.metric)
    seen, tail, at_ms = scope.latencies(limit.metric), limit.tail_ratio, limit.at_most_ms
    means = "the limit is missed"
    if tail is None:
        mean = of_mean_ms(seen, dispersion)
        return Finding("limit", where, limit.label, "ms", at_ms, mean, 0.0, at_ms, seen.n, means)
    n_ok = sum(cell.n_ok for cell in cells)
    # Of answers that are streamed, as many may have failed as of all.
    failed = sum(cell.n_error for cell in cells) * (seen.n / n_ok if n_ok > 0 else 1.0)
    at_least, at_most = seen.above_ms(at_ms)
    n, what = seen.n + failed, f"{limit.metric} above {_time(at_ms)}"
    low = of_share(at_least + failed, n, dispersion)
    high = of_share(at_most + failed, n, dispersion)
    late = Interval(low.value, low.low, high.high)
    return Finding("limit", where, what, "ratio", tail, late, 0.0, tail, n, means)


def _time(ms: float) -> str:
    return f"{ms:g} ms" if ms < 1000.0 else f"{ms / 1000.0:g} s"


def _predicted(scope: _Scope, predicted: PredictedLatency) -> Finding:
    latencies, tail = scope.latencies(predicted.metric), tail_ratio(predicted.statistic)
    dispersion = scope.dispersion(predicted.metric)
    if tail is None:
        seen = of_mean_ms(latencies, dispersion)
    else:
        seen = of_percentile_ms(latencies, 1.0 - tail, dispersion)
    if latencies.n < FEWEST_ANSWERS:
        seen = Interval(seen.value, 0.0, inf)
    slower = "slower" if seen.value > predicted.ms else "faster"
    means = f"{slower} than predicted: where load and lengths are as planned, profile anew"
    what = f"{predicted.statistic} {predicted.metric}"
    low_ms, high_ms = predicted.low_ms, predicted.high_ms
    return Finding(
        "latency", scope.where, what, "ms", predicted.ms, seen, low_ms, high_ms, latencies.n, means
    )


def failure_findings(observed: Observed, sheet: ServingSheet) -> Iterator[Finding]:
    """Yields the share of requests that failed, and of those that there was no room for."""
    for name in sheet.classes:
        cells = observed.of_class(name).values()
        n, failed = observed.n_routed(name), sum(c.n_error for c in cells)
        if n > 0:
            means = "requests fail: look at the instances"
            seen = of_share(failed, n)
            yield Finding("errors", name, "", "ratio", 0.0, seen, 0.0, ERROR_RATIO, n, means)
        full, offered = observed.n_overloaded.get(name, 0.0), observed.n_offered.get(name, 0.0)
        if full > 0:
            means = "more comes than the plan can carry"
            seen = of_share(full, offered)
            yield Finding(
                "refused", name, "", "ratio", 0.0, seen, 0.0, REFUSED_RATIO, offered, means
            )


def quality_findings(observed: Observed, sheet: ServingSheet, routes: Routes) -> Iterator[Finding]:
    """Yields the quality of each class on each pool, then of what has a floor, where sampled."""
    means_by_class: dict[str, Interval] = {}
    for name, each in sheet.classes.items():
        cells = {p: c for p, c in observed.of_class(name).items() if c.n_scores > 0}
        by_pool = {pool: of_share(c.score_sum, c.n_scores) for pool, c in cells.items()}
        for pool, seen in by_pool.items():
            # Of a cascade a pool's answers are those that were trusted, or those to the rest.
            if pool in each.answers and name not in routes.cascades:
                planned = each.answers[pool].quality
                yield _quality(f"{name} -> {pool}", planned, seen, cells[pool].n_scores)
        planned_parts = answers(routes, name, escalated_times(observed, routes, name))
        if planned_parts and planned_parts.keys() <= by_pool.keys():
            means_by_class[name] = _together(planned_parts, by_pool)
            if each.quality_at_least is not None:
                n = sum(c.n_scores for c in cells.values())
                yield _floor(name, each.quality_at_least, means_by_class[name], n)
    if sheet.quality_at_least is not None and means_by_class.keys() == sheet.classes.keys():
        parts = {name: max(each.rate_rps, 1e-9) for name, each in sheet.classes.items()}
        n = sum(cell.n_scores for cell in observed.cells.values())
        yield _floor(ALL, sheet.quality_at_least, _together(parts, means_by_class), n)


def _quality(where: str, planned: float, seen: Interval, n: float) -> Finding:
    better = "better" if seen.value > planned else "worse"
    means = f"answers are {better} than scored: evaluate the models anew"
    least, most = planned - QUALITY, planned + QUALITY
    return Finding("quality", where, "", "quality", planned, seen, least, most, n, means)


def _floor(where: str, floor: float, seen: Interval, n: float) -> Finding:
    means = "below the floor"
    return Finding("quality_floor", where, "", "quality", floor, seen, floor, 1.0, n, means)


def _together(parts: Mapping[str, float], means: Mapping[str, Interval]) -> Interval:
    """Returns a weighted mean of independent estimates; their errors add up in squares."""
    total = sum(parts.values())
    weight = {name: part / total for name, part in parts.items()}
    value = sum(w * means[name].value for name, w in weight.items())
    below = sum((w * (means[n].value - means[n].low)) ** 2 for n, w in weight.items()) ** 0.5
    above = sum((w * (means[n].high - means[n].value)) ** 2 for n, w in weight.items()) ** 0.5
    return Interval(value, max(value - below, 0.0), min(value + above, 1.0))
