"""The plan as a LiteLLM proxy's config.yaml: a class is a model name, its pools are its entries.

LiteLLM draws an entry at random by `weight`. What one entry without a weight does depends on the
version (BerriAI/litellm#33329: all are drawn alike; 1.106: it is never drawn), so every entry has
one, and nothing else by which LiteLLM might choose: no order, no tags, no max_parallel_requests, at
which it answers 429 rather than wait, and then leaves the entry out for a while.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.export.addresses import (
    MOST_TRIES,
    SERVED_PREFIX,
    base_urls,
    routed,
    says_of_addresses,
)
from planner.export.fleet import MILLION, ClassRoute, Engine, File, Fleet, HostedEngine
from planner.export.manifest import header, yaml_text
from planner.export.shares import split, weights
from planner.export.targets import refuse_cascades

TARGET = "litellm"
POOL_PREFIX = "pool/"  # no class can be called so: names have no slash
COOLDOWN_S = 10  # an entry that failed is left out for so long; the others keep their proportions
_LENT = "OPENAI_API_KEY"
_MASTER_KEY = "os.environ/LITELLM_MASTER_KEY"


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns config.yaml: entries with weights, fallbacks in the plan's order, no keys.

    Raises InputError for a plan with cascades.
    """
    refuse_cascades(fleet, TARGET)
    pools = {pool.pool: pool for pool in routed(fleet)}
    entries = [e for route in fleet.routes for e in _class_entries(route, pools)]
    entries += [e for pool in pools.values() for e in _pool_entries(pool)]
    config: dict[str, object] = {
        "model_list": entries,
        "router_settings": {
            "routing_strategy": "simple-shuffle",
            # None but the fallbacks, which begin with the class's own pools: with one, a request
            # that nobody could take came to three engines eight times, and waited 9 s in between.
            "num_retries": 0,
            # Behind the pool that was drawn, which may be one of them.
            "max_fallbacks": min(
                MOST_TRIES, max((len(r.fallback) for r in fleet.routes), default=0)
            ),
            "cooldown_time": COOLDOWN_S,
            "model_group_alias": {
                SERVED_PREFIX + route.class_name: route.class_name for route in fleet.routes
            },
            "fallbacks": [
                {route.class_name: [POOL_PREFIX + pool for pool in route.fallback]}
                for route in fleet.routes
                if route.fallback
            ],
        },
        "litellm_settings": {
            "telemetry": False,
            "turn_off_message_logging": True,
            # Else the first stream of a Llama waits while it asks a public site for a tokenizer.
            "disable_hf_tokenizer_download": True,
        },
        "general_settings": {"master_key": _MASTER_KEY},
    }
    return (File("config.yaml", yaml_text([config], header(fleet, TARGET, _says(fleet)))),)


def _class_entries(
    route: ClassRoute, pools: dict[str, Engine | HostedEngine]
) -> Iterator[dict[str, object]]:
    for name, weight in weights(route.shares).of:
        if weight:
            identity = f"{route.class_name}/{name}"
            yield from _entries(route.class_name, identity, pools[name], weight)


def _pool_entries(pool: Engine | HostedEngine) -> Iterator[dict[str, object]]:
    """Yields what a pool is by itself: what classes fall back to."""
    name = POOL_PREFIX + pool.pool
    yield from _entries(name, name, pool, MILLION)


def _entries(
    model_name: str, identity: str, pool: Engine | HostedEngine, weight: int
) -> Iterator[dict[str, object]]:
    """Yields an entry for each server of a pool, the pool's weight shared out evenly."""
    urls = base_urls(pool)
    for place, (url, part) in enumerate(zip(urls, split(weight, len(urls)), strict=True), 1):
        if part:
            yield {
                "model_name": model_name,
                "litellm_params": {**_upstream(pool), "api_base": url, "weight": part},
                "model_info": {"id": identity if len(urls) == 1 else f"{identity}/{place}"},
            }


def _upstream(pool: Engine | HostedEngine) -> dict[str, object]:
    """Returns how LiteLLM asks a pool; "hosted_vllm" is its word for any server without a key."""
    name = pool.served_model_name if isinstance(pool, Engine) else pool.model_name
    asked: dict[str, object] = {"model": f"hosted_vllm/{name}"}
    if pool.api_key_env is not None:
        provider = "hosted_vllm" if isinstance(pool, Engine) else "openai"
        asked = {"model": f"{provider}/{name}", "api_key": f"os.environ/{pool.api_key_env}"}
    if isinstance(pool, HostedEngine):
        asked["rpm"] = max(1, int(60 * pool.max_rps))
    return asked


def _says(fleet: Fleet) -> tuple[str, ...]:
    classes = ", ".join(route.class_name for route in fleet.routes)
    says = [
        "run: litellm --config config.yaml, with LITELLM_MASTER_KEY in the environment; without it "
        "the proxy is open to anyone. Clients send it as their key: keys of their own, with less "
        "power, need a database (DATABASE_URL)",
        "probes: /health/liveliness and /health/readiness; /health sends a prompt to every entry",
        "LITELLM_LOCAL_MODEL_COST_MAP=True in the environment keeps it from fetching a price list "
        "as it starts",
        f"a request names its class as its model: {classes} (or {SERVED_PREFIX}CLASS, as for rb "
        f"serve); {POOL_PREFIX}NAME asks one pool",
        "what a pool does not answer goes to the class's other pools, in the plan's order, "
        f"{MOST_TRIES} more at most; so does what it refuses (400), for LiteLLM does not tell the "
        "two apart",
        "weights are the plan's shares in millionths, exact; every entry has one, or LiteLLM "
        "would not keep to them; it draws at random, so short windows stray from the shares",
    ]
    if fleet.hosted:
        says.append(
            "rpm of hosted entries is what the plan allows the whole pool; LiteLLM takes it as the "
            "most requests in flight, and counts against it only if told to "
            "(optional_pre_call_checks)"
        )
    if any(pool.api_key_env == _LENT for pool in routed(fleet)):
        says.append(
            f"give {_LENT} another name in endpoints.yaml: LiteLLM uses it, too, for whoever asks "
            "for /v1/files and the like"
        )
    return (*says, *says_of_addresses(fleet), *fleet.notes)
