"""What a little more of something scarce would buy: a GPU, money, time, a point of quality.

Each is the question with one change, asked again (asked.py). What the best plan found then gains is
given, and what no plan can gain, by the tables:

    cheapest                 money saved            now - then,   now - bound(then)
    best_quality, rate       quality or traffic     then - now,   bound(then) - now

One GPU more of a kind needs no program where only deployments that use more of them than there are
could gain, and renting so many costs more than the plan, or than the budget. Where GPUs are shared
or sizes leave gaps on nodes, one more may give places to what uses fewer: there it is always asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.answer import MONEY_DIGITS, RATIO_DIGITS
from planner.explore import Effort
from planner.objectives import LEAST_GAIN
from planner.proofs.certify import optimised
from planner.reasons.asked import LEAST_USD_PER_H, Asked
from planner.reasons.why import BINDING_RATIO
from planner.score import Figure, duration
from planner.settle import Settled
from planner.space import Offer
from planner.spec.plan import Bound
from planner.spec.question import Limit, Question, Supply
from planner.spec.reasons import GainUnit, Worth

LOOSER_RATIO = 1.1
LESS_QUALITY = 0.01
MORE_BUDGET_RATIO = 1.1

MOST_ASKED: dict[Effort, int] = {"quick": 2, "standard": 3, "thorough": 20}

DIGITS: dict[GainUnit, int] = {
    "usd_per_h": MONEY_DIGITS,
    "quality": RATIO_DIGITS,
    "rate_factor": RATIO_DIGITS,
}
LEAST: dict[GainUnit, float] = {
    "usd_per_h": LEAST_USD_PER_H,
    "quality": LEAST_GAIN,
    "rate_factor": LEAST_GAIN,
}


@dataclass(frozen=True)
class _More:
    """A change of the question, in words and as its fields."""

    what: str
    change: str
    update: Mapping[str, object]
    gpu: str | None = None  # of which there is one more


def what_more_buys(
    asked: Asked, chosen: Settled, bound: Bound | None, effort: Effort
) -> tuple[Worth, ...]:
    """Returns what each scarce thing would buy; nothing where no single figure is optimised."""
    wanted = optimised(asked.objectives)
    if wanted is None:
        return ()
    unit: GainUnit = "usd_per_h" if wanted[0] == "cost_usd_per_h" else wanted[0]
    found, left = [], MOST_ASKED[effort]
    for more in _changes(asked, chosen, unit):
        if more.gpu is not None and _is_too_dear(asked, chosen, more.gpu, unit):
            gap = None if bound is None else abs(bound.value - bound.best_possible)
            found.append(_worth(asked, chosen, more, unit, None, gap))
        elif left > 0:
            left -= 1
            if (worth := _asked(asked, chosen, more, unit)) is not None:
                found.append(worth)
    return tuple(found)


def worth_sentences(worth: Sequence[Worth]) -> list[str]:
    """Returns what more would buy, and what would buy nothing: proved, or as far as was looked."""
    found = [f"{_subject(w)} would {_gain(w)}" for w in worth if w.gain > 0]
    nothing = [w for w in worth if w.gain == 0]
    sure = [w for w in nothing if w.at_most is not None and w.at_most <= LEAST[w.unit]]
    unsure = [w for w in nothing if w not in sure]
    for group, how in ((sure, "by these tables"), (unsure, "as far as was looked")):
        if group:
            verb = {"usd_per_h": "save nothing", "quality": "buy no quality"}.get(
                group[0].unit, "carry no more traffic"
            )
            found.append(f"would {verb}, {how}: {'; '.join(_subject(w) for w in group)}")
    return found


def _subject(worth: Worth) -> str:
    if worth.what == "budget":
        return "a tenth more budget"
    if worth.what == "quality floor":
        return f"a quality floor of {worth.change}"
    if worth.what.startswith("stock of "):
        return f"one more {worth.what.removeprefix('stock of ')} in stock"
    return f"{worth.what} at {worth.change}"


def _gain(worth: Worth) -> str:
    """Returns what is gained and at most, e.g. 'save 1.60 $/h (no plan saves more than 1.70)'."""
    if worth.unit == "usd_per_h":
        text = f"save {worth.gain:.2f} $/h"
        most = None if worth.at_most is None else f"{worth.at_most:.2f}"
        same = most == f"{worth.gain:.2f}"
    else:
        name = "quality" if worth.unit == "quality" else "rate factor"
        text = f"buy {name} {worth.gain:+.4f}, for {worth.cost_usd_per_h:.2f} $/h"
        most = None if worth.at_most is None else f"{worth.at_most:+.4f}"
        same = most == f"{worth.gain:+.4f}"
    if most is None:
        return text
    return f"{text} (no plan gains more)" if same else f"{text} (at most {most})"


def _changes(asked: Asked, chosen: Settled, unit: GainUnit) -> Iterator[_More]:
    """Yields the changes that may matter, the most telling first."""
    question = asked.question
    budget, floor = question.budget_usd_per_h, question.quality_at_least
    if budget is not None and unit != "usd_per_h":
        raised = round(MORE_BUDGET_RATIO * budget, MONEY_DIGITS)
        change = f"{raised:g} instead of {budget:g} $/h"
        yield _More("budget", change, {"budget_usd_per_h": raised})
    if floor is not None and floor > LESS_QUALITY and unit != "quality":
        lower = round(floor - LESS_QUALITY, RATIO_DIGITS)
        change = f"{lower:g} instead of {floor:g}"
        yield _More("quality floor", change, {"quality_at_least": lower})
    for gpu in asked.objectives.case.space.offers:
        yield _More(f"stock of {gpu}", "one more", one_more(question, gpu), gpu)
    for figure in sorted(chosen.score.figures, key=lambda f: -f.ratio):
        if figure.at_most_ms is not None and figure.ratio >= BINDING_RATIO:
            at = figure.at_most_ms
            change = f"{duration(LOOSER_RATIO * at)} instead of {duration(at)}"
            yield _More(figure.label, change, _looser(question, figure))


def one_more(question: Question, gpu: str, n: int = 1) -> dict[str, object]:
    """Returns the fields of a question with more GPUs of a kind, at the price of the dearest."""
    if question.stock is not None:
        return {"stock": {**question.stock, gpu: question.stock.get(gpu, 0) + n}}
    usd = max(s.usd_per_h for s in question.supply if s.gpu == gpu)
    return {"supply": (*question.supply, Supply(gpu=gpu, count=n, usd_per_h=usd))}


def loosened(
    question: Question, chosen: set[tuple[str | None, str, str]], factor: float
) -> dict[str, object]:
    """Returns the fields of a question with some limits, by scope, metric, statistic, looser."""

    def looser(name: str | None, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        return tuple(
            limit.model_copy(update={"at_most_ms": limit.at_most_ms * factor})
            if (name, limit.metric, limit.statistic) in chosen
            else limit
            for limit in limits
        )

    classes = tuple(
        c.model_copy(update={"limits": looser(c.name, c.limits)}) for c in question.classes
    )
    return {"classes": classes, "limits": looser(None, question.limits)}


def _looser(question: Question, figure: Figure) -> dict[str, object]:
    """Returns the fields of a question with the limit on one figure looser."""
    key = figure.class_name, figure.metric, figure.statistic
    return loosened(question, {key}, LOOSER_RATIO)


def _is_too_dear(asked: Asked, chosen: Settled, gpu: str, unit: GainUnit) -> bool:
    """Returns whether to rent more of a GPU than there are costs more than can be gained."""
    space = asked.objectives.case.space
    if gpu in space.packings:
        return False  # one more may give places to what uses no more than there are
    offers = space.offers[gpu]
    rent = sum(offer.count * offer.usd_per_h for offer in offers) + _next_usd_per_h(offers)
    if unit == "usd_per_h":
        return rent >= asked.value(chosen)
    budget = asked.question.budget_usd_per_h
    return budget is not None and rent > budget


def _next_usd_per_h(offers: Sequence[Offer]) -> float:
    return max((offer.usd_per_h for offer in offers), default=0.0)


def _asked(asked: Asked, chosen: Settled, more: _More, unit: GainUnit) -> Worth | None:
    """Returns what a change buys, by asking the changed question."""
    objectives = asked.otherwise(**more.update)
    if objectives is None:
        return None
    now = asked.value(chosen)
    found = asked.best(objectives, (chosen.replicas,), better_than=now)
    then = now if found is None else asked.value(found)
    sign = 1.0 if unit == "usd_per_h" else -1.0
    then = min(now, then) if unit == "usd_per_h" else max(now, then)
    best = asked.at_best(objectives, then)
    at_most = None if best is None else max(sign * (now - best), sign * (now - then), 0.0)
    return _worth(asked, chosen, more, unit, found, at_most)


def _worth(
    asked: Asked,
    chosen: Settled,
    more: _More,
    unit: GainUnit,
    found: Settled | None,
    at_most: float | None,
) -> Worth:
    """Returns a change with what the best plan found gains, nothing where none was found."""
    sign = 1.0 if unit == "usd_per_h" else -1.0
    gain = 0.0
    if found is not None:
        gain = sign * (asked.value(chosen) - asked.value(found))
    if found is None or gain < LEAST[unit]:
        found, gain = chosen, 0.0
    digits = DIGITS[unit]
    return Worth(
        what=more.what,
        change=more.change,
        gain=round(gain, digits),
        at_most=None if at_most is None else round(max(at_most, gain), digits),
        unit=unit,
        cost_usd_per_h=round(found.cost_usd_per_h, MONEY_DIGITS),
    )
