"""`rb check DIR`: judges a plan without solving."""

from __future__ import annotations

from planner.cli.options import Json, PlanFolder, ProfilesFolder, Quiet


def check(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judges plan.json against its question and today's profiles, without solving anything.

    Shares, stock, budget, capacity, limits, staleness, extrapolation.
    Exit 1: at least one finding of severity error.

    Example: rb check plans/demo
    """
    from planner.cli.check_run import run_check

    run_check(folder, profiles, as_json=json, quiet=quiet)
