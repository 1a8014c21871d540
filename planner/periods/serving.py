"""Which deployments serve a period: each settled and scored like a plan, once per set of rates.

More replicas of the same pools, or less traffic of the same mix, serve at least as well. So much
of what is not settled yet can be presumed from what is; a path is only made of what was settled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.choose import choose, signed_routing
from planner.errors import Infeasible
from planner.exact.periods import Candidate
from planner.exact.readings import Reading, Tiers, halved, read_tiers
from planner.explore import Effort, explore
from planner.objectives import make_objectives
from planner.periods.cases import Site
from planner.reasons.relax import infeasible
from planner.settle import Settled, settle
from planner.spec.arrays import IntArray

SHORT = 3e-3
"""A deployment that misses its promises by more than this on the first tables is not settled."""

N_TIERS = 16  # at most, of the tables' own loads; each is cut in parts

Key = tuple[int, ...]


class Serving:
    """What is known of one set of rates: who serves it, who does not."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.objectives = make_objectives(site.case)
        self.hosted = bool(site.case.workload.request_usd.any())
        self.busier: tuple[Serving, ...] = ()  # of the same mix, with at least its rates
        self.calmer: tuple[Serving, ...] = ()
        self._settled: dict[Key, Settled] = {}
        self._signed: dict[Key, Settled] = {}
        self._missed: dict[Key, float] = {}

    def tiers(self, reading: Reading, n_halves: int = 1, settled: Settled | None = None) -> Tiers:
        """Returns a reading of the tables with every tier cut in two, n_halves times.

        The tables are those of a settled deployment, or else those at the traffic's own mix.
        """
        case = self.site.case
        tables = self.objectives.tables if settled is None else settled.tables
        headroom = case.question.headroom_ratio
        tiers = read_tiers(case.workload, tables, case.space, headroom, reading, N_TIERS)
        for _ in range(n_halves if tiers.case.figures.n else 0):
            tiers = halved(tiers)
        return tiers

    def settled(self, replicas: IntArray) -> Settled:
        """Returns a deployment (P,) with the best shares found for these rates."""
        key = tuple(replicas.tolist())
        if key not in self._settled:
            self._settled[key] = settle(self.objectives, replicas)
        return self._settled[key]

    def signed(self, replicas: IntArray) -> Settled:
        """Returns a deployment (P,) that serves, with the best shares found for it."""
        key = tuple(replicas.tolist())
        if key not in self._signed:
            self._signed[key] = signed_routing(self.objectives, self.settled(replicas))
        return self._signed[key]

    def known(self, replicas: IntArray) -> Settled | None:
        """Returns a deployment (P,) as it was settled, None where it was not."""
        return self._settled.get(tuple(replicas.tolist()))

    @property
    def n_settled(self) -> int:
        """Returns how many deployments were settled."""
        return len(self._settled)

    def candidate(self, replicas: IntArray) -> Candidate | None:
        """Returns a deployment (P,) as one that serves these rates, None where it does not.

        Presumed where it follows from what was settled before; hosted requests have no such order.
        """
        key = tuple(replicas.tolist())
        if key not in self._settled and not self.hosted:
            if any(other.serves_with_less(replicas) for other in (self, *self.busier)):
                return Candidate(replicas, 0.0)
            if any(other.fails_with_more(replicas) for other in (self, *self.calmer)):
                return None
        if key not in self._settled and self._short(replicas):
            return None
        settled = self.settled(replicas)
        if not settled.acceptable:
            return None
        return Candidate(replicas, settled.score.hosted_usd_per_h)

    def _short(self, replicas: IntArray) -> bool:
        """Returns whether a deployment (P,) is clearly too small, which is quick to see."""
        key = tuple(replicas.tolist())
        if key not in self._missed:
            self._missed[key] = self.objectives.evaluate(replicas).violation
        return self._missed[key] > SHORT

    def serves_with_less(self, replicas: IntArray) -> bool:
        """Returns whether some part of a deployment (P,) was found to serve."""
        return any(s.acceptable and (s.replicas <= replicas).all() for s in self._settled.values())

    def fails_with_more(self, replicas: IntArray) -> bool:
        """Returns whether a deployment with at least these replicas (P,) was found not to serve."""
        return any(
            not s.acceptable and (s.replicas >= replicas).all() for s in self._settled.values()
        )

    def searched(self, name: str, effort: Effort) -> IntArray:
        """Returns a deployment (P,) that serves, from a search of the period by itself.

        Raises:
            Infeasible: there is none; says what binds and what would work.
        """
        explored = explore(self.objectives, effort, "auto", 0)
        found, nearest = choose(self.objectives, explored, None, signed=False)
        if found is None:
            error = infeasible(self.objectives, explored, nearest, self.site.inputs)
            raise Infeasible(f"in period {name}: {error.binding}", error.distance,
                             error.relaxations, error.conflict)  # fmt: skip
        self._settled[tuple(found.replicas.tolist())] = found
        return found.replicas


def make_servings(sites: Sequence[Site]) -> tuple[Serving, ...]:
    """Returns what is to be known of each set of rates, (S,), and of whom each can learn."""
    servings = tuple(Serving(site) for site in sites)
    rates = [site.case.workload.class_rate_rps for site in sites]
    for mine, rate in zip(servings, rates, strict=True):
        alike = [
            (other, float(r.sum() - rate.sum()))
            for other, r in zip(servings, rates, strict=True)
            if other is not mine and np.allclose(r / r.sum(), rate / rate.sum(), atol=1e-9)
        ]
        mine.busier = tuple(other for other, more in alike if more >= 0)
        mine.calmer = tuple(other for other, more in alike if more <= 0)
    return servings
