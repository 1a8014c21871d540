"""The pages of a worker that speak for all of them: metrics, status, drift; and what is sent back.

Every sample that a worker has counted bears its number, so that a restarted one is seen as a
counter that starts again, and nothing is ever added up to less than before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec

from planner.errors import InputError
from planner.runtime.metrics import (
    PROVIDER,
    Bounds,
    Counts,
    Histogram,
    Meter,
    Pair,
    Report,
    decode_report,
    encode_report,
)
from planner.runtime.peers import Peers
from planner.runtime.status import Planned, encode_status, planned_of, status_of

if TYPE_CHECKING:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )

    from planner.runtime.setup import Setup

REPORT, STATUS, SCORE = b"report", b"status", b"score "
_TAKEN = b"taken"
_LONGEST_ID = 256  # characters; a question to the other workers is short

_BY_ANSWER = (
    *("rb_class", "rb_pool", "gen_ai_operation_name"),
    *("gen_ai_request_model", "gen_ai_response_model", "gen_ai_provider_name"),
)
_CLASS_AND_POOL = "rb_class", "rb_pool"
_HISTOGRAMS = (
    (
        "e2e",
        "gen_ai_server_request_duration_seconds",
        "From a request to the last byte of its answer; of answers that reached their end.",
    ),
    (
        "ttft",
        "gen_ai_server_time_to_first_token_seconds",
        "Of streamed answers that reached their end.",
    ),
    (
        "tpot",
        "gen_ai_server_time_per_output_token_seconds",
        "Mean per token after the first, of streamed answers that reached their end.",
    ),
)
_TOKENS = (
    ("n_answers", "rb_answers_with_usage", "Answers whose tokens the engine told."),
    ("n_input", "rb_input_tokens", "Of answers with usage."),
    ("n_output", "rb_output_tokens", "Of answers with usage."),
    ("input_squared", "rb_input_tokens_squared", "Sum of squares, for the spread."),
    ("output_squared", "rb_output_tokens_squared", "Sum of squares, for the spread."),
)
_INSTANCE = (
    ("up", "rb_instance_up", "1: takes requests."),
    ("n_running", "rb_instance_running", "Requests in the engine's batch."),
    ("n_waiting", "rb_instance_waiting", "Requests that wait in the engine."),
    ("n_in_flight", "rb_instance_in_flight", "Requests that this worker has there."),
    ("predicted_delay_s", "rb_instance_predicted_delay_seconds", "Of a request that comes now."),
)


class Pages:
    """Answers for all workers: from its own counts, and from what the others tell.

    Args:
        report: what this worker tells of itself, now.
        meter: that takes quality samples.
        setup: what is served.
        hours: since the first hour of a round of periods; or of one before.
    """

    def __init__(
        self,
        report: Callable[[], Report],
        meter: Meter,
        setup: Setup,
        hours: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._hours = hours
        self.renew(setup)
        self.peers: Peers | None = None  # one worker has none
        self._report = report
        self._meter = meter

    def renew(self, setup: Setup) -> None:
        """Takes another plan."""
        self._setup = setup
        self._classes, self._pools = frozenset(setup.routes.classes), frozenset(setup.pools)

    @property
    def planned(self) -> Planned:
        """Returns what the plan says of this hour."""
        return planned_of(self._setup, self._hours())

    async def reports(self) -> list[Report]:
        """Returns what all workers tell."""
        told = [self._report()]
        if self.peers is not None:
            told += [decode_report(answer) for answer in await self.peers.ask(REPORT)]
        return sorted(told, key=lambda report: report.worker)

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Returns the page for Prometheus and its content type; accept: what the reader takes."""
        reports = await self.reports()
        # Beside the loop: the first page loads its library, and many series take their time.
        return await asyncio.to_thread(render, reports, self.planned, accept)

    async def status(self) -> bytes:
        """Returns how the plan is being served (status.Status), as JSON."""
        return encode_status(status_of(await self.reports(), self.planned))

    async def drift(self) -> bytes:
        """Returns whether the plan still fits what was served since the start, as JSON."""
        page, _ = await self.metrics("")
        return await asyncio.to_thread(_drift, page.decode(), self._setup)

    async def feedback(self, body: bytes) -> str | None:
        """Returns what is wrong with a quality sample; None: it was counted."""
        try:
            sample = _decode_sample(body)
        except (msgspec.DecodeError, RecursionError) as error:
            return f"not a quality sample: {error}"
        if sample.request_id is not None:
            if not await self._score_request(sample.request_id, sample.score):
                return "no answer with this request_id is remembered; name its class and pool"
        elif sample.class_name is None or sample.pool is None:
            return "a quality sample needs request_id, or class and pool"
        elif sample.class_name not in self._classes or sample.pool not in self._pools:
            return "no such class or pool in the plan"
        else:
            self._meter.score(sample.class_name, sample.pool, sample.score)
        return None

    async def _score_request(self, request_id: str, score: float) -> bool:
        if self._meter.score_request(request_id, score):
            return True
        if self.peers is None:
            return False
        question = SCORE + _encode(_Sample(score, request_id))
        return _TAKEN in await self.peers.ask(question)

    async def answer(self, question: bytes) -> bytes:
        """Returns the answer to another worker's question; empty where it is none."""
        if question == REPORT:
            return encode_report(self._report())
        if question == STATUS:
            return await self.status()
        if question.startswith(SCORE):
            sample = _decode_sample(question.removeprefix(SCORE))
            if self._meter.score_request(sample.request_id or "", sample.score):
                return _TAKEN
        return b""


