"""The question with the traffic that was seen: what to change in question.yaml, and why.

Only what has drifted is changed. Where a pool would lose its headroom, so is all that is more than
planned for certain: a plan that full has no room for "about as planned". How a rate is stated
decides what changes with it:

    poisson, gamma, weibull   the class's rate: seen over the question's rate_factor
    schedule, square          classes' rates are a mix: the seen one, their sum as it was; the
                              level (rate_factor; low and high) only where more comes than at the
                              busiest, since quiet hours say nothing of busy ones
    trace                     the level alone, likewise: the mix is that of the recording
    periods                   classes' rates, likewise where more comes than in the busiest
    inferred classes          all rates alike: those of true classes cannot be told apart

A length that has drifted is stated for its class: one for all models, from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.drift.capacity import Seen, seen_of
from planner.drift.finding import ALL, DriftReport, Kind
from planner.drift.observed import Lengths, Observed
from planner.spec.question import Lengths as StatedLengths
from planner.spec.question import Question, Schedule, Square, Trace
from planner.spec.sheet import ServingSheet

DIGITS = 4  # significant ones
LEAST_RPS = 1e-6
MOST_CV = 20.0  # that a question may state


@dataclass(frozen=True)
class Change:
    """One value of a question, where it stands in its file, and the sentence that says why."""

    path: tuple[str | int, ...]
    value: float | dict[str, object]
    why: str


@dataclass(frozen=True)
class Update:
    """What to change in a question, and what has drifted and cannot be changed there."""

    changes: tuple[Change, ...]
    left: tuple[str, ...]


def update_of(
    question: Question, observed: Observed, sheet: ServingSheet, report: DriftReport
) -> Update:
    """Returns how a question would state the traffic that was seen.

    Args:
        question: what the plan answers.
        observed: what was seen.
        sheet: what was planned.
        report: what has drifted.
    """
    drifted = _moved(report)
    seen, left = seen_of(observed, sheet), list[str]()
    changes = [*_rates(question, sheet, seen, drifted, left), *_lengths(question, seen, drifted)]
    return Update(tuple(changes), tuple(left))


Drifted = set[tuple[Kind, str]]


def _moved(report: DriftReport) -> Drifted:
    """Returns the figures that are to be stated as they were seen."""
    is_tight = any(f.kind == "utilisation" and f.breaks for f in report.findings)
    return {
        (f.kind, f.where)
        for f in report.findings
        if f.verdict == "drift" or (is_tight and f.seen.low > f.planned)
    }


def _rates(
    question: Question,
    sheet: ServingSheet,
    seen: dict[str, Seen],
    drifted: Drifted,
    left: list[str],
) -> Iterator[Change]:
    moved = {where for kind, where in drifted if kind in ("rate", "mix")}
    if not moved:
        return
    planned_rps = sum(each.rate_rps for each in sheet.classes.values())
    level = sum(each.rate_rps for each in seen.values()) / max(planned_rps, LEAST_RPS)
    arrivals = question.arrivals
    if isinstance(arrivals, Trace):
        left.append("the mix of a question with a trace is that of the trace")
    elif isinstance(arrivals, Schedule | Square):
        yield from _mix(question, seen, moved)
    elif question.periods is not None:
        yield from _of_periods(question, sheet, seen, level, left)
        return
    elif question.router.classes == "inferred":
        for c, cls in enumerate(question.classes):
            yield from _rate(c, cls.name, cls.rate_rps, cls.rate_rps * level)
    else:
        for c, cls in enumerate(question.classes):
            if cls.name in moved or moved == {ALL}:
                rate_rps = seen[cls.name].rate_rps / arrivals.rate_factor
                yield from _rate(c, cls.name, cls.rate_rps, rate_rps)
    if isinstance(arrivals, Trace | Schedule | Square) and ALL in moved:
        yield from _level(arrivals, level)


def _rate(c: int, name: str, old_rps: float, new_rps: float) -> Iterator[Change]:
    """Yields the new rate of a class, where it is another one."""
    rate_rps = _digits(max(new_rps, LEAST_RPS))
    if rate_rps != old_rps:
        why = f"{name}: {old_rps:g} requests/s stated, {rate_rps:g} seen"
        yield Change(("classes", c, "rate_rps"), rate_rps, why)


def _mix(question: Question, seen: dict[str, Seen], moved: set[str]) -> Iterator[Change]:
    """Yields the rates that give the mix that was seen and add up to what was stated."""
    if moved == {ALL}:
        return
    stated_rps = sum(cls.rate_rps for cls in question.classes)
    seen_rps = max(sum(each.rate_rps for each in seen.values()), LEAST_RPS)
    for c, cls in enumerate(question.classes):
        yield from _rate(c, cls.name, cls.rate_rps, stated_rps * seen[cls.name].rate_rps / seen_rps)


def _of_periods(
    question: Question,
    sheet: ServingSheet,
    seen: dict[str, Seen],
    level: float,
    left: list[str],
) -> Iterator[Change]:
    spans = question.periods.spans if question.periods is not None else ()
    if not spans or any(span.class_rates for span in spans):
        left.append("rates by hour, or by class and period, are yours to change")
    elif level > 1.0:
        for c, cls in enumerate(question.classes):
            ratio = seen[cls.name].rate_rps / max(sheet.classes[cls.name].rate_rps, LEAST_RPS)
            yield from _rate(c, cls.name, cls.rate_rps, cls.rate_rps * ratio)


def _level(arrivals: Trace | Schedule | Square, level: float) -> Iterator[Change]:
    """Yields how much more comes than in the busiest minutes of what is planned."""
    if level <= 1.0:
        return
    more = f"{level:.2f} times the busiest planned traffic seen"
    if isinstance(arrivals, Square):
        for key, rps in (("low_rps", arrivals.low_rps), ("high_rps", arrivals.high_rps)):
            yield Change(("arrivals", key), _digits(rps * level), f"arrivals.{key}: {more}")
        return
    factor = _digits(arrivals.rate_factor * level)
    yield Change(("arrivals", "rate_factor"), factor, f"arrivals.rate_factor: {more}")


def _lengths(question: Question, seen: dict[str, Seen], drifted: Drifted) -> Iterator[Change]:
    for c, cls in enumerate(question.classes):
        for kind, stated, lengths in (
            ("input_tokens", cls.input_tokens, seen[cls.name].input_tokens),
            ("output_tokens", cls.output_tokens, seen[cls.name].output_tokens),
        ):
            if (kind, cls.name) in drifted:
                why = f"{cls.name}: {kind} {lengths.mean:.4g} on average seen"
                for path, value in _stated(stated, lengths):
                    yield Change(("classes", c, kind, *path), value, why)


def _stated(
    old: StatedLengths | None, seen: Lengths
) -> Iterator[tuple[tuple[str, ...], float | dict[str, object]]]:
    """Yields what to state of lengths, and where: mean and cv alone where all else can stay."""
    new = {"mean": max(_digits(seen.mean), 1.0), "cv": min(round(seen.cv, 3), MOST_CV)}
    longest = None if old is None or old.max is None or old.max <= seen.mean else old.max
    if (
        old is not None
        and old.mean is not None
        and old.distribution == "lognormal"
        and old.max == longest
    ):
        yield from (((key,), value) for key, value in new.items())
    else:
        yield (), {**new, **({} if longest is None else {"max": longest})}


def _digits(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
