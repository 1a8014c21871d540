"""Cascades on data whose truth is known: what helps is found with its gain, noise is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.quality.cascade import LEVELS, CascadeOption, proven_cascades, upper_hull
from planner.quality.folds import fold_of
from planner.quality.scores import Scores, make_scores
from planner.spec.arrays import FloatArray

N_CLASSES = 2
USD_PER_TOKEN = np.tile([1.0, 30.0], (N_CLASSES, 1))
EASY_RATIO, EASY, HARD, SECOND = 0.6, 0.95, 0.1, 0.8
"""Share of easy prompts; mean score of the first model on easy and hard ones, of the second."""


def draw(seed: int, n: int = 900, *, informed: bool = True, price: float = 1.0) -> Scores:
    """Returns scores of two models; `sure` says of each answer whether the prompt was easy."""
    random = np.random.default_rng(seed)
    total = n * N_CLASSES
    easy = random.random(total) < EASY_RATIO
    chance = np.column_stack([np.where(easy, EASY, HARD), np.full(total, SECOND)])
    score = (random.random((total, 2)) < chance).astype(float)
    told = easy if informed else random.random(total) < EASY_RATIO
    sure = np.column_stack([told, told]) + 0.1 * random.standard_normal((total, 2))
    return make_scores(
        ["chat", "code"],
        ["small", "large"],
        np.repeat(np.arange(N_CLASSES), n),
        score,
        output_tokens=random.integers(50, 150, (total, 2)).astype(float),
        signals={"sure": sure},
        prompt_ids=[f"{seed}-{i}" for i in range(total)],
    )


def true_gain(escalated_ratio: float) -> float:
    """Returns the gain in points of escalating that share, hard prompts before easy ones."""
    hard = min(escalated_ratio, 1.0 - EASY_RATIO)
    easy = escalated_ratio - hard
    small = EASY_RATIO * EASY + (1.0 - EASY_RATIO) * HARD
    score = small + hard * (SECOND - HARD) + easy * (SECOND - EASY)
    share = (1.0 + 30.0 * escalated_ratio - 1.0) / 29.0  # of the large model at equal cost
    return 100.0 * (score - small - min(share, 1.0) * (SECOND - small))


def one_of(options: tuple[CascadeOption, ...], class_name: str) -> list[CascadeOption]:
    return [option for option in options if option.class_name == class_name]


def test_an_informative_signal_is_found_with_its_gain_and_what_it_costs() -> None:
    scores = draw(0)
    options = proven_cascades(scores, USD_PER_TOKEN)
    for class_name in scores.class_names:
        found = one_of(options, class_name)
        assert 1 <= len(found) <= 3
        assert {(o.first, o.second, o.signal) for o in found} == {("small", "large", "sure")}
        best = max(found, key=lambda o: o.gain)
        assert best.escalated_ratio == pytest.approx(1.0 - EASY_RATIO, abs=0.11)
        for option in found:
            assert option.gain_low < true_gain(option.escalated_ratio) < option.gain_high
            assert option.gain_low > 0.0
            assert option.quality_low < option.quality < option.quality_high
        ratios = sorted(option.escalated_ratio for option in found)
        assert (np.diff(ratios) >= 0.08).all()


def test_the_lengths_are_those_of_the_prompts_that_are_sent_on() -> None:
    """Hard prompts are long here: an average prompt would tell the second model's load wrong."""
    scores = draw(1)
    hard = scores.signals["sure"][:, 0] < 0.5
    tokens = scores.output_tokens + 400.0 * hard[:, None]
    inputs = np.where(hard, 100.0, 10.0)
    scores = replace(scores, output_tokens=tokens, input_tokens=inputs)
    # Length tells as much as `sure` now; both may be chosen.
    for option in proven_cascades(scores, USD_PER_TOKEN):
        n = option.first_input_tokens.size
        assert n == option.first_output_tokens.size == 900
        n_sent = option.second_input_tokens.size
        assert n_sent == option.second_output_tokens.size == round(n * option.escalated_ratio)
        if option.escalated_ratio < 0.4:
            assert (option.second_input_tokens == 100.0).mean() > 0.97
            assert option.second_output_tokens.mean() > option.first_output_tokens.mean() + 200.0


