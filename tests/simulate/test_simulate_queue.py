"""The queue by priority against a list that is sorted anew each time."""

from hypothesis import given
from hypothesis import strategies as st

from planner.simulate.queue import PriorityQueue

PRIORITY = [0, 2, 1, 2, 0, 1, 1, 2]


@given(st.permutations(range(8)), st.lists(st.sampled_from(["next", "take", "back"]), max_size=40))
def test_it_serves_what_a_sorted_list_serves(order, moves):
    queue, coming, waiting, taken = PriorityQueue(PRIORITY), list(order), [], []
    for move in moves:
        if move == "next" and coming:
            waiting.append(coming.pop(0))
            queue.append(waiting[-1])
        if move == "take" and waiting:
            taken.append(min(waiting, key=lambda i: (-PRIORITY[i], order.index(i))))
            waiting.remove(taken[-1])
            assert queue[0] == taken[-1]
            assert queue.popleft() == taken[-1]
        if move == "back" and taken:
            waiting.append(taken.pop(0))
            queue.appendleft(waiting[-1])
        assert len(queue) == len(waiting) and set(queue) == set(waiting)
    for i in waiting + taken:
        assert queue.submission(i) == order.index(i)


def test_who_ended_leaves_no_trace():
    queue = PriorityQueue(PRIORITY)
    queue.extend([3, 1])
    queue.forget([queue.popleft()])
    assert list(queue) == [1] and queue.place(1) == (-2, 1)
    assert queue._submission == {1: 1}
    queue.clear()
    queue.append(5)
    assert queue.place(5) == (-1, 0)
