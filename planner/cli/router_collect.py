"""`rb router collect`: prompts through the team's own models, answers kept and graded."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from planner.cli import collect_options as o
from planner.cli.options import Json, Quiet
from planner.errors import ExitCode, Fault, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.cli.collect_inputs import Asked, Read
    from planner.profile.collect.agreement import JudgeAgreement
    from planner.profile.collect.run import Worked
    from planner.profile.collect.session import Collection, Judge, Settings
    from planner.report.collected import Collected
    from planner.spec.answers import ScoreRow

SEVERAL_TEMPERATURE = 0.7  # equal answers would agree with each other for nothing


def collect(
    folder: o.Folder,
    grader: o.Grader,
    prompts: o.Prompts = None,
    endpoints: o.Endpoints = None,
    model: o.Models = None,
    samples: o.Samples = 1,
    concurrency: o.Concurrency = 8,
    max_tokens: o.MaxTokens = 2048,
    temperature: o.Temperature = None,
    limit: o.Limit = None,
    only: o.Only = None,
    tolerance: o.Tolerance = 1e-4,
    timeout: o.Timeout = "10m",
    usd_per_million_output: o.Prices = None,
    rubric: o.Rubric = None,
    judge: o.Judge = None,
    labelled: o.Labelled = None,
    regrade: o.Regrade = False,
    yes: o.Yes = False,
    profiles: o.ProfilesFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Asks models the prompts of a file, grades the answers, writes DIR/scores.csv.

    A few answers of each model come first: they show what the rest will take, and you are asked.
    Every answer is kept in DIR/answers.jsonl at once: Ctrl-C keeps them, and the same command goes
    on. Scores of other prompts and models stay. With --only, what rb router next names is asked.
    Exit 1: some requests were not answered.

    Example: rb router collect plans/support --prompts p.jsonl --endpoints e.yaml --grader numeric
    """
    from planner.cli.collect_inputs import Asked, read
    from planner.cli.run_options import seconds
    from planner.profile.collect.session import Settings

    asked = Asked(
        folder=folder,
        prompts=prompts,
        endpoints=endpoints,
        grader=grader,
        models=tuple(model or ()),
        limit=limit,
        only=only,
        prices=o.prices(usd_per_million_output),
        rubric=rubric,
        judge=judge,
        labelled=labelled,
        regrade=regrade,
        profiles=profiles,
        timeout_s=seconds(timeout),
    )
    found = read(asked)
    settings = Settings(
        n_samples=samples,
        max_tokens=max_tokens,
        temperature=_temperature(temperature, samples),
        concurrency=concurrency,
        usd_per_million_output=found.usd_per_million_output,
    )
    judging = _judge(asked, found)
    _note(_remarks(asked, found, judging, settings), quiet)
    worked = None if regrade else _collect(asked, found, settings, judging, yes, quiet)
    _finish(asked, found, judging, worked, tolerance, json, quiet)


def _temperature(given: float | None, n_samples: int) -> float:
    if given is not None:
        return given
    return SEVERAL_TEMPERATURE if n_samples > 1 else 0.0


def _judge(asked: Asked, found: Read) -> Judge | None:
    """Returns the judge with what it has said of today's answers."""
    from dataclasses import replace

    from planner.profile.collect.session import Judge, kept_verdicts

    if asked.judge is None:
        return None
    judge = Judge(asked.judge, found.judge, found.rubric, {}, lambda _: None)
    by_id = {prompt.prompt_id: prompt for prompt in found.prompts}
    return replace(judge, verdicts=kept_verdicts(found.verdicts, judge, by_id, found.answers))


def _remarks(asked: Asked, found: Read, judge: Judge | None, settings: Settings) -> list[str]:
    """Returns what to know before anything is sent."""
    from planner.files.scores_out import outdated_note
    from planner.report.figures import count

    remarks = list(found.there.notes)
    outdated = found.there.outdated(found.prompts, found.fleet)
    remarks += [outdated_note(outdated)] if outdated else []
    if found.n_stale:
        remarks.append(f"{count(found.n_stale, 'answer')} to another text of the prompt left out")
    if judge is not None and asked.labelled is None:
        remarks.append("how far the judge agrees with people is unknown: give --labelled FILE")
    if settings.n_samples > 1 and settings.temperature == 0.0:
        remarks.append("samples at temperature 0 are mostly equal: their agreement says little")
    return remarks


