"""A later measurement against a plan's predictions, as a person reads it and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from planner.profile.against import THROUGHPUT, Compared, ComparedLoad, PlannedLoad, PoolDrift
from planner.profile.doubles import load_as_set
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.data import as_data
from planner.report.figures import count, number, percent
from planner.spec.pool import Point

_TITLES = {THROUGHPUT: "throughput", "ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
_VERDICTS = {
    "within": "within the predicted band",
    "slower": "slower than predicted",
    "faster": "faster than predicted",
}
_STYLES = {"within": "green", "slower": "red", "faster": "yellow"}
_LOAD_UNITS = {"closed": "in flight", "batch": "at once", "open": "requests/s"}


def render_drift(drifts: Sequence[PoolDrift], console: Console) -> None:
    """Writes each pool's verdict, its metrics, the loads behind them, and what to do."""
    for place, drift in enumerate(drifts):
        show([line("")] if place else [], console)
        show(_sections(drift), console)


def drift_data(drifts: Sequence[PoolDrift], notes: Sequence[str]) -> dict[str, object]:
    """Returns the comparison as data, every figure with its ratio and verdict."""
    return {
        "ok": all(drift.verdict == "within" for drift in drifts),
        "pools": [
            {
                "pool": drift.pool,
                "verdict": drift.verdict,
                "advice": drift.advice,
                "metrics": as_data(drift.metrics),
                "loads": [_load_data(load) for load in drift.loads],
                "n_not_judged": drift.n_not_judged,
                "planned": as_data(drift.planned),
            }
            for drift in drifts
        ],
        "notes": list(notes),
    }


def _load_data(load: ComparedLoad) -> dict[str, object]:
    return {
        "point": as_data(load.point),
        "figures": [
            {
                "column": f.column,
                "measured": f.measured,
                "predicted": f.predicted,
                "low": f.low,
                "high": f.high,
                "measured_ratio": f.measured_ratio,
                "verdict": f.verdict,
                "extrapolated": f.extrapolated,
            }
            for f in load.figures
        ],
    }


def _sections(drift: PoolDrift) -> Iterator[RenderableType]:
    yield line(f"{drift.pool}: {_VERDICTS[drift.verdict]}", f"bold {_STYLES[drift.verdict]}")
    yield bullet(drift.advice)
    metrics = table(["metric"], ["figures", "in band", "measured / predicted"], ["verdict"])
    for m in drift.metrics:
        ratio = f"{m.measured_ratio:.2f}"
        words = _VERDICTS[m.verdict].removesuffix(" than predicted")
        metrics.add_row("", _TITLES[m.metric], str(m.n_figures), str(m.n_within), ratio, words)
    yield heading("Measured against predicted (median over the loads)")
    yield metrics
    yield from _planned(drift.planned)
    yield from _loads(drift)


def _planned(planned: PlannedLoad) -> Iterator[RenderableType]:
    yield heading("What the plan said")
    mark = ", beyond what was measured" if planned.extrapolated else ""
    yield bullet(
        f"each of {count(planned.replicas, 'replica')}: {number(planned.rate_rps)} requests/s, "
        f"{number(planned.output_tokens_per_s)} output tokens/s, "
        f"{percent(planned.utilisation_ratio, 0)} of what it can carry{mark}"
    )
    if planned.nearest is not None:
        yield bullet(f"the measured load nearest to that: {_load(planned.nearest)}")


def _loads(drift: PoolDrift) -> Iterator[RenderableType]:
    """Yields the loads with their means, and every figure outside its band."""
    yield heading(f"Loads ({len(drift.loads)} judged)")
    made = table(["load", "figure"], ["measured", "predicted", "ratio", "band"], [""])
    any_far = False
    for load in drift.loads:
        title = _load(load.point)
        for figure in _shown(load.figures):
            low, high = figure.low / figure.predicted, figure.high / figure.predicted
            mark = "" if figure.verdict == "within" else figure.verdict
            far = "*" if figure.extrapolated else ""
            any_far = any_far or figure.extrapolated
            numbers = (number(figure.measured), number(figure.predicted) + far)
            ratios = (f"{figure.measured_ratio:.2f}", f"{low:.2f}-{high:.2f}")
            made.add_row("", title, _titled(figure), *numbers, *ratios, mark)
            title = ""
    yield made
    yield bullet("TTFT, TPOT and E2E in ms, throughput in output tokens/s; --json has all")
    if any_far:
        yield bullet("* beyond the loads of the profile: the band is wider")
    if drift.n_not_judged:
        levels = count(drift.n_not_judged, "load level")
        yield bullet(f"{levels} not judged: too far beyond the loads of the profile")


def _shown(compared: Sequence[Compared]) -> list[Compared]:
    """Returns the first figure of each metric, a mean where there is one, and those outside."""
    first = {figure.metric: figure for figure in reversed(compared)}
    return [f for f in compared if f is first[f.metric] or f.verdict != "within"]


def _titled(figure: Compared) -> str:
    if figure.metric == THROUGHPUT:
        return _TITLES[THROUGHPUT]
    return f"{_TITLES[figure.metric]} {figure.column.split('_')[1]}"


def _load(point: Point) -> str:
    return f"{number(load_as_set(point))} {_LOAD_UNITS[point.mode]}"
