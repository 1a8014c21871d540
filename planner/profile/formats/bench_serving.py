"""What `vllm bench serve` and SGLang's `bench_serving`, which grew from it, have in common.

Facts of the format: one JSON object per run, or several one after the other. Totals are whole
numbers, summaries `<statistic>_<metric>_ms` in ms. Lists have one entry per request, in s, with
`output_lens` 0 for a failed one; `latencies` is vLLM's: without it a latency is the first token
plus the gaps after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from planner.errors import Fault, InputError
from planner.profile.fields import Fields, Reading, base_name, json_objects, plain_text
from planner.profile.formats import requests as arrays
from planner.profile.formats.loads import stated_ms
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.pool import Point

_FIX_LISTS = "export the run again, or remove its lists to use the summary"
_FIX_RUN = "measure this load level again and import the new file"


class Served(NamedTuple):
    """What was measured, as a file names it; the fields are those of Reading."""

    model_id: str | None
    engine: str | None
    engine_version: str | None
    gpu: str | None
    tensor_parallel: int | None

    def words(self) -> str:
        """Returns what was measured in words."""
        on = f"{self.tensor_parallel or 1} x {self.gpu or 'an unnamed GPU'}"
        return f"{self.model_id or 'no model'} with {self.engine or 'an unnamed engine'} on {on}"


@dataclass(frozen=True)
class Totals:
    """The counts of one run; tokens are means per answered request."""

    n_ok: int
    n_failed: int | None
    duration_s: float
    input_tokens: float
    output_tokens: float

    @property
    def n_requests(self) -> int:
        """Returns the requests sent, as far as failures were counted."""
        return self.n_ok + (self.n_failed or 0)

    @property
    def achieved_rps(self) -> float:
        """Returns the requests answered per second."""
        return self.n_ok / self.duration_s

    def figures(self) -> dict[str, object]:
        """Returns counts, lengths and rates by field of Point."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "achieved_rps": self.achieved_rps,
            "output_tokens_per_s": self.output_tokens * self.achieved_rps,
            "n_requests": self.n_requests,
            "n_failed": self.n_failed,
            "duration_s": self.duration_s,
        }


@dataclass(frozen=True)
class PerRequest:
    """What the requests of one run say; latencies in ms by field of Point."""

    n_ok: int
    n_failed: int
    n_empty: int  # of n_failed: answered without an error and without a token
    input_tokens_mean: float | None
    output_tokens_sum: float
    figures_ms: dict[str, float]
    notes: list[str]


@dataclass(frozen=True)
class _Lists:
    """The lists of a run as arrays, one entry per request; times in s."""

    output_tokens: FloatArray  # (n,)
    ttft_s: FloatArray  # (n,)
    e2e_s: FloatArray  # (n,)
    input_tokens: FloatArray | None  # (n,)
    itls_s: list[FloatArray] | None
    has_error: BoolArray  # (n,)


def read_file(
    name: str,
    text: str,
    read_run: Callable[[Fields, list[str]], Point | None],
    served_by: Callable[[Fields], Served],
) -> Reading:
    """Returns the points of one file, one per run; raises InputError with the faults of all runs.

    Args:
        name: of the file.
        text: JSON objects one after the other.
        read_run: returns the point of a run and adds to its remarks; faults stay in the Fields.
        served_by: returns what a run measured.
    """
    points: list[Point] = []
    notes: list[str] = []
    faults: list[Fault] = []
    served: dict[Served, None] = {}
    objects = json_objects(name, plain_text(name, text))
    for place, values in enumerate(objects, start=1):
        label = f"run {place}" if len(objects) > 1 else ""
        fields = Fields(name, values, f"{label}." if label else "")
        own: list[str] = []
        point = read_run(fields, own)
        served[served_by(fields)] = None
        faults += fields.faults
        points += [point] if point else []
        notes += [f"{base_name(name)} {label}".rstrip() + f": {note}" for note in own]
    if len(served) > 1 and not faults:
        what = f"its runs differ in what they measured, got {', '.join(s.words() for s in served)}"
        faults.append(Fault(name, "content", what[:600], "split the file by what was measured"))
    if faults:
        raise InputError(faults)
    return Reading(points, notes, *next(iter(served)))


