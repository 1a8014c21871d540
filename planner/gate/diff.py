"""What changes from one plan to another: replicas, shares, money, quality, latency, inputs.

Two plans are the same when what they order is the same: deployment and routes after rounding
(§6). Figures are compared and shown, but they order nothing, so they never make a difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.gate.way.steps import Transition
from planner.spec.base import Metric, Statistic, latency_label
from planner.spec.plan import (
    CascadeRoute,
    DeployedPool,
    FrontPoint,
    PeriodPlan,
    Plan,
    Price,
)
from planner.spec.whole import (
    HOURS_PER_MONTH,
    busiest_usd_per_h,
    changed_inputs,
    gpus_of,
    mean_usd_per_h,
)

SHARE_DECIMALS = 6
USD_DECIMALS = 4
JUST_MET = 1e-6
AS_GOOD, AS_CHEAP_USD = 5e-5, 5e-3
"""What is shown alike is alike: nobody looks for a plan that is better by half of a last digit."""


@dataclass(frozen=True)
class PoolChange:
    """One pool whose deployment row differs; None on the side where it is not deployed."""

    pool: str
    old: DeployedPool | None
    new: DeployedPool | None

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """Returns what happens to the pool."""
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "changed"

    @property
    def is_repriced(self) -> bool:
        """Returns whether nothing but the rent of the pool differs."""
        if self.old is None or self.new is None:
            return False
        return self.new == self.old.model_copy(update={"usd_per_h": self.new.usd_per_h})

    @property
    def n_old(self) -> int:
        """Returns the replicas before."""
        return self.old.replicas if self.old else 0

    @property
    def n_new(self) -> int:
        """Returns the replicas after."""
        return self.new.replicas if self.new else 0


@dataclass(frozen=True)
class ShareChange:
    """The share of a class on a pool, or on a pair of pools of a cascade, before and after."""

    class_name: str
    pool: str  # of a cascade both, as `way` writes them
    old: float
    new: float

    @property
    def points(self) -> float:
        """Returns the change in percentage points."""
        return 100.0 * (self.new - self.old)


@dataclass(frozen=True)
class Change:
    """One figure before and after; None where a plan does not have it."""

    name: str
    old: float | None
    new: float | None

    @property
    def difference(self) -> float | None:
        """Returns new minus old, None where one of them is missing."""
        return None if self.old is None or self.new is None else self.new - self.old


@dataclass(frozen=True)
class LatencyChange:
    """One latency statistic in ms before and after, with the limit on it in the new plan."""

    class_name: str | None
    metric: Metric
    statistic: Statistic
    old_ms: float | None
    new_ms: float | None
    old_at_most_ms: float | None
    at_most_ms: float | None

    @property
    def label(self) -> str:
        """Returns what it is called, e.g. 'p95 e2e of math'."""
        return latency_label(self.class_name, self.metric, self.statistic)


@dataclass(frozen=True)
class InputChange:
    """An input of the plans whose content differs, by its logical name (§7)."""

    name: str
    kind: Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class PeriodChange:
    """A period in which the plans order something else; None where a plan does not have it."""

    name: str
    old_hours: tuple[float, float] | None  # from, to
    new_hours: tuple[float, float] | None
    pools: tuple[PoolChange, ...]
    shares: tuple[ShareChange, ...]
    paid_usd_per_h: Change


@dataclass(frozen=True)
class SurvivalChange:
    """Whether a scenario is survived, before and after; None where it was not asked for."""

    scenario: str
    old: bool | None
    new: bool | None


@dataclass(frozen=True)
class PriceChange:
    """A dual price before and after; None where a plan does not have it."""

    what: str
    unit: str
    old: float | None
    new: float | None


@dataclass(frozen=True)
class FrontChange:
    """What the fronts offer for what the old plan is and costs, within every limit.

    None where no point of a front is that good, or that cheap.
    """

    at_quality: float  # of the old plan
    cost_usd_per_h: Change  # of the cheapest point that is at least as good
    within_usd_per_h: float  # of the old plan
    quality: Change  # of the best point that costs no more
    rate_factor: Change | None  # the same where the plans maximise the traffic they carry
    least_usd_per_h: Change  # of the cheapest point of all
    same_question: bool  # else each front has the plans that its own question allows, and no other


@dataclass(frozen=True)
class ProvenanceChange:
    """How a plan was made that the other one was not, as text."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class PlanDiff:
    """Everything that differs between two plans, and the main figures of both."""

    pools: tuple[PoolChange, ...]  # only those that differ
    gpus: tuple[Change, ...]  # GPUs of each kind, only those that differ
    shares: tuple[ShareChange, ...]  # only those that differ after rounding
    moved_ratio: float  # share of the traffic that goes elsewhere, of classes that both plans have
    cost_usd_per_h: Change  # in the busiest hours
    mean_usd_per_h: Change  # over all hours: the same without periods
    cost_usd_per_month: Change  # by the mean
    usd_per_million_output_tokens: Change
    rate_rps: Change
    quality: Change
    class_quality: tuple[Change, ...]
    latency_ratio: Change
    latency: tuple[LatencyChange, ...]
    inputs: tuple[InputChange, ...]
    survives: tuple[SurvivalChange, ...] = ()  # only those that differ
    periods: tuple[PeriodChange, ...] = ()  # only those that differ
    periods_usd: Change | None = None  # money of all periods; None: neither plan has any
    reserved: tuple[Change, ...] = ()  # GPUs by kind that are paid in all hours, that differ
    front: FrontChange | None = None  # None: a plan has no front
    prices: tuple[PriceChange, ...] = ()  # only those that differ
    provenance: tuple[ProvenanceChange, ...] = ()  # only what differs
    transition: Transition | None = None  # None: not asked for

    @property
    def empty(self) -> bool:
        """Returns whether both plans order the same (§6)."""
        return not (self.pools or self.shares or self.periods or self.reserved)

    @property
    def restarts(self) -> bool:
        """Returns whether replicas must be replaced though the plans order the same.

        A file of a pool says that its engine is another one, or is told something else.
        """
        return self.empty and self.transition is not None and bool(self.transition.steps)


