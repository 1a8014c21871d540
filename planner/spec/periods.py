"""Periods of a question: hours with rates of their own, each with its own deployment."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from planner.spec.base import Count, Name, NonNegative, Positive, Spec, Text

MOST_HOURS = 24 * 366  # a year
Hour = Annotated[float, Field(ge=0, le=MOST_HOURS, strict=True)]


class Span(Spec):
    """Hours of the day, or of a longer round, in which the rates are the same."""

    name: Name
    hours: tuple[Hour, Hour]  # from, to (not included), counted from the round's first hour
    rate_factor: Positive | None = None  # times the classes' rates
    class_rates: dict[Name, Positive] = Field(default_factory=dict)  # req/s instead of the classes'

    @model_validator(mode="after")
    def _some_hours_one_rate(self) -> Span:
        if self.hours[1] <= self.hours[0]:
            raise ValueError("hours: the end must be later than the start")
        if (self.rate_factor is None) == (not self.class_rates):
            raise ValueError("give exactly one of rate_factor and class_rates")
        return self

    @property
    def n_hours(self) -> float:
        """Returns how long it is, in hours."""
        return self.hours[1] - self.hours[0]


class Periods(Spec):
    """Several periods with a deployment each: a day's, or a week's, plan of capacity."""

    spans: tuple[Span, ...] = ()
    file: Text | None = None  # instead of spans: hour,rate_rps and, where wanted, class
    usd_per_replica_change: NonNegative = 0.0  # of starting one, and of stopping one
    repeats: bool = True  # whether the first period follows the last one

    @model_validator(mode="after")
    def _one_way_and_no_gaps(self) -> Periods:
        if bool(self.spans) == (self.file is not None):
            raise ValueError("give exactly one of spans and file")
        if self.spans and self.spans[0].hours[0] != 0:
            raise ValueError("the first span must start at hour 0")
        for before, after in pairwise(self.spans):
            if after.hours[0] != before.hours[1]:
                raise ValueError(f"{after.name} must start where {before.name} ends")
        names = [span.name for span in self.spans]
        if len(set(names)) < len(names):
            raise ValueError("names of spans must differ")
        return self


class HourRate(Spec):
    """The arrival rate in one hour (a row of a rates file), of all classes or of one."""

    hour: Count
    rate_rps: Positive
    class_name: Name | None = Field(default=None, alias="class")
    source: str = ""
