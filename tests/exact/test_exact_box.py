"""The joint program over shared GPUs, nodes, hosted pools and changes, against enumeration.

The truth tries every deployment, finds its GPUs by brute force or by hand, and solves its routing
as a linear program of its own (scipy).
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from exact_cases import HEADROOM_RATIO, limit, make_workload, pool_table
from scipy.optimize import linprog

from planner.exact.bound import ONE_PROGRAM_GAP_RATIO, bound
from planner.exact.joint import Objective, build_joint
from planner.exact.readings import read_tiers
from planner.exact.rent import Change
from planner.routing.linear import maximise_integer
from planner.space import Space, make_space
from planner.spec.hardware import Gpu
from planner.spec.pool import GpuShare, HostedPrice, Pool, Profile
from planner.spec.question import Question, RequestClass, Supply
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

G = Gpu(
    name="g", memory_gib=80.0, fp16_tflops=1.0, memory_gb_per_s=1.0, gpus_per_node=4, usd_per_h=2.0,
    source="made for a test", as_of=datetime.date(2026, 1, 1),
)  # fmt: skip
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))]
GAP_RATIO = 1.01 * ONE_PROGRAM_GAP_RATIO  # at which the solver may stop
FULL = 0.94  # the highest load of every table


def own(name: str, model: str, tp: int = 1, share: tuple[float, float] | None = None) -> Profile:
    part = None if share is None else GpuShare(compute_ratio=share[0], memory_gib=share[1])
    pool = Pool(name=name, model_name=model, gpu="g", tensor_parallel=tp, share=part, source="test")
    return Profile(pool, G, None)


def hosted(name: str, max_rps: float) -> Profile:
    price = HostedPrice(usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=1.0)
    pool = Pool(name=name, model_name="api", price=price, max_rps=max_rps, source="test")
    return Profile(pool, None, None)


def box(pools: Sequence[Profile], **question) -> Space:
    asked = Question(
        version=1, classes=(RequestClass(name="a", rate_rps=1.0),), class_scores="c.csv", **question
    )
    return make_space(asked, pools, [True] * len(pools), np.full(len(pools), 3, dtype=np.int64))


def tables_of(work: np.ndarray, limits: Sequence[float] = ()) -> tuple[PoolTable, ...]:
    return tuple(pool_table(f"p{p}", work[:, p], 1000.0, limits) for p in range(work.shape[1]))


def routed(
    workload: Workload,
    work: np.ndarray,
    z: np.ndarray,
    objective: Objective,
    left: float,
    headroom: float = HEADROOM_RATIO,
) -> tuple[float, float] | None:
    """The best quality and least hosted $/h of a deployment, each by a program of its own."""
    n_classes, n_pools = work.shape
    rate, w = workload.rate_rps, workload.weights
    usd = 3600.0 * (rate[:, None] * workload.request_usd).ravel()
    load = np.zeros((n_pools, n_classes * n_pools))
    for p in range(n_pools):
        load[p, p::n_pools] = rate * work[:, p]
    gain = (w[:, None] * np.nan_to_num(workload.quality)).ravel()
    serve = np.repeat(np.eye(n_classes), n_pools, axis=1)
    floor = workload.quality_at_least or 0.0
    upper = np.vstack([load, -gain, usd])
    limits = np.concatenate([FULL * (1.0 - headroom) * z, [-floor], [left]])
    at_most = np.where(workload.allowed.ravel(), 1.0, 0.0)
    found = linprog(
        -gain if objective == "quality" else usd, upper, limits, serve, np.ones(n_classes),
        np.column_stack([np.zeros_like(at_most), at_most]),
    )  # fmt: skip
    return (float(gain @ found.x), float(usd @ found.x)) if found.success else None


def truth(
    workload: Workload,
    work: np.ndarray,
    space: Space,
    objective: Objective,
    gpus,
    keep: Change | None = None,
    headroom: float = HEADROOM_RATIO,
) -> float | None:
    """The least money or the best quality of any deployment, by trying all of them."""
    best: list[float] = []
    for z in itertools.product(*(range(int(n) + 1) for n in space.upper)):
        n_gpus = gpus(z)
        if n_gpus is None:
            continue
        rent = sum(sorted(PRICES)[:n_gpus])
        left = 1e9 if space.budget_usd_per_h is None else space.budget_usd_per_h - rent
        found = None
        if left >= 0:
            found = routed(workload, work, np.array(z), objective, left, headroom)
        if found is None:
            continue
        moved = 0.0 if keep is None else keep.usd_per_h(np.array(z))
        best.append(found[0] if objective == "quality" else rent + found[1] + moved)
    if not best:
        return None
    return max(best) if objective == "quality" else min(best)


PRICES = [2.0] * 4 + [3.0] * 2
SUPPLY = (
    Supply(gpu="g", count=4, usd_per_h=2.0, kind="reserved"),
    Supply(gpu="g", count=2, usd_per_h=3.0),
)


def solved(
    workload: Workload,
    tables: Sequence[PoolTable],
    space: Space,
    objective: Objective,
    keep: Change | None = None,
    headroom: float = HEADROOM_RATIO,
) -> tuple[float, np.ndarray] | None:
    """Value and replicas of the joint program without limits, where it is exact."""
    tiers = read_tiers(workload, tables, space, headroom, "conservative", 1)
    joint = build_joint(tiers, objective, workload.quality_at_least, True, True, change=keep)
    found = maximise_integer(joint.program, 1e-9, 100_000)
    if not found.found:
        return None
    value = found.objective * joint.unit
    replicas = np.rint(found.values[joint.replicas]).astype(np.int64)
    return (-value if objective == "cost" else value), replicas


def random_work(seed: int, n_pools: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    work = random.uniform(0.3, 1.4, (2, n_pools))
    quality = random.uniform(0.3, 0.9, (2, n_pools))
    return work, quality, random.uniform(0.5, 1.6, 2)


def shared_gpus(z: Sequence[int]) -> int | None:
    """GPUs of SHARED: a and b fit together, and b and c; a whole GPU takes none of them."""
    a, b, c, whole = z
    # b goes beside a or c; of a and c no two go together, of one model neither.
    used = whole + max(a + c, b)
    return used if used <= 6 else None


SHARED = [
    own("p0", "a", share=(0.5, 50.0)),
    own("p1", "b", share=(0.4, 20.0)),
    own("p2", "c", share=(0.6, 40.0)),
    own("p3", "w"),
]


@pytest.mark.parametrize("objective", ["cost", "quality"])
@pytest.mark.parametrize("seed", SEEDS)
def test_shared_gpus(seed: int, objective: Objective) -> None:
    work, quality, rate = random_work(seed, 4)
    floor = None if objective == "quality" else float(np.quantile(quality, 0.6))
    workload = make_workload(rate, quality, (), floor)
    budget = 9.0 if objective == "quality" else None
    space = box(SHARED, supply=SUPPLY, budget_usd_per_h=budget)
    expected = truth(workload, work, space, objective, shared_gpus)
    found = solved(workload, tables_of(work), space, objective)
    if expected is None or found is None:
        assert expected is None and found is None
        return
    assert found[0] == pytest.approx(expected, rel=1e-6)
    assert space.admits(found[1])


def node_gpus(z: Sequence[int]) -> int | None:
    """GPUs of NODES on a node of four and one of two: at most one 3 beside a single."""
    one, two, three = z
    if three > 1:
        return None
    free = [4 - 3 * three, 2]
    pairs = sum(n // 2 for n in free)
    if two > pairs or one + 2 * two + 3 * three > 6:
        return None
    return one + 2 * two + 3 * three


NODES = [own("p0", "a", 1), own("p1", "b", 2), own("p2", "c", 3)]


@pytest.mark.parametrize("seed", SEEDS)
def test_mixed_sizes_on_nodes(seed: int) -> None:
    work, quality, rate = random_work(seed, 3)
    work *= np.array([1.0, 0.5, 0.3])
    workload = make_workload(1.5 * rate, quality)
    space = box(NODES, supply=SUPPLY)
    expected = truth(workload, work, space, "quality", node_gpus)
    found = solved(workload, tables_of(work), space, "quality")
    assert found is not None and expected is not None
    assert found[0] == pytest.approx(expected, rel=1e-6)
    assert space.admits(found[1])


def test_a_last_node_that_is_too_small_for_all_sizes() -> None:
    """Five GPUs are a node of four and one GPU, where neither two nor three lie."""
    work, quality, rate = random_work(0, 2)
    work *= np.array([0.5, 0.3])
    workload = make_workload(rate, quality)
    supply = (SUPPLY[0], SUPPLY[1].model_copy(update={"count": 1}))
    space = box(NODES[1:], supply=supply)

    def gpus(z: Sequence[int]) -> int | None:
        used = 2 * z[0] + 3 * z[1]
        return used if used <= 4 else None

    expected = truth(workload, work, space, "quality", gpus)
    found = solved(workload, tables_of(work), space, "quality")
    assert found is not None and expected is not None
    assert found[0] == pytest.approx(expected, rel=1e-6) and space.admits(found[1])


def own_gpus(z: Sequence[int]) -> int | None:
    used = z[0] + z[1]
    return used if used <= 6 else None


def with_hosted(seed: int, budget: float | None) -> tuple[Workload, np.ndarray, Space]:
    work, quality, rate = random_work(seed, 3)
    work[:, 2] = 1.0 / 1.5  # the provider allows 1.5 requests/s
    quality[:, 2] = 0.95
    usd = np.zeros((2, 3))
    usd[:, 2] = np.random.default_rng(seed).uniform(0.3e-3, 1.5e-3, 2)
    workload = make_workload(rate, quality, (), 0.6, usd)
    pools = [own("p0", "a"), own("p1", "b"), hosted("p2", 1.5)]
    return workload, work, box(pools, supply=SUPPLY, budget_usd_per_h=budget)


@pytest.mark.parametrize("objective", ["cost", "quality"])
@pytest.mark.parametrize("seed", SEEDS)
def test_rent_and_hosted_requests_share_the_budget(seed: int, objective: Objective) -> None:
    workload, work, space = with_hosted(seed, 7.0)
    expected = truth(workload, work, space, objective, own_gpus)
    found = solved(workload, tables_of(work), space, objective)
    if expected is None or found is None:
        assert expected is None and found is None
        return
    assert found[0] == pytest.approx(expected, rel=1e-6)
    proved = bound(workload, tables_of(work), space, HEADROOM_RATIO, objective).best_possible
    assert proved == pytest.approx(expected, rel=GAP_RATIO)
    assert proved <= expected + 1e-9 if objective == "cost" else proved >= expected - 1e-9


def test_a_tight_budget_costs_quality() -> None:
    values = []
    for budget in (4.5, 6.0, 9.0):
        workload, work, space = with_hosted(4, budget)
        found = solved(workload, tables_of(work), space, "quality")
        assert found is not None
        values.append(found[0])
    assert values[0] < values[1] - 1e-3 < values[2] - 2e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_what_moving_away_from_a_kept_deployment_costs_is_part_of_the_money(seed: int) -> None:
    workload, work, space = with_hosted(seed, None)
    keep = Change(np.array([3, 0, 1]), 0.8)
    expected = truth(workload, work, space, "cost", own_gpus, keep)
    found = solved(workload, tables_of(work), space, "cost", keep)
    assert found is not None and expected is not None
    assert found[0] == pytest.approx(expected, rel=1e-6)
    proved = bound(
        workload, tables_of(work), space, HEADROOM_RATIO, "cost", change=keep
    ).best_possible
    assert proved is not None
    assert expected * (1 - GAP_RATIO) <= proved <= expected + 1e-9
    dear = Change(keep.kept, 50.0)
    assert solved(workload, tables_of(work), space, "cost", dear)[1].tolist() == [3, 0, 1]


@pytest.mark.parametrize("headroom", [0.0, 0.35])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_headroom_is_kept_free(seed: int, headroom: float) -> None:
    workload, work, space = with_hosted(seed, None)
    expected = truth(workload, work, space, "cost", own_gpus, None, headroom)
    found = solved(workload, tables_of(work), space, "cost", None, headroom)
    if expected is None or found is None:
        assert expected is None and found is None
        return
    assert found[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_class_goes_to_no_pool_that_its_list_leaves_out(seed: int) -> None:
    work, quality, rate = random_work(seed, 4)
    quality[0, 1] = quality[1, 3] = np.nan
    workload = make_workload(rate, quality, (), 0.4)
    space = box(SHARED, supply=SUPPLY)
    expected = truth(workload, work, space, "cost", shared_gpus)
    found = solved(workload, tables_of(work), space, "cost")
    assert found is not None and expected is not None
    assert found[0] == pytest.approx(expected, rel=1e-6)


def test_limits_hold_over_shared_gpus_too() -> None:
    work, quality, rate = random_work(3, 4)
    limits = [limit("c0", 2500.0), limit("c1", 9000.0, "p95")]
    workload = make_workload(rate, quality, limits)
    space = box(SHARED, supply=SUPPLY, budget_usd_per_h=9.0)
    loose = truth(make_workload(rate, quality), work, space, "quality", shared_gpus)
    tables = tables_of(work, [9000.0])
    tiers = read_tiers(workload, tables, space, HEADROOM_RATIO, "conservative", 8)
    found = maximise_integer(build_joint(tiers, "quality", None, True, True).program, 1e-4, 5000)
    proved = bound(workload, tables, space, HEADROOM_RATIO, "quality")
    assert found.found and proved.best_possible is not None and loose is not None
    assert found.objective <= proved.best_possible <= loose + 1e-6


def test_many_patterns_fall_back_to_their_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    work, quality, rate = random_work(1, 4)
    workload = make_workload(rate, quality, (), float(np.quantile(quality, 0.6)))
    space = box(SHARED, supply=SUPPLY)
    exact = solved(workload, tables_of(work), space, "cost")
    monkeypatch.setattr("planner.exact.rent.MOST_PATTERNS", 0)
    summed = solved(workload, tables_of(work), space, "cost")
    assert exact is not None and summed is not None
    assert summed[0] <= exact[0] + 1e-9  # a bound stays one
