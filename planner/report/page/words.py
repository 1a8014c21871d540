"""A plan in sentences: the answer, how sure it is, and what its prices mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.report.figures import (
    count,
    fine_usd,
    is_shown_as_none,
    listed,
    ms,
    number,
    percent,
    quality,
    usd,
)
from planner.report.page.markup import Html
from planner.report.page.parts import entries
from planner.spec.base import FOREVER_MS, tail_ratio
from planner.spec.plan import Bound, Plan, Price, SimulatedFigure
from planner.spec.whole import HOURS_PER_MONTH, gpus_of

MORE_TAIL = 0.2  # of the requests allowed above a percentile: by so much a limit is loosened
A_LITTLE = 0.01  # of quality, or of a limit on a mean
TENTH = 0.1  # of a replica


def answer(plan: Plan) -> str:
    """Returns the plan in one sentence: what, for how much, how good, how tight, how sure."""
    if plan.periods is not None:
        return _answer_of_periods(plan)
    predicted = plan.predicted
    per_month = usd(predicted.cost_usd_per_h * HOURS_PER_MONTH)
    factor = predicted.rate_factor
    times = "" if factor is None else f" ({factor:.3f} times the stated traffic)"
    return (
        f"{rent(plan)} for {usd(predicted.cost_usd_per_h)} per hour ({per_month} per month) to "
        f"serve {number(predicted.rate_rps)} requests/s{times} at a quality of "
        f"{quality(predicted.quality)}; {tightest(plan)}, and {proved(plan.bound)}."
    )


def _answer_of_periods(plan: Plan) -> str:
    periods = plan.periods
    assert periods is not None
    gpus = [sum(d.n_gpus for d in p.deployment) for p in periods.each]
    few, many = f"{min(gpus):g}", f"{max(gpus):g}"
    what = f"{many} GPUs" if few == many else f"{few} to {many} GPUs"
    lowest = min(p.predicted.quality for p in periods.each)
    return (
        f"Rent {what}, by the hour, for {usd(periods.total_usd)} per "
        f"{periods.n_hours:g} hours ({usd(periods.cost_usd_per_h)} per hour on average, "
        f"{usd(periods.cost_usd_per_h * HOURS_PER_MONTH)} per month) at a quality of at least "
        f"{quality(lowest)}; in the busiest period {tightest(plan)}, and "
        f"{proved(periods.bound, ' on average')}."
    )


def rent(plan: Plan) -> str:
    """Returns what is to be rented by kind of GPU, e.g. 'Rent 4 b200 and 9 h100'."""
    kinds = gpus_of(plan.deployment)
    hosted = sorted({row.pool for row in plan.deployment if row.gpu is None})
    parts = [f"{n:g} {gpu}" for gpu, n in sorted(kinds.items(), key=lambda k: (-k[1], k[0]))]
    said = f"Rent {together(parts)}" if parts else "Rent no GPU"
    return f"{said} and ask {listed(hosted, 3)}" if hosted else said


def together(parts: Sequence[str]) -> str:
    """Returns parts as a person lists them: 'a, b and c'."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def tightest(plan: Plan) -> str:
    """Returns how the latency limits stand: simulated where that was done, else by the tables."""
    limited = [f for f in plan.predicted.latency if f.at_most_ms is not None]
    if not limited:
        return "no latency limit was asked for"
    tried = [f for f in plan.simulated.latency if f.verdict] if plan.simulated else []
    if not tried:
        worst = max(limited, key=lambda f: f.ms / (f.at_most_ms or 1.0))
        used = percent(worst.ms / (worst.at_most_ms or 1.0))
        return f"its tightest limit, {worst.label}, is predicted to be used to {used}"
    missed = [
        f"{f.label}: {_time(f.ms)} where {_time(f.at_most_ms or 0.0)} is allowed"
        if f.ms < FOREVER_MS
        else f"{f.label}: requests stay without an answer"
        for f in tried
        if f.verdict == "missed"
    ]
    if missed:
        return f"simulation MISSED {listed(missed, 3)}"
    close = [f"{f.label} stays within {_time(f.at_most_ms or 0.0)}" for f in tried if _is_close(f)]
    if close:
        return f"simulation cannot tell whether {listed(close, 3)}"
    top = max(tried, key=lambda f: f.ms / (f.at_most_ms or 1.0))
    used = percent(top.ms / (top.at_most_ms or 1.0))
    n, of = len(tried), len(limited)
    held = {1: "its one latency limit", 2: "both latency limits"}.get(n, f"all {n} latency limits")
    if n < of:
        held = f"{n} of {of} latency limits, all that were tried,"
    return f"{held} held in simulation (tightest: {top.label}, used to {used})"


def _is_close(figure: SimulatedFigure) -> bool:
    return figure.verdict not in (None, "met", "missed")


def proved(bound: Bound | None, mean: str = "") -> str:
    """Returns what is proved of a plan by its tables (§5); mean: said of the money of periods."""
    if bound is None:
        return "how far it is from the best is not proved"
    if is_shown_as_none(bound.gap_ratio):
        return f"it is proved that {_best(bound, mean)}, by the fitted tables"
    return f"it is proved within {percent(bound.gap_ratio)} of the best possible"


def bound_sentence(bound: Bound, mean: str = "") -> str:
    """Returns what no plan can beat, as a sentence of its own."""
    best = _best(bound, mean)
    return (
        f"{best[0].upper()}{best[1:]} by the fitted tables; this plan is within "
        f"{percent(bound.gap_ratio)} of that."
    )


