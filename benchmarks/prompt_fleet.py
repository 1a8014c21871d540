"""A fleet for planning on all prompts: the realistic instance's pools, and any number of prompts.

The box and the latency tables are those of realistic_instance.py. Prompts have their own lengths
and difficulties; what a model is believed to be worth on them is a logistic curve. The works of a
model's pools are taken to be in one ratio, that of the mean request, so that options are models:
load is in replicas of the model's first pool.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from realistic_instance import MODELS, Size, realistic_instance

from planner.exact.fleet import Fleet, read_fleet
from planner.routing.policies import Prompts, prompts_of
from planner.space import Space

Floats = NDArray[np.float64]


def prompt_fleet(n_prompts: int, seed: int = 0, demand: float = 0.6) -> tuple[Prompts, Fleet]:
    """Prompts, and the fleet that may answer them within one limit on their mean e2e."""
    setting = realistic_instance(50, seed, size=Size(), demand=demand)
    models = list(MODELS)[: Size().n_models]
    option = np.array([models.index(table.pool.split("-")[0]) for table in setting.tables])
    mix = setting.workload.weights
    load = setting.workload.total_rps * np.array([mix @ table.work_s for table in setting.tables])
    first = np.array([int(np.flatnonzero(option == m)[0]) for m in range(len(models))])
    fleet = read_fleet(setting, "conservative").merged(option, load / load[first[option]])
    return _prompts(n_prompts, seed, load[first]), fleet


def _prompts(n: int, seed: int, mean_load: Floats) -> Prompts:
    """Prompts of all lengths and difficulties; a mean one makes mean_load, (M,), if all are so."""
    random = np.random.default_rng(seed)
    skill = np.array([MODELS[name][2] for name in list(MODELS)[: mean_load.size]])
    difficulty = random.beta(2.0, 2.6, n)[:, None]
    own = random.normal(0.0, 0.05, (n, mean_load.size))
    quality = 1.0 / (1.0 + np.exp(-6.0 * (skill + own - difficulty)))
    tokens = random.lognormal(-0.3, 0.75, (n, 1)) * random.lognormal(0.0, 0.15, own.shape)
    return prompts_of(np.full(n, 1.0 / n), quality, mean_load * tokens / tokens.mean(axis=0))


def random_deployment(random: np.random.Generator, space: Space) -> NDArray[np.int64]:
    """A sparse deployment (P,) inside the box: two to eight pools, each a few replicas."""
    replicas = np.zeros(len(space.pool_names), dtype=np.int64)
    for pool in random.permutation(replicas.size)[: random.integers(2, 9)]:
        for _ in range(int(random.integers(1, 9))):
            replicas[pool] += 1
            if not space.admits(replicas):
                replicas[pool] -= 1
                break
    return replicas
