"""What a run leaves behind: one row per request, one row per replica, as columns.

Notation (N requests in order of arrival, R replicas)
    a_i, f_i, d_i    arrived, first token, done         ps, -1 = never
    o_i              output tokens of request i

    ttft = f - a        e2e = d - a        tpot = (e2e - ttft) / (o - 1),  o >= 2        (§2)

Only an answer whose time is known (Outcome.OK) has latencies; every other row holds NaN.

A request that goes through a cascade is one row as its user sees it: the first answer is held back
until it is known to be trusted, so f = d where it is; where it is not, f and d are those of the
second answer. Pool, replica and tokens are those of the stage that answers. What the pools see is
in `visits`: a row per stage, which arrives when the stage before it is done. Without cascades that
is the same as what users see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from planner.simulate.units import PS_PER_MS
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.base import Metric


class Outcome(IntEnum):
    """How a request ended."""

    OK = 0
    FAILED = 1  # its replica died under it, or nobody was up to take it
    REFUSED = 2  # it can never fit into the KV cache of a replica
    UNTIMED = 3  # answered by a pool whose latency nobody has measured


@dataclass(frozen=True)
class Records:
    """Every request of one run; all columns (N,), `arrived_ps` ascending."""

    class_names: tuple[str, ...]
    pool_names: tuple[str, ...]
    class_index: IntArray
    pool_index: IntArray  # the pool that it was sent to last
    replica_index: IntArray  # within its pool, -1 = none took it
    arrived_ps: IntArray
    first_ps: IntArray
    done_ps: IntArray
    input_tokens: IntArray
    output_tokens: IntArray
    n_preempted: IntArray
    outcome: IntArray  # values of Outcome
    cascaded: Cascaded | None = None  # of a cluster with cascades

    @property
    def visits(self) -> Records:
        """Returns a row per answer that was asked of a pool, in order of arrival there."""
        return self if self.cascaded is None else self.cascaded.visits

    @property
    def n_requests(self) -> int:
        """Returns the number of requests."""
        return self.arrived_ps.size

    @property
    def is_timed(self) -> BoolArray:
        """Returns which requests were answered in a known time, (N,)."""
        return np.asarray(self.outcome == Outcome.OK)

    @property
    def is_answered(self) -> BoolArray:
        """Returns which requests were answered, (N,), be it in a time that nobody knows."""
        return np.asarray(self.is_timed | (self.outcome == Outcome.UNTIMED))

    @property
    def ttft_ms(self) -> FloatArray:
        """Returns the times to first token in ms, (N,); NaN where there is none."""
        return self._since_ms(self.first_ps, self.arrived_ps)

    @property
    def e2e_ms(self) -> FloatArray:
        """Returns the times to the whole answer in ms, (N,); NaN where there is none."""
        return self._since_ms(self.done_ps, self.arrived_ps)

    @property
    def tpot_ms(self) -> FloatArray:
        """Returns the times per token after the first in ms, (N,); NaN below two tokens."""
        n_gaps = np.where(self.output_tokens >= 2, self.output_tokens - 1.0, np.nan)
        return np.asarray(self._since_ms(self.done_ps, self.first_ps) / n_gaps)

    def between(self, start_ps: int, end_ps: int) -> Records:
        """Returns the requests that arrived from one moment to another, both included."""
        part = self._arrived(start_ps, end_ps)
        cascaded = self.cascaded
        if cascaded is not None:
            visits = cascaded.visits
            of_part = visits._arrived(start_ps, end_ps)
            cascaded = Cascaded(
                cascaded.cascade_index[part], visits.take(of_part), cascaded.visit_stage[of_part]
            )
        return replace(self.take(part), cascaded=cascaded)

    def take(self, part: IntArray | slice) -> Records:
        """Returns some rows, by index, without what cascades have beside."""
        columns = {name: getattr(self, name)[part] for name in _COLUMNS}
        return replace(self, **columns, cascaded=None)

    def _arrived(self, start_ps: int, end_ps: int) -> slice:
        first = int(np.searchsorted(self.arrived_ps, start_ps, side="left"))
        return slice(first, int(np.searchsorted(self.arrived_ps, end_ps, side="right")))

    def same_as(self, other: Records) -> bool:
        """Returns whether every request of two runs of one cluster fared the same."""
        alike = (np.array_equal(getattr(self, name), getattr(other, name)) for name in _COLUMNS)
        return all(alike) and (self.visits is self or self.visits.same_as(other.visits))

    def latency_ms(self, metric: Metric) -> FloatArray:
        """Returns a latency metric in ms, (N,); NaN where a request has none."""
        return {"ttft": self.ttft_ms, "tpot": self.tpot_ms, "e2e": self.e2e_ms}[metric]

    def _since_ms(self, later_ps: IntArray, earlier_ps: IntArray) -> FloatArray:
        return np.where(self.is_timed, (later_ps - earlier_ps) / PS_PER_MS, np.nan)


@dataclass(frozen=True)
class Cascaded:
    """What a run with cascades has beside its requests."""

    cascade_index: IntArray  # (N,) which cascade answered, -1: a pool on its own
    visits: Records  # V of them, in order of arrival at their pools
    visit_stage: IntArray  # (V,) 2 o: the first stage of cascade o, 2 o + 1: its second


_COLUMNS = tuple(
    f.name for f in fields(Records) if not f.name.endswith("_names") and f.name != "cascaded"
)


@dataclass(frozen=True)
class Usage:
    """What every replica of a run did, all columns (R,)."""

    pool_index: IntArray
    replica_index: IntArray
    busy_ps: IntArray  # time in steps
    n_steps: IntArray
    n_decoded_tokens: IntArray
    n_prefilled_tokens: IntArray
    barrier_idle_ps: IntArray  # of busy_ps, waiting for the slowest rank: mean over its ranks
    imbalance_tokens: FloatArray  # mean over steps of max - min KV load; NaN for one rank
    kv_capacity_tokens: IntArray


def columns(records: Records, seed: int) -> Mapping[str, npt.NDArray[np.generic]]:
    """Returns a run as a flat table, (N,) per column, times in ms since its start.

    A time that never came is NaN; names and outcomes are text.
    """
    outcomes = np.array([outcome.name.lower() for outcome in Outcome], dtype=object)
    return {
        "seed": np.full(records.n_requests, seed, dtype=np.int64),
        "class": np.array(records.class_names, dtype=object)[records.class_index],
        "pool": np.array(records.pool_names, dtype=object)[records.pool_index],
        "replica": records.replica_index,
        "arrived_ms": records.arrived_ps / PS_PER_MS,
        "first_token_ms": _or_nan(records.first_ps),
        "done_ms": _or_nan(records.done_ps),
        "ttft_ms": records.ttft_ms,
        "tpot_ms": records.tpot_ms,
        "e2e_ms": records.e2e_ms,
        "input_tokens": records.input_tokens,
        "output_tokens": records.output_tokens,
        "n_preempted": records.n_preempted,
        "outcome": outcomes[records.outcome],
    }


def _or_nan(at_ps: IntArray) -> FloatArray:
    """Returns moments in ms, NaN for those that never came."""
    return np.where(at_ps >= 0, at_ps / PS_PER_MS, np.nan)
