"""Small cases, ready to evaluate, and a hosted API beside own GPUs, for tests of the main path."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from questions import PROFILES, inputs_of, small, write_question

from planner.case import Case, make_case
from planner.explore import Explored, explore
from planner.files.inputs import read_inputs
from planner.objectives import Evaluation, Objectives, make_objectives
from planner.spec.arrays import IntArray

GPU = "h100-sxm-80g"
GPU_USD_PER_H = 2.95
HOSTED = "hosted-70b"
OWN = ("llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100")  # the order of the pools in a case


def z(*replicas: int) -> IntArray:
    """Replicas of each pool as an array."""
    return np.array(replicas, dtype=np.int64)


def unlimited(**changes: Any) -> dict[str, Any]:
    """The small question without any latency limit."""
    question = small(**changes)
    for cls in question["classes"]:
        del cls["limits"]
    return question


def hosted_profiles(folder: Path, price: float, max_rps: float) -> Path:
    """A profiles folder: both pools of the small question, and a hosted 70b without points."""
    profiles = folder / "profiles"
    profiles.mkdir(parents=True)
    for name in ("gpus.yaml", "models.yaml"):
        shutil.copy(PROFILES / name, profiles / name)
    for name in OWN:
        shutil.copytree(PROFILES / name, profiles / name)
    pool = {
        "name": HOSTED,
        "model_name": "llama-3.1-70b",
        "price": {"usd_per_million_input_tokens": price, "usd_per_million_output_tokens": price},
        "max_rps": max_rps,
        "origin": "assumed",
        "source": "made for a test",
    }
    (profiles / HOSTED).mkdir()
    (profiles / HOSTED / "pool.yaml").write_text(yaml.safe_dump(pool))
    return profiles


def case_of(folder: Path, question: dict[str, Any]) -> Case:
    """The case of a question on the repository's profiles."""
    return make_case(inputs_of(folder, question))


def objectives_of(folder: Path, question: dict[str, Any]) -> Objectives:
    """The evaluation of a question on the repository's profiles."""
    return make_objectives(case_of(folder, question))


def hosted_objectives(
    folder: Path, price: float = 0.4, max_rps: float = 50.0, **changes: Any
) -> Objectives:
    """The evaluation of the unlimited small question with a hosted 70b; pools: hosted, 70b, 8b."""
    pools = [HOSTED, *OWN]
    plan = write_question(folder / "plan", unlimited(pools=pools, **changes))
    return make_objectives(make_case(read_inputs(plan, hosted_profiles(folder, price, max_rps))))


def enumerated(objectives: Objectives) -> Explored:
    """Every evaluation of a small box."""
    return explore(objectives, "quick", "enumerate", 0)


def good(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The acceptable ones."""
    return [e for e in evaluations if e.violation <= 1e-9]
