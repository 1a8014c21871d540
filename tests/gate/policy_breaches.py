"""What a policy may forbid, broken by the demo's plan and, one step further, just kept by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hand_plan import BIG, SMALL
from plan_mutants import (
    B200,
    DRIFT,
    GSM_LIMIT,
    SURVIVED,
    Data,
    Folder,
    latency,
    row,
    scaled,
    shifted,
)


def as_it_is(folder: Folder) -> None:
    """Changes nothing."""


@dataclass(frozen=True)
class Breach:
    """A key of a policy that a plan breaks, and the value at which it just does not."""

    rule: str
    broken: Mapping[str, Any]
    kept: Mapping[str, Any]
    mutate: Callable[[Folder], object] = as_it_is
    before: Callable[[Data], object] | None = None  # what the plan before was like

    @property
    def name(self) -> str:
        key, value = next(iter(self.broken.items()))
        return f"{self.rule}-by-{key}-{value}"


def cheaper(plan: Data) -> None:
    """One replica on B200 less, at a lower price: $37.55 per hour."""
    scaled(plan, B200, 1)
    plan["predicted"]["cost_usd_per_h"] = 37.55


def better(plan: Data) -> None:
    plan["predicted"]["class_quality"]["crux"] += 0.02


def busier(plan: Data) -> None:
    """One class has a tenth more than nine tenths of its rate: 20.006068 requests/s now."""
    plan["predicted"]["class_rps"]["math-l5"] = 20.006068 / 0.9


def faster(plan: Data) -> None:
    latency(plan, "crux")["ms"] = 10_000.0  # 15,619 ms now


def tighter(plan: Data) -> None:
    latency(plan, "crux")["at_most_ms"] = 15_000.0


def unlimited(plan: Data) -> None:
    for figure in plan["predicted"]["latency"]:
        figure["at_most_ms"] = None


def elsewhere(plan: Data) -> None:
    shifted(plan, 0.5, **{"class": "gsm", "pool": BIG})  # 0.622 now


def one_pool(plan: Data) -> None:
    """All traffic on the H100s, which one plan after the other needs to be told apart from."""
    plan["deployment"] = [d for d in plan["deployment"] if d["pool"] != B200]
    scaled(plan, BIG, 7)
    for route in plan["routing"]:
        route.update(pool=BIG if route["pool"] == B200 else route["pool"])
    routes = {(r["class"], r["pool"]): r for r in plan["routing"]}
    shares = dict.fromkeys(routes, 0.0)
    for route in plan["routing"]:
        shares[route["class"], route["pool"]] += route["share"]
    plan["routing"] = [{**r, "share": round(shares[key], 6)} for key, r in routes.items()]


def crowded(plan: Data) -> None:
    """Small replicas on all nine H100s, none of which may stop before the large ones run there."""
    plan["deployment"] = [row(plan, "deployment", pool=SMALL)]
    scaled(plan, SMALL, 9)
    whole = {"pool": SMALL, "share": 1.0}
    plan["routing"] = [{"class": name, **whole} for name in plan["predicted"]["class_rps"]]


def dated(folder: Folder, date: str) -> None:
    gpus = folder.profiles() / "gpus.yaml"
    gpus.write_text(gpus.read_text().replace("as_of: 2025-12-31", f"as_of: {date}"))
    folder.stamp()


def survives(folder: Folder, **said: Any) -> None:
    """Says that a burst is survived; whether it is so, the plan's own rules find out."""
    folder.plan(lambda plan: plan.update(survives=[{**SURVIVED, **said}]))


