"""Sample logs of lm-evaluation-harness: `samples_<task>_<time>.jsonl`, a line per doc and filter.

Facts of the format (lm_eval/loggers/evaluation_tracker.py @034ab03): a line has doc_id, doc,
target (as text), arguments {gen_args_0: {arg_0: prompt, ...}}, resps, filtered_resps, filter,
metrics (names) and each metric under its own name. Older logs have arguments as a list. A doc comes
once for each filter of the task (strict-match, flexible-extract). The model is named only by
`results_<time>.json` in the same folder (model_name); tokens are not counted.
Multiple choice: one entry of resps for each choice, [log-likelihood, is greedy]; nothing was
generated, so the answer counts as one token.
"""

from __future__ import annotations

import json
import re
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
from planner.profile.fields import Fields, base_name, json_objects, plain_text
from planner.spec.answers import ScoreRow
from planner.spec.prompts import PromptLine

NAME = "lm-evaluation-harness"
_SAMPLES = re.compile(r"samples_(?P<task>.+?)_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
_RESULTS = re.compile(r"results_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+)\.json")
_METRICS = ("exact_match", "acc", "pass@1", "f1", "acc_norm")
_MOST_FAULTS = 5


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a sample log, or the results file beside some."""
    if _RESULTS.fullmatch(base_name(name)):
        return '"model_name"' in text or '"results"' in text
    is_object = first_line(text).startswith("{")
    return is_object and '"doc_id"' in text and '"filtered_resps"' in text[:200_000]


def parse(files: Mapping[str, str], options: ImportOptions) -> Reading:
    """Returns the scores of sample logs, in the order of their names.

    Raises:
        InputError: with the faults of all files.
    """
    faults: list[Fault] = []
    models = _models(files, faults)
    logs = [name for name in sorted(files) if not _RESULTS.fullmatch(base_name(name))]
    rows: list[ScoreRow] = []
    prompts: list[PromptLine] = []
    notes: list[str] = []
    for name in logs:
        try:
            reading = _log(name, files[name], models, options)
        except InputError as error:
            faults += error.faults
            continue
        rows += reading.rows
        prompts += reading.prompts
        notes += reading.notes
    if faults:
        raise InputError(faults)
    if rows:
        notes.append("the logs count no tokens: they are estimated from characters")
    return Reading(tuple(rows), tuple(prompts), tuple(notes))


def _models(files: Mapping[str, str], faults: list[Fault]) -> dict[tuple[str, str], str]:
    """Returns the model of each results file, by folder and time."""
    models = {}
    for name, text in files.items():
        found = _RESULTS.fullmatch(base_name(name))
        if found is None:
            continue
        try:
            results = json_objects(name, plain_text(name, text))
        except InputError as error:
            faults += error.faults
            continue
        said = results[0].get("model_name") if results else None
        if isinstance(said, str) and as_name(said):
            models[_folder(name), found["time"]] = said
    return models


def _folder(name: str) -> str:
    return name.removesuffix(base_name(name))


def _log(
    name: str, text: str, models: Mapping[tuple[str, str], str], options: ImportOptions
) -> Reading:
    """Returns the scores of one sample log; raises InputError with its faults."""
    called = _SAMPLES.fullmatch(base_name(name))
    task = as_name(options.class_name or (called["task"] if called else ""))
    said = options.model_name or (models.get((_folder(name), called["time"])) if called else None)
    model = as_name(said or "")
    faults = []
    if task is None:
        what = "the file's name has no task, as samples_<task>_<time>.jsonl has"
        faults.append(Fault(name, "task", what, "give --class NAME"))
    if model is None:
        what = "no results_<time>.json beside the log names the model"
        faults.append(Fault(name, "model", what, "give --model-name NAME"))
    if faults or task is None or model is None:
        raise InputError(faults)
    lines = json_objects(name, plain_text(name, text))
    lines, notes = _of_one_filter(name, lines, options.filter_name)
    metric = options.metric or _metric(name, lines)
    return _scores(name, lines, task, model, metric, notes)


def _of_one_filter(
    name: str, lines: Sequence[dict[str, object]], wanted: str | None
) -> tuple[list[dict[str, object]], list[str]]:
    """Returns the lines of one filter, the first where none is wanted."""
    names = list(dict.fromkeys(str(line.get("filter", "none")) for line in lines))
    chosen = wanted if wanted is not None else names[0] if names else "none"
    if chosen not in names and wanted is not None:
        what = f"has no filter {wanted}, got {', '.join(names)}"
        raise InputError.single(name, "filter", what, f"give --filter {names[0]}")
    notes = []
    if len(names) > 1 and wanted is None:
        notes.append(f"filters {', '.join(names)}: {chosen} counts; --filter chooses")
    return [line for line in lines if str(line.get("filter", "none")) == chosen], notes


def _metric(name: str, lines: Sequence[dict[str, object]]) -> str:
    """Returns the name of the metric to read: the first that the log lists and has."""
    first = lines[0] if lines else {}
    listed = first.get("metrics")
    names = [*(listed if isinstance(listed, list) else []), *_METRICS]
    found = next((str(key) for key in names if isinstance(key, str) and key in first), None)
    if found is None:
        what = f"has none of the metrics {', '.join(_METRICS)}"
        raise InputError.single(name, "metrics", what, "name the one to read with --metric")
    return found


def _scores(
    name: str,
    lines: Sequence[dict[str, object]],
    task: str,
    model: str,
    metric: str,
    notes: Sequence[str],
) -> Reading:
    rows: list[ScoreRow] = []
    prompts: list[PromptLine] = []
    faults: list[Fault] = []
    for place, line in enumerate(lines, start=1):
        fields = Fields(name, line, f"sample {place}.")
        doc = fields.count("doc_id", required=True)
        score = as_score(line.get(metric))
        if score is None:
            faults.append(score_fault(name, f"sample {place}.{metric}", line.get(metric)))
        faults += fields.faults
        if doc is None or score is None:
            continue
        asked, answer = _asked(line.get("arguments")), _answer(line.get("resps"))
        prompt_id = prompt_key(task, doc)
        target = line.get("target")
        prompts.append(prompt_line(prompt_id, task, asked, None if target is None else str(target)))
        tokens = 1 if answer is None else estimated_tokens(answer)
        n_input = estimated_tokens(asked)
        rows.append(ScoreRow(prompt_id, task, model, score, n_input, tokens))
    if faults:
        rest = len(faults) - _MOST_FAULTS
        more = [Fault(name, "", f"and {rest} more such samples", "correct them too")]
        raise InputError([*faults[:_MOST_FAULTS], *(more if rest > 0 else [])])
    return Reading(tuple(rows), tuple(prompts), (*notes, f"{task}: metric {metric}"))


def _asked(arguments: object) -> str:
    """Returns the prompt in the arguments of a sample; empty where there is none."""
    if isinstance(arguments, dict):
        first = arguments.get("gen_args_0")
        given = first.get("arg_0") if isinstance(first, dict) else None
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        given = first[0] if isinstance(first, list) and first else None
    return given if isinstance(given, str) else "" if given is None else json.dumps(given)


def _answer(resps: object) -> str | None:
    """Returns the text that was generated; None for multiple choice, where nothing was."""
    first = resps[0] if isinstance(resps, list) and resps else None
    text = first[0] if isinstance(first, list) and first else first
    return text if isinstance(text, str) else None
