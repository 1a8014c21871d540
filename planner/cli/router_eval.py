"""`rb router eval DIR`: what the router is worth on prompts that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from planner.cli.options import Json, PlanFolder, ProfilesFolder, Quiet
from planner.cli.progress import working
from planner.cli.router_options import Seed, read_scored, router_there
from planner.errors import ExitCode

if TYPE_CHECKING:
    from planner.quality.train import CrossFit


def eval_(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judges the router on prompts that it never saw.

    Quality against cost with intervals, the gap closed against mixing single models, calibration,
    lengths, what more labels would buy, which classes deserve splitting.

    Exit 1: router.npz was trained on other data than today's, or ships per-prompt terms that may
    be worse than class means.

    Example: rb router eval plans/mine
    """
    from planner.files.write import canonical_json
    from planner.quality.evaluate import evaluate
    from planner.quality.gate import run_gate
    from planner.quality.train import cross_fit, data_sha256
    from planner.report.console import make_console
    from planner.report.router_eval import Judged, judged_data, render_judged

    with working(not quiet and not json, "reading scores") as say:
        scored = read_scored(folder, profiles)
        priced, settings = scored.priced, scored.inputs.question.router
        router = router_there(folder)
        scores, usd = priced.scores, priced.usd_per_token
        say("learning from all folds but one")
        crossfit = cross_fit(scores, seed)
        price = usd[scores.class_code]

        def split(k: int) -> CrossFit:
            say(f"judging prompts that were held out, split {k + 1}")
            return crossfit if k == 0 else cross_fit(scores, seed + k, with_inference=False)

        gate = run_gate(scores, price, split, seed, priced.weight)
        say("judging quality against cost")
        found = evaluate(
            scores, crossfit, gate, usd,
            others=priced.left_out_score, weight=priced.weight, seed=seed,
        )  # fmt: skip
    fresh = router is not None and router.provenance.data_sha256 == data_sha256(scores)
    would_ship = gate.passed and settings.per_prompt == "auto"
    judged = Judged(
        found,
        "missing" if router is None else "fits" if fresh else "stale",
        would_ship if router is None else router.contrast is not None,
        priced.left_out,
    )
    if json:
        typer.echo(canonical_json(judged_data(judged)), nl=False)
    elif not quiet:
        render_judged(judged, make_console())
    if judged.wanting:
        for sentence in judged.wanting if quiet or json else ():
            typer.echo(sentence, err=True)
        raise typer.Exit(int(ExitCode.FOUND_WANTING))
