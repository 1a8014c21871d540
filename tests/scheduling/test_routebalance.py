"""RouteBalance's score by hand, and its order in ties."""

import pytest
from replica_states import ENGINES

from planner.scheduling.delay import Load
from planner.scheduling.routebalance import PRESETS, Bid, RouteBalance, Weights, scores


def bid(instance=0, **changed):
    usual = {
        "quality": 0.5,
        "usd": 1.0,
        "output_tokens": 100.0,
        "tpot_ms": 20.0,
        "pending_tokens": 0.0,
        "n_running": 0.0,
        "n_requests": 0.0,
        "has_free_slot": True,
    }
    return Bid(instance, **(usual | changed))


def test_presets_are_on_the_simplex():
    assert set(PRESETS) == {"balance", "quality", "latency", "cost"}
    for weights in PRESETS.values():
        assert sum(weights) == pytest.approx(1.0)
        assert min(weights) > 0.0


def test_scores_by_hand():
    bids = [
        bid(quality=0.2, usd=1.0, tpot_ms=10.0),
        bid(quality=0.6, usd=2.0, tpot_ms=40.0),
        bid(quality=0.4, usd=4.0, tpot_ms=20.0),
    ]
    expected = [0.2 * (1 - 0.25) + 0.5 * (1 - 0.25), 0.3 + 0.2 * (1 - 0.5), 0.3 * 0.5 + 0.5 * 0.5]
    assert scores(bids, Weights(0.3, 0.5, 0.2)) == pytest.approx(expected)


def test_without_a_free_slot_pending_tokens_are_waited_for():
    full = bid(has_free_slot=False, pending_tokens=3000.0, n_running=10.0)
    assert full.latency_ms == (300.0 + 100.0) * 20.0
    assert bid(pending_tokens=3000.0, n_running=10.0).latency_ms == 100.0 * 20.0
    assert bid(has_free_slot=False, pending_tokens=50.0).latency_ms == (50.0 + 100.0) * 20.0


def test_where_all_are_alike_each_term_is_the_same():
    assert scores([bid(usd=0.0, tpot_ms=0.0)] * 2, PRESETS["balance"]) == [1.0, 1.0]


def test_another_candidate_changes_the_score_of_all():
    """What the fused choice in money and seconds does not do."""
    pair = [bid(quality=0.5, tpot_ms=10.0), bid(quality=0.6, tpot_ms=20.0)]
    weights = Weights(0.3, 0.7, 0.0)
    assert RouteBalance(weights).pick(pair) == 0
    assert RouteBalance(weights).pick([*pair, bid(quality=0.5, tpot_ms=200.0)]) == 1


def test_ties_go_to_the_fewest_requests_then_to_the_one_used_longest_ago():
    policy = RouteBalance(PRESETS["balance"])
    assert policy.pick([bid(0, n_requests=2.0), bid(1, n_requests=1.0)]) == 1
    alike = [bid(g) for g in range(3)]
    assert [policy.pick(alike) for _ in range(6)] == [0, 2, 1, 0, 2, 1]


def test_a_bid_reads_the_state_of_an_instance():
    curve = ENGINES["few places"].curve
    load = Load(n_running=15.0, n_waiting=0.0, decode_tokens=900.0, kv_tokens=3000.0)
    made = Bid.of(3, curve, load, quality=0.4, usd=0.1, output_tokens=80.0)
    assert made.tpot_ms == pytest.approx(25.0 + 16 * 0.9 + 3000 * 0.0004)
    assert made.has_free_slot
    load.n_running = 16.0
    assert not Bid.of(3, curve, load, quality=0.4, usd=0.1, output_tokens=80.0).has_free_slot


def test_no_bid_is_said():
    with pytest.raises(ValueError, match="no bid"):
        RouteBalance(PRESETS["cost"]).pick([])
