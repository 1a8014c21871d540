"""The requests of a question: when each arrives, of which class, and what it asks of every pool.

Notation
    i          a request, in order of arrival                                          (N,)
    c, p       its class; a pool                                                       (C,), (P,)
    u, v, w    uniform numbers of i: its prompt's and its answer's quantile, rounding  1
    z          uniform number of i: how far its first answer is from being trusted     1
    e          share of a cascade's requests that it sends on (escalates)              1
    Q_cp       nodes of a length distribution of class c on pool p, equally likely     tokens, (n,)
    h          share of a prompt that the prefix cache holds                           1

Program
    arrivals    those that the question names, or a recorded trace in their place
    class       by chance, with the mix of the classes' rates; a recorded one is kept
    prompt      floor(Q[floor(n u)] + frac(n u)), whose mean is that of the nodes
    answer      the same with v, independent of the prompt
    fresh       floor(prompt (1 - h) + w), whose mean is right, too; at least 1
    escalated   z < e, by each cascade of the class; where the length of the answer is the signal
                v >= 1 - e: the longest answers are sent on, and (v - 1 + e) / e, uniform again, is
                the quantile of the second answer. Both prompts are of the same quantile u: those
                that are sent on may be longer, as they were where the cascade was measured

The process is that of all requests together. For Poisson arrivals this is the same as a process of
each class's own, as merged Poisson streams are one Poisson stream whose classes are independent. A
bursty stream (gamma, weibull) is one renewal process with the stated cv and random classes: bursts
are of all classes at once, and the gaps of one class alone are nearer to Poisson ones.

The classes' rates, the schedule or the trace are replayed as they are: the rate that a plan was
made for (`planner.workload.planning_rates`) is their busiest five minutes, or their mean.

Every number has a stream of random numbers of its own, and a request the same quantiles on every
pool. So plans are compared on the same requests (common random numbers), a longer demand begins
with the shorter one of the same seed, and at another rate the same requests come, only faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from planner.arrivals import (
    RateCurve,
    Seed,
    along,
    gamma,
    poisson,
    repeated,
    round_s,
    square_curve,
    trace,
    weibull,
)
from planner.quality.cascade import CascadeOption
from planner.quality.lengths import DRAWN
from planner.simulate.units import PS_PER_S
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.inputs import QuestionFiles
from planner.spec.pool import Profile
from planner.spec.question import Bursty, Poisson, Schedule, Square, Trace, TraceRow
from planner.spec.workload import LENGTH_SIGNAL, Cascade, RequestShape, Workload
from planner.workload import busiest_minutes, make_workload, schedule_curve

LONGEST_S = 9e6
"""Far above any run, and within what picoseconds in 64 bits can hold."""

FILL_S = 300.0
"""In which an empty cluster fills before what happens to it counts."""

BELOW_ONE = math.nextafter(1.0, 0.0)
MIN_RATIO = 1e-12

_DRAWN_BY_MIX = -1  # in place of a class
_DRAWN = 0  # in place of a length


@dataclass(frozen=True)
class TokenArrays:
    """What each request asks of one pool, (N,) each; 0 where its class may not use the pool."""

    prompt: IntArray
    fresh: IntArray  # prompt tokens that the prefix cache does not hold, 1 <= fresh <= prompt
    output: IntArray  # at least 1


@dataclass(frozen=True)
class CascadeDemand:
    """What requests ask if they go through a cascade, and which of them it sends on."""

    escalated: BoolArray  # (N,)
    first: tuple[TokenArrays | None, ...]  # (P,) None for a pool that is not of the stage
    second: tuple[TokenArrays | None, ...]


@dataclass(frozen=True)
class Demand:
    """The requests to be served, in order of arrival."""

    arrived_ps: IntArray  # (N,) ascending
    class_index: IntArray  # (N,)
    priority: IntArray  # (N,) the larger, the earlier its turn
    tokens: tuple[TokenArrays | None, ...]  # (P,) None for a pool that no class may use
    cascades: tuple[CascadeDemand, ...] = ()  # (O,) as the classes of the routes list them

    @staticmethod
    def of(
        arrived_s: FloatArray,
        input_tokens: IntArray,
        output_tokens: IntArray,
        *,
        n_pools: int = 1,
        class_index: IntArray | None = None,
    ) -> Demand:
        """Returns requests that belong to no question and ask the same of every pool.

        Args:
            arrived_s: when each arrives, (N,) ascending from 0 on; see `planner.arrivals`.
            input_tokens: of their prompts, (N,); a prefix cache holds none of them.
            output_tokens: of their answers, (N,).
            n_pools: of the cluster that serves them.
            class_index: their classes, (N,); all of the first one by default.

        Raises:
            ValueError: the columns differ in length, arrivals go back or lie outside 0 to
                `LONGEST_S`, a request has no token in or out, or a class is below 0.
        """
        arrived_s = np.asarray(arrived_s, dtype=np.float64)
        n = arrived_s.size
        prompt, output, classes = (
            np.asarray(column, dtype=np.int64)
            for column in (
                input_tokens,
                output_tokens,
                [0] * n if class_index is None else class_index,
            )
        )
        if not {prompt.shape, output.shape, classes.shape} == {(n,)}:
            raise ValueError("arrivals, tokens and classes have one entry per request")
        if not np.all(np.diff(arrived_s, prepend=0.0, append=LONGEST_S) >= 0.0):
            raise ValueError(f"arrivals ascend from 0 to at most {LONGEST_S:g} s")
        if min(prompt.min(initial=1), output.min(initial=1)) < 1 or classes.min(initial=0) < 0:
            raise ValueError("a request has at least one token in and out, and a class from 0 on")
        return Demand(
            arrived_ps=np.rint(arrived_s * PS_PER_S).astype(np.int64),
            class_index=classes,
            priority=np.zeros(n, dtype=np.int64),
            tokens=(TokenArrays(prompt, prompt, output),) * n_pools,
        )


@dataclass(frozen=True)
class _Recorded:
    """What a trace tells of its requests, (n,) each, with what is to be drawn left open."""

    times_s: FloatArray
    class_index: IntArray
    prompt: IntArray
    output: IntArray


def drawn_workload(
    files: QuestionFiles, pools: Sequence[Profile], cascades: Sequence[CascadeOption] = ()
) -> Workload:
    """Returns the workload of a question with length distributions as fine as requests are drawn.

    Raises:
        InputError: a class never occurs in the trace that the question names.
    """
    return make_workload(files, pools, DRAWN, cascades)


def own_duration_s(
    files: QuestionFiles, rate_factor: float = 1.0, rows: Sequence[TraceRow] | None = None
) -> float | None:
    """Returns how long one round of a trace or of a schedule is, in s; None for what has no end.

    Args:
        files: the question.
        rate_factor: how much faster than the question says, as in `make_demand`.
        rows: a trace in place of the question's arrivals.
    """
    arrivals, recorded = files.question.arrivals, _recorded(files, rate_factor, rows)
    if recorded is not None:
        return round_s(recorded.times_s)
    return schedule_curve(files).period_s if isinstance(arrivals, Schedule) else None


def busiest_window(files: QuestionFiles, rate_factor: float = 1.0) -> tuple[float, float] | None:
    """Returns start and end, in s since the first arrival, of the time that is planned for.

    None where a question is planned at its mean. A trace that is replayed faster is over sooner:
    so are its five minutes. Where they come before a cluster could fill (FILL_S), they are those of
    a later round.
    """
    found = busiest_minutes(files)
    if found is None:
        return None
    arrivals = files.question.arrivals
    faster = rate_factor * arrivals.rate_factor if isinstance(arrivals, Trace) else 1.0
    begin_s, end_s = found[0] / faster, found[1] / faster
    if isinstance(arrivals, Square):
        round_of = arrivals.period_s
    else:
        round_of = own_duration_s(files, rate_factor) or FILL_S
    later_s = round_of * math.ceil(max(FILL_S - begin_s, 0.0) / round_of)
    return begin_s + later_s, end_s + later_s


def make_demand(
    files: QuestionFiles,
    workload: Workload,
    *,
    duration_s: float,
    seed: int,
    start_s: float = 0.0,
    rate_factor: float = 1.0,
    rows: Sequence[TraceRow] | None = None,
) -> Demand:
    """Returns the requests of a question; the same arguments give the same requests.

    Args:
        files: the question and the tables that it names.
        workload: its `drawn_workload` on the pools that there are, (P,).
        duration_s: how long requests arrive; a schedule or trace that is shorter is repeated.
        seed: of arrivals, classes and lengths.
        start_s: where in the arrivals to begin; times count from there. Recorded and renewal
            arrivals are those that come then in a demand that begins at 0; those along a curve
            are drawn from there on, so that a late part of a long one costs no more.
        rate_factor: multiplies the rates, beside the factor that the question has.
        rows: a trace in place of the question's arrivals; of the question's classes, in order of
            time, over more than an instant.

    Raises:
        ValueError: the duration is not above zero or too long for picoseconds, the start is below
            zero, the factor is not above zero, or the trace spans no time.
    """
    curve = _curve(files) if rows is None else None
    end_s = start_s + duration_s
    if not (start_s >= 0.0 and 0.0 < duration_s <= LONGEST_S):
        raise ValueError(
            f"requests arrive for some time up to {LONGEST_S:g} s, "
            f"got {duration_s} s from {start_s} s on"
        )
    arrival, kind, prompt, output, rounding, trust = np.random.SeedSequence(seed).spawn(6)
    recorded = _recorded(files, rate_factor, rows)
    if curve is not None:
        times_s = along(
            curve.curve,
            seed=arrival,
            start_s=start_s,
            duration_s=duration_s,
            rate_factor=rate_factor * curve.rate_factor,
        )
        recorded, start_s = _nothing_recorded(times_s), 0.0
    elif recorded is None:
        times_s = _renewals(files, rate_factor, end_s, arrival)
        recorded = _nothing_recorded(times_s)
    else:
        times_s = repeated(recorded.times_s, end_s)
    n = times_s.size
    part = slice(int(np.searchsorted(times_s, start_s, side="left")), n)
    row = np.arange(n)[part] % max(recorded.times_s.size, 1)
    class_index = recorded.class_index[row]
    by_mix = class_index == _DRAWN_BY_MIX
    class_index[by_mix] = _classes(files, _uniform(kind, n)[part])[by_mix]
    draw = _Draw(
        class_index,
        (recorded.prompt[row], recorded.output[row]),
        (_uniform(prompt, n)[part], _uniform(output, n)[part]),
        _uniform(rounding, n)[part],
    )
    trusted = _uniform(trust, n)[part] if workload.cascades else np.empty(0)
    priority = np.array([c.priority for c in files.question.classes], dtype=np.int64)
    return Demand(
        arrived_ps=np.rint((times_s[part] - start_s) * PS_PER_S).astype(np.int64),
        class_index=class_index,
        priority=priority[class_index],
        tokens=draw.on_pools(workload.shapes[: workload.n_classes]),
        cascades=tuple(draw.through(cascade, workload, trusted) for cascade in workload.cascades),
    )


# ---- When they arrive ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Curve:
    """A rate over time, and how many times as high it is."""

    curve: RateCurve
    rate_factor: float


def _curve(files: QuestionFiles) -> _Curve | None:
    """Returns the rate that a question's arrivals follow; None where they follow none."""
    arrivals = files.question.arrivals
    if isinstance(arrivals, Square):
        return _Curve(square_curve(arrivals.low_rps, arrivals.high_rps, arrivals.period_s), 1.0)
    if isinstance(arrivals, Schedule):
        return _Curve(schedule_curve(files), arrivals.rate_factor)
    return None


