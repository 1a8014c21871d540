"""All-reduce among the devices of this machine: one process each, as an engine has them.

The processes meet at a store of this one, on a free port of the loopback. Every process makes the
same fixed number of sums, else the others would wait for ever; the slowest process counts. Sums
are queued without waiting in between, so for the smallest message the figure is the larger of the
device's latency and the host's time to queue one.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Backend = Literal["nccl", "gloo"]

MESSAGE_BYTES = (16 * 2**10, 64 * 2**20)  # one token's hidden state, and a long prompt's
_HOST = "127.0.0.1"
_KEY = "seconds"
_TIMEOUT = datetime.timedelta(seconds=120)
_N_WARM = 5
_N_CALLS = {"nccl": 200, "gloo": 5}
_N_REPEATS = 5


@dataclass(frozen=True)
class AllReduceTime:
    """How long one sum of a message over some devices takes."""

    n_gpus: int
    n_bytes: int
    time_s: float


def all_reduce(backend: Backend, n_devices: int) -> tuple[tuple[AllReduceTime, ...], str | None]:
    """Returns the times for 2, 4, ... devices, and a note where that could not be done."""
    import torch.distributed as dist
    from torch.multiprocessing.spawn import ProcessException

    if n_devices < 2:
        return (), None
    if not dist.is_available() or (backend == "nccl" and not dist.is_nccl_available()):
        return (), f"all-reduce was not measured: this torch has no {backend}"
    times: list[AllReduceTime] = []
    for n_ranks in _group_sizes(n_devices):
        try:
            times += _run(backend, n_ranks)
        except (ProcessException, RuntimeError) as error:
            why = str(error).strip().rsplit("\n", 1)[-1][:200]
            return tuple(times), f"all-reduce of {n_ranks} devices could not be measured: {why}"
    return tuple(times), None


def _group_sizes(n_devices: int) -> Iterator[int]:
    """Yields the powers of two up to the devices, as tensor parallelism uses them."""
    n_ranks = 2
    while n_ranks <= n_devices:
        yield n_ranks
        n_ranks *= 2


def _run(backend: Backend, n_ranks: int) -> list[AllReduceTime]:
    import torch.distributed as dist
    import torch.multiprocessing as processes

    store = dist.TCPStore(_HOST, 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)
    processes.spawn(_rank, args=(backend, n_ranks, store.port), nprocs=n_ranks, join=True)
    found = json.loads(store.get(_KEY))
    return [AllReduceTime(n_ranks, int(n_bytes), time_s) for n_bytes, time_s in found]


def _rank(rank: int, backend: Backend, n_ranks: int, port: int) -> None:
    """Runs in a process of its own: joins the group, times the sums, and leaves."""
    import torch
    import torch.distributed as dist

    store = dist.TCPStore(_HOST, port, is_master=False, timeout=_TIMEOUT)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=n_ranks,
        timeout=_TIMEOUT,
        device_id=device if device.type == "cuda" else None,
    )
    try:
        times_s = [_slowest_s(n_bytes, device, _N_CALLS[backend]) for n_bytes in MESSAGE_BYTES]
        if rank == 0:
            store.set(_KEY, json.dumps(list(zip(MESSAGE_BYTES, times_s, strict=True))))
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _slowest_s(n_bytes: int, device: object, n_calls: int) -> float:
    """Returns the seconds of one sum in the slowest process, the median of repeats."""
    import torch
    import torch.distributed as dist
    from torch.utils.benchmark import Timer

    message = torch.zeros(n_bytes // 2, dtype=torch.bfloat16, device=device)
    timer = Timer("sum_up(message)", globals={"sum_up": dist.all_reduce, "message": message})
    timer.timeit(_N_WARM)
    times_s = torch.tensor(
        [timer.timeit(n_calls).median for _ in range(_N_REPEATS)],
        dtype=torch.float64,
        device=device,
    )
    dist.all_reduce(times_s, op=dist.ReduceOp.MAX)
    return float(times_s.median())
