"""What a measurement would read at a load that nobody measured.

Notation
    N        requests kept in flight: the concurrency of a closed loop, the size of a batch
    n        those of them that run: min(N, max_num_seqs)
    g, T     decode step and time per token of the smooth step law at n                    ms
    D, t0    its prefill time per prompt token, and its time per request                   ms
    p, o     prompt and output tokens of the request
    u        share of the time that prefills take: D p n/(o T)
    Q        wait for a place: (N/n - 1) o T, with T of the law through the measured loads   ms

Program (closed loop; in brackets where a batch differs)
    base     N/throughput T + Q/o, E2E o T + Q, TPOT g + D (p/o)(n-1) [g], TTFT 1.5 g/(1-u) + D p
             + t0 + Q [g + D p n + t0 + Q/2]; percentiles have the base of their mean, ITL that of
             TPOT. (A closed loop of N answers n/(o T) requests per ms whatever N - n is, so each
             comes back after N o T/n; a batch of N runs in N/n waves.)
    figure   of one that the profile has in this mode: the curve through its measured loads, led
             by its base (loadcurve.py), with the band of these loads (bands.py)
    rest     means that nobody measured are those of the step law, with a wider band;
             percentiles that nobody measured are left out

Open loop: the table of the queueing model; for a figure that the profile has, the curve through
its measured rates with the table as its base, above them the table.

Nothing is said beyond one doubling of the most requests that ran together in a measurement (§8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.latency.bands import DERIVED, PHYSICS_TTFT, STEP, Family, Spread
from planner.latency.loadcurve import SAME_LOAD, Full, LoadCurve
from planner.latency.model import LatencyModel
from planner.latency.moments import MixMoments
from planner.latency.observation import answered_rps, kept_up, usable
from planner.latency.pchip import Pchip
from planner.latency.steplaw import StepLaw
from planner.spec.base import METRICS, STATISTICS, Metric, tail_ratio
from planner.spec.pool import Point
from planner.spec.table import PoolTable, quantile_ms
from planner.spec.workload import RequestShape

FURTHEST = 2.0 * SAME_LOAD  # times the largest measured load: a doubling, give or take
SAME_SHAPE = 1.5  # input and output tokens within this ratio are one request shape
FEW_LOADS = 3  # below this, other request shapes help
MOST_BUSY = 0.95  # with prefills, so that TTFT stays finite

FAMILIES: dict[str, Family] = {
    "output_tokens_per_s": "throughput",
    "achieved_rps": "throughput",
    "tpot": "token_mean",
    "itl": "token_mean",
    "ttft": "first_mean",
    "e2e": "total_mean",
}
MEANS = ("output_tokens_per_s", "achieved_rps", "ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms")
_SAME_LOAD = float(np.log(SAME_LOAD))
FIGURES = (
    "output_tokens_per_s",
    "achieved_rps",
    *(f"{m}_{s}_ms" for m in ("ttft", "tpot", "itl", "e2e") for s in STATISTICS),
)


@dataclass(frozen=True)
class Condition:
    """A load on one replica as a benchmark sets it."""

    mode: Literal["open", "closed", "batch"]
    input_tokens: float
    output_tokens: float
    load: float  # concurrency (closed, batch) or requests per second (open)


@dataclass(frozen=True)
class Figure:
    """A predicted figure in the unit of its column of points.csv, with its 90 % band."""

    value: float
    low: float
    high: float
    extrapolated: bool


@dataclass(frozen=True)
class _Known:
    """The measured loads of one figure, and how well they predict each other."""

    curve: LoadCurve
    spread: Spread

    @classmethod
    def of(cls, curve: LoadCurve, column: str) -> _Known:
        return cls(curve, Spread.of(curve, family_of(column)))


def figures(model: LatencyModel, at: Condition) -> dict[str, Figure]:
    """Returns what a measurement would read, by the columns of points.csv.

    Requests are taken as equally long: percentiles that nobody measured in an open loop are those
    of the queue and the batch, not of the lengths.

    Empty where the model can say nothing: more than a doubling beyond what was measured, or a
    pool of which only the capacity is known.
    """
    return figures_over(model, at, (at.load,))[0]


def figures_over(
    model: LatencyModel, at: Condition, loads: Sequence[float], columns: Sequence[str] = FIGURES
) -> list[dict[str, Figure]]:
    """Returns `figures` at each of several loads; what was measured is looked up but once.

    Args:
        model: a fitted pool.
        at: the way of measuring and the request shape; its own load does not count.
        loads: concurrencies (closed, batch) or requests per second (open).
        columns: of points.csv that are wanted; an open loop gives all that it has.
    """
    asked = [replace(at, load=load) for load in loads]
    if at.mode == "open":
        return [_open(model, each) for each in asked]
    if model.law is None or model.capacity is not None:
        return [{} for _ in asked]
    curves = {column: load_curve(model, at, column) for column in columns}
    known = {column: None if c is None else _Known.of(c, column) for column, c in curves.items()}
    return [_kept(model, model.law, known, each) for each in asked]


def load_curve(model: LatencyModel, at: Condition, column: str) -> LoadCurve | None:
    """Returns the measured loads of a figure in a mode of a kept concurrency, if there are any.

    The figure is a time: for a rate the time per token or request, concurrency / rate.
    """
    if model.law is None or at.mode == "open":
        return None
    return _curve(model, replace(model.law, residual=Pchip()), column, at)


def _kept(
    model: LatencyModel, law: StepLaw, asked: Mapping[str, _Known | None], at: Condition
) -> dict[str, Figure]:
    """Returns the figures at a kept concurrency: closed loop or batch."""
    n = min(at.load, _places(model))
    if n > FURTHEST * model.measured_concurrency[1]:
        return {}
    smooth = replace(law, residual=Pchip())
    full, base = _bases(model, law, at), _bases(model, smooth, at)
    found: dict[str, Figure] = {}
    for column, known in asked.items():
        if known is not None and n <= FURTHEST * np.exp(known.curve.x[-1]):
            found[column] = _measured(model, base, known, column, at)
        elif column in MEANS:
            found[column] = _derived(model, full, column, at)
    return found


def _measured(
    model: LatencyModel, base: Mapping[str, float], known: _Known, column: str, at: Condition
) -> Figure:
    curve, x = known.curve, float(np.log(at.load))
    time = float(np.exp(curve.at(x, float(np.log(base[root_of(column)])))))
    family = family_of(column)
    # What a queue adds follows from the throughput: it is as sure as that.
    load = min(at.load, max(_places(model), float(np.exp(curve.x[-1]))))
    own = float(known.spread.half_width(family, np.array([load]))[0])
    half = max(own, model.bands.least)
    return _figure(_inverse(time, column, at), half, _outside(x, curve.x[0], curve.x[-1]))


def _derived(model: LatencyModel, base: Mapping[str, float], column: str, at: Condition) -> Figure:
    """Returns a mean that nobody measured in this mode."""
    assert model.bands.step is not None
    n = min(at.load, _places(model))
    half = float(model.bands.step.half_width(STEP, np.array([n]))[0])
    extra = PHYSICS_TTFT if root_of(column) == "ttft" else DERIVED
    low, high = np.log(model.measured_concurrency)
    wide = max(float(np.hypot(half, extra)), model.bands.least)
    value = _inverse(base[root_of(column)], column, at)
    return _figure(value, wide, _outside(float(np.log(n)), low, high))


def _inverse(value: float, column: str, at: Condition) -> float:
    """Returns the figure of a time, or the time of a figure: a rate is concurrency / time."""
    return value if column.endswith("_ms") else 1000.0 * at.load / value


def _places(model: LatencyModel) -> float:
    """Returns the requests that may run together, as far as the pool says so."""
    return float(model.profile.pool.max_num_seqs or np.inf)


def _outside(x: float, low: float, high: float) -> bool:
    """Returns whether a log load lies outside the measured ones."""
    return not low - _SAME_LOAD <= x <= high + _SAME_LOAD


def _rows(model: LatencyModel, at: Condition) -> list[Point]:
    return [p for p in model.profile.points if p.mode == at.mode and usable(p)]


def _curve(model: LatencyModel, law: StepLaw, column: str, at: Condition) -> LoadCurve | None:
    """Returns the measured loads of one figure, None where there is none."""
    rows = [p for p in _rows(model, at) if getattr(p, column) and p.concurrency]
    near = _nearest_shape(rows, at)
    if not near:
        return None
    root = root_of(column)

    def log_base(condition: Condition) -> float:
        return float(np.log(_bases(model, law, condition)[root]))

    loads = [p.concurrency or 0.0 for p in near]
    ratio, base = [], []
    for point, load in zip(near, loads, strict=True):
        own = Condition(at.mode, point.input_tokens, point.output_tokens, load)
        time = _inverse(getattr(point, column), column, own)
        ratio.append(float(np.log(time)) - log_base(own))
        base.append(log_base(replace(at, load=load)))
    places = _places(model)
    full = None
    if np.isfinite(places):
        full = Full(float(np.log(places)), log_base(replace(at, load=places)))
    return LoadCurve.of(loads, ratio, base, full)


def _nearest_shape(rows: Sequence[Point], at: Condition) -> list[Point]:
    """Returns the rows of the measured request shape nearest to the asked one.

    All rows where the nearest shape has too few loads to draw a curve.
    """
    if not rows:
        return []
    distance = [shape_distance(p, at) for p in rows]
    nearest = min(distance) + float(np.log(SAME_SHAPE))
    near = [p for p, d in zip(rows, distance, strict=True) if d <= nearest]
    return near if len({p.concurrency or p.offered_rps for p in near}) >= FEW_LOADS else list(rows)


def shape_distance(one: Point, other: Point | Condition) -> float:
    """Returns the log ratio of the prompt or of the output tokens, whichever differs more."""
    prompt = abs(np.log(one.input_tokens / other.input_tokens))
    output = abs(np.log(one.output_tokens / other.output_tokens))
    return float(max(prompt, output))


def _bases(model: LatencyModel, law: StepLaw, at: Condition) -> dict[str, float]:
    """Returns the base of every root of a figure in ms; of a rate, concurrency / rate."""
    assert model.law is not None
    p, o = at.input_tokens, max(at.output_tokens, 1.0)
    mix = MixMoments.of_point(p, o)
    n = min(at.load, _places(model))
    at_n = np.array([n])
    step, token = float(law.decode_ms(at_n, mix)[0]), float(law.token_ms(at_n, mix)[0])
    waiting = (at.load / n - 1.0) * float(model.law.token_ms(at_n, mix)[0])
    prefill = law.prompt_token_ms * p
    if at.mode == "batch":
        first = step + prefill * n + law.request_ms + 0.5 * o * waiting
        each = step
    else:
        busy = min(prefill / o * n / token, MOST_BUSY)
        first = 1.5 * step / (1.0 - busy) + prefill + law.request_ms + o * waiting
        each = step + prefill / o * max(n - 1.0, 0.0)
    return {
        "output_tokens_per_s": token + waiting,
        "achieved_rps": o * (token + waiting),
        "ttft": first,
        "tpot": each,
        "itl": each,
        "e2e": o * (token + waiting),
    }


def root_of(column: str) -> str:
    """Returns the metric of a column of points.csv, or the column itself for rates."""
    return column.split("_", maxsplit=1)[0] if column.endswith("_ms") else column


def family_of(column: str) -> Family:
    """Returns the family of figures that a column's band belongs to."""
    mean = FAMILIES[root_of(column)]
    if not column.endswith("_ms"):
        return mean
    statistic = column.split("_")[1]
    part = statistic if statistic in ("mean", "p50") else "tail"
    family: Family = f"{mean.split('_')[0]}_{part}"  # type: ignore[assignment]
    return family


