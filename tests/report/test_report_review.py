"""What a reviewer who knows no `rb` reads first: is it safe, what of money, quality, latency."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report_markdown import SAFE, UNSAFE, cells, change, judged, rendered

from planner.gate.diff import Change, FrontChange, diff
from planner.gate.way.steps import PoolStep, Rent, Transition
from planner.report.changed import front_words, in_percent, quality_step, relative, usd_step
from planner.report.review.comment import review_markdown
from planner.spec.base import FOREVER_MS
from planner.spec.plan import LatencyFigure, Plan

NOTHING = Transition((), (), "tables", True, ())


def predicted(plan: Plan, **update: object) -> Plan:
    return plan.model_copy(update={"predicted": plan.predicted.model_copy(update=update)})


def with_figures(plan: Plan, told: Callable[[int, LatencyFigure], LatencyFigure]) -> Plan:
    return predicted(plan, latency=tuple(map(told, range(99), plan.predicted.latency)))


def renamed(plan: Plan, old: str, new: str) -> Plan:
    """The plan with a class of another name."""
    p = plan.predicted
    route = tuple(
        r.model_copy(update={"class_name": new}) if r.class_name == old else r for r in plan.routing
    )
    figures = tuple(
        f.model_copy(update={"class_name": new}) if f.class_name == old else f for f in p.latency
    )
    rates, scores = ({new if c == old else c: x for c, x in each.items()}
                     for each in (p.class_rps, p.class_quality))  # fmt: skip
    return predicted(
        plan.model_copy(update={"routing": route}),
        class_rps=rates, class_quality=scores, latency=figures,
    )  # fmt: skip


def opening(new: Plan, old: Plan | None = None, way: Transition | None = NOTHING) -> str:
    """The sentences under the verdict."""
    compared = None if old is None else change(old, new, way)
    return review_markdown(new, judged(), old, compared).splitlines()[2]


# ---- In the first lines --------------------------------------------------------------------------


def test_what_becomes_of_the_limits_is_told_at_once(demo_plan: Plan) -> None:
    n = sum(f.at_most_ms is not None for f in demo_plan.predicted.latency)
    used = f"{100 * (demo_plan.predicted.latency_ratio or 0):.1f}%"
    told = f"Latency: all {n} limits are predicted to be met, the tightest used to {used}"
    assert f"{told}." in opening(demo_plan)
    assert f"{told} (before: {used})." in opening(demo_plan, demo_plan)
    over = with_figures(
        demo_plan, lambda k, f: f if k else f.model_copy(update={"ms": 2.0 * (f.at_most_ms or 0)})
    )
    assert f"Latency: ❌ 1 of {n} limits missed, the tightest" in opening(over, demo_plan)
    free = with_figures(demo_plan, lambda _, f: f.model_copy(update={"at_most_ms": None}))
    assert "Latency: no limits." in opening(free)
    assert f"Latency: no limits, **{n} limits dropped**." in opening(free, demo_plan)
    looser = with_figures(
        demo_plan,
        lambda k, f: (
            f.model_copy(update={"at_most_ms": None if k == 0 else 2 * f.at_most_ms})
            if f.at_most_ms and k < 2
            else f
        ),
    )
    assert "**1 limit dropped**, **1 limit loosened**." in opening(looser, demo_plan)
    assert "loosened" not in opening(demo_plan, looser)


def test_a_limit_is_missed_once_the_rounding_of_the_file_is_left_out(demo_plan: Plan) -> None:
    """59.96 ms are written as 60.0, and the limit of 59.96 ms is met."""
    first = next(f for f in demo_plan.predicted.latency if f.at_most_ms is not None)
    just = first.model_copy(update={"ms": 60.0, "at_most_ms": 59.96})
    over = just.model_copy(update={"ms": 60.1})
    assert "missed" not in review_markdown(predicted(demo_plan, latency=(just,)), judged())
    assert "100.2%, ❌ missed" in review_markdown(predicted(demo_plan, latency=(over,)), judged())


def test_classes_that_only_one_plan_has_are_named_and_do_not_go_elsewhere(
    demo_plan: Plan,
) -> None:
    new = renamed(demo_plan, "gsm", "maths")
    compared = change(demo_plan, new, NOTHING)
    assert compared.moved_ratio == 0.0
    text = review_markdown(new, judged(), demo_plan, compared)
    told = "no traffic goes elsewhere. Classes no longer there: `gsm`; new: `maths`."
    assert told in text.splitlines()[2]
    assert "no longer limited" not in text  # the class is gone, not its limit
    assert "| p95 e2e of `maths` | new → 10,000 | - |" in text
    (traffic,) = [row for row in text.splitlines() if row.startswith("- **Traffic:**")]
    assert "`maths` on" in traffic and "`gsm` on" not in traffic


def test_a_change_of_prices_alone_starts_nothing(demo_plan: Plan) -> None:
    rows = tuple(
        d.model_copy(update={"usd_per_h": 2.0 * d.usd_per_h}) for d in demo_plan.deployment
    )
    cost = demo_plan.predicted.cost_usd_per_h
    new = predicted(demo_plan.model_copy(update={"deployment": rows}), cost_usd_per_h=2.0 * cost)
    text = review_markdown(new, judged(), demo_plan, change(demo_plan, new, NOTHING))
    assert text.startswith("### ✅ Safe: the plan keeps every rule; nothing to start, shift")
    assert "(+100.0%), the same quality**, no traffic goes elsewhere." in text
    assert "- **Same replicas at another rent:** `" in text and "**Replicas:**" not in text
    back = review_markdown(demo_plan, judged(), new, change(new, demo_plan, NOTHING))
    assert "(-50.0%), the same quality**" in back


def test_replicas_that_are_started_anew_are_no_empty_change(demo_plan: Plan) -> None:
    text = review_markdown(demo_plan, None, demo_plan, change(demo_plan, demo_plan, SAFE))
    assert text.startswith("### ⚠️ Every step of the change holds its limits; the plan itself")
    assert "**the same routes to as many replicas, but these are started anew.**" in text
    assert "\n1. start 1 × `" in text


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (replace(UNSAFE, steps=SAFE.steps), "the change takes 2 more h100-sxm-80g for a while"),
        (UNSAFE, "not every step of the change holds what it has to"),
    ],
)
def test_an_unsafe_way_says_why(demo_plan: Plan, way: Transition, told: str) -> None:
    for judgement, end in ((judged(), ""), (None, "; the plan itself was not checked")):
        text = review_markdown(demo_plan, judgement, demo_plan, change(demo_plan, demo_plan, way))
        first = text.splitlines()[0]
        assert first.startswith("### ❌ Not safe: ") and f"{told}{end}" in first


def test_a_way_out_of_what_does_not_hold_is_safe_and_says_so(demo_plan: Plan) -> None:
    start = replace(SAFE.steps[0], holds=False, problems=("quality is 0.6, floor 0.7",))
    way = replace(SAFE, steps=(start, SAFE.steps[1]))
    text = review_markdown(demo_plan, judged(), demo_plan, change(demo_plan, demo_plan, way))
    first, *rows = text.splitlines()
    assert first.startswith("### ✅ Safe") and "the plan before does not hold its limits" in first
    assert not any("❌" in row for row in rows)
    assert any("as before, does not hold: quality is 0.6, floor 0.7" in row for row in rows)


def test_money_on_the_way_is_told_where_it_is_more_than_either_plans(demo_plan: Plan) -> None:
    def head(*usd: float) -> str:
        way = replace(SAFE, rent=Rent(*usd))
        text = review_markdown(demo_plan, judged(), demo_plan, change(demo_plan, demo_plan, way))
        return next(row for row in text.splitlines() if row.startswith("**How to put"))

    assert "(up to $103.55 per hour of GPU rent meanwhile; each step judged" in head(45, 80, 103.55)
    assert "rent" not in head(45.0, 80.0, 80.0) and "rent" not in head(80.0, 45.0, 80.004)


def test_what_never_comes_has_no_figures(demo_plan: Plan) -> None:
    """A day stands for never, and nobody is helped by 864,000 %."""
    lost = with_figures(
        demo_plan,
        lambda k, f: (
            f
            if k
            else f.model_copy(
                update={"ms": FOREVER_MS, "low_ms": FOREVER_MS, "high_ms": FOREVER_MS}
            )
        ),
    )
    lost = predicted(lost, latency_ratio=1e6)
    text = review_markdown(lost, judged(), demo_plan, change(demo_plan, lost, NOTHING))
    assert "| never | - | over 1000%, ❌ missed |" in text
    assert "the tightest used to over 1000% (before: " in text
    back = review_markdown(demo_plan, judged(), lost, change(lost, demo_plan, NOTHING))
    assert "| 10,000 | never | " in back
    assert not re.search(r"86,400|nan|inf\b", text + back)


def test_what_is_hosted_is_told_so_where_it_is_opened(demo_plan: Plan) -> None:
    opened = replace(SAFE.steps[0], pools=(PoolStep("api", None, 0, 1, 0.0),))
    own = SAFE.steps[0]
    way = replace(SAFE, steps=(opened, own))
    text = review_markdown(demo_plan, judged(), demo_plan, change(demo_plan, demo_plan, way))
    assert "\n1. start 1 × `api` (hosted) (" in text
    assert text.count("(hosted)") == 1


def test_tables_are_tables(demo_plan: Plan) -> None:
    """A row of dashes that is too short, and GitHub shows the bars."""
    text = review_markdown(demo_plan, judged())
    for shown in (
        text,
        review_markdown(demo_plan, judged(), demo_plan, diff(demo_plan, demo_plan)),
    ):
        kinds = [token.type for token in rendered(shown)]
        assert kinds.count("table_open") == 2
        assert not [t.content for t in rendered(shown) if t.type == "text" and "|" in t.content]


# ---- How figures change --------------------------------------------------------------------------


@given(
    old=st.one_of(st.none(), st.just(0.0), st.floats(0, 1e6)),
    new=st.one_of(st.none(), st.just(0.0), st.floats(0, 1e6)),
)
def test_no_step_is_nothing_with_a_sign(old: float | None, new: float | None) -> None:
    change = Change("x", old, new)
    for told in (relative(change), usd_step(change), quality_step(change)):
        assert re.fullmatch(r"-|same|[+-]\$?[\d,]+(\.\d+)?%?", told)
        assert not re.fullmatch(r"[+-]\$?0(\.0+)?%?", told)
        assert told == "-" or old is not None is not new
        assert told in ("-", "same") or (told[0] == "+") is ((new or 0.0) > (old or 0.0))


def test_steps_at_their_edges() -> None:
    assert [usd_step(Change("", 0.0, x)) for x in (0.0049, 0.0051, 2e3)] == [
        "same",
        "+$0.01",
        "+$2,000",
    ]
    assert [quality_step(Change("", 0.5, 0.5 + x)) for x in (4e-5, -6e-5)] == ["same", "-0.0001"]
    assert [relative(Change("", 100.0, x)) for x in (100.04, 99.94, 1e4)] == [
        "same",
        "-0.1%",
        "+9,900.0%",
    ]
    assert in_percent("+$1.00", Change("", 0.0, 1.0)) == "+$1.00"
    assert in_percent("+$1.00", Change("", 100.0, 101.0)) == "+$1.00 (+1.0%)"
    assert in_percent("same", Change("", 1.0, 1.0)) == "same"


def test_a_score_is_told_with_its_per_cents(demo_plan: Plan) -> None:
    quality = demo_plan.predicted.quality
    new = predicted(demo_plan, quality=0.9 * quality)
    text = review_markdown(new, judged(), demo_plan, diff(demo_plan, new))
    assert cells(text, "quality of all traffic")[2] == f"{-0.1 * quality:+.4f} (-10.0%)"
    scores = {c: q - 4e-5 for c, q in demo_plan.predicted.class_quality.items()}
    least = predicted(demo_plan, class_quality=scores)
    text = review_markdown(least, judged(), demo_plan, diff(demo_plan, least))
    assert "loses most" not in text and "the lowest | " in text


def test_shares_that_look_alike_are_not_listed(demo_plan: Plan) -> None:
    first, second, *rest = demo_plan.routing
    moved = (
        first.model_copy(update={"share": first.share - 1e-5}),
        second.model_copy(update={"share": second.share + 1e-5}),
    )
    new = demo_plan.model_copy(update={"routing": (*moved, *rest)})
    text = review_markdown(new, judged(), demo_plan, diff(demo_plan, new))
    assert "<0.1% of the traffic goes elsewhere" in text and "**Traffic:**" not in text


FRONT = FrontChange(
    0.7, Change("", 10.0, 10.0), 10.0, Change("", 0.7, 0.7), None, Change("", 9.0, 9.0), True
)


@pytest.mark.parametrize(
    ("update", "told"),
    [
        ({}, []),
        ({"cost_usd_per_h": Change("", 10.0, 10.004)}, []),
        (
            {"cost_usd_per_h": Change("", 10.0, 12.0)},
            ["a quality of 0.7000 or better costs $12.00 per hour, where $10.00 was enough"],
        ),
        (
            {"cost_usd_per_h": Change("", None, 12.0)},
            ["a quality of 0.7000 or better costs $12.00 per hour"],
        ),
        (
            {"cost_usd_per_h": Change("", 10.0, None)},
            ["no plan with a quality of 0.7000 or better was found"],
        ),
        (
            {"quality": Change("", 0.7, 0.75)},
            ["$10.00 per hour buys a quality of 0.7500, where it bought 0.7000"],
        ),
        (
            {"quality": Change("", 0.7, None)},
            ["no plan for $10.00 per hour or less was found: the cheapest is $9.00"],
        ),
        ({"quality": Change("", 0.7, None), "within_usd_per_h": 0.0}, []),
        (
            {"rate_factor": Change("", 1.5, 2.0)},
            ["$10.00 per hour carries 2 times the traffic, where it carried 1.5 times"],
        ),
        (
            {"rate_factor": Change("", None, 2.0), "same_question": False},
            [
                "$10.00 per hour carries 2 times the traffic "
                "(each within what its own question allows: the questions differ)"
            ],
        ),
    ],
)
def test_how_the_best_has_moved(update: dict[str, object], told: list[str]) -> None:
    assert list(front_words(replace(FRONT, **update))) == told  # type: ignore[arg-type]
