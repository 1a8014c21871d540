"""Fewest equal bins for items of a few kinds: by patterns, each a set of items that fit together.

Notation
    K      kinds of items                                        count
    r_k    items of kind k that are left                         count           (K,)
    a      a pattern: items of each kind in one bin              count           (K,)

Program
    f(0) = 0,   f(r) = 1 + min f(max(r - a, 0))   over maximal patterns a with a_first > 0

where `first` is the first kind that is left: one of its items lies in some bin, and filling that
bin up as far as it goes never costs one more. The recursion is exact; it is cut off after a number
of steps, never by the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Pattern = tuple[int, ...]
Fits = Callable[[Pattern], bool]

MOST_STEPS = 200_000  # patterns tried
MOST_PATTERNS = 2_000
MOST_BINS = 300  # the recursion is as deep as there are bins


def maximal_patterns(most: Sequence[int], fits: Fits) -> tuple[Pattern, ...] | None:
    """Returns all patterns that fit and to which nothing can be added; None: too many.

    Args:
        most: the most items of each kind that a pattern may hold, (K,).
        fits: whether items fit together; what fits still does with fewer items.
    """
    found: list[Pattern] = []
    n_tried = 0

    def extend(pattern: Pattern) -> bool:
        nonlocal n_tried
        k = len(pattern)
        if k == len(most):
            n_tried += 1
            if _is_maximal(pattern, most, fits):
                found.append(pattern)
            return len(found) <= MOST_PATTERNS and n_tried <= MOST_STEPS
        rest = (0,) * (len(most) - k - 1)
        for n in range(most[k], -1, -1):
            if fits((*pattern, n, *rest)) and not extend((*pattern, n)):
                return False
        return True

    return tuple(found) if extend(()) else None


def _is_maximal(pattern: Pattern, most: Sequence[int], fits: Fits) -> bool:
    for k, n in enumerate(pattern):
        more = (*pattern[:k], n + 1, *pattern[k + 1 :])
        if n < most[k] and fits(more):
            return False
    return any(pattern)


def fewest_bins(
    items: Pattern, patterns: Sequence[Pattern], at_most: int
) -> tuple[Pattern, ...] | None:
    """Returns the patterns of as few bins as can hold all items; None: more than at_most.

    None as well where the search was cut off before it found any.

    Args:
        items: of each kind, (K,).
        patterns: all maximal ones.
        at_most: bins that there are.
    """
    search = _Search(patterns)
    best: tuple[Pattern, ...] | None = None
    for n_bins in range(_least(items, patterns), min(at_most, MOST_BINS) + 1):
        best = search.within(items, n_bins)
        if best is not None or search.steps > MOST_STEPS:
            break
    return best


def _least(items: Pattern, patterns: Sequence[Pattern]) -> int:
    """Returns the bins that the worst kind needs by itself; beyond any number where none fits."""
    need = 0
    for k, n in enumerate(items):
        each = max((a[k] for a in patterns), default=0)
        if n and not each:
            return 10**9
        need = max(need, -(-n // each) if each else 0)
    return need


class _Search:
    """Whether items fit into a number of bins, remembering what did not."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.steps = 0
        self._patterns = patterns
        self._hopeless: dict[Pattern, int] = {}  # items: the most bins that were not enough

    def within(self, items: Pattern, n_bins: int) -> tuple[Pattern, ...] | None:
        """Returns patterns of at most n_bins bins for all items, None where there are none."""
        first = next((k for k, n in enumerate(items) if n), None)
        if first is None:
            return ()
        if n_bins < _least(items, self._patterns) or self._hopeless.get(items, -1) >= n_bins:
            return None
        if self.steps > MOST_STEPS:
            return None
        self.steps += len(self._patterns)
        usable = {
            tuple(min(n, a) for n, a in zip(items, pattern, strict=True))
            for pattern in self._patterns
            if pattern[first]
        }
        for taken in sorted(usable, key=lambda a: (-sum(a), tuple(-n for n in a))):
            left = tuple(n - a for n, a in zip(items, taken, strict=True))
            rest = self.within(left, n_bins - 1)
            if rest is not None:
                return (taken, *rest)
        if self.steps <= MOST_STEPS:
            self._hopeless[items] = max(self._hopeless.get(items, -1), n_bins)
        return None
