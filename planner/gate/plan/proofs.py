"""Whether a plan's proofs agree with its own figures. Nothing is solved: what was proved stays.

A proof says what nothing exceeds, so the plan may not be better than its own bound, the gap has to
be the distance between the two, and the figure that the bound is about has to be the plan's.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from planner.gate.finding import PLAN_AGAIN, Finding, error
from planner.gate.plan.roundings import MS_ROUNDING, USD_ROUNDING
from planner.spec.plan import Bound, FrontPoint, Plan
from planner.spec.reasons import Reasons

ROUNDING = USD_ROUNDING  # of money, and of ratios that follow from it


def proof_findings(plan: Plan) -> Iterator[Finding]:
    """Yields the proofs of a plan that contradict its figures."""
    if plan.bound is not None:
        yield from _bound(plan, plan.bound)
    yield from _chosen(plan)
    yield from _basis(plan)
    known = {name.split("/")[1] for name in plan.provenance.inputs if name.count("/") == 2}
    known |= {row.pool for row in plan.deployment}  # its own pools are judged as such
    for i, point in enumerate(plan.front):
        strange = sorted(point.deployment.keys() - known)
        if strange and not point.chosen:
            what = f"deploys {', '.join(strange)}, of which the plan knew nothing"
            yield error("proof", f"plan.json:front[{i}].deployment", what, PLAN_AGAIN)
        yield from _point(point, f"plan.json:front[{i}]")
    if plan.reasons is not None:
        yield from _reasons(plan, plan.reasons)


def _reasons(plan: Plan, reasons: Reasons) -> Iterator[Finding]:
    """Yields what the plan says of other questions and deployments that cannot be so."""
    where = "plan.json:reasons"
    for i, worth in enumerate(reasons.worth):
        if worth.at_most is not None and worth.gain > worth.at_most + ROUNDING:
            what = f"gains {worth.gain:g}, and nothing gains more than {worth.at_most:g}"
            yield error("proof", f"{where}.worth[{i}]", what, PLAN_AGAIN)
    own = {row.pool: row.replicas for row in plan.deployment}
    for name, rival in (("rival", reasons.rival), ("refused", reasons.refused)):
        if rival is not None and rival.deployment == own:
            yield error("proof", f"{where}.{name}", "is the plan's own deployment", PLAN_AGAIN)
    for i, stays in enumerate(reasons.stays):
        low = stays.now if stays.proved_low is None else stays.proved_low
        high = stays.now if stays.proved_high is None else stays.proved_high
        if not low - ROUNDING <= stays.now <= high + ROUNDING:
            what = f"is proved from {stays.proved_low} to {stays.proved_high}, and is {stays.now:g}"
            yield error("proof", f"{where}.stays[{i}]", what, PLAN_AGAIN)


def _bound(plan: Plan, bound: Bound) -> Iterator[Finding]:
    where, rounding = "plan.json:bound", ROUNDING
    rounding = MS_ROUNDING if bound.objective == "latency_ms" else rounding
    said = {
        "cost_usd_per_h": plan.predicted.cost_usd_per_h,
        "quality": plan.predicted.quality,
        "rate_factor": plan.predicted.rate_factor,
        "latency_ratio": plan.predicted.latency_ratio,
        "latency_ms": bound.value,  # of the latency objective: `predicted` does not mark which
    }[bound.objective]
    off = np.inf if said is None else bound.value - said
    if bound.objective == "cost_usd_per_h":
        off = min(off, 0.0)  # the bound is also about what a change of deployment must save
    if abs(off) > rounding:
        what = f"is about {bound.value:g}, the plan predicts {'nothing' if said is None else said}"
        yield error("proof", f"{where}.value", what, PLAN_AGAIN)
    yield from _distance(
        where,
        bound.value,
        bound.best_possible,
        bound.gap_ratio,
        rounding,
        more_is_better=bound.objective in ("quality", "rate_factor"),
    )


def _basis(plan: Plan) -> Iterator[Finding]:
    """Yields what the plan's quality is said to rest on, where it is not that quality."""
    basis, where = plan.quality_basis, "plan.json:quality_basis.by_class"
    if basis is None:
        return
    said = basis.by_class
    # Held out, it is judged on other prompts than those that the means are of.
    if not basis.held_out and abs(said.quality - plan.predicted.quality) > ROUNDING:
        what = f"is {said.quality:g}, the plan predicts {plan.predicted.quality:g}"
        yield error("proof", f"{where}.quality", what, PLAN_AGAIN)
    if not said.low <= said.quality <= said.high:
        what = f"is {said.quality:g}, its interval goes from {said.low:g} to {said.high:g}"
        yield error("proof", where, what, PLAN_AGAIN)


def _chosen(plan: Plan) -> Iterator[Finding]:
    """Yields where the point of the front that was chosen is not the plan itself."""
    chosen = [(i, point) for i, point in enumerate(plan.front) if point.chosen]
    if len(chosen) != min(len(plan.front), 1):
        what = f"has {len(chosen)} chosen points, the plan is one"
        yield error("proof", "plan.json:front", what, PLAN_AGAIN)
        return
    for i, point in chosen:
        own = {row.pool: row.replicas for row in plan.deployment}
        pairs: list[tuple[str, object, object]] = [("deployment", point.deployment, own)]
        for field in ("cost_usd_per_h", "quality", "latency_ratio"):
            here, there = getattr(point, field), getattr(plan.predicted, field)
            near = None not in (here, there) and abs(here - there) <= ROUNDING
            pairs.append((field, here, here if near else there))
        off = [pair for pair in pairs if pair[1] != pair[2]]
        tried = plan.simulated.latency_ratio if plan.simulated else None
        if point.simulated_latency_ratio not in (None, tried):
            off.append(("simulated_latency_ratio", point.simulated_latency_ratio, tried))
        for field, here, there in off[:1]:  # one changed number changes them all
            what = f"says {here}, the plan itself says {there}"
            yield error("proof", f"plan.json:front[{i}].{field}", what, PLAN_AGAIN)


def _point(point: FrontPoint, where: str) -> Iterator[Finding]:
    if (point.best_possible is None) != (point.gap_ratio is None):
        yield error("proof", where, "has half a proof: best_possible and gap_ratio", PLAN_AGAIN)
    if point.best_possible is None or point.gap_ratio is None:
        return
    gain = point.quality if point.rate_factor is None else point.rate_factor
    yield from _distance(where, gain, point.best_possible, point.gap_ratio, ROUNDING, True)


def _distance(
    where: str, value: float, best: float, gap_ratio: float, rounding: float, more_is_better: bool
) -> Iterator[Finding]:
    """Yields what is wrong between a value, the best there can be, and the gap between them."""
    beyond = value - best if more_is_better else best - value
    if beyond > rounding:
        what = f"says that nothing is better than {best:g}, and has {value:g}"
        yield error("proof", f"{where}.best_possible", what, PLAN_AGAIN)
        return
    scale = max(abs(value), 1e-12)
    if abs(gap_ratio - max(0.0, -beyond) / scale) > rounding / scale + ROUNDING:
        what = f"is {gap_ratio:.4f}, from {value:g} to {best:g} it is {-beyond / scale:.4f}"
        yield error("proof", f"{where}.gap_ratio", what, PLAN_AGAIN)
