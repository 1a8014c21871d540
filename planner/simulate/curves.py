"""From a simulated engine to the step times that online decisions know of it.

What is scheduled by here is the same law that the engine runs by, the tables of settings.py. A plan
hands the runtime fewer knots of them, between which no step is wrong by more than KNOT_ERROR
(planner/sheet.py).
"""

from __future__ import annotations

from planner.scheduling.delay import StepCurve
from planner.simulate.hosted import HostedSettings
from planner.simulate.settings import EngineSettings
from planner.simulate.units import PS_PER_MS


def curve_of(engine: EngineSettings | HostedSettings, request_ps: int) -> StepCurve:
    """Returns the step times of one instance of a pool, as online decisions know them.

    A data-parallel replica is one instance, whose ranks share evenly what it has.

    Args:
        engine: of the pool.
        request_ps: what a request takes beside any step, t0.
    """
    request_ms = request_ps / PS_PER_MS
    if isinstance(engine, HostedSettings):
        return StepCurve.fixed((engine.ttft_ms or 0.0) + request_ms, engine.tpot_ms or 0.0)
    n_ranks, steps, n = engine.n_ranks, engine.steps, range(engine.max_num_seqs + 1)
    return StepCurve(
        n=tuple(k * n_ranks for k in n),
        decode_ms=tuple(steps.decode_ps[k] / PS_PER_MS for k in n),
        context_token_ms=tuple(steps.context_ps[k] / PS_PER_MS / n_ranks for k in n),
        prompt_token_ms=steps.prompt_token_ps / PS_PER_MS / n_ranks,
        request_ms=request_ms,
        max_num_seqs=engine.max_num_seqs * n_ranks,
        kv_capacity_tokens=engine.kv_blocks * engine.block_tokens * n_ranks,
        max_num_batched_tokens=engine.max_num_batched_tokens * n_ranks,
    )
