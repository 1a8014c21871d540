"""What `rb serve` needs beside an export: the plan's files and where the engines listen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.export.addresses import base_urls
from planner.export.fleet import Engine, File, Fleet
from planner.export.images import rb_requirement
from planner.export.manifest import header, yaml_text

PLAN_FOLDER = "plan"
ENDPOINTS = f"{PLAN_FOLDER}/endpoints.yaml"


def router_files(
    fleet: Fleet,
    target: str,
    urls: Mapping[str, Sequence[str]],
    says: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    *,
    has_ranks: bool = True,
    has_keys: bool = True,
) -> tuple[File, ...]:
    """Returns the folder that `rb serve` is started on.

    Args:
        fleet: what is exported.
        target: its name.
        urls: of the replicas that the target starts, by pool; of hosted ones endpoints.yaml tells.
        says: what the reader of endpoints.yaml must know.
        names: what the servers call the models, by pool, where it is not served_model_name.
        has_ranks: an address is one replica, so a request may name one of its ranks.
        has_keys: the target starts engines that ask for the keys of endpoints.yaml.
    """
    servers: dict[str, object] = {}
    for engine in fleet.engines:
        name = (names or {}).get(engine.pool, engine.served_model_name)
        servers[engine.pool] = [
            {
                "url": url,
                "served_model_name": name,
                **_key(engine.api_key_env if has_keys else None),
                **(_ranks(engine) if has_ranks else {}),
            }
            for url in urls[engine.pool]
        ]
    for hosted in fleet.hosted:
        server = {"url": base_urls(hosted)[0], "served_model_name": hosted.model_name}
        servers[hosted.pool] = [{**server, **_key(hosted.api_key_env)}]
    text = yaml_text([servers], header(fleet, target, [*fleet.notes, *says]))
    plan = [File(f"{PLAN_FOLDER}/{name}", text) for name, text in fleet.plan_files.items()]
    return (*plan, File(ENDPOINTS, text))


def _key(name: str | None) -> dict[str, str]:
    return {} if name is None else {"api_key_env": name}


def _ranks(engine: Engine) -> dict[str, int]:
    """Returns that a request may name a rank, where it may: vLLM reads a header for it."""
    if engine.data_parallel == 1 or engine.engine != "vllm":
        return {}
    return {"data_parallel_ranks": engine.data_parallel}


def client_words(fleet: Fleet) -> str:
    """Returns how a client of `rb serve` says which class a request is of."""
    first = fleet.routes[0].class_name if fleet.routes else "CLASS"
    return (
        f"a client asks for the model rb/{first} (or the header x-rb-class: {first}) to say the "
        "class of a request, or for rb/auto"
    )


def serve_words(fleet: Fleet) -> tuple[str, ...]:
    """Returns how the router is started by hand."""
    needs = ", ".join(fleet.router_keys)
    return (
        f"the router: pip install '{rb_requirement(fleet.rb_version)}', then "
        + " ".join(["rb serve", PLAN_FOLDER, *serve_options(fleet, fleet.address.port)]),
        *([f"it needs {needs} in its environment"] if needs else []),
        client_words(fleet),
        client_key_words(fleet),
    )


def serve_options(fleet: Fleet, port: int) -> list[str]:
    """Returns the options of `rb serve` wherever it is started: who is answered, and where."""
    key = [] if fleet.client_key_env is None else ["--api-key-env", fleet.client_key_env]
    return ["--host", "0.0.0.0", "--port", str(port), *key]


def client_key_words(fleet: Fleet) -> str:
    """Returns whether clients of `rb serve` need a key."""
    if fleet.client_key_env is None:
        return "it answers whoever reaches it: name client_key_env in export.yaml to ask for a key"
    return f"clients send the key in {fleet.client_key_env}"
