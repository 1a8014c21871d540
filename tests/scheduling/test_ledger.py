"""What the ledger holds: exact in its counting, sensible between events."""

import math
import pickle
from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replica_states import ENGINES

from planner.scheduling.account import HALF_LIFE_S, KEPT_S
from planner.scheduling.delay import StepCurve, predict_delay
from planner.scheduling.habits import MEMORY_S, SLOWEST_RATIO
from planner.scheduling.ledger import Ledger, Seen

FLAT = StepCurve(
    n=(1,),
    decode_ms=(10.0,),
    context_token_ms=(0.0,),
    prompt_token_ms=0.1,
    request_ms=0.0,
    max_num_seqs=4,
    kv_capacity_tokens=10_000,
    max_num_batched_tokens=500,
)
CURVES = [FLAT, ENGINES["few places"].curve, ENGINES["little cache"].curve, None]


def ledger(length_cv=0.0, curves=(FLAT,)):
    return Ledger(list(curves), length_cv=length_cv)


def of(load):
    """The tokens of a load: to prefill, to decode, in the cache."""
    return [load.prefill_tokens, load.decode_tokens, load.kv_tokens]


# ---- Accounting ----------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["send", "first", "end", "cancel", "see", "look"]),
        st.integers(0, 3),
        st.floats(0, 5000),
        st.floats(0, 3000),
        st.floats(-0.1, 4.0),
    ),
    max_size=60,
)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(ACTIONS, st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.randoms(use_true_random=False))
def test_any_order_of_events_is_counted_exactly(actions, length_cv, random):
    book, now_s, there = ledger(length_cv, CURVES), 100.0, {}
    for what, g, tokens, output, passed_s in actions:
        now_s += passed_s
        if what == "send":
            there[book.sent(g, tokens, output, now_s, tokens / 2)] = g
        elif what == "see":
            book.reconcile(g, Seen(int(output) % 9, g, tokens or None, now_s - 0.5), now_s)
        elif there and what != "look":
            ticket = random.choice(sorted(there))
            if what == "first":
                book.first_token(ticket, now_s)
            else:
                del there[ticket]
                book.ended(ticket, now_s, output if what == "end" else None)
        for i in range(4):
            load = book.load(i, now_s)
            assert book.n_in_flight(i) == list(there.values()).count(i)
            assert all(math.isfinite(x) and x >= 0.0 for x in [*of(load), load.n_running])
            assert load.n_running + load.n_waiting >= book.n_in_flight(i) - 1e-9
            assert 1 / SLOWEST_RATIO <= load.slowness_ratio <= SLOWEST_RATIO
    for ticket in there:
        book.ended(ticket, now_s)
    for i in range(4):
        book.reconcile(i, Seen(0, 0, 0.0, now_s + 1.0), now_s + 1.0)
        load = book.load(i, now_s + 1.0)
        assert [load.n_running, load.n_waiting, *of(load)] == [0.0] * 5


def test_a_ticket_ends_once():
    book = ledger()
    ticket = book.sent(0, 10, 10, 0.0)
    book.ended(ticket, 1.0)
    with pytest.raises(KeyError):
        book.ended(ticket, 1.0)
    with pytest.raises(KeyError):
        book.first_token(ticket, 1.0)
    with pytest.raises(KeyError):
        book.ended(77, 1.0)
    assert book.n_in_flight(0) == 0


def test_tickets_are_never_given_twice():
    book = ledger()
    tickets = []
    for _ in range(50):
        tickets.append(book.sent(0, 10, 10, 0.0))
        if len(tickets) % 3 == 0:
            book.ended(tickets[-1], 0.0)
    assert len(set(tickets)) == 50


def test_a_clock_that_goes_back_is_taken_to_stand_still():
    book = ledger()
    ticket = book.sent(0, 100, 50, 10.0)
    before = book.load(0, 10.5)
    assert book.load(0, 9.0) == before
    book.ended(ticket, 8.0)
    assert book.load(0, 8.0).n_running == 0.0


def test_steps_back_of_the_clock_change_nothing_of_what_is_usual():
    books = [ledger(), ledger()]
    for k in range(200):
        for book, back_s in zip(books, (0.0, 1e9), strict=True):
            ticket = book.sent(0, 50, 10, k)
            early = book.sent(0, 50, 10, k - back_s)
            book.reconcile(0, Seen(4, 0, 500.0, k), k - back_s)
            book.ended(early, k - back_s, 5)
            book.ended(ticket, k + 0.5)
    assert books[0].load(0, 200.0) == books[1].load(0, 200.0)


