"""A difference as text and as data."""

from __future__ import annotations

import io
import json

from hand_plan import BIG, SMALL

from planner.gate.diff import diff
from planner.report.console import make_console
from planner.report.data import as_data, diff_data
from planner.report.diff import render_diff
from planner.spec.plan import Plan


def text_of(old: Plan, new: Plan) -> str:
    stream = io.StringIO()
    render_diff(diff(old, new), make_console(stream, 80))
    return stream.getvalue()


def grown(plan: Plan) -> Plan:
    """Returns a plan with one replica more, a tenth of gsm moved, and other inputs."""
    big, small = plan.deployment
    gsm_big, gsm_small, *rest = plan.routing
    hashes = {**plan.provenance.inputs, "question.yaml": "0" * 64}
    return plan.model_copy(
        update={
            "deployment": (
                big,
                small.model_copy(update={"replicas": 2, "n_gpus": 2.0, "usd_per_h": 5.9}),
            ),
            "routing": (
                gsm_big.model_copy(update={"share": 0.5}),
                gsm_small.model_copy(update={"share": 0.5}),
                *rest,
            ),
            "predicted": plan.predicted.model_copy(
                update={
                    "cost_usd_per_h": 76.7,
                    "quality": 0.7,
                    "class_rps": {"gsm": 50.0, "crux": 25.0, "math-l5": 25.0},
                }
            ),
            "provenance": plan.provenance.model_copy(update={"inputs": hashes}),
        }
    )


def test_what_a_reviewer_reads(demo_plan: Plan) -> None:
    text = text_of(demo_plan, grown(demo_plan))
    rows = [row.split() for row in text.splitlines()]
    assert text.splitlines()[0] == (
        "differs: 1 pool of the deployment (+1 replicas), 2 shares, +$2.95 per hour"
    )
    assert [SMALL, "h100-sxm-80g", "1", "->", "2", "2.95", "->", "5.90", "changed"] in rows
    assert "  - h100-sxm-80g: 25 -> 26 GPUs" in text
    assert ["gsm", BIG, "60.0%", "50.0%", "-10.00"] in rows
    assert "Routing: 5.0% of the traffic goes elsewhere" in text
    assert ["cost", "per", "hour", "$73.75", "$76.70", "+$2.95"] in rows
    assert ["cost", "per", "month", "(730", "h)", "$53,838", "$55,991", "+$2,154"] in rows
    assert ["quality", "0.7089", "0.7000", "-0.0089"] in rows
    assert "  - inputs: question.yaml changed" in text
    titles = [row for row in text.splitlines() if row and row[0].isupper()]
    assert [title.partition(":")[0] for title in titles] == [
        "Predicted", "Latency limits (ms)", "Deployment", "Routing", "Why"
    ]  # fmt: skip
    assert "of all traffic  " not in text  # statistics without a limit are in the JSON


def test_it_fits_a_pipe_of_80_columns(demo_plan: Plan) -> None:
    text = text_of(demo_plan, grown(demo_plan))
    assert max(len(row) for row in text.splitlines()) <= 80
    assert text.isascii() and "\x1b" not in text


def test_the_same_plan_says_so(demo_plan: Plan) -> None:
    text = text_of(demo_plan, demo_plan)
    assert text.startswith("the plans order the same")
    assert "Deployment" not in text and "Routing" not in text


def test_what_the_front_prices_and_makers_say(demo_plan: Plan) -> None:
    price = demo_plan.prices[0]
    (at,) = demo_plan.front
    new = demo_plan.model_copy(
        update={
            "front": (at.model_copy(update={"cost_usd_per_h": 60.0, "quality": 0.75}),),
            "prices": (price.model_copy(update={"value": 0.75}),),
            "provenance": demo_plan.provenance.model_copy(update={"effort": "thorough"}),
        }
    )
    text = text_of(demo_plan, new)
    text = " ".join(text.split("\n    "))
    assert "  - a quality of 0.7089 or better costs $60.00 per hour, where $73.75 was" in text
    assert "  - $73.75 per hour buys a quality of 0.7500, where it bought 0.7089" in text
    assert "more: capacity of llama-3.1-70b-h100-tp4" in text and price.unit not in text
    assert "questions differ" not in text
    assert "  - made with: effort none -> thorough" in text
    gone = demo_plan.model_copy(update={"front": (at.model_copy(update={"quality": 0.1}),)})
    assert "no plan with a quality of 0.7089 or better was found" in text_of(demo_plan, gone)
    assert "Why" not in text_of(demo_plan, demo_plan)


def test_fronts_of_other_questions_say_so(demo_plan: Plan) -> None:
    """What the new question does not allow is not on its front: that says nothing of prices."""
    (at,) = demo_plan.front
    new = grown(demo_plan).model_copy(
        update={"front": (at.model_copy(update={"cost_usd_per_h": 90.0}),)}
    )
    text = " ".join(text_of(demo_plan, new).split("\n    "))
    assert "no plan for $73.75 per hour or less was found: the cheapest is $90.00 (each" in text
    assert text.count("the questions differ") == 1


def test_what_holds_back_is_named_by_how_it_moved(demo_plan: Plan) -> None:
    price = demo_plan.prices[0]

    def prices(**values: float) -> Plan:
        made = tuple(price.model_copy(update={"what": w, "value": v}) for w, v in values.items())
        return demo_plan.model_copy(update={"prices": made})

    text = text_of(prices(a=1.0, b=2.0, c=3.0), prices(b=3.0, c=1.0, d=1.0))
    words = " ".join(text.split())
    assert "new: d; more: b; less: c; no longer: a" in words


def test_only_the_largest_of_many_shares_are_shown(demo_plan: Plan) -> None:
    route = demo_plan.routing[0]

    def spread(step: float) -> Plan:
        rows = tuple(
            route.model_copy(update={"pool": f"p{k}", "share": (k + 1) * step}) for k in range(20)
        )
        return demo_plan.model_copy(update={"routing": rows})

    text = text_of(spread(0.001), spread(0.002))
    assert "8 smaller changes: --format json" in text
    assert " p19 " in text and " p8 " in text and " p7 " not in text


def test_data_is_json_with_steps(demo_plan: Plan) -> None:
    data = json.loads(json.dumps(diff_data(diff(demo_plan, grown(demo_plan))), allow_nan=False))
    assert data["empty"] is False and data["restarts"] is False
    assert data["pools"][0]["replicas"] == {"old": 1, "new": 2, "difference": 1}
    assert data["cost_usd_per_h"] == {"old": 73.75, "new": 76.7, "difference": 2.95}
    assert data["shares"][0] | {} == {
        "name": BIG,
        "old": 0.6,
        "new": 0.5,
        "difference": -0.1,
        "class": "gsm",
    }
    assert data["latency"][0]["class"] == "gsm"
    assert data["inputs"] == [{"name": "question.yaml", "kind": "changed"}]


def test_numbers_that_json_has_not_are_null() -> None:
    assert as_data({"a": [float("inf"), float("nan"), 1.5]}) == {"a": [None, None, 1.5]}