def _renewals(
    files: QuestionFiles, rate_factor: float, duration_s: float, seed: Seed
) -> FloatArray:
    """Returns the arrivals (N,) in s of a question whose rate is one and the same."""
    question = files.question
    arrivals = question.arrivals
    assert isinstance(arrivals, Poisson | Bursty)  # others follow a curve or a trace
    rate_rps = rate_factor * arrivals.rate_factor * sum(c.rate_rps for c in question.classes)
    if isinstance(arrivals, Bursty):
        process = gamma if arrivals.process == "gamma" else weibull
        return process(rate_rps, arrivals.cv, seed=seed, duration_s=duration_s)
    return poisson(rate_rps, seed=seed, duration_s=duration_s)


def _recorded(
    files: QuestionFiles, rate_factor: float, rows: Sequence[TraceRow] | None
) -> _Recorded | None:
    """Returns the trace to be replayed, at its speed; None where there is none."""
    arrivals = files.question.arrivals
    factor = rate_factor
    if rows is None:
        if not isinstance(arrivals, Trace):
            return None
        rows, factor = files.trace, rate_factor * arrivals.rate_factor
    index_of = {c.name: k for k, c in enumerate(files.question.classes)}
    return _Recorded(
        times_s=trace(np.array([r.timestamp_s for r in rows]), factor),
        class_index=np.array(
            [_DRAWN_BY_MIX if r.class_name is None else index_of[r.class_name] for r in rows],
            dtype=np.int64,
        ),
        prompt=_whole([r.input_tokens for r in rows]),
        output=_whole([r.output_tokens for r in rows]),
    )


