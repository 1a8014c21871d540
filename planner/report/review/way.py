"""How a review tells the way from the old plan to the new one: what is done, in which order."""

from __future__ import annotations

from planner.gate.diff import PlanDiff
from planner.gate.way.steps import PoolStep, Step
from planner.report.figures import count, percent
from planner.report.review.blocks import Block
from planner.report.review.escape import as_code, in_markdown
from planner.report.review.verdict import BAD

N_POOLS = 4  # named in one step
_JUDGED = {
    "tables": "each step judged by predicted latencies",
    "figures": "limits not judged",
    "nothing": "steps not judged",
}


def way_block(diff: PlanDiff | None) -> Block:
    """Returns the steps of the change; nothing where there is no change, or none to tell."""
    way = diff.transition if diff is not None and not diff.empty else None
    if way is None or not way.steps:
        return Block(())
    # Other marks than the lists around it have, or Markdown would make one list of them.
    rows = [f"* {BAD} A safe way takes {in_markdown(need)}" for need in way.needs]
    rows += [f"{k}. {_told(step)}" for k, step in enumerate(way.steps, 1)]
    judged = "; ".join((_JUDGED[way.judged_by], *way.notes))
    head = f"**How to put it into effect** ({in_markdown(judged, 240)})"
    return Block(tuple(rows), (head,), 3, "* and {n} more: `rb diff`")


def _told(step: Step) -> str:
    if step.kind == "shift":
        whole = step.shifted_ratio >= 1.0
        done = (
            "shift all traffic to the new shares"
            if whole
            else f"shift {percent(step.shifted_ratio, 0)} of the way to the new shares"
        )
    else:
        done = f"{'start' if step.kind == 'start' else 'drain, then stop'} {_pools(step.pools)}"
    state = []
    if step.utilisation_ratio is not None:
        state.append(f"fullest pool at {percent(step.utilisation_ratio, 0)}")
    if step.latency_ratio is not None:
        state.append(f"tightest limit used to {percent(step.latency_ratio, 0)}")
    after = f" ({', '.join(state)})" if state else ""
    if step.holds is False:
        after += f" {BAD} does not hold: {_problems(step)}"
    return f"{done}{after}"


def _pools(pools: tuple[PoolStep, ...]) -> str:
    named = [f"{abs(p.n_after - p.n_before)} × {as_code(p.pool, 60)}" for p in pools[:N_POOLS]]
    more = len(pools) - len(named)
    return ", ".join(named) + (f" and {count(more, 'more pool')}" if more else "")


def _problems(step: Step) -> str:
    """Returns what does not hold after a step: the first thing, and how many others."""
    first, *others = step.problems or ("nobody says why",)
    return in_markdown(first) + (f" and {len(others)} more" if others else "")
