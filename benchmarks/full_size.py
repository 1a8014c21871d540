"""Real questions at full size: the plan beside what one model alone would cost, score and take.

    python benchmarks/full_size.py --data DIR [--effort standard] [--only zeroeval12]

DIR holds the public data sets that benchmarks/questions.py names. For each question it prints a
table: the plan; the cheapest deployment of each model alone under the same latency limits (its
quality may be below the floor); the cheapest deployment of one model with at least the plan's
quality, or none; and, as a marked reference that no router can reach, the per-prompt oracle.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import questions

from planner.case import make_case
from planner.choose import choose
from planner.explore import explore_narrowly, seeds_of
from planner.files.inputs import read_inputs
from planner.objectives import make_objectives
from planner.plan import make_plan
from planner.quality.means import oracle_quality
from planner.settle import Settled
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan

N_EVALUATIONS = 150


def alone(inputs: Inputs, model_name: str, quality: float | None) -> tuple[Settled, str] | None:
    """The cheapest deployment of one model within the limits, with at least a quality."""
    pools = tuple(p.name for p in inputs.candidates if p.pool.scored_as == model_name)
    classes = tuple(
        c.model_copy(update={"quality_at_least": None}) for c in inputs.question.classes
    )
    update = {
        "pools": pools, "quality_at_least": quality, "choose": "cheapest", "classes": classes,
        "budget_usd_per_h": None,
    }  # fmt: skip
    question = inputs.question.model_copy(update=update)
    candidates = tuple(p for p in inputs.candidates if p.name in pools)
    changed = replace(inputs, files=replace(inputs.files, question=question), candidates=candidates)
    case = make_case(changed)
    if not case.workload.allowed.any(axis=1).all():
        return None  # some class has no scores of this model
    objectives = make_objectives(case)
    explored = explore_narrowly(objectives, N_EVALUATIONS, seeds_of(objectives, 0))
    settled = choose(objectives, explored, None)[0]
    if settled is None:
        return None
    used = ", ".join(
        f"{n} x {name}"
        for n, name in zip(settled.replicas, case.space.pool_names, strict=True)
        if n > 0
    )
    return settled, used


def p95_s(settled: Settled) -> float:
    """The p95 e2e over all traffic, in seconds."""
    return next(
        f.ms / 1000
        for f in settled.score.figures
        if (f.class_name, f.metric, f.statistic) == (None, "e2e", "p95")
    )


def plan_p95_s(plan: Plan) -> float:
    return next(
        f.ms / 1000
        for f in plan.predicted.latency
        if (f.class_name, f.metric, f.statistic) == (None, "e2e", "p95")
    )


def report(name: str, inputs: Inputs, effort: str) -> None:
    """Prints the table of one question."""
    start = time.process_time()
    plan = make_plan(inputs, effort)  # type: ignore[arg-type]
    cpu_s = time.process_time() - start
    predicted = plan.predicted
    print(f"\n### {name}: {inputs.question.title}\n")
    print(
        f"{len(inputs.question.classes)} classes, {len(inputs.candidates)} pools, "
        f"{predicted.rate_rps:.1f} req/s planned, {plan.provenance.n_evaluations} evaluations "
        f"({plan.provenance.method}), {cpu_s:.0f} s CPU\n"
    )
    print("| deployment | $/h | quality | p95 e2e s | of the limits |")
    print("|---|--:|--:|--:|--:|")
    rent = ", ".join(f"{d.replicas} x {d.pool}" for d in plan.deployment)
    used = "-" if predicted.latency_ratio is None else f"{predicted.latency_ratio:.0%}"
    print(
        f"| **plan**: {rent} | {predicted.cost_usd_per_h:.2f} | {predicted.quality:.4f} "
        f"| {plan_p95_s(plan):.1f} | {used} |"
    )
    better: list[tuple[float, str]] = []
    for model_name in sorted({p.pool.scored_as for p in inputs.candidates}):
        found = alone(inputs, model_name, None)
        if found is None:
            print(f"| {model_name} alone | none within limits and stock | | | |")
            continue
        settled, rented = found
        print(
            f"| {model_name} alone: {rented} | {settled.cost_usd_per_h:.2f} "
            f"| {settled.score.quality:.4f} | {p95_s(settled):.1f} "
            f"| {settled.score.latency_ratio or 0:.0%} |"
        )
        if settled.score.quality >= predicted.quality - 1e-6:
            better.append((settled.cost_usd_per_h, model_name))
    if better:
        cost, model_name = min(better)
        print(
            f"\nCheapest single model with at least the plan's quality: {model_name} at "
            f"{cost:.2f} $/h, {cost / predicted.cost_usd_per_h:.2f} times the plan."
        )
    else:
        print("\nCheapest single model with at least the plan's quality: none.")
    _oracle(inputs, predicted.quality)


def _oracle(inputs: Inputs, quality: float) -> None:
    scored = {p.pool.scored_as for p in inputs.candidates}
    rates = {c.name: c.rate_rps for c in inputs.question.classes}
    best = {name: oracle_quality(inputs.files, name, scored) for name in rates}
    if any(value is None for value in best.values()):
        return
    total = sum(rates.values())
    mean = sum(rates[name] * (value or 0.0) for name, value in best.items()) / total
    print(
        f"Reference only, not a plan: each prompt's best recorded answer would score {mean:.4f} "
        f"(plan {quality:.4f}); most of that gap is luck of one sample."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--only", default=None)
    options = parser.parse_args()
    builders = {
        "zeroeval12": questions.build_zeroeval12,
        "llmrouter": questions.build_llmrouter,
        "mooncake": questions.build_mooncake,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, build in builders.items():
            if options.only not in (None, name):
                continue
            out = Path(folder) / name
            build(options.data, out)
            own = out / "profiles"
            profiles = own if own.is_dir() else Path(__file__).parent.parent / "profiles"
            report(name, read_inputs(out, profiles), options.effort)


if __name__ == "__main__":
    main()
