"""The law of delays where it can be worked out by hand, and what may never happen."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.scheduling.delay import QUEUE_WEIGHT, Load, StepCurve, predict_delay

CURVE = {
    "n": (1, 2, 4, 8),
    "decode_ms": (10.0, 11.0, 13.0, 21.0),
    "context_token_ms": (0.001, 0.001, 0.001, 0.002),
    "prompt_token_ms": 0.1,
    "request_ms": 5.0,
    "max_num_seqs": 8,
    "kv_capacity_tokens": 10_000,
    "max_num_batched_tokens": 512,
}


def curve(**changed):
    return StepCurve(**(CURVE | changed))


@pytest.mark.parametrize(
    ("n", "context", "ms"),
    [(1, 0, 10.0), (3, 0, 12.0), (6, 0, 17.0), (2.5, 100, 11.6), (6, 100, 17.15), (0, 0, 9.0)],
)
def test_a_step_is_linear_between_the_knots(n, context, ms):
    assert curve().step_ms(n, context) == pytest.approx(ms, rel=1e-12)


def test_a_step_is_constant_beyond_the_last_knot_and_with_a_single_one():
    assert curve().step_ms(100, 10) == pytest.approx(21.02)
    single = curve(n=(1,), decode_ms=(7.0,), context_token_ms=(0.0,))
    assert [single.step_ms(n, 0) for n in (0, 1, 5)] == [7.0] * 3


@given(st.floats(0, 12), st.floats(0, 1e4), st.floats(0, 1e3))
def test_a_step_and_one_with_one_more_are_two_steps(n, context, own):
    both = curve().one_more_ms(n, context, own)
    alone = curve().step_ms(n, context), curve().step_ms(n + 1.0, context + own)
    assert both == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n": ()}, "one entry per knot, got 0, 4"),
        ({"n": (1, 2, 4)}, "one entry per knot, got 3, 4"),
        ({"n": (1, 2, 2, 8)}, "n ascends"),
        ({"n": (-1, 2, 4, 8)}, "n ascends"),
        ({"decode_ms": (10.0, -1.0, 13.0, 21.0)}, "not negative"),
        ({"context_token_ms": (0.0, 0.0, math.inf, 0.0)}, "finite"),
        ({"prompt_token_ms": -0.1}, "not negative"),
        ({"request_ms": math.nan}, "finite"),
        ({"max_num_seqs": 0}, "at least 1"),
        ({"kv_capacity_tokens": 0}, "at least 1"),
    ],
)
def test_impossible_curves_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        curve(**changed)


def test_an_idle_instance_prefills_and_then_decodes_alone():
    delay = predict_delay(curve(), Load(), 600, 700, 101)
    assert delay.ttft_ms == pytest.approx(5.0 + 600 * 0.1 + 2 * 9.0)  # 600 tokens are two chunks
    assert delay.tpot_ms == pytest.approx(10.0 + 0.001 * (700 + 50))
    assert delay.e2e_ms == pytest.approx(delay.ttft_ms + 100 * delay.tpot_ms)
    assert (delay.wait_ms, delay.added_ms, delay.others_ms) == (0.0, 0.0, 0.0)


def test_those_who_stay_for_ever_slow_it_down_by_what_a_step_says():
    """Endless answers of two others: three decode all the time."""
    load = Load(n_running=2, decode_tokens=2e12, kv_tokens=1000)
    flat = curve(context_token_ms=(0.0,) * 4)
    delay = predict_delay(flat, load, 100, 100, 101)
    assert delay.tpot_ms == pytest.approx(12.0)
    assert delay.ttft_ms == pytest.approx(5.0 + 1.5 * 11.0 + 10.0)
    assert delay.added_ms == pytest.approx(2 * 10.0 + 2 * 100 * 1.0)  # its prefill, its steps


def test_without_a_place_it_waits_for_an_end():
    """Eight with 80 tokens left each: ends come every ten steps."""
    load = Load(n_running=8, decode_tokens=640)
    flat = curve(context_token_ms=(0.0,) * 4)
    delay = predict_delay(flat, load, 100, 100, 50)
    assert delay.wait_ms == pytest.approx(10 * 21.0)
    assert delay.ttft_ms == pytest.approx(5.0 + 210.0 + 1.5 * 21.0 + 10.0)
    assert delay.others_ms == pytest.approx(delay.added_ms + QUEUE_WEIGHT * 210.0)
    behind = predict_delay(flat, Load(n_running=8, n_waiting=2, decode_tokens=800), 100, 100, 50)
    assert behind.wait_ms == pytest.approx(3 * 210.0)


def test_without_memory_it_waits_for_what_an_end_leaves():
    """Two hold 1000 tokens each of 2100 and will need 200 more: an end frees 800 for a third."""
    load = Load(n_running=2, decode_tokens=400, kv_tokens=2000)
    tight = curve(kv_capacity_tokens=2100, context_token_ms=(0.0,) * 4)
    delay = predict_delay(tight, load, 500, 500, 50)
    assert delay.wait_ms == pytest.approx(400 / 800 * 200 / 2 * 11.0)


def test_a_hosted_instance_does_not_care():
    hosted = StepCurve.fixed(300.0, 20.0)
    for load in (Load(), Load(50, 10, 1e4, 1e5, 1e6)):
        assert predict_delay(hosted, load, 10, 10, 11) == (0.0, 300.0, 20.0, 500.0, 0.0)


def test_a_slow_instance_takes_as_many_times_as_long_but_for_the_request_itself():
    load = Load(n_running=3, prefill_tokens=100, decode_tokens=300, kv_tokens=2000)
    normal = predict_delay(curve(), load, 200, 300, 60)
    load.slowness_ratio = 3.0
    slow = predict_delay(curve(), load, 200, 300, 60)
    assert slow.ttft_ms - 5.0 == pytest.approx(3.0 * (normal.ttft_ms - 5.0))
    assert slow.tpot_ms == pytest.approx(3.0 * normal.tpot_ms)
    assert slow.added_ms == pytest.approx(3.0 * normal.added_ms)


@pytest.mark.parametrize("load", [Load(), Load(n_running=2, decode_tokens=80, kv_tokens=90)])
def test_a_prompt_all_in_the_cache_takes_a_step(load):
    none, one = (predict_delay(curve(), load, f, 10, 10).ttft_ms for f in (0, 1))
    assert none == pytest.approx(one - 0.1)


def test_an_answer_of_one_token_has_no_steps_after_the_first():
    delay = predict_delay(curve(), Load(n_running=2, decode_tokens=100, kv_tokens=50), 10, 10, 1)
    assert delay.e2e_ms == delay.ttft_ms


LOADS = st.builds(
    Load,
    n_running=st.floats(0, 20),
    n_waiting=st.floats(0, 20),
    prefill_tokens=st.floats(0, 1e5),
    decode_tokens=st.floats(0, 1e5),
    kv_tokens=st.floats(0, 2e4),
    slowness_ratio=st.floats(0.2, 5),
    usual_running=st.floats(0, 40),
    prefill_ratio=st.floats(0, 1),
)


@settings(derandomize=True)
@given(LOADS, st.floats(0, 2e4), st.floats(0, 3000))
def test_nothing_is_ever_negative_or_endless(load, tokens, output):
    delay = predict_delay(curve(), load, tokens, tokens, output)
    assert all(math.isfinite(each) and each >= 0.0 for each in delay)
    assert delay.wait_ms <= delay.ttft_ms <= delay.e2e_ms


def spelled_out(c, load, f, p, o):
    """The lines of the program in delay.py."""
    S, C, B, D, g = (c.max_num_seqs, c.kv_capacity_tokens, c.max_num_batched_tokens,
                     c.prompt_token_ms, c.step_ms)  # fmt: skip
    R, W, P, L, K = (load.n_running, load.n_waiting, load.prefill_tokens, load.decode_tokens,
                     load.kv_tokens)  # fmt: skip
    U, u, there = load.usual_running, min(load.prefill_ratio, 0.9), R + W
    if there < 0.01:
        wait, x, r, h = 0.0, p, 1.0, there
        ttft = max(math.ceil(f / B), 1) * g(0, 0) + D * f
    else:
        x, r, h = (K + P) / there, max(L / there, 1.0), there
        R = max(R, 1.0)
        j = there + 1 - S
        if K + P + p > C:
            j = max(j, (K + P + p - C) / max(K / R - r, K / (4 * R), 1.0))
        j = max(j, 0.0)
        together = f + (P if j == 0 else 0)
        b = max(math.ceil(together / (B - R)), 1) if B - R > 1 else max(together, 1)
        wait = j * r / R * g(R, K) + D * P if j > 0 else 0.0
        ttft = (0.5 + j * r / R + b) * g(R, K) + D * (P + f)
        h = R - 1 if j > 0 else there
    later = max(o - 1, 0.0)
    q = (1 - math.exp(-later / r)) * r / later if later else 1.0
    n = 1 + min(S - 1, h * q + U * (1 - q))
    k_without = min(C, (n - 1) * (x + q * later / 2))
    k = k_without + p + later / 2
    tpot = g(n, k) / (1 - u)
    longer = max(g(n, k) - g(n - 1, k_without), 0.0)
    added = h * D * f + (n - 1) * later * longer
    slow = load.slowness_ratio
    e2e = c.request_ms + slow * (ttft + later * tpot)
    return wait * slow, c.request_ms + ttft * slow, tpot * slow, e2e, added * slow


@settings(derandomize=True, max_examples=120)
@given(
    LOADS,
    st.sampled_from([0.0, 0.004, 1.0]),
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.integers(0, 800),
    st.sampled_from([4, 12, 512]),
)
def test_against_the_program_spelled_out(load, size, fresh, cached, output, budget):
    load.n_running, load.n_waiting = load.n_running * size, load.n_waiting * size
    steps = curve(max_num_batched_tokens=budget)
    found = predict_delay(steps, load, fresh, fresh + cached, output)
    expected = spelled_out(steps, load, fresh, fresh + cached, output)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_prefills_that_would_take_all_the_time_leave_a_tenth_of_it():
    usual, full = (predict_delay(curve(), Load(prefill_ratio=u), 9, 9, 9) for u in (0.0, 1.0))
    assert full.tpot_ms == pytest.approx(10.0 * usual.tpot_ms)


@settings(derandomize=True)
@given(LOADS, st.floats(1, 5000), st.floats(2, 1000), st.floats(1, 3000))
def test_more_to_do_ahead_takes_no_less_time(load, tokens, output, more):
    before = predict_delay(curve(), load, tokens, tokens, output)
    load.prefill_tokens += more
    after = predict_delay(curve(), load, tokens, tokens, output)
    assert after.ttft_ms >= before.ttft_ms - 1e-6
