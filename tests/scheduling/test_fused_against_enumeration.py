"""The fused choice against one that is spelled out step by step, and what it does in a batch."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replica_states import ENGINES

from planner.scheduling.delay import Delay, StepCurve
from planner.scheduling.fused import (
    NO_WANTS,
    Offer,
    Prices,
    Wants,
    choose,
    decide,
    longest_first,
)
from planner.scheduling.ledger import Ledger

PRICES = Prices(quality_per_usd=10.0, quality_per_s=0.02, quality_per_added_s=0.01)


def offer(**changed):
    given_here = {"instance": 0, "quality": 0.5, "usd": 0.01, "work": 1.0, "input_tokens": 100}
    return Offer(**({"fresh_tokens": 100, "output_tokens": 50} | given_here | changed))


def delay(e2e_ms, added_ms=0.0, wait_ms=0.0):
    return Delay(wait_ms, e2e_ms / 10, 1.0, e2e_ms, added_ms)


def worth(o, d, prices):
    spent = prices.quality_per_usd * o.usd + prices.quality_per_s * d.e2e_ms / 1e3
    spent += prices.quality_per_added_s * (d.added_ms + 2.0 * d.wait_ms) / 1e3
    return o.quality - o.price * o.work - spent


def spelled_out(offers, delays, prices, wants):
    """Filter by filter; one that nobody passes leaves those that come nearest to it."""
    left = list(range(len(offers)))

    def keep(passes, distance):
        nonlocal left
        good = [i for i in left if passes(i)]
        nearest = min(distance(i) for i in left)
        left = good or [i for i in left if distance(i) == nearest]

    budget, floor, deadline = wants.budget_usd, wants.quality_at_least, wants.deadline_ms
    if budget is not None:
        keep(lambda i: offers[i].usd <= budget, lambda i: offers[i].usd - budget)
    if floor is not None:
        keep(lambda i: offers[i].quality >= floor, lambda i: floor - offers[i].quality)
    if deadline is not None:
        keep(lambda i: delays[i].e2e_ms <= deadline, lambda i: delays[i].e2e_ms - deadline)
    if budget is not None:
        keep(lambda i: offers[i].usd * offers[i].usd_high_ratio <= budget, lambda i: 0)
    if deadline is not None:
        keep(lambda i: delays[i].e2e_ms * offers[i].high_ratio <= deadline, lambda i: 0)
    found = {i: worth(offers[i], delays[i], prices) for i in left}
    top = max(found.values())
    near = [i for i in left if found[i] >= top - 1e-12]
    return min(near, key=lambda i: (offers[i].work, delays[i].e2e_ms, i))


HALVES = st.integers(0, 4).map(lambda k: k / 2)
OFFERS = st.builds(
    Offer,
    instance=st.just(0),
    quality=HALVES,
    usd=HALVES,
    work=st.integers(1, 3).map(float),
    input_tokens=st.just(10.0),
    fresh_tokens=st.just(10.0),
    output_tokens=st.just(10.0),
    high_ratio=st.sampled_from([0.5, 1.0, 2.0]),
    price=HALVES,
    usd_high_ratio=st.sampled_from([1.0, 2.0]),
)
DELAYS = st.builds(delay, st.integers(0, 4).map(lambda k: 500.0 * k), HALVES, HALVES)
WISH = st.none() | HALVES


@settings(derandomize=True, max_examples=90)
@given(
    st.lists(st.tuples(OFFERS, DELAYS), min_size=1, max_size=6),
    st.builds(Prices, HALVES, HALVES, HALVES),
    st.builds(Wants, WISH.map(lambda w: w and 1000 * w), WISH, WISH),
)
def test_against_filters_spelled_out(pairs, prices, wants):
    offers, delays = [o for o, _ in pairs], [d for _, d in pairs]
    chosen = choose(offers, delays, prices, wants)
    expected = spelled_out(offers, delays, prices, wants)
    assert worth(offers[chosen], delays[chosen], prices) == pytest.approx(
        worth(offers[expected], delays[expected], prices), abs=1e-9
    )
    assert offers[chosen].work == offers[expected].work
    assert delays[chosen].e2e_ms == delays[expected].e2e_ms


def test_without_wants_the_largest_worth_wins():
    offers = [offer(quality=0.6), offer(quality=0.9, price=0.2), offer(quality=0.8)]
    assert choose(offers, [delay(1000.0)] * 3, Prices()) == 2
    assert choose(offers, [delay(1000.0), delay(1000.0), delay(20_000.0)], PRICES) == 1


@pytest.mark.parametrize(("times_ms", "chosen"), [((100, 100, 100), 1), ((5, 100, 90), 2)])
def test_ties_go_to_the_least_work_then_to_the_soonest_and_then_to_the_first(times_ms, chosen):
    offers, delays = [offer(work=w) for w in (2.0, 1.0, 1.0)], [delay(ms) for ms in times_ms]
    assert choose(offers, delays, Prices()) == chosen
    by_work = dict(zip(map(id, offers), delays, strict=True))
    assert decide(offers, lambda o: by_work[id(o)], Prices()) == (chosen, delays[chosen])


@pytest.mark.parametrize(
    ("wants", "chosen"),
    [
        (Wants(deadline_ms=2000), 1),  # sure within the band: the others may be late
        (Wants(deadline_ms=1400), 2),  # nobody is sure: whoever is expected in time, best worth
        (Wants(deadline_ms=500), 1),  # nobody is in time: the soonest
        (Wants(quality_at_least=0.8), 2),
        (Wants(quality_at_least=0.99), 2),  # nobody is that good: the best
        (Wants(deadline_ms=500, quality_at_least=0.8), 2),  # time is given up before quality
        (Wants(budget_usd=0.02, quality_at_least=0.8), 1),  # quality before money
        (Wants(budget_usd=0.001), 0),  # the cheapest
        (Wants(budget_usd=0.022), 0),  # 1 is expected within it, 0 is sure
    ],
)
def test_what_is_given_up_and_in_which_order(wants, chosen):
    offers = [
        offer(quality=0.2, usd=0.01, high_ratio=1.5),
        offer(quality=0.6, usd=0.02, high_ratio=1.5, usd_high_ratio=1.2),
        offer(quality=0.9, usd=0.09, high_ratio=1.5),
    ]
    assert choose(offers, [delay(1500.0), delay(1200.0), delay(1390.0)], Prices(), wants) == chosen


def test_nothing_to_choose_from_is_said():
    with pytest.raises(ValueError, match="no offer"):
        choose([], [], PRICES)


def test_the_longest_comes_first_and_equals_keep_their_order():
    assert longest_first([5.0, 9.0, 5.0, 20.0]) == [3, 1, 0, 2]


# ---- Deciding with few predictions ---------------------------------------------------------------


def book(n=3):
    return Ledger([ENGINES["few places"].curve] * n, length_cv=0.0)


def predicted_by(ledger, now_s):
    return lambda o: ledger.delay(
        o.instance, o.fresh_tokens, o.input_tokens, o.output_tokens, now_s
    )


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            HALVES,
            HALVES,
            st.integers(1, 3),
            st.integers(1, 2000),
            st.integers(1, 600),
            st.sampled_from([0.8, 1.0, 1.5]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.integers(0, 3), max_size=60),
    st.builds(Prices, HALVES, HALVES, HALVES),
    st.builds(Wants, WISH.map(lambda w: w and 5000 * w), WISH, WISH) | st.just(NO_WANTS),
)
def test_a_decision_is_the_choice_with_all_delays_known(rows, busy, prices, wants):
    """It asks for the delays of some of them only."""
    curves = [ENGINES[name].curve for name in ("roomy", "few places", "little cache")]
    ledger = Ledger([*curves, StepCurve.fixed(200.0, 15.0)])
    for k, g in enumerate(busy):
        ledger.sent(g, 50 * k, 10 * k + 1, 0.01 * k)
    offers = [
        offer(instance=g, quality=q, usd=usd, work=float(work), input_tokens=tokens,
              fresh_tokens=tokens, output_tokens=output, high_ratio=ratio)
        for g, q, usd, work, tokens, output, ratio in rows
    ]  # fmt: skip
    delay_of = predicted_by(ledger, 1.0)
    delays = [delay_of(o) for o in offers]
    expected = choose(offers, delays, prices, wants)
    assert decide(offers, delay_of, prices, wants) == (expected, delays[expected])
    left = [i for i, o in enumerate(offers) if o.instance]  # nobody may go to instance 0
    taken = decide(offers, lambda o: delay_of(o) if o.instance else None, prices, wants)
    if left:
        i = left[choose([offers[i] for i in left], [delays[i] for i in left], prices, wants)]
        assert taken == (i, delays[i])
    else:
        assert taken is None


def test_predictions_that_cannot_change_the_choice_are_not_asked_for():
    asked = []

    def delay_of(o):
        asked.append(o.instance)
        return delay(1000.0)

    offers = [
        offer(instance=0, quality=0.5),
        offer(instance=1, quality=0.9),
        offer(instance=2, quality=0.89),
    ]
    assert decide(offers, delay_of, PRICES) == (1, delay(1000.0))
    assert asked == [1, 2]


def test_a_batch_does_not_herd_when_the_ledger_is_told_of_each_choice():
    """All idle instances look alike."""
    lengths = [30, 400, 80, 400, 10, 90]
    ledger, went = book(), {}
    for k in longest_first(lengths):
        offers = [offer(instance=g, output_tokens=lengths[k]) for g in range(3)]
        went[k], _ = decide(offers, predicted_by(ledger, 0.0), PRICES)
        ledger.sent(went[k], 100, lengths[k], 0.0)
    assert [ledger.n_in_flight(g) for g in range(3)] == [2, 2, 2]
    assert went[1] != went[3]  # the two longest lie apart
