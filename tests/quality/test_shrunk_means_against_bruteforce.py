"""The closed forms of shrunk means against dense linear algebra over single scores and cells."""

from __future__ import annotations

import numpy as np
import pytest

from planner.quality.shrink import FairMeans, across, fair_means

CELL_MOST = 5.0  # a u at which no variance meets its bound


def gaps(random: np.random.Generator, n: int, m: int, share: float) -> np.ndarray:
    """Returns which cells are missing; every model keeps one."""
    missing = random.random((n, m)) < share
    missing[random.integers(0, n, m), np.arange(m)] = False
    return missing


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_fair_means_are_dense_generalised_least_squares(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    n, m = int(random.integers(4, 30)), int(random.integers(1, 6))
    score = random.random((n, m))
    score[gaps(random, n, m, share)] = np.nan
    spread, common = random.uniform(0.05, 0.5, m), float(random.uniform(0.0, 0.95))
    choice = float(random.choice([0.0, 0.02, 0.5]))
    noise = random.uniform(0.3, 2.0, (n, m))

    prompt, model = np.nonzero(~np.isnan(score))
    same_prompt = prompt[:, None] == prompt
    told = ~np.isnan(score) - (~np.isnan(score)).mean(axis=0)
    alike = common * same_prompt + choice * (told @ told.T)[np.ix_(prompt, prompt)]
    shared = alike * np.outer(spread[model], spread[model])
    own = np.diag((1.0 - common) * noise[prompt, model] * spread[model] ** 2)
    design = np.eye(m)[model]
    weights = np.linalg.solve(shared + own, design)
    covariance = np.linalg.inv(design.T @ weights)
    mean = covariance @ (weights.T @ score[prompt, model])

    found = fair_means(score, spread, noise, common, choice)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.covariance == pytest.approx(covariance, abs=1e-9)


class Table:
    """Fair means drawn with gaps, and the dense normal law of their cells."""

    def __init__(self, seed: int, n_classes: int, n_models: int, share: float) -> None:
        random = np.random.default_rng(seed)
        self.shape = (n_classes, n_models)
        self.scored = ~gaps(random, n_classes, n_models, share)
        root = random.normal(size=(n_classes, n_models, n_models)) * 0.05
        noise = root @ root.transpose(0, 2, 1) + 0.002 * np.eye(n_models)
        both = self.scored[:, :, None] & self.scored[:, None, :]
        mean = 0.5 + random.normal(size=(n_classes, 1)) + random.normal(size=n_models)
        mean = mean + 0.5 * random.normal(size=self.shape)
        self.found = FairMeans(np.where(self.scored, mean, 0.0), np.where(both, noise, 0.0))
        self.cls, self.model = (grid.ravel() for grid in np.indices(self.shape))
        self.seen = np.flatnonzero(self.scored.ravel())

    def prior(self, variances: np.ndarray) -> np.ndarray:
        """Returns the covariance of all cells before their scores."""
        v_model, v_class, v_cell = variances
        same_model = (self.model[:, None] == self.model) - 1.0 / self.shape[1]
        same_class = self.cls[:, None] == self.cls
        return 0.25 + v_model * same_model + v_class * same_class + v_cell * np.eye(self.cls.size)

    def noise(self) -> np.ndarray:
        """Returns the covariance of all fair means given their cells."""
        dense = np.zeros((self.cls.size, self.cls.size))
        for c in range(self.shape[0]):
            at = np.flatnonzero(self.cls == c)
            dense[np.ix_(at, at)] = self.found.covariance[c]
        return dense

    def log_likelihood(self, variances: np.ndarray) -> float:
        """Returns that of the fair means seen, joined by half a pseudo-effect each."""
        at = np.ix_(self.seen, self.seen)
        total = (self.prior(variances) + self.noise())[at]
        left = self.found.mean.ravel()[self.seen] - 0.5
        fit = np.linalg.slogdet(total)[1] + left @ np.linalg.solve(total, left)
        return -0.5 * float(fit + 0.5 * (np.log(variances) + CELL_MOST / variances).sum())


SHAPES = [(6, 4, 0.0), (6, 4, 0.5), (1, 5, 0.0), (7, 1, 0.2), (12, 3, 0.6)]


@pytest.mark.parametrize(("n_classes", "n_models", "share"), SHAPES)
def test_the_belief_is_the_dense_posterior(n_classes: int, n_models: int, share: float) -> None:
    table = Table(n_classes, n_classes, n_models, share)
    belief = across(table.found, table.scored, CELL_MOST)

    prior, seen = table.prior(belief.variances), table.seen
    total = (prior + table.noise())[np.ix_(seen, seen)]
    gain = np.linalg.solve(total, prior[seen]).T
    mean = 0.5 + gain @ (table.found.mean.ravel()[seen] - 0.5)
    variance = np.diag(prior - gain @ prior[seen])

    assert belief.mean.ravel() == pytest.approx(mean, abs=1e-9)
    assert belief.variance.ravel() == pytest.approx(variance, abs=1e-9)


@pytest.mark.parametrize(("n_classes", "n_models", "share"), SHAPES)
def test_no_other_variances_make_the_fair_means_likelier(
    n_classes: int, n_models: int, share: float
) -> None:
    table = Table(n_classes, n_classes, n_models, share)
    chosen = across(table.found, table.scored, CELL_MOST).variances
    best = table.log_likelihood(chosen)
    for i in range(3):
        for factor in (0.9, 0.99, 1.01, 1.1):
            other = chosen.copy()
            other[i] *= factor
            assert table.log_likelihood(other) < best, (i, factor)


def test_a_class_without_scores_is_believed_to_be_like_the_fleet() -> None:
    table = Table(3, 6, 4, 0.3)
    table.scored[2] = False
    table.found.mean[2], table.found.covariance[2] = 0.0, 0.0
    belief = across(table.found, table.scored, CELL_MOST)
    assert belief.mean[2] == pytest.approx(belief.fleet, abs=1e-12)
    assert (belief.variance[2] > belief.variance[[0, 1, 3, 4, 5]].max(axis=0)).all()
