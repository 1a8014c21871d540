"""`rb export --to compose`: every replica a service of Docker Compose, `rb serve` before them.

Compose is of one machine. A plan that fits one gets one compose.yaml with the router and all
replicas on a network of their own. A plan that needs several gets a folder for each, whose services
publish their ports, and one for the router, which learns the machines' addresses from .env.

Nothing of an engine's service names the plan, so that `docker compose up` of another plan restarts
those engines only of which it orders something else; the router takes a changed plan/ over by
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.export.dns_names import dns_name
from planner.export.engine_flags import container_args, environment, key_settings, node_args
from planner.export.fleet import Engine, File, Fleet
from planner.export.gpu_names import NVIDIA
from planner.export.hosts import Host, Part, hosts_of
from planner.export.images import rb_image, rb_requirement
from planner.export.manifest import comment, engine_comments, header, key_comment, yaml_text
from planner.export.router_files import (
    PLAN_FOLDER,
    client_key_words,
    client_words,
    router_files,
    serve_options,
)
from planner.export.scripts import KEY_OF, replica_urls

TARGET = "compose"
CACHE = "huggingface"
CACHE_PATH = "/cache/huggingface"  # HF_HOME says so, whoever an image runs as
ROUTER_PORT = 8000  # in its container
DRAIN_S = 60
INTERVAL_S = 10
UNPRIVILEGED = "10001"
LISTEN_ON = "LISTEN_ON"
START = (
    "start it with: cp .env.example .env, fill that in, then docker compose up -d --remove-orphans "
    "(version 2), which also ends what another plan had here"
)


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns compose.yaml, one per machine where the plan needs several, and the router's plan."""
    hosts = hosts_of(fleet)
    if len(hosts) <= 1:
        return _one_machine(fleet, hosts)
    return _several_machines(fleet, hosts)


def _one_machine(fleet: Fleet, hosts: Sequence[Host]) -> tuple[File, ...]:
    """Returns the files of a plan that one machine can hold."""
    parts = [part for host in hosts for part in host.parts]
    urls: dict[str, list[str]] = {}
    for part in sorted(parts, key=lambda p: (p.engine.pool, p.replica)):
        urls.setdefault(part.engine.pool, []).append(f"http://{part.name}:{part.engine.port}")
    services = {part.name: _service(fleet, part) for part in parts}
    document = _document(fleet, "", {"router": _router(fleet, {}), **services}, parts)
    says = [*_says(fleet, parts), *_router_says(fleet), START]
    needed = {**_engine_variables(fleet, parts), **_router_variables(fleet)}
    return (
        File("compose.yaml", yaml_text([document], header(fleet, TARGET, says))),
        File(".env.example", _example(needed)),
        *_router_folder(fleet, "", urls),
    )


def _several_machines(fleet: Fleet, hosts: Sequence[Host]) -> tuple[File, ...]:
    """Returns the router's folder, and one for each machine."""
    says = [
        *fleet.notes,
        f"this is the router; the engines are on {len(hosts)} machines: ../hosts/*/compose.yaml",
        *_router_says(fleet),
        START,
    ]
    router = _router(fleet, {host.name: _address(host.name) for host in hosts})
    document = _document(fleet, "router", {"router": router}, ())
    addresses = {_variable(host.name): _ask(host.name) for host in hosts}
    return (
        File("router/compose.yaml", yaml_text([document], header(fleet, TARGET, says))),
        File("router/.env.example", _example({**addresses, **_router_variables(fleet)})),
        *_router_folder(fleet, "router/", replica_urls(hosts)),
        *(file for host in hosts for file in _machine(fleet, host)),
    )


def _machine(fleet: Fleet, host: Host) -> tuple[File, ...]:
    """Returns the files of one machine."""
    services = {part.name: _service(fleet, part, publishes=True) for part in host.parts}
    n_taken = len({g for part in host.parts for g in part.gpus})
    says = [
        *_says(fleet, host.parts),
        *(key_comment(part.engine) for part in host.parts if part.replica == 0),
        f"{host.name}: a machine with {host.n_gpus} GPUs of kind {host.gpu}, {n_taken} are taken",
        START,
    ]
    document = _document(fleet, host.name, services, host.parts)
    variables = _engine_variables(fleet, host.parts)
    if any(part.n_nodes == 1 for part in host.parts):
        variables[LISTEN_ON] = (
            "the address of this machine to listen on; by default all that it has"
        )
    return (
        File(f"hosts/{host.name}/compose.yaml", yaml_text([document], header(fleet, TARGET, says))),
        File(f"hosts/{host.name}/.env.example", _example(variables)),
    )


