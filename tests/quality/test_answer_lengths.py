"""Answer lengths on worlds whose law is known."""

import numpy as np
import pytest

from planner.quality.answers import fit_answer_lengths, predict

LEVEL = np.log([[100.0, 300.0], [400.0, 200.0], [50.0, 900.0]])  # of 3 classes and 2 models


def world(seed: int, n: int, share=(0.5, 0.4, 0.1), own: float = 0.0, noise: float = 0.8):
    """Lognormal lengths; feature 0 makes them longer, in class 1 by `own` more."""
    rng = np.random.default_rng(seed)
    code = rng.choice(3, size=n, p=share)
    features = rng.normal(1.0, 2.0, (n, 5))
    z = (features[:, 0] - 1.0) / 2.0
    drift = z * (0.5 + own * (code == 1))
    median = np.exp(LEVEL[code] + drift[:, None])
    return features, code, median, median * np.exp(rng.normal(0.0, noise, (n, 2)))


def held_out(seed: int = 1, n: int = 4000, **options):
    features, code, median, tokens = world(seed, n, **options)
    half = np.arange(n) < n // 2
    fitted = fit_answer_lengths(features[half], code[half], 3, tokens[half], np.arange(n)[half])
    return (
        predict(fitted, features[~half], np.eye(3)[code[~half]]),
        median[~half],
        tokens[~half],
        code[~half],
    )


def test_held_out_totals_are_right_by_model_and_by_class():
    errors = []
    for seed in range(6):
        predicted, _, tokens, code = held_out(seed, noise=0.4)
        errors.append(
            [predicted[code == c].sum(axis=0) / tokens[code == c].sum(axis=0) - 1 for c in range(3)]
        )
    # Both halves' totals have errors of their own: 1.5 % in a class of 1,000, 3 % in one of 200.
    mean = np.abs(np.mean(errors, axis=0))
    assert mean[:2].max() < 0.02 and mean[2].max() < 0.04


def test_the_shape_of_the_law_is_found():
    predicted, median, tokens, _ = held_out()
    expected = median * np.exp(0.8**2 / 2)
    assert np.corrcoef(np.log(predicted[:, 0]), np.log(expected[:, 0]))[0, 1] > 0.99
    assert np.abs(predicted - tokens).mean() < np.abs(tokens.mean(axis=0) - tokens).mean()


def test_a_class_may_have_slopes_of_its_own():
    predicted, median, _, code = held_out(own=0.6)
    for c in range(3):
        error = np.log(predicted[code == c, 0]) - np.log(median[code == c, 0])
        assert error.std() < 0.2  # with one slope for all, 0.35 in class 1


def test_training_totals_are_kept_exactly_where_a_class_is_large():
    features, code, _, tokens = world(2, 6000)
    fitted = fit_answer_lengths(features, code, 3, tokens, np.arange(6000))
    predicted = predict(fitted, features, np.eye(3)[code])
    assert predicted.sum(axis=0) / tokens.sum(axis=0) == pytest.approx([1.0, 1.0], abs=0.01)


def test_a_prompt_of_unknown_class_gets_the_fleet_and_a_mixture_the_mean_of_its_classes():
    features, code, _, tokens = world(3, 3000)
    fitted = fit_answer_lengths(features, code, 4, tokens, np.arange(3000))
    x = np.tile(features.mean(axis=0), (6, 1))
    weight = np.vstack([np.eye(4), [0.5, 0.25, 0.25, 0.0], np.full(4, np.nan)])
    found = predict(fitted, x, weight)
    np.testing.assert_allclose(found[4], 0.5 * found[0] + 0.25 * found[1] + 0.25 * found[2])
    low, high = found[:3].min(axis=0), found[:3].max(axis=0)
    for row in (found[3], found[5]):  # a class without prompts, and one that nobody knows
        assert (row > low).all() and (row < high).all()


def test_only_unknown_prompts_and_no_prompts_at_all():
    features, code, _, tokens = world(4, 300)
    fitted = fit_answer_lengths(features, code, 3, tokens, np.arange(300))
    unknown = predict(fitted, features[:2], np.full((2, 3), np.nan))
    assert np.isfinite(unknown).all()
    assert predict(fitted, features[:0], np.zeros((0, 3))).shape == (0, 2)


def test_no_prediction_leaves_the_range_that_was_seen():
    features, code, _, tokens = world(5, 500)
    fitted = fit_answer_lengths(features, code, 3, tokens, np.arange(500))
    far = np.vstack([np.full((1, 5), 1e6), np.full((1, 5), -1e6)])
    found = predict(fitted, far, np.eye(3)[[0, 2]])
    assert (found >= tokens.min(axis=0)).all() and (found <= tokens.max(axis=0)).all()


def test_models_that_answered_other_prompts_are_learned_from_their_own():
    features, code, _, tokens = world(6, 3000)
    tokens = np.column_stack([tokens, tokens[:, 0]])
    tokens[:1000, 1] = np.nan
    fitted = fit_answer_lengths(features, code, 3, tokens, np.arange(3000))
    part = fit_answer_lengths(features, code, 3, tokens[:, [1]].copy(), np.arange(3000))
    weight = np.eye(3)[code]
    found = predict(fitted, features, weight)
    np.testing.assert_allclose(found[:, 0], found[:, 2], rtol=1e-9)
    np.testing.assert_allclose(found[:, [1]], predict(part, features, weight), rtol=1e-9)


def test_large_batches_are_cut_without_being_seen_to_be():
    features, code, _, tokens = world(7, 400)
    fitted = fit_answer_lengths(features, code % 3, 200, tokens, np.arange(400))
    many = np.tile(features, (10, 1))
    weight = np.full((4000, 200), 1 / 200)
    found = predict(fitted, many, weight)
    np.testing.assert_allclose(found, np.tile(found[:400], (10, 1)), rtol=1e-12)


def test_a_model_without_answers_is_an_error():
    features, code, _, tokens = world(8, 50)
    tokens[:, 1] = np.nan
    with pytest.raises(ValueError, match="without answers"):
        fit_answer_lengths(features, code, 3, tokens, np.arange(50))
