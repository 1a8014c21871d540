"""`diff` against values worked out by hand, and the rule of what makes two plans the same (§6)."""

from __future__ import annotations

from typing import Any

import pytest
from hand_plan import BIG, SMALL

from planner.files.plans import plan_hash
from planner.gate.diff import PlanDiff, diff
from planner.spec.plan import FrontPoint, Plan, Price, Route

RATES = {"gsm": 50.0, "crux": 30.0, "math-l5": 20.0}


def changed(plan: Plan, **update: Any) -> Plan:
    return plan.model_copy(update=update)


def rerouted(plan: Plan, shares: dict[tuple[str, str], float]) -> Plan:
    routes = tuple(
        Route.model_validate({"class": c, "pool": p, "share": share})
        for (c, p), share in shares.items()
    )
    return changed(plan, routing=routes)


def rated(plan: Plan) -> Plan:
    """Returns the plan with round class rates, so that moved traffic can be done in the head."""
    return predicting(plan, class_rps=RATES)


def rerented(plan: Plan, pool: str, **update: Any) -> Plan:
    rows = tuple(d.model_copy(update=update) if d.pool == pool else d for d in plan.deployment)
    return changed(plan, deployment=rows)


def predicting(plan: Plan, **update: Any) -> Plan:
    return changed(plan, predicted=plan.predicted.model_copy(update=update))


def test_a_plan_does_not_differ_from_itself(demo_plan: Plan) -> None:
    same = diff(rated(demo_plan), rated(demo_plan))
    assert same.empty
    assert (same.pools, same.shares, same.gpus, same.inputs) == ((), (), (), ())
    assert same.moved_ratio == 0
    assert same.cost_usd_per_h.difference == 0


def test_replicas_gpus_and_money(demo_plan: Plan) -> None:
    new = rerented(demo_plan, BIG, replicas=7, n_gpus=28.0, usd_per_h=82.6)
    new = predicting(new, cost_usd_per_h=85.55)
    found = diff(demo_plan, new)
    assert [(c.pool, c.kind, c.n_old, c.n_new) for c in found.pools] == [(BIG, "changed", 6, 7)]
    assert [(g.name, g.old, g.new, g.difference) for g in found.gpus] == [
        ("h100-sxm-80g", 25.0, 29.0, 4.0)
    ]
    assert found.cost_usd_per_h.difference == pytest.approx(85.55 - 73.75)
    assert found.cost_usd_per_month.old == pytest.approx(53_837.5)  # 730 h
    assert found.cost_usd_per_month.difference == pytest.approx(8_614.0)
    assert not found.empty


def test_pools_added_and_removed(demo_plan: Plan) -> None:
    less = changed(demo_plan, deployment=demo_plan.deployment[:1])
    gone, back = diff(demo_plan, less), diff(less, demo_plan)
    assert [(c.pool, c.kind, c.n_old, c.n_new) for c in gone.pools] == [(SMALL, "removed", 1, 0)]
    assert [(c.pool, c.kind, c.n_old, c.n_new) for c in back.pools] == [(SMALL, "added", 0, 1)]
    assert gone.gpus[0].difference == -1.0


def test_shares_in_percentage_points_and_traffic_that_moves(demo_plan: Plan) -> None:
    new = rerouted(
        demo_plan,
        {
            ("gsm", BIG): 0.5,
            ("gsm", SMALL): 0.5,
            ("crux", BIG): 1.0,
            ("math-l5", BIG): 0.75,
            ("math-l5", SMALL): 0.25,
        },
    )
    found = diff(rated(demo_plan), rated(new))
    assert {(s.class_name, s.pool): round(s.points, 9) for s in found.shares} == {
        ("gsm", BIG): -10.0,
        ("gsm", SMALL): 10.0,
        ("math-l5", BIG): -25.0,
        ("math-l5", SMALL): 25.0,
    }
    # 10 % of 50 requests/s and 25 % of 20 requests/s out of 100.
    assert found.moved_ratio == pytest.approx(0.10)


