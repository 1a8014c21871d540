"""Per-prompt terms on worlds whose truth is known."""

import numpy as np
import pytest

from planner.quality.contrast import adjust, class_residual, fit_contrast


def world(seed: int, n: int = 1500, n_models: int = 4, strength: float = 0.25):
    """Residuals that move with feature 0 for all models alike, with feature 1 for model 0 alone."""
    rng = np.random.default_rng(seed)
    features = rng.normal(3.0, 2.0, (n, 6))
    z = (features - 3.0) / 2.0
    truth = np.repeat(0.1 * z[:, :1], n_models, axis=1)
    truth[:, 0] += strength * z[:, 1]
    return features, truth, truth + rng.normal(0.0, 0.4, (n, n_models))


def test_it_finds_what_moves_all_models_and_what_moves_one():
    features, _, residual = world(1)
    contrast = fit_contrast(features, residual, np.arange(1500))
    fresh, fresh_truth, _ = world(2)
    error = adjust(contrast, fresh) - fresh_truth
    assert np.sqrt((error**2).mean()) < 0.2 * fresh_truth.std()


def test_noise_is_shrunk_to_almost_nothing():
    spreads = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        features, residual = rng.normal(size=(500, 26)), rng.normal(0.0, 0.45, (500, 5))
        spreads.append(adjust(fit_contrast(features, residual, np.arange(500)), features).std())
    assert np.median(spreads) < 0.02  # unshrunk least squares: 0.45 sqrt(26/500) = 0.10


def test_copies_of_prompts_do_not_make_noise_believable():
    rng = np.random.default_rng(3)
    features = np.repeat(rng.normal(size=(60, 26)), 8, axis=0)
    residual = np.repeat(rng.normal(0.0, 0.45, (60, 3)), 8, axis=0)
    careless = adjust(fit_contrast(features, residual, np.arange(480)), features).std()
    careful = adjust(fit_contrast(features, residual, np.arange(480) // 8), features).std()
    assert careless > 0.15
    assert careful < 0.3 * careless


def test_a_model_left_out_of_hard_prompts_does_not_look_good_on_them():
    """Feature 0 says how hard a prompt is for everybody; model 0 was not asked the hard ones."""
    rng = np.random.default_rng(4)
    hardness = rng.normal(size=2000)
    residual = -0.2 * hardness[:, None] + rng.normal(0.0, 0.2, (2000, 3))
    residual[hardness > 0.5, 0] = np.nan
    contrast = fit_contrast(
        np.column_stack([hardness, rng.normal(size=2000)]), residual, np.arange(2000)
    )
    hard = adjust(contrast, np.array([[2.0, 0.0]]))[0]
    assert hard == pytest.approx([-0.4, -0.4, -0.4], abs=0.06)


def test_missing_cells_shrink_a_difference():
    features, _, residual = world(5, n=3000)
    full = fit_contrast(features, residual, np.arange(3000))
    residual[np.random.default_rng(6).random(3000) < 0.5, 0] = np.nan
    half = fit_contrast(features, residual, np.arange(3000))
    x = np.full((1, 6), 3.0)
    x[0, 1] = 7.0
    moved, moved_half = (adjust(c, x)[0] - adjust(c, np.full((1, 6), 3.0))[0] for c in (full, half))
    assert 0.2 < (moved_half[0] - moved_half[1]) / (moved[0] - moved[1]) < 0.9


def test_the_average_prompt_is_not_moved_and_a_constant_feature_moves_nothing():
    features, _, residual = world(7)
    features[:, 5] = 4.0
    contrast = fit_contrast(features, residual, np.arange(1500))
    centre = features.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(adjust(contrast, centre), 0.0, atol=1e-12)
    assert not contrast.coefficient[5].any()


def test_one_model_has_only_a_mean():
    features, _, residual = world(8, n_models=1)
    assert fit_contrast(features, residual, np.arange(1500)).coefficient.shape == (6, 1)


def test_nothing_scored_is_an_error():
    with pytest.raises(ValueError, match="no score"):
        fit_contrast(np.zeros((3, 2)), np.full((3, 2), np.nan), np.arange(3))


def test_of_no_prompts_there_are_no_residuals():
    none = np.zeros(0, np.int64)
    assert class_residual(np.zeros((0, 3)), none, 4, none).shape == (0, 3)


def test_class_residuals_leave_out_the_whole_group():
    rng = np.random.default_rng(9)
    score = rng.random((30, 3))
    score[rng.random((30, 3)) < 0.3] = np.nan
    code, group = rng.integers(0, 3, 30), rng.integers(0, 20, 30)
    score[code == 2] = np.nan
    score[np.flatnonzero(code == 2)[0]] = 0.5  # alone in its class: nothing to compare with
    found = class_residual(score, code, 4, group)
    for n in range(30):
        for m in range(3):
            others = score[(code == code[n]) & (group != group[n]), m]
            others = others[np.isfinite(others)]
            if np.isnan(score[n, m]) or not others.size:
                assert np.isnan(found[n, m])
            else:
                assert found[n, m] == pytest.approx(score[n, m] - others.mean())
