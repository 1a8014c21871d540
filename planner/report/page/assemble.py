"""The whole page: one file that needs no other, no network and no script to be read."""

from __future__ import annotations

from collections.abc import Callable

from planner.files.assets import package_text
from planner.report.drawing.palette import css_variables
from planner.report.drawing.svg import STYLE
from planner.report.page.choice import choice_section, front_data
from planner.report.page.day import day_section
from planner.report.page.grades import quality_section
from planner.report.page.limits import limits_section, survives_section
from planner.report.page.markup import Html, element, embedded_json, joined
from planner.report.page.more import more_section
from planner.report.page.parts import Section
from planner.report.page.rent import rent_section
from planner.report.page.sources import sources_section, why_section
from planner.report.page.speed import speed_section
from planner.report.page.subject import Subject
from planner.report.page.summary import summary
from planner.report.page.surety import surety_section
from planner.report.page.traffic import traffic_section

SECTIONS: tuple[Callable[[Subject], Section | None], ...] = (
    day_section,
    rent_section,
    traffic_section,
    limits_section,
    quality_section,
    choice_section,
    more_section,
    survives_section,
    surety_section,
    speed_section,
    why_section,
    sources_section,
)
"""In the order of who reads it: first what is decided, then why, then what it rests on."""

# Nothing may be fetched from anywhere: what the page needs, it has.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


def page(subject: Subject) -> str:
    """Returns the report of a plan as an HTML page, the same bytes for the same inputs."""
    sections = [found for make in SECTIONS if (found := make(subject)) is not None]
    body = joined(
        element("a", "Skip to the plan", href="#answer", class_="skip"),
        element(
            "header",
            element("span", "rb report", class_="brand"),
            element("button", "Dark", type="button", id="theme", class_="scripted", hidden=True),
        ),
        element(
            "div",
            _contents(sections),
            element(
                "main",
                element("section", summary(subject), id="answer", class_="top"),
                [_section(each) for each in sections],
                id="main",
            ),
            class_="page",
        ),
        element("footer", _made_by(subject)),
        element("div", "", id="tip", role="tooltip", hidden=True),
        element(
            "script", embedded_json(front_data(subject.plan)), type="application/json", id="data"
        ),
        element("script", Html(package_text("planner.report.page", "page.js"))),
    )
    head = joined(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=f"rb {subject.plan.provenance.rb_version}"),
        element("title", f"{subject.plan.title} - rb report"),
        element("style", Html(style())),
    )
    whole = joined(element("head", head), "\n", element("body", body), "\n")
    return f"<!DOCTYPE html>\n{element('html', whole, lang='en')}\n"


def style() -> str:
    """Returns the style sheet: the palette of the drawings, and what the page adds to it."""
    light, dark = css_variables("light"), css_variables("dark")
    return (
        f":root{{{light}color-scheme:light}}"
        f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}color-scheme:dark}}}}"
        f":root[data-theme=dark]{{{dark}color-scheme:dark}}"
        f"{STYLE}\n{package_text('planner.report.page', 'page.css')}"
        f"@media print{{:root,:root[data-theme],:root:not([data-theme=light])"
        f"{{{light}color-scheme:light}}}}"
    )


def _contents(sections: list[Section]) -> Html:
    items = [element("li", element("a", each.title, href=f"#{each.id}")) for each in sections]
    return element("nav", element("ol", items), aria_label="Contents")


def _section(each: Section) -> Html:
    title = element("h2", each.title, id=f"{each.id}-title")
    lead = element("p", each.lead, class_="lead")
    return element(
        "section", title, lead, each.body, id=each.id, aria_labelledby=f"{each.id}-title"
    )


def _made_by(subject: Subject) -> str:
    made = subject.plan.provenance
    return (
        f"rb {made.rb_version}, {made.method}, effort {made.effort}, seed {made.seed}. One file, "
        "no network: nothing here was fetched and nothing is sent."
    )
