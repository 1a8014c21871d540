"""Which deployments to look at: the search problem of a case, and the methods by effort.

auto        every point where the box is small enough for the effort; otherwise three stages from
            the seeds of the joint program (exact/): Bayesian optimisation (with the `plan`
            extra) finds where the front is; Pareto local search fills it, because one
            evaluation costs milliseconds here; a last local search narrows in on the kind of
            answer that was asked for
mobo        Bayesian optimisation alone, as in BOute (arXiv 2602.10729) but on engineered features
local       Pareto local search alone
random      sparse random deployments
enumerate   every point; refused above 50,000
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.errors import InputError
from planner.exact.joint import Objective as JointObjective
from planner.exact.seeds import seeds
from planner.objectives import Evaluation, Objectives, features
from planner.search import enumeration, local_search, mobo, random_search
from planner.search.problem import ACCEPTED_VIOLATION, Box, Outcome, Problem, Progress, Trials
from planner.spec.arrays import FloatArray, IntArray

PROMISING = 0.05
"""A violation by fast shares on rough tables up to this may vanish on a second look."""

Effort = Literal["quick", "standard", "thorough"]
SearchMethod = Literal["auto", "mobo", "local", "random", "enumerate"]

Search = Callable[[Problem, int, int, IntArray | None, Progress | None], Trials]

N_NARROW_LOOKS = 2

MOST_ENUMERATED = 50_000

AGAIN = 4
"""A second search fills the front with this part of the first one's budget."""

NAMES = {"random": "random search", "local": "local search", "mobo": "Bayesian optimisation"}


@dataclass(frozen=True)
class Budget:
    """How many evaluations an effort may take: never seconds, on which no answer may depend."""

    seeds: int  # quality floors for which the joint program gives a start
    mobo: int
    local: int
    focus: int  # around the kind of answer that the question asks for
    exact: int  # promising deployments whose shares are solved once more, exactly
    enumerate: int  # auto enumerates boxes up to this size
    looks: int  # deployments per world in which a pool is faster or slower than fitted


BUDGETS: dict[Effort, Budget] = {
    "quick": Budget(seeds=4, mobo=20, local=120, focus=120, exact=6, enumerate=600, looks=20),
    "standard": Budget(seeds=8, mobo=80, local=800, focus=500, exact=30, enumerate=3_000, looks=40),
    "thorough": Budget(
        seeds=16, mobo=200, local=5_000, focus=3_000, exact=100, enumerate=20_000, looks=60
    ),
}


@dataclass(frozen=True)
class Explored:
    """Everything that a search has evaluated, best first where it matters to the caller."""

    evaluations: tuple[Evaluation, ...]
    front: tuple[Evaluation, ...]  # acceptable and non-dominated
    method: str
    exhaustive: bool  # every deployment of the box was evaluated
    complete: bool


class Memo:
    """Evaluates points and remembers the evaluations by point."""

    def __init__(self, objectives: Objectives) -> None:
        self._objectives = objectives
        self.seen: dict[tuple[int, ...], Evaluation] = {}

    def __call__(self, point: IntArray) -> Outcome:
        """Returns the outcome of a point (P + 1,): replicas, then the latency level."""
        key = tuple(int(v) for v in point)
        found = self.seen.get(key)
        if found is None:
            found = self._objectives.evaluate(np.array(key[:-1], dtype=np.int64), key[-1])
            self.seen[key] = found
        return self.outcome(found)

    def solve_again(self, key: tuple[int, ...]) -> None:
        """Solves the routing of a point that was evaluated once more, by the exact method."""
        before = self.seen[key]
        again = self._objectives.evaluate(before.replicas, before.level, "exact")
        gain = self._objectives.gain
        if (-again.violation, gain(again)) > (-before.violation, gain(before)):
            self.seen[key] = again

    def outcome(self, evaluation: Evaluation) -> Outcome:
        """Returns an evaluation as the search sees it."""
        return Outcome(values(self._objectives, evaluation), evaluation.violation)


def values(objectives: Objectives, evaluation: Evaluation) -> FloatArray:
    """Returns the objective vector of an evaluation, (3,), all to be minimised."""
    gain = objectives.gain(evaluation)
    cost = evaluation.cost_usd_per_h + objectives.unserved_usd_per_h(evaluation.routing)
    return np.array([cost, -gain, evaluation.latency])


