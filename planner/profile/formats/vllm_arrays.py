"""The requests of one `vllm bench serve` run (--save-detailed), and latency statistics of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.profile.fields import Fields
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.base import STATISTICS

_FIX = "export the run again with --save-detailed, or remove its lists to use the summary"


@dataclass(frozen=True)
class PerRequest:
    """What the requests of one run say; latencies in ms by field of Point."""

    n_ok: int
    n_failed: int
    n_empty: int  # of n_failed: answered without an error and without a token
    input_tokens_mean: float | None
    output_tokens_sum: float
    figures_ms: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Lists:
    """The lists of a run as arrays, one entry per request; times in s."""

    output_tokens: FloatArray  # (n,)
    ttft_s: FloatArray  # (n,)
    e2e_s: FloatArray  # (n,)
    input_tokens: FloatArray | None  # (n,)
    itls_s: list[FloatArray] | None
    has_error: BoolArray  # (n,)


def per_request(fields: Fields) -> PerRequest | None:
    """Returns the figures of a run's requests; None when it has no such lists, or a fault."""
    if not (fields.has("output_lens") and fields.has("ttfts")):
        return None
    lists = _lists(fields)
    if lists is None:
        return None
    ok = ~lists.has_error & (lists.output_tokens > 0)
    streamed = bool((lists.ttft_s[ok] > 0).any())
    _check_order(fields, lists, ok, streamed)
    n_empty = int((~lists.has_error & (lists.output_tokens == 0)).sum())
    if not ok.any():
        fields.fault("output_lens", "no request was answered, got 0 answers", _FIX)
        return None
    return PerRequest(
        n_ok=int(ok.sum()),
        n_failed=int((~ok).sum()),
        n_empty=n_empty,
        input_tokens_mean=_mean_or_none(lists.input_tokens, ok),
        output_tokens_sum=float(lists.output_tokens[ok].sum()),
        figures_ms=_figures_ms(lists, ok, streamed),
        notes=_notes(lists, ok, n_empty, streamed),
    )


def statistics_ms(metric: str, times_s: FloatArray) -> dict[str, float]:
    """Returns mean and percentiles in ms of times (n,) in s, by field of Point; none of zero.

    Percentiles are linear between order statistics, as vLLM's own (numpy's default).
    """
    if times_s.size == 0:
        return {}
    found: dict[str, float] = {}
    for statistic in STATISTICS:
        mean = statistic == "mean"
        value_s = times_s.mean() if mean else np.percentile(times_s, int(statistic[1:]))
        if value_s > 0:
            found[f"{metric}_{statistic}_ms"] = float(value_s) * 1e3
    return found


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
        fields.fault("latencies", "neither latencies nor itls is there, got nothing", _FIX)
    if output_tokens is None or ttft_s is None or len(fields.faults) > before:
        return None
    n = output_tokens.size
    named = {"ttfts": ttft_s, "input_lens": input_tokens, "latencies": latencies_s}
    for field, values in {**named, "itls": itls_s, "errors": errors}.items():
        if values is not None and len(values) != n:
            what = f"output_lens has {n} entries, got {len(values)}"
            fields.fault(field, what, _FIX)
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
            fields.fault(f"itls[{place}]", what, _FIX)
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
        fields.fault(f"latencies[{place}]", "an answer takes time, got 0 s", _FIX)
    late = ok & ((lists.ttft_s <= 0) | (lists.ttft_s > lists.e2e_s * (1 + 1e-9)))
    if streamed and late.any():
        place = int(np.argmax(late))
        what = f"must be above 0 s and at most the request's latency {lists.e2e_s[place]:g} s"
        fields.fault(f"ttfts[{place}]", f"{what}, got {lists.ttft_s[place]:g} s", _FIX)


def _figures_ms(lists: _Lists, ok: BoolArray, streamed: bool) -> dict[str, float]:
    """Returns the latency statistics in ms of the answered requests, by field of Point."""
    figures = statistics_ms("e2e", lists.e2e_s[ok])
    if not streamed:
        return figures
    figures |= statistics_ms("ttft", lists.ttft_s[ok])
    several = ok & (lists.output_tokens >= 2)
    decode_s = np.maximum(lists.e2e_s[several] - lists.ttft_s[several], 0.0)
    figures |= statistics_ms("tpot", decode_s / (lists.output_tokens[several] - 1))
    if lists.itls_s is not None:
        gaps = [values for values, kept in zip(lists.itls_s, ok, strict=True) if kept]
        figures |= statistics_ms("itl", np.concatenate(gaps))
    return figures


def _notes(lists: _Lists, ok: BoolArray, n_empty: int, streamed: bool) -> tuple[str, ...]:
    """Returns what a reader should know of the requests of a run."""
    n_ok, n_failed = int(ok.sum()), int((~ok).sum())
    n_short = int((ok & (lists.output_tokens < 2)).sum())
    notes = []
    if n_failed:
        notes.append(f"{n_failed} of {ok.size} requests failed and are in no latency figure")
    if n_empty:
        notes.append(f"{n_empty} of the failed requests were answered without a single token")
    if not streamed:
        notes.append("answers were not streamed: ttft, tpot and itl are not measured")
    elif n_short:
        notes.append(f"{n_short} of {n_ok} answers have one token and are in no tpot figure")
    return tuple(notes)


def _mean_or_none(values: FloatArray | None, ok: BoolArray) -> float | None:
    """Returns the mean over the answered requests, None where the list is absent."""
    return None if values is None else float(values[ok].mean())
