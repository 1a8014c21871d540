"""A first question: a commented question.yaml from a template, or from own scores and trace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.csvs import read_csv
from planner.files.faults import build
from planner.files.prompts import read_prompt_scores
from planner.files.question import QUESTION_FILE
from planner.files.text import MAX_PROMPTS_BYTES, is_there, read_text, shown
from planner.files.write import write_text
from planner.spec.question import RequestClass, TraceRow

SCORES_FILE = "scores.csv"
CLASS_SCORES_FILE = "class_scores.csv"
TRACE_FILE = "requests.csv"
_ANY_SCALE = 1e15  # scores are shown as they are: what a full one is, the question will say

_HEADER = """\
# A question to rb: what must be served, within which limits, on which GPUs?
# Edit it, then answer it with:  rb plan {folder}
version: 1
title: {title}

# ---- What must be served ------------------------------------------------------------------
# rate_rps: requests per second. Token counts come from the scores file; to state your own:
#   input_tokens: {{mean: 500, cv: 0.6}}     output_tokens: {{mean: 300, cv: 0.8, max: 2048}}
# limits: metric ttft | tpot | e2e, statistic mean | p50 | p90 | p95 | p99, at_most_ms.
classes:
"""

_CLASS = """\
  - name: {name}
    rate_rps: {rate:g}{note}
    limits:
      - {{metric: e2e, statistic: p95, at_most_ms: 60000}}
"""

_FOOTER = """
# ---- When it arrives ----------------------------------------------------------------------
# poisson; {{process: gamma, cv: 2}}; {{process: schedule, file: arrivals.csv}} (start_s,rate_rps);
# {{trace: requests.csv, rate_factor: 1}} (timestamp_s,class,input_tokens,output_tokens)
arrivals: {arrivals}

# ---- How good the answers must be -----------------------------------------------------------
{scores}
{quality}

# ---- What there is to serve it with ----------------------------------------------------------
# GPUs that exist, by their id in profiles/gpus.yaml. A GPU that is not listed is not available.
stock: {{h100-sxm-80g: 16}}
# prices: {{h100-sxm-80g: 2.50}}        # your own price per GPU and hour
# budget_usd_per_h: 40
# pools: [llama-3.1-8b-h100]          # only these ways to run a model; default: all with scores
# replicas: {{llama-3.1-8b-h100: {{min: 2, max: 2}}}}   # min = max fixes what already runs

