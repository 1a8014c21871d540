"""Random problems over all prompts, and their truth: one large linear program by another solver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import coo_matrix, vstack

from planner.routing.policies import PromptObjective, Prompts, prompts_of
from planner.routing.prices import Curves
from planner.spec.arrays import BoolArray, FloatArray


@dataclass(frozen=True)
class PromptCase:
    """One problem as given: what the engine and the other solver both start from."""

    weight: FloatArray  # (N,)
    quality: FloatArray  # (N, M)
    work: FloatArray  # (N, M)
    allowed: BoolArray  # (N, M)
    usd: FloatArray  # (N, M)
    objective: PromptObjective
    curves: Curves
    floor: float | None

    def prompts(self) -> Prompts:
        """Returns the prompts for the engine."""
        return prompts_of(
            self.weight, self.quality, self.work, self.allowed, self.usd, self.objective
        )

    @property
    def gain(self) -> FloatArray:
        """Returns what each prompt at each option adds to the objective, (N, M)."""
        return {"quality": self.quality, "cost": -self.usd, "work": -self.work}[self.objective]


def random_case(seed: int) -> PromptCase:
    """Returns one of many kinds of problem; some have no routing, some have many equal ones."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 50)), int(rng.integers(1, 6))
    quality, work = rng.random((n, m)), rng.lognormal(0.0, 0.7, (n, m))
    work *= 10.0 ** rng.uniform(-3, 3, m)
    usd = rng.lognormal(-6.0, 1.0, (n, m))
    kind = rng.integers(4)
    if kind == 1:  # class means: many prompts are alike
        alike = rng.integers(0, min(3, n), n)
        quality, work, usd = quality[alike], work[alike], usd[alike]
    elif kind == 2:  # scores are 0 or 1, works are whole: ties everywhere
        quality, work = np.round(quality), np.round(3.0 * rng.random((n, m)))
    allowed = rng.random((n, m)) < rng.choice([0.7, 1.0])
    allowed[np.arange(n), rng.integers(0, m, n)] = True
    n_limits = int(rng.integers(0, 4))
    curves = _curves(rng, work, n_limits, float(rng.choice([0.4, 0.8, 1.5, 4.0])))
    floor = float(rng.uniform(0.2, 0.8)) if rng.random() < 0.4 else None
    objective: PromptObjective = ("quality", "cost", "work")[int(rng.choice(3, p=[0.6, 0.2, 0.2]))]
    weight = rng.random(n) + 0.1
    return PromptCase(weight, quality, work, allowed, usd, objective, curves, floor)


def _curves(rng: np.random.Generator, work: FloatArray, n_limits: int, tightness: float) -> Curves:
    """Returns convex curves of one to three pools per option; some options are not deployed."""
    m, all_of_it = work.shape[1], work.mean(axis=0) + 1e-9
    option, width, slope = [], [], []
    for a in range(m):
        for _ in range(int(rng.integers(0 if rng.random() < 0.3 else 1, 4))):
            size = int(rng.integers(1, 6))
            option.append(np.full(size, a))
            room = all_of_it[a] * tightness * rng.uniform(0.1, 0.6)
            width.append(room * rng.dirichlet(np.ones(size)))
            steps = rng.exponential(1.0, (n_limits, size))
            slope.append(np.cumsum(steps, axis=1) / all_of_it[a])
    none = np.zeros((n_limits, 0))
    return Curves(
        np.concatenate([np.zeros(0, np.int64), *option]),
        np.concatenate([np.zeros(0), *width]),
        np.concatenate([none, *slope], axis=1),
        rng.uniform(0.2, 4.0, n_limits),
    )


def by_linprog(case: PromptCase, method: str = "highs") -> OptimizeResult:
    """Returns the optimum of the whole program; its `fun` is minus the value."""
    n, m = case.quality.shape
    p, c = case.weight / case.weight.sum(), case.curves
    j, s = np.arange(n * m), c.option.size
    deployed = np.isin(np.arange(m), c.option)
    upper = np.where(case.allowed & deployed, 1.0, 0.0).ravel()
    unit = np.maximum((p[:, None] * case.work).sum(axis=0), 1e-12)  # rows near 1 for the solver
    rows = [
        coo_matrix(
            (
                np.concatenate([(p[:, None] * case.work / unit).ravel(), -1.0 / unit[c.option]]),
                (np.concatenate([j % m, c.option]), np.arange(n * m + s)),
            ),
            (m, n * m + s),
        )
    ]
    most = [np.zeros(m)]
    for flow, limit in zip(c.slope, c.limit, strict=True):
        rows.append(coo_matrix(np.concatenate([np.zeros(n * m), flow / limit])[None, :]))
        most.append(np.ones(1))
    if case.floor is not None:
        served = -(p[:, None] * case.quality).ravel()
        rows.append(coo_matrix(np.concatenate([served, np.zeros(s)])[None, :]))
        most.append(np.array([-case.floor]))
    one = coo_matrix((np.ones(n * m), (j // m, j)), (n, n * m + s))
    return linprog(
        np.concatenate([-(p[:, None] * case.gain).ravel(), np.zeros(s)]),
        A_ub=vstack(rows).tocsr(),
        b_ub=np.concatenate(most),
        A_eq=one.tocsr(),
        b_eq=np.ones(n),
        bounds=np.stack([np.zeros(n * m + s), np.concatenate([upper, c.width])], axis=1),
        method=method,
    )
