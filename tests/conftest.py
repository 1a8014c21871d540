"""What the tests of several rooms share."""

from __future__ import annotations

import pytest
from hand_plan import ROOT, hand_plan

from planner.files.inputs import read_inputs
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan


@pytest.fixture(scope="session")
def demo_inputs() -> Inputs:
    """Returns the inputs of plans/demo; frozen, so that tests may share them."""
    return read_inputs(ROOT / "plans" / "demo", ROOT / "profiles")


@pytest.fixture(scope="session")
def demo_plan(demo_inputs: Inputs) -> Plan:
    """Returns a valid plan of plans/demo, made by hand."""
    return hand_plan(demo_inputs)
