"""A plan with what it was made of, as far as that can be read, from wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.inputs import read_inputs
from planner.files.plans import read_plan
from planner.files.question import QUESTION_FILE
from planner.files.revisions import plan_place
from planner.files.text import is_folder, is_there, shown
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan


@dataclass(frozen=True)
class Planned:
    """A plan and its inputs."""

    plan: Plan
    inputs: Inputs | None  # None: they are not there, or cannot be read
    unread: Fault | None = None  # why inputs that are there could not be read


def read_planned(text: str, profiles: Path | None, faults: list[Fault]) -> Planned | None:
    """Returns a plan with its inputs; None after adding the faults of the plan.

    Args:
        text: a plan folder, a plan.json, or either of a git revision (`main:plans/prod`).
        profiles: folder of the profiles; by default the one near the plan, of its revision.
        faults: grows by what is wrong with the plan. Faults of its inputs are no faults here.
    """
    plan = None
    try:
        with plan_place(text) as place:
            _refuse_profiles(profiles)
            own: list[Fault] = []
            plan = read_plan(place, own)
            if plan is None:
                raise InputError(own)
            folder = place.parent if place.suffix == ".json" else place
            has_question = is_there(folder / QUESTION_FILE)
            return Planned(plan, read_inputs(folder, profiles) if has_question else None)
    except InputError as error:
        if plan is not None:
            return Planned(plan, None, error.faults[0])
        faults += error.faults
        return None


def _refuse_profiles(profiles: Path | None) -> None:
    """Raises InputError where the user names a folder that is none."""
    if profiles is not None and not is_folder(profiles):
        raise InputError.single(shown(profiles), "", "folder not found", "correct --profiles")
