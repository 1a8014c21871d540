"""The tables: consistent with themselves and with the closed forms, for any law and mix."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from latency_cases import integral_ms, log_normal_shape, model_of

from planner.latency.moments import ClassMoments, MixMoments
from planner.latency.saturation import Caps, saturation
from planner.latency.steplaw import StepLaw
from planner.spec.base import METRICS
from planner.spec.question import Limit
from planner.spec.workload import RequestShape, ScopedLimit

LAW = StepLaw(8.0, 0.05, 3e-5, 0.03, 0.2, 2.0)
CHAT = log_normal_shape(300, 0.8, 200, 0.8)
LONG = log_normal_shape(2000, 0.5, 60, 0.6)

laws = st.builds(
    StepLaw,
    step_ms=st.floats(0.5, 50),
    sequence_ms=st.floats(0.001, 2),
    context_token_ms=st.floats(0, 1e-3),
    prompt_token_ms=st.floats(0, 0.2),
    root_ms=st.floats(0, 3),
    request_ms=st.floats(0, 20),
)
shapes = st.builds(
    lambda p, o, spread: RequestShape(
        p * np.linspace(0.2, 1.8, 5), np.maximum(o * np.array([1 - spread, 1.0, 1 + spread]), 1.0)
    ),
    p=st.floats(10, 3000),
    o=st.floats(2, 2000),
    spread=st.floats(0, 0.9),
)
quick = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # a table takes long: shrinking would take minutes
    suppress_health_check=[HealthCheck.too_slow],
)


@quick
@given(law=laws, first=shapes, second=shapes, cap=st.integers(1, 300), cv=st.floats(0, 4))
def test_any_table_is_monotone_and_consistent(law, first, second, cap, cv):
    table = model_of(law, cap).tabulate([first, second], np.array([0.3, 0.7]), arrival_cv=cv)
    assert np.all(np.diff(table.loads) > 0) and table.loads[0] == 0
    for metric in METRICS:
        mean, survival = table.mean_ms[metric], table.survival[metric]
        assert np.all(np.isfinite(mean)) and np.all(mean > 0)
        assert np.all(np.diff(mean, axis=1) >= 0)
        assert np.all(np.diff(survival, axis=1) >= 0)
        assert np.all(np.diff(survival, axis=2) <= 0)
        assert survival.min() >= 0 and survival.max() <= 1
        assert np.all(np.diff(table.times_ms[metric]) > 0)
        ratio = integral_ms(table, metric) / mean
        assert ratio.min() >= 0.96
        assert ratio.max() <= 1.04  # the grid: 2.2 % was seen at cv 3.6; 1 % on real mixes


@pytest.mark.parametrize("cap", [1, 8, 64])
def test_answers_of_a_few_tokens_have_a_tpot_survival_with_their_mean(cap):
    # Two tokens are one step, hit by a long prefill or not.
    law = StepLaw(1.0, 1.0, 0.0, 0.125, 0.0, 0.0)
    prompt = np.array([2.0, 6.0, 10.0, 14.0, 18.0])
    for tokens in (2.0, 8.0):
        shape = RequestShape(prompt, np.full(3, tokens))
        table = model_of(law, cap).tabulate([shape], np.ones(1))
        ratio = integral_ms(table, "tpot") / table.mean_ms["tpot"]
        assert ratio.min() >= 1 - 0.01 and ratio.max() <= 1 + 0.01


def test_mean_and_survival_agree_within_one_per_cent():
    table = model_of(LAW, 256).tabulate([CHAT, LONG], np.array([0.8, 0.2]))
    for metric in METRICS:
        ratio = integral_ms(table, metric) / table.mean_ms[metric]
        np.testing.assert_allclose(ratio, 1.0, atol=0.01)


@quick
@given(law=laws, shape=shapes, factor=st.floats(0.01, 100))
def test_a_slower_machine_is_the_same_machine_on_another_clock(law, shape, factor):
    base = model_of(law, 64).tabulate([shape], np.ones(1))
    slow = model_of(law.scaled(factor), 64).tabulate([shape], np.ones(1))
    np.testing.assert_allclose(slow.work_s, factor * base.work_s, rtol=1e-9)
    for metric in METRICS:
        np.testing.assert_allclose(slow.mean_ms[metric], factor * base.mean_ms[metric], rtol=1e-9)
        np.testing.assert_allclose(slow.times_ms[metric], factor * base.times_ms[metric], rtol=1e-6)
        np.testing.assert_allclose(slow.survival[metric], base.survival[metric], atol=1e-5)


@quick
@given(law=laws, shape=shapes, longer=st.floats(1.0, 5.0))
def test_longer_answers_never_stay_shorter(law, shape, longer):
    # Both classes in one mix, so that they meet the same replica.
    other = replace(shape, output_tokens=shape.output_tokens * longer)
    table = model_of(law, 64).tabulate([shape, other], np.array([1.0, 1.0]))
    e2e = table.mean_ms["e2e"]
    assert np.all(e2e[1] >= e2e[0] * (1 - 1e-9))
    assert table.work_s[1] >= table.work_s[0] * (1 - 1e-9)


@quick
@given(
    law=laws,
    first=shapes,
    second=shapes,
    share=st.floats(0.01, 0.99),
    kv_tokens=st.sampled_from([float("inf"), 20_000.0]),
)
def test_the_work_of_the_mix_is_one_at_saturation(law, first, second, share, kv_tokens):
    model = model_of(law, 128, kv_tokens=kv_tokens)
    mix = np.array([share, 1 - share])
    table = model.tabulate([first, second], mix)
    mixed = ClassMoments.of([first, second]).mixed(mix)
    at = saturation(law, mixed, Caps(128, kv_tokens))
    assert float(mix @ table.work_s) == pytest.approx(at.work_ms / 1000, rel=1e-9)
    # The closed loop with n* sequences delivers exactly this rate.
    cycle_ms = mixed.output_tokens * float(law.token_ms(np.array([float(at.n)]), mixed)[0])
    assert at.n / cycle_ms == pytest.approx(1 / at.work_ms, rel=1e-6)


@pytest.mark.parametrize(("step", "each", "context"), [(2, 1, 0), (8, 0.1, 1e-4), (10, 0.5, 0)])
def test_tpot_without_prefill_is_the_closed_form(step, each, context):
    # TPOT = (A + b + C k)/(1 - lam s) with s = (b + C k)(o - 1): exact for processor sharing.
    law = StepLaw(float(step), float(each), context, 0.0, 0.0)
    shape = RequestShape(np.array([300.0]), np.array([400.0]))
    model = model_of(law, 4000)
    table = model.tabulate([shape], np.ones(1))
    own = each + context * 500.0
    linear_ms = own * 399.0
    for k in (0, 3, 6, 9):
        rate_per_ms = table.loads[k] / (1000 * table.work_s[0])
        closed = (step + own) / (1 - rate_per_ms * linear_ms)
        # The request's own share of the step is b (o-1)/o here, hence the tolerance.
        assert table.mean_ms["tpot"][0, k] == pytest.approx(closed, rel=2e-3)


def test_an_idle_replica_is_simple_arithmetic():
    shape = RequestShape(np.array([500.0]), np.array([101.0]))
    law = StepLaw(10.0, 0.5, 0.0, 0.04, 0.0, 3.0)
    table = model_of(law, 64).tabulate([shape], np.ones(1))
    step = 10.0 + 0.5 * 100 / 101
    assert table.mean_ms["tpot"][0, 0] == pytest.approx(step)
    assert table.mean_ms["ttft"][0, 0] == pytest.approx(step + 20.0 + 3.0)
    assert table.mean_ms["e2e"][0, 0] == pytest.approx(step + 23.0 + 100 * step)


def test_limits_are_nodes_and_exceedance_is_read_there():
    limits = [
        ScopedLimit("a", Limit(metric="e2e", statistic="p95", at_most_ms=3210.0)),
        ScopedLimit(None, Limit(metric="ttft", statistic="mean", at_most_ms=77.0)),
        ScopedLimit(None, Limit(metric="tpot", statistic="p99", at_most_ms=1e6)),
    ]
    model = model_of(LAW, 256)
    table = model.tabulate([CHAT, LONG], np.ones(2), limits)
    assert 3210.0 in table.times_ms["e2e"] and 77.0 in table.times_ms["ttft"]
    node = int(np.searchsorted(table.times_ms["e2e"], 3210.0))
    np.testing.assert_allclose(
        table.exceedance("e2e", 3210.0), table.survival["e2e"][:, :, node], rtol=1e-9
    )
    assert table.exceedance("tpot", 1e6).max() == pytest.approx(0.0, abs=1e-9)
    plain = model.tabulate([CHAT, LONG], np.ones(2))
    np.testing.assert_allclose(
        plain.exceedance("e2e", 3210.0), table.exceedance("e2e", 3210.0), atol=0.01
    )


def test_classes_that_may_not_use_the_pool():
    model = model_of(LAW, 256)
    with_gap = model.tabulate([CHAT, None, LONG], np.array([0.5, 0.3, 0.2]))
    without = model.tabulate([CHAT, LONG], np.array([0.5, 0.2]))
    assert np.isnan(with_gap.work_s[1]) and with_gap.mix[1] == 0
    np.testing.assert_allclose(with_gap.work_s[[0, 2]], without.work_s)
    np.testing.assert_allclose(with_gap.mean_ms["e2e"][[0, 2]], without.mean_ms["e2e"])
    assert np.all(with_gap.survival["e2e"][1] == 1.0)
    nobody = model.tabulate([None, None], np.ones(2))
    assert np.all(np.isnan(nobody.work_s)) and np.all(np.isfinite(nobody.mean_ms["e2e"]))


def test_one_token_answers_have_no_tpot_of_their_own():
    one = RequestShape(np.array([300.0]), np.array([1.0]))
    some = RequestShape(np.array([300.0]), np.array([1.0, 1.0, 1.0, 201.0]))
    many = RequestShape(np.array([300.0]), np.array([201.0]))
    table = model_of(LAW, 64).tabulate([one, some, many], np.ones(3))
    np.testing.assert_allclose(table.mean_ms["e2e"][0], table.mean_ms["ttft"][0], rtol=1e-9)
    np.testing.assert_allclose(table.mean_ms["tpot"][1], table.mean_ms["tpot"][2], rtol=1e-9)


def test_bursts_never_help():
    model = model_of(LAW, 24)
    poisson = model.tabulate([CHAT], np.ones(1))
    bursty = model.tabulate([CHAT], np.ones(1), arrival_cv=3.0)
    for metric in ("ttft", "e2e"):
        for load in (0.3, 0.6, 0.9):
            assert bursty.mean_at(metric, load)[0] > poisson.mean_at(metric, load)[0]


def test_a_cached_prefix_saves_prefill_but_not_cache_reads():
    model = model_of(LAW, 256)
    cached = replace(LONG, cached_input_ratio=0.75)
    saved = model.work_s(LONG) - model.work_s(cached)
    assert saved == pytest.approx(LAW.prompt_token_ms * 0.75 * LONG.input_tokens.mean() / 1000)


def test_a_small_cache_limits_the_batch():
    mean_context = MixMoments.of_point(1000.0, 200.0).context_tokens
    shape = RequestShape(np.array([1000.0]), np.array([200.0]))
    free = model_of(LAW, 256)
    tight = model_of(LAW, 256, kv_tokens=8 * mean_context)
    assert tight.closed_loop_rps(shape, 100) == pytest.approx(free.closed_loop_rps(shape, 8))
    assert tight.capacity_rps(shape) < free.capacity_rps(shape) / 3


def test_where_the_cache_binds_long_contexts_pay():
    model = model_of(LAW, 256, kv_tokens=30_000.0)
    short = RequestShape(np.array([100.0]), np.array([200.0]))
    long = RequestShape(np.array([100.0]), np.array([600.0]))
    table = model.tabulate([short, long], np.ones(2))
    # Three times the tokens at twice the context: more than three times the work.
    assert table.work_s[1] > 4 * table.work_s[0]


def test_tabulation_is_fast():
    model = model_of(LAW, 512)
    for n_classes, seconds in ((12, 0.25), (50, 1.0)):
        rows = [log_normal_shape(200 + 40 * c, 0.8, 100 + 20 * c, 0.8) for c in range(n_classes)]
        start = time.process_time()
        model.tabulate(rows, np.ones(n_classes))
        assert time.process_time() - start < seconds
