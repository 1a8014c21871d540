"""The joint solve against every deployment of a small box, with shares on a grid."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from exact_cases import (
    HEADROOM_RATIO,
    LOADS,
    Joined,
    best_quality_on_grid,
    deployments,
    least_cost_by_enumeration,
    limit,
    make_box,
    make_workload,
    pool_table,
    random_joined,
)

from planner.exact import solve
from planner.exact.flows import read_flows
from planner.exact.joint import build_joint
from planner.exact.merge import merged
from planner.exact.solve import Setting, Solved, Want, solve_joint
from planner.routing.linear import maximise
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

STEPS = 81
EARLY = Want("quality", gap_ratio=0.5, n_nodes=1)
EXACT = Want("quality", gap_ratio=1e-6, n_nodes=10_000)


def few_fast(n: int) -> list[object]:
    """Returns n seeds, all but the first of them for the slow tests."""
    return [pytest.param(seed, marks=[pytest.mark.slow] if seed else []) for seed in range(n)]


def setting_of(joined: Joined) -> Setting:
    return Setting(joined.workload, joined.tables, joined.space, HEADROOM_RATIO)


def over_all_traffic(seed: int, by_work: bool = False) -> Joined:
    """Returns 2 classes on 2 pools with limits over all traffic.

    Latency has nothing to do with the work of a request; or it is that work times a curve of the
    load, and only its mean is limited.
    """
    random = np.random.default_rng(seed)
    mean_ms, p95_ms = random.uniform(1800.0, 3000.0), random.uniform(5000.0, 9000.0)
    limits = [limit(None, mean_ms), limit(None, p95_ms, "p95")][: 1 if by_work else 2]
    quality = np.array([[0.5, 0.8], [0.3, 0.7]]) + random.uniform(-0.1, 0.1, (2, 2))
    work = np.array([[0.5, 1.2], [0.8, 1.6]]) * random.uniform(0.8, 1.25, (2, 2))
    tables = []
    for p in range(2):
        base_ms = random.uniform(700.0, 1300.0)
        slower = work[:, p : p + 1] if by_work else random.uniform(0.8, 1.2, (2, 1))
        table = pool_table(f"p{p}", work[:, p], base_ms, [p95_ms])
        mean = table.mean_ms["e2e"] * slower
        times = table.times_ms["e2e"]
        survival = np.exp(-times / mean[:, :, None])
        tables.append(replace(table, mean_ms={"e2e": mean}, survival={"e2e": survival}))
    usd = [float(random.uniform(1.0, 2.0)), float(random.uniform(2.5, 5.0))]
    workload = make_workload(random.uniform(0.4, 1.2, 2), quality, limits)
    return Joined(workload, tuple(tables), make_box(usd, 3))


def best_over_all_traffic(joined: Joined, replicas: np.ndarray) -> float:
    """Returns the best quality of any grid routing that keeps limits over all traffic, or -inf."""
    w = joined.workload
    a, b = np.meshgrid(np.linspace(0, 1, STEPS), np.linspace(0, 1, STEPS), indexing="ij")
    shares = np.stack([np.stack([a, 1 - a]), np.stack([b, 1 - b])])  # (C, P, STEPS, STEPS)
    keeps, used = np.ones_like(a, dtype=bool), np.zeros((len(w.limits), *a.shape))
    for p, table in enumerate(joined.tables):
        arriving = np.tensordot(w.rate_rps * table.work_s, shares[:, p], axes=1)
        load = arriving / max(int(replicas[p]), 1)
        keeps &= load <= table.max_load * (1.0 - HEADROOM_RATIO) + 1e-12
        keeps &= (arriving == 0) | (replicas[p] > 0)
        for number, scoped in enumerate(w.limits):
            tail, at_ms = scoped.limit.tail_ratio, scoped.limit.at_most_ms
            for c, mean_ms in enumerate(table.mean_ms["e2e"]):
                figure = mean_ms if tail is None else np.exp(-at_ms / mean_ms)
                part = w.weights[c] * shares[c, p] / (at_ms if tail is None else tail)
                used[number] += part * np.interp(load, LOADS, figure)
    keeps &= (used <= 1.0).all(axis=0)
    quality = np.einsum("c,cp,cpij->ij", w.weights, w.quality, shares)
    return float(np.where(keeps, quality, -np.inf).max())


@cache
def best_of_all(seed: int, by_work: bool = False) -> float:
    joined = over_all_traffic(seed, by_work)
    return max(best_over_all_traffic(joined, n) for n in deployments(joined.space))


def best_of_scaled(joined: Joined, ratio: float) -> float:
    scaled = replace(joined, workload=joined.workload.with_limits_scaled(ratio))
    return max(best_over_all_traffic(scaled, n) for n in deployments(joined.space))


def check_quality(found: Solved, truth: float, joined: Joined) -> None:
    """A bound binds no plan, and a value is at most the bound and is within the box."""
    if truth > -np.inf:
        assert found.status != "none"
        assert found.best_possible is None or found.best_possible >= truth - 1e-9
    if found.status == "found":
        assert found.value is not None
        assert found.best_possible is not None
        assert found.value <= found.best_possible + 1e-9
        assert joined.space.admits(found.replicas)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("want", [EARLY, EXACT], ids=["early", "exact"])
def test_limits_over_all_traffic(seed: int, want: Want) -> None:
    joined = over_all_traffic(seed)
    check_quality(solve_joint(setting_of(joined), want), best_of_all(seed), joined)


@pytest.mark.parametrize("seed", range(6))
def test_where_latency_follows_work_plan_and_bound_meet_at_the_truth(seed: int) -> None:
    joined, truth = over_all_traffic(seed, True), best_of_all(seed, True)
    found = solve_joint(setting_of(joined), EXACT)
    assert "flows" in found.method
    assert truth > -np.inf
    assert found.value is not None
    assert found.best_possible is not None
    assert truth - 3e-3 <= found.value <= found.best_possible  # chords cost a little
    assert truth - 1e-9 <= found.best_possible <= found.value + 5e-3


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("want", [EARLY, EXACT], ids=["early", "exact"])
def test_limits_of_classes(seed: int, want: Want) -> None:
    joined = random_joined(seed, floor=False, stock=3)
    truth = max(best_quality_on_grid(joined, n) for n in deployments(joined.space))
    check_quality(solve_joint(setting_of(joined), replace(want, n_nodes=50)), truth, joined)


@pytest.mark.parametrize("seed", range(8))
def test_least_cost_within_limits_of_classes(seed: int) -> None:
    joined = random_joined(seed)
    want = Want("cost", joined.workload.quality_at_least, gap_ratio=1e-4)
    found, truth = solve_joint(setting_of(joined), want), least_cost_by_enumeration(joined)
    if truth < np.inf:
        assert found.best_possible is not None
        assert found.best_possible <= truth + 1e-9
    if found.value is not None:
        assert found.cost_usd_per_h == pytest.approx(found.value)
        assert found.value <= truth * 1.3 + 1e-9


@pytest.mark.parametrize("seed", few_fast(4))
@pytest.mark.parametrize("most_cells", [1, 60_000], ids=["relaxed", "searched"])
def test_what_large_programs_get_is_true_as_well(
    seed: int, most_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged classes, few pools with one tier each, and the relaxation as the bound."""
    monkeypatch.setattr(solve, "MOST_CLASSES", 1)
    monkeypatch.setattr(solve, "MOST_CELLS", most_cells)
    of_all, of_classes = over_all_traffic(seed), random_joined(seed, floor=False, stock=3)
    check_quality(solve_joint(setting_of(of_all), EXACT), best_of_all(seed), of_all)
    found = solve_joint(setting_of(of_classes), replace(EXACT, n_nodes=50))
    truth = max(best_quality_on_grid(of_classes, n) for n in deployments(of_classes.space))
    check_quality(found, truth, of_classes)
    assert (found.best_possible is None) == (found.status == "none")
    cost = replace(EXACT, objective="cost")
    least = solve_joint(setting_of(of_classes), cost)
    if truth > -np.inf:
        assert least.best_possible is not None
        assert least.best_possible <= least_cost_by_enumeration(of_classes) + 1e-9


