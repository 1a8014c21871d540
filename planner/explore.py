"""Which deployments to look at: the search problem of a case, and the methods by effort.

auto        every point where the box is small enough for the effort; otherwise the certified front
            of the joint program (exact/), whose deployments are proved to be nearly the best there
            are; local search around them, because one evaluation costs milliseconds here and the
            joint program sees tables through coarse tiers; a last local search narrows in on the
            kind of answer that was asked for
exact       the certified front alone
mobo        like auto: what Bayesian optimisation is for comes later, with the simulator
local       Pareto local search alone
random      sparse random deployments
enumerate   every point; refused above 50,000
boute, routerwise   the published methods, in files of their own
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.errors import InputError
from planner.exact.front import Grid, certified_front
from planner.exact.joint import Objective as JointObjective
from planner.exact.robust import surviving
from planner.exact.seeds import seeds
from planner.exact.solve import Solved, Want, solve_joint
from planner.memo import Memo, search_problem
from planner.objectives import FASTEST_RATIOS, Evaluation, Objectives
from planner.robust import threats
from planner.search import enumeration, local_search, random_search
from planner.search.problem import ACCEPTED_VIOLATION, Box, Outcome, Problem, Progress, Trials
from planner.spec.arrays import IntArray

PROMISING = 0.05
"""A violation by fast shares on rough tables up to this may vanish on a second look."""

Effort = Literal["quick", "standard", "thorough"]
SearchMethod = Literal[
    "auto", "exact", "mobo", "boute", "routerwise", "enumerate", "local", "random"
]

Search = Callable[[Problem, int, int, IntArray | None, Progress | None], Trials]

N_NARROW_LOOKS = 2

MOST_ENUMERATED = 50_000
SURVIVING_NODES = 100  # for a start that is to survive scenarios

AGAIN = 4
"""A second search fills the front with this part of the first one's budget."""

NAMES = {"random": "random search", "local": "local search"}
EXACT = "exact front"


@dataclass(frozen=True)
class Budget:
    """How many evaluations an effort may take: never seconds, on which no answer may depend."""

    grid: Grid  # of the certified front
    local: int
    focus: int  # around the kind of answer that the question asks for
    exact: int  # promising deployments whose shares are solved once more, carefully
    enumerate: int  # auto enumerates boxes up to this size
    looks: int  # deployments per world in which a pool is faster or slower than fitted


