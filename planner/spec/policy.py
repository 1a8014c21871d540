"""The policy (policy.yaml): what a team allows its plans to be, whatever a question asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from planner.spec.base import Name, NonNegative, Ratio, Spec, Text

RuleSetting = Literal["error", "warning", "off"]


class Policy(Spec):
    """What a team allows its plans to be; every key but version is optional.

    A plan with periods is held to it in each of them; money is the mean over all hours.
    """

    version: Literal[1]

    max_cost_usd_per_h: NonNegative | None = None
    """Most money per hour, hosted requests included."""
    max_cost_increase_ratio: NonNegative | None = None
    """Most that the money per hour may rise above that of the plan before: 0.1 is 10 %."""
    max_cost_increase_usd_per_h: NonNegative | None = None
    """The same in $ per hour."""

    min_quality: Ratio | None = None
    """Least mean score of all traffic."""
    min_class_quality: dict[Name, Ratio] = Field(default_factory=dict)
    """Least mean score of single classes."""
    max_quality_drop: Ratio | None = None
    """Most that the mean score of all traffic, and of any class, may fall below that of the plan
    before."""

    max_traffic_drop_ratio: Ratio | None = None
    """Most that the planned requests/s, of all traffic and of any class, may fall below those of
    the plan before: less traffic is the cheapest way to keep every other rule."""

    max_latency_increase_ratio: NonNegative | None = None
    """Most that a predicted latency with a limit on it may rise above that of the plan before."""
    max_limit_used_ratio: NonNegative | None = None
    """Most of a latency limit that its prediction may use: 0.9 leaves a tenth."""
    max_limit_used_with_band_ratio: NonNegative | None = None
    """The same at the upper end of the prediction's error band."""
    keep_limits: bool = False
    """A latency limit of the plan before may be neither left out nor loosened."""

    min_headroom_ratio: Ratio | None = None
    """Least part of the capacity of each pool that stays free."""
    max_extrapolated_traffic_ratio: Ratio | None = None
    """Most of the requests that may go to pools outside their measured loads."""

    forbidden_gpus: tuple[Name, ...] = ()
    """Kinds of GPU that no plan may use."""
    required_gpus: tuple[Name, ...] = ()
    """Kinds of GPU that every plan must use."""
    max_gpus: dict[Name, NonNegative] = Field(default_factory=dict)
    """Most GPUs of a kind, reserved ones included."""

    max_gpus_moved: NonNegative | None = None
    """Most GPUs whose pool changes: those of all replicas started and stopped."""
    max_traffic_moved_ratio: Ratio | None = None
    """Most of the requests that may go to another pool than before."""
    require_safe_transition: bool = False
    """The change must keep capacity, limits and floors in each of its steps."""
    max_peak_gpus: dict[Name, NonNegative] = Field(default_factory=dict)
    """Most GPUs of a kind while the plan before is changed into this one."""

    max_gap_ratio: NonNegative | None = None
    """Most that the plan may be from the best possible, by proof; without a proof it is broken."""
    require_simulated: bool = False
    """The plan, and each of its limits, must have been tried in simulation."""
    require_complete: bool = False
    """The search must not have been interrupted."""
    required_scenarios: tuple[Text, ...] = ()
    """What the plan must survive, in the words of `survives` in plan.json."""
    measured_only: bool = False
    """No figure of a deployed pool may be estimated or assumed."""
    max_price_age_days: NonNegative | None = None
    """Most days since the price of a GPU that the plan uses was looked up (as_of in gpus.yaml)."""

    severity: dict[Text, RuleSetting] = Field(default_factory=dict)
    """Of any rule (rb check --list), plan's or policy's: error, warning, or off. What is off is
    counted and told all the same."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Policy:
        if not self.asked and not self.severity:
            raise ValueError("asks for nothing: give at least one key beside version")
        both = sorted(set(self.forbidden_gpus) & set(self.required_gpus))
        if both:
            raise ValueError(f"a GPU cannot be both forbidden and required: {', '.join(both)}")
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """Returns the keys that ask for something, in the order of the table of keys."""
        return tuple(
            name
            for name in type(self).model_fields
            if name not in ("version", "severity") and not self._is_silent(name)
        )

    def _is_silent(self, name: str) -> bool:
        value = getattr(self, name)  # a 0 asks for something, and is like False to Python
        return value is None or value is False or value in ((), {})
