"""The GPUs of a change: sums where they say all, places where pools share GPUs or leave gaps."""

from __future__ import annotations

import datetime
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import Kind, small_plan

from planner.gate.way.judges import ByFigures
from planner.gate.way.members import Member
from planner.gate.way.room import Room
from planner.gate.way.transition import transition
from planner.space import Packing
from planner.space.parts import Part
from planner.spec.hardware import Gpu
from planner.spec.plan import Plan
from planner.spec.pool import GpuShare, Pool, Profile


def member(name: str, n_gpus: float, n_old: int = 0, n_new: int = 0) -> Member:
    return Member(name, name, "g", n_gpus, n_old, n_new)


def room(node: int, parts: dict[str, Part], enough: int) -> Room:
    members = tuple(
        member(name, part.n_gpus * max(part.compute_ratio, part.memory_ratio))
        for name, part in parts.items()
    )
    return Room(members, {"g": enough}, {"g": Packing(enough, node, tuple(parts.values()))})


def profile(name: str, tensor_parallel: int, share: GpuShare | None = None) -> Profile:
    gpu = Gpu(
        name="g", memory_gib=80.0, fp16_tflops=1.0, memory_gb_per_s=1.0, gpus_per_node=4,
        usd_per_h=2.0, source="made for a test", as_of=datetime.date(2026, 1, 1),
    )  # fmt: skip
    of = {"model_name": name, "gpu": "g", "tensor_parallel": tensor_parallel, "source": "test"}
    return Profile(Pool.model_validate({"name": name, "share": share, **of}), gpu, None)


# ---- Counted -------------------------------------------------------------------------------------


def test_a_sum_is_enough_where_sizes_divide_each_other() -> None:
    plain = Room((member("a", 4.0), member("b", 1.0)), {"g": 8.0})
    assert plain.taken((1, 3)) == {"g": 7.0}
    assert plain.missing((1, 4), {"g": 8.0}) == {}
    assert plain.missing((2, 1), {"g": 8.0}) == {"g": 1.0}


def test_three_parts_of_more_than_half_a_gpu_take_three() -> None:
    """Their sum is 1.8."""
    parts = {name: Part(1, name, 0.6, 0.6) for name in ("a", "b", "c")}
    shared = room(8, parts, 24)
    assert shared.taken((1, 1, 1)) == {"g": 3.0}
    assert shared.missing((1, 1, 1), {"g": 2.0}) == {"g": 1.0}
    assert shared.missing((1, 1, 1), {"g": 3.0}) == {}


def test_replicas_that_leave_gaps_on_nodes_lack_more_than_the_sum() -> None:
    """Two replicas of three GPUs fit on no node of four together."""
    gaps = room(4, {"a": Part(3, "a"), "b": Part(2, "b")}, 24)
    assert gaps.missing((2, 0), {"g": 6.0}) == {"g": 1.0}  # the last node has two GPUs
    assert gaps.missing((2, 0), {"g": 7.0}) == {}
    assert gaps.missing((2, 1), {"g": 8.0}) == {"g": 2.0}
    assert gaps.taken((2, 1)) == {"g": 8.0}


def placed(node: int, n_gpus: int, sizes: list[int]) -> bool:
    """Whether whole replicas have places, by trying every node for each of them."""
    nodes = [node] * (n_gpus // node) + ([n_gpus % node] if n_gpus % node else [])
    for choice in itertools.product(range(len(nodes)), repeat=len(sizes)):
        left = list(nodes)
        for k, size in zip(choice, sizes, strict=True):
            left[k] -= size
        if min(left, default=0) >= 0:
            return True
    return not sizes


@settings(max_examples=60)
@given(st.tuples(*[st.integers(0, 2)] * 3), st.integers(1, 16))
def test_what_is_missing_is_the_least_that_places_all(n: tuple[int, ...], there: int) -> None:
    sizes = [3, 2, 1]
    parts = {str(size): Part(size, str(size)) for size in sizes}
    missing = room(4, parts, 24).missing(n, {"g": float(there)}).get("g", 0.0)
    wanted = [size for size, k in zip(sizes, n, strict=True) for _ in range(k)]
    least = next(m for m in itertools.count() if placed(4, there + m, wanted))
    assert missing == pytest.approx(least)


# ---- Of profiles ---------------------------------------------------------------------------------


def test_places_are_looked_for_only_where_a_sum_does_not_say_all() -> None:
    members = (member("a", 2.0, 2, 0), member("b", 1.0, 0, 3))
    assert Room.of(members, [profile("a", 2), profile("b", 1)], {"g": 4.0}).packings == {}
    gaps = Room.of(members, [profile("a", 3), profile("b", 1)], {"g": 4.0})
    assert (gaps.packings["g"].n_gpus, gaps.packings["g"].node_size) == (4 * (2 + 3), 4)
    wide = Room.of((member("a", 8.0, 1, 1),), [profile("a", 8)], {"g": 8.0})
    assert wide.packings["g"].n_gpus == 8  # over two nodes
    half = GpuShare(compute_ratio=0.5, memory_gib=40.0)
    parts = [profile("a", 1, half), profile("b", 1, half)]
    shared = Room.of((member("a", 1.0, 1, 1), member("b", 1.0, 0, 1)), parts, {"g": 1.0})
    assert shared.taken((1, 1)) == {"g": 1.0}  # side by side on one
    assert shared.missing((1, 1), {"g": 1.0}) == {}


# ---- On the way ----------------------------------------------------------------------------------


class OnNodes(ByFigures):
    """By the figures, on GPUs in nodes of four."""

    def __init__(self, old: Plan, new: Plan, n_gpus: int) -> None:
        super().__init__(old, new)
        parts = tuple(Part(round(m.gpus_per_replica), m.name) for m in self.members)
        self.room = Room(self.members, {"h100": n_gpus}, {"h100": Packing(40, 4, parts)})


def test_a_change_that_has_gpus_but_no_places_says_what_it_needs() -> None:
    """One replica of three GPUs becomes another: on nodes of four, six GPUs are one too few."""
    kinds = {"a": Kind(n_gpus=3), "b": Kind(n_gpus=3)}
    old = small_plan(kinds, {"a": 1}, {("c", "a"): 1.0}, {"c": 0.9})
    new = small_plan(kinds, {"b": 1}, {("c", "b"): 1.0}, {"c": 0.9})
    short = transition(old, new, OnNodes(old, new, 6))
    assert (short.is_safe, short.needs) == (False, ("1 more h100 for a while",))
    enough = transition(old, new, OnNodes(old, new, 7))
    assert enough.is_safe is not False and enough.needs == ()
    assert [step.kind for step in enough.steps] == ["start", "shift", "stop"]
