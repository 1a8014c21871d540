"""Plans over pools of which only the capacity is known, up to a utilisation of exactly 1.

The numbers are Melange's published toy example (arXiv 2404.14527): two kinds of GPU, four sizes of
request, what one GPU sustains of each. Its integer program gives $6.70 as shipped and $5.69 with
finer slices; with fractional routing one GPU of each kind is enough: $4.68.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.optimize import linprog

from planner.files.inputs import read_inputs
from planner.files.plans import routes_of
from planner.gate.check import check
from planner.plan import make_plan
from planner.spec.inputs import Inputs

USD_PER_H = {"a10g": 1.01, "a100-80gb": 3.67}
MAX_RPS = {"a10g": (2.0, 1.0, 5.0, 2.0), "a100-80gb": (20.0, 20.0, 40.0, 20.0)}
RATE_RPS = (6.0, 3.0, 15.0, 6.0)
TOKENS = ((100, 100), (100, 400), (800, 100), (800, 400))


def toy(folder: Path) -> Inputs:
    """The example as a question with profiles."""
    profiles, plan = folder / "profiles", folder / "plan"
    profiles.mkdir(parents=True)
    plan.mkdir()
    source = {"source": "made for a test"}
    gpu = {"memory_gib": 80, "fp16_tflops": 1, "memory_gb_per_s": 1, "as_of": "2026-01-01"}
    gpus = [{"name": name, "usd_per_h": usd, **gpu, **source} for name, usd in USD_PER_H.items()]
    (profiles / "gpus.yaml").write_text(yaml.safe_dump(gpus))
    sizes = ("n_layers", "hidden_size", "n_heads", "n_kv_heads", "head_dim")
    model = {
        "name": "m", "n_parameters": 1e9, "n_active_parameters": 1e9, "bytes_per_parameter": 2,
        "max_context_tokens": 10_000, **dict.fromkeys(sizes, 1), **source,
    }  # fmt: skip
    (profiles / "models.yaml").write_text(yaml.safe_dump([model]))
    for name, rates in MAX_RPS.items():
        (profiles / f"on-{name}").mkdir()
        pool = {"name": f"on-{name}", "model_name": "m", "gpu": name, **source}
        (profiles / f"on-{name}" / "pool.yaml").write_text(yaml.safe_dump(pool))
        rows = [f"{i},{o},{rps},assumed,toy" for (i, o), rps in zip(TOKENS, rates, strict=True)]
        header = "input_tokens,output_tokens,max_rps,origin,source"
        (profiles / f"on-{name}" / "capacity.csv").write_text("\n".join([header, *rows, ""]))
    classes = [{"name": f"c{c}", "rate_rps": rate} for c, rate in enumerate(RATE_RPS)]
    stock = dict.fromkeys(USD_PER_H, 16)
    question = {"version": 1, "classes": classes, "class_scores": "s.csv", "stock": stock}
    (plan / "question.yaml").write_text(yaml.safe_dump({**question, "headroom_ratio": 0.0}))
    header = "class,model_name,n_prompts,score,input_tokens_mean,output_tokens_mean,source"
    rows = [f"c{c},m,1,1.0,{i},{o},toy" for c, (i, o) in enumerate(TOKENS)]
    (plan / "s.csv").write_text("\n".join([header, *rows, ""]))
    return read_inputs(plan, profiles)


def least_usd_per_h() -> float:
    """The cheapest numbers of GPUs whose capacity carries everything, by trying all of them."""
    work = np.array([[r / s for r, s in zip(RATE_RPS, MAX_RPS[g], strict=True)] for g in USD_PER_H])
    costs = []
    for n in itertools.product(range(17), range(17)):
        load = np.zeros((2, 8))
        load[0, :4], load[1, 4:] = work
        serve = np.hstack([np.eye(4), np.eye(4)])
        if linprog(np.zeros(8), load, np.array(n, float), serve, np.ones(4)).success:
            costs.append(float(np.array(n) @ list(USD_PER_H.values())))
    return min(costs)


def test_one_gpu_of_each_kind_full_to_the_brim_is_found_and_proved(tmp_path: Path) -> None:
    assert least_usd_per_h() == pytest.approx(4.68)
    inputs = toy(tmp_path)
    plan = make_plan(inputs, "quick", "enumerate")
    assert {row.pool: row.replicas for row in plan.deployment} == {"on-a10g": 1, "on-a100-80gb": 1}
    assert plan.predicted.cost_usd_per_h == pytest.approx(4.68)
    assert plan.bound is not None
    assert plan.bound.best_possible == pytest.approx(4.68, abs=1e-4)
    assert max(f.utilisation_ratio for f in plan.predicted.pools) <= 1.0 + 1e-6
    assert not [f for f in check(inputs, plan, routes_of(plan)) if f.severity == "error"]
