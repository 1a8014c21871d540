"""A waiting queue by priority that can stand in for a deque of requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush


class PriorityQueue:
    """Waiting requests: the largest priority first, of these the earliest submitted.

    A request keeps its place in that order from append() until forget(), so that one which is put
    back after it was taken out stands where it stood.
    """

    def __init__(self, priority: Sequence[int]) -> None:
        self._priority = priority
        self.clear()

    def clear(self) -> None:
        """Forgets all requests and starts to count them anew."""
        self._heap: list[tuple[int, int, int]] = []
        self._submission: dict[int, int] = {}
        self._n_submitted = 0

    def append(self, i: int) -> None:
        """Adds a request that was submitted after all others."""
        self._submission[i] = self._n_submitted
        self._n_submitted += 1
        self.appendleft(i)

    def extend(self, requests: Iterable[int]) -> None:
        """Adds requests in their order of submission."""
        for i in requests:
            self.append(i)

    def appendleft(self, i: int) -> None:
        """Puts a request back to its old place."""
        heappush(self._heap, (*self.place(i), i))

    def popleft(self) -> int:
        """Takes the head out and returns it."""
        return heappop(self._heap)[-1]

    def forget(self, requests: Iterable[int]) -> None:
        """Drops the places of requests that will not come back."""
        for i in requests:
            del self._submission[i]

    def place(self, i: int) -> tuple[int, int]:
        """Returns what the order goes by: the smallest is served first."""
        return -self._priority[i], self._submission[i]

    def submission(self, i: int) -> int:
        """Returns how many requests had been submitted before this one."""
        return self._submission[i]

    def __getitem__(self, position: int) -> int:
        """Returns the head, which is the only position that has a meaning here."""
        return self._heap[position][-1]

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[int]:
        return (entry[-1] for entry in self._heap)
