"""Bayesian optimisation with the simulator: what else, near the front, does better when played?

Notation
    z        a point: replicas of each pool, latency level                       (P + 1,)
    t(z)     log2 of the largest predicted / allowed latency, by the tables as learned
    theta_p  log of how much slower pool p plays than its table says             (P,)
    J(z)     d t / d theta: the tables of one pool after the other slowed        (P,)
    s(z)     largest simulated / allowed latency, the mean of a play and its variance

Program
    candidates   what the tables accept of the front and of its neighbours, which the tables
                 alone tell: cost and gain are known, s is not
    prior        log2 s(z) = t(z) + J(z) theta: one play teaches about every plan with that pool
    play         settled as a choice is, then simulated, several at a time, first the choice and
                 the front beside it, then whatever promises most (search/mobo.py)
    choice       the best by the question among those that miss no limit for certain
Without the `plan` extra the candidates are played in the order of the question's choice.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.choose import change_usd, choose, ranked
from planner.confirm import Confirmed, Stage, draft_of
from planner.explore import Effort, Explored, explored_of
from planner.memo import Memo, reference, search_problem
from planner.objectives import LEAST_GAIN, WORST_RATIO, Evaluation, Objectives, features
from planner.parallel.workers import Workers
from planner.routing import truth
from planner.search import mobo, sampling, trial_log
from planner.search.problem import (
    ACCEPTED_VIOLATION,
    Expected,
    Outcome,
    Prior,
    Problem,
    Progress,
    Trials,
)
from planner.settle import Settled
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.plan import Plan, Simulated

Key = tuple[int, ...]
"""A point: the replicas of each pool and the latency level."""


@dataclass(frozen=True)
class Trying:
    """How much an effort plays: never seconds, on which no answer may depend."""

    n_plays: int
    n_looks: int  # neighbours that the tables look at


TRYING: dict[Effort, Trying] = {
    "quick": Trying(n_plays=0, n_looks=0),
    "standard": Trying(n_plays=12, n_looks=120),
    "thorough": Trying(n_plays=60, n_looks=600),
}
LONGER = 4
"""Method `mobo` plays so many times as much; where the effort is quick, this many batches."""

N_BATCH = 4
N_START = 4
"""Points of the front, the choice among them, that are played before anything is learned."""
N_PARENTS = 6
"""Points of the front whose neighbours become candidates."""

LEAST_GAIN_RATIO = 1e-3
"""Batches that promise less than this share of the front's volume end the search."""

SPREAD = 0.15
"""Deviation of theta: a pool plays about so much slower or faster than its table says."""
ERRORS = np.array([np.inf, np.inf, np.inf, 0.1])
"""Deviations of a play from the prior's with the right theta. Only log2 s can teach theta: cost and
gain do not depend on it, and the ratio itself is the same finding once more."""
SLOWED = 0.05
"""Difference of theta for J."""
NORMAL_95 = 1.96
LEAST_RATIO = 1e-3
CLEAR = 2.0
"""Standard errors by which the fastest must be faster when played."""


@dataclass(frozen=True)
class Play:
    """A deployment that was settled as a choice is, and played."""

    settled: Settled
    simulated: Simulated

    @property
    def holds(self) -> bool:
        """Returns whether no limit is missed for certain."""
        return not self.simulated.missed

    @property
    def ratio(self) -> float:
        """Returns the largest simulated / allowed latency."""
        return min(max(self.simulated.latency_ratio or 0.0, LEAST_RATIO), WORST_RATIO)

    @property
    def ratio_variance(self) -> float:
        """Returns the variance of the ratio, from its 95 % interval."""
        at = max(
            (f for f in self.simulated.latency if f.at_most_ms is not None),
            key=lambda f: f.ms / (f.at_most_ms or np.inf),
            default=None,
        )
        if at is None or at.at_most_ms is None:
            return 0.0
        half = (at.high_ms - at.low_ms) / at.at_most_ms / 2.0
        return float((min(half, WORST_RATIO) / NORMAL_95) ** 2)


@dataclass(frozen=True)
class Refined:
    """The choice after its neighbours were played, and what each of them did."""

    confirmed: Confirmed
    plays: Mapping[Key, Play]

    @property
    def settled(self) -> dict[Key, Settled]:
        """Returns what was played, as it was settled."""
        return {key: play.settled for key, play in self.plays.items()}

    @property
    def ratios(self) -> list[tuple[Settled, float]]:
        """Returns the simulated / allowed latency of everything played, where it has limits."""
        found = [(play.settled, play.simulated.latency_ratio) for play in self.plays.values()]
        return [(settled, ratio) for settled, ratio in found if ratio is not None]


