"""Arrival policies: which worker takes a request that has just come, by name.

Workers are the replicas of a pool or the ranks of a data-parallel group. A worker that is not up is
never chosen. No policy knows how long an answer will be.

    random          any worker, each with the same chance
    round_robin     the next one in turn
    fewest_requests the least n_running + n_waiting ("join the shortest queue")
    least_kv        the least kv_tokens
    power_of_two    two different ones at random, of these the one with fewer requests
    vllm            the least 4 n_waiting + n_running

Ties. fewest_requests and least_kv start their search behind the worker chosen last: an idle cluster
is one long tie, and the lowest index would send nearly everything to worker 0 at light load.
power_of_two keeps the one drawn first. vllm takes the lowest index, as vLLM's front end does: it
searches from a start that is fixed per front end, 0 for a single one.

References: M. Mitzenmacher, A. W. Richa, R. Sitaraman, The power of two random choices: a survey of
techniques and results, in Handbook of Randomized Computing, 2001; vLLM's data-parallel front end
before July 2026 (get_core_engine_for_request in vllm/v1/engine/core_client.py). The state here is
exact; vLLM's is up to 100 ms old but for what the front end itself has sent since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import add
from typing import Protocol

from planner.scheduling.draws import Draws

DOWN = 1 << 62  # the score of a worker that is not up: above any real one


@dataclass(slots=True)
class Workers:
    """What a policy may see of the workers, one list entry each; the owner keeps it up to date."""

    n_running: list[int]
    n_waiting: list[int]
    kv_tokens: list[int]  # of all outstanding requests, waiting ones too
    is_up: list[bool]


class Policy(Protocol):
    """A way to choose a worker. It may remember its own choices, and nothing else."""

    reads_state: bool  # whether it looks at anything but `is_up`

    def pick(self, request_tokens: int, workers: Workers) -> int:
        """Returns the worker that takes a request of so many prompt tokens.

        Raises:
            ValueError: no worker is up.
        """


class RoundRobin:
    """Everyone in turn."""

    reads_state = False

    def __init__(self) -> None:
        self._last = -1

    def pick(self, request_tokens: int, workers: Workers) -> int:
        """Returns the next worker that is up, behind the one chosen last."""
        is_up = workers.is_up
        n = len(is_up)
        for g in range(self._last + 1, self._last + 1 + n):
            if is_up[g % n]:
                self._last = g % n
                return self._last
        raise ValueError("no worker is up")


class AtRandom:
    """Any worker."""

    reads_state = False

    def __init__(self, seed: int) -> None:
        self._draws = Draws(seed)

    def pick(self, request_tokens: int, workers: Workers) -> int:
        """Returns a worker, each that is up with the same chance."""
        up = _those_up(workers)
        return up[self._draws.below(len(up))]


class PowerOfTwo:
    """The better of two."""

    reads_state = True

    def __init__(self, seed: int) -> None:
        self._draws = Draws(seed)

    def pick(self, request_tokens: int, workers: Workers) -> int:
        """Returns the one with fewer requests of two random workers, the first drawn in a tie."""
        up = _those_up(workers)
        first = self._draws.below(len(up))
        if len(up) == 1:
            return up[0]
        second = self._draws.below(len(up) - 1)
        a, b = up[first], up[second + (second >= first)]
        running, waiting = workers.n_running, workers.n_waiting
        return b if running[b] + waiting[b] < running[a] + waiting[a] else a


class Least:
    """The worker of least score; what the scores are, the named policies say."""

    reads_state = True

    def __init__(self, scores: Callable[[Workers], list[int]], rotates: bool) -> None:
        self._scores, self._rotates = scores, rotates
        self._start = 0

    def pick(self, request_tokens: int, workers: Workers) -> int:
        """Returns the worker of least score, in a tie the first one from the start of search."""
        scores, is_up = self._scores(workers), workers.is_up
        if False in is_up:
            scores = [s if up else DOWN for s, up in zip(scores, is_up, strict=True)]
        least = min(scores)
        if least == DOWN:
            raise ValueError("no worker is up")
        start = self._start
        g = scores.index(least, start) if least in scores[start:] else scores.index(least)
        if self._rotates:
            self._start = (g + 1) % len(scores)
        return g


def fewest_requests() -> Least:
    """Returns the policy "join the shortest queue", by number of requests."""
    return Least(lambda w: list(map(add, w.n_running, w.n_waiting)), rotates=True)


def least_kv() -> Least:
    """Returns the policy that joins the worker of least KV tokens."""
    return Least(lambda w: w.kv_tokens, rotates=True)


def vllm() -> Least:
    """Returns vLLM's own rule with one front end."""
    return Least(
        lambda w: [4 * q + r for q, r in zip(w.n_waiting, w.n_running, strict=True)], rotates=False
    )


def _those_up(workers: Workers) -> list[int] | range:
    """Returns the indices of the workers that are up."""
    is_up = workers.is_up
    if False not in is_up:
        return range(len(is_up))
    up = [g for g, each in enumerate(is_up) if each]
    if not up:
        raise ValueError("no worker is up")
    return up


POLICIES: Mapping[str, Callable[[int], Policy]] = {
    "random": AtRandom,
    "round_robin": lambda seed: RoundRobin(),
    "fewest_requests": lambda seed: fewest_requests(),
    "least_kv": lambda seed: least_kv(),
    "power_of_two": PowerOfTwo,
    "vllm": lambda seed: vllm(),
}


def make_policy(name: str, seed: int) -> Policy:
    """Returns a new policy of that name; the seed is of the random ones.

    Raises:
        KeyError: there is no such policy; `POLICIES` has the names.
    """
    return POLICIES[name](seed)
