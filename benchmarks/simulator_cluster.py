"""Speed and memory of whole clusters: requests per CPU second, a plan's half hour, 1,000 replicas.

    python benchmarks/simulator_cluster.py [--only speed,plan,scale,seeds] [--requests 60000]

speed   20 replicas by the engine, prompts and answers of simulator_speed.py, Poisson arrivals at
        two loads, three classes with equal shares of every pool; each policy between the replicas
        of a pool. Those that read the state of every replica stand in for choosing pool and replica
        together. The fastest of three runs counts.
plan    the demo's own schedule and lengths, at the rate that makes 100 requests per second, for 30
        minutes, on 20 replicas: requests made, run, and summed up as `rb simulate` does.
scale   1,000 replicas in 10 pools; each size in a process of its own, whose peak memory it is.
seeds   several seeds one after the other, and on all cores: wall time.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from simulator_speed import engine, requests

from planner.files.inputs import read_inputs
from planner.parallel.local import over_seeds
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.demand import Demand, make_demand
from planner.simulate.scene import scene_of
from planner.simulate.summary import Conditions, Terms, summarise
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window

N_RUNS = 3
CLASSES = ("a", "b", "c")
LOADS_RPS = {"light": 3.5, "near saturation": 12.0}  # per replica
DEMO = Path(__file__).parent.parent / "plans" / "demo"
DEMO_POOLS = {"llama-3.1-8b-h100": 12, "llama-3.1-70b-b200-tp2": 8}
DEMO_RPS, DEMO_S = 100.0, 1800.0
SIZES = (125_000, 250_000, 500_000, 1_000_000)
N_SEEDS = 6


def cluster(n_pools: int, n_replicas: int, balance: str) -> Cluster:
    """Returns pools of some replicas each, shared equally by all classes."""
    pools = [PoolSetup(f"pool-{p}", engine(40_000), n_replicas) for p in range(n_pools)]
    shares = {pool.name: 1 / n_pools for pool in pools}
    return Cluster.of(pools, dict.fromkeys(CLASSES, shares), balance=balance)


def demand(n_requests: int, rate_rps: float, n_pools: int, seed: int = 0) -> Demand:
    """Returns Poisson arrivals of all classes."""
    tokens, at_ps = requests(n_requests, rate_rps, seed)
    return Demand.of(
        np.array(at_ps) / PS_PER_S,
        np.array(tokens.prompt),
        np.array(tokens.output),
        n_pools=n_pools,
        class_index=np.arange(n_requests) % len(CLASSES),
    )


def cpu_s(what: Callable[[], object]) -> float:
    """Returns the CPU time of a call."""
    start = time.process_time()
    what()
    return time.process_time() - start


def verdict(met: bool) -> str:
    """Returns whether a target is met, in words."""
    return "met" if met else "MISSED"


# ---- Twenty replicas -----------------------------------------------------------------------------


def compare_policies(n_requests: int) -> None:
    """Prints requests per CPU second of every policy, for one pool and for four."""
    targets = {"round_robin": 60_000, "random": 60_000}
    print("20 replicas, requests per CPU second      light   near saturation    target")
    for balance in ("round_robin", "random", "fewest_requests", "least_kv", "power_of_two", "vllm"):
        for n_pools in (1, 4):
            found = [
                n_requests / one_load(n_requests, rate_rps, n_pools, balance)
                for rate_rps in LOADS_RPS.values()
            ]
            least = targets.get(balance, 15_000)
            name = f"{balance}, {n_pools} x {20 // n_pools}"
            numbers = f"{found[0]:11,.0f} {found[1]:17,.0f} {least:9,}"
            print(f"{name:35} {numbers} {verdict(min(found) >= least)}", flush=True)


def one_load(n_requests: int, rate_rps: float, n_pools: int, balance: str) -> float:
    """Returns the CPU time of the fastest run of 20 replicas at so many requests/s each."""
    setup = cluster(n_pools, 20 // n_pools, balance)
    asked = demand(n_requests, 20 * rate_rps, n_pools)
    return min(cpu_s(lambda: run(setup, asked)) for _ in range(N_RUNS))


# ---- A plan's half hour --------------------------------------------------------------------------


def try_the_demo() -> None:
    """Prints what 30 minutes of the demo's schedule take on 20 replicas, the parts and together."""
    scene = scene_of(read_inputs(DEMO), cascades=())
    names = scene.workload.pool_names
    columns = [names.index(name) for name in DEMO_POOLS]
    pools = tuple(
        PoolSetup(name, scene.engines[name], n_replicas, scene.request_ps[name])
        for name, n_replicas in DEMO_POOLS.items()
    )
    half_each = dict.fromkeys(DEMO_POOLS, 1 / len(DEMO_POOLS))
    classes = scene.workload.class_names
    setup = Cluster.of(pools, dict.fromkeys(classes, half_each))
    factor = DEMO_RPS / scene.mean_rps
    start = time.process_time()
    asked = make_demand(scene.files, scene.workload, duration_s=DEMO_S, seed=0, rate_factor=factor)
    asked = Demand(
        asked.arrived_ps, asked.class_index, asked.priority, tuple(asked.tokens[p] for p in columns)
    )
    made = time.process_time()
    done = run(setup, asked)
    ran = time.process_time()
    nothing = np.zeros(len(pools))
    terms = Terms(
        scene.workload.limits,
        scene.files.question.latency_objective,
        scene.workload.quality[:, columns],
        nothing,
        nothing,
        nothing,
    )
    window = Window(0, round(DEMO_S * PS_PER_S))
    summarise([done.records], [done.usage], terms, window, Conditions((0,), setup.balance))
    end = time.process_time()
    in_flight = done.records.e2e_ms.sum() / 1e3 / DEMO_S / sum(DEMO_POOLS.values())
    print(
        f"demo, {done.records.n_requests:,} requests in {DEMO_S / 60:.0f} min on "
        f"{sum(DEMO_POOLS.values())} replicas, {in_flight:.0f} in flight in each: "
        f"{made - start:.2f} s to make + {ran - made:.2f} s to run + {end - ran:.2f} s to sum up "
        f"= {end - start:.2f} s, target below 3 s: {verdict(end - start < 3.0)}"
    )


