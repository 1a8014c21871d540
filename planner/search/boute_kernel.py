"""The kernel of BOute and the improvement that it maximises: torch, numpy arrays in and out.

Notation
    f        routing part of a point, each column about 0 to 1             (a,)
    c        deployment part, likewise                                     (b,)
    e        preference: how well the GPUs of c suit the models on them    scalar
    g        gain: distance below the reference, maximised                 (m,)
    h        miss: how far beyond what is acceptable; negative: it is not   scalar

Kernel   [BOute, arXiv 2602.10729: additive with interaction, and its S5]
    k  = k_f(f, f') + k~_c + phi k_f(f, f') k~_c
    k_f  = s_f Matern-5/2 with a length per column
    k~_c = w(e) w(e') s_c Matern-3/2 with a length per column,    w(e) = exp(beta e)
    s_f, s_c, phi, beta and all lengths are fitted, one set per learned output

Next point   [outcome-constrained qNEHVI: Daulton, Balandat, Bakshy, NeurIPS 2021]
    max  E[ (V(front + z) - V(front)) 1(h(z) <= 0 for every miss) ],  V the volume above g = 0

Chosen here, because it is not published: priors of the lengths (those of botorch), a normal prior
of deviation 1 on beta, 16 samples per expectation, and what comes next where no sample improves
anything: the least expected miss, then the largest expected gain.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING

import numpy as np

from planner.search.problem import FloatMatrix, FloatVector, IntVector

if TYPE_CHECKING:
    from collections.abc import Callable

    from botorch.models import SingleTaskGP
    from botorch.models.model import ModelList
    from torch import Tensor

_N_SAMPLES = 16
_FIT_TOLERANCE = 1e-6
_NOTHING = 1e-12
"""An expected improvement below this is rounding."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Points as the kernel sees them.

    `routing` (n, a) and `deployment` (n, b), scaled; `preference` (n,); `gains` (n, m) that are
    known without evaluation, NaN where they are learned.
    """

    routing: FloatMatrix
    deployment: FloatMatrix
    preference: FloatVector
    gains: FloatMatrix

    def take(self, rows: IntVector) -> Seen:
        """Returns the points at `rows` (k,)."""
        parts = (self.routing, self.deployment, self.preference, self.gains)
        return Seen(*[part[rows] for part in parts])


class BouteSurrogate:
    """One Gaussian process per unknown output, and the improvement that they expect."""

    def __init__(self, models: ModelList, n_gains: int, least: FloatVector) -> None:
        self._models = models
        self._n_gains = n_gains
        self._least = least

    @classmethod
    def fit(
        cls,
        seen: Seen,
        gains: FloatMatrix,
        least: FloatVector,
        misses: FloatVector | None,
        last: BouteSurrogate | None,
    ) -> BouteSurrogate:
        """Returns the surrogate of evaluated points.

        Args:
            seen: the points, (n,).
            gains: what they gained, (n, m).
            least: gain that every objective must have, (m,); -inf where none is asked for.
            misses: h of each point where the least gains do not say what is acceptable, (n,).
            last: whose hyper-parameters the fit starts from.
        """
        learned = np.flatnonzero(np.isnan(seen.gains).any(axis=0)).tolist()
        targets = [gains[:, j] for j in learned] + ([] if misses is None else [misses])
        kept = last.processes() if last is not None else []
        if len(kept) != len(targets):
            kept = []
        inputs = _tensor(seen)
        n_columns = (seen.routing.shape[1], seen.deployment.shape[1])
        fitted = [
            _process(inputs, *n_columns, target, kept[i] if kept else None)
            for i, target in enumerate(targets)
        ]
        by_gain = dict(zip(learned, fitted, strict=False))
        first_known = sum(n_columns) + 1
        outputs = [by_gain.get(j) or _known(first_known + j) for j in range(gains.shape[1])]
        from botorch.models.model import ModelList

        return cls(ModelList(*outputs, *fitted[len(learned) :]), gains.shape[1], least)

    def processes(self) -> list[SingleTaskGP]:
        """Returns the Gaussian processes, those of the gains first."""
        from botorch.models import SingleTaskGP

        return [model for model in self._models.models if isinstance(model, SingleTaskGP)]

    def choose(self, baseline: Seen, choices: Seen, n_points: int, seed: int) -> IntVector:
        """Returns the rows of `choices` to evaluate next, one after the other, (<= n_points,)."""
        import torch

        acquisition = self._acquisition(_tensor(baseline), seed)
        tensor = _tensor(choices)
        chosen: list[int] = []
        while len(chosen) < min(n_points, len(tensor)):
            if chosen:
                acquisition.set_X_pending(tensor[chosen])
            with torch.no_grad():
                expected = acquisition(tensor[:, None, :]).numpy().copy()
            expected[chosen] = -np.inf
            if expected.max() <= _NOTHING:
                expected = self._hope(tensor)
                expected[chosen] = -np.inf
            chosen.append(int(np.argmax(expected)))
        return np.array(chosen, dtype=np.int64)

    def _hope(self, choices: Tensor) -> FloatVector:
        """What to prefer while no sample improves anything, (n,): few misses, then much gain."""
        import torch

        with torch.no_grad():
            mean = self._models.posterior(choices).mean
            missed = sum(
                (torch.clamp(miss(mean), min=0.0) for miss in self._misses()),
                start=torch.zeros(len(choices), dtype=torch.double),
            )
            gain = mean[:, : self._n_gains].sum(dim=1)
        order = np.lexsort((-gain.numpy(), missed.numpy()))
        hope = np.empty(len(order))
        hope[order] = -np.arange(len(order), dtype=np.float64)
        return hope

    def _misses(self) -> list[Callable[[Tensor], Tensor]]:
        """Returns the functions of the outputs that must not be positive."""
        asked = np.flatnonzero(np.isfinite(self._least)).tolist()
        found = [_below(j, float(self._least[j])) for j in asked]
        return found + [_output(j) for j in range(self._n_gains, self._models.num_outputs)]

    def _acquisition(self, baseline: Tensor, seed: int) -> Tensor:
        import torch
        from botorch.acquisition.multi_objective.monte_carlo import (
            qNoisyExpectedHypervolumeImprovement,
        )
        from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective

        return qNoisyExpectedHypervolumeImprovement(
            model=self._models,
            ref_point=torch.zeros(self._n_gains, dtype=torch.double),
            X_baseline=baseline,
            sampler=self._sampler(seed),
            objective=IdentityMCMultiOutputObjective(outcomes=list(range(self._n_gains))),
            constraints=self._misses() or None,
            prune_baseline=True,
            cache_root=False,
        )

    def _sampler(self, seed: int) -> Tensor:
        """One sampler per output; two short Sobol sequences would go together."""
        import torch
        from botorch.models import SingleTaskGP
        from botorch.sampling.index_sampler import IndexSampler
        from botorch.sampling.list_sampler import ListSampler
        from botorch.sampling.normal import IIDNormalSampler, SobolQMCNormalSampler

        shape, kinds, n_learned = torch.Size([_N_SAMPLES]), [], 0
        for model in self._models.models:
            if not isinstance(model, SingleTaskGP):
                kinds.append(IndexSampler)
                continue
            kinds.append(IIDNormalSampler if n_learned else SobolQMCNormalSampler)
            n_learned += 1
        return ListSampler(*[kind(shape, seed=seed + i) for i, kind in enumerate(kinds)])


def _tensor(seen: Seen) -> Tensor:
    """Routing, deployment, preference and known gains side by side, (n, a + b + 1 + m)."""
    import torch

    known = np.nan_to_num(seen.gains, nan=0.0)
    columns = [seen.routing, seen.deployment, seen.preference[:, None], known]
    return torch.from_numpy(np.hstack(columns))


def _below(output: int, least: float) -> Callable[[Tensor], Tensor]:
    return lambda outputs: least - outputs[..., output]


def _output(output: int) -> Callable[[Tensor], Tensor]:
    return lambda outputs: outputs[..., output]


def _known(column: int) -> Tensor:
    from botorch.models.deterministic import GenericDeterministicModel

    return GenericDeterministicModel(lambda x: x[..., column : column + 1], num_outputs=1)


def make_kernel(n_routing: int, n_deployment: int) -> Tensor:
    """Returns the kernel over rows of f (a columns), c (b columns) and e; others are ignored."""
    import torch
    from gpytorch.constraints import Positive
    from gpytorch.kernels import Kernel, MaternKernel, ScaleKernel
    from gpytorch.priors import LogNormalPrior, NormalPrior

    def scaled(nu: float, first: int, n: int) -> ScaleKernel:
        lengths = LogNormalPrior(sqrt(2.0) + 0.5 * log(n), sqrt(3.0))
        columns = tuple(range(first, first + n))
        base = MaternKernel(nu, ard_num_dims=n, active_dims=columns, lengthscale_prior=lengths)
        base.lengthscale = lengths.mode
        return ScaleKernel(base)

    class BouteKernel(Kernel):  # type: ignore[misc]  # gpytorch has no types
        """The additive kernel with interaction; parameters start at phi = ln 2 and beta = 0."""

        def __init__(self) -> None:
            super().__init__()
            self.routing = scaled(2.5, 0, n_routing)
            self.deployment = scaled(1.5, n_routing, n_deployment)
            self.register_parameter("raw_phi", torch.nn.Parameter(torch.zeros(1).double()))
            self.register_constraint("raw_phi", Positive())
            self.register_parameter("beta", torch.nn.Parameter(torch.zeros(1).double()))
            self.register_prior("beta_prior", NormalPrior(0.0, 1.0), "beta")

        def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: object) -> Tensor:
            """Returns k of all pairs of rows, (..., n1, n2), or of equal places, (..., n)."""
            f, c = self.routing(x1, x2, diag=diag), self.deployment(x1, x2, diag=diag)
            if not diag:
                f, c = f.to_dense(), c.to_dense()
            at = n_routing + n_deployment
            left, right = torch.exp(self.beta * x1[..., at]), torch.exp(self.beta * x2[..., at])
            c = c * (left * right if diag else left[..., :, None] * right[..., None, :])
            return f + c + self.raw_phi_constraint.transform(self.raw_phi) * f * c

    return BouteKernel().double()


def _process(
    inputs: Tensor,
    n_routing: int,
    n_deployment: int,
    target: FloatVector,
    kept: SingleTaskGP | None,
) -> SingleTaskGP:
    """A Gaussian process of `target` (n,) with the kernel above, fitted from where `kept` ended."""
    import torch
    from botorch.exceptions.errors import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.mlls import ExactMarginalLogLikelihood

    process = SingleTaskGP(
        inputs,
        torch.from_numpy(target.reshape(-1, 1).copy()),
        covar_module=make_kernel(n_routing, n_deployment),
        outcome_transform=Standardize(1),
    )
    if kept is not None:
        for part in ("mean_module", "covar_module", "likelihood"):
            getattr(process, part).load_state_dict(getattr(kept, part).state_dict())
    start = deepcopy(process.state_dict())
    try:
        objective = ExactMarginalLogLikelihood(process.likelihood, process)
        fit_gpytorch_mll(objective, optimizer_kwargs={"options": {"ftol": _FIT_TOLERANCE}})
    except ModelFittingError:
        process.load_state_dict(start)
    return process.eval()
