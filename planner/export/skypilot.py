"""`rb export --to skypilot`: a SkyServe service per pool, a cluster with `rb serve` before them.

SkyServe rents the machines, keeps so many replicas of a service alive and spreads its requests over
them; it knows no shares between services. up.sh starts all services, asks SkyServe where they
listen, puts that into a copy of the plan's folder and starts the router on it; run again, it
updates them. SkyServe opens its services to the internet, so that the file of a pool without a key
says so.
"""

from __future__ import annotations

import math
import shlex

from planner.export.engine_flags import (
    RENDEZVOUS_PORT,
    environment,
    key_settings,
    serve_command,
)
from planner.export.fleet import Engine, File, Fleet
from planner.export.hosts import uneven
from planner.export.images import rb_requirement
from planner.export.manifest import engine_comments, header, yaml_text
from planner.export.router_files import (
    PLAN_FOLDER,
    client_key_words,
    client_words,
    router_files,
    serve_options,
)
from planner.export.scripts import SHELL, command_lines

TARGET = "skypilot"
ROUTER = "rb-router"
UNKNOWN = "sky.invalid"
"""Where a service listens until up.sh knows better: a domain that cannot exist (RFC 2606)."""
RUNNING = "running"
"""The plan's folder with the addresses of today; made anew by every run of up.sh."""
LEAST_DISK_GB = 100


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns a service per pool, the router's task, its folder, and the script for all of it.

    Raises InputError where the GPUs of a replica do not divide evenly over its machines.
    """
    services = [_service(fleet, engine) for engine in fleet.engines]
    urls = {e.pool: [f"http://{e.dns_name}.{UNKNOWN}"] for e in fleet.engines}
    says = [f"up.sh copies this folder to {RUNNING}/, with the services' addresses for *.{UNKNOWN}"]
    return (
        *services,
        _router(fleet),
        *router_files(fleet, TARGET, urls, says, has_ranks=False),
        _script(fleet),
    )


def _service(fleet: Fleet, engine: Engine) -> File:
    """Returns the service of one pool."""
    accelerator = engine.skypilot_gpu or engine.gpu
    n_gpus, left = divmod(engine.gpus_per_replica, engine.n_nodes)
    if left:
        raise uneven(engine)
    env = environment(engine)
    document = {
        "name": engine.dns_name,
        "service": {
            "readiness_probe": {
                "path": "/health",
                "initial_delay_seconds": engine.startup_s,
                "timeout_seconds": 10,
            },
            "replicas": engine.replicas,
        },
        "resources": {
            "accelerators": f"{accelerator}:{n_gpus}",
            "image_id": f"docker:{engine.image}",
            "ports": engine.port,
            "disk_size": _disk_gb(engine),
        },
        **({"num_nodes": engine.n_nodes} if engine.n_nodes > 1 else {}),
        **({"envs": env} if env else {}),
        "secrets": dict.fromkeys(_secrets(fleet, engine)),
        "run": _run(engine),
    }
    says = [*engine_comments(engine), *fleet.notes, *_doubts(fleet, engine)]
    return File(f"{engine.dns_name}.yaml", yaml_text([document], header(fleet, TARGET, says)))


def _run(engine: Engine) -> str:
    """Returns the commands that start a replica on its machine, or on each of its machines."""
    key_env, key_args = key_settings(engine, f'"${engine.api_key_env}"')
    words = [*(shlex.quote(word) for word in serve_command(engine)), *key_args]
    command = " \\\n  ".join(command_lines(words))
    lines = [f"export {name}={value}" for name, value in key_env.items()]
    if engine.n_nodes == 1:
        return "\n".join([*lines, f"exec {command}\n"])
    lines += ['HEAD="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"']
    spread = [f"--nnodes {engine.n_nodes}", '--node-rank "$SKYPILOT_NODE_RANK"']
    if engine.engine == "sglang":
        spread.append(f'--dist-init-addr "$HEAD:{RENDEZVOUS_PORT}"')
    else:
        lines.append('if [ "$SKYPILOT_NODE_RANK" = 0 ]; then FOLLOWS=; else FOLLOWS=--headless; fi')
        spread.append('--master-addr "$HEAD" $FOLLOWS')
    return "\n".join([*lines, f"exec {command} \\\n  {' '.join(spread)}\n"])


def _disk_gb(engine: Engine) -> int:
    """Returns room for the image and twice the weights."""
    return LEAST_DISK_GB + math.ceil(2 * (engine.weights_gib or 0.0) / 50) * 50


def _doubts(fleet: Fleet, engine: Engine) -> list[str]:
    """Returns what this service does other than the plan, and what had to be guessed."""
    said = []
    if engine.skypilot_gpu is None:
        said.append(
            f"SkyPilot's name for {engine.gpu} is not known: give gpus: {{{engine.gpu}: "
            "{skypilot: ...}} in export.yaml"
        )
    if engine.gpu_compute_ratio is not None:
        said.append(
            "SkyServe gives every replica machines of its own, so that those which share a GPU by "
            "the plan do not share it here: it costs more than planned"
        )
    if engine.api_key_env is None:
        said.append(
            "SkyServe opens it to the internet, and it asks for no key: name api_key_env for "
            f"{engine.pool} in endpoints.yaml"
        )
    needed = " ".join(f"{name}=..." for name in _secrets(fleet, engine))
    return [*said, f"start it with the others: {needed} bash up.sh"]


def _secrets(fleet: Fleet, engine: Engine) -> list[str]:
    """Returns the variables that a service is given without being written down."""
    return [fleet.token_env, *([engine.api_key_env] if engine.api_key_env is not None else [])]


def _router(fleet: Fleet) -> File:
    """Returns the task that runs `rb serve`."""
    keys = fleet.router_keys
    options = " ".join(serve_options(fleet, fleet.address.port))
    document = {
        "name": ROUTER,
        "resources": {"cpus": "4+", "ports": fleet.address.port},
        "file_mounts": {f"~/{PLAN_FOLDER}": f"./{RUNNING}"},
        "envs": {"RB": rb_requirement(fleet.rb_version)},
        **({"secrets": dict.fromkeys(keys)} if keys else {}),
        "setup": 'python3 -m venv ~/rb && ~/rb/bin/pip install "$RB"\n',
        "run": (f"exec ~/rb/bin/rb serve ~/{PLAN_FOLDER} {options} --workers 2\n"),
    }
    says = [
        *fleet.notes,
        client_words(fleet),
        client_key_words(fleet),
        "up.sh starts it when the services are there",
    ]
    return File("router.yaml", yaml_text([document], header(fleet, TARGET, says)))


def _script(fleet: Fleet) -> File:
    """Returns up.sh: services, their addresses, the router."""
    services = " ".join(engine.dns_name for engine in fleet.engines)
    secrets = {e.dns_name: _secrets(fleet, e) for e in fleet.engines}
    started = "".join(
        f"bring {name} {' '.join(f'--secret {secret}' for secret in needed)}\n"
        for name, needed in secrets.items()
    )
    keys = dict.fromkeys(name for needed in secrets.values() for name in needed[1:])
    asked = "".join(
        f': "${{{key}:?a key that is not set}}"\n'
        for key in dict.fromkeys([*keys, *fleet.router_keys])
    )
    router = "".join(f" --secret {key}" for key in fleet.router_keys)
    body = f"""set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
