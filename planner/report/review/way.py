"""How a review tells the way from the old plan to the new one: what is done, in which order."""

from __future__ import annotations

from planner.gate.diff import PlanDiff
from planner.gate.way.steps import PoolStep, Step
from planner.report.changed import A_CENT
from planner.report.figures import count, percent, usd
from planner.report.review.blocks import Block
from planner.report.review.escape import as_code, in_markdown
from planner.report.review.verdict import BAD
from planner.report.transition import used_words

N_POOLS = 4  # named in one step
_JUDGED = {
    "tables": "each step judged by predicted latencies",
    "figures": "limits not judged",
    "nothing": "steps not judged",
}


def way_block(diff: PlanDiff | None) -> Block:
    """Returns the steps of the change; nothing where there is no change, or none to tell."""
    way = diff.transition if diff is not None else None
    if way is None or not way.steps:
        return Block(())
    # Other marks than the lists around it have, or Markdown would make one list of them.
    rows = [f"* {BAD} A safe way takes {in_markdown(need)}" for need in way.needs]
    rows += [f"{k}. {_told(step, way.begins_broken)}" for k, step in enumerate(way.steps, 1)]
    rent = way.rent
    dearer = (
        [f"up to {usd(rent.peak_usd_per_h)} per hour of GPU rent meanwhile"]
        if rent is not None and rent.extra_usd_per_h >= A_CENT / 2
        else []
    )
    judged = "; ".join((*dearer, _JUDGED[way.judged_by], *way.notes))
    head = f"**How to put it into effect** ({in_markdown(judged, 320)})"
    return Block(tuple(rows), (head,), 3, "* and {n} more: `rb diff`")


def _told(step: Step, begins_broken: bool) -> str:
    """Returns what is done in a step, and how things stand after it."""
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
        state.append(f"fullest pool at {used_words(step.utilisation_ratio)}")
    if step.latency_ratio is not None:
        state.append(f"tightest limit used to {used_words(step.latency_ratio)}")
    after = f" ({', '.join(state)})" if state else ""
    if step.holds is False:
        after += f" {'as before,' if begins_broken else BAD} does not hold: {_problems(step)}"
    return f"{done}{after}"


def _pools(pools: tuple[PoolStep, ...]) -> str:
    named = [_pool(p) for p in pools[:N_POOLS]]
    more = len(pools) - len(named)
    return ", ".join(named) + (f" and {count(more, 'more pool')}" if more else "")


def _pool(change: PoolStep) -> str:
    n = abs(change.n_after - change.n_before)
    return f"{n} × {as_code(change.pool, 60)}" + ("" if change.gpu else " (hosted)")


def _problems(step: Step) -> str:
    """Returns what does not hold after a step: the first thing, and how many others."""
    first, *others = step.problems or ("nobody says why",)
    return in_markdown(first) + (f" and {len(others)} more" if others else "")
