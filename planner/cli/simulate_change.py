"""`rb simulate NEW --from OLD`: plays the way from one plan to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from planner.cli.progress import progress_bar
from planner.errors import ExitCode, Fault, InputError

ALONE = "--from goes with --seeds, --step-s, --balance and --profiles alone"


@dataclass(frozen=True)
class Wanted:
    """What is to be played."""

    old: str
    new: Path
    profiles: Path | None
    n_seeds: int
    step_s: float
    balance: str


def simulate_change(wanted: Wanted, has_others: bool, json: bool, quiet: bool) -> None:
    """Shows how a change goes, step by step.

    Raises:
        InputError: a plan or its inputs cannot be read or played, or options that say nothing here.
    """
    from planner.files.planned import read_planned
    from planner.files.write import canonical_json
    from planner.gate.way.played import Options, play
    from planner.gate.way.terms import sides_of
    from planner.gate.way.transition import transition_of
    from planner.report.console import make_console
    from planner.report.played import missed_words, played_data, render_played

    if has_others:
        raise InputError.single("--from", "", "other options make no sense with it", ALONE)
    faults: list[Fault] = []
    texts = wanted.old, wanted.new.as_posix()
    old, new = (read_planned(text, wanted.profiles, faults) for text in texts)
    if old is None or new is None:
        raise InputError(faults)
    if new.inputs is None:
        what = "its question is needed to play a change"
        raise InputError([new.unread or Fault(texts[1], "", what, "name a plan folder")])
    way = transition_of(old.plan, new.plan, new.inputs, old.inputs)
    options = Options(tuple(range(wanted.n_seeds)), wanted.step_s, balance=wanted.balance)
    with progress_bar(not quiet and not json, "simulating the change") as moved:
        sides = sides_of(old.plan, new.plan, new.inputs, old.inputs)
        played = play(sides, way, options, lambda n, of: moved(n, of, "runs"))
    if json:
        typer.echo(canonical_json(played_data(played)), nl=False)
    elif not quiet:
        render_played(new.plan.title, played, make_console())
    else:
        for words in missed_words(played):
            typer.echo(words)
    if played.missed:
        raise typer.Exit(int(ExitCode.FOUND_WANTING))
