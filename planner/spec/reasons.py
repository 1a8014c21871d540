"""Why a plan is as it is, as data: what more would buy, who came second, how long it stays best."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from planner.spec.base import Name, NonNegative, PositiveCount, Ratio, Spec, Text

GainUnit = Literal["usd_per_h", "quality", "rate_factor"]
RangeUnit = Literal["usd_per_gpu_h", "price_factor", "rate_factor"]


class Worth(Spec):
    """What a little more of something scarce would buy."""

    what: Text  # a limit, a kind of GPU, the budget, the quality floor
    change: Text  # e.g. '11.00 s instead of 10.00 s'
    gain: NonNegative  # of the best plan found with it: money saved, or quality or traffic gained
    at_most: NonNegative | None  # no plan gains more, by these tables; None: nothing is proved
    unit: GainUnit
    cost_usd_per_h: NonNegative  # of the best plan found with it


class Rival(Spec):
    """Another deployment, and why it is not the plan."""

    deployment: dict[Name, PositiveCount]
    cost_usd_per_h: NonNegative
    quality: Ratio
    latency_ratio: NonNegative | None
    rate_factor: NonNegative | None = None
    lost: Text  # dearer by, slower by, misses what


class Stays(Spec):
    """The range of one figure in which the deployment stays the best, all else as it is.

    Where an end is null, none was found as far as was looked. Between the proved ends the plan is
    the best there is by these tables; between the others only the best of what was looked at.
    """

    what: Text  # the price of a kind of GPU, or the traffic
    unit: RangeUnit
    now: NonNegative
    low: NonNegative | None
    high: NonNegative | None
    below: dict[Name, PositiveCount] = Field(default_factory=dict)  # what is better there
    above: dict[Name, PositiveCount] = Field(default_factory=dict)
    proved_low: NonNegative | None = None
    proved_high: NonNegative | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Stays:
        if not (self.low or 0.0) <= self.now <= (self.now if self.high is None else self.high):
            raise ValueError("low <= now <= high")
        return self


class Reasons(Spec):
    """What a plan's sentences say of other questions and other deployments."""

    worth: tuple[Worth, ...] = ()
    rival: Rival | None = None  # the best of the other deployments that keep every promise
    refused: Rival | None = None  # what would have been better, but misses a promise
    stays: tuple[Stays, ...] = ()

    def __bool__(self) -> bool:
        """Returns whether there is anything to say."""
        return bool(self.worth or self.rival or self.refused or self.stays)
