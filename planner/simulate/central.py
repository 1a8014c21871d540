"""One queue in front of all ranks of a group: a batch policy deals it out at every boundary.

What is dealt is places. Where a rank has a place but not the KV blocks, the request waits on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from planner.scheduling.batch import BatchPolicy, DecodeWorkers, Running, n_overdue

FREE = -1  # key and age in a place where nobody decodes


class WaitingPool:
    """The requests that have come to a group and have no rank yet, oldest first."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._requests: list[int] = []
        self._tokens: list[int] = []
        self._placed_at: list[int] = []  # how many had been placed when each came
        self._n_placed = 0

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def kv_tokens(self) -> int:
        """Returns the prompt tokens of all that wait here."""
        return sum(self._tokens)

    def append(self, i: int, prompt_tokens: int) -> None:
        """Takes request i."""
        self._requests.append(i)
        self._tokens.append(prompt_tokens)
        self._placed_at.append(self._n_placed)

    def clear(self) -> None:
        """Forgets everybody."""
        for column in (self._requests, self._tokens, self._placed_at):
            column.clear()

    def deal(self, workers: DecodeWorkers) -> list[tuple[int, int]]:
        """Returns (request, rank) of all that the policy places now; they leave the pool."""
        overdue = n_overdue(self._placed_at, self._n_placed)
        placed = self._policy(self._tokens, workers, overdue)
        dealt = [(self._requests[w], g) for w, g in placed]
        for w in sorted((w for w, _ in placed), reverse=True):
            del self._requests[w], self._tokens[w], self._placed_at[w]
        self._n_placed += len(dealt)
        return dealt


class Places:
    """Who decodes in which place of which rank, for policies that look ahead, (G, places)."""

    def __init__(self, n_ranks: int, n_places: int) -> None:
        self._keys = np.full((n_ranks, n_places), FREE, dtype=np.int64)
        self._ages = np.full((n_ranks, n_places), FREE, dtype=np.int64)
        self._tokens = np.zeros((n_ranks, n_places), dtype=np.int64)

    def set(self, g: int, decoding: Iterable[tuple[int, int, int]]) -> None:
        """Says who decodes on rank g: (request, its tokens, how many of them it generated)."""
        rows = np.array(list(decoding), dtype=np.int64).reshape(-1, 3)
        n = len(rows)
        self._keys[g, :n], self._tokens[g, :n], self._ages[g, :n] = rows.T
        self._keys[g, n:], self._tokens[g, n:], self._ages[g, n:] = FREE, 0, FREE

    def running(self, n_steps_since: Sequence[int]) -> Running:
        """Returns who decodes now, so many steps after each rank was set, (G,)."""
        since = np.where(self._keys == FREE, 0, np.array(n_steps_since)[:, None])
        return Running(self._tokens + since, self._ages + since, self._keys)
