"""What is drift and what is not: traffic as planned, one thing moved at a time, and chance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pages import Seen, page_text
from made_sheets import (
    HASH,
    RATES,
    SHARES,
    TOKENS,
    latencies,
    made_routes,
    made_sheet,
    traffic,
    with_class,
)

from planner.drift.finding import DriftReport, Finding
from planner.drift.judge import judge
from planner.drift.observed import observe
from planner.drift.page import read_page
from planner.errors import InputError
from planner.spec.plan import Routes
from planner.spec.sheet import ServingSheet


def report(
    seen: Sequence[Seen],
    sheet: ServingSheet | None = None,
    routes: Routes | None = None,
    **page: Any,
) -> DriftReport:
    observed = observe(
        read_page(page_text(list(seen), page.pop("plan_hash", HASH), **page), "page")
    )
    return judge(observed, sheet or made_sheet(), routes or made_routes())


def drifted(found: DriftReport) -> set[tuple[str, str]]:
    return {(f.kind, f.where) for f in found.drifted}


def one(found: DriftReport, kind: str, where: str) -> Finding:
    (finding,) = [f for f in found.findings if (f.kind, f.where) == (kind, where)]
    return finding


# ---- As planned ----------------------------------------------------------------------------------


def test_traffic_as_planned_has_not_drifted_and_fits() -> None:
    found = report(traffic())
    assert (found.fits, found.drifted, found.notes) == ("fits", (), ())
    assert {f.kind for f in found.findings} == {
        *("utilisation", "rate", "mix", "input_tokens", "output_tokens"),
        *("share", "limit", "latency", "errors"),
    }
    assert found.n_requests == pytest.approx(5.0 * 3600, abs=5)


def test_utilisation_of_traffic_as_planned_is_the_planned_one() -> None:
    found = report(traffic())
    for name, pool in made_sheet().pools.items():
        finding = one(found, "utilisation", name)
        assert finding.planned == pool.utilisation_ratio
        assert finding.seen.value == pytest.approx(pool.utilisation_ratio, rel=1e-3)
        assert finding.verdict == "as planned"


def test_utilisation_is_known_as_well_as_its_rates() -> None:
    """One class alone: its interval is that of the rate, times the work of a request."""
    alone = report(traffic(rates={"chat": 4.0, "code": 0.0}), made_sheet(arrival_cv=3.0))
    rate, small = one(alone, "rate", "chat").seen, one(alone, "utilisation", "small").seen
    work_s = 0.75 * 0.2  # of a request, whose lengths vary as well
    assert (rate.high - rate.low) * work_s < small.high - small.low
    assert small.high - small.low == pytest.approx((rate.high - rate.low) * work_s, rel=0.05)
    nothing = one(report([], scrape_s=1_000.2), "utilisation", "small")
    assert (nothing.seen.value, nothing.verdict) == (0.0, "open")


def test_chance_is_not_called_drift() -> None:
    """Fifty hours of Poisson arrivals, routed and answered by chance, just as planned.

    Limits that are just kept are the exception: there one hour in forty is above by chance.
    """
    random, n_false = np.random.default_rng(5), 0
    for _ in range(50):
        seen = []
        for name, pools in SHARES.items():
            n = int(random.poisson(RATES[name] * 1800.0))
            parts = random.multinomial(n, list(pools.values())).tolist()
            for pool, k in zip(pools, parts, strict=True):
                lengths = random.lognormal(-0.125, 0.5, k)
                late = float(random.binomial(k, 0.04)) / max(k, 1)
                seen.append(
                    Seen(
                        name,
                        pool,
                        k,
                        TOKENS[name][0],
                        TOKENS[name][1] * float(lengths.mean()),
                        latency_s=latencies(name, k, late=late),
                    )
                )
        found = report(seen, scrape_s=2_800.0)
        assert found.fits == "fits"
        n_false += len(found.drifted)
    assert n_false == 0


# ---- One thing moved -----------------------------------------------------------------------------


def test_more_of_everything_fills_the_pools() -> None:
    found = report(traffic(rates={"chat": 6.6, "code": 1.65}))
    assert drifted(found) == {
        ("rate", "all traffic"),
        ("rate", "chat"),
        ("rate", "code"),
        ("utilisation", "small"),
    }
    assert found.drifted[0].breaks  # what matters comes first
    assert found.fits == "no longer fits"
    small = one(found, "utilisation", "small")
    assert small.seen.value == pytest.approx(6.6 * 0.75 * 0.2, rel=1e-3)
    assert small.most == pytest.approx(0.9)


def test_less_than_planned_is_drift_and_still_fits() -> None:
    found = report(traffic(rates={"chat": 2.0, "code": 0.5}))
    assert drifted(found) == {("rate", "all traffic"), ("rate", "chat"), ("rate", "code")}
    assert found.fits == "fits"
    assert {f.means for f in found.drifted} == {"less than planned: fewer replicas may do"}


def test_another_mix_at_the_same_rate() -> None:
    found = report(traffic(rates={"chat": 3.5, "code": 1.5}))
    assert drifted(found) == {("rate", "chat"), ("rate", "code"), ("mix", "chat"), ("mix", "code")}
    assert found.fits == "fits"


def test_longer_answers_are_more_work() -> None:
    found = report(traffic(longer=1.8))
    assert drifted(found) == {
        ("output_tokens", "chat"),
        ("output_tokens", "code"),
        ("utilisation", "small"),
    }
    assert found.fits == "no longer fits"
    assert one(found, "utilisation", "small").seen.value == pytest.approx(
        0.6 * (1 + 0.8 * 0.8), rel=1e-3
    )


def test_shares_that_are_not_kept_by_more_than_a_hundredth() -> None:
    kept = {"chat": {"big": 0.255, "small": 0.745}, "code": {"big": 1.0}}
    assert report(traffic(shares=kept)).drifted == ()
    moved = {"chat": {"big": 0.35, "small": 0.65}, "code": {"big": 1.0}}
    found = report(traffic(shares=moved))
    assert drifted(found) == {("share", "chat -> big"), ("share", "chat -> small")}
    assert found.fits == "fits"


def test_a_pool_that_the_plan_does_not_use_for_a_class_is_named() -> None:
    moved = {"chat": {"big": 0.25, "small": 0.75}, "code": {"big": 0.9, "small": 0.1}}
    assert ("share", "code -> small") in drifted(report(traffic(shares=moved)))


def test_a_missed_limit_breaks_the_plan() -> None:
    found = report(traffic(late=0.08))
    assert drifted(found) == {("limit", "chat"), ("limit", "code")}
    assert found.fits == "no longer fits"
    late = one(found, "limit", "chat")
    assert (late.what, late.planned) == ("e2e above 5 s", 0.05)
    assert late.seen.value == pytest.approx(0.08, rel=0.02)


def test_a_limit_that_is_nearly_reached_is_open() -> None:
    found = report(traffic(late=0.051))
    assert one(found, "limit", "chat").verdict == "open"
    assert found.fits == "fits"


def test_failed_requests_are_above_every_limit_and_told_apart() -> None:
    found = report(traffic(n_error=400))
    assert {("limit", "chat"), ("errors", "chat")} <= drifted(found)
    assert found.fits == "no longer fits"
    errors = one(found, "errors", "code")
    assert errors.seen.value == pytest.approx(400 / 4000, rel=1e-3)


def test_slower_than_predicted_and_within_the_limit_still_fits() -> None:
    found = report(traffic(slower=1.8))
    assert drifted(found) == {("latency", "chat"), ("latency", "code")}
    assert found.fits == "fits"
    assert "slower than predicted" in one(found, "latency", "chat").means


def test_a_limit_on_a_mean_is_held_against_the_mean() -> None:
    limit = {"metric": "e2e", "statistic": "mean", "at_most_ms": 1.0}
    sheet = with_class("code", limits=[limit], latency=[])
    quick = [Seen("code", "big", 400, *TOKENS["code"], latency_s={"e2e": {0.002: 400}})]
    finding = one(report(quick, sheet), "limit", "code")
    assert (finding.unit, finding.most) == ("ms", 1.0)
    assert finding.seen.value == pytest.approx(1500.0 / 400)  # the page's sum is 1.5 s
    assert finding.verdict == "drift"


def test_refusals_for_want_of_room_break_the_plan() -> None:
    found = report(traffic(), refused={("chat", "capacity"): 1_000})
    assert ("refused", "chat") in drifted(found)
    assert found.fits == "no longer fits"
    few = report(traffic(), refused={("chat", "capacity"): 10})
    assert one(few, "refused", "chat").verdict == "as planned"


def test_requests_of_no_class_are_told_and_counted_as_load() -> None:
    strange = [*traffic(), Seen("", "big", 2_000, latency_s={})]
    found = report(strange)
    assert ("unknown", "requests of no class") in drifted(found)
    more = one(found, "utilisation", "small").seen.value
    assert more == pytest.approx(0.6 * (1 + 2_000 / 18_000), rel=1e-3)


# ---- Quality -------------------------------------------------------------------------------------


def sampled(scores: Mapping[tuple[str, str], tuple[int, float]]) -> list[Seen]:
    return [
        Seen(**{**vars(seen), "scores": scores.get((seen.class_name, seen.pool), (0, 0.0))})
        for seen in traffic()
    ]


def test_quality_samples_are_held_against_the_scores() -> None:
    found = report(sampled({("chat", "small"): (3000, 3000 * 0.6), ("code", "big"): (40, 34.0)}))
    assert drifted(found) == {("quality", "chat -> small")}
    assert one(found, "quality", "code -> big").verdict == "open"
    assert found.fits == "fits"  # nobody asked for a floor


def test_a_floor_is_missed_only_for_certain() -> None:
    def judged(n: int, mean: float) -> Finding:
        sheet = with_class("chat", quality_at_least=0.74)
        scores = {("chat", pool): (n, n * mean) for pool in ("big", "small")}
        return one(report(sampled(scores), sheet), "quality_floor", "chat")

    assert judged(3000, 0.7).breaks
    assert judged(20, 0.7).verdict == "open"
    assert judged(3000, 0.8).verdict == "as planned"


def test_a_floor_over_all_traffic_needs_samples_of_all() -> None:
    sheet = made_sheet(quality_at_least=0.9)
    scores = {
        ("chat", "big"): (2000, 1800.0),
        ("chat", "small"): (2000, 1400.0),
        ("code", "big"): (2000, 1800.0),
    }
    whole = one(report(sampled(scores), sheet), "quality_floor", "all traffic")
    assert whole.breaks
    assert whole.seen.value == pytest.approx(0.8 * (0.25 * 0.9 + 0.75 * 0.7) + 0.2 * 0.9)
    del scores["chat", "small"]
    kinds = {f.kind for f in report(sampled(scores), sheet).findings}
    assert "quality_floor" not in kinds


# ---- Cascades, schedules, periods ----------------------------------------------------------------


def of_cascade(n_escalated: int) -> DriftReport:
    """Half of chat is asked of the small model first; 0.4 of that is planned to be asked again."""
    cascade = {
        "share": 0.5,
        "signal": "length",
        "below": -10.0,
        "escalated_ratio": 0.4,
        "quality": 0.8,
        "first": [{"pool": "small", "share": 1.0}],
        "second": [{"pool": "big", "share": 1.0}],
    }
    direct = {"chat": [{"pool": "small", "share": 0.5}], "code": [{"pool": "big", "share": 1.0}]}
    routes = made_routes(classes=direct, cascades={"chat": [cascade]})
    again = n_escalated / (4.0 * 3600)
    answered = {"chat": {"small": 1.0 - again, "big": again}, "code": {"big": 1.0}}
    return report(traffic(shares=answered), routes=routes, escalated={"chat": n_escalated})


def test_both_stages_of_a_cascade_are_work_and_one_of_them_answers() -> None:
    found = of_cascade(round(0.2 * 4.0 * 3600))
    assert found.drifted == ()
    assert one(found, "escalated", "chat").verdict == "as planned"
    assert one(found, "utilisation", "small").seen.value == pytest.approx(4.0 * 0.2, rel=1e-3)
    big = (4.0 * 0.2 * 0.2 + 1.0 * 0.6) / 2
    assert one(found, "utilisation", "big").seen.value == pytest.approx(big, rel=1e-3)


def test_cascades_that_escalate_more_are_more_work_and_no_other_shares() -> None:
    found = of_cascade(round(0.45 * 4.0 * 3600))
    assert drifted(found) == {("escalated", "chat")}
    assert "more often" in one(found, "escalated", "chat").means
    big = (4.0 * 0.45 * 0.2 + 1.0 * 0.6) / 2
    assert one(found, "utilisation", "big").seen.value == pytest.approx(big, rel=1e-3)


def test_quiet_hours_of_a_schedule_are_no_drift_and_busier_ones_are() -> None:
    sheet = made_sheet(arrivals="schedule")
    quiet = report(traffic(rates={"chat": 1.0, "code": 0.25}), sheet)
    assert quiet.drifted == ()
    assert "rate varies" in quiet.notes[0]
    busy = report(traffic(rates={"chat": 5.0, "code": 1.25}), sheet)
    assert ("rate", "all traffic") in drifted(busy)


def test_bursty_arrivals_leave_more_open() -> None:
    rates, bursty = {"chat": 4.6, "code": 1.15}, made_sheet(arrivals="gamma", arrival_cv=8.0)
    assert one(report(traffic(rates=rates)), "rate", "chat").verdict == "drift"
    assert one(report(traffic(rates=rates), bursty), "rate", "chat").verdict == "open"


def test_of_a_round_of_periods_shares_are_not_judged() -> None:
    found = report(traffic(), made_sheet(period="day"))
    assert "share" not in {f.kind for f in found.findings}
    assert "period day" in found.notes[0]


# ---- Too early, and not to be judged -------------------------------------------------------------


def test_a_few_requests_are_too_early_to_tell_however_bad() -> None:
    found = report(traffic(seconds=10.0, late=0.5), scrape_s=1_010.0)
    assert (found.fits, found.drifted) == ("too early to tell", ())
    assert "too few" in found.notes[0]
    assert one(found, "output_tokens", "code").verdict == "open"


def test_the_page_of_another_plan_is_refused() -> None:
    with pytest.raises(InputError, match=r"rb serve has another plan \(bbbbbbbbbbbb\)"):
        report(traffic(), plan_hash="b" * 64)
    with pytest.raises(InputError, match=r"serving.json:plan_hash: is not of the plan"):
        report(traffic(), routes=made_routes(plan_hash="c" * 64))


def test_a_report_is_plain_data() -> None:
    data = report(traffic(late=0.08)).as_dict()
    assert data["fits"] == "no longer fits"
    assert data["n_drifted"] == 2
    findings = data["findings"]
    assert isinstance(findings, list)
    limit = next(f for f in findings if f["kind"] == "limit")
    assert limit["breaks"] and limit["means"] == "the limit is missed"
    assert (limit["where"], limit["unit"], limit["planned"]) == ("chat", "ratio", 0.05)
    few = report(traffic(seconds=5.0), scrape_s=1_005.0).as_dict()["findings"]
    assert isinstance(few, list)
    assert None in [f["high"] for f in few]  # nobody knows how far: no number in JSON


# ---- Anything that a page may say ----------------------------------------------------------------


COUNTS = st.integers(0, 2_000)
ANY_SEEN = st.builds(
    lambda name, pool, n, below, tokens, cv, **more: Seen(
        name, pool, n, *tokens, cv, latency_s={"e2e": {1.0: min(below, n), 5.0: n}}, **more
    ),
    name=st.sampled_from(["chat", "code", "", "stranger"]),
    pool=st.sampled_from(["big", "small", "gone"]),
    n=COUNTS,
    below=COUNTS,
    tokens=st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)),
    cv=st.floats(0, 5),
    n_error=COUNTS,
    n_cancelled=COUNTS,
    scores=st.integers(0, 50).flatmap(lambda n: st.tuples(st.just(n), st.floats(0, n))),
)


@settings(max_examples=60)
@given(st.lists(ANY_SEEN, max_size=6), COUNTS, st.sampled_from(["poisson", "schedule"]))
def test_whatever_a_page_says_is_judged(seen: list[Seen], n_refused: int, arrivals: str) -> None:
    sheet = made_sheet(arrivals=arrivals, quality_at_least=0.7)
    found = report(seen, sheet, refused={("chat", "capacity"): n_refused})
    data = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    for each in data["findings"]:
        low, high = each["low"] or 0.0, math.inf if each["high"] is None else each["high"]
        assert 0.0 <= low <= (each["seen"] or 0.0) * (1 + 1e-6) + 1e-9
        assert (each["seen"] or 0.0) <= high * (1 + 1e-6) + 1e-9
        assert (each["verdict"] == "drift") == (low > each["most"] or high < each["least"])
    if found.n_requests < 100:
        assert found.fits == "too early to tell"
    else:
        broken = any(each["breaks"] for each in data["findings"])
        assert found.fits == ("no longer fits" if broken else "fits")
