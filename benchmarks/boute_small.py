"""BOute's method on the small instance: what of a point is routing, what deployment.

    trials = boute_on(instance)(problem, n_evaluations, seed, start, on_trial)

The routing inside a point is solved by its evaluation here, so the only decision beside the
deployment is the level of the latency limit: the kernel k_f sees that. k_c sees, per model and type
of GPU, the GPUs given to the model and the mean log2 of its tensor parallel size. The preference
weighs these GPUs by what the model's best option serves per dollar there, against its mean over
the types of GPU. The paper's candidate lists need loads per model; here every deployment of the
box may be drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from small_instance import GPUS, LIMITS_S, MODELS, Floats, Instance, Ints

from planner.search import boute, sampling
from planner.search.problem import Problem, Progress, Trials

Search = Callable[[Problem, int, int, Ints | None, Progress | None], Trials]


def boute_on(instance: Instance, n_batch: int = 1) -> Search:
    """The method with the signature that all methods have, for problems over an instance."""
    parts = _parts(instance)

    def search(
        problem: Problem,
        n_evaluations: int,
        seed: int,
        start: Ints | None = None,
        on_trial: Progress | None = None,
    ) -> Trials:
        return boute.search(
            problem, n_evaluations, seed, start, on_trial,
            parts=parts, n_batch=n_batch, n_stable=n_evaluations,
        )  # fmt: skip

    return search


def _parts(instance: Instance) -> boute.Parts:
    box = instance.box
    size = np.array([option.tensor_parallel for option in instance.options], dtype=float)
    cell = np.array([o.model * len(GPUS) + o.gpu for o in instance.options])
    member = (cell == np.arange(len(MODELS) * len(GPUS))[:, None]).astype(float)
    suited = _suited(instance, cell)

    def gpus(points: Ints) -> Floats:
        return (points[:, :-1] * size) @ member.T

    def deployment(points: Ints) -> Floats:
        taken = gpus(points)
        log_size = (points[:, :-1] * size * np.log2(size)) @ member.T
        return np.column_stack([taken, log_size / np.maximum(taken, 1.0)])

    def near(point: Ints, n: int, rng: np.random.Generator) -> Ints:
        found = sampling.neighbours(point, box)
        return found[rng.permutation(len(found))[:n]]

    return boute.Parts(
        routing=lambda points: np.log2(LIMITS_S[points[:, -1:]]),
        deployment=deployment,
        preference=lambda points: gpus(points) @ suited / (len(GPUS) * instance.n_gpus_per_type),
        draw=lambda n, rng: sampling.sparse_points(box, n, rng),
        near=near,
    )


def _suited(instance: Instance, cell: Ints) -> Floats:
    """The preference of each model for each type of GPU, (models x types,)."""
    per_usd = instance.widths.sum(axis=1) / instance.cost
    best = np.array(
        [per_usd[cell == i].max(initial=0.0) for i in range(len(MODELS) * len(GPUS))]
    ).reshape(len(MODELS), len(GPUS))
    there = np.where(best > 0, best, np.nan)
    against = np.log(there) - np.nanmean(np.log(there), axis=1, keepdims=True)
    return np.nan_to_num(against).ravel()