@pytest.mark.parametrize("seed", few_fast(4))
def test_the_same_call_gives_the_same_answer(seed: int) -> None:
    settings = (setting_of(over_all_traffic(seed)), setting_of(random_joined(seed)))
    for setting in settings:
        for objective in ("quality", "cost"):
            want = Want(objective, setting.workload.quality_at_least)  # type: ignore[arg-type]
            once, again = (solve_joint(setting, want) for _ in range(2))
            assert once.replicas.tolist() == again.replicas.tolist()
            assert (once.value, once.best_possible) == (again.value, again.best_possible)
            assert (once.solve_gap_ratio, once.status) == (again.solve_gap_ratio, again.status)


@pytest.mark.parametrize("seed", few_fast(6))
def test_close_to_what_no_deployment_keeps_one_is_found(seed: int) -> None:
    joined = over_all_traffic(seed)
    low, high = 0.05, 1.0
    while best_of_scaled(joined, high) == -np.inf:
        high *= 2.0
    while high - low > 0.005 * high:
        middle = (low + high) / 2.0
        kept = best_of_scaled(joined, middle) > -np.inf
        low, high = (low, middle) if kept else (middle, high)
    found = solve_joint(setting_of(joined), replace(EXACT, limits_ratio=1.01 * high))
    assert found.status == "found"


