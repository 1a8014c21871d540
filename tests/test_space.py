"""The box of deployments against plain enumeration: packing, cheapest offers, ranges."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.space import Space, make_space, replica_faults
from planner.spec.hardware import Gpu
from planner.spec.pool import GpuShare, HostedPrice, Pool, Profile
from planner.spec.question import Question, ReplicaRange, RequestClass, Supply

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
MEMORY_GIB = 80.0
MANY = 10**6


def gpu_of(name: str, usd_per_h: float | None = 2.0, node: int = 8) -> Gpu:
    return Gpu(
        name=name,
        memory_gib=MEMORY_GIB,
        fp16_tflops=1.0,
        memory_gb_per_s=1.0,
        gpus_per_node=node,
        usd_per_h=usd_per_h,
        source="made for a test",
        as_of=datetime.date(2026, 1, 1),
    )


def own(name: str, gpu: Gpu, tp: int = 1, **more) -> Profile:
    pool = Pool(name=name, model_name="m", gpu=gpu.name, tensor_parallel=tp, source="test", **more)
    return Profile(pool, gpu, None)


def hosted(name: str) -> Profile:
    price = HostedPrice(usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=1.0)
    return Profile(
        Pool(name=name, model_name="m", price=price, max_rps=2.0, source="test"), None, None
    )


def space_of(pools: Sequence[Profile], enough: int = MANY, usable=None, **question) -> Space:
    asked = Question(
        version=1,
        classes=(RequestClass(name="a", rate_rps=1.0),),
        class_scores="c.csv",
        **question,
    )
    flags = [True] * len(pools) if usable is None else usable
    return make_space(asked, pools, flags, np.full(len(pools), enough, dtype=np.int64))


def admitted(space: Space, most: int) -> set[tuple[int, ...]]:
    every = itertools.product(range(most + 1), repeat=len(space.pool_names))
    return {z for z in every if space.admits(np.array(z))}


@cache
def fits(items: tuple[tuple[float, ...], ...], bins: tuple[tuple[float, ...], ...]) -> bool:
    """Whether items (sizes in each dimension) can be placed into bins, by trying everything."""
    if not items:
        return True
    item, rest = items[0], items[1:]
    for i in range(len(bins)):
        left = tuple(b - a for a, b in zip(item, bins[i], strict=True))
        if bins[i] in bins[:i] or min(left) < -1e-9:
            continue
        if fits(rest, tuple(sorted((*bins[:i], left, *bins[i + 1 :])))):
            return True
    return False


def nodes_of(stock: int, node: int) -> tuple[tuple[float, ...], ...]:
    full, rest = divmod(stock, node)
    return tuple(sorted([(float(node),)] * full + ([(float(rest),)] if rest else [])))


def placeable(sizes: Sequence[int], z: Sequence[int], stock: int, node: int = 8) -> bool:
    items = sorted((s for s, n in zip(sizes, z, strict=True) for _ in range(n)), reverse=True)
    return fits(tuple((float(s),) for s in items), nodes_of(stock, node))


@pytest.mark.parametrize("stock", [1, 3, 4, 6, 7, 8, 11, 12, 16])
def test_groups_that_divide_a_node_are_admitted_exactly_where_they_can_be_placed(
    stock: int,
) -> None:
    gpu, sizes = gpu_of("g"), (1, 2, 4, 8)
    space = space_of([own(f"tp{s}", gpu, s) for s in sizes], stock={"g": stock})
    for z in itertools.product(range(6), range(4), range(4), range(3)):
        assert space.admits(np.array(z)) == placeable(sizes, z, stock), z


@pytest.mark.parametrize("size", [3, 5, 6, 7])
@pytest.mark.parametrize("stock", [2, 5, 7, 8, 16, 24])
def test_groups_that_do_not_divide_a_node_fill_whole_nodes_exactly(size: int, stock: int) -> None:
    space = space_of([own("odd", gpu_of("g"), size)], stock={"g": stock})
    most = max((n for n in range(25) if placeable([size], [n], stock)), default=0)
    assert space.upper.tolist() == [most]
    assert admitted(space, 26) == {(n,) for n in range(most + 1)}


@pytest.mark.parametrize("stock", [8, 11, 12, 16])
def test_sizes_that_leave_gaps_are_admitted_exactly_where_they_can_be_placed(stock: int) -> None:
    gpu, sizes = gpu_of("g"), (1, 3, 4, 6)
    space = space_of([own(f"tp{s}", gpu, s) for s in sizes], stock={"g": stock})
    for z in itertools.product(range(4), range(5), range(4), range(3)):
        can_be = placeable(sizes, z, stock)
        assert space.admits(np.array(z)) == can_be, z
        assert not can_be or (space.rows @ np.array(z) <= space.limits).all(), z


def test_the_row_of_large_replicas_leaves_no_two_on_a_node() -> None:
    pools = [own(f"tp{size}", gpu_of("g"), size) for size in (5, 6, 3)]
    space = space_of(pools, stock={"g": 21})
    assert space.row_names == ("stock:g", "halves:g")
    assert space.limits.tolist() == [21.0, 3.0]  # the last node of five carries one of five
    assert space.broken(np.array([3, 1, 0])) == ["halves:g"]  # 21 GPUs of 21
    assert space.broken(np.array([1, 1, 3])) == ["placement:g"]  # beside 6 a node holds no 3
    assert space.broken(np.array([1, 1, 2])) == []


def test_a_replica_of_three_gpus_pays_for_three() -> None:
    space = space_of([own("odd", gpu_of("g"), 3)], stock={"g": 16})
    assert space.gpus_per_replica.tolist() == [3.0] and space.upper.tolist() == [4]
    assert float(space.cost_usd_per_h(np.array([3]))) == pytest.approx(18.0)


def test_a_pool_that_spans_nodes_needs_no_node() -> None:
    gpu = gpu_of("g", node=4)
    pools = [own("wide", gpu, 8), own("spanning", gpu, 8, spans_nodes=True)]
    space = space_of(pools, stock={"g": 20})
    assert space.upper.tolist() == [0, 2]
    assert space.gpus_per_replica.tolist() == [0.0, 8.0]  # the first fits into no node


def test_stages_and_copies_of_a_replica_lie_on_one_node() -> None:
    gpu = gpu_of("g", node=4)
    pools = [own("pp", gpu, 4, pipeline_parallel=2), own("dp", gpu, 2, data_parallel=2)]
    more = [own("wide", gpu, 4, pipeline_parallel=2, spans_nodes=True)]
    space = space_of([*pools, *more], stock={"g": 24})
    assert space.gpus_per_replica.tolist() == [0.0, 4.0, 8.0]
    assert space.upper.tolist() == [0, 6, 3]


# ---- pools that share GPUs -------------------------------------------------------------------


def part(name: str, gpu: Gpu, compute: float, memory: float, model: str, tp: int = 1) -> Profile:
    share = GpuShare(compute_ratio=compute, memory_gib=memory)
    pool = Pool(
        name=name, model_name=model, gpu=gpu.name, tensor_parallel=tp, share=share, source="test"
    )
    return Profile(pool, gpu, None)


SHARES = [(0.5, 60.0), (0.4, 20.0), (0.25, 15.0), (0.6, 10.0), (1.0, 30.0)]


@pytest.mark.parametrize(("compute", "memory"), SHARES)
@pytest.mark.parametrize("stock", [1, 2, 3])
def test_no_two_replicas_of_a_model_lie_on_one_gpu(
    compute: float, memory: float, stock: int
) -> None:
    space = space_of([part("a", gpu_of("g"), compute, memory, "m")], stock={"g": stock})
    assert admitted(space, 20) == {(n,) for n in range(stock + 1)}
    assert float(space.cost_usd_per_h(np.array([stock]))) == pytest.approx(2.0 * stock)


@pytest.mark.parametrize("stock", [1, 2, 3])
def test_parts_and_whole_gpus_are_admitted_exactly_where_they_can_be_placed(stock: int) -> None:
    gpu, parts = gpu_of("g"), [(0.5, 60.0), (0.5, 20.0), (0.25, 20.0)]
    pools = [part(f"p{i}", gpu, c, m, f"m{i}") for i, (c, m) in enumerate(parts)]
    space = space_of([*pools, own("whole", gpu)], stock={"g": stock})
    models = tuple((f"copies:g:m{i}") for i in range(3))
    assert space.row_names == ("stock:g", "memory:g", *models)
    for z in itertools.product(range(4), range(4), range(4), range(3)):
        used = least_gpus_by_hand([*parts, (1.0, MEMORY_GIB)], z)
        assert space.admits(np.array(z)) == (used <= stock), z
        if used <= stock:
            assert space.gpu_count(np.array(z)) == {"g": used}
            assert (space.rows @ np.array(z) <= space.limits).all()
            assert float(space.cost_usd_per_h(np.array(z))) == pytest.approx(2.0 * used)


def least_gpus_by_hand(parts: Sequence[tuple[float, float]], z: Sequence[int]) -> int:
    """The fewest GPUs for three parts of three models and whole GPUs, by all ways to pair them."""
    best = 10**6
    for n_abc, n_ab, n_ac, n_bc in itertools.product(range(4), repeat=4):
        sets = ((0, 1, 2), (0, 1), (0, 2), (1, 2))
        placed = [0, 0, 0]
        for members, n in zip(sets, (n_abc, n_ab, n_ac, n_bc), strict=True):
            if n and any(sum(parts[i][d] for i in members) > (1.0, MEMORY_GIB)[d] for d in (0, 1)):
                break
            for i in members:
                placed[i] += n
        else:
            alone = [n - done for n, done in zip(z[:3], placed, strict=True)]
            if min(alone) >= 0:
                best = min(best, n_abc + n_ab + n_ac + n_bc + sum(alone) + z[3])
    return best


def test_a_gpu_that_is_shared_is_paid_whole_and_split_by_what_is_taken_of_it() -> None:
    gpu = gpu_of("g")
    pools = [part("a", gpu, 0.3, 20.0, "m"), part("b", gpu, 0.2, 48.0, "n"), own("c", gpu, 2)]
    space = space_of(pools, stock={"g": 4})
    z = np.array([1, 1, 1])
    assert space.gpus_per_replica.tolist() == [0.3, 0.6, 2.0]
    assert space.pool_gpus(z) == pytest.approx([1 / 3, 2 / 3, 2.0])
    assert space.pool_usd_per_h(z) == pytest.approx([2 / 3, 4 / 3, 4.0])
    assert float(space.cost_usd_per_h(z)) == pytest.approx(6.0)
    assert space.placement(z) == {0: ((2,),), 1: ((2,),), 2: ((0, 1),)}
    assert space.placement(np.array([1, 1, 2])) is None
    many = space.cost_usd_per_h(np.array([[1, 0, 0], [2, 1, 0], [0, 0, 1]]))
    assert many.tolist() == [2.0, 4.0, 4.0]


def test_shards_of_a_shared_replica_lie_on_different_gpus() -> None:
    gpu = gpu_of("g")
    pools = [part("a", gpu, 0.5, 40.0, "m", tp=2), part("b", gpu, 0.5, 40.0, "n")]
    space = space_of(pools, stock={"g": 2})
    assert space.upper.tolist() == [1, 2]
    assert admitted(space, 3) == {(a, b) for a in range(2) for b in range(3)}
    assert space_of([part("p", gpu, 0.5, 40.0, "m", tp=4)], stock={"g": 2}).upper.tolist() == [0]


def test_the_budget_counts_gpus_that_the_placement_opens() -> None:
    gpu = gpu_of("g")
    pools = [part("a", gpu, 0.6, 10.0, "m"), part("b", gpu, 0.5, 10.0, "n")]
    space = space_of(pools, stock={"g": 4}, budget_usd_per_h=4.0)
    assert space.broken(np.array([1, 1])) == []
    assert space.broken(np.array([2, 1])) == ["budget"]  # the sums say two GPUs, they need three
    assert (space.rows @ np.array([2, 1]) <= space.limits).all()
    assert space.broken(np.array([3, 0])) == ["budget"]


def test_rows_of_a_budget_stay_few_and_the_budget_holds() -> None:
    gpus = [gpu_of(f"g{k}") for k in range(5)]
    pools = [part(f"{m}{k}", g, 0.6, 10.0, m) for k, g in enumerate(gpus) for m in ("a", "b")]
    space = space_of(pools, stock={g.name: 2 for g in gpus}, budget_usd_per_h=8.0)
    assert space.row_names.count("budget") == 1  # of 4 ** 5 choices of what counts
    for z in np.random.default_rng(0).integers(0, 3, (300, 10)):
        used = z.reshape(5, 2).sum(axis=1)  # 0.6 and 0.6 are not on one GPU
        fits = bool((used <= 2).all()) and 2.0 * used.sum() <= 8.0
        assert space.admits(z) == fits
        assert not fits or (space.rows @ z <= space.limits + 1e-9).all()


# ---- money ----------------------------------------------------------------------------------


def cheapest_usd(n_gpus: int, entries: Sequence[tuple[int, float]]) -> float:
    each = sorted(usd for count, usd in entries for _ in range(count))
    return sum(each[:n_gpus])


@EXAMPLES
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from([0.0, 1.0, 2.5, 4.0])), min_size=1, max_size=3
    ),
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0.5, 3.0])), min_size=1, max_size=2),
    st.sampled_from([3.0, 8.5, 20.0, 60.0]),
)
def test_offers_are_taken_cheapest_first_and_stay_within_the_budget(
    first: list[tuple[int, float]], second: list[tuple[int, float]], budget: float
) -> None:
    g, h = gpu_of("g"), gpu_of("h", node=4)
    pools = [own("g1", g), own("g2", g, 2), own("h1", h)]
    supply = tuple(
        Supply(gpu=name, count=n, usd_per_h=usd)
        for name, entries in (("g", first), ("h", second))
        for n, usd in entries
    )
    space = space_of(pools, supply=supply, budget_usd_per_h=budget)
    free = space_of(pools, supply=supply)
    n_first, n_second = sum(n for n, _ in first), sum(n for n, _ in second)
    batch = []
    for z in itertools.product(range(6), range(4), range(4)):
        n_g, n_h = z[0] + 2 * z[1], z[2]
        exist = n_g <= n_first and n_h <= n_second
        assert free.admits(np.array(z)) == exist
        if not exist:
            assert not space.admits(np.array(z))
            continue
        cost = cheapest_usd(n_g, first) + cheapest_usd(n_h, second)
        assert float(space.cost_usd_per_h(np.array(z))) == pytest.approx(cost)
        assert space.admits(np.array(z)) == (cost <= budget + 1e-9)
        assert ("budget" in space.broken(np.array(z))) == (cost > budget + 1e-9)
        assert space.pool_usd_per_h(np.array(z)).sum() == pytest.approx(cost)
        batch.append((z, cost))
    many = space.cost_usd_per_h(np.array([z for z, _ in batch]))
    assert many == pytest.approx([cost for _, cost in batch])


def test_the_rent_of_a_kind_is_split_by_the_gpus_used() -> None:
    g, h = gpu_of("g"), gpu_of("h", 5.0)
    supply = (
        Supply(gpu="g", count=2, usd_per_h=1.0, kind="reserved"),
        Supply(gpu="g", count=4, usd_per_h=4.0),
        Supply(gpu="h", count=4, usd_per_h=5.0),
    )
    pools = [own("g1", g), own("g2", g, 2), own("h1", h), hosted("api")]
    space = space_of(pools, supply=supply)
    z = np.array([1, 1, 2, 1])
    assert space.pool_usd_per_h(z) == pytest.approx([2.0, 4.0, 10.0, 0.0])  # 1 + 1 + 4 on three
    assert space.gpu_count(z) == {"g": 3.0, "h": 2.0}


def test_of_spot_gpus_those_count_that_are_there() -> None:
    g = gpu_of("g")
    supply = (
        Supply(gpu="g", count=2, usd_per_h=2.0, kind="reserved"),
        Supply(gpu="g", count=7, usd_per_h=1.0, kind="spot", availability_ratio=0.8),
        Supply(gpu="g", count=4, usd_per_h=3.0, kind="spot", availability_ratio=0.1),
    )
    space = space_of([own("g1", g)], supply=supply)
    assert space.upper.tolist() == [7]  # 2, and 5.6 and 0.4 rounded down
    kinds = [(o.kind, o.count, o.usd_per_h) for o in space.offers["g"]]
    assert kinds == [("spot", 5.0, 1.0), ("reserved", 2.0, 2.0), ("spot", 0.0, 3.0)]
    assert float(space.cost_usd_per_h(np.array([6]))) == pytest.approx(7.0)
    spot = [space.spot_count(np.array([n])) for n in (0, 3, 6)]
    assert spot == [{}, {"g": 3.0}, {"g": 5.0}]
    assert Supply(gpu="g", count=7, usd_per_h=1.0, kind="spot").n_counted == 7
    with pytest.raises(ValueError, match="availability_ratio is for kind: spot"):
        Supply(gpu="g", count=7, usd_per_h=1.0, availability_ratio=0.8)


def test_a_question_may_override_prices_even_to_nothing() -> None:
    g, h = gpu_of("g"), gpu_of("h", None)
    space = space_of(
        [own("g1", g), own("h1", h)], stock={"g": 4, "h": 4}, prices={"g": 0.0, "h": 7.0}
    )
    assert float(space.cost_usd_per_h(np.array([3, 2]))) == 14.0
    assert float(space_of([own("g1", g)], stock={"g": 4}).cost_usd_per_h(np.array([3]))) == 6.0


# ---- ranges ---------------------------------------------------------------------------------


def test_ranges_bound_replicas_and_name_what_is_out_of_them() -> None:
    g = gpu_of("g")
    ranges = {"b": ReplicaRange(min=1, max=2), "c": ReplicaRange(min=2)}
    space = space_of([own("a", g), own("b", g), own("c", g)], stock={"g": 5}, replicas=ranges)
    assert space.lower.tolist() == [0, 1, 2] and space.upper.tolist() == [5, 2, 5]
    expected = {
        z
        for z in itertools.product(range(7), repeat=3)
        if sum(z) <= 5 and 1 <= z[1] <= 2 and z[2] >= 2
    }
    assert admitted(space, 6) == expected
    assert space.broken(np.array([0, 0, 1])) == ["replicas:b", "replicas:c"]
    assert space.broken(np.array([9, 1, 2])) == ["replicas:a", "stock:g"]
    assert space.broken(np.array([1, 1, 2])) == []


def test_more_replicas_than_are_enough_are_not_considered_unless_asked_for() -> None:
    g = gpu_of("g")
    pools = [own("a", g), own("b", g), own("c", g)]
    ranges = {"b": ReplicaRange(min=6), "c": ReplicaRange(max=2)}
    space = space_of(pools, enough=4, stock={"g": 16}, replicas=ranges)
    assert space.upper.tolist() == [4, 6, 2]


def test_a_pool_that_is_not_usable_or_on_no_gpu_in_stock_stays_empty() -> None:
    g, h = gpu_of("g"), gpu_of("h")
    pools = [own("a", g), own("b", g), own("c", h)]
    space = space_of(pools, usable=[True, False, True], stock={"g": 3, "h": 0})
    assert space.upper.tolist() == [3, 0, 0]
    assert admitted(space, 4) == {(n, 0, 0) for n in range(4)}


def test_a_range_that_no_stock_fulfils_is_named() -> None:
    g = gpu_of("g")
    ranges = {"a": ReplicaRange(min=5), "b": ReplicaRange(min=1), "c": ReplicaRange(min=2)}
    pools = [own("a", g), own("b", g, 8), own("c", g)]
    found = replica_faults(space_of(pools, stock={"g": 4}, replicas=ranges))
    assert found == [
        "a: at least 5 replicas are asked for, 4 are possible",
        "b: at least 1 replicas are asked for, 0 are possible",
    ]


def test_a_hosted_pool_has_one_replica_and_no_rent() -> None:
    space = space_of([own("a", gpu_of("g")), hosted("api")], stock={"g": 2}, budget_usd_per_h=2.0)
    assert space.upper.tolist() == [2, 1]
    assert admitted(space, 3) == {(0, 0), (1, 0), (0, 1), (1, 1)}
    assert float(space.cost_usd_per_h(np.array([1, 1]))) == 2.0


def test_hosted_pools_alone_make_a_box() -> None:
    space = space_of([hosted("api"), hosted("other")], stock={}, budget_usd_per_h=1.0)
    assert admitted(space, 2) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert float(space.cost_usd_per_h(np.array([1, 1]))) == 0.0
    assert space.pool_usd_per_h(np.array([1, 1])).tolist() == [0.0, 0.0]