def test_a_telling_of_the_future_counts_as_one_of_now():
    book = ledger()
    book.reconcile(0, Seen(3, 0, None, 1e9), 1.0)
    assert book.load(0, 1.0).n_running == 3.0
    assert book.load(0, 1.0 + HALF_LIFE_S).n_running == pytest.approx(1.5)


def test_memory_does_not_grow_with_the_requests_served():
    book, there, now_s, sizes = ledger(0.5), deque(), 0.0, []
    for k in range(8_000):  # the instance is never empty
        now_s += 0.05
        there.append(book.sent(0, 1 + k % 700, 1 + k % 90, now_s))
        if k % 3:
            book.first_token(there[-1], now_s)
        if k % 20 == 0:
            book.reconcile(0, Seen(20, 3, None, now_s - 0.2), now_s)
        if len(there) > 20:
            book.ended(there.popleft(), now_s, 20)
        if k in (1000, 7999):
            sizes.append(len(pickle.dumps(book)))
    assert sizes[1] < 1.2 * sizes[0]


# ---- Between events ------------------------------------------------------------------------------


def test_prompts_are_prefilled_in_order_and_answers_decoded_by_the_steps_of_the_curve():
    book = ledger()
    book.sent(0, 200, 100, 0.0)
    book.sent(0, 300, 100, 0.0)
    assert of(book.load(0, 0.0)) == [500.0, 200.0, 0.0]
    half = book.load(0, 0.03)  # a step of 10 ms with 500 tokens of 0.1 ms takes 60 ms
    assert of(half) == pytest.approx([250.0, 200.0, 200.0])  # the first one is through
    assert of(book.load(0, 0.06)) == pytest.approx([0.0, 199.5, 500.5])
    assert of(book.load(0, 0.56)) == pytest.approx([0.0, 99.5, 600.5])  # 50 steps for each of two


def test_a_first_token_puts_right_what_was_believed():
    book = ledger()
    ticket = book.sent(0, 200, 100, 0.0)
    assert of(book.load(0, 0.53)) == pytest.approx([0.0, 50.0, 250.0])
    book.first_token(ticket, 0.53)  # so late: it has decoded nothing yet
    assert of(book.load(0, 0.53)) == pytest.approx([0.0, 100.0, 200.0])
    early = book.sent(0, 300, 40, 0.53)
    book.first_token(early, 0.53)
    assert of(book.load(0, 0.53)) == pytest.approx([0.0, 140.0, 500.0])
    book.first_token(early, 0.60)  # no news
    assert of(book.load(0, 0.60)) == pytest.approx([0.0, 126.0, 514.0])


@pytest.mark.parametrize(
    ("length_cv", "left"), [(0.0, [60, 10, 0, 0]), (0.5, [60, 25, 25, 25]), (1.0, [100] * 4)]
)
def test_what_is_left_of_an_answer_stays_above_its_floor(length_cv, left):
    book = ledger(length_cv)
    book.first_token(book.sent(0, 10, 100, 0.0), 0.0)
    found = [book.load(0, s).decode_tokens for s in (0.4, 0.9, 1.5, 100.0)]
    assert found == pytest.approx(left)


def test_whoever_finds_no_place_waits_and_nothing_of_it_is_prefilled():
    book = ledger()
    for _ in range(6):
        ticket = book.sent(0, 10, 1000, 0.0)
        if ticket < 4:
            book.first_token(ticket, 0.0)
    load = book.load(0, 5.0)
    assert (load.n_running, load.n_waiting, load.prefill_tokens) == (4.0, 2.0, 20.0)
    book.ended(0, 5.0)
    assert book.load(0, 5.02).prefill_tokens < 20.0


def test_only_as_many_as_have_a_place_are_prefilled():
    """Ten come at once and four have a place: the others do not decode meanwhile."""
    book = ledger()
    tickets = [book.sent(0, 10, 100, 0.0) for _ in range(10)]
    load = book.load(0, 0.514)  # a step of 10 ms with 40 tokens takes 14 ms, then come 50
    assert (load.n_running, load.n_waiting) == (4.0, 6.0)
    assert of(load) == pytest.approx([60.0, 4 * 50.0 + 600.0, 4 * (10 + 50.0)])
    for ticket in tickets[:3]:
        book.ended(ticket, 0.514)
    assert of(book.load(0, 0.527))[:2] == pytest.approx([30.0, 49.0 + 600.0])


def test_an_answer_that_never_comes_keeps_its_instance_busy():
    book = ledger(0.5)
    book.sent(0, 100, 80, 0.0)
    load = book.load(0, 3600.0)
    assert (load.n_running, load.decode_tokens) == (1.0, 20.0)


