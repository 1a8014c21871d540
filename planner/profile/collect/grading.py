"""From answers to rows of scores.csv: nothing is asked, nothing is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from planner.profile.collect.agreement import shares_agreeing
from planner.profile.collect.judge import score_in
from planner.quality.graders import (
    GradeOptions,
    Kind,
    found_answer,
    grade,
    reference_problem,
)
from planner.spec.answers import Answer, AnswerKey, ScoreRow, Verdict
from planner.spec.prompts import PromptLine


def references(prompt: PromptLine) -> tuple[str, ...]:
    """Returns the right answers of a prompt as texts; none where it has none."""
    given = prompt.reference
    if given is None:
        return ()
    values = given if isinstance(given, tuple) else (given,)
    return tuple(value if isinstance(value, str) else f"{value:.15g}" for value in values)


def reference_problems(kind: Kind, prompts: Iterable[PromptLine]) -> dict[str, str]:
    """Returns why a grader cannot grade the answers to some prompts, by prompt id."""
    problems = {}
    for prompt in prompts:
        texts = references(prompt)
        each = (reference_problem(kind, text, prompt.choices) for text in texts)
        problem = next(filter(None, each), None) if texts else "is missing"
        if problem is not None:
            problems[prompt.prompt_id] = problem
    return problems


def graded(
    answers: Iterable[Answer],
    prompts: Mapping[str, PromptLine],
    kind: Kind,
    tolerance: float,
) -> tuple[ScoreRow, ...]:
    """Returns a row for each answer, with its signals.

    Args:
        answers: of the prompts.
        prompts: by id, each with a class and a reference.
        kind: which grader.
        tolerance: of numbers, relative.
    """
    rows = []
    for own in _by_prompt_and_model(answers):
        prompt = prompts[own[0].prompt_id]
        options = GradeOptions(tolerance, prompt.choices)
        found = [found_answer(kind, answer.text, options) for answer in own]
        scores = [
            max(grade(kind, answer.text, right, options) for right in references(prompt))
            for answer in own
        ]
        rows += _rows(prompt, own, scores, found)
    return tuple(rows)


def judged(
    answers: Iterable[Answer],
    prompts: Mapping[str, PromptLine],
    verdicts: Mapping[AnswerKey, Verdict],
) -> tuple[ScoreRow, ...]:
    """Returns a row for each answer that a judge gave a number that can be read."""
    rows = []
    for own in _by_prompt_and_model(answers):
        scores = {
            answer.key: score_in(verdicts[answer.key].text)
            for answer in own
            if answer.key in verdicts
        }
        found = [found_answer("exact", answer.text) for answer in own]
        all_scores = [scores.get(answer.key) for answer in own]
        rows += _rows(prompts[own[0].prompt_id], own, all_scores, found)
    return tuple(rows)


def _by_prompt_and_model(answers: Iterable[Answer]) -> list[list[Answer]]:
    groups: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.prompt_id, answer.model_name].append(answer)
    return list(groups.values())


def _rows(
    prompt: PromptLine,
    answers: Sequence[Answer],
    scores: Sequence[float | None],
    found: Sequence[str | None],
) -> list[ScoreRow]:
    """Returns the rows of one model's samples of one prompt; those without a score are left out."""
    agreeing = shares_agreeing(found)
    rows = []
    for answer, score, text, share in zip(answers, scores, found, agreeing, strict=True):
        if score is None:
            continue
        signals = {"answered": float(text is not None)}
        if answer.mean_logprob is not None:
            signals["mean_logprob"] = answer.mean_logprob
        if len(answers) > 1:
            signals["agreement"] = share
        rows.append(
            ScoreRow(
                prompt_id=answer.prompt_id,
                class_name=prompt.class_name or "",
                model_name=answer.model_name,
                score=score,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                sample=answer.sample,
                signals=signals,
            )
        )
    return rows
