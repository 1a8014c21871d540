"""One fact, one figure: what the terminal, the page, the comment and the data say of a plan agrees.

Each of them words and rounds for itself. What they state about the same thing is read back here,
from their text, and held against each other and against the file.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pytest
from drawn_plans import demo, with_periods
from paged import Element, hosted, page_of

from planner.gate.diff import diff
from planner.gate.policy.case import cost_usd_per_h
from planner.report.console import make_console
from planner.report.data import diff_data
from planner.report.diff import render_diff
from planner.report.figures import usd
from planner.report.page.limits import limits_section
from planner.report.page.subject import Subject
from planner.report.page.words import price_in_words
from planner.report.plan import render_plan
from planner.report.review.comment import review_markdown
from planner.spec.base import LatencyName
from planner.spec.plan import LatencyFigure, Plan, Price, ReservedGpus
from planner.spec.whole import HOURS_PER_MONTH


def reserved(plan: Plan) -> Plan:
    """A day whose GPUs are reserved: in its busiest hours more is paid than they cost alone."""
    day = with_periods(plan)
    periods = day.periods
    kept = (ReservedGpus(gpu="h100-sxm-80g", n_gpus=40.0, usd_per_h=90.0),)
    each = tuple(
        p.model_copy(update={"paid_usd_per_h": 90.0 + p.paid_usd_per_h}) for p in periods.each
    )
    mean = 90.0 + periods.cost_usd_per_h
    update = {"reserved": kept, "each": each, "cost_usd_per_h": mean, "total_usd": 24.0 * mean}
    return day.model_copy(update={"periods": periods.model_copy(update=update)})


def told(render, *args) -> str:
    stream = io.StringIO()
    render(*args, make_console(stream, width=100))
    return stream.getvalue()


PLANS = {"demo": demo, "hosted": lambda: hosted(demo()), "day": lambda: reserved(demo())}


@dataclass(frozen=True)
class Rooms:
    """A plan, and what each room says of it."""

    plan: Plan
    comment: str
    terminal: str
    page: Element


@pytest.fixture(scope="module", params=PLANS)
def rooms(request) -> Rooms:
    plan = PLANS[request.param]()
    return Rooms(plan, review_markdown(plan), told(render_plan, plan), page_of(plan))


def test_the_money_of_an_hour_and_a_month(rooms: Rooms) -> None:
    where, mean = cost_usd_per_h(rooms.plan)
    hour, month = usd(mean), usd(mean * HOURS_PER_MONTH)
    data = diff_data(diff(rooms.plan, rooms.plan))
    assert data["mean_usd_per_h"]["new"] == mean
    assert data["cost_usd_per_month"]["new"] == pytest.approx(mean * HOURS_PER_MONTH)
    assert f" | {hour} / {month} |" in rooms.comment
    assert f"{hour} per hour" in rooms.comment.splitlines()[2]
    for text in (rooms.page.text, rooms.terminal):
        assert f"{month} per month" in text
    assert tiles(rooms.page)["Cost"].startswith(hour)
    assert where.endswith("periods.cost_usd_per_h") == (rooms.plan.periods is not None)


def tiles(page: Element) -> dict[str, str]:
    found = page.all("div", class_="tile")
    return {tile.one("dt").text: tile.one("dd").text for tile in found}


def test_the_money_of_the_busiest_hours_is_what_is_paid_then() -> None:
    plan = reserved(demo())
    busiest = next(p for p in plan.periods.each if p.name == plan.periods.busiest)
    paid = busiest.paid_usd_per_h
    assert paid != plan.predicted.cost_usd_per_h  # which is of the deployment alone
    assert diff_data(diff(plan, plan))["cost_usd_per_h"]["new"] == paid
    assert f"| cost per hour, busiest period | {usd(paid)} |" in review_markdown(plan)
    assert re.search(rf"cost per hour +\{usd(paid)} ", told(render_diff, diff(plan, plan)))


def test_quality_and_gpus(rooms: Rooms) -> None:
    quality = f"{rooms.plan.predicted.quality:.4f}"
    assert f"| quality of all traffic | {quality} |" in rooms.comment
    assert f"quality {quality}" in rooms.terminal
    assert tiles(rooms.page)["Quality"].startswith(quality)
    gpus = sum(float(n) for n in re.findall(r"\| GPUs `[^`]*` \| ([\d.]+) \|", rooms.comment))
    assert gpus == sum(row.n_gpus for row in rooms.plan.deployment)
    assert tiles(rooms.page)["GPUs"].startswith(f"{gpus:g}")
    assert re.search(rf"together +\d+ +{gpus:g} ", rooms.terminal)


@pytest.mark.parametrize("ms", [99.9, 100.0, 100.1, 100.2])
def test_a_limit_is_missed_in_all_rooms_or_in_none(ms: float) -> None:
    """The file rounds to tenths: 100.1 may be a prediction of exactly what is allowed."""
    figure = LatencyFigure.model_validate(
        {"class": None, "metric": "ttft", "statistic": "p95", "ms": ms, "low_ms": 90.0,
         "high_ms": 110.0, "at_most_ms": 100.06, "origin": "measured"}
    )  # fmt: skip
    predicted = demo().predicted.model_copy(update={"latency": (figure,)})
    plan = demo().model_copy(update={"predicted": predicted, "simulated": None})
    texts = (
        limits_section(Subject(plan)).body,
        told(render_plan, plan),
        review_markdown(plan),
    )
    assert {"missed" in text.lower() for text in texts} == {ms > 100.1}
    assert figure.is_missed == (ms > 100.1)


def test_a_latency_has_one_name() -> None:
    name = LatencyName.model_validate({"class": None, "metric": "tpot", "statistic": "mean"})
    assert (name.label, name.short_label) == ("mean tpot of all traffic", "mean tpot")
    own = LatencyName.model_validate({"class": "math", "metric": "e2e", "statistic": "p95"})
    assert own.label == own.short_label == "p95 e2e of math"
    assert own.key == ("math", "e2e", "p95")


def test_the_price_of_a_limit_on_all_traffic_is_put_into_words() -> None:
    figure = LatencyFigure.model_validate(
        {"class": None, "metric": "ttft", "statistic": "p95", "ms": 90.0, "low_ms": 80.0,
         "high_ms": 99.0, "at_most_ms": 100.0, "origin": "measured"}
    )  # fmt: skip
    predicted = demo().predicted.model_copy(update={"latency": (figure,)})
    plan = demo().model_copy(update={"predicted": predicted})
    price = Price(what=f"limit:{figure.label}", value=100.0, unit="USD per hour per ratio")
    change, gain = price_in_words(price, plan)
    assert change == "6% of all requests (not 5%) may exceed 100 ms of ttft"
    assert gain == "save $1.00 per hour"