BUDGETS: dict[Effort, Budget] = {
    "quick": Budget(
        Grid(18, 5e-3, 100, reading="plan"), local=160, focus=80, exact=6, enumerate=600, looks=20
    ),
    "standard": Budget(
        Grid(24, 2e-3, 300, reading="plan"),
        local=400, focus=300, exact=30, enumerate=3_000, looks=40,
    ),
    "thorough": Budget(
        Grid(90, 5e-4, 1000, reading="plan"),
        local=5_000, focus=3_000, exact=100, enumerate=20_000, looks=60,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Explored:
    """Everything that a search has evaluated, best first where it matters to the caller."""

    evaluations: tuple[Evaluation, ...]
    front: tuple[Evaluation, ...]  # acceptable and non-dominated
    method: str
    exhaustive: bool  # every deployment of the box was evaluated
    complete: bool


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
    """
    memo = Memo(objectives)
    problem = search_problem(objectives, memo)
    budget = BUDGETS[effort]
    if method in ("auto", "mobo", "enumerate"):
        limit = MOST_ENUMERATED if method == "enumerate" else budget.enumerate
        size = problem.box.count(limit)
        if size <= limit:
            trials = enumeration.search(problem, max(size, 1), seed, None, on_trial)
            return explored_of(memo, "enumeration", trials.complete, exhaustive=trials.complete)
        if method == "enumerate":
            raise InputError.single(
                "--method", "enumerate", f"the box has more than {limit:,} deployments and levels",
                "use --method auto, or narrow stock, pools or replicas",
            )  # fmt: skip
    searches: dict[str, Search] = {"random": random_search.search, "local": local_search.search}
    if method in searches:
        n, first = budget.local + budget.focus, _level_zero(problem, start)
        trials = searches[method](problem, n, seed, first, on_trial)
        return explored_of(memo, NAMES[method], trials.complete)
    certified = _CertifiedFront(objectives, memo, problem, budget, on_trial)
    if not certified.search(start):
        return explored_of(memo, EXACT, complete=False)
    if method == "exact":
        return explored_of(memo, EXACT, second_look(objectives, memo, budget.exact))
    return _in_stages(objectives, memo, problem, budget, seed, on_trial)


@dataclass
class _CertifiedFront:
    """The deployments of the certified front, each evaluated as soon as it is found."""

    objectives: Objectives
    memo: Memo
    problem: Problem
    budget: Budget
    on_trial: Progress | None
    n_solved: int = 0

    def search(self, start: Sequence[IntArray]) -> bool:
        """Evaluates the starts and the front's deployments; returns False when interrupted."""
        objectives = self.objectives
        question, workload = objectives.case.question, objectives.case.workload
        try:
            begin = _level_zero(
                self.problem, [*start, *seeds_of(objectives, 0), *surviving_seeds(objectives)]
            )
            for point in begin if begin is not None else ():
                self._evaluated(point)
            certified_front(
                self._solve,
                FASTEST_RATIOS[: len(objectives.levels)],
                "rate_factor" if objectives.maximises_rate else "quality",
                workload.quality_at_least,
                self.budget.grid,
                question.budget_usd_per_h,
            )
        except KeyboardInterrupt:
            return False
        return True

    def _solve(self, level: int, want: Want, known: IntArray | None) -> Solved:
        """Returns what the joint program finds, with the gain that its deployment really has."""
        solved = solve_joint(self.objectives.joint_at(level), want, known)
        if solved.value is None:
            return solved
        found = self._evaluated(np.append(solved.replicas, level))
        self.n_solved += 1
        if self.on_trial is not None:
            volume = _known(self.memo, self.problem).hypervolume(self.problem.reference)
            self.on_trial(self.n_solved, _total(self.budget), volume)
        if want.objective == "cost" or found.violation > ACCEPTED_VIOLATION:
            return solved
        return replace(solved, value=max(solved.value, self.objectives.gain(found)))

    def _evaluated(self, point: IntArray) -> Evaluation:
        """Returns the evaluation of a point, by careful shares where fast ones miss something."""
        key = tuple(int(v) for v in point)
        if self.memo(point).violation > ACCEPTED_VIOLATION:
            self.memo.solve_again(key)
        return self.memo.seen[key]


def _total(budget: Budget) -> int:
    """Returns the steps of all stages together, for the progress bar."""
    return budget.grid.n_cells + budget.local + budget.focus


def seeds_of(objectives: Objectives, n_front: int) -> list[IntArray]:
    """Returns deployments (P,) from the joint program of replicas and shares, best first.

    Its operating tiers are coarse, so these are where a search starts, not where it ends.
    """
    case, wanted = objectives.case, _wanted(objectives)
    return seeds(
        case.workload, objectives.tables, case.space, case.question.headroom_ratio, wanted, n_front
    )


def surviving_seeds(objectives: Objectives) -> list[IntArray]:
    """Returns a deployment (P,) that should survive what the question asks, if one is found."""
    threatened = threats(objectives.case)
    if threatened is None:
        return []
    workload = objectives.case.workload
    want = Want(_wanted(objectives), workload.quality_at_least, n_nodes=SURVIVING_NODES)
    found = surviving(objectives.joint_at(0), want, threatened)
    return [] if found is None else [found]


def _wanted(objectives: Objectives) -> JointObjective:
    if objectives.maximises_rate:
        return "rate_factor"
    return "quality" if objectives.case.question.choose == "best_quality" else "cost"


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
    return explored_of(memo, NAMES["local"], trials.complete)


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
    return explored_of(memo, method, complete)


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
    on_trial: Progress | None,
) -> Explored:
    """Returns what local searches find around what is known, of the whole front and of the focus.

    The second starts from the front of the first one, unless that was interrupted.
    """
    whole, narrow = problem, _focus_problem(objectives, problem, memo)
    names, total, done = f"{EXACT}, then {NAMES['local']}", _total(budget), budget.grid.n_cells
    for stage, n in ((whole, budget.local), (narrow, budget.focus)):
        # What has been evaluated costs nothing again, but counts in a stage's own budget.
        start = _front_of(memo, stage)
        n_known = 0 if start is None else len(start)
        # The volume of the narrow stage is that of another plane: keep showing the front's.
        volume = _known(memo, whole).hypervolume(whole.reference) if stage is narrow else None
        moved = _of_total(on_trial, done, total, volume)
        trials = local_search.search(stage, n + n_known, seed, start, moved)
        if not trials.complete:
            return explored_of(memo, names, complete=False)
        done += n
    return explored_of(memo, names, second_look(objectives, memo, budget.exact))


def second_look(objectives: Objectives, memo: Memo, n: int) -> bool:
    """Solves the shares of the n most promising deployments again; False when interrupted.

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
    """Returns the points whose careful shares might beat the best acceptable one, best first."""
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


def _of_total(
    on_trial: Progress | None, before: int, total: int, volume: float | None
) -> Progress | None:
    """Returns a callback that counts a search as part of several, with a fixed volume if given."""
    if on_trial is None:
        return None
    return lambda done, _, own: on_trial(before + done, total, own if volume is None else volume)


def explored_of(memo: Memo, method: str, complete: bool, exhaustive: bool = False) -> Explored:
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
