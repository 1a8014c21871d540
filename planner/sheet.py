"""The serving sheet of a plan: what a runtime must know beside the routes (serving.json).

Notation (class c, pool p, a request's input i and output o)
    F[n], C[n]   step of n sequences of one rank, and per token of context     ms
    s_cp         work of a request at the plan's mix                           s
    L(i, o)      load per request of a pool at its mix, sum_c m_c s_c          s
    e_l(t)       share of the requests in the scope of limit l above t         1
    y_l          price of limit l: quality per ratio of requests above it      1

Program
    knots       n = 0, 1, 2, 4, ... max_num_seqs; halved where F or C between two of them is off
                the line by more than KNOT_ERROR
    work        s_cp of the table; per token of class c  (L(1.25 i) - L(0.8 i)) / (0.45 i m_c)
    delay       per second  sum_l y_l (e_l(t/u) - e_l(t u)) / (t u - t/u)     l on ttft or e2e
                            + y_l where l is on a mean (its price is per ms)

Latencies that plan.json has are the plan's own; all else is its score, made again. The step law is
that of the simulator; what simulation has taught is in the classes' latencies: it corrects the
queueing formula, not the step. The price of delay is of one request picked at random: making all
requests of a class wait raises its tail by the density of its latency at the limit, and the limit's
price says what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from planner.answer import RATIO_DIGITS, ms_in_file
from planner.case import Case
from planner.files.plans import plan_hash
from planner.ordered import Rescored, case_of, rescore
from planner.routing import truth
from planner.score import Asked, Figure, figures_of
from planner.simulate.engines import UNBOUNDED_BLOCKS, engine_of, request_ps
from planner.simulate.hosted import HostedSettings
from planner.simulate.settings import EngineSettings, StepTimes
from planner.simulate.units import PS_PER_MS
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import METRICS, Statistic
from planner.spec.inputs import Inputs
from planner.spec.plan import DeployedPool, LatencyFigure, Plan
from planner.spec.sheet import (
    AnswerSheet,
    ClassSheet,
    PoolSheet,
    PredictedLatency,
    ServingSheet,
    StepKnots,
)
from planner.spec.workload import RequestShape, ScopedLimit
from planner.workload import arrival_cv

if TYPE_CHECKING:
    from planner.quality.cascade import CascadeOption

KNOT_ERROR = 0.004
"""Relative error of a step between two knots, below the 0.5 % that rounding may make of it."""

SHORTER, LONGER = 0.8, 1.25
"""Lengths between which the work per token is read: n* moves in whole sequences, so not closer."""

DENSITY_STEP = 1.05
STATISTICS: tuple[Statistic, ...] = ("mean", "p50", "p95")
DIGITS = 6  # significant ones


def make_sheet(
    inputs: Inputs, plan: Plan, cascades: Sequence[CascadeOption] | None = None
) -> ServingSheet:
    """Returns the serving sheet of a plan; with periods that of the busiest one.

    Args:
        inputs: what the plan was made of.
        plan: with pools and classes that the inputs know.
        cascades: that may be used; by default those that the scores prove, of a plan with any.

    Raises:
        InputError: a pool cannot be fitted.
    """
    if plan.periods is None:
        return sheet_of(case_of(inputs, plan, cascades), plan)
    from planner.periods.cases import inputs_in, spans_of  # other plans need none of it

    busiest = next(s for s in spans_of(inputs.files) if s.name == plan.periods.busiest)
    return sheet_of(case_of(inputs_in(inputs, busiest), plan, cascades), plan)


def sheet_of(case: Case, plan: Plan, again: Rescored | None = None) -> ServingSheet:
    """Returns the serving sheet of a plan in its own case (planner/ordered.py).

    Args:
        case: of the plan.
        plan: what was planned.
        again: its score in that case, where it is known already.
    """
    again, question = again or rescore(case, plan), case.question
    return ServingSheet(
        plan_hash=plan_hash(plan),
        title=plan.title,
        period=None if plan.periods is None else plan.periods.busiest,
        headroom_ratio=question.headroom_ratio,
        arrivals=question.arrivals.process,
        arrival_cv=arrival_cv(question),
        quality=round(again.score.quality, RATIO_DIGITS),
        quality_at_least=question.quality_at_least,
        limits=question.limits,
        latency=_latency(again, plan, None),
        delay_price_per_s=_digits(_delay_price_per_s(again, plan)),
        pools={entry.pool: _pool(case, again, entry) for entry in plan.deployment},
        classes={
            name: _class(case, again, plan, c) for c, name in enumerate(case.workload.class_names)
        },
    )


# ---- Pools ---------------------------------------------------------------------------------------


def _pool(case: Case, again: Rescored, entry: DeployedPool) -> PoolSheet:
    p = case.workload.pool_names.index(entry.pool)
    profile, table = case.pools[p], again.tables[p]
    price, load = profile.pool.price, float(again.score.loads[p])
    band = table.band_at("e2e", load) if table.has_latency else 0.0
    return PoolSheet.model_validate(
        {
            "model_name": entry.model_name,
            "scores_model_name": profile.pool.scores_model_name,
            "n_replicas": entry.replicas,
            "usd_per_h": round(entry.usd_per_h / entry.replicas, 4),
            "low_ratio": _digits(max(0.0, 1.0 - band)),
            "high_ratio": _digits(1.0 + band),
            "utilisation_ratio": round(float(again.score.utilisation[p]), RATIO_DIGITS),
            "max_load_ratio": _digits(float(table.max_load)),
            "rate_rps": round(float(again.score.pool_rps[p]), RATIO_DIGITS),
            **({} if price is None else {"max_rps": profile.pool.max_rps, **price.model_dump()}),
            **_engine(case, p),
        }
    )


def _engine(case: Case, p: int) -> dict[str, object]:
    """Returns the fields of a pool's sheet that say how fast one of its engines is."""
    settings = engine_of(case.models[p])
    if isinstance(settings, HostedSettings):
        return {"ttft_ms": settings.ttft_ms, "tpot_ms": settings.tpot_ms}
    return {
        "n_ranks": settings.n_ranks,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "kv_capacity_tokens": _kv_capacity_tokens(settings),
        "steps": _knots(settings.steps),
        "prompt_token_ms": _digits(settings.steps.prompt_token_ps / PS_PER_MS),
        "request_ms": _digits(request_ps(case.models[p]) / PS_PER_MS),
    }


