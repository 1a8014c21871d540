"""`rb profile gpu`: what this machine's accelerator reaches."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.options import Json, Quiet
from planner.cli.progress import progress_bar

if TYPE_CHECKING:
    from planner.spec.hardware import Gpu


class Device(StrEnum):
    """Which device to measure."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"


def gpu(
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="GPU id in gpus.yaml. Default: from its name."),
    ] = None,
    device: Annotated[
        Device, typer.Option("--device", help="What to measure; auto: a GPU if there is one.")
    ] = Device.AUTO,
    usd_per_h: Annotated[
        float | None, typer.Option("--usd-per-h", min=0.0001, help="Price of one GPU and hour.")
    ] = None,
    fp16_tflops: Annotated[
        float | None, typer.Option("--fp16-tflops", min=0.001, help="From the data sheet, dense.")
    ] = None,
    memory_gb_per_s: Annotated[
        float | None, typer.Option("--memory-gb-per-s", min=0.001, help="From the data sheet.")
    ] = None,
    profiles: Annotated[
        Path, typer.Option("--profiles", metavar="DIR", help="Profiles folder; made if missing.")
    ] = Path("profiles"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer shapes and repeats: seconds, less sure.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure and show; write nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measures this machine's accelerator and notes what it reaches in gpus.yaml.

    Run it on an idle machine. An entry that exists keeps its data sheet figures and its price.

    Example: rb profile gpu --name h200-sxm-141g
    """
    from planner.files.gpu_out import check_name, read_gpus, with_entry, write_gpus
    from planner.files.write import check_writable
    from planner.profile.device.entry import Given, measured_entry
    from planner.profile.device.machine import entry_name, find

    machine = find(device.value, _memory_gib())
    name = check_name(name or entry_name(machine))
    file = read_gpus(profiles)
    if not dry_run:
        check_writable(file.path)  # before minutes of measuring, not after
    with progress_bar(not quiet, "measuring kernels") as moved:
        entry = measured_entry(
            name,
            file.entry(name),
            machine,
            Given(usd_per_h, fp16_tflops, memory_gb_per_s),
            quick,
            datetime.date.today(),
            lambda n_done, n_all: moved(n_done, n_all, ""),
        )
    edit = with_entry(file, entry.facts)
    written = None if dry_run else write_gpus(edit)
    _tell(edit.gpu, written, entry.notes, json=json, quiet=quiet)


def _tell(gpu: Gpu, written: Path | None, notes: Sequence[str], *, json: bool, quiet: bool) -> None:
    from planner.files.write import canonical_json
    from planner.report.console import make_console
    from planner.report.data import as_data
    from planner.report.device import render_device

    if json:
        names = [] if written is None else [written.as_posix()]
        data = {"gpu": gpu, "notes": notes, "written": names}
        typer.echo(canonical_json(as_data(data)), nl=False)
    elif not quiet:
        render_device(gpu, make_console())
    if quiet:
        return
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if written is not None:
        typer.echo(f"wrote {written.as_posix()}: {gpu.name}", err=True)


def _memory_gib() -> float:
    """Returns the memory of this machine, which is a processor's own."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2.0**30
