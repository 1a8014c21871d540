"""A trained router at work: from prompts to classes, to what each model is worth, and how long.

Notation
    n, c, m   prompts, classes, models
    W_nc      weight of class c on prompt n: 1 where the class is known, else its probability; a row
              of NaN where the request names a class that the router has never seen
    B_cm      what is believed of a class: its shrunk means, or those of the fleet below 30 labels
    t_n       sum of W_nc over the classes that per-prompt terms may be used on
    a_nm      per-prompt term (contrast.py)

    quality_nm = sum_c W_nc B_cm,   where t_n > 0: clip(... + t_n a_nm, 0.005, 0.995)

A row of NaN gets the means of the fleet. Whether a prompt looks like those that were learned from
is never asked: on public data such distances did not tell new kinds of prompts from known ones.

A proxy calls `judge` for each request, or for a few at once; it reads each text once, and loads
nothing but numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.quality.answers import predict
from planner.quality.classify import posterior_of
from planner.quality.contrast import adjust
from planner.quality.features import FEATURE_NAMES, surface_of
from planner.quality.rules import NOTHING, Facts, class_name_of
from planner.quality.words import read_words
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.router import FLEET, PER_PROMPT, Router

LEAST_QUALITY, MOST_QUALITY = 0.005, 0.995  # of a prompt: no score is certain
_INFERRED, _UNKNOWN = -1, -2  # class codes: not said, and said but never seen


class Estimate(NamedTuple):
    """What is believed of every model's answer to prompts."""

    quality: FloatArray  # (n, M)
    output_tokens: FloatArray  # (n, M)


class Judged(NamedTuple):
    """Estimates with the class weights that they rest on."""

    class_weight: FloatArray  # (n, C)
    quality: FloatArray  # (n, M)
    output_tokens: FloatArray  # (n, M)


def classify(
    router: Router, texts: Sequence[str], facts: Sequence[Facts] | None = None
) -> FloatArray:
    """Returns the weight of each class on each prompt, (n, C), in rows that sum to 1.

    What a request declares comes first, then rules, then naive Bayes on the text, then the shares
    of the classes in the training data. A class that the router does not know: a row of NaN.
    """
    code = _codes(router, texts, facts)
    posterior = _read(router, texts, code, with_features=False)[1]
    return _weights(router, code, posterior)


def estimate(router: Router, texts: Sequence[str], class_weight: FloatArray) -> Estimate:
    """Returns what is believed of each model's answer, given class weights (n, C)."""
    features = _read(router, texts, None, with_features=_needs_features(router))[0]
    return _estimate(router, features, class_weight)


def judge(router: Router, texts: Sequence[str], facts: Sequence[Facts] | None = None) -> Judged:
    """Returns estimate(classify(...)), with each text read once."""
    code = _codes(router, texts, facts)
    features, posterior = _read(router, texts, code, with_features=_needs_features(router))
    weight = _weights(router, code, posterior)
    return Judged(weight, *_estimate(router, features, weight))


def believed(router_mean: FloatArray, fleet: FloatArray, trust: IntArray) -> FloatArray:
    """Returns B of the notation, (C, M)."""
    return np.where((trust > FLEET)[:, None], router_mean, fleet)


def _codes(router: Router, texts: Sequence[str], facts: Sequence[Facts] | None) -> IntArray:
    """Returns the class of each prompt as far as declaration and rules tell it, (n,)."""
    code = np.full(len(texts), _INFERRED)
    if facts is None and not router.rules:
        return code
    known = [NOTHING] * len(texts) if facts is None else facts
    for i, (text, of_request) in enumerate(zip(texts, known, strict=True)):
        name = class_name_of(router.rules, text, of_request)
        if name is not None:
            names = router.class_names
            code[i] = names.index(name) if name in names else _UNKNOWN
    return code


def _needs_features(router: Router) -> bool:
    return router.contrast is not None or router.lengths is not None


def _read(
    router: Router, texts: Sequence[str], code: IntArray | None, *, with_features: bool
) -> tuple[FloatArray, FloatArray]:
    """Returns the features of texts, (n, F), and their class probabilities, (n, C).

    Each is empty, (0, ...), where it is not needed: probabilities where every class is known.
    """
    features, posteriors = [], []
    bayes = router.bayes
    if code is None or not (code == _INFERRED).any():
        bayes = None
    if with_features or bayes is not None:
        for words in read_words(texts):
            if with_features:
                features.append(surface_of(words))
            if bayes is not None:
                posteriors.append(posterior_of(bayes, words))
    return _joined(features, len(FEATURE_NAMES)), _joined(posteriors, len(router.class_names))


def _joined(blocks: list[FloatArray], width: int) -> FloatArray:
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks) if blocks else np.zeros((0, width))


def _weights(router: Router, code: IntArray, posterior: FloatArray) -> FloatArray:
    """Returns W of the notation, (n, C)."""
    inferred = code == _INFERRED
    if inferred.all() and len(posterior) == code.size:
        return posterior
    weight = np.zeros((code.size, len(router.class_names)))
    weight[inferred] = posterior[inferred] if len(posterior) else router.prior
    weight[code == _UNKNOWN] = np.nan
    known = np.flatnonzero(code >= 0)
    weight[known, code[known]] = 1.0
    return weight


def _estimate(router: Router, features: FloatArray, weight: FloatArray) -> Estimate:
    """Returns what is believed of each answer, from features (n, F) and class weights (n, C)."""
    quality = weight @ believed(router.means.mean, router.means.fleet, router.trust)
    unknown = np.isnan(quality)
    if unknown.any():
        quality = np.where(unknown, router.means.fleet, quality)
    if router.contrast is not None:
        share = (weight @ (router.trust == PER_PROMPT))[:, None]
        moved = quality + share * adjust(router.contrast, features)
        moved = np.minimum(np.maximum(moved, LEAST_QUALITY), MOST_QUALITY)
        quality = np.where(share > 0.0, moved, quality)
    if router.lengths is not None:
        return Estimate(quality, predict(router.lengths, features, weight))
    tokens = weight @ router.class_tokens
    return Estimate(quality, np.where(unknown, router.fleet_tokens, tokens))
