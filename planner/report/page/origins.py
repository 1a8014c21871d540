"""Where a figure comes from (§8), as a small mark beside it and a legend of the marks."""

from __future__ import annotations

from typing import Literal

from planner.report.page.markup import Html, element, joined
from planner.spec.base import Origin

Source = Origin | Literal["given", "proved"]
"""The four of §8, what a person states (a limit, a traffic, a price), what a solver proves."""

LEGEND = "origins"

MEANINGS: dict[Source, str] = {
    "measured": "of real requests on the real thing",
    "simulated": "of the plan played request by request",
    "estimated": "by a formula fitted to measurements, or from other pools",
    "assumed": "nobody measured it; somebody took it to be so",
    "given": "stated in the question or in a price list",
    "proved": "by a solver, of the fitted tables: no plan can do better",
}


def mark(source: Source) -> Html:
    """Returns the mark of an origin: its first letter, its whole name for who cannot see it."""
    letter = element("span", source[0].upper(), aria_hidden="true")
    name = element("span", source, class_="unseen")
    return element("span", letter, name, class_=f"origin {source}", title=source)


def marked(figure: str, source: Source | None) -> Html:
    """Returns a figure with the mark of its origin; None: it is decided, not known."""
    return joined(figure, None if source is None else joined(" ", mark(source)))


def marks() -> Html:
    """Returns all marks with their names, in a line, and where they are explained."""
    named = [element("span", mark(source), " ", _named(source)) for source in MEANINGS]
    more = element("a", "what they mean", href=f"#{LEGEND}")
    return element("p", named, more, class_="marks")


def _named(source: Source) -> Html:
    return element("span", source, aria_hidden="true")  # the mark has said it


def legend() -> Html:
    """Returns what each mark means."""
    rows = [
        joined(element("dt", mark(source), " ", _named(source)), element("dd", meaning))
        for source, meaning in MEANINGS.items()
    ]
    note = element(
        "p",
        "A figure made of several is marked as the least certain of them. What has no mark is "
        "decided by the plan (replicas, shares) or follows from what stands beside it.",
        class_="note",
    )
    return joined(element("dl", rows, class_="legend", id=LEGEND), note)
