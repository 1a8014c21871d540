"""The deployments that were not chosen: the next best, the one that was refused, and when they win.

Notation, of the prices of one kind of GPU, f times as high as they are
    b_i     rent of that kind in deployment i              $/h at f = 1
    a_i     its other money                                $/h
    c_i(f)  = a_i + f b_i

The plan (i = 0) is the cheapest as far as no line is below its own:

    high = min over b_i < b_0 of (a_i - a_0) / (b_0 - b_i),    low the same over b_i > b_0

The least cost of all deployments is concave in f, the smallest of lines, and the plan's is a line.
So what lies between them is convex: where the plan is proved to be the cheapest now and at an end,
it is so everywhere between. The traffic up to which the plan does is that of its own best routing;
down to where nothing cheaper does is what the most able of the cheaper deployments carries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.answer import MONEY_DIGITS, RATIO_DIGITS
from planner.choose import ranked
from planner.exact.bound import bound as bound_of
from planner.explore import Effort, Explored
from planner.keeping import change_of
from planner.objectives import LEAST_GAIN, Evaluation, Objectives
from planner.proofs.certify import TOUCHING_RATIO, optimised
from planner.reasons.asked import LEAST_USD_PER_H, Asked, deployment_of
from planner.search.problem import ACCEPTED_VIOLATION
from planner.settle import Settled, settle
from planner.space import Offer, Space
from planner.spec.arrays import IntArray
from planner.spec.plan import Bound
from planner.spec.question import ReplicaRange
from planner.spec.reasons import Rival, Stays

HIGHEST_FACTOR = 4.0  # of a price, as far as is looked
LEAST_FACTOR = 1e-3
RATE_DIGITS = 4

MOST_SETTLED: dict[Effort, int] = {"quick": 3, "standard": 6, "thorough": 15}
"""Deployments looked at more closely for one answer."""

PROOF_ROUNDS: dict[Effort, int] = {"quick": 0, "standard": 3, "thorough": 4}


@dataclass
class Others:
    """The deployments that were looked at beside a plan, each settled at most once."""

    asked: Asked
    explored: Explored
    chosen: Settled
    effort: Effort
    _settled: dict[tuple[int, ...], Settled] = field(default_factory=dict)
    _proved: dict[tuple[float, ...], bool] = field(default_factory=dict)  # at prices to each other

    @property
    def objectives(self) -> Objectives:
        """Returns the evaluation of the question as it is."""
        return self.asked.objectives

    def settled(self, replicas: IntArray) -> Settled:
        """Returns a deployment (P,) as a plan would have it."""
        key = tuple(replicas.tolist())
        if key not in self._settled:
            self._settled[key] = settle(self.objectives, replicas)
        return self._settled[key]

    def ranked(self) -> list[Evaluation]:
        """Returns the other deployments in the order of the question's choice, each once."""
        distinct: dict[tuple[int, ...], Evaluation] = {}
        for e in ranked(self.objectives, self.explored.evaluations, self.asked.kept):
            if not np.array_equal(e.replicas, self.chosen.replicas):
                distinct.setdefault(tuple(e.replicas.tolist()), e)
        return list(distinct.values())


def rival_and_refused(others: Others) -> tuple[Rival | None, Rival | None]:
    """Returns the next-best plan, and the best deployment that was refused for what it misses.

    Where the box was not looked at as a whole, both are of what was looked at.
    """
    left = MOST_SETTLED[others.effort]
    refused: Settled | None = None
    for e in others.ranked():
        if left == 0:
            break
        if refused is not None and e.violation > ACCEPTED_VIOLATION:
            continue
        left -= 1
        settled = others.settled(e.replicas)
        if not settled.acceptable and refused is None and _is_better(others, settled):
            refused = settled
        elif settled.acceptable and not _is_better(others, settled):
            lost = _lost(others, settled)
            return _rival(others, settled, lost), _refused(others, refused)
    return None, _refused(others, refused)


def _refused(others: Others, settled: Settled | None) -> Rival | None:
    return None if settled is None else _rival(others, settled, settled.score.problems[0])


def _rival(others: Others, settled: Settled, lost: str) -> Rival:
    ratio = settled.score.latency_ratio
    return Rival(
        deployment=deployment_of(others.objectives.case, settled.replicas),
        cost_usd_per_h=round(settled.cost_usd_per_h, MONEY_DIGITS),
        quality=round(settled.score.quality, RATIO_DIGITS),
        latency_ratio=None if ratio is None else round(min(ratio, 1e6), RATIO_DIGITS),
        rate_factor=(
            round(settled.rate_factor, RATIO_DIGITS) if others.objectives.maximises_rate else None
        ),
        lost=lost,
    )


