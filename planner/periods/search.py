"""The cheapest path found through the periods of a question, and what no path can cost less than.

    1  each set of rates by itself: the best deployment of its joint program, settled
    2  prices that hold the periods together, from mixtures of all known deployments
    3  the best deployment of every period at these prices, by the conservative reading: new
       deployments, and L as an estimate of what is left to gain
    4  again from 2, until the best path is as good as that, nothing new comes, or rounds are over
    5  the path's deployments settled; one that does not serve after all is taken out: again from 4
    6  the bound: L at the best prices by the optimistic reading of the settled path's tables (§5)

Where the newest prices do not move the bound, prices between them and the best so far are next
(Wentges, International Transactions in Operational Research 4, 1997).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.exact.path import Bill, Path, bill, cheapest_path
from planner.exact.periods import (
    Answer,
    Candidate,
    Prices,
    at_least_usd,
    best_of_period,
    free_prices,
    mixed,
    prices_of,
)
from planner.exact.readings import Reading, Tiers
from planner.explore import Effort
from planner.periods.cases import Round
from planner.periods.serving import Key, Serving, make_servings
from planner.search.problem import Progress
from planner.settle import Settled
from planner.spec.arrays import IntArray

ROUNDS: dict[Effort, int] = {"quick": 4, "standard": 12, "thorough": 40}
TOUCHING_RATIO = 1e-4
"""A bound this near proves that nothing is better, for all that money is rounded to."""

BEYOND_RATIO = 1e-3

OWN_HALVES = 1
PROOF_HALVES: dict[Effort, int] = {"quick": 1, "standard": 1, "thorough": 2}
"""How often the tiers of a period's program are cut in two; between them they stay as they are."""

ATTEMPTS: tuple[tuple[Reading, bool], ...] = (
    ("optimistic", False),
    ("conservative", False),
    ("conservative", True),
)
"""How a set of rates is tried by itself; True: on the tables of what was tried before."""

NEWEST = 0.5  # weight of the newest prices beside the best ones


@dataclass(frozen=True)
class FoundPath:
    """A settled deployment for every period, what they cost together, and what is proved."""

    settled: tuple[Settled, ...]  # (T,)
    reserved: dict[str, float]  # GPUs paid for in all hours, by kind
    bill: Bill
    at_least_usd: float  # no path costs less, by the tables of this one; -inf: nothing is proved
    held_usd: float | None  # the cheapest known deployment that serves every period, held
    n_settled: int
    complete: bool


@dataclass
class _Search:
    """Known deployments, and the prices with the largest L so far."""

    round: Round
    servings: tuple[Serving, ...]
    effort: Effort
    known: dict[Key, IntArray] = field(default_factory=dict)
    best: Prices | None = None
    best_usd: float = -np.inf
    moved: bool = True  # whether the last prices moved the bound

    @property
    def by_period(self) -> list[Serving]:
        """Returns the serving of each period, (T,)."""
        return [self.servings[s] for s in self.round.site_of]

    def learn(self, replicas: IntArray) -> bool:
        """Adds a deployment (P,); returns whether it is new."""
        key = tuple(replicas.tolist())
        if key in self.known:
            return False
        self.known[key] = replicas
        return True

    def candidates(self) -> list[list[Candidate]]:
        """Returns the known deployments that serve each period, (T,)."""
        by_site = [
            [c for n in self.known.values() if (c := serving.candidate(n)) is not None]
            for serving in self.servings
        ]
        return [by_site[s] for s in self.round.site_of]

    def begin(self) -> None:
        """Learns a good deployment for every set of rates by itself, the busiest first.

        Raises:
            Infeasible: one of them cannot be served.
        """
        free = free_prices(self.round.schedule)
        for s, serving in enumerate(self.servings):
            period = self.round.site_of.index(s)
            found = self._own(serving, period, free)
            if found is not None:
                self.learn(found)
            elif not any(serving.candidate(n) for n in self.known.values()):
                self._search_for(period)

    def _search_for(self, period: int) -> None:
        """Learns a deployment that serves a period, from a search of it by itself.

        Raises:
            Infeasible: there is none.
        """
        name = self.round.spans[period].name
        self.learn(self.by_period[period].searched(name, self.effort))

    def _own(self, serving: Serving, period: int, prices: Prices) -> IntArray | None:
        """Returns the best deployment (P,) of a period at some prices, None where none serves.

        The optimistic program has the best one where it serves, the other one hits it more often,
        once more on tables at the mix of what did not serve.
        """
        failed: Settled | None = None
        for reading, after in ATTEMPTS:
            if after and failed is None:
                break
            tiers = serving.tiers(reading, OWN_HALVES, failed if after else None)
            answer = best_of_period(self.round.schedule, period, tiers, prices)
            if answer.replicas is None:
                continue
            if serving.candidate(answer.replicas) is not None:
                return answer.replicas
            failed = serving.known(answer.replicas) or failed
        return None

    def improve(self, tiers: Sequence[Tiers]) -> bool:
        """Prices, answers, learns: one round; returns whether anything new came of it.

        Args:
            tiers: a reading of each set of rates, (S,).
        """
        newest = prices_of(self.round.schedule, self.candidates())
        if newest is None:
            return False
        prices = newest
        if self.best is not None and not self.moved:
            prices = mixed(self.best, newest, NEWEST)
        answers, new = [], False
        for period, serving in enumerate(self.by_period):
            mine = tiers[self.round.site_of[period]]
            answer = best_of_period(self.round.schedule, period, mine, prices)
            answers.append(answer)
            if answer.replicas is not None and serving.candidate(answer.replicas) is not None:
                new |= self.learn(answer.replicas)
        return self._estimate(prices, answers) or new

    def _estimate(self, prices: Prices, answers: Sequence[Answer]) -> bool:
        """Keeps prices whose L is the largest so far; returns whether it is."""
        usd = at_least_usd(self.round.schedule, prices, answers)
        self.moved = usd > self.best_usd * (1.0 + TOUCHING_RATIO)
        if np.isfinite(usd) and usd > self.best_usd:
            self.best, self.best_usd = prices, usd
        return self.moved

    def path(self) -> tuple[Path, list[Candidate]]:
        """Returns the cheapest path over deployments that were settled, all of them acceptable."""
        while True:
            known = self.candidates()
            if not all(known):  # what was presumed to serve a period does not
                self._search_for(next(t for t, each in enumerate(known) if not each))
                continue
            path = cheapest_path(self.round.schedule, known)
            chosen = [each[k] for each, k in zip(known, path.chosen, strict=True)]
            fine = [
                serving.settled(c.replicas).acceptable
                for serving, c in zip(self.by_period, chosen, strict=True)
            ]
            if all(fine):
                return path, chosen


