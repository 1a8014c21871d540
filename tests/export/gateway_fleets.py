"""Small fleets made by hand, of the pools and shares of the demo plan, for the gateway targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from planner.export.fleet import Address, ClassRoute, Engine, Fleet, HostedEngine

BIG, SMALL, NEW = "llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100", "llama-3.1-70b-b200-tp2"
SHARES = {
    "gsm": {BIG: 622_487, SMALL: 295_485, NEW: 82_028},
    "crux": {NEW: 1_000_000},
    "math-l5": {NEW: 554_381, BIG: 257_396, SMALL: 188_223},
}
N_OF_10_000 = {"gsm": 4_644, "crux": 2_817, "math-l5": 2_539}  # as the demo's rates have them
FALLBACK = {"gsm": (BIG, SMALL, NEW), "crux": (NEW, BIG, SMALL), "math-l5": (NEW, BIG, SMALL)}
HOSTED = HostedEngine("gpt", "gpt", "https://api.example.com/openai/v1", "gpt-x", "GPT_KEY", 3.0)


def documents(text: str) -> list[dict[str, Any]]:
    """Returns the documents of a YAML file; by the reader in C, where there is one."""
    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def made_engine(pool: str, **changes: Any) -> Engine:
    """Returns a pool of two replicas on one GPU each; `changes` are fields of Engine."""
    engine = Engine(
        pool=pool,
        model_name=pool,
        dns_name=pool.replace(".", "-"),
        engine="vllm",
        measured_with=None,
        image="vllm/vllm-openai:v0.11.0",
        weights=f"org/{pool}",
        revision=None,
        trust_remote_code=False,
        served_model_name=f"served/{pool}",
        gpu="h100",
        gpu_resource="nvidia.com/gpu",
        node_selector={},
        replicas=2,
        tensor_parallel=1,
        pipeline_parallel=1,
        data_parallel=1,
        gpus_per_replica=1,
        gpu_memory_ratio=0.9,
        gpu_compute_ratio=None,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        max_model_len=None,
        weight_precision=None,
        kv_precision=None,
        kv_capacity_tokens=None,
        prefix_caching=False,
        port=8000,
    )
    return replace(engine, **changes)


def made_route(
    name: str, shares: Mapping[str, int], fallback: Sequence[str] | None = None
) -> ClassRoute:
    """Returns a class with shares in millionths; it falls back to the same pools by default."""
    dns_name = name.lower().replace("_", "-").replace(".", "-")
    return ClassRoute(name, dns_name, tuple(shares.items()), tuple(fallback or shares))


def made_fleet(
    urls: Mapping[str, Sequence[str]] | None = None,
    hosted: Sequence[HostedEngine] = (),
    routes: Sequence[ClassRoute] | None = None,
    notes: tuple[str, ...] = (),
) -> Fleet:
    """Returns the demo plan's three pools and classes, and hosted pools that nobody is sent to."""
    urls = urls or {}
    return Fleet(
        title="Three sizes of Llama",
        plan_hash="ab" * 32,
        rb_version="0.1.0",
        cost_usd_per_h=12.5,
        period=None,
        engines=tuple(made_engine(p, urls=tuple(urls.get(p, ()))) for p in (BIG, SMALL, NEW)),
        hosted=tuple(hosted),
        routes=tuple(
            routes
            if routes is not None
            else (made_route(c, shares, FALLBACK[c]) for c, shares in SHARES.items())
        ),
        has_cascades=False,
        address=Address("default", 8080, "x-rb-class"),
        token_secret=None,
        images={},
        plan_files={},
        notes=notes,
    )


def hosted_fleet() -> Fleet:
    """Returns the demo's fleet with a class that is sent to a hosted pool, too."""
    routes = [made_route(c, shares, FALLBACK[c]) for c, shares in SHARES.items()]
    chat = made_route("chat", {SMALL: 600_000, HOSTED.pool: 400_000})
    return made_fleet(hosted=(HOSTED,), routes=(*routes, chat))
