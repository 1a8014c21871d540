"""The pool that a run measures: what the user says of it, and what the engine shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.errors import Fault, InputError
from planner.files.faults import build
from planner.metrics_page import EngineState
from planner.profile.fields import base_name
from planner.profile.load.options import SessionSettings
from planner.profile.load.ramp import Measured, saturation
from planner.profile.sidecar import OPTIONS, option_of
from planner.spec.pool import Pool
from planner.spec.run import RunSettings

KV_FULL_RATIO = 0.9  # above it the KV cache, not a setting, may keep requests waiting


def pool_name(given: str | None, settings: RunSettings) -> str:
    """Returns the name of the pool: given, or model, GPU and tensor parallel."""
    parallel = f"-tp{settings.tensor_parallel}" if settings.tensor_parallel > 1 else ""
    return given or f"{base_name(settings.model)}-{settings.gpu}{parallel}"


def measured_pool(
    name: str,
    settings: RunSettings,
    state: EngineState | None = None,
    max_num_seqs: int | None = None,
) -> tuple[Pool, tuple[str, ...]]:
    """Returns the pool, and which of its fields are known so well that they win over pool.yaml.

    Args:
        name: of the pool.
        settings: what the user says.
        state: what the engine's /metrics page says.
        max_num_seqs: the requests that the engine was seen to run together, if it was.

    Raises:
        InputError: a name cannot be one.
    """
    facts: dict[str, object] = {
        "model_name": base_name(settings.model),
        "gpu": settings.gpu,
        "tensor_parallel": settings.tensor_parallel,
        "max_num_seqs": settings.max_num_seqs,
        "engine": state.engine if state else None,
        "kv_capacity_tokens": state.kv_capacity_tokens if state else None,
    }
    known = {key: value for key, value in facts.items() if value is not None}
    seen = {} if max_num_seqs is None else {"max_num_seqs": max_num_seqs}
    faults: list[Fault] = []
    data = {"name": name, **seen, **known, "source": "rb profile run"}
    pool = build(Pool, data, OPTIONS, faults)
    if pool is None:
        raise InputError(as_options(faults))
    return pool, tuple(known)


def as_options(faults: Sequence[Fault]) -> list[Fault]:
    """Returns faults that name the options that were given, not the fields that they fill."""
    names = {"model_name": "model"}
    return [replace(f, field=option_of(names.get(f.field, f.field))) for f in faults]


def seen_max_num_seqs(measured: Sequence[Measured], settings: SessionSettings) -> int | None:
    """Returns how many requests the engine ran together while others waited for a place.

    None where it was not seen to queue, or where the KV cache may have been the reason.
    """
    full = saturation(measured, settings)
    if full is None or not full.queue_seen:
        return None
    used = [m.level.kv_used_ratio for m in measured if m.level.kv_used_ratio is not None]
    return None if used and max(used) >= KV_FULL_RATIO else full.concurrency
