"""Which part of a run counts: not the time in which an empty cluster fills.

    x_k     requests in flight on average in bucket k of the time in which requests arrive,
            averaged over the runs (Welch)
    start   where MSER-5 cuts x, at most at half of the time (planner/steady.py)

A request counts when it arrives from `start` on; it is followed to its end, however late that is.

A run is counted whole when its rate changes by plan (a trace, a schedule, a square wave) or when
replicas fail: there is no steady state to wait for, and what happens early is part of the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.simulate.records import Records
from planner.simulate.series import mean_level
from planner.simulate.units import PS_PER_S
from planner.spec.arrays import FloatArray
from planner.steady import batches, drift_ratio, settled_from

N_BUCKETS = 500
DRIFTS_RATIO = 0.2
"""A change of the number in flight over the counted part that is no steady state."""


@dataclass(frozen=True)
class Window:
    """The arrivals that count, start <= arrived <= end."""

    start_ps: int
    end_ps: int
    settled: bool = True  # a steady load neither rose nor fell in it

    @property
    def duration_s(self) -> float:
        """Returns how long it is, in s."""
        return (self.end_ps - self.start_ps) / PS_PER_S


def steady_window(runs: Sequence[Records], end_ps: int) -> Window:
    """Returns the part that counts of runs in which requests arrive at one rate up to end_ps."""
    in_flight = np.mean([_in_flight(run, end_ps) for run in runs], axis=0)
    cut = settled_from(in_flight)
    parts = batches(in_flight[cut:])
    settled = parts is None or abs(drift_ratio(parts)) <= DRIFTS_RATIO
    return Window(end_ps * cut // N_BUCKETS, end_ps, settled)


def _in_flight(run: Records, end_ps: int) -> FloatArray:
    """Returns the mean number of answered requests in flight by bucket, (N_BUCKETS,)."""
    here = run.is_answered
    edges_s = np.linspace(0.0, end_ps / PS_PER_S, N_BUCKETS + 1)
    return mean_level(run.arrived_ps[here] / PS_PER_S, run.done_ps[here] / PS_PER_S, edges_s)
