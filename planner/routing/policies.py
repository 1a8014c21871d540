"""Policies: every prompt to one option. The columns that prices.py mixes, and a pool of them.

Notation: see prices.py; arrays by option and prompt are (M, N), so that an option's row is one
piece of memory: a deployment uses few of the options, and pricing reads only these.

A policy depends on the prompts alone, not on the deployment, so all deployments share one pool of
them. It forgets those that no mixture has used for longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from planner.routing.master import Prices
from planner.spec.arrays import BoolArray, FloatArray, IntArray

PromptObjective = Literal["quality", "cost", "work"]
Choice = npt.NDArray[np.uint16]

POOL_SIZE = 600


@dataclass(frozen=True)
class Policy:
    """A choice of an option for every prompt, and what comes of it, in scaled units."""

    choice: Choice  # (N,)
    gain: float
    quality: float
    load: FloatArray  # (M,)

    def worth(self, prices: Prices, of_gain: float) -> float:
        """Returns what the policy is worth at prices, without what carries it."""
        own = of_gain * self.gain + prices.floor * self.quality
        return own - float(prices.load @ self.load)


@dataclass(frozen=True)
class Prompts:
    """All that is known of the prompts, in units that a solver likes; made by prompts_of."""

    weight: FloatArray  # (N,) sums to 1
    gain: FloatArray  # (M, N) what is maximised, in units of gain_unit; -inf where not allowed
    quality: FloatArray  # (M, N) 0 where not allowed
    work: FloatArray  # (M, N) in units of `unit`; 0 where not allowed
    barred: FloatArray  # (M, N) -inf where not allowed, else 0
    unit: FloatArray  # (M,) load of an option if every prompt went there
    gain_unit: float

    @property
    def n(self) -> int:
        """Returns the number of prompts."""
        return self.weight.size

    @property
    def n_options(self) -> int:
        """Returns the number of options."""
        return self.unit.size

    def allowed(self, options: IntArray) -> bool:
        """Returns whether every prompt may go to some of the options."""
        return bool((self.barred[options] == 0.0).any(axis=0).all())

    def policy(self, options: IntArray, prices: Prices, of_gain: float) -> tuple[Policy, float]:
        """Returns the policy that is best at the prices, and what it is worth there.

        Args:
            options: those that the deployment has.
            prices: of loads and of the quality floor.
            of_gain: 1, or 0 in phase 1, where only the prices count.
        """
        base = self.gain if of_gain else self.barred
        best, choice = np.full(self.n, -np.inf), np.zeros(self.n, dtype=np.uint16)
        net, better = np.empty(self.n), np.empty(self.n, dtype=np.bool_)
        for m in options.tolist():
            np.multiply(self.work[m], -prices.load[m], out=net)
            net += base[m]
            if prices.floor:
                net += prices.floor * self.quality[m]
            np.greater(net, best, out=better)
            np.copyto(best, net, where=better)
            np.copyto(choice, m, where=better)
        return self.outcome(choice), float(self.weight @ best)

    def outcome(self, choice: Choice) -> Policy:
        """Returns what comes of a choice (N,)."""
        each = choice * np.int64(self.n) + np.arange(self.n)
        load = np.bincount(choice, self.weight * self.work.ravel()[each], self.n_options)
        gain = float(self.weight @ self.gain.ravel()[each])
        quality = float(self.weight @ self.quality.ravel()[each])
        return Policy(choice, gain, quality, np.asarray(load, dtype=np.float64))


def prompts_of(
    weight: FloatArray,
    quality: FloatArray,
    work: FloatArray,
    allowed: BoolArray | None = None,
    usd: FloatArray | None = None,
    objective: PromptObjective = "quality",
) -> Prompts:
    """Returns the prompts as the engine wants them.

    Args:
        weight: of each prompt in the traffic, (N,), positive.
        quality: expected quality of each option on each prompt, (N, M).
        work: load that an option would have if all traffic were like the prompt, (N, M).
        allowed: which options may answer which prompts, (N, M).
        usd: price of each prompt at each option, (N, M); for the objective cost.
        objective: most quality, least money per prompt, or least load over all options.

    Raises:
        ValueError: shapes differ, there is no prompt, or one that no option may answer.
    """
    n, m = quality.shape
    if weight.shape != (n,) or work.shape != (n, m) or n == 0:
        raise ValueError(f"shapes differ: {weight.shape}, {quality.shape}, {work.shape}")
    may = np.isfinite(quality) & np.isfinite(work)
    may &= True if allowed is None else allowed
    if not may.any(axis=1).all():
        raise ValueError("a prompt has no model that may answer it")
    weight = weight / weight.sum()
    needed = np.where(may, work, 0.0)
    gain = np.where(may, _gain(quality, needed, usd, objective), 0.0)
    gain_unit = 1.0
    if objective != "quality":
        gain_unit = float(weight @ np.abs(gain).max(axis=1)) or 1.0
    load = weight @ needed
    unit = np.where(load > 0, load, 1.0)
    barred = np.where(may, 0.0, -np.inf)
    return Prompts(
        weight=weight,
        gain=_by_option(gain / gain_unit + barred),
        quality=_by_option(np.where(may, quality, 0.0)),
        work=_by_option(needed / unit),
        barred=_by_option(barred),
        unit=unit,
        gain_unit=gain_unit,
    )


def _by_option(values: FloatArray) -> FloatArray:
    """Returns values by prompt and option as those by option and prompt, row by row in memory."""
    return np.ascontiguousarray(values.T)


def _gain(
    quality: FloatArray, work: FloatArray, usd: FloatArray | None, objective: PromptObjective
) -> FloatArray:
    """Returns what each prompt at each option adds to the objective, (N, M)."""
    if objective == "quality":
        return quality
    if objective == "work":
        return -work
    if usd is None or usd.shape != quality.shape:
        raise ValueError("the objective cost needs the price of every prompt at every option")
    return -usd


class ColumnPool:
    """Policies found so far for some prompts, shared by all deployments that are solved with it."""

    def __init__(self, prompts: Prompts) -> None:
        self.prompts = prompts
        self.prices: Prices | None = None  # of the last solve: the next one begins nearby
        self._policies: list[Policy] = []
        self._figures = np.zeros((POOL_SIZE, 2 + prompts.n_options))  # gain, quality, loads
        self._reaches = np.zeros((POOL_SIZE, prompts.n_options), dtype=np.bool_)
        self._used = np.zeros(POOL_SIZE, dtype=np.int64)
        self._clock = 0

    def __getitem__(self, number: int) -> Policy:
        """Returns the policy of a number; it may be another one after the next `add`."""
        return self._policies[number]

    def add(self, policy: Policy) -> int:
        """Returns the number of a policy that is new in the pool; the eldest may have left."""
        if len(self._policies) < POOL_SIZE:
            number = len(self._policies)
            self._policies.append(policy)
        else:
            number = int(np.argmin(self._used))
            self._policies[number] = policy
        self._figures[number] = np.concatenate([[policy.gain, policy.quality], policy.load])
        self._reaches[number] = np.bincount(policy.choice, minlength=self.prompts.n_options) > 0
        self.note_use([number])
        return number

    def note_use(self, numbers: Sequence[int]) -> None:
        """Notes that policies were of use now: they leave the pool last."""
        self._clock += 1
        self._used[list(numbers)] = self._clock

    def worth(self, prices: Prices, of_gain: float, options: IntArray) -> FloatArray:
        """Returns what every policy is worth at prices, (J,); -inf beyond the options."""
        n = len(self._policies)
        elsewhere = np.ones(self.prompts.n_options, dtype=np.bool_)
        elsewhere[options] = False
        at = np.concatenate([[of_gain, prices.floor], -prices.load])
        beyond = self._reaches[:n, elsewhere].any(axis=1)
        return np.asarray(np.where(beyond, -np.inf, self._figures[:n] @ at))