def _nothing_recorded(times_s: FloatArray) -> _Recorded:
    lengths = np.full(times_s.size, _DRAWN)
    return _Recorded(times_s, np.full(times_s.size, _DRAWN_BY_MIX), lengths, lengths)


def _whole(tokens: Sequence[float | None]) -> IntArray:
    """Returns recorded token counts as whole numbers of at least 1, (n,)."""
    counts = [_DRAWN if count is None else max(1, round(count)) for count in tokens]
    return np.array(counts, dtype=np.int64)


# ---- What they ask -------------------------------------------------------------------------------


def _uniform(seed: Seed, n: int) -> FloatArray:
    """Returns numbers in [0, 1), (n,)."""
    return np.random.default_rng(seed).random(n)


def _classes(files: QuestionFiles, u: FloatArray) -> IntArray:
    """Returns classes drawn with the mix of their rates, (N,)."""
    rates = np.cumsum([c.rate_rps for c in files.question.classes])
    return np.asarray(np.searchsorted(rates[:-1], u * rates[-1], side="right"), dtype=np.int64)


def _tokens(nodes: FloatArray, u: FloatArray) -> IntArray:
    """Returns whole token counts (N,) of which `nodes` (n,) are the equally likely means.

    Within a node the fraction of n u is uniform and rounds up as often as the mean asks for.
    """
    place = u * nodes.size
    node = place.astype(np.int64)
    return np.floor(nodes[node] + (place - node)).astype(np.int64)


