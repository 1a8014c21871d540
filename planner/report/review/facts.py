"""What else a reviewer asks about a plan, one sentence each: replicas, traffic, proof, origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.gate.diff import PlanDiff, PoolChange
from planner.report.changed import front_words
from planner.report.figures import count, is_shown_as_none, number, percent, share, usd
from planner.report.review.escape import as_code, in_markdown
from planner.spec.base import worst_origin
from planner.spec.plan import Bound, Plan
from planner.spec.whole import proof_of

N_POOLS, N_SHARES, N_INPUTS, N_PERIODS, N_SCENARIOS = 6, 3, 5, 4, 4
_OBJECTIVES = {
    "cost_usd_per_h": "cost",
    "quality": "quality",
    "latency_ratio": "use of the tightest limit",
    "latency_ms": "latency",
    "rate_factor": "traffic carried",
}
_MADE = {"rb_version": "rb"}


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
    if diff is not None and diff.front is not None:
        best = "; ".join(front_words(diff.front))
        yield from [f"- **Best that was found:** {best}"] if best else []
    if diff is not None and diff.provenance:
        told = (c for c in diff.provenance if c.name != "n_evaluations")
        made = [f"{_MADE.get(c.name, c.name)} {_step(c.old, c.new)}" for c in told]
        yield from [f"- **Made otherwise:** {_few(made, N_INPUTS)}"] if made else []
    if not new.complete:
        yield "- **Incomplete:** the search was interrupted, a better plan may exist"


def _changes(diff: PlanDiff) -> Iterator[str]:
    pools = [f"{as_code(c.pool, 60)} {c.n_old} → {c.n_new}" for c in _ordered(diff)]
    if pools:
        yield f"- **Replicas:** {_few(pools, N_POOLS)}"
    rents = [_rent(c) for c in diff.pools if c.is_repriced]
    if rents:
        yield f"- **Same replicas at another rent:** {_few(rents, N_POOLS)}"
    gone = {c.name for c in diff.class_quality if c.new is None}  # said by the name of the class
    most = sorted(diff.shares, key=lambda s: -abs(s.points))
    shares = [
        f"{as_code(s.class_name)} on {as_code(s.pool, 60)} {_share(s.old)} → {_share(s.new)}"
        for s in most
        if s.class_name not in gone and _share(s.old) != _share(s.new)
    ]
    if shares:
        yield f"- **Traffic:** {_share(diff.moved_ratio)} goes elsewhere: {_few(shares, N_SHARES)}"
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


def _ordered(diff: PlanDiff) -> list[PoolChange]:
    """Returns the pools of which something else than the rent differs, the largest change first."""
    differs = [c for c in diff.pools if not c.is_repriced]
    return sorted(differs, key=lambda c: -abs(c.n_new - c.n_old))


def _rent(change: PoolChange) -> str:
    rents = (row.usd_per_h if row else None for row in (change.old, change.new))
    return f"{as_code(change.pool, 60)} {' → '.join(map(usd, rents))} per hour"


def _replicas(plan: Plan) -> Iterator[str]:
    for row in plan.deployment:
        yield f"{row.replicas} × {as_code(row.pool, 60)}" + ("" if row.gpu else " (hosted)")


def _survives(plan: Plan) -> str:
    """Returns how many of the scenarios that were asked for are survived, and which are not."""
    lost = [s.scenario for s in plan.survives if not s.survives or s.verdict == "missed"]
    close = sum(s.survives and s.verdict == "too close to call" for s in plan.survives)
    told = f"{len(plan.survives) - len(lost) - close} of {count(len(plan.survives), 'scenario')}"
    told += f", {close} too close to call" if close else ""
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
    bound = proof_of(new)
    if bound is None:
        return "none: how much better a plan could be is not known"
    before = None if old is None else proof_of(old)
    told = f"its {_OBJECTIVES[bound.objective]} is {_near(bound)} the best possible"
    if before is not None and before.objective == bound.objective:
        told += f" (the plan before: {_gap(before)})"
    return f"{told}, if the predictions are right"


def _near(bound: Bound) -> str:
    return (
        "proved to be"
        if is_shown_as_none(bound.gap_ratio)
        else f"within {percent(bound.gap_ratio)} of"
    )


def _gap(bound: Bound) -> str:
    return (
        "the best possible"
        if is_shown_as_none(bound.gap_ratio)
        else f"{percent(bound.gap_ratio)} off"
    )


def _origin(plan: Plan) -> str:
    beyond = [as_code(f.pool, 60) for f in plan.predicted.pools if f.extrapolated]
    origin, told = plan.predicted.origin, "measured figures alone"
    if origin != "measured":
        told = f"figures of which some are {origin}, not measured"
        # A plan's own mark counts the scores of every model that the search compared.
        used = worst_origin(*(f.origin for f in plan.predicted.latency))
        if plan.predicted.latency and used != origin:
            told = f"{used} latencies, and scores of which some, used or compared, are {origin}"
    return told + (f"; outside measured loads: {_few(beyond, N_POOLS)}" if beyond else "")


def _step(old: str, new: str) -> str:
    return f"{in_markdown(old, 40)} → {in_markdown(new, 40)}"


def _few(texts: Iterable[str], most: int) -> str:
    named = list(texts)
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return ", ".join(named[:most]) + more
