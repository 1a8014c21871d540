"""How far a limit can be kept at all: against routings and loads drawn at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_cases import HOSTED, hosted_objectives, objectives_of
from questions import small

from planner.objectives import Objectives
from planner.reasons.reach import Reach, out_of_reach, reach_of
from planner.reasons.relax import _fastest
from planner.spec.base import Metric, Statistic, tail_ratio
from planner.spec.question import Limit
from planner.spec.workload import ScopedLimit


@pytest.fixture(scope="module")
def objectives(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("reach"), small())


def reach(objectives: Objectives, scope: str | None, metric: Metric, statistic: Statistic) -> Reach:
    limit = Limit(metric=metric, statistic=statistic, at_most_ms=1.0)
    found = reach_of(objectives, ScopedLimit(scope, limit))
    assert found is not None
    return found


@pytest.mark.parametrize("scope", [None, "easy", "hard"])
@pytest.mark.parametrize(
    ("metric", "statistic"), [("e2e", "p95"), ("ttft", "p50"), ("tpot", "mean")]
)
def test_no_routing_at_any_load_comes_below_it(
    objectives: Objectives, scope: str | None, metric: Metric, statistic: Statistic
) -> None:
    found, random = reach(objectives, scope, metric, statistic), np.random.default_rng(0)
    workload, tables, tail = objectives.case.workload, objectives.tables, tail_ratio(statistic)
    weights = workload.rate_rps * [scope in (None, name) for name in workload.class_names]
    for _ in range(50):
        shares = random.dirichlet([0.3] * len(tables), size=weights.size)  # (C, P)
        figure = 0.0
        for p, table in enumerate(tables):
            load = random.uniform(0.0, table.max_load) if random.random() < 0.7 else 0.0
            if tail is None:
                each = table.mean_at(metric, load)
            else:
                log_t, survival = np.log(table.times_ms[metric]), table.survival_at(metric, load)
                each = np.array([np.interp(np.log(found.least_ms), log_t, s) for s in survival])
            figure += float(weights / weights.sum() * shares[:, p] @ each)
        assert figure >= (found.least_ms if tail is None else tail) * (1 - 1e-3)


def test_a_class_alone_reaches_what_its_fastest_pool_does(objectives: Objectives) -> None:
    found = reach(objectives, "hard", "e2e", "p95")
    by_pool = {t.pool: t.statistic_ms("e2e", "p95")[1].min() for t in objectives.tables}
    assert found.pools == (min(by_pool, key=lambda name: float(by_pool[name])),)
    assert found.least_ms == pytest.approx(min(by_pool.values()), rel=0.01)


def test_only_limits_that_nothing_keeps_are_out_of_reach(objectives: Objectives) -> None:
    assert out_of_reach(objectives) == ()
    least = reach(objectives, "easy", "e2e", "p95").least_ms
    for factor, beyond in ((0.98, True), (1.02, False)):
        limit = Limit(metric="e2e", statistic="p95", at_most_ms=least * factor)
        found = reach_of(objectives, ScopedLimit("easy", limit))
        assert found is not None and (found.ratio > 1) == beyond


def test_a_pool_without_latencies_reaches_no_limit(tmp_path: Path) -> None:
    """A hosted one: where nothing else may serve a class, no limit on it can be promised."""
    hosted = hosted_objectives(tmp_path)
    mixed = reach(hosted, "easy", "e2e", "p95")
    assert mixed.pools and HOSTED not in mixed.pools
    alone = replace(hosted, tables=hosted.tables[:1])
    assert alone.tables[0].pool == HOSTED
    limit = ScopedLimit("easy", Limit(metric="e2e", statistic="p95", at_most_ms=1e6))
    models = replace(hosted.case, models=hosted.case.models[:1])
    found = reach_of(replace(alone, case=models), limit)
    assert found is not None and found.pools == () and found.ratio == np.inf
    assert "no pool that may serve it has latencies" in _fastest(found)
