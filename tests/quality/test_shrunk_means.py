"""Shrunk class means on made scores whose true means are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from planner.quality.scores import Scores, make_scores
from planner.quality.shrink import LEAST_STRENGTH, fair_means, shrunk_means, wilson

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def binary(random: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return (random.random(p.shape) < p).astype(np.float64)


def graded(random: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return random.beta(6.0 * p, 6.0 * (1.0 - p))


def zero_inflated(random: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Nothing at all, or a good answer of 0.8 on average."""
    return np.where(random.random(p.shape) < p / 0.8, random.beta(8.0, 2.0, p.shape), 0.0)


def truth(random: np.random.Generator, n_classes: int, n_models: int) -> np.ndarray:
    """Returns true means: of a class, of a model, and of both together."""
    effects = 0.1 * random.normal(size=(n_classes, 1)) + 0.06 * random.normal(size=n_models)
    own = 0.06 * random.normal(size=(n_classes, n_models))
    return np.clip(0.4 + effects + own, 0.16, 0.64)


def draw_scores(
    random: np.random.Generator, mean: np.ndarray, n: int, draw: Draw, swing: float = 0.15
) -> Scores:
    """Returns n prompts a class, half of them easier for every model by swing, half harder."""
    code = np.repeat(np.arange(len(mean)), n)
    hard = np.where(random.random((code.size, 1)) < 0.5, swing, -swing)
    return named(code, draw(random, mean[code] + hard), len(mean))


def named(code: np.ndarray, score: np.ndarray, n_classes: int, **more: object) -> Scores:
    models = [f"m{m}" for m in range(score.shape[1])]
    return make_scores([f"c{c}" for c in range(n_classes)], models, code, score, **more)


@pytest.mark.parametrize(("n", "n_draws"), [(30, 60), (100, 50), (1000, 20)])
@pytest.mark.parametrize("draw", [binary, graded, zero_inflated])
def test_intervals_hold_the_true_mean_in_95_of_100_cases(n: int, n_draws: int, draw: Draw) -> None:
    random = np.random.default_rng(n)
    inside = []
    for _ in range(n_draws):
        mean = truth(random, 6, 4)
        found = shrunk_means(draw_scores(random, mean, n, draw))
        inside.append((found.low <= mean) & (mean <= found.high))
    assert 0.92 <= np.mean(inside) <= 0.98


def test_intervals_of_cells_without_scores_hold_the_true_mean_too() -> None:
    random = np.random.default_rng(4)
    inside = []
    for _ in range(50):
        mean = truth(random, 8, 5)
        scores = draw_scores(random, mean, 60, binary)
        gone = random.random(mean.shape) < 0.2
        scores.score[gone[scores.class_code]] = np.nan
        found = shrunk_means(scores)
        assert np.isnan(found.raw[gone]).all() and not found.n_prompts[gone].any()
        inside += ((found.low <= mean) & (mean <= found.high))[gone].tolist()
    assert 0.92 <= np.mean(inside) <= 0.995


@pytest.mark.parametrize("draw", [binary, zero_inflated])
def test_few_scores_when_shrunk_are_nearer_to_the_truth_and_their_best_is_less_luck(
    draw: Draw,
) -> None:
    random = np.random.default_rng(7)
    error, luck = [], []
    for _ in range(40):
        mean = truth(random, 12, 6)
        found = shrunk_means(draw_scores(random, mean, 20, draw))
        rows = np.arange(12)
        for believed in (found.raw, found.mean):
            best = believed.argmax(axis=1)
            error.append(((believed - mean) ** 2).mean())
            luck.append((believed[rows, best] - mean[rows, best]).mean())
    raw_error, shrunk_error = np.mean(error[::2]), np.mean(error[1::2])
    raw_luck, shrunk_luck = np.mean(luck[::2]), np.mean(luck[1::2])
    assert shrunk_error < 0.8 * raw_error
    assert raw_luck > 0.05
    assert shrunk_luck < 0.35 * raw_luck


def test_models_scored_on_different_prompts_are_compared_fairly() -> None:
    """The strong model got the hard prompts, the weak one the easy ones, two others all."""
    random = np.random.default_rng(11)
    n, mean = 600, np.array([[0.60, 0.50, 0.55, 0.45]])
    ease = random.uniform(-0.35, 0.35, (n, 1))
    score = binary(random, mean + ease)
    score[(ease > 0.1).ravel(), 0] = np.nan
    score[(ease < -0.1).ravel(), 1] = np.nan
    found = shrunk_means(named(np.zeros(n, dtype=np.int64), score, 1))
    assert found.raw[0, 0] < found.raw[0, 1]
    assert found.mean[0, 0] > found.mean[0, 1]


