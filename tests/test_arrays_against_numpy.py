"""Values, each once, as numpy has them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planner.spec.arrays import distinct

VALUES = st.sampled_from([0.0, -1.5, 1.0, np.nextafter(1.0, 2.0), 2.0, 1e300, np.inf])


@given(st.lists(VALUES, max_size=12))
def test_each_value_once_in_ascending_order(values: list[float]) -> None:
    given_ = np.array(values, dtype=np.float64)
    assert np.array_equal(distinct(given_), np.unique(given_))
