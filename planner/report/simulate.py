"""A simulated plan as a person reads it: predicted against simulated, and how it went over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from planner.report.console import (
    RenderableType,
    bullet,
    heading,
    indented,
    line,
    literal,
    show,
    table,
)
from planner.report.data import as_data
from planner.report.figures import NONE, count, ms, number, percent, quality, usd
from planner.report.sparkline import levels_for, sparkline
from planner.simulate.series import Series
from planner.spec.arrays import FloatArray
from planner.spec.base import FOREVER_MS, LatencyKey
from planner.spec.plan import LatencyFigure, Plan, Simulated, SimulatedFigure, SimulatedPool

LABEL_WIDTH = 13
WIDE = 78  # columns from which the pools' table is whole
SHORT_S = 600.0  # below it times are told in seconds
OTHER_RATE = 0.02  # a simulated rate that is further from the planned one is told


@dataclass(frozen=True)
class Simulation:
    """Everything that `rb simulate` says at its end."""

    plan: Plan
    simulated: Simulated
    statistics: tuple[SimulatedFigure, ...]  # every one, without limits
    series: Series  # of the first run


def render_simulation(simulation: Simulation, console: Console) -> None:
    """Writes what was simulated against what was predicted, section by section."""
    show(_sections(simulation, console), console)


def simulation_data(simulation: Simulation) -> dict[str, object]:
    """Returns a simulation as data: what was judged, all statistics, and the first run's series."""
    plan, simulated = simulation.plan, simulation.simulated
    return {
        "ok": not simulated.missed,
        "title": plan.title,
        "predicted": as_data(plan.predicted),
        "simulated": as_data(simulated),
        "statistics": [_without_limit(f) for f in simulation.statistics],
        "series": as_data(simulation.series),
    }


def missed_words(plan: Plan, simulated: Simulated) -> Iterator[str]:
    """Yields each limit that is missed, in words: by how much, and what was predicted."""
    predicted = {f.key: f for f in plan.predicted.latency}
    for figure in simulated.missed:
        text, before = _missed(figure), predicted.get(figure.key)
        if before is not None and _was_to_be_met(figure, before):
            text += f"; the plan predicted {_time(before.ms)}"
            if _is_other_rate(plan, simulated):
                text += f" at {number(plan.predicted.rate_rps)} requests/s"
        yield text


def _without_limit(figure: SimulatedFigure) -> object:
    return figure.model_dump(mode="json", by_alias=True, exclude={"at_most_ms", "verdict"})


def _sections(simulation: Simulation, console: Console) -> Iterator[RenderableType]:
    plan, simulated = simulation.plan, simulation.simulated
    yield line(plan.title, "bold")
    yield line(_conditions(simulated))
    yield from _latency(plan, simulated)
    yield from _pools(simulated.pools, console.width)
    yield from _over_time(simulation.series, console)
    yield heading("Found")
    yield from (bullet(text) for text in _findings(plan, simulated))


def _conditions(simulated: Simulated) -> str:
    """Returns what was simulated, and what of it counts."""
    n_runs = len(simulated.seeds)
    seeds = f"{simulated.seeds[0]}"
    if n_runs > 1:
        seeds += f" to {simulated.seeds[-1]}"
    parts = [f"{count(n_runs, 'run')} (seed{'s' if n_runs > 1 else ''} {seeds})"]
    if simulated.rate_factor != 1:
        parts.append(f"{number(simulated.rate_factor)} times the traffic")
    parts += [f"failure {text}" for text in simulated.failures]
    parts.append(f"{simulated.balance.replace('_', ' ')} between replicas")
    end_s = simulated.counted_from_s + simulated.duration_s
    return (
        f"{', '.join(parts)}; {simulated.n_requests / n_runs:,.0f} requests count in a run, those "
        f"that arrive from {_span_of_time(simulated.counted_from_s, end_s)}, "
        f"{number(simulated.rate_rps)} per second"
    )


def _span_of_time(start_s: float, end_s: float) -> str:
    if end_s < SHORT_S:
        return f"{number(start_s)} to {number(end_s)} s"
    return f"{_minutes(start_s)} to {_minutes(end_s)} min"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}"


# ---- Tables --------------------------------------------------------------------------------------


