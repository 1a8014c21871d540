"""Judging a plan of several periods: each by itself, then what holds them together.

    each period   orders, resources and outcome at its own rates, as of any plan
    all of them   the question's periods, the busiest one in front, changes, money, bound, budget

Nothing is solved: bounds are only held against the money that they speak of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from planner.case import Case, make_case
from planner.exact.path import Bill, bill, by_the_hour_usd_per_h, kept_usd_per_h
from planner.exact.periods import Candidate
from planner.gate.finding import PLAN_AGAIN, Finding, error
from planner.gate.plan.operation import judge_operation
from planner.gate.plan.resources import rent_usd_per_h
from planner.gate.plan.roundings import USD_ROUNDING
from planner.offered import offered
from planner.ordered import replicas_of, unused_cascades
from planner.periods.cases import Round, make_round, spans_of
from planner.spec.inputs import Inputs
from planner.spec.periods import Periods
from planner.spec.plan import PeriodsPlan, Plan

if TYPE_CHECKING:
    from planner.quality.cascade import CascadeOption

RATIO_ROUNDING = 1e-5
HELD_RATIO = 1e-3
"""One deployment held was judged on tables of its own mix: so much may lie below the bound."""


def period_findings(
    inputs: Inputs, plan: Plan, cascades: Sequence[CascadeOption] | None, inputs_changed: bool
) -> list[Finding]:
    """Returns what is wrong with a plan where it, or its question, has periods.

    Args:
        inputs: the question and the profiles as they are today.
        plan: what was planned.
        cascades: that may be used; by default those that today's scores prove, of a plan with any.
        inputs_changed: whether the plan was made of others, so that its figures may differ.
    """
    periods = plan.periods
    if periods is None or inputs.question.periods is None:
        whose = "the question has periods, the plan has none"
        if periods is not None:
            whose = "the plan has periods, the question has none"
        return [error("periods", "plan.json:periods", whose, PLAN_AGAIN)]
    named = [(p.name, p.start_h, p.end_h) for p in periods.each]
    asked = [(span.name, *span.hours) for span in spans_of(inputs.files)]
    if named != asked:
        what = f"are not the {len(asked)} periods of the question"
        return [error("periods", "plan.json:periods.each", what, PLAN_AGAIN)]
    round_ = _round(inputs, plan, periods, cascades)
    found = list(_each(round_, plan, periods, inputs_changed))
    if not any(f.code == "unknown-pool" for f in found):
        found += _together(inputs, round_, plan, periods)
    return found


def _round(
    inputs: Inputs, plan: Plan, periods: PeriodsPlan, cascades: Sequence[CascadeOption] | None
) -> Round:
    """Returns the periods of the question with the cascades that the plan may use."""
    if not any(period.cascades for period in periods.each):
        return make_round(inputs, learned=plan.learned)
    case = make_case(inputs)
    options = offered(inputs, case) if cascades is None else tuple(cascades)
    return make_round(inputs, case.models, plan.learned, options)


def _each(
    round_: Round, plan: Plan, periods: PeriodsPlan, inputs_changed: bool
) -> Iterator[Finding]:
    """Yields what is wrong with each period by itself, once for all periods that have it alike."""
    alike: dict[Finding, list[str]] = {}
    for t, period in enumerate(periods.each):
        site, alone = round_.sites[round_.site_of[t]], plan.in_period(period)
        case = site.case
        case = replace(case, workload=case.workload.without(unused_cascades(case, alone)))
        for finding in judge_operation(case, site.inputs, alone, inputs_changed).findings:
            alike.setdefault(finding, []).append(period.name)
        for label in period.missed:
            what = f"simulation missed the limit on {label}"
            fix = "plan with --effort thorough, or loosen the limit"
            missed = error("simulated", "plan.json:missed", what, fix)
            alike.setdefault(missed, []).append(period.name)
    for finding, names in alike.items():
        yield replace(finding, where=_placed(finding.where, names))


def _placed(where: str, names: Sequence[str]) -> str:
    """Returns where something is in the file of all periods, or of whom in which of them."""
    file, is_of_file, field = where.partition("plan.json:")
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    if is_of_file and not file:
        return f"plan.json:periods[{names[0]}].{field}{more}"
    return f"{where} in period {names[0]}{more}"


def _together(inputs: Inputs, round_: Round, plan: Plan, periods: PeriodsPlan) -> Iterator[Finding]:
    """Yields what is wrong with the periods as a whole."""
    yield from _front_of_file(round_, plan, periods)
    yield from _asked(round_, inputs.question.periods, periods)
    path = [_candidate(round_.case_of(t), plan, periods, t) for t in range(len(periods.each))]
    yield from _changes(round_, path, periods)
    reserved = {kept.gpu: kept.n_gpus for kept in periods.reserved}
    strangers = sorted(set(reserved) - set(round_.schedule.space.offers))
    if len(reserved) < len(periods.reserved):
        what = "names a kind of GPU more than once"
        yield error("duplicate", "plan.json:periods.reserved", what, "keep one entry")
    total = None if strangers else bill(round_.schedule, path, reserved)
    if total is None:
        what = "more GPUs are reserved, or used beside the reserved ones, than there are"
        yield error("supply", "plan.json:periods.reserved", what, PLAN_AGAIN)
        return
    yield from _money(total, periods)
    yield from _paid(round_, path, periods)
    yield from _bound(periods)
    budget = inputs.question.budget_usd_per_h
    if budget is not None and total.usd > (budget + USD_ROUNDING) * periods.n_hours:
        what = f"costs ${total.usd / periods.n_hours:,.4f} per hour, budget ${budget:,.4f}"
        yield error("budget", "plan.json:periods", what, "raise budget_usd_per_h, or plan again")


def _front_of_file(round_: Round, plan: Plan, periods: PeriodsPlan) -> Iterator[Finding]:
    """Yields where the plan in front is not that of the busiest period."""
    busiest = periods.each[round_.busiest]
    if periods.busiest != busiest.name:
        what = f"says {periods.busiest}, the busiest is {busiest.name}"
        yield error("periods", "plan.json:periods.busiest", what, PLAN_AGAIN)
        return
    for name in ("deployment", "routing", "cascades", "prices", "predicted", "placement"):
        if getattr(plan, name) != getattr(busiest, name):
            what = f"is not that of period {busiest.name}, which is the busiest"
            yield error("periods", f"plan.json:{name}", what, PLAN_AGAIN)


def _asked(round_: Round, asked: Periods | None, periods: PeriodsPlan) -> Iterator[Finding]:
    """Yields what the plan says of the question and the question does not."""
    assert asked is not None  # the caller saw to it
    for name, said, now in (
        ("n_hours", periods.n_hours, float(round_.schedule.hours.sum())),
        ("repeats", periods.repeats, asked.repeats),
        ("usd_per_replica_change", periods.usd_per_replica_change, asked.usd_per_replica_change),
    ):
        if said != now:
            what = f"says {said}, the question says {now}"
            yield error("periods", f"plan.json:periods.{name}", what, PLAN_AGAIN)


def _candidate(case: Case, plan: Plan, periods: PeriodsPlan, t: int) -> Candidate:
    """Returns the deployment of a period with the money of its hosted requests, as planned."""
    alone = plan.in_period(periods.each[t])
    replicas = replicas_of(case, alone)
    rent = rent_usd_per_h(case, replicas)
    hosted = alone.predicted.cost_usd_per_h - (rent or 0.0)
    has_hosted = any(d.gpu is None for d in alone.deployment)
    return Candidate(replicas, max(hosted, 0.0) if has_hosted else 0.0)


def _changes(round_: Round, path: Sequence[Candidate], periods: PeriodsPlan) -> Iterator[Finding]:
    """Yields periods whose changes do not follow from the deployments."""
    own = np.array([profile.pool.gpu is not None for profile in round_.case_of(0).pools])
    for t, period in enumerate(periods.each):
        before = path[int(round_.schedule.before[t])].replicas
        n = int(np.abs(path[t].replicas - before)[own].sum())
        if period.n_changes != n:
            where = f"plan.json:periods[{period.name}].n_changes"
            what = f"says {period.n_changes}, counted from the deployments: {n}"
            yield error("periods", where, what, PLAN_AGAIN)


def _money(total: Bill, periods: PeriodsPlan) -> Iterator[Finding]:
    """Yields the money that does not follow from deployments and prices."""
    hours = float(sum(period.n_hours for period in periods.each))
    mean, sums = total.usd / hours, max(hours, 1.0)
    pairs = [
        (".reserved_usd", periods.reserved_usd, total.reserved_usd, sums),
        (".by_the_hour_usd", periods.by_the_hour_usd, total.by_the_hour_usd, sums),
        (".hosted_usd", periods.hosted_usd, total.hosted_usd, sums),
        (".changes_usd", periods.changes_usd, total.changes_usd, sums),
        (".total_usd", periods.total_usd, total.usd, sums),
        (".cost_usd_per_h", periods.cost_usd_per_h, mean, 1.0),
    ]
    if periods.bound is not None:
        pairs.append((".bound.value", periods.bound.value, mean, 1.0))
    for name, said, now, n_roundings in pairs:
        if abs(said - now) > USD_ROUNDING * n_roundings:
            yield _wrong_money(name, said, now)


def _wrong_money(name: str, said: float, now: float) -> Finding:
    what = f"says ${said:,.4f}, its deployments and prices give ${now:,.4f}"
    return error("periods", f"plan.json:periods{name}", what, PLAN_AGAIN)


def _paid(round_: Round, path: Sequence[Candidate], periods: PeriodsPlan) -> Iterator[Finding]:
    """Yields the money of single periods, and of reserved GPUs, that does not follow."""
    space = round_.schedule.space
    reserved = {kept.gpu: kept.n_gpus for kept in periods.reserved}
    for kept in periods.reserved:
        now = kept_usd_per_h(space.offers[kept.gpu], kept.n_gpus)
        if abs(kept.usd_per_h - now) > USD_ROUNDING:
            yield _wrong_money(f".reserved[{kept.gpu}].usd_per_h", kept.usd_per_h, now)
    all_usd = sum(kept_usd_per_h(space.offers[gpu], n) for gpu, n in reserved.items())
    for period, candidate in zip(periods.each, path, strict=True):
        hourly = by_the_hour_usd_per_h(space, candidate, reserved)
        now = all_usd + hourly + candidate.hosted_usd_per_h
        if abs(period.paid_usd_per_h - now) > USD_ROUNDING:
            yield _wrong_money(f"[{period.name}].paid_usd_per_h", period.paid_usd_per_h, now)


def _bound(periods: PeriodsPlan) -> Iterator[Finding]:
    """Yields a bound that does not fit the money it speaks of, or another plan below it."""
    bound = periods.bound
    if bound is None:
        return
    if bound.objective != "cost_usd_per_h":
        what = f"is about {bound.objective}, periods are planned for the least money"
        yield error("periods", "plan.json:periods.bound.objective", what, PLAN_AGAIN)
    held = periods.held_usd
    if held is not None and held / periods.n_hours < bound.best_possible * (1.0 - HELD_RATIO):
        what = f"says ${held:,.4f}, less than periods.bound says is possible"
        yield error("periods", "plan.json:periods.held_usd", what, PLAN_AGAIN)
    gap = (bound.value - bound.best_possible) / max(bound.value, 1e-12)
    if gap < -RATIO_ROUNDING or abs(gap - bound.gap_ratio) > RATIO_ROUNDING:
        what = f"gap_ratio {bound.gap_ratio:g} does not follow from value and best_possible"
        yield error("periods", "plan.json:periods.bound", what, PLAN_AGAIN)
