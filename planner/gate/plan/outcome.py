"""What the users of a plan will see, scored again with today's profiles at the plan's own mix.

Nothing is solved: the plan's own score on today's tables (planner/ordered.py), then comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from planner.case import Case
from planner.gate.finding import Finding, error, warning
from planner.gate.plan.drift import drift_findings
from planner.gate.plan.resources import rent_usd_per_h
from planner.gate.plan.roundings import USD_ROUNDING
from planner.ordered import Rescored
from planner.score import MET_TOLERANCE, Figure
from planner.spec.plan import Plan

MIX_SHIFT = 0.05  # above this, a plan's figures rest on tables of another mix


def outcome_findings(
    case: Case, plan: Plan, again: Rescored, inputs_changed: bool
) -> list[Finding]:
    """Returns what users would find wrong, and where the plan's own figures no longer hold."""
    found = [*_capacity(case, again), *_unmeasured(again), *_limits(again)]
    found += [*_quality(again), *_hosted_budget(case, again), *_marks(plan, again)]
    if case.question.robust is not None or plan.survives:
        from planner.gate.plan.survival import survival_findings  # loads what plays scenarios

        found += survival_findings(case, plan, again, inputs_changed)
    if not inputs_changed:
        found += drift_findings(case, plan, again)
    return found


def _capacity(case: Case, again: Rescored) -> Iterator[Finding]:
    allowed = 1.0 - case.question.headroom_ratio
    for p, name in enumerate(again.workload.pool_names):
        used = float(again.score.utilisation[p])
        if again.replicas[p] > 0 and used > allowed + MET_TOLERANCE:
            what = f"runs at {used:.1%} of its capacity, {allowed:.1%} leaves the headroom"
            yield error("capacity", name, what, "more replicas, or move shares away")


def _unmeasured(again: Rescored) -> Iterator[Finding]:
    """Yields pools without measured latency that carry classes with a limit."""
    scopes = {scoped.class_name for scoped in again.workload.limits}
    for p, table in enumerate(again.tables):
        if table.has_latency:
            continue
        carried = again.workload.row_class[again.shares[:, p] > 0]
        for c, name in enumerate(again.workload.class_names):
            if c in carried and scopes & {None, name}:
                what = f"carries {name}, which has a latency limit, and its latency is not measured"
                fix = "measure it (points.csv), or move the share"
                yield error("no-latency", again.workload.pool_names[p], what, fix)


def _limits(again: Rescored) -> Iterator[Finding]:
    # Where requests meet no replica, or a latency nobody measured, that has been said already.
    pairs = zip(again.replicas.tolist(), again.tables, strict=True)
    blind = np.array([n == 0 or not table.has_latency for n, table in pairs])
    rows = again.workload.row_class[again.shares[:, blind].any(axis=1)]
    lost = np.isin(np.arange(again.workload.n_classes), rows)  # (C,)
    for figure in again.score.figures:
        if figure.at_most_ms is None or figure.ratio <= 1 + MET_TOLERANCE:
            continue
        if any(lost[c] for c in _scope(again, figure)):
            continue
        what = f"is {_ms(figure.ms)}, the limit is {_ms(figure.at_most_ms)}"
        yield error("limit", figure.label, what, "more or faster replicas, or a looser limit")


def _scope(again: Rescored, figure: Figure) -> list[int]:
    """Returns the classes that a figure is about."""
    names = again.workload.class_names
    return [c for c, name in enumerate(names) if figure.class_name in (None, name)]


def _quality(again: Rescored) -> Iterator[Finding]:
    workload, scored = again.workload, again.score
    fix = "more replicas of better models, or a lower floor"
    floor = workload.quality_at_least
    if floor is not None and scored.quality < floor - MET_TOLERANCE:
        what = f"is {scored.quality:.4f}, the floor is {floor:.4f}"
        yield error("quality-floor", "quality of all traffic", what, fix)
    for c, name in enumerate(workload.class_names):
        least = float(workload.class_quality_at_least[c])
        if np.isfinite(least) and scored.class_quality[c] < least - MET_TOLERANCE:
            what = f"is {scored.class_quality[c]:.4f}, the floor is {least:.4f}"
            yield error("quality-floor", f"quality of {name}", what, fix)


def _hosted_budget(case: Case, again: Rescored) -> Iterator[Finding]:
    """Yields a finding when only the price of hosted requests breaks the budget."""
    budget, rent = case.question.budget_usd_per_h, rent_usd_per_h(case, again.replicas)
    if budget is None or rent is None:
        return
    total = rent + again.score.hosted_usd_per_h
    if rent <= budget + USD_ROUNDING < total:
        what = f"costs ${total:,.4f} per hour with hosted requests, budget ${budget:,.4f}"
        yield error("budget", "plan.json:routing", what, "move shares off hosted pools")


def _marks(plan: Plan, again: Rescored) -> Iterator[Finding]:
    """Yields what is uncertain about the figures, not wrong."""
    for p, name in enumerate(again.workload.pool_names):
        if again.score.extrapolated[p]:
            what = "runs outside its measured loads, its figures are extrapolated"
            yield warning("extrapolated", name, what, f"measure it near load {_load(again, p)}")
    shift = plan.predicted.mix_shift_ratio
    if shift > MIX_SHIFT:
        what = f"were predicted at class mixes {shift:.1%} off from the plan's own"
        yield warning("mix-shift", "plan.json:predicted", what, "rb plan DIR with more effort")


def _load(again: Rescored, p: int) -> str:
    n_rps = again.score.pool_rps[p] / max(int(again.replicas[p]), 1)
    return f"{again.score.loads[p]:.2f} ({n_rps:.2f} requests/s per replica)"


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if np.isfinite(value) else "beyond every time that the tables know"
