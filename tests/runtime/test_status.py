"""/rb/status: shares, limits and instances against the requests that it was made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_served import planned, report, served, state

from planner.runtime.metrics import Histogram, Scores, bounds_of
from planner.runtime.setup import Setup
from planner.runtime.status import (
    above_ratio,
    decode_status,
    encode_status,
    period_at,
    planned_of,
    planned_shares,
    statistic_s,
    status_of,
)
from planner.spec.plan import Routes
from planner.spec.question import Limit


def limit(metric: str, statistic: str, at_most_ms: float) -> Limit:
    return Limit(metric=metric, statistic=statistic, at_most_ms=at_most_ms)


def of_class(status, name):
    return next(c for c in status.classes if c.class_name == name)


def test_shares_of_all_workers_together():
    one = report(*[served()] * 3)
    other = report(*[served(pool="big-h100")] * 2, served(outcome="error", why="reset"), worker=1)
    status = status_of([one, other], planned())
    small, big = of_class(status, "math").pools
    assert (small.pool, small.planned_share, big.planned_share) == ("small-l40s", 0.75, 0.25)
    assert small.share == small.share_since_start == pytest.approx(4 / 6)
    assert big.share == pytest.approx(2 / 6)
    assert (status.n_workers, status.planned_rps) == (2, 5.0)
    assert status.rate_rps == pytest.approx(6 / status.recent_s)


def test_a_class_that_nobody_asked_for_has_no_shares_yet():
    status = status_of([report(served())], planned())
    (big,) = of_class(status, "code").pools
    assert (big.planned_share, big.share, of_class(status, "code").rate_rps) == (1.0, None, 0.0)


def test_requests_of_no_class_are_told_apart():
    told = status_of([report(served(class_name=None), served())], planned())
    unknown = of_class(told, None)
    assert unknown.n_ok == 1 and unknown.planned_rps is None and unknown.limits == []
    (pool,) = unknown.pools
    assert (pool.pool, pool.planned_share, pool.share) == ("small-l40s", None, 1.0)


def test_refusals_and_errors_are_requests():
    records = [
        served(),
        served(outcome="error", why="timeout"),
        served(outcome="cancelled", why="client left"),
        served(outcome="refused", why="capacity", pool=None),
        served(outcome="refused", why="capacity", pool=None),
    ]
    told = status_of([report(*records)], planned())
    math = of_class(told, "math")
    counts = math.n_ok, math.n_error, math.n_cancelled, math.n_refused, math.n_since_start
    assert counts == (1, 1, 1, 2, 5)
    assert told.refused == {"capacity": 2}
    assert math.rate_rps == pytest.approx(5 / told.recent_s)


def test_a_limit_is_kept_or_missed_by_the_share_above_it():
    limits = {"math": (limit("ttft", "p90", 300.0),)}
    told_limits = (("ttft", 300.0),)
    kept = [served(ttft_s=0.2)] * 18 + [served(ttft_s=0.9)] * 2  # 10 % above: just allowed
    missed = [*kept, served(ttft_s=0.9)]
    for records, is_met in ((kept, True), (missed, False)):
        status = status_of([report(*records, limits=told_limits)], planned(**limits))
        (row,) = of_class(status, "math").limits
        assert row.is_met is is_met and row.n_answers == len(records)
        assert row.above_ratio == pytest.approx((len(records) - 18) / len(records))


def test_limits_of_all_traffic_and_of_means():
    limits = {"ALL": (limit("e2e", "mean", 2000.0),), "math": (limit("ttft", "p95", 300.0),)}
    records = [served(e2e_s=1.0), served(class_name="code", pool="big-h100", e2e_s=4.0)]
    bounds = (("e2e", 2000.0), ("ttft", 300.0))
    status = status_of([report(*records, limits=bounds)], planned(**limits))
    (mean,) = status.limits
    assert mean.ms == pytest.approx(2500.0) and mean.is_met is False and mean.n_answers == 2
    (p95,) = of_class(status, "math").limits
    assert p95.predicted_ms == 280.0 and p95.n_answers == 1


def test_without_answers_a_limit_is_neither_kept_nor_missed():
    limits = {"code": (limit("tpot", "p99", 40.0),)}
    status = status_of([report(limits=(("tpot", 40.0),))], planned(**limits))
    (row,) = of_class(status, "code").limits
    assert (row.ms, row.above_ratio, row.is_met, row.n_answers) == (None, None, None, 0)


@pytest.mark.parametrize("has_other_limits", [True, False])
def test_a_worker_with_the_plan_of_before_is_left_out_for_the_moment(has_other_limits):
    """One has read the new plan, the other has not yet."""
    bounds = (("ttft", 333.0),)
    limits = {"math": (limit("ttft", "p95", 333.0),)}
    new = report(served(), limits=bounds, worker=1)
    old = report(served(), limits=() if has_other_limits else bounds)
    if not has_other_limits:
        old.plan_hash = "cd" * 32
    status = status_of([old, new], planned(**limits))
    assert status.n_workers == 2 and of_class(status, "math").n_ok == 1


def test_it_ends_as_soon_as_one_worker_does_and_is_as_old_as_its_process():
    one, other = report(), report(worker=1)
    other.is_draining = True
    status = status_of([one, other], planned())
    assert (status.is_draining, status.up_s) == (True, 1030.0)
    assert not status_of([one], planned()).is_draining


def test_lines_that_no_log_has_are_counted_over_all_workers():
    one, other = report(), report(worker=1)
    one.n_log_lines_lost, other.n_log_lines_lost = 3, 4
    assert status_of([one, other], planned()).n_log_lines_lost == 7


def test_an_instance_is_as_bad_as_the_worst_opinion_of_it():
    one, other = report(), report(worker=1)
    one.instances = [state("p/0"), state("p/1")]
    other.instances = [state("p/0", up=False, state="ejected", n_in_flight=5), state("p/1")]
    first, second = status_of([one, other], planned()).instances
    assert (first.state, first.up, first.n_in_flight) == ("ejected", False, 7)
    assert (second.state, second.n_in_flight) == ("up", 4)


def test_scores_are_means():
    told = report(served())
    told.total.scores = {("math", "small-l40s"): Scores(2, 1.5), ("math", "big-h100"): Scores(2, 2)}
    math = of_class(status_of([told], planned()), "math")
    assert (math.score, math.n_scores) == (pytest.approx(0.875), 4)


def test_the_status_travels_as_json():
    status = status_of([report(served())], planned(math=(limit("ttft", "p95", 300.0),)))
    text = encode_status(status)
    assert decode_status(text) == status
    assert b'"class":"math"' in text


@given(
    values_s=st.lists(st.floats(0.001, 80.0), min_size=1, max_size=200),
    q=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_a_statistic_lies_in_the_bucket_of_the_true_one(values_s, q):
    bounds_s = bounds_of([]).e2e_s
    seen = Histogram([0] * (len(bounds_s) + 1))
    for value_s in values_s:
        seen.add(bounds_s, value_s)
    exact = float(np.quantile(values_s, q, method="inverted_cdf"))
    found = statistic_s(bounds_s, seen, q)
    place = int(np.searchsorted(bounds_s, exact))
    low = bounds_s[place - 1] if place else 0.0
    assert low <= found <= bounds_s[place]
    assert statistic_s(bounds_s, seen, None) == pytest.approx(float(np.mean(values_s)))
    assert above_ratio(bounds_s, seen, bounds_s[place]) <= 1 - q + 1e-9


@pytest.mark.parametrize(
    ("hour", "name", "pool"),
    [
        (0.0, "night", "small"),
        (7.9, "night", "small"),
        (8.0, "day", "big"),
        (23.9, "day", "big"),
        (24.0, "night", "small"),
        (24.0 * 7 + 12.0, "day", "big"),
    ],
)
def test_of_a_plan_with_periods_the_hour_counts(hour, name, pool):
    def period(name: str, start_h: float, end_h: float, pool: str) -> dict:
        routed = {"classes": {"math": [{"pool": pool, "share": 1.0}]}, "load_prices": {}}
        span = {"name": name, "start_h": start_h, "end_h": end_h}
        return {**span, **routed, "fallback": {"math": [pool]}}

    periods = [period("night", 0.0, 8.0, "small"), period("day", 8.0, 24.0, "big")]
    whole = {**{k: v for k, v in periods[1].items() if k in ("classes", "load_prices", "fallback")}}
    routes = Routes.model_validate({**whole, "periods": periods, "plan_hash": "cd" * 32})
    assert period_at(routes, hour).name == name
    assert planned_of(Setup(routes=routes, endpoints={}), hour).shares == {("math", pool): 1.0}


def test_planned_shares_follow_cascades_to_who_answers():
    """0.6 straight; 0.4 asked first at small, a quarter of which goes on to two pools."""
    routes = Routes.model_validate(
        {
            "classes": {"math": [{"pool": "big", "share": 0.6}]},
            "cascades": {
                "math": [
                    {
                        "share": 0.4,
                        "signal": "length",
                        "below": 0.5,
                        "escalated_ratio": 0.25,
                        "quality": 0.8,
                        "first": [{"pool": "small", "share": 1.0}],
                        "second": [{"pool": "big", "share": 0.5}, {"pool": "huge", "share": 0.5}],
                    }
                ]
            },
            "load_prices": {},
            "fallback": {"math": ["big"]},
            "plan_hash": "cd" * 32,
        }
    )
    shares = planned_shares(routes)
    assert shares["math", "small"] == pytest.approx(0.3)
    assert shares["math", "big"] == pytest.approx(0.65)
    assert shares["math", "huge"] == pytest.approx(0.05)
