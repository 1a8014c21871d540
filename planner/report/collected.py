"""A collection as a person sees it: what it will take, and what has come of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console

from planner.profile.collect.agreement import JudgeAgreement
from planner.profile.collect.budget import Budget
from planner.profile.collect.imported import ImportedScores
from planner.profile.collect.run import Worked
from planner.report.console import (
    RenderableType,
    bullet,
    heading,
    indented,
    line,
    plain,
    show,
    table,
)
from planner.report.data import as_data
from planner.report.figures import NONE, count, number, percent, quality, usd
from planner.report.run import time_words
from planner.spec.answers import ScoreRow

_MOST_CLASSES = 12  # in the table; the rest are in the file


@dataclass(frozen=True)
class Collected:
    """Everything that `rb router collect` says at its end."""

    rows: tuple[ScoreRow, ...]
    n_answers: int
    worked: Worked
    agreement: JudgeAgreement | None = None


def render_budget(budget: Budget, console: Console) -> None:
    """Writes what is about to be sent, model by model."""
    show(_budget_sections(budget), console)


def render_collected(collected: Collected, console: Console) -> None:
    """Writes what the models have scored."""
    show(_sections(collected), console)


def render_imported(imported: ImportedScores, console: Console) -> None:
    """Writes what result files of evaluation tools say."""
    show(_imported_sections(imported), console)


def imported_data(imported: ImportedScores) -> dict[str, object]:
    """Returns what result files of evaluation tools say as data."""
    return {
        "n_prompts": len(imported.prompts),
        "n_scores": len(imported.rows),
        "formats": dict(imported.formats),
        "models": [_model_data(name, rows) for name, rows in _by_model(imported.rows)],
        "left_out": list(imported.left_out),
    }


def collected_data(collected: Collected) -> dict[str, object]:
    """Returns the summary of a collection as data."""
    return {
        "complete": not (collected.worked.failures or collected.worked.interrupted),
        "n_answers": collected.n_answers,
        "n_scored": len(collected.rows),
        "n_failed": len(collected.worked.failures),
        "given_up": list(collected.worked.given_up),
        "models": [_model_data(name, rows) for name, rows in _by_model(collected.rows)],
        "judge": as_data(collected.agreement),
    }


def failures(worked: Worked) -> Iterator[str]:
    """Yields why requests were not answered, one line for each model and reason."""
    reasons = Counter((f.task.asks, f.reply.status, f.reply.detail) for f in worked.failures)
    for (name, status, detail), n in reasons.most_common(8):
        said = f"{status}: {detail}" if status not in (0, 200) else detail
        yield plain(f"{name}: {count(n, 'request')} failed ({said or 'no reason given'})")
    for name in worked.given_up:
        yield f"{name}: given up after many failures in a row"


def agreement_lines(found: JudgeAgreement) -> Iterator[str]:
    """Yields how far a judge agrees with people."""
    span = f"{percent(found.agreement_low)} to {percent(found.agreement_high)}"
    within = " within 0.1" if found.is_graded else ""
    yield (
        f"the judge agrees with people{within} on {percent(found.agreement)} ({span}) of "
        f"{count(found.n_compared, 'labelled answer')}"
    )
    if found.is_graded:
        yield f"correlation with their scores: {number(found.correlation)}"
    else:
        yield f"Cohen's kappa: {number(found.kappa)} (0: as by chance, 1: always)"
    if found.bias_low is not None and found.bias_high is not None:
        sure = f"{found.bias_low:+.3f} to {found.bias_high:+.3f}"
        kind = "too kind" if found.bias_low > 0 else "too strict" if found.bias_high < 0 else ""
        verdict = f": {kind}" if kind else ""
        yield f"bias {found.bias:+.3f} ({sure}){verdict}"
    unseen = found.n_labelled - found.n_compared
    if unseen:
        yield f"{count(unseen, 'label')} without an answer that was judged"


def _budget_sections(budget: Budget) -> Iterator[RenderableType]:
    yield heading("To be sent")
    priced = any(entry.usd is not None for entry in budget.models)
    made = table(["model"], ["requests", "tokens", *(["$"] if priced else []), "time"])
    for entry in budget.models:
        made.add_row(
            "",
            plain(entry.model_name),
            f"{entry.n_left:,}",
            _tokens(entry.output_tokens),
            *([usd(entry.usd)] if priced else []),
            NONE if entry.duration_s is None else time_words(entry.duration_s),
        )
    yield made
    yield indented(", ".join(_budget_words(budget)))


def _budget_words(budget: Budget) -> Iterator[str]:
    yield f"{budget.n_left:,} requests"
    if budget.output_tokens is not None:
        most = _tokens(sum(entry.most_output_tokens for entry in budget.models))
        yield f"about {_tokens(budget.output_tokens)} output tokens (at most {most})"
    if budget.usd is not None:
        most_usd = sum(entry.most_usd or 0.0 for entry in budget.models)
        yield f"about {usd(budget.usd)} for them (at most {usd(most_usd)})"
    if budget.duration_s is not None:
        yield f"about {time_words(budget.duration_s)} min; judged by the first answers"


def _tokens(n: float | None) -> str:
    """Returns a number of tokens, short."""
    if n is None:
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.0f}"


def _imported_sections(imported: ImportedScores) -> Iterator[RenderableType]:
    files = ", ".join(f"{count(n, 'file')} of {name}" for name, n in imported.formats.items())
    scores = f"{len(imported.rows):,} scores of {len(imported.prompts):,} prompts"
    yield line(f"{scores} from {files}")
    yield heading("Scores")
    yield _models_table(imported.rows)
    yield from _class_sections(imported.rows)


def _sections(collected: Collected) -> Iterator[RenderableType]:
    yield line(f"{count(len(collected.rows), 'score')} of {count(collected.n_answers, 'answer')}")
    if collected.rows:
        yield heading("Scores")
        yield _models_table(collected.rows)
        yield indented(
            "n: answers; found: those in which the grader found an answer at all; agree: share of "
            "a prompt's samples with the same answer; tokens, logprob: of an answer, means"
        )
        yield from _class_sections(collected.rows)
    if collected.agreement is not None:
        yield heading("The judge")
        yield from (bullet(text) for text in agreement_lines(collected.agreement))


def _models_table(rows: Sequence[ScoreRow]) -> RenderableType:
    """Returns a row per model; columns of which nothing is known are left out."""
    data = [_model_data(name, own) for name, own in _by_model(rows)]
    shown = {
        heading: [form(_float(entry[key])) for entry in data]
        for key, (heading, form) in _COLUMNS.items()
    }
    known = {heading: cells for heading, cells in shown.items() if set(cells) != {NONE}}
    made = table(["model"], ["n", *known])
    for place, entry in enumerate(data):
        cells = (column[place] for column in known.values())
        made.add_row("", plain(str(entry["model_name"])), f"{entry['n_answers']:,}", *cells)
    return made


_COLUMNS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "score": ("score", quality),
    "answered_ratio": ("found", lambda ratio: percent(ratio, 0)),
    "agreement_ratio": ("agree", lambda ratio: percent(ratio, 0)),
    "output_tokens": ("tokens", number),
    "mean_logprob": ("logprob", number),
}


def _class_sections(rows: Sequence[ScoreRow]) -> Iterator[RenderableType]:
    """Yields the mean score of each class and model, a row each: any number fits a narrow page."""
    classes = sorted({row.class_name for row in rows})
    if len(classes) < 2:
        return
    yield heading("By class")
    made = table(["class", "model"], ["n", "score"])
    for class_name in classes[:_MOST_CLASSES]:
        for name, own in _by_model([row for row in rows if row.class_name == class_name]):
            score = quality(fmean(row.score for row in own))
            made.add_row("", plain(class_name), plain(name), f"{len(own):,}", score)
    yield made
    if len(classes) > _MOST_CLASSES:
        yield indented(f"and {len(classes) - _MOST_CLASSES} more classes")


def _by_model(rows: Sequence[ScoreRow]) -> list[tuple[str, list[ScoreRow]]]:
    groups: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in rows:
        groups[row.model_name].append(row)
    return sorted(groups.items())


def _model_data(name: str, rows: Sequence[ScoreRow]) -> dict[str, object]:
    return {
        "model_name": name,
        "n_answers": len(rows),
        "score": fmean(row.score for row in rows),
        "output_tokens": fmean(row.output_tokens for row in rows),
        "answered_ratio": _mean_signal(rows, "answered"),
        "agreement_ratio": _mean_signal(rows, "agreement"),
        "mean_logprob": _mean_signal(rows, "mean_logprob"),
    }


def _mean_signal(rows: Sequence[ScoreRow], name: str) -> float | None:
    values = [row.signals[name] for row in rows if name in row.signals]
    return fmean(values) if values else None


def _float(value: object) -> float | None:
    return value if isinstance(value, float) else None