def _kv_capacity_tokens(settings: EngineSettings) -> float | None:
    if settings.kv_blocks == UNBOUNDED_BLOCKS:
        return None
    return float(settings.kv_blocks * settings.block_tokens)


def _knots(steps: StepTimes) -> StepKnots:
    """Returns the fewest halvings of doubling knots that keep steps within KNOT_ERROR."""
    curves = np.array([steps.decode_ps, steps.context_ps], dtype=np.float64) / PS_PER_MS
    last = curves.shape[1] - 1
    doubling = [0, *(2**k for k in range(last.bit_length())), last]
    n = sorted({k for k in doubling if k <= last})
    at = [n[0]]
    for low, high in pairwise(n):
        at += _halved(curves, low, high)
    return StepKnots(
        n=tuple(at),
        decode_ms=tuple(_digits(v) for v in curves[0, at].tolist()),
        context_token_ms=tuple(_digits(v) for v in curves[1, at].tolist()),
    )


def _halved(curves: FloatArray, low: int, high: int) -> list[int]:
    """Returns the knots after `low` up to `high` between which no curve (2, N) leaves its line."""
    n = np.arange(low, high + 1)
    lines = np.array([np.interp(n, [low, high], curve[[low, high]]) for curve in curves])
    true = curves[:, low : high + 1]
    if high - low < 2 or bool((np.abs(lines - true) <= KNOT_ERROR * true).all()):
        return [high]
    middle = (low + high) // 2
    return [*_halved(curves, low, middle), *_halved(curves, middle, high)]