def _figure(value: float, half_width: float, extrapolated: bool) -> Figure:
    factor = float(np.exp(half_width))
    return Figure(value, value / factor, value * factor, extrapolated)


def _open(model: LatencyModel, at: Condition) -> dict[str, Figure]:
    """Returns the figures of Poisson arrivals."""
    table = _table(model, at)
    base = _told(table, at.load)
    if not table.has_latency or not base:
        return {}
    load = at.load * float(table.work_s[0])
    outside = table.is_extrapolated(load)
    rows = _open_rows(model, table, at) if model.law else []
    found = {
        "achieved_rps": _figure(at.load, 0.0, outside),
        "output_tokens_per_s": _figure(at.load * at.output_tokens, 0.0, outside),
    }
    for column, value in base.items():
        curve = _open_curve(rows, column)
        if curve is not None:
            found[column] = _measured_open(value, curve, column, at)
            continue
        half = float(np.log1p(table.band_at(_metric(column), load)))
        found[column] = _figure(value, half, outside)
    return found


def _measured_open(base: float, curve: LoadCurve, column: str, at: Condition) -> Figure:
    x, log_base, family = float(np.log(at.load)), float(np.log(base)), family_of(column)
    # Above the data the queue grows as the model says, not along a straight line.
    above = x > curve.x[-1]
    log_value = log_base + float(curve.log_ratio[-1]) if above else curve.at(x, log_base)
    half = float(Spread.of(curve, family).half_width(family, np.array([at.load]))[0])
    return _figure(float(np.exp(log_value)), half, _outside(x, curve.x[0], curve.x[-1]))


