"""What a person reads of a plan: 80 columns, every figure, no colours in a pipe."""

from __future__ import annotations

import io

import pytest
from hand_plan import BIG, SMALL, hand_plan

from planner.report.console import make_console
from planner.report.plan import render_plan
from planner.spec.inputs import Inputs
from planner.spec.plan import (
    Bound,
    DeployedPool,
    FrontPoint,
    Plan,
    Route,
    Simulated,
    SimulatedFigure,
    ToMeasure,
)


def text_of(plan: Plan, width: int = 80) -> str:
    stream = io.StringIO()
    render_plan(plan, make_console(stream, width))
    return stream.getvalue()


def row_of(text: str, start: str) -> list[str]:
    """Returns the cells of the first line that starts with a word."""
    return next(row.split() for row in text.splitlines() if row.split()[:1] == [start])


def section(text: str, title: str) -> str:
    """Returns the lines of a section, up to the next blank line."""
    return text.split(title, 1)[1].split("\n\n", 1)[0]


def front(n: int, chosen: int) -> tuple[FrontPoint, ...]:
    return tuple(
        FrontPoint(
            deployment={BIG: i + 1, SMALL: 1},
            cost_usd_per_h=10.0 * (i + 1),
            quality=0.5 + 0.01 * i,
            latency_ratio=0.9,
            latency_ms=None,
            chosen=i == chosen,
        )
        for i in range(n)
    )


def test_fits_80_columns_without_trailing_blanks_or_escapes(demo_plan: Plan) -> None:
    text = text_of(demo_plan)
    assert max(len(row) for row in text.splitlines()) <= 80
    assert all(row == row.rstrip() for row in text.splitlines())
    assert "\x1b" not in text and text.isascii()


@pytest.mark.parametrize("width", [60, 80, 132])
def test_no_figure_is_cut(demo_plan: Plan, width: int) -> None:
    text = text_of(demo_plan, width)
    assert "…" not in text
    assert max(len(row) for row in text.splitlines()) <= width


def test_what_to_rent(demo_plan: Plan) -> None:
    rent = section(text_of(demo_plan), "What to rent")
    assert row_of(rent, BIG) == [BIG, "h100-sxm-80g", "6", "24", "70.80", "62%"]
    assert row_of(rent, SMALL)[:5] == [SMALL, "h100-sxm-80g", "1", "1", "2.95"]
    assert row_of(rent, "together") == ["together", "7", "25", "73.75"]


def test_where_traffic_goes(demo_plan: Plan) -> None:
    routes = section(text_of(demo_plan), "Where traffic goes")
    assert row_of(routes, "pool") == ["pool", "gsm", "crux", "math-l5", "req/s"]
    assert row_of(routes, BIG) == [BIG, "60.0%", "100.0%", "100.0%", "64.16"]
    assert row_of(routes, SMALL) == [SMALL, "40.0%", "-", "-", "14.64"]
    assert row_of(routes, "quality") == ["quality", "0.9010", "0.6425", "0.4313"]


def test_what_it_costs(demo_plan: Plan) -> None:
    cost = section(text_of(demo_plan), "What it costs")
    assert "$73.75 per hour, $53,838 per month (730 h), $1.11 per million output" in cost


def test_limits_with_band_and_what_binds(demo_plan: Plan) -> None:
    figures = list(demo_plan.predicted.latency)
    figures[0] = figures[0].model_copy(
        update={"ms": 9_990.0, "low_ms": 8_491.5, "high_ms": 11_488.5}
    )
    figures[1] = figures[1].model_copy(update={"ms": 30_000.0})
    changed = demo_plan.predicted.model_copy(update={"latency": tuple(figures)})
    limits = section(text_of(demo_plan.model_copy(update={"predicted": changed})), "Limits:")
    assert "(ms, estimated)" in limits
    row = next(r for r in limits.splitlines() if "p95 e2e of gsm" in r)
    assert row.split()[4:] == ["9,990", "+-15%", "10,000", "100%", "binds"]
    missed = next(r for r in limits.splitlines() if "p95 e2e of crux" in r)
    assert missed.split()[-2:] == ["150%", "MISSED"]


def simulated(*figures: tuple[str, float, float, str], n_seeds: int = 3) -> Simulated:
    """What runs of a plan gave: (class, simulated p95 of e2e, limit, verdict), in ms."""
    rows = [
        SimulatedFigure.model_validate(
            {
                "class": name,
                "metric": "e2e",
                "statistic": "p95",
                "ms": seen,
                "low_ms": 0.9 * seen,
                "high_ms": 1.1 * seen,
                "at_most_ms": limit,
                "verdict": verdict,
            }
        )
        for name, seen, limit, verdict in figures
    ]
    return Simulated(
        rate_rps=80.0,
        class_rps={},
        cost_usd_per_h=73.75,
        usd_per_million_output_tokens=None,
        quality=0.7,
        class_quality={},
        goodput_rps=70.0,
        goodput_low_rps=69.0,
        goodput_high_rps=71.0,
        class_goodput_rps={},
        latency=tuple(rows),
        latency_ratio=1.0,
        pools=(),
        n_requests=24_123,
        n_failed=0,
        n_refused=0,
        n_preempted=0,
        seeds=tuple(range(n_seeds)),
        counted_from_s=0.0,
        duration_s=300.0,
        settled=True,
        balance="round_robin",
    )


