"""A plan of two classes on two pools as drift knows it, and traffic that is just as planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from made_pages import Seen

from planner.spec.plan import Routes
from planner.spec.sheet import ServingSheet

HASH = "a" * 64
RATES = {"chat": 4.0, "code": 1.0}
SHARES = {"chat": {"big": 0.25, "small": 0.75}, "code": {"big": 1.0}}
QUALITY = {"big": 0.9, "small": 0.7}
TOKENS = {"chat": (100.0, 200.0), "code": (400.0, 300.0)}
WORK_S = {"chat": 0.2, "code": 0.6}
REPLICAS = {"big": 2, "small": 1}
LIMIT_MS = {"chat": 5_000.0, "code": 20_000.0}
MEDIAN_MS = {"chat": 2_000.0, "code": 9_000.0}


def answer(class_name: str, pool: str) -> dict[str, float]:
    n_input, n_output = TOKENS[class_name]
    work_s = WORK_S[class_name]
    return {
        "input_tokens": n_input,
        "output_tokens": n_output,
        "quality": QUALITY[pool],
        "work_s": work_s,
        "work_s_per_input_token": 0.2 * work_s / n_input,
        "work_s_per_output_token": 0.8 * work_s / n_output,
    }


def pool_of(name: str) -> dict[str, Any]:
    used = sum(RATES[c] * SHARES[c].get(name, 0.0) * WORK_S[c] for c in RATES)
    return {
        "model_name": name,
        "n_replicas": REPLICAS[name],
        "usd_per_h": 2.0,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 2048,
        "steps": {"n": [0, 8], "decode_ms": [5.0, 9.0], "context_token_ms": [0.0, 0.0]},
        "low_ratio": 0.9,
        "high_ratio": 1.1,
        "utilisation_ratio": used / REPLICAS[name],
        "max_load_ratio": 1.0,
        "rate_rps": sum(RATES[c] * SHARES[c].get(name, 0.0) for c in RATES),
    }


def class_of(name: str) -> dict[str, Any]:
    return {
        "rate_rps": RATES[name],
        "mean_rate_rps": RATES[name],
        "priority": 1,
        "input_tokens": TOKENS[name][0],
        "cached_input_ratio": 0.0,
        "limits": [{"metric": "e2e", "statistic": "p95", "at_most_ms": LIMIT_MS[name]}],
        "quality": sum(QUALITY[p] * share for p, share in SHARES[name].items()),
        "latency": [
            {
                "metric": "e2e",
                "statistic": "p50",
                "ms": MEDIAN_MS[name],
                "low_ms": 0.8 * MEDIAN_MS[name],
                "high_ms": 1.2 * MEDIAN_MS[name],
            }
        ],
        "answers": {pool: answer(name, pool) for pool in REPLICAS},
    }


def made_sheet(**changes: Any) -> ServingSheet:
    data = {
        "plan_hash": HASH,
        "title": "made for a test",
        "headroom_ratio": 0.1,
        "arrivals": "poisson",
        "arrival_cv": 1.0,
        "quality": 0.8,
        "limits": [],
        "latency": [],
        "delay_price_per_s": 0.0,
        "pools": {name: pool_of(name) for name in REPLICAS},
        "classes": {name: class_of(name) for name in RATES},
    }
    return ServingSheet.model_validate({**data, **changes})


def with_class(name: str, **changes: Any) -> ServingSheet:
    classes = {c: class_of(c) for c in RATES}
    return made_sheet(classes={**classes, name: {**classes[name], **changes}})


def made_routes(**changes: Any) -> Routes:
    data: dict[str, Any] = {
        "classes": {
            name: [{"pool": pool, "share": share} for pool, share in shares.items()]
            for name, shares in SHARES.items()
        },
        "load_prices": {},
        "fallback": {name: list(REPLICAS) for name in SHARES},
        "plan_hash": HASH,
    }
    return Routes.model_validate({**data, **changes})


def latencies(class_name: str, n: int, slower: float = 1.0, late: float = 0.03) -> dict[str, Any]:
    """Half of the answers within 0.9 to 1.1 times the median, and some above the limit."""
    middle_s, limit_s = slower * MEDIAN_MS[class_name] / 1e3, LIMIT_MS[class_name] / 1e3
    bounds = {0.9 * middle_s: int(0.3 * n), 1.1 * middle_s: int(0.7 * n)}
    bounds = {s: k for s, k in bounds.items() if s < limit_s}
    return {"e2e": {**bounds, limit_s: round((1.0 - late) * n)}}


def traffic(
    seconds: float = 3600.0,
    rates: Mapping[str, float] = RATES,
    shares: Mapping[str, Mapping[str, float]] = SHARES,
    longer: float = 1.0,
    slower: float = 1.0,
    late: float = 0.03,
    **changes: Any,
) -> list[Seen]:
    """What is counted in some time, as planned but for what is asked for."""
    found = []
    for name, pools in shares.items():
        for pool, share in pools.items():
            n = round(rates[name] * share * seconds)
            n_input, n_output = TOKENS[name]
            seen = latencies(name, n, slower, late)
            found.append(Seen(name, pool, n, n_input, longer * n_output, latency_s=seen, **changes))
    return found
