"""A played change as a person reads it: step by step, what those saw who asked meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from planner.gate.way.played import Played, PlayedStep
from planner.report.console import RenderableType, bullet, heading, indented, line, show, table
from planner.report.data import as_data
from planner.report.figures import NONE, count, ms, number, percent
from planner.report.transition import MOST_STEPS, brief_words, peak_words, safety_words, step_words
from planner.spec.base import FOREVER_MS
from planner.spec.plan import SimulatedFigure

SHORT_S = 600.0  # below it times are told in seconds


def render_played(title: str, played: Played, console: Console) -> None:
    """Writes how a change went, and whether a limit was missed on the way."""
    show(_sections(title, played), console)


def played_data(played: Played) -> dict[str, object]:
    """Returns a played change as data: each step with what was seen in its time."""
    return {
        "ok": not played.missed,
        "seeds": list(played.seeds),
        "transition": as_data(played.way),
        "steps": [
            {
                "step": k or None,  # as they are counted in the transition, from 1
                "begin_s": step.begin_s,
                "end_s": step.end_s,
                "n_requests": step.n_requests,
                "n_unanswered": step.n_unanswered,
                "latency_ratio": step.latency_ratio,
                "latency": as_data(step.figures),
            }
            for k, step in enumerate(played.steps)
        ],
    }


def missed_words(played: Played) -> Iterator[str]:
    """Yields each limit that was missed, in words: when, and by how much."""
    for k, step in enumerate(played.steps):
        for figure in step.missed:
            when = f"in step {k}" if k else "before the first step"
            yield f"{when} {figure.label} {_ms(figure)}, allowed {ms(figure.at_most_ms)} ms"


def _sections(title: str, played: Played) -> Iterator[RenderableType]:
    yield line(title, "bold")
    n = len(played.seeds)
    yield line(f"{count(n, 'run')} of the change, requests at the rates that the plans are for")
    if not played.way.steps:
        yield bullet("there is nothing to change")
        return
    yield heading("The way there")
    for k, step in enumerate(played.way.steps[:MOST_STEPS], 1):
        yield indented(f"{k}. {step_words(step)}")
    yield heading("What was seen in the time of each step")
    yield _steps(played)
    yield from (bullet(f"{peak.gpu}: {peak_words(peak)}") for peak in played.way.peak_gpus)
    yield heading("Found")
    yield bullet(f"predicted: {safety_words(played.way)}")
    yield from (bullet(text) for text in missed_words(played))
    unanswered = sum(step.n_unanswered for step in played.steps)
    if unanswered:
        total = sum(step.n_requests for step in played.steps)
        yield bullet(f"{unanswered:,} of {total:,} requests have no answer")
    unsure = list(_unsure(played))
    yield from map(bullet, unsure)
    if not played.missed:
        yield bullet(f"no limit is missed {'for certain' if unsure else 'on the way'}")


def _steps(played: Played) -> RenderableType:
    made = table(["step"], ["from", "requests", "limits used"], [""])
    for k, step in enumerate(played.steps[: MOST_STEPS + 1]):
        words = f"{k}. {brief_words(step.step)}" if step.step else "before"
        used = NONE if step.latency_ratio is None else percent(step.latency_ratio, 0)
        if any(f.ms >= FOREVER_MS for f in step.figures):
            used = "never"
        made.add_row(
            "",
            words,
            _moment(step.begin_s, played),
            f"{step.n_requests:,}",
            used,
            _mark(step),
            style="red" if step.missed else "",
        )
    return made


def _moment(at_s: float, played: Played) -> str:
    if played.steps[-1].end_s < SHORT_S:
        return f"{number(at_s)} s"
    return f"{at_s / 60.0:,.1f} min"


def _mark(step: PlayedStep) -> str:
    if step.missed:
        return "MISSED"
    verdicts = {f.verdict for f in step.figures}
    return "too close to call" if "too close to call" in verdicts else "met" if verdicts else ""


def _unsure(played: Played) -> Iterator[str]:
    """Yields the limits on which the runs do not suffice to say something."""
    labels = [
        f"{f.label} in step {k}" if k else f"{f.label} before the first step"
        for k, step in enumerate(played.steps)
        for f in step.figures
        if f.verdict == "too close to call"
    ]
    if labels:
        yield f"too close to call: {', '.join(labels)}; more --seeds tell"


def _ms(figure: SimulatedFigure) -> str:
    return "never comes" if figure.ms >= FOREVER_MS else f"is {ms(figure.ms)} ms"
