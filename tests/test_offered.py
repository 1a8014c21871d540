"""Cascades that the scores of a question prove, from its files to its plan's check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from questions import PROFILES
from router_folder import write_router_folder
from typer.testing import CliRunner

from planner.answer import make_answer, make_provenance
from planner.believed import quality_basis
from planner.case import Case, make_case
from planner.cli.app import app
from planner.files.inputs import read_inputs
from planner.files.plans import routes_of, write_plan
from planner.gate.check import check
from planner.objectives import make_objectives
from planner.offered import offered
from planner.quality.cascade import CascadeOption
from planner.settle import settle
from planner.spec.inputs import Inputs
from planner.spec.question import RouterSettings


def inputs_in(folder: Path, **changes: object) -> Inputs:
    return read_inputs(write_router_folder(folder, **changes), PROFILES)


def with_router(inputs: Inputs, settings: RouterSettings) -> Inputs:
    question = inputs.question.model_copy(update={"router": settings})
    return replace(inputs, files=replace(inputs.files, question=question))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return inputs_in(tmp_path_factory.mktemp("offered") / "plan")


@pytest.fixture(scope="module")
def case(inputs: Inputs) -> Case:
    return make_case(inputs)


@pytest.fixture(scope="module")
def options(inputs: Inputs, case: Case) -> tuple[CascadeOption, ...]:
    return offered(inputs, case)


def test_a_telling_signal_is_offered_and_planned_with(
    inputs: Inputs, case: Case, options: tuple[CascadeOption, ...]
) -> None:
    assert options
    assert {o.signal for o in options} == {"agreement"}
    assert all(o.gain_low > 0 for o in options)
    full = make_case(inputs, case.models, cascades=options)
    assert full.workload.n_rows == 3 + 2 * len(options)
    with_it, without = (settle(make_objectives(c), np.array([1, 3, 4])) for c in (full, case))
    assert with_it.score.quality > without.score.quality + 0.01
    provenance = make_provenance("by hand", 0, "none", 1, inputs.hashes)
    plan = make_answer(full, with_it, [with_it], ["made"], provenance, True)
    assert plan.cascades
    # Without being told of any, a check asks the scores itself.
    assert {f.severity for f in check(inputs, plan, routes_of(plan))} <= {"warning"}
    basis = quality_basis(inputs.files, make_objectives(full), with_it, 0)
    assert basis.by_class.low < with_it.score.quality < basis.by_class.high
    assert basis.by_class.quality == pytest.approx(with_it.score.quality, abs=0.03)
    assert basis.by_class.high - basis.by_class.low > 0.02  # what is known of cascades counts, too
    assert basis.per_prompt is None


@pytest.mark.slow
def test_such_a_plan_is_simulated_by_the_command(
    inputs: Inputs, case: Case, options: tuple[CascadeOption, ...], tmp_path: Path
) -> None:
    full = make_case(inputs, case.models, cascades=options)
    settled = settle(make_objectives(full), np.array([1, 3, 4]))
    provenance = make_provenance("by hand", 0, "none", 1, inputs.hashes)
    plan = make_answer(full, settled, [settled], ["made"], provenance, True)
    write_plan(write_router_folder(tmp_path / "plan"), plan)
    command = ["simulate", str(tmp_path / "plan"), "--profiles", str(PROFILES)]
    ran = CliRunner().invoke(app, [*command, "--duration-s", "40", "--json"])
    assert ran.exit_code == 0, ran.output
    seen = json.loads(ran.output)["simulated"]
    assert seen["quality"] == pytest.approx(plan.predicted.quality, abs=0.05)
    checked = CliRunner().invoke(app, ["check", *command[1:]])
    assert checked.exit_code == 0, checked.output


def test_who_wants_none_or_knows_no_prompts_is_offered_none(
    inputs: Inputs, case: Case, tmp_path: Path
) -> None:
    assert offered(with_router(inputs, RouterSettings(cascades="off")), case) == ()
    blind = replace(inputs, files=replace(inputs.files, prompts=None))
    assert offered(blind, case) == ()
    without = inputs_in(tmp_path / "silent", signals=False)
    assert offered(without, make_case(without)) == ()
