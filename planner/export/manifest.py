"""The text of exported files: a head that says what they are of, then YAML or lines of a script."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from planner.export.fleet import Engine, Fleet
from planner.files.manifest_yaml import WIDTH, manifest_yaml


def header(fleet: Fleet, target: str, says: Sequence[str] = ()) -> str:
    """Returns the comment at the head of a file, lines that begin with '# '.

    Args:
        fleet: what is exported.
        target: its name, as in rb export --to.
        says: what else the reader of this file must know, one sentence each.
    """
    period = f", period {fleet.period}" if fleet.period is not None else ""
    asked = f" --period {fleet.period}" if fleet.period is not None else ""
    lines = [
        f"{fleet.title}",
        f"plan {fleet.plan_hash}{period}, ${fleet.cost_usd_per_h:,.2f} per hour",
        f"written by rb {fleet.rb_version}: rb export DIR --to {target}{asked}",
        "Change the plan or export.yaml and export again, rather than this file.",
    ]
    return comment([*lines, *says])


def comment(sentences: Sequence[str]) -> str:
    """Returns sentences as comment lines; what only controls a terminal is left out.

    They are wrapped, but for commands ("$ kubectl ..."), which are there to be copied.
    """
    return "".join(f"# {line}\n" for sentence in sentences for line in _wrapped(one_line(sentence)))


def _wrapped(text: str) -> list[str]:
    if text.startswith("$ "):
        return [text]
    lines = textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False, break_long_words=False)
    return lines or [""]


def one_line(text: str) -> str:
    """Returns a text on one line, without control characters: it could end a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def yaml_text(documents: Sequence[object], head: str = "") -> str:
    """Returns a YAML file of some documents below a head of comment lines."""
    return head + "---\n".join(manifest_yaml(document) for document in documents)


def engine_comments(engine: Engine) -> tuple[str, ...]:
    """Returns what an operator should know of one pool, one sentence each."""
    each = _count(engine.gpus_per_replica, "GPU")
    said = [f"{engine.pool}: {_count(engine.replicas, 'replica')} of {each}, {engine.gpu}"]
    if engine.n_nodes > 1:
        said.append(
            f"a replica lies on {engine.n_nodes} machines: the engine must know --nnodes, as vLLM "
            "0.12 and SGLang 0.4 do"
        )
    if engine.kv_capacity_tokens is not None:
        said.append(
            f"the plan counts on a KV cache of {engine.kv_capacity_tokens:,} tokens per replica: "
            "compare it with what the engine says as it starts"
        )
    if engine.cached_input_ratio > 0:
        said.append(
            f"the plan counts on up to {engine.cached_input_ratio:.0%} of prompt tokens from the "
            "prefix cache"
        )
    if engine.gpu_compute_ratio is not None:
        by = (
            "run CUDA's MPS (nvidia-cuda-mps-control)"
            if engine.maker == "nvidia"
            else "nothing here keeps it to its compute, CUDA's MPS is for NVIDIA's GPUs alone"
        )
        said.append(
            f"it takes {engine.gpu_compute_ratio:.0%} of each GPU's compute and "
            f"{engine.gpu_memory_ratio:.0%} of its memory: {by}"
        )
    if engine.measured_with is not None:
        said.append(f"measured with {engine.measured_with}")
    return tuple(said)


def key_comment(engine: Engine) -> str:
    """Returns whether a pool asks for a key, and what follows from that, in one sentence."""
    if engine.api_key_env is None:
        return (
            "it asks for no key: let nobody but the router reach its port, or name api_key_env for "
            f"{engine.pool} in endpoints.yaml"
        )
    return f"it asks for the key in {engine.api_key_env}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
