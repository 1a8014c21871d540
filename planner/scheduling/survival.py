"""How long answers may still become: from the lengths of those that have ended, no oracle.

Notation
    l       output length of a request                                     tokens
    a       age: output tokens that a request has so far, 0 <= a < l       tokens, (n,)
    h       horizon: steps after the next one; the request decodes there if l > a + h
    S(a)    P(l > a) = (1 + number of ended requests longer than a) / (1 + number of ended ones)

The 1 stands for one imagined request that never ends: it keeps S above 0, and before anything has
ended every request is expected to stay.

    alive(a, h)     = P(l > a + h | l > a) = S(a + h) / S(a)

The predictions of BalanceRoute for the next H steps are sums of these: it ends within them with
p_fin = 1 - alive(a, H), after mu_rem = E[l - a | a < l <= a + H] on average, and decodes in
(1 - p_fin) H + p_fin mu_rem = E[min(l - a, H) | l > a] = sum of alive(a, h) over h = 0 .. H-1.

What has ended is shorter than what has not: a short history is biased towards short answers, until
a few times the longest answer has passed.

Reference: BalanceRoute, arXiv 2605.06113 (p_fin, mu_rem, and the exact match of prompts).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from planner.spec.arrays import FloatArray, IntArray

REFRESH_RATIO = 0.05  # the table of S is made anew when so many more requests have ended


class Predictor(Protocol):
    """What a policy that looks ahead may ask about requests, known by age and key."""

    def alive(self, age_tokens: IntArray, horizons: IntArray, keys: IntArray) -> FloatArray:
        """Returns the probability that each still decodes at each horizon, (n, horizons)."""

    def observe(self, key: int, output_tokens: int) -> None:
        """Learns that a request has ended, and how long its answer was."""


class Survival:
    """Predicts by age alone, from all lengths seen; the keys are of no use to it."""

    def __init__(self, lengths: Iterable[int] = ()) -> None:
        self._counts = np.zeros(64, dtype=np.int64)  # by length
        self._n, self._n_tabled = 0, 0
        for length in lengths:
            self._count(length)
        self._tabulate()

    def alive(self, age_tokens: IntArray, horizons: IntArray, keys: IntArray) -> FloatArray:
        """Returns S(a + h) / S(a), (n, horizons)."""
        found = np.empty((len(horizons), len(age_tokens)))
        now = self._survival_at(age_tokens)
        for row, h in zip(found, horizons.tolist(), strict=True):  # faster than all in one
            np.divide(self._survival_at(age_tokens + h), now, out=row)
        return found.T

    def observe(self, key: int, output_tokens: int) -> None:
        """Learns the length of one more answer."""
        self._count(output_tokens)
        if self._n >= (1.0 + REFRESH_RATIO) * self._n_tabled:
            self._tabulate()

    def _count(self, length: int) -> None:
        if length >= self._counts.size:
            self._counts = np.pad(self._counts, (0, length))
        self._counts[length] += 1
        self._n += 1

    def _tabulate(self) -> None:
        """Makes the table of S from what was counted."""
        longer = self._n - np.cumsum(self._counts)
        self._survival: FloatArray = np.divide(1.0 + longer, 1.0 + self._n)
        self._n_tabled = self._n

    def _survival_at(self, age_tokens: IntArray) -> FloatArray:
        """Returns S at each age; it is constant behind the longest answer seen."""
        found: FloatArray = self._survival.take(age_tokens, mode="clip")
        return found


class ExactMatch:
    """Predicts from earlier answers to the very same prompt; else it asks another predictor.

    Fed with the true lengths in advance, each under a key of its own, it is the oracle.
    """

    def __init__(self, otherwise: Predictor) -> None:
        self._otherwise = otherwise
        self._lengths: dict[int, list[int]] = {}

    def alive(self, age_tokens: IntArray, horizons: IntArray, keys: IntArray) -> FloatArray:
        """Returns the share of longer earlier answers that reach each horizon, (n, horizons)."""
        found = self._otherwise.alive(age_tokens, horizons, keys)
        for i, rest in self._known(age_tokens, keys):
            found[i] = (rest[:, None] > horizons).mean(axis=0)
        return found

    def observe(self, key: int, output_tokens: int) -> None:
        """Learns the length of one more answer to a prompt."""
        self._lengths.setdefault(key, []).append(output_tokens)
        self._otherwise.observe(key, output_tokens)

    def _known(self, age_tokens: IntArray, keys: IntArray) -> Iterable[tuple[int, IntArray]]:
        """Yields (request, what longer earlier answers had left at its age) where there are any."""
        for i, (age, key) in enumerate(zip(age_tokens.tolist(), keys.tolist(), strict=True)):
            rest = [length - age for length in self._lengths.get(key, ()) if length > age]
            if rest:
                yield i, np.array(rest, dtype=np.int64)
