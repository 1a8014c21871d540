"""Records of a run: what latency a request has, which has none, and the flat table."""

import pickle

import numpy as np
import pytest
from made_runs import records

from planner.simulate.records import Outcome, columns
from planner.simulate.units import PS_PER_S
from planner.spec.base import METRICS

ENDS = [Outcome.OK, Outcome.FAILED, Outcome.REFUSED, Outcome.UNTIMED]


def test_latencies_are_those_of_the_house():
    run = records([0.0, 1.0, 5.0], [0.2, 0.4, 1.0], [0.02, 0.05, 0.1], output_tokens=[11, 2, 101])
    np.testing.assert_allclose(run.ttft_ms, [200, 400, 1000])
    np.testing.assert_allclose(run.tpot_ms, [20, 50, 100])
    np.testing.assert_allclose(run.e2e_ms, [400, 450, 11_000])
    for metric in METRICS:
        np.testing.assert_array_equal(run.latency_ms(metric), getattr(run, f"{metric}_ms"))


def test_one_token_has_no_time_per_token():
    run = records([0.0, 0.0], 0.2, output_tokens=[1, 2])
    assert np.isnan(run.tpot_ms).tolist() == [True, False]
    np.testing.assert_allclose(run.e2e_ms, [200, 210])


def test_only_answers_of_a_known_time_have_latencies():
    run = records([0.0, 1.0, 2.0, 3.0], 0.2, outcome=ENDS)
    for metric in METRICS:
        assert np.isnan(run.latency_ms(metric)).tolist() == [False, True, True, True]
    assert run.is_timed.tolist() == [True, False, False, False]
    assert run.is_answered.tolist() == [True, False, False, True]


def test_a_request_that_died_with_its_first_token_has_no_latency():
    run = records([0.0, 1.0], 0.2, outcome=[Outcome.OK, Outcome.FAILED])
    run.first_ps[1] = PS_PER_S * 2
    assert np.isnan(run.ttft_ms).tolist() == [False, True]
    assert columns(run, 0)["first_token_ms"].tolist() == [200.0, 2000.0]


def test_between_takes_both_ends():
    run = records([0.0, 1.0, 1.0, 2.0, 3.0], 0.2, class_index=[0, 1, 0, 1, 0])
    part = run.between(PS_PER_S, 2 * PS_PER_S)
    assert part.n_requests == 3
    assert part.class_index.tolist() == [1, 0, 1]
    assert part.class_names == run.class_names
    assert run.between(4 * PS_PER_S, 9 * PS_PER_S).n_requests == 0


def test_columns_are_one_row_per_request_with_names_and_units():
    run = records(
        [0.0, 1.0, 2.0, 3.0],
        0.2,
        class_index=[0, 1, 0, 1],
        pool_index=[1, 0, 1, 0],
        replica_index=[0, 1, -1, 2],
        output_tokens=[11, 1, 11, 11],
        outcome=ENDS,
    )
    table = columns(run, 7)
    assert {column.shape for column in table.values()} == {(4,)}
    assert table["seed"].tolist() == [7] * 4
    assert table["class"].tolist() == ["chat", "code", "chat", "code"]
    assert table["pool"].tolist() == ["big", "small", "big", "small"]
    assert table["outcome"].tolist() == ["ok", "failed", "refused", "untimed"]
    assert table["replica"].tolist() == [0, 1, -1, 2]
    np.testing.assert_allclose(table["arrived_ms"], [0, 1000, 2000, 3000])
    np.testing.assert_allclose(table["done_ms"], [300, np.nan, np.nan, 3300])
    np.testing.assert_allclose(table["ttft_ms"], [200, np.nan, np.nan, np.nan])


def test_columns_of_nothing_are_empty():
    assert {column.size for column in columns(records([], 0.1), 0).values()} == {0}


def test_records_travel_between_processes():
    run = records([0.0, 1.0], [0.2, 0.3])
    again = pickle.loads(pickle.dumps(run))
    assert again.class_names == run.class_names
    np.testing.assert_array_equal(again.done_ps, run.done_ps)
    with pytest.raises(AttributeError):
        run.outcome = run.done_ps
