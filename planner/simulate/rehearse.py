"""A plan tried out: its replicas, its routes, its question's requests, one run per seed.

Program
    demand_s   = requests of the question, seed s
    run_s      = cluster of the plan under demand_s, with the failures asked for
    counted    = the busiest five minutes where the plan was made for them, the whole run where
                 replicas fail, a trace was given or the run ends before those minutes,
                 else what is left when the empty cluster has filled
    simulated  = summary of all run_s over the counted requests

What is simulated is what is served: routes.json, the routing table's pick and the policies between
replicas are those of the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.errors import Fault, InputError
from planner.parallel.local import over_seeds
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.demand import LONGEST_S, busiest_window, make_demand, own_duration_s
from planner.simulate.failures import OPTION, Failure
from planner.simulate.records import Records, Usage
from planner.simulate.scene import Scene
from planner.simulate.summary import Conditions, Terms, summarise
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window, steady_window
from planner.spec.inputs import QuestionFiles
from planner.spec.plan import Plan, Routes, Simulated
from planner.spec.question import TraceRow
from planner.spec.workload import Cascade, Workload

LEAST_S = 1800.0
FEWEST_REQUESTS = 20_000
MOST_S = 7 * 86_400.0
"""A run of arrivals without end lasts half an hour, longer for slow traffic, at most a week."""
ALIKE_REQUESTS = 100
"""Two runs of so many that are equal were not so by chance: nor will others differ."""
MOST_REQUESTS = 100_000_000
"""Of one run: tens of gigabytes."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """Under which conditions a plan is tried."""

    seeds: tuple[int, ...] = (0,)  # the first alone counts where all give the same run
    duration_s: float | None = None  # None: one round of a schedule or trace, else half an hour
    start_s: float = 0.0  # where in a schedule or trace
    rate_factor: float = 1.0
    trace: tuple[TraceRow, ...] | None = None  # in place of the question's arrivals
    failures: tuple[Failure, ...] = ()
    balance: str = "round_robin"
    counted_s: tuple[float, float] | None = None  # None: as the module says
    n_processes: int | None = None  # None: one per core


@dataclass(frozen=True)
class Rehearsal:
    """What a plan did."""

    simulated: Simulated
    records: tuple[Records, ...]  # one per seed of `simulated`
    usages: tuple[Usage, ...]
    window: Window
    cascades: tuple[Cascade, ...] = ()  # of the plan, in the order of its routes


@dataclass(frozen=True)
class _Job:
    """One run, as another process can be told of it."""

    cluster: Cluster
    files: QuestionFiles
    workload: Workload
    options: Options
    duration_s: float
    seed: int


def rehearse(
    scene: Scene, plan: Plan, routes: Routes, options: Options, on_done: Progress | None = None
) -> Rehearsal:
    """Returns what a plan does under its question's arrivals, or under others.

    Args:
        scene: the question and the fitted pools, those of the plan among them.
        plan: which replicas there are.
        routes: which share of each class goes where.
        options: seeds, duration, failures.
        on_done: called after each run with (done, total).

    Raises:
        InputError: a pool of the plan is not in the scene, routes lead nowhere, or a failure names
            what is not there or begins when no more requests arrive; or a run of too many requests.
    """
    here = scene.of_plan(plan, routes)
    # Where a plan maximises the traffic it carries, that traffic is what it is tried with.
    if options.trace is None:
        carried = plan.predicted.rate_factor or 1.0
        options = replace(options, rate_factor=options.rate_factor * carried)
    duration_s = _duration_s(here, options)
    _refuse_endless(here, options, duration_s)
    _refuse_late(options.failures, duration_s)
    setups = tuple(
        PoolSetup(entry.pool, here.engines[entry.pool], entry.replicas, here.request_ps[entry.pool])
        for entry in plan.deployment
    )
    cluster = Cluster(setups, routes, here.workload.class_names, options.balance)
    jobs = [
        _Job(cluster, here.files, here.workload, options, duration_s, seed)
        for seed in options.seeds
    ]
    records: list[Records] = []
    usages: list[Usage] = []
    for found, usage in over_seeds(_run, jobs, options.n_processes):
        records.append(found)
        usages.append(usage)
        if on_done is not None:
            on_done(len(records), len(jobs))
        if len(records) == 2 and found.n_requests >= ALIKE_REQUESTS and found.same_as(records[0]):
            break
    # A recorded trace may leave nothing to chance: a run made again would only feign certainty.
    if all(found.same_as(records[0]) for found in records[1:]):
        records, usages = records[:1], usages[:1]
    window = _window(here, options, records, duration_s)
    seeds = options.seeds[: len(records)]
    conditions = Conditions(
        seeds, options.balance, options.rate_factor, tuple(map(str, options.failures))
    )
    simulated = summarise(records, usages, _terms(here, plan), window, conditions)
    return Rehearsal(simulated, tuple(records), tuple(usages), window, here.workload.cascades)


def _run(job: _Job) -> tuple[Records, Usage]:
    """Returns the records of one seed."""
    options = job.options
    demand = make_demand(
        job.files,
        job.workload,
        start_s=options.start_s,
        duration_s=job.duration_s,
        seed=job.seed,
        rate_factor=options.rate_factor,
        rows=options.trace,
    )
    done = run(job.cluster, demand, options.failures, job.seed)
    return done.records, done.usage


def _duration_s(scene: Scene, options: Options) -> float:
    """Returns for how long requests arrive, in s."""
    if options.duration_s is not None:
        return options.duration_s
    own_s = own_duration_s(scene.files, options.rate_factor, options.trace)
    counted_s = None if options.trace else busiest_window(scene.files, options.rate_factor)
    until_s = 0.0 if counted_s is None else counted_s[1]
    if own_s is None:
        own_s = max(LEAST_S, FEWEST_REQUESTS / max(_rate_rps(scene, options), 1e-6))
        own_s = min(own_s, MOST_S)
    return max(own_s, until_s)


def _rate_rps(scene: Scene, options: Options) -> float:
    """Returns the mean rate at which requests arrive, in requests/s."""
    if options.trace is None:
        return scene.mean_rps * options.rate_factor
    round_s = own_duration_s(scene.files, options.rate_factor, options.trace)
    return len(options.trace) / round_s if round_s else 0.0


def _refuse_endless(scene: Scene, options: Options, duration_s: float) -> None:
    """Raises InputError for a run that no memory holds or no clock of picoseconds counts."""
    n_requests = _rate_rps(scene, options) * duration_s
    if n_requests > MOST_REQUESTS or duration_s > LONGEST_S:
        what = (
            f"about {n_requests:,.0f} requests over {duration_s:,.0f} s are more than can be "
            f"simulated: {MOST_REQUESTS:,}, and {LONGEST_S:,.0f} s"
        )
        fix = "give a shorter one, or another --rate-factor"
        raise InputError.single("--duration-s", "", what, fix)


def _refuse_late(failures: Sequence[Failure], duration_s: float) -> None:
    """Raises InputError for failures that nobody would notice."""
    what = f"begins after the {duration_s:,.15g} s in which requests arrive, got"
    fix = "give an earlier time, or a longer --duration-s"
    faults = [Fault(OPTION, "", f"{what} {f}", fix) for f in failures if f.at_s >= duration_s]
    if faults:
        raise InputError(faults)


def _window(
    scene: Scene, options: Options, records: Sequence[Records], duration_s: float
) -> Window:
    """Returns which arrivals count."""
    end_ps = round(duration_s * PS_PER_S)
    counted_s = options.counted_s
    if counted_s is None and not options.failures and options.trace is None:
        counted_s = busiest_window(scene.files, options.rate_factor)
    if counted_s is not None:
        start_ps, stop_ps = (round(max(s - options.start_s, 0) * PS_PER_S) for s in counted_s)
        if start_ps < min(stop_ps, end_ps):
            return Window(start_ps, min(stop_ps, end_ps))
    if options.failures or scene.changes_rate or options.trace is not None:
        return Window(0, end_ps)
    return steady_window(records, end_ps)


def _terms(scene: Scene, plan: Plan) -> Terms:
    """Returns what the runs of a plan are held against."""
    prices = [scene.profiles[entry.pool].pool.price for entry in plan.deployment]
    return Terms(
        limits=scene.workload.limits,
        objective=scene.files.question.latency_objective,
        quality=scene.workload.quality,
        rent_usd_per_h=np.array([entry.usd_per_h for entry in plan.deployment]),
        usd_per_million_input_tokens=np.array(
            [0.0 if price is None else price.usd_per_million_input_tokens for price in prices]
        ),
        usd_per_million_output_tokens=np.array(
            [0.0 if price is None else price.usd_per_million_output_tokens for price in prices]
        ),
        cascade_quality=np.array([cascade.quality for cascade in scene.workload.cascades]),
    )
