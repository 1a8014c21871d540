"""How much latencies vary together, against the simulator: limits that are just kept, no alarms."""

from __future__ import annotations

import numpy as np
import pytest

from planner.drift.intervals import dispersion_of, of_share
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.demand import Demand
from planner.simulate.settings import EngineSettings, StepTimes
from planner.spec.arrays import FloatArray
from planner.spec.base import METRICS

N_SEQS, STEP_MS, SEQUENCE_MS, PROMPT_TOKEN_MS = 64, 10.0, 0.2, 0.02
INPUT, OUTPUT = 200, 250
HOUR_S, WINDOW_S = 3600.0, 300.0


def an_hour(utilisation: float, seed: int) -> tuple[FloatArray, dict[str, FloatArray]]:
    """When requests came to one replica, in s, and what they waited, in ms."""
    random = np.random.default_rng(seed)
    full_ms = STEP_MS + SEQUENCE_MS * N_SEQS
    work_s = (OUTPUT * full_ms / N_SEQS + INPUT * PROMPT_TOKEN_MS) / 1000.0
    n = random.poisson(utilisation / work_s * HOUR_S)
    at_s = np.sort(random.uniform(0.0, HOUR_S, n))
    outputs = np.maximum(random.lognormal(np.log(OUTPUT) - 0.18, 0.6, n), 1.0).astype(np.int64)
    steps = StepTimes.linear(
        N_SEQS, STEP_MS, sequence_ms=SEQUENCE_MS, prompt_token_ms=PROMPT_TOKEN_MS
    )
    engine = EngineSettings(steps, N_SEQS, max_num_batched_tokens=4096, kv_blocks=100_000)
    demand = Demand.of(at_s, np.full(n, INPUT), outputs, n_pools=1)
    records = run(Cluster.of((PoolSetup("a", engine, 1),), {"x": {"a": 1.0}}), demand).records
    return at_s, {m: getattr(records, f"{m}_ms") for m in ("ttft", "tpot", "e2e")}


@pytest.mark.slow
@pytest.mark.parametrize("utilisation", [0.6, 0.9])
def test_five_minutes_of_a_kept_limit_are_seldom_called_a_missed_one(utilisation: float) -> None:
    """Limits that one answer in twenty exceeds in hours: as if independent, many would alarm."""
    hours = [an_hour(utilisation, seed) for seed in range(4)]
    n_naive = 0
    for metric in METRICS:
        limit_ms = float(np.nanquantile(np.concatenate([x[metric] for _, x in hours]), 0.95))
        n_alarms, n_windows = 0, 0
        for at_s, latency in hours:
            n_running = float(latency["e2e"].sum()) / 1000.0 / HOUR_S
            dispersion = dispersion_of(metric, utilisation, n_running)
            for begin_s in np.arange(WINDOW_S, HOUR_S, WINDOW_S):
                seen = latency[metric][(at_s >= begin_s) & (at_s < begin_s + WINDOW_S)]
                k, n = float((seen > limit_ms).sum()), float(seen.size)
                n_alarms += of_share(k, n, dispersion).low > 0.05
                n_naive += of_share(k, n).low > 0.05
                n_windows += 1
        assert n_alarms <= 0.05 * n_windows, metric
    assert n_naive >= 15  # of 132
