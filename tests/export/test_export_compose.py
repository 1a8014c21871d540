from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_fleets import (
    FLEETS,
    cascade_fleet,
    demo_fleet,
    hosted_fleet,
    odd_names_fleet,
    small_fleet,
    spanning_fleet,
    with_first,
)
from served import read_router, write

from planner.export.engine_flags import serve_command
from planner.export.fleet import Fleet
from planner.export.targets import target_of

# The compose model, as far as these files use it: everything else in a service is a slip.
SERVICE_KEYS = {
    "build", "command", "deploy", "entrypoint", "environment", "extra_hosts", "healthcheck",
    "image", "labels", "network_mode", "ports", "restart", "shm_size", "stop_grace_period",
    "ulimits", "user", "volumes",
}  # fmt: skip


def files_of(fleet: Fleet) -> dict[str, str]:
    return {file.path: file.text for file in target_of("compose").files(fleet)}


def documents(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Every compose.yaml by its path."""
    texts = files_of(fleet)
    return {p: yaml.safe_load(t) for p, t in texts.items() if p.endswith("compose.yaml")}


def engines_in(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {n: s for n, s in document["services"].items() if "rb.pool" in s.get("labels", {})}


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_every_replica_is_a_service_with_gpus_that_no_other_has(name):
    fleet = FLEETS[name]()
    counted: Counter[str] = Counter()
    for path, document in documents(fleet).items():
        assert set(document) <= {"name", "services", "volumes"}
        taken: Counter[str] = Counter()
        for service in document["services"].values():
            assert set(service) <= SERVICE_KEYS, path
        for service in engines_in(document).values():
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert device["capabilities"] == ["gpu"] and "count" not in device
            pool = service["labels"]["rb.pool"]
            counted[pool] += len(device["device_ids"])
            engine = fleet.engine(pool)
            assert engine is not None
            if engine.gpu_compute_ratio is None:
                taken.update(device["device_ids"])
        assert all(n == 1 for n in taken.values()), path
    assert counted == {e.pool: e.n_gpus for e in fleet.engines}


def test_a_plan_of_one_machine_is_one_file_with_the_router():
    fleet = small_fleet()
    (path,) = documents(fleet)
    assert path == "compose.yaml"
    services = documents(fleet)[path]["services"]
    assert list(services) == [
        "router",
        "llama-3-1-70b-h100-tp4-0",
        "llama-3-1-8b-h100-0",
        "llama-3-1-8b-h100-1",
    ]
    assert not any("ports" in s for n, s in services.items() if n != "router")


def test_a_plan_of_several_machines_is_a_file_for_each_and_one_for_the_router(tmp_path):
    fleet = demo_fleet()
    assert sorted(documents(fleet)) == [
        "hosts/b200-sxm-180g-0/compose.yaml",
        "hosts/h100-sxm-80g-0/compose.yaml",
        "hosts/h100-sxm-80g-1/compose.yaml",
        "router/compose.yaml",
    ]
    router = documents(fleet)["router/compose.yaml"]["services"]["router"]
    asked = {re.match(r"\$\{(\w+):\?", text)[1] for text in router["extra_hosts"].values()}  # type: ignore[index]
    example = files_of(fleet)["router/.env.example"]
    assert asked <= {line.partition("=")[0] for line in example.splitlines()}
    # Every address that the router asks leads to a machine, and to a port that it publishes.
    read = read_router(write(target_of("compose").files(fleet), tmp_path) / "router/plan", fleet)
    published = {
        f"http://{path.split('/')[1]}:{port.split(':')[-2]}"
        for path, document in documents(fleet).items()
        for service in engines_in(document).values()
        for port in service["ports"]
    }
    assert {s.url for servers in read.endpoints.values() for s in servers} == published
    assert set(router["extra_hosts"]) == {url[7:].partition(":")[0] for url in published}


def test_the_router_of_one_machine_asks_its_services(tmp_path):
    fleet = small_fleet()
    folder = write(target_of("compose").files(fleet), tmp_path)
    read = read_router(folder / "plan", fleet)
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for servers in read.endpoints.values():
        for server in servers:
            service = services[server.url[7:].partition(":")[0]]
            command = service["command"]
            assert server.url.endswith(f":{command[command.index('--port') + 1]}")
            assert server.served_model_name in command
    router = services["router"]
    assert "extra_hosts" not in router
    assert router["volumes"] == ["./plan:/plan:ro"] and router["command"][:2] == ["serve", "/plan"]


def test_a_gpu_of_amd_is_a_device_of_the_container_device_interface():
    fleet = with_first(demo_fleet(), gpu_resource="amd.com/gpu", maker="amd")
    for document in documents(fleet).values():
        for service in engines_in(document).values():
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            is_amd = service["labels"]["rb.pool"] == fleet.engines[0].pool
            assert device["driver"] == ("cdi" if is_amd else "nvidia")
            assert all(g.startswith("amd.com/gpu=") == is_amd for g in device["device_ids"])


def test_the_engine_hears_the_plan_s_words():
    fleet = odd_names_fleet()
    for document in documents(fleet).values():
        for service in engines_in(document).values():
            engine = fleet.engine(service["labels"]["rb.pool"])
            assert engine is not None
            words = [w.replace("$$", "$") for w in (*service["entrypoint"], *service["command"])]
            assert words == serve_command(engine)
            said = {k: v.replace("$$", "$") for k, v in service["environment"].items()}
            assert engine.env.items() <= said.items()
            if "HF_HOME" not in engine.env:  # the volume lies where the engine looks for weights
                assert f"huggingface:{said['HF_HOME']}" in service["volumes"]


def test_no_text_of_the_plan_is_a_variable_to_compose():
    """A lone $ would be replaced, or refused."""
    for path, text in files_of(odd_names_fleet()).items():
        if path.endswith("compose.yaml"):
            body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
            rest = re.sub(r"\$\$|\$\{\w+(:[-?][^}]*)?\}", "", body)
            assert "$" not in rest, path


def test_a_replica_is_healthy_when_it_answers_and_has_time_to_load():
    fleet = demo_fleet()
    for document in documents(fleet).values():
        for service in engines_in(document).values():
            engine = fleet.engine(service["labels"]["rb.pool"])
            assert engine is not None
            check = service["healthcheck"]
            assert "/health" in check["test"][-1]
            assert check["start_period"] == f"{engine.startup_s}s"
            assert service["shm_size"] == f"{engine.shm_gib}gb"
            assert service["restart"] == "unless-stopped"
            assert service["ulimits"] == {"memlock": -1, "stack": 64 * 2**20}


def test_a_token_is_named_and_never_held():
    texts = files_of(demo_fleet())
    for document in documents(demo_fleet()).values():
        for service in engines_in(document).values():
            assert service["environment"]["HF_TOKEN"] == "${HF_TOKEN:-}"
    assert "HF_TOKEN=\n" in texts["hosts/h100-sxm-80g-0/.env.example"]


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_the_example_of_env_has_every_variable_and_no_other(name):
    """RB, what pip installs, is told of in the Dockerfile."""
    texts = files_of(FLEETS[name]())
    for path, text in texts.items():
        if path.endswith("compose.yaml"):
            read = {v for v in re.findall(r"(?<!\$)\$\{(\w+)", text) if v != "RB"}
            example = texts[path.replace("compose.yaml", ".env.example")]
            lines = [line for line in example.splitlines() if not line.startswith("#")]
            assert {line.partition("=")[0] for line in lines} == read
            assert all(line.endswith("=") for line in lines)


def test_engines_on_several_machines_listen_where_env_says():
    for path, document in documents(demo_fleet()).items():
        for service in engines_in(document).values():
            (port,) = service["ports"]
            assert port.startswith("${LISTEN_ON:-0.0.0.0}:")
        if path.startswith("hosts/"):
            head = " ".join(files_of(demo_fleet())[path].replace("# ", "").split())
            assert "it asks for no key: let nobody but the router reach its port" in head


def test_another_plan_restarts_no_engine_that_stays_as_it_is():
    """Compose makes a container anew as soon as a word of its service differs."""
    fleet = demo_fleet()
    first, *others = fleet.engines
    other = replace(
        fleet,
        plan_hash="0" * 64,
        cost_usd_per_h=1.0,
        engines=(replace(first, replicas=first.replicas - 1), *others),
    )
    before, after = documents(fleet), documents(other)
    assert before["hosts/h100-sxm-80g-0/compose.yaml"] == after["hosts/h100-sxm-80g-0/compose.yaml"]
    path = "hosts/b200-sxm-180g-0/compose.yaml"
    assert before[path]["name"] == after[path]["name"]
    kept = engines_in(after[path])
    assert len(kept) == len(engines_in(before[path])) - 1
    assert kept.items() <= engines_in(before[path]).items()


def test_a_key_of_one_s_own_engines_goes_from_env_to_both_ends(tmp_path):
    for engine, plain in (("vllm", demo_fleet()), ("sglang", FLEETS["sglang"]())):
        fleet = replace(with_first(plain, api_key_env="LLAMA_KEY"), client_key_env="OUR_KEY")
        pool = fleet.engines[0].pool
        said = f"${{LLAMA_KEY:?the key of {pool}}}"
        found = documents(fleet)
        for document in found.values():
            for service in engines_in(document).values():
                asks = service["labels"]["rb.pool"] == pool
                told = service["environment"].get("VLLM_API_KEY")
                assert told == (said if asks and engine == "vllm" else None)
                assert (["--api-key", said] == service["command"][-2:]) == (
                    asks and engine == "sglang"
                )
        router = found["router/compose.yaml"]["services"]["router"]
        assert router["environment"] == {
            "LLAMA_KEY": said,
            "OUR_KEY": "${OUR_KEY:?the key that clients send}",
        }
        at = router["command"].index("--api-key-env")
        assert router["command"][at + 1] == "OUR_KEY"
        folder = write(target_of("compose").files(fleet), tmp_path / engine)
        read = read_router(folder / "router/plan", fleet)
        assert {s.api_key_env for s in read.endpoints[pool]} == {"LLAMA_KEY"}


def test_weights_in_a_folder_of_the_machine_are_there_in_the_container():
    fleet = with_first(demo_fleet(), weights="/data/llama $70b")
    for document in documents(fleet).values():
        for service in engines_in(document).values():
            is_local = service["labels"]["rb.pool"] == fleet.engines[0].pool
            place = "/data/llama $$70b"
            bind = {"type": "bind", "source": place, "target": place, "read_only": True}
            assert service["volumes"][1:] == ([bind] if is_local else [])


def test_the_key_of_a_hosted_pool_is_asked_of_who_starts_the_router(tmp_path):
    fleet = hosted_fleet()
    router = documents(fleet)["router/compose.yaml"]["services"]["router"]
    assert router["environment"] == {
        "PROVIDER_API_KEY": "${PROVIDER_API_KEY:?the key of gpt-hosted}"
    }
    folder = write(target_of("compose").files(fleet), tmp_path)
    (server,) = read_router(folder / "router/plan", fleet).endpoints["gpt-hosted"]
    assert (server.url, server.api_key_env) == ("https://api.example.com/v1", "PROVIDER_API_KEY")
    assert "PROVIDER_API_KEY=\n" in (folder / "router/.env.example").read_text()


def test_the_parts_of_a_replica_over_two_machines_find_each_other():
    fleet = spanning_fleet()
    found = documents(fleet)
    name = f"{fleet.engines[0].dns_name}-0"
    first = found["hosts/b200-sxm-180g-0/compose.yaml"]["services"][name]
    second = found["hosts/b200-sxm-180g-1/compose.yaml"]["services"][name]
    for rank, service in enumerate((first, second)):
        assert service["network_mode"] == "host" and "ports" not in service
        assert "b200-sxm-180g-0" in service["extra_hosts"]
        command = service["command"]
        assert command[command.index("--node-rank") + 1] == str(rank)
    assert "healthcheck" in first and "healthcheck" not in second  # the second one answers nobody


def test_cascades_are_served_by_the_router():
    assert documents(cascade_fleet()) == documents(demo_fleet())


def test_an_image_of_the_router_that_has_a_name_is_not_built():
    fleet = demo_fleet()
    named = {**fleet.images, "rb": "registry.local/rb:7"}
    texts = files_of(Fleet(**{**fleet.__dict__, "images": named}))
    router = yaml.safe_load(texts["router/compose.yaml"])["services"]["router"]
    assert router["image"] == "registry.local/rb:7" and "build" not in router
    assert "router/Dockerfile" not in texts
    built = documents(fleet)["router/compose.yaml"]["services"]["router"]
    assert "build" in built and "router/Dockerfile" in files_of(fleet)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FLEETS))
def test_it_is_what_the_compose_specification_allows(name):
    """The schema comes with the package check-jsonschema."""
    package = find_spec("check_jsonschema")
    if package is None or package.origin is None:
        pytest.skip("needs the schema: pip install check-jsonschema")
    import jsonschema

    place = Path(package.origin).parent / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(place.read_text())
    for document in documents(FLEETS[name]()).values():
        jsonschema.validate(document, schema)


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_a_strict_reader_of_compose_files_knows_every_value(name):
    """Of typed durations, sizes, ports and addresses; the machines' addresses are filled in."""
    compose_spec = pytest.importorskip("compose_spec", reason="pip install compose-spec")
    fleet = FLEETS[name]()
    for path, text in files_of(fleet).items():
        if path.endswith("compose.yaml"):
            filled = re.sub(r"\$\{(\w+_ADDRESS:\?|LISTEN_ON:-)[^}]*\}", "10.0.0.1", text)
            read = compose_spec.PyCompose.from_yaml(filled).to_dict()
            assert list(read["services"]) == list(yaml.safe_load(text)["services"])
            with pytest.raises(ValueError, match="imagine"):
                compose_spec.PyCompose.from_yaml(filled.replace("image:", "imagine:", 1))


def test_writing_it_twice_changes_no_byte(tmp_path):
    first = write(target_of("compose").files(demo_fleet()), tmp_path / "a")
    second = write(target_of("compose").files(demo_fleet()), tmp_path / "b")
    for path in sorted(p for p in first.rglob("*") if p.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()