def _is_better(others: Others, settled: Settled) -> bool:
    """Returns whether a deployment beats the plan in what is asked for, were it acceptable."""
    chosen, asked = others.chosen, others.asked
    wanted = optimised(asked.objectives)
    if wanted is None:
        fastest = asked.question.choose == "fastest"
        return fastest and settled.latency < chosen.latency * (1.0 - TOUCHING_RATIO)
    more = asked.value(settled) - asked.value(chosen)
    return more < -LEAST_USD_PER_H if wanted[1] == "cost" else more > LEAST_GAIN


def _lost(others: Others, rival: Settled) -> str:
    """Returns why a plan that keeps every promise is not the one: its worse figures, worst first.

    What is asked for comes first; what it would be better in is said after that.
    """
    chosen, asked = others.chosen, others.asked
    dearer = asked.value(rival) - asked.value(chosen) if _by_money(others) else (
        rival.cost_usd_per_h - chosen.cost_usd_per_h
    )  # fmt: skip
    quality = rival.score.quality - chosen.score.quality
    carried = rival.rate_factor - chosen.rate_factor
    slower = rival.latency / max(chosen.latency, 1e-12) - 1.0
    parts = {
        "money": _part(dearer, LEAST_USD_PER_H, "dearer by {:.2f} $/h", "cheaper by {:.2f} $/h"),
        "quality": _part(-quality, LEAST_GAIN, "quality {:.4f} lower", "quality {:.4f} higher"),
        "traffic": _part(
            -carried, LEAST_GAIN, "carries {:.4f} times the traffic less", "carries {:.4f} more"
        ),
        "speed": _part(slower, 1e-3, "slower by {:.1%}", "faster by {:.1%}"),
    }
    first = "money"
    if asked.objectives.maximises_rate:
        first = "traffic"
    elif asked.question.choose in ("best_quality", "fastest"):
        first = {"best_quality": "quality", "fastest": "speed"}[asked.question.choose]
    order = [first, *(name for name in parts if name != first)]
    said = [parts[name] for name in order if parts[name]]
    return ", ".join(said) or "no better in anything"


def _by_money(others: Others) -> bool:
    wanted = optimised(others.objectives)
    return wanted is not None and wanted[1] == "cost"


def _part(worse: float, least: float, text: str, better: str) -> str:
    """Returns one difference in words, nothing where there is hardly any."""
    if abs(worse) < least:
        return ""
    return (text if worse > 0 else better).format(abs(worse))


def how_long(others: Others, bound: Bound | None) -> tuple[Stays, ...]:
    """Returns the ranges in which the deployment stays the cheapest, where that was asked for."""
    if not _by_money(others):
        return ()
    found = [_price_range(others, gpu, bound) for gpu in others.objectives.case.space.offers]
    found.append(_traffic_range(others))
    return tuple(stays for stays in found if stays is not None)


@dataclass(frozen=True)
class _Line:
    """What a deployment costs as the price of one kind of GPU moves, in $/h."""

    replicas: IntArray  # (P,)
    other: float
    rent: float  # of that kind, at the price of today

    def meets(self, plan: _Line) -> float:
        """Returns the price factor at which it costs as much as the plan."""
        return (self.other - plan.other) / (plan.rent - self.rent)


