"""What one load level says: the steady part of its records, as a Point with its uncertainty.

Notation
    T            time at which the load ended (s)            w    start of the steady part (s)
    s_i, d_i     start and end of request i (s)              R_i  its latency d_i - s_i (s)
    N            mean number in flight in [w, T]             n    answers with d_i in [w, T]

The steady part starts after the time of a long answer (p90 of R, so that requests from before the
load are not missed among the answers), moved on by MSER-5 on R, but never later than at T/2. An
answer counts when it is finished in it: while the load was on, whenever it was sent. This treats
short and long answers alike once w > R_i, and what happens after T does not matter.

    open loop      answers/s = n / (T - w),     s_i = the scheduled time
    closed loop    answers/s = N / mean R       (Little's law; requests that march in step would
                                                make a count depend on where the window ends)
    tokens/s       = answers/s * mean answer tokens
    TPOT           = (E2E - TTFT) / (answer tokens - 1), of answers with 2 tokens or more
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from planner.profile.load.client import Outcome
from planner.profile.load.driver import Records
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import STATISTICS
from planner.spec.pool import Point
from planner.steady import (
    N_BATCHES,
    Interval,
    batches,
    drift_ratio,
    interval,
    settled_from,
)

FEWEST = 3  # answers that a mean is taken of
# A percentile is given when at least two or three answers lie above it; else it stays blank.
FEWEST_FOR: dict[str, int] = {"mean": FEWEST, "p50": 10, "p90": 30, "p95": 60, "p99": 200}
LATE_MS = 5.0  # own delay, p99, from which on the generator is called late
OVERLOADED_RATIO = 0.9  # answered below this share of what was sent
DRIFT_RATIO = 0.2  # change of latency or number in flight over the window that is called a drift
_IN_ONE_PIECE = 0.5  # share of answers without time between first and last chunk


@dataclass(frozen=True)
class Level:
    """One measured load: its point, what to know of it, and how sure its means are (95 %)."""

    point: Point | None  # None below FEWEST answers in the steady part
    notes: tuple[str, ...]
    window_start_s: float
    window_end_s: float
    n_in_flight: float  # mean over the window
    is_overloaded: bool
    is_steady: bool
    n_ok: int  # answers finished in the window
    n_failed: int  # failures in the window
    n_cancelled: int  # still running when the load ended
    failures: dict[Outcome, int]  # in the whole run
    ttft_ms: Interval | None
    tpot_ms: Interval | None
    e2e_ms: Interval | None
    output_tokens_per_s: Interval | None
    achieved_rps: Interval | None
    own_delay_p50_ms: float
    own_delay_p99_ms: float


@dataclass(frozen=True)
class _Window:
    """The steady part of a load, and its answers in the order in which they were finished."""

    start_s: float
    end_s: float
    places: IntArray  # (n,) of the answers in the records
    n_in_flight: float
    n_good_in_flight: float  # without those that failed
    n_failed: int
    ttft_s: FloatArray  # (n,) each
    e2e_s: FloatArray
    decode_s: FloatArray  # from the first to the last chunk
    n_output: FloatArray

    @property
    def duration_s(self) -> float:
        """Returns how long the window is in s."""
        return self.end_s - self.start_s

    @property
    def n_ok(self) -> int:
        """Returns the number of answers."""
        return int(self.places.size)

    @property
    def tpot_s(self) -> FloatArray:
        """Returns the time per output token in s of the answers with two tokens or more, (k,)."""
        several = self.n_output >= 2
        return self.decode_s[several] / (self.n_output[several] - 1.0)

    @property
    def is_in_one_piece(self) -> bool:
        """Returns whether most answers came all at once, so that nothing was streamed."""
        several = self.n_output >= 2
        at_once = self.decode_s[several] <= 0.0
        return bool(at_once.size and at_once.mean() > _IN_ONE_PIECE)


@dataclass(frozen=True)
class _Throughput:
    """Answers/s and output tokens/s, and both in equal parts of the window (N_BATCHES,)."""

    rate_rps: float
    tokens_per_s: float
    parts_rps: FloatArray | None
    parts_tokens_per_s: FloatArray | None

    @property
    def rate_interval(self) -> Interval | None:
        """Returns answers/s with their interval, None where it cannot be told."""
        return None if self.parts_rps is None else interval(self.rate_rps, self.parts_rps)

    @property
    def tokens_interval(self) -> Interval | None:
        """Returns output tokens/s with their interval, None where it cannot be told."""
        parts = self.parts_tokens_per_s
        return None if parts is None else interval(self.tokens_per_s, parts)


def measure(records: Records, *, source: str) -> Level:
    """Returns what the records of one load say; `source` goes into the point as it is."""
    window = _window(records)
    is_overloaded = records.mode == "open" and _is_overloaded(records, window)
    drifts = [] if is_overloaded else _drifts(records, window)
    timed = _timed(window, is_overloaded)
    throughput = _throughput(records, window)
    late_s = records.lag_s if records.mode == "closed" else records.sent_s - records.scheduled_s
    p50_ms, p99_ms = np.percentile(late_s, [50, 99]) * 1e3 if late_s.size else (0.0, 0.0)
    outcomes = Counter(Outcome(value) for value in records.outcome.tolist())
    n_cancelled = outcomes.pop(Outcome.CANCELLED, 0)
    outcomes.pop(Outcome.OK, None)
    notes = [
        *_notes_on_load(records, window, is_overloaded, drifts),
        *_notes_on_failures(records, outcomes),
        *_notes_on_figures(window),
        *_notes_on_delay(float(p99_ms)),
    ]
    return Level(
        point=_point(records, window, timed, throughput, source),
        notes=tuple(notes),
        window_start_s=window.start_s,
        window_end_s=window.end_s,
        n_in_flight=window.n_in_flight,
        is_overloaded=is_overloaded,
        is_steady=not (is_overloaded or drifts),
        n_ok=window.n_ok,
        n_failed=window.n_failed,
        n_cancelled=n_cancelled,
        failures=dict(outcomes),
        ttft_ms=_interval_ms(timed.get("ttft")),
        tpot_ms=_interval_ms(timed.get("tpot")),
        e2e_ms=_interval_ms(timed.get("e2e")),
        output_tokens_per_s=None if throughput is None else throughput.tokens_interval,
        achieved_rps=None if throughput is None else throughput.rate_interval,
        own_delay_p50_ms=float(p50_ms),
        own_delay_p99_ms=float(p99_ms),
    )


# ---- The steady part -----------------------------------------------------------------------------


def _window(records: Records) -> _Window:
    """Returns the steady part of a load."""
    end_s = records.load_end_s
    e2e_s = records.done_s - records.scheduled_s
    is_ok = (records.outcome == Outcome.OK) & (records.done_s <= end_s)
    places = np.flatnonzero(is_ok)
    places = places[np.argsort(records.done_s[places], kind="stable")]
    start_s = _start_s(records.done_s[places], e2e_s[places], end_s)
    places = places[records.done_s[places] > start_s]
    is_failed = (records.outcome != Outcome.OK) & (records.outcome != Outcome.CANCELLED)
    in_window = (records.done_s > start_s) & (records.done_s <= end_s)
    held_s = _overlap_s(records.scheduled_s, records.done_s, start_s, end_s)
    span_s = max(end_s - start_s, 1e-9)
    return _Window(
        start_s=start_s,
        end_s=end_s,
        places=places,
        n_in_flight=float(held_s.sum()) / span_s,
        n_good_in_flight=float(held_s[~is_failed].sum()) / span_s,
        n_failed=int((is_failed & in_window).sum()),
        ttft_s=(records.first_s - records.scheduled_s)[places],
        e2e_s=e2e_s[places],
        decode_s=(records.done_s - records.first_s)[places],
        n_output=records.n_output[places].astype(np.float64),
    )


def _start_s(done_s: FloatArray, e2e_s: FloatArray, end_s: float) -> float:
    """Returns where the steady part starts, from answers (n,) in the order of finishing."""
    if not done_s.size:
        return 0.0
    latest_s = end_s / 2.0
    start_s = float(min(np.percentile(e2e_s, 90), latest_s))
    after = done_s > start_s
    cut = settled_from(e2e_s[after])
    return min(float(done_s[after][cut - 1]), latest_s) if cut else start_s


def _overlap_s(from_s: FloatArray, to_s: FloatArray, start_s: float, end_s: float) -> FloatArray:
    """Returns how long each of the intervals (n,) lies between start and end, in s."""
    overlap_s: FloatArray = np.minimum(to_s, end_s) - np.maximum(from_s, start_s)
    return overlap_s.clip(min=0.0)


def _is_overloaded(records: Records, window: _Window) -> bool:
    """Returns whether requests pile up: more than a tenth of those sent, and beyond chance.

    The numbers in flight at two times are Poisson and independent at worst: two standard
    deviations of their difference.
    """
    if records.end == "cap":
        return True

    done_s = records.done_s[records.outcome != Outcome.CANCELLED]

    def n_at(time_s: float) -> int:
        return int((records.scheduled_s <= time_s).sum() - (done_s <= time_s).sum())

    n_start, n_end = n_at(window.start_s), n_at(window.end_s) + records.n_unsent
    n_arrived = _n_arrived(records, window)
    n_more = n_end - n_start
    chance = 2.0 * math.sqrt(n_start + n_end + 1.0)
    return n_more > (1.0 - OVERLOADED_RATIO) * n_arrived and n_more > chance


def _n_arrived(records: Records, window: _Window) -> int:
    """Returns the requests that were due in the window, sent or not."""
    return int((records.scheduled_s > window.start_s).sum()) + records.n_unsent


def _drifts(records: Records, window: _Window) -> list[str]:
    """Returns what still changes within the window, in words."""
    drifts = []
    latency = batches(window.e2e_s)
    if latency is not None and abs(change := drift_ratio(latency)) > DRIFT_RATIO:
        drifts.append(f"E2E changes by {change:+.0%}")
    if records.mode == "open":
        edges_s = np.linspace(window.start_s, window.end_s, N_BATCHES + 1)
        in_flight = np.array(
            [
                _overlap_s(records.scheduled_s, records.done_s, a, b).sum()
                for a, b in itertools.pairwise(edges_s.tolist())
            ]
        )
        if abs(change := drift_ratio(in_flight)) > DRIFT_RATIO:
            drifts.append(f"the number in flight changes by {change:+.0%}")
    return drifts


# ---- Figures -------------------------------------------------------------------------------------


def _timed(window: _Window, is_overloaded: bool) -> dict[str, FloatArray]:
    """Returns the latencies in s that mean something, by metric, in the order of finishing.

    While requests pile up, TTFT and E2E measure how long the load has lasted.
    """
    timed = {} if is_overloaded else {"e2e": window.e2e_s}
    if window.is_in_one_piece:
        return timed
    if not is_overloaded:
        timed["ttft"] = window.ttft_s
    return timed | {"tpot": window.tpot_s}


def _interval_ms(times_s: FloatArray | None) -> Interval | None:
    """Returns the mean in ms with its interval, None where it cannot be told."""
    means = None if times_s is None else batches(times_s)
    if times_s is None or means is None:
        return None
    return interval(float(times_s.mean()) * 1e3, means * 1e3)


def _throughput(records: Records, window: _Window) -> _Throughput | None:
    """Returns answers/s and output tokens/s, None below FEWEST answers."""
    if window.n_ok < FEWEST or window.duration_s <= 0.0:
        return None
    n_output, e2e_s = window.n_output, window.e2e_s
    tokens_per_answer = float(n_output.mean())
    if records.mode == "closed":
        rate_rps = window.n_good_in_flight / float(e2e_s.mean())
        time_s, tokens = batches(e2e_s), batches(n_output)
        if time_s is None or tokens is None:
            return _Throughput(rate_rps, rate_rps * tokens_per_answer, None, None)
        parts_rps = window.n_good_in_flight / time_s
        return _Throughput(rate_rps, rate_rps * tokens_per_answer, parts_rps, parts_rps * tokens)
    rate_rps = window.n_ok / window.duration_s
    if window.n_ok < 2 * N_BATCHES:
        return _Throughput(rate_rps, rate_rps * tokens_per_answer, None, None)
    edges_s = np.linspace(window.start_s, window.end_s, N_BATCHES + 1)
    done_s = records.done_s[window.places]
    width_s = window.duration_s / N_BATCHES
    counts = np.histogram(done_s, edges_s)[0] / width_s
    tokens_per_s = np.histogram(done_s, edges_s, weights=n_output)[0] / width_s
    return _Throughput(rate_rps, rate_rps * tokens_per_answer, counts, tokens_per_s)


def _point(
    records: Records,
    window: _Window,
    timed: dict[str, FloatArray],
    throughput: _Throughput | None,
    source: str,
) -> Point | None:
    """Returns the point of a load, None when too few answers were finished in its window."""
    if throughput is None:
        return None
    figures: dict[str, float] = {}
    for metric, times_s in timed.items():
        figures |= _statistics_ms(metric, times_s)
    load: dict[str, float | int | None] = {"concurrency": records.concurrency}
    if records.mode == "open":
        n_arrived = _n_arrived(records, window)
        load = {"offered_rps": n_arrived / window.duration_s if n_arrived else None}
    return Point.model_validate(
        {
            "input_tokens": float(records.n_input[window.places].mean()),
            "output_tokens": float(window.n_output.mean()),
            "mode": records.mode,
            **load,
            "achieved_rps": throughput.rate_rps,
            "output_tokens_per_s": throughput.tokens_per_s,
            **figures,
            "n_requests": window.n_ok + window.n_failed,
            "n_failed": window.n_failed,
            "duration_s": window.duration_s,
            "source": source,
        }
    )


def _statistics_ms(metric: str, times_s: FloatArray) -> dict[str, float]:
    """Returns the statistics in ms by field of Point that so many times can tell."""
    found: dict[str, float] = {}
    for statistic in STATISTICS:
        if times_s.size >= FEWEST_FOR[statistic]:
            is_mean = statistic == "mean"
            value_s = times_s.mean() if is_mean else np.percentile(times_s, int(statistic[1:]))
            if value_s > 0:
                found[f"{metric}_{statistic}_ms"] = float(value_s) * 1e3
    return found


# ---- Remarks -------------------------------------------------------------------------------------


def _notes_on_load(
    records: Records, window: _Window, is_overloaded: bool, drifts: list[str]
) -> list[str]:
    """Returns what a reader should know of the load and of how it ended."""
    notes = []
    if records.end == "cap":
        notes.append("stopped at the cap of requests in flight: the server did not keep up")
    if is_overloaded:
        notes.append(
            "overloaded: requests pile up, so TTFT and E2E grow as long as the load lasts; left out"
        )
    if drifts:
        notes.append(f"not steady, run it longer: within the window {' and '.join(drifts)}")
    if window.n_ok < FEWEST:
        notes.append(
            f"{window.n_ok} answers were finished in the steady part ({window.duration_s:.3g} s), "
            f"{FEWEST} are the fewest for a point"
        )
    return notes


def _notes_on_failures(records: Records, failures: Counter[Outcome]) -> list[str]:
    """Returns how many requests failed in the whole run, by kind, with an example of each."""
    notes = []
    for outcome, n in sorted(failures.items()):
        kind = outcome.name.lower().replace("_", " ")
        if outcome is Outcome.HTTP:
            statuses = records.status[records.outcome == Outcome.HTTP]
            kind = "HTTP " + ", ".join(str(status) for status in np.unique(statuses))
        example = records.examples.get(outcome, "")
        why = f"{kind}: {example}" if example else kind
        notes.append(f"{n} of {records.outcome.size} requests failed ({why})")
    return notes


def _notes_on_figures(window: _Window) -> list[str]:
    """Returns which latencies are missing and why."""
    if not window.is_in_one_piece:
        return []
    return ["answers came in one piece, not streamed: ttft and tpot are not measured"]


def _notes_on_delay(p99_ms: float) -> list[str]:
    """Returns whether the load generator was too slow for its own load."""
    if p99_ms < LATE_MS:
        return []
    return [
        f"the load generator itself was late: own delay p99 {p99_ms:.3g} ms, {LATE_MS:g} ms is the "
        "most that leaves latencies as they are; run it on a machine with nothing else to do"
    ]
