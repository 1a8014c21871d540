from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from made_fleets import (
    FLEETS,
    data_parallel_fleet,
    demo_fleet,
    shared_fleet,
    spanning_fleet,
    with_first,
)
from served import read_router, write

from planner.errors import InputError
from planner.export.engine_flags import vllm_flags
from planner.export.fleet import Fleet
from planner.export.ray_serve import engine_kwargs
from planner.export.targets import target_of


def document(fleet: Fleet) -> dict:
    texts = {file.path: file.text for file in target_of("ray-serve").files(fleet)}
    return yaml.safe_load(texts["serve.yaml"])


def config_of(application: dict) -> dict:
    args = application["args"]
    return args["llm_config"] if "llm_config" in args else args["llm_configs"][0]


def test_every_pool_is_an_application_of_its_own():
    fleet = demo_fleet()
    applications = document(fleet)["applications"]
    assert [a["name"] for a in applications] == [e.dns_name for e in fleet.engines]
    for application, engine in zip(applications, fleet.engines, strict=True):
        config = config_of(application)
        assert application["route_prefix"] == f"/{engine.dns_name}"
        assert config["model_loading_config"]["model_source"] == engine.weights
        assert config["deployment_config"]["num_replicas"] == engine.replicas
        assert config["accelerator_type"] == engine.ray_gpu


def test_vllm_hears_the_same_as_on_its_command_line():
    for engine in demo_fleet().engines:
        kwargs = engine_kwargs(engine)
        flags = vllm_flags(engine)
        said = {f[2:].replace("-", "_"): v for f, v in zip(flags[::2], flags[1::2], strict=True)}
        assert {key: str(value) for key, value in kwargs.items()} == said
        assert isinstance(kwargs["max_num_seqs"], int)
        assert isinstance(kwargs["gpu_memory_utilization"], float)


@pytest.mark.parametrize(
    ("words", "kwargs"),
    [
        (("--enforce-eager",), {"enforce_eager": True}),
        (("--no-enable-prefix-caching",), {"enable_prefix_caching": False}),
        (("--seed=7",), {"seed": 7}),
        (("--hf-overrides", '{"a": [1]}'), {"hf_overrides": {"a": [1]}}),
        (("--revision", "3324e394"), {"revision": "3324e394"}),
        (("--load-format", "NaN"), {"load_format": "NaN"}),
        (("--cudagraph-capture-sizes", "1", "2", "4"), {"cudagraph_capture_sizes": [1, 2, 4]}),
        (("--seed", "-1"), {"seed": -1}),
    ],
)
def test_further_words_become_what_they_mean(words, kwargs):
    engine = replace(demo_fleet().engines[0], extra_args=words)
    found = engine_kwargs(engine)
    assert kwargs.items() <= found.items()
    assert all(type(found[key]) is type(value) for key, value in kwargs.items())


@pytest.mark.parametrize("words", [("--enforce-eager", "-O3"), ("-tp", "2"), ("--a.b", "1")])
def test_a_word_that_only_a_command_line_knows_is_refused(words):
    """As the value of the flag before it, -O3 would be lost."""
    engine = replace(demo_fleet().engines[0], extra_args=words)
    with pytest.raises(InputError, match=f"{engine.pool}.extra_args: Ray starts vLLM by the long"):
        engine_kwargs(engine)


def test_its_environment_goes_to_the_replicas():
    fleet = with_first(demo_fleet(), env={"A_B": "c"}, gpu_compute_ratio=0.5)
    first, second, *_ = document(fleet)["applications"]
    assert config_of(first)["runtime_env"] == {
        "env_vars": {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50", "A_B": "c"}
    }
    assert "runtime_env" not in config_of(second)


def test_a_pool_of_another_engine_is_told():
    for fleet, is_told in ((demo_fleet(), False), (FLEETS["sglang"](), True)):
        text = target_of("ray-serve").files(fleet)[0].text
        assert ("is started with vLLM: Ray's LLM engine" in " ".join(text.split())) == is_told


def test_ranks_of_a_replica_have_a_builder_of_their_own():
    application = document(data_parallel_fleet())["applications"][0]
    assert application["import_path"] == "ray.serve.llm:build_dp_openai_app"
    assert config_of(application)["engine_kwargs"]["data_parallel_size"] == 2


def test_a_replica_lies_on_one_node_where_it_fits_there():
    def strategy(fleet: Fleet) -> str:
        return config_of(document(fleet)["applications"][0])["placement_group_config"]["strategy"]

    assert strategy(demo_fleet()) == "STRICT_PACK"
    assert strategy(spanning_fleet()) == "PACK"
    assert strategy(data_parallel_fleet()) == "STRICT_PACK"  # each of its ranks


def test_a_shared_gpu_is_taken_in_part():
    config = config_of(document(shared_fleet())["applications"][-1])
    assert config["placement_group_config"]["bundle_per_worker"]["GPU"] == 0.5


def test_a_gpu_without_a_name_is_told():
    fleet = with_first(demo_fleet(), ray_gpu=None)
    assert "accelerator_type" not in config_of(document(fleet)["applications"][0])
    texts = [file.text for file in target_of("ray-serve").files(fleet)]
    assert "Ray's name for b200-sxm-180g is not known" in " ".join(
        texts[0].replace("# ", "").split()
    )


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_the_router_asks_each_application_by_its_path(name, tmp_path):
    fleet = FLEETS[name]()
    folder = write(target_of("ray-serve").files(fleet), tmp_path)
    read = read_router(folder / "plan", fleet)
    port = document(fleet)["http_options"]["port"]
    for engine in fleet.engines:
        (server,) = read.endpoints[engine.pool]  # Ray spreads over the replicas
        assert server.url == f"http://ray-serve:{port}/{engine.dns_name}"
        assert server.served_model_name == engine.pool
        assert server.data_parallel_ranks == 1


def test_it_says_that_nobody_is_asked_for_a_key(tmp_path):
    """Ray's ingress knows none, so the router must not be told to send one."""
    fleet = with_first(demo_fleet(), api_key_env="LLAMA_KEY")
    files = target_of("ray-serve").files(fleet)
    text = " ".join(files[0].text.replace("# ", "").split())
    assert "LLAMA_KEY of endpoints.yaml has no use here" in text
    assert "Ray asks for no key: let nobody but the router reach port 8001" in text
    read = read_router(write(files, tmp_path) / "plan", fleet)
    assert {s.api_key_env for servers in read.endpoints.values() for s in servers} == {None}
