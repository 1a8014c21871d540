"""How one plan becomes another: steps in order, and what holds while each is done.

A step starts replicas, shifts traffic, or stops replicas. Replicas that start take GPUs and no
traffic yet; those that stop have none any more, but answer what they have begun: both hold their
GPUs while the step lasts, so a stop frees them for the step after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

StepKind = Literal["start", "shift", "stop"]
JudgedBy = Literal["tables", "figures", "nothing"]


@dataclass(frozen=True)
class PeakGpus:
    """GPUs of one kind that the change takes at most, beside what both plans take."""

    gpu: str
    old: float
    new: float
    peak: float
    stock: float | None  # None: not known

    @property
    def extra(self) -> float:
        """Returns how many more are needed for a while than either plan needs."""
        return self.peak - max(self.old, self.new)


@dataclass(frozen=True)
class Rent:
    """What the GPUs cost in $/h: of both plans as they say, and at most on the way, at new prices.

    Nothing of what hosted requests cost: of those there are as many.
    """

    old_usd_per_h: float
    new_usd_per_h: float
    peak_usd_per_h: float

    @property
    def extra_usd_per_h(self) -> float:
        """Returns how much more is paid for a while than for either plan, in $/h."""
        return self.peak_usd_per_h - max(self.old_usd_per_h, self.new_usd_per_h)


@dataclass(frozen=True)
class PoolStep:
    """One pool whose replicas start or stop in a step."""

    pool: str
    gpu: str | None  # None: hosted
    n_before: int
    n_after: int
    n_gpus: float  # of the replicas that start or stop


@dataclass(frozen=True)
class Step:
    """One step of a change: when it is done, the next one may begin."""

    kind: StepKind
    pools: tuple[PoolStep, ...]  # empty where traffic shifts
    shifted_ratio: float  # of the way from the old to the new routes, after the step
    gpus: Mapping[str, float]  # by kind, in use meanwhile: starting and draining ones count
    holds: bool | None  # capacity, headroom, limits and floors after the step; None: not judged
    utilisation_ratio: float | None  # of the fullest pool, after the step
    latency_ratio: float | None  # largest predicted over allowed, after the step; None: no limits
    problems: tuple[str, ...]  # what does not hold, in plain words


@dataclass(frozen=True)
class Transition:
    """The way from one plan to another."""

    steps: tuple[Step, ...]
    peak_gpus: tuple[PeakGpus, ...]  # of every kind that either plan uses, by name
    judged_by: JudgedBy
    is_safe: bool | None  # every shift and stop holds, on GPUs that exist; None: not judged
    needs: tuple[str, ...]  # what a safe way would take, in plain words; empty where it is safe
    notes: tuple[str, ...] = ()  # what the judgement rests on, in plain words
    rent: Rent | None = None  # None: a price is not known

    @property
    def begins_broken(self) -> bool:
        """Returns whether all is well at the end of a safe way, but not from its beginning on."""
        return self.is_safe is True and any(step.holds is False for step in self.steps)
