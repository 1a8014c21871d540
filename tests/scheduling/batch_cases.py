"""Random moments of a data-parallel group, for the tests of batch policies."""

import numpy as np

from planner.scheduling.batch import DecodeWorkers, Running


def group(random, n_workers, n_places, longest_tokens=4_000):
    """Returns the workers of a group with some places free; ages 0 to 300, some of them equal."""
    shape = (n_workers, n_places)
    busy = random.random(shape) < random.uniform(0.2, 0.95)
    age = np.where(busy, random.integers(0, 300, shape), -1)
    kv = np.where(busy, random.integers(1, longest_tokens, shape), 0)
    running = Running(kv, age, random.integers(0, 50, shape))
    return DecodeWorkers(kv.sum(axis=1).tolist(), (n_places - busy.sum(axis=1)).tolist(), running)


def waiting_tokens(random, most=40):
    """Returns the KV tokens of some waiting requests, oldest first; many of them equal."""
    return (10 * random.integers(1, 200, random.integers(0, most))).tolist()