def _collect(
    asked: Asked, found: Read, settings: Settings, judge: Judge | None, yes: bool, quiet: bool
) -> Worked | None:
    """Returns what became of the requests; None when the user did not want the bulk sent."""
    from dataclasses import replace

    from planner.cli.progress import progress_bar
    from planner.files.answers import ANSWERS_FILE, VERDICTS_FILE, Journal
    from planner.profile.collect.run import Worked
    from planner.profile.collect.session import Collection

    _check_settings(asked, found, settings)
    with ExitStack() as stack:
        answers = stack.enter_context(Journal(asked.folder / ANSWERS_FILE))
        verdicts = stack.enter_context(Journal(asked.folder / VERDICTS_FILE))
        judging = None if judge is None else replace(judge, save=verdicts.append)
        work = Collection(
            *(found.prompts, found.fleet, settings, found.answers, answers.append),
            judge=judging,
            only=found.only,
        )
        if not work.n_left:
            return Worked()
        _check_terminal(yes)
        with progress_bar(not quiet, "first answers") as moved:
            first = work.pilot(moved)
        if first.interrupted or not work.n_left:
            return first
        if not _go_on(work, yes, quiet):
            return None
        with progress_bar(not quiet, "collecting") as moved:
            return work.rest(moved)


def _check_settings(asked: Asked, found: Read, settings: Settings) -> None:
    """Raises InputError where answers that are kept were asked for otherwise."""
    from planner.files.answers import ANSWERS_FILE
    from planner.files.text import shown

    own = [a for a in found.answers.values() if a.model_name in found.fleet]
    name, faults = shown(asked.folder / ANSWERS_FILE), []
    for field in ("max_tokens", "temperature"):
        now = getattr(settings, field)
        others = {getattr(answer, field) for answer in own} - {now}
        if others:
            then, option = f"{others.pop():g}", f"--{field.replace('_', '-')}"
            what = f"its answers were asked for with {option} {then}, got {now:g}"
            fix = f"give {option} {then} to go on, or collect into another folder"
            faults.append(Fault(name, field, what, fix))
    if faults:
        raise InputError(faults)


def _check_terminal(yes: bool) -> None:
    """Raises InputError where nobody could be asked, before anything is sent."""
    if not yes and not sys.stdin.isatty():
        what = "is needed: requests cost money or time, and nobody is there to be asked"
        raise InputError.single("--yes", "", what, "give --yes")


def _go_on(work: Collection, yes: bool, quiet: bool) -> bool:
    """Returns whether the rest is to be sent, after showing what it will take."""
    from planner.report.collected import render_budget
    from planner.report.console import make_console

    if not quiet or not yes:
        render_budget(work.budget(), make_console(sys.stderr))
    return yes or typer.confirm("Send them?", err=True)


def _finish(
    asked: Asked,
    found: Read,
    judge: Judge | None,
    worked: Worked | None,
    tolerance: float,
    json: bool,
    quiet: bool,
) -> None:
    """Grades what is there, writes and shows it; exit 1 where requests were not answered."""
    from planner.profile.collect.run import Worked
    from planner.report.collected import Collected

    if worked is None and not asked.regrade:
        _note([f"not sent; the first answers are kept in {asked.folder.as_posix()}"], quiet)
        return
    if worked is not None and worked.interrupted and not found.answers:
        raise typer.Abort
    rows = _graded(asked, found, judge, tolerance)
    agreement = _agreement(found, rows) if judge is not None else None
    written = _write(asked, found, rows, agreement)
    result = Collected(rows, len(found.answers), worked or Worked(), agreement)
    _tell(asked, found, result, written, json, quiet)
    if result.worked.failures and not result.worked.interrupted:
        raise typer.Exit(int(ExitCode.FOUND_WANTING))