def _table(model: LatencyModel, at: Condition) -> PoolTable:
    shape = RequestShape(np.array([at.input_tokens]), np.array([at.output_tokens]))
    return model.tabulate([shape], np.ones(1))


def _of_table(table: PoolTable, load: float) -> dict[str, float]:
    """Returns every latency in ms that a table tells of its one class, by column."""
    found: dict[str, float] = {}
    for metric in METRICS:
        survival = table.survival_at(metric, load)
        for statistic in STATISTICS:
            tail = tail_ratio(statistic)
            if tail is None:
                value = float(table.mean_at(metric, load)[0])
            else:
                value = float(quantile_ms(table.times_ms[metric], survival, tail)[0])
            found[f"{metric}_{statistic}_ms"] = value
    return found


@dataclass(frozen=True)
class _OpenRow:
    """A measured open-loop row beside what the tables say at its rate."""

    point: Point
    rate_rps: float
    told: Mapping[str, float]  # at the row's own request shape
    asked: Mapping[str, float]  # at the asked one


def _open_rows(model: LatencyModel, table: PoolTable, at: Condition) -> list[_OpenRow]:
    """Returns the usable rows of the nearest request shape that lie within the tables."""
    found: list[_OpenRow] = []
    for point in _nearest_shape([p for p in _rows(model, at) if kept_up(p)], at):
        rate = answered_rps(point) or 0.0
        own = replace(at, input_tokens=point.input_tokens, output_tokens=point.output_tokens)
        told = _told(table if own == at else _table(model, own), rate)
        asked = _told(table, rate)
        if told and asked:
            found.append(_OpenRow(point, rate, told, asked))
    return found


def _open_curve(rows: Sequence[_OpenRow], column: str) -> LoadCurve | None:
    """Returns the measured rates of an open-loop figure, None where there is none."""
    known = [r for r in rows if getattr(r.point, column)]
    if not known:
        return None
    ratio = [float(np.log(getattr(r.point, column) / r.told[column])) for r in known]
    base = [float(np.log(r.asked[column])) for r in known]
    return LoadCurve.of([r.rate_rps for r in known], ratio, base)


def _told(table: PoolTable, rate_rps: float) -> dict[str, float]:
    """Returns what the table says at an arrival rate; empty above its largest load."""
    load = rate_rps * float(table.work_s[0])
    return _of_table(table, load) if load <= table.max_load else {}


def _metric(column: str) -> Metric:
    metric: Metric = root_of(column)  # type: ignore[assignment]
    return metric
