"""Each sentence about a plan is true: what it claims is worked out again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_cases import (
    GPU,
    enumerated,
    hosted_objectives,
    objectives_of,
    small,
    unlimited,
    z,
)

from planner.explore import Explored, explore
from planner.objectives import Objectives
from planner.reasons.why import reasons
from planner.settle import Settled, settle
from planner.spec.plan import Bound

SMALL_POOL, LARGE_POOL = "llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4"
POOLS = (LARGE_POOL, SMALL_POOL)
NOTHING = Explored((), (), "local search", exhaustive=False, complete=True)


def said(objectives: Objectives, settled: Settled, bound: Bound | None = None) -> list[str]:
    return reasons(objectives, settled, NOTHING, bound)


def matches(pattern: str, sentences: list[str]) -> list[re.Match[str]]:
    return [m for s in sentences if (m := re.search(pattern, s))]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("base"), small())


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    question = unlimited(choose="best_quality", stock={GPU: 13})
    return objectives_of(tmp_path_factory.mktemp("rich"), question)


def test_how_it_was_found_is_said(tmp_path: Path) -> None:
    objectives = objectives_of(tmp_path, unlimited(stock={GPU: 5}))
    explored = enumerated(objectives)
    settled = settle(objectives, z(1, 1))
    first = reasons(objectives, settled, explored, None)[0]
    assert first == (
        f"all {len(explored.evaluations)} deployments and latency levels of the box were evaluated"
    )
    local = explore(objectives, "quick", "local", 0)
    first = reasons(objectives, settled, local, None)[0]
    assert first.startswith("found by local search over ")


def test_a_binding_limit_is_named_with_what_it_uses(base: Objectives) -> None:
    settled = settle(base, z(1, 1), 0, "exact")
    binding = {f.label: f for f in settled.score.figures if f.ratio >= 0.97}
    assert binding
    found = matches(r"^(.+) binds: ([\d.]+) s of ([\d.]+) s \(([\d.]+)%\)$", said(base, settled))
    assert {m.group(1) for m in found} == set(binding)
    for m in found:
        f = binding[m.group(1)]
        assert f.at_most_ms is not None
        assert float(m.group(2)) == pytest.approx(f.ms / 1000, abs=5e-3)
        assert float(m.group(3)) == pytest.approx(f.at_most_ms / 1000, abs=5e-3)
        assert float(m.group(4)) == pytest.approx(100 * f.ratio, abs=0.05)


def test_a_tighter_binding_limit_costs_quality(base: Objectives) -> None:
    settled = settle(base, z(1, 1), 0, "exact")
    name = matches(r"^p95 e2e of (\w+) binds", said(base, settled))[0].group(1)
    tighter = tuple(
        replace(s, limit=s.limit.model_copy(update={"at_most_ms": 0.9 * s.limit.at_most_ms}))
        if s.class_name == name
        else s
        for s in base.levels[0].limits
    )
    workload = replace(base.levels[0], limits=tighter)
    case = replace(base.case, workload=workload)
    changed = replace(base, case=case, levels=(workload, *base.levels[1:]))
    less = settle(changed, z(1, 1), 0, "exact")
    assert less.score.quality < settled.score.quality - 1e-4


def test_where_no_limit_binds_the_tightest_is_named(base: Objectives) -> None:
    settled = settle(base, z(2, 0))
    found = matches(
        r"no latency limit binds; the tightest is (.+) at ([\d.]+)%", said(base, settled)
    )
    tightest = max(settled.score.figures, key=lambda f: f.ratio)
    assert found[0].group(1) == tightest.label
    assert float(found[0].group(2)) == pytest.approx(100 * tightest.ratio, abs=0.05)


def test_a_full_pool_is_named_and_no_other(rich: Objectives) -> None:
    settled = settle(rich, z(1, 1))
    found = matches(r"^at their capacity less 10% headroom: (.+)$", said(rich, settled))
    full = [n for n, used in zip(POOLS, settled.score.utilisation, strict=True) if used > 0.899]
    assert full == [LARGE_POOL]
    assert found[0].group(1).split(", ") == full


def test_the_distance_from_the_floor_is_right_and_never_minus_zero(rich: Objectives) -> None:
    settled = settle(rich, z(1, 1))
    found = matches(r"^quality is ([+-][\d.]+) from its floor of 0.75$", said(rich, settled))
    assert float(found[0].group(1)) == pytest.approx(settled.score.quality - 0.75, abs=5e-5)
    touching = replace(settled, score=replace(settled.score, quality=0.75 - 4e-7))
    assert "quality is +0.0000 from its floor of 0.75" in said(rich, touching)


@pytest.mark.parametrize("replicas", [z(1, 1), z(1, 3), z(2, 0)], ids=str)
def test_one_less_is_judged_as_it_would_be(base: Objectives, replicas: Any) -> None:
    settled = settle(base, replicas)
    sentences = [s for s in said(base, settled) if s.startswith("one ") and " less " in s]
    for p, name in enumerate(POOLS):
        mine = [s for s in sentences if s.startswith(f"one {name} less")]
        fewer = replicas.copy()
        fewer[p] -= 1
        assert len(mine) == (1 if replicas[p] > 0 and fewer.any() else 0)
        if not mine:
            continue
        again = settle(base, fewer)
        assert ("will not do" in mine[0]) == (not again.acceptable)
        if again.acceptable:
            saved, quality = re.findall(r"save ([\d.]+) \$/h, at quality ([\d.]+)", mine[0])[0]
            expected = settled.cost_usd_per_h - again.cost_usd_per_h
            assert float(saved) == pytest.approx(expected, abs=5e-3)
            assert float(quality) == pytest.approx(again.score.quality, abs=1e-3)


def test_what_one_less_leaves_unserved_is_right(rich: Objectives) -> None:
    question = rich.case.question.model_copy(update={"quality_at_least": None})
    workload = replace(rich.case.workload, rate_rps=rich.case.workload.rate_rps * 1.3)
    case = replace(rich.case, question=question, workload=replace(workload, quality_at_least=None))
    busy = replace(rich, case=case, levels=(case.workload, *rich.levels[1:]))
    settled = settle(busy, z(0, 2))
    assert settled.acceptable
    found = matches(rf"^one {SMALL_POOL} less will not do: ([\d.]+)% of", said(busy, settled))
    # One replica carries 0.9 of its highest load; what two carried is all there is. The hard
    # requests are the longer ones, so they are left out first.
    table = settled.tables[1]
    rates = case.workload.rate_rps
    short_s = float(rates @ table.work_s) - 0.9 * table.max_load
    lost_rps = short_s / float(table.work_s[1])
    assert lost_rps <= rates[1]
    assert float(found[0].group(1)) / 100 == pytest.approx(lost_rps / rates.sum(), abs=2e-3)


@pytest.mark.parametrize("replicas", [z(1, 1), z(1, 2)], ids=str)
def test_the_best_single_addition_is_the_best(rich: Objectives, replicas: Any) -> None:
    settled = settle(rich, replicas)
    gains = {}
    for p, name in enumerate(POOLS):
        more = replicas.copy()
        more[p] += 1
        gains[name] = settle(rich, more)
    best = max(gains, key=lambda name: gains[name].score.quality)
    found = matches(
        rf"^best single addition on {GPU}: one (\S+) for ([\d.]+) \$/h, quality \+([\d.]+)$",
        said(rich, settled),
    )
    assert found[0].group(1) == best
    extra = gains[best].cost_usd_per_h - settled.cost_usd_per_h
    assert float(found[0].group(2)) == pytest.approx(extra, abs=5e-3)
    gain = gains[best].score.quality - settled.score.quality
    assert float(found[0].group(3)) == pytest.approx(gain, abs=1e-3)


def test_an_addition_that_buys_nothing_is_called_so(rich: Objectives) -> None:
    settled = settle(rich, z(2, 0))  # everything is on the 70b already
    assert f"one more replica on {GPU} buys no quality" in said(rich, settled)


def test_nothing_is_added_where_nothing_fits(base: Objectives) -> None:
    settled = settle(base, z(2, 0))  # eight GPUs of eight
    assert not matches(r"addition|one more", said(base, settled))


def test_the_rate_factor_speaks_of_traffic(tmp_path: Path) -> None:
    question = unlimited(maximise="rate_factor", quality_at_least=None, stock={GPU: 12})
    objectives = objectives_of(tmp_path, question)
    settled = settle(objectives, z(1, 2))
    sentences = said(objectives, settled)
    gain = matches(
        r"^best single .+: one (\S+) for ([\d.]+) \$/h, rate factor \+([\d.]+)", sentences
    )
    added = {LARGE_POOL: settle(objectives, z(2, 2)), SMALL_POOL: settle(objectives, z(1, 3))}
    best = max(added, key=lambda name: added[name].rate_factor)
    assert gain[0].group(1) == best
    more = added[best].rate_factor - settled.rate_factor
    assert float(gain[0].group(3)) == pytest.approx(more, abs=2e-3)
    less = matches(
        rf"one {SMALL_POOL} less would do and save 2.95 \$/h, carrying ([\d.]+) times", sentences
    )
    fewer = settle(objectives, z(1, 1))
    assert fewer.rate_factor < settled.rate_factor
    assert float(less[0].group(1)) == pytest.approx(fewer.rate_factor, abs=2e-3)


def test_hosted_requests_count_in_what_is_saved(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path, price=0.4)
    settled = settle(objectives, z(1, 0, 2))
    sentences = said(objectives, settled)
    less = matches(rf"one {SMALL_POOL} less would do and save ([\d.]+) \$/h", sentences)
    fewer = settle(objectives, z(1, 0, 1))
    expected = settled.cost_usd_per_h - fewer.cost_usd_per_h
    assert float(less[0].group(1)) == pytest.approx(expected, abs=5e-3)


def test_a_replica_whose_rent_hosted_requests_eat_up_saves_nothing(tmp_path: Path) -> None:
    # The best quality spends the whole budget either way: less rent is more hosted requests.
    objectives = hosted_objectives(
        tmp_path, price=0.4, choose="best_quality", budget_usd_per_h=14.0
    )
    settled = settle(objectives, z(1, 0, 2))
    fewer = settle(objectives, z(1, 0, 1))
    assert abs(settled.cost_usd_per_h - fewer.cost_usd_per_h) < 0.005
    less = matches(
        rf"one {SMALL_POOL} less would do and save nothing, at quality ([\d.]+)",
        said(objectives, settled),
    )
    assert float(less[0].group(1)) == pytest.approx(fewer.score.quality, abs=1e-3)


def test_an_own_gpu_may_save_hosted_requests(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path, price=4.0)
    settled, more = settle(objectives, z(1, 0, 1)), settle(objectives, z(1, 1, 1))
    saved = settled.cost_usd_per_h - more.cost_usd_per_h
    assert saved > 0
    found = matches(
        rf"^best single addition on {GPU}: one {LARGE_POOL} saves ([\d.]+) \$/h of hosted",
        said(objectives, settled),
    )
    assert float(found[0].group(1)) == pytest.approx(saved, abs=0.02)


def test_cautions_name_what_is_doubtful_and_nothing_else(base: Objectives) -> None:
    settled = settle(base, z(1, 1), 0, "exact")
    sentences = said(base, settled)
    at_risk = [
        f.label
        for f in settled.score.figures
        if f.at_most_ms is not None and f.high_ms > f.at_most_ms
    ]
    found = matches(r"^the error band reaches beyond the limit of: (.+)$", sentences)
    assert at_risk
    assert found[0].group(1).split(", ") == at_risk
    beyond = [n for n, e in zip(POOLS, settled.score.extrapolated, strict=True) if e]
    assert bool(matches(r"outside the measured loads", sentences)) == bool(beyond)
    calm = replace(
        settled,
        score=replace(
            settled.score,
            extrapolated=(False, False),
            figures=tuple(
                replace(f, high_ms=f.ms, origin="measured") for f in settled.score.figures
            ),
        ),
    )
    assert not matches(r"band|outside|estimated", said(base, calm))


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("cost_usd_per_h", "no plan costs less than 14.00 $/h"),
        ("quality", "no plan reaches a quality above 14.0000"),
        ("rate_factor", "no plan carries more than 14.0000 times the traffic"),
    ],
)
def test_what_is_proved_is_said(base: Objectives, objective: Any, words: str) -> None:
    bound = Bound(objective=objective, value=14.75, best_possible=14.0, gap_ratio=0.05, method="m")
    sentences = said(base, settle(base, z(1, 1)), bound)
    assert any(s.startswith(words) and "within 5.0%" in s for s in sentences)
    assert not matches(r"no plan", said(base, settle(base, z(1, 1))))


def test_pools_whose_figures_nobody_measured_are_named(base: Objectives) -> None:
    settled = settle(base, z(1, 1))
    assert not matches("estimated or assumed", said(base, settled))
    guessed = replace(
        base.case.pools[0], pool=base.case.pools[0].pool.model_copy(update={"origin": "estimated"})
    )
    case = replace(base.case, pools=(guessed, *base.case.pools[1:]))
    (found,) = matches(
        r"figures of these pools are estimated or assumed: (.*)",
        said(replace(base, case=case), settled),
    )
    assert found.group(1) == LARGE_POOL


def test_spot_gpus_are_counted_where_the_plan_takes_any(tmp_path: Path) -> None:
    supply = [
        {"gpu": GPU, "count": 3, "usd_per_h": 1.5, "kind": "spot", "availability_ratio": 0.7},
        {"gpu": GPU, "count": 6, "usd_per_h": 3.0},
    ]
    objectives = objectives_of(tmp_path, unlimited(stock=None, supply=supply))
    settled = settle(objectives, z(1, 1))
    assert f"2 of 5 {GPU} are spot and may be taken away" in said(objectives, settled)
    assert settled.cost_usd_per_h == pytest.approx(2 * 1.5 + 3 * 3.0)
