"""Here every table is worked out anew: the tables are what is tested."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def kept_tables() -> None:
    """Nothing is kept."""
