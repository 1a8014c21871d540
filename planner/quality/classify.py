"""Class inference for traffic that does not say its class: naive Bayes on hashed words.

Notation
    n, c, b    text, class, bucket      C, B   numbers of classes and of buckets
    k_cb       training texts of class c in which bucket b occurs; k_c = sum_b k_cb
    l_bc = ln (k_cb + s) / (k_c + s B)        log-likelihood with smoothing s
    S_nc = sum of l_bc over the K_n buckets of text n
    posterior_nc ~ exp(ln prior_c + S_nc / (T sqrt(K_n)))

Words are not independent, so S is too sure of itself, and the more so the longer the text; the
root of K and the temperature T tame it. T and s are what makes the log loss on held-out folds
smallest. Traffic has its own mix of classes: its prior may replace that of the training texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.quality.hashing import buckets_of
from planner.quality.words import Words, read_words
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.router import Float32Array, NaiveBayes

_LARGEST_BUCKETS = 1 << 14
_LARGEST_CELLS = 1 << 20  # float32: 4 MiB
_SMOOTHING = (0.03, 0.1, 0.3, 1.0, 3.0)
_TEMPERATURES = np.geomspace(0.1, 100.0, 31)
_MODERATE = (0.3, 1.0)  # smoothing and temperature where nothing can be held out
_FEWEST_TUNED, _MOST_TUNED = 1000, 4000  # held-out texts, enough to choose two numbers by


def posterior(
    bayes: NaiveBayes, texts: Sequence[str], log_prior: FloatArray | None = None
) -> FloatArray:
    """Returns the probability of each class, (n, C), rows summing to 1.

    Args:
        bayes: the trained classifier.
        texts: n prompts.
        log_prior: (C,) of the traffic's own mix of classes, instead of the training texts'.
    """
    blocks = [posterior_of(bayes, words, log_prior) for words in read_words(texts)]
    return np.concatenate(blocks) if blocks else np.zeros((0, bayes.log_prior.size))


def posterior_of(
    bayes: NaiveBayes, words: Words, log_prior: FloatArray | None = None
) -> FloatArray:
    """Returns the probability of each class for a block of texts, (n, C)."""
    support = _support(bayes.log_likelihood, *buckets_of(words, bayes.log_likelihood.shape[0]))
    prior = bayes.log_prior if log_prior is None else log_prior
    return np.exp(_log_softmax(prior + support / bayes.temperature))


def train_naive_bayes(
    texts: Sequence[str], class_code: IntArray, n_classes: int, fold: IntArray
) -> NaiveBayes:
    """Returns a classifier of texts; smoothing and temperature are chosen on held-out folds.

    Args:
        texts: N prompts.
        class_code: (N,) their classes, 0..n_classes-1.
        n_classes: C.
        fold: (N,) numbers that duplicates share; with a single fold nothing can be held out, and
            moderate values are used.
    """
    corpus = _read_corpus(texts, _n_buckets(n_classes))
    counts = _counts(corpus, np.arange(fold.size), class_code, n_classes)
    log_prior = _log_shares(class_code, n_classes)
    smoothing, temperature = _tuned(corpus, class_code, fold, counts, log_prior)
    return NaiveBayes(_log_likelihood(counts, smoothing), log_prior, temperature)


@dataclass(frozen=True)
class _Corpus:
    """Training texts as their buckets, two bytes each."""

    bucket: npt.NDArray[np.uint16]  # (K,)
    first: IntArray  # (N + 1,) where each text's buckets begin, and the end
    n_buckets: int

    def buckets_of(self, texts: IntArray) -> tuple[npt.NDArray[np.uint16], IntArray]:
        """Returns the buckets of some texts and where each text's begin, (n + 1,)."""
        size = self.first[texts + 1] - self.first[texts]
        first = np.append(0, np.cumsum(size))
        place = np.arange(first[-1]) + np.repeat(self.first[texts] - first[:-1], size)
        return self.bucket[place], first


