"""A plan folder in: question.yaml and the tables it names."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from planner.errors import Fault, InputError
from planner.files.csvs import read_csv
from planner.files.faults import build, unknown_name
from planner.files.folders import not_a_plan
from planner.files.hour_rates import read_hour_rates
from planner.files.prompts import read_prompt_scores, read_prompts, with_texts
from planner.files.text import content_hash, is_there, shown
from planner.files.yamls import read_yaml
from planner.spec.arrays import FloatArray
from planner.spec.base import Spec
from planner.spec.inputs import PromptTable, QuestionFiles
from planner.spec.periods import HourRate
from planner.spec.question import (
    ClassScore,
    Question,
    RatePoint,
    Schedule,
    Trace,
    TraceRow,
)

QUESTION_FILE = "question.yaml"


class LengthRow(Spec):
    """One observed token count (a row of a lengths file)."""

    tokens: float


def read_question(folder: Path, faults: list[Fault]) -> QuestionFiles | None:
    """Returns the question of a plan folder; None after adding every fault of its files."""
    path = folder / QUESTION_FILE
    if not is_there(path) and (fault := not_a_plan(folder, QUESTION_FILE)):
        faults.append(fault)
        return None
    n_before = len(faults)
    data = read_yaml(path, faults)
    question = build(Question, data, shown(path), faults) if data is not None else None
    if question is None:
        return None
    hashes = {QUESTION_FILE: content_hash(data)}
    class_scores = _class_scores(folder, question, hashes, faults)
    prompts = _prompt_scores(folder, question, hashes, faults)
    schedule, trace = _arrivals(folder, question, hashes, faults)
    lengths = _length_files(folder, question, hashes, faults)
    hour_rates = _hour_rates(folder, question, hashes, faults)
    if len(faults) > n_before:
        return None
    return QuestionFiles(
        shown(path), question, class_scores, prompts, schedule, trace, hour_rates, lengths, hashes
    )


def inside(folder: Path, name: str, where: str, faults: list[Fault]) -> Path | None:
    """Returns the path of a file that a question names; a fault if it leaves the plan folder."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\x00" in name:
        what = f"must stay inside the plan folder, got {name}"
        fix = "copy the file into the plan folder and name it relative to that"
        faults.append(Fault(shown(folder / QUESTION_FILE), where, what, fix))
        return None
    return folder / pure


def _class_scores(
    folder: Path, question: Question, hashes: dict[str, str], faults: list[Fault]
) -> tuple[ClassScore, ...]:
    if question.class_scores is None:
        return ()
    path = inside(folder, question.class_scores, "class_scores", faults)
    if path is None:
        return ()
    rows, raw = read_csv(path, ClassScore, faults)
    hashes[question.class_scores] = content_hash(raw)
    known = {c.name for c in question.classes}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        at = f"{row.class_name}/{row.model_name}"
        if row.class_name not in known:
            faults.append(unknown_name(shown(path), "class", row.class_name, known, "class"))
        if (row.class_name, row.model_name) in seen:
            what = "class and model_name given twice"
            faults.append(Fault(shown(path), at, what, "keep one row for each"))
        seen.add((row.class_name, row.model_name))
        if row.score > question.score_scale:
            what = f"score must lie between 0 and {question.score_scale:g}, got {row.score:g}"
            faults.append(
                Fault(shown(path), f"{at}.score", what, "set score_scale in question.yaml")
            )
        quantiles = [q for q in _quantiles(row) if q is not None]
        if any(b < a for a, b in pairwise(quantiles)):
            what = f"quantiles must not decrease, got {quantiles}"
            faults.append(Fault(shown(path), f"{at}.output_tokens_p10", what, "correct the row"))
    return rows


def _quantiles(row: ClassScore) -> tuple[float | None, ...]:
    return (
        row.output_tokens_p10,
        row.output_tokens_p25,
        row.output_tokens_p50,
        row.output_tokens_p75,
        row.output_tokens_p90,
        row.output_tokens_p95,
        row.output_tokens_p99,
        row.output_tokens_max,
    )


def _prompt_scores(
    folder: Path, question: Question, hashes: dict[str, str], faults: list[Fault]
) -> PromptTable | None:
    if question.scores is None:
        if question.prompts is not None:
            what = "has no use without scores of single prompts"
            fix = "name their file as scores, or remove prompts"
            faults.append(Fault(shown(folder / QUESTION_FILE), "prompts", what, fix))
        return None
    path = inside(folder, question.scores, "scores", faults)
    if path is None:
        return None
    known = {c.name for c in question.classes}
    table, hashes[question.scores] = read_prompt_scores(path, known, question.score_scale, faults)
    if question.prompts is None:
        return table
    path = inside(folder, question.prompts, "prompts", faults)
    if path is None:
        return None
    lines, hashes[question.prompts] = read_prompts(path, faults)
    return with_texts(table, lines, shown(path), faults) if table and lines else None


