"""Spans of requests: their places in traces against the W3C's form, and what they say."""

import re

import pytest
from made_served import served
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from planner.runtime.traces import Spans, otlp_exporter, read_traceparent

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the W3C's own example
NOT_SAMPLED = CLIENT[:-2] + "00"


@pytest.fixture
def made():
    """Spans whose clock stands at 1,000 s, and where they go."""
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, "ab" * 32, lambda: 1000.0)
    yield spans, exporter
    spans.close()


def finished(made, *records):
    spans, exporter = made
    for record in records:
        spans(record)
    spans._provider.force_flush()
    return exporter.get_finished_spans()


def test_a_span_stands_where_the_engine_was_told(made):
    upstream = made[0].begin(CLIENT)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", upstream)
    (span,) = finished(made, served(traceparent=upstream, parent=CLIENT))
    version, trace_id, span_id, _ = upstream.split("-")
    assert version == "00"
    assert f"{span.context.trace_id:032x}" == trace_id == CLIENT.split("-")[1]
    assert f"{span.context.span_id:016x}" == span_id != CLIENT.split("-")[2]
    assert f"{span.parent.span_id:016x}" == CLIENT.split("-")[2]
    assert span.parent.is_remote


def test_without_a_client_trace_one_begins(made):
    first, second = made[0].begin(None), made[0].begin("nonsense")
    assert first.split("-")[1] != second.split("-")[1]
    spans = finished(made, served(traceparent=first), served(traceparent=second, parent="nonsense"))
    assert [span.parent for span in spans] == [None, None]
    assert [f"{span.context.trace_id:032x}" for span in spans] == [
        first.split("-")[1],
        second.split("-")[1],
    ]


def test_what_a_client_does_not_want_sampled_is_not(made):
    upstream = made[0].begin(NOT_SAMPLED)
    assert upstream.endswith("-00")
    assert finished(made, served(traceparent=upstream, parent=NOT_SAMPLED)) == ()
    assert finished(made, served(traceparent=None)) == ()


def test_times_and_attributes(made):
    upstream = made[0].begin(None)
    (span,) = finished(made, served(traceparent=upstream))
    assert (span.start_time, span.end_time) == (998_750_000_000, 1_000_000_000_000)
    (event,) = span.events
    assert (event.name, event.timestamp) == ("first token", 999_000_000_000)
    assert span.name == "chat rb/auto" and span.kind is SpanKind.CLIENT
    said = dict(span.attributes)
    assert said["gen_ai.operation.name"] == "chat" and said["gen_ai.provider.name"] == "rb"
    assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("rb/auto", "small")
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (30, 11)
    assert said["rb.instance"] == "small-l40s/0" and said["rb.plan"] == "ab" * 6
    assert span.status.status_code is StatusCode.UNSET and "error.type" not in said


def test_what_clients_write_is_cut(made):
    upstream = made[0].begin(None)
    (span,) = finished(made, served(traceparent=upstream, asked_model="m" * 10_000))
    assert len(span.name) <= 210 and len(span.attributes["gen_ai.request.model"]) <= 200


def test_failures_and_estimates_are_told_as_such(made):
    spans = made[0]
    failed = served(traceparent=spans.begin(None), outcome="error", why="timeout", ttft_s=None)
    guessed = served(traceparent=spans.begin(None), usage_known=False)
    one, other = finished(made, failed, guessed)
    assert one.status.status_code is StatusCode.ERROR
    assert one.attributes["error.type"] == "timeout" and one.events == ()
    assert "gen_ai.usage.output_tokens" not in other.attributes


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        CLIENT.upper(),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff" + CLIENT[2:],
        CLIENT + "-more",  # version 00 has four parts
        CLIENT[:-1],
    ],
)
def test_what_is_no_traceparent_is_none(text):
    assert read_traceparent(text) is None


def test_later_versions_may_say_more():
    place = read_traceparent("01" + CLIENT[2:-2] + "03-what-comes")
    assert str(place) == CLIENT  # flags that are not known are not passed on


@pytest.mark.parametrize("url", ["http://h:4318", "http://h:4318/", "http://h:4318/v1/traces"])
def test_collectors_are_named_by_their_address(url):
    exporter = otlp_exporter(url)
    assert exporter._endpoint == "http://h:4318/v1/traces"
    exporter.shutdown()