def test_what_was_simulated_stands_beside_what_was_predicted(demo_plan: Plan) -> None:
    tried = simulated(("gsm", 7_777.0, 10_000.0, "met"), ("crux", 23_456.0, 20_000.0, "missed"))
    text = text_of(demo_plan.model_copy(update={"simulated": tried}))
    assert max(len(row) for row in text.splitlines()) <= 80
    text = text_of(demo_plan.model_copy(update={"simulated": tried}), 120)  # one line per limit
    limits = section(text, "Limits:")
    assert row_of(limits, "limit") == ["limit", "predicted", "band", "simulated", "allowed", "used"]
    rows = {r.split()[3]: r for r in limits.splitlines() if r.strip().startswith("p95 e2e")}
    assert rows["gsm"].split()[6:8] == ["7,777", "10,000"]
    assert "MISSED" not in rows["gsm"]
    assert rows["crux"].split()[6:8] == ["23,456", "20,000"]
    assert rows["crux"].endswith("contradicted")
    assert rows["math-l5"].split()[6] == "-"  # of which nothing was simulated
    assert "simulated: 24,123 requests in 3 runs; rb simulate tries more" in text
    alone = text_of(demo_plan.model_copy(update={"simulated": simulated(n_seeds=1)}))
    assert "24,123 requests in 1 run;" in alone


def test_a_plan_that_was_not_simulated_says_nothing_of_it(demo_plan: Plan) -> None:
    assert demo_plan.simulated is None
    assert "simulat" not in text_of(demo_plan)


def test_a_limit_that_is_missed_by_prediction_is_missed_and_no_more(demo_plan: Plan) -> None:
    figures = list(demo_plan.predicted.latency)
    figures[1] = figures[1].model_copy(update={"ms": 30_000.0})
    changed = demo_plan.predicted.model_copy(update={"latency": tuple(figures)})
    tried = simulated(("crux", 31_000.0, 20_000.0, "missed"))
    plan = demo_plan.model_copy(update={"predicted": changed, "simulated": tried})
    (row,) = [r for r in text_of(plan).splitlines() if "p95 e2e of crux" in r and "%" in r]
    assert row.endswith("MISSED")


def test_points_of_the_front_that_were_simulated_say_what_they_gave(demo_plan: Plan) -> None:
    points = list(front(3, 1))
    points[1] = points[1].model_copy(update={"simulated_latency_ratio": 0.834})
    text = text_of(demo_plan.model_copy(update={"front": tuple(points)}))
    rows = [r.split() for r in section(text, "The choice").splitlines()]
    assert rows[3] == [">", "20.00", "0.5100", "90%", "83%", "2A", "1B"]
    assert rows[2] == ["10.00", "0.5000", "90%", "-", "1A", "1B"]
    assert rows[1] == ["$/h", "quality", "limits", "used", "simulated", "replicas"]


def test_points_of_the_front_say_how_close_to_the_best_they_are(demo_plan: Plan) -> None:
    points = list(front(3, 1))
    points[1] = points[1].model_copy(update={"best_possible": 0.52, "gap_ratio": 0.0196})
    text = text_of(demo_plan.model_copy(update={"front": tuple(points)}))
    rows = [r.split() for r in section(text, "The choice").splitlines()]
    assert rows[1] == ["$/h", "quality", "limits", "used", "within", "replicas"]
    assert rows[3] == [">", "20.00", "0.5100", "90%", "2.0%", "2A", "1B"]
    assert rows[2] == ["10.00", "0.5000", "90%", "-", "1A", "1B"]
    assert "within: of the best quality of any deployment of its cost and latency" in text
    assert "within: of the best" not in text_of(demo_plan.model_copy(update={"front": front(3, 1)}))


def test_figures_of_several_origins_are_marked_one_by_one(demo_plan: Plan) -> None:
    first, *rest = demo_plan.predicted.latency
    mixed = (first.model_copy(update={"origin": "measured"}), *rest)
    changed = demo_plan.predicted.model_copy(update={"latency": mixed})
    limits = section(text_of(demo_plan.model_copy(update={"predicted": changed})), "Limits:")
    assert limits.startswith(" predicted against allowed (ms)")
    rows = [r for r in limits.splitlines() if r.strip().startswith("p95")]
    assert rows[0].endswith("measured") and all(r.endswith("estimated") for r in rows[1:])


