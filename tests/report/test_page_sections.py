"""The page of every kind of plan: whole, readable without a script, closed to what files say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import pytest
from drawn_plans import demo, plan_of, with_periods
from paged import PLANS, Element, demo_page, full, missed, page_of, read, unmeasured
from pydantic import ValidationError

from planner.errors import Fault
from planner.report.drawing.palette import DARK, LIGHT
from planner.report.page.assemble import page, style
from planner.report.page.pictures import pairs
from planner.report.page.subject import Subject, subject_of
from planner.spec.base import FOREVER_MS, Origin
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan

EVERY = {**PLANS, "forty classes": plan_of(40, 3), "forty pools": plan_of(3, 40)}
NAMED = {"aria-labelledby", "aria-describedby", "href"}
CLOSED_SOURCES = {"'none'", "'unsafe-inline'", "data:"}  # of a policy: none of them is elsewhere
ASKING = r"\b(fetch|import|XMLHttpRequest|WebSocket|EventSource|sendBeacon|Worker)\b\s*\("


@pytest.fixture(params=EVERY, scope="module")
def seen(request: pytest.FixtureRequest) -> Element:
    return read(text_of(request.param))


@cache
def text_of(name: str) -> str:
    return page(Subject(EVERY[name]))


@pytest.fixture(scope="module")
def whole() -> Element:
    """The demo's page with its inputs."""
    return read(demo_page())


def table_of(page: Element, caption: str) -> Element:
    (found,) = [t for t in page.all("table") if t.one("caption").text == caption]
    return found


def name_of(head: Element) -> str:
    """The name of a column, without the mark of its origin."""
    return "".join(c for c in head.children if isinstance(c, str)).strip()


def columns(table: Element) -> list[str]:
    return [name_of(cell) for cell in table.one("thead").all("th")]


# ---- Every page ----------------------------------------------------------------------------------