export {fleet.token_env}="${{{fleet.token_env}:-}}"
{asked}
# Prints where a service listens; nothing while nobody knows.
endpoint_of() {{
  sky serve status --endpoint "$1" 2>/dev/null | tail -n 1 | grep : || true
}}

# bring SERVICE OPTION...: starts a service, or updates the one that runs already.
bring() {{
  local service="$1"
  shift
  if [ -n "$(endpoint_of "$service")" ]; then
    sky serve update --yes "$@" "$service" "$service.yaml"
  else
    sky serve up --yes --service-name "$service" "$@" "$service.yaml"
  fi
}}

{started}
rm -rf {RUNNING}
cp -R {PLAN_FOLDER} {RUNNING}
for service in {services}; do
  echo "waiting until SkyServe knows where $service listens" >&2
  endpoint=""
  until [ -n "$endpoint" ]; do
    sleep "${{POLL_S:-10}}"
    endpoint="$(endpoint_of "$service")"
  done
  case "$endpoint" in *://*) ;; *) endpoint="http://$endpoint" ;; esac
  sed -i.bak "s|http://$service.{UNKNOWN}|$endpoint|" {RUNNING}/endpoints.yaml
done
rm -f {RUNNING}/endpoints.yaml.bak

# A router that runs already ends first: it has the port.
sky cancel --yes --all {ROUTER} >/dev/null 2>&1 || true
sky launch --yes --detach-run --cluster {ROUTER}{router} router.yaml
sky status --endpoint {fleet.address.port} {ROUTER}
"""
    says = [
        "Starts every service (or updates it), waits until SkyServe knows where each listens, "
        "starts the router.",
        f"Replicas come up meanwhile: the router takes each in when it answers. "
        f"Set {fleet.token_env} where weights are not public.",
    ]
    return File("up.sh", f"{SHELL}{header(fleet, TARGET, says)}{body}")