def test_a_threshold_splits_the_prompts_as_the_option_says() -> None:
    scores = draw(2)
    for option in proven_cascades(scores, USD_PER_TOKEN):
        here = scores.class_code == scores.class_names.index(option.class_name)
        signal = scores.signals[option.signal][here, 0]
        assert (signal < option.below).mean() == pytest.approx(option.escalated_ratio, abs=0.02)


def noise(seed: int, n: int = 120) -> tuple[Scores, FloatArray]:
    """Returns signals that say nothing, and first answers that cost nothing: gains of zero."""
    random = np.random.default_rng(seed)
    score = (random.random((3 * n, 3)) < [0.4, 0.6, 0.8]).astype(float)
    scores = make_scores(
        ["a", "b", "c"],
        ["s", "m", "l"],
        np.repeat(np.arange(3), n),
        score,
        output_tokens=random.lognormal(5.0, 1.0, score.shape),
        signals={"noise": random.standard_normal(score.shape)},
        prompt_ids=[f"{seed}-{i}" for i in range(3 * n)],
    )
    return scores, np.tile([1e-6, 1e-3, 1.0], (3, 1))


@pytest.mark.parametrize("n", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_noise_is_rarely_taken_for_a_cascade(n: int) -> None:
    alarms = [len(proven_cascades(*noise(seed))) > 0 for seed in range(n)]
    assert sum(alarms) <= 0.05 * n


def test_a_signal_that_tells_the_truth_about_other_prompts_is_noise() -> None:
    options = proven_cascades(draw(3, informed=False), USD_PER_TOKEN)
    assert options == ()


def test_ties_make_one_threshold_and_constants_none() -> None:
    scores = draw(4)
    answered = (scores.signals["sure"] > 0.5).astype(float)
    constant = np.ones_like(answered)
    scores = replace(
        scores, signals={"answered": answered, "constant": constant}, output_tokens=constant
    )
    options = proven_cascades(scores, USD_PER_TOKEN)
    assert [(o.class_name, o.signal, o.below) for o in options] == [
        ("chat", "answered", 1.0),
        ("code", "answered", 1.0),
    ]


def test_thresholds_come_from_other_folds() -> None:
    """Whatever a fold's own signals are, who of it is escalated follows from the other folds."""
    scores = draw(5, n=400)
    fold = fold_of(scores)
    low = np.where(fold == 2, -100.0, 0.0)[:, None]
    shifted = replace(scores, signals={"sure": scores.signals["sure"] + low})
    options = proven_cascades(shifted, USD_PER_TOKEN)
    # Where fold 2 helps to set its own threshold, others take the places of its prompts.
    assert options
    for option in options:
        here = scores.class_code == scores.class_names.index(option.class_name)
        signal, of_fold = shifted.signals[option.signal][here, 0], fold[here]
        share = (signal < option.below).mean()
        level = min(LEVELS, key=lambda each: abs(each - share))
        n_escalated = 0
        for k in range(5):
            others = np.sort(signal[of_fold != k])
            threshold = others[int(np.ceil(level * others.size))]
            n_escalated += int((signal[of_fold == k] < threshold).sum())
        assert option.second_input_tokens.size == n_escalated != round(400 * level)


def test_prompts_without_a_score_or_a_signal_are_left_out() -> None:
    scores = draw(6)
    random = np.random.default_rng(0)
    score, sure = scores.score.copy(), scores.signals["sure"].copy()
    score[random.random(score.shape) < 0.1] = np.nan
    sure[random.random(sure.shape) < 0.1] = np.nan
    holey = replace(
        scores, score=score, signals={"sure": sure}, output_tokens=scores.output_tokens + 0 * score
    )
    complete = ~np.isnan(score).any(axis=1) & ~np.isnan(sure[:, 0])
    options = proven_cascades(holey, USD_PER_TOKEN)
    for c, class_name in enumerate(scores.class_names):
        found = one_of(options, class_name)
        assert found
        n_usable = int((complete & (scores.class_code == c)).sum())
        for option in found:
            assert option.first_input_tokens.size == n_usable
            assert option.gain_low < true_gain(option.escalated_ratio) < option.gain_high
            assert not np.isnan(option.second_output_tokens).any()


def test_models_scored_on_easier_prompts_are_mixed_as_if_on_all() -> None:
    """The third model is no better than the first, but seen on easy prompts only it looks best."""
    random = np.random.default_rng(7)
    n = 900
    easy = random.random(n) < 0.5
    chance = np.array([0.45, 0.75, 0.45]) + np.where(easy, 0.2, -0.2)[:, None]
    score = (random.random((n, 3)) < chance).astype(float)
    sure = score + 0.4 * random.standard_normal((n, 3))
    score[~easy, 2] = np.nan
    scores = make_scores(
        ["chat"], ["small", "large", "third"], np.zeros(n, int), score, signals={"sure": sure}
    )
    options = proven_cascades(scores, np.array([[1.0, 30.0, 3.0]]))
    assert {(option.first, option.second) for option in options} == {("small", "large")}
    # By the raw means (0.65 at 3) mixing third and large reaches 3 points more than it can.
    plain = proven_cascades(
        replace(
            scores, score=np.where(np.isnan(score), 0.65, score), output_tokens=np.ones((n, 3))
        ),
        np.array([[1.0, 30.0, 3.0]]),
    )
    assert max(o.gain for o in options) > max(o.gain for o in plain) + 1.0


def test_means_of_several_answers_do_not_speak_for_one() -> None:
    scores = draw(0)
    first_of_chat = (np.arange(scores.n_prompts) < 900)[:, None] & np.array([True, False])
    several = replace(scores, n_samples=np.where(first_of_chat, 5, 1))
    assert {o.class_name for o in proven_cascades(scores, USD_PER_TOKEN)} == {"chat", "code"}
    assert {o.class_name for o in proven_cascades(several, USD_PER_TOKEN)} == {"code"}


def test_too_few_prompts_prove_nothing() -> None:
    assert proven_cascades(draw(8, n=99), USD_PER_TOKEN) == ()


def test_the_same_data_in_another_order_give_the_same_cascades() -> None:
    scores = draw(9, n=300)
    shuffled = scores.take(np.random.default_rng(0).permutation(scores.n_prompts))
    one, other = (proven_cascades(each, USD_PER_TOKEN) for each in (scores, shuffled))
    assert [(o.below, o.escalated_ratio, o.first, o.second) for o in one] == [
        (o.below, o.escalated_ratio, o.first, o.second) for o in other
    ]
    assert [o.gain for o in one] == pytest.approx([o.gain for o in other])


def test_duplicates_do_not_make_a_gain_more_certain() -> None:
    scores = draw(10, n=300)
    twice = scores.take(np.repeat(np.arange(scores.n_prompts), 3))
    one, other = (proven_cascades(each, USD_PER_TOKEN) for each in (scores, twice))
    assert [(o.below, o.escalated_ratio) for o in one] == [
        (o.below, o.escalated_ratio) for o in other
    ]
    assert [o.gain_low for o in other] == pytest.approx([o.gain_low for o in one], rel=1e-6)


def test_the_hull_is_concave_and_leaves_out_what_mixing_beats() -> None:
    cost = np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])
    score = np.array([0.2, 0.3, 0.6, 0.5, 0.7, np.nan])
    assert upper_hull(cost, score) == [0, 2, 4]
    assert upper_hull(np.array([1.0, 1.0, 2.0]), np.array([0.3, 0.4, 0.2])) == [1]