class _Sample(msgspec.Struct, omit_defaults=True):
    """What POST /rb/feedback takes."""

    score: float
    request_id: Annotated[str, msgspec.Meta(max_length=_LONGEST_ID)] | None = None
    class_name: str | None = msgspec.field(name="class", default=None)
    pool: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError("score must lie in 0 to 1")


_decode_sample = msgspec.json.Decoder(_Sample).decode
_encode = msgspec.json.Encoder().encode


def _drift(page: str, setup: Setup) -> bytes:
    """Returns the judgement of planner/drift on a page, or why there is none, as JSON."""
    from planner.drift.judge import judge
    from planner.drift.observed import observe
    from planner.drift.page import read_page

    if setup.sheet is None:
        return _encode({"fits": None, "notes": ["there is no serving.json to judge by"]})
    try:
        seen = observe(read_page(page, "/metrics"))
        return _encode(judge(seen, setup.sheet, setup.routes).as_dict())
    except InputError as error:  # e.g. in the middle of a reload, workers serve two plans
        return _encode({"fits": None, "notes": [fault.what for fault in error.faults]})


# ---- The page ------------------------------------------------------------------------------------


class _Families(Protocol):
    def collect(self) -> Iterable[Metric]: ...


class _Collected:
    """Families as the exposition takes them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def render(reports: Sequence[Report], planned: Planned, accept: str = "") -> tuple[bytes, str]:
    """Returns the page of all workers and its content type."""
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(accept)
    found: _Families = _Collected(list(families(reports, planned)))
    return encode(found), content_type


def families(reports: Sequence[Report], planned: Planned) -> Iterator[Metric]:
    """Yields all metrics of all workers."""
    yield from _of_the_plan(planned)
    yield from _of_workers(reports)
    yield from (_histogram(reports, *each) for each in _HISTOGRAMS)
    yield _outcomes(reports)
    yield from (_tokens(reports, *each) for each in _TOKENS)
    yield from _scores(reports)
    by = ("rb_pool", "why")
    yield _by_pair(reports, "rb_retries", "Failed tries, by why.", by, lambda c: c.retries)
    by = ("rb_class", "why")
    yield _by_pair(reports, "rb_refused", "Requests not taken, by why.", by, lambda c: c.refused)
    yield from _singles(reports)
    yield from _instances(reports)


def _counter(name: str, what: str, labels: Sequence[str]) -> CounterMetricFamily:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, what, labels=[*labels, "worker"])


def _gauge(name: str, what: str, labels: Sequence[str]) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, what, labels=labels)


def _of_the_plan(planned: Planned) -> Iterator[Metric]:
    shares = _gauge("rb_planned_share", "Of a class, answered by a pool.", ("rb_class", "rb_pool"))
    for pair, share in planned.shares.items():
        shares.add_metric(pair, share)
    yield shares
    rates = _gauge("rb_planned_rate_rps", "Requests per second of a class.", ("rb_class",))
    for name, rate_rps in planned.rates_rps.items():
        rates.add_metric((name,), rate_rps)
    yield rates


def _of_workers(reports: Sequence[Report]) -> Iterator[Metric]:
    info = _gauge("rb_plan_info", "1: the plan that a worker serves.", ("plan_hash", "worker"))
    start = _gauge("rb_start_time_seconds", "From when on it counts.", ("worker",))
    scrape = _gauge("rb_scrape_time_seconds", "Till when it has.", ("worker",))
    lost = _counter("rb_log_lines_lost", "Lines of the log that were not written.", ())
    for r in reports:
        info.add_metric((r.plan_hash, str(r.worker)), 1.0)
        start.add_metric((str(r.worker),), r.counted_from_s)
        scrape.add_metric((str(r.worker),), r.scraped_s)
        lost.add_metric((str(r.worker),), r.n_log_lines_lost)
    yield from (info, start, scrape, lost)


def _histogram(reports: Sequence[Report], field: str, name: str, what: str) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, what, labels=[*_BY_ANSWER, "worker"])
    for r in reports:
        for key, row in r.total.rows.items():
            labels = *key, PROVIDER, str(r.worker)
            _add_histogram(family, labels, getattr(row, field), field, r.bounds)
    return family


def _add_histogram(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    seen: Histogram,
    field: str,
    bounds: Bounds,
) -> None:
    if not any(seen.counts):
        return  # e.g. of a pool that streamed nothing
    ends = (*map(str, getattr(bounds, f"{field}_s")), "+Inf")
    buckets = list(zip(ends, accumulate(seen.counts), strict=True))
    family.add_metric(labels, buckets, seen.sum_s)


def _outcomes(reports: Sequence[Report]) -> Metric:
    family = _counter("rb_requests", "By what became of them.", ("rb_class", "rb_pool", "outcome"))
    for r in reports:
        n: dict[tuple[str, str, str], int] = {}
        for (class_name, pool, *_), row in r.total.rows.items():
            for outcome, more in (
                ("ok", row.n_ok),
                ("error", row.n_error),
                ("cancelled", row.n_cancelled),
            ):
                key = class_name, pool, outcome
                n[key] = n.get(key, 0) + more
        for (class_name, _), more in r.total.refused.items():
            key = class_name, "", "refused"
            n[key] = n.get(key, 0) + more
        for labels, value in n.items():
            family.add_metric((*labels, str(r.worker)), value)
    return family


def _by_pair(
    reports: Sequence[Report],
    name: str,
    what: str,
    labels: Pair,
    counted: Callable[[Counts], Mapping[Pair, float]],
) -> Metric:
    family = _counter(name, what, labels)
    for r in reports:
        for pair, value in counted(r.total).items():
            family.add_metric((*pair, str(r.worker)), value)
    return family


def _tokens(reports: Sequence[Report], field: str, name: str, what: str) -> Metric:
    def counted(counts: Counts) -> dict[Pair, float]:
        return {pair: getattr(tokens, field) for pair, tokens in counts.tokens.items()}

    return _by_pair(reports, name, what, _CLASS_AND_POOL, counted)


def _scores(reports: Sequence[Report]) -> Iterator[Metric]:
    def scores(counts: Counts) -> dict[Pair, float]:
        return {pair: each.score for pair, each in counts.scores.items()}

    def samples(counts: Counts) -> dict[Pair, float]:
        return {pair: each.n for pair, each in counts.scores.items()}

    what = "Sum of the quality samples."
    yield _by_pair(reports, "rb_quality_score", what, _CLASS_AND_POOL, scores)
    what = "Answers that somebody judged."
    yield _by_pair(reports, "rb_quality_samples", what, _CLASS_AND_POOL, samples)


def _singles(reports: Sequence[Report]) -> Iterator[Metric]:
    escalations = _counter("rb_escalations", "To a cascade's second model.", ("rb_class",))
    reloads = _counter("rb_reloads", "Of the plan.", ("outcome",))
    prices = _gauge("rb_price", "Quality per replica-second, now.", ("model", "worker"))
    for r in reports:
        for name, n in r.total.escalations.items():
            escalations.add_metric((name, str(r.worker)), n)
        for outcome, n in r.total.reloads.items():
            reloads.add_metric((outcome, str(r.worker)), n)
        for model, price in r.prices.items():
            prices.add_metric((model, str(r.worker)), price)
    yield from (escalations, reloads, prices)


def _instances(reports: Sequence[Report]) -> Iterator[Metric]:
    for field, name, what in _INSTANCE:
        family = _gauge(name, what, ("rb_pool", "instance", "worker"))
        for r in reports:
            for seen in r.instances:
                value = getattr(seen, field)
                if value is not None:
                    family.add_metric((seen.pool, seen.instance, str(r.worker)), float(value))
        yield family
