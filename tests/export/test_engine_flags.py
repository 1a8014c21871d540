from __future__ import annotations

import re
from dataclasses import replace

import pytest
from made_fleets import demo_fleet, sglang_fleet, spanning_fleet

from planner.export.engine_flags import (
    container_args,
    environment,
    node_args,
    serve_command,
    sglang_args,
    static_memory_ratio,
    vllm_args,
    vllm_flags,
)
from planner.export.fleet import Engine

BIG = "llama-3.1-70b-h100-tp4"


@pytest.fixture
def big() -> Engine:
    engine = demo_fleet().engine(BIG)
    assert engine is not None
    return engine


def value(args: list[str], flag: str) -> str | None:
    """What stands behind a flag; None where it is not said."""
    return args[args.index(flag) + 1] if flag in args else None


def test_vllm_is_told_what_the_plan_counts_on(big):
    args = vllm_args(big)
    assert args[0] == "meta-llama/Llama-3.1-70B-Instruct"
    told = {
        "--tensor-parallel-size": "4",
        "--max-num-seqs": "512",
        "--max-num-batched-tokens": "8192",
        "--max-model-len": "131072",
        "--gpu-memory-utilization": "0.9",
        "--dtype": "bfloat16",
        "--kv-cache-dtype": "auto",
        "--revision": "main",
        "--host": "0.0.0.0",
        "--port": "8000",
    }
    assert {flag: value(args, flag) for flag in told} == told


def test_vllm_answers_to_the_classes_that_come_to_it(big):
    args = vllm_args(big)
    names = args[args.index("--served-model-name") + 1 : args.index("--host")]
    assert names == ["llama-3.1-70b", "gsm", "crux", "math-l5"]


def test_what_neither_the_plan_nor_a_person_says_is_left_to_the_engine(big):
    bare = replace(
        big,
        revision=None,
        max_num_seqs=None,
        max_num_batched_tokens=None,
        max_model_len=None,
        weight_precision=None,
    )
    flags = {arg for arg in vllm_flags(bare) if arg.startswith("--")}
    assert flags == {"--tensor-parallel-size", "--kv-cache-dtype", "--gpu-memory-utilization"}


def test_parallelism_of_one_is_not_worth_a_flag(big):
    assert value(vllm_args(big), "--pipeline-parallel-size") is None
    wide = replace(big, pipeline_parallel=2, data_parallel=4)
    assert value(vllm_args(wide), "--pipeline-parallel-size") == "2"
    assert value(vllm_args(wide), "--data-parallel-size") == "4"


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("bfloat16", "bfloat16"),
        ("fp16", "float16"),
        ("fp32", "float32"),
        ("fp8", None),
        (None, None),
    ],
)
def test_the_precision_of_quantised_weights_is_their_own_business(big, precision, dtype):
    engine = replace(big, weight_precision=precision)
    assert value(vllm_args(engine), "--dtype") == dtype
    assert value(sglang_args(engine), "--dtype") == dtype
    assert value(vllm_args(engine), "--quantization") is None


def test_weights_are_quantised_where_a_person_says_so(big):
    engine = replace(big, weight_precision="fp8", quantization="fp8")
    assert value(vllm_args(engine), "--quantization") == "fp8"
    assert value(sglang_args(engine), "--quantization") == "fp8"


def test_a_cache_in_fp8_is_said_in_the_words_of_each_engine(big):
    engine = replace(big, kv_precision="fp8")
    assert value(vllm_args(engine), "--kv-cache-dtype") == "fp8"
    assert value(sglang_args(engine), "--kv-cache-dtype") == "fp8_e4m3"


def test_prefix_caching_is_asked_for_only_where_the_plan_counts_on_it(big):
    assert "--enable-prefix-caching" in vllm_args(replace(big, prefix_caching=True))
    assert not any("prefix-caching" in arg for arg in vllm_args(big))


def test_further_words_come_last_so_that_they_win(big):
    engine = replace(big, extra_args=("--max-num-seqs", "7"), trust_remote_code=True)
    assert vllm_args(engine)[-2:] == ["--max-num-seqs", "7"] == sglang_args(engine)[-2:]
    assert "--trust-remote-code" in vllm_args(engine) and "--trust-remote-code" in sglang_args(
        engine
    )


def test_sglang_is_told_the_same_in_its_own_words(big):
    args = sglang_args(big)
    told = {
        "--model-path": "meta-llama/Llama-3.1-70B-Instruct",
        "--served-model-name": "llama-3.1-70b",
        "--tp-size": "4",
        "--max-running-requests": "512",
        "--chunked-prefill-size": "8192",
        "--context-length": "131072",
        "--mem-fraction-static": "0.8875",  # 0.9 of 80 GiB, less 1 GiB for activations
    }
    assert {flag: value(args, flag) for flag in told} == told


def test_memory_of_weights_and_cache_is_what_the_plan_reckons_with(big):
    half = replace(big, gpu_memory_ratio=0.45, gpu_memory_gib=40.0)
    assert static_memory_ratio(half) == pytest.approx(0.45 - 1 / 40)


def test_the_command_is_that_of_the_engine(big):
    assert serve_command(big)[:2] == ["vllm", "serve"]
    other = sglang_fleet().engines[0]
    assert serve_command(other)[:3] == ["python3", "-m", "sglang.launch_server"]
    for engine in (big, other):
        entrypoint, args = container_args(engine)
        assert [*entrypoint, *args] == serve_command(engine)
        assert entrypoint[-1] in ("serve", "sglang.launch_server")  # the first word behind: a path


def test_no_word_is_empty_and_no_number_has_an_exponent(big):
    for engine in (*demo_fleet().engines, *sglang_fleet().engines):
        words = serve_command(engine)
        assert all(words) and not any(re.fullmatch(r"[\d.]+e[-+]?\d+", word) for word in words)


def test_the_machines_of_one_replica_find_each_other():
    engine = spanning_fleet().engines[0]
    assert node_args(engine, 2, 0, "first") == [
        "--nnodes",
        "2",
        "--node-rank",
        "0",
        "--master-addr",
        "first",
    ]
    assert node_args(engine, 2, 1, "first")[-1] == "--headless"
    other = replace(engine, engine="sglang")
    assert node_args(other, 2, 1, "first")[-2:] == ["--dist-init-addr", "first:29500"]
    assert node_args(demo_fleet().engines[0], 1, 0, "first") == []


def test_a_part_of_a_gpu_is_told_to_mps_and_a_person_may_say_otherwise(big):
    assert environment(big) == {}
    half = replace(big, gpu_compute_ratio=0.5)
    assert environment(half) == {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"}
    own = replace(half, env={"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "60"})
    assert environment(own) == {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "60"}
