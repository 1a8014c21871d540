"""The quality that users get: by class, and what it rests on (§4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.report.figures import number, quality
from planner.report.page.markup import Html, joined
from planner.report.page.origins import marked
from planner.report.page.parts import Column, Section, bullets, table
from planner.report.page.subject import Subject
from planner.spec.base import Origin, worst_origin
from planner.spec.plan import QualityBasis


def quality_section(subject: Subject) -> Section:
    """Returns the quality of each class with its floor, and how it is known."""
    plan = subject.plan
    lead = (
        f"A mean score of {quality(plan.predicted.quality)} over all traffic, as far as the router "
        "can know: never each prompt's luckiest answer."
    )
    body = joined(_by_class(subject), bullets(_basis(plan.quality_basis)))
    return Section("quality", "Quality", lead, body)


def _by_class(subject: Subject) -> Html:
    plan, inputs = subject.plan, subject.inputs
    floors = {}
    if inputs is not None:
        floors = {c.name: c.quality_at_least for c in inputs.question.classes}
    overall = inputs.question.quality_at_least if inputs is not None else None
    with_floors = overall is not None or any(v is not None for v in floors.values())
    tried = plan.simulated
    columns = [
        Column("Class", "text"),
        Column("Requests/s", source="given"),
        Column("Quality"),
        *([Column("Simulated", source="simulated")] if tried else []),
        *([Column("Floor", source="given")] if with_floors else []),
    ]
    rows = []
    for name, rate in plan.predicted.class_rps.items():
        known = scores_origin(subject, name)
        cells = [name, number(rate), marked(quality(plan.predicted.class_quality.get(name)), known)]
        cells += [quality(tried.class_quality.get(name))] if tried else []
        rows.append(cells + ([_floor(floors.get(name))] if with_floors else []))
    mean = marked(quality(plan.predicted.quality), scores_origin(subject))
    total = ["all traffic", number(plan.predicted.rate_rps), mean]
    total += [quality(tried.quality)] if tried else []
    total += [_floor(overall)] if with_floors else []
    return table(columns, rows, "Quality of each class", total=total)


def _floor(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def scores_origin(
    subject: Subject, class_name: str | None = None, pools: Iterable[str] | None = None
) -> Origin:
    """Returns how well the scores are known, of a class or of all, for the models of some pools.

    Without pools of those that the plan runs. Without the inputs nobody knows; then as an estimate.
    """
    if subject.inputs is None:
        return "estimated"
    profiles = subject.inputs.profiles.by_name()
    named = (d.pool for d in subject.plan.deployment) if pools is None else pools
    runs = {profiles[name].pool.scored_as for name in named if name in profiles}
    return worst_origin(
        *(
            row.origin
            for row in subject.inputs.files.class_scores
            if class_name in (None, row.class_name) and row.model_name in runs
        )
    )


def rests_on(subject: Subject) -> Origin:
    """Returns the worst origin of the figures of this very plan (§8); the plan's, if it is better.

    A plan's own mark counts the scores of every model that the search compared, used or not.
    """
    plan = subject.plan
    scores = scores_origin(subject) if subject.inputs is not None else plan.predicted.origin
    used = worst_origin(scores, *(f.origin for f in plan.predicted.latency))
    return used if worst_origin(used, plan.predicted.origin) != used else plan.predicted.origin


def _basis(basis: QualityBasis | None) -> Iterator[str]:
    if basis is None:
        yield "What the quality rests on is not said in this plan."
        return
    how = (
        "held out: on prompts without a say in the routes"
        if basis.held_out
        else "class means as stated"
    )
    estimate = basis.by_class
    yield (
        f"A router that knows the class alone: {quality(estimate.quality)}, 95% from "
        f"{quality(estimate.low)} to {quality(estimate.high)}; {how}, {basis.n_prompts:,} prompts."
    )
    if basis.per_prompt is not None:
        seen = basis.per_prompt
        yield (
            f"A router that reads the prompt: {quality(seen.quality)}, 95% from "
            f"{quality(seen.low)} to {quality(seen.high)}{_gain(basis)}."
        )
    yield f"Choosing by the prompt itself: {basis.why}."
    if basis.per_prompt_bound is not None:
        bound = basis.per_prompt_bound
        yield (
            f"By prompt the router expects {quality(bound.value)} of this deployment, and at most "
            f"{quality(bound.best_possible)} of any that costs no more."
        )
    if basis.oracle is not None:
        yield (
            f"Reference that nobody can reach: each prompt to its luckiest model, "
            f"{quality(basis.oracle)}."
        )


def _gain(basis: QualityBasis) -> str:
    if basis.gain_low is None or basis.gain_high is None:
        return ""
    return (
        f", {100 * basis.gain_low:+.2f} to {100 * basis.gain_high:+.2f} points over the class alone"
    )
