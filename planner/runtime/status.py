"""What is served against what was planned: shares, rates, latencies, and how the instances are.

Notation
    n_b     answers in bucket b of a histogram, whose upper bound is u_b      1
    n       all of them, sum_b n_b                                            1
    q       the share of answers that a statistic leaves below it (p95: 0.95) 1

A limit "p95 at most L" holds where sum_{b: u_b > L} n_b <= (1 - q) n. L is a bound itself, so that
this is counted. The statistic that is shown beside it lies within its bucket, drawn linearly.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import msgspec

from planner.drift.flows import answers
from planner.runtime.metrics import (
    Bounds,
    Counts,
    Histogram,
    InstanceState,
    Pair,
    Report,
    bounds_of,
    plus,
)

if TYPE_CHECKING:
    from planner.runtime.setup import Setup
    from planner.spec.plan import PeriodRoutes, Routes
    from planner.spec.question import Limit

ALL = ""  # the name of all traffic, where a class has its name


@dataclass(frozen=True)
class Planned:
    """What the plan says of shares, rates and latencies.

    Args:
        shares: of a class that a pool answers in the end, by class and pool.
        rates_rps: by class; empty without a sheet.
        limits: by class, those over all traffic under "".
        predicted_ms: by class, metric and statistic.
    """

    plan_hash: str
    title: str
    shares: Mapping[Pair, float]
    rates_rps: Mapping[str, float]
    limits: Mapping[str, Sequence[Limit]]
    predicted_ms: Mapping[tuple[str, str, str], float]

    @property
    def limits_ms(self) -> Iterator[tuple[str, float]]:
        """Yields the metric and the bound of every limit."""
        for limits in self.limits.values():
            yield from ((limit.metric, limit.at_most_ms) for limit in limits)


def planned_of(setup: Setup, hour: float = 0.0) -> Planned:
    """Returns what the plan of a setup says; without a sheet that is its shares alone.

    Args:
        setup: what is served.
        hour: of a plan with periods, counted from the first of any round. Of other periods than
            that of the sheet, the plan's rates and latencies are not known here.
    """
    sheet, period = setup.sheet, period_at(setup.routes, hour)
    shares = planned_shares(period or setup.routes)
    if sheet is None:
        return Planned(setup.routes.plan_hash, "", shares, {}, {}, {})
    classes = sheet.classes
    is_of_sheet = period is None or period.name == sheet.period
    figures = {ALL: sheet.latency, **{name: each.latency for name, each in classes.items()}}
    predicted_ms: dict[tuple[str, str, str], float] = {
        (name, f.metric, f.statistic): f.ms for name, found in figures.items() for f in found
    }
    return Planned(
        plan_hash=setup.routes.plan_hash,
        title=sheet.title,
        shares=shares,
        rates_rps={n: each.rate_rps for n, each in classes.items()} if is_of_sheet else {},
        limits={ALL: sheet.limits, **{name: each.limits for name, each in classes.items()}},
        predicted_ms=predicted_ms if is_of_sheet else {},
    )


def period_at(routes: Routes, hour: float) -> PeriodRoutes | None:
    """Returns the period of an hour of any round; None for a plan without periods."""
    if not routes.periods:
        return None
    since = hour % max(period.end_h for period in routes.periods)
    within = (p for p in routes.periods if p.start_h <= since < p.end_h)
    return next(within, routes.periods[0])


def planned_shares(routes: Routes | PeriodRoutes) -> dict[Pair, float]:
    """Returns the share of each class that each pool answers in the end, cascades included."""
    return {
        (name, pool): share
        for name in dict.fromkeys((*routes.classes, *routes.cascades))
        for pool, share in answers(routes, name).items()
    }


# ---- What is told --------------------------------------------------------------------------------


class PoolShare(msgspec.Struct):
    """What of a class came to one pool in the end, answered there or not."""

    pool: str
    planned_share: float | None
    share: float | None  # of the recent requests; None: there are none
    share_since_start: float | None


class LimitStatus(msgspec.Struct):
    """One limit, and how the recent answers keep it."""

    metric: str
    statistic: str
    at_most_ms: float
    predicted_ms: float | None
    ms: float | None  # None: no answer came that it is about
    n_answers: int
    above_ratio: float | None  # of the answers, above the limit
    is_met: bool | None


class ClassStatus(msgspec.Struct):
    """One class: its recent requests against the plan."""

    class_name: str | None = msgspec.field(name="class")  # None: of requests that told none
    planned_rps: float | None
    rate_rps: float
    n_since_start: int
    n_ok: int
    n_error: int
    n_cancelled: int
    n_refused: int
    n_escalated: int
    score: float | None  # mean of the quality samples since the start
    n_scores: int
    pools: list[PoolShare]
    limits: list[LimitStatus]


class Status(msgspec.Struct):
    """How a plan is being served, by all workers together."""

    plan_hash: str
    title: str
    up_s: float
    recent_s: float  # what is called recent was counted in about so long
    n_workers: int
    is_draining: bool
    rate_rps: float
    planned_rps: float | None
    classes: list[ClassStatus]
    limits: list[LimitStatus]  # over all traffic
    instances: list[InstanceState]
    prices: dict[str, float]
    retries: dict[str, int]  # since the start, "pool: why"
    refused: dict[str, int]  # since the start, by why
    reloads: dict[str, int]
    n_log_lines_lost: int


encode_status = msgspec.json.Encoder().encode
decode_status = msgspec.json.Decoder(Status).decode


def status_of(reports: Sequence[Report], planned: Planned) -> Status:
    """Returns how a plan is being served, of what each worker tells (at least one)."""
    bounds = bounds_of(planned.limits_ms)
    # In the moment of a reload, a worker that still counts for the other plan is left out.
    alike = [r for r in reports if (r.plan_hash, r.bounds) == (planned.plan_hash, bounds)]
    total = reduce(plus, (r.total for r in alike), Counts())
    recent = reduce(plus, (r.recent for r in alike), Counts())
    recent_s = max(r.recent_s for r in reports)
    seen = _Seen(total, recent, recent_s, bounds, planned)
    classes = [seen.of_class(name) for name in seen.class_names()]
    rates = planned.rates_rps
    return Status(
        plan_hash=planned.plan_hash,
        title=planned.title,
        up_s=max(r.scraped_s - r.started_s for r in reports),
        recent_s=recent_s,
        n_workers=len(reports),
        is_draining=any(r.is_draining for r in reports),
        rate_rps=sum(each.rate_rps for each in classes),
        planned_rps=sum(rates.values()) if rates else None,
        classes=classes,
        limits=seen.limits(ALL),
        instances=_instances(reports),
        prices=reports[0].prices,
        retries={f"{pool}: {why}": n for (pool, why), n in sorted(total.retries.items())},
        refused=_summed((why, n) for (_, why), n in sorted(total.refused.items())),
        reloads=total.reloads,
        n_log_lines_lost=sum(r.n_log_lines_lost for r in reports),
    )


@dataclass(frozen=True)
class _Seen:
    """The counts of all workers, beside the plan."""

    total: Counts
    recent: Counts
    recent_s: float
    bounds: Bounds
    planned: Planned

    def class_names(self) -> list[str]:
        """Returns the classes of the plan, then those that only requests know."""
        names = dict.fromkeys(name for name, _ in self.planned.shares)
        names.update(dict.fromkeys(key[0] for key in sorted(self.total.rows)))
        names.update(dict.fromkeys(name for name, _ in sorted(self.total.refused)))
        return list(names)

    def of_class(self, name: str) -> ClassStatus:
        rows = [row for key, row in self.recent.rows.items() if key[0] == name]
        n_ok, n_error = sum(row.n_ok for row in rows), sum(row.n_error for row in rows)
        n_cancelled = sum(row.n_cancelled for row in rows)
        n_refused = _of_class(self.recent.refused, name)
        n_recent = n_ok + n_error + n_cancelled + n_refused
        scores = [each for (of, _), each in self.total.scores.items() if of == name]
        n_scores = sum(each.n for each in scores)
        return ClassStatus(
            class_name=name or None,
            planned_rps=self.planned.rates_rps.get(name),
            rate_rps=n_recent / self.recent_s if self.recent_s > 0 else 0.0,
            n_since_start=sum(_answered(self.total, name).values())
            + _of_class(self.total.refused, name),
            n_ok=n_ok,
            n_error=n_error,
            n_cancelled=n_cancelled,
            n_refused=n_refused,
            n_escalated=self.recent.escalations.get(name, 0),
            score=sum(each.score for each in scores) / n_scores if n_scores else None,
            n_scores=n_scores,
            pools=self._pools(name),
            limits=self.limits(name) if name else [],
        )

    def _pools(self, name: str) -> list[PoolShare]:
        planned = {pool: share for (of, pool), share in self.planned.shares.items() if of == name}
        since, recent = _answered(self.total, name), _answered(self.recent, name)
        n_since, n_recent = sum(since.values()), sum(recent.values())
        return [
            PoolShare(
                pool=pool,
                planned_share=planned.get(pool, 0.0) if planned else None,
                share=recent.get(pool, 0) / n_recent if n_recent else None,
                share_since_start=since.get(pool, 0) / n_since if n_since else None,
            )
            for pool in dict.fromkeys([*planned, *sorted(since)])
            if pool
        ]

    def limits(self, name: str) -> list[LimitStatus]:
        """Returns the limits of a class, or over all traffic, against the recent answers."""
        found = []
        for limit in self.planned.limits.get(name, ()):
            bounds_s: tuple[float, ...] = getattr(self.bounds, f"{limit.metric}_s")
            histogram = self._histogram(name, limit.metric, len(bounds_s) + 1)
            at_s, tail = limit.at_most_ms / 1000.0, limit.tail_ratio
            q, n = None if tail is None else 1.0 - tail, sum(histogram.counts)
            value_s = statistic_s(bounds_s, histogram, q)
            above = above_ratio(bounds_s, histogram, at_s)
            is_met = None if value_s is None else value_s <= at_s
            if tail is not None and above is not None:
                is_met = above <= tail + 1e-12
            key = name, limit.metric, limit.statistic
            found.append(
                LimitStatus(
                    metric=limit.metric,
                    statistic=limit.statistic,
                    at_most_ms=limit.at_most_ms,
                    predicted_ms=self.planned.predicted_ms.get(key),
                    ms=None if value_s is None else 1000.0 * value_s,
                    n_answers=n,
                    above_ratio=above,
                    is_met=is_met,
                )
            )
        return found

    def _histogram(self, name: str, metric: str, n_buckets: int) -> Histogram:
        total = Histogram([0] * n_buckets)
        for key, row in self.recent.rows.items():
            if name in (ALL, key[0]):
                each: Histogram = getattr(row, metric)
                total.counts = [a + b for a, b in zip(total.counts, each.counts, strict=True)]
                total.sum_s += each.sum_s
        return total


def _answered(counts: Counts, name: str) -> dict[str, int]:
    """Returns how many requests of a class ended at each pool; "" where none was reached."""
    return _summed(
        (key[1], row.n_ok + row.n_error + row.n_cancelled)
        for key, row in counts.rows.items()
        if key[0] == name
    )


def _of_class(refused: Mapping[Pair, int], name: str) -> int:
    return sum(n for (of, _), n in refused.items() if of == name)


def _summed(items: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for name, n in items:
        total[name] = total.get(name, 0) + n
    return total


# ---- Of a histogram ------------------------------------------------------------------------------


def above_ratio(bounds_s: tuple[float, ...], seen: Histogram, at_s: float) -> float | None:
    """Returns the share of values above one of the bounds; None where there are no values."""
    n = sum(seen.counts)
    return sum(seen.counts[bisect_left(bounds_s, at_s) + 1 :]) / n if n else None


def statistic_s(bounds_s: tuple[float, ...], seen: Histogram, q: float | None) -> float | None:
    """Returns the value in seconds below which the share q lies; the mean where q is None.

    Values above the last bound count as if they were just there; None where there are no values.
    """
    n = sum(seen.counts)
    if not n:
        return None
    if q is None:
        return seen.sum_s / n
    rank, below = q * n, 0
    for place, count in enumerate(seen.counts[:-1]):
        if count and below + count >= rank:
            low = bounds_s[place - 1] if place else 0.0
            return low + (bounds_s[place] - low) * (rank - below) / count
        below += count
    return bounds_s[-1]


# ---- Instances -----------------------------------------------------------------------------------


def _instances(reports: Sequence[Report]) -> list[InstanceState]:
    """Returns each instance as the workers see it together.

    What is in flight is counted by each worker for itself; an instance is as bad as the worker
    thinks that thinks worst of it; what the engine tells of itself is the same for all.
    """
    merged: dict[str, InstanceState] = {}
    for report in reports:
        for seen in report.instances:
            had = merged.get(seen.instance)
            merged[seen.instance] = seen if had is None else _together(had, seen)
    return list(merged.values())


def _together(one: InstanceState, other: InstanceState) -> InstanceState:
    worse = other if one.up and not other.up else one
    return msgspec.structs.replace(worse, n_in_flight=one.n_in_flight + other.n_in_flight)
