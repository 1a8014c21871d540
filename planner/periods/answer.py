"""From a question with periods to its plan: the path, each period tried, money and reasons.

repeat   the cheapest path through the periods (search.py)
         each period simulated by itself: no limit is missed for certain: done
         learn from the period that missed most, and search again (§9)
plan     of the busiest period, and beside it all periods
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.answer import MONEY_DIGITS, RATIO_DIGITS, make_answer, make_provenance
from planner.case import Case, make_case
from planner.confirm import CARE, draft_of, learned_from, make_stage, worst
from planner.errors import Infeasible, InputError
from planner.exact.path import by_the_hour_usd_per_h, kept_usd_per_h
from planner.exact.periods import Candidate
from planner.explore import Effort, SearchMethod
from planner.objectives import Objectives, make_objectives
from planner.offered import offered
from planner.periods.cases import Round, make_round
from planner.periods.search import FoundPath, find_path
from planner.quality.cascade import CascadeOption
from planner.search.problem import Progress
from planner.settle import Settled
from planner.simulate.rehearse import Rehearsal
from planner.spec.inputs import Inputs
from planner.spec.periods import Periods, Span
from planner.spec.plan import (
    Bound,
    Learned,
    PeriodPlan,
    PeriodsPlan,
    Plan,
    Provenance,
    ReservedGpus,
    Simulated,
)

METHOD = "column generation over periods"


@dataclass(frozen=True)
class _Tried:
    """A path, and what its periods did in simulation."""

    round: Round
    path: FoundPath
    simulated: tuple[Simulated | None, ...]  # (T,) None: interrupted before it was tried

    @property
    def missed(self) -> bool:
        """Returns whether a limit of some period is missed for certain."""
        return any(s is not None and s.missed for s in self.simulated)

    @property
    def latency_ratio(self) -> float:
        """Returns the largest simulated / allowed latency of all periods."""
        return max((s.latency_ratio or 0.0 for s in self.simulated if s is not None), default=0.0)


def plan_periods(
    inputs: Inputs,
    effort: Effort,
    method: SearchMethod,
    seed: int,
    on_trial: Progress | None = None,
    cascades: Sequence[CascadeOption] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Plan:
    """Returns the plan of a question with periods: of the busiest one, with all beside it.

    Args:
        inputs: the question and the pools.
        effort: how many rounds of prices, and how much is simulated.
        method: auto or exact, which are the same here.
        seed: of the simulations.
        on_trial: called after each round of prices with (done, total, estimate of the best in $).
        cascades: that may be used beside single pools; by default those that the scores prove.
        on_stage: told what is being done beside the search.

    Raises:
        InputError: pools that cannot be fitted, or a method that knows no periods.
        Infeasible: a period cannot be served, or not within the budget.
    """
    if method not in ("auto", "exact"):
        what = f"{method} plans one period at a time"
        raise InputError.single("--method", method, what, "leave --method out")
    case = make_case(inputs)
    options = offered(inputs, case) if cascades is None else tuple(cascades)
    learned: tuple[Learned, ...] = ()
    tried: list[_Tried] = []
    for left in range(CARE[effort].rounds, -1, -1):
        round_ = make_round(inputs, case.models, learned, options)
        path = find_path(round_, effort, on_trial)
        _check_budget(inputs, path, round_)
        if on_stage is not None:
            on_stage("simulating each period")
        simulated, lesson = _simulated(round_, path, effort, seed)
        tried.append(_Tried(round_, path, simulated))
        if lesson is None or not left or not path.complete or lesson == learned:
            break
        learned = lesson
    best = min(tried, key=lambda each: (each.missed, each.latency_ratio if each.missed else 0.0))
    return _plan(inputs, best, tried, make_provenance(
        METHOD, seed, effort, sum(each.path.n_settled for each in tried), inputs.hashes
    ))  # fmt: skip


def _check_budget(inputs: Inputs, path: FoundPath, round_: Round) -> None:
    """Refuses a path that costs more on average than the question's budget.

    Raises:
        Infeasible: it does.
    """
    budget, hours = inputs.question.budget_usd_per_h, float(round_.schedule.hours.sum())
    if budget is None or path.bill.usd <= budget * hours * (1.0 + 1e-9):
        return
    mean = path.bill.usd / hours
    binding = f"over all periods the budget is {budget:g} $/h, changes counted"
    distance = f"the cheapest plan found costs {mean:.2f} $/h on average"
    if np.isfinite(path.at_least_usd):
        distance += f", none costs less than {path.at_least_usd / hours:.2f} $/h"
    raise Infeasible(binding, distance, [f"budget_usd_per_h: {np.ceil(mean * 100) / 100:.2f}"])


def _simulated(
    round_: Round, path: FoundPath, effort: Effort, seed: int
) -> tuple[tuple[Simulated | None, ...], tuple[Learned, ...] | None]:
    """Returns what each period did in simulation, (T,), and what that teaches if one failed.

    Periods of the same rates and deployment are tried once; after Ctrl-C the rest is not.
    """
    done: dict[tuple[int, ...], Simulated] = {}
    worst_miss, lesson = 0.0, None
    objectives_of: dict[int, Objectives] = {}
    keys = [
        (site, *settled.replicas.tolist())
        for site, settled in zip(round_.site_of, path.settled, strict=True)
    ]
    try:
        for key, settled in zip(keys, path.settled, strict=True):
            if key in done:
                continue
            site = round_.sites[key[0]]
            objectives = objectives_of.setdefault(key[0], make_objectives(site.case))
            stage = make_stage(site.inputs, objectives, effort, seed)
            draft = draft_of(objectives, settled)
            rehearsal: Rehearsal = stage.rehearse(draft)
            done[key] = rehearsal.simulated
            if rehearsal.simulated.missed and worst(rehearsal.simulated)[0] > worst_miss:
                worst_miss = worst(rehearsal.simulated)[0]
                lesson = learned_from(stage, objectives, settled, draft, rehearsal)
    except KeyboardInterrupt:
        lesson = None
    return tuple(done.get(key) for key in keys), lesson


def _plan(inputs: Inputs, best: _Tried, tried: Sequence[_Tried], provenance: Provenance) -> Plan:
    """Returns the plan of the busiest period with all periods beside it."""
    round_, path = best.round, best.path
    periods = inputs.question.periods
    assert periods is not None  # only questions with periods come here
    each = tuple(_period(best, t, provenance) for t in range(len(round_.spans)))
    made = _periods_plan(periods, best, each)
    busiest = round_.busiest
    settled = path.settled[busiest]
    complete = path.complete and None not in best.simulated
    return make_answer(
        round_.case_of(busiest),
        settled,
        (settled,),
        tuple(_why(best, tried, made)),
        provenance,
        complete,
        simulated=best.simulated[busiest],
    ).model_copy(update={"periods": made})


def _period(best: _Tried, t: int, provenance: Provenance) -> PeriodPlan:
    """Returns one period of the plan."""
    round_, path, span = best.round, best.path, best.round.spans[t]
    plan = make_answer(round_.case_of(t), path.settled[t], (), (), provenance, complete=True)
    simulated = best.simulated[t]
    return PeriodPlan(
        name=span.name,
        start_h=span.hours[0],
        end_h=span.hours[1],
        n_changes=_n_changes(round_, path.settled, t),
        paid_usd_per_h=round(_paid_usd_per_h(round_, path, t), MONEY_DIGITS),
        deployment=plan.deployment,
        routing=plan.routing,
        cascades=plan.cascades,
        prices=plan.prices,
        predicted=plan.predicted,
        placement=plan.placement,
        simulated_latency_ratio=None if simulated is None else simulated.latency_ratio,
        missed=() if simulated is None else tuple(_missed(simulated)),
    )


def _paid_usd_per_h(round_: Round, path: FoundPath, t: int) -> float:
    """Returns the money of a period in $/h, changes apart."""
    space, settled = round_.schedule.space, path.settled[t]
    candidate = Candidate(settled.replicas, settled.score.hosted_usd_per_h)
    kept = sum(kept_usd_per_h(space.offers[gpu], n) for gpu, n in path.reserved.items())
    hourly = by_the_hour_usd_per_h(space, candidate, path.reserved)
    return kept + hourly + candidate.hosted_usd_per_h


def _missed(simulated: Simulated) -> Iterator[str]:
    """Yields the limits that simulation missed for certain."""
    return (figure.label for figure in simulated.missed)


def _n_changes(round_: Round, settled: Sequence[Settled], t: int) -> int:
    """Returns the replicas on own GPUs that are started or stopped when a period begins."""
    before = settled[int(round_.schedule.before[t])].replicas
    own = np.array([profile.pool.gpu is not None for profile in round_.case_of(t).pools])
    return int(np.abs(settled[t].replicas - before)[own].sum())


def _periods_plan(periods: Periods, best: _Tried, each: tuple[PeriodPlan, ...]) -> PeriodsPlan:
    """Returns the money of all periods, rounded for the file, and the proof about it."""
    round_, path, hours = best.round, best.path, float(best.round.schedule.hours.sum())
    bill, case = path.bill, round_.case_of(0)
    parts = [bill.reserved_usd, bill.by_the_hour_usd, bill.hosted_usd, bill.changes_usd]
    rounded = [round(part, MONEY_DIGITS) for part in parts]
    return PeriodsPlan(
        n_hours=hours,
        repeats=periods.repeats,
        usd_per_replica_change=periods.usd_per_replica_change,
        total_usd=round(sum(rounded), MONEY_DIGITS),
        reserved_usd=rounded[0],
        by_the_hour_usd=rounded[1],
        hosted_usd=rounded[2],
        changes_usd=rounded[3],
        cost_usd_per_h=round(bill.usd / hours, MONEY_DIGITS),
        held_usd=None if path.held_usd is None else round(path.held_usd, MONEY_DIGITS),
        reserved=_reserved(case, path),
        bound=_bound(bill.usd / hours, path.at_least_usd / hours),
        busiest=round_.spans[round_.busiest].name,
        each=each,
    )


def _bound(mean_usd_per_h: float, least_usd_per_h: float) -> Bound | None:
    """Returns the proof about the mean cost, None where nothing is proved."""
    if not np.isfinite(least_usd_per_h):
        return None
    value, least = (round(usd, MONEY_DIGITS) for usd in (mean_usd_per_h, least_usd_per_h))
    return Bound(
        objective="cost_usd_per_h",
        value=value,
        best_possible=least,
        gap_ratio=round((value - least) / max(value, 1e-12), RATIO_DIGITS),
        method="Lagrangian bound: joint programs of single periods at prices of change and reserve",
    )


def _reserved(case: Case, path: FoundPath) -> tuple[ReservedGpus, ...]:
    """Returns the GPUs that are reserved, by kind."""
    return tuple(
        ReservedGpus(
            gpu=gpu,
            n_gpus=round(n, 4),
            usd_per_h=round(kept_usd_per_h(case.space.offers[gpu], n), MONEY_DIGITS),
        )
        for gpu, n in sorted(path.reserved.items())
        if n > 0
    )


def _why(best: _Tried, tried: Sequence[_Tried], made: PeriodsPlan) -> Iterator[str]:
    """Yields plain sentences: what was proved, what moves, what simulation said."""
    n, spans = len(best.round.sites), best.round.spans
    yield (
        f"found by {METHOD} (periods: {len(spans)}, distinct sets of rates: {n}, deployments "
        f"settled: {best.path.n_settled})"
    )
    if made.bound is not None:
        yield (
            f"no plan of these periods costs less than {made.bound.best_possible:.2f} $/h on "
            f"average by these tables: this one is within {made.bound.gap_ratio:.1%} of the best"
        )
    changed = any(period.n_changes for period in made.each)
    if changed and made.held_usd is not None:
        saved = made.held_usd - made.total_usd
        yield (
            f"one deployment that serves every period, held for all {made.n_hours:g} hours, costs "
            f"${made.held_usd:,.2f}: changing with the periods saves ${saved:,.2f} "
            f"({saved / max(made.held_usd, 1e-12):.1%})"
        )
    yield _changes(made)
    yield from _simulation(spans, best, tried)


def _changes(made: PeriodsPlan) -> str:
    """Returns how much is started and stopped, and for how much money."""
    n = sum(period.n_changes for period in made.each)
    if not n:
        return "nothing is started or stopped: every period has the same replicas"
    return (
        f"replicas started or stopped in {made.n_hours:g} hours: {n}, for ${made.changes_usd:,.2f}"
    )


def _simulation(spans: Sequence[Span], best: _Tried, tried: Sequence[_Tried]) -> Iterator[str]:
    """Yields what simulation had to say, where it contradicted a path."""
    if len(tried) > 1:
        pools = ", ".join(sorted({e.pool for e in best.round.case_of(0).learned}))
        yield (
            f"simulation contradicted a first plan of ${tried[0].path.bill.usd:,.2f}: searched "
            f"again with these pools as slow as simulated: {pools or '-'}"
        )
    for span, simulated in zip(spans, best.simulated, strict=True):
        if simulated is not None and simulated.missed:
            ratio, what = worst(simulated)
            yield (
                f"in simulation of period {span.name} {what} is at {ratio:.1%} of its limit: "
                "do not rely on this plan"
            )
    if None in best.simulated:
        yield "interrupted: not every period was simulated"