def test_an_instance_without_a_curve_counts_what_was_sent():
    book = ledger(curves=[None])
    ticket = book.sent(0, 100, 80, 0.0, 60)
    assert of(book.load(0, 50.0)) == [60.0, 80.0, 0.0]
    book.first_token(ticket, 50.0)
    book.ended(ticket, 90.0, 500)
    assert book.load(0, 90.0).slowness_ratio == 1.0
    with pytest.raises(ValueError, match="no curve"):
        book.delay(0, 1, 1, 1, 50.0)


def test_a_delay_is_the_prediction_from_the_load():
    book = ledger()
    for _ in range(3):
        book.sent(0, 100, 80, 0.0, 60)
    expected = predict_delay(FLAT, book.load(0, 0.1), 50, 70, 30)
    assert book.delay(0, 50, 70, 30, 0.1) == expected


# ---- What is learned -----------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5, 4.0])
def test_how_slow_an_instance_is_is_learned_from_its_answers(ratio):
    book, now_s = ledger(), 0.0
    for _ in range(60):
        ticket = book.sent(0, 1, 100, now_s)
        book.first_token(ticket, now_s)
        now_s += 400 * 0.010 * ratio  # an answer of 401 tokens at 10 ms each, times the ratio
        book.ended(ticket, now_s, 401)
    assert book.load(0, now_s).slowness_ratio == pytest.approx(ratio, rel=0.05)


def test_answers_that_come_whole_do_not_make_an_instance_look_fast():
    """The first token of one that is not streamed is seen with the last."""
    book, now_s = ledger(), 0.0
    for _ in range(30):
        ticket = book.sent(0, 1, 400, now_s)
        now_s += 8.0
        book.first_token(ticket, now_s)
        now_s += 0.002
        book.ended(ticket, now_s, 400)
    assert book.load(0, now_s).slowness_ratio == 1.0


def answered(book, g, now_s, ratio, n=10):
    """Answers of 401 tokens, each step as many times as long as the curve says; when they end."""
    for _ in range(n):
        ticket = book.sent(g, 1, 100, now_s)
        book.first_token(ticket, now_s)
        now_s += 400 * 0.010 * ratio
        book.ended(ticket, now_s, 401)
    return now_s


def test_instances_of_one_curve_learn_together_how_wrong_it_is():
    """Else the one that is tried first and found fast would get everything for ever."""
    other = replace(FLAT)  # another pool, be it alike
    book = ledger(curves=[FLAT, FLAT, other])
    now_s = answered(book, 0, 0.0, 0.25)
    ratios = [book.load(g, now_s + 1.0).slowness_ratio for g in range(3)]
    assert ratios[0] == pytest.approx(0.25, rel=0.25)
    assert ratios[1] == pytest.approx(ratios[0], rel=0.3)
    assert ratios[2] == 1.0


def test_one_that_was_slow_is_tried_again_after_a_while():
    book = ledger(curves=[FLAT, FLAT])
    now_s = answered(book, 0, 0.0, 4.0)
    slow = book.load(0, now_s).slowness_ratio
    for _ in range(40):
        now_s = answered(book, 1, now_s, 1.0)
    assert book.load(0, now_s).slowness_ratio < 1.0 + 0.2 * (slow - 1.0)
    assert book.load(1, now_s).slowness_ratio == pytest.approx(1.0, abs=0.1)


def test_another_curve_starts_from_nothing_and_the_same_one_does_not():
    book = ledger(curves=[FLAT, FLAT])
    now_s = answered(book, 0, 0.0, 3.0)
    before = book.load(0, now_s).slowness_ratio
    same = replace(FLAT)
    book.renewed({0: 1}, [same, same])
    assert [book.load(g, now_s).slowness_ratio for g in (0, 1)] == pytest.approx(
        [before] * 2, rel=0.1
    )
    book.renewed({1: 0}, [replace(FLAT, prompt_token_ms=0.2)])
    assert book.load(0, now_s).slowness_ratio == 1.0


def test_how_many_run_as_a_rule_is_an_average_over_time():
    book = ledger()
    for k in range(400):  # one of two seconds
        ticket = book.sent(0, 50, 10, 2.0 * k)
        book.ended(ticket, 2.0 * k + 1.0)
    load = book.load(0, 800.0)
    assert load.usual_running == pytest.approx(0.5, rel=2.0 / MEMORY_S)
    assert load.prefill_ratio == pytest.approx(0.1 * 50 / 2000, rel=2.0 / MEMORY_S)


def test_prefills_of_a_slow_instance_take_more_of_its_time():
    ratios = []
    for slowness in (1.0, 3.0):
        book = ledger()
        now_s = answered(book, 0, 0.0, slowness, n=40)
        for k in range(100):
            book.ended(book.sent(0, 500, 10, now_s + k), now_s + k + 0.5)
        ratios.append(book.load(0, now_s + 100).prefill_ratio)
    assert ratios[0] == pytest.approx(0.1 * 500 / 1000, rel=0.05)
    assert ratios[1] == pytest.approx(3.0 * ratios[0], rel=0.1)


