"""Everything that a plan is made of, as read: the question, its tables, the profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from planner.spec.arrays import FloatArray, IntArray
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.periods import HourRate
from planner.spec.pool import Profile
from planner.spec.question import ClassScore, Question, RatePoint, TraceRow
from planner.spec.router import Router


@dataclass(frozen=True)
class PromptTable:
    """Per-prompt scores as columns, one row per answer (prompt, model, sample).

    Codes index the name tuples. Every prompt has one class and at least one row.
    """

    classes: tuple[str, ...]
    model_names: tuple[str, ...]
    prompt_ids: tuple[str, ...]  # (P,)
    class_code: IntArray  # (N,)
    model_code: IntArray  # (N,)
    prompt_code: IntArray  # (N,) indexes prompt_ids
    sample: IntArray  # (N,) tells apart the answers of one model to one prompt
    score: FloatArray  # (N,)
    input_tokens: FloatArray  # (N,)
    output_tokens: FloatArray  # (N,)
    signals: Mapping[str, FloatArray] = field(default_factory=dict)  # (N,) each, NaN: blank
    text: tuple[str, ...] | None = None  # (P,) None without a prompts file


@dataclass(frozen=True)
class InferredClasses:
    """What comes, where the classes that the question counts are those that the router infers."""

    rate_rps: FloatArray  # (C,) of the true classes, as the question states them
    confusion: FloatArray  # (C, C) share of a true class (row) that is taken for another (column)

    @property
    def mixture(self) -> FloatArray:
        """Returns the true classes (columns) in what is taken for a class (rows), (C, C).

        A class that nothing is taken for counts as itself.
        """
        flow = (self.rate_rps[:, None] * self.confusion).T
        total = flow.sum(axis=1, keepdims=True)
        return np.where(total > 0, flow / np.where(total > 0, total, 1.0), np.eye(total.size))


@dataclass(frozen=True)
class QuestionFiles:
    """A question with the contents of every file that it names, and their hashes (§7)."""

    name: str  # the path of question.yaml as the user would write it
    question: Question
    class_scores: tuple[ClassScore, ...] = ()
    prompts: PromptTable | None = None
    schedule: tuple[RatePoint, ...] = ()
    trace: tuple[TraceRow, ...] = ()
    hour_rates: tuple[HourRate, ...] = ()  # in order, from hour 0 on, none left out
    lengths: Mapping[str, FloatArray] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    router: Router | None = None  # trained on this folder's scores
    inferred: InferredClasses | None = None  # None: every request declares its class


@dataclass(frozen=True)
class Profiles:
    """What the hardware and the models can do: every readable profile, with content hashes (§7)."""

    folder: str  # as the user would write it
    profiles: tuple[Profile, ...]
    gpus: tuple[Gpu, ...]
    models: tuple[ModelFacts, ...]
    hashes: Mapping[str, str] = field(default_factory=dict)

    def by_name(self) -> dict[str, Profile]:
        """Returns the profiles by pool name."""
        return {profile.name: profile for profile in self.profiles}


@dataclass(frozen=True)
class Inputs:
    """A question and the pools that may answer it."""

    files: QuestionFiles
    profiles: Profiles
    candidates: tuple[Profile, ...]  # pools with scores, on GPUs that exist, in name order

    @property
    def question(self) -> Question:
        """Returns the question itself."""
        return self.files.question

    @property
    def hashes(self) -> dict[str, str]:
        """Returns the content hash of each input that the plan rests on, by logical name (§7)."""
        used = {profile.name for profile in self.candidates}
        pools = {
            name: digest
            for name, digest in self.profiles.hashes.items()
            if name.count("/") < 2 or name.split("/")[1] in used
        }
        return dict(sorted({**self.files.hashes, **pools}.items()))
