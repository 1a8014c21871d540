"""How long a work takes: on the host's clock, and on the device's own.

Program of the CUDA clock
    warm up      a few runs on a side stream: libraries load, choose kernels, allocate
    capture      the work becomes a graph, so that the host's launches are not what is timed
    block        as many replays as fill `block_s`; the gap before the first is then negligible
    measure      events around blocks, one figure per block

On a processor torch.utils.benchmark.Timer does the same job: it warms up, fills blocks and
repeats until the figures agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

Run = Callable[[], object]

_N_WARM = 3


class Clock(Protocol):
    """Times runs; every list has one figure per repeat, in seconds per run."""

    def host_s(self, run: Run) -> list[float]:
        """Returns the time that passes for the host until the device has finished."""

    def device_s(self, run: Run) -> list[float]:
        """Returns the time that the device works, without the host's share."""


@dataclass(frozen=True)
class HostClock:
    """The clock of a processor, which is host and device in one."""

    max_s: float  # spent on one work at most
    now_s: Callable[[], float] | None = None  # instead of the wall clock

    def host_s(self, run: Run) -> list[float]:
        """Returns seconds per run until they agree within 10 %, at most `max_s` long."""
        import torch
        from torch.utils.benchmark import Timer

        own = {} if self.now_s is None else {"timer": self.now_s}
        # The timer would set torch to one thread.
        timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads(), **own)
        found = timer.adaptive_autorange(0.1, min_run_time=self.max_s / 10, max_run_time=self.max_s)
        return list(found.times)

    def device_s(self, run: Run) -> list[float]:
        """Returns the same: nothing runs beside the host."""
        return self.host_s(run)


@dataclass(frozen=True)
class CudaClock:
    """CUDA events around replays of a graph."""

    cuda: ModuleType  # torch.cuda
    host: HostClock
    n_repeats: int
    block_s: float

    def host_s(self, run: Run) -> list[float]:
        """Returns seconds per run on the host's clock; the timer waits for the device."""
        return self.host.host_s(run)

    def device_s(self, run: Run) -> list[float]:
        """Returns seconds per run between events of the device."""
        graph = self._captured(run)
        self._replays_s(graph, 1)  # the first replay also loads the graph
        n_replays = max(1, math.ceil(self.block_s / max(self._replays_s(graph, 1), 1e-7)))
        self._replays_s(graph, n_replays)  # the chip reaches the clock rate of steady work
        times = [self._replays_s(graph, n_replays) / n_replays for _ in range(self.n_repeats)]
        graph.reset()  # its buffers are free for the next work
        return times

    def _captured(self, run: Run) -> torch.cuda.CUDAGraph:
        side = self.cuda.Stream()
        side.wait_stream(self.cuda.current_stream())
        with self.cuda.stream(side):
            for _ in range(_N_WARM):
                run()
        self.cuda.current_stream().wait_stream(side)
        graph = self.cuda.CUDAGraph()
        with self.cuda.graph(graph):
            run()
        return graph

    def _replays_s(self, graph: torch.cuda.CUDAGraph, n_replays: int) -> float:
        start, end = (self.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(n_replays):
            graph.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def clock_for(on_gpu: bool, quick: bool) -> Clock:
    """Returns the clock of a device; quick spends about a fifth of the time."""
    import torch

    host = HostClock(max_s=0.2 if quick else 1.0)
    if not on_gpu:
        return host
    return CudaClock(
        torch.cuda, host, n_repeats=5 if quick else 20, block_s=0.02 if quick else 0.04
    )
