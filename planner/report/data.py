"""Reports as data: what --json writes, plain lists and mappings, finite numbers only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

import numpy as np

from planner.gate.diff import FrontChange, PlanDiff
from planner.gate.finding import Finding
from planner.spec.base import Spec

if TYPE_CHECKING:  # what judges is not needed to tell of a difference
    from planner.gate.judgement import Judgement


def as_data(value: object) -> object:
    """Returns a value as JSON can hold it; class_name is `class` as in every file, inf is null."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Spec):
        return value.model_dump(mode="json", by_alias=True)
    if is_dataclass(value) and not isinstance(value, type):
        return as_data({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, Mapping):
        return {("class" if k == "class_name" else str(k)): as_data(v) for k, v in value.items()}
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str):
        return [as_data(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def findings_data(findings: Sequence[Finding]) -> dict[str, object]:
    """Returns the findings of a check with their numbers by severity."""
    n_errors = sum(f.severity == "error" for f in findings)
    return {
        "ok": n_errors == 0,
        "n_errors": n_errors,
        "n_warnings": len(findings) - n_errors,
        "findings": as_data(findings),
    }


def judgement_data(judgement: Judgement, diff: PlanDiff | None = None) -> dict[str, object]:
    """Returns a judgement: its findings, the rules that had their say, and those switched off."""
    return {
        **findings_data(judgement.findings),
        "judged": [rule.id for rule in judgement.judged],
        "switched_off": dict(judgement.switched_off),
        **({} if diff is None else {"diff": diff_data(diff)}),
    }


def diff_data(diff: PlanDiff) -> dict[str, object]:
    """Returns a difference with what follows from it: whether it is empty, the steps, the names."""
    return {
        "empty": diff.empty,
        "restarts": diff.restarts,
        "pools": [
            {
                "pool": c.pool,
                "kind": c.kind,
                "replicas": {"old": c.n_old, "new": c.n_new, "difference": c.n_new - c.n_old},
                "old": as_data(c.old),
                "new": as_data(c.new),
            }
            for c in diff.pools
        ],
        "shares": [_step(s.pool, s.old, s.new) | {"class": s.class_name} for s in diff.shares],
        "gpus": [_step(c.name, c.old, c.new) for c in diff.gpus],
        "moved_ratio": diff.moved_ratio,
        **{
            change.name: _values(change.old, change.new)
            for change in (
                diff.cost_usd_per_h,
                diff.mean_usd_per_h,
                diff.cost_usd_per_month,
                diff.usd_per_million_output_tokens,
                diff.rate_rps,
                diff.quality,
                diff.latency_ratio,
            )
        },
        "class_quality": {c.name: _values(c.old, c.new) for c in diff.class_quality},
        "latency": as_data(diff.latency),
        "inputs": as_data(diff.inputs),
        **({"survives": as_data(diff.survives)} if diff.survives else {}),
        **_periods_data(diff),
        "front": _front_data(diff.front),
        "prices": [{"what": c.what, "unit": c.unit, **_values(c.old, c.new)} for c in diff.prices],
        "provenance": as_data(diff.provenance),
        "transition": as_data(diff.transition),
    }


def _front_data(front: FrontChange | None) -> dict[str, object] | None:
    """Returns what the fronts offer for what the old plan is and costs."""
    if front is None:
        return None
    cost, best, traffic = front.cost_usd_per_h, front.quality, front.rate_factor
    return {
        "at_quality": front.at_quality,
        "cost_usd_per_h": _values(cost.old, cost.new),
        "within_usd_per_h": front.within_usd_per_h,
        "quality": _values(best.old, best.new),
        "rate_factor": None if traffic is None else _values(traffic.old, traffic.new),
        "least_usd_per_h": _values(front.least_usd_per_h.old, front.least_usd_per_h.new),
        "same_question": front.same_question,
    }


def _periods_data(diff: PlanDiff) -> dict[str, object]:
    """Returns what differs between periods; nothing where neither plan has any."""
    money = diff.periods_usd
    if money is None:
        return {}
    return {
        "periods": as_data(diff.periods),
        "periods_usd": _values(money.old, money.new),
        "reserved_gpus": {c.name: _values(c.old, c.new) for c in diff.reserved},
    }


def _step(name: str, old: float | None, new: float | None) -> dict[str, object]:
    return {"name": name, **_values(old, new)}


def _values(old: float | None, new: float | None) -> dict[str, object]:
    difference = None if old is None or new is None else round(new - old, 9)
    return {"old": old, "new": new, "difference": difference}
