"""What a load says, against queues with known answers, and what is said of loads gone wrong."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queues import closed_loop, open_queue, records_of

from planner.profile.load.client import Outcome
from planner.profile.load.level import measure
from planner.spec.base import METRICS, STATISTICS

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)


def figures(level):
    """The latency figures of a level that are there."""
    names = [f"{metric}_{statistic}_ms" for metric in METRICS for statistic in STATISTICS]
    return {name for name in names if getattr(level.point, name) is not None}


def noted(level, text):
    return [note for note in level.notes if text in note]


# ---- Against known answers -----------------------------------------------------------------------


def test_a_simple_queue_is_measured_right():
    """M/M/1 at half load: E2E is exponential with mean 1/(mu - lambda), N = rho/(1 - rho)."""
    level = measure(open_queue(5.0, 0.1, 4000.0, seed=1), source="x")
    point = level.point
    assert point.e2e_mean_ms == pytest.approx(200.0, rel=0.05)
    for statistic, tail in [("p50", 0.5), ("p90", 0.1), ("p95", 0.05), ("p99", 0.01)]:
        expected_ms = -200.0 * np.log(tail)
        assert point.figure_ms("e2e", statistic) == pytest.approx(expected_ms, rel=0.1)
    assert point.ttft_mean_ms == pytest.approx(100.0, rel=0.1)  # the wait
    assert point.tpot_mean_ms == pytest.approx(10.0, rel=0.03)  # a service of 100 ms, 11 tokens
    assert level.n_in_flight == pytest.approx(1.0, rel=0.1)
    assert point.achieved_rps == pytest.approx(5.0, rel=0.03)
    assert point.offered_rps == pytest.approx(point.achieved_rps, rel=0.01)
    assert point.output_tokens_per_s == pytest.approx(55.0, rel=0.03)
    assert (point.mode, point.concurrency, point.input_tokens) == ("open", None, 100.0)
    assert (level.is_steady, level.is_overloaded, level.notes) == (True, False, ())


def test_intervals_hold_what_they_promise():
    """Of 200 runs, about 95 % hold the true mean; a short run sees less of the queue's memory."""
    hits = Counter()
    for seed in range(200):
        level = measure(open_queue(2.0, 0.2, 600.0, seed), source="x")
        truth = {"e2e_ms": 1000 / 3.0, "achieved_rps": 2.0, "output_tokens_per_s": 22.0}
        for name, value in truth.items():
            found = getattr(level, name)
            hits[name] += found.low <= value <= found.high
    assert all(178 <= n <= 198 for n in hits.values()), hits


@pytest.mark.parametrize("load_end_s", [9.99, 10.01, 10.5, 13.7, 20.0])
def test_a_march_in_step_is_counted_right_wherever_it_ends(load_end_s):
    """Eight requests of exactly 1 s, again and again: 8 answers/s, at whatever moment it ends."""
    level = measure(closed_loop(8, lambda *_: 1.0, load_end_s), source="x")
    assert level.point.achieved_rps == pytest.approx(8.0, rel=1e-6)
    assert level.point.output_tokens_per_s == pytest.approx(88.0, rel=1e-6)
    assert level.point.concurrency == 8
    assert level.point.offered_rps is None
    assert level.n_in_flight == pytest.approx(8.0)
    assert level.is_steady


@pytest.mark.parametrize("seed", range(5))
def test_a_closed_loop_of_answers_of_any_length_is_not_biased_to_short_ones(seed):
    """Each slot makes one answer after the other, of 2 s on average: 10 slots make 5 a second."""
    level = measure(closed_loop(10, lambda r, _: r.exponential(2.0), 400.0, seed), source="x")
    assert level.point.achieved_rps == pytest.approx(5.0, rel=0.06)
    assert level.point.e2e_mean_ms == pytest.approx(2000.0, rel=0.06)
    assert level.point.e2e_p95_ms == pytest.approx(-2000 * np.log(0.05), rel=0.15)
    count = (level.n_ok + level.n_failed) / level.point.duration_s
    assert level.point.achieved_rps == pytest.approx(count, rel=0.05)


