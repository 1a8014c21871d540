"""`rb router import`: results of evaluation tools become scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.offers import plans
from planner.cli.options import Json, Quiet
from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.profile.collect.imported import ImportedScores

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Plan folder, or one that is to become one.", autocompletion=plans
    ),
]
Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Result files or folders of them.")
]
ModelName = Annotated[str | None, typer.Option(metavar="NAME", help="Default: as the files say.")]
ClassName = Annotated[
    str | None, typer.Option("--class", metavar="NAME", help="Default: the task of the files.")
]
Metric = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which metric is the score, e.g. acc_norm.")
]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="NAME", help="Which filter of lm-eval counts.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what was understood; write nothing.")]


def import_(
    folder: Folder,
    paths: Paths,
    model_name: ModelName = None,
    class_name: ClassName = None,
    metric: Metric = None,
    filter_name: Filter = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Reads scores of lm-evaluation-harness, OpenAI evals or RouterBench tables into scores.csv.

    Sample logs (samples_*.jsonl, with results_*.json beside them), logs of evals and wide CSV
    tables are told apart by their content. Scores of other prompts and models in DIR stay.

    Example: rb router import plans/support results/ --dry-run
    """
    from planner.files.results import read_results
    from planner.files.scores_out import outdated_note, read_scores_folder, write_scores
    from planner.files.text import shown
    from planner.profile.collect.imported import ImportOptions
    from planner.profile.collect.importer import import_scores

    options = ImportOptions(model_name, class_name, metric, filter_name)
    faults: list[Fault] = _name_faults(options.model_name, options.class_name)
    imported: ImportedScores | None = None
    try:
        imported = import_scores(read_results(paths), options)
    except InputError as error:
        faults += error.faults
    classes = {row.class_name for row in imported.rows} if imported else set()
    there = read_scores_folder(folder, classes, faults)
    if faults or imported is None:
        raise InputError(faults)
    notes = [*imported.notes, *there.notes]
    models = {row.model_name for row in imported.rows}
    outdated = there.outdated(imported.prompts, models)
    notes += [outdated_note(outdated)] if outdated else []
    written = (
        [] if dry_run else [shown(p) for p in write_scores(there, imported.rows, imported.prompts)]
    )
    _tell(imported, notes, written, json, quiet)
    if dry_run and not quiet:
        typer.echo("nothing was written (--dry-run)", err=True)


def _name_faults(model_name: str | None, class_name: str | None) -> list[Fault]:
    from planner.profile.collect.imported import as_name

    given = {"--model-name": model_name, "--class": class_name}
    fix = "use letters, digits, '.', '_', '+' and '-', starting with a letter or digit"
    return [
        Fault(option, "", f"is not a name, got {name!r}", fix)
        for option, name in given.items()
        if name is not None and as_name(name) != name
    ]


def _tell(
    imported: ImportedScores, notes: list[str], written: list[str], json: bool, quiet: bool
) -> None:
    """Shows what was understood: data or tables on stdout, remarks on stderr."""
    from planner.files.write import canonical_json
    from planner.report.collected import imported_data, render_imported
    from planner.report.console import make_console

    if json:
        typer.echo(canonical_json(imported_data(imported)), nl=False)
    elif not quiet:
        render_imported(imported, make_console())
    if quiet:
        return
    for note in dict.fromkeys(notes):
        typer.echo(f"note: {note}", err=True)
    if imported.left_out:
        typer.echo(f"note: {len(imported.left_out)} other files are no results: left out", err=True)
    for path in written:
        typer.echo(f"wrote {path}", err=True)
