"""What is counted of requests: against counting the same numbers by hand."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_served import report, served

from planner.runtime import metrics
from planner.runtime.metrics import (
    MARK_S,
    RECENT_S,
    Histogram,
    Meter,
    Scores,
    Tokens,
    bounds_of,
    decode_report,
    encode_report,
    instance_states,
    minus,
    plus,
)
from planner.runtime.served import Usage

KEY = ("math", "small-l40s", "chat", "rb/auto", "small")


def test_bounds_are_the_recommended_ones_those_between_and_every_limit():
    bounds = bounds_of([("ttft", 333.0), ("e2e", 12_000.0), ("ttft", 100.0)])
    assert {0.001, 0.005, 0.06, 10.0} < set(bounds.ttft_s)
    assert {0.333, 0.1} < set(bounds.ttft_s) and 12.0 in bounds.e2e_s
    assert len(bounds.ttft_s) == 16 + 15 + 1  # 0.1 is one of the recommended ones
    assert len(bounds.e2e_s) == 14 + 13 + 1 and len(bounds.tpot_s) == 13 + 12
    for each in (bounds.e2e_s, bounds.ttft_s, bounds.tpot_s):
        assert list(each) == sorted(set(each))


@given(
    limit_ms=st.floats(0.5, 200_000.0),
    values_s=st.lists(st.floats(0.0, 300.0), max_size=50),
    at_limit=st.integers(0, 3),
)
def test_the_number_above_a_limit_is_exact(limit_ms, values_s, at_limit):
    """Whatever the limit is: values just at it are not above it."""
    bounds_s = bounds_of([("e2e", limit_ms)]).e2e_s
    limit_s = limit_ms / 1000.0
    values_s += [limit_s] * at_limit
    seen = Histogram([0] * (len(bounds_s) + 1))
    for value_s in values_s:
        seen.add(bounds_s, value_s)
    n_above = sum(seen.counts[bounds_s.index(limit_s) + 1 :])
    assert n_above == sum(value_s > limit_s for value_s in values_s)
    assert sum(seen.counts) == len(values_s)
    assert seen.sum_s == pytest.approx(sum(values_s))


def test_a_streamed_answer_is_counted_whole():
    meter = Meter([], now_s=100.0)
    meter(served())
    row = meter.counts.rows[KEY]
    assert (row.n_ok, row.n_error, row.n_cancelled) == (1, 0, 0)
    assert row.e2e.sum_s == 1.25 and row.ttft.sum_s == 0.25
    assert row.tpot.sum_s == pytest.approx((1.25 - 0.25) / 10)  # over the 10 further tokens
    assert meter.counts.tokens[("math", "small-l40s")] == Tokens(1, 30, 11, 900.0, 121.0)


@pytest.mark.parametrize(
    ("changes", "ttft", "tpot", "n_answers"),
    [
        ({"streamed": False}, 0, 0, 1),  # its first byte is its last, which is no first token
        ({"n_output": 1}, 1, 0, 1),  # one token has no time per further token (§2)
        ({"usage_known": False}, 1, 0, 0),  # estimates are not counted as told
        ({"usage_known": False, "n_output": None, "n_input": None}, 1, 0, 0),
    ],
)
def test_what_is_not_known_is_not_counted(changes, ttft, tpot, n_answers):
    meter = Meter([], now_s=100.0)
    meter(served(**changes))
    row = meter.counts.rows[KEY]
    assert sum(row.e2e.counts) == 1
    assert (sum(row.ttft.counts), sum(row.tpot.counts)) == (ttft, tpot)
    assert sum(each.n_answers for each in meter.counts.tokens.values()) == n_answers


def test_only_whole_answers_have_latencies():
    meter = Meter([], now_s=100.0)
    for outcome in ("error", "cancelled"):
        meter(served(outcome=outcome, why="cut"))
    row = meter.counts.rows[KEY]
    assert (row.n_ok, row.n_error, row.n_cancelled) == (0, 1, 1)
    assert sum(row.e2e.counts) == sum(row.ttft.counts) == sum(row.tpot.counts) == 0
    assert meter.counts.tokens == {}


def test_what_a_client_writes_makes_no_new_series():
    """A refused request may ask for any model at all; it counts by class and reason only."""
    meter = Meter([], now_s=100.0)
    for k in range(100):
        refusal = {"class_name": None, "pool": None, "model_name": None, "status": 404}
        meter(served(outcome="refused", why="model_not_found", asked_model=f"m{k}", **refusal))
    assert meter.counts.rows == {}
    assert meter.counts.refused == {("", "model_not_found"): 100}


def test_failed_tries_and_escalations():
    meter = Meter([], now_s=100.0)
    meter(served(failed_tries=(("small-l40s", "connect"), ("small-l40s", "connect"))))
    meter(
        served(
            pool="big-h100",
            escalated=True,
            cascade="small, then big",
            first_pool="small-l40s",
            first_usage=Usage(30, 5),
        )
    )
    assert meter.counts.retries == {("small-l40s", "connect"): 2}
    assert meter.counts.escalations == {"math": 1}
    assert meter.counts.tokens[("math", "small-l40s")].n_output == 11 + 5
    assert meter.counts.tokens[("math", "big-h100")].n_answers == 1


def test_scores_come_by_request_while_it_is_remembered(monkeypatch):
    monkeypatch.setattr(metrics, "N_REMEMBERED", 2)
    meter = Meter([], now_s=100.0)
    for request_id in ("a", "b", "c"):
        meter(served(request_id=request_id))
    assert not meter.score_request("a", 1.0)  # forgotten: the oldest
    assert meter.score_request("b", 1.0) and meter.score_request("c", 0.5)
    meter.score("math", "big-h100", 0.25)
    assert meter.counts.scores == {
        ("math", "small-l40s"): Scores(2, 1.5),
        ("math", "big-h100"): Scores(1, 0.25),
    }


# ---- What is recent ------------------------------------------------------------------------------


def n_ok(counts) -> int:
    return sum(row.n_ok for row in counts.rows.values())


@given(gaps_s=st.lists(st.floats(0.0, 200.0), min_size=1, max_size=60))
def test_recent_is_what_ended_in_the_time_that_is_told(gaps_s):
    """Against the list of all ends, for any rhythm of requests, silences included."""
    meter, ends_s, now_s = Meter([], now_s=0.0), [], 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        meter(served(started_s=now_s - 1.25))
        ends_s.append((now_s - 1.25) + 1.25)
    recent, recent_s = meter.recent(now_s)
    assert n_ok(recent) == sum(end_s >= now_s - recent_s for end_s in ends_s)
    assert recent_s <= RECENT_S + 2 * MARK_S
    assert recent_s >= min(now_s, RECENT_S) - 1e-9


def test_recent_empties_in_a_silence():
    meter = Meter([], now_s=0.0)
    meter(served(started_s=3.0))
    assert n_ok(meter.recent(10.0)[0]) == 1
    assert n_ok(meter.recent(1000.0)[0]) == 0
    assert n_ok(meter.total()) == 1


# ---- Workers together, and other plans -----------------------------------------------------------


def counted(*records):
    meter = Meter([], now_s=100.0)
    for record in records:
        meter(record)
    return meter.counts


RECORDS = st.lists(
    st.builds(
        served,
        class_name=st.sampled_from(["math", "code"]),
        pool=st.sampled_from(["small-l40s", "big-h100"]),
        outcome=st.sampled_from(["ok", "error", "cancelled", "refused"]),
        n_output=st.integers(1, 50),
        failed_tries=st.sampled_from([(), (("big-h100", "reset"),)]),
        escalated=st.booleans(),
    ),
    max_size=12,
)


@given(one=RECORDS, other=RECORDS)
def test_workers_add_up_to_one_that_served_all(one, other):
    together = plus(counted(*one), counted(*other))
    alone = counted(*one, *other)
    for name in ("tokens", "refused", "retries", "escalations"):
        assert getattr(together, name) == getattr(alone, name)
    assert together.rows.keys() == alone.rows.keys()
    for key, row in alone.rows.items():
        assert together.rows[key].e2e.counts == row.e2e.counts
        assert together.rows[key].n_error == row.n_error
        assert together.rows[key].tpot.sum_s == pytest.approx(row.tpot.sum_s)


@given(one=RECORDS, more=RECORDS)
def test_what_came_since_is_the_difference(one, more):
    since = minus(counted(*one, *more), counted(*one))
    assert n_ok(since) == sum(record.outcome == "ok" for record in more)
    assert sum(since.refused.values()) == sum(record.outcome == "refused" for record in more)


@pytest.mark.parametrize(
    ("limit_ms", "is_other", "starts"),
    [(300.0, False, False), (300.0, True, True), (400.0, False, True)],
)
def test_what_another_plan_answered_is_not_counted_for_this_one(limit_ms, is_other, starts):
    meter = Meter([("ttft", 300.0)], now_s=100.0)
    meter.reloaded("ok")
    for record in (served(), served(started_s=115.0), served(outcome="refused", why="capacity")):
        meter(record)
    assert meter.renew([("ttft", limit_ms)], 120.0, is_other) is starts
    assert (limit_ms / 1000 in meter.bounds.ttft_s) and meter.counts.reloads == {"ok": 1}
    assert (n_ok(meter.counts), len(meter.counts.refused)) == ((0, 0) if starts else (2, 1))
    assert meter.score_request("r-1", 1.0) is not starts
    meter(served(started_s=130.0))
    assert n_ok(meter.recent(170.0)[0]) == (1 if starts else 2)  # since 120 or 110 s


def test_a_report_travels():
    told = report(served(), served(outcome="refused", why="capacity"), worker=3)
    assert decode_report(encode_report(told)) == told


def test_a_copy_does_not_move_with_the_traffic():
    meter = Meter([], now_s=100.0)
    meter(served())
    copy = meter.total()
    meter(served())
    assert (n_ok(copy), n_ok(meter.counts)) == (1, 2)


def test_instances_are_taken_as_a_fleet_tells_of_them():
    told = {
        "pool": "p",
        "instance": "p/0",
        "url": "http://h",
        "state": "up",
        "up": True,
        "n_running": 2.5,
        "n_waiting": 0,
        "n_in_flight": 3,
        "n_failed": 1,
        "predicted_delay_s": None,
        "telemetry_age_s": 0.5,
    }
    (state,) = instance_states([told])
    assert (state.instance, state.n_running, state.n_in_flight) == ("p/0", 2.5, 3)
    assert not hasattr(state, "url")


def test_memory_of_what_is_remembered_is_bounded():
    meter = Meter([], now_s=0.0)
    for k in range(metrics.N_REMEMBERED + 1000):
        meter(served(request_id=f"rb-abcdef-0-{k}"))
    kept = meter._answered_by
    assert len(kept) == metrics.N_REMEMBERED
    assert sys.getsizeof(kept) + sum(map(sys.getsizeof, kept)) < 6e6