def test_little_holds_in_an_open_loop():
    level = measure(open_queue(8.0, 0.4, 1500.0, seed=3, n_servers=5), source="x")
    assert level.n_in_flight == pytest.approx(
        level.point.achieved_rps * level.point.e2e_mean_ms / 1e3, rel=0.02
    )


# ---- The steady part -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_cold_start_is_cut_off(seed):
    """For the first 30 of 200 s everything takes three times as long."""
    level = measure(
        closed_loop(4, lambda r, t: r.uniform(0.8, 1.2) * (3 if t < 30 else 1), 200.0, seed),
        source="x",
    )
    assert 30.0 <= level.window_start_s <= 100.0
    assert level.point.e2e_mean_ms == pytest.approx(1000.0, rel=0.03)
    assert level.point.achieved_rps == pytest.approx(4.0, rel=0.03)
    assert level.is_steady


def test_the_first_answers_are_never_in_the_window():
    level = measure(open_queue(5.0, 0.1, 100.0, seed=0), source="x")
    assert level.window_start_s > 0.3
    assert level.window_end_s == 100.0
    assert level.point.duration_s == level.window_end_s - level.window_start_s


def test_what_never_settles_is_told():
    """Answers that take longer and longer: no steady part, and half of the run is looked at."""
    level = measure(closed_loop(4, lambda _, t: 0.5 + t / 50.0, 200.0), source="x")
    assert not level.is_steady
    assert noted(level, "not steady, run it longer: within the window E2E changes by +")
    assert level.window_start_s <= 100.0


@pytest.mark.parametrize("seed", range(10))
def test_a_queue_at_seven_tenths_is_no_overload(seed):
    level = measure(open_queue(7.0, 0.1, 300.0, seed), source="x")
    assert not level.is_overloaded
    assert not noted(level, "overloaded")