# ---- Which answer is wanted --------------------------------------------------------------------
choose: cheapest                     # cheapest | best_quality | fastest | knee
headroom_ratio: 0.1                  # part of each pool's capacity that stays free
# maximise: rate_factor              # how much of this traffic can the budget or stock carry?
"""

_EXAMPLE_SCORES = """\
class,model_name,n_prompts,score,input_tokens_mean,input_tokens_cv,output_tokens_mean,output_tokens_cv,origin,source
chat,llama-3.1-8b,100,0.80,300,0.6,250,0.8,assumed,placeholder: put your own evaluation here
chat,llama-3.1-70b,100,0.90,300,0.6,250,0.8,assumed,placeholder: put your own evaluation here
reasoning,llama-3.1-8b,100,0.50,400,0.6,700,1.0,assumed,placeholder: put your own evaluation here
reasoning,llama-3.1-70b,100,0.75,400,0.6,600,1.0,assumed,placeholder: put your own evaluation here
"""


def write_starter(
    folder: Path, scores: Path | None, trace: Path | None, rate_rps: float
) -> list[str]:
    """Returns the names of the files written: question.yaml and the tables that it names.

    Raises:
        InputError: the folder holds a question already, or scores or trace cannot be read.
    """
    faults: list[Fault] = []
    if is_there(folder / QUESTION_FILE):
        what = "exists already and is not overwritten"
        fix = "choose another folder, or delete it"
        raise InputError.single(shown(folder / QUESTION_FILE), "", what, fix)
    files: dict[str, str] = {}
    means = _class_means(scores, faults)
    rows = read_csv(trace, TraceRow, faults)[0] if trace is not None else ()
    if faults:
        raise InputError(faults)
    for source, name in ((scores, SCORES_FILE), (trace, TRACE_FILE)):
        text = read_text(source, MAX_PROMPTS_BYTES, faults) if source is not None else None
        if text is not None:
            files[name] = text
    if scores is None:
        files[CLASS_SCORES_FILE] = _EXAMPLE_SCORES
    rates = _rates(sorted(means) or ["chat", "reasoning"], rows, rate_rps)
    files[QUESTION_FILE] = _question(folder, means, rates, has_trace=trace is not None)
    what = "exists already and is not overwritten"
    faults += [
        Fault(shown(folder / name), "", what, "move it away")
        for name in files
        if is_there(folder / name)
    ]
    if faults:
        raise InputError(faults)
    for name, text in files.items():
        write_text(folder / name, text)
    return [shown(folder / name) for name in files]


def _class_means(scores: Path | None, faults: list[Fault]) -> dict[str, dict[str, float]]:
    """Returns the mean score of each model on each class of a scores file."""
    if scores is None:
        return {}
    table, _ = read_prompt_scores(scores, None, _ANY_SCALE, faults)
    if table is None:
        return {}
    means: dict[str, dict[str, float]] = {}
    for c, class_name in enumerate(table.classes):
        build(RequestClass, {"name": class_name, "rate_rps": 1.0}, shown(scores), faults, "class")
        of_model = [
            (name, table.score[(table.class_code == c) & (table.model_code == m)])
            for m, name in enumerate(table.model_names)
        ]
        means[class_name] = {name: float(score.mean()) for name, score in of_model if score.size}
    return means


def _rates(names: list[str], rows: tuple[TraceRow, ...], rate_rps: float) -> dict[str, float]:
    """Returns the rate of each class in req/s: by the trace's mix, or equal parts."""
    counts = Counter(row.class_name for row in rows if row.class_name in names)
    span = rows[-1].timestamp_s - rows[0].timestamp_s if len(rows) > 1 else 0.0
    if not counts or span <= 0:
        total = len(rows) / span if span > 0 else rate_rps
        return {name: max(round(total / len(names), 4), 0.0001) for name in names}
    return {name: max(round(counts[name] / span, 4), 0.0001) for name in names}


def _question(
    folder: Path, means: dict[str, dict[str, float]], rates: dict[str, float], has_trace: bool
) -> str:
    text = _HEADER.format(folder=shown(folder), title=folder.name or "question")
    for name, rate in rates.items():
        scored = ", ".join(f"{m} {q:.2f}" for m, q in means.get(name, {}).items())
        note = f"    # mean scores: {scored}" if scored else ""
        text += _CLASS.format(name=name, rate=rate, note=note)
    own = bool(means)
    scores = (
        f"scores: {SCORES_FILE}     # prompt_id,class,model_name,score,input_tokens,output_tokens"
        if own
        else f"class_scores: {CLASS_SCORES_FILE}   # placeholders: replace them by your evaluation"
    )
    return text + _FOOTER.format(
        arrivals=f"{{trace: {TRACE_FILE}, rate_factor: 1}}" if has_trace else "{process: poisson}",
        scores=scores,
        quality=_floor(means, rates),
    )


def _floor(means: dict[str, dict[str, float]], rates: dict[str, float]) -> str:
    """Returns the line of the quality floor: half way between the worst and the best model."""
    if not means:
        return "quality_at_least: 0.75           # mean score over all traffic"
    total = sum(rates.values())
    models = set.intersection(*(set(by_model) for by_model in means.values()))
    overall = {
        m: sum(rates[c] * by_model[m] for c, by_model in means.items()) / total for m in models
    }
    listed = ", ".join(f"{m} {q:.3f}" for m, q in sorted(overall.items(), key=lambda e: e[1]))
    if not overall:
        return "# quality_at_least: 0.7   # no model has scores on every class"
    middle = (min(overall.values()) + max(overall.values())) / 2
    return f"quality_at_least: {middle:.3f}    # one model alone scores: {listed}"