def refine(
    stage: Stage,
    confirmed: Confirmed,
    effort: Effort,
    workers: Workers,
    longer: bool = False,
    kept: IntArray | None = None,
    on_trial: Progress | None = None,
) -> Refined:
    """Returns the best that simulation supports near a confirmed choice, and the front played.

    Nothing is played without latency limits, which alone simulation could contradict; nor where
    the question asks for a plan that survives failures, which is played in another way.

    Args:
        stage: where plans are played.
        confirmed: the choice, as simulated.
        effort: how much is played.
        workers: who plays.
        longer: for method `mobo`, whose effort is all spent here.
        kept: the deployment in production, (P,).
        on_trial: called after each play with (done, total, hypervolume).

    Raises:
        MissingExtra: `longer` without torch or botorch.
    """
    trying = TRYING[effort]
    n_plays = max(trying.n_plays, N_BATCH) * LONGER if longer else trying.n_plays
    question = confirmed.objectives.case.question
    asks = bool(confirmed.objectives.levels[0].limits) and question.robust is None
    if not n_plays or not asks or not confirmed.explored.complete or confirmed.simulated is None:
        return Refined(confirmed, {})
    theatre = Theatre(stage, confirmed, workers, kept)
    try:
        looked = theatre.look(max(trying.n_looks, n_plays))
        problem = theatre.problem(looked)
    except KeyboardInterrupt:  # nothing was played yet: the choice stays
        cut = replace(confirmed.explored, complete=False)
        return Refined(replace(confirmed, explored=cut), {})
    trials = _search(problem, looked, n_plays, stage.seed, longer, on_trial)
    before = confirmed.explored
    method = f"{before.method}, then {_name(longer)}"
    explored = explored_of(theatre.memo, method, trials.complete, before.exhaustive)
    confirmed = replace(confirmed, explored=explored)
    better = _better(confirmed.objectives, theatre, kept)
    if better is not None:
        confirmed = _replaced(confirmed, better, len(trials.points))
    return Refined(confirmed, theatre.plays)


def _search(
    problem: Problem,
    looked: Sequence[Key],
    n_plays: int,
    seed: int,
    longer: bool,
    on_trial: Progress | None,
) -> Trials:
    """Returns what was played: chosen by expected gain, or in the given order without torch."""
    points = np.array(looked, dtype=np.int64)
    if longer or _has_botorch():
        return mobo.search(
            problem, n_plays, seed, points[:N_START], on_trial,
            n_batch=N_BATCH, least_gain_ratio=LEAST_GAIN_RATIO, among=points,
        )  # fmt: skip
    return trial_log.run(problem, n_plays, None, on_trial, lambda _: points)


def _has_botorch() -> bool:
    return importlib.util.find_spec("botorch") is not None


def _name(longer: bool) -> str:
    """Returns how the plays were chosen, for the provenance."""
    by_gain = longer or _has_botorch()
    return f"{'Bayesian optimisation' if by_gain else 'the best by the tables'} in simulation"


@dataclass(frozen=True)
class _Job:
    """One play, as another process can be told of it."""

    stage: Stage
    draft: Plan


def _play(job: _Job) -> Simulated:
    return job.stage.rehearse(job.draft).simulated