def totals(fields: Fields, requests: PerRequest | None, n_failed: int | None) -> Totals | None:
    """Returns the counts of a run, from its requests where they are known; None on a fault."""
    duration_s = fields.number("duration", "s", required=True, above_zero=True)
    completed = fields.count("completed", required=True)
    n_input = fields.number("total_input_tokens", "tokens", required=True, above_zero=True)
    n_output = fields.number("total_output_tokens", "tokens", required=True, above_zero=True)
    if completed == 0:
        fields.fault("completed", "no request was answered, got 0", _FIX_RUN)
    if not (duration_s and completed and n_input and n_output):
        return None
    _agrees(fields, "request_throughput", "requests/s", completed / duration_s)
    _agrees(fields, "output_throughput", "tokens/s", n_output / duration_s)
    if requests is None:
        return Totals(completed, n_failed, duration_s, n_input / completed, n_output / completed)
    if not requests.n_ok <= completed <= requests.n_ok + requests.n_empty:
        fields.fault("completed", f"the lists hold {requests.n_ok} answers, got {completed}")
    if requests.output_tokens_sum != n_output:
        what = f"output_lens adds up to {requests.output_tokens_sum:g} tokens, got {n_output:g}"
        fields.fault("total_output_tokens", what)
    return Totals(
        n_ok=requests.n_ok,
        n_failed=requests.n_failed,
        duration_s=duration_s,
        input_tokens=requests.input_tokens_mean or n_input / completed,
        output_tokens=requests.output_tokens_sum / requests.n_ok,
    )


def summary_ms(fields: Fields, keys: Mapping[str, str]) -> dict[str, float]:
    """Returns the latencies in ms that a summary states, by field of Point.

    Args:
        fields: one run.
        keys: the run's key of each metric (ttft, tpot, itl, e2e).
    """
    found: dict[str, float] = {}
    for metric, key in keys.items():
        p50, median = f"p50_{key}_ms", f"median_{key}_ms"
        names = {s: f"{s}_{key}_ms" for s in ("mean", "p50", "p90", "p95", "p99")}
        if not fields.has(p50):
            names["p50"] = median
        found |= stated_ms(fields, metric, names, "ms")
        value, same = found.get(f"{metric}_p50_ms"), fields.number(median, "ms")
        if value and same and not math.isclose(value, same, rel_tol=1e-3):
            fields.fault(median, f"p50 is {value:g} ms, got {same:g} ms")
    return found


def per_request(fields: Fields) -> PerRequest | None:
    """Returns the figures of a run's requests; None when it has no such lists, or a fault."""
    if not (fields.has("output_lens") and fields.has("ttfts")):
        return None
    lists = _lists(fields)
    if lists is None:
        return None
    ok = ~lists.has_error & (lists.output_tokens > 0)
    if not ok.any():
        fields.fault("output_lens", "no request was answered, got 0 answers", _FIX_LISTS)
        return None
    streamed = bool((lists.ttft_s[ok] > 0).any())
    _check_order(fields, lists, ok, streamed)
    unknown = np.full(ok.size, np.nan)
    inputs = unknown if lists.input_tokens is None else lists.input_tokens
    ttft_s = lists.ttft_s if streamed else unknown
    requests = arrays.Requests(
        inputs, lists.output_tokens, np.zeros(ok.size), ttft_s, lists.e2e_s, ~lists.has_error
    )
    figures_ms = arrays.request_figures_ms(lists.output_tokens[ok], ttft_s[ok], lists.e2e_s[ok])
    if streamed and lists.itls_s is not None:
        gaps = [values for values, kept in zip(lists.itls_s, ok, strict=True) if kept]
        figures_ms |= arrays.statistics_ms("itl", np.concatenate(gaps))
    return PerRequest(
        n_ok=int(ok.sum()),
        n_failed=int((~ok).sum()),
        n_empty=int((~lists.has_error & ~ok).sum()),
        input_tokens_mean=None if lists.input_tokens is None else float(inputs[ok].mean()),
        output_tokens_sum=float(lists.output_tokens[ok].sum()),
        figures_ms=figures_ms,
        notes=arrays.remarks(requests),
    )


