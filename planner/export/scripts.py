"""Engines started by hand: a script per pool, one per machine, and the router's folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from planner.export.engine_flags import environment, key_settings, node_args, serve_command
from planner.export.fleet import Engine, File, Fleet
from planner.export.hosts import Host, Part, hosts_of
from planner.export.manifest import engine_comments, header, key_comment
from planner.export.router_files import router_files, serve_words

SHELL = "#!/usr/bin/env bash\n"
START, HOSTS = "start", "hosts"
KEY_OF = "the key of"


def script_files(fleet: Fleet, target: str) -> tuple[File, ...]:
    """Returns the scripts that start all engines of a fleet, and the folder of `rb serve`."""
    hosts = hosts_of(fleet)
    starts = [_start(fleet, engine, target) for engine in fleet.engines]
    machines = [_machine(fleet, host, target) for host in hosts]
    where = "each name of a machine in it must lead there (DNS, /etc/hosts), or be replaced"
    urls = replica_urls(hosts)
    return (*starts, *machines, *router_files(fleet, target, urls, [where, *serve_words(fleet)]))


def replica_urls(hosts: Sequence[Host]) -> dict[str, list[str]]:
    """Returns the address of every replica by its pool, in their order."""
    at = {
        (part.engine.pool, part.replica): f"http://{host.name}:{part.port}"
        for host in hosts
        for part in host.parts
        if part.node_rank == 0
    }
    urls: dict[str, list[str]] = {}
    for pool, replica in sorted(at):
        urls.setdefault(pool, []).append(at[pool, replica])
    return urls


def _start(fleet: Fleet, engine: Engine, target: str) -> File:
    """Returns the script that starts one replica of a pool on the GPUs that it is given."""
    says = [
        *engine_comments(engine),
        *fleet.notes,
        f"it listens on PORT ({engine.port}) of LISTEN_ON (0.0.0.0: every network of the machine) "
        "and sees CUDA_VISIBLE_DEVICES; further arguments are handed on",
        key_comment(engine),
        f"weights that are not public need {fleet.token_env} in the environment",
    ]
    gpus = ",".join(str(g) for g in range(min(engine.gpus_per_replica, engine.gpus_per_node)))
    key_env, key_args = key_settings(engine, f'"${{{engine.api_key_env}:?{KEY_OF} {engine.pool}}}"')
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment(engine).items()]
    lines += [f"export {name}={value}" for name, value in key_env.items()]
    lines.append(f'export CUDA_VISIBLE_DEVICES="${{CUDA_VISIBLE_DEVICES:-{gpus}}}"')
    # These words are not said literally: a machine has several replicas, and maybe two networks.
    words = [shlex.quote(word) for word in serve_command(engine)]
    words[words.index("--port") + 1] = f'"${{PORT:-{engine.port}}}"'
    words[words.index("--host") + 1] = '"${LISTEN_ON:-0.0.0.0}"'
    lines.append("exec " + " \\\n  ".join([*command_lines([*words, *key_args]), '"$@"']))
    body = "\n".join(lines) + "\n"
    text = f"{SHELL}{header(fleet, target, says)}set -euo pipefail\n\n{body}"
    return File(f"{START}/{engine.dns_name}.sh", text)


def command_lines(words: Sequence[str]) -> list[str]:
    """Returns the words of a command, each flag with its value on a line of its own."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.lstrip("'").startswith("-") and word != "-m":
            lines.append([])
        lines[-1].append(word)
    return [" ".join(line) for line in lines]


KEEP = """\
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
logs="${LOGS:-$PWD/logs}"
pause_s="${PAUSE_S:-10}"
mkdir -p "$logs"

# keep NAME COMMAND...: runs a command, and again when it ends, until it is told to end itself.
keep() {
  local name="$1" status
  shift
  trap 'kill $(jobs -p) 2>/dev/null || true; wait; exit 143' TERM
  while true; do
    status=0
    "$@" >>"$logs/$name.log" 2>&1 &
    wait "$!" || status="$?"
    echo "$name: ended with status $status, see $logs/$name.log; again in $pause_s s" >&2
    sleep "$pause_s" &
    wait "$!" || true
  done
}

trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
"""


def _machine(fleet: Fleet, host: Host, target: str) -> File:
    """Returns the script that keeps all replicas of one machine running until it is ended."""
    n_taken = len({g for part in host.parts for g in part.gpus})
    says = [
        f"{host.name}: a machine with {host.n_gpus} GPUs of kind {host.gpu}, {n_taken} of which "
        "are taken",
        f"start it with: bash {HOSTS}/{host.name}.sh (under systemd or in tmux); Ctrl-C or SIGTERM "
        "ends its engines, too",
        "an engine that ends is started again after PAUSE_S (10) seconds, the others go on; LOGS "
        "is where their output goes (./logs)",
    ]
    kept = "".join(_kept(part) for part in host.parts)
    body = f"set -euo pipefail\n\n{KEEP}\n{kept}\nwait\n"
    return File(f"{HOSTS}/{host.name}.sh", f"{SHELL}{header(fleet, target, says)}{body}")


def _kept(part: Part) -> str:
    """Returns the lines that keep one replica running."""
    gpus = ",".join(map(str, part.gpus))
    script = f'bash "$here/{START}/{part.engine.dns_name}.sh"'
    args = [script, *node_args(part.engine, part.n_nodes, part.node_rank, part.master)]
    return (
        f"keep {part.name} env PORT={part.port} CUDA_VISIBLE_DEVICES={gpus} \\\n"
        f"  {' '.join(args)} &\n"
    )
