"""The files of `--to compose`, as Docker Compose itself reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from compose_tool import FAKE, compose_tool, config
from made_fleets import FLEETS, hosted_fleet, with_first
from odd_plans import odd_fleet
from served import write

from planner.export.engine_flags import serve_command
from planner.export.fleet import Engine, Fleet
from planner.export.targets import target_of

pytestmark = pytest.mark.slow
Tool = tuple[list[str], tuple[int, ...]]
UNITS_S = {"h": 3600, "m": 60, "s": 1}
KEYED = "keyed"
MADE = {
    **FLEETS,
    "odd-plan": odd_fleet,
    KEYED: lambda: with_first(hosted_fleet(), api_key_env="LLAMA_KEY"),
    "amd": lambda: with_first(hosted_fleet(), gpu_resource="amd.com/gpu", maker="amd"),
}


READ: dict[str, dict[str, Any]] = {}
"""What was made of a machine's file: fleets have machines in common, and version 1 is slow."""


@pytest.fixture(scope="module")
def tool() -> Tool:
    found = compose_tool()
    if found is None:
        pytest.skip("needs Docker Compose: apt-get install docker-compose")
    return found


def seconds(text: str) -> int:
    return sum(int(n) * UNITS_S[unit] for n, unit in re.findall(r"(\d+)([hms])", text))


def plain(words: list[str]) -> list[str]:
    """Words as a container hears them: config writes every $ twice, for whoever reads it again."""
    return [word.replace("$$", "$") for word in words]


@pytest.mark.parametrize("name", sorted(MADE))
def test_docker_compose_reads_what_is_meant(name: str, tool: Tool, tmp_path: Path) -> None:
    fleet = MADE[name]()
    folder = write(target_of("compose").files(fleet), tmp_path)
    heard: dict[str, int] = {}
    for file in sorted(folder.rglob("compose.yaml")):
        said = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        read = READ.get("\n".join(said)) or config(*tool, file)
        if "hosts" in file.parts:
            READ["\n".join(said)] = read
        for service in read["services"].values():
            engine = fleet.engine(service.get("labels", {}).get("rb.pool", ""))
            if engine is None:
                _is_the_router(service, fleet, file.parent)
            else:
                _is_a_replica(service, engine, is_keyed=name == KEYED)
                heard[engine.pool] = heard.get(engine.pool, 0) + 1
    assert heard == {e.pool: e.replicas * e.n_nodes for e in fleet.engines}


def _is_a_replica(service: dict[str, Any], engine: Engine, *, is_keyed: bool) -> None:
    words = plain([*service["entrypoint"], *service["command"]])
    if engine.n_nodes == 1:
        assert words == serve_command(engine)
    env = {name: plain([value])[0] for name, value in service["environment"].items()}
    assert engine.env.items() <= env.items() and env["HF_TOKEN"] == ""
    assert (env.get("VLLM_API_KEY") == FAKE["_KEY"]) == (
        is_keyed and engine.api_key_env is not None
    )
    assert service["image"] == engine.image
    check = service.get("healthcheck", {"start_period": f"{engine.startup_s}s"})
    assert seconds(check["start_period"]) == engine.startup_s
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    is_amd = engine.maker == "amd"
    assert device["driver"] == ("cdi" if is_amd else "nvidia")
    assert device["capabilities"] == ["gpu"] and "count" not in device
    assert len(device["device_ids"]) == min(engine.gpus_per_replica, engine.gpus_per_node)
    assert all(gpu.startswith("amd.com/gpu=") == is_amd for gpu in device["device_ids"])
    assert seconds(service["stop_grace_period"]) == 60
    if engine.n_nodes > 1:
        assert service["network_mode"] == "host" and "10.0.0.1" in str(service["extra_hosts"])


def _is_the_router(service: dict[str, Any], fleet: Fleet, folder: Path) -> None:
    assert service["image"] == "rb-planner:0.1.0"
    assert service["build"]["args"] == {"RB": "rb-planner[fast]==0.1.0"}
    assert service["command"][:2] == ["serve", "/plan"]
    keys = service.get("environment", {})
    assert keys == dict.fromkeys(fleet.router_keys, FAKE["_KEY"])
    assert str(folder / "plan") in str(service["volumes"])


def test_it_refuses_what_is_no_compose_file_and_a_key_that_is_not_set(
    tool: Tool, tmp_path: Path
) -> None:
    folder = write(target_of("compose").files(hosted_fleet()), tmp_path)
    router = folder / "router"
    example = router / ".env.example"
    example.write_text(example.read_text().replace("PROVIDER_API_KEY=", "OTHER="))
    with pytest.raises(ValueError, match="the key of gpt-hosted"):
        config(*tool, router / "compose.yaml")
    machine = next((folder / "hosts").iterdir()) / "compose.yaml"
    machine.write_text(machine.read_text().replace("    image:", "    imagine:", 1))
    with pytest.raises(ValueError, match="imagine"):
        config(*tool, machine)
