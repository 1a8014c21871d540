"""Which prompts are held out together: folds by hash of what a prompt says.

A group (a prompt with all its duplicates) has one class, the first by name of those it was given,
and a 64-bit hash of its text (or id) with the seed. Within a class, groups are dealt to the folds
in order of their hashes, starting at a fold that the class's name chooses; so the fold sizes of a
class differ by at most one group, small classes do not all start with fold 0, and neither the
order of rows, nor their scores, nor other classes can move a prompt.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from planner.quality.scores import Scores, group_key
from planner.spec.arrays import IntArray


def fold_of(scores: Scores, n_folds: int = 5, seed: int = 0) -> IntArray:
    """Returns the fold of each prompt, (N,), 0 to n_folds - 1; the same for duplicates."""
    _, first, member = np.unique(scores.group, return_index=True, return_inverse=True)
    by_name = np.argsort(np.argsort(scores.class_names))  # rank of a class's name
    rank = np.full(first.size, scores.n_classes, dtype=np.int64)
    np.minimum.at(rank, member, by_name[scores.class_code])
    digest = np.array([_hash(_key(scores, int(i)), seed) for i in first], dtype=np.uint64)
    order = np.lexsort((digest, rank))
    starts = np.array([_hash(name, seed) % n_folds for name in sorted(scores.class_names)])
    n_before = np.searchsorted(rank[order], rank[order])  # groups of earlier classes
    fold = np.empty(first.size, dtype=np.int64)
    fold[order] = (np.arange(first.size) - n_before + starts[rank[order]]) % n_folds
    return fold[member]


def _key(scores: Scores, row: int) -> str:
    return group_key(scores.prompt_ids[row], "" if scores.text is None else scores.text[row])


def _hash(key: str, seed: int) -> int:
    """Returns 64 bits that depend on the key and the seed only, on every machine."""
    data = key.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8, salt=seed.to_bytes(16, "big")).digest())
