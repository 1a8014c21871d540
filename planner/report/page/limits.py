"""The latency limits, predicted and simulated, and what the plan survives."""

from __future__ import annotations

from planner.report.figures import BINDS, count, percent, quality
from planner.report.page.markup import Html, joined
from planner.report.page.origins import marked
from planner.report.page.parts import Column, Section, chip, note, table, unfolding
from planner.report.page.pictures import picture
from planner.report.page.subject import Subject
from planner.report.page.words import in_ms
from planner.spec.base import LatencyKey
from planner.spec.plan import LatencyFigure, Plan, SimulatedFigure, Survived

_TRIED, _LOST = (Column(name, source="simulated") for name in ("Simulated", "Lost requests"))


def limits_section(subject: Subject) -> Section | None:
    """Returns each limit with what is predicted, simulated and allowed; None without figures."""
    plan = subject.plan
    limited = [f for f in plan.predicted.latency if f.at_most_ms is not None]
    other = [f for f in plan.predicted.latency if f.at_most_ms is None]
    if not limited and not other:
        return None
    lead = "The question limits no latency." if not limited else _lead(plan, len(limited))
    body = joined(
        picture("limits", subject) if limited else None,
        _limits(plan, limited) if limited else None,
        _others(plan, other),
    )
    return Section("limits", "Latency and its limits", lead, body)


def _lead(plan: Plan, n: int) -> str:
    tried = plan.simulated
    said = f"{count(n, 'limit')}, predicted from the fitted measurements"
    if tried is None:
        return f"{said}; not simulated."
    runs = f"{tried.n_requests:,} requests in {count(len(tried.seeds), 'run')}"
    return f"{said} and simulated with {runs}."


def _limits(plan: Plan, limited: list[LatencyFigure]) -> Html:
    tried = _tried(plan)
    columns = [
        Column("Limit (ms)", "text"),
        Column("Predicted"),
        Column("Band"),
        *([Column("Simulated"), Column("95% interval")] if tried else []),
        Column("Allowed", source="given"),
        Column("Used"),
        Column("Verdict", "text"),
    ]
    rows = []
    for f in limited:
        used, seen = f.ms / (f.at_most_ms or 1.0), tried.get(f.key)
        cells = [
            f.short_label,
            marked(in_ms(f.ms), f.origin),
            f"{in_ms(f.low_ms)} – {in_ms(f.high_ms)}",
        ]
        if tried:
            cells += _simulated(seen)
        rows.append([*cells, in_ms(f.at_most_ms), percent(used, 1), _verdict(f, seen)])
    text = "Band: 9 in 10 predictions lie within, by how the fit misses its own measurements."
    if tried:
        text += " Interval: of the mean over the simulated runs."
    return joined(table(columns, rows, "Each latency limit"), note(text))


def _tried(plan: Plan) -> dict[LatencyKey, SimulatedFigure]:
    return {f.key: f for f in plan.simulated.latency} if plan.simulated else {}


def _simulated(seen: SimulatedFigure | None) -> list[str]:
    if seen is None:
        return ["-", "-"]
    return [marked(in_ms(seen.ms), "simulated"), f"{in_ms(seen.low_ms)} – {in_ms(seen.high_ms)}"]


def _verdict(figure: LatencyFigure, seen: SimulatedFigure | None) -> Html:
    """Returns what becomes of a limit: it is met where neither tables nor simulation deny it."""
    if figure.is_missed or (seen is not None and seen.verdict == "missed"):
        return chip("missed", "bad")
    if seen is not None and seen.verdict == "too close to call":
        return chip("too close to call", "warn")
    if figure.ms / (figure.at_most_ms or 1.0) >= BINDS:
        return chip("met, binds", "good")
    return chip("met", "good")


def _others(plan: Plan, other: list[LatencyFigure]) -> Html | None:
    if not other:
        return None
    tried = _tried(plan)
    columns = [Column("Statistic (ms)", "text"), Column("Predicted"), Column("Band")]
    columns += [Column("Simulated"), Column("95% interval")] if tried else []
    rows = []
    for f in other:
        cells = [
            f.short_label,
            marked(in_ms(f.ms), f.origin),
            f"{in_ms(f.low_ms)} – {in_ms(f.high_ms)}",
        ]
        rows.append(cells + (_simulated(tried.get(f.key)) if tried else []))
    made = table(columns, rows, "Latency without a limit")
    return unfolding("Latency that has no limit", made)


def survives_section(subject: Subject) -> Section | None:
    """Returns what becomes of the plan in each scenario; None where it was asked for none."""
    survives = subject.plan.survives
    if not survives:
        return None
    kept = sum(each.survives and each.verdict in (None, "met") for each in survives)
    close = sum(each.survives and each.verdict == "too close to call" for each in survives)
    lead = f"It keeps its promises in {kept} of {count(len(survives), 'scenario')}"
    lead += f"; in {close} simulation cannot tell." if close else "."
    tried = any(each.verdict is not None for each in survives)
    columns = [
        Column("Scenario", "text"),
        Column("Load of the fullest pool"),
        Column("Tightest limit used"),
        *([_TRIED, _LOST] if tried else []),
        Column("Quality"),
        Column("Verdict", "text"),
    ]
    rows = [
        [
            each.scenario,
            percent(each.utilisation_ratio, 0),
            percent(each.latency_ratio, 0),
            *(
                [percent(each.simulated_latency_ratio, 0), percent(each.simulated_lost_ratio)]
                if tried
                else []
            ),
            quality(each.quality),
            _survived(each),
        ]
        for each in survives
    ]
    made = table(columns, rows, "What becomes of the plan in each scenario")
    remark = note("Limits: of what is allowed while the scenario lasts.")
    return Section("survives", "What it survives", lead, joined(made, remark))


def _survived(each: Survived) -> Html:
    if not each.survives:
        return chip("not survived", "bad")
    if each.verdict == "missed":
        return chip("missed in simulation", "bad")
    if each.verdict == "too close to call":
        return chip("too close to call", "warn")
    return chip("survived", "good")
