"""What engines say of themselves, for the ledger of what was sent to them.

The ledger (scheduling/ledger.py) knows what went through this process, to the millisecond; a
/metrics page knows of everybody's requests, but of a moment that has passed. Here a page becomes
`Seen`; how much that counts at its age is the ledger's own law.
"""

from __future__ import annotations

from planner.metrics_page import EngineState, read_page, read_ranks
from planner.runtime.instance import Backend
from planner.scheduling.delay import UNBOUNDED, StepCurve
from planner.scheduling.ledger import Ledger, Seen


def seen_of(state: EngineState, curve: StepCurve | None, at_s: float) -> Seen | None:
    """Returns what an engine has to do by its page; None where it does not tell.

    Args:
        state: what the page says.
        curve: of the plan: its KV capacity is taken where the page has none.
        at_s: when the page was made.
    """
    if state.n_running is None:
        return None
    capacity_tokens = state.kv_capacity_tokens
    if capacity_tokens is None and curve is not None and curve.kv_capacity_tokens < UNBOUNDED:
        capacity_tokens = curve.kv_capacity_tokens
    kv_tokens = None
    if state.kv_used_ratio is not None and capacity_tokens is not None:
        kv_tokens = min(state.kv_used_ratio, 1.0) * capacity_tokens
    return Seen(
        n_running=round(state.n_running),
        n_waiting=round(state.n_waiting or 0.0),
        kv_tokens=kv_tokens,
        at_s=at_s,
    )


def reconcile(
    ledger: Ledger,
    backend: Backend,
    text: str,
    curve: StepCurve | None,
    at_s: float,
    now_s: float,
) -> bool:
    """Returns whether a page told of the engine behind a server, and lets the ledger know it.

    A page of several engines is read for each rank. Where one engine serves several instances
    (adapters of one model) its sum says nothing of any of them, and the ledger goes without.
    """
    states = _states(backend, text)
    if not states:
        return False
    backend.seen_s = now_s
    ranks = [instance.rank or 0 for instance in backend.instances]
    if len(set(ranks)) == len(ranks):
        for instance, rank in zip(backend.instances, ranks, strict=True):
            seen = seen_of(states[rank], curve, at_s) if rank in states else None
            if seen is not None:
                ledger.reconcile(instance.index, seen, now_s)
    return True


def _states(backend: Backend, text: str) -> dict[int, EngineState]:
    """Returns what a page says by rank; a server without ranks is its own rank 0."""
    if backend.instances[0].rank is not None:
        return read_ranks(text)
    state = read_page(text)
    return {} if state is None else {0: state}
