"""What became of the requests, counted: plain numbers, one call per request.

The counts of a worker travel to whoever answers for all workers (planner/runtime/peers.py) and are
written as a page elsewhere (planner/runtime/page.py), so that a request pays for neither.

References: boundaries of the histograms are those that OpenTelemetry's semantic conventions for
generative AI recommend (metrics of a model server), one more between each two, and every limit of
the plan on that metric: so the share of answers above a limit is counted, not interpolated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from planner.runtime.served import Served

_E2E_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_TPOT_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

PROVIDER = "rb"  # gen_ai.provider.name: who is asked, whoever answers behind it

MARK_S = 10.0  # what was counted till then is kept so often,
RECENT_S = 60.0  # for so long: what is recent is of about the last minute
N_REMEMBERED = 20_000  # requests whose score may still come; about 5 MB


class Bounds(msgspec.Struct, frozen=True):
    """The upper bounds of the buckets of each histogram, in seconds, ascending."""

    e2e_s: tuple[float, ...]
    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]


def bounds_of(limits: Iterable[tuple[str, float]]) -> Bounds:
    """Returns the bounds of the buckets for a plan's limits: (metric, ms)."""
    at_s: dict[str, set[float]] = {"e2e": set(), "ttft": set(), "tpot": set()}
    for metric, at_most_ms in limits:
        at_s[metric].add(at_most_ms / 1000.0)
    return Bounds(
        _finer(_E2E_S, at_s["e2e"]), _finer(_TTFT_S, at_s["ttft"]), _finer(_TPOT_S, at_s["tpot"])
    )


def _finer(recommended: tuple[float, ...], limits_s: set[float]) -> tuple[float, ...]:
    """Returns the recommended bounds, the geometric mean of each two, and the limits."""
    between = {float(f"{math.sqrt(low * high):.3g}") for low, high in pairwise(recommended)}
    return tuple(sorted({*recommended, *between, *limits_s}))


class Histogram(msgspec.Struct):
    """How many values lie in each bucket (the last is above every bound), and their sum."""

    counts: list[int]
    sum_s: float = 0.0

    def add(self, bounds_s: tuple[float, ...], value_s: float) -> None:
        """Counts a value; one that is just at a bound lies below it, as in Prometheus."""
        self.counts[bisect_left(bounds_s, value_s)] += 1
        self.sum_s += value_s


def _empty(bounds_s: tuple[float, ...]) -> Histogram:
    return Histogram([0] * (len(bounds_s) + 1))


class Row(msgspec.Struct):
    """What is counted of the requests of one class that one pool answered under one name."""

    e2e: Histogram
    ttft: Histogram
    tpot: Histogram
    n_ok: int = 0
    n_error: int = 0
    n_cancelled: int = 0


class Tokens(msgspec.Struct):
    """The tokens of answers, as far as the engines told them."""

    n_answers: int = 0
    n_input: int = 0
    n_output: int = 0
    input_squared: float = 0.0
    output_squared: float = 0.0

    def add(self, n_input: int, n_output: int) -> None:
        """Counts one answer."""
        self.n_answers += 1
        self.n_input += n_input
        self.n_output += n_output
        self.input_squared += n_input * n_input
        self.output_squared += n_output * n_output


class Scores(msgspec.Struct):
    """Quality samples of answers that somebody judged, in 0 to 1."""

    n: int = 0
    score: float = 0.0


Key = tuple[str, str, str, str, str]
"""Of a row: class ("" where unknown), pool, operation, model asked for, model that answered."""
Pair = tuple[str, str]


class Counts(msgspec.Struct):
    """Everything that a worker counts."""

    rows: dict[Key, Row] = {}
    tokens: dict[Pair, Tokens] = {}  # by class and pool; of an escalated request, of both stages
    refused: dict[Pair, int] = {}  # by class and why
    retries: dict[Pair, int] = {}  # by pool and why
    escalations: dict[str, int] = {}  # by class
    scores: dict[Pair, Scores] = {}  # by class and pool
    reloads: dict[str, int] = {}  # by outcome