def _latency(plan: Plan, simulated: Simulated) -> Iterator[RenderableType]:
    """Yields the limited statistics against their limits, then those of all traffic."""
    limited = [f for f in simulated.latency if f.at_most_ms is not None]
    other = [f for f in simulated.latency if f.at_most_ms is None and f.class_name is None]
    predicted = {f.key: f for f in plan.predicted.latency}
    numbers = ["predicted", "simulated", "+-"]
    if limited:
        yield heading("Limits: predicted and simulated against allowed (ms)")
        made = table(["limit"], [*numbers, "allowed"], [""])
        for f in limited:
            cells = [*_figures(f, predicted), ms(f.at_most_ms)]
            made.add_row("", f.short_label, *cells, _mark(f), style=_style(f))
        yield made
    if other:
        yield heading("Latency of all traffic (ms)")
        made = table(["statistic"], numbers)
        for f in other:
            made.add_row("", f.short_label, *_figures(f, predicted))
        yield made
    if limited or other:
        yield indented("+-: 95 % interval of the simulated figure")


def _figures(figure: SimulatedFigure, predicted: dict[LatencyKey, LatencyFigure]) -> list[str]:
    """Returns the cells of a statistic: predicted, simulated, half its interval."""
    before = predicted.get(figure.key)
    sure = ms(max(figure.high_ms - figure.ms, figure.ms - figure.low_ms))
    if figure.high_ms >= FOREVER_MS:
        sure = NONE if figure.ms >= FOREVER_MS else "?"
    return [NONE if before is None else _ms(before.ms), _ms(figure.ms), sure]


def _ms(value: float) -> str:
    return "never" if value >= FOREVER_MS else ms(value)


def _mark(figure: SimulatedFigure) -> str:
    return "MISSED" if figure.verdict == "missed" else figure.verdict or ""


def _style(figure: SimulatedFigure) -> str:
    return {"missed": "red", "too close to call": "yellow"}.get(figure.verdict or "", "")


def _pools(pools: Sequence[SimulatedPool], width: int) -> Iterator[RenderableType]:
    """Yields what each pool did, and what its data-parallel ranks lose, where there are any."""
    yield heading("Pools")
    wide = width >= WIDE
    numbers = ["req/s", "busy", "in flight", "KV"]
    made = table(["pool"], [*numbers, "tokens/s", "$/M tokens"] if wide else numbers)
    for pool in pools:
        cells = [
            number(pool.rate_rps),
            percent(pool.busy_ratio, 0),
            f"{pool.n_in_flight_mean:.1f}",
            percent(pool.kv_ratio, 0),
        ]
        if wide:
            money = usd(pool.usd_per_million_output_tokens)
            cells += [f"{pool.output_tokens_per_s:,.0f}", money]
        made.add_row("", pool.pool, *cells)
    yield made
    yield indented(
        "busy: time with something to do; in flight: requests in one replica; KV: share of its "
        "cache that answers being written hold"
        + ("; $/M tokens: $ per million output tokens" if wide else "")
    )
    for pool in pools:
        if pool.barrier_idle_ratio is not None:
            lost = percent(pool.barrier_idle_ratio)
            apart = f", {number(pool.imbalance_tokens)} KV tokens apart on average"
            yield bullet(f"{pool.pool}: ranks wait {lost} of their time for the slowest{apart}")


# ---- Over time -----------------------------------------------------------------------------------


def _over_time(series: Series, console: Console) -> Iterator[RenderableType]:
    """Yields load and latency as lines of characters, with the smallest and the largest figure."""
    rows: list[tuple[str, FloatArray, bool]] = [
        ("requests/s", series.arrivals_rps, False),
        ("waiting", series.n_waiting_mean, False),
        ("decoding", series.n_decoding_mean, False),
        ("KV cache %", 100 * series.kv_ratio, False),
        ("busy %", 100 * series.busy_ratio, False),
        ("TTFT p95 ms", series.ttft_p95_ms, True),
    ]
    spans = [_span(values) for _, values, _ in rows]
    levels = levels_for(console.encoding)
    width = max(console.width - 5 - LABEL_WIDTH - max(map(len, spans)), 10)
    yield heading("Over time (first run)")
    for (label, values, peaks), span in zip(rows, spans, strict=True):
        if span:
            drawn = sparkline(values, width, levels, peaks)
            yield literal(f"   {label:<{LABEL_WIDTH}}{drawn}  {span}")
    n_columns = min(width, series.arrivals_rps.size)
    end = f"{_minutes(float(series.edges_s[-1]))} min"
    yield literal(f"   {'':<{LABEL_WIDTH}}0{end:>{n_columns - 1}}")


def _span(values: FloatArray) -> str:
    """Returns the smallest and the largest figure; empty where nothing is known."""
    known = values[np.isfinite(values)]
    return f"{_short(known.min())} to {_short(known.max())}" if known.size else ""


