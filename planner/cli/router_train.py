"""`rb router train DIR`: learns from scores what each model is worth."""

from __future__ import annotations

import typer

from planner.cli.options import Json, PlanFolder, ProfilesFolder, Quiet
from planner.cli.progress import working
from planner.cli.router_options import Seed, read_scored


def train(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learns from scores what to believe; writes router.npz.

    What each model is worth in each class and how long it answers; per-prompt terms only where they
    gain for certain on held-out prompts. Without texts (prompts:), class means and lengths by class
    are all there is to learn.

    Example: rb router train plans/mine
    """
    from planner.files.router import ROUTER_FILE, write_router
    from planner.files.text import shown
    from planner.files.write import canonical_json, check_writable
    from planner.quality.rules import rules_of
    from planner.quality.train import cross_fit, train_router
    from planner.report.console import make_console
    from planner.report.router_train import render_trained, trained_data, trained_of

    with working(not quiet and not json, "reading scores") as say:
        scored = read_scored(folder, profiles)
        check_writable(folder / ROUTER_FILE)  # before the work, not after it
        scores, usd = scored.priced.scores, scored.priced.usd_per_token
        say("learning from all folds but one")
        crossfit = cross_fit(scores, seed)
        settings = scored.inputs.question.router
        say("learning from all scores")
        router = train_router(
            scores,
            usd,
            seed,
            rules_of(settings),
            crossfit,
            per_prompt=settings.per_prompt == "auto",
            weight=scored.priced.weight,
        )
    path = write_router(folder, router)
    trained = trained_of(router, scores, crossfit, scored.priced.left_out, path.stat().st_size)
    if json:
        typer.echo(canonical_json(trained_data(trained)), nl=False)
    elif not quiet:
        render_trained(trained, make_console())
    if not quiet:
        typer.echo(f"wrote {shown(path)}", err=json)
