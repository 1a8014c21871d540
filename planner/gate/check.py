"""Judging a plan against its question and today's profiles, without solving anything.

    case      = make_case(inputs, plan.learned)       cannot be fitted: InputError, exit 2
    findings  = what was kept from the run            stale, incomplete, contradicted
              + what the plan orders                  pools, shares, routes.json
              + what a runtime is told of it          serving.json, where it is there
              + what the deployment takes             stock, memory, nodes, budget, rows
              + what its users will see               capacity, limits, quality, drift

The last three are of one deployment at one set of rates (operation.py), so of each period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from planner.gate.finding import PLAN_AGAIN, Finding, error, warning
from planner.gate.plan.operation import judge_operation
from planner.gate.plan.orders import routes_findings
from planner.gate.plan.proofs import proof_findings
from planner.gate.plan.sheet import sheet_findings
from planner.gate.plan.simulation import simulation_findings
from planner.gate.rules import in_order
from planner.ordered import case_of, with_pools_of
from planner.score import duration
from planner.sheet import make_sheet, sheet_of
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Routes
from planner.spec.sheet import ServingSheet
from planner.spec.whole import changed_inputs

if TYPE_CHECKING:
    from planner.quality.cascade import CascadeOption


def check(
    inputs: Inputs,
    plan: Plan,
    routes: Routes | None,
    cascades: Sequence[CascadeOption] | None = None,
    sheet: ServingSheet | None = None,
) -> tuple[Finding, ...]:
    """Returns everything found wrong with a plan; empty when it is clean.

    Errors come first, then warnings, each in the order of the rules (gate/rules.py).

    Args:
        inputs: the question and the profiles as they are today.
        plan: what was planned.
        routes: what the runtime reads (routes.json); None when there is no such file.
        cascades: that may be used; by default those that today's scores prove, of a plan with any.
        sheet: what the runtime knows beside (serving.json); a folder may do without.

    Raises:
        InputError: a pool cannot be fitted, so nothing can be judged.
    """
    stale = _stale(inputs, plan)
    inputs = with_pools_of(inputs, plan)
    again: Callable[[], ServingSheet] = partial(make_sheet, inputs, plan, cascades)
    found: Sequence[Finding]
    if plan.periods is None and inputs.question.periods is None:
        case = case_of(inputs, plan, cascades)
        operation = judge_operation(case, inputs, plan, inputs_changed=bool(stale))
        found = operation.findings
        again = partial(sheet_of, case, plan, operation.again)  # fitted and scored once
    else:
        from planner.gate.plan.periods import period_findings  # other plans need none of it

        found = period_findings(inputs, plan, cascades, inputs_changed=bool(stale))
    findings = [*stale, *_incomplete(plan), *contradictions(plan)]
    findings += [*simulation_findings(plan), *found]
    findings += [*routes_findings(plan, routes), *proof_findings(plan)]
    if sheet is not None:
        is_clean = not any(f.severity == "error" for f in findings)
        findings += sheet_findings(plan, sheet, again if is_clean else None)
    return in_order(findings)


def _stale(inputs: Inputs, plan: Plan) -> list[Finding]:
    """Returns the inputs whose content is not what the plan was made of (§7)."""
    then, now = plan.provenance.inputs, inputs.hashes
    found = []
    for name in changed_inputs(then, now):
        if name not in now:
            what = "the plan was made with it, it is no longer used"
        elif name not in then:
            what = "is new, the plan was made without it"
        else:
            what = "has changed since the plan was made"
        found.append(error("stale", name, what, PLAN_AGAIN))
    return found


def _incomplete(plan: Plan) -> list[Finding]:
    if plan.complete:
        return []
    what = "the search was interrupted, a better plan may exist"
    return [warning("incomplete", "plan.json:complete", what, PLAN_AGAIN)]


def contradictions(plan: Plan) -> Iterator[Finding]:
    """Yields the limits and the scenarios that the plan missed when it was simulated (§9)."""
    for f in plan.simulated.missed if plan.simulated else ():
        if f.at_most_ms is not None:
            where = f"plan.json:simulated.{f.label}"
            at_most = duration(f.at_most_ms)
            what = f"simulation missed the limit: {duration(f.ms)}, at most {at_most}"
            fix = "plan with --effort thorough, or loosen the limit"
            yield error("simulated", where, what, fix)
    for each in plan.survives:
        if each.verdict == "missed":
            where = f"plan.json:survives[{each.scenario}]"
            fix = "plan with --effort thorough, or ask for less in robust"
            yield error("simulated", where, "simulation missed what is allowed meanwhile", fix)
