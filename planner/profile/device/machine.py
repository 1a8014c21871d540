"""The device to measure: what torch knows of it without measuring."""

from __future__ import annotations

import importlib
import platform
import re
import subprocess
import warnings
from dataclasses import dataclass
from typing import Literal

from planner.errors import InputError, MissingExtra

Choice = Literal["auto", "cuda", "cpu"]

_COMMAND = "rb profile gpu"
_GIB = 2.0**30
_CPU_COLD_BYTES = 128.0 * 2**20  # beyond the last cache of most processors
_UNKNOWN_L2_BYTES = 64 * 2**20
_COLD_RATIO = 4.0  # buffers of four times the cache leave nothing of a round for the next


@dataclass(frozen=True)
class Machine:
    """A device, and how much may be done with it."""

    device: Literal["cuda", "cpu"]
    name: str
    memory_gib: float
    n_devices: int
    n_free_bytes: float
    n_cold_bytes: float  # so much traffic in between, and a buffer is in no cache
    n_multiprocessors: int | None
    bus_gb_per_s: float | None  # memory clock times bus width, where torch tells them
    driver: str | None
    torch_version: str

    @property
    def on_gpu(self) -> bool:
        """Returns whether the device is an accelerator."""
        return self.device == "cuda"


def find(choice: Choice, host_memory_gib: float) -> Machine:
    """Returns the device that is meant; `host_memory_gib` counts for a processor.

    Raises:
        MissingExtra: torch is not installed.
        InputError: an accelerator is asked for, and torch sees none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. of a driver that is too old for this torch
            importlib.import_module("torch")
            there = _has_gpu()
    except ImportError as error:
        raise MissingExtra("plan", _COMMAND) from error
    if choice == "cuda" and not there:
        raise InputError.single(
            _COMMAND,
            "--device",
            "torch sees no CUDA device",
            "check the driver and that torch is built for it, or give --device cpu",
        )
    return _processor(host_memory_gib) if choice == "cpu" or not there else _gpu()


def entry_name(machine: Machine) -> str:
    """Returns an id for gpus.yaml, e.g. h200-140g of 'NVIDIA H200' with 140 GiB."""
    words = re.findall(r"[a-z0-9]+", machine.name.lower())
    sizes = [word for word in words if re.fullmatch(r"\d+gb", word)]  # 'NVIDIA A100-SXM4-80GB'
    size = sizes[0].removesuffix("b") if sizes else f"{machine.memory_gib:.0f}g"
    left_out = {"nvidia", "amd", "tesla", *sizes}
    return "-".join([*(word for word in words if word not in left_out), size])[:80]


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _gpu() -> Machine:
    import torch

    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    n_free_bytes, _ = torch.cuda.mem_get_info()
    l2_bytes = getattr(facts, "L2_cache_size", 0) or _UNKNOWN_L2_BYTES
    return Machine(
        device="cuda",
        name=facts.name,
        memory_gib=facts.total_memory / _GIB,
        n_devices=torch.cuda.device_count(),
        n_free_bytes=float(n_free_bytes),
        n_cold_bytes=_COLD_RATIO * l2_bytes,
        n_multiprocessors=facts.multi_processor_count,
        bus_gb_per_s=_bus_gb_per_s(facts) if torch.version.hip is None else None,
        driver=_driver() if torch.version.hip is None else None,
        torch_version=torch.__version__,
    )


def _bus_gb_per_s(facts: object) -> float | None:
    """Returns two transfers per cycle of the memory clock (kHz) over the bus (bits), in GB/s."""
    clock_khz = getattr(facts, "memory_clock_rate", 0)
    width_bits = getattr(facts, "memory_bus_width", 0)
    return 2.0 * clock_khz * 1e3 * width_bits / 8 / 1e9 if clock_khz and width_bits else None


def _driver() -> str | None:
    """Returns the version of NVIDIA's driver; torch does not tell it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.split("\n", 1)[0].strip() or None


def _processor(memory_gib: float) -> Machine:
    import torch

    kind = f"{platform.machine()} processor, {torch.backends.cpu.get_cpu_capability()}"
    n_threads = torch.get_num_threads()
    return Machine(
        device="cpu",
        name=f"{kind}, {n_threads} {'thread' if n_threads == 1 else 'threads'}",
        memory_gib=memory_gib,
        n_devices=1,
        n_free_bytes=memory_gib * _GIB / 2,
        n_cold_bytes=_CPU_COLD_BYTES,
        n_multiprocessors=None,
        bus_gb_per_s=None,
        driver=None,
        torch_version=torch.__version__,
    )