class Theatre:
    """Settles and plays points, and remembers what they did."""

    def __init__(
        self, stage: Stage, confirmed: Confirmed, workers: Workers, kept: IntArray | None
    ) -> None:
        assert confirmed.simulated is not None  # it was played before
        self._stage = stage
        self._workers = workers
        self._kept = kept
        self._objectives = confirmed.objectives
        self._explored = confirmed.explored
        self.chosen = (*confirmed.chosen.replicas.tolist(), confirmed.chosen.level)
        self.plays: dict[Key, Play] = {self.chosen: Play(confirmed.chosen, confirmed.simulated)}
        self.memo = Memo(self._objectives)
        for e in confirmed.explored.evaluations:
            self.memo.seen[(*e.replicas.tolist(), e.level)] = e

    def look(self, n_looks: int) -> list[Key]:
        """Returns the points that may be played, the choice first, then the front beside it.

        Accepted by the tables: what is near the front, after evaluating that much of it.
        """
        self.memo(np.array(self.chosen, dtype=np.int64))
        own = self.memo.seen[self.chosen]
        front = sorted(self._explored.front, key=lambda e: _apart(own, e))
        parents = list(dict.fromkeys([self.chosen, *map(_key_of, front)]))[:N_PARENTS]
        box = search_problem(self._objectives, self.memo).box
        rng = np.random.default_rng(self._stage.seed)
        new: list[Key] = []
        for parent in parents:
            near = sampling.neighbours(np.array(parent, dtype=np.int64), box)
            new += [tuple(z) for z in rng.permutation(near).tolist()][: n_looks // len(parents)]
        return self._playable([*parents, *new], parents)

    def look_everywhere(self) -> list[Key]:
        """Returns all points that were explored and may be played, the choice first."""
        self.memo(np.array(self.chosen, dtype=np.int64))
        return self._playable(list(self.memo.seen), [self.chosen])

    def _playable(self, keys: Sequence[Key], first: Sequence[Key]) -> list[Key]:
        """Returns the points that the tables accept: `first`, then as the question ranks them."""
        for key in keys:
            self.memo(np.array(key, dtype=np.int64))
        seen = {key: self.memo.seen[key] for key in keys}
        able = {k: e for k, e in seen.items() if e.violation <= ACCEPTED_VIOLATION}
        order = [_key_of(e) for e in ranked(self._objectives, able.values(), self._kept)]
        return list(dict.fromkeys([self.chosen, *(key for key in first if key in able), *order]))

    def problem(self, looked: Sequence[Key]) -> Problem:
        """Returns the domain-blind problem of playing some points."""
        plain = search_problem(self._objectives, self.memo)
        return Problem(
            box=plain.box,
            n_objectives=3,
            evaluate=lambda point: next(self.evaluate_many(point[None, :])),
            reference=reference(self._objectives),
            known=self._known,
            features=features(self._objectives),
            prior=_prior(self._objectives, [self.memo.seen[key] for key in looked]),
            evaluate_many=self.evaluate_many,
        )

    def evaluate_many(self, points: IntArray) -> Iterator[Outcome]:
        """Yields the outcome of each point (n, P + 1), played by the workers."""
        keys = [tuple(z) for z in points.tolist()]
        settled = {key: self._settled(key) for key in keys if key not in self.plays}
        jobs = [self._job(s) for s in settled.values() if s is not None]
        played = self._workers.run(_play, jobs)
        for key in keys:
            if key not in self.plays:
                here = settled[key]
                if here is None:
                    yield self._failed(key)
                    continue
                self.plays[key] = Play(here, next(played))
            yield self._outcome(self.plays[key])
        next(played, None)  # up to its end: what is left half way, the workers break off

    def _settled(self, key: Key) -> Settled | None:
        """Returns a point settled as a choice is, None where its own tables do not accept it."""
        alone = self.memo.seen[key]
        only = Explored((alone,), (alone,), self._explored.method, False, True)
        return choose(self._objectives, only, self._kept)[0]

    def _job(self, settled: Settled) -> _Job:
        return _Job(self._stage, draft_of(self._objectives, settled))

    def _outcome(self, play: Play) -> Outcome:
        settled, ratio = play.settled, play.ratio
        gain = settled.rate_factor if self._objectives.maximises_rate else settled.score.quality
        violation = 0.0 if play.holds else max(ratio - 1.0, LEAST_RATIO)
        of_log = play.ratio_variance / (ratio * np.log(2.0)) ** 2
        return Outcome(
            np.array([settled.cost_usd_per_h, -gain, ratio]),
            violation,
            margin=float(np.log2(ratio)),
            variances=np.array([0.0, 0.0, play.ratio_variance, of_log]),
        )

    def _failed(self, key: Key) -> Outcome:
        """Returns the outcome of a point that its own tables refuse: it is not played."""
        found = self.memo.seen[key]
        values = np.array([found.cost_usd_per_h, -self._objectives.gain(found), WORST_RATIO])
        return Outcome(values, 1.0, margin=1.0, variances=np.zeros(4))

    def _known(self, points: IntArray) -> FloatArray:
        found = [self.memo.seen[tuple(z)] for z in points.tolist()]
        gain = self._objectives.gain
        return np.array([[e.cost_usd_per_h, -gain(e), np.nan] for e in found])


def _key_of(evaluation: Evaluation) -> Key:
    return (*evaluation.replicas.tolist(), evaluation.level)


def _apart(one: Evaluation, other: Evaluation) -> tuple[float, Key]:
    """Returns how far two points are apart in money, and an order of those equally far."""
    return abs(one.cost_usd_per_h - other.cost_usd_per_h), _key_of(other)


def _prior(objectives: Objectives, looked: Sequence[Evaluation]) -> Prior:
    """Returns what the tables expect of plays, whose pools may all be slower than they say."""
    used = np.flatnonzero(np.any([e.routing.shares.any(axis=0) for e in looked], axis=0))
    slopes = np.zeros((len(looked), used.size))
    fitted = np.zeros(len(looked))
    for i, e in enumerate(looked):
        fitted[i] = _log_ratio(objectives, e, None)
        for k, p in enumerate(used.tolist()):
            if e.routing.shares[:, p].any():
                slopes[i, k] = (_log_ratio(objectives, e, p) - fitted[i]) / SLOWED
    row_of = {_key_of(e): i for i, e in enumerate(looked)}
    gain = objectives.gain
    known = np.array([[e.cost_usd_per_h, -gain(e)] for e in looked])

    def expect(points: IntArray, theta: FloatArray) -> Expected:
        rows = [row_of[tuple(z)] for z in points.tolist()]
        margins = fitted[rows] + slopes[rows] @ theta
        ratio = 2.0 ** np.minimum(margins, np.log2(WORST_RATIO))
        return Expected(np.column_stack([known[rows], ratio]), margins)

    return Prior(expect, np.full(used.size, SPREAD), ERRORS)


def _log_ratio(objectives: Objectives, e: Evaluation, slower: int | None) -> float:
    """Returns log2 of the largest predicted / allowed latency, one pool slowed if given."""
    workload, tables = objectives.levels[0], list(objectives.tables)
    loads = e.routing.loads.copy()
    if slower is not None:
        tables[slower] = tables[slower].slowed(float(np.exp(SLOWED)))
        loads[slower] *= float(np.exp(SLOWED))
    shares = e.routing.shares
    ratios = [
        truth.limit_value(workload, tables, loads, shares, scoped) / scoped.limit.at_most_ms
        for scoped in workload.limits
    ]
    # NaN: nothing that the limit covers is served; inf: later than the tables go.
    finite = np.nan_to_num(ratios, nan=0.0, posinf=WORST_RATIO)
    return float(np.log2(np.clip(finite.max(), LEAST_RATIO, WORST_RATIO)))


def _better(objectives: Objectives, theatre: Theatre, kept: IntArray | None) -> Play | None:
    """Returns the best that holds when played, None where that is the choice itself."""
    chosen = theatre.plays[theatre.chosen]
    holding = [(key, play) for key, play in theatre.plays.items() if play.holds]
    if not holding or (chosen.holds and objectives.case.question.choose == "knee"):
        return None  # a knee is one of its front, which moves with every point
    key, best = min(holding, key=lambda entry: (_rank(objectives, entry[1], kept), entry[0]))
    if key == theatre.chosen:
        return None
    return best if not chosen.holds or _clearly(objectives, best, chosen, kept) else None


def _rank(objectives: Objectives, play: Play, kept: IntArray | None) -> tuple[float, float, float]:
    """Returns what the question prefers, least first."""
    settled, question = play.settled, objectives.case.question
    cost = settled.cost_usd_per_h + change_usd(question, settled.replicas, kept)
    cost, quality = round(cost, 4), -round(settled.score.quality, 6)
    if objectives.maximises_rate:
        return -round(settled.rate_factor, 6), cost, quality
    if question.choose == "best_quality":
        return quality, cost, play.ratio
    if question.choose == "fastest":
        return play.ratio, cost, quality
    return cost, quality, play.ratio


def _clearly(objectives: Objectives, best: Play, chosen: Play, kept: IntArray | None) -> bool:
    """Returns whether the first thing that the question prefers differs by more than noise."""
    ahead = _rank(objectives, chosen, kept)[0] - _rank(objectives, best, kept)[0]
    if objectives.case.question.choose == "fastest" and not objectives.maximises_rate:
        return ahead > CLEAR * float(np.sqrt(best.ratio_variance + chosen.ratio_variance))
    return ahead > LEAST_GAIN


def _replaced(before: Confirmed, better: Play, n_plays: int) -> Confirmed:
    """Returns what becomes the plan instead of a choice, and why that was given up."""
    was, now = before.chosen, better.settled
    reason = "does worse in simulation" if before.holds else "misses a limit in simulation"
    sentence = (
        f"of {n_plays} plans near the front that were simulated, one of {now.cost_usd_per_h:.2f} "
        f"$/h and quality {now.score.quality:.4f} is better than the first choice of "
        f"{was.cost_usd_per_h:.2f} $/h, which {reason}"
    )
    why = tuple(each for each in before.why if each != before.warning)
    return replace(before, chosen=now, simulated=better.simulated, why=(*why, sentence))
