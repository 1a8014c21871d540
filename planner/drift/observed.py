"""What was seen of the traffic: arrivals, lengths, latencies, answers, class by class.

Notation (of one class on one pool, n answers whose tokens are known)
    sum, squares   of their tokens                        tokens, tokens^2
    mean = sum/n   cv = sqrt(squares/n - mean^2) / mean   tokens, 1
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import TypeVar

from planner.drift.page import Page
from planner.drift.page import since as _since
from planner.spec.base import METRICS, Metric

K = TypeVar("K")

UNKNOWN = ""
"""The class of requests that nothing told, and the pool of those that nobody was asked."""

OVERLOADED = "capacity"
"""Why a request is refused for which the plan has no room; all others asked for what is not."""

HISTOGRAMS: dict[Metric, str] = {
    "e2e": "gen_ai_server_request_duration_seconds",
    "ttft": "gen_ai_server_time_to_first_token_seconds",
    "tpot": "gen_ai_server_time_per_output_token_seconds",
}


@dataclass(frozen=True)
class Lengths:
    """How long n prompts or answers were, in tokens."""

    n: float
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """Returns the mean length in tokens, 0 of none."""
        return self.total / self.n if self.n > 0 else 0.0

    @property
    def cv(self) -> float:
        """Returns the coefficient of variation of the lengths."""
        if self.mean <= 0:
            return 0.0
        return sqrt(max(self.squares / self.n - self.mean**2, 0.0)) / self.mean

    @staticmethod
    def of(parts: Iterable[Lengths]) -> Lengths:
        """Returns the lengths of several parts together."""
        known = list(parts)
        return Lengths(
            sum(p.n for p in known), sum(p.total for p in known), sum(p.squares for p in known)
        )


@dataclass(frozen=True)
class Latencies:
    """A histogram of latencies: how many lie above each bound, bounds ascending, in ms."""

    bounds_ms: tuple[float, ...]
    above: tuple[float, ...]  # as many as bounds
    n: float
    total_ms: float

    def above_ms(self, at_ms: float) -> tuple[float, float]:
        """Returns at least and at most how many exceeded a time; the same at a bound."""
        at_least, at_most = 0.0, self.n
        for bound_ms, above in zip(self.bounds_ms, self.above, strict=True):
            if bound_ms >= at_ms * (1.0 - 1e-9):
                at_least = max(at_least, above)
            if bound_ms <= at_ms * (1.0 + 1e-9):
                at_most = min(at_most, above)
        return at_least, at_most

    def edges_ms(self, rank: float) -> tuple[float, float]:
        """Returns the bounds between which the value of a rank lies, 0 < rank <= n from below."""
        low_ms = 0.0
        for bound_ms, above in zip(self.bounds_ms, self.above, strict=True):
            if self.n - above >= rank:
                return low_ms, bound_ms
            low_ms = bound_ms
        return low_ms, inf

    @staticmethod
    def of(parts: Iterable[Latencies]) -> Latencies:
        """Returns several histograms added; those with other bounds are cut at common ones."""
        known = [part for part in parts if part.n > 0]
        if not known:
            return Latencies((), (), 0.0, 0.0)
        common = set.intersection(*(set(part.bounds_ms) for part in known))
        bounds = tuple(sorted(common))
        tables = [dict(zip(part.bounds_ms, part.above, strict=True)) for part in known]
        above = tuple(sum(table[bound] for table in tables) for bound in bounds)
        return Latencies(bounds, above, sum(p.n for p in known), sum(p.total_ms for p in known))


@dataclass(frozen=True)
class Cell:
    """What was seen of one class on one pool."""

    n_ok: float = 0.0
    n_error: float = 0.0
    n_cancelled: float = 0.0
    input_tokens: Lengths = Lengths(0.0, 0.0, 0.0)
    output_tokens: Lengths = Lengths(0.0, 0.0, 0.0)
    n_scores: float = 0.0
    score_sum: float = 0.0
    latency: Mapping[Metric, Latencies] = field(default_factory=dict)

    @property
    def n_routed(self) -> float:
        """Returns the requests that went there, whatever became of them."""
        return self.n_ok + self.n_error + self.n_cancelled


@dataclass(frozen=True)
class Observed:
    """What was seen of all traffic in some time."""

    seconds: float
    plan_hashes: tuple[str, ...]
    n_offered: Mapping[str, float]  # by class: requests that made sense, room for them or not
    n_overloaded: Mapping[str, float]  # by class: of them, refused for want of room
    n_escalated: Mapping[str, float]  # by class: asked of a cascade's second model, too
    cells: Mapping[tuple[str, str], Cell]  # by class and pool
    source: str

    @property
    def n_requests(self) -> float:
        """Returns how many requests came."""
        return sum(self.n_offered.values())

    def n_routed(self, class_name: str) -> float:
        """Returns how many requests of a class went to a pool."""
        return sum(cell.n_routed for cell in self.of_class(class_name).values())

    def of_class(self, name: str) -> dict[str, Cell]:
        """Returns what was seen of a class, by pool."""
        return {pool: cell for (found, pool), cell in self.cells.items() if found == name}


def observe(page: Page, earlier: Page | None = None) -> Observed:
    """Returns what a page tells of the traffic, of all its time or of that since an earlier one.

    Raises:
        InputError: the page is not later than the earlier one.
    """
    counted = page if earlier is None else _since(page, earlier)
    by_outcome = _sums(counted, "rb_requests_total", lambda m: (_class(m), m.get("outcome", "")))
    refused = _sums(counted, "rb_refused_total", lambda m: (_class(m), m.get("why", "")))
    overloaded = {name: n for (name, why), n in refused.items() if why == OVERLOADED}
    offered = defaultdict[str, float](float, overloaded)
    for (name, outcome), n in by_outcome.items():
        if outcome != "refused":
            offered[name] += n
    return Observed(
        seconds=counted.seconds,
        plan_hashes=counted.plan_hashes,
        n_offered=dict(offered),
        n_overloaded=overloaded,
        n_escalated=_sums(counted, "rb_escalations_total", _class),
        cells=_cells(counted),
        source=counted.source,
    )


def _cells(page: Page) -> dict[tuple[str, str], Cell]:
    """Returns what was seen of each class on each pool."""

    def by_pool(name: str) -> dict[tuple[str, str], float]:
        return _sums(page, name, _place)

    outcomes = _sums(page, "rb_requests_total", lambda m: (*_place(m), m.get("outcome", "")))
    answers = by_pool("rb_answers_with_usage_total")
    tokens = {
        side: (by_pool(f"rb_{side}_tokens_total"), by_pool(f"rb_{side}_tokens_squared_total"))
        for side in ("input", "output")
    }
    samples, scores = by_pool("rb_quality_samples_total"), by_pool("rb_quality_score_total")
    latency = {metric: _latencies(page, name) for metric, name in HISTOGRAMS.items()}
    places = {(name, pool) for name, pool, _ in outcomes} | answers.keys() | samples.keys()

    def lengths(side: str, at: tuple[str, str]) -> Lengths:
        total, squares = tokens[side]
        return Lengths(answers.get(at, 0.0), total.get(at, 0.0), squares.get(at, 0.0))

    return {
        at: Cell(
            n_ok=outcomes.get((*at, "ok"), 0.0),
            n_error=outcomes.get((*at, "error"), 0.0),
            n_cancelled=outcomes.get((*at, "cancelled"), 0.0),
            input_tokens=lengths("input", at),
            output_tokens=lengths("output", at),
            n_scores=samples.get(at, 0.0),
            score_sum=scores.get(at, 0.0),
            latency={m: latency[m][at] for m in METRICS if at in latency[m]},
        )
        for at in sorted(places)
        if at[1] != UNKNOWN
    }


def _class(labels: Mapping[str, str]) -> str:
    return labels.get("rb_class", UNKNOWN)


def _place(labels: Mapping[str, str]) -> tuple[str, str]:
    return _class(labels), labels.get("rb_pool", UNKNOWN)


def _sums(page: Page, name: str, key: Callable[[Mapping[str, str]], K]) -> dict[K, float]:
    """Returns a counter added up over all labels but those of a key."""
    found: dict[K, float] = defaultdict(float)
    for labels, value in page.samples(name):
        found[key(labels)] += value
    return dict(found)


def _latencies(page: Page, name: str) -> dict[tuple[str, str], Latencies]:
    """Returns the histogram of a metric by class and pool, over workers and models."""
    parts: dict[tuple[tuple[str, str], ...], dict[float, float]] = defaultdict(dict)
    for labels, value in page.samples(f"{name}_bucket"):
        series = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
        parts[series][_bound_s(labels.get("le", ""))] = value
    sums = {tuple(sorted(labels.items())): v for labels, v in page.samples(f"{name}_sum")}
    found: dict[tuple[str, str], list[Latencies]] = defaultdict(list)
    for series, buckets in parts.items():
        found[_place(dict(series))].append(_histogram(buckets, sums.get(series, 0.0)))
    return {at: Latencies.of(each) for at, each in found.items()}


def _bound_s(text: str) -> float:
    """Returns the upper bound of a bucket; of one that nobody can read, as if it had none."""
    try:
        bound = float(text)
    except ValueError:
        return inf
    return bound if bound > 0 else inf


def _histogram(buckets: Mapping[float, float], sum_s: float) -> Latencies:
    n = buckets.get(inf, 0.0)
    bounds_s = sorted(bound for bound in buckets if bound < inf)
    return Latencies(
        bounds_ms=tuple(round(bound * 1000.0, 6) for bound in bounds_s),
        above=tuple(max(n - buckets[bound], 0.0) for bound in bounds_s),
        n=n,
        total_ms=sum_s * 1000.0,
    )
