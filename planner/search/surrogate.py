"""Gaussian processes over evaluated points: what they say about all others.

With boute_kernel.py the only file of this room that touches torch; numpy arrays in and out.

Notation
    x        what the surrogate sees of a point: its features            (f,)
    y, R     objective values and reference, minimised                   (m,)
    g        gain (R - y) / s, maximised; s = largest |R - y| accepted    (m,)
    k        gains known without evaluation, NaN where they are learned   (m,)
    p        what a prior expects of the gains and of h, 0 without one    (m,), scalar
    v        violation of a trial, 0 = acceptable                         scalar
    h        miss: the margin of the trial where a prior knows margins, else
             -1/2 where v = 0, log(1 + v / median of the v > 0) elsewhere   scalar

Program
    learn    one independent Gaussian process of g - p per unknown gain, one of h - p if any
             trial says how it stands to its limits; with the variance of each trial where
             evaluations are noisy
    forecast, sample   what is expected of other points, alone or jointly
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from planner.errors import MissingExtra
from planner.search.acquisition import Samples
from planner.search.problem import (
    ACCEPTED_VIOLATION,
    BoolVector,
    FloatMatrix,
    FloatVector,
    IntVector,
)

if TYPE_CHECKING:
    from botorch.models import SingleTaskGP
    from torch import Tensor

_ENOUGH_ACCEPTED = 8
"""Acceptable trials from which on gains are learned from these alone."""
_FIT_TOLERANCE = 1e-6
"""Relative change of the likelihood at which a fit ends; the default of 2e-9 took seven times
as long and led to no better fronts."""
_LEAST_VARIANCE = 1e-6
"""Of the error of a noisy trial, as a share of the variance of all: exact ones must not be
infinitely more trusted than the others."""


def require(needed_for: str = "--method mobo") -> None:
    """Returns nothing. Raises MissingExtra where torch or botorch is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torch")
            importlib.import_module("botorch")
        except ImportError as error:
            raise MissingExtra("plan", needed_for) from error


@contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Yields with torch on one thread, seeded, without warnings; restores all three after."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(n_threads)


@dataclass(frozen=True, eq=False)
class View:
    """Points as the surrogate sees them.

    `features` (n, f), known `gains` (n, m) or NaN, and what a prior expects: of the `hoped`
    gains (n, m) and of the `misses` (n,), zeros where there is none.
    """

    features: FloatMatrix
    gains: FloatMatrix
    hoped: FloatMatrix
    misses: FloatVector

    def take(self, rows: IntVector) -> View:
        """Returns the view of the points at `rows` (k,)."""
        return View(self.features[rows], self.gains[rows], self.hoped[rows], self.misses[rows])

    def looks(self) -> FloatMatrix:
        """Returns all that tells one point from another, (n, ...)."""
        known = np.nan_to_num(self.gains)
        return np.hstack([self.features, known, self.hoped, self.misses[:, None]])


@dataclass(frozen=True, eq=False)
class Forecast:
    """Gains expected of points: `mean` (n, m), `deviation` (n, m), 0 where the gain is known;
    `chance` (n,) of being acceptable."""

    mean: FloatMatrix
    deviation: FloatMatrix
    chance: FloatVector


@dataclass(frozen=True, eq=False)
class Found:
    """What trials taught, in the surrogate's terms.

    `gains` (n, m); `misses` (n,), below 0 where acceptable; `variances` (n, m + 1) of the
    gains and then of the misses, 0 where exact; `acceptable` (n,).
    """

    gains: FloatMatrix
    misses: FloatVector
    variances: FloatMatrix
    acceptable: BoolVector


def misses(violations: FloatVector) -> FloatVector:
    """Returns h of each violation, (n,): -1/2 where acceptable, else positive, 0.69 at the median.

    A plain violation is 0 over all acceptable points, so its boundary is where it is flat;
    the step to -1/2 gives the boundary a place that a smooth process can cross.
    """
    missed = violations > ACCEPTED_VIOLATION
    if not missed.any():
        return np.full(len(violations), -0.5)
    return np.where(missed, np.log1p(violations / np.median(violations[missed])), -0.5)


