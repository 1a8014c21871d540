"""Runs of an engine as they are seen from outside, and the same run played by the simulator.

Notation (N requests in order of sending)
    a_i, f_i, d_i    sent, first token, answered                                          ms
    o_i              output tokens
    t0               what a request waits for beside any step of the engine               ms

    ttft = f - a        e2e = d - a        tpot = (d - f) / (o - 1),  o >= 2              (§2)

An open loop is played with its own arrivals. Of a closed loop only the users are kept, the order
of the requests and when the last one was sent: who is sent when follows from the answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from planner.simulate.barrier import Group
from planner.simulate.closed_loop import run_closed_loop
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, Times, Tokens
from planner.simulate.units import PS_PER_MS
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import METRICS, Metric

EVERYTHING = slice(None)

# A played closed loop is over when it has sent this many times the recorded requests: step times
# that are far too short would go on for very long.
_MOST_LAPS = 2


@dataclass(frozen=True)
class Recording:
    """What one replica was asked and when it answered; times (N,) in ms since the start.

    Raises ValueError when columns differ in length or an answer comes before its request.
    """

    tokens: Tokens
    arrived_ms: FloatArray
    first_ms: FloatArray
    done_ms: FloatArray
    n_users: int = 0  # of a closed loop; 0 is an open one
    duration_ms: float = math.inf  # a closed loop sends nothing from then on
    shortest_tokens: int = 2  # answers below have no tpot: some clients see the last tokens at once

    def __post_init__(self) -> None:
        n = len(self.tokens.prompt)
        if not n == self.arrived_ms.size == self.first_ms.size == self.done_ms.size:
            raise ValueError(f"every column has one entry for each of the {n} requests")
        if (self.first_ms < self.arrived_ms).any() or (self.done_ms < self.first_ms).any():
            raise ValueError("a request arrives, then has its first token, then is done")

    @property
    def n_requests(self) -> int:
        """Returns the number of requests."""
        return self.arrived_ms.size

    @property
    def output_tokens(self) -> IntArray:
        """Returns the output tokens of every request, (N,)."""
        return np.asarray(self.tokens.output, dtype=np.int64)

    def latency_ms(self, metric: Metric, part: slice = EVERYTHING) -> FloatArray:
        """Returns a latency of the requests of a part, in ms; those that have none are left out."""
        arrived, first, done = self.arrived_ms[part], self.first_ms[part], self.done_ms[part]
        if metric == "ttft":
            return first - arrived
        if metric == "e2e":
            return done - arrived
        n_gaps = self.output_tokens[part] - 1
        several = n_gaps >= self.shortest_tokens - 1
        return np.asarray((done - first)[several] / n_gaps[several])


def statistics_ms(recording: Recording, part: slice = EVERYTHING) -> FloatArray:
    """Returns mean, p50, p90, p95 and p99 of ttft, tpot and e2e in ms, (3, 5)."""
    values = [recording.latency_ms(metric, part) for metric in METRICS]
    return np.array([[v.mean(), *np.quantile(v, (0.5, 0.9, 0.95, 0.99))] for v in values])


def play(recording: Recording, settings: EngineSettings, request_ms: float = 0.0) -> Recording:
    """Returns what the simulator makes of the requests of a recording.

    Args:
        recording: what was asked and when; its answers are not looked at.
        settings: of the one replica or group that is asked.
        request_ms: t0, which delays first tokens and answers alike.

    Raises:
        ValueError: a request that does not fit into the replica.
    """
    return (_play_closed if recording.n_users else _play_open)(recording, settings, request_ms)


def _play_open(recording: Recording, settings: EngineSettings, request_ms: float) -> Recording:
    times = Times.none_yet(recording.n_requests)
    station = _station(settings, recording.tokens, times)
    for i, at_ps in enumerate(np.rint(recording.arrived_ms * PS_PER_MS).astype(np.int64).tolist()):
        station.advance(at_ps)
        if not station.submit(i, at_ps):
            raise ValueError(f"request {i} asks for more than the KV cache of the replica")
    station.drain()
    return replace(
        recording,
        first_ms=np.maximum(_ms(times.first_ps) + request_ms, recording.arrived_ms),
        done_ms=np.maximum(_ms(times.done_ps) + request_ms, recording.arrived_ms),
    )


def _play_closed(recording: Recording, settings: EngineSettings, request_ms: float) -> Recording:
    asked = recording.tokens
    laps = Tokens(asked.prompt * _MOST_LAPS, asked.fresh * _MOST_LAPS, asked.output * _MOST_LAPS)
    times = Times.none_yet(len(laps.prompt))
    finite = math.isfinite(recording.duration_ms)
    sent_ps = run_closed_loop(
        _station(settings, laps, times),
        times,
        n_users=recording.n_users,
        think_ps=max(round(request_ms * PS_PER_MS), 1),
        duration_ps=round(recording.duration_ms * PS_PER_MS) if finite else None,
    )
    n = len(sent_ps)
    return replace(
        recording,
        tokens=Tokens(laps.prompt[:n], laps.fresh[:n], laps.output[:n]),
        arrived_ms=_ms(sent_ps),
        first_ms=_ms(times.first_ps[:n]) + request_ms,
        done_ms=_ms(times.done_ps[:n]) + request_ms,
    )


def _ms(times_ps: list[int]) -> FloatArray:
    return np.array(times_ps, dtype=np.float64) / PS_PER_MS


def _station(settings: EngineSettings, tokens: Tokens, times: Times) -> Replica | Group:
    return (Group if settings.n_ranks > 1 else Replica)(settings, tokens, times)
