"""Gaussian processes over evaluated points, and the batch whose evaluation promises most.

The only file of the planner that touches torch; numpy arrays in, numpy arrays out.

Notation
    x        what the surrogate sees of a point: its features            (f,)
    y, R     objective values and reference, minimised                   (m,)
    g        gain (R - y) / s, maximised; s = largest |R - y| accepted    (m,)
    k        gains known without evaluation, NaN where they are learned   (m,)
    v        violation of a trial, 0 = acceptable                         scalar
    h        miss: -1/2 where v = 0, else log(1 + v / median of the v > 0)  scalar
    V(S)     volume between 0 and a set S of gains

Program
    learn    one independent Gaussian process per unknown gain, one for h if any v > 0
    choose   greedily q candidates c, each the one with the largest
             log E[ (V(front + chosen + c) - V(front + chosen)) 1(h(c) <= 0) ]
             [Daulton, Balandat, Bakshy, "Parallel Bayesian optimization of multiple noisy
              objectives with expected hypervolume improvement", NeurIPS 2021; its logarithm:
              Ament et al., "Unexpected improvements to expected improvement", NeurIPS 2023]
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from planner.errors import MissingExtra
from planner.search.problem import (
    ACCEPTED_VIOLATION,
    FloatMatrix,
    FloatVector,
    IntVector,
    Trials,
)

if TYPE_CHECKING:
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.models import SingleTaskGP
    from botorch.models.model import ModelList
    from torch import Tensor

_ENOUGH_ACCEPTED = 8
"""Acceptable trials from which on gains are learned from these alone."""
_FIT_TOLERANCE = 1e-6
"""Relative change of the likelihood at which a fit ends; the default of 2e-9 took seven times
as long and led to no better fronts."""
_N_SAMPLES = 16
"""Samples of the posterior behind each expectation, a power of two; 32 took twice as long and
led to no better fronts."""


def require() -> None:
    """Returns nothing. Raises MissingExtra where torch or botorch is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torch")
            importlib.import_module("botorch")
        except ImportError as error:
            raise MissingExtra("plan", "--method mobo") from error


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
    """Points as the surrogate sees them: `features` (n, f), known `gains` (n, m) or NaN."""

    features: FloatMatrix
    gains: FloatMatrix

    def take(self, rows: IntVector) -> View:
        """Returns the view of the points at `rows` (k,)."""
        return View(self.features[rows], self.gains[rows])


