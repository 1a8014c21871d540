"""What the tests of several rooms share."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hand_plan import ROOT, hand_plan
from hypothesis import settings
from kept_tables import keeping

from planner.files.inputs import read_inputs
from planner.latency.model import LatencyModel
from planner.sheet import make_sheet
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.sheet import ServingSheet

# Times on a busy machine are no property of the code, and the same draws come every time.
settings.register_profile("rb", deadline=None, derandomize=True)
settings.load_profile("rb")


@pytest.fixture(scope="session")
def demo_inputs() -> Inputs:
    """Returns the inputs of plans/demo; frozen, so that tests may share them."""
    return read_inputs(ROOT / "plans" / "demo", ROOT / "profiles")


@pytest.fixture(scope="module", autouse=True)
def kept_tables() -> Iterator[None]:
    """Works out each latency table once; see there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatencyModel, "tabulate", keeping(LatencyModel.tabulate))
        yield


@pytest.fixture(scope="module")
def short_levels() -> Iterator[None]:
    """Makes the levels of a profile run end after a few answers, whatever their noise.

    So a run is short on an idle machine, and its time budget can be long enough for a busy one.
    """
    from planner.profile.load import driver, runner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "PROGRESS_S", 0.1)
        patch.setattr(runner, "LOOK_S", 0.1)
        patch.setattr(runner, "SILENT_S", 0.5)
        patch.setattr(runner, "NOISE_RATIO", math.inf)
        patch.setattr(runner, "WANTED_ALONE", 20)
        patch.setattr(runner, "WANTED_ANSWERS", 40)
        yield


@pytest.fixture(scope="session")
def demo_plan(demo_inputs: Inputs) -> Plan:
    """Returns a valid plan of plans/demo, made by hand."""
    return hand_plan(demo_inputs)


@pytest.fixture(scope="session")
def demo_sheet(demo_inputs: Inputs, demo_plan: Plan) -> ServingSheet:
    """Returns the serving sheet of that plan."""
    return make_sheet(demo_inputs, demo_plan)