def search_problem(objectives: Objectives, memo: Memo) -> Problem:
    """Returns the domain-blind problem that the search methods see."""
    case = objectives.case
    space = case.space
    n_pools = len(space.pool_names)
    box = Box(
        lower=np.append(space.lower, 0),
        upper=np.append(space.upper, len(objectives.levels) - 1),
        rows=np.column_stack([space.rows, np.zeros(len(space.limits))]),
        limits=space.limits,
    )
    hosted = bool(case.workload.request_usd.any())

    def known(points: IntArray) -> FloatArray:
        rent = case.space.cost_usd_per_h(points[:, :n_pools])
        blank = np.full(len(points), np.nan)
        return np.column_stack([blank if hosted else rent, blank, blank])

    return Problem(
        box=box,
        n_objectives=3,
        evaluate=memo,
        reference=_reference(objectives),
        known=known,
        features=features(objectives),
    )


def explore(
    objectives: Objectives,
    effort: Effort,
    method: SearchMethod,
    seed: int,
    start: Sequence[IntArray] = (),
    on_trial: Progress | None = None,
) -> Explored:
    """Returns the evaluations of a search over the deployments of a case.

    Raises:
        InputError: enumeration of a box of more than 50,000 points was asked for.
        MissingExtra: Bayesian optimisation was asked for and torch or botorch is missing.
    """
    memo = Memo(objectives)
    problem = search_problem(objectives, memo)
    budget = BUDGETS[effort]
    first = _level_zero(problem, start)
    if method in ("auto", "enumerate"):
        limit = budget.enumerate if method == "auto" else MOST_ENUMERATED
        size = problem.box.count(limit)
        if size <= limit:
            trials = enumeration.search(problem, max(size, 1), seed, None, on_trial)
            return _explored(memo, "enumeration", trials.complete, exhaustive=trials.complete)
        if method == "enumerate":
            raise InputError.single(
                "--method", "enumerate", f"the box has more than {limit:,} deployments and levels",
                "use --method auto, or narrow stock, pools or replicas",
            )  # fmt: skip
    searches: dict[str, Search] = {
        "random": random_search.search, "local": local_search.search, "mobo": mobo.search
    }  # fmt: skip
    if method != "auto":
        n = budget.mobo if method == "mobo" else budget.local + budget.focus
        trials = searches[method](problem, n, seed, first, on_trial)
        return _explored(memo, NAMES[method], trials.complete)
    begin = [*start, *seeds_of(objectives, budget.seeds)]
    return _in_stages(
        objectives, memo, problem, budget, seed, _level_zero(problem, begin), on_trial
    )


def seeds_of(objectives: Objectives, n_front: int) -> list[IntArray]:
    """Returns deployments (P,) from the joint program of replicas and shares, best first.

    Its operating tiers are coarse, so these are where a search starts, not where it ends.
    """
    case = objectives.case
    wanted: JointObjective = "quality" if case.question.choose == "best_quality" else "cost"
    if objectives.maximises_rate:
        wanted = "rate_factor"
    return seeds(
        case.workload, objectives.tables, case.space, case.question.headroom_ratio, wanted, n_front
    )


def explore_narrowly(
    objectives: Objectives, n_evaluations: int, start: Sequence[IntArray]
) -> Explored:
    """Returns what a local search finds that looks only for the kind of answer asked for.

    For what-if questions: a few dozen evaluations around good starts, no front.
    """
    memo = Memo(objectives)
    whole = search_problem(objectives, memo)
    narrow = _focus_problem(objectives, whole, memo)
    trials = local_search.search(narrow, n_evaluations, 0, _level_zero(whole, start), None)
    second_look(objectives, memo, N_NARROW_LOOKS)
    return _explored(memo, NAMES["local"], trials.complete)


def explore_again(
    objectives: Objectives, before: Explored, effort: Effort, on_trial: Progress | None = None
) -> Explored:
    """Returns what a search finds after something was learned that moves the tables (§9).

    It starts from the front of the search before; a box that was evaluated whole is so again.
    """
    budget = BUDGETS[effort]
    if before.exhaustive:
        return explore(objectives, effort, "enumerate", 0, (), on_trial)
    memo = Memo(objectives)
    whole = search_problem(objectives, memo)
    narrow = _focus_problem(objectives, whole, memo)
    points = [np.append(e.replicas, e.level) for e in before.front]
    start = np.unique(points, axis=0).astype(np.int64) if points else None
    n_wide = budget.local // AGAIN + len(points)
    total = n_wide + budget.focus
    trials = local_search.search(whole, n_wide, 0, start, _of_total(on_trial, 0, total, None))
    if trials.complete:
        start, moved = _front_of(memo, narrow), _of_total(on_trial, n_wide, total, None)
        n_known = 0 if start is None else len(start)
        trials = local_search.search(narrow, budget.focus + n_known, 0, start, moved)
    complete = trials.complete and second_look(objectives, memo, budget.exact)
    method, last = before.method, NAMES["local"]
    if not method.endswith(last):
        method = f"{method}, then {last}"
    return _explored(memo, method, complete)


