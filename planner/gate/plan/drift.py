"""Whether the predicted figures of a plan are what the same inputs give, all of them, both ways.

    again   = the figures as a plan of today would have them    planner/answer.py, nothing solved
    said    ~ again, field by field                             each with its own rounding

A figure that is missing, doubled or about something else differs as much as a wrong one does: what
reads the file (a policy, a reviewer, the runtime) takes it for what was predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.answer import predicted
from planner.case import Case
from planner.gate.finding import Finding, error, warning
from planner.gate.plan.resources import rent_usd_per_h
from planner.gate.plan.roundings import MS_ROUNDING, USD_ROUNDING
from planner.ordered import Rescored
from planner.score import Score
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import worst_origin
from planner.spec.plan import LatencyFigure, Plan, PoolFigure, Predicted

NEAR_RATIO = 1e-3  # the tables are made at shares of 6 decimals
GRID_RATIO = 1e-2
"""A percentile between two times of a table's grid moves a little with the grid, which holds the
limits that mattered to the search."""
MIX_AMPLIFIED = 10.0
"""A pool near its capacity answers so much slower, in relation, than its mix has shifted."""

RATIO_ROUNDING = 2e-4
MOST_DRIFTS = 5  # one changed share moves every figure: a few say enough


@dataclass(frozen=True)
class _Again:
    """A plan as scored today, in the form in which figures are written."""

    replicas: IntArray
    shares: FloatArray
    score: Score
    cost_usd_per_h: float
    rate_factor: float


@dataclass(frozen=True)
class _Near:
    """How far two figures may be apart that are the same."""

    rounding: float
    ratio: float = NEAR_RATIO
    by_mix: bool = False  # a shift of the class mix moves it, too


@dataclass(frozen=True)
class _Difference:
    """A figure of a plan that the same inputs do not give."""

    name: str
    said: str
    now: str
    is_of_mix: bool = False  # no more than what a plan says of its mix explains

    @property
    def what(self) -> str:
        return f"says {self.said}, the same inputs give {self.now}"


_RATE = _Near(2e-6)
_SCORE = _Near(RATIO_ROUNDING, 0.0)
_USD = _Near(USD_ROUNDING, 0.0)
_PER_MILLION = _Near(USD_ROUNDING)
_USED = _Near(RATIO_ROUNDING, by_mix=True)
_TOKENS = _Near(2e-3)
_GOODPUT = _Near(2e-6, GRID_RATIO, by_mix=True)
_MS = _Near(MS_ROUNDING, GRID_RATIO, by_mix=True)
_LATENCY_RATIO = _Near(RATIO_ROUNDING, GRID_RATIO, by_mix=True)


def drift_findings(case: Case, plan: Plan, again: Rescored) -> Iterator[Finding]:
    """Yields figures of the plan that today's score of the same inputs does not give."""
    fix = f"rb plan DIR (the plan was made by rb {plan.provenance.rb_version})"
    now, priced = _now(case, plan, again)
    different = list(_differences(plan.predicted, now, priced))
    wrong = [each for each in different if not each.is_of_mix]
    for each in [*wrong, *(e for e in different if e.is_of_mix)][:MOST_DRIFTS]:
        # Figures made at another mix may differ for that reason, and say so (mix_shift_ratio).
        told = warning if each.is_of_mix else error
        yield told("prediction-drift", f"plan.json:predicted.{each.name}", each.what, fix)
    if len(different) > MOST_DRIFTS:
        told = error if len(wrong) > MOST_DRIFTS else warning
        what = f"{len(different) - MOST_DRIFTS} more figures differ"
        yield told("prediction-drift", "plan.json:predicted", what, fix)


def _now(case: Case, plan: Plan, again: Rescored) -> tuple[Predicted, bool]:
    """Returns the figures of a plan as today's tables give them, and whether it has a price."""
    rent = rent_usd_per_h(case, again.replicas)
    cost = 0.0 if rent is None else rent + again.score.hosted_usd_per_h
    factor = plan.predicted.rate_factor if case.question.maximise == "rate_factor" else None
    score = again.score  # shares that sum to more than 1, told elsewhere, give such scores, too
    within = np.clip(score.class_quality, 0.0, 1.0)
    score = replace(score, quality=min(score.quality, 1.0), class_quality=within)
    scored = _Again(again.replicas, again.shares, score, cost, factor or 1.0)
    return predicted(case, scored), rent is not None