def test_loads_are_those_of_a_routing_that_serves_everything() -> None:
    joined = over_all_traffic(3)
    found = solve_joint(setting_of(joined), EXACT)
    assert found.loads is not None
    work_s = np.stack([table.work_s for table in joined.tables])
    carried = float(found.loads @ found.replicas)
    rates = joined.workload.rate_rps
    assert float(rates @ work_s.min(axis=0)) <= carried + 1e-6
    assert carried <= float(rates @ work_s.max(axis=0)) + 1e-6
    most = [table.max_load * (1.0 - HEADROOM_RATIO) for table in joined.tables]
    assert (found.loads <= np.array(most) + 1e-9).all()


def test_a_start_changes_no_proof_and_loses_nothing() -> None:
    joined = over_all_traffic(3)
    cold = solve_joint(setting_of(joined), EXACT)
    assert cold.value is not None
    for start in deployments(joined.space)[::3]:
        warm = solve_joint(setting_of(joined), EXACT, start)
        assert warm.value == pytest.approx(cold.value, abs=1e-5)
        assert warm.best_possible == pytest.approx(cold.best_possible, abs=1e-5)


def test_of_equal_quality_the_cheaper_deployment_is_found() -> None:
    joined = over_all_traffic(3)
    loose = replace(joined, workload=joined.workload.with_limits_scaled(50.0))
    best = solve_joint(setting_of(loose), Want("quality"))
    assert best.value is not None
    assert best.cost_usd_per_h is not None
    as_good = Want("cost", best.value - 1e-6)
    least = solve_joint(setting_of(loose), as_good)
    assert least.value == pytest.approx(best.cost_usd_per_h)


def test_readings_by_themselves() -> None:
    setting = setting_of(over_all_traffic(3))
    plan = solve_joint(setting, replace(EXACT, reading="plan"))
    bound = solve_joint(setting, replace(EXACT, reading="bound"))
    both = solve_joint(setting, EXACT)
    assert plan.best_possible is None
    assert plan.value == pytest.approx(both.value, abs=1e-5)
    assert bound.best_possible == pytest.approx(both.best_possible, abs=1e-5)


