"""OpenTelemetry spans of requests, with the attributes of the conventions for generative AI.

The trace goes on in the engine: it is sent a traceparent that names our span, made before the
request goes out. The span itself is made when the request has ended and everything is known of it.

References: W3C Trace Context (the traceparent header); OpenTelemetry semantic conventions for
generative AI, client spans. Needs the extra `otel`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from planner.runtime.log import LONGEST
from planner.runtime.metrics import PROVIDER

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from planner.runtime.served import Served

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_TRACES_PATH = "/v1/traces"
_EXPORT_S = 3.0  # for a batch, tries again included: an end waits for the last one


class Place(NamedTuple):
    """A span in a trace, as a traceparent names it."""

    trace_id: int
    span_id: int
    flags: int

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def read_traceparent(text: str | None) -> Place | None:
    """Returns the span that a traceparent names; None where it names none."""
    found = _TRACEPARENT.fullmatch(text or "")
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    place = Place(int(found[2], 16), int(found[3], 16), int(found[4], 16) & _SAMPLED)
    return place if place.trace_id and place.span_id else None


def otlp_exporter(url: str) -> SpanExporter:
    """Returns an exporter to a collector that speaks OTLP over HTTP, e.g. http://localhost:4318."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    url = url.rstrip("/")
    whole = url if url.endswith(_TRACES_PATH) else url + _TRACES_PATH
    return OTLPSpanExporter(whole, timeout=_EXPORT_S)


class Spans:
    """Makes one span per request; an observer of the Dispatcher.

    Args:
        exporter: where spans go, in batches, from a thread of their own.
        plan_hash: of the plan that is served.
        wall_s: the time of day in seconds since 1970.
    """

    def __init__(self, exporter: SpanExporter, plan_hash: str, wall_s: Callable[[], float]) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self.plan_hash = plan_hash
        self._wall_s = wall_s
        self._random = RandomIdGenerator()
        self._given = _GivenIds()
        self._provider = TracerProvider(
            span_limits=SpanLimits(max_span_attribute_length=LONGEST),
            sampler=ALWAYS_ON,  # what a client does not want sampled never comes to it
            resource=Resource.create({"service.name": "rb"}),
            shutdown_on_exit=False,
            id_generator=self._given,  # type: ignore[arg-type]
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("planner.runtime")

    def begin(self, parent: str | None) -> str:
        """Returns the traceparent for the engine: in the client's trace, where it sent one."""
        above = read_traceparent(parent)
        span_id = self._random.generate_span_id()
        if above is None:
            return str(Place(self._random.generate_trace_id(), span_id, _SAMPLED))
        return str(Place(above.trace_id, span_id, above.flags))

    def __call__(self, served: Served) -> None:
        """Makes the span of one request that has ended."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        place, above = read_traceparent(served.traceparent), read_traceparent(served.parent)
        if place is None or not place.flags & _SAMPLED:
            return
        ended_s = self._wall_s()
        started_s = ended_s - served.e2e_s
        self._given.ids = place
        context = None if above is None else set_span_in_context(_remote(above))
        span = self._tracer.start_span(
            f"{served.operation} {served.asked_model[:LONGEST]}",
            context=context,
            kind=SpanKind.CLIENT,
            attributes=_attributes(served, self.plan_hash),
            start_time=_ns(started_s),
        )
        if served.ttft_s is not None:
            span.add_event("first token", timestamp=_ns(started_s + served.ttft_s))
        if served.outcome in ("error", "refused"):
            span.set_status(Status(StatusCode.ERROR, served.why))
        span.end(end_time=_ns(ended_s))

    def close(self) -> None:
        """Sends what is left; this may take as long as the collector takes."""
        self._provider.shutdown()


class _GivenIds:
    """An IdGenerator whose ids are given: the next span gets those that the engine was told."""

    def __init__(self) -> None:
        self.ids = Place(0, 0, 0)

    def generate_span_id(self) -> int:
        return self.ids.span_id

    def generate_trace_id(self) -> int:
        return self.ids.trace_id

    def is_trace_id_random(self) -> bool:
        return False


def _remote(place: Place) -> Span:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    flags = TraceFlags(place.flags)
    return NonRecordingSpan(SpanContext(place.trace_id, place.span_id, True, flags))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _attributes(served: Served, plan_hash: str) -> dict[str, str | int | float | bool]:
    """Returns what is known of a request, without what it said."""
    told: dict[str, str | int | float | bool | None] = {
        "gen_ai.operation.name": served.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": served.asked_model,
        "gen_ai.response.model": served.model_name,
        "gen_ai.usage.input_tokens": served.n_input if served.usage_known else None,
        "gen_ai.usage.output_tokens": served.n_output if served.usage_known else None,
        "http.response.status_code": served.status,
        "error.type": served.why if served.outcome in ("error", "refused") else None,
        "rb.request_id": served.request_id,
        "rb.class": served.class_name,
        "rb.pool": served.pool,
        "rb.instance": served.instance,
        "rb.outcome": served.outcome,
        "rb.tries": served.n_tries,
        "rb.cascade": served.cascade,
        "rb.escalated": served.escalated,
        "rb.plan": plan_hash[:12],
    }
    return {name: value for name, value in told.items() if value is not None}