@pytest.mark.parametrize("ratio", [1.25, 2.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_more_than_a_server_can_do_is_an_overload(seed, ratio):
    level = measure(open_queue(10.0 * ratio, 0.1, 60.0, seed), source="x")
    assert level.is_overloaded and not level.is_steady
    assert noted(level, "overloaded: requests pile up")
    assert level.point.achieved_rps == pytest.approx(10.0, rel=0.15)
    assert level.point.offered_rps == pytest.approx(10.0 * ratio, rel=0.15)
    assert figures(level) == {f"tpot_{statistic}_ms" for statistic in STATISTICS}
    assert (level.ttft_ms, level.e2e_ms) == (None, None)
    assert level.tpot_ms.mean == pytest.approx(10.0, rel=0.2)


def test_a_load_that_met_the_cap_is_an_overload():
    level = measure(replace(open_queue(5.0, 0.1, 100.0, seed=0), end="cap"), source="x")
    assert level.is_overloaded
    assert noted(level, "stopped at the cap of requests in flight")


def test_requests_that_were_due_and_not_sent_pile_up_too():
    """A generator that sends half of what it should does not make the server look fast enough."""
    sent = open_queue(5.0, 0.01, 60.0, seed=0)
    level = measure(replace(sent, n_unsent=sent.sent_s.size), source="x")
    assert level.is_overloaded and not measure(sent, source="x").is_overloaded
    assert level.point.offered_rps == pytest.approx(10.0, rel=0.2)
    assert level.point.achieved_rps == pytest.approx(5.0, rel=0.2)


# ---- What is told, and what is left blank --------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "given"),
    [
        (3, ["mean"]),
        (9, ["mean"]),
        (10, ["mean", "p50"]),
        (30, ["mean", "p50", "p90"]),
        (59, ["mean", "p50", "p90"]),
        (60, ["mean", "p50", "p90", "p95"]),
        (199, ["mean", "p50", "p90", "p95"]),
        (200, ["mean", "p50", "p90", "p95", "p99"]),
    ],
)
def test_no_percentile_without_enough_answers(n, given):
    """One answer of 0.5 s every second; the one that ends at 0.5 s is before the window."""
    times_s = np.arange(n + 1.0)
    records = records_of("open", times_s, times_s + 0.1, times_s + 0.5, 5, n + 1.0)
    level = measure(records, source="x")
    assert level.n_ok == n
    assert figures(level) == {f"{m}_{s}_ms" for m in METRICS for s in given}


def test_percentiles_are_counted_by_the_answers_that_have_the_figure():
    """Of 100 answers, 20 have the two tokens that a TPOT needs."""
    times_s = np.arange(101.0)
    n_output = np.where(np.arange(101) % 5 == 0, 3, 1)
    records = records_of("open", times_s, times_s + 0.1, times_s + 0.5, n_output, 101.0)
    level = measure(records, source="x")
    assert level.point.e2e_p95_ms == pytest.approx(500.0)
    assert level.point.tpot_mean_ms == pytest.approx(200.0)
    assert level.point.tpot_p90_ms is None
    assert level.point.output_tokens == pytest.approx(1.4)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_answers_make_no_point(n):
    times_s = np.arange(n + 1.0)
    records = records_of("open", times_s, times_s + 0.1, times_s + 0.5, 5, n + 1.0)
    level = measure(records, source="x")
    assert level.point is None
    assert level.n_ok == n
    assert noted(level, f"{n} answers were finished in the steady part")
    assert (level.e2e_ms, level.achieved_rps, level.output_tokens_per_s) == (None, None, None)


def test_a_load_without_a_single_request_makes_no_point():
    level = measure(records_of("open", [], [], [], 1, 10.0), source="x")
    assert (level.point, level.n_ok, level.own_delay_p99_ms) == (None, 0, 0.0)


def failed(records, places, outcome, status=0):
    """The same records with some failures in them."""
    outcomes, statuses = records.outcome.copy(), records.status.copy()
    outcomes[places], statuses[places] = outcome, status
    return replace(records, outcome=outcomes, status=statuses)


def test_failures_are_counted_and_in_no_latency():
    good = open_queue(5.0, 0.01, 200.0, seed=4)
    slow = replace(good, done_s=good.done_s + np.where(np.arange(good.done_s.size) % 4 == 0, 9, 0))
    every = np.arange(0, slow.done_s.size, 4)
    records = failed(slow, every[::2], Outcome.TIMEOUT)
    records = failed(records, every[1::2], Outcome.HTTP, 503)
    records = replace(records, examples={Outcome.HTTP: "busy"})
    level = measure(records, source="x")
    assert level.point.e2e_p99_ms < 1000.0
    assert level.point.n_failed == level.n_failed > 200
    assert level.point.n_requests == level.n_ok + level.n_failed
    assert level.point.achieved_rps == pytest.approx(0.75 * 5.0, rel=0.1)
    n = records.outcome.size
    assert set(level.failures) == {Outcome.TIMEOUT, Outcome.HTTP}
    assert noted(level, f"{level.failures[Outcome.HTTP]} of {n} requests failed (HTTP 503: busy)")
    assert noted(level, f"{level.failures[Outcome.TIMEOUT]} of {n} requests failed (timeout)")


def test_a_closed_loop_with_failures_counts_its_answers():
    """Half of the slots' time goes into failures: the answers are those of the other half."""
    records = closed_loop(8, lambda *_: 1.0, 50.0)
    records = failed(records, np.arange(0, records.outcome.size, 2), Outcome.STREAM)
    assert measure(records, source="x").point.achieved_rps == pytest.approx(4.0, rel=0.02)


def test_a_server_that_only_fails_makes_no_point():
    records = open_queue(5.0, 0.1, 50.0, seed=4)
    level = measure(failed(records, slice(None), Outcome.CONNECTION), source="x")
    assert level.point is None
    assert level.failures == {Outcome.CONNECTION: records.outcome.size}
    assert level.n_failed > 0.9 * records.outcome.size


def test_what_was_cut_off_by_the_end_is_no_failure():
    level = measure(closed_loop(8, lambda *_: 1.0, 20.5), source="x")
    assert (level.n_cancelled, level.n_failed, level.failures) == (8, 0, {})
    assert level.point.n_failed == 0


def test_what_was_answered_after_the_load_changes_nothing():
    """Whether they are waited for or closed: the load was off when they were answered."""
    records = closed_loop(8, lambda r, _: r.uniform(0.5, 1.5), 20.5)
    late = records.outcome == Outcome.CANCELLED
    drained = replace(
        records,
        outcome=np.zeros_like(records.outcome),
        done_s=records.done_s + np.where(late, 7.0, 0.0),
        first_s=np.where(late, records.done_s, records.first_s),
    )
    assert late.sum() == 8
    assert measure(drained, source="x").point == measure(records, source="x").point


def test_an_answer_in_one_piece_says_nothing_of_tokens():
    records = open_queue(5.0, 0.1, 100.0, seed=2)
    level = measure(replace(records, first_s=records.done_s), source="x")
    assert {name.split("_")[0] for name in figures(level)} == {"e2e"}
    assert noted(level, "answers came in one piece")
    assert (level.ttft_ms, level.tpot_ms) == (None, None)


def test_a_late_generator_is_told():
    """In an open loop by its requests, in a closed one by its timer."""
    records = open_queue(5.0, 0.1, 100.0, seed=2)
    assert measure(records, source="x").own_delay_p99_ms == pytest.approx(0.1)
    late = replace(records, sent_s=records.scheduled_s + 0.006)
    level = measure(late, source="x")
    assert level.own_delay_p50_ms == pytest.approx(6.0)
    assert noted(level, "the load generator itself was late: own delay p99 6 ms")
    closed = replace(closed_loop(2, lambda *_: 1.0, 20.0), lag_s=np.full(100, 0.007))
    assert noted(measure(closed, source="x"), "own delay p99 7 ms")


def test_latency_counts_from_the_scheduled_time():
    records = open_queue(5.0, 0.1, 100.0, seed=2)
    later = measure(replace(records, sent_s=records.sent_s + 0.05), source="x")
    assert later.point.e2e_mean_ms == measure(records, source="x").point.e2e_mean_ms


def test_the_source_goes_into_the_point():
    assert measure(open_queue(5.0, 0.1, 77.7, seed=0), source="run 7").point.source == "run 7"


@EXAMPLES
@given(
    rate_rps=st.floats(0.1, 50.0),
    service_s=st.floats(0.001, 2.0),
    n_mean=st.floats(1.0, 300.0),
    seed=st.integers(0, 1000),
    n_servers=st.integers(1, 8),
)
def test_any_load_gives_a_level_that_agrees_with_itself(
    rate_rps, service_s, n_mean, seed, n_servers
):
    load_end_s = n_mean / rate_rps
    records = open_queue(rate_rps, service_s, load_end_s, seed, n_servers)
    level = measure(records, source="x")
    assert 0.0 <= level.window_start_s <= load_end_s / 2
    assert level.window_end_s == load_end_s
    assert level.n_ok + level.n_failed + level.n_cancelled <= records.outcome.size
    assert (level.point is None) == (level.n_ok < 3)
    if level.point is not None and level.e2e_ms is not None:
        assert level.e2e_ms.mean == pytest.approx(level.point.e2e_mean_ms)
        assert level.e2e_ms.low <= level.e2e_ms.mean <= level.e2e_ms.high
        assert level.n_ok >= 20