def _price_range(others: Others, gpu: str, bound: Bound | None) -> Stays | None:
    """Returns the prices of a kind of GPU between which nothing that was looked at is cheaper."""
    space = others.objectives.case.space
    plan = _line(others, gpu, others.chosen.replicas, others.asked.value(others.chosen))
    lines = [
        _line(others, gpu, e.replicas, e.cost_usd_per_h + _change(others, e.replicas))
        for e in others.ranked()
        if e.violation <= ACCEPTED_VIOLATION
    ]
    if not any(line.other > LEAST_USD_PER_H for line in (plan, *lines)):
        return None  # all money is of this kind: its price is no reason for another deployment
    saving = [i for i in lines if i.rent < plan.rent - LEAST_USD_PER_H]
    dearer = [i for i in lines if i.rent > plan.rent + LEAST_USD_PER_H]
    high, above = _crossing(others, plan, sorted(saving, key=lambda i: i.meets(plan)))
    low, below = _crossing(others, plan, sorted(dearer, key=lambda i: -i.meets(plan)))
    high = None if high is None or high > HIGHEST_FACTOR else max(high, 1.0)
    low = None if low is None or low < LEAST_FACTOR else min(low, 1.0)
    prices = [offer.usd_per_h for offer in space.offers[gpu]]
    unit = prices[0] if len(prices) == 1 else 1.0
    if unit <= 0.0:
        return None

    def proved(factor: float | None, furthest: float) -> float | None:
        at = furthest if factor is None else factor
        sure = _is_proved(others, gpu, plan, at, bound)
        return round(at * unit, MONEY_DIGITS) if sure else None

    return Stays(
        what=f"price of {gpu}",
        unit="usd_per_gpu_h" if len(prices) == 1 else "price_factor",
        now=round(unit, MONEY_DIGITS),
        low=None if low is None else round(low * unit, MONEY_DIGITS),
        high=None if high is None else round(high * unit, MONEY_DIGITS),
        below={} if low is None else below,
        above={} if high is None else above,
        proved_low=proved(low, 0.0),
        proved_high=proved(high, HIGHEST_FACTOR),
    )


def _line(others: Others, gpu: str, replicas: IntArray, usd_per_h: float) -> _Line:
    space = others.objectives.case.space
    rent = float(replace(space, offers={gpu: space.offers[gpu]}).cost_usd_per_h(replicas))
    return _Line(replicas, usd_per_h - rent, rent)


def _change(others: Others, replicas: IntArray) -> float:
    change = change_of(others.objectives, others.asked.kept)
    return 0.0 if change is None else change.usd_per_h(replicas)


def _crossing(
    others: Others, plan: _Line, nearest_first: Sequence[_Line]
) -> tuple[float | None, dict[str, int]]:
    """Returns where the first deployment that keeps every promise becomes as cheap as the plan.

    After some tries the next one stands for all: then the end is on the safe side, without a name.
    """
    for i, line in enumerate(nearest_first):
        if i >= MOST_SETTLED[others.effort]:
            return line.meets(plan), {}
        if others.settled(line.replicas).acceptable:
            return line.meets(plan), deployment_of(others.objectives.case, line.replicas)
    return None, {}


def _is_proved(others: Others, gpu: str, plan: _Line, factor: float, bound: Bound | None) -> bool:
    """Returns whether nothing is cheaper than the plan from now to a factor on a kind's prices.

    Where all money is rent, only the prices' proportions matter: of two kinds of GPU the one that
    gets cheaper is the other one getting dearer, and is not proved twice.
    """
    if not PROOF_ROUNDS[others.effort] or bound is None or bound.gap_ratio > TOUCHING_RATIO:
        return False
    space, usd_per_h = _at_prices(others.objectives.case.space, gpu, factor), (
        plan.other + factor * plan.rent
    )  # fmt: skip
    prices = [offer.usd_per_h for offers in space.offers.values() for offer in offers]
    rents_all = not others.objectives.case.workload.request_usd.any() and prices[0] > 0
    rents_all &= change_of(others.objectives, others.asked.kept) is None
    unit = prices[0] if rents_all else 1.0
    key = tuple(round(price / unit, 9) for price in prices)
    if key not in others._proved:
        others._proved[key] = _is_least(others, space, usd_per_h)
    return others._proved[key]


def _is_least(others: Others, space: Space, usd_per_h: float) -> bool:
    """Returns whether nothing in a box is proved to cost less than the plan does there."""
    case = others.objectives.case
    least = bound_of(
        case.workload,
        others.chosen.tables,
        space,
        case.question.headroom_ratio,
        "cost",
        usd_per_h,
        n_rounds=PROOF_ROUNDS[others.effort],
        change=change_of(others.objectives, others.asked.kept),
    ).best_possible
    return least is not None and usd_per_h - least <= TOUCHING_RATIO * usd_per_h


def _at_prices(space: Space, gpu: str, factor: float) -> Space:
    """Returns the box at other prices; without its budget, whose rows are made of today's."""
    scaled = tuple(
        Offer(offer.count, offer.usd_per_h * factor, offer.kind) for offer in space.offers[gpu]
    )
    stays = np.array([name != "budget" for name in space.row_names], dtype=np.bool_)
    return replace(
        space,
        offers={**space.offers, gpu: scaled},
        rows=space.rows[stays],
        limits=space.limits[stays],
        row_names=tuple(name for name, kept in zip(space.row_names, stays, strict=True) if kept),
        budget_usd_per_h=None,
    )


