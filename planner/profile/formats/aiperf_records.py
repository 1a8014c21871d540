"""The requests of one AIPerf run (profile_export.jsonl) and the units of its figures.

Facts of the format: one JSON object per request with `metadata` (times in ns since 1970, phase,
was_cancelled), `metrics` ({value, unit} each) and `error`, which is absent or null for an answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.profile.fields import Fields, json_objects, plain_text, shown
from planner.profile.formats.loads import section
from planner.profile.formats.requests import Requests
from planner.spec.arrays import FloatArray

_TO_MS = {
    **dict.fromkeys(("ns", "nanoseconds"), 1e-6),
    **dict.fromkeys(("us", "µs", "microseconds"), 1e-3),
    **dict.fromkeys(("ms", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "seconds"), 1e3),
    **dict.fromkeys(("min", "minutes"), 6e4),
}
_SPAN_RATIO = 100.0  # a latency in another unit is 1000 times off its request's start and end
_LARGEST_NS = 2**63


@dataclass(frozen=True)
class Records:
    """The requests of one run, without warm-up and cancelled ones."""

    requests: Requests
    client_input: float | None  # mean tokens per answer as the client counts
    client_output: float | None
    server_input: float | None  # the same as the server counts, None unless it counts every answer
    server_output: float | None
    gaps_s: FloatArray | None  # between tokens of answers, pooled; None where chunks hold several
    n_warmup: int
    n_cancelled: int
    span_s: float  # from the first start to the last end


@dataclass(frozen=True)
class _Row:
    """One request; nan is 'not told'."""

    start_s: float
    end_s: float
    ok: bool
    e2e_s: float = math.nan
    ttft_s: float = math.nan
    client_input: float = math.nan
    client_output: float = math.nan
    server_input: float = math.nan
    server_output: float = math.nan
    gaps_s: FloatArray | None = None


def to_ms(metric: Fields) -> float | None:
    """Returns how many ms the unit of a time is, None after keeping a fault."""
    unit = metric.text("unit", required=True)
    if unit is None:
        return None
    factor = _TO_MS.get(unit)
    if factor is None:
        metric.fault("unit", f"must be a unit of time ({', '.join(_TO_MS)}), got {shown(unit)}")
    return factor


def is_tokens(metric: Fields) -> bool:
    """Returns whether a count says that it is of tokens; keeps a fault when it does not."""
    unit = metric.text("unit", required=True)
    if unit is not None and not unit.lower().startswith("token"):
        metric.fault("unit", f"must be tokens, got {shown(unit)}")
    return unit is not None


def read_records(name: str, text: str) -> tuple[Records | None, Fields]:
    """Returns the requests of a JSONL file, None after a fault, and the fields that keep faults.

    Raises InputError when the text is no JSONL. Only the first faulty request is named.
    """
    kept = Fields(name, {})
    rows: list[_Row] = []
    n_warmup = n_cancelled = 0
    for place, values in enumerate(json_objects(name, plain_text(name, text)), start=1):
        fields = Fields(name, values, f"request {place}.")
        fields.faults = kept.faults
        metadata = section(fields, "metadata")
        kinds = (metadata.values.get("phase_kind"), metadata.values.get("benchmark_phase"))
        if "warmup" in kinds:
            n_warmup += 1
        elif metadata.values.get("was_cancelled") is True:
            n_cancelled += 1
        elif (row := _row(fields, metadata)) is None:
            return None, kept
        else:
            rows.append(row)
    if not any(row.ok for row in rows):
        kept.fault("content", f"no request was answered, got {len(rows)} measured requests")
        return None, kept
    return _records(rows, n_warmup, n_cancelled), kept


def _records(rows: list[_Row], n_warmup: int, n_cancelled: int) -> Records:
    """Returns the requests of a run as arrays; the server's token counts win where all have one."""
    ok = np.array([row.ok for row in rows], dtype=np.bool_)
    means = {
        key: _mean(_column(rows, key)[ok])
        for key in ("client_input", "client_output", "server_input", "server_output")
    }
    n_input, n_output = (
        _column(rows, f"client_{what}" if means[f"server_{what}"] is None else f"server_{what}")
        for what in ("input", "output")
    )
    requests = Requests(
        n_input,
        np.nan_to_num(n_output, nan=0.0),
        _column(rows, "start_s"),
        _column(rows, "ttft_s"),
        _column(rows, "e2e_s"),
        ok,
    )
    span_s = max(row.end_s for row in rows) - min(row.start_s for row in rows)
    return Records(
        requests,
        gaps_s=_gaps(rows, requests),
        n_warmup=n_warmup,
        n_cancelled=n_cancelled,
        span_s=span_s,
        **means,
    )


