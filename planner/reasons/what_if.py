"""What a plan says of other questions and other deployments: as data, and in plain sentences."""

from __future__ import annotations

from planner.explore import Effort, Explored
from planner.objectives import Objectives
from planner.reasons.asked import CARE, Asked, in_words
from planner.reasons.rivals import (
    Others,
    how_long,
    rival_and_refused,
    rival_sentences,
    stays_sentences,
)
from planner.reasons.worth import what_more_buys, worth_sentences
from planner.settle import Settled
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Bound
from planner.spec.reasons import Reasons

INTERRUPTED = "interrupted: what more would buy, and how long the plan stays the best, is not known"


def what_if(
    inputs: Inputs,
    objectives: Objectives,
    explored: Explored,
    chosen: Settled,
    bound: Bound | None,
    kept: IntArray | None,
    effort: Effort,
) -> tuple[Reasons, list[str]]:
    """Returns what more would buy, who came second and how long the plan stays the best.

    After Ctrl-C nothing of it: the plan does not depend on it.

    Args:
        inputs: the question and the pools.
        objectives: with what was learned about the pools.
        explored: the deployments that were looked at.
        chosen: the plan.
        bound: what is proved about it.
        kept: the deployment in production, (P,).
        effort: how much is asked, and how much of it proved.
    """
    asked = Asked(inputs, objectives, chosen, (chosen.replicas,), kept, CARE[effort])
    try:
        return _answered(asked, explored, chosen, bound, effort)
    except KeyboardInterrupt:
        return Reasons(), [INTERRUPTED]


def _answered(
    asked: Asked, explored: Explored, chosen: Settled, bound: Bound | None, effort: Effort
) -> tuple[Reasons, list[str]]:
    others = Others(asked, explored, chosen, effort)
    rival, refused = rival_and_refused(others)
    found = Reasons(
        worth=what_more_buys(asked, chosen, bound, effort),
        rival=rival,
        refused=refused,
        stays=how_long(others, bound),
    )
    sentences = [
        *rival_sentences(rival, refused),
        *worth_sentences(found.worth),
        *stays_sentences(found.stays),
    ]
    robustness = price_of_robustness(asked, chosen)
    return found, sentences if robustness is None else [*sentences, robustness]


def price_of_robustness(asked: Asked, chosen: Settled) -> str | None:
    """Returns what surviving costs against a plan that need not; None without `robust`."""
    question = asked.question
    if question.robust is None:
        return None
    plain = asked.otherwise(robust=None)
    settled = None if plain is None else asked.best(plain)
    if settled is None:
        return None
    what, now, then = "quality", chosen.score.quality, settled.score.quality
    if question.maximise == "rate_factor":
        what, now, then = "rate factor", chosen.rate_factor, settled.rate_factor
    extra = chosen.cost_usd_per_h - settled.cost_usd_per_h
    return (
        f"surviving {_scenarios(chosen)} costs {extra:+.2f} $/h and {what} {now - then:+.4f}: "
        f"without it, {in_words(asked.objectives.case, settled.replicas)} would do "
        f"for {settled.cost_usd_per_h:.2f} $/h"
    )


def _scenarios(chosen: Settled) -> str:
    n = len(chosen.survivals)
    return f"{n} scenarios" if n > 1 else "one scenario"