def test_quality_latency_and_inputs(demo_plan: Plan) -> None:
    first, *rest = demo_plan.predicted.latency
    slower = first.model_copy(update={"ms": first.ms + 100.0, "at_most_ms": 9_000.0})
    hashes = dict(demo_plan.provenance.inputs)
    hashes.pop("arrivals.csv")
    hashes |= {"question.yaml": "0" * 64, "profiles/new/pool.yaml": "1" * 64}
    new = changed(
        predicting(
            demo_plan,
            quality=0.75,
            class_quality={**demo_plan.predicted.class_quality, "gsm": 0.95},
            latency=(slower, *rest[1:]),
        ),
        provenance=demo_plan.provenance.model_copy(update={"inputs": hashes}),
    )
    found = diff(demo_plan, new)
    assert found.quality.difference == pytest.approx(0.75 - demo_plan.predicted.quality)
    gsm = next(c for c in found.class_quality if c.name == "gsm")
    assert (gsm.old, gsm.new) == (demo_plan.predicted.class_quality["gsm"], 0.95)
    by_label = {c.label: c for c in found.latency}
    change = by_label["p95 e2e of gsm"]
    assert change.new_ms is not None and change.old_ms is not None
    assert change.new_ms - change.old_ms == pytest.approx(100.0)
    assert (change.old_at_most_ms, change.at_most_ms) == (10_000.0, 9_000.0)
    assert by_label["p95 e2e of crux"].new_ms is None  # rest[0] is in the old plan only
    assert {(c.name, c.kind) for c in found.inputs} == {
        ("arrivals.csv", "removed"),
        ("profiles/new/pool.yaml", "added"),
        ("question.yaml", "changed"),
    }
    assert found.empty  # figures and inputs order nothing (§6)


@pytest.mark.parametrize(
    ("update", "same"),
    [
        ({"usd_per_h": 70.80004}, True),
        ({"usd_per_h": 70.8002}, False),
        ({"replicas": 7}, False),
        ({"gpu": "b200-sxm-180g"}, False),
    ],
)
def test_deployments_are_equal_after_rounding_money(
    demo_plan: Plan, update: dict[str, Any], same: bool
) -> None:
    assert diff(demo_plan, rerented(demo_plan, BIG, **update)).empty is same


@pytest.mark.parametrize(("share", "same"), [(0.6000004, True), (0.600001, False)])
def test_shares_are_equal_after_6_decimals(demo_plan: Plan, share: float, same: bool) -> None:
    routes = (demo_plan.routing[0].model_copy(update={"share": share}), *demo_plan.routing[1:])
    assert diff(demo_plan, changed(demo_plan, routing=routes)).empty is same


def test_order_and_routes_of_share_zero_do_not_count(demo_plan: Plan) -> None:
    nothing = Route.model_validate({"class": "crux", "pool": SMALL, "share": 0.0})
    new = changed(
        demo_plan,
        routing=(nothing, *reversed(demo_plan.routing)),
        deployment=tuple(reversed(demo_plan.deployment)),
    )
    assert diff(demo_plan, new).empty


def test_empty_agrees_with_the_hash_of_what_is_ordered(demo_plan: Plan) -> None:
    figures = predicting(demo_plan, quality=0.9)
    orders = rerented(demo_plan, SMALL, replicas=2)
    assert diff(demo_plan, figures).empty and plan_hash(demo_plan) == plan_hash(figures)
    assert not diff(demo_plan, orders).empty and plan_hash(demo_plan) != plan_hash(orders)


