"""Kernels do what the plan says: operations counted by torch, attention checked term by term."""

import pytest

from planner.profile.device.kernels import attend, build, launches, random
from planner.profile.device.plan import DecodeAttention, Gemm, PrefillAttention, Stream

torch = pytest.importorskip("torch")
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402


@pytest.mark.parametrize("precision", ["fp32", "bfloat16", "fp16"])
def test_products_do_the_operations_that_are_counted(precision):
    trial = Gemm(precision, 3, 64, 32)
    work = build(trial, "cpu", 4)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        work.run()
    assert work.n_calls == 4
    assert counter.get_total_flops() == 4 * trial.n_flop


def test_fp8_products_run():
    build(Gemm("fp8", 16, 64, 32), "cpu", 1).run()


def test_prefill_counts_half_of_the_square():
    trial = PrefillAttention("fp32", 2, 16, 64)
    work = build(trial, "cpu", 1)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work.run()
    assert counter.get_total_flops() == 2 * trial.n_flop  # plain products do the whole square


@pytest.mark.parametrize("triad", [False, True])
def test_streams_run(triad):
    assert build(Stream(triad, 4096), "cpu", 2).n_calls == 2
    build(Stream(triad, 4096), "cpu", 1).run()


def test_decode_attention_against_softmax_by_hand():
    """Queries that share a KV head give what each gives alone."""
    sequences, heads, group, dim, context = 2, 3, 4, 8, 11
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(sequences, heads, group, dim, generator=generator)
    keys, values = (torch.randn(sequences, heads, context, dim, generator=generator) for _ in "kv")
    found = attend(query, keys, values)
    for s in range(sequences):
        for h in range(heads):
            for g in range(group):
                weight = torch.softmax(keys[s, h] @ query[s, h, g] / dim**0.5, dim=0)
                torch.testing.assert_close(found[s, h, g], weight @ values[s, h])
    build(DecodeAttention("fp32", sequences, heads, group, dim, context), "cpu", 1).run()


def test_a_launch_is_one_small_operation():
    work = launches("cpu")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work.run()
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["aten::add_"] == work.n_calls


def test_numbers_are_the_same_every_time_and_no_zeros():
    first, second = (random((4, 64), "fp8", "cpu").float() for _ in range(2))
    assert torch.equal(first, second) and first.std() > 0.5
