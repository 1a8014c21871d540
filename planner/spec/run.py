"""A profile run: what it was asked to measure, and what each finished level was (run.yaml)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.spec.base import Name, NonNegative, Positive, PositiveCount, Ratio, Spec, Text

Arrivals = Annotated[str, Field(pattern=r"^(poisson|trace|gamma:[0-9.]+)$")]


class RunSettings(Spec):
    """What makes two levels comparable: a run is continued only with the same settings.

    No key, no password: they are named by the environment and never written.
    """

    url: Text
    model: Text  # as the endpoint names it
    gpu: Name
    tensor_parallel: PositiveCount = 1
    api: Literal["chat", "completions"] = "completions"
    input_tokens: Positive  # means, where a workload file says the lengths
    output_tokens: Positive
    workload_sha256: str | None = None
    arrivals: Arrivals = "poisson"
    max_num_seqs: PositiveCount | None = None


class Step(Spec):
    """One load to be measured: closed loop at a concurrency, or open loop at a rate."""

    mode: Literal["closed", "open"]
    load: Positive  # requests in flight, or requests/s
    input_tokens: Positive
    output_tokens: Positive
    repeat: PositiveCount = 1

    @property
    def source(self) -> str:
        """Returns what a point of this step names as its source; it tells like loads apart."""
        shape = f"rb profile run, {self.input_tokens:g} in, {self.output_tokens:g} out"
        return shape if self.repeat == 1 else f"{shape}, repeat {self.repeat}"


class LevelRecord(Spec):
    """One measured load, beside its row in points.csv: what that row has no column for."""

    step: Step
    answered: bool = True  # False: no request was, so there is no row
    n_waiting: NonNegative | None = None  # median over the level, from /metrics
    kv_used_ratio: Ratio | None = None  # largest seen
    n_preempted: NonNegative | None = None  # during the level
    noise_ratio: NonNegative | None = None  # half width of the interval of the throughput


class WorkloadRow(Spec):
    """One recorded request of a workload file: its lengths and, for a trace, when it came."""

    input_tokens: Positive
    output_tokens: Positive
    timestamp_s: NonNegative | None = None
    class_name: Name | None = Field(default=None, alias="class")


class RunState(Spec):
    """The state of a run, enough to go on with it (run.yaml)."""

    settings: RunSettings
    levels: tuple[LevelRecord, ...] = ()
