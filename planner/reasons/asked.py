"""Changed questions beside a plan: what would be answered, and what no answer could beat.

A question is changed in one place (a GPU more, a looser limit) and asked again on the pools as they
are fitted, each with its table at the mix that the plan sends it. What is found is settled like a
plan, on tables of its own, so it is a plan that would pass the check. What is proved is about the
tables that were asked with, like the bound of the plan (certify.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case, make_case
from planner.choose import change_usd, ranked
from planner.errors import InputError
from planner.exact.bound import bound
from planner.exact.solve import Want, solve_joint
from planner.explore import Effort, explore_narrowly
from planner.keeping import change_of
from planner.objectives import LEAST_GAIN, Evaluation, Objectives, make_objectives
from planner.proofs.certify import optimised
from planner.search.problem import ACCEPTED_VIOLATION
from planner.settle import Settled, class_mixes, settle
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs
from planner.spec.question import Question

LEAST_USD_PER_H = 0.005


@dataclass(frozen=True)
class Care:
    """How hard an answer is sought: never seconds, on which no answer may depend."""

    n_evaluations: int
    n_tries: int  # deployments that are settled
    n_rounds: int  # of a bound


CARE: dict[Effort, Care] = {
    "quick": Care(15, 1, 1),
    "standard": Care(40, 2, 2),
    "thorough": Care(120, 6, 3),
}


@dataclass(frozen=True)
class Asked:
    """A question that is asked in other words, on the same fitted pools."""

    inputs: Inputs
    objectives: Objectives  # of the question as it is
    plan: Settled | None  # at whose mixes tables are made; without one at that of all traffic
    near: tuple[IntArray, ...]  # deployments (P,) from which answers are looked for
    kept: IntArray | None  # the deployment in production, (P,)
    care: Care

    @property
    def question(self) -> Question:
        """Returns the question as it is."""
        return self.objectives.case.question

    def otherwise(self, **update: object) -> Objectives | None:
        """Returns the evaluation of the question with some of its fields changed (see `of`)."""
        return self.of(self.question.model_copy(update=update))

    def of(self, question: Question) -> Objectives | None:
        """Returns the evaluation of a changed question on the same fitted pools.

        None where it has no meaning, such as replica ranges that no stock fulfils.
        """
        inputs = replace(self.inputs, files=replace(self.inputs.files, question=question))
        before = self.objectives.case
        try:
            case = make_case(inputs, before.models, before.learned, before.cascades)
        except InputError:
            return None
        if case.workload.limits == before.workload.limits:
            known = self.objectives if self.plan is None else self.plan
            return make_objectives(case, known.tables)
        objectives = make_objectives(case)
        if self.plan is None:
            return objectives
        mixes = class_mixes(case.workload, self.plan.shares)
        return replace(objectives, tables=case.tables(mixes, unused=objectives.tables))

    def best(
        self,
        objectives: Objectives,
        start: Sequence[IntArray] = (),
        better_than: float | None = None,
    ) -> Settled | None:
        """Returns the best plan found for a changed question, None if none is found.

        Args:
            objectives: of the changed question.
            start: deployments (P,) to begin from, beside those known to be near.
            better_than: what does not promise a better figure (see `value`) is not worth a try.
        """
        begin = [*start, *self.near, *self._joint(objectives)]
        explored = explore_narrowly(objectives, self.care.n_evaluations, begin)
        order = [
            e
            for e in ranked(objectives, explored.evaluations, self.kept)
            if better_than is None or self._promises_more(objectives, e, better_than)
        ]
        fine = [i for i, e in enumerate(order) if e.violation <= ACCEPTED_VIOLATION][:1]
        # What would be better still looks slightly short: the least short ones are tried as well.
        short = sorted(order[: fine[0]] if fine else order, key=lambda e: e.violation)
        tried = [*short[: self.care.n_tries], *(order[i] for i in fine)]
        settled = [settle(objectives, e.replicas, 0, start_loads=e.routing.loads) for e in tried]
        able = [each for each in settled if each.acceptable]
        sign = 1.0 if is_money(objectives) else -1.0
        return min(able, key=lambda each: sign * self.value(each, objectives), default=None)

    def value(self, settled: Settled, objectives: Objectives | None = None) -> float:
        """Returns the figure that a question optimises; money with that of the change to it."""
        return self._figure(
            self.objectives if objectives is None else objectives,
            settled.cost_usd_per_h,
            settled.score.quality,
            settled.rate_factor,
            settled.replicas,
        )

    def _promises_more(self, objectives: Objectives, e: Evaluation, than: float) -> bool:
        """Returns whether a deployment looks better than a figure."""
        figure = self._figure(
            objectives, e.cost_usd_per_h, e.quality, e.routing.rate_factor, e.replicas
        )
        if is_money(objectives):
            return figure < than - LEAST_USD_PER_H
        return figure > than + LEAST_GAIN

    def _figure(
        self,
        objectives: Objectives,
        cost_usd_per_h: float,
        quality: float,
        rate_factor: float,
        replicas: IntArray,
    ) -> float:
        wanted = optimised(objectives)
        if wanted is not None and wanted[1] != "cost":
            return rate_factor if wanted[1] == "rate_factor" else quality
        return cost_usd_per_h + change_usd(objectives.case.question, replicas, self.kept)

    def at_best(self, objectives: Objectives, known: float | None = None) -> float | None:
        """Returns what no answer of a changed question beats, None if nothing is proved.

        Args:
            objectives: of the changed question.
            known: value of the best answer known: once that is proved, no more is looked for.
        """
        case, wanted = objectives.case, optimised(objectives)
        if wanted is None:
            return None
        return bound(
            case.workload,
            objectives.tables,
            case.space,
            case.question.headroom_ratio,
            wanted[1],
            known,
            n_rounds=self.care.n_rounds,
            change=change_of(objectives, self.kept) if wanted[1] == "cost" else None,
        ).best_possible

    def _joint(self, objectives: Objectives) -> list[IntArray]:
        """Returns the deployment (P,) of the joint program, where it finds one."""
        wanted = optimised(objectives)
        if wanted is None:
            return []
        question = objectives.case.question
        want = Want(
            wanted[1],
            objectives.case.workload.quality_at_least,
            budget_usd_per_h=question.budget_usd_per_h,
            reading="plan",
            change=change_of(objectives, self.kept) if wanted[1] == "cost" else None,
        )
        solved = solve_joint(objectives.joint_at(0), want, self.near[0] if self.near else None)
        return [solved.replicas] if solved.status == "found" else []


def is_money(objectives: Objectives) -> bool:
    """Returns whether a question asks for the least money; so do knee and fastest, for a rival."""
    wanted = optimised(objectives)
    return wanted is None or wanted[1] == "cost"


def deployment_of(case: Case, replicas: IntArray) -> dict[str, int]:
    """Returns the replicas (P,) of a deployment by pool, those that there are."""
    names = case.space.pool_names
    return {names[p]: int(replicas[p]) for p in np.flatnonzero(replicas).tolist()}


def in_words(case: Case, replicas: IntArray) -> str:
    """Returns a deployment (P,) for a sentence, e.g. '2 x llama-8b, 1 x llama-70b'."""
    parts = [f"{n} x {name}" for name, n in deployment_of(case, replicas).items()]
    return ", ".join(parts) or "nothing rented"