# ---- Classes -------------------------------------------------------------------------------------


def _class(case: Case, again: Rescored, plan: Plan, c: int) -> ClassSheet:
    workload, name = again.workload, case.workload.class_names[c]
    asked = case.question.classes[c]
    answers = {
        entry.pool: _answer(case, again, c, workload.pool_names.index(entry.pool))
        for entry in plan.deployment
        if workload.allowed[c, workload.pool_names.index(entry.pool)]
    }
    counted = (workload.row_class == c) & workload.counted
    sent = {pool: _sent(again, counted, workload.pool_names.index(pool)) for pool in answers}
    total = sum(sent.values()) or 1.0
    return ClassSheet(
        rate_rps=round(float(workload.rate_rps[c]), RATIO_DIGITS),
        mean_rate_rps=_digits(float(workload.mean_rate_rps[c])),
        priority=asked.priority,
        input_tokens=_digits(sum(sent[p] * a.input_tokens for p, a in answers.items()) / total),
        cached_input_ratio=asked.cached_input_ratio,
        limits=asked.limits,
        quality_at_least=asked.quality_at_least,
        quality=round(float(again.score.class_quality[c]), RATIO_DIGITS),
        latency=_latency(again, plan, name),
        answers=answers,
    )


def _sent(again: Rescored, rows: FloatArray, p: int) -> float:
    """Returns the requests per second of some rows (R,) that go to a pool."""
    return float((again.workload.rate_rps * again.shares[:, p])[rows].sum())


def _answer(case: Case, again: Rescored, c: int, p: int) -> AnswerSheet:
    """Returns what a pool's answers to a class are like, in the ways that the plan sends it."""
    rows, weight = _ways(again, c, p)
    table = again.tables[p]
    shapes = [again.workload.shapes[row][p] for row in rows.tolist()]
    known = [shape for shape in shapes if shape is not None]
    assert len(known) == len(shapes)  # a plan that sends a class where it may not go is refused
    return AnswerSheet(
        input_tokens=_digits(float(weight @ [float(s.input_tokens.mean()) for s in known])),
        output_tokens=_digits(float(weight @ [s.mean_output_tokens for s in known])),
        quality=_digits(float(case.workload.quality[c, p])),
        work_s=_digits(float(weight @ table.work_s[rows])),
        work_s_per_input_token=_work_per_token(case, again, rows, weight, p, "input"),
        work_s_per_output_token=_work_per_token(case, again, rows, weight, p, "output"),
    )


def _ways(again: Rescored, c: int, p: int) -> tuple[IntArray, FloatArray]:
    """Returns the rows in which a class comes to a pool, (n,), and the part of each, (n,).

    One that never comes would come directly.
    """
    flow = again.workload.rate_rps * again.shares[:, p]
    rows = np.flatnonzero((again.workload.row_class == c) & (flow > 0))
    if not rows.size:
        return np.array([c]), np.ones(1)
    return rows, np.asarray(flow[rows] / flow[rows].sum())


def _work_per_token(
    case: Case, again: Rescored, rows: IntArray, weight: FloatArray, p: int, side: str
) -> float:
    """Returns what one more token of some rows (n,) adds to the load of a pool, in s."""
    mix = again.tables[p].mix
    # What sends nothing has no say; with many classes most of them send nothing to most pools.
    heard = (mix > 0) | np.isin(np.arange(mix.size), rows) if mix.any() else np.ones(mix.size)
    shapes = [row[p] if h else None for row, h in zip(again.workload.shapes, heard, strict=True)]
    # Rows that carry nothing are asked for their own work alone.
    share = mix if mix[rows].sum() > 0 else _only(mix.size, rows, weight)
    tokens, loads = [], []
    for ratio in (SHORTER, LONGER):
        scaled = list(shapes)
        for row in rows.tolist():
            scaled[row] = _scaled(shapes[row], ratio, side)
        works = case.models[p].works_s(scaled, mix)
        loads.append(float(np.nansum(share * np.where(share > 0, works, 0.0))))
        tokens.append(sum(w * _mean(scaled[r], side) for r, w in zip(rows, weight, strict=True)))
    per_token = (loads[1] - loads[0]) / max(tokens[1] - tokens[0], 1e-9) / float(share[rows].sum())
    return _digits(max(per_token, 0.0))