def diff(old: Plan, new: Plan, transition: Transition | None = None) -> PlanDiff:
    """Returns what changes from one plan to another.

    Args:
        old: what runs now.
        new: what will run.
        transition: the way from one to the other (planner/gate/way/transition.py), to be shown.
    """
    shares = _share_changes(old, new)
    then, now = old.predicted, new.predicted
    mean = tuple(mean_usd_per_h(plan) for plan in (old, new))
    return PlanDiff(
        pools=_pool_changes(old, new),
        gpus=_gpu_changes(old, new),
        shares=shares,
        moved_ratio=_moved(shares, _rates_of_both(old, new)),
        cost_usd_per_h=Change("cost_usd_per_h", *(busiest_usd_per_h(p) for p in (old, new))),
        mean_usd_per_h=Change("mean_usd_per_h", *mean),
        cost_usd_per_month=Change("cost_usd_per_month", *(c * HOURS_PER_MONTH for c in mean)),
        usd_per_million_output_tokens=Change(
            "usd_per_million_output_tokens",
            then.usd_per_million_output_tokens,
            now.usd_per_million_output_tokens,
        ),
        rate_rps=Change("rate_rps", then.rate_rps, now.rate_rps),
        quality=Change("quality", then.quality, now.quality),
        class_quality=tuple(
            Change(name, then.class_quality.get(name), now.class_quality.get(name))
            for name in dict.fromkeys((*then.class_quality, *now.class_quality))
        ),
        latency_ratio=Change("latency_ratio", then.latency_ratio, now.latency_ratio),
        latency=_latency_changes(old, new),
        inputs=_input_changes(old, new),
        survives=_survival_changes(old, new),
        periods=_period_changes(old, new),
        periods_usd=_periods_usd(old, new),
        reserved=_reserved_changes(old, new),
        front=_front_change(old, new),
        prices=_price_changes(old, new),
        provenance=_provenance_changes(old, new),
        transition=transition,
    )


