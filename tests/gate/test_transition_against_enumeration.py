"""The order of a change against every order that there is, on changes small enough to try all."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import Kind, small_plan

from planner.gate.way.judges import ByFigures
from planner.gate.way.steps import Transition
from planner.gate.way.transition import transition

TENTHS = 10
N_PARTS = 20  # in place of a hundred, so that all orders can be tried


@pytest.fixture(autouse=True, scope="module")
def _parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("planner.gate.way.transition.N_PARTS", N_PARTS)
        yield


@dataclass(frozen=True)
class Change:
    """Work by class that comes to each pool, in tenths of a replica, before and after."""

    before: Mapping[str, tuple[int, ...]]  # by pool, then class
    after: Mapping[str, tuple[int, ...]]
    n_before: Mapping[str, int]
    n_after: Mapping[str, int]
    n_gpus: Mapping[str, int]  # of a replica
    gpu: Mapping[str, str]

    def loads(self, k: int) -> dict[str, Fraction]:
        """Full replicas that each pool needs at k parts of the way."""
        x = Fraction(k, N_PARTS)
        return {
            p: ((1 - x) * sum(self.before[p]) + x * sum(self.after[p])) / TENTHS
            for p in self.before
        }

    def taken(self, n: Mapping[str, int], gpu: str) -> int:
        return sum(k * self.n_gpus[p] for p, k in n.items() if self.gpu[p] == gpu)

    def way(self, stock: Mapping[str, float] | None) -> Transition:
        """The transition that is to be judged."""
        kinds = {p: Kind(self.gpu[p], self.n_gpus[p], 1.0 / TENTHS) for p in self.before}
        plans = []
        for work, n in ((self.before, self.n_before), (self.after, self.n_after)):
            totals = [sum(work[p][c] for p in work) for c in range(2)]
            rates = {f"c{c}": float(total) for c, total in enumerate(totals)}
            shares = {
                (f"c{c}", p): work[p][c] / totals[c] for p in work for c in range(2) if work[p][c]
            }
            plans.append(small_plan(kinds, n, shares, rates))
        return transition(*plans, ByFigures(*plans, stock=stock))


def has_safe_order(change: Change, stock: Mapping[str, int]) -> bool:
    """Whether any sequence of single starts, single stops and shifts holds all the way."""
    pools = sorted(change.before)
    most = [max(change.n_before[p], change.n_after[p]) for p in pools]
    loads = [change.loads(k) for k in range(N_PARTS + 1)]

    def holds(k: int, n: tuple[int, ...]) -> bool:
        return all(loads[k][p] <= m for p, m in zip(pools, n, strict=True)) and all(
            change.taken(dict(zip(pools, n, strict=True)), gpu) <= there
            for gpu, there in stock.items()
        )

    start = 0, tuple(change.n_before[p] for p in pools)
    goal = N_PARTS, tuple(change.n_after[p] for p in pools)
    seen, left = {start}, deque([start])
    while left:
        k, n = left.popleft()
        if (k, n) == goal:
            return True
        others = [(j, n) for j in range(N_PARTS + 1) if j != k]
        for i, by in itertools.product(range(len(pools)), (1, -1)):
            if 0 <= n[i] + by <= most[i]:
                others.append((k, (*n[:i], n[i] + by, *n[i + 1 :])))
        for state in others:
            if state not in seen and holds(*state):
                seen.add(state)
                left.append(state)
    return False


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Two or three pools on one or two kinds of GPU; the work of two classes moves between them."""
    pools = [f"p{k}" for k in range(draw(st.integers(2, 3)))]
    work = []
    totals = [draw(st.integers(5, 25)) for _ in range(2)]
    for _ in range(2):
        cuts = [sorted(draw(st.integers(0, t)) for _ in pools[1:]) for t in totals]
        ends = [[0, *c, t] for c, t in zip(cuts, totals, strict=True)]
        parts = [[b - a for a, b in itertools.pairwise(each)] for each in ends]
        work.append({p: tuple(part[k] for part in parts) for k, p in enumerate(pools)})
    n = [{p: math.ceil(sum(w) / TENTHS) for p, w in side.items()} for side in work]
    for side, p in itertools.product(n, pools):
        side[p] += draw(st.sampled_from([0, 0, 0, 1])) if side[p] else 0  # one to spare
    return Change(
        work[0],
        work[1],
        n[0],
        n[1],
        {p: draw(st.integers(1, 2)) for p in pools},
        {p: draw(st.sampled_from(["a", "a", "a", "b"])) for p in pools},
    )


def stock_at_least(change: Change, more: int) -> dict[str, int]:
    return {
        gpu: max(change.taken(n, gpu) for n in (change.n_before, change.n_after)) + more
        for gpu in sorted(set(change.gpu.values()))
    }


@settings(max_examples=150)
@given(changes(), st.sampled_from([0, 0, 0, 1, 2]))
def test_a_safe_order_is_found_where_there_is_one(change: Change, more: int) -> None:
    stock = stock_at_least(change, more)
    way = change.way({gpu: float(n) for gpu, n in stock.items()})
    assert (way.is_safe is not False) is has_safe_order(change, stock)
    for peak in way.peak_gpus:
        assert peak.peak <= stock[peak.gpu] + 1e-9


