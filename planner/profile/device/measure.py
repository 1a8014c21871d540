"""All trials on one device: seconds per call, and what could not be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner.profile.device.clock import Clock
from planner.profile.device.kernels import build, launches
from planner.profile.device.machine import Machine
from planner.profile.device.plan import Launch, Sizes, Trial, n_copies, trials


@dataclass(frozen=True)
class Result:
    """The repeats of one trial."""

    trial: Trial
    times_s: tuple[float, ...]  # per call, one for each repeat

    @property
    def median_s(self) -> float:
        """Returns the median time of a call in seconds."""
        return float(np.median(self.times_s))

    @property
    def spread_ratio(self) -> float:
        """Returns the distance of the quartiles over the median."""
        low, high = np.percentile(self.times_s, [25, 75])
        return float(high - low) / self.median_s


@dataclass(frozen=True)
class Results:
    """What was measured, and notes on what was not."""

    results: tuple[Result, ...]
    notes: tuple[str, ...]


def measure(
    machine: Machine,
    sizes: Sizes,
    clock: Clock,
    notify: Callable[[int, int], None] = lambda _done, _all: None,
) -> Results:
    """Returns the times of all trials that the device can do.

    Args:
        machine: the device.
        sizes: the shapes to measure.
        clock: times a work.
        notify: told after each trial how many are done, and of how many.
    """
    planned = list(trials(sizes, machine.on_gpu, machine.n_free_bytes))
    results: list[Result] = []
    failed: dict[str, str] = {}
    for n_done, trial in enumerate(planned, 1):
        try:
            results.append(_one(trial, machine, clock))
        # Torch says with these that a kernel does not exist here, or that memory is short.
        except (RuntimeError, ValueError) as error:
            failed.setdefault(_named(trial), str(error).strip().split("\n", 1)[0][:200])
        notify(n_done, len(planned))
    notes = [f"{what} could not be measured in every shape: {why}" for what, why in failed.items()]
    return Results(tuple(results), tuple(notes))


def _one(trial: Trial, machine: Machine, clock: Clock) -> Result:
    import torch

    with torch.inference_mode():
        if isinstance(trial, Launch):
            work = launches(machine.device)
        else:
            copies = n_copies(trial, machine.n_cold_bytes, machine.n_free_bytes)
            work = build(trial, machine.device, copies)
        by_host = isinstance(trial, Launch) and not trial.by_graph
        times_s = clock.host_s(work.run) if by_host else clock.device_s(work.run)
    return Result(trial, tuple(time_s / work.n_calls for time_s in times_s))


def _named(trial: Trial) -> str:
    precision = getattr(trial, "precision", None)
    return trial.kind if precision is None else f"{trial.kind} in {precision}"