def test_hard_prompts_for_one_model_do_not_lower_what_is_believed_of_it() -> None:
    random = np.random.default_rng(12)
    easy, hard = random.uniform(0.4, 0.6, (300, 3)), random.uniform(0.0, 0.2, (100, 3))
    hard[:50, 1:] = np.nan  # every prompt of the class counts, also for those not asked
    found = shrunk_means(named(np.zeros(400, dtype=np.int64), np.vstack([easy, hard]), 1))
    assert (found.raw[0, 1:] > 0.43).all()
    assert found.mean[0] == pytest.approx(np.full(3, 0.4), abs=0.02)


def test_prompts_that_one_model_each_answered_count_as_fair_draws() -> None:
    random = np.random.default_rng(13)
    score = binary(random, np.full((3000, 3), 0.5))
    score[random.integers(0, 3, (3000, 1)) != np.arange(3)] = np.nan
    found = shrunk_means(named(np.zeros(3000, dtype=np.int64), score, 1))
    assert found.mean == pytest.approx(found.raw, abs=0.01)
    assert found.n_effective == pytest.approx(found.n_prompts, rel=0.1)


@given(st.integers(1, 5), st.integers(2, 30), st.floats(0.0, 0.95), st.integers(0, 2**31))
def test_complete_scores_have_their_plain_means(n_models: int, n: int, r: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    score, spread = random.random((n, n_models)), random.uniform(0.01, 0.5, n_models)
    found = fair_means(score, spread, np.ones(score.shape), r, 0.3)
    assert found.mean == pytest.approx(score.mean(axis=0), abs=1e-12)


def test_many_scores_are_hardly_shrunk() -> None:
    random = np.random.default_rng(1)
    found = shrunk_means(draw_scores(random, truth(random, 3, 4), 20_000, binary))
    assert found.mean == pytest.approx(found.raw, abs=2e-3)
    assert (found.n_effective > 20_000).all() and (found.n_effective < 25_000).all()


def test_a_prior_is_worth_at_least_five_answers_and_as_many_as_the_classes_agree() -> None:
    random = np.random.default_rng(2)
    mean = 0.5 + np.linspace(-0.2, 0.2, 10)[:, None] + np.linspace(-0.1, 0.1, 6)
    alike = shrunk_means(draw_scores(random, mean, 200, binary))
    torn = shrunk_means(draw_scores(random, random.uniform(0.2, 0.8, mean.shape), 200, binary))
    assert alike.strength > 50.0
    assert torn.strength < 12.0
    extreme = np.where(random.random((10, 6)) < 0.5, 0.02, 0.98)
    wild = shrunk_means(draw_scores(random, extreme, 200, binary, swing=0.0))
    assert wild.strength == pytest.approx(LEAST_STRENGTH)


def test_more_answers_to_the_same_prompts_tell_less_than_more_prompts() -> None:
    random = np.random.default_rng(3)
    n, n_classes, mean = 60, 10, np.full((10, 2), 0.5)
    code = np.repeat(np.arange(n_classes), n)
    chance = graded(random, mean[code])  # of each prompt and model
    width = {}
    for k in (1, 4, 64):
        score = random.binomial(k, chance) / k
        samples = np.full(score.shape, k)
        found = shrunk_means(named(code, score, n_classes, n_samples=samples))
        width[k] = (found.high - found.low).mean()
    assert width[64] < width[4] < width[1]
    exact = shrunk_means(named(code, chance, n_classes))
    assert width[64] == pytest.approx((exact.high - exact.low).mean(), rel=0.1)


def test_a_prompt_asked_often_counts_more_but_not_as_often_as_it_was_asked() -> None:
    score = np.array([[1.0]] * 10 + [[0.0]] * 10)
    often = np.array([[1000]] * 10 + [[1]] * 10)
    code = np.zeros(20, dtype=np.int64)
    plain = shrunk_means(named(code, score, 1)).mean[0, 0]
    weighted = shrunk_means(named(code, score, 1, n_samples=often)).mean[0, 0]
    assert plain == pytest.approx(0.5)
    assert 0.5 < weighted < 0.75


CODE = np.repeat([0, 1, 2], 30)
COINS = (np.random.default_rng(9).random((90, 3)) < [0.3, 0.5, 0.7]).astype(np.float64)
ONE_EACH = np.where(np.eye(90)[:, :3] > 0, COINS, np.nan)
APART = COINS.copy()
APART[:30, :2], APART[30:, 2] = np.nan, np.nan  # no prompt with scores of both groups


@pytest.mark.parametrize(
    ("score", "code"),
    [
        (np.ones((1, 1)), CODE[:1]),
        (np.zeros((1, 1)), CODE[:1]),
        (np.zeros((0, 2)), CODE[:0]),
        (np.full((4, 2), np.nan), CODE[:4]),
        (np.full((90, 3), 0.5), CODE),
        (np.ones((90, 3)), CODE),
        (np.zeros((90, 3)), CODE),
        (COINS[:, :1], CODE),
        (COINS[:30], CODE[:30]),
        (COINS[:3], np.arange(3)),
        (ONE_EACH, CODE),
        (APART, CODE),
        (np.repeat(COINS[:, :1], 3, axis=1), CODE),
    ],
    ids=[
        "one right", "one wrong", "no prompts", "no scores", "all a half", "all right", "all wrong",
        "one model", "one class", "one prompt a class", "one score a model", "apart", "same model",
    ],
)  # fmt: skip
def test_whatever_was_scored_the_beliefs_are_finite_and_never_points(score, code) -> None:
    found = shrunk_means(named(code, score, 3))
    for values in (found.mean, found.low, found.high, found.variance, found.n_effective):
        assert values.shape == (3, score.shape[1])
        assert np.isfinite(values).all()
    assert np.isfinite(found.fleet).all() and found.fleet.shape == (score.shape[1],)
    assert ((found.low >= 0.0) & (found.low < found.mean)).all()
    assert ((found.high <= 1.0) & (found.high > found.mean)).all()
    assert (found.high - found.low > 0.2 / max(len(score), 1)).all()
    assert found.variance == pytest.approx(found.mean * (1 - found.mean) / found.n_effective)
    assert found.strength >= LEAST_STRENGTH * (1 - 1e-12)


def test_a_model_that_never_failed_is_not_believed_to_be_perfect() -> None:
    score = np.hstack([np.ones((90, 1)), COINS[:, 1:]])
    found = shrunk_means(named(CODE, score, 3))
    exact = stats.binomtest(30, 30).proportion_ci(method="wilson").low
    assert (found.mean[:, 0] < 1.0).all() and (found.mean[:, 0] > found.mean[:, 1:].T).all()
    assert found.low[:, 0] == pytest.approx(exact, abs=0.05)


def test_right_and_wrong_are_treated_alike() -> None:
    found, mirrored = (shrunk_means(named(CODE, s, 3)) for s in (APART, 1.0 - APART))
    assert mirrored.mean == pytest.approx(1.0 - found.mean, abs=1e-9)
    assert mirrored.low == pytest.approx(1.0 - found.high, abs=1e-9)


def test_prompts_that_nobody_was_scored_on_tell_nothing() -> None:
    unknown = np.full((40, 3), np.nan)
    more = named(np.append(CODE, np.arange(40) % 3), np.vstack([APART, unknown]), 3)
    with_them, without = shrunk_means(more), shrunk_means(named(CODE, APART, 3))
    for name in ("mean", "low", "high", "variance", "fleet", "n_prompts"):
        assert getattr(with_them, name) == pytest.approx(getattr(without, name), abs=1e-9)


def test_neither_the_order_of_rows_nor_that_of_models_matters() -> None:
    random = np.random.default_rng(6)
    rows, models = random.permutation(90), random.permutation(3)
    found = shrunk_means(named(CODE, APART, 3))
    other = shrunk_means(named(CODE[rows], APART[np.ix_(rows, models)], 3))
    for name in ("mean", "low", "high", "variance", "n_prompts"):
        assert getattr(other, name) == pytest.approx(getattr(found, name)[:, models], abs=1e-9)
    assert other.fleet == pytest.approx(found.fleet[models], abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 40), (3, 10), (50, 50), (17, 400)])
def test_the_interval_of_a_mean_is_wilsons(k: int, n: int) -> None:
    known = stats.binomtest(k, n).proportion_ci(method="wilson")
    low, high = wilson(np.array(k / n), np.array(float(n)))
    assert (low, high) == pytest.approx((known.low, known.high), abs=1e-12)
