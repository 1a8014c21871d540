from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_fleets import (
    FLEETS,
    demo_fleet,
    hosted_fleet,
    odd_names_fleet,
    spanning_fleet,
    with_first,
)
from served import read_router, write

from planner.export.engine_flags import serve_command
from planner.export.fleet import Fleet
from planner.export.targets import target_of

PATIENCE_S = 20.0


def tasks(fleet: Fleet) -> dict[str, dict]:
    texts = {file.path: file.text for file in target_of("skypilot").files(fleet)}
    return {p: yaml.safe_load(t) for p, t in texts.items() if p.endswith(".yaml") and "/" not in p}


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_every_pool_is_a_service_with_its_replicas(name):
    fleet = FLEETS[name]()
    found = tasks(fleet)
    assert set(found) == {"router.yaml", *(f"{e.dns_name}.yaml" for e in fleet.engines)}
    for engine in fleet.engines:
        task = found[f"{engine.dns_name}.yaml"]
        assert task["service"]["replicas"] == engine.replicas
        assert task["service"]["readiness_probe"]["path"] == "/health"
        assert task["service"]["readiness_probe"]["initial_delay_seconds"] == engine.startup_s
        kind, _, n_gpus = task["resources"]["accelerators"].partition(":")
        assert kind == engine.skypilot_gpu
        assert int(n_gpus) * task.get("num_nodes", 1) == engine.gpus_per_replica
        assert task["resources"]["ports"] == engine.port
        assert task["resources"]["disk_size"] > 1.07 * 2 * (engine.weights_gib or 0)
        assert task["secrets"] == {"HF_TOKEN": None}


def test_a_replica_is_started_with_the_plan_s_words():
    fleet = odd_names_fleet()
    for engine in fleet.engines:
        run = tasks(fleet)[f"{engine.dns_name}.yaml"]["run"].replace("\\\n", " ")
        assert shlex.split(run) == ["exec", *serve_command(engine)]


@pytest.mark.parametrize(("rank", "follows"), [("0", []), ("1", ["--headless"])])
def test_each_node_of_a_replica_knows_its_place(rank, follows, tmp_path):
    fleet = spanning_fleet()
    engine = fleet.engines[0]
    task = tasks(fleet)[f"{engine.dns_name}.yaml"]
    assert task["num_nodes"] == 2
    program = tmp_path / "vllm"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\n')
    program.chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SKYPILOT_NODE_RANK": rank,
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    subprocess.run(["bash", "-uc", task["run"]], check=True, env=env, timeout=PATIENCE_S)
    told = (tmp_path / "told").read_text().split()
    assert told[told.index("--nnodes") :] == [
        *("--nnodes", "2", "--node-rank", rank, "--master-addr", "10.0.0.1"),
        *follows,
    ]


def fake_sky(folder: Path) -> None:
    """A `sky` that writes down its arguments; a service has an address when it is asked twice."""
    program = folder / "sky"
    program.write_text(
        f"""#!{sys.executable}
import pathlib, sys
log = pathlib.Path({str(folder / "log")!r})
before = log.read_text() if log.exists() else ""
line = " ".join(sys.argv[1:])
log.write_text(before + line + chr(10))
if line.startswith("serve status --endpoint"):
    address = pathlib.Path({str(folder / "address")!r}).read_text()
    print(address if line in before.splitlines() else "-")
"""
    )
    program.chmod(0o755)


def test_a_machine_alone_has_room_for_twice_the_weights():
    for weights_gib, disk_gb in ((None, 100), (20.0, 150), (26.0, 200)):
        fleet = with_first(demo_fleet(), weights_gib=weights_gib)
        task = tasks(fleet)[f"{fleet.engines[0].dns_name}.yaml"]
        assert task["resources"]["disk_size"] == disk_gb and "num_nodes" not in task


def asked(folder: Path, fleet: Fleet) -> set[str]:
    """Where the router that up.sh starts asks the services."""
    read = read_router(folder / "running", fleet)
    return {s.url for engine in fleet.engines for s in read.endpoints[engine.pool]}


