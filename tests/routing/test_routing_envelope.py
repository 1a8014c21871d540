"""Convex envelopes of flow curves: above or below everywhere, exact where nothing is bent."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.routing.envelope import lower_hull, majorant_gap, upper_majorant

figures = st.lists(st.floats(0.0, 10.0), min_size=4, max_size=9)


def nodes_of(n: int) -> np.ndarray:
    return np.linspace(0.0, 0.9, n) ** 1.2


@settings(derandomize=True, max_examples=200)
@given(figures)
def test_majorant_is_convex_and_above_the_flow(steps: list[float]) -> None:
    figure = np.cumsum(steps)
    nodes = nodes_of(figure.size)
    slopes = upper_majorant(nodes, nodes * figure)
    heights = np.concatenate([[0.0], np.cumsum(slopes * np.diff(nodes))])
    fine = np.linspace(0.0, nodes[-1], 200)
    assert (np.diff(slopes) >= -1e-9).all()
    flow = fine * np.interp(fine, nodes, figure)
    assert (np.interp(fine, nodes, heights) >= flow - 1e-9).all()


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.floats(0.0, 10.0), min_size=4, max_size=9))
def test_hull_is_convex_and_below_the_flow(values: list[float]) -> None:
    figure = np.array(values)
    nodes = nodes_of(figure.size)
    x, y = lower_hull(nodes, figure)
    fine = np.linspace(0.0, nodes[-1], 400)
    assert (np.interp(fine, x, y) <= fine * np.interp(fine, nodes, figure) + 1e-9).all()
    assert (np.diff(np.diff(y) / np.diff(x)) >= -1e-6).all()


def test_majorant_of_a_convex_flow_is_its_chords() -> None:
    nodes = np.linspace(0.0, 0.9, 10)
    flow = nodes / (1.0 - nodes)
    slopes = upper_majorant(nodes, flow)
    assert majorant_gap(nodes, flow, slopes) < 1e-12
    np.testing.assert_allclose(slopes, np.diff(flow) / np.diff(nodes))


def test_gap_of_a_bent_flow_is_reported() -> None:
    nodes = np.array([0.0, 0.5, 1.0])
    slopes = upper_majorant(nodes, np.array([0.0, 1.0, 1.5]))
    assert slopes.tolist() == [2.0, 2.0]
    assert majorant_gap(nodes, np.array([0.0, 1.0, 1.5]), slopes) == (2.0 - 1.5) / 1.5
