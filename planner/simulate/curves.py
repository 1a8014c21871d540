"""From a simulated engine to the step times that online decisions know of it.

What is scheduled by here is the same law that the engine runs by: the tables of settings.py at 0,
the powers of two and the most sequences, linear between, as a plan passes them on to the runtime.
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
    n_ranks, steps, knots = engine.n_ranks, engine.steps, _knots(engine)
    return StepCurve(
        n=tuple(n * n_ranks for n in knots),
        decode_ms=tuple(steps.decode_ps[n] / PS_PER_MS for n in knots),
        context_token_ms=tuple(steps.context_ps[n] / PS_PER_MS / n_ranks for n in knots),
        prompt_token_ms=steps.prompt_token_ps / PS_PER_MS / n_ranks,
        request_ms=request_ms,
        max_num_seqs=engine.max_num_seqs * n_ranks,
        kv_capacity_tokens=engine.kv_blocks * engine.block_tokens * n_ranks,
        max_num_batched_tokens=engine.max_num_batched_tokens * n_ranks,
    )


def _knots(engine: EngineSettings) -> tuple[int, ...]:
    """Returns numbers of sequences of one rank: 0, the powers of two, and the most there may be."""
    most = engine.max_num_seqs
    return (0, *(1 << k for k in range(most.bit_length()) if 1 << k < most), most)