def _short(value: float) -> str:
    """Returns a figure in a few characters."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


# ---- In words ------------------------------------------------------------------------------------


def _findings(plan: Plan, simulated: Simulated) -> Iterator[str]:
    """Yields what is to be said, the worst first."""
    limited = [f for f in simulated.latency if f.verdict is not None]
    yield from missed_words(plan, simulated)
    yield from _unanswered(simulated)
    yield from _beyond_providers(plan, simulated)
    if not simulated.settled:
        yield (
            "the load had not settled: the number in flight rose or fell while it counted, "
            "a longer run would find other latencies"
        )
    for f in limited:
        if f.verdict == "too close to call":
            yield _too_close(f)
    if limited and all(f.verdict == "met" for f in limited):
        yield "every limit is met" if len(limited) > 1 else "the limit is met"
    yield _goodput(simulated)
    yield _money(plan, simulated)


def _missed(figure: SimulatedFigure) -> str:
    limit_ms = figure.at_most_ms or 1.0
    if figure.ms >= FOREVER_MS:
        return (
            f"{figure.short_label} misses its limit of {_time(limit_ms)} whatever the others take: "
            "too many requests have no answer in a known time"
        )
    times = figure.ms / limit_ms
    over = f"{times:,.1f} times"
    if times < 2.0:
        over = f"{percent(times - 1.0, 0 if times > 1.1 else 1)} above"
    return f"{figure.short_label} is {_time(figure.ms)}, {over} its limit of {_time(limit_ms)}"


def _was_to_be_met(figure: SimulatedFigure, predicted: LatencyFigure) -> bool:
    """Returns whether a plan had promised a limit that is missed by a figure that exists."""
    return figure.ms < FOREVER_MS and predicted.ms <= (figure.at_most_ms or 0.0)


def _too_close(figure: SimulatedFigure) -> str:
    if figure.high_ms >= FOREVER_MS and figure.ms == 0.0:
        what = "no request came that it is about"
    elif figure.high_ms >= FOREVER_MS:
        what = "too few requests, or too many without an answer in some runs"
    else:
        what = f"{_time(figure.low_ms)} to {_time(figure.high_ms)}"
        what += f" around its limit of {_time(figure.at_most_ms or 1.0)}"
    return f"{figure.short_label} is too close to call ({what}): more --seeds or --duration-s tell"


def _time(value: float) -> str:
    return f"{value / 1000:,.2f} s" if value >= 1000 else f"{ms(value)} ms"


def _unanswered(simulated: Simulated) -> Iterator[str]:
    n = simulated.n_requests
    if simulated.n_failed:
        yield f"{simulated.n_failed:,} of {n:,} requests failed: to limits they are infinitely late"
    if simulated.n_refused:
        yield f"{simulated.n_refused:,} of {n:,} requests fit into no replica's KV cache"
    if simulated.n_preempted:
        yield f"{simulated.n_preempted:,} preemptions: a replica's KV cache ran full"


def _beyond_providers(plan: Plan, simulated: Simulated) -> Iterator[str]:
    """Yields each hosted pool that is sent more than its provider allows: here all is answered."""
    allowed = {
        f.pool: f.rate_rps / f.utilisation_ratio for f in plan.predicted.pools if f.rate_rps > 0
    }
    hosted = {entry.pool for entry in plan.deployment if entry.gpu is None}
    for pool in simulated.pools:
        most = allowed.get(pool.pool)
        if pool.pool in hosted and most is not None and pool.rate_rps > most * (1 + OTHER_RATE):
            yield (
                f"{pool.pool} is sent {number(pool.rate_rps)} requests/s, its provider allows "
                f"{number(most)}: the rest would be turned away, here it is answered"
            )


def _goodput(simulated: Simulated) -> str:
    rate = simulated.rate_rps
    part = simulated.goodput_rps / rate if rate else 0.0
    return (
        f"{number(simulated.goodput_rps)} of {number(rate)} requests/s ({percent(part)}) are "
        f"answered within every percentile limit on them, quality {quality(simulated.quality)}"
    )


def _money(plan: Plan, simulated: Simulated) -> str:
    """Returns what it costs, and for which rate the plan was made where that is another one."""
    text = f"{usd(simulated.cost_usd_per_h)} per hour"
    if simulated.usd_per_million_output_tokens is not None:
        text += f", {usd(simulated.usd_per_million_output_tokens)} per million output tokens"
    if _is_other_rate(plan, simulated):
        text += f"; the plan was made for {number(plan.predicted.rate_rps)} requests/s"
    return text


def _is_other_rate(plan: Plan, simulated: Simulated) -> bool:
    """Returns whether the traffic was not that for which the plan was made."""
    planned = plan.predicted.rate_rps
    return abs(simulated.rate_rps - planned) > OTHER_RATE * planned