def _arrivals(
    folder: Path, question: Question, hashes: dict[str, str], faults: list[Fault]
) -> tuple[tuple[RatePoint, ...], tuple[TraceRow, ...]]:
    arrivals = question.arrivals
    if isinstance(arrivals, Schedule):
        path = inside(folder, arrivals.file, "arrivals.file", faults)
        if path is None:
            return (), ()
        points, raw = read_csv(path, RatePoint, faults)
        hashes[arrivals.file] = content_hash(raw)
        _check_schedule(points, shown(path), faults)
        return points, ()
    if isinstance(arrivals, Trace):
        path = inside(folder, arrivals.trace, "arrivals.trace", faults)
        if path is None:
            return (), ()
        rows, raw = _trace(path, question, faults)
        hashes[arrivals.trace] = content_hash(raw)
        return (), rows
    return (), ()


def read_trace(path: Path, question: Question) -> tuple[TraceRow, ...]:
    """Returns recorded requests of a question's classes, in order of time.

    Raises:
        InputError: with every fault of the file.
    """
    faults: list[Fault] = []
    rows, _ = _trace(path, question, faults)
    if faults:
        raise InputError(faults)
    return rows


def _trace(
    path: Path, question: Question, faults: list[Fault]
) -> tuple[tuple[TraceRow, ...], object]:
    """Returns the rows of a trace file, checked, and as they stand in it (for the hash)."""
    rows, raw = read_csv(path, TraceRow, faults)
    _check_trace(rows, question, shown(path), faults)
    return rows, raw


def _check_schedule(points: tuple[RatePoint, ...], name: str, faults: list[Fault]) -> None:
    starts = [p.start_s for p in points]
    if any(b <= a for a, b in pairwise(starts)):
        faults.append(Fault(name, "start_s", "must increase from row to row", "sort the rows"))
    if points and len(points) < 2:
        faults.append(Fault(name, "", "needs at least two rows", "add the end of the schedule"))
    if points and not any(p.rate_rps > 0 for p in points):
        faults.append(Fault(name, "rate_rps", "every rate is zero", "give a rate above zero"))


def _check_trace(
    rows: tuple[TraceRow, ...], question: Question, name: str, faults: list[Fault]
) -> None:
    times = np.array([row.timestamp_s for row in rows])
    if times.size and (np.diff(times) < 0).any():
        faults.append(Fault(name, "timestamp_s", "must not decrease", "sort the rows by time"))
    if times.size and times[-1] <= times[0]:
        what = "must span some time, got one instant"
        faults.append(Fault(name, "timestamp_s", what, "give requests over at least a second"))
    known = {c.name for c in question.classes}
    faults += [
        unknown_name(name, "class", other, known, "class")
        for other in sorted({r.class_name for r in rows if r.class_name is not None} - known)
    ]


def _hour_rates(
    folder: Path, question: Question, hashes: dict[str, str], faults: list[Fault]
) -> tuple[HourRate, ...]:
    """Returns the rates by hour that the periods of a question name, in order."""
    name = question.periods.file if question.periods is not None else None
    path = None if name is None else inside(folder, name, "periods.file", faults)
    if name is None or path is None:
        return ()
    rows, hashes[name] = read_hour_rates(path, {c.name for c in question.classes}, faults)
    if question.router.classes == "inferred" and any(row.class_name for row in rows):
        what = "rates of classes need declared classes"
        faults.append(Fault(shown(path), "class", what, "leave class blank: rates of all traffic"))
    return rows


def _length_files(
    folder: Path, question: Question, hashes: dict[str, str], faults: list[Fault]
) -> dict[str, FloatArray]:
    lengths: dict[str, FloatArray] = {}
    for cls in question.classes:
        for key in ("input_tokens", "output_tokens"):
            spec = getattr(cls, key)
            if spec is None or spec.file is None or spec.file in lengths:
                continue
            path = inside(folder, spec.file, f"classes.{cls.name}.{key}.file", faults)
            if path is None:
                continue
            rows, raw = read_csv(path, LengthRow, faults)
            hashes[spec.file] = content_hash(raw)
            values = np.array([row.tokens for row in rows], dtype=np.float64)
            if values.size and values.min() < 1:
                what = f"must be at least 1, got {values.min():g}"
                faults.append(Fault(shown(path), "tokens", what, "remove empty requests"))
            lengths[spec.file] = values
    return lengths
