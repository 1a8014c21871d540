"""`rb export --to vllm`: every pool started with vLLM, on machines of one's own."""

from __future__ import annotations

from planner.export.fleet import File, Fleet
from planner.export.scripts import script_files


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns a start script per pool and per machine, and the folder of `rb serve`."""
    return script_files(fleet, "vllm")
