"""The front: every best deployment, to be looked at point by point, beside the chosen one.

Without scripts: a drawing for each pair of axes, and the table. With them: one drawing at a time,
points that speak when they are pointed at, and a deployment beside the plan's when one is pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.report.figures import number, percent, quality, usd
from planner.report.page.grades import scores_origin
from planner.report.page.markup import Html, element, joined
from planner.report.page.parts import Column, Section, note, table, unfolding
from planner.report.page.pictures import FRONT, pairs, picture
from planner.report.page.rent import load_origin
from planner.report.page.subject import Subject
from planner.report.page.words import in_ms, replicas
from planner.spec.plan import FrontPoint, Plan

BESIDE = 600.0  # px, of the drawing that has the compared deployments at its side


def choice_section(subject: Subject) -> Section | None:
    """Returns the front and what can be chosen from it; None where there is nothing to choose."""
    plan = subject.plan
    if len(plan.front) < 2:
        return None
    lead = (
        f"{len(plan.front)} deployments that no other beats in cost, quality and latency at once; "
        "this plan is one of them."
    )
    body = joined(_explorer(subject) if pairs(subject) else None, _table(subject))
    return Section("choice", "What else could be had", lead, body)


def _explorer(subject: Subject) -> Html:
    drawn = [
        (f"{x}-{y}", f"{x} and {y}".capitalize(), picture(f"{FRONT}{x}-{y}", subject, BESIDE))
        for x, y in pairs(subject)
    ]
    tabs = [
        element("button", name, type="button", data_pair=pair, aria_pressed="false", class_="tab")
        for pair, name, _ in drawn
    ]
    panels = [element("div", each, class_="panel", data_pair=pair) for pair, _, each in drawn]
    help_ = (
        "Point at a deployment, or move to it with Tab and the arrow keys, to see it; click or "
        "press Enter to keep it beside the plan, Escape to let it go."
    )
    return element(
        "div",
        element("div", "Axes: ", tabs, class_="tabs scripted", role="group", aria_label="Axes"),
        element(
            "div",
            element("div", panels),
            element("div", "", id="compared", class_="scripted"),
            class_="looks",
        ),
        element("p", help_, class_="note scripted"),
        element("p", "", class_="said scripted", id="said", role="status", aria_live="polite"),
        class_="explorer",
        id="explorer",
    )


def _table(subject: Subject) -> Html:
    """Returns every point of the front, cheapest first, the chosen one strong."""
    plan = subject.plan
    order = ordered(plan.front)
    shows = _Shows(plan)
    pools = {pool for point in plan.front for pool in point.deployment}
    columns = [
        Column("", "text"),
        Column("$/h", source="given"),
        Column("Quality", source=scores_origin(subject, pools=pools)),
        *shows.columns,
        Column("Replicas", "text"),
    ]
    rows = [
        [
            "this plan" if p.chosen else f"no. {n}",
            f"{p.cost_usd_per_h:,.2f}",
            quality(p.quality),
            *shows.cells(p),
            replicas(p.deployment),
        ]
        for n, (_, p) in enumerate(order, 1)
    ]
    strong = [n for n, (_, p) in enumerate(order) if p.chosen]
    made = table(columns, rows, "The best deployments", strong, name="front-table")
    text = "Limits used: of the tightest latency limit, by the tables."
    if any(p.gap_ratio is not None for p in plan.front):
        what = "traffic" if any(p.rate_factor is not None for p in plan.front) else "quality"
        text += f" Within: of the best {what} of any deployment of its cost and latency (proved)."
    n = len(plan.front)
    return unfolding(f"All {n} deployments as a table", made, note(text))


def ordered(front: Sequence[FrontPoint]) -> list[tuple[int, FrontPoint]]:
    """Returns the points with their places in the plan, cheapest first."""
    return sorted(enumerate(front), key=lambda item: (item[1].cost_usd_per_h, -item[1].quality))


class _Shows:
    """Which figures any point of a front has."""

    def __init__(self, plan: Plan) -> None:
        front = plan.front
        self.by_fit = load_origin(plan)
        self.ratio = any(p.latency_ratio is not None for p in front)
        self.ms = not self.ratio and any(p.latency_ms is not None for p in front)
        self.tried = any(p.simulated_latency_ratio is not None for p in front)
        self.rate = any(p.rate_factor is not None for p in front)
        self.gap = any(p.gap_ratio is not None for p in front)

    @property
    def columns(self) -> list[Column]:
        """Returns the columns that not every front has."""
        every = [
            (self.ratio, Column("Limits used", source=self.by_fit)),
            (self.ms, Column("Latency (ms)", source=self.by_fit)),
            (self.tried, Column("Simulated", source="simulated")),
            (self.rate, Column("Times the traffic", source=self.by_fit)),
            (self.gap, Column("Within", source="proved")),
        ]
        return [column for there, column in every if there]

    def cells(self, p: FrontPoint) -> Iterator[str]:
        """Yields the figures of these columns."""
        figures = (
            (self.ratio, percent(p.latency_ratio, 0)),
            (self.ms, in_ms(p.latency_ms)),
            (self.tried, percent(p.simulated_latency_ratio, 0)),
            (self.rate, number(p.rate_factor)),
            (self.gap, percent(p.gap_ratio)),
        )
        return (cell for there, cell in figures if there)


def front_data(plan: Plan) -> dict[str, object]:
    """Returns what the script knows of the front: figures as they are read, and deployments."""
    if len(plan.front) < 2:
        return {"points": []}
    shows = _Shows(plan)
    order = ordered(plan.front)
    chosen = next((place for place, p in order if p.chosen), None)
    return {
        "order": [place for place, _ in order],
        "chosen": chosen,
        "columns": ["Cost", "Quality", *(c.name for c in shows.columns)],
        "points": [
            {
                "deployment": p.deployment,
                "figures": [f"{usd(p.cost_usd_per_h)}/h", quality(p.quality), *shows.cells(p)],
                "cost": p.cost_usd_per_h,
                "quality": p.quality,
            }
            for p in plan.front
        ],
    }
