"""A policy's rules on one screen: which key of policy.yaml is judged by which function.

They are judged on the plan's own figures, for which the plan's own rules vouch (prediction-drift).
Each yields what breaks it, with old, new, difference and what is allowed. A plan with periods is
judged in each of them, its money as the mean over all hours. A key that cannot be judged is a
finding by itself (policy-not-judged), never silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from planner.gate.finding import Finding, warning
from planner.gate.policy import change, level, trust
from planner.gate.policy.case import PolicyCase
from planner.spec.plan import Plan

Judge = Callable[[PolicyCase], Iterator[Finding]]
JudgeChange = Callable[[PolicyCase, Plan], Iterator[Finding]]


@dataclass(frozen=True)
class PolicyRule:
    """The keys of a policy that one rule is about, and what judges them."""

    id: str
    keys: tuple[str, ...]
    judge: Judge | None = None  # of the plan alone
    judge_change: JudgeChange | None = None  # of the plan and the one before it


POLICY: tuple[PolicyRule, ...] = (
    PolicyRule("policy-cost", ("max_cost_usd_per_h",), level.cost),
    PolicyRule(
        "policy-cost-increase",
        ("max_cost_increase_ratio", "max_cost_increase_usd_per_h"),
        judge_change=change.cost_increase,
    ),
    PolicyRule("policy-quality", ("min_quality", "min_class_quality"), level.quality),
    PolicyRule("policy-quality-drop", ("max_quality_drop",), judge_change=change.quality_drop),
    PolicyRule(
        "policy-traffic-drop", ("max_traffic_drop_ratio",), judge_change=change.traffic_drop
    ),
    PolicyRule(
        "policy-latency-increase",
        ("max_latency_increase_ratio",),
        judge_change=change.latency_increase,
    ),
    PolicyRule("policy-limit-used", ("max_limit_used_ratio",), level.limit_used),
    PolicyRule("policy-limit-band", ("max_limit_used_with_band_ratio",), level.limit_band),
    PolicyRule("policy-limits-kept", ("keep_limits",), judge_change=change.limits_kept),
    PolicyRule("policy-headroom", ("min_headroom_ratio",), level.headroom),
    PolicyRule("policy-extrapolated", ("max_extrapolated_traffic_ratio",), trust.extrapolated),
    PolicyRule("policy-forbidden-gpu", ("forbidden_gpus",), level.forbidden_gpu),
    PolicyRule("policy-required-gpu", ("required_gpus",), level.required_gpu),
    PolicyRule("policy-gpus", ("max_gpus",), level.most_gpus),
    PolicyRule("policy-gpus-moved", ("max_gpus_moved",), judge_change=change.gpus_moved),
    PolicyRule(
        "policy-traffic-moved", ("max_traffic_moved_ratio",), judge_change=change.traffic_moved
    ),
    PolicyRule(
        "policy-transition", ("require_safe_transition",), judge_change=change.safe_transition
    ),
    PolicyRule("policy-peak-gpus", ("max_peak_gpus",), judge_change=change.peak_gpus),
    PolicyRule("policy-gap", ("max_gap_ratio",), trust.gap),
    PolicyRule("policy-simulated", ("require_simulated",), trust.simulated),
    PolicyRule("policy-complete", ("require_complete",), trust.complete),
    PolicyRule("policy-scenarios", ("required_scenarios",), trust.scenarios),
    PolicyRule("policy-measured", ("measured_only",), trust.measured),
    PolicyRule("policy-price-age", ("max_price_age_days",), trust.price_age),
)


def policy_findings(case: PolicyCase) -> tuple[list[Finding], list[str]]:
    """Returns what breaks a policy, and the ids of the rules that were judged."""
    found: list[Finding] = []
    judged: list[str] = []
    unjudged: list[str] = []
    for rule in POLICY:
        asked = [key for key in rule.keys if key in case.policy.asked]
        if not asked:
            continue
        if rule.judge is not None:
            found += rule.judge(case)
        elif rule.judge_change is not None and case.old is not None:
            found += rule.judge_change(case, case.old)
        else:
            unjudged += asked
            continue
        judged.append(rule.id)
    if unjudged:
        what = f"not judged, as there is no plan before to compare with: {', '.join(unjudged)}"
        found.append(warning("policy-not-judged", "policy.yaml", what, "give it: --against OLD"))
    found += _without_limits(case)
    return found, ["policy-not-judged", *judged]


def _without_limits(case: PolicyCase) -> Iterator[Finding]:
    """Yields the keys about latency limits, of a plan that has none."""
    keys = ("max_limit_used_ratio", "max_limit_used_with_band_ratio", "max_latency_increase_ratio")
    asked = [key for key in keys if key in case.policy.asked]
    has_limits = any(figure.at_most_ms is not None for figure in case.plan.predicted.latency)
    if asked and not has_limits:
        what = f"not judged, as the plan has no latency limits: {', '.join(asked)}"
        yield warning("policy-not-judged", "policy.yaml", what, "give the question limits")