class _Draw:
    """What the requests ask of a pool, given the random numbers that they have on all pools."""

    def __init__(
        self,
        class_index: IntArray,
        recorded: tuple[IntArray, IntArray],
        quantiles: tuple[FloatArray, FloatArray],
        rounding: FloatArray,
    ) -> None:
        n_classes = int(class_index.max(initial=-1)) + 1
        self._places = [np.flatnonzero(class_index == c) for c in range(n_classes)]
        self._recorded_prompt, self._recorded_output = recorded
        self._prompt_quantile, self._output_quantile = quantiles
        self._rounding = rounding
        self._made: dict[tuple[object, ...], TokenArrays] = {}

    def through(self, cascade: Cascade, workload: Workload, trusted: FloatArray) -> CascadeDemand:
        """Returns what requests ask if they go through a cascade of their class.

        Args:
            cascade: of the workload.
            workload: whose rows the stages of the cascade have.
            trusted: z, (N,).
        """

        def stage(draw: _Draw, row: int) -> tuple[TokenArrays | None, ...]:
            rows: list[tuple[RequestShape | None, ...]]
            rows = [(None,) * workload.n_pools] * workload.n_classes
            rows[cascade.class_index] = workload.shapes[row]
            return draw.on_pools(rows)

        e, second = cascade.escalated_ratio, self
        escalated = trusted < e
        if cascade.signal == LENGTH_SIGNAL:
            escalated = self._output_quantile >= 1.0 - e
            rest = np.where(escalated, (self._output_quantile - 1.0 + e) / max(e, MIN_RATIO), 0.0)
            second = self._with_answers(np.clip(rest, 0.0, BELOW_ONE))
        return CascadeDemand(
            escalated, stage(self, cascade.first_row), stage(second, cascade.second_row)
        )

    def _with_answers(self, quantile: FloatArray) -> _Draw:
        """Returns the same requests with other quantiles of their answers, (N,)."""
        other = copy(self)
        other._output_quantile, other._made = quantile, {}
        return other

    def on_pools(
        self, shapes: Sequence[Sequence[RequestShape | None]]
    ) -> tuple[TokenArrays | None, ...]:
        """Returns the token counts on pools with these shapes by class and pool, (C, P)."""
        return tuple(self.on_pool(column) for column in zip(*shapes, strict=True))

    def on_pool(self, shapes: Sequence[RequestShape | None]) -> TokenArrays | None:
        """Returns the token counts on a pool with these shapes by class, (C,).

        Pools of one model share theirs.
        """
        if all(shape is None for shape in shapes):
            return None
        key = tuple(
            None if s is None else (id(s.input_tokens), id(s.output_tokens), s.cached_input_ratio)
            for s in shapes
        )
        if key not in self._made:
            self._made[key] = self._make(shapes)
        return self._made[key]

    def _make(self, shapes: Sequence[RequestShape | None]) -> TokenArrays:
        prompt, fresh, output = (np.zeros(self._rounding.size, np.int64) for _ in range(3))
        # A class of which no request came has no places.
        for places, shape in zip(self._places, shapes, strict=False):
            if shape is None:
                continue
            asked = _tokens(shape.input_tokens, self._prompt_quantile[places])
            answer = _tokens(shape.output_tokens, self._output_quantile[places])
            known_prompt, known_output = (
                self._recorded_prompt[places],
                self._recorded_output[places],
            )
            asked = np.where(known_prompt == _DRAWN, asked, known_prompt)
            uncached = asked * (1.0 - shape.cached_input_ratio) + self._rounding[places]
            prompt[places] = asked
            fresh[places] = np.clip(np.floor(uncached).astype(np.int64), 1, asked)
            output[places] = np.where(known_output == _DRAWN, answer, known_output)
        return TokenArrays(prompt, fresh, output)
