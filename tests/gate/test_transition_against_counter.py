"""The steps of a change, as `rb diff --format json` has them, done on a counter of replicas.

What counts here knows plan.json and the steps, and nothing of how they were found: it starts and
stops what it is told to, and looks at every moment whether what is in service carries what comes:
the old plan's traffic until the last shift is done, from then on the new one's.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import Kind, small_plan

from planner.files.write import canonical_json
from planner.gate.diff import diff
from planner.gate.way.judges import ByFigures
from planner.gate.way.transition import transition
from planner.report.data import diff_data
from planner.spec.plan import Plan

AS_IT_WAS = " (as it was)"
USD = {"g": 2.0, "h": 3.5}
TENTHS = 10


class Counter:
    """A cluster as a list of replicas: who runs, on how many GPUs, with how much to do."""

    def __init__(self, old: dict[str, Any], new: dict[str, Any], replaced: set[str]) -> None:
        self.plans = old, new
        self.rows = {self.name(d, replaced): d for d in old["deployment"]}
        self.running = {name: d["replicas"] for name, d in self.rows.items()}
        self.rows |= {d["pool"]: d for d in new["deployment"]}  # of those that go on: no difference
        self.shifted, self.replaced = 0.0, replaced

    @staticmethod
    def name(row: dict[str, Any], replaced: set[str]) -> str:
        return row["pool"] + (AS_IT_WAS if row["pool"] in replaced else "")

    def gpus(self, running: dict[str, int]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, n in running.items():
            row = self.rows[name]
            if row["gpu"] is not None:
                part = row["n_gpus"] / row["replicas"]
                found[row["gpu"]] = found.get(row["gpu"], 0.0) + n * part
        return found

    def lacking(self, shifted: float, running: dict[str, int]) -> list[str]:
        """The pools that get more work than their replicas in service do."""
        old, new = self.plans
        rates = (new if shifted >= 1.0 else old)["predicted"]["class_rps"]
        work: dict[str, float] = {}
        for plan, part in ((old, 1.0 - shifted), (new, shifted)):
            other = {r["class"] for r in (new if plan is old else old)["routing"]}
            per_request = {
                f["pool"]: f["utilisation_ratio"] * d["replicas"] / f["rate_rps"]
                for f, d in zip(plan["predicted"]["pools"], plan["deployment"], strict=True)
                if f["rate_rps"] > 0
            }
            for r in plan["routing"]:
                name = self.name(r, self.replaced) if plan is old else r["pool"]
                goes = rates.get(r["class"], 0.0) * (part if r["class"] in other else 1.0)
                work[name] = work.get(name, 0.0) + goes * r["share"] * per_request.get(r["pool"], 0)
        return [name for name, w in work.items() if w > running.get(name, 0) * (1 + 1e-6) + 1e-9]

    def do(self, step: dict[str, Any]) -> bool:
        """Does a step as it is told, and returns whether nothing lacked at any moment of it."""
        before, shifted = dict(self.running), self.shifted
        if step["kind"] == "stop":  # where routes stay as they are, the traffic alone has changed
            shifted = step["shifted_ratio"]
        for row in step["pools"]:
            assert self.running.get(row["pool"], 0) == row["n_before"] != row["n_after"]
            assert (row["n_after"] > row["n_before"]) == (step["kind"] == "start")
            assert row["gpu"] == self.rows[row["pool"]]["gpu"]
            self.running[row["pool"]] = row["n_after"]
        names = {*before, *self.running}
        held = {n: max(before.get(n, 0), self.running.get(n, 0)) for n in names}
        serving = {n: min(before.get(n, 0), self.running.get(n, 0)) for n in names}
        assert {g: n for g, n in step["gpus"].items() if n} == {
            g: n for g, n in self.gpus(held).items() if n
        }
        self.shifted = step["shifted_ratio"]
        # Traffic becomes the new plan's with the last shift: before it the old one's has to go.
        between = [(shifted + self.shifted) / 2] if self.shifted < 1 else []
        return not any(self.lacking(x, serving) for x in (shifted, *between, self.shifted))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Plan, Plan, set[str]]:
    """Two plans that hold by themselves: pools come, go, move and are replaced under their name."""
    pools = [f"p{k}" for k in range(draw(st.integers(1, 4)))]
    replaced = {p for p in pools if draw(st.integers(0, 4)) == 0}
    kinds = {p: Kind(draw(st.sampled_from("ggh")), draw(st.integers(1, 2)), 0.1) for p in pools}
    hosted = [{p for p in pools if draw(st.integers(0, 5)) == 0} for _ in range(2)]
    classes = [["a", "b"], ["a", "b"], ["b", "c"], ["a"]]
    plans = []
    for side in range(2):
        own = dict(kinds)
        if side:
            own |= {p: Kind(kinds[p].gpu, kinds[p].n_gpus + 1, 0.08) for p in replaced - hosted[0]}
        names = draw(st.sampled_from(classes)) if side else classes[0]
        rates = {c: float(draw(st.integers(1, 25))) for c in names}
        shares: dict[tuple[str, str], float] = {}
        for c in names:
            cuts = sorted(draw(st.integers(0, TENTHS)) for _ in pools[1:])
            ends = [0, *cuts, TENTHS]
            shares |= {(c, p): (ends[k + 1] - ends[k]) / TENTHS for k, p in enumerate(pools)}
        n = {}
        for p in pools:
            load = sum(rates[c] * shares[c, p] for c in names) * own[p].work
            n[p] = (max(1, math.ceil(load - 1e-9)) if load else 0) + draw(
                st.sampled_from([0, 0, 1])
            )
        plan = small_plan(own, n, {k: s for k, s in shares.items() if s}, rates)
        rows = tuple(
            d.model_copy(update={"gpu": None, "n_gpus": 0.0, "usd_per_h": 0.0})
            if d.pool in hosted[side]
            else d.model_copy(update={"usd_per_h": d.n_gpus * USD[str(d.gpu)]})
            for d in plan.deployment
        )
        plans.append(plan.model_copy(update={"deployment": rows}))
    both = {d.pool for d in plans[0].deployment} & {d.pool for d in plans[1].deployment}
    never = hosted[0] & hosted[1]  # what somebody else runs is not started anew
    return plans[0], plans[1], (replaced - never | hosted[0] ^ hosted[1]) & both


@settings(max_examples=50)
@given(pairs(), st.sampled_from([None, 0, 1, 3]))
def test_every_step_can_be_done_and_leads_to_the_new_plan(
    pair: tuple[Plan, Plan, set[str]], spare: int | None
) -> None:
    old, new, replaced = pair
    was, now = (json.loads(plan.model_dump_json(by_alias=True)) for plan in (old, new))
    counter = Counter(was, now, replaced)
    ends = [
        counter.gpus(counter.running),
        counter.gpus({d.pool: d.replicas for d in new.deployment}),
    ]
    kinds = sorted({*ends[0], *ends[1]})
    most = {g: max(end.get(g, 0.0) for end in ends) for g in kinds}
    stock = None if spare is None else {g: n + spare for g, n in most.items()}
    found = diff(old, new, transition(old, new, ByFigures(old, new, stock=stock)))
    way = json.loads(canonical_json(diff_data(found)))["transition"]
    held = [ends[0], ends[1]]
    for step in way["steps"]:
        never_lacking = counter.do(step)
        held.append(step["gpus"])
        assert never_lacking or way["is_safe"] is False
    assert {name: n for name, n in counter.running.items() if n} == {
        d.pool: d.replicas for d in new.deployment
    }
    shifts = [step["shifted_ratio"] for step in way["steps"] if step["kind"] == "shift"]
    assert shifts == sorted(set(shifts)) and shifts[-1:] in ([], [1.0])
    for peak in way["peak_gpus"]:
        gpu = peak["gpu"]
        assert [peak["old"], peak["new"]] == [end.get(gpu, 0.0) for end in ends]
        assert peak["peak"] == max(each.get(gpu, 0.0) for each in held)
        assert stock is None or peak["peak"] <= stock[gpu]
    paid = [sum(USD[g] * n for g, n in each.items()) for each in held[1:]]
    assert way["rent"]["peak_usd_per_h"] == round(max(paid), 4)
    assert way["is_safe"] is False or stock is not None or len(shifts) < 2
