"""The requests of one run as arrays, whichever tool recorded them, and the figures of a Point.

Notation
    i_k, o_k  input and output tokens of request k                          (n,)
    s_k       when it was sent, s                                           (n,)
    t_k, e_k  its time to first token and end-to-end latency, s             (n,)
    A         the requests answered, each with at least one output token
    D         how long requests were measured, s
    tpot_k = (e_k - t_k) / (o_k - 1)      over answers with o_k >= 2 (§2)
    X      = |A| / D                      requests answered per second
    L      = X * mean(e_k)                mean requests in flight (Little 1961, L = lambda W)

A rate counts only what ended while it was measured; a latency needs no such care.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.profile.fields import Fields
from planner.profile.formats.loads import note_failures
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.base import STATISTICS

_TPOT_AGREES = 5.0  # factor between two ways to the mean tpot; a wrong unit is 1000 off
_ROUNDING_S = 1e-6  # what a float of seconds since 1970 may lose in one addition
_FIX_RUN = "measure this load level again and import the new file"


@dataclass(frozen=True)
class Requests:
    """What was measured of each request of a run; nan is 'not measured'."""

    input_tokens: FloatArray  # (n,)
    output_tokens: FloatArray  # (n,)
    start_s: FloatArray  # (n,) since any fixed moment
    ttft_s: FloatArray  # (n,)
    e2e_s: FloatArray  # (n,)
    ok: BoolArray  # (n,) answered without an error

    @property
    def answered(self) -> BoolArray:
        """Returns which requests brought at least one token, (n,)."""
        return self.ok & (self.output_tokens >= 1)

    @property
    def streamed(self) -> bool:
        """Returns whether a first token was timed at all."""
        return bool(np.isfinite(self.ttft_s[self.answered]).any())


def figures(
    requests: Requests, duration_s: float, window_s: tuple[float, float] = (-math.inf, math.inf)
) -> dict[str, object]:
    """Returns lengths, rates, counts and latencies (ms) of a run, by field of Point.

    Only requests that ended inside window_s count towards the rates. The arrays must hold at least
    one answered request (`check`).
    """
    answered = requests.answered
    end_s = requests.start_s + requests.e2e_s
    inside = answered & (end_s >= window_s[0] - _ROUNDING_S) & (end_s <= window_s[1] + _ROUNDING_S)
    inputs = requests.input_tokens[answered]
    known = inputs[np.isfinite(inputs)]
    latencies_ms = request_figures_ms(
        requests.output_tokens[answered], requests.ttft_s[answered], requests.e2e_s[answered]
    )
    return {
        **latencies_ms,
        "input_tokens": float(known.mean()) if known.size else None,
        "output_tokens": float(requests.output_tokens[answered].mean()),
        "achieved_rps": int(inside.sum()) / duration_s or None,
        "output_tokens_per_s": float(requests.output_tokens[inside].sum()) / duration_s or None,
        "n_requests": requests.ok.size,
        "n_failed": int((~answered).sum()),
        "duration_s": duration_s,
    }


def request_figures_ms(
    output_tokens: FloatArray, ttft_s: FloatArray, e2e_s: FloatArray
) -> dict[str, float]:
    """Returns ttft, tpot and e2e statistics in ms of answered requests, by field of Point.

    Args:
        output_tokens: tokens of each answer, (n,).
        ttft_s: time to first token in s, (n,); nan where the answer was not streamed.
        e2e_s: end-to-end latency in s, (n,).
    """
    streamed = ~np.isnan(ttft_s)
    several = streamed & (output_tokens >= 2)
    decode_s = np.maximum(e2e_s[several] - ttft_s[several], 0.0)
    return {
        **statistics_ms("ttft", ttft_s[streamed]),
        **statistics_ms("tpot", decode_s / (output_tokens[several] - 1)),
        **statistics_ms("e2e", e2e_s),
    }


def statistics_ms(metric: str, times_s: FloatArray) -> dict[str, float]:
    """Returns mean and percentiles in ms of times (n,) in s, by field of Point; none of zero.

    Percentiles are linear between order statistics (numpy's default, which the tools use too).
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


def in_flight(requests: Requests, duration_s: float) -> float:
    """Returns the mean requests in flight over duration_s, by Little's law."""
    return float(requests.e2e_s[requests.answered].sum()) / duration_s


def check(fields: Fields, field: str, requests: Requests) -> None:
    """Returns nothing; keeps a fault when nothing was answered, or a time cannot be."""
    answered = requests.answered
    if not answered.any():
        fields.fault(
            field, "no request brought a token, got 0 answers with output tokens", _FIX_RUN
        )
        return
    if np.isnan(requests.input_tokens[answered]).all():
        fields.fault(field, "no request says its input tokens, got nothing", _FIX_RUN)
    no_time = answered & ~(requests.e2e_s > 0)
    if no_time.any():
        place = int(np.argmax(no_time))
        what = f"an answer takes time, got {requests.e2e_s[place]:g} s"
        fields.fault(f"{field}[{place}]", what)
    timed = answered & np.isfinite(requests.ttft_s)
    late = timed & ((requests.ttft_s <= 0) | (requests.ttft_s > requests.e2e_s * (1 + 1e-6)))
    if late.any():
        place = int(np.argmax(late))
        what = (
            f"the first token comes above 0 s and within the {requests.e2e_s[place]:g} s of its "
            f"request, got {requests.ttft_s[place]:g} s"
        )
        fields.fault(f"{field}[{place}]", what)


def remarks(requests: Requests) -> list[str]:
    """Returns what a reader should know of the requests of a run."""
    answered = requests.answered
    n_answered, n_failed = int(answered.sum()), int((~answered).sum())
    n_empty = int((requests.ok & ~answered).sum())
    n_short = int((answered & (requests.output_tokens < 2)).sum())
    n_untimed = int((answered & np.isnan(requests.ttft_s)).sum())
    notes: list[str] = []
    note_failures(n_failed, answered.size, notes)
    if n_empty:
        notes.append(f"{n_empty} of the failed requests were answered without a single token")
    if not requests.streamed:
        notes.append("answers were not streamed: ttft, tpot and itl are not measured")
    elif n_untimed:
        notes.append(f"{n_untimed} of {n_answered} answers have no first-token time")
    elif n_short:
        notes.append(f"{n_short} of {n_answered} answers have one token and are in no tpot figure")
    return notes


def check_summary(fields: Fields, point: Mapping[str, object]) -> None:
    """Returns nothing; keeps a fault when a summary's means contradict each other.

    The means of ttft, tpot and e2e must fit together, or one of them is in another unit.
    """
    ttft, tpot, e2e, n_output = (
        point.get(key) for key in ("ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms", "output_tokens")
    )
    if isinstance(ttft, float) and isinstance(e2e, float) and ttft > e2e * (1 + 1e-6):
        what = f"the mean end-to-end latency is {e2e:g} ms, got a mean ttft of {ttft:g} ms"
        fields.fault("ttft_mean_ms", what)
    elif isinstance(ttft, float) and isinstance(e2e, float) and isinstance(tpot, float):
        if not isinstance(n_output, float) or n_output <= 2 or e2e - ttft < 0.01 * e2e:
            return
        expected = (e2e - ttft) / (n_output - 1)
        if not expected / _TPOT_AGREES <= tpot <= expected * _TPOT_AGREES:
            what = f"ttft, e2e and output tokens give about {expected:.3g} ms, got {tpot:.3g} ms"
            fields.fault("tpot_mean_ms", what)
