"""Cascades in the routing table: turns among ways, and among the pools of each stage."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.scheduling.table import ALONE, RoutingTable, Way
from planner.spec.plan import CascadeEntry, Routes, WeightedPool


def pools(shares: dict[str, float]) -> tuple[WeightedPool, ...]:
    return tuple(WeightedPool(pool=pool, share=share) for pool, share in shares.items())


def entry(share: float, first: dict[str, float], second: dict[str, float]) -> CascadeEntry:
    return CascadeEntry(
        share=share,
        signal="sure",
        below=0.5,
        escalated_ratio=0.3,
        quality=0.7,
        first=pools(first),
        second=pools(second),
    )


def table(alone: dict[str, float], *cascades: CascadeEntry) -> RoutingTable:
    return RoutingTable(
        Routes(
            classes={"chat": pools(alone), "code": pools({"a": 1.0})},
            cascades={"chat": cascades},
            load_prices={},
            fallback={},
            plan_hash="0" * 64,
        )
    )


def test_a_class_takes_turns_with_its_cascades_and_these_with_their_pools() -> None:
    made = table(
        {"a": 0.25, "b": 0.25},
        entry(0.4, {"s": 0.75, "t": 0.25}, {"b": 1.0}),
        entry(0.1, {"s": 1.0}, {"c": 1.0}),
    )
    ways = Counter(made.pick_way("chat") for _ in range(1000))
    assert ways == {
        Way("a", ALONE): 250,
        Way("b", ALONE): 250,
        Way("s", 0): 300,
        Way("t", 0): 100,
        Way("s", 1): 100,
    }
    assert made.n_sent("chat") == {"a": 250, "b": 250}
    assert made.pick_way("code") == Way("a", ALONE)


def test_the_second_stage_has_turns_of_its_own() -> None:
    made = table({}, entry(0.5, {"s": 1.0}, {"b": 0.8, "c": 0.2}), entry(0.5, {"s": 1.0}, {"d": 1}))
    picked = []
    for _ in range(50):
        picked.append(made.pick_second("chat", 0))
        assert made.pick_second("chat", 1) == "d"
    assert Counter(picked) == {"b": 40, "c": 10}
    assert all("c" in picked[k : k + 6] for k in range(44))
    with pytest.raises(IndexError):
        made.pick_second("chat", 2)
    with pytest.raises(KeyError):
        made.pick_second("nobody", 0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    whole=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    n_alone=st.integers(0, 5),
    n=st.integers(1, 300),
)
def test_no_way_is_ever_a_request_off(whole: list[int], n_alone: int, n: int) -> None:
    """The bound of the turns: |sent - share n| < 1, for pools and for cascades alike."""
    shares = [round(w / sum(whole), 6) for w in whole]
    shares[0] = round(shares[0] + 1.0 - sum(shares), 6)
    n_alone = min(n_alone, len(shares) - 1)
    alone = {f"p{k}": share for k, share in enumerate(shares[:n_alone])}
    cascades = [entry(share, {"s": 1.0}, {"b": 1.0}) for share in shares[n_alone:]]
    made = table(alone, *cascades)
    sent = np.zeros(len(shares))
    for k in range(1, n + 1):
        way = made.pick_way("chat")
        sent[int(way.pool[1:]) if way.cascade == ALONE else n_alone + way.cascade] += 1
        assert (np.abs(sent - np.array(shares) * k) < 1.0).all()


def test_pick_names_the_pool_of_the_same_way() -> None:
    one, other = (table({"a": 0.3}, entry(0.7, {"s": 0.5, "t": 0.5}, {"b": 1.0})) for _ in range(2))
    assert [one.pick("chat") for _ in range(40)] == [other.pick_way("chat").pool for _ in range(40)]
