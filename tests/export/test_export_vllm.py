"""The start scripts are run: bash hands a program that only writes down what it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from made_fleets import (
    FLEETS,
    demo_fleet,
    odd_names_fleet,
    sglang_fleet,
    spanning_fleet,
    with_first,
)
from served import read_router, write

from planner.export.engine_flags import serve_command
from planner.export.fleet import Engine, Fleet
from planner.export.targets import target_of

PATIENCE_S = 20.0
RECORDER = """#!{python}
import json, os, pathlib, sys, time
argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
told = {{"pid": os.getpid(), "argv": argv, "env": dict(os.environ)}}
folder = pathlib.Path({folder!r})
(folder / f"{{os.getpid()}}.part").write_text(json.dumps(told))
(folder / f"{{os.getpid()}}.part").rename(folder / f"{{os.getpid()}}.json")
time.sleep(float(os.environ.get("RUNS_S", "0")))
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with a `vllm` and a `python3` that write down how they were called."""
    folder, told = tmp_path / "bin", tmp_path / "told"
    folder.mkdir()
    told.mkdir()
    for name in ("vllm", "python3"):
        path = folder / name
        path.write_text(RECORDER.format(python=sys.executable, folder=str(told)))
        path.chmod(0o755)
    return folder


def environment(programs: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PORT", "CUDA_VISIBLE_DEVICES")}
    return {**kept, "PATH": f"{programs}:{os.environ['PATH']}", **more}


def told(programs: Path) -> list[dict]:
    """What the programs were told, in no order."""
    return [json.loads(p.read_text()) for p in (programs.parent / "told").glob("*.json")]


def start(folder: Path, engine: Engine, programs: Path, *words: str, **more: str) -> dict:
    """What the engine is told by its pool's script."""
    script = folder / "start" / f"{engine.dns_name}.sh"
    env = environment(programs, **more)
    subprocess.run(["bash", script, *words], check=True, env=env, timeout=PATIENCE_S)
    (found,) = told(programs)
    return found


@pytest.mark.parametrize("name", sorted(FLEETS))
@pytest.mark.parametrize("target", ["vllm", "sglang"])
def test_every_script_is_one_to_bash(name, target, tmp_path):
    folder = write(target_of(target).files(FLEETS[name]()), tmp_path)
    scripts = sorted(folder.rglob("*.sh"))
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    "fleet", [demo_fleet(), odd_names_fleet(), sglang_fleet()], ids=str.__name__
)
def test_the_engine_hears_the_plan_s_words_exactly(fleet: Fleet, tmp_path, programs):
    engine = fleet.engines[0]
    folder = write(target_of(engine.engine).files(fleet), tmp_path / "out")
    found = start(folder, engine, programs, "--one-more", "a b", PORT="9001")
    words = serve_command(engine)
    words[words.index("--port") + 1] = "9001"
    assert found["argv"] == [*words, "--one-more", "a b"]
    assert engine.env.items() <= found["env"].items()
    assert found["env"]["CUDA_VISIBLE_DEVICES"] == ",".join(
        map(str, range(engine.gpus_per_replica))
    )


def test_a_script_by_itself_uses_the_engine_s_own_port(tmp_path, programs):
    engine = demo_fleet().engines[0]
    folder = write(target_of("vllm").files(demo_fleet()), tmp_path / "out")
    assert start(folder, engine, programs)["argv"] == serve_command(engine)


