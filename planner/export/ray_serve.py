"""`rb export --to ray-serve`: an application of ray.serve.llm per pool, `rb serve` before them.

Ray's LLM ingress routes by the name of a model and knows no shares, so every pool is an application
with a path of its own, and `rb serve` sends each class where the plan says. Ray spreads a pool's
requests over its replicas.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from planner.errors import Fault, InputError
from planner.export.engine_flags import environment, vllm_flags
from planner.export.fleet import Engine, File, Fleet
from planner.export.manifest import engine_comments, header, yaml_text
from planner.export.router_files import router_files, serve_words

TARGET = "ray-serve"
PORT = 8001
TEXTS = frozenset({"--revision", "--dtype", "--quantization", "--kv-cache-dtype"})


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns the config of `serve deploy` and the folder of `rb serve`.

    Raises InputError of further arguments that Ray cannot hand to vLLM.
    """
    document = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PORT},
        "applications": [_application(engine) for engine in fleet.engines],
    }
    says = [
        *(sentence for engine in fleet.engines for sentence in engine_comments(engine)),
        *fleet.notes,
        *_left_out(fleet),
        "start it on a Ray cluster with ray[llm] on its nodes: serve deploy serve.yaml",
        f"weights that are not public need {fleet.token_env} in the environment of the nodes",
    ]
    urls = {e.pool: [f"http://ray-serve:{PORT}/{e.dns_name}"] for e in fleet.engines}
    where = "ray-serve must lead to the Ray cluster (DNS, /etc/hosts, its Service), or be replaced"
    names = {engine.pool: engine.pool for engine in fleet.engines}
    says_too = [where, *serve_words(fleet)]
    router = router_files(fleet, TARGET, urls, says_too, names, has_ranks=False, has_keys=False)
    return (File("serve.yaml", yaml_text([document], header(fleet, TARGET, says))), *router)


def _application(engine: Engine) -> dict[str, object]:
    """Returns the application of one pool; data-parallel ranks need a builder of their own."""
    config = _llm_config(engine)
    build = "build_openai_app"
    args: dict[str, object] = {"llm_configs": [config]}
    if engine.data_parallel > 1:
        build, args = "build_dp_openai_app", {"llm_config": config}
    return {
        "name": engine.dns_name,
        "route_prefix": f"/{engine.dns_name}",
        "import_path": f"ray.serve.llm:{build}",
        "args": args,
    }


def _llm_config(engine: Engine) -> dict[str, object]:
    """Returns Ray's LLMConfig of a pool: vLLM's arguments under their Python names."""
    share = 1 if engine.gpu_compute_ratio is None else engine.gpu_compute_ratio
    env = environment(engine)
    # Ray places the ranks of a replica one by one.
    fits_a_node = engine.tensor_parallel * engine.pipeline_parallel <= engine.gpus_per_node
    return {
        "model_loading_config": {"model_id": engine.pool, "model_source": engine.weights},
        "llm_engine": "vLLM",
        **({"accelerator_type": engine.ray_gpu} if engine.ray_gpu is not None else {}),
        "engine_kwargs": engine_kwargs(engine),
        "placement_group_config": {
            "bundle_per_worker": {"CPU": 1, "GPU": share},
            "strategy": "STRICT_PACK" if fits_a_node else "PACK",
        },
        "deployment_config": {
            "num_replicas": engine.replicas,
            "health_check_period_s": 10,
            "health_check_timeout_s": 30,
            "graceful_shutdown_timeout_s": 60,
        },
        **({"runtime_env": {"env_vars": env}} if env else {}),
    }


def engine_kwargs(engine: Engine) -> dict[str, object]:
    """Returns vLLM's command line of a replica as arguments of its Python interface.

    A flag alone is true, one that begins with --no- is false, one with several values is a list.
    Raises InputError of a flag whose long name only vLLM's command line knows (-tp, --a.b).
    """
    found: dict[str, object] = {}
    for flag, values in _told(vllm_flags(engine)):
        if not flag.startswith("--") or "." in flag:
            what = f"Ray starts vLLM by the long names of its arguments, got {flag}"
            fix = 'write the long one, and what has parts (--a.b 1) as JSON (--a {"b":1})'
            raise InputError([Fault("export.yaml", f"pools.{engine.pool}.extra_args", what, fix)])
        is_off = not values and flag.startswith("--no-")
        name = flag.removeprefix("--no-" if is_off else "--").replace("-", "_")
        read = [_value(flag, value) for value in values]
        found[name] = read if len(read) > 1 else read[0] if read else not is_off
    return found


def _told(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Returns flags with what follows them: -1 is a value."""
    told: list[tuple[str, list[str]]] = []
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            flag, equals, value = word.partition("=")
            told.append((flag, [value] if equals else []))
        elif told:
            told[-1][1].append(word)
    return told


def _value(flag: str, word: str) -> object:
    """Returns a word as the number, the truth value or the structure that it is."""
    if flag in TEXTS:  # a revision may look like a number
        return word
    try:
        value: object = json.loads(word)
    except ValueError:
        return word
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return word if is_odd else value


def _left_out(fleet: Fleet) -> list[str]:
    """Returns what Ray Serve is not told."""
    said = [
        f"{engine.pool} is started with vLLM: Ray's LLM engine is no other"
        for engine in fleet.engines
        if engine.engine != "vllm"
    ]
    said += [
        f"Ray's name for {engine.gpu} is not known: give gpus: {{{engine.gpu}: {{ray: ...}}}} in "
        "export.yaml, or any GPU is taken"
        for engine in fleet.engines
        if engine.ray_gpu is None
    ]
    keys = [engine.api_key_env for engine in fleet.engines if engine.api_key_env is not None]
    if keys:
        said.append(f"{', '.join(dict.fromkeys(keys))} of endpoints.yaml has no use here")
    return [
        *said,
        f"Ray asks for no key: let nobody but the router reach port {PORT}",
        "Ray routes by model name alone: rb serve meets the plan's shares",
    ]
