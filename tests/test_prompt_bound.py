"""What no deployment of a plan's rent is expected to reach by prompt, against all deployments."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from questions import PROFILES
from router_folder import write_router_folder
from scipy.optimize import linprog

from planner import believed
from planner.believed import _Foretold, _setting, quality_basis
from planner.case import make_case
from planner.files.inputs import read_inputs
from planner.objectives import Objectives, make_objectives
from planner.proofs.prompt_bound import GAP_RATIO, prompt_bound
from planner.quality.folds import fold_of
from planner.quality.scores import Scores, scores_of
from planner.settle import Settled, settle
from planner.spec.arrays import FloatArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Bound, QualityBasis

COUNTS = {"chat": 25, "code": 25, "math": 20}
LIMIT = {"metric": "ttft", "statistic": "mean", "at_most_ms": 40}


@dataclass(frozen=True)
class Made:
    """A settled plan, and what a router expects of each model on each prompt."""

    inputs: Inputs
    objectives: Objectives
    settled: Settled
    scores: Scores
    expected: FloatArray  # (N, M)

    @cached_property
    def of_pools(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weight (N,), classes (N, C) and expected quality (N, P) of the prompts."""
        setting = _setting(self.inputs.files, self.objectives, self.settled, self.scores)
        return setting.weight, setting.row, self.expected[:, setting.member.argmax(axis=1)]

    def bound(self, n_rounds: int = 6) -> Bound | None:
        return prompt_bound(self.objectives, self.settled, *self.of_pools, n_rounds)

    def truth(self, replicas: np.ndarray) -> float | None:
        """The best expected quality of a deployment without limits, by another solver."""
        case = self.objectives.case
        weight, row, quality = self.of_pools
        n, p = quality.shape
        cap = np.array([t.max_load for t in self.settled.tables])
        cap *= (1.0 - case.question.headroom_ratio) * replicas
        work_s = np.stack([t.work_s for t in self.settled.tables], axis=1)
        load = weight[:, None] * (row @ work_s) * case.workload.total_rps
        rows = np.zeros((p, n * p))
        rows[np.tile(np.arange(p), n), np.arange(n * p)] = load.ravel()
        found = linprog(
            -(weight[:, None] * quality).ravel(), rows, cap,
            np.kron(np.eye(n), np.ones(p)), np.ones(n), (0.0, 1.0),
        )  # fmt: skip
        return -float(found.fun) if found.status == 0 else None


def made(folder: Path, **changes: object) -> Made:
    write_router_folder(folder, COUNTS, quality_at_least=None, **changes)
    inputs = read_inputs(folder, PROFILES)
    objectives = make_objectives(make_case(inputs))
    names = objectives.case.space.pool_names
    replicas = np.array([{"llama-3.1-70b-h100-tp4": 2}.get(name, 1) for name in names])
    replicas[["405b" in name for name in names]] = 0
    scores = scores_of(inputs.files)
    rng = np.random.default_rng(0)
    told = 0.5 * np.nan_to_num(scores.score, nan=0.5) + 0.5 * rng.random(scores.score.shape)
    return Made(inputs, objectives, settle(objectives, replicas), scores, told)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("bound") / "q")


@pytest.mark.parametrize("replicas", [(0, 2, 1), (0, 1, 5)], ids=str)  # the best, and another
def test_value_and_bound_against_every_deployment_of_the_rent(
    base: Made, replicas: tuple[int, ...]
) -> None:
    base = replace(base, settled=settle(base.objectives, np.array(replicas)))
    space, found = base.objectives.case.space, base.bound()
    assert found is not None and found.objective == "quality"
    rent = float(space.cost_usd_per_h(base.settled.replicas))
    assert found.within_usd_per_h == pytest.approx(rent, abs=1e-4)
    assert found.value == pytest.approx(base.truth(base.settled.replicas), abs=2e-5)
    values = []
    for z in itertools.product(*(range(int(n) + 1) for n in space.upper)):
        other = np.array(z)
        if other.any() and space.admits(other) and space.cost_usd_per_h(other) <= rent + 1e-9:
            values.append(base.truth(other))
    reached = [value for value in values if value is not None]
    assert len(reached) > 3
    assert max(reached) <= found.best_possible + 2e-6
    assert found.best_possible <= max(reached) * (1.0 + GAP_RATIO) + 1e-6
    expected = (found.best_possible - found.value) / found.value
    assert found.gap_ratio == pytest.approx(expected, abs=1e-5)


def test_one_round_only_loosens_the_bound(base: Made) -> None:
    one, many = base.bound(1), base.bound()
    assert one is not None and many is not None
    assert one.value == many.value and one.best_possible >= many.best_possible - 1e-6


def test_nothing_is_said_where_loads_do_not_say_it(base: Made, tmp_path: Path) -> None:
    classes = [{"name": name, "rate_rps": 5.0, "limits": [dict(LIMIT)]} for name in COUNTS]
    assert made(tmp_path / "class", classes=classes).bound(1) is None
    case = base.objectives.case
    usd = case.workload.request_usd.copy()
    usd[:, 0] = 1e-4
    paid = replace(case, workload=replace(case.workload, request_usd=usd))
    changed = replace(base, objectives=make_objectives(paid, base.objectives.tables))
    assert changed.bound(1) is None


def test_limits_over_all_traffic_are_kept(tmp_path: Path) -> None:
    free, limited = made(tmp_path / "free"), made(tmp_path / "limited", limits=[LIMIT])
    assert has_limits(limited) and not has_limits(free)
    without, within = free.bound(2), limited.bound(2)
    assert without is not None and within is not None
    assert within.value < without.value - 0.01
    assert within.value <= within.best_possible < without.best_possible - 0.005


def has_limits(one: Made) -> bool:
    return bool(one.objectives.case.workload.limits)


def test_the_basis_states_it_where_the_gate_has_passed(
    base: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = np.ones_like(base.expected)
    known = _Foretold(fold_of(base.scores), base.expected, one, one)
    monkeypatch.setattr(believed, "_estimator", lambda *_: ("terms gain", True))
    monkeypatch.setattr(believed, "_foretold", lambda *_: known)
    args = base.inputs.files, base.objectives, base.settled, 0
    assert quality_basis(*args).per_prompt_bound is None  # a quick look
    basis = quality_basis(*args, "standard")
    assert basis.per_prompt_bound is not None and basis.per_prompt is not None
    assert basis.per_prompt_bound.value == base.bound(2).value
    assert QualityBasis.model_validate_json(basis.model_dump_json()) == basis
    # A model with room to spare has a price, too: that of 0.
    assert set(basis.model_prices) == {"llama-3.1-70b", "llama-3.1-8b"}
    monkeypatch.setattr(believed, "_estimator", lambda *_: ("terms do not gain", False))
    without = quality_basis(*args, "standard")
    assert without.model_prices == {} and without.per_prompt_bound is None
    assert "per_prompt_bound" not in json.loads(without.model_dump_json())