def test_an_unreachable_limit_is_proved() -> None:
    assert solve_joint(
        setting_of(over_all_traffic(3)), replace(EARLY, limits_ratio=0.1)
    ).status == ("none")


@pytest.mark.parametrize("seed", range(4))
def test_merging_classes_is_a_restriction(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = 9
    work = random.uniform(0.1, 0.4, (n, 2))
    tables = tuple(pool_table(f"p{p}", work[:, p], 900.0, [4000.0]) for p in range(2))
    quality = random.uniform(0.2, 0.9, (n, 2))
    quality[0, 1] = np.nan
    workload = make_workload(random.uniform(0.3, 0.6, n), quality, [limit(None, 2500.0)])
    fewer, few_tables = merged(workload, tables, 3)
    assert fewer.total_rps == pytest.approx(workload.total_rps)
    assert (~fewer.allowed[:, 1]).sum() == 1
    for whole, few in zip(tables, few_tables, strict=True):
        used = np.isfinite(few.work_s)
        if used.all():
            assert fewer.rate_rps @ few.work_s == pytest.approx(workload.rate_rps @ whole.work_s)

    def relaxed(which: Workload, of: tuple[PoolTable, ...]) -> float:
        flows = read_flows(which, of, make_box([1.0, 2.0], 3), HEADROOM_RATIO, "conservative")
        return maximise(build_joint(flows, "quality", None, False).program).objective

    assert relaxed(fewer, few_tables) <= relaxed(workload, tables) + 1e-9


def test_a_pool_that_one_class_cannot_use_is_closed_to_those_merged_with_it() -> None:
    work = np.full((3, 2), 0.3)
    work[1, 0] = np.nan  # allowed, but too long for the pool
    tables = tuple(pool_table(f"p{p}", work[:, p], 900.0, []) for p in range(2))
    fewer, few_tables = merged(make_workload(np.ones(3), np.full((3, 2), 0.5)), tables, 1)
    assert fewer.allowed.tolist() == [[False, True]]
    assert np.isnan(few_tables[0].work_s).all()
    assert few_tables[1].work_s == pytest.approx([0.3])


@pytest.mark.parametrize("seed", range(6))
def test_lines_lie_on_their_side_of_every_mix(seed: int) -> None:
    random = np.random.default_rng(seed)
    joined = over_all_traffic(seed)
    args = joined.workload, joined.tables, joined.space, HEADROOM_RATIO
    w = joined.workload
    for reading, sign in (("conservative", 1.0), ("optimistic", -1.0)):
        flows = read_flows(*args, reading)  # type: ignore[arg-type]
        f, case = flows.case.figures, flows.case
        for _ in range(40):
            number, a = int(random.integers(f.n)), int(random.integers(case.n_slots))
            mix, n = random.dirichlet(np.ones(2)), float(random.integers(1, 4))
            work = w.rate_rps * joined.tables[a].work_s
            scale = random.uniform(0.0, 1.0) * n * case.cap[a] / float(work @ mix)
            shares = mix * scale
            load = float(work @ shares) / n
            scoped = w.limits[number].limit
            mean = joined.tables[a].mean_ms["e2e"]
            tail = scoped.tail_ratio
            table = mean if tail is None else np.exp(-scoped.at_most_ms / mean)
            figure = np.array([np.interp(load, LOADS, row) for row in table])
            true = float(w.weights @ (shares * figure)) / f.bound[number]
            entries = (f.limit == number) & (case.column_slot[f.column] == a)
            base = float(w.weights @ (shares * flows.base[entries])) / f.bound[number]
            mine = (flows.limit == number) & (flows.slot == a)
            lines = flows.slope[mine] * load * n + flows.offset[mine] * n
            assert sign * (base + max(0.0, float(lines.max())) - true) >= -1e-9
