"""The fleets of fleets.py as fixtures."""

from __future__ import annotations

import made_fleets as made
import pytest

from planner.export.fleet import Fleet


@pytest.fixture(scope="session")
def demo_fleet() -> Fleet:
    return made.demo_fleet()


@pytest.fixture(scope="session")
def hosted_fleet() -> Fleet:
    return made.hosted_fleet()


@pytest.fixture(scope="session")
def cascade_fleet() -> Fleet:
    return made.cascade_fleet()


@pytest.fixture(params=sorted(made.FLEETS))
def any_fleet(request: pytest.FixtureRequest) -> Fleet:
    """Every fleet without a cascade, one after the other."""
    return made.FLEETS[request.param]()
