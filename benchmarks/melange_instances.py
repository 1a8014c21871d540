"""Melange's problem, one model on several kinds of GPU, solved exactly: fractional routing, proved.

    python benchmarks/melange_instances.py --data FOLDER [--plan]

Each JSON file in the folder has an instance in the form of Melange's inputs (requests per second
that one GPU sustains per size of request, a histogram of sizes, a rate, prices), what Melange's own
integer program finds at several slice factors, and the optimum with fractional routing. Here the
sizes are request classes, the GPUs are pools of which only the capacity is known, and no headroom
is kept: utilisation may be exactly 1. Printed are the money of the deployment found, the money that
no deployment can go below, and how both compare with the file; with --plan those of `rb plan` too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from planner.case import Case, make_case
from planner.exact.bound import bound
from planner.exact.joint import build_joint
from planner.exact.readings import read_tiers
from planner.files.inputs import read_inputs
from planner.files.plans import routes_of
from planner.gate.check import check
from planner.plan import make_plan
from planner.routing.linear import maximise_integer
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs

LEAST_RPS = 1e-5  # throughputs below stand for "cannot be served"
STOCK = 64
MODEL = "the-model"


def instance_inputs(instance: dict[str, Any], folder: Path) -> Inputs:
    """Returns an instance as a question with profiles, written to a folder and read again."""
    given = instance["input"]
    shares = np.array(given["workload_distribution"], dtype=np.float64)
    shares /= shares.sum()
    cells = [(int(i), int(k)) for i, k in np.argwhere(shares > 0)]
    gpus = given["gpu_info"]
    _write_profiles(folder / "profiles", gpus, cells)
    names = {cell: f"size-{cell[0]}-{cell[1]}" for cell in cells}
    classes = []
    for i, k in cells:
        barred = [_pool(g) for g, facts in gpus.items() if facts["tputs"][i][k] < LEAST_RPS]
        rate = float(given["total_request_rate"] * shares[i, k])
        classes.append({"name": names[i, k], "rate_rps": rate, "not_pools": barred})
    question = {
        "version": 1,
        "classes": classes,
        "class_scores": "class_scores.csv",
        "stock": {_gpu(name): STOCK for name in gpus},
        "headroom_ratio": 0.0,
    }
    plan = folder / "plan"
    plan.mkdir(parents=True)
    (plan / "question.yaml").write_text(yaml.safe_dump(question, sort_keys=False))
    (plan / "class_scores.csv").write_text(
        "class,model_name,n_prompts,score,input_tokens_mean,output_tokens_mean,origin,source\n"
        + "".join(
            f"{names[cell]},{MODEL},1,1.0,{tokens},{tokens},assumed,the instance names no tokens\n"
            for cell, tokens in zip(cells, _tokens(cells), strict=True)
        )
    )
    return read_inputs(plan, folder / "profiles")


def _tokens(cells: list[tuple[int, int]]) -> list[float]:
    """Returns a length for each size, all different: capacities are looked up by it."""
    return [100.0 * (n + 1) for n in range(len(cells))]


def _gpu(name: str) -> str:
    return "gpu-" + name.lower()


def _pool(name: str) -> str:
    return "on-" + name.lower()


def _write_profiles(folder: Path, gpus: dict[str, Any], cells: list[tuple[int, int]]) -> None:
    """Writes one pool with capacities alone for each kind of GPU."""
    folder.mkdir(parents=True)
    source = {"source": "a yardstick instance: only prices and capacities matter"}
    facts = {"memory_gib": 1000, "fp16_tflops": 1, "memory_gb_per_s": 1, "as_of": "2026-01-01"}
    listed = [
        {"name": _gpu(name), "usd_per_h": float(g["cost"]), **facts, **source}
        for name, g in gpus.items()
    ]
    (folder / "gpus.yaml").write_text(yaml.safe_dump(listed))
    ones = ("n_layers", "hidden_size", "n_heads", "n_kv_heads", "head_dim")
    model = {
        "name": MODEL, "n_parameters": 1e9, "n_active_parameters": 1e9, "bytes_per_parameter": 2,
        "max_context_tokens": 10**6, **dict.fromkeys(ones, 1), **source,
    }  # fmt: skip
    (folder / "models.yaml").write_text(yaml.safe_dump([model]))
    for name, g in gpus.items():
        pool = folder / _pool(name)
        pool.mkdir()
        about = {"name": _pool(name), "model_name": MODEL, "gpu": _gpu(name), **source}
        (pool / "pool.yaml").write_text(yaml.safe_dump(about))
        rows = [
            f"{tokens},{tokens},{g['tputs'][i][k]!r},assumed,the instance\n"
            for (i, k), tokens in zip(cells, _tokens(cells), strict=True)
            if g["tputs"][i][k] >= LEAST_RPS
        ]
        header = "input_tokens,output_tokens,max_rps,origin,source\n"
        (pool / "capacity.csv").write_text(header + "".join(rows))


def solve_exactly(case: Case) -> tuple[IntArray, float, float]:
    """Returns a deployment, its money and the money that no deployment can go below, in $/h."""
    tables = case.tables()
    tiers = read_tiers(case.workload, tables, case.space, 0.0, "conservative", 1)
    joint = build_joint(tiers, "cost", None, integer=True)
    found = maximise_integer(joint.program, 1e-9, 100_000)
    replicas = np.rint(found.values[joint.replicas]).astype(np.int64)
    proof = bound(case.workload, tables, case.space, 0.0, "cost")
    assert proof.best_possible is not None
    return replicas, float(case.space.cost_usd_per_h(replicas)), proof.best_possible


def report(path: Path, with_plan: bool) -> bool:
    """Prints one instance; returns whether the recorded optimum is reached and proved."""
    instance = json.loads(path.read_text())
    recorded = float(instance["fractional_routing"]["cost"])
    shipped = instance["melange"][0]["result"]
    with tempfile.TemporaryDirectory() as folder:
        inputs = instance_inputs(instance, Path(folder))
        case = make_case(inputs)
        start = time.process_time()
        replicas, usd, least = solve_exactly(case)
        seconds = time.process_time() - start
        said = {n: int(k) for n, k in zip(case.space.pool_names, replicas, strict=True) if k}
        print(f"{instance['name']}: {case.workload.n_classes} sizes, {len(case.pools)} GPU kinds")
        print(f"  found ${usd:.4f}/h {said}, at least ${least:.4f}/h, {seconds:.2f} s CPU")
        melange = shipped["cost"] if shipped else None
        ratio = f"{melange / usd:.3f} of ours" if melange else "no answer"
        print(f"  recorded optimum ${recorded:.4f}/h; Melange as shipped {melange} ({ratio})")
        if with_plan:
            _report_plan(inputs)
    return abs(usd - recorded) <= 1e-4 and usd - least <= 1e-4


def _report_plan(inputs: Inputs) -> None:
    start = time.process_time()
    plan = make_plan(inputs, "quick")
    seconds = time.process_time() - start
    fullest = max(figure.utilisation_ratio for figure in plan.predicted.pools)
    findings = check(inputs, plan, routes_of(plan))
    n_errors = sum(finding.severity == "error" for finding in findings)
    proof = f"at least ${plan.bound.best_possible:.4f}/h" if plan.bound else "no proof"
    print(
        f"  rb plan: ${plan.predicted.cost_usd_per_h:.4f}/h, {proof}, fullest pool at "
        f"{fullest:.6f}, {seconds:.1f} s CPU; rb check finds {n_errors} errors"
    )


def main() -> None:
    """Prints all instances of a folder and whether each is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder of instance files")
    parser.add_argument("--plan", action="store_true", help="run the whole planner too")
    asked = parser.parse_args()
    for path in sorted(asked.data.glob("*.json")):
        print("  met" if report(path, asked.plan) else "  MISSED")


if __name__ == "__main__":
    main()