class InstanceState(msgspec.Struct):
    """How an instance is, as one worker sees it."""

    pool: str
    instance: str
    state: str  # in a word or two
    up: bool  # takes requests
    n_running: float
    n_waiting: float
    n_in_flight: int  # sent by this worker
    n_failed: int = 0
    predicted_delay_s: float | None = None  # to the first token of a request that comes now
    telemetry_age_s: float | None = None  # None: it does not tell of itself


def instance_states(told: Iterable[Mapping[str, object]]) -> list[InstanceState]:
    """Returns the instances as a fleet tells of them, without what nobody needs."""
    return msgspec.convert(list(told), list[InstanceState])


class Report(msgspec.Struct):
    """What one worker tells of itself: all of the plan that it serves, and apart what is recent."""

    worker: int
    plan_hash: str
    started_s: float  # wall clock, as the two below
    counted_from_s: float
    scraped_s: float
    bounds: Bounds
    total: Counts
    recent: Counts
    recent_s: float  # the time in which the recent was counted
    instances: list[InstanceState]
    prices: dict[str, float]  # of a replica-second of each model, where prompts are routed by them
    is_draining: bool = False
    n_log_lines_lost: int = 0


class Meter:
    """Counts what became of each request; an observer of the Dispatcher.

    Args:
        limits: of the plan, (metric, ms): each becomes a bound of its histogram.
        now_s: of the event loop, as all its times.
    """

    def __init__(self, limits: Iterable[tuple[str, float]], now_s: float) -> None:
        self.bounds = bounds_of(limits)
        self.counts = Counts()
        self._answered_by: OrderedDict[str, Pair] = OrderedDict()  # by request id
        self._marks: deque[tuple[float, bytes]] = deque()
        self._mark(now_s)

    def __call__(self, served: Served) -> None:
        """Counts one request that has ended."""
        self._mark_if_due(served.started_s + served.e2e_s)
        counts, class_name = self.counts, served.class_name or ""
        for tried in served.failed_tries:
            counts.retries[tried] = counts.retries.get(tried, 0) + 1
        if served.outcome == "refused":
            why = class_name, served.why
            counts.refused[why] = counts.refused.get(why, 0) + 1
            return
        if served.escalated:
            counts.escalations[class_name] = counts.escalations.get(class_name, 0) + 1
            if served.first_pool is not None and served.first_usage is not None:
                first = served.first_usage
                self._tokens((class_name, served.first_pool)).add(first.n_input, first.n_output)
        key = class_name, served.pool or "", served.operation
        row = self._row((*key, served.asked_model, served.model_name or ""))
        if served.outcome == "ok":
            self._answered(row, served)
        elif served.outcome == "error":
            row.n_error += 1
        else:
            row.n_cancelled += 1

    def _row(self, key: Key) -> Row:
        row = self.counts.rows.get(key)
        if row is None:
            bounds = self.bounds
            row = self.counts.rows[key] = Row(
                _empty(bounds.e2e_s), _empty(bounds.ttft_s), _empty(bounds.tpot_s)
            )
        return row

    def _tokens(self, pair: Pair) -> Tokens:
        tokens = self.counts.tokens.get(pair)
        if tokens is None:
            tokens = self.counts.tokens[pair] = Tokens()
        return tokens

    def _answered(self, row: Row, served: Served) -> None:
        bounds, pair = self.bounds, (served.class_name or "", served.pool or "")
        row.n_ok += 1
        row.e2e.add(bounds.e2e_s, served.e2e_s)
        ttft_s, n_output = served.ttft_s if served.streamed else None, served.n_output
        if ttft_s is not None:
            row.ttft.add(bounds.ttft_s, ttft_s)
        if served.usage_known and n_output is not None:
            self._tokens(pair).add(served.n_input or 0, n_output)
            if ttft_s is not None and n_output >= 2:
                row.tpot.add(bounds.tpot_s, (served.e2e_s - ttft_s) / (n_output - 1))
        remembered = self._answered_by
        remembered[served.request_id] = pair
        if len(remembered) > N_REMEMBERED:
            remembered.popitem(last=False)  # of a plain dict, the oldest takes long to find

    def score(self, class_name: str, pool: str, score: float) -> None:
        """Counts a quality sample, in 0 to 1."""
        scores = self.counts.scores.setdefault((class_name, pool), Scores())
        scores.n += 1
        scores.score += score

    def score_request(self, request_id: str, score: float) -> bool:
        """Returns whether a quality sample was counted: whether its request is remembered here."""
        pair = self._answered_by.get(request_id)
        if pair is not None:
            self.score(*pair, score)
        return pair is not None

    def reloaded(self, outcome: str) -> None:
        """Counts a reload of the plan: "ok" or "refused"."""
        self.counts.reloads[outcome] = self.counts.reloads.get(outcome, 0) + 1

    def renew(self, limits: Iterable[tuple[str, float]], now_s: float, is_other: bool) -> bool:
        """Takes the limits of the plan that was read anew; returns whether it counts from zero now.

        It does where the plan is another one, or its limits are: what was answered by the old plan
        says nothing of the new one, and what was counted cannot be cut at a bound that was not
        there. Readers of counters know such a start. Reloads are counted on. A request
        that is under way meanwhile is counted as it ends: with the new plan, though the old one
        sent it.
        """
        bounds = bounds_of(limits)
        if not is_other and bounds == self.bounds:
            return False
        self.bounds, self.counts = bounds, Counts(reloads=self.counts.reloads)
        self._answered_by.clear()
        self._marks.clear()
        self._mark(now_s)
        return True

    def total(self) -> Counts:
        """Returns a copy of what was counted since the start."""
        return _decode(_encode(self.counts))

    def recent(self, now_s: float) -> tuple[Counts, float]:
        """Returns what was counted in about the last minute, and in how many seconds."""
        self._mark_if_due(now_s)
        at_s, mark = self._marks[0]
        if len(self._marks) > 1 and self._marks[1][1] == mark:  # nothing happened between them
            at_s = max(at_s, min(self._marks[1][0], now_s - RECENT_S))
        return minus(self.counts, _decode(mark)), now_s - at_s

    def _mark_if_due(self, now_s: float) -> None:
        if now_s >= self._due_s:
            self._mark(now_s)

    def _mark(self, now_s: float) -> None:
        marks, counts = self._marks, _encode(self.counts)
        if marks and now_s > marks[-1][0] + MARK_S:
            # Nothing was counted since a mark was due, so that it still tells how things were then.
            marks.append((max(marks[-1][0] + MARK_S, now_s - RECENT_S), counts))
        marks.append((now_s, counts))
        while len(marks) > 1 and marks[1][0] <= now_s - RECENT_S:
            marks.popleft()
        self._due_s = now_s + MARK_S


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Counts).decode
encode_report = _encode
decode_report = msgspec.msgpack.Decoder(Report).decode