def _best(bound: Bound, mean: str) -> str:
    best = bound.best_possible
    money = "" if bound.within_usd_per_h is None else f" of at most {usd(bound.within_usd_per_h)}/h"
    return {
        "cost_usd_per_h": f"no plan costs less than {usd(best)} per hour{mean}",
        "quality": f"no plan{money} reaches a quality above {quality(best)}",
        "rate_factor": f"no plan{money} carries more than {number(best)} times the traffic",
        "latency_ratio": f"no plan{money} uses less than {percent(best)} of its tightest limit",
        "latency_ms": f"no plan{money} has a latency below {ms(best)} ms",
    }[bound.objective]


# ---- Prices --------------------------------------------------------------------------------------


def traffic_sentences(plan: Plan) -> Iterator[str]:
    """Yields what requests cost on average, and how many more these replicas carry."""
    predicted = plan.predicted
    if predicted.rate_rps > 0:
        per_1000 = predicted.cost_usd_per_h / (3.6 * predicted.rate_rps)
        text = f"At the planned rate, the busiest, a thousand requests cost {_cents(per_1000)}"
        if predicted.usd_per_million_output_tokens is not None and plan.periods is None:
            # Replicas are paid for all day, requests come on average (planner/answer.py).
            per_million = fine_usd(predicted.usd_per_million_output_tokens)
            text += f"; over all hours, a million output tokens cost {per_million}"
        yield f"{text}."
    for each in plan.reasons.stays if plan.reasons else ():
        if each.unit != "rate_factor":
            continue
        if each.high is None:
            yield "No amount of traffic was found at which these replicas stop being the best."
        else:
            most = number(each.high * predicted.rate_rps / (predicted.rate_factor or 1.0))
            yield (
                f"More requests cost nothing more up to {each.high:.3f} times the traffic "
                f"({most} requests/s): beyond it, something else must be rented."
            )


def _cents(amount_usd: float) -> str:
    return usd(amount_usd) if amount_usd >= 1 else f"{100 * amount_usd:.3g} cents"


def price_in_words(price: Price, plan: Plan) -> tuple[str, str]:
    """Returns what a dual price means: a small change, and what it would do.

    Of the shares alone: the replicas stay as they are (planner/routing/shadow.py).
    """
    change = _change(price.what, plan)
    gain = None if change is None else _gain(price.unit, price.value * change[1])
    if change is None or gain is None:
        return price.what, f"be worth {number(price.value)} {price.unit}"
    return change[0], gain


def _change(what: str, plan: Plan) -> tuple[str, float] | None:
    """Returns a small change of what is scarce, in words and in the unit of its price."""
    kind, _, name = what.partition(":")
    if kind == "load":
        return f"a tenth of a replica's work less to do on {name}", TENTH
    if kind == "quality":
        of = f" of {name}" if name else ""
        return f"a quality floor{of} lower by {A_LITTLE:g}", A_LITTLE
    if kind == "budget":
        return "$1 per hour more for hosted requests", 1.0
    return _looser(name, plan) if kind == "limit" else None


def _looser(name: str, plan: Plan) -> tuple[str, float] | None:
    """Returns a limit loosened a little: more requests above it, or a mean 1 % later."""
    figure = next((f for f in plan.predicted.latency if f.label == name), None)
    if figure is None or figure.at_most_ms is None:
        return None
    allowed_ms = figure.at_most_ms
    tail = tail_ratio(figure.statistic)
    if tail is None:
        more_ms = A_LITTLE * allowed_ms
        return f"{name} up to {_time(allowed_ms + more_ms)} (not {_time(allowed_ms)})", more_ms
    now, then = percent(tail, 0), f"{100.0 * tail * (1.0 + MORE_TAIL):g}%"
    scope = f"of {figure.class_name}" if figure.class_name else "of all requests"
    words = f"{then} {scope} (not {now}) may exceed {_time(allowed_ms)} of {figure.metric}"
    return words, MORE_TAIL * tail


def _gain(unit: str, gain: float) -> str | None:
    """Returns what is gained, in the words of the objective of a price's unit."""
    objective = unit.partition(" per ")[0]
    if objective == "quality":
        return f"buy +{gain:.4f} of quality" if gain >= 5e-5 else f"buy +{gain:.2g} of quality"
    if unit.startswith("USD per hour per "):
        return f"save {usd(gain) if gain >= 0.01 else _cents(gain)} per hour"
    if objective == "rate factor":
        return f"carry {number(gain)} times the stated traffic more"
    return None


def in_ms(time_ms: float | None) -> str:
    """Returns a latency in ms; one that stands for an answer that never came as what it is."""
    return "no answer" if time_ms is not None and time_ms >= FOREVER_MS else ms(time_ms)


def _time(time_ms: float) -> str:
    """Returns a latency as a person says it."""
    return f"{number(time_ms / 1000.0)} s" if time_ms >= 1000 else f"{number(time_ms)} ms"


def in_words(deployment: dict[str, int]) -> str:
    """Returns a deployment as a list, e.g. '2 × a and 1 × b'."""
    return together([f"{n} × {pool}" for pool, n in deployment.items()])


def replicas(deployment: dict[str, int]) -> Html:
    """Returns a deployment as a list, most of whose entries stand on one line."""
    return entries(f"{n} × {pool}" for pool, n in deployment.items())


def n_pools(plan: Plan) -> str:
    """Returns how many pools and replicas there are; a hosted pool has none of its own."""
    own = [d for d in plan.deployment if d.gpu is not None]
    parts = []
    if own:
        replicas = count(sum(d.replicas for d in own), "replica")
        parts.append(f"{replicas} in {count(len(own), 'pool')}")
    if hosted := len(plan.deployment) - len(own):
        parts.append(count(hosted, "hosted pool"))
    return together(parts) or "nothing"
