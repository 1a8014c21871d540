"""What is measured: work counted right, memory respected, buffers that leave no cache warm."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.profile.device.plan import (
    DecodeAttention,
    Gemm,
    Launch,
    PrefillAttention,
    Stream,
    n_copies,
    sizes_for,
    trials,
)

GIB = 2.0**30
EVERY = [(on_gpu, quick) for on_gpu in (False, True) for quick in (False, True)]


def test_work_by_hand():
    assert Gemm("bfloat16", 3, 5, 7).n_flop == 2 * 3 * 5 * 7
    assert Gemm("bfloat16", 3, 5, 7).n_bytes == 2 * (5 * 7 + 3 * 5 + 3 * 7)
    assert Gemm("fp8", 3, 5, 7).n_bytes == 5 * 7 + 3 * 5 + 3 * 7
    assert (Stream(False, 100).n_bytes, Stream(True, 100).n_bytes) == (200, 300)
    cache = DecodeAttention("fp16", 3, 8, 4, 128, 1000)
    assert cache.n_streams == 24
    assert cache.n_bytes == 3 * 1000 * 2 * 8 * 128 * 2  # sequences, tokens, K and V of 8 heads
    # Queries at 1, 2, ... look at 1, 2, ... keys: half a square, two products of d each.
    prefill = PrefillAttention("fp16", 4, 128, 1000)
    exact = 4 * 4 * 128 * sum(range(1, 1001))
    assert prefill.n_flop == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize(("on_gpu", "quick"), EVERY)
def test_every_kind_is_measured(on_gpu, quick):
    planned = list(trials(sizes_for(on_gpu, quick), on_gpu, 64 * GIB))
    assert len(set(planned)) == len(planned)
    kinds = {trial.kind for trial in planned}
    wanted = {"launch", "memory copy", "memory triad", "matrix product", "decode attention"}
    assert kinds - {"launch in a graph"} == wanted | {"prefill attention"}
    assert (Launch(by_graph=True) in planned) == on_gpu


def test_quick_is_a_part_in_work():
    for on_gpu in (False, True):
        assert len(list(trials(sizes_for(on_gpu, True), on_gpu, 64 * GIB))) < len(
            list(trials(sizes_for(on_gpu, False), on_gpu, 64 * GIB))
        )


def test_decode_batches_of_an_accelerator_reach_from_1_to_64_rows():
    for quick in (False, True):
        assert {1, 8, 64} <= set(sizes_for(True, quick).n_rows)
    assert sizes_for(True, False).precisions == ("bfloat16", "fp16", "fp8")


@settings(derandomize=True, deadline=None, max_examples=50)
@given(free_gib=st.floats(0.5, 200), cold_mib=st.floats(1, 1000))
def test_no_trial_takes_more_memory_than_is_free(free_gib, cold_mib):
    free, cold = free_gib * GIB, cold_mib * 2**20
    for trial in trials(sizes_for(True, False), True, free):
        if isinstance(trial, Launch):
            continue
        copies = n_copies(trial, cold, free)
        buffers = 3 * trial.n_buffer_bytes if isinstance(trial, Stream) else trial.n_bytes * copies
        if not isinstance(trial, Gemm):
            assert buffers <= free
        assert copies >= 1
        cold_enough = copies * trial.n_bytes >= cold
        assert cold_enough or (copies + 1) * trial.n_bytes > free / 2


def test_a_large_buffer_needs_no_second():
    assert n_copies(Stream(False, 2**30), 200 * 2**20, 64 * GIB) == 1
    assert n_copies(Gemm("bfloat16", 1, 4096, 14336), 200 * 2**20, 64 * GIB) == 2