class Surrogate:
    """What the trials so far say about all other points; built by `fit`."""

    def __init__(self, processes: dict[int, SingleTaskGP]) -> None:
        self._processes = processes  # by gain; that of the misses comes after all gains

    @classmethod
    def fit(
        cls, seen: View, found: Found, last: Surrogate | None = None, refit: bool = True
    ) -> Surrogate:
        """Returns the surrogate of trials, seen as `seen`, in which `found` was found.

        The hyper-parameters of `last` are where the fit starts; with `refit` False, where it
        stays. Gains are learned from acceptable trials only, once there are enough of them:
        one that misses lies in another regime, and would mislead about the rest. Misses are
        learned where they, or what a prior expects of them, tell anything.
        """
        n_features, n_gains = seen.features.shape[1], seen.gains.shape[1]
        enough = found.acceptable.sum() >= _ENOUGH_ACCEPTED
        use = found.acceptable if enough else np.ones_like(found.acceptable)
        rows = {int(j): use for j in np.flatnonzero(np.isnan(seen.gains).any(axis=0))}
        if np.ptp(found.misses) > 0.0 or seen.misses.any():
            rows[n_gains] = np.ones_like(use)
        beyond = np.column_stack([found.gains - seen.hoped, found.misses - seen.misses])
        kept = {} if last is None else last._processes
        return cls(
            {
                j: _process(
                    _tensor(seen)[use],
                    n_features,
                    _Lesson(beyond[use, j], found.variances[use, j], n_features + n_gains + j),
                    kept.get(j),
                    refit,
                )
                for j, use in rows.items()
            }
        )

    def forecast(self, view: View) -> Forecast:
        """Returns what is expected of the points of `view`."""
        import torch

        mean, deviation = view.gains.copy(), np.zeros_like(view.gains)
        chance = np.ones(len(mean))
        for j, process in self._processes.items():
            with torch.no_grad():
                posterior = process.posterior(_tensor(view))
                middle = posterior.mean.squeeze(-1)
                spread = posterior.variance.sqrt().squeeze(-1)
            if j < mean.shape[1]:
                mean[:, j], deviation[:, j] = middle.numpy(), spread.numpy()
            else:
                chance = torch.special.ndtr(-middle / spread).numpy()
        return Forecast(mean, deviation, chance)

    def sample(self, view: View, n_samples: int, seed: int) -> tuple[Samples, FloatMatrix]:
        """Returns gains (S, n, m) and misses (S, n) of the points of `view` in joint samples.

        Where no misses are learned, every point is acceptable.
        """
        rng = np.random.default_rng(seed)
        n_gains = view.gains.shape[1]
        gains = np.repeat(view.gains[None], n_samples, axis=0)
        missed = np.full((n_samples, len(view.features)), -1.0)
        for j, process in self._processes.items():
            normal = rng.normal(size=missed.shape)
            (gains[:, :, j] if j < n_gains else missed)[:] = _sampled(process, view, normal)
        return gains, missed


def _sampled(process: SingleTaskGP, view: View, normal: FloatMatrix) -> FloatMatrix:
    """Samples of a process at the points of `view` from independent normal numbers (S, n)."""
    import torch

    with torch.no_grad():
        posterior = process.posterior(_tensor(view)).distribution
        mean, covariance = posterior.mean.numpy(), posterior.covariance_matrix.numpy()
    values, vectors = np.linalg.eigh(covariance)  # rounding leaves it barely indefinite
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(mean + normal @ root.T, dtype=np.float64)


def _tensor(view: View) -> Tensor:
    """Features, known gains, hoped gains and expected misses side by side, (n, f + 2 m + 1)."""
    import torch

    known = np.nan_to_num(view.gains, nan=0.0)  # unknown gains are unused
    return torch.from_numpy(np.hstack([view.features, known, view.hoped, view.misses[:, None]]))


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What one process learns: how far trials were `beyond` the prior, (n,), with `variances` (n,).

    `offset` is the column of its inputs that holds what the prior expects.
    """

    beyond: FloatVector
    variances: FloatVector
    offset: int


def _process(
    inputs: Tensor, n_features: int, lesson: _Lesson, kept: SingleTaskGP | None, refit: bool
) -> SingleTaskGP:
    """A Gaussian process over the first `n_features` columns of `inputs`, on top of the prior."""
    import torch
    from botorch.exceptions.errors import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.transforms import Normalize, Standardize
    from botorch.models.transforms.input import ChainedInputTransform, FilterFeatures
    from gpytorch.mlls import ExactMarginalLogLikelihood

    noisy = bool(lesson.variances.any())
    least = _LEAST_VARIANCE * max(float(np.var(lesson.beyond)), _LEAST_VARIANCE)
    variances = torch.from_numpy(np.maximum(lesson.variances, least).reshape(-1, 1))
    process = _on_top()(
        inputs,
        torch.from_numpy(lesson.beyond.reshape(-1, 1).copy()),
        train_Yvar=variances if noisy else None,
        outcome_transform=Standardize(1),
        input_transform=ChainedInputTransform(
            features=FilterFeatures(torch.arange(n_features)), scaled=Normalize(n_features)
        ),
    )
    process.offset = lesson.offset
    if kept is not None:
        # Hyper-parameters only: the scales of inputs and target follow the new data.
        parts = ("mean_module", "covar_module", *(() if noisy else ("likelihood",)))
        for part in parts:
            getattr(process, part).load_state_dict(getattr(kept, part).state_dict())
        if not refit:
            return process.eval()
    start = deepcopy(process.state_dict())
    try:
        objective = ExactMarginalLogLikelihood(process.likelihood, process)
        fit_gpytorch_mll(objective, optimizer_kwargs={"options": {"ftol": _FIT_TOLERANCE}})
    except ModelFittingError:
        process.load_state_dict(start)  # where it began is better than half a fit
    return process.eval()


@cache
def _on_top() -> type[SingleTaskGP]:
    """The class of a process whose posterior is moved up by a column of its inputs.

    Made when first needed: torch may only be imported inside functions.
    """
    from botorch.models import SingleTaskGP
    from botorch.posteriors import GPyTorchPosterior
    from gpytorch.distributions import MultivariateNormal

    class OnTop(SingleTaskGP):  # type: ignore[misc]  # torch is untyped here
        offset: int

        def posterior(self, X: Tensor, *args: Tensor, **kwargs: Tensor) -> GPyTorchPosterior:  # noqa: N803
            of_rest = super().posterior(X, *args, **kwargs).distribution
            mean = of_rest.mean + X[..., self.offset]
            return GPyTorchPosterior(MultivariateNormal(mean, of_rest.lazy_covariance_matrix))

    return OnTop