def _n_buckets(n_classes: int) -> int:
    """Returns how many buckets fit: a power of two, so that all classes take at most 4 MiB."""
    return min(_LARGEST_BUCKETS, 1 << (_LARGEST_CELLS // max(n_classes, 1)).bit_length() - 1)


def _read_corpus(texts: Sequence[str], n_buckets: int) -> _Corpus:
    """Returns texts as buckets."""
    buckets, firsts, n_read = [np.zeros(0, np.uint16)], [np.zeros(0, np.int64)], 0
    for words in read_words(texts):
        bucket, first = buckets_of(words, n_buckets)
        buckets.append(bucket.astype(np.uint16))
        firsts.append(first[:-1] + n_read)
        n_read += bucket.size
    return _Corpus(np.concatenate(buckets), np.append(np.concatenate(firsts), n_read), n_buckets)


def _counts(corpus: _Corpus, texts: IntArray, class_code: IntArray, n_classes: int) -> FloatArray:
    """Returns in how many of the given texts of each class each bucket occurs, (B, C)."""
    bucket, first = corpus.buckets_of(texts)
    code = np.repeat(class_code[texts], np.diff(first))
    flat = np.bincount(
        code + n_classes * bucket.astype(np.int64), None, corpus.n_buckets * n_classes
    )
    return flat.reshape(corpus.n_buckets, n_classes).astype(np.float64)


def _log_shares(class_code: IntArray, n_classes: int) -> FloatArray:
    """Returns the log of each class's share, (C,); a class without texts counts 1/C of one."""
    count = np.bincount(class_code, minlength=n_classes) + 1.0 / n_classes
    log_share: FloatArray = np.log(count / count.sum())
    return log_share


def _log_likelihood(counts: FloatArray, smoothing: float) -> Float32Array:
    """Returns ln((k_cb + s) / (k_c + s B)), (B, C).

    A class without texts gets the smallest of the others': words that nobody used must not speak
    for the class of which least is known.
    """
    smoothed = counts + smoothing
    result: Float32Array = np.log(smoothed / smoothed.sum(axis=0)).astype(np.float32)
    known = counts.any(axis=0)
    if not known.any():  # no text at all: no word speaks for any class
        return result
    result[:, ~known] = result[:, known].min(axis=1, keepdims=True)
    return result


def _tuned(
    corpus: _Corpus,
    class_code: IntArray,
    fold: IntArray,
    counts: FloatArray,
    log_prior: FloatArray,
) -> tuple[float, float]:
    """Returns the smoothing and the temperature of the smallest log loss on held-out folds."""
    names = np.unique(fold)
    if names.size < 2:
        return _MODERATE
    n_tuned = min(fold.size, max(_FEWEST_TUNED, _MOST_TUNED * 16 // counts.shape[1]), _MOST_TUNED)
    tuned = np.arange(n_tuned) * fold.size // n_tuned
    loss = np.zeros((len(_SMOOTHING), _TEMPERATURES.size))
    for name in names:
        texts = tuned[fold[tuned] == name]
        if not texts.size:
            continue
        others = counts - _counts(corpus, np.flatnonzero(fold == name), class_code, counts.shape[1])
        bucket, first = corpus.buckets_of(texts)
        for i, smoothing in enumerate(_SMOOTHING):
            support = _support(_log_likelihood(others, smoothing), bucket, first)
            loss[i] += _log_losses(support, class_code[texts], log_prior)
    best = np.unravel_index(int(loss.argmin()), loss.shape)
    return _SMOOTHING[int(best[0])], float(_TEMPERATURES[int(best[1])])


def _log_losses(support: FloatArray, class_code: IntArray, log_prior: FloatArray) -> FloatArray:
    """Returns the summed log loss at every temperature, (T,)."""
    rows = np.arange(class_code.size)
    return np.array(
        [
            -_log_softmax(log_prior + support / temperature)[rows, class_code].sum()
            for temperature in _TEMPERATURES
        ]
    )


def _support(
    log_likelihood: Float32Array, bucket: npt.NDArray[np.integer], first: IntArray
) -> FloatArray:
    """Returns S_nc / sqrt(K_n) of texts whose buckets begin at `first`, (n, C)."""
    summed = np.add.reduceat(log_likelihood.take(bucket, axis=0), first[:-1])
    support: FloatArray = summed / np.sqrt(first[1:] - first[:-1])[:, None]
    return support


def _log_softmax(logit: FloatArray) -> FloatArray:
    """Returns logits (n, C) shifted so that their exponentials sum to 1 in each row."""
    below: FloatArray = logit - logit.max(axis=1, keepdims=True)
    below -= np.log(np.exp(below).sum(axis=1, keepdims=True))
    return below