def _graded(
    asked: Asked, found: Read, judge: Judge | None, tolerance: float
) -> tuple[ScoreRow, ...]:
    from planner.profile.collect.grading import graded, judged

    prompts = {prompt.prompt_id: prompt for prompt in found.prompts}
    answers = found.answers.values()
    if judge is not None:
        return judged(answers, prompts, judge.verdicts)
    assert asked.kind is not None
    return graded(answers, prompts, asked.kind, tolerance)


def _agreement(found: Read, rows: Sequence[ScoreRow]) -> JudgeAgreement | None:
    from planner.profile.collect.agreement import judge_agreement
    from planner.spec.answers import AnswerKey

    scores = {AnswerKey(row.prompt_id, row.model_name, row.sample): row.score for row in rows}
    pairs = [(scores[label.key], label.score) for label in found.labels if label.key in scores]
    if not pairs:
        return None
    return judge_agreement([p[0] for p in pairs], [p[1] for p in pairs], len(found.labels))


def _write(
    asked: Asked, found: Read, rows: Sequence[ScoreRow], agreement: JudgeAgreement | None
) -> list[str]:
    """Writes scores, prompts and what is known of the judge; returns the paths."""
    import hashlib

    from planner.files.answers import GRADER_FILE, known_agreement
    from planner.files.scores_out import write_scores
    from planner.files.text import shown
    from planner.files.write import canonical_json, write_text
    from planner.report.data import as_data

    if not rows:
        return []
    scored = {row.prompt_id for row in rows}
    prompts = [prompt for prompt in found.prompts if prompt.prompt_id in scored]
    written = [shown(path) for path in write_scores(found.there, rows, prompts)]
    if asked.judge is not None:
        path = asked.folder / GRADER_FILE
        about = {
            "grader": "llm",
            "judge": asked.judge,
            "rubric_sha256": hashlib.sha256(found.rubric.encode()).hexdigest(),
        }
        known = as_data(agreement) if found.labels else known_agreement(path, about)
        write_text(path, canonical_json({**about, "agreement_with_people": known}))
        written.append(shown(path))
    return written


def _tell(
    asked: Asked,
    found: Read,
    result: Collected,
    written: Sequence[str],
    json: bool,
    quiet: bool,
) -> None:
    """Shows what has come of it: data or tables on stdout, talk on stderr."""
    from planner.files.write import canonical_json
    from planner.report.collected import collected_data, failures, render_collected
    from planner.report.console import make_console
    from planner.report.figures import count

    if json:
        typer.echo(canonical_json(collected_data(result)), nl=False)
    elif not quiet:
        render_collected(result, make_console())
    notes = [*_left_out(found), *failures(result.worked)]
    n_unread = result.n_answers - len(result.rows)
    if asked.judge is not None and n_unread:
        notes.append(f"{count(n_unread, 'answer')} without a number from the judge: not scored")
    if found.labels and result.agreement is None:
        notes.append("none of the labelled answers was judged: the judge's agreement is unknown")
    n_cut = sum(answer.finish_reason == "length" for answer in found.answers.values())
    if n_cut:
        notes.append(f"{count(n_cut, 'answer')} cut off at --max-tokens: their scores may be low")
    if any(answer.tokens_estimated for answer in found.answers.values()):
        notes.append("some servers gave no usage: tokens of their answers are counted chunks")
    _note(notes, quiet)
    if not quiet:
        for path in written:
            typer.echo(f"wrote {path}", err=True)
    kept = f"{count(result.n_answers, 'answer')} kept in {asked.folder.as_posix()}"
    if result.worked.interrupted:
        typer.echo(f"interrupted: {kept}; the same command goes on", err=True)
    elif result.worked.failures:
        typer.echo(f"{kept}; the same command asks again what failed", err=True)


def _left_out(found: Read) -> list[str]:
    """Returns which optional fields some servers did not take, and what is missing for it."""
    missing = {
        "logprobs": "no log-probabilities",
        "stream_options": "no token counts",
        "temperature": "its own temperature",
    }
    return [
        f"{name}: the server takes no {gone}: {missing[gone]}"
        for name, clients in found.fleet.items()
        for gone in dict.fromkeys(field for client in clients for field in client.left_out)
    ]


def _note(remarks: Sequence[str], quiet: bool) -> None:
    if not quiet:
        for remark in remarks:
            typer.echo(f"note: {remark}", err=True)