@contextmanager
def running(
    folder: Path, name: str, programs: Path, runs_s: str = "60"
) -> Iterator[subprocess.Popen[str]]:
    """A machine's script as it runs; it is ended with all that it started."""
    env = environment(programs, RUNS_S=runs_s, LOGS=str(folder / "logs"), PAUSE_S="0")
    script = folder / "hosts" / f"{name}.sh"
    with subprocess.Popen(["bash", script], env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def ended(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """How a machine's script ends when it hears a signal."""
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    return process.returncode


def wait_for(programs: Path, n: int) -> list[dict]:
    """What the first so many programs were told."""
    end_s = time.monotonic() + PATIENCE_S
    while len(found := told(programs)) < n and time.monotonic() < end_s:
        time.sleep(0.02)
    assert len(found) >= n
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_machine_starts_each_replica_on_gpus_and_a_port_of_its_own(tmp_path, programs):
    fleet = demo_fleet()
    folder = write(target_of("vllm").files(fleet), tmp_path / "out")
    with running(folder, "h100-sxm-80g-0", programs):
        found = wait_for(programs, 2)
    gpus = sorted(each["env"]["CUDA_VISIBLE_DEVICES"] for each in found)
    assert gpus == ["0,1,2,3", "4,5,6,7"]
    ports = sorted(each["argv"][each["argv"].index("--port") + 1] for each in found)
    assert ports == ["8001", "8002"]
    read = read_router(folder / "plan", fleet)
    urls = {server.url for servers in read.endpoints.values() for server in servers}
    assert {"http://h100-sxm-80g-0:8001", "http://h100-sxm-80g-0:8002"} <= urls


def test_an_engine_that_ends_is_started_again_and_the_others_go_on(tmp_path, programs):
    folder = write(target_of("vllm").files(demo_fleet()), tmp_path / "out")
    with running(folder, "h100-sxm-80g-0", programs) as process:
        first, second = wait_for(programs, 2)
        os.kill(first["pid"], signal.SIGKILL)
        again = [e for e in wait_for(programs, 3) if e not in (first, second)]
        assert [e["argv"] for e in again] == [first["argv"]]
        assert again[0]["env"]["CUDA_VISIBLE_DEVICES"] == first["env"]["CUDA_VISIBLE_DEVICES"]
        assert is_alive(second["pid"]) and process.poll() is None
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert "ended with status 137, see" in errors and errors.count("again in 0 s") == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_machine_that_is_ended_leaves_no_engine_behind(tmp_path, programs, number, status):
    folder = write(target_of("vllm").files(demo_fleet()), tmp_path / "out")
    with running(folder, "h100-sxm-80g-0", programs) as process:
        found = wait_for(programs, 2)
        assert ended(process, number) == status
    assert not any(is_alive(each["pid"]) for each in found)


@pytest.mark.parametrize("fleet", [demo_fleet(), sglang_fleet()], ids=["vllm", "sglang"])
def test_an_engine_asks_for_the_key_that_its_environment_holds(fleet: Fleet, tmp_path, programs):
    fleet = with_first(fleet, api_key_env="LLAMA_KEY")
    engine = fleet.engines[0]
    folder = write(target_of(engine.engine).files(fleet), tmp_path / "out")
    script = folder / "start" / f"{engine.dns_name}.sh"
    without = subprocess.run(
        ["bash", script], env=environment(programs), capture_output=True, text=True, check=False
    )
    assert without.returncode != 0 and f"LLAMA_KEY: the key of {engine.pool}" in without.stderr
    found = start(folder, engine, programs, LLAMA_KEY="sesame")
    if engine.engine == "vllm":
        assert found["env"]["VLLM_API_KEY"] == "sesame" and "sesame" not in found["argv"]
    else:
        assert found["argv"] == [*serve_command(engine), "--api-key", "sesame"]
    read = read_router(folder / "plan", fleet)
    for pool, servers in read.endpoints.items():
        asked = {"LLAMA_KEY"} if pool == engine.pool else {None}
        assert {server.api_key_env for server in servers} == asked


def test_it_listens_where_it_is_told_to(tmp_path, programs):
    engine = demo_fleet().engines[0]
    folder = write(target_of("vllm").files(demo_fleet()), tmp_path / "out")
    argv = start(folder, engine, programs, LISTEN_ON="10.0.0.7")["argv"]
    assert argv[argv.index("--host") + 1] == "10.0.0.7"
    text = (folder / "start" / f"{engine.dns_name}.sh").read_text()
    assert "it asks for no key: let nobody but the router reach its port" in text


def test_who_may_ask_the_router_is_said_where_it_is_started():
    def said(fleet: Fleet) -> str:
        text = next(f.text for f in target_of("vllm").files(fleet) if "endpoints" in f.path)
        return " ".join(text.replace("# ", "").split())

    assert "it answers whoever reaches it: name client_key_env" in said(demo_fleet())
    asking = said(replace(demo_fleet(), client_key_env="OUR_KEY"))
    assert "--port 8000 --api-key-env OUR_KEY it needs OUR_KEY in its environment" in asking


def test_each_machine_of_a_replica_knows_its_place(tmp_path, programs):
    fleet = spanning_fleet()
    folder = write(target_of("vllm").files(fleet), tmp_path / "out")
    with running(folder, "b200-sxm-180g-1", programs):
        (found,) = wait_for(programs, 1)
    at = found["argv"].index("--nnodes")
    assert found["argv"][at:] == [
        *("--nnodes", "2", "--node-rank", "1"),
        *("--master-addr", "b200-sxm-180g-0", "--headless"),
    ]


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_the_router_can_be_started_on_the_export(name, tmp_path):
    fleet = FLEETS[name]()
    folder = write(target_of("vllm").files(fleet), tmp_path)
    read = read_router(folder / "plan", fleet)
    pools = [*(e.pool for e in fleet.engines), *(h.pool for h in fleet.hosted)]
    assert list(read.endpoints) == pools
    for engine in fleet.engines:
        servers = read.endpoints[engine.pool]
        assert len(servers) == engine.replicas
        assert {s.served_model_name for s in servers} == {engine.served_model_name}
        assert {s.data_parallel_ranks for s in servers} == {engine.data_parallel}


def test_what_is_written_is_always_the_same():
    assert target_of("vllm").files(demo_fleet()) == target_of("vllm").files(demo_fleet())
