"""Which answers to score next, and what knowing them is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from planner.money import ExchangeRate, usd_per_point
from planner.quality.active import (
    Allocation,
    Beliefs,
    Request,
    allocate,
    choose_prompts,
    label_variance,
    learned,
)
from planner.quality.scores import Scores
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.figures import count, fine_usd
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.router import ClassMeans

TWO_SIDED = 1.959964  # of a normal law, 95 %
N_SHOWN = 10
LEAST_WORTH = 5e-6  # units of quality: less is shown as 0.000 points


@dataclass(frozen=True)
class Advice:
    """What to score next, cell by cell and prompt by prompt."""

    class_names: tuple[str, ...]
    model_names: tuple[str, ...]
    allocation: Allocation
    requests: tuple[Request, ...]
    n_new: IntArray  # (C, M) labels for which there is no prompt left
    within: FloatArray  # (C, M) half-width of the 95 % interval of the class mean, in quality
    within_then: FloatArray  # (C, M) after those labels
    rate: ExchangeRate | None
    from_plan: bool


def advise(
    scores: Scores,
    means: ClassMeans,
    answer_usd: FloatArray,
    weight: FloatArray,
    share: FloatArray | None,
    rate: ExchangeRate | None,
    n_labels: int,
) -> Advice:
    """Returns which answers to score next.

    Args:
        scores: what is scored already.
        means: what that says of each class and model, (C, M).
        answer_usd: money of a mean answer, (C, M); NaN: nobody can choose this model there.
        weight: share of each class in the traffic, (C,), summing to 1.
        share: what a plan sends where, (C, M), if there is one.
        rate: what quality is worth; without it money does not count.
        n_labels: how many answers are to be scored.
    """
    per_label = label_variance(scores, means.mean)
    price = answer_usd * (0.0 if rate is None else 1.0 / rate.usd)
    beliefs = Beliefs(means.mean, means.variance, per_label, price, weight, share)
    allocation = allocate(beliefs, n_labels)
    requests, n_new = choose_prompts(scores, allocation.n_labels)
    after = learned(means.variance, per_label, allocation.n_labels)
    return Advice(
        class_names=scores.class_names,
        model_names=scores.model_names,
        allocation=allocation,
        requests=requests,
        n_new=n_new,
        within=TWO_SIDED * np.sqrt(means.variance),
        within_then=TWO_SIDED * np.sqrt(after),
        rate=rate,
        from_plan=share is not None,
    )


def shares_by_model(plan: Plan, inputs: Inputs, scores: Scores) -> FloatArray:
    """Returns the share of each scored class that each model answers in a plan, (C, M).

    In a cascade the answer is the second model's where it is asked, else the first one's.
    """
    scored_as = {name: p.pool.scored_as for name, p in inputs.profiles.by_name().items()}
    share = np.zeros((scores.n_classes, scores.n_models))
    for class_name, pool, part in _answered(plan):
        model_name = scored_as.get(pool)
        if class_name in scores.class_names and model_name in scores.model_names:
            c = scores.class_names.index(class_name)
            share[c, scores.model_names.index(model_name)] += part
    return share


def _answered(plan: Plan) -> Iterator[tuple[str, str, float]]:
    """Yields class, pool and the share of the class that gets its answer there."""
    for route in plan.routing:
        yield route.class_name, route.pool, route.share
    for way in plan.cascades:
        last = ((way.first, 1.0 - way.escalated_ratio), (way.second, way.escalated_ratio))
        for stage, ratio in last:
            for to in stage:
                yield way.class_name, to.pool, way.share * ratio * to.share


def render_advice(advice: Advice, console: Console) -> None:
    """Writes which answers to score next."""
    show(_sections(advice), console)


def _sections(advice: Advice) -> Iterator[RenderableType]:
    n = int(advice.allocation.n_labels.sum())
    if n == 0:
        yield line("nothing to ask: no score that could be had would change anything", "bold")
        return
    yield line(f"{count(n, 'answer')} to score next", "bold")
    yield heading("Where the next scores tell most")
    yield _cells(advice)
    yield from (bullet(text) for text in _judged_by(advice))
    allocation = advice.allocation
    if allocation.sd_before > 0:
        before, after = (
            f"+-{100 * TWO_SIDED * sd:.2f}" for sd in (allocation.sd_before, allocation.sd_after)
        )
        yield bullet(f"the quality of all traffic is known within {before} points, then {after}")
    yield from _prompts(advice)


def _cells(advice: Advice) -> RenderableType:
    numbers = ["scores", "known within", "then", "worth points"]
    made = table(["class", "model"], numbers)
    worth = advice.allocation.worth
    order = np.argsort(-worth, axis=None, kind="stable")
    for c, m in zip(*np.unravel_index(order, worth.shape), strict=True):
        n = int(advice.allocation.n_labels[c, m])
        if n == 0:
            continue
        within = [f"+-{100 * w[c, m]:.1f}" for w in (advice.within, advice.within_then)]
        cells = [f"{n:,}", *within, f"{100 * worth[c, m]:.3f}"]
        made.add_row("", advice.class_names[c], advice.model_names[m], *cells)
    return made


def _judged_by(advice: Advice) -> Iterator[str]:
    """Yields what the worth is, and by which choices and which money it was judged."""
    if advice.allocation.worth.max() < LEAST_WORTH:
        yield "no choice is open: these scores only narrow the quality that is stated"
    else:
        yield "worth: points of quality over all traffic, from choosing again with these scores"
    choices = "the routes of the plan" if advice.from_plan else "each class to its best model"
    if advice.rate is None:
        yield f"choices: {choices}; money does not count without a plan or --usd-per-point"
    else:
        point = fine_usd(usd_per_point(advice.rate))
        yield f"choices: {choices}, a point of 1,000 answers at {point} ({advice.rate.why})"


def _prompts(advice: Advice) -> Iterator[RenderableType]:
    """Yields the first prompts to send, and of which classes there are not enough."""
    if advice.requests:
        first = advice.requests[:N_SHOWN]
        more = len(advice.requests) - len(first)
        rest = f"; {more} more with --json" if more else ""
        yield heading(f"Prompts that are there ({len(first)} of {len(advice.requests)}{rest})")
        made = table(["prompt", "class", "model"], [])
        for request in first:
            made.add_row("", request.prompt_id, request.class_name, request.model_name)
        yield made
    if advice.n_new.any():
        yield heading("Prompts that are missing")
        yield from (bullet(text) for text in _missing(advice))


def _missing(advice: Advice) -> Iterator[str]:
    """Yields, class by class, how many new prompts are needed, and for which models."""
    for name, row in zip(advice.class_names, advice.n_new.tolist(), strict=True):
        needed = [(n, m) for m, n in enumerate(row) if n]
        if needed:
            each = ", ".join(f"{n} for {advice.model_names[m]}" for n, m in needed)
            same = "; the same ones, so that luck is shared" if len(needed) > 1 else ""
            yield f"{count(max(row), 'new prompt')} of {name}: {each}{same}"


def advice_data(advice: Advice) -> dict[str, object]:
    """Returns which answers to score next, all of them, as data."""
    allocation = advice.allocation
    return {
        "requests": [
            {"prompt_id": r.prompt_id, "class": r.class_name, "model_name": r.model_name}
            for r in advice.requests
        ],
        "cells": [
            {
                "class": advice.class_names[c],
                "model_name": advice.model_names[m],
                "n_labels": int(allocation.n_labels[c, m]),
                "n_new_prompts": int(advice.n_new[c, m]),
                "within": float(advice.within[c, m]),
                "within_then": float(advice.within_then[c, m]),
                "worth": float(allocation.worth[c, m]),
            }
            for c, m in zip(*np.nonzero(allocation.n_labels), strict=True)
        ],
        "quality_sd_before": allocation.sd_before,
        "quality_sd_after": allocation.sd_after,
        "usd_per_quality": None if advice.rate is None else advice.rate.usd,
        "from_plan": advice.from_plan,
    }
