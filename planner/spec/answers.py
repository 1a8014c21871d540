"""Answers that were collected, and the scores that they were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from pydantic import Field

from planner.spec.base import Count, Name, NonNegative, PositiveCount, Spec, Text


class AnswerKey(NamedTuple):
    """What tells one answer from another; samples count from 1."""

    prompt_id: str
    model_name: str
    sample: int


class AnswerRequest(Spec):
    """One answer to score, as `rb router next --json` lists it."""

    prompt_id: Text
    class_name: Name | None = Field(default=None, alias="class")
    model_name: Name


class Answer(Spec):
    """What a model said to a prompt (a line of answers.jsonl), and how it was asked."""

    prompt_id: Text
    model_name: Name
    sample: PositiveCount = 1
    text: str
    finish_reason: str | None = None
    input_tokens: Count
    output_tokens: Count
    tokens_estimated: bool = False  # the server counted none
    mean_logprob: Annotated[float, Field(le=0, strict=True)] | None = None
    duration_s: NonNegative
    prompt_sha256: str  # of what was sent: an answer to another text is none
    max_tokens: PositiveCount
    temperature: NonNegative

    @property
    def key(self) -> AnswerKey:
        """Returns what tells this answer from others."""
        return AnswerKey(self.prompt_id, self.model_name, self.sample)


class Verdict(Spec):
    """What a judge said of an answer (a line of verdicts.jsonl)."""

    prompt_id: Text
    model_name: Name
    sample: PositiveCount = 1
    asked_sha256: str  # of what the judge was asked: rubric, prompt, reference and answer
    judge: Name
    text: str
    output_tokens: Count
    duration_s: NonNegative

    @property
    def key(self) -> AnswerKey:
        """Returns what tells the answer that was judged from others."""
        return AnswerKey(self.prompt_id, self.model_name, self.sample)


class Label(Spec):
    """What a person thinks of an answer (a row of a labelled file)."""

    prompt_id: Text
    model_name: Name
    sample: PositiveCount = 1
    score: Annotated[float, Field(ge=0, le=1, strict=True)]

    @property
    def key(self) -> AnswerKey:
        """Returns what tells the answer that was labelled from others."""
        return AnswerKey(self.prompt_id, self.model_name, self.sample)


@dataclass(frozen=True)
class ScoreRow:
    """A row of scores.csv: what an answer is worth, its lengths, and its signals by name."""

    prompt_id: str
    class_name: str
    model_name: str
    score: float
    input_tokens: int
    output_tokens: int
    sample: int = 1
    signals: Mapping[str, float] = field(default_factory=dict)