def test_diff_back_is_diff_forth_mirrored(demo_plan: Plan) -> None:
    new = rerouted(demo_plan, {("gsm", BIG): 1.0, ("crux", BIG): 1.0, ("math-l5", SMALL): 1.0})
    new = predicting(new, quality=0.6, cost_usd_per_h=50.0)
    forth = diff(rated(demo_plan), rated(new))
    back = diff(rated(new), rated(demo_plan))

    def steps(found: PlanDiff) -> dict[tuple[str, str], float]:
        return {(s.class_name, s.pool): s.points for s in found.shares}

    assert steps(forth) == {key: -points for key, points in steps(back).items()}
    assert forth.moved_ratio == back.moved_ratio == pytest.approx(0.4)  # 40 % of 50, all of 20
    assert forth.quality.old == back.quality.new


# ---- Fronts, prices, provenance ------------------------------------------------------------------


def point(cost: float, quality: float, latency: float | None = 0.5, **more: Any) -> FrontPoint:
    return FrontPoint(
        deployment={SMALL: 1},
        cost_usd_per_h=cost,
        quality=quality,
        latency_ratio=latency,
        latency_ms=None,
        **more,
    )


def test_what_the_fronts_offer_for_the_old_quality_and_the_old_money(demo_plan: Plan) -> None:
    base = predicting(demo_plan, quality=0.70, cost_usd_per_h=50.0)
    old = changed(base, front=(point(50.0, 0.70), point(80.0, 0.75), point(20.0, 0.4)))
    new = changed(base, front=(point(42.0, 0.71), point(49.0, 0.73), point(30.0, 0.9, 1.2)))
    found = diff(old, new).front
    assert found is not None
    assert (found.at_quality, found.within_usd_per_h) == (0.70, 50.0)
    assert (found.cost_usd_per_h.old, found.cost_usd_per_h.new) == (50.0, 42.0)
    assert (found.quality.old, found.quality.new) == (0.70, 0.73)  # 0.9 is beyond its limits
    assert found.rate_factor is None


def test_a_front_that_offers_nothing_as_good_says_so(demo_plan: Plan) -> None:
    base = predicting(demo_plan, quality=0.70, cost_usd_per_h=50.0)
    old, new = changed(base, front=(point(50.0, 0.70),)), changed(base, front=(point(60.0, 0.6),))
    found = diff(old, new).front
    assert found is not None
    assert found.cost_usd_per_h.new is None and found.quality.new is None
    assert diff(changed(old, front=()), new).front is None
    beyond = changed(old, front=(point(50.0, 0.70, 1.5),))
    assert diff(beyond, new).front is None


def test_fronts_of_traffic(demo_plan: Plan) -> None:
    base = predicting(demo_plan, quality=0.70, cost_usd_per_h=50.0, rate_factor=2.0)
    old = changed(base, front=(point(50.0, 0.70, None, rate_factor=2.0),))
    new = changed(base, front=(point(48.0, 0.70, None, rate_factor=2.5),))
    found = diff(old, new).front
    assert found is not None and found.rate_factor is not None
    assert (found.rate_factor.old, found.rate_factor.new) == (2.0, 2.5)


def test_prices_and_provenance_that_differ(demo_plan: Plan) -> None:
    other = demo_plan.provenance.model_copy(update={"seed": 7, "effort": "thorough"})
    price = demo_plan.prices[0]
    fresh = Price(what="stock:h100", value=0.25, unit="$ per GPU-hour")
    new = changed(
        demo_plan,
        provenance=other,
        prices=(price.model_copy(update={"value": price.value * 2.0}), fresh),
    )
    found = diff(demo_plan, new)
    assert [(p.name, p.old, p.new) for p in found.provenance] == [
        ("effort", "none", "thorough"),
        ("seed", "0", "7"),
    ]
    assert [(p.what, p.old, p.new) for p in found.prices] == [
        (price.what, price.value, 2.0 * price.value),
        ("stock:h100", None, 0.25),
    ]
    assert found.empty and found.transition is None  # neither orders anything
    same = diff(demo_plan, demo_plan)
    assert same.prices == same.provenance == ()