def _only(n_rows: int, rows: IntArray, weight: FloatArray) -> FloatArray:
    share = np.zeros(n_rows)
    share[rows] = weight
    return share


def _scaled(shape: RequestShape | None, ratio: float, side: str) -> RequestShape:
    assert shape is not None  # the rows asked for are allowed
    if side == "input":
        return replace(shape, input_tokens=shape.input_tokens * ratio)
    return replace(shape, output_tokens=np.maximum(shape.output_tokens * ratio, 1.0))


def _mean(shape: RequestShape | None, side: str) -> float:
    assert shape is not None
    return float((shape.input_tokens if side == "input" else shape.output_tokens).mean())


# ---- Latency -------------------------------------------------------------------------------------


def _latency(again: Rescored, plan: Plan, name: str | None) -> tuple[PredictedLatency, ...]:
    """Returns the predicted latencies of a class, or of all traffic: those of the plan first."""
    found = {
        (f.metric, f.statistic): _told(f) for f in plan.predicted.latency if f.class_name == name
    }
    wanted: list[Asked] = [
        (name, metric, statistic)
        for metric in METRICS
        for statistic in STATISTICS
        if (metric, statistic) not in found
    ]
    loads, shares = again.score.loads, again.shares
    for figure in figures_of(again.workload, again.tables, loads, shares, wanted):
        found[figure.metric, figure.statistic] = _told(figure)
    return tuple(found.values())


def _told(figure: LatencyFigure | Figure) -> PredictedLatency:
    return PredictedLatency(
        metric=figure.metric,
        statistic=figure.statistic,
        ms=ms_in_file(figure.ms),
        low_ms=ms_in_file(figure.low_ms),
        high_ms=ms_in_file(figure.high_ms),
    )


def _delay_price_per_s(again: Rescored, plan: Plan) -> float:
    """Returns the quality that a second of a request's latency is worth; 0 where none is priced."""
    total = 0.0
    for scoped, value in _priced_limits(again, plan):
        at_ms = scoped.limit.at_most_ms
        if scoped.limit.tail_ratio is None:
            total += 1000.0 * value
            continue
        sooner, later = at_ms / DENSITY_STEP, at_ms * DENSITY_STEP
        late = _exceedance(again, scoped, sooner) - _exceedance(again, scoped, later)
        total += value * max(late, 0.0) / ((later - sooner) / 1000.0)
    return total if math.isfinite(total) else 0.0


def _priced_limits(again: Rescored, plan: Plan) -> Iterator[tuple[ScopedLimit, float]]:
    """Yields the limits that a plan has prices for in quality, of metrics that a wait moves.

    A price is per ms of a mean, or per ratio of requests above a limit.
    """
    prices = {p.what: p.value for p in plan.prices if p.unit.startswith("quality per")}
    for scoped in again.workload.limits:
        value = prices.get(f"limit:{scoped.label}", 0.0)
        if value > 0 and scoped.limit.metric in ("ttft", "e2e"):
            yield scoped, value


def _exceedance(again: Rescored, scoped: ScopedLimit, at_ms: float) -> float:
    """Returns the share of the requests in the scope of a limit that take longer than a time."""
    limit = scoped.limit.model_copy(update={"at_most_ms": at_ms})
    moved, loads, shares = replace(scoped, limit=limit), again.score.loads, again.shares
    return truth.limit_exceedance(again.workload, again.tables, loads, shares, moved)


def _digits(value: float) -> float:
    """Returns a figure with as many digits as a diff can bear."""
    return float(f"{value:.{DIGITS}g}")
