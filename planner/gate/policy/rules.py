"""The rules of a policy (policy.yaml), judged where the policy has a key for them."""

from __future__ import annotations

from planner.gate.finding import Rule


def _rule(id: str, summary: str, why: str, fix: str) -> Rule:
    return Rule(id, "error", "policy", summary, why, fix)


POLICY_RULES: tuple[Rule, ...] = (
    Rule(
        "policy-not-judged",
        "warning",
        "policy",
        "every key of the policy could be judged",
        "What was not looked at must not read like what was looked at and found right.",
        "give what the finding names, e.g. --against OLD",
    ),
    _rule(
        "policy-cost",
        "the plan costs at most max_cost_usd_per_h",
        "What a question may spend is the team's; what a service may spend is not.",
        "plan for less, or raise max_cost_usd_per_h",
    ),
    _rule(
        "policy-cost-increase",
        "the plan costs at most max_cost_increase_ratio, or _usd_per_h, more than the one before",
        "A jump in rent is decided by somebody, not merged by chance.",
        "plan for less, or have the increase agreed to",
    ),
    _rule(
        "policy-quality",
        "quality is at least min_quality, of a class at least its min_class_quality",
        "A floor that no question can lower.",
        "raise the question's floor, and plan again",
    ),
    _rule(
        "policy-quality-drop",
        "quality falls by at most max_quality_drop below that of the plan before",
        "Many small savings on quality are a large one.",
        "set quality_at_least in the question, and plan again",
    ),
    _rule(
        "policy-traffic-drop",
        "planned requests/s fall by at most max_traffic_drop_ratio below those of the plan before",
        "A plan for less traffic is cheaper and faster, and too small for who comes.",
        "restore the rates in the question, and plan again",
    ),
    _rule(
        "policy-latency-increase",
        "a limited latency rises by at most max_latency_increase_ratio above the plan before",
        "Within its limit an answer can still become much slower than users are used to.",
        "tighten the limit in the question, and plan again",
    ),
    _rule(
        "policy-limit-used",
        "predictions use at most max_limit_used_ratio of their limits",
        "A prediction at its limit is above it half of the time.",
        "tighten the limit in the question by so much, and plan again",
    ),
    _rule(
        "policy-limit-band",
        "the upper ends of error bands use at most max_limit_used_with_band_ratio of their limits",
        "The band says how far off the prediction may be (§8).",
        "measure the pools better, or ask for robust: {latency_band: true}",
    ),
    _rule(
        "policy-limits-kept",
        "no latency limit of the plan before is left out or loosened",
        "A plan meets every limit that it is not given.",
        "restore the limit in the question, and plan again",
    ),
    _rule(
        "policy-headroom",
        "every pool keeps at least min_headroom_ratio of its capacity free",
        "What is free is what a burst or a lost replica can have.",
        "raise headroom_ratio in the question, and plan again",
    ),
    _rule(
        "policy-extrapolated",
        "at most max_extrapolated_traffic_ratio of the requests go to pools outside measured loads",
        "A latency that is continued is not known (§8).",
        "measure those pools at the loads of the plan",
    ),
    _rule(
        "policy-forbidden-gpu",
        "no GPU of forbidden_gpus is used",
        "Contracts, regions and drivers know more than a price list.",
        "take it out of the question's stock, and plan again",
    ),
    _rule(
        "policy-required-gpu",
        "each GPU of required_gpus is used",
        "What is paid for anyway should carry traffic.",
        "fix replicas of a pool on it in the question, and plan again",
    ),
    _rule(
        "policy-gpus",
        "at most max_gpus of a kind are used or reserved",
        "Quotas are shared with other teams.",
        "lower the question's stock, and plan again",
    ),
    _rule(
        "policy-gpus-moved",
        "replicas that start and stop have at most max_gpus_moved GPUs",
        "Every replica that moves loads weights and drains requests.",
        "set keep in the question, and plan again; or change in several steps",
    ),
    _rule(
        "policy-traffic-moved",
        "at most max_traffic_moved_ratio of the requests go elsewhere than before",
        "Caches, and what users are used to, stay with traffic that stays.",
        "set keep in the question, and plan again; or change in several steps",
    ),
    _rule(
        "policy-transition",
        "the change keeps capacity, limits and floors in each of its steps",
        "Two good plans can have a bad moment between them.",
        "get the GPUs that the finding names for a while, or change in several steps",
    ),
    _rule(
        "policy-peak-gpus",
        "the change takes at most max_peak_gpus of a kind on the way",
        "What starts runs beside what it replaces.",
        "change in several steps, or raise max_peak_gpus",
    ),
    _rule(
        "policy-gap",
        "the plan is proved to be within max_gap_ratio of the best possible",
        "Without a proof nobody knows how much better it could be (§5).",
        "plan with more effort",
    ),
    _rule(
        "policy-simulated",
        "the plan, and each of its limits, was tried in simulation",
        "A formula can only estimate what queues and bursts do.",
        "rb plan DIR, with an effort that simulates",
    ),
    _rule(
        "policy-complete",
        "the search that made the plan was not interrupted",
        "After an interruption a better plan may exist.",
        "rb plan DIR, to its end",
    ),
    _rule(
        "policy-scenarios",
        "the plan survives each of required_scenarios, by its tables and in simulation",
        "What the whole site must survive is no team's choice.",
        "ask for it in robust, and plan again",
    ),
    _rule(
        "policy-measured",
        "every figure of the deployed pools is measured",
        "A plan is as good as the least certain of its inputs (§8).",
        "rb profile run measures a pool",
    ),
    _rule(
        "policy-price-age",
        "prices of the GPUs in use were looked up at most max_price_age_days ago",
        "Rents move faster than repositories.",
        "look the price up, and change usd_per_h and as_of in gpus.yaml",
    ),
)
