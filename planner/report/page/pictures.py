"""The drawings of a report by name, and as the page holds them: one for a desk, one for a phone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from planner.errors import FitError
from planner.latency.fit import fit
from planner.profile.review import Chart, charts
from planner.report.drawing.marks import Drawing
from planner.report.drawing.svg import to_svg
from planner.report.figure.axis import AxisName, axes_of
from planner.report.figure.curves import curves
from planner.report.figure.day import day
from planner.report.figure.flow import flow
from planner.report.figure.front import front
from planner.report.figure.limits import limits
from planner.report.figure.utilisation import utilisation
from planner.report.figure.words import NARROW, WIDE
from planner.report.page.markup import Html, element
from planner.report.page.subject import Subject
from planner.spec.pool import Profile

CURVES, FRONT = "curves-", "front-"
N_CURVE = 30  # places at which a curve is computed: no eye sees more


@dataclass(frozen=True)
class Picture:
    """A drawing that a plan has."""

    about: str
    draw: Callable[[float], Drawing | None]
    """Draws for a width in px; None where there turns out to be nothing to show."""


def pictures(subject: Subject) -> Mapping[str, Picture]:
    """Returns what can be drawn of a plan, by the names that `rb report --png` takes."""
    plan = subject.plan
    found = {"flow": Picture("who answers what", lambda width: flow(plan, width))}
    found["utilisation"] = Picture("how full the pools are", lambda w: _utilisation(subject, w))
    if any(f.at_most_ms is not None for f in plan.predicted.latency):
        found["limits"] = Picture("what each limit allows", lambda width: limits(plan, width))
    for x, y in pairs(subject):
        found[f"{FRONT}{x}-{y}"] = Picture(f"{y} over {x} of the front", _front(subject, x, y))
    if plan.periods is not None:
        found["day"] = Picture("what runs in which hours", lambda width: day(plan, width))
    for row in plan.deployment:
        if (profile := _profile(subject, row.pool)) is not None:
            draw = _curves(subject, profile)
            found[f"{CURVES}{row.pool}"] = Picture("how fast this pool is", draw)
    return found


def pairs(subject: Subject) -> list[tuple[AxisName, AxisName]]:
    """Returns the pairs of figures over which the front can be drawn, the most telling first."""
    if len(subject.plan.front) < 2:
        return []
    # Where the traffic is maximised, it is what money buys.
    order: tuple[AxisName, ...] = ("cost", "traffic", "quality", "latency")
    found = list(combinations(sorted(axes_of(subject.plan), key=order.index), 2))
    # What should be small goes across, so that the best found is a stair.
    return [(y, x) if y == "latency" and x != "cost" else (x, y) for x, y in found]


def picture(name: str, subject: Subject, wide: float = WIDE) -> Html | None:
    """Returns a drawing by name, as wide as a desk and as narrow as a phone; None without one."""
    found = pictures(subject).get(name)
    if found is None:
        return None
    drawn = [(kind, found.draw(width)) for kind, width in (("wide", wide), ("narrow", NARROW))]
    shown = [
        element("div", Html(to_svg(each, f"{kind}-{name}-")), class_=kind)
        for kind, each in drawn
        if each is not None
    ]
    return element("figure", shown) if shown else None


def _front(subject: Subject, x: AxisName, y: AxisName) -> Callable[[float], Drawing | None]:
    return lambda width: front(subject.plan, x, y, width)


def _utilisation(subject: Subject, width: float) -> Drawing | None:
    inputs = subject.inputs
    headroom = None if inputs is None else inputs.question.headroom_ratio
    known = {pool: at.measured_ratio for pool, at in subject.loads.items() if at.measured_ratio}
    return utilisation(subject.plan, headroom, known, width)


def _profile(subject: Subject, pool: str) -> Profile | None:
    """Returns what was measured of a pool; None where that is nothing."""
    profiles = {} if subject.inputs is None else subject.inputs.profiles.by_name()
    profile = profiles.get(pool)
    return profile if profile is not None and profile.points else None


def _curves(subject: Subject, profile: Profile) -> Callable[[float], Drawing | None]:
    at = subject.loads.get(profile.name)

    @cache  # for both widths
    def made() -> tuple[Chart, ...]:
        try:
            return charts(at.model if at is not None else fit(profile), N_CURVE)
        except FitError:
            return ()

    return lambda width: curves(profile.name, made(), at, width)