# ---- What instances say of themselves ------------------------------------------------------------


def test_requests_of_others_are_added_and_fade_with_age():
    book = ledger()
    book.first_token(book.sent(0, 100, 1000, 0.0), 0.0)
    book.reconcile(0, Seen(3, 0, 700.0, 1.0), 1.0)
    load = book.load(0, 1.0)
    assert (load.n_running, load.kv_tokens) == (3.0, 700.0)
    assert load.decode_tokens == pytest.approx(900.0 + 2 * 1000.0)
    later = book.load(0, 1.0 + HALF_LIFE_S)
    assert later.n_running == pytest.approx(2.0)


def test_requests_of_others_slow_down_those_from_here():
    """Else their steps would pass for those of a slow instance."""
    flat = (0.0, 0.0)
    curve = StepCurve((1, 4), (10.0, 40.0), flat, 0.0, 0.0, 4, 10_000, 500)
    book = ledger(curves=[curve])
    ticket = book.sent(0, 1, 1000, 0.0)
    book.first_token(ticket, 0.0)
    for k in range(1, 9):
        book.reconcile(0, Seen(4, 0, None, 0.5 * k), 0.5 * k)
    tokens = 0.5 / 0.010 + 3.5 / 0.040  # alone at first
    load = book.load(0, 4.0)
    assert load.decode_tokens == pytest.approx(3 * 1000 + 1000 - tokens, abs=6)
    assert load.usual_running > 2.5
    book.ended(ticket, 4.0, 1 + tokens)
    # What was told of others fades by 7 % until it is told again: steps of 39 ms are believed in
    # place of 40. Without them it would be 400 steps for 137 tokens.
    assert book.load(0, 4.0).slowness_ratio == pytest.approx(1.0, abs=0.04)


def test_what_happened_after_the_telling_counts_on_top():
    book = ledger()
    first = book.sent(0, 100, 50, 0.0)
    book.sent(0, 100, 50, 0.0)
    book.ended(first, 1.5)
    book.sent(0, 100, 50, 1.6)
    book.reconcile(0, Seen(3, 0, None, 1.0), 2.0)  # two from here and one of somebody else
    assert book.load(0, 2.0).n_running == pytest.approx(2.0 + 0.5 ** (1.0 / HALF_LIFE_S))


def test_an_instance_that_knows_of_less_does_not_unsend_anything():
    book = ledger()
    for _ in range(3):
        book.sent(0, 100, 50, 0.0)
    book.reconcile(0, Seen(0, 0, None, 0.1), 0.1)
    assert book.load(0, 0.1).n_running == 3.0


def test_a_queue_that_is_told_is_believed():
    """Three of four run by the count of places, but the engine lets one wait, for its memory."""
    book = ledger()
    for _ in range(3):
        book.sent(0, 100, 50, 0.0)
    book.reconcile(0, Seen(2, 1, None, 0.1), 0.1)
    load = book.load(0, 0.1)
    assert (load.n_running, load.n_waiting) == (2.0, 1.0)


def test_old_news_is_no_news():
    book = ledger()
    book.reconcile(0, Seen(3, 0, None, 5.0), 5.0)
    book.reconcile(0, Seen(50, 0, None, 4.0), 5.0)  # told before the last
    assert book.load(0, 5.0).n_running == 3.0
    book.reconcile(0, Seen(50, 0, None, 6.0), 6.1 + KEPT_S)  # it took too long to come
    assert book.load(0, 6.1 + KEPT_S).n_running < 1.0


# ---- Hot reload ----------------------------------------------------------------------------------


def test_kept_instances_take_what_they_have_along():
    book = ledger(curves=[FLAT, FLAT, FLAT])
    tickets = [book.sent(g, 100, 50, 0.0) for g in (0, 1, 2, 2)]
    book.renewed({2: 0, 0: 3}, [FLAT, FLAT, FLAT, None])
    assert [book.n_in_flight(g) for g in range(4)] == [2, 0, 0, 1]
    for ticket in tickets:  # also the one whose instance is gone
        book.first_token(ticket, 1.0)
        book.ended(ticket, 2.0)
    assert [book.n_in_flight(g) for g in range(4)] == [0] * 4
    with pytest.raises(KeyError):
        book.ended(tickets[1], 3.0)


def test_two_instances_cannot_become_one():
    with pytest.raises(ValueError, match="cannot become one"):
        ledger(curves=[FLAT, FLAT]).renewed({0: 0, 1: 0}, [FLAT])
