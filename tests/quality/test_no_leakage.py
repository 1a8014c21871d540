"""No label is known before it is judged: not by chance, not by a duplicate, not by itself."""

from dataclasses import replace

import numpy as np
import pytest

from planner.quality.curve import Outcome, interval_of, measure, resamples_of, yardstick_of
from planner.quality.folds import fold_of
from planner.quality.scores import Scores, make_scores
from planner.quality.train import cross_fit

MEANS = np.array([[0.3, 0.5, 0.8], [0.6, 0.7, 0.75], [0.2, 0.7, 0.6]])
WORDS = (
    "prove that the sum of all terms is even",
    "write python code def function import",
    "translate this letter to French please",
)
COST = np.array([1.0, 4.0, 15.0])


def made(n_prompts: int, seed: int = 0, n_copies: int = 1) -> Scores:
    """Three classes, three models; the more digits in a prompt, the more the small model fails."""
    random = np.random.default_rng(seed)
    code = random.integers(0, 3, n_prompts)
    digits = random.integers(0, 8, n_prompts)
    truth = MEANS[code].copy()
    truth[:, 0] += 0.06 * (3.5 - digits)
    score = (random.random(truth.shape) < truth).astype(float)
    tokens = random.lognormal(4.0, 0.5, truth.shape) * (1.0 + digits[:, None])
    text = [
        f"{WORDS[c]} {' '.join('7' * k)} {chr(97 + i % 26)}{chr(97 + i // 26)}"
        for i, (c, k) in enumerate(zip(code, digits, strict=True))
    ]
    rows = np.repeat(np.arange(n_prompts), n_copies)
    return make_scores(
        ("math", "code", "text"),
        ("s", "m", "l"),
        code[rows],
        score[rows],
        output_tokens=tokens[rows],
        text=[text[i] for i in rows],
    )


def changed_at(scores: Scores, rows: np.ndarray) -> Scores:
    """The same with other results in some rows."""
    score, tokens = scores.score.copy(), scores.output_tokens.copy()
    score[rows] = 1.0 - score[rows]
    tokens[rows] *= 50.0
    return replace(scores, score=score, output_tokens=tokens)


def believed(scores: Scores) -> dict[str, np.ndarray]:
    found = cross_fit(scores)
    names = ("class_quality", "prompt_quality", "output_tokens", "class_tokens")
    names += ("class_posterior", "inferred_quality", "inferred_tokens")
    return {name: getattr(found, name) for name in names}


def test_what_happened_on_a_prompt_does_not_move_what_is_believed_of_it():
    scores = made(240)
    plain = believed(scores)
    for row in (0, 100, 239):
        after = believed(changed_at(scores, np.array([row])))
        for name, values in plain.items():
            np.testing.assert_array_equal(values[row], after[name][row], err_msg=name)
        moved = [n for n, values in plain.items() if (values != after[n]).any()]
        assert {"class_quality", "output_tokens", "class_tokens"} <= set(moved)


def test_nor_does_what_happened_on_its_duplicates():
    scores = made(120, n_copies=2)
    fold = fold_of(scores)
    np.testing.assert_array_equal(fold[::2], fold[1::2])
    plain = believed(scores)
    twin = 61  # a copy of row 60
    after = believed(changed_at(scores, np.array([twin])))
    for name, values in plain.items():
        np.testing.assert_array_equal(values[twin - 1], after[name][twin - 1], err_msg=name)


def test_duplicates_never_straddle_folds():
    random = np.random.default_rng(3)
    text = [f"prompt {i}" for i in random.integers(0, 80, 400)]
    text = [t.upper() if i % 3 else f"  {t} " for i, t in enumerate(text)]
    scores = make_scores(
        ("a", "b"), ("s", "l"), random.integers(0, 2, 400), random.random((400, 2)), text=text
    )
    fold = fold_of(scores)
    for group in np.unique(scores.group):
        assert np.unique(fold[scores.group == group]).size == 1
    assert np.unique(scores.group).size == np.unique([t.strip().lower() for t in text]).size
    found = cross_fit(scores)
    np.testing.assert_array_equal(found.fold, fold)


def gains_of_random_labels(n_permutations: int, n_prompts: int) -> tuple[float, np.ndarray]:
    """How often per-prompt terms look proven, and the mean gains by class and prompt, in points."""
    scores = made(n_prompts, seed=1)
    cost = np.tile(COST, (n_prompts, 1))
    random = np.random.default_rng(2)
    n_passed, gains = 0, []
    for _ in range(n_permutations):
        lucky = replace(scores, score=scores.score[random.permutation(n_prompts)])
        found = cross_fit(lucky, with_inference=False)
        outcome = Outcome(lucky.score, cost, np.ones(n_prompts))
        yardstick = yardstick_of(outcome, resamples_of(lucky.group, 200), found.fold)
        by_class = measure(found.class_quality, cost, yardstick).quality
        terms = measure(found.prompt_quality, cost, yardstick).quality - by_class
        n_passed += interval_of(terms).low > 0.0
        gains.append((by_class[0] - yardstick.hull_quality[0], terms[0]))
    return n_passed / n_permutations, 100.0 * np.mean(gains, axis=0)


def test_random_labels_show_no_gain():
    share, gains = gains_of_random_labels(6, 960)
    assert share == 0.0
    assert (gains < 0.5).all()


@pytest.mark.slow
def test_random_labels_show_no_gain_in_200_permutations():
    share, gains = gains_of_random_labels(200, 960)
    assert share <= 0.05
    assert (gains < 0.05).all()


def test_true_labels_do_show_one():
    """The test above can see a gain where there is one."""
    scores = made(1200, seed=1)
    found = cross_fit(scores)
    cost = np.tile(COST, (1200, 1))
    outcome = Outcome(scores.score, cost, np.ones(1200))
    yardstick = yardstick_of(outcome, resamples_of(scores.group, 200), found.fold)
    by_class = measure(found.class_quality, cost, yardstick).quality
    by_prompt = measure(found.prompt_quality, cost, yardstick).quality
    assert interval_of(by_class - yardstick.hull_quality).low > 0.0
    assert interval_of(by_prompt - by_class).low > 0.0
