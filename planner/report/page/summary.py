"""The top of the page: the answer in a sentence, what speaks against it, five figures."""

from __future__ import annotations

from collections.abc import Iterator

from planner.report.figures import count, fine_usd, is_shown_as_none, listed, percent, quality, usd
from planner.report.page.grades import rests_on, scores_origin
from planner.report.page.markup import Html, element, joined
from planner.report.page.origins import marked, marks
from planner.report.page.parts import Tone, chip, tile
from planner.report.page.subject import Subject
from planner.report.page.words import answer, n_pools
from planner.spec.base import FOREVER_MS
from planner.spec.plan import Bound, LatencyFigure, Plan, SimulatedFigure
from planner.spec.whole import HOURS_PER_MONTH, mean_usd_per_h, proof_of


def summary(subject: Subject) -> Html:
    """Returns the head of the page."""
    plan = subject.plan
    chips = [chip(words, tone) for words, tone in verdicts(subject)]
    warnings = [element("li", sentence) for sentence in _warnings(subject)]
    return joined(
        element("h1", plan.title),
        element("p", answer(plan), class_="answer"),
        element("p", chips, class_="chips"),
        element("dl", _tiles(subject), class_="tiles"),
        marks(),
        element("ul", warnings, class_="warnings") if warnings else None,
    )


def verdicts(subject: Subject) -> Iterator[tuple[str, Tone]]:
    """Yields what is to be known before anything else, each with its tone."""
    plan = subject.plan
    if plan.contradicted:
        yield "Contradicted by simulation", "bad"
    elif plan.simulated is None:
        yield "Not simulated", "warn"
    elif any(f.verdict == "too close to call" for f in plan.simulated.latency):
        yield "Simulated: too close to call", "warn"
    elif n_limits := sum(f.at_most_ms is not None for f in plan.predicted.latency):
        n_held = sum(f.verdict is not None for f in plan.simulated.latency)
        all_held = n_held >= n_limits
        which = "limits hold" if all_held else f"{n_held} of {n_limits} limits hold"
        yield f"Simulated: {which}", "good" if all_held else "warn"
    else:
        yield "Simulated", "good"
    parts = [plan.predicted, *(p.predicted for p in (plan.periods.each if plan.periods else ()))]
    if any(f.is_missed for part in parts for f in part.latency):
        yield "Misses limits by its own tables", "bad"
    if any(not each.survives for each in plan.survives):
        yield "Does not survive every scenario", "bad"
    if not plan.complete:
        yield "Search interrupted", "warn"
    if subject.inputs is None:
        yield "Inputs not at hand", "plain"
    elif subject.stale:
        yield f"Stale: {count(len(subject.stale), 'input')} changed", "bad"
    else:
        yield "Inputs unchanged", "good"
    if (origin := rests_on(subject)) != "measured":
        yield f"Rests on {origin} figures", "warn"


def _warnings(subject: Subject) -> Iterator[str]:
    """Yields in sentences what stands against the plan."""
    plan = subject.plan
    if plan.contradicted:
        missed = [f.label for f in plan.simulated.missed] if plan.simulated else []
        missed += [each.scenario for each in plan.survives if each.verdict == "missed"]
        missed += [
            f"{text} ({p.name})"
            for p in (plan.periods.each if plan.periods else ())
            for text in p.missed
        ]
        yield f"Do not deploy it: simulation missed {listed(missed, 3)}."
    if not plan.complete:
        yield "The search was interrupted: a better plan may exist."
    if subject.stale:
        yield (
            f"Since the plan was made, {listed(subject.stale, 3)} changed: plan again with "
            "rb plan, or read this page as of then."
        )
    if subject.inputs is None:
        why = subject.faults[0] if subject.faults else None
        text = f" ({why.file}: {why.what})" if why is not None else ""
        yield (
            f"The question or the profiles could not be read{text}: latency curves, quality "
            "floors and the freshness of the inputs are missing below."
        )
    beyond = [p.pool for p in plan.predicted.pools if p.extrapolated]
    if beyond:
        yield f"Loads beyond what was measured: {listed(beyond, 3)}; their bands are widened."


def _tiles(subject: Subject) -> Iterator[Html]:
    plan = subject.plan
    gpus = sum(d.n_gpus for d in plan.deployment)
    yield _cost(plan)
    yield tile("GPUs", f"{gpus:g}", _what_runs(plan))
    yield _quality(subject)
    yield _limits(plan)
    yield _proof(proof_of(plan))


def _cost(plan: Plan) -> Html:
    periods, predicted = plan.periods, plan.predicted
    per_h = mean_usd_per_h(plan)
    more = "per hour" if periods is None else "per hour on average"
    more += f", {usd(per_h * HOURS_PER_MONTH)} per month"
    if predicted.usd_per_million_output_tokens is not None and periods is None:
        per_million = fine_usd(predicted.usd_per_million_output_tokens)
        more += f", {per_million} per million output tokens over all hours"
    return tile("Cost", marked(usd(per_h), "given"), more)


def _quality(subject: Subject) -> Html:
    plan = subject.plan
    basis, inputs = plan.quality_basis, subject.inputs
    parts = ["mean score by traffic" + _when(plan)]
    if basis is not None:
        parts.append(f"95% from {quality(basis.by_class.low)} to {quality(basis.by_class.high)}")
    floor = inputs.question.quality_at_least if inputs is not None else None
    if floor is not None:
        parts.append(f"floor {floor:g}")
    return tile(
        "Quality", marked(quality(plan.predicted.quality), scores_origin(subject)), ", ".join(parts)
    )


def _limits(plan: Plan) -> Html:
    """Returns how far the limit that is nearest to its end is used: simulated, else predicted."""
    predicted = [f for f in plan.predicted.latency if f.at_most_ms is not None]
    if not predicted:
        return tile("Tightest limit", "none", "the question limits no latency")
    foreseen = max(predicted, key=_used)
    tried = [f for f in plan.simulated.latency if f.at_most_ms] if plan.simulated else []
    if not tried:
        more = f"of {foreseen.label} used, predicted; not simulated"
        return tile("Tightest limit", marked(percent(_used(foreseen)), foreseen.origin), more)
    seen = max(tried, key=_used)
    if seen.ms >= FOREVER_MS:
        return tile("Tightest limit", "no answer", f"to requests of {seen.label}, simulated")
    more = f"of {seen.label} used in simulation; at most {percent(_used(foreseen))} predicted"
    return tile("Tightest limit", marked(percent(_used(seen)), "simulated"), more)


def _used(figure: LatencyFigure | SimulatedFigure) -> float:
    return figure.ms / (figure.at_most_ms or 1.0)


def _proof(bound: Bound | None) -> Html:
    if bound is None:
        return tile("From the best", "unknown", "nothing is proved of this plan")
    of = "less money" if bound.objective == "cost_usd_per_h" else "more"
    if bound.objective.startswith("latency"):
        of = "less latency"
    small = is_shown_as_none(bound.gap_ratio)
    words = (
        f"proved: by its tables, no plan does it for {of}"
        if small
        else "at most, proved by its tables"
    )
    return tile("From the best", marked(percent(bound.gap_ratio), "proved"), words)


def _what_runs(plan: Plan) -> str:
    models = sorted({d.model_name for d in plan.deployment})
    of = f" of {listed(models, 3)}" if models else ""
    return f"{n_pools(plan)}{of}{_when(plan)}"


def _when(plan: Plan) -> str:
    return f" in the busiest period, {plan.periods.busiest}" if plan.periods is not None else ""
