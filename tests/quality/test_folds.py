"""Folds: duplicates together, even within classes, and moved by nothing but what a prompt says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.quality.folds import fold_of
from planner.quality.scores import Scores, make_scores


def drawn(seed: int, n: int, n_classes: int, n_texts: int) -> Scores:
    random = np.random.default_rng(seed)
    texts = [f"prompt {i}" for i in random.integers(0, n_texts, n)]
    names = [f"class {c}" for c in range(n_classes)]
    code = random.integers(0, n_classes, n)
    return make_scores(names, ["m"], code, random.random((n, 1)), text=texts)


@given(st.integers(0, 2**20), st.integers(1, 60), st.integers(1, 4), st.integers(2, 6))
def test_duplicates_share_a_fold_and_the_order_of_rows_does_not_matter(
    seed: int, n: int, n_classes: int, n_folds: int
) -> None:
    scores = drawn(seed, n, n_classes, 30)
    fold = fold_of(scores, n_folds, seed=1)
    assert fold.min() >= 0 and fold.max() < n_folds
    for group in np.unique(scores.group):
        assert len(set(fold[scores.group == group])) == 1
    rows = np.random.default_rng(seed).permutation(n)
    assert np.array_equal(fold_of(scores.take(rows), n_folds, seed=1), fold[rows])


@pytest.mark.parametrize("n_classes", [1, 3, 40])
def test_the_folds_of_a_class_differ_by_one_prompt_at_most(n_classes: int) -> None:
    random = np.random.default_rng(n_classes)
    code = random.integers(0, n_classes, 300)
    names = [f"class {c}" for c in range(n_classes)]
    fold = fold_of(make_scores(names, ["m"], code, np.zeros((300, 1))), 5)
    for c in range(n_classes):
        sizes = np.bincount(fold[code == c], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    whole = np.bincount(fold, minlength=5)
    assert whole.min() > 0.6 * 300 / 5  # small classes do not all begin with the same fold


def test_labels_and_other_classes_move_no_prompt() -> None:
    scores = drawn(3, 200, 2, 10_000)
    other = make_scores(
        scores.class_names, ["m"], scores.class_code, 1 - scores.score, text=scores.text
    )
    assert np.array_equal(fold_of(other), fold_of(scores))
    mine = scores.class_code == 0
    assert np.array_equal(fold_of(scores.take(mine)), fold_of(scores)[mine])


def test_the_seed_moves_prompts() -> None:
    scores = drawn(4, 200, 2, 10_000)
    assert (fold_of(scores, seed=0) != fold_of(scores, seed=1)).mean() > 0.5


def test_the_folds_of_known_prompts_are_the_same_everywhere() -> None:
    texts = [f"What is {i} times {i}?" for i in range(12)]
    scores = make_scores(["math"], ["m"], np.zeros(12, int), np.zeros((12, 1)), text=texts)
    assert fold_of(scores, 3).tolist() == [0, 2, 1, 0, 1, 0, 2, 2, 0, 2, 1, 1]
