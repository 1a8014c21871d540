"""Which cascades a plan may use: those that the question's own scores prove to be worth it.

Offered once per question and always with the same random numbers, so that whoever judges a plan
finds the cascades that it was made with.
"""

from __future__ import annotations

from planner.case import Case
from planner.money import priced
from planner.quality.cascade import CascadeOption, proven_cascades
from planner.quality.scores import scores_of
from planner.spec.inputs import Inputs

SEED = 0


def offered(inputs: Inputs, case: Case) -> tuple[CascadeOption, ...]:
    """Returns the cascades that are better than any mix of single models at the same money.

    None where the question wants none, where it has no scores of single prompts, or where classes
    are inferred: then a class is a mixture, and what was proved of it holds for none of its parts.
    None either where replicas may fail: what falls back from a stage is no cascade any more.

    Args:
        inputs: the question and the pools.
        case: its computable form; the money is that of its pools.
    """
    scores = scores_of(inputs.files)
    wanted = inputs.question.router.cascades == "auto"
    robust = inputs.question.robust
    fails = robust is not None and robust.failures != "none"
    if scores is None or not wanted or fails or inputs.files.inferred is not None:
        return ()
    known = priced(case, scores)
    return proven_cascades(known.scores, known.usd_per_token, SEED)
