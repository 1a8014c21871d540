"""What `rb check` reads: a plan with its question, a policy, the plan before; all their faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.files.planned import Planned
    from planner.spec.inputs import Inputs
    from planner.spec.plan import Plan, Routes
    from planner.spec.policy import Policy
    from planner.spec.sheet import ServingSheet


@dataclass(frozen=True)
class Checked:
    """What is judged, as read."""

    inputs: Inputs
    plan: Plan
    routes: Routes | None
    sheet: ServingSheet | None
    policy: Policy | None
    before: Planned | None  # the plan before


def read_checked(
    folder: Path, profiles: Path | None, policy: str | None, against: str | None
) -> Checked:
    """Returns what a check is about.

    Args:
        folder: of the plan.
        profiles: folder of the profiles; by default the one near the plan.
        policy: what the team allows, a file or one of a git revision; None: nothing is asked
            beside the plan's own rules.
        against: the plan before: a folder, a file, or a git revision.

    Raises:
        InputError: every fault of every file.
    """
    from planner.files.inputs import read_inputs
    from planner.files.plans import ROUTES_FILE, read_plan, read_routes
    from planner.files.sheets import SHEET_FILE, read_sheet
    from planner.files.text import is_folder, is_there

    faults: list[Fault] = []
    inputs = None
    try:
        inputs = read_inputs(folder, profiles)
    except InputError as error:
        faults += error.faults
    # One fault says enough about a folder that is not there.
    plan = read_plan(folder, faults) if is_folder(folder) else None
    routes = read_routes(folder, faults) if is_there(folder / ROUTES_FILE) else None
    sheet = read_sheet(folder, faults) if is_there(folder / SHEET_FILE) else None
    asked = None if policy is None else _policy(policy, inputs, faults)
    before = None if against is None else _before(against, profiles, faults)
    if inputs is None or plan is None or faults:
        raise InputError(faults)
    return Checked(inputs, plan, routes, sheet, asked, before)


def _policy(text: str, inputs: Inputs | None, faults: list[Fault]) -> Policy | None:
    """Returns the policy; None after adding its faults."""
    from planner.files.policy import read_policy, strange_names
    from planner.files.revisions import file_place
    from planner.gate.rules import RULES

    own: list[Fault] = []
    try:
        with file_place(text) as path:
            policy = read_policy(path, [rule.id for rule in RULES], own)
            if policy is not None and inputs is not None:
                own += strange_names(policy, path, inputs)
            if own:
                raise InputError(own)
            return policy
    except InputError as error:
        faults += error.faults
        return None


def _before(against: str, profiles: Path | None, faults: list[Fault]) -> Planned | None:
    from planner.files.planned import read_planned

    return read_planned(against, profiles, faults)