def _agrees(fields: Fields, field: str, unit: str, expected: float) -> None:
    """Returns nothing; keeps a fault when a redundant figure contradicts the totals by over 1 %."""
    value = fields.number(field, unit)
    if value is not None and not math.isclose(value, expected, rel_tol=0.01):
        fields.fault(field, f"the totals give {expected:.6g} {unit}, got {value:.6g}")


def _lists(fields: Fields) -> _Lists | None:
    """Returns the lists of a run, checked for type and length; None after keeping faults."""
    before = len(fields.faults)
    output_tokens = fields.numbers("output_lens", "tokens")
    ttft_s = fields.numbers("ttfts", "s")
    input_tokens = fields.numbers("input_lens", "tokens")
    latencies_s = fields.numbers("latencies", "s")
    itls_s = _itls(fields)
    errors = fields.items("errors")
    if latencies_s is None and itls_s is None and len(fields.faults) == before:
        fields.fault("latencies", "neither latencies nor itls is there, got nothing", _FIX_LISTS)
    if output_tokens is None or ttft_s is None or len(fields.faults) > before:
        return None
    n = output_tokens.size
    named = {"ttfts": ttft_s, "input_lens": input_tokens, "latencies": latencies_s}
    for field, values in {**named, "itls": itls_s, "errors": errors}.items():
        if values is not None and len(values) != n:
            what = f"output_lens has {n} entries, got {len(values)}"
            fields.fault(field, what, _FIX_LISTS)
    if len(fields.faults) > before:
        return None
    if latencies_s is None:
        assert itls_s is not None
        latencies_s = ttft_s + np.array([gaps.sum() for gaps in itls_s])
    has_error = np.array([bool(error) for error in errors or [""] * n], dtype=np.bool_)
    return _Lists(output_tokens, ttft_s, latencies_s, input_tokens, itls_s, has_error)


def _itls(fields: Fields) -> list[FloatArray] | None:
    """Returns the gaps between tokens in s of every request; None if absent or faulty."""
    rows = fields.items("itls")
    if rows is None:
        return None
    gaps: list[FloatArray] = []
    for place, row in enumerate(rows):
        if not isinstance(row, list):
            what = f"must be a list of gaps in s, got {type(row).__name__}"
            fields.fault(f"itls[{place}]", what, _FIX_LISTS)
            return None
        values = fields.array(f"itls[{place}]", row, "s")
        if values is None:
            return None
        gaps.append(values)
    return gaps


def _check_order(fields: Fields, lists: _Lists, ok: BoolArray, streamed: bool) -> None:
    """Returns nothing; keeps a fault when an answer took no time, or its first token came last."""
    no_time = ok & (lists.e2e_s <= 0)
    if no_time.any():
        place = int(np.argmax(no_time))
        fields.fault(f"latencies[{place}]", "an answer takes time, got 0 s", _FIX_LISTS)
    late = ok & ((lists.ttft_s <= 0) | (lists.ttft_s > lists.e2e_s * (1 + 1e-9)))
    if streamed and late.any():
        place = int(np.argmax(late))
        what = f"must be above 0 s and at most the request's latency {lists.e2e_s[place]:g} s"
        fields.fault(f"ttfts[{place}]", f"{what}, got {lists.ttft_s[place]:g} s", _FIX_LISTS)