@dataclass(frozen=True, eq=False)
class Forecast:
    """Gains expected of points: `mean` (n, m), `deviation` (n, m), 0 where the gain is known;
    `chance` (n,) of being acceptable."""

    mean: FloatMatrix
    deviation: FloatMatrix
    chance: FloatVector


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

    def __init__(self, models: ModelList, learned: IntVector, constrained: bool) -> None:
        self._models = models
        self._learned = learned
        self._constrained = constrained

    @classmethod
    def fit(
        cls,
        seen: View,
        gains: FloatMatrix,
        trials: Trials,
        last: Surrogate | None = None,
        refit: bool = True,
    ) -> Surrogate:
        """Returns the surrogate of the `trials`, seen as `seen`, with their `gains` (n, m).

        The hyper-parameters of `last` are where the fit starts; with `refit` False, where it
        stays. Gains are learned from acceptable trials only, once there are enough of them:
        one that misses lies in another regime, and would mislead about the rest.
        """
        n_features, n_gains = seen.features.shape[1], gains.shape[1]
        learned = np.flatnonzero(np.isnan(seen.gains).any(axis=0))
        constrained = not trials.acceptable().all()
        use = trials.acceptable()
        use = use if use.sum() >= _ENOUGH_ACCEPTED else np.ones_like(use)
        data = [(use, gains[:, j]) for j in learned]
        if constrained:
            data.append((np.ones_like(use), misses(trials.violations)))
        kept = last._processes() if last and last._constrained == constrained else []
        processes = [
            _process(
                _tensor(seen)[rows], n_features, target[rows], kept[i] if kept else None, refit
            )
            for i, (rows, target) in enumerate(data)
        ]
        by_gain = dict(zip(learned.tolist(), processes, strict=False))
        outputs = [by_gain.get(j) or _known_gain(n_features + j) for j in range(n_gains)]
        return cls(_joined([*outputs, *processes[len(learned) :]]), learned, constrained)

    def forecast(self, view: View) -> Forecast:
        """Returns what is expected of the points of `view`."""
        import torch

        mean, deviation = view.gains.copy(), np.zeros_like(view.gains)
        chance = np.ones(len(mean))
        processes = self._processes()
        with torch.no_grad():
            posteriors = [process.posterior(_tensor(view)) for process in processes]
            for j, posterior in zip(self._learned, posteriors, strict=False):
                mean[:, j] = posterior.mean.squeeze(-1).numpy()
                deviation[:, j] = posterior.variance.sqrt().squeeze(-1).numpy()
            if self._constrained:
                miss = posteriors[-1]
                ratio = -miss.mean / miss.variance.sqrt()
                chance = torch.special.ndtr(ratio).squeeze(-1).numpy()
        return Forecast(mean, deviation, chance)

    def choose(self, baseline: View, candidates: View, n_points: int, seed: int) -> IntVector:
        """Returns the rows of `candidates` to evaluate together, (<= n_points,).

        `baseline` are the evaluated points whose volume is to be enlarged.
        """
        import torch
        from botorch.optim import optimize_acqf_discrete

        choices = _tensor(candidates)
        left = np.arange(len(choices))
        acquisition = self._acquisition(_tensor(baseline), seed)
        chosen: list[int] = []
        # One by one rather than q at once: the volume is cut into boxes once less per batch,
        # which is most of the time.
        while len(chosen) < min(n_points, len(choices)):
            if chosen:
                acquisition.set_X_pending(choices[chosen])
            best, _ = optimize_acqf_discrete(acquisition, q=1, choices=choices[left])
            row = int(torch.all(choices[left] == best, dim=1).int().argmax())
            chosen.append(int(left[row]))
            left = np.delete(left, row)
        return np.array(chosen, dtype=np.int64)

    def _acquisition(self, baseline: Tensor, seed: int) -> qLogNoisyExpectedHypervolumeImprovement:
        import torch
        from botorch.acquisition.multi_objective import logei
        from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective

        # botorch >= 0.18 otherwise compiles a C++ kernel on first use, for minutes. The name
        # is private: where it is gone, so is the reason for setting it.
        if hasattr(logei, "_load_attempted"):
            logei._load_attempted = True
        n_gains = self._models.num_outputs - int(self._constrained)
        return logei.qLogNoisyExpectedHypervolumeImprovement(
            model=self._models,
            ref_point=torch.zeros(n_gains, dtype=torch.double),
            X_baseline=baseline,
            sampler=self._sampler(seed),
            objective=IdentityMCMultiOutputObjective(outcomes=list(range(n_gains))),
            constraints=[_miss] if self._constrained else None,
            prune_baseline=True,
            cache_root=False,
        )

    def _sampler(self, seed: int) -> Tensor:
        """One sampler per output: Sobol for the first process, independent draws for others,
        since two Sobol sequences of few samples are correlated whatever their seeds."""
        import torch
        from botorch.models import SingleTaskGP
        from botorch.sampling.index_sampler import IndexSampler
        from botorch.sampling.list_sampler import ListSampler
        from botorch.sampling.normal import IIDNormalSampler, SobolQMCNormalSampler

        shape = torch.Size([_N_SAMPLES])
        kinds = [IndexSampler] * self._models.num_outputs
        sampled = [i for i, m in enumerate(self._models.models) if isinstance(m, SingleTaskGP)]
        for rank, output in enumerate(sampled):
            kinds[output] = IIDNormalSampler if rank else SobolQMCNormalSampler
        return ListSampler(*[kind(shape, seed=seed + i) for i, kind in enumerate(kinds)])

    def _processes(self) -> list[SingleTaskGP]:
        from botorch.models import SingleTaskGP

        return [model for model in self._models.models if isinstance(model, SingleTaskGP)]


def _miss(outputs: Tensor) -> Tensor:
    return outputs[..., -1]


def _tensor(view: View) -> Tensor:
    """The features and the known gains side by side, (n, f + m); unknown gains are unused."""
    import torch

    return torch.from_numpy(np.hstack([view.features, np.nan_to_num(view.gains, nan=0.0)]))


def _known_gain(column: int) -> Tensor:
    from botorch.models.deterministic import GenericDeterministicModel

    return GenericDeterministicModel(lambda x: x[..., column : column + 1], num_outputs=1)


def _joined(models: list[Tensor]) -> ModelList:
    from botorch.models.model import ModelList

    return ModelList(*models)


def _process(
    inputs: Tensor, n_features: int, target: FloatVector, kept: SingleTaskGP | None, refit: bool
) -> SingleTaskGP:
    """A Gaussian process of `target` (n,) over the first `n_features` columns of `inputs`."""
    import torch
    from botorch.exceptions.errors import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Normalize, Standardize
    from botorch.models.transforms.input import ChainedInputTransform, FilterFeatures
    from gpytorch.mlls import ExactMarginalLogLikelihood

    process = SingleTaskGP(
        inputs,
        torch.from_numpy(target.reshape(-1, 1).copy()),
        outcome_transform=Standardize(1),
        input_transform=ChainedInputTransform(
            features=FilterFeatures(torch.arange(n_features)), scaled=Normalize(n_features)
        ),
    )
    if kept is not None:
        # Hyper-parameters only: the scales of inputs and target follow the new data.
        for part in ("mean_module", "covar_module", "likelihood"):
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