def _says(fleet: Fleet, parts: Sequence[Part]) -> list[str]:
    """Returns what the head of a file says of the engines in it, and what was guessed."""
    each = {part.engine.pool: part.engine for part in parts}
    return [*(said for engine in each.values() for said in engine_comments(engine)), *fleet.notes]


def _router_says(fleet: Fleet) -> tuple[str, str]:
    return client_words(fleet), f"the router: {client_key_words(fleet)}"


def _document(
    fleet: Fleet, place: str, services: Mapping[str, object], parts: Sequence[Part]
) -> dict[str, object]:
    """Returns a project, called the same from plan to plan, so that one replaces another."""
    name = "-".join(word for word in ("rb", dns_name(fleet.title), place) if word)
    volumes = {"volumes": {CACHE: {"name": CACHE}}} if parts else {}
    return {"name": name, "services": dict(services), **volumes}


# ---- Engines -------------------------------------------------------------------------------------


def _service(fleet: Fleet, part: Part, *, publishes: bool = False) -> dict[str, object]:
    """Returns the service of one replica, or of what of it lies on one machine."""
    engine = part.engine
    entrypoint, args = container_args(engine)
    is_spread = part.n_nodes > 1
    # Parts of one replica on several machines find each other by the machines' own addresses.
    network: dict[str, object] = {}
    if is_spread:
        network = {"network_mode": "host", "extra_hosts": {part.master: _address(part.master)}}
    if publishes and not is_spread:
        network = {"ports": [f"${{{LISTEN_ON}:-0.0.0.0}}:{part.port}:{engine.port}"]}
    port = part.port if is_spread else engine.port
    args[args.index("--port") + 1] = str(port)
    command = [*args, *node_args(engine, part.n_nodes, part.node_rank, part.master)]
    key_env, key_args = key_settings(engine, f"${{{engine.api_key_env}:?{_key_of(engine.pool)}}}")
    return {
        "image": engine.image,
        "entrypoint": entrypoint,
        "command": [*(_literal(word) for word in command), *key_args],
        "environment": {
            "HF_HOME": CACHE_PATH,
            fleet.token_env: f"${{{fleet.token_env}:-}}",
            **{name: _literal(value) for name, value in environment(engine).items()},
            **key_env,
        },
        **network,
        "volumes": [f"{CACHE}:{CACHE_PATH}", *_weights(engine)],
        "shm_size": f"{engine.shm_gib}gb",
        "ulimits": {"memlock": -1, "stack": 67_108_864},
        "deploy": {"resources": {"reservations": {"devices": [_devices(part)]}}},
        **({} if part.node_rank else {"healthcheck": _health(port, engine.startup_s)}),
        "restart": "unless-stopped",
        "stop_grace_period": f"{DRAIN_S}s",
        "labels": {"rb.pool": engine.pool},
    }


def _weights(engine: Engine) -> list[dict[str, object]]:
    """Returns the folder of weights that lie on the machine, in the place that the engine reads."""
    if not engine.weights.startswith("/"):
        return []
    place = _literal(engine.weights)
    return [{"type": "bind", "source": place, "target": place, "read_only": True}]


def _devices(part: Part) -> dict[str, object]:
    """Returns the reservation of a replica's GPUs, by number: no two replicas get the same."""
    resource = part.engine.gpu_resource
    if resource != NVIDIA:  # through the container device interface, e.g. amd.com/gpu=0
        ids = [f"{resource}={g}" for g in part.gpus]
        return {"driver": "cdi", "device_ids": ids, "capabilities": ["gpu"]}
    ids = [str(g) for g in part.gpus]
    return {"driver": "nvidia", "device_ids": ids, "capabilities": ["gpu"]}


def _health(port: int, start_s: int) -> dict[str, object]:
    """Returns a health check with what every Python image has; curl is not in all of them."""
    asks = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/health', timeout=5)"
    return {
        "test": ["CMD", "python3", "-c", asks],
        "interval": f"{INTERVAL_S}s",
        "timeout": "10s",
        "retries": 6,
        "start_period": f"{start_s}s",
    }


def _literal(text: str) -> str:
    """Returns a text in which Compose replaces no variables."""
    return text.replace("$", "$$")


# ---- The router ----------------------------------------------------------------------------------