def _differences(said: Predicted, now: Predicted, priced: bool) -> Iterator[_Difference]:
    """Yields each predicted figure that is off by more than its rounding."""
    shift = said.mix_shift_ratio
    yield from _off("rate_rps", said.rate_rps, now.rate_rps, _RATE, " req/s")
    yield from _off("quality", said.quality, now.quality, _SCORE)
    yield from _off("rate_factor", said.rate_factor, now.rate_factor, _RATE)
    if priced:
        yield from _off("cost_usd_per_h", said.cost_usd_per_h, now.cost_usd_per_h, _USD, " $/h")
        old, new = said.usd_per_million_output_tokens, now.usd_per_million_output_tokens
        yield from _off("usd_per_million_output_tokens", old, new, _PER_MILLION, " $")
    yield from _each_off("class_quality", said.class_quality, now.class_quality, _SCORE)
    yield from _each_off("class_rps", said.class_rps, now.class_rps, _RATE, " req/s")
    yield from _pools(said.pools, now.pools, priced, shift)
    yield from _latency(said.latency, now.latency, shift)
    old, new = said.latency_ratio, now.latency_ratio
    yield from _off("latency_ratio", old, new, _LATENCY_RATIO, shift=shift)
    # Pools that the plan does not use may be guessed; it may say less of itself than it could.
    yield from _other("origin", said.origin, worst_origin(said.origin, now.origin))


def _pools(
    said: Sequence[PoolFigure], now: Sequence[PoolFigure], priced: bool, shift: float
) -> Iterator[_Difference]:
    before, after = {f.pool: f for f in said}, {f.pool: f for f in now}
    yield from _there("pools", [f.pool for f in said], after)
    for name in before.keys() & after.keys():
        old, new, at = before[name], after[name], f"pools[{name}]"
        for field, near, unit in (
            ("utilisation_ratio", _USED, ""),
            ("rate_rps", _RATE, " req/s"),
            ("output_tokens_per_s", _TOKENS, " tokens/s"),
            ("goodput_rps", _GOODPUT, " req/s"),
        ):
            pair = getattr(old, field), getattr(new, field)
            yield from _off(f"{at}.{field}", *pair, near, unit, shift)
        if priced:
            usd = old.usd_per_million_output_tokens, new.usd_per_million_output_tokens
            yield from _off(f"{at}.usd_per_million_output_tokens", *usd, _PER_MILLION, " $")
        yield from _other(f"{at}.extrapolated", old.extrapolated, new.extrapolated)


def _latency(
    said: Sequence[LatencyFigure], now: Sequence[LatencyFigure], shift: float
) -> Iterator[_Difference]:
    before, after = {f.label: f for f in said}, {f.label: f for f in now}
    yield from _there("latency", [f.label for f in said], after)
    for label, new in after.items():
        if label not in before:
            continue
        old, at = before[label], f"latency[{label}]"
        for name, field in ((at, "ms"), (f"{at}.low_ms", "low_ms"), (f"{at}.high_ms", "high_ms")):
            off = list(_off(name, getattr(old, field), getattr(new, field), _MS, " ms", shift))
            yield from off
            if off:
                break  # the band moves with its figure
        yield from _other(f"{at}.at_most_ms", old.at_most_ms, new.at_most_ms)
        yield from _other(f"{at}.origin", old.origin, new.origin)


def _there(part: str, said: Sequence[str], now: Iterable[str]) -> Iterator[_Difference]:
    """Yields entries that are missing, doubled, or of nothing that the plan has."""
    counts = Counter(said)
    for name in now:
        if name not in counts:
            yield _Difference(f"{part}[{name}]", "nothing", "a figure")
    for name, n in counts.items():
        if name not in set(now):
            yield _Difference(f"{part}[{name}]", "a figure", "none")
        elif n > 1:
            yield _Difference(f"{part}[{name}]", f"it {n} times", "one")


def _each_off(
    part: str, said: Mapping[str, float], now: Mapping[str, float], near: _Near, unit: str = ""
) -> Iterator[_Difference]:
    yield from _there(part, list(said), now)
    for name in said.keys() & now.keys():
        yield from _off(f"{part}[{name}]", said[name], now[name], near, unit)


def _off(
    name: str,
    said: float | None,
    now: float | None,
    near: _Near,
    unit: str = "",
    shift: float = 0.0,
) -> Iterator[_Difference]:
    """Yields two figures that are further apart than the same figure may be, or of which one is."""
    if said is None or now is None:
        yield from _other(name, said, now, unit)
        return
    apart, size = abs(said - now), max(abs(said), abs(now))
    if apart > near.rounding + near.ratio * size:
        excused = MIX_AMPLIFIED * shift if near.by_mix and shift > RATIO_ROUNDING else 0.0
        is_of_mix = apart <= near.rounding + (near.ratio + excused) * size
        texts = (_shown(said, unit), _shown(now, unit))
        yield _Difference(name, *texts, is_of_mix=is_of_mix)


def _other(name: str, said: object, now: object, unit: str = "") -> Iterator[_Difference]:
    """Yields two values that are not the same."""
    if said != now:
        yield _Difference(name, _shown(said, unit), _shown(now, unit))


def _shown(value: object, unit: str) -> str:
    if not isinstance(value, float):
        return "nothing" if value is None else f"{value}"
    return f"{value:,.1f}{unit}" if unit == " ms" else f"{value:.6g}{unit}"
