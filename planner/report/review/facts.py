"""What else a reviewer asks about a plan, one sentence each: replicas, traffic, proof, origin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from planner.gate.diff import FrontChange, PlanDiff
from planner.report.figures import count, number, percent, quality, share, usd
from planner.report.review.escape import as_code, in_markdown
from planner.spec.plan import Bound, Plan

N_POOLS, N_SHARES, N_INPUTS, N_PERIODS, N_SCENARIOS = 6, 3, 5, 4, 4
_OBJECTIVES = {
    "cost_usd_per_h": "cost",
    "quality": "quality",
    "latency_ratio": "use of the tightest limit",
    "latency_ms": "latency",
    "rate_factor": "traffic carried",
}
_MADE = {"rb_version": "rb", "n_evaluations": "deployments evaluated"}


def fact_rows(new: Plan, old: Plan | None, diff: PlanDiff | None) -> Iterator[str]:
    """Yields one list item per fact, those first that a reviewer needs most."""
    if diff is not None:
        yield from _changes(diff)
    else:
        yield f"- **Replicas:** {_few(_replicas(new), N_POOLS)}"
    if new.survives:
        yield f"- **Survives:** {_survives(new)}"
    yield f"- **Simulated:** {_simulated(new)}"
    yield f"- **Proof:** {_proof(new, old)}"
    yield f"- **Rests on:** {_origin(new)}"
    if diff is not None and diff.front is not None and _moves(diff.front):
        yield f"- **Best found, each within its own limits and floors:** {_front(diff.front)}"
    if diff is not None and diff.provenance:
        made = [f"{_MADE.get(c.name, c.name)} {_step(c.old, c.new)}" for c in diff.provenance]
        yield f"- **Made otherwise:** {_few(made, N_INPUTS)}"
    if not new.complete:
        yield "- **Incomplete:** the search was interrupted, a better plan may exist"


def _changes(diff: PlanDiff) -> Iterator[str]:
    if diff.pools:
        pools = [f"{as_code(c.pool, 60)} {c.n_old} → {c.n_new}" for c in diff.pools]
        yield f"- **Replicas:** {_few(pools, N_POOLS)}"
    if diff.shares:
        most = sorted(diff.shares, key=lambda s: -abs(s.points))
        shares = [
            f"{as_code(s.class_name)} on {as_code(s.pool, 60)} {_share(s.old)} → {_share(s.new)}"
            for s in most
        ]
        yield f"- **Traffic:** {share(diff.moved_ratio)} goes elsewhere: {_few(shares, N_SHARES)}"
    if diff.inputs:
        inputs = [f"{as_code(c.name, 70)} {c.kind}" for c in diff.inputs]
        yield f"- **Inputs that differ:** {_few(inputs, N_INPUTS)}"
    if diff.periods:
        names = [_period(c.name, c.paid_usd_per_h.old, c.paid_usd_per_h.new) for c in diff.periods]
        yield f"- **Periods that differ:** {_few(names, N_PERIODS)}"
    if diff.reserved:
        kinds = [f"{as_code(c.name)} {number(c.old)} → {number(c.new)}" for c in diff.reserved]
        yield f"- **Reserved for all hours:** {_few(kinds, N_POOLS)} GPUs"
    if diff.survives:
        worst_first = sorted(diff.survives, key=lambda c: (c.new is not False, c.new is not None))
        fates = [
            f"{in_markdown(c.scenario, 60)}: {_fate(c.old)} → {_fate(c.new)}" for c in worst_first
        ]
        yield f"- **Survives otherwise:** {_few(fates, N_SCENARIOS)}"


def _replicas(plan: Plan) -> Iterator[str]:
    for row in plan.deployment:
        yield f"{row.replicas} × {as_code(row.pool, 60)}" + ("" if row.gpu else " (hosted)")


def _survives(plan: Plan) -> str:
    """Returns how many of the scenarios that were asked for are survived, and which are not."""
    lost = [s.scenario for s in plan.survives if not s.survives or s.verdict == "missed"]
    told = f"{len(plan.survives) - len(lost)} of {count(len(plan.survives), 'scenario')}"
    named = (in_markdown(name, 60) for name in lost)
    return f"{told}, not: {_few(named, N_SCENARIOS)}" if lost else told


def _share(ratio: float) -> str:
    return share(ratio) if ratio else "0%"


def _period(name: str, old: float | None, new: float | None) -> str:
    return f"{as_code(name)} {usd(old)} → {usd(new)} per hour"


def _fate(survives: bool | None) -> str:
    return "not asked" if survives is None else ("survived" if survives else "not survived")


def _simulated(plan: Plan) -> str:
    tried = plan.simulated
    if tried is None:
        return "no; the latencies are predictions of the tables"
    runs = f"{tried.n_requests:,} requests in {count(len(tried.seeds), 'run')}"
    close = sum(f.verdict == "too close to call" for f in tried.latency)
    lost = tried.n_failed + tried.n_refused
    parts = [count(len(tried.missed), "limit") + " missed" if tried.missed else "no limit missed"]
    parts += [f"{close} too close to call"] if close else []
    parts += [f"{lost:,} requests failed or refused"] if lost else []
    return f"{runs}: {', '.join(parts)}"


def _proof(new: Plan, old: Plan | None) -> str:
    """Returns how far from the best possible the plan is at most, and how far it was before."""
    bound = _bound(new)
    if bound is None:
        return "none: how much better a plan could be is not known"
    before = None if old is None else _bound(old)
    told = f"its {_OBJECTIVES[bound.objective]} is within {_gap(bound)} of the best possible"
    if before is not None and before.objective == bound.objective:
        told += f" (the plan before: {_gap(before)})"
    return f"{told}, if the predictions are right"


def _bound(plan: Plan) -> Bound | None:
    """Returns the proof about the whole plan, of all its periods where it has any."""
    return plan.bound if plan.periods is None else plan.periods.bound


def _gap(bound: Bound) -> str:
    return percent(bound.gap_ratio)


def _origin(plan: Plan) -> str:
    beyond = [as_code(f.pool, 60) for f in plan.predicted.pools if f.extrapolated]
    told = "measured figures alone"
    if plan.predicted.origin != "measured":
        told = f"figures of which some are {plan.predicted.origin}, not measured"
    return told + (f"; outside measured loads: {_few(beyond, N_POOLS)}" if beyond else "")


def _moves(front: FrontChange) -> bool:
    return front.cost_usd_per_h.old != front.cost_usd_per_h.new or (
        front.quality.old != front.quality.new
    )


def _front(front: FrontChange) -> str:
    """Returns how the best that can be had has moved, seen from where the old plan stands."""
    cost, best = front.cost_usd_per_h, front.quality
    return (
        f"quality {quality(front.at_quality)} or better for {_or_not(usd, cost.old)} → "
        f"{_or_not(usd, cost.new)} per hour; for {usd(front.within_usd_per_h)} per hour quality "
        f"{_or_not(quality, best.old)} → {_or_not(quality, best.new)}"
    )


def _or_not(told: Callable[[float | None], str], figure: float | None) -> str:
    return "not to be had" if figure is None else told(figure)


def _step(old: str, new: str) -> str:
    return f"{in_markdown(old, 40)} → {in_markdown(new, 40)}"


def _few(texts: Iterable[str], most: int) -> str:
    named = list(texts)
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return ", ".join(named[:most]) + more