def find_path(round_: Round, effort: Effort, on_trial: Progress | None = None) -> FoundPath:
    """Returns the cheapest path found through the periods of a question, with its bound.

    Args:
        round_: the periods.
        effort: how many rounds of prices.
        on_trial: called after each round with (done, total, estimate of the best in $).

    Raises:
        Infeasible: a period cannot be served.
    """
    search = _Search(round_, make_servings(round_.sites), effort)
    complete = True
    try:
        search.begin()
        _improve(search, on_trial)
    except KeyboardInterrupt:
        if not all(search.candidates()):
            raise  # there is nothing to go on with
        complete = False
    path, chosen = search.path()
    settled = [
        serving.signed(candidate.replicas)
        for serving, candidate in zip(search.by_period, chosen, strict=True)
    ]
    candidates = [Candidate(s.replicas, s.score.hosted_usd_per_h) for s in settled]
    total = bill(round_.schedule, candidates, path.reserved)
    assert total is not None  # a path takes no more GPUs than there are
    least_usd = -np.inf
    try:
        if complete:  # whoever interrupts does not want to wait for a proof
            least_usd = _certified(search, settled, total.usd)
    except KeyboardInterrupt:
        complete = False
    return FoundPath(
        settled=tuple(settled),
        reserved=path.reserved,
        bill=total,
        at_least_usd=least_usd,
        held_usd=_held_usd(search),
        n_settled=sum(serving.n_settled for serving in search.servings),
        complete=complete,
    )


def _improve(search: _Search, on_trial: Progress | None) -> None:
    """Rounds of prices, until the best path is proved to be best or nothing new comes."""
    n_rounds = ROUNDS[search.effort]
    tiers = [serving.tiers("conservative", 0) for serving in search.servings]
    for n in range(n_rounds):
        new = search.improve(tiers)
        if on_trial is not None:
            on_trial(n + 1, n_rounds, search.best_usd)
        least = cheapest_path(search.round.schedule, search.candidates()).usd
        if not new or search.best_usd >= least * (1.0 - TOUCHING_RATIO):
            return


def _certified(search: _Search, settled: Sequence[Settled], usd: float) -> float:
    """Returns what no path can cost less than, $, by the tables of a settled one (§5).

    Rounded shares may miss a limit by a millionth and so touch the bound from the other side; what
    lies further outside of what was proved about has no bound, -inf.
    """
    schedule = search.round.schedule
    prices = search.best or free_prices(schedule)
    halves = PROOF_HALVES[search.effort]
    answers = [
        best_of_period(schedule, t, serving.tiers("optimistic", halves, mine), prices)
        for t, (serving, mine) in enumerate(zip(search.by_period, settled, strict=True))
    ]
    least = at_least_usd(schedule, prices, answers)
    return min(least, usd) if least <= usd * (1.0 + BEYOND_RATIO) else -np.inf


def _held_usd(search: _Search) -> float | None:
    """Returns what one deployment costs that serves every period, the cheapest known, in $."""
    found: list[tuple[float, Key]] = []
    for key, replicas in search.known.items():
        held = [serving.candidate(replicas) for serving in search.servings]
        serves = [candidate for candidate in held if candidate is not None]
        if len(serves) == len(held):
            each = [[serves[s]] for s in search.round.site_of]
            found.append((cheapest_path(search.round.schedule, each).usd, key))
    for usd, key in sorted(found):
        if all(s.settled(search.known[key]).acceptable for s in search.servings):
            return usd
    return None