def test_headings_are_in_order_and_one_is_the_first(seen: Element) -> None:
    levels = [int(e.tag[1]) for e in seen if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_ids_are_unique_and_what_is_referred_to_is_there(seen: Element) -> None:
    ids = [e.attributes["id"] for e in seen if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    referred = {
        value.removeprefix("#") for e in seen for name, value in e.attributes.items()
        if name in NAMED and value
    }  # fmt: skip
    assert referred <= set(ids)


def test_every_drawing_has_a_role_a_name_and_a_description(seen: Element) -> None:
    for svg in seen.all("svg"):
        assert svg.has("role", "img") and svg.attributes["aria-label"]
        assert svg.one("desc").text


def test_every_table_says_what_it_is_and_is_as_wide_as_its_head(seen: Element) -> None:
    for table in seen.all("table"):
        assert table.one("caption").text
        heads = table.one("thead").all("th")
        assert all(head.has("scope", "col") for head in heads)
        for row in [r for part in ("tbody", "tfoot") for p in table.all(part) for r in p.all("tr")]:
            cells = [c for c in row.children if isinstance(c, Element)]
            assert len(cells) == len(heads)
            assert cells[0].tag == "th" and cells[0].has("scope", "row")
            assert [c.attributes["data-name"] for c in cells[1:]] == [name_of(h) for h in heads[1:]]


def test_nothing_is_fetched_and_nothing_can_be(seen: Element) -> None:
    for e in seen:
        assert e.tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not {"src", "srcset", "action"} & e.attributes.keys()
        assert not [name for name in e.attributes if name.startswith("on")]
        assert (e.attributes.get("href") or "#").startswith("#")
    (policy,) = [m for m in seen.all("meta") if m.has("http-equiv", "Content-Security-Policy")]
    said = dict(part.split(maxsplit=1) for part in (policy.attributes["content"] or "").split("; "))
    assert said["default-src"] == "'none'"
    assert {s for sources in said.values() for s in sources.split()} <= CLOSED_SOURCES
    assert "url(" not in style() and "@import" not in style()
    for script in seen.all("script"):
        assert not re.search(ASKING, script.text)


def test_the_contents_name_every_section_in_order(seen: Element) -> None:
    listed = [(a.attributes["href"], a.text) for a in seen.one("nav").all("a")]
    shown = [(f"#{s.attributes['id']}", s.one("h2").text) for s in seen.all("section")[1:]]
    assert listed == shown


def test_what_needs_a_script_waits_for_it(seen: Element) -> None:
    for button in seen.all("button"):
        assert button.text and button.has("type", "button")
    assert seen.one("div", id="tip").attributes.get("hidden", "no") is None
    assert ".scripted { display: none !important; }" in style()


# ---- What files say ------------------------------------------------------------------------------

HOSTILE = "</script><img src=x onerror=alert(1)>${alert(2)}\u2028<!--'\"&lt;]]>"


def poisoned(value: Any, where: str = "") -> Any:
    """Plan data with the hostile text at the end of every text."""
    if isinstance(value, dict):
        return {key: poisoned(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, where) for each in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) else value


def set_at(data: Any, path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


def get_at(data: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def hostile(plan: Plan) -> tuple[Plan, int]:
    """The plan with hostile text wherever its type takes any, and how often that is."""
    data = plan.model_dump(mode="json", by_alias=True)
    bad = poisoned(data)
    bad["provenance"]["inputs"] = {
        f"{name} {HOSTILE}": digest for name, digest in data["provenance"]["inputs"].items()
    }
    try:
        Plan.model_validate(bad)
    except ValidationError as error:  # names and choices take no such text: they stay as they were
        for fault in error.errors():
            if fault["type"] != "value_error":
                set_at(bad, fault["loc"], get_at(data, fault["loc"]))
    found = Plan.model_validate(bad)
    return found, json.dumps(bad).count("onerror")


@pytest.mark.parametrize("make", [full, lambda p: with_periods(full(p))], ids=["plan", "day"])
def test_no_text_of_a_plan_becomes_markup(make: Callable[[Plan], Plan]) -> None:
    plan = make(demo())
    bad, n = hostile(plan)
    assert n > 40 and HOSTILE in bad.title and HOSTILE in bad.why[0]
    clean, dirty = page_of(plan), page_of(bad)
    assert [e.tag for e in dirty] == [e.tag for e in clean]
    for e in dirty:
        assert not [name for name in e.attributes if name.startswith("on")]
    # It is shown as the text that it is.
    assert dirty.one("h1").text == f"{plan.title} {HOSTILE}".replace("\u2028", " ")
    assert HOSTILE.replace("\u2028", " ") in dirty.one("section", id="why").text


def test_no_text_of_the_inputs_becomes_markup(demo_inputs: Inputs) -> None:
    faults = (Fault(f"q.yaml {HOSTILE}", HOSTILE, HOSTILE, HOSTILE),)
    clean = read(page(Subject(demo(), None, (Fault("q.yaml", "a", "b", "c"),))))
    dirty = read(page(Subject(demo(), None, faults)))
    assert [e.tag for e in dirty] == [e.tag for e in clean]
    assert HOSTILE.replace("\u2028", " ") in dirty.one("section", id="sources").text


def test_the_script_finds_its_data_whatever_they_hold() -> None:
    bad, _ = hostile(full(demo()))
    data = json.loads(page_of(bad).one("script", id="data").text)
    assert len(data["points"]) == len(bad.front)


# ---- What is said --------------------------------------------------------------------------------


def test_every_figure_of_the_plan_is_there(whole: Element) -> None:
    plan = demo()
    rent = table_of(whole, "Pools to run, their GPUs, price and load").rows()
    assert [(r[0], r[2], r[4]) for r in rent] == [
        (d.pool, str(d.replicas), f"{d.usd_per_h:,.2f}") for d in plan.deployment
    ]
    shares = table_of(whole, "Share of each class by pool")
    for row in shares.rows():
        for name, cell in zip(columns(shares)[1:-1], row[1:-1], strict=True):
            share = next(
                (r.share for r in plan.routing if (r.class_name, r.pool) == (name, row[0])), 0.0
            )
            assert cell == ("-" if share == 0 else f"{100 * share:.1f}%")
    limits = table_of(whole, "Each latency limit").rows()
    limited = [f for f in plan.predicted.latency if f.at_most_ms]
    assert [r[0] for r in limits] == [
        f"{f.statistic} {f.metric} of {f.class_name}" for f in limited
    ]
    for row, f in zip(limits, limited, strict=True):
        assert row[1].startswith(f"{f.ms:,.0f}" if f.ms >= 100 else f"{f.ms:,.1f}")


def test_known_figures_carry_the_mark_of_their_origin(whole: Element) -> None:
    """§8: predicted, simulated and quality figures say what they are."""
    table = table_of(whole, "Each latency limit")
    names = columns(table)
    for row in table.one("tbody").all("tr"):
        cells = [c for c in row if c.tag in ("th", "td")]
        for name, kind in (("Predicted", "estimated"), ("Simulated", "simulated")):
            (found,) = cells[names.index(name)].all("span", class_="origin")
            assert found.has("class", kind) and kind in found.text
    for tile in whole.one("dl", class_="tiles").all("div"):
        marks = tile.all("span", class_="origin")
        assert len(marks) == (0 if tile.one("dt").text == "GPUs" else 1)
        if tile.one("dt").text == "From the best":
            assert marks[0].has("class", "proved")
    legend = whole.one("dl", class_="legend").text
    assert all(kind in legend for kind in (*get_args(Origin), "given", "proved"))


def test_a_phone_that_shows_no_head_of_a_table_still_says_the_origins(whole: Element) -> None:
    marked = 0
    for table in whole.all("table"):
        heads = table.one("thead").all("th")[1:]
        for row in table.one("tbody").all("tr"):
            for head, cell in zip(heads, row.all("td"), strict=True):
                marks = [m.attributes["title"] for m in head.all("span", class_="origin")]
                said = [source for source in marks if source != name_of(head).lower()]
                assert cell.attributes.get("data-source") == (said[0] if said else None)
                marked += len(said)
    assert marked > 50
    assert 'content: attr(data-name) " (" attr(data-source) ")"' in style()


def test_many_classes_are_rows_not_columns() -> None:
    """Sixty columns fit no screen and no sheet of paper, which would cut them off."""
    plan = plan_of(9, 4)
    seen = table_of(page_of(plan), "Share of each class by pool")
    assert columns(seen) == ["Class", "Requests/s", "Answered by"]
    assert len(seen.rows()) == 9
    for name, rate, said in seen.rows():
        shares = sorted((r.share, r.pool) for r in plan.routing if r.class_name == name)[::-1]
        assert said.strip() == ", ".join(f"{100 * s:.1f}% {pool}" for s, pool in shares)
        assert rate == f"{plan.predicted.class_rps[name]:.4g}"
    few = table_of(page_of(plan_of(8, 4)), "Share of each class by pool")
    assert len(columns(few)) == 10 and len(few.rows()) == 4


def test_a_plan_that_misses_a_limit_by_its_own_tables_says_so_first() -> None:
    """An edited plan, or one of before: a simulation that met the limit does not undo it."""
    plan = demo()
    first, *others = plan.predicted.latency
    late = first.model_copy(update={"ms": 2.0 * (first.at_most_ms or 1.0)})
    predicted = plan.predicted.model_copy(update={"latency": (late, *others)})
    seen = page_of(plan.model_copy(update={"predicted": predicted}))
    assert "Misses limits by its own tables" in seen.one("p", class_="chips").text
    assert table_of(seen, "Each latency limit").rows()[0][-1] == "missed"


def test_the_quality_is_known_as_well_as_its_scores(demo_inputs: Inputs) -> None:
    rows = tuple(
        row.model_copy(update={"origin": "assumed"}) if row.class_name == "gsm" else row
        for row in demo_inputs.files.class_scores
    )
    light = unmeasured(demo_inputs)
    inputs = replace(light, files=replace(demo_inputs.files, class_scores=rows))
    seen = read(page(Subject(demo(), inputs)))
    table = table_of(seen, "Quality of each class")
    marks = [row.all("span", class_="origin")[0] for row in table.one("tbody").all("tr")]
    assert [m.attributes["title"] for m in marks] == ["assumed", "measured", "measured"]


def test_a_contradicted_plan_says_so_first() -> None:
    top = page_of(missed(demo())).one("section", id="answer")
    assert "MISSED p95 e2e of gsm" in top.one("p", class_="answer").text
    assert "Contradicted by simulation" in top.one("p", class_="chips").text
    warnings = top.one("ul", class_="warnings").text
    assert "Do not deploy it" in warnings and "interrupted" in warnings


def test_a_stale_plan_names_what_changed(demo_inputs: Inputs) -> None:
    old = demo()
    then = {**old.provenance.inputs, "question.yaml": "0" * 64, "gone.csv": "1" * 64}
    plan = old.model_copy(update={"provenance": old.provenance.model_copy(update={"inputs": then})})
    subject = Subject(plan, unmeasured(demo_inputs))
    assert subject.stale == ("gone.csv", "question.yaml")
    seen = read(page(subject))
    assert "Stale: 2 inputs changed" in seen.one("p", class_="chips").text
    rows = {r[0]: r[2] for r in table_of(seen, "Inputs of the plan").rows()}
    assert rows["question.yaml"].startswith("changed: ")
    assert rows["gone.csv"] == "no longer used"
    assert rows["class_scores.csv"] == "unchanged"


def test_a_plan_of_another_question_keeps_its_page(demo_inputs: Inputs) -> None:
    """Pools and classes that the question no longer has: nothing is computed, nothing breaks."""
    subject = subject_of(plan_of(3, 4), demo_inputs)
    assert subject.loads == {}
    assert not read(page(subject)).all("section", id="speed")


def test_curves_are_there_for_each_pool_that_runs(whole: Element) -> None:
    speed = whole.one("section", id="speed")
    assert [h.text for h in speed.all("h3")] == [d.pool for d in demo().deployment]
    assert len(speed.all("svg")) == 2 * len(demo().deployment)  # for a desk and for a phone


@pytest.mark.parametrize(
    ("name", "there", "gone"),
    [
        ("bare", {"rent", "traffic", "quality", "surety", "sources"}, {"limits", "choice", "why"}),
        ("full", {"survives", "more", "choice", "why"}, {"day", "speed"}),
        ("full day", {"day", "survives", "choice"}, {"speed"}),
    ],
)
def test_a_section_is_there_where_the_plan_has_it(
    name: str, there: set[str], gone: set[str]
) -> None:
    ids = {s.attributes["id"] for s in page_of(PLANS[name]).all("section")}
    assert there <= ids and not gone & ids


def test_every_period_is_a_row() -> None:
    plan = PLANS["day"]
    assert plan.periods is not None
    seen = page_of(plan)
    rows = table_of(seen, "What runs in each period").rows()
    assert [r[0] for r in rows] == [p.name for p in plan.periods.each]
    # Hours that follow each other with the same replicas are one row; none is left out.
    hours = [row[1].split("–") for row in table_of(seen, "What runs when").rows()]
    assert 1 < len(hours) < len(rows)
    assert (hours[0][0], hours[-1][1]) == ("0", "24")
    assert all(a[1] == b[0] for a, b in pairwise(hours))


def test_the_front_is_drawn_over_each_pair_of_its_figures() -> None:
    plan = demo()
    assert pairs(Subject(plan)) == [
        ("cost", "quality"),
        ("cost", "latency"),
        ("latency", "quality"),
    ]
    more = tuple(
        p.model_copy(update={"rate_factor": 1.0 + p.cost_usd_per_h / 100}) for p in plan.front
    )
    most = pairs(Subject(plan.model_copy(update={"front": more})))
    assert most[0] == ("cost", "traffic") and len(most) == 6
    assert pairs(Subject(plan.model_copy(update={"front": more[:1]}))) == []


def test_a_front_that_differs_in_one_figure_is_a_table_alone() -> None:
    point = demo().front[0]
    dearer = point.model_copy(update={"cost_usd_per_h": 99.0, "chosen": False})
    seen = page_of(demo().model_copy(update={"front": (point, dearer)}))
    assert not seen.one("section", id="choice").all("div", id="explorer")
    assert len(table_of(seen, "The best deployments").rows()) == 2


def test_a_day_of_many_changes_folds_its_table() -> None:
    long = page_of(with_periods(demo(), 120))
    folded = [d.one("summary").text for d in long.all("details")]
    assert any(re.fullmatch(r"What runs when, \d+ times", text) for text in folded)
    day = read(text_of("day"))
    assert not any("What runs when" in d.text for d in day.all("details"))


def test_the_same_plan_gives_the_same_bytes() -> None:
    for name, plan in PLANS.items():
        assert page(Subject(plan)) == text_of(name)


def test_the_page_is_small() -> None:
    assert len(demo_page().encode()) < 500_000
    assert len(page(Subject(with_periods(full(plan_of(40, 40)), 168))).encode()) < 2_500_000


def test_the_colours_are_those_of_the_drawings() -> None:
    css = style()
    for palette in (LIGHT, DARK):
        assert all(f"--{role}:{colour};" in css for role, colour in palette.items())
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", css)) <= {*LIGHT, "tint", "faint", "edge"}
    # Any other colour would be the same in the dark.
    assert (
        re.findall(
            r"#[0-9a-f]{3,8}\b(?=[;}])", css.split(".drawing text")[1].split("@media print{")[0]
        )
        == []
    )


def test_what_this_plan_rests_on_is_told_from_what_it_was_compared_with(whole: Element) -> None:
    """The demo's plan is marked as assumed for the scores of a model that it does not run (§8)."""
    assert demo().predicted.origin == "assumed"
    chips = [c.text for c in whole.all("p", class_="chips")[0].all("span")]
    assert "Rests on estimated figures" in chips
    origins = dict(table_of(whole, "Origin of each figure").rows())
    assert origins["What was compared"].startswith("scores of llama-3.1-405b, which this plan does")
    assert origins["What was compared"].endswith("assumed")
    # Without the inputs nobody can tell them apart: the plan's own mark stands.
    bare_chips = [c.text for c in page_of(demo()).all("p", class_="chips")[0].all("span")]
    assert "Rests on assumed figures" in bare_chips


def test_a_limit_whose_requests_stay_without_an_answer_has_no_ratio() -> None:
    lost = missed(demo())
    assert lost.simulated is not None
    first, *others = lost.simulated.latency
    late = first.model_copy(update={"ms": FOREVER_MS})
    tried = lost.simulated.model_copy(update={"latency": (late, *others)})
    shown = page_of(lost.model_copy(update={"simulated": tried}))
    (tile,) = [t for t in shown.all("div", class_="tile") if t.one("dt").text == "Tightest limit"]
    assert tile.one("dd").text == "no answerto requests of p95 e2e of gsm, simulated"


def test_what_would_gain_most_comes_first() -> None:
    plan = full(demo())
    assert plan.reasons is not None
    (worth,) = plan.reasons.worth
    less = worth.model_copy(update={"what": "budget", "change": "60 $/h", "gain": 1.25})
    reasons = plan.reasons.model_copy(update={"worth": (less, worth)})
    shown = table_of(
        page_of(plan.model_copy(update={"reasons": reasons})),
        "What a little more of each scarce thing would buy",
    ).rows()
    assert [row[:2] for row in shown] == [
        ["a quality floor of 0.69 instead of 0.7", "save $8.85 per hour"],
        ["a budget of 60 $/h", "save $1.25 per hour"],
    ]