OWN = {"severity": {"survives-differ": "off", DRIFT: "off", "proof": "off"}}
NO_SHEET = {"severity": {"sheet-differs": "off", DRIFT: "off"}}  # limits count in both
OF_POLICY = (
    Breach("policy-cost", {"max_cost_usd_per_h": 48.54}, {"max_cost_usd_per_h": 48.55}),
    Breach(
        "policy-cost-increase",
        {"max_cost_increase_ratio": 0.29},
        {"max_cost_increase_ratio": 0.3},
        before=cheaper,
    ),
    Breach(
        "policy-cost-increase",
        {"max_cost_increase_usd_per_h": 10.99},
        {"max_cost_increase_usd_per_h": 11},
        before=cheaper,
    ),
    Breach("policy-quality", {"min_quality": 0.71}, {"min_quality": 0.7}),
    Breach(
        "policy-quality",
        {"min_class_quality": {"crux": 0.65}},
        {"min_class_quality": {"crux": 0.64}},
    ),
    Breach(
        "policy-quality-drop", {"max_quality_drop": 0.01}, {"max_quality_drop": 0.02}, before=better
    ),
    Breach(
        "policy-traffic-drop",
        {"max_traffic_drop_ratio": 0.09},
        {"max_traffic_drop_ratio": 0.1},
        before=busier,
    ),
    Breach(
        "policy-latency-increase",
        {"max_latency_increase_ratio": 0.5},
        {"max_latency_increase_ratio": 0.6},
        before=faster,
    ),
    Breach("policy-limit-used", {"max_limit_used_ratio": 0.99}, {"max_limit_used_ratio": 1}),
    Breach(
        "policy-limit-band",
        {"max_limit_used_with_band_ratio": 1.1},
        {"max_limit_used_with_band_ratio": 1.2},
    ),
    Breach("policy-limits-kept", {"keep_limits": True}, {"min_quality": 0.7}, before=tighter),
    Breach(
        "policy-limits-kept",
        {"max_gap_ratio": 1, "keep_limits": True, **NO_SHEET},
        {"max_gap_ratio": 1, **NO_SHEET},
        lambda f: (
            f.plan(lambda p: p["predicted"]["latency"].remove(latency(p, "gsm"))),
            f.ask(GSM_LIMIT, ""),
        ),
        before=lambda p: p["predicted"]["latency"].insert(
            0, {**latency(p, "crux"), "class": "gsm", "at_most_ms": 10_000.0}
        ),
    ),
    Breach("policy-headroom", {"min_headroom_ratio": 0.12}, {"min_headroom_ratio": 0.11}),
    Breach(
        "policy-extrapolated",
        {"max_extrapolated_traffic_ratio": 0.4, **OWN},
        {"max_extrapolated_traffic_ratio": 0.5, **OWN},
        lambda f: f.plan(lambda p: p["predicted"]["pools"][0].update(extrapolated=True)),
    ),
    Breach(
        "policy-forbidden-gpu",
        {"forbidden_gpus": ["a100-sxm-80g", "b200-sxm-180g"]},
        {"forbidden_gpus": ["a100-sxm-80g"]},
    ),
    Breach(
        "policy-required-gpu",
        {"required_gpus": ["a100-sxm-80g"]},
        {"required_gpus": ["h100-sxm-80g"]},
    ),
    Breach("policy-gpus", {"max_gpus": {"h100-sxm-80g": 8}}, {"max_gpus": {"h100-sxm-80g": 9}}),
    Breach("policy-gpus-moved", {"max_gpus_moved": 1}, {"max_gpus_moved": 2}, before=cheaper),
    Breach(
        "policy-traffic-moved",
        {"max_traffic_moved_ratio": 0.05},
        {"max_traffic_moved_ratio": 0.06},
        before=elsewhere,
    ),
    Breach(
        "policy-transition",
        {"require_safe_transition": True},
        {"keep_limits": True},
        lambda f: f.ask("h100-sxm-80g: 32", "h100-sxm-80g: 9"),
        before=crowded,
    ),
    Breach(
        "policy-peak-gpus",
        {"max_peak_gpus": {"b200-sxm-180g": 3}},
        {"max_peak_gpus": {"b200-sxm-180g": 4}},
        before=one_pool,
    ),
    Breach("policy-gap", {"max_gap_ratio": 0}, {"max_gap_ratio": 0.01}),
    Breach(
        "policy-gap",
        {"max_gap_ratio": 1},
        {"require_complete": True},
        lambda f: f.plan(lambda p: p.update(bound=None)),
    ),
    Breach(
        "policy-simulated",
        {"require_simulated": True},
        {"require_complete": True},
        lambda f: f.plan(lambda p: p.update(simulated=None)),
    ),
    Breach(
        "policy-complete",
        {"require_complete": True},
        {"require_simulated": True},
        lambda f: f.plan(lambda p: p.update(complete=False)),
    ),
    Breach(
        "policy-scenarios",
        {"required_scenarios": [SURVIVED["scenario"]], **OWN},
        {"require_simulated": True, **OWN},
        lambda f: survives(f, survives=False),
    ),
    Breach("policy-measured", {"measured_only": True}, {"require_simulated": True}),
    Breach(
        "policy-price-age",
        {"max_price_age_days": 30},
        {"max_price_age_days": 100_000},
        lambda f: dated(f, "2024-06-01"),
    ),
    Breach(
        "policy-not-judged",
        {"keep_limits": True, "severity": {"policy-not-judged": "error"}},
        {"keep_limits": True},
    ),
)
