"""Which load to measure next: the plan of a profile run, as a pure function of what is known.

Program
    ramp        closed loop at 1, then 4 or 2 times as many in flight, until the engine is full
    contrast    a second request shape at two loads: one shape cannot tell prefill from decode cost
    confirm     open loop, Poisson, at half and at four fifths of the saturation rate
    refine      closed loop where it narrows the error band most, until the band is narrow enough

A load is measured as often as the user wants it repeated before the next one is chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log2
from typing import Literal

from planner.latency.active import next_load, widest_band_ratio
from planner.profile.load.options import SessionSettings
from planner.profile.load.ramp import (
    MOST_IN_FLIGHT,
    Measured,
    Rung,
    Saturation,
    first_full,
    gain_ratio,
    is_other_shape,
    ramp,
    saturation,
)
from planner.spec.pool import Point
from planner.spec.run import Step

STEEP_RATIO = 0.6  # gain per doubling: so far from saturation the next load may be fourfold
CONFIRMED_RATIOS = (0.5, 0.8)  # of the saturation rate
CONFIRMED_WITHIN = 0.1
CONTRAST = 4  # how many times the in:out ratio of the second shape differs
SHORTEST_TOKENS = 32  # of a shortened prompt or answer
REFINEMENTS = 2  # levels that time is set aside for while the band is too wide
AFTER_SATURATION = len(CONFIRMED_RATIOS) + REFINEMENTS
SHORTEST_S = 1.0  # a level of less time is not worth starting

Wanted = tuple[Step, str]  # and why


@dataclass(frozen=True)
class Next:
    """The next level to measure, the time it may take, and how many are to come."""

    step: Step
    why: str
    at_most_s: float
    n_left: int  # this one included, as far as can be told


@dataclass(frozen=True)
class Stop:
    """The end of a run, its error band, and the level that would come next."""

    reason: Literal["accurate", "time", "exhausted", "given"]
    band_ratio: float | None
    would_be_next: Step | None = None

    @property
    def why(self) -> str:
        """Returns the reason as a clause."""
        return {
            "accurate": "the error band is narrow enough",
            "time": "the time budget is used",
            "exhausted": "all loads up to saturation are measured; --repeats evens out noise",
            "given": "all given loads are measured",
        }[self.reason]


def next_step(
    measured: Sequence[Measured], settings: SessionSettings, elapsed_s: float
) -> Next | Stop:
    """Returns the level to measure next and why, or why the run ends.

    Args:
        measured: the finished levels of this pool, in any order.
        settings: what the user asks.
        elapsed_s: seconds since the start of this run.
    """
    band_ratio = error_band_ratio(measured, settings)
    given = bool(settings.loads or settings.rates_rps)
    again = list(_repeats(measured, settings))
    new = list((_given if given else _planned)(measured, settings))
    if not again and not new:
        narrow = band_ratio is not None and band_ratio <= settings.max_error_ratio
        return Stop("given" if given else "accurate" if narrow else "exhausted", band_ratio)
    step, why = [*again, *new][0]
    left_s = settings.time_budget_s - elapsed_s
    if left_s < SHORTEST_S:
        return Stop("time", band_ratio, step)
    n_unseen = 0 if given or saturation(measured, settings) else AFTER_SATURATION
    n_left = len(again) + (len(new) + n_unseen) * settings.n_repeats
    return Next(step, why, left_s / n_left, n_left)


def error_band_ratio(measured: Sequence[Measured], settings: SessionSettings) -> float | None:
    """Returns the half width of the widest error band, as a ratio; None before saturation.

    With given loads it is that between the lightest and the heaviest of them.
    """
    rungs = [rung for rung in ramp(measured, settings) if rung.tokens_per_s]
    full = saturation(measured, settings)
    if full is not None:
        return widest_band_ratio(_points(measured, full.concurrency), 1.0, full.concurrency)
    if not settings.loads or len(rungs) < 2:
        return None
    return widest_band_ratio(_points(measured, rungs[-1].load), rungs[0].load, rungs[-1].load)


def second_shape(input_tokens: float, output_tokens: float) -> tuple[float, float]:
    """Returns (input, output) tokens of the shape to contrast with, of another in:out ratio.

    It is the shorter one where there is room, so that it fits every context window.
    """
    shorter_input, shorter_output = round(input_tokens / CONTRAST), round(output_tokens / CONTRAST)
    if shorter_input >= SHORTEST_TOKENS:
        return float(shorter_input), output_tokens
    if shorter_output >= SHORTEST_TOKENS:
        return input_tokens, float(shorter_output)
    return float(round(input_tokens * CONTRAST)), output_tokens


# ---- The stages: each yields the steps that it still wants, the first of them first ----


def _repeats(measured: Sequence[Measured], settings: SessionSettings) -> Iterator[Wanted]:
    """Yields what is missing of loads that were not repeated as often as wanted."""
    done = Counter(m.step.model_copy(update={"repeat": 1}) for m in measured if m.point)
    for step, n in done.items():
        for repeat in range(n + 1, settings.n_repeats + 1):
            yield step.model_copy(update={"repeat": repeat}), f"repeat {repeat}"


def _given(measured: Sequence[Measured], settings: SessionSettings) -> Iterator[Wanted]:
    steps = [_step("closed", load, settings) for load in settings.loads]
    steps += [_step("open", rate, settings) for rate in settings.rates_rps]
    done = {m.step for m in measured}
    yield from ((step, "given") for step in dict.fromkeys(steps) if step not in done)


def _planned(measured: Sequence[Measured], settings: SessionSettings) -> Iterator[Wanted]:
    rungs = ramp(measured, settings)
    full = saturation(measured, settings)
    if first_full(rungs, settings) is None:
        yield from _climb(rungs, settings)
    yield from _contrast(measured, settings, full)
    if full is not None:
        yield from _confirm(measured, settings, full)
        yield from _refine(measured, settings, full)


def _climb(rungs: Sequence[Rung], settings: SessionSettings) -> Iterator[Wanted]:
    """Yields the next load of the ramp, and one that may follow it."""
    limit = float(settings.max_num_seqs or MOST_IN_FLIGHT)
    if not rungs:
        yield _step("closed", 1.0, settings), "light load"
    load = min(rungs[-1].load * _stride(rungs), limit) if rungs else 4.0
    yield _step("closed", load, settings), "looking for saturation"


def _stride(rungs: Sequence[Rung]) -> float:
    """Returns the factor to the next load: 4 while throughput still grows steeply."""
    return 4.0 if len(rungs) < 2 or gain_ratio(rungs[-2], rungs[-1]) > STEEP_RATIO else 2.0


def _contrast(
    measured: Sequence[Measured], settings: SessionSettings, full: Saturation | None
) -> Iterator[Wanted]:
    input_tokens, output_tokens = second_shape(settings.input_tokens, settings.output_tokens)
    n_done = len({m.step.load for m in measured if is_other_shape(m.step, settings)})
    for load in (1.0, float(max(round(full.concurrency / 2), 2) if full else 2))[n_done:]:
        step = Step(
            mode="closed", load=load, input_tokens=input_tokens, output_tokens=output_tokens
        )
        yield step, "second request shape"


def _confirm(
    measured: Sequence[Measured], settings: SessionSettings, full: Saturation
) -> Iterator[Wanted]:
    """Yields the open-loop rates that no measured one stands for yet."""
    rates = [m.step.load for m in measured if m.step.mode == "open"]
    for ratio in CONFIRMED_RATIOS:
        if not any(abs(rate / full.max_rps - ratio) <= CONFIRMED_WITHIN for rate in rates):
            rate_rps = float(f"{ratio * full.max_rps:.3g}")
            yield _step("open", rate_rps, settings), f"open loop, {ratio:.0%} full"


def _refine(
    measured: Sequence[Measured], settings: SessionSettings, full: Saturation
) -> Iterator[Wanted]:
    """Yields the load that narrows the widest band most, as often as time is set aside for it."""
    points = _points(measured, full.concurrency)
    if widest_band_ratio(points, 1.0, full.concurrency) <= settings.max_error_ratio:
        return
    done = {rung.load for rung in ramp(measured, settings)}
    free = [n for n in range(1, full.concurrency + 1) if n not in done]
    if not free:
        return
    best = next_load(points, 1.0, full.concurrency)
    nearest = min(free, key=lambda n: abs(log2(n / best.concurrency)))
    why = f"error band now +-{best.band_now_ratio:.0%}"
    yield from [(_step("closed", float(nearest), settings), why)] * min(REFINEMENTS, len(free))


def _points(measured: Sequence[Measured], most: float) -> list[Point]:
    """Returns the points up to a concurrency: beyond saturation requests only queue."""
    return [
        m.point
        for m in measured
        if m.point is not None and (m.step.mode == "open" or m.step.load <= most)
    ]


def _step(mode: Literal["closed", "open"], load: float, settings: SessionSettings) -> Step:
    return Step(
        mode=mode,
        load=load,
        input_tokens=settings.input_tokens,
        output_tokens=settings.output_tokens,
    )
