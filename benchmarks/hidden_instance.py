"""The small instance with a truth that the planner does not know: what a simulator would find.

Every option is slower or faster than its table says by a factor of its own, and by another
one where a second model runs on the same GPU type. An evaluation finds the quality of the best
routing on the true speeds, or by how much the limit is missed; what a search is told beforehand
(features, prior) comes from the tables.

Notation (else as in small_instance.py)
    theta_o  log of how much slower option o is believed to be than its table  scalar
    k        world: which GPU types are shared by two models or more      0..2^G - 1
    c_ok     true time over table time of option o in world k             scalar
             slowness_o, times crowding_mg where k says that g is shared
    true curve of option o in world k: widths_o / c_ok tokens/s, slopes_o * c_ok seconds/token
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cached_property

import numpy as np
from small_instance import (
    ARRIVALS_RPS,
    GPUS,
    LIMITS_S,
    MODELS,
    N_GPUS_PER_TYPE,
    Floats,
    Instance,
    Ints,
)

from planner.search.problem import Expected, Outcome, Prior, Problem

SLOWNESS = (0.7, 1.5)
CROWDING = (0.9, 1.25)
LARGEST_MARGIN = 3.0
"""Deployments that miss by a factor of eight or more all miss as much."""
TABLE_ERRORS = np.array([1.0, 0.015, 1.0, 0.15])
"""How far cost, quality, limit (both are known) and margin of a table may be off although its
speeds are right: what two models on one GPU type do to one another is not in it."""


class Hidden(Instance):
    """The instance as it truly is; `table` is what the planner believes."""

    def __init__(
        self,
        seed: int = 0,
        n_gpus_per_type: int = N_GPUS_PER_TYPE,
        arrivals_rps: float = ARRIVALS_RPS,
    ) -> None:
        super().__init__(n_gpus_per_type, arrivals_rps)
        self.table = Instance(n_gpus_per_type, arrivals_rps)
        rng = np.random.default_rng([seed, 20240502])
        n_options = len(self.options)
        self.gpu_of = np.array([o.gpu for o in self.options])
        slowness = np.exp(rng.uniform(*np.log(SLOWNESS), n_options))
        crowding = rng.uniform(*CROWDING, (len(MODELS), len(GPUS)))[self.model_of, self.gpu_of]
        shared = np.arange(2 ** len(GPUS))[:, None] >> self.gpu_of & 1
        self.slower = slowness * np.where(shared == 1, crowding, 1.0)
        self.worlds = [self._world(c[:, None]) for c in self.slower]

    def _world(self, slower: Floats) -> Instance:
        world = copy(self.table)
        world.widths, world.slopes = self.table.widths / slower, self.table.slopes * slower
        return world

    def world_of(self, replicas: Ints) -> Ints:
        """Returns the world of each deployment (n, O), (n,)."""
        found = np.zeros(len(replicas), dtype=np.int64)
        for g in range(len(GPUS)):
            here = self.gpu_of == g
            models = [replicas[:, here & (self.model_of == m)].any(axis=1) for m in range(3)]
            found |= (np.sum(models, axis=0) > 1).astype(np.int64) << g
        return found

    def problem(self, with_prior: bool = True) -> Problem:
        """Returns the search problem; without prior, nothing is known but costs and limits."""
        plain = super().problem()
        prior = self.beliefs.prior() if with_prior else None
        return replace(plain, prior=prior)

    @cached_property
    def beliefs(self) -> Beliefs:
        """Returns what the planner believes before anything was evaluated."""
        return Beliefs(self.table)

    def evaluate(self, point: Ints) -> Outcome:
        """Returns the true outcome of `point`, with its margin."""
        outcome = super().evaluate(point)
        world = self.worlds[self.world_of(point[None, :-1])[0]]
        margin = margins(world, point[None, :])[0]
        return replace(outcome, margin=float(margin))

    def features(self, points: Ints) -> Floats:
        """Returns what a surrogate sees of points: the figures of the tables, not the truth."""
        return self.table.features(points)

    def phase_one(self, replicas: Ints, limit_s: float) -> tuple[Floats, Floats]:
        """Returns how far each deployment (n, O) truly misses, and its quality, (n,) each."""
        missed, quality = np.zeros(len(replicas)), np.zeros(len(replicas))
        world_of = self.world_of(replicas)
        for k in np.unique(world_of):
            rows = world_of == k
            missed[rows], quality[rows] = self.worlds[k].phase_one(replicas[rows], limit_s)
        return missed, quality

    def route(self, replicas: Ints, limit_s: float) -> tuple[float, Floats]:
        """Returns the true best mean quality within the limit, and the prices (M + 1,)."""
        return self.worlds[self.world_of(replicas[None, :])[0]].route(replicas, limit_s)

    def upper(self, prices: Floats, limit_s: float, replicas: Ints) -> Floats:
        """Returns a bound on the true quality of each deployment (n, O), (n,)."""
        bounds = [world.bound(prices, limit_s) for world in self.worlds]
        constant = np.array([c for c, _ in bounds])
        gain = np.array([g for _, g in bounds])
        world_of = self.world_of(replicas)
        return np.asarray(constant[world_of] + np.sum(replicas * gain[world_of], axis=1))


def margins(world: Instance, points: Ints) -> Floats:
    """Returns how far points (n, O + 1) miss, below 0 how much room they leave, (n,).

    The larger of log2 of least latency over limit and log2 of load over capacity.
    """
    replicas, limit_s = points[:, :-1], LIMITS_S[points[:, -1]]
    late = np.log2(world.least_latency(replicas)[0] / limit_s)
    capacity = replicas @ world.widths.sum(axis=1)
    full = np.log2(world.load / np.maximum(capacity, 1e-9))
    return np.minimum(np.maximum(late, full), LARGEST_MARGIN)


class Beliefs:
    """What tables say of every point at once, were their options exp(theta) times slower.

    The quality is that of the least of many bounds (Instance.bound), one for each program that
    the front of the tables needed: exact on that front, up to 0.03 too high far away from it.
    """

    def __init__(self, table: Instance) -> None:
        self._table = table
        prices: list[Floats] = []
        self.front, _ = table.truth(prices)
        self._prices = np.array(prices)

    def prior(self) -> Prior:
        """Returns the prior of a search: each option is 20 % faster or slower than its table."""
        spreads = np.full(len(self._table.options), 0.2)
        return Prior(self.expect, spreads, TABLE_ERRORS)

    def expect(self, points: Ints, theta: Floats) -> Expected:
        """Returns what is expected of points (n, O + 1) if options are exp(theta) (O,) slower."""
        world = copy(self._table)
        world.widths = self._table.widths / np.exp(theta)[:, None]
        world.slopes = self._table.slopes * np.exp(theta)[:, None]
        quality = np.empty(len(points))
        for level in np.unique(points[:, -1]):
            rows = points[:, -1] == level
            quality[rows] = self._quality(world, points[rows, :-1], float(LIMITS_S[level]))
        values = self._table.known(points)
        values[:, 1] = -quality
        return Expected(values, margins(world, points))

    def _quality(self, world: Instance, replicas: Ints, limit_s: float) -> Floats:
        mu, late = self._prices[:, :-1], np.maximum(self._prices[:, -1], 0.0)
        worth = mu[:, world.model_of, None] - late[:, None, None] * (
            world.slopes * world.load / (world.arrivals_rps * limit_s)
        )
        gain = np.sum(np.maximum(worth, 0.0) * world.widths / world.load, axis=2)
        return np.min(self._constants[:, None] + gain @ replicas.T, axis=0)

    @cached_property
    def _constants(self) -> Floats:
        """The part of each bound that depends on neither limit nor deployment."""
        return np.array([self._table.bound(price, 1.0)[0] for price in self._prices])
