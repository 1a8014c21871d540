"""A change played request by request: the same steps in the simulator that a person would take.

Notation
    T_k     begin of step k, in s; steps follow each other every step_s, after a time that fills the
            empty cluster
    start   its replicas serve from T_k + step_s on: so long is their cold start
    shift   requests go by the mixed routes from T_k on
    stop    its replicas take nothing from T_k on, and answer what they have

Requests arrive at random at the rates that the plans were made for: those of the old plan until the
last shift, those of the new one from then on. What arrives between T_k and T_{k+1} is held against
the limits of that time: until the last shift those that both plans have, at the looser value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner.errors import InputError
from planner.gate.way.course import Schedule, at_rates, phases_of
from planner.gate.way.steps import Step, Transition
from planner.gate.way.tables import ByTables
from planner.gate.way.terms import Sides, filled, open_to
from planner.parallel.local import over_seeds
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.demand import drawn_workload, make_demand
from planner.simulate.figures import asked_figures, latency_ratio
from planner.simulate.phases import Phase, joined, most_replicas
from planner.simulate.records import Records
from planner.simulate.scene import scene_of
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window
from planner.spec.inputs import QuestionFiles
from planner.spec.plan import SimulatedFigure
from planner.spec.workload import Workload

FILL_S = 600.0
STEP_S = 120.0


@dataclass(frozen=True)
class Options:
    """Under which conditions a change is played."""

    seeds: tuple[int, ...] = (0,)
    step_s: float = STEP_S
    fill_s: float = FILL_S  # before the first step, and after the last one
    balance: str = "round_robin"
    n_processes: int | None = None  # None: one per core


@dataclass(frozen=True)
class PlayedStep:
    """What those saw who asked while a step was done, and before the next one."""

    step: Step | None  # None: before the first one
    begin_s: float
    end_s: float
    n_requests: int  # in all runs
    n_unanswered: int
    figures: tuple[SimulatedFigure, ...]  # with a limit

    @property
    def missed(self) -> tuple[SimulatedFigure, ...]:
        """Returns the limits that are missed for certain."""
        return tuple(f for f in self.figures if f.verdict == "missed")

    @property
    def latency_ratio(self) -> float | None:
        """Returns the largest of simulated over allowed; None without limits."""
        return latency_ratio(self.figures)


@dataclass(frozen=True)
class Played:
    """A change as it went."""

    way: Transition
    steps: tuple[PlayedStep, ...]  # the time before the first one is the first
    seeds: tuple[int, ...]
    records: tuple[Records, ...]  # one per seed

    @property
    def missed(self) -> bool:
        """Returns whether a limit was missed for certain at any time."""
        return any(step.missed for step in self.steps)


def play(
    sides: Sides,
    way: Transition,
    options: Options,
    on_done: Callable[[int, int], None] | None = None,
) -> Played:
    """Returns how a change goes.

    Args:
        sides: both plans, without periods.
        way: its steps; not only those that `transition` proposes.
        options: how long a step takes, how often it is played.
        on_done: called after each run with (done, total).

    Raises:
        InputError: a plan has cascades, or classes, pools or scores that are known to no question.
    """
    if sides.old.cascades or sides.new.cascades:
        what = "a change of cascades cannot be played"
        raise InputError.single("plan.json", "cascades", what, "play each plan by itself")
    try:
        judge = ByTables(sides)
    except KeyError as error:
        what = "is in one of the plans, and in no question or profile that is here"
        fix = "name both plan folders, with their questions"
        raise InputError.single("plan.json", str(error.args[0]), what, fix) from error
    schedule = Schedule(way, options.step_s, options.fill_s)
    jobs = [_prepared(sides, judge, schedule, options.balance, seed) for seed in options.seeds]
    records: list[Records] = []
    for found in over_seeds(_run, jobs, options.n_processes):
        records.append(found)
        if on_done is not None:
            on_done(len(records), len(jobs))
    return Played(way, tuple(_told(judge, schedule, records)), options.seeds, tuple(records))


# ---- One run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Traffic:
    """Requests of one of the plans, for as long as they come."""

    files: QuestionFiles
    workload: Workload
    duration_s: float


@dataclass(frozen=True)
class _Job:
    """One run, as another process can be told of it."""

    cluster: Cluster
    phases: tuple[Phase, ...]
    traffic: tuple[_Traffic, _Traffic]  # the old plan's, the new one's
    seed: int


def _prepared(sides: Sides, judge: ByTables, schedule: Schedule, balance: str, seed: int) -> _Job:
    """Returns the cluster of both plans, its course, and what comes."""
    scene = scene_of(open_to(judge.members, sides, sides.inputs), ())
    before = open_to(judge.members, sides, sides.before)
    files = at_rates(before.files, sides.old), at_rates(scene.files, sides.new)
    first, second = (drawn_workload(each, before.candidates) for each in files)
    shift_s = schedule.last_shift_s
    traffic = (
        _Traffic(files[0], filled(first, second), shift_s),
        _Traffic(files[1], second, schedule.end_s - shift_s),
    )
    phases = phases_of(sides, judge.members, schedule)
    setups = tuple(
        PoolSetup(m.name, scene.engines[m.name], n, scene.request_ps[m.name])
        for m, n in zip(judge.members, most_replicas(phases), strict=True)
    )
    names = tuple(dict.fromkeys((*first.class_names, *second.class_names)))
    return _Job(Cluster(setups, phases[0].routes, names, balance), phases, traffic, seed)


def _run(job: _Job) -> Records:
    """Returns the records of one seed."""
    demands = [
        make_demand(t.files, t.workload, duration_s=t.duration_s, seed=2 * job.seed + k)
        for k, t in enumerate(job.traffic)
    ]
    of = [[job.cluster.class_names.index(c) for c in t.workload.class_names] for t in job.traffic]
    at_ps = round(job.traffic[0].duration_s * PS_PER_S)
    demand = joined(demands[0], demands[1], at_ps, of[0], of[1])
    return run(job.cluster, demand, seed=job.seed, phases=job.phases).records


def _told(judge: ByTables, schedule: Schedule, records: Sequence[Records]) -> Iterator[PlayedStep]:
    """Yields what was seen in the time of each step."""
    begins, steps = schedule.begins_s, schedule.way.steps
    edges = [schedule.fill_s / 2.0, *begins[:-1], schedule.end_s]  # an empty cluster fills
    for step, (begin_s, end_s) in zip((None, *steps), pairwise(edges), strict=True):
        window = Window(round(begin_s * PS_PER_S), round(end_s * PS_PER_S) - 1)
        counted = [run.between(window.start_ps, window.end_ps) for run in records]
        at_end = begin_s >= schedule.last_shift_s and step is not None
        limits = judge.limits(1.0 if at_end else 0.0)
        figures = asked_figures(records, window, limits, judge.objective)
        yield PlayedStep(
            step,
            begin_s,
            end_s,
            sum(run.n_requests for run in counted),
            sum(int((~run.is_answered).sum()) for run in counted),
            tuple(f for f in figures if f.at_most_ms is not None),
        )
