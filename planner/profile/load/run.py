"""A profile run: probe the endpoint, then measure level after level until the plan says stop.

Every finished level is handed to `save` before the next one begins. An interrupt ends the run
between two awaits, never inside `save`, so that what is on the disk is whole.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from planner.errors import InputError
from planner.profile.load.client import Client, Endpoint, Outcome
from planner.profile.load.driver import Progress
from planner.profile.load.options import SessionSettings
from planner.profile.load.probe import Probed, Watch, probe
from planner.profile.load.prompts import Lengths, PromptSource
from planner.profile.load.ramp import Measured, is_other_shape
from planner.profile.load.runner import LONG_ENOUGH, Load, Runner
from planner.profile.load.session import Next, Stop, error_band_ratio, next_step
from planner.spec.arrays import FloatArray
from planner.spec.pool import Point
from planner.spec.run import Step


class Listener(Protocol):
    """Who follows a run as it goes."""

    def probed(self, found: Probed) -> None:
        """Takes what was found out about the endpoint."""

    def started(self, level: Next, n_done: int, elapsed_s: float) -> None:
        """Takes the level that begins."""

    def moved(self, progress: Progress) -> None:
        """Takes how far the level has come, twice a second."""

    def finished(self, done: Measured, notes: Sequence[str]) -> None:
        """Takes a finished level and what to know of it."""


@dataclass(frozen=True)
class Job:
    """What to measure, and how."""

    endpoint: Endpoint
    lengths: Lengths
    settings: SessionSettings
    arrivals: str = "poisson"
    trace_s: FloatArray | None = None
    seed: int = 0
    salt: int = 0  # another for every call, so that no engine remembers the prompts of the last


@dataclass(frozen=True)
class RunResult:
    """All levels of the pool, and why the run ended; stop is None after an interrupt."""

    measured: tuple[Measured, ...]
    stop: Stop | None


REPEAT_SEED = 1000  # between the arrival times of two repeats
LEVELS = 10  # of a run, about, when a time budget is proposed

Save = Callable[[Sequence[Measured], Probed], None]


def run(job: Job, kept: Sequence[Measured], save: Save, listener: Listener) -> RunResult:
    """Returns all measured levels, the kept ones first, after measuring what is still wanted.

    Raises:
        InputError: the endpoint cannot be measured; what was saved before stays.
        KeyboardInterrupt: the run was interrupted before there was any level.
    """
    measured = list(kept)
    try:
        stop = asyncio.run(_measure(job, measured, save, listener))
    except KeyboardInterrupt:
        if not measured:
            raise
        return RunResult(tuple(measured), None)
    return RunResult(tuple(measured), stop)


async def _measure(job: Job, measured: list[Measured], save: Save, listener: Listener) -> Stop:
    """Returns why the run has ended; the list grows by each finished level."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    plan = next_step(measured, job.settings, 0.0)
    if isinstance(plan, Stop):
        return plan
    async with Client(job.endpoint) as client, Watch(job.endpoint) as watch:
        found = await probe(client, watch, job.lengths, job.salt)
        listener.probed(found)
        runner = Runner(client, watch, found.calibration, job.salt, found.state is not None)
        while True:
            elapsed_s = loop.time() - start_s
            plan = next_step(measured, job.settings, elapsed_s)
            if isinstance(plan, Stop):
                break
            listener.started(plan, len(measured), elapsed_s)
            answer_s = _answer_s(measured, plan.step, found.alone_s)
            # Not less than makes a level worth anything, not more than is left.
            at_most_s = max(plan.at_most_s, (LONG_ENOUGH + 2.0) * answer_s)
            at_most_s = min(at_most_s, job.settings.time_budget_s - elapsed_s)
            load = _load(job, plan.step)
            seed = job.seed + REPEAT_SEED * plan.step.repeat
            driven = await runner.drive(load, answer_s, at_most_s, seed, listener.moved)
            if driven.too_short:
                plan = Stop("time", error_band_ratio(measured, job.settings), plan.step)
                break
            done = Measured(driven.record, _named(driven.level.point, plan.step))
            if done.point is None or Outcome.CONNECTION in driven.level.failures:
                await _check_alive(client, job, len(measured))
            measured.append(done)
            save(measured, found)
            listener.finished(done, driven.level.notes)
    if not measured:
        raise _too_short(job.settings.time_budget_s, found.alone_s)
    return plan


def _load(job: Job, step: Step) -> Load:
    """Returns the load of a step; only the run's own shape has the lengths of a workload."""
    if is_other_shape(step, job.settings):
        return Load(step, Lengths.fixed(step.input_tokens, step.output_tokens))
    if step.mode == "open":
        return Load(step, job.lengths, job.arrivals, job.trace_s)
    return Load(step, job.lengths)


def _answer_s(measured: Sequence[Measured], step: Step, alone_s: float) -> float:
    """Returns about how long an answer will take, from the nearest measured concurrency."""
    known = [
        (abs(math.log(m.step.load / step.load)), m.point.e2e_mean_ms / 1000.0)
        for m in measured
        if m.step.mode == step.mode == "closed" and m.point is not None and m.point.e2e_mean_ms
    ]
    return max(min(known)[1] if known else alone_s, alone_s)


def _named(point: Point | None, step: Step) -> Point | None:
    """Returns the point with the load that was asked for, by which a later call knows it again."""
    if point is None:
        return None
    load = "concurrency" if step.mode == "closed" else "offered_rps"
    return point.model_copy(update={load: step.load})


def _too_short(time_budget_s: float, alone_s: float) -> InputError:
    what = f"is too short for one level: an answer takes {alone_s:.1f} s, got {time_budget_s:g} s"
    least_s = math.ceil(LEVELS * (LONG_ENOUGH + 2.0) * alone_s)
    return InputError.single("--time-budget", "", what, f"give {least_s}s or more")


async def _check_alive(client: Client, job: Job, n_done: int) -> None:
    """Raises InputError where the endpoint has gone away, which is no matter of load."""
    await asyncio.sleep(1.0)
    answer = await client.send(PromptSource(job.lengths, seed=job.salt).probe(1))
    if answer.outcome is Outcome.CONNECTION:
        what = f"has gone away ({answer.detail}); levels finished before: {n_done}"
        fix = "start it again and give the same command: finished levels are kept"
        raise InputError.single(job.endpoint.url, "", what, fix)
