"""The price of robustness: what it costs to survive, and that it is survived in simulation.

One of the repository's questions as it is, and with more and more to survive. For each: the
cheapest plan, its money against the plain one's, what is proved, and the worst that simulation
found in any scenario. The plain plan is held against the same failures: what it does without.

    python benchmarks/robust_price.py [--plan a100] [--effort quick] [--only nothing n-1]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from planner.case import make_case
from planner.confirm import make_stage
from planner.errors import Infeasible
from planner.explore import Effort
from planner.files.inputs import read_inputs
from planner.objectives import make_objectives
from planner.ordered import replicas_of
from planner.plan import make_plan
from planner.settle import settle, with_survivals
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Survived
from planner.spec.question import Robust

ROOT = Path(__file__).parent.parent
ASKED: dict[str, dict[str, object] | None] = {
    "nothing": None,
    "1.2 x traffic": {"rate_ratio": 1.2},
    "n-1, limits x 1.5": {"failures": "replica", "limits_ratio": 1.5},
    "n-1": {"failures": "replica"},
    "a node": {"failures": "node"},
}


HEADS = (("$/h", 8), ("ratio", 7), ("quality", 9), ("bound", 8), ("CPU s", 7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", default="quick", choices=("quick", "standard", "thorough"))
    parser.add_argument("--plan", default="a100", choices=("a100", "demo"))
    parser.add_argument("--only", nargs="*", default=list(ASKED), choices=list(ASKED))
    arguments = parser.parse_args()
    inputs = read_inputs(ROOT / "plans" / arguments.plan, ROOT / "profiles")
    heads = "".join(f"{h:>{n}}" for h, n in HEADS)
    print(f"{'to survive':<19}{heads}  worst", flush=True)
    plain: Plan | None = None
    for name in arguments.only:
        asked = with_robust(inputs, ASKED[name])
        before = time.process_time()
        try:
            plan = make_plan(asked, arguments.effort)
        except Infeasible as error:
            print(f"{name:<19}{str(error).splitlines()[0]}", flush=True)
            continue
        seconds = time.process_time() - before
        plain = plain or plan
        cost = plan.predicted.cost_usd_per_h
        ratio = cost / plain.predicted.cost_usd_per_h
        gap = "-" if plan.bound is None else f"{plan.bound.gap_ratio:.1%}"
        print(
            f"{name:<19}{cost:8.2f}{ratio:7.3f}{plan.predicted.quality:9.4f}{gap:>8}{seconds:7.0f}"
            f"  {worst(plan.survives)}",
            flush=True,
        )
        pools = ", ".join(f"{d.replicas} x {d.pool}" for d in plan.deployment)
        print(f"{'':<19}{pools}", flush=True)
    if plain is not None and "n-1" in arguments.only:
        found = drill(with_robust(inputs, ASKED["n-1"]), plain, arguments.effort)
        print(f"the first plan under n-1: {worst(found)}")


def with_robust(inputs: Inputs, robust: dict[str, object] | None) -> Inputs:
    """Returns the inputs with something to survive."""
    asked = None if robust is None else Robust.model_validate(robust)
    question = inputs.question.model_copy(update={"robust": asked})
    return replace(inputs, files=replace(inputs.files, question=question))


def drill(inputs: Inputs, plan: Plan, effort: Effort) -> tuple[Survived, ...]:
    """Returns what becomes of the deployment of a plan that was not asked to survive."""
    asked = make_objectives(make_case(inputs, learned=plan.learned))
    question = asked.case.question.model_copy(update={"robust": None})
    calm = replace(asked, case=replace(asked.case, question=question))
    chosen = settle(calm, replicas_of(calm.case, plan))
    stage = make_stage(inputs, asked, effort, 0)
    return stage.survived(asked, with_survivals(asked.case, chosen))


def worst(found: tuple[Survived, ...]) -> str:
    """Returns how many scenarios hold, and the worst figure by tables and in simulation."""
    if not found:
        return "-"
    tables = max(s.latency_ratio or 0.0 for s in found)
    played = [s for s in found if s.verdict is not None]
    kept = sum(s.survives for s in found)
    fine = sum(s.verdict != "missed" for s in played)
    seen = np.max([s.simulated_latency_ratio or 0.0 for s in played], initial=0.0)
    return (
        f"{kept} of {len(found)} by tables (limits at {tables:.0%}), "
        f"{fine} of {len(played)} simulated ({seen:.0%})"
    )


if __name__ == "__main__":
    main()
