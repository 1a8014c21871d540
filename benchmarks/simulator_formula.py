"""The formula of the tables against the simulator, on every own pool of a profiles folder.

    python benchmarks/simulator_formula.py [PROFILES] [--requests N]

One replica of each pool, Poisson arrivals, three mixes of lognormal lengths, at loads of the pool's
own capacity. Both sides know the same step law, so the errors are those of the queueing formula
alone: what LP, score and bounds rest on, and what `rb plan` corrects where a simulation contradicts
a plan. Errors are predicted / simulated - 1 over the pools, median and worst.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.arrivals import poisson
from planner.errors import Fault, InputError
from planner.files.profiles import read_profiles
from planner.latency.fit import fit
from planner.latency.model import LatencyModel
from planner.simulate.engines import engine_of, request_ps
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, Times, Tokens
from planner.simulate.units import PS_PER_MS, PS_PER_S
from planner.spec.table import PoolTable, quantile_ms
from planner.spec.workload import RequestShape

MIXES = {
    "chat": (300.0, 0.8, 250.0, 0.8),
    "reasoning": (200.0, 0.5, 1000.0, 0.7),
    "long prompts": (3500.0, 0.5, 130.0, 0.6),
}
LOADS = (0.3, 0.5, 0.8, 0.9)
FIGURES = (("ttft", "mean"), ("ttft", "p95"), ("tpot", "mean"), ("e2e", "mean"), ("e2e", "p95"))
WARM_UP = 0.2  # of the requests, not counted


@dataclass(frozen=True)
class Lengths:
    """Token counts of requests, (n,) each."""

    prompt: np.ndarray
    output: np.ndarray


def draw(mix: tuple[float, float, float, float], n: int) -> Lengths:
    """Returns lognormal lengths of at least one token."""
    random = np.random.default_rng(0)

    def one(mean: float, cv: float) -> np.ndarray:
        sigma = np.sqrt(np.log1p(cv**2))
        drawn = random.lognormal(np.log(mean) - sigma**2 / 2.0, sigma, n)
        return np.maximum(np.rint(drawn), 1).astype(np.int64)

    return Lengths(one(mix[0], mix[1]), one(mix[2], mix[3]))


def shape_of(lengths: Lengths) -> RequestShape:
    """Returns the drawn lengths as the nodes that a plan works with."""

    def nodes(values: np.ndarray, n: int) -> np.ndarray:
        return np.array([part.mean() for part in np.array_split(np.sort(values), n)])

    return RequestShape(nodes(lengths.prompt, 16), nodes(lengths.output, 64))


def simulated(
    model: LatencyModel, engine: EngineSettings, lengths: Lengths, rate_rps: float
) -> dict[str, np.ndarray]:
    """Returns the latencies in ms of the counted requests by metric."""
    n = lengths.prompt.size
    prompt, output = lengths.prompt.tolist(), lengths.output.tolist()
    times = Times.none_yet(n)
    replica = Replica(engine, Tokens(prompt, prompt, output), times)
    arrived_ps = np.rint(poisson(rate_rps, seed=1, n=n) * PS_PER_S).astype(np.int64)
    for i, at_ps in enumerate(arrived_ps.tolist()):
        replica.advance(at_ps)
        replica.submit(i, at_ps)
    replica.drain()
    done = slice(int(WARM_UP * n), None)
    own_ms = request_ps(model) / PS_PER_MS
    ttft = (np.array(times.first_ps) - arrived_ps)[done] / PS_PER_MS + own_ms
    e2e = (np.array(times.done_ps) - arrived_ps)[done] / PS_PER_MS + own_ms
    several = lengths.output[done] >= 2
    tpot = (e2e - ttft)[several] / (lengths.output[done][several] - 1)
    return {"ttft": ttft, "tpot": tpot, "e2e": e2e}


def predicted(table: PoolTable, load: float, metric: str, statistic: str) -> float:
    """Returns a statistic in ms by the table."""
    if statistic == "mean":
        return float(table.mean_at(metric, load)[0])
    return float(quantile_ms(table.times_ms[metric], table.survival_at(metric, load)[0], 0.05))


def errors(model: LatencyModel, n: int) -> dict[tuple[str, float, str], float]:
    """Returns predicted / simulated - 1 by (mix, load, figure) of one pool."""
    engine, found = engine_of(model), {}
    for mix, moments in MIXES.items():
        lengths = draw(moments, n)
        table = model.tabulate([shape_of(lengths)], np.ones(1))
        for load in LOADS:
            if load > table.max_load:
                continue
            seen = simulated(model, engine, lengths, load / float(table.work_s[0]))
            for metric, statistic in FIGURES:
                values = seen[metric]
                true = values.mean() if statistic == "mean" else np.quantile(values, 0.95)
                figure = predicted(table, load, metric, statistic)
                found[mix, load, f"{metric} {statistic}"] = figure / float(true) - 1.0
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="?", type=Path, default=Path("profiles"))
    parser.add_argument("--requests", type=int, default=12_000)
    asked = parser.parse_args()
    faults: list[Fault] = []
    read = read_profiles(asked.profiles, faults)
    if read is None:
        raise SystemExit(str(InputError(faults)))
    own = [p for p in read.profiles if p.gpu is not None and p.points]
    models = [fit(profile) for profile in own]
    each = [errors(model, asked.requests) for model in models]
    print(f"{len(models)} pools, {asked.requests:,} requests a run; predicted / simulated - 1, %")
    names = [f"{m} {s}" for m, s in FIGURES]
    print(f"{'mix':14}{'load':>5}" + "".join(f"{name:>16}" for name in names) + "  median / worst")
    for mix in MIXES:
        for load in LOADS:
            cells = []
            for name in names:
                got = np.array([e[mix, load, name] for e in each if (mix, load, name) in e])
                worst = got[np.argmax(np.abs(got))] if got.size else np.nan
                cells.append(f"{np.median(got) * 100:+8.1f}/{worst * 100:+7.1f}")
            print(f"{mix:14}{load:5.2f}" + "".join(cells))


if __name__ == "__main__":
    main()