def _traffic_range(others: Others) -> Stays | None:
    """Returns how much the traffic may grow, and shrink until something cheaper would do."""
    most = _carried(others)
    if most is None or not others.chosen.acceptable:
        return None
    low: float | None = None
    below: dict[str, int] = {}
    proved: float | None = None
    if others.effort != "quick" and change_of(others.objectives, others.asked.kept) is None:
        low, below, proved = _cheaper(others)
    return Stays(
        what="traffic",
        unit="rate_factor",
        now=1.0,
        low=low,
        high=max(1.0, round(most, RATE_DIGITS)),
        below=below,
        proved_low=proved,
    )


def _carried(others: Others) -> float | None:
    """Returns the most traffic that the plan's own deployment carries within every promise."""
    chosen, asked = others.chosen, others.asked
    names = asked.objectives.case.space.pool_names
    fixed = {
        name: ReplicaRange(min=int(n), max=int(n))
        for name, n in zip(names, chosen.replicas.tolist(), strict=True)
    }
    objectives = asked.otherwise(maximise="rate_factor", replicas=fixed)
    if objectives is None:
        return None
    settled = settle(objectives, chosen.replicas, start_loads=chosen.routing.loads)
    return settled.rate_factor if settled.acceptable else None


def _cheaper(others: Others) -> tuple[float | None, dict[str, int], float | None]:
    """Returns what cheaper deployments carry: the most found, by which one, and the most proved."""
    asked, chosen = others.asked, others.chosen
    less = round(chosen.cost_usd_per_h - LEAST_USD_PER_H, MONEY_DIGITS)
    objectives = (
        asked.otherwise(maximise="rate_factor", budget_usd_per_h=less) if less > 0 else None
    )
    if objectives is None:
        return None, {}, None
    cheaper = (e.replicas for e in others.ranked() if e.cost_usd_per_h < less)
    start = [replicas for replicas, _ in zip(cheaper, range(8), strict=False)]
    found = asked.best(objectives, start)
    low = None if found is None or found.rate_factor >= 1.0 else found.rate_factor
    most = asked.at_best(objectives, low)
    proved = None if most is None or most >= 1.0 else max(most, low or 0.0)
    if found is None or low is None:
        return None, {}, None
    name = deployment_of(objectives.case, found.replicas)
    rounded = None if proved is None else round(proved, RATE_DIGITS)
    return round(low, RATE_DIGITS), name, rounded


def rival_sentences(rival: Rival | None, refused: Rival | None) -> Iterator[str]:
    """Yields which deployments came second, and which was refused for what."""
    if rival is not None:
        yield f"next best: {_named(rival.deployment)} for {_usd(rival)}: {rival.lost}"
    if refused is not None:
        yield f"refused: {_named(refused.deployment)} for {_usd(refused)}: {refused.lost}"


def stays_sentences(stays: Sequence[Stays]) -> Iterator[str]:
    """Yields how far prices and traffic may move before another deployment is better."""
    for each in stays:
        text = _moves if each.unit != "rate_factor" else _grows
        yield text(each)


def _moves(each: Stays) -> str:
    money = "$/h" if each.unit == "usd_per_gpu_h" else "times its prices"
    kind = each.what.removeprefix("price of ")
    if each.low is None and each.high is None:
        where = f"at any price up to {HIGHEST_FACTOR * each.now:.2f}"
    elif each.low is None:
        where = f"up to {each.high:.2f}"
    elif each.high is None:
        where = f"from {each.low:.2f} on"
    else:
        where = f"from {each.low:.2f} to {each.high:.2f}"
    sides = (each.proved_low is not None, each.proved_high is not None)
    words = {
        (True, True): "proved",
        (True, False): "proved downwards",
        (False, True): "proved upwards",
        (False, False): "as far as was looked",
    }
    return (
        f"stays the cheapest with one {kind} {where} {money}, {each.now:.2f} now ({words[sides]})"
    )


def _grows(each: Stays) -> str:
    text = f"carries up to {each.high:.3f} times this traffic within every limit and its headroom"
    if each.low is None:
        return text
    text += f"; at {each.low:.3f} times something cheaper would do"
    if each.proved_low is not None:
        text += f", proved not above {each.proved_low:.3f}"
    return text


def _named(deployment: dict[str, int]) -> str:
    return ", ".join(f"{n} x {pool}" for pool, n in deployment.items())


def _usd(rival: Rival) -> str:
    return f"{rival.cost_usd_per_h:.2f} $/h"