def _level_zero(problem: Problem, start: Sequence[IntArray]) -> IntArray | None:
    """Returns the deployments (P,) in the box as points (n, P + 1) at the first latency level."""
    if not len(start):
        return None
    points = np.unique([np.append(s, 0) for s in start], axis=0).astype(np.int64)
    points = points[problem.box.admits(points)]
    return points if len(points) else None


def _in_stages(
    objectives: Objectives,
    memo: Memo,
    problem: Problem,
    budget: Budget,
    seed: int,
    first: IntArray | None,
    on_trial: Progress | None,
) -> Explored:
    """Returns what Bayesian optimisation, local search and the focus found, one after the other.

    Each stage starts from the front of the one before; an interrupted stage is the last one.
    """
    whole, narrow = problem, _focus_problem(objectives, problem, memo)
    stages: list[tuple[Search, Problem, int]] = [
        (local_search.search, whole, budget.local),
        (local_search.search, narrow, budget.focus),
    ]
    names = "local search"
    if has_torch():
        stages.insert(0, (_mobo_in_large_batches, whole, budget.mobo))
        names = "Bayesian optimisation, then local search"
    total, done = sum(n for _, _, n in stages), 0
    trials: Trials | None = None
    start = first
    if not _solve_exactly(memo, first):
        return _explored(memo, names, complete=False)
    for search, stage, n in stages:
        if memo.seen:
            start = _front_of(memo, stage)
        # What has been evaluated costs nothing again, but counts in a stage's own budget.
        n_known = 0 if start is None else len(start)
        # The volume of the narrow stage is that of another plane: keep showing the front's.
        volume = _known(memo, whole).hypervolume(whole.reference) if stage is narrow else None
        moved = _of_total(on_trial, done, total, volume)
        trials = search(stage, n + n_known, seed, start, moved)
        done += n
        if not trials.complete:
            break
    assert trials is not None  # there is at least one stage
    complete = trials.complete and second_look(objectives, memo, budget.exact)
    return _explored(memo, names, complete)


def _solve_exactly(memo: Memo, start: IntArray | None) -> bool:
    """Evaluates the starts with exact shares, as the joint program had; False when interrupted."""
    try:
        for point in start if start is not None else ():
            if memo(point).violation > ACCEPTED_VIOLATION:
                memo.solve_again(tuple(point.tolist()))
    except KeyboardInterrupt:
        return False
    return True


def second_look(objectives: Objectives, memo: Memo, n: int) -> bool:
    """Solves the shares of the n most promising deployments exactly; False when interrupted.

    Where pools should specialise (one lightly loaded for short deadlines, one full), the fast
    method can lose up to 0.03 of quality, and with it the best deployment of all.
    """
    for key in _promising(objectives, memo)[:n]:
        try:
            memo.solve_again(key)
        except KeyboardInterrupt:
            return False
    return True


def _promising(objectives: Objectives, memo: Memo) -> list[tuple[int, ...]]:
    """Returns the points whose exact shares might beat the best acceptable one, best bets first."""
    at_limits = [(k, e) for k, e in memo.seen.items() if k[-1] == 0 and e.violation <= PROMISING]
    fine = [e for _, e in at_limits if e.violation <= ACCEPTED_VIOLATION]
    if objectives.maximises_rate or objectives.case.question.choose == "best_quality":
        bets = [((-objectives.gain(e), e.violation, k), k) for k, e in at_limits]
    else:
        least = min((e.cost_usd_per_h for e in fine), default=np.inf)
        bets = [
            ((e.violation, e.cost_usd_per_h, k), k)
            for k, e in at_limits
            if e.violation > ACCEPTED_VIOLATION and e.cost_usd_per_h < least
        ]
    return [key for _, key in sorted(bets)]