def _front_change(old: Plan, new: Plan) -> FrontChange | None:
    fronts = [
        [p for p in plan.front if p.latency_ratio is None or p.latency_ratio <= 1.0 + JUST_MET]
        for plan in (old, new)
    ]
    if not all(fronts):
        return None
    quality, cost = old.predicted.quality, old.predicted.cost_usd_per_h
    good = [[p.cost_usd_per_h for p in f if p.quality >= quality - AS_GOOD] for f in fronts]
    cheap = [[p for p in f if p.cost_usd_per_h <= cost + AS_CHEAP_USD] for f in fronts]
    return FrontChange(
        quality,
        Change("cost_usd_per_h", *(min(costs, default=None) for costs in good)),
        cost,
        Change("quality", *(max((p.quality for p in f), default=None) for f in cheap)),
        _most_traffic(cheap) if old.predicted.rate_factor is not None else None,
        Change("cost_usd_per_h", *(min(p.cost_usd_per_h for p in f) for f in fronts)),
        _question(old) == _question(new),
    )


def _question(plan: Plan) -> str | None:
    """Returns the hash of the question that a plan answers; None where it does not tell."""
    return plan.provenance.inputs.get("question.yaml")


def _most_traffic(fronts: Sequence[Sequence[FrontPoint]]) -> Change:
    """Returns the largest rate factors of two fronts."""
    factors = ([p.rate_factor for p in f if p.rate_factor is not None] for f in fronts)
    return Change("rate_factor", *(max(each, default=None) for each in factors))


