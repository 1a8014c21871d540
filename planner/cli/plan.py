"""`rb plan DIR`: answers the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from planner.cli.options import Json, PlanFolder, ProfilesFolder, Quiet
from planner.cli.plan_options import Effort, Method, Processes, RayCluster, Seed
from planner.cli.progress import progress_bar
from planner.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from planner.spec.inputs import Inputs
    from planner.spec.plan import Plan


def plan(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    effort: Effort = "standard",
    method: Method = "auto",
    seed: Seed = 0,
    workers: Processes = None,
    ray: RayCluster = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answers the question of a plan folder; writes plan.json, routes.json, serving.json there.

    Ctrl-C keeps the best answer so far (complete: false).

    Exit 1: no deployment meets the limits, and the message says what would; or simulation
    contradicts the best that was found (written all the same, with what it missed).

    Example: rb plan plans/demo --effort quick
    """
    with progress_bar(not quiet and not json, "reading") as moved:
        from planner.files.inputs import read_inputs
        from planner.files.plans import PLAN_FILE
        from planner.files.write import check_writable
        from planner.parallel.workers import open_workers
        from planner.plan import make_plan

        inputs = read_inputs(folder, profiles)
        check_writable(folder / PLAN_FILE)  # before the work, not after it
        kept = _kept(folder, inputs)
        moved.stage("searching")

        def on_trial(done: int, total: int, volume: float) -> None:
            # Periods are planned for the least money: their search tells about how much.
            what = "hypervolume {:.3f}" if inputs.question.periods is None else "about ${:,.2f}"
            moved(done, total, what.format(volume))

        with open_workers(workers, ray) as evaluating:
            answer = make_plan(
                inputs,
                effort,  # type: ignore[arg-type]
                method,  # type: ignore[arg-type]
                seed,
                kept,
                on_trial,
                workers=evaluating,
                on_stage=moved.stage,
            )
        written = _write(folder, inputs, answer)
    if json:
        from planner.files.plans import plan_text

        typer.echo(plan_text(answer), nl=False)
    elif not quiet:
        from planner.report.console import make_console
        from planner.report.plan import render_plan

        render_plan(answer, make_console())
        typer.echo("wrote " + ", ".join(_shown(path) for path in written))
    if not answer.complete:
        typer.echo("interrupted: this is the best found so far (complete: false)", err=True)
    if answer.contradicted:
        typer.echo("simulation contradicts every plan that was tried: see why", err=True)
        raise typer.Exit(int(ExitCode.FOUND_WANTING))


def _kept(folder: Path, inputs: Inputs) -> Plan | None:
    """Returns the plan in production, where the question names one."""
    from planner.files.plans import need_plan

    keep = inputs.question.keep
    return None if keep is None else need_plan(folder / keep.plan)


def _write(folder: Path, inputs: Inputs, answer: Plan) -> tuple[Path, ...]:
    """Writes the files of a plan; returns their paths.

    The plan first: it is what took the time. A kill in between is seen by `rb check`.
    """
    from planner.files.plans import write_plan
    from planner.files.sheets import write_sheet
    from planner.sheet import make_sheet

    return *write_plan(folder, answer), write_sheet(folder, make_sheet(inputs, answer))


def _shown(path: Path) -> str:
    from planner.files.text import shown

    return shown(path)
