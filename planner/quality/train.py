"""A router from scores: what it learns, and what it would have said of prompts it has not seen.

The same `_learn` makes the router that is shipped, from all prompts, and the five that predict each
prompt from the other folds. Duplicates of a prompt are in one fold, so a prompt's own score moves
nothing that is predicted for it.

How far a class is trusted depends on how many of its prompts have scores: below 30 the means of the
fleet, and its own few scores are not used; from 300 on per-prompt terms as well, where the gate
lets them pass. Answer lengths are far less a matter of luck and are always used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import Any

import numpy as np

from planner import __version__
from planner.quality.answers import fit_answer_lengths, predict
from planner.quality.classify import posterior, train_naive_bayes
from planner.quality.contrast import adjust, class_residual, fit_contrast
from planner.quality.features import surface
from planner.quality.folds import fold_of
from planner.quality.gate import LABELS_FOR_TERMS, run_gate
from planner.quality.ridge import class_sums
from planner.quality.router import LEAST_QUALITY, MOST_QUALITY, believed
from planner.quality.scores import Scores
from planner.quality.shrink import shrunk_means
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.router import (
    CLASS_MEAN,
    FLEET,
    PER_PROMPT,
    AnswerLengths,
    ClassMeans,
    Contrast,
    NaiveBayes,
    Provenance,
    Router,
    Rule,
)

LABELS_FOR_MEANS = 30  # prompts of a class with scores, from which its own means are used
N_FOLDS = 5
_PSEUDO_COUNT = 5.0  # answers that the lengths of other classes and models count for


@dataclass(frozen=True)
class CrossFit:
    """What is predicted for each prompt by what never saw it, nor a duplicate of it."""

    fold: IntArray  # (N,)
    class_quality: FloatArray  # (N, M) of its class
    prompt_quality: FloatArray | None  # (N, M) with per-prompt terms where a class may have them
    output_tokens: FloatArray  # (N, M) class_tokens where there are no texts
    class_tokens: FloatArray  # (N, M) means of its class
    class_posterior: FloatArray | None  # (N, C) from the text alone; None where not asked for
    inferred_quality: FloatArray | None  # (N, M) of the class so inferred
    inferred_tokens: FloatArray | None  # (N, M)


@dataclass(frozen=True)
class _Tokens:
    """Mean answer lengths."""

    by_class: FloatArray  # (C, M)
    fleet: FloatArray  # (M,)


@dataclass(frozen=True)
class _Learned:
    """All that some prompts teach; the last three need texts."""

    means: ClassMeans
    tokens: _Tokens
    contrast: Contrast | None = None
    lengths: AnswerLengths | None = None
    bayes: NaiveBayes | None = None


def cross_fit(scores: Scores, seed: int = 0, *, with_inference: bool = True) -> CrossFit:
    """Returns what is predicted for each prompt from the prompts of the other folds.

    Args:
        scores: what was measured.
        seed: of the folds.
        with_inference: whether classes are inferred as well, which takes most of the time.
    """
    fold = fold_of(scores, N_FOLDS, seed)
    trust = _most_trust(_n_labels(scores))
    features = None if scores.text is None else surface(scores.text)
    parts = []
    for held_out in np.unique(fold).tolist():
        learned = _learn(scores, fold != held_out, trust, features)
        if with_inference:
            learned = replace(learned, bayes=_learn_classes(scores, fold != held_out, fold))
        parts.append(_predicted(learned, scores, fold, held_out, trust, features))
    order = np.argsort(np.argsort(fold, kind="stable"))
    columns: dict[str, Any] = {}
    for column in fields(CrossFit):
        blocks = [getattr(part, column.name) for part in parts]
        columns[column.name] = None if blocks[0] is None else np.concatenate(blocks)[order]
    return CrossFit(**columns)


def train_router(
    scores: Scores,
    usd_per_token: FloatArray,
    seed: int = 0,
    rules: Sequence[Rule] = (),
    crossfit: CrossFit | None = None,
    *,
    per_prompt: bool = True,
    weight: FloatArray | None = None,
) -> Router:
    """Returns a router that has learned from all scores.

    Args:
        scores: what was measured.
        usd_per_token: (C, M) that an answer's tokens cost; what the gate weighs quality against.
        seed: of folds and resamples.
        rules: by which requests say their class.
        crossfit: cross_fit(scores, seed), where it has been made already.
        per_prompt: whether per-prompt terms may be used if they pass the gate.
        weight: (N,) share of the traffic that each prompt stands for, to the gate.
    """
    known = cross_fit(scores, seed) if crossfit is None else crossfit
    price = usd_per_token[scores.class_code]

    def dealt(k: int) -> CrossFit:
        return known if k == 0 else cross_fit(scores, seed + k, with_inference=False)

    gate = run_gate(scores, price, dealt, seed, weight)
    n_labels = _n_labels(scores)
    trust = _most_trust(n_labels)
    features = None if scores.text is None else surface(scores.text)
    all_rows = np.ones(scores.n_prompts, dtype=np.bool_)
    learned = _learn(scores, all_rows, trust, features)
    if not (gate.passed and per_prompt):
        trust = np.minimum(trust, CLASS_MEAN)
    return Router(
        class_names=scores.class_names,
        model_names=scores.model_names,
        means=learned.means,
        class_tokens=learned.tokens.by_class,
        fleet_tokens=learned.tokens.fleet,
        n_labels=n_labels,
        trust=trust,
        prior=np.bincount(scores.class_code, minlength=scores.n_classes) / scores.n_prompts,
        confusion=_confusion(scores, known.class_posterior),
        bayes=_learn_classes(scores, all_rows, known.fold),
        contrast=learned.contrast if (trust == PER_PROMPT).any() else None,
        lengths=learned.lengths,
        rules=tuple(rules),
        usd_per_token=usd_per_token,
        gate=gate,
        provenance=Provenance(__version__, seed, scores.n_prompts, data_sha256(scores)),
    )


def data_sha256(scores: Scores) -> str:
    """Returns the sha256 (hex) of all that a router learns from."""
    names = [scores.class_names, scores.model_names, scores.prompt_ids, scores.text]
    digest = sha256(json.dumps(names).encode())
    for values in (scores.class_code, scores.n_samples):
        digest.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    for grid in (scores.score, scores.output_tokens):
        digest.update(np.ascontiguousarray(np.nan_to_num(grid, nan=-1.0), dtype="<f8").tobytes())
    return digest.hexdigest()


def _n_labels(scores: Scores) -> IntArray:
    """Returns how many prompts of each class have a score, (C,)."""
    scored = np.isfinite(scores.score).any(axis=1)
    return np.bincount(scores.class_code[scored], minlength=scores.n_classes)


def _most_trust(n_labels: IntArray) -> IntArray:
    """Returns how far classes are trusted if per-prompt terms pass the gate, (C,)."""
    by_means = np.where(n_labels >= LABELS_FOR_MEANS, CLASS_MEAN, FLEET)
    return np.where(n_labels >= LABELS_FOR_TERMS, PER_PROMPT, by_means)


def _learn(
    scores: Scores, rows: BoolArray, trust: IntArray, features: FloatArray | None
) -> _Learned:
    """Returns what the chosen prompts teach of models; how to tell classes is left out."""
    part = scores.take(rows)
    means, tokens = shrunk_means(part), _mean_tokens(part)
    if features is None:
        return _Learned(means, tokens)
    x, codes, n_classes = features[rows], part.class_code, part.n_classes
    # Left-out means are plain; the terms come on top of shrunk ones, which are fair to a model
    # that was scored on hard prompts only.
    residual = class_residual(part.score, codes, n_classes, part.group)
    residual += (means.raw - means.mean)[codes]
    contrast = None
    if (trust == PER_PROMPT).any() and np.isfinite(residual).any():
        contrast = fit_contrast(x, residual, part.group)
    lengths = None
    if np.isfinite(part.output_tokens).any(axis=0).all():
        lengths = fit_answer_lengths(x, codes, n_classes, part.output_tokens, part.group)
    return _Learned(means, tokens, contrast, lengths)


def _learn_classes(scores: Scores, rows: BoolArray, fold: IntArray) -> NaiveBayes | None:
    """Returns how the chosen prompts tell classes apart; None without texts."""
    if scores.text is None:
        return None
    texts = [scores.text[i] for i in np.flatnonzero(rows)]
    return train_naive_bayes(texts, scores.class_code[rows], scores.n_classes, fold[rows])


def _predicted(
    learned: _Learned,
    scores: Scores,
    fold: IntArray,
    held_out: int,
    trust: IntArray,
    features: FloatArray | None,
) -> CrossFit:
    """Returns what is predicted for the prompts of one fold, in their order."""
    rows = np.flatnonzero(fold == held_out)
    codes = scores.class_code[rows]
    by_class = believed(learned.means.mean, learned.means.fleet, trust)
    class_quality, class_tokens = by_class[codes], learned.tokens.by_class[codes]
    if features is None or scores.text is None:
        return CrossFit(fold[rows], class_quality, None, class_tokens, class_tokens, *[None] * 3)
    x = features[rows]
    prompt_quality, output_tokens = class_quality, class_tokens
    if learned.contrast is not None:
        moved = np.clip(class_quality + adjust(learned.contrast, x), LEAST_QUALITY, MOST_QUALITY)
        prompt_quality = np.where((trust == PER_PROMPT)[codes, None], moved, class_quality)
    if learned.lengths is not None:
        output_tokens = _tokens_of(learned.lengths, x, codes)
    known = fold[rows], class_quality, prompt_quality, output_tokens, class_tokens
    if learned.bayes is None:
        return CrossFit(*known, *[None] * 3)
    inferred = posterior(learned.bayes, [scores.text[i] for i in rows])
    inferred_tokens = inferred @ learned.tokens.by_class
    if learned.lengths is not None:
        inferred_tokens = predict(learned.lengths, x, inferred)
    return CrossFit(*known, inferred, inferred @ by_class, inferred_tokens)


def _tokens_of(lengths: AnswerLengths, features: FloatArray, codes: IntArray) -> FloatArray:
    """Returns the tokens predicted for prompts of known classes, (n, M), class by class."""
    tokens = np.empty((codes.size, lengths.fleet_level.size))
    one_hot = np.eye(len(lengths.level))
    for c in np.unique(codes):
        mine = codes == c
        tokens[mine] = predict(lengths, features[mine], one_hot[codes[mine]])
    return tokens


def _mean_tokens(scores: Scores) -> _Tokens:
    """Returns mean answer lengths; cells with few answers lean on their class and model.

    A cell's prior is its model's mean times how much longer all models answer that class.
    """
    known = np.isfinite(scores.output_tokens)
    answered = np.where(known, scores.output_tokens, 0.0)
    total = class_sums(answered, scores.class_code, scores.n_classes)
    count = class_sums(known.astype(np.float64), scores.class_code, scores.n_classes)
    n_answers = count.sum(axis=0)
    fleet = total.sum(axis=0) / np.maximum(n_answers, 1.0)
    fleet = np.where(n_answers > 0, fleet, total.sum() / max(n_answers.sum(), 1.0))
    fleet = np.maximum(fleet, 1.0)  # of no answer at all nothing is known but that it has a token
    expected = (count @ fleet)[:, None] + _PSEUDO_COUNT * fleet
    longer = (total.sum(axis=1)[:, None] + _PSEUDO_COUNT * fleet) / expected
    by_class = (total + _PSEUDO_COUNT * longer * fleet) / (count + _PSEUDO_COUNT)
    return _Tokens(by_class, fleet)


def _confusion(scores: Scores, class_posterior: FloatArray | None) -> FloatArray:
    """Returns the share of each class's prompts that is taken for each class, (C, C).

    A class without prompts is taken for the others as often as they occur.
    """
    if class_posterior is None:
        return np.eye(scores.n_classes)
    counted = np.zeros((scores.n_classes, scores.n_classes))
    np.add.at(counted, (scores.class_code, class_posterior.argmax(axis=1)), 1.0)
    n_prompts = counted.sum(axis=1, keepdims=True)
    return np.where(n_prompts > 0, counted, counted.sum(axis=0)) / np.where(
        n_prompts > 0, n_prompts, scores.n_prompts
    )
