"""`rb router next DIR`: which answers to score next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.options import Json, PlanFolder, ProfilesFolder
from planner.cli.progress import working
from planner.cli.router_options import Scored, UsdPerPoint, plan_there, rate_of, read_scored

if TYPE_CHECKING:
    from planner.spec.arrays import FloatArray


def next_(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many scores.")] = 100,
    usd_per_point: UsdPerPoint = None,
    json: Json = False,
) -> None:
    """Says which answers to score next.

    Scores go where they can still change a choice between models that carries traffic: not to
    what is clear already, and not to what no choice hangs on. --json lists every prompt: a file of
    that is what rb router collect --only asks.

    Example: rb router next plans/mine --n 200
    """
    from planner.files.write import canonical_json
    from planner.quality.shrink import shrunk_means
    from planner.report.console import make_console
    from planner.report.router_next import advice_data, advise, render_advice, shares_by_model

    with working(not json, "reading scores") as say:
        scored = read_scored(folder, profiles)
        scores, plan = scored.priced.scores, plan_there(folder)
        say("weighing what each score could change")
        advice = advise(
            scores,
            shrunk_means(scores),
            scored.priced.answer_usd,
            _traffic(scored),
            None if plan is None else shares_by_model(plan, scored.inputs, scores),
            rate_of(usd_per_point, plan),
            n,
        )
    if json:
        typer.echo(canonical_json(advice_data(advice)), nl=False)
    else:
        render_advice(advice, make_console())


def _traffic(scored: Scored) -> FloatArray:
    """Returns the share of each scored class in the planned traffic, (C,)."""
    import numpy as np

    workload, scores = scored.case.workload, scored.priced.scores
    part = dict(zip(workload.class_names, workload.weights.tolist(), strict=True))
    weight = np.array([part.get(name, 0.0) for name in scores.class_names])
    return np.asarray(weight / weight.sum())
