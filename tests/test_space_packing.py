"""Places of replicas against brute force: every replica tried on every set of GPUs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from planner.space import bins
from planner.space.bins import fewest_bins, maximal_patterns
from planner.space.packing import Packed, Packing
from planner.space.parts import Part

EDGE = 1e-9


def fewest_gpus(packing: Packing, counts: Sequence[int]) -> int | None:
    """The fewest GPUs that hold all replicas, by trying everything; None: they do not fit."""
    replicas = [p for p, n in zip(packing.parts, counts, strict=True) for _ in range(n)]
    node = [i // packing.node_size for i in range(packing.n_gpus)]
    empty = tuple(() for _ in node)
    states = {empty}
    for part in replicas:
        states = {
            state
            for before in states
            for gpus in itertools.combinations(range(packing.n_gpus), part.n_gpus)
            if part.spans_nodes or len({node[i] for i in gpus}) <= 1
            for state in [_with(before, part, gpus, packing)]
            if state is not None
        }
        if not states:
            return None
    return min(sum(bool(on) for on in state) for state in states)


def _with(state, part: Part, gpus: tuple[int, ...], packing: Packing):
    on = list(state)
    for i in gpus:
        here = (*on[i], part)
        if sum(p.compute_ratio for p in here) > 1 + EDGE:
            return None
        if sum(p.memory_ratio for p in here) > 1 + EDGE:
            return None
        if len({p.model_name for p in here}) < len(here):
            return None
        on[i] = tuple(sorted(here, key=repr))
    size, starts = packing.node_size, range(0, packing.n_gpus, packing.node_size)
    # GPUs of a node are alike, and so are full nodes.
    nodes = [tuple(sorted(on[start : start + size], key=repr)) for start in starts]
    full = sorted((n for n in nodes if len(n) == size), key=repr)
    return tuple(itertools.chain(*full, *(n for n in nodes if len(n) < size)))


def assert_lies(packing: Packing, counts: Sequence[int], packed: Packed) -> None:
    """Asserts that a placement keeps every rule, read from the GPUs alone."""
    assert packed.places is not None
    on: dict[int, list[Part]] = {}
    for part, n, replicas in zip(packing.parts, counts, packed.places, strict=True):
        assert len(replicas) == n
        for gpus in replicas:
            assert len(set(gpus)) == part.n_gpus and max(gpus) < packing.n_gpus
            assert part.spans_nodes or len({i // packing.node_size for i in gpus}) == 1
            for i in gpus:
                on.setdefault(i, []).append(part)
    for here in on.values():
        assert sum(p.compute_ratio for p in here) <= 1 + EDGE
        assert sum(p.memory_ratio for p in here) <= 1 + EDGE
        assert len({p.model_name for p in here}) == len(here)
    assert packed.n_gpus == len(on)


def against_brute_force(packing: Packing, most: Sequence[int]) -> tuple[int, int]:
    """Asserts fewest GPUs for all counts up to `most`; returns how many fit, and do not."""
    n_fit = n_not = 0
    for counts in itertools.product(*(range(n + 1) for n in most)):
        truth, packed = fewest_gpus(packing, counts), packing.packed(counts)
        assert packing.used(counts) == (packed.n_gpus, packed.places is not None)
        if truth is None:
            assert packed.places is None, counts
            n_not += 1
            continue
        assert packed.places is not None, counts
        assert_lies(packing, counts, packed)
        assert packed.n_gpus == truth, counts
        assert packing.least_gpus(counts) <= truth
        n_fit += 1
    return n_fit, n_not


@pytest.mark.parametrize("n_gpus", [5, 6, 8, 9])
def test_mixed_sizes_lie_on_nodes_exactly_where_brute_force_finds_a_place(n_gpus: int) -> None:
    packing = Packing(n_gpus, 4, (Part(2, "a"), Part(4, "b"), Part(3, "c"), Part(1, "d")))
    n_fit, n_not = against_brute_force(packing, (3, 2, 2, 2))
    assert n_fit > 10 and n_not > 10


def test_two_and_four_and_three_fill_nodes_of_eight() -> None:
    packing = Packing(16, 8, (Part(2, "a"), Part(4, "b"), Part(3, "c")))

    def lies(*counts: int) -> bool:
        return packing.used(counts)[1]

    assert lies(1, 0, 2) and lies(2, 0, 4) and lies(0, 2, 2) and lies(1, 2, 2)
    assert not lies(0, 1, 4)  # 16 GPUs, but 3 + 3 on a node leave two, and the 4 finds no place
    assert lies(0, 1, 3) and lies(4, 2, 0) and not lies(2, 3, 1)


def test_a_replica_that_spans_nodes_takes_what_others_leave() -> None:
    packing = Packing(8, 4, (Part(3, "a"), Part(2, "b", spans_nodes=True)))
    against_brute_force(packing, (3, 4))
    assert packing.used((2, 1)) == (8, True)


MIXES = {
    "one_gpu_each": (
        Part(1, "a", 0.5, 0.75),
        Part(1, "b", 0.5, 0.25),
        Part(1, "c", 0.25, 0.25),
        Part(1, "whole"),
    ),
    "two_shares_of_one_model": (
        Part(1, "a", 0.3, 0.2),
        Part(1, "a", 0.6, 0.5),
        Part(1, "b", 0.4, 0.5),
        Part(1, "c", 0.7, 0.3),
    ),
    "alike_but_for_their_size": (
        Part(1, "a", 0.4, 0.5),
        Part(2, "a", 0.4, 0.5),
        Part(1, "b", 0.6, 0.3),
        Part(2, "b", 0.6, 0.3),
    ),
    "shards": (
        Part(2, "a", 0.4, 0.5),
        Part(1, "b", 0.6, 0.3),
        Part(2, "c", 0.3, 0.4),
        Part(1, "whole"),
    ),
}


@pytest.mark.parametrize("name", sorted(MIXES))
@pytest.mark.parametrize("n_gpus", [2, 3, 4])
def test_shared_gpus_are_as_few_as_brute_force_needs(name: str, n_gpus: int) -> None:
    n_fit, _ = against_brute_force(Packing(n_gpus, 4, MIXES[name]), (2, 3, 2, 1))
    assert n_fit > 5


@pytest.mark.parametrize("seed", range(4))
def test_random_parts_against_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = tuple(
        Part(
            int(random.integers(1, 3)),
            str(random.choice(["a", "b", "c"])),
            float(random.choice([0.1, 0.25, 0.3, 0.5, 0.6])),
            float(random.choice([0.15, 0.3, 0.35, 0.5, 0.7])),
        )
        for _ in range(3)
    )
    against_brute_force(Packing(4, 4, (*parts, Part(2, "whole"))), (2, 2, 2, 1))


def test_shards_on_several_nodes_are_placed_right_or_not_at_all() -> None:
    packing = Packing(6, 2, MIXES["shards"])
    assert not packing.is_separable
    n_same = n_all = 0
    for counts in itertools.product(range(3), range(3), range(3), range(2)):
        packed, truth = packing.packed(counts), fewest_gpus(packing, counts)
        if packed.places is None:
            n_all += truth is not None
            continue
        assert_lies(packing, counts, packed)
        assert truth is not None and packed.n_gpus >= truth
        n_all, n_same = n_all + 1, n_same + (packed.n_gpus == truth)
    assert n_same >= 0.9 * n_all > 20


def test_patterns_open_fewer_gpus_than_first_fit() -> None:
    # By size first fit puts 0.5 beside 0.4 and is left with 0.35, 0.3, 0.3 for two more GPUs.
    parts = tuple(
        Part(1, name, c, c)
        for name, c in (("a", 0.5), ("b", 0.4), ("c", 0.35), ("d", 0.3), ("e", 0.3), ("f", 0.15))
    )
    packing = Packing(4, 4, parts)
    assert packing.packed((1,) * 6).n_gpus == 2 == fewest_gpus(packing, (1,) * 6)


def test_what_needs_more_than_there_is_has_no_place() -> None:
    packing = Packing(3, 8, (Part(1, "a", 0.1, 0.1), Part(1, "b", 0.1, 0.1)))
    assert packing.used((3, 3)) == (3, True)
    assert packing.used((4, 0)) == (4, False)  # no two shards of one model on one GPU
    assert packing.packed((4, 0)).places is None


def test_parts_alike_but_for_their_size_are_one_kind_of_shard() -> None:
    sizes = [Part(size, model, c, m) for model, c, m in SHARDS for size in (1, 2, 4)]
    packing = Packing(8, 8, tuple(sizes))
    assert packing.shard_kinds == tuple(tuple(range(3 * k, 3 * k + 3)) for k in range(8))
    assert packing.gpu_patterns is not None and len(packing.gpu_patterns) < 40


SHARDS = [(m, c, c / 2) for m in "abcd" for c in (0.25, 0.5)]


def test_many_gpus_are_placed_in_reasonable_steps() -> None:
    packing = Packing(512, 8, (Part(3, "a"), Part(2, "b"), Part(1, "c", 0.5, 0.5)))
    packed = packing.packed((100, 60, 40))
    assert_lies(packing, (100, 60, 40), packed)
    assert packed.n_gpus == 460


def test_patterns_of_very_many_kinds_are_not_all_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "MOST_STEPS", 5_000)
    crowd = tuple(Part(1, f"m{k}", 0.03, 0.03) for k in range(30))  # 2 ** 30 sets fit on a GPU
    packing = Packing(8, 8, (*crowd, Part(1, "whole", 0.6, 0.6)))
    assert packing.gpu_patterns is None
    packed = packing.packed([1] * 31)
    assert_lies(packing, [1] * 31, packed)
    assert packed.n_gpus == 2


def test_bins_by_hand() -> None:
    def fits(pattern: tuple[int, ...]) -> bool:
        return 3 * pattern[0] + 2 * pattern[1] <= 8

    patterns = maximal_patterns([2, 4], fits)
    assert patterns is not None
    assert set(patterns) == {(2, 1), (1, 2), (0, 4)}
    assert fewest_bins((4, 2), patterns, 5) is not None
    assert len(fewest_bins((4, 2), patterns, 5) or ()) == 2
    assert fewest_bins((5, 2), patterns, 2) is None
    assert fewest_bins((0, 0), patterns, 0) == ()
    assert fewest_bins((1,), ((0,),), 9) is None  # nothing holds it