# ---- A thousand replicas -------------------------------------------------------------------------


def scale_up() -> None:
    """Prints time and memory of 1,000 replicas, each size in a fresh process."""
    print("1,000 replicas    requests   CPU s   us per request   peak MB")
    for n_requests in SIZES:
        found = subprocess.run(
            [sys.executable, __file__, "--one", str(n_requests)],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, megabytes = map(float, found.stdout.split())
        per_request_us = seconds / n_requests * 1e6
        print(
            f"{n_requests:26,} {seconds:7.1f} {per_request_us:16.2f} {megabytes:9,.0f}", flush=True
        )
    print(f"target below 2,000 MB: {verdict(megabytes < 2000)}")


def one_size(n_requests: int) -> None:
    """Prints CPU seconds and peak memory in MB of one run of 1,000 replicas at light load."""
    setup, asked = cluster(10, 100, "round_robin"), demand(n_requests, 1000 * 3.5, 10)
    seconds = cpu_s(lambda: run(setup, asked))
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


# ---- Several seeds -------------------------------------------------------------------------------


def one_seed(seed: int) -> int:
    """Returns when the last of 300,000 requests on 20 replicas is done."""
    done = run(cluster(4, 5, "round_robin"), demand(300_000, 240.0, 4, seed))
    return int(done.records.done_ps.max())


def compare_processes() -> None:
    """Prints the wall time of several seeds in one process and on all cores, and what they had."""
    found = {}
    for n_processes in (1, None):
        start, cpu_start = time.perf_counter(), all_cpu_s()
        ends = list(over_seeds(one_seed, range(N_SEEDS), n_processes))
        wall_s = time.perf_counter() - start
        found[n_processes] = (wall_s, (all_cpu_s() - cpu_start) / wall_s, ends)
    (one_s, one_cores, one_ends), (all_s, all_cores, all_ends) = found[1], found[None]
    assert one_ends == all_ends
    print(
        f"{N_SEEDS} seeds: {one_s:.1f} s of wall time in one process that had {one_cores:.2f} of a "
        f"core, {all_s:.1f} s in processes that had {all_cores:.2f} cores together, ratio "
        f"{one_s / all_s:.2f}"
    )


def all_cpu_s() -> float:
    """Returns the CPU time of this process and of those that it has started and seen end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Prints the tables that were asked for."""
    parser = argparse.ArgumentParser(description="speed and memory of simulated clusters")
    parser.add_argument("--only", default="speed,plan,scale,seeds")
    parser.add_argument("--requests", type=int, default=60_000, help="of the table of policies")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        one_size(options.one)
        return
    parts = options.only.split(",")
    if "speed" in parts:
        compare_policies(options.requests)
    if "plan" in parts:
        try_the_demo()
    if "scale" in parts:
        scale_up()
    if "seeds" in parts:
        compare_processes()


if __name__ == "__main__":
    main()
