"""The entry of gpus.yaml of the device at hand.

Data sheet figures are not measured: an entry that exists keeps its own. A new entry takes them
from the user or, for the bandwidth, from the memory clock and the width of the bus; failing that
they equal what was measured, and the entry says so.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from planner.errors import InputError
from planner.profile.device.calibrate import calibrate, short
from planner.profile.device.clock import clock_for
from planner.profile.device.collective import all_reduce
from planner.profile.device.machine import Machine
from planner.profile.device.measure import measure
from planner.profile.device.plan import sizes_for
from planner.spec.hardware import GemmRates, Gpu, GpuMeasured

_STEADY_RATIO = 0.1  # an idle device repeats itself better than this


@dataclass(frozen=True)
class Given:
    """What the user says of the device; None where nothing is said."""

    usd_per_h: float | None = None
    fp16_tflops: float | None = None
    memory_gb_per_s: float | None = None


@dataclass(frozen=True)
class Entry:
    """Keys of an entry of gpus.yaml, in order, and notes on where they come from."""

    facts: dict[str, object]
    notes: tuple[str, ...]


def measured_entry(
    name: str,
    known: Gpu | None,
    machine: Machine,
    given: Given,
    quick: bool,
    as_of: datetime.date,
    notify: Callable[[int, int], None],
) -> Entry:
    """Returns what to write of a device after measuring it, which takes seconds to minutes.

    Args:
        name: of the entry.
        known: the entry that exists; what it says and is not measured stays.
        machine: the device.
        given: what the user says of it.
        quick: fewer shapes and repeats.
        as_of: the date of the measurement.
        notify: told after each kernel how many are done, and of how many.

    Raises:
        InputError: the entry that exists is of another device, or a kind of kernel cannot run.
    """
    if known is not None:
        _check_device(known, machine)
    sizes, clock = sizes_for(machine.on_gpu, quick), clock_for(machine.on_gpu, quick)
    found = measure(machine, sizes, clock, notify)
    sums, missing = all_reduce("nccl" if machine.on_gpu else "gloo", machine.n_devices)
    measured = calibrate(found.results, sums, machine, as_of)
    notes = [*found.notes, *([missing] if missing else [])]
    if measured.spread_ratio > _STEADY_RATIO:
        spread = f"repeats of a figure lie up to {measured.spread_ratio:.0%} apart"
        notes.append(f"{spread}: was the machine idle?")
    entry = (
        new_entry(name, measured, machine, given, as_of)
        if known is None
        else changed_entry(name, measured, given, as_of)
    )
    return Entry(entry.facts, (*notes, *entry.notes))


def new_entry(
    name: str, measured: GpuMeasured, machine: Machine, given: Given, as_of: datetime.date
) -> Entry:
    """Returns the whole entry of a GPU that gpus.yaml does not have yet."""
    notes: list[str] = []
    tflops = given.fp16_tflops
    if tflops is None:
        tflops = max(max(rates.reached_tflops) for rates in _sixteen_bit(measured))
        notes.append("fp16_tflops is the measured rate; --fp16-tflops gives the data sheet's")
    gb_per_s = given.memory_gb_per_s
    if gb_per_s is None:
        gb_per_s, note = _memory_bound(measured, machine)
        notes.append(note)
    said = "; ".join(note.split(";")[0] for note in notes)
    if given.usd_per_h is None:
        notes.append("no price: give --usd-per-h, or name one in the question's prices")
    facts: dict[str, object] = {
        "name": name,
        "memory_gib": short(machine.memory_gib),
        "fp16_tflops": short(tflops),
        "memory_gb_per_s": short(gb_per_s),
        "gpus_per_node": machine.n_devices,
        **({} if given.usd_per_h is None else {"usd_per_h": given.usd_per_h}),
        "source": f"Measured by `rb profile gpu` on {machine.name}{f': {said}' if said else ''}.",
        "as_of": as_of,
        "measured": _plain(measured),
    }
    return Entry(facts, tuple(notes))


def changed_entry(name: str, measured: GpuMeasured, given: Given, as_of: datetime.date) -> Entry:
    """Returns the keys to set in an entry that exists: figures measured, and what the user says."""
    said = {key: value for key, value in vars(given).items() if value is not None}
    notes = [f"say in the entry's source where its {key} comes from" for key in said]
    dated = {"as_of": as_of} if given.usd_per_h is not None else {}  # the date of the price
    return Entry({"name": name, **said, **dated, "measured": _plain(measured)}, tuple(notes))


def _check_device(gpu: Gpu, machine: Machine) -> None:
    """Returns nothing where the device may be the one of an entry, by the size of its memory.

    Raises:
        InputError: it cannot be.
    """
    # A device shows a little less than its data sheet says, which may also count in GB.
    if not 0.8 <= machine.memory_gib / gpu.memory_gib <= 1.1:
        raise InputError.single(
            "gpus.yaml",
            f"[{gpu.name}].memory_gib",
            f"is {gpu.memory_gib:g} GiB, but {machine.name} has {machine.memory_gib:.1f} GiB",
            "name the entry of this device with --name",
        )


def _sixteen_bit(measured: GpuMeasured) -> list[GemmRates]:
    """Returns the products that a data sheet's 16-bit rate speaks of, or else the widest."""
    halves = [rates for rates in measured.gemm if rates.precision in ("fp16", "bfloat16")]
    return halves or [rates for rates in measured.gemm if rates.precision != "fp8"]


def _memory_bound(measured: GpuMeasured, machine: Machine) -> tuple[float, str]:
    """Returns the bandwidth (GB/s) that no kernel beats, and where it comes from."""
    reached = max(
        measured.memory_copy_gb_per_s,
        measured.memory_triad_gb_per_s,
        *measured.decode_attention.reached_gb_per_s,
    )
    if machine.bus_gb_per_s is not None and machine.bus_gb_per_s >= reached:
        return machine.bus_gb_per_s, "memory_gb_per_s is memory clock times bus width"
    return reached, "memory_gb_per_s is the measured one; --memory-gb-per-s gives the data sheet's"


def _plain(measured: GpuMeasured) -> dict[str, object]:
    """Returns the figures as a file holds them."""
    return measured.model_dump(exclude_none=True, exclude_defaults=True) | {"origin": "measured"}