def test_extrapolation_assumption_and_interruption_are_shown(demo_plan: Plan) -> None:
    pools = tuple(
        p.model_copy(update={"extrapolated": p.pool == SMALL}) for p in demo_plan.predicted.pools
    )
    changed = demo_plan.predicted.model_copy(update={"pools": pools})
    text = text_of(demo_plan.model_copy(update={"predicted": changed, "complete": False}))
    assert row_of(section(text, "What to rent"), SMALL)[-1] == "extrapolated"
    assert "NOT COMPLETE" in text
    assert "the least certain input is assumed, not measured" in text
    assert "some loads lie outside what was measured" in text


@pytest.mark.parametrize(("n", "chosen"), [(2, 0), (7, 6), (12, 0), (12, 5), (12, 11), (40, 17)])
def test_the_front_is_short_and_holds_the_chosen_one(demo_plan: Plan, n: int, chosen: int) -> None:
    text = text_of(demo_plan.model_copy(update={"front": front(n, chosen)}))
    rows = section(text, "The choice").splitlines()
    marked = [r.split() for r in rows if r.startswith(">")]
    usd, quality = f"{10.0 * (chosen + 1):.2f}", f"{0.5 + 0.01 * chosen:.4f}"
    assert marked == [[">", usd, quality, "90%", f"{chosen + 1}A", "1B"]]
    n_points = sum("90%" in r for r in rows)
    assert n_points == min(n, 7)
    assert f"   A {BIG}" in rows and f"   B {SMALL}" in rows


def test_a_front_of_one_point_is_no_choice(demo_plan: Plan) -> None:
    assert "The choice" not in text_of(demo_plan)


def test_a_proof_is_quoted(demo_plan: Plan) -> None:
    bound = Bound(
        objective="quality", value=0.70, best_possible=0.714, gap_ratio=0.02, method="MILP"
    )
    text = " ".join(text_of(demo_plan.model_copy(update={"bound": bound})).split())
    assert "the best possible is 0.714 quality: proved within 2.0%" in text


def test_what_to_measure_first_with_its_worth(demo_plan: Plan) -> None:
    first = [
        ToMeasure(
            pool=f"pool-{i}", worth=4.0 / (i + 1), unit="usd_per_h", band_ratio=0.155,
            origin="estimated", concurrency=None if i else 123.4,
        )
        for i in range(5)
    ]  # fmt: skip
    text = text_of(demo_plan.model_copy(update={"measure_first": tuple(first)}))
    part = section(text, "What to measure first")
    assert row_of(part, "pool-0") == ["pool-0", "estimated", "+-16%", "4.00", "123"]
    assert row_of(part, "pool-2")[-2:] == ["1.33", "-"]
    assert "pool-3" not in part and "worth $/h" in part
    assert "What to measure first" not in text_of(demo_plan)


def test_the_rate_factor_is_said(demo_inputs: Inputs) -> None:
    text = text_of(hand_plan(demo_inputs, rate_factor=0.5))
    assert "0.500 times the stated traffic" in text


def test_without_limits_the_usual_figures_remain(demo_plan: Plan) -> None:
    free = tuple(f.model_copy(update={"at_most_ms": None}) for f in demo_plan.predicted.latency)
    changed = demo_plan.predicted.model_copy(update={"latency": free, "latency_ratio": None})
    text = text_of(demo_plan.model_copy(update={"predicted": changed}))
    assert "Limits:" not in text and "tightest" not in text
    assert "p95 e2e" in section(text, "Latency of all traffic")


def test_many_classes_and_long_names_still_fit(demo_plan: Plan) -> None:
    pool = "a-pool-with-" + "x" * 68
    classes = [f"class-number-{i:02d}-with-a-long-name" for i in range(12)]
    row = DeployedPool(
        pool=pool,
        model_name="m",
        gpu=None,
        tensor_parallel=1,
        replicas=1,
        n_gpus=0,
        usd_per_h=0,
    )
    routes = tuple(Route.model_validate({"class": c, "pool": pool, "share": 1}) for c in classes)
    predicted = demo_plan.predicted.model_copy(
        update={"class_quality": dict.fromkeys(classes, 0.5)}
    )
    text = text_of(
        demo_plan.model_copy(
            update={"deployment": (row,), "routing": routes, "predicted": predicted}
        )
    )
    assert max(len(r) for r in text.splitlines()) <= 80
    assert text.count("100.0%") >= 12  # every class is shown
    assert "hosted" in text


def test_markup_and_control_characters_of_a_title_do_nothing(demo_plan: Plan) -> None:
    text = text_of(demo_plan.model_copy(update={"title": "[red]a\x1b[31m b\nc[/red] :smile:"}))
    assert text.splitlines()[0] == "[red]a [31m b c[/red] :smile:"