# ---- Sums and differences ------------------------------------------------------------------------


def minus(now: Counts, then: Counts) -> Counts:
    """Returns what was counted since then."""
    return _combined(now, then, -1)


def plus(one: Counts, other: Counts) -> Counts:
    """Returns what two workers have counted; their histograms have the same bounds."""
    return _combined(one, other, 1)


def _combined(one: Counts, other: Counts, sign: int) -> Counts:
    return Counts(
        rows=_merged(one.rows, other.rows, sign),
        tokens=_merged(one.tokens, other.tokens, sign),
        refused=_merged(one.refused, other.refused, sign),
        retries=_merged(one.retries, other.retries, sign),
        escalations=_merged(one.escalations, other.escalations, sign),
        scores=_merged(one.scores, other.scores, sign),
        reloads=_merged(one.reloads, other.reloads, sign),
    )


K = TypeVar("K")
V = TypeVar("V", int, Row, Tokens, Scores)


def _merged(one: dict[K, V], other: dict[K, V], sign: int) -> dict[K, V]:
    """Returns both by name; what only the other has is taken as it is, since less is never had."""
    merged = dict(one)
    for key, value in other.items():
        merged[key] = _sum(one[key], value, sign) if key in one else value
    return merged


def _sum(one: V, other: V, sign: int) -> V:
    """Returns two values of one kind added, field by field."""
    if isinstance(one, msgspec.Struct):
        fields = (_sum(getattr(one, f), getattr(other, f), sign) for f in one.__struct_fields__)
        return type(one)(*fields)
    if isinstance(one, list):
        return [x + sign * y for x, y in zip(one, other, strict=True)]
    return one + sign * other
