"""Infeasible questions: exit 1, what binds, and relaxations that really work."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import GPU, case_of, enumerated, objectives_of, z
from questions import inputs_of, small, write_question

from planner.choose import choose
from planner.cli.app import run
from planner.errors import Infeasible
from planner.plan import make_plan
from planner.reasons.relax import _least_stock, _nearest
from planner.space import Packing
from planner.space.parts import Part
from planner.spec.plan import Plan


def refusal(folder: Path, **changes: object) -> Infeasible:
    with pytest.raises(Infeasible) as caught:
        make_plan(inputs_of(folder, small(**changes)), "quick", "enumerate")
    return caught.value


def has_answer(folder: Path, question: dict[str, Any]) -> bool:
    """Whether a deployment of the whole box keeps everything."""
    objectives = objectives_of(folder, question)
    return choose(objectives, enumerated(objectives), None, signed=True)[0] is not None


def number(pattern: str, lines: tuple[str, ...]) -> float:
    found = [m for line in lines if (m := re.search(pattern, line))]
    assert found, (pattern, lines)
    return float(found[0].group(1))


@pytest.mark.slow
def test_a_budget_too_small_names_the_budget_that_works(tmp_path: Path) -> None:
    refused = refusal(tmp_path / "no", budget_usd_per_h=9.0)
    enough = number(r"a budget of ([\d.]+) \$/h meets everything", refused.relaxations)
    assert enough > 9.0
    plan = make_plan(inputs_of(tmp_path / "yes", small(budget_usd_per_h=enough)), "quick")
    assert plan.predicted.cost_usd_per_h <= enough + 1e-9
    assert not has_answer(tmp_path / "below", small(budget_usd_per_h=enough - 0.01))


def test_a_limit_out_of_reach_names_how_near_one_comes_and_what_works(tmp_path: Path) -> None:
    question = small()
    question["classes"][0]["limits"][0]["at_most_ms"] = 20
    refused = refusal(tmp_path / "no", classes=question["classes"])
    assert len(refused.conflict) == 1 and "p95 e2e of easy" in refused.conflict[0]
    assert refused.binding == "no pool keeps p95 e2e of easy at most 20 ms, at any load or price"
    least = number(r"p95 e2e of easy is ([\d.]+) s at least: llama-", (refused.distance,))
    works = number(r"p95 e2e of easy at ([\d.]+) s instead of 20 ms", refused.relaxations)
    assert number(r"below ([\d.]+) s nothing would do", refused.relaxations) >= least
    question["classes"][0]["limits"][0]["at_most_ms"] = works * 1000 * 1.01
    assert has_answer(tmp_path / "yes", question)


def test_a_budget_for_no_replica_at_all_names_the_cheapest(tmp_path: Path) -> None:
    objectives = objectives_of(tmp_path, small(budget_usd_per_h=2.0))
    binding, distance = _nearest(objectives, enumerated(objectives), None)
    assert binding == "a budget of 2 $/h rents nothing"
    assert distance == "the cheapest replica is one llama-3.1-8b-h100 at 2.95 $/h"


@pytest.mark.slow
def test_a_floor_too_high_names_the_best_quality(tmp_path: Path) -> None:
    refused = refusal(tmp_path / "no", quality_at_least=0.95)
    best = number(r"a quality of ([\d.]+) is the best", refused.relaxations)
    assert 0.5 < best < 0.95
    make_plan(inputs_of(tmp_path / "yes", small(quality_at_least=best - 1e-3)), "quick")


@pytest.mark.slow
def test_too_little_stock_names_what_is_missing(tmp_path: Path) -> None:
    refused = refusal(tmp_path / "no", stock={"h100-sxm-80g": 4})
    more = number(r"(\d+) more h100-sxm-80g", refused.relaxations)
    stock = {"h100-sxm-80g": 4 + int(more)}
    make_plan(inputs_of(tmp_path / "yes", small(stock=stock)), "quick", "enumerate")


def test_less_traffic_is_named_too(tmp_path: Path) -> None:
    refused = refusal(tmp_path / "no", stock={"h100-sxm-80g": 4})
    factor = number(r"([\d.]+) times the planned traffic", refused.relaxations)
    assert 0 < factor < 1


def test_the_command_exits_1_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_question(tmp_path / "plans" / "no", small(budget_usd_per_h=3.0))
    profiles = Path(__file__).parent.parent / "profiles"
    arguments = ["plan", str(folder), "--profiles", str(profiles), "--effort", "quick"]
    assert run([*arguments, "--method", "enumerate"]) == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "no deployment meets the question" in streams.err
    assert "would work: a budget of" in streams.err
    assert not (folder / "plan.json").exists()


def test_gpus_that_are_missing_count_the_gaps_on_nodes(tmp_path: Path) -> None:
    plain = case_of(tmp_path, small()).space
    assert _least_stock(plain, GPU, z(1, 1)) == 5
    # Replicas of 3 and 2 on nodes of 4: of five GPUs the last is alone on its node.
    parts = tuple(Part(n, name, 1.0, 1.0, False) for n, name in ((3, "70b"), (2, "8b")))
    sizes = np.array([3.0, 2.0])
    gappy = replace(plain, gpus_per_replica=sizes, packings={GPU: Packing(8, 4, parts)})
    needed = {n: _least_stock(gappy, GPU, z(*n)) for n in ((1, 1), (1, 0), (2, 0), (0, 2))}
    assert needed == {(1, 1): 6, (1, 0): 3, (2, 0): 7, (0, 2): 4}


@pytest.mark.slow
def test_what_a_tenth_more_budget_buys_is_true(tmp_path: Path) -> None:
    def best(budget: float) -> Plan:
        question = small(budget_usd_per_h=budget, choose="best_quality")
        return make_plan(inputs_of(tmp_path / f"{budget}", question), "quick", "enumerate")

    plan, more = best(22.0), best(24.2)
    said = [line for line in plan.why if line.startswith("a tenth more budget")]
    gain = number(r"would buy quality ([+-][\d.]+)", tuple(said))
    assert gain == pytest.approx(more.predicted.quality - plan.predicted.quality, abs=3e-3)
    assert gain > 0
