"""Words beside a mark: inside the panel, off other marks, and off lines where that can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from planner.report.drawing.axes import Panel
from planner.report.drawing.place import free_label
from planner.report.drawing.text import left_of, right_of

PANEL = Panel(0, 0, 400, 300)


def test_with_room_all_around_it_stands_to_the_right():
    label = free_label("words", 200, 150, 15, [], PANEL)
    assert left_of(label) == 215 and label.y == 154


def test_it_makes_way_for_marks_lines_and_the_edge():
    right = (230.0, 150.0)
    assert right_of(free_label("words", 200, 150, 15, [right], PANEL)) == 185
    line = ((200.0, 150.0), (400.0, 150.0))
    assert right_of(free_label("words", 200, 150, 15, [], PANEL, line)) == 185
    assert right_of(free_label("words", 390, 150, 15, [], PANEL)) <= 400


@given(
    st.floats(60, 340), st.floats(40, 260),
    st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), max_size=3),
)  # fmt: skip
def test_three_marks_never_keep_it_from_a_free_place(x, y, taken):
    """There are seven places around a mark: three others cover only some of them."""
    label = free_label("ab", x, y, 40, [], PANEL)
    assert PANEL.left <= left_of(label) and right_of(label) <= PANEL.right
    chosen = free_label("ab", x, y, 40, taken, PANEL)
    box = (left_of(chosen), chosen.y - 12, right_of(chosen), chosen.y + 3)
    hidden = [p for p in taken if box[0] < p[0] < box[2] and box[1] < p[1] < box[3]]
    assert hidden == []