def test_up_brings_up_services_then_tells_the_router_where_they_are(tmp_path):
    fleet = hosted_fleet()
    folder = write(target_of("skypilot").files(fleet), tmp_path / "out")
    fake_sky(tmp_path)
    (tmp_path / "address").write_text("10.1.2.3:30001")
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "POLL_S": "0"}
    up = ["bash", folder / "up.sh"]
    without = subprocess.run(
        up, check=False, env=env, timeout=PATIENCE_S, capture_output=True, text=True
    )
    assert without.returncode == 1 and "PROVIDER_API_KEY: a key that is not set" in without.stderr
    assert not (tmp_path / "log").exists()
    env["PROVIDER_API_KEY"] = "sesame"
    subprocess.run(up, check=True, env=env, timeout=PATIENCE_S)
    lines = (tmp_path / "log").read_text().splitlines()
    names = [engine.dns_name for engine in fleet.engines]
    assert [line for line in lines if line.startswith(("serve up", "serve update"))] == [
        f"serve up --yes --service-name {name} --secret HF_TOKEN {name}.yaml" for name in names
    ]
    assert lines[-3:-1] == [
        "cancel --yes --all rb-router",
        "launch --yes --detach-run --cluster rb-router --secret PROVIDER_API_KEY router.yaml",
    ]
    assert asked(folder, fleet) == {"http://10.1.2.3:30001"}
    assert not list(folder.rglob("*.bak"))
    # A second time every service has an address: it is updated, and no key was ever written down.
    (tmp_path / "log").write_text("\n".join(f"serve status --endpoint {n}" for n in names) + "\n")
    (tmp_path / "address").write_text("https://10.9.9.9:30009")  # they were made anew meanwhile
    subprocess.run(up, check=True, env=env, timeout=PATIENCE_S)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if line.startswith(("serve up", "serve update"))] == [
        f"serve update --yes --secret HF_TOKEN {name} {name}.yaml" for name in names
    ]
    assert asked(folder, fleet) == {"https://10.9.9.9:30009"}
    assert {f.path: f.text for f in target_of("skypilot").files(fleet)} == {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in folder.rglob("*")
        if p.is_file() and "running" not in p.parts
    }  # what was exported is as it was
    assert "sesame" not in "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_a_service_asks_for_the_key_that_its_environment_holds(tmp_path):
    program = tmp_path / "engine"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$VLLM_API_KEY" "$@" > {tmp_path}/told\n', encoding="utf-8"
    )
    program.chmod(0o755)
    for name in ("vllm", "python3"):
        (tmp_path / name).symlink_to(program)
    for fleet, said in ((demo_fleet(), "sesame"), (FLEETS["sglang"](), "")):
        keyed = with_first(fleet, api_key_env="LLAMA_KEY")
        name = keyed.engines[0].dns_name
        found = tasks(keyed)
        assert found[f"{name}.yaml"]["secrets"] == {"HF_TOKEN": None, "LLAMA_KEY": None}
        assert found["router.yaml"]["secrets"] == {"LLAMA_KEY": None}
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LLAMA_KEY": "sesame"}
        run = found[f"{name}.yaml"]["run"]
        subprocess.run(["bash", "-uc", run], check=True, env=env, timeout=PATIENCE_S)
        told = (tmp_path / "told").read_text().split("\n")
        assert told[0] == said
        assert (told[-3:-1] == ["--api-key", "sesame"]) == (said == "")
        script = next(f.text for f in target_of("skypilot").files(keyed) if f.path == "up.sh")
        assert f"bring {name} --secret HF_TOKEN --secret LLAMA_KEY\n" in script
        others = [f"bring {e.dns_name} --secret HF_TOKEN\n" for e in keyed.engines[1:]]
        assert all(line in script for line in others)


def test_a_service_without_a_key_says_that_anybody_reaches_it():
    fleet = with_first(demo_fleet(), api_key_env="LLAMA_KEY")
    for file in target_of("skypilot").files(fleet):
        for engine in fleet.engines:
            if file.path == f"{engine.dns_name}.yaml":
                text = " ".join(file.text.replace("# ", "").split())
                is_open = "opens it to the internet, and it asks for no key" in text
                assert is_open == (engine.api_key_env is None)


def test_the_router_is_a_task_with_the_plan_s_folder():
    router = tasks(hosted_fleet())["router.yaml"]
    assert router["file_mounts"] == {"~/plan": "./running"}
    assert "rb serve ~/plan" in router["run"] and "service" not in router
    assert router["secrets"] == {"PROVIDER_API_KEY": None}


def test_what_cannot_be_shared_there_is_told():
    texts = [file.text for file in target_of("skypilot").files(FLEETS["shared"]())]
    assert any("it costs more than planned" in " ".join(t.replace("# ", "").split()) for t in texts)
    plain = [file.text for file in target_of("skypilot").files(demo_fleet())]
    assert not any("than planned" in text for text in plain)