def _price_changes(old: Plan, new: Plan) -> tuple[PriceChange, ...]:
    before, after = ({_price_key(p): p.value for p in plan.prices} for plan in (old, new))
    return tuple(
        PriceChange(*key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    )


def _price_key(price: Price) -> tuple[str, str]:
    return price.what, price.unit


def _provenance_changes(old: Plan, new: Plan) -> tuple[ProvenanceChange, ...]:
    names = ("rb_version", "method", "effort", "seed", "n_evaluations")
    pairs = ((n, *(str(getattr(p.provenance, n)) for p in (old, new))) for n in names)
    return tuple(ProvenanceChange(*pair) for pair in pairs if pair[1] != pair[2])


def _survival_changes(old: Plan, new: Plan) -> tuple[SurvivalChange, ...]:
    """Returns the scenarios that only one plan is asked for, or survives."""
    before, after = (
        {s.scenario: s.survives and s.verdict != "missed" for s in plan.survives}
        for plan in (old, new)
    )
    return tuple(
        SurvivalChange(scenario, before.get(scenario), after.get(scenario))
        for scenario in dict.fromkeys((*before, *after))
        if before.get(scenario) != after.get(scenario)
    )


def _period_changes(old: Plan, new: Plan) -> tuple[PeriodChange, ...]:
    before, after = _periods(old), _periods(new)
    changes = []
    for name in dict.fromkeys((*before, *after)):
        then, now = before.get(name), after.get(name)
        was, will = _orders(old, then), _orders(new, now)
        change = PeriodChange(
            name,
            (then.start_h, then.end_h) if then else None,
            (now.start_h, now.end_h) if now else None,
            _pool_changes(was, will),
            _share_changes(was, will),
            Change(
                "paid_usd_per_h",
                then.paid_usd_per_h if then else None,
                now.paid_usd_per_h if now else None,
            ),
        )
        if change.old_hours != change.new_hours or change.pools or change.shares:
            changes.append(change)
    return tuple(changes)


def _periods(plan: Plan) -> dict[str, PeriodPlan]:
    return {period.name: period for period in plan.periods.each} if plan.periods else {}


def _orders(plan: Plan, period: PeriodPlan | None) -> Plan:
    """Returns a plan with the orders of one of its periods, or none at all."""
    if period is not None:
        return plan.in_period(period)
    return plan.model_copy(update={"deployment": (), "routing": (), "cascades": ()})


def _periods_usd(old: Plan, new: Plan) -> Change | None:
    if old.periods is None and new.periods is None:
        return None
    usd = (plan.periods.total_usd if plan.periods else None for plan in (old, new))
    return Change("total_usd", *usd)


def _reserved_changes(old: Plan, new: Plan) -> tuple[Change, ...]:
    before, after = (
        {kept.gpu: kept.n_gpus for kept in plan.periods.reserved} if plan.periods else {}
        for plan in (old, new)
    )
    return tuple(
        Change(gpu, before.get(gpu, 0.0), after.get(gpu, 0.0))
        for gpu in sorted({*before, *after})
        if before.get(gpu) != after.get(gpu)
    )


def _pool_changes(old: Plan, new: Plan) -> tuple[PoolChange, ...]:
    before = {d.pool: d for d in old.deployment}
    after = {d.pool: d for d in new.deployment}
    return tuple(
        PoolChange(pool, before.get(pool), after.get(pool))
        for pool in sorted({*before, *after})
        if _rounded(before.get(pool)) != _rounded(after.get(pool))
    )


def _rounded(row: DeployedPool | None) -> DeployedPool | None:
    if row is None:
        return None
    return row.model_copy(update={"usd_per_h": round(row.usd_per_h, USD_DECIMALS)})


def _gpu_changes(old: Plan, new: Plan) -> tuple[Change, ...]:
    before, after = gpus_of(old.deployment), gpus_of(new.deployment)
    return tuple(
        Change(gpu, before.get(gpu, 0.0), after.get(gpu, 0.0))
        for gpu in sorted({*before, *after})
        if before.get(gpu, 0.0) != after.get(gpu, 0.0)
    )


def _share_changes(old: Plan, new: Plan) -> tuple[ShareChange, ...]:
    before, after = _shares(old), _shares(new)
    return tuple(
        ShareChange(*key, before.get(key, 0.0), after.get(key, 0.0))
        for key in dict.fromkeys((*before, *after))
        if before.get(key, 0.0) != after.get(key, 0.0)
    )


def _shares(plan: Plan) -> dict[tuple[str, str], float]:
    shares = {(r.class_name, r.pool): round(r.share, SHARE_DECIMALS) for r in plan.routing}
    for c in plan.cascades:
        for first, second in itertools.product(c.first, c.second):
            share = c.share * first.share * second.share
            key = c.class_name, way(c, first.pool, second.pool)
            shares[key] = round(shares.get(key, 0.0) + share, SHARE_DECIMALS)
    return shares


def way(cascade: CascadeRoute, first: str, second: str) -> str:
    """Returns how requests of a cascade go, e.g. 'a, then b where length < -800'."""
    return f"{first}, then {second} where {cascade.signal} < {cascade.below:g}"


def _rates_of_both(old: Plan, new: Plan) -> dict[str, float]:
    """Returns the rates of the classes that both plans route, in requests/s of the new one."""
    names = [{key[0] for key in _shares(plan)} for plan in (old, new)]
    return {c: rps for c, rps in new.predicted.class_rps.items() if c in names[0] & names[1]}


def _moved(shares: tuple[ShareChange, ...], class_rps: Mapping[str, float]) -> float:
    """Returns the share of traffic whose pool changes: half the total variation, by class rate.

    What comes or goes altogether does not go elsewhere.
    """
    moved = sum(0.5 * abs(s.new - s.old) * class_rps.get(s.class_name, 0.0) for s in shares)
    return moved / (sum(class_rps.values()) or 1.0)


def _latency_changes(old: Plan, new: Plan) -> tuple[LatencyChange, ...]:
    before = {f.key: f for f in old.predicted.latency}
    after = {f.key: f for f in new.predicted.latency}
    changes = []
    for key in dict.fromkeys((*after, *before)):
        then, now = before.get(key), after.get(key)
        changes.append(
            LatencyChange(
                *key,
                then.ms if then else None,
                now.ms if now else None,
                then.at_most_ms if then else None,
                now.at_most_ms if now else None,
            )
        )
    return tuple(changes)


def _input_changes(old: Plan, new: Plan) -> tuple[InputChange, ...]:
    before, after = old.provenance.inputs, new.provenance.inputs
    kind: dict[tuple[bool, bool], Literal["added", "removed", "changed"]] = {
        (False, True): "added",
        (True, False): "removed",
        (True, True): "changed",
    }
    return tuple(
        InputChange(name, kind[name in before, name in after])
        for name in changed_inputs(before, after)
    )