def _router(fleet: Fleet, extra_hosts: Mapping[str, str]) -> dict[str, object]:
    keys = {key: f"${{{key}:?{said}}}" for key, said in _router_variables(fleet).items()}
    build = {
        "build": {"context": ".", "args": {"RB": f"${{RB:-{rb_requirement(fleet.rb_version)}}}"}}
    }
    return {
        "image": fleet.images["rb"],
        **(build if _is_built(fleet) else {}),
        "command": [
            *("serve", f"/{PLAN_FOLDER}", *serve_options(fleet, ROUTER_PORT), "--workers", "2"),
        ],
        **({"environment": keys} if keys else {}),
        **({"extra_hosts": dict(extra_hosts)} if extra_hosts else {}),
        "ports": [f"{fleet.address.port}:{ROUTER_PORT}"],
        "volumes": [f"./{PLAN_FOLDER}:/{PLAN_FOLDER}:ro"],
        "user": UNPRIVILEGED,
        "healthcheck": _health(ROUTER_PORT, 10),
        "restart": "unless-stopped",
        "stop_grace_period": f"{DRAIN_S}s",
    }


def _router_folder(
    fleet: Fleet, folder: str, urls: Mapping[str, Sequence[str]]
) -> tuple[File, ...]:
    """Returns the router's plan, and how its image is built where nobody names one."""
    plan = router_files(fleet, TARGET, urls)
    image = [File(f"{folder}Dockerfile", dockerfile(fleet))] if _is_built(fleet) else []
    return (
        *(File(f"{folder}{file.path}", file.text) for file in plan),
        *image,
    )


def _is_built(fleet: Fleet) -> bool:
    """Returns whether export.yaml names no image with `rb`, so that one is built."""
    return fleet.images["rb"] == default_rb_image(fleet)


def default_rb_image(fleet: Fleet) -> str:
    """Returns what the image with `rb` is called where export.yaml names none."""
    return rb_image(fleet.rb_version)


def dockerfile(fleet: Fleet) -> str:
    """Returns the Dockerfile of an image with `rb`, for who has none."""
    says = [
        f"The router, {fleet.images['rb']}. RB is what pip installs: a version, or the address of "
        "a wheel (rb-planner[fast] @ https://HOST/rb_planner-VERSION-py3-none-any.whl)."
    ]
    return comment(says) + (
        "FROM python:3.12-slim\n"
        f'ARG RB="{rb_requirement(fleet.rb_version)}"\n'
        'RUN pip install --no-cache-dir "$RB"\n'
        f"USER {UNPRIVILEGED}\n"
        'ENTRYPOINT ["rb"]\n'
    )


# ---- Variables -----------------------------------------------------------------------------------


def _engine_variables(fleet: Fleet, parts: Sequence[Part]) -> dict[str, str]:
    """Returns what the engines of a file read from .env, and what each is."""
    spread = {part.master: part for part in parts if part.n_nodes > 1}
    return {
        fleet.token_env: "a token, for weights that are not public",
        **{p.engine.api_key_env: _key_of(p.engine.pool) for p in parts if p.engine.api_key_env},
        **{_variable(name): _ask(name) for name in spread},
    }


def _router_variables(fleet: Fleet) -> dict[str, str]:
    """Returns what the router reads from .env, and what each is: keys of pools, and its own."""
    keys = {e.api_key_env: _key_of(e.pool) for e in fleet.engines if e.api_key_env}
    keys |= {h.api_key_env: _key_of(h.pool) for h in fleet.hosted if h.api_key_env}
    own = {fleet.client_key_env: "the key that clients send"} if fleet.client_key_env else {}
    return {**keys, **own}


def _example(variables: Mapping[str, str]) -> str:
    """Returns .env.example: every variable that the compose.yaml beside it reads."""
    lines = [comment([said]) + f"{name}=\n" for name, said in variables.items()]
    return comment(["Copy this to .env; never check in what it holds."]) + "".join(lines)


def _key_of(pool: str) -> str:
    return f"{KEY_OF} {pool}"


def _variable(host: str) -> str:
    """Returns the environment variable that holds the address of a machine."""
    return f"{host.upper().replace('-', '_')}_ADDRESS"


def _address(host: str) -> str:
    """Returns the place where Compose puts in the address of a machine."""
    return f"${{{_variable(host)}:?{_ask(host)}}}"


def _ask(host: str) -> str:
    return f"the address of machine {host}"