def _mobo_in_large_batches(
    problem: Problem, n: int, seed: int, start: IntArray | None, on_trial: Progress | None
) -> Trials:
    """Returns the trials of Bayesian optimisation where others polish: half the fits, as good."""
    return mobo.search(problem, n, seed, start, on_trial, n_batch=8)


def _front_of(memo: Memo, problem: Problem) -> IntArray | None:
    """Returns the points evaluated so far that are on a problem's own front, (n, P + 1)."""
    known = _known(memo, problem)
    front = known.points[known.front()]
    return front if len(front) else None


def _known(memo: Memo, problem: Problem) -> Trials:
    """Returns the evaluations so far that lie in a problem's box, as trials of that problem."""
    points = np.array(list(memo.seen), dtype=np.int64).reshape(-1, problem.box.n_dims)
    points = points[problem.box.admits(points)]
    outcomes = [problem.evaluate(point) for point in points]
    return Trials(
        points,
        np.array([o.values for o in outcomes]).reshape(-1, problem.n_objectives),
        np.array([o.violation for o in outcomes]),
        complete=True,
    )


def _focus_problem(objectives: Objectives, problem: Problem, memo: Memo) -> Problem:
    """Returns the two-objective problem of the question's choice: its criterion against the miss.

    The best acceptable deployment lies where the criterion pushes against the constraints, so
    the miss is an objective here: cheap deployments that just fail are the neighbours of the
    cheapest that does not.
    """
    question = objectives.case.question
    axis = {"cheapest": 0, "knee": 0, "best_quality": 1, "fastest": 2}[question.choose]
    if objectives.maximises_rate:
        axis = 1
    n_pools = len(objectives.case.space.pool_names)

    def evaluate(point: IntArray) -> Outcome:
        outcome = memo(point)
        return Outcome(np.array([outcome.values[axis], outcome.violation]), 0.0)

    only_first = np.zeros((1, n_pools + 1))
    only_first[0, -1] = 1.0
    keep_levels = axis == 2
    box = problem.box
    return Problem(
        box=Box(
            box.lower,
            box.upper,
            np.vstack([box.rows, only_first]),
            np.append(box.limits, box.upper[-1] if keep_levels else 0.0),
        ),
        n_objectives=2,
        evaluate=evaluate,
        reference=np.array([problem.reference[axis], 0.25]),
    )


def has_torch() -> bool:
    """Returns whether the `plan` extra is installed, without importing it."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "botorch"))


def _of_total(
    on_trial: Progress | None, before: int, total: int, volume: float | None
) -> Progress | None:
    """Returns a callback that counts a search as part of several, with a fixed volume if given."""
    if on_trial is None:
        return None
    return lambda done, _, own: on_trial(before + done, total, own if volume is None else volume)


def _explored(memo: Memo, method: str, complete: bool, exhaustive: bool = False) -> Explored:
    """Returns all that was evaluated, with the front over all of it."""
    seen = list(memo.seen.items())
    if not seen:  # an empty box, or interrupted before the first evaluation
        return Explored((), (), method, exhaustive, complete)
    points = np.array([key for key, _ in seen], dtype=np.int64)
    outcomes = [memo.outcome(e) for _, e in seen]
    everything = Trials(
        points,
        np.array([o.values for o in outcomes]),
        np.array([o.violation for o in outcomes]),
        complete,
    )
    front = tuple(seen[int(i)][1] for i in everything.front())
    return Explored(tuple(e for _, e in seen), front, method, exhaustive, complete)


def _reference(objectives: Objectives) -> FloatArray:
    """Returns the worst useful cost, negated gain and latency: what the hypervolume counts from."""
    case = objectives.case
    workload, question = case.workload, case.question
    dearest = sum(
        offer.count * offer.usd_per_h for offers in case.space.offers.values() for offer in offers
    )
    hosted = float(workload.dearest_request_usd * workload.total_rps * 3600.0)
    cost = min(question.budget_usd_per_h or np.inf, dearest + hosted) * 1.01 + 1e-6
    direct = workload.quality[: workload.n_classes]
    lowest = float(np.nanmin(direct)) if workload.allowed.any() else 0.0
    gain = 0.0 if objectives.maximises_rate else max(workload.quality_at_least or 0.0, lowest)
    latency = 1.0 + 1e-3 if workload.limits else 24.0
    return np.array([cost, -gain + 1e-6, latency])
