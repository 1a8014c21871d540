"""/metrics pages of four engines, recorded ones and the names that the others document."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.metrics_page import EngineState, read_page, read_ranks

PAGES = Path(__file__).parent / "fixtures" / "metrics"

SGLANG = """
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 12.0
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="1"} 12.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="0"} 3.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="1"} 3.0
sglang:max_total_num_tokens{engine_type="unified",model_name="m",tp_rank="0"} 471258.0
sglang:max_total_num_tokens{engine_type="unified",model_name="m",tp_rank="1"} 471258.0
sglang:num_retracted_requests_total{model_name="m",tp_rank="0"} 2.0
sglang:token_usage{model_name="m",tp_rank="0"} 0.28
"""
TGI = """
tgi_batch_current_size 7
tgi_queue_size 2
tgi_request_count{} 99
"""


def page(name: str) -> str:
    return (PAGES / name).read_text("utf-8")


def test_vllm_as_recorded():
    # 8192 blocks of 128 tokens
    assert read_page(page("vllm.txt")) == EngineState("vllm", 1_048_576, 0.0, 0.0, 0.0, 0.0)


def test_vllm_under_load():
    text = page("vllm.txt")
    for name, value in {"running": "4.0", "waiting": "3.0"}.items():
        labels = '{engine="0",model_name="tiny"}'
        old = f"vllm:num_requests_{name}{labels} 0.0"
        assert old in text
        text = text.replace(old, f"vllm:num_requests_{name}{labels} {value}")
    state = read_page(text)
    assert (state.n_running, state.n_waiting) == (4.0, 3.0)


def test_vllm_of_older_versions_names_blocks_only():
    text = page("vllm.txt").replace('kv_cache_size_tokens="1048576"', 'is="None"')
    assert read_page(text).kv_capacity_tokens == 1_048_576
    assert read_page(text.replace('num_gpu_blocks="8192"', 'x="1"')).kv_capacity_tokens is None


def test_engines_of_one_server_add_up():
    lines = [line for line in page("vllm.txt").splitlines() if not line.startswith("#")]
    two = "\n".join([*lines, *(line.replace('engine="0"', 'engine="1"') for line in lines)])
    assert read_page(two).kv_capacity_tokens == 2 * 1_048_576
    busy = two.replace('running{engine="1",model_name="tiny"} 0.0',
                       'running{engine="1",model_name="tiny"} 5')  # fmt: skip
    assert read_page(busy).n_running == 5


def test_llamacpp_as_recorded():
    text = page("llamacpp.txt")
    assert read_page(text) == EngineState("llama.cpp", None, None, 0.0, 0.0, None)
    busy = text.replace("llamacpp:requests_deferred 0", "llamacpp:requests_deferred 4")
    assert read_page(busy).n_waiting == 4


def test_ranks_of_one_engine_count_once():
    assert read_page(SGLANG) == EngineState("sglang", 471_258, 0.28, 12.0, 3.0, 2.0)


def test_data_parallel_engines_of_vllm_one_by_one():
    lines = [line for line in page("vllm.txt").splitlines() if not line.startswith("#")]
    two = "\n".join([*lines, *(line.replace('engine="0"', 'engine="11"') for line in lines)])
    busy = two.replace('running{engine="11",model_name="tiny"} 0.0',
                       'running{engine="11",model_name="tiny"} 5')  # fmt: skip
    assert read_ranks(busy) == {
        0: EngineState("vllm", 1_048_576, 0.0, 0.0, 0.0, 0.0),
        11: EngineState("vllm", 1_048_576, 0.0, 5.0, 0.0, 0.0),
    }


def test_data_parallel_engines_of_sglang_one_by_one():
    ranks = SGLANG + SGLANG.replace('tp_rank="', 'dp_rank="1",tp_rank="').replace(" 12.0", " 7")
    state = EngineState("sglang", 471_258, 0.28, 7.0, 3.0, 2.0)
    assert read_ranks(ranks) == {1: state}
    assert read_page(ranks).n_running == 19.0


@pytest.mark.parametrize("text", ["", TGI, SGLANG, page("llamacpp.txt"), "x 1\n"])
def test_pages_that_tell_no_engines_apart(text):
    assert read_ranks(text) == {}


@pytest.mark.parametrize("label", ["x", "", "-1", "²", "9" * 40, "1.5"])
def test_an_engine_without_a_number_is_none_of_them(label):
    assert read_ranks(f'vllm:num_requests_running{{engine="{label}"}} 3') == {}


def test_names_that_only_begin_alike_are_other_figures():
    text = 'vllm:num_requests_waiting_by_reason{engine="0"} 9\nvllm:num_requests_waiting 2'
    assert read_page(text).n_waiting == 2.0


def test_tgi():
    assert read_page(TGI) == EngineState("tgi", None, None, 7.0, 2.0, None)


@pytest.mark.parametrize("text", ["", "not found", "python_info 1\n", "<html>vllm: 3</html>"])
def test_other_pages_are_no_engine(text):
    assert read_page(text) is None


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "x", "1e999"])
def test_figures_that_are_none_are_left_out(value):
    state = read_page(f"tgi_queue_size {value}\ntgi_batch_current_size 1 1395066363000\n")
    assert (state.n_waiting, state.n_running) == (None, 1.0)


@settings(derandomize=True, max_examples=200)
@given(st.text(max_size=200), st.sampled_from(["", page("vllm.txt"), SGLANG]))
def test_no_text_is_too_strange(text, before):
    state = read_page(f"{before}\n{text}")
    assert state is None or state.engine in ("vllm", "sglang", "llama.cpp", "tgi")
    assert all(each.engine == state.engine for each in read_ranks(f"{before}\n{text}").values())
