"""The simulator as a library: the documented examples run, and a cluster by hand is a cluster."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hand_plan import ROOT

import planner.simulate
from planner.files.plans import write_plan
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.demand import LONGEST_S, Demand
from planner.simulate.records import Outcome
from planner.simulate.settings import EngineSettings, StepTimes
from planner.simulate.units import PS_PER_MS
from planner.spec.plan import Plan

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCSTRING = str(planner.simulate.__doc__)


def indented_blocks(text: str) -> list[str]:
    found = re.findall(r"(?:^    .*\n|^\n(?=\n*    ))+", text, flags=re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in found]


BY_HAND, OF_A_PLAN = indented_blocks(DOCSTRING)
FENCED = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def engine(step_ms: float = 10.0) -> EngineSettings:
    steps = StepTimes.linear(8, step_ms, sequence_ms=0.5, prompt_token_ms=0.1)
    return EngineSettings(steps, 8, max_num_batched_tokens=512, kv_blocks=1000)


POOLS = (PoolSetup("a", engine(), 2), PoolSetup("b", engine(20.0), 1))


# ---- The examples --------------------------------------------------------------------------------


def test_the_example_by_hand_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(BY_HAND, names)
    said = BY_HAND.splitlines()[-1].removeprefix("# ")
    assert capsys.readouterr().out == f"{said}\n"


def test_the_example_of_a_plan_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    demo_plan: Plan,
) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copytree(ROOT / "plans" / "demo", tmp_path / "plans" / "demo")
    write_plan(tmp_path / "plans" / "demo", demo_plan)
    monkeypatch.chdir(tmp_path)
    exec(OF_A_PLAN.replace("plans/a100", "plans/demo"), {})
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert ["e2e", "p95"] in [row[:2] for row in rows]
    assert {row[-1] for row in rows} >= {"None"}  # statistics without a limit have no verdict
    assert {row[-2] for row in rows} >= {"10000.0"}


def test_the_readme_shows_the_same_example() -> None:
    assert BY_HAND in [block.strip() for block in FENCED]


# ---- A demand by hand ----------------------------------------------------------------------------


def test_a_demand_by_hand_asks_every_pool_the_same() -> None:
    demand = Demand.of(np.array([0.0, 0.5]), np.array([10, 20]), np.array([3, 4]), n_pools=2)
    assert demand.arrived_ps.tolist() == [0, 500 * PS_PER_MS]
    assert demand.class_index.tolist() == demand.priority.tolist() == [0, 0]
    first, second = demand.tokens
    assert first == second
    assert first is not None
    assert first.prompt.tolist() == first.fresh.tolist() == [10, 20]
    assert first.output.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_tokens": np.array([10])}, "one entry per request"),
        ({"class_index": np.array([0, 1, 0])}, "one entry per request"),
        ({"arrived_s": np.array([0.5, 0.4])}, "arrivals ascend"),
        ({"arrived_s": np.array([-0.1, 0.4])}, "arrivals ascend"),
        ({"arrived_s": np.array([0.0, 1.1 * LONGEST_S])}, "arrivals ascend"),
        ({"arrived_s": np.array([0.0, np.nan])}, "arrivals ascend"),
        ({"input_tokens": np.array([10, 0])}, "at least one token"),
        ({"output_tokens": np.array([0, 5])}, "at least one token"),
        ({"class_index": np.array([0, -1])}, "a class from 0 on"),
    ],
    ids=str,
)
def test_an_impossible_demand_is_refused(change: dict[str, object], message: str) -> None:
    columns = {
        "arrived_s": np.array([0.0, 0.5]),
        "input_tokens": np.array([10, 20]),
        "output_tokens": np.array([3, 4]),
    }
    Demand.of(**columns)
    with pytest.raises(ValueError, match=message):
        Demand.of(**{**columns, **change})


# ---- A cluster by hand ---------------------------------------------------------------------------


def test_two_requests_take_what_their_steps_take() -> None:
    demand = Demand.of(
        np.array([0.0, 0.0]),
        np.array([100, 50]),
        np.array([3, 1]),
        n_pools=2,
        class_index=np.array([0, 1]),
    )
    records = run(Cluster.of(POOLS, {"x": {"a": 1.0}, "y": {"b": 1.0}}), demand).records
    # x: a step of 10 + 100 * 0.1 ms, then two of 10 + 0.5 ms; y: one of 20 + 50 * 0.1 ms.
    assert records.ttft_ms.tolist() == [20.0, 25.0]
    assert records.e2e_ms.tolist() == [41.0, 25.0]
    assert records.pool_index.tolist() == [0, 1]


def test_shares_and_fallback_by_hand_route_requests() -> None:
    from planner.simulate.failures import parse

    n = 1000
    tokens = np.full(n, 5)
    demand = Demand.of(np.linspace(0.0, 100.0, n), tokens, tokens, n_pools=2)
    cluster = Cluster.of(POOLS, {"x": {"a": 0.7, "b": 0.3}}, fallback={"x": ["a"]})
    assert run(cluster, demand).records.pool_index.sum() == 300
    without_b = run(cluster, demand, parse(["b@0"])).records
    assert without_b.pool_index.sum() == 0
    assert (without_b.outcome == Outcome.OK).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shares": {"x": {"a": 0.5, "c": 0.5}}}, "no pool is named c"),
        ({"fallback": {"x": ["d"]}}, "no pool is named d"),
        ({"shares": {"x": {"a": 0.5}}}, "shares of x add up to 1"),
        ({"balance": "clever"}, "balance is one of least_delay, .* got 'clever'"),
    ],
    ids=str,
)
def test_an_impossible_cluster_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cluster.of(POOLS, **{"shares": {"x": {"a": 1.0}}, **arguments})


@pytest.mark.parametrize(("n_pools", "last_class"), [(1, 0), (3, 0), (2, 1)])
def test_a_demand_of_another_cluster_is_refused(n_pools: int, last_class: int) -> None:
    tokens = np.array([5, 5])
    demand = Demand.of(
        np.array([0.0, 1.0]),
        tokens,
        tokens,
        n_pools=n_pools,
        class_index=np.array([0, last_class]),
    )
    with pytest.raises(ValueError, match=f"the demand is of {n_pools} pools"):
        run(Cluster.of(POOLS, {"x": {"a": 1.0}}), demand)


def test_linear_step_times_are_those_of_their_terms() -> None:
    steps = StepTimes.linear(2, 1.5, sequence_ms=0.25, context_token_ms=2e-5, prompt_token_ms=0.001)
    assert steps == StepTimes(
        decode_ps=(1_500_000_000, 1_750_000_000, 2_000_000_000),
        context_ps=(20_000,) * 3,
        prompt_token_ps=1_000_000,
    )