def _mean(counts: FloatArray) -> float | None:
    """Returns the mean of counts (n,), None unless all are known."""
    return None if np.isnan(counts).any() else float(counts.mean())


def _gaps(rows: list[_Row], requests: Requests) -> FloatArray | None:
    """Returns the gaps between tokens, (n,), None where a chunk of the stream held several."""
    gaps = [row.gaps_s for row, kept in zip(rows, requests.answered, strict=True) if kept]
    known = [values for values in gaps if values is not None]
    expected = requests.output_tokens[requests.answered].sum() - len(gaps)
    if len(known) < len(gaps) or sum(values.size for values in known) != expected:
        return None
    return np.concatenate(known)


def _column(rows: list[_Row], name: str) -> FloatArray:
    """Returns one number of every request, (n,)."""
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def _row(fields: Fields, metadata: Fields) -> _Row | None:
    """Returns one request, None after keeping a fault."""
    before = len(fields.faults)
    start_s, end_s = (_seconds(metadata, f"request_{edge}_ns") for edge in ("start", "end"))
    if start_s is None or end_s is None:
        return None
    if end_s < start_s:
        metadata.fault("request_end_ns", f"must come after the start, got {end_s - start_s:g} s")
        return None
    if fields.has("error"):
        return _Row(start_s, end_s, ok=False, e2e_s=end_s - start_s)
    metrics = section(fields, "metrics")
    e2e_s = _time(metrics, "request_latency", required=True)
    row = _Row(
        start_s=start_s,
        end_s=end_s,
        ok=True,
        e2e_s=e2e_s,
        ttft_s=_time(metrics, "time_to_first_token"),
        client_input=_tokens(metrics, "input_sequence_length"),
        client_output=_tokens(metrics, "output_sequence_length"),
        server_input=_tokens(metrics, "usage_prompt_tokens"),
        server_output=_tokens(metrics, "usage_completion_tokens"),
        gaps_s=_chunk_gaps(metrics),
    )
    span_s = end_s - start_s
    if not span_s / _SPAN_RATIO <= e2e_s <= span_s * 1.01 + 1e-3 and not math.isnan(e2e_s):
        what = f"its start and end are {span_s:g} s apart, got a latency of {e2e_s:g} s"
        metrics.fault("request_latency", what)
    return row if len(fields.faults) == before else None


def _seconds(metadata: Fields, key: str) -> float | None:
    """Returns a time in s since 1970 that is told in ns, None after keeping a fault."""
    value = metadata.values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST_NS:
        metadata.fault(key, f"must be a whole number of ns since 1970, got {shown(value)}")
        return None
    return value / 1e9


def _time(metrics: Fields, key: str, *, required: bool = False) -> float:
    """Returns a time of a request in s, nan where it is absent or faulty."""
    metric = section(metrics, key, required=required)
    if not metric.values:
        return math.nan
    factor = to_ms(metric)
    value = metric.number("value", "the unit told", required=True)
    return math.nan if value is None or factor is None else value * factor / 1e3


def _tokens(metrics: Fields, key: str) -> float:
    """Returns a count of tokens of a request, nan where it is absent or faulty."""
    metric = section(metrics, key)
    if not metric.values or not is_tokens(metric):
        return math.nan
    value = metric.number("value", "tokens")
    return math.nan if value is None else value


def _chunk_gaps(metrics: Fields) -> FloatArray | None:
    """Returns the gaps between chunks of an answer in s, (n,), None where they are absent."""
    metric = section(metrics, "inter_chunk_latency")
    if not metric.values:
        return None
    factor = to_ms(metric)
    values = metric.numbers("value", "the unit told")
    return None if values is None or factor is None else values * factor / 1e3
