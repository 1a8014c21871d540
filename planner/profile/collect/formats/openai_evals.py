"""Logs of OpenAI evals (JSONL): a spec, then events of its samples, then the final report.

Facts of the format (evals/record.py @0041458): the first line is {"spec": {eval_name,
completion_fns, ...}}; an event has sample_id, type and data. `match` has correct (true or false)
and expected; `metrics` of model-graded evals may have score; `sampling` has prompt (a text or a
list of messages), sampled (a text or a list of texts) and, from some models, usage.
Of a model-graded eval the first sampling event of a sample is the answer, later ones are the
grader's. The last line is {"final_report": ...}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from planner.errors import Fault, InputError
from planner.profile.collect.imported import (
    ImportOptions,
    Reading,
    as_name,
    as_score,
    estimated_tokens,
    first_line,
    prompt_key,
    prompt_line,
    score_fault,
)
from planner.profile.fields import json_objects, plain_text
from planner.spec.answers import ScoreRow
from planner.spec.prompts import PromptLine

NAME = "OpenAI evals"
_METRIC = "score"  # of metrics events

Event = Mapping[str, object]


def recognises(name: str, text: str) -> bool:
    """Returns whether a text starts with the spec of a run."""
    first = first_line(text)
    return first.startswith('{"spec"') and '"completion_fns"' in first


def parse(files: Mapping[str, str], options: ImportOptions) -> Reading:
    """Returns the scores of logs, in the order of their names.

    Raises:
        InputError: with the faults of all files.
    """
    faults: list[Fault] = []
    readings: list[Reading] = []
    for name in sorted(files):
        try:
            readings.append(_log(name, files[name], options))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return Reading(
        tuple(row for reading in readings for row in reading.rows),
        tuple(prompt for reading in readings for prompt in reading.prompts),
        tuple(note for reading in readings for note in reading.notes),
    )


def _log(name: str, text: str, options: ImportOptions) -> Reading:
    """Returns the scores of one log; raises InputError with its faults."""
    lines = json_objects(name, plain_text(name, text))
    spec = lines[0].get("spec") if lines else None
    spec = spec if isinstance(spec, dict) else {}
    functions = spec.get("completion_fns")
    said = functions[0] if isinstance(functions, list) and functions else None
    model = as_name(options.model_name or (said if isinstance(said, str) else ""))
    task = as_name(options.class_name or str(spec.get("eval_name") or ""))
    if model is None or task is None:
        what, fix = "names no model or no eval", "give --model-name NAME and --class NAME"
        raise InputError.single(name, "spec", what, fix)
    samples: dict[str, list[Event]] = {}
    for event in lines[1:]:
        if isinstance(event.get("sample_id"), str):
            samples.setdefault(str(event["sample_id"]), []).append(event)
    return _scores(name, samples, task, model, options.metric or _METRIC)


def _scores(
    name: str, samples: Mapping[str, Sequence[Event]], task: str, model: str, metric: str
) -> Reading:
    rows: list[ScoreRow] = []
    prompts: list[PromptLine] = []
    faults: list[Fault] = []
    n_unscored = n_estimated = 0
    for sample_id, events in samples.items():
        value, expected = _score(events, metric)
        if value is None:
            n_unscored += 1
            continue
        score = as_score(value)
        if score is None:
            faults.append(score_fault(name, sample_id[:80], value))
            continue
        asked, answer, counts = _sampled(events)
        n_estimated += counts is None
        n_input, n_output = counts or (estimated_tokens(asked), estimated_tokens(answer))
        prompt_id = prompt_key(task, sample_id)
        prompts.append(prompt_line(prompt_id, task, asked, expected))
        rows.append(ScoreRow(prompt_id, task, model, score, n_input, n_output))
    if faults:
        raise InputError(faults[:20])
    notes = []
    if n_unscored:
        notes.append(f"{task}, {model}: samples left out without a score: {n_unscored:,}")
    if n_estimated:
        notes.append("logs without usage: tokens are estimated from characters")
    return Reading(tuple(rows), tuple(prompts), tuple(notes))


def _score(events: Sequence[Event], metric: str) -> tuple[object, str | None]:
    """Returns the score of a sample and what was expected; None where there is none."""
    for event in events:
        data = event.get("data")
        if not isinstance(data, dict):
            continue
        if event.get("type") == "match" and "correct" in data:
            expected = data.get("expected")
            text = expected[0] if isinstance(expected, list) and expected else expected
            return data["correct"], text if isinstance(text, str) else None
        if event.get("type") == "metrics" and data.get(metric) is not None:
            return data[metric], None
    return None, None


def _sampled(events: Sequence[Event]) -> tuple[str, str, tuple[int, int] | None]:
    """Returns prompt, answer and (input, output) tokens of a sample's first sampling event."""
    for event in events:
        data = event.get("data")
        if event.get("type") == "sampling" and isinstance(data, dict):
            return _prompt(data.get("prompt")), _text(data.get("sampled")), _usage(data)
    return "", "", None


def _prompt(said: object) -> str:
    """Returns the text of a prompt: the turns but for the system's, as routers see it."""
    if isinstance(said, str):
        return said
    turns = said if isinstance(said, list) else []
    texts = [
        str(turn.get("content", ""))
        for turn in turns
        if isinstance(turn, dict) and turn.get("role") not in ("system", "developer")
    ]
    return "\n".join(texts)


def _text(sampled: object) -> str:
    first = sampled[0] if isinstance(sampled, list) and sampled else sampled
    return first if isinstance(first, str) else "" if first is None else json.dumps(first)


def _usage(data: Mapping[str, object]) -> tuple[int, int] | None:
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return None
    n_input, n_output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (isinstance(n_input, int) and isinstance(n_output, int)):
        return None
    return (n_input, n_output) if n_input > 0 and n_output >= 0 else None