@settings(max_examples=100)
@given(changes())
def test_what_is_said_to_be_needed_is_the_least(change: Change) -> None:
    stock = stock_at_least(change, 0)
    way = change.way({gpu: float(n) for gpu, n in stock.items()})
    needed = {text.split()[2]: int(text.split()[0]) for text in way.needs}
    more = {gpu: n + needed.get(gpu, 0) for gpu, n in stock.items()}
    assert has_safe_order(change, more)
    for gpu in needed:
        assert not has_safe_order(change, {**more, gpu: more[gpu] - 1})


@settings(max_examples=150)
@given(changes(), st.sampled_from([0, 0, 0, 1, 2]))
def test_every_step_follows_from_the_one_before(change: Change, more: int) -> None:
    stock = stock_at_least(change, more)
    way = change.way({gpu: float(n) for gpu, n in stock.items()})
    n, x = dict(change.n_before), 0.0
    shifts = any(step.kind == "shift" for step in way.steps)
    for step in way.steps:
        for row in step.pools:
            assert n[row.pool] == row.n_before != row.n_after
            assert (row.n_after > row.n_before) == (step.kind == "start")
            assert row.n_gpus == abs(row.n_after - row.n_before) * change.n_gpus[row.pool]
        held = {**n, **{row.pool: max(row.n_before, row.n_after) for row in step.pools}}
        assert step.gpus == {g: change.taken(held, g) for g in step.gpus}
        n |= {row.pool: row.n_after for row in step.pools}
        assert bool(step.pools) == (step.kind != "shift")
        if step.kind == "shift":
            assert step.shifted_ratio > x
        else:
            assert step.shifted_ratio == x or not shifts
        x = step.shifted_ratio
        loads = change.loads(round(x * N_PARTS))
        assert step.holds is all(loads[p] <= n[p] for p in n)
        if step.kind == "stop" and way.is_safe is not False:
            assert all(loads[row.pool] <= row.n_after for row in step.pools)
    assert n == dict(change.n_after)
    assert x == 1.0 or not shifts


@settings(max_examples=100)
@given(changes())
def test_back_costs_the_same_peak_where_there_are_gpus_enough(change: Change) -> None:
    back = Change(
        change.after, change.before, change.n_after, change.n_before, change.n_gpus, change.gpu
    )
    forth, home = change.way(None), back.way(None)
    assert [p.peak for p in forth.peak_gpus] == [p.peak for p in home.peak_gpus]
    assert forth.is_safe is home.is_safe is None
    assert [s.kind for s in forth.steps] == sorted(
        [s.kind for s in forth.steps], key=("start", "shift", "stop").index
    )


@given(changes())
@settings(max_examples=20)
def test_from_a_plan_to_itself_there_is_nothing_to_do(change: Change) -> None:
    same = Change(
        change.before, change.before, change.n_before, change.n_before, change.n_gpus, change.gpu
    )
    way = same.way(None)
    assert way.steps == () and way.is_safe is None and way.needs == ()
    assert all(peak.peak == peak.old == peak.new for peak in way.peak_gpus)


def test_the_enumeration_itself_tells_apart() -> None:
    """One pool to another with all GPUs taken: no order; with one replica to spare: there is."""
    change = Change(
        {"a": (15, 4), "b": (0, 0)}, {"a": (0, 0), "b": (15, 4)}, {"a": 2, "b": 0},
        {"a": 0, "b": 2}, {"a": 1, "b": 1}, {"a": "g", "b": "g"},
    )  # fmt: skip
    assert not has_safe_order(change, {"g": 2})
    assert has_safe_order(change, {"g": 3})
    assert change.way({"g": 2.0}).needs == ("1 more g for a while",)


@pytest.mark.parametrize("stock", [8, 9, 10, 12, 16])
def test_a_large_fleet_moves_in_rounds(stock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.gate.way.transition.N_PARTS", 100)
    change = Change(
        {"a": (70, 9), "b": (0, 0)}, {"a": (0, 0), "b": (70, 9)}, {"a": 8, "b": 0},
        {"a": 0, "b": 8}, {"a": 1, "b": 1}, {"a": "g", "b": "g"},
    )  # fmt: skip
    way = change.way({"g": float(stock)})
    assert (way.is_safe is not False) is (stock > 8)
    assert way.peak_gpus[0].peak <= stock
    n_rounds = sum(step.kind == "shift" for step in way.steps)
    assert n_rounds == {8: 9, 9: 8, 10: 4, 12: 2, 16: 1}[stock]


def test_what_both_plans_have_to_spare_makes_room_for_a_while() -> None:
    """It is stopped and started again: nothing else frees a GPU for what is to come."""
    change = Change(
        {"a": (9, 0), "b": (0, 0), "s": (0, 5)}, {"a": (0, 0), "b": (9, 0), "s": (0, 5)},
        {"a": 1, "b": 0, "s": 2}, {"a": 0, "b": 1, "s": 2},
        {"a": 1, "b": 1, "s": 1}, dict.fromkeys("abs", "g"),
    )  # fmt: skip
    assert has_safe_order(change, {"g": 3})
    way = change.way({"g": 3.0})
    assert way.needs == () and way.peak_gpus[0].peak == 3.0
    assert [s.kind for s in way.steps] == ["stop", "start", "shift", "stop", "start"]
