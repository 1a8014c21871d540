"""What a little more of something scarce would buy, and when another plan would be better."""

from __future__ import annotations

from collections.abc import Iterator

from planner.report.figures import number, quality, usd
from planner.report.page.markup import Html, element, joined
from planner.report.page.parts import Column, Section, bullets, note, table, unfolding
from planner.report.page.subject import Subject
from planner.report.page.words import in_words, price_in_words, traffic_sentences
from planner.spec.plan import Plan
from planner.spec.reasons import GainUnit, RangeUnit, Rival, Stays, Worth

UNITS: dict[RangeUnit, str] = {
    "usd_per_gpu_h": "$ per GPU and hour",
    "price_factor": "times its prices",
    "rate_factor": "times the traffic",
}


def more_section(subject: Subject) -> Section | None:
    """Returns what more would buy; None where the plan says nothing of it."""
    plan = subject.plan
    reasons = plan.reasons
    parts = [
        bullets(traffic_sentences(plan)),
        _worth(reasons.worth) if reasons and reasons.worth else None,
        _prices(plan),
        _rivals(plan),
        _stays(reasons.stays) if reasons and reasons.stays else None,
    ]
    if not any(parts):
        return None
    lead = "What the traffic, the limits and the GPUs are worth to this plan at the margin."
    return Section("more", "What more would buy", lead, joined(*parts))


def _worth(worth: tuple[Worth, ...]) -> Html:
    columns = (
        Column("This change", "text"),
        Column("would", "text"),
        Column("at most", "text", "proved"),
        Column("then costs $/h", source="given"),
    )
    order = sorted(worth, key=lambda w: -w.gain)
    rows = [
        (_subject(w), gained(w.gain, w.unit), _at_most(w), f"{w.cost_usd_per_h:,.2f}")
        for w in order
    ]
    remark = (
        "Each is the question asked again with that one change, replicas and all. At most: what no "
        "plan can gain by it, proved by the tables."
    )
    return joined(
        element("h3", "One change, planned again"),
        table(columns, rows, "What a little more of each scarce thing would buy"),
        note(remark),
    )


def _subject(worth: Worth) -> str:
    if worth.what == "budget":
        return f"a budget of {worth.change}"
    if worth.what == "quality floor":
        return f"a quality floor of {worth.change}"
    if worth.what.startswith("stock of "):
        return f"one more {worth.what.removeprefix('stock of ')} in stock"
    return f"{worth.what} up to {worth.change}"


def gained(gain: float, unit: GainUnit) -> str:
    """Returns a gain in words, e.g. 'save $8.85 per hour', 'buy nothing'."""
    if gain <= 0:
        return {"usd_per_h": "save nothing", "quality": "buy no quality"}.get(
            unit, "carry no more traffic"
        )
    if unit == "usd_per_h":
        return f"save {usd(gain)} per hour"
    if unit == "quality":
        return f"buy +{gain:.4f} of quality"
    return f"carry {number(gain)} times the stated traffic more"


def _at_most(worth: Worth) -> str:
    if worth.at_most is None:
        return "unknown"
    if worth.unit == "usd_per_h":
        return usd(worth.at_most)
    return f"+{worth.at_most:.4f}" if worth.unit == "quality" else f"{number(worth.at_most)} times"


def _prices(plan: Plan) -> Html | None:
    if not plan.prices:
        return None
    said = [price_in_words(price, plan) for price in plan.prices]
    changes = (Column("This small change", "text"), Column("would", "text"))
    columns = (Column("Price of", "text"), Column("Value"), Column("Unit", "text"))
    rows = [(p.what, number(p.value), p.unit) for p in plan.prices]
    remark = (
        "Shadow prices: small changes with the replicas as they are, shares alone move. What is "
        "not named here has spare room: more of it is worth nothing."
    )
    return joined(
        element("h3", "With these replicas, at the margin"),
        table(changes, said, "What each shadow price means"),
        note(remark),
        unfolding("The prices as the solver has them", table(columns, rows, "Dual prices")),
    )


def _rivals(plan: Plan) -> Html | None:
    if plan.reasons is None or not (plan.reasons.rival or plan.reasons.refused):
        return None
    said = []
    if plan.reasons.rival is not None:
        said.append(f"Next best: {_rival(plan.reasons.rival)}.")
    if plan.reasons.refused is not None:
        said.append(f"Better, but refused: {_rival(plan.reasons.refused)}.")
    return joined(element("h3", "Who came second"), bullets(said))


def _rival(rival: Rival) -> str:
    return (
        f"{in_words(rival.deployment)} for {usd(rival.cost_usd_per_h)} per hour at a quality of "
        f"{quality(rival.quality)}: {rival.lost}"
    )


def _stays(stays: tuple[Stays, ...]) -> Html:
    columns = (
        Column("Figure", "text"),
        Column("Now"),
        Column("Best from"),
        Column("to"),
        Column("Proved from", source="proved"),
        Column("to", source="proved"),
        Column("Else better", "text"),
    )
    rows = [
        (
            f"{each.what} ({UNITS[each.unit]})",
            number(each.now),
            *(_end(v) for v in (each.low, each.high, each.proved_low, each.proved_high)),
            "; ".join(_takes_over(each)) or "-",
        )
        for each in stays
    ]
    remark = "-: no end was found as far as was looked, or nothing is proved."
    return joined(
        element("h3", "How long this plan stays the best"),
        table(columns, rows, "The range of each figure in which this plan stays the best"),
        note(remark),
    )


def _end(value: float | None) -> str:
    return number(None if value is None else value + 0.0)  # never -0


def _takes_over(each: Stays) -> Iterator[str]:
    if each.low is not None and each.below:
        yield f"below: {in_words(each.below)}"
    if each.high is not None and each.above:
        yield f"above: {in_words(each.above)}"
