"""What a page is about: a plan, and its inputs as they are today where they can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.errors import Fault, InputError
from planner.report.figure.operating import Operating, operating
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.whole import changed_inputs


@dataclass(frozen=True)
class Subject:
    """A plan with what is at hand to explain it."""

    plan: Plan
    inputs: Inputs | None = None  # today's; None: they cannot be read
    faults: tuple[Fault, ...] = ()  # why they cannot, or why the loads below are not there
    loads: Mapping[str, Operating] = field(default_factory=dict)
    """How the plan loads each pool, by today's profiles; none where the question is another."""

    @property
    def stale(self) -> tuple[str, ...]:
        """Returns the inputs whose content is not what the plan was made of (§7)."""
        if self.inputs is None:
            return ()
        return changed_inputs(self.plan.provenance.inputs, self.inputs.hashes)


def subject_of(plan: Plan, inputs: Inputs | None, faults: Sequence[Fault] = ()) -> Subject:
    """Returns a plan with its inputs and the loads that today's profiles give its pools.

    Args:
        plan: to be explained.
        inputs: today's; None where they cannot be read.
        faults: why they cannot.
    """
    bare = Subject(plan, inputs, tuple(faults))
    if inputs is None or not _is_about(plan, inputs) or (bare.stale and plan.cascades):
        return bare
    try:
        loads = {each.pool: each for each in operating(inputs, plan)}
    except InputError as error:  # a pool that cannot be fitted, periods that are no longer asked
        return Subject(plan, inputs, error.faults)
    return Subject(plan, inputs, (), loads)


def _is_about(plan: Plan, inputs: Inputs) -> bool:
    """Returns whether all pools and classes of a plan are known to its inputs."""
    pools = {profile.name for profile in inputs.candidates}
    classes = {cls.name for cls in inputs.question.classes}
    parts = [plan, *(plan.in_period(p) for p in (plan.periods.each if plan.periods else ()))]
    named = {d.pool for part in parts for d in part.deployment}
    named |= {r.pool for part in parts for r in part.routing}
    routed = {r.class_name for part in parts for r in part.routing}
    routed |= {c.class_name for part in parts for c in part.cascades}
    return named <= pools and routed <= classes
