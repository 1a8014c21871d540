"""Accuracy of the LatencyModel out of sample, and the coverage of its bands.

    python benchmarks/latency_accuracy.py --data DIR [--calibrate]

DIR holds public measurements (see latency_data.py). For every curve of a kept concurrency with at
least four loads, a profile with some of its loads predicts the others:

    interior   all loads but one, which lies between others
    k loads    2, 3, 4 or 6 loads, both ends among them, evenly in the logarithm; 1: the middle one
    doubling   all loads but the largest, at most one doubling above the rest
    lighter    all loads but the smallest
    open       open loops alone: all rates but one, which lies between others, or is the largest

No facts of GPU or model are used. Errors are |predicted/measured - 1|. TPOT of data sets without
TTFT is the time per output token at a kept concurrency, prefills included. Half of the curves
(by a hash of their names) calibrate the bands, the other half judges their coverage. The only
public open loops are another simulator's (aibrix: E2E, 100 requests a rate): reported, not judged.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from latency_data import Curve, aibrix, curves

from planner.errors import FitError
from planner.latency.bands import Family
from planner.latency.fit import fit
from planner.latency.loadcurve import SAME_LOAD, LoadCurve
from planner.latency.model import LatencyModel
from planner.latency.predict import (
    FIGURES,
    FURTHEST,
    Condition,
    Figure,
    family_of,
    figures,
    load_curve,
)
from planner.spec.pool import Point

SOURCES = ("ml_energy", "llm_inference_bench", "llm_pilot", "splitwise")
MIN_LOADS = 4


@dataclass(frozen=True)
class Held:
    """One figure of one load that the profile did not have."""

    source: str
    curve: str
    experiment: str
    column: str
    family: Family
    load: float
    measured: float  # geometric mean over repeats
    figure: Figure
    known: LoadCurve  # the loads that the profile had

    @property
    def log_error(self) -> float:
        """Returns log(predicted/measured)."""
        return float(np.log(self.figure.value / self.measured))

    @property
    def inside(self) -> bool:
        """Returns whether the band holds the measurement."""
        return self.figure.low <= self.measured <= self.figure.high

    @property
    def calibrates(self) -> bool:
        """Returns whether the curve is one of the half that the bands are fitted to."""
        return hashlib.sha256(f"{self.source} {self.curve}".encode()).digest()[0] % 2 == 0


def loads_of(curve: Curve) -> list[list[Point]]:
    """Returns the points of a curve load by load; loads within 10 % are one."""
    groups: list[list[Point]] = []
    for point in curve.points:
        assert point.concurrency is not None
        if groups and point.concurrency <= SAME_LOAD * (groups[-1][0].concurrency or 0.0):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def experiments(concurrency: Sequence[float]) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yields (experiment, known loads, held-out loads) of a curve's ascending loads."""
    n = len(concurrency)
    everything = list(range(n))
    for i in everything[1:-1]:
        yield "interior", [j for j in everything if j != i], [i]
    for k in (1, 2, 3, 4, 6):
        if n > k:
            known = log_spaced(concurrency, k) if k > 1 else [n // 2]
            yield (
                f"{k} loads" if k > 1 else "1 load",
                known,
                [i for i in everything if i not in known],
            )
    yield "lighter", everything[1:], [0]
    if concurrency[-1] <= FURTHEST * concurrency[-2]:
        yield "doubling", everything[:-1], [n - 1]


def log_spaced(concurrency: Sequence[float], k: int) -> list[int]:
    """Returns k of the loads: both ends, and those nearest to even steps of the logarithm."""
    x = np.log(np.asarray(concurrency))
    chosen = [0, x.size - 1]
    for target in np.linspace(x[0], x[-1], k)[1:-1]:
        free = [i for i in range(x.size) if i not in chosen]
        chosen.append(min(free, key=lambda i: abs(x[i] - target)))
    return sorted(chosen)


def held_out(curve: Curve) -> Iterator[Held]:
    """Yields every figure of every load that some part of the curve predicts."""
    groups = loads_of(curve)
    if len(groups) < MIN_LOADS:
        return
    concurrency = [g[0].concurrency or 0.0 for g in groups]
    for experiment, known, unknown in experiments(concurrency):
        points = tuple(p for i in known for p in groups[i])
        try:
            model = fit(curve.profile(points))
        except FitError:
            continue
        for i in unknown:
            yield from _of_load(curve, experiment, model, groups[i])


def _of_load(
    curve: Curve, experiment: str, model: LatencyModel, group: list[Point]
) -> Iterator[Held]:
    first = group[0]
    assert first.concurrency is not None
    at = Condition(first.mode, first.input_tokens, first.output_tokens, first.concurrency)
    predicted = figures(model, at)
    for column in FIGURES:
        values = [v for p in group if (v := getattr(p, column)) is not None]
        known = load_curve(model, at, column)
        if not values or known is None or column not in predicted:
            continue
        measured = float(np.exp(np.mean(np.log(values))))
        yield Held(
            curve.source,
            curve.name,
            experiment,
            column,
            family_of(column),
            first.concurrency,
            measured,
            predicted[column],
            known,
        )


@dataclass(frozen=True)
class Target:
    """What the median and the 90th percentile of one experiment's errors may be, in per cent."""

    experiment: str
    figures: str
    median: float
    p90: float


TARGETS = (
    Target("interior", "TPOT mean", 3, 12),
    Target("interior", "throughput", 3, 12),
    Target("interior", "token tails", 8, 30),
    Target("interior", "TTFT mean", 7, 28),
    Target("interior", "TTFT p95", 9, 32),
    Target("interior", "E2E mean", 5, 18),
    Target("6 loads", "TPOT mean", 2.5, 11),
    Target("6 loads", "throughput", 2.5, 11),
    Target("6 loads", "token tails", 6.5, 24),
    Target("6 loads", "TTFT mean", 5, 16),
    Target("6 loads", "TTFT p95", 8, 22),
    Target("6 loads", "E2E mean", 5, 14),
    Target("4 loads", "TPOT mean", 3, 12),
    Target("4 loads", "throughput", 3, 12),
    Target("4 loads", "token tails", 8, 30),
    Target("4 loads", "TTFT mean", 7, 28),
    Target("4 loads", "TTFT p95", 9, 32),
    Target("4 loads", "E2E mean", 5, 18),
    Target("3 loads", "TPOT mean", 6, 22),
    Target("3 loads", "throughput", 7, 20),
    Target("doubling", "TPOT mean", 8, 30),
    Target("doubling", "throughput", 5, 20),
)
WITHOUT_TARGET = (
    ("interior", "TTFT p50"),
    ("interior", "E2E p50"),
    ("interior", "E2E p95"),
    ("3 loads", "token tails"),
    ("3 loads", "TTFT mean"),
    ("2 loads", "TPOT mean"),
    ("2 loads", "throughput"),
    ("1 load", "throughput"),
    ("doubling", "token tails"),
    ("doubling", "TTFT mean"),
    ("doubling", "E2E mean"),
    ("lighter", "throughput"),
)
COLUMNS = {
    "tpot_mean_ms": "TPOT mean",
    "output_tokens_per_s": "throughput",
    "ttft_mean_ms": "TTFT mean",
    "ttft_p95_ms": "TTFT p95",
    "e2e_mean_ms": "E2E mean",
    "e2e_p50_ms": "E2E p50",
    "e2e_p95_ms": "E2E p95",
    "ttft_p50_ms": "TTFT p50",
    "tpot_p50_ms": "TPOT p50",
    **{f"{m}_{s}_ms": "token tails" for m in ("tpot", "itl") for s in ("p95", "p99")},
}
ENOUGH = 60  # points that a pooled target needs
COVERED = (0.85, 0.95)
ENOUGH_FOR_COVERAGE = 200
POOLED = "pooled"


def errors_of(held: Sequence[Held]) -> dict[tuple[str, str, str], list[float]]:
    """Returns |relative errors| in per cent by (experiment, figures, data set or pooled)."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with_tpot = {h.curve for h in held if h.column == "tpot_mean_ms"}
    for h in held:
        error = 100.0 * abs(float(np.expm1(h.log_error)))
        names = [COLUMNS[h.column]] if h.column in COLUMNS else []
        if h.column == "output_tokens_per_s" and h.curve not in with_tpot:
            # The time per output token at a kept concurrency is concurrency / throughput.
            found[h.experiment, "TPOT mean", h.source].append(time_error(h))
            found[h.experiment, "TPOT mean", POOLED].append(time_error(h))
        for name in names:
            found[h.experiment, name, h.source].append(error)
            found[h.experiment, name, POOLED].append(error)
    return found


def time_error(h: Held) -> float:
    """Returns the |relative error| in per cent of the time whose inverse is a rate."""
    return 100.0 * abs(float(np.expm1(-h.log_error)))


def accuracy_table(held: Sequence[Held]) -> Iterator[str]:
    """Yields Markdown tables of errors: against their targets, and without a target."""
    errors = errors_of(held)
    sources = [s for s in (*SOURCES, POOLED) if any(key[2] == s for key in errors)]
    yield "| known loads | figure | target | " + " | ".join(sources) + " | pooled target |"
    yield "|---|---|--:" + "|--:" * len(sources) + "|---|"
    for target in TARGETS:
        found = [errors.get((target.experiment, target.figures, s), []) for s in sources]
        cells = [_cell(e, bold=bool(e) and not _within(target, e)) for e in found]
        verdict = _verdict(target, errors.get((target.experiment, target.figures, POOLED), []))
        yield (
            f"| {target.experiment} | {target.figures} | {target.median:g} / {target.p90:g} | "
            + " | ".join(cells)
            + f" | {verdict} |"
        )
    yield ""
    yield "| known loads | figure | " + " | ".join(sources) + " |"
    yield "|---|---" + "|--:" * len(sources) + "|"
    for experiment, name in WITHOUT_TARGET:
        cells = [_cell(errors.get((experiment, name, s), [])) for s in sources]
        yield f"| {experiment} | {name} | " + " | ".join(cells) + " |"


def _cell(values: Sequence[float], bold: bool = False) -> str:
    if not values:
        return ""
    text = f"{np.median(values):.1f} / {np.quantile(values, 0.9):.1f}"
    return f"**{text}** ({len(values)})" if bold else f"{text} ({len(values)})"


def _within(target: Target, values: Sequence[float]) -> bool:
    return bool(np.median(values) <= target.median and np.quantile(values, 0.9) <= target.p90)


def _verdict(target: Target, values: Sequence[float]) -> str:
    if len(values) < ENOUGH:
        return "too few"
    return "met" if _within(target, values) else "**missed**"


def coverage_table(held: Sequence[Held]) -> Iterator[str]:
    """Yields a Markdown table of the share of held-out figures inside their bands."""
    judged: dict[tuple[str, str], list[Held]] = defaultdict(list)
    for h in held:
        if not h.calibrates:
            judged["all figures", h.source].append(h)
            judged[h.family, h.source].append(h)
            judged[h.experiment, h.source].append(h)
    sources = [s for s in SOURCES if ("all figures", s) in judged]
    yield "| | " + " | ".join(sources) + " |"
    yield "|---" + "|--:" * len(sources) + "|"
    for row in dict.fromkeys(key[0] for key in judged):
        yield f"| {row} | " + " | ".join(_covered(judged.get((row, s), [])) for s in sources) + " |"


def _covered(held: Sequence[Held]) -> str:
    """Returns coverage, median half-width and count; bold where it should be 85-95 % and is not."""
    if not held:
        return ""
    share = float(np.mean([h.inside for h in held]))
    width = float(np.median([h.figure.high / h.figure.value - 1.0 for h in held]))
    text = f"{share:.1%}"
    if len(held) >= ENOUGH_FOR_COVERAGE and not COVERED[0] <= share <= COVERED[1]:
        text = f"**{text}**"
    return f"{text} (+{width:.0%}, {len(held)})"


OPEN_COLUMNS = ("e2e_mean_ms", "e2e_p50_ms", "e2e_p90_ms", "e2e_p99_ms")
MIN_RATES = 3


@dataclass(frozen=True)
class OpenHeld:
    """One figure of one rate of an open loop that the profile did not have; None: no prediction."""

    experiment: str
    column: str
    measured: float
    figure: Figure | None


def open_held_out(curve: Curve) -> Iterator[OpenHeld]:
    """Yields every figure of every rate but the lightest, as the curve's other rates predict it."""
    points = curve.points
    if len(points) < MIN_RATES:
        return
    for i in range(1, len(points)):
        point = points[i]
        known = tuple(p for p in points if p is not point)
        try:
            model = fit(curve.profile(known))
        except FitError:
            continue
        rate = point.achieved_rps or 0.0
        found = figures(model, Condition("open", point.input_tokens, point.output_tokens, rate))
        experiment = "between" if i < len(points) - 1 else "largest"
        for column in OPEN_COLUMNS:
            yield OpenHeld(experiment, column, getattr(point, column), found.get(column))


def open_table(held: Sequence[OpenHeld]) -> Iterator[str]:
    """Yields a Markdown table of errors and coverage in open loops."""
    yield "| held out | figure | error | inside the band | no prediction |"
    yield "|---|---|--:|--:|--:|"
    for experiment, column in dict.fromkeys((h.experiment, h.column) for h in held):
        rows = [h for h in held if (h.experiment, h.column) == (experiment, column)]
        told = [(h.measured, h.figure) for h in rows if h.figure]
        errors = [100.0 * abs(f.value / m - 1.0) for m, f in told]
        inside = np.mean([f.low <= m <= f.high for m, f in told]) if told else 0.0
        yield (
            f"| {experiment} | {column} | {_cell(errors)} | {inside:.1%} | "
            f"{len(rows) - len(told)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--calibrate", action="store_true", help="print the constants of the bands")
    arguments = parser.parse_args()
    known = list(curves(arguments.data, SOURCES))
    with ProcessPoolExecutor() as pool:
        held = [h for part in pool.map(_all_held_out, known, chunksize=16) for h in part]
    n_dropped = Counter({s: sum(c.n_dropped for c in known if c.source == s) for s in SOURCES})
    n_curves = Counter(h.source for h in {(h.source, h.curve): h for h in held}.values())
    print("curves", dict(n_curves), "dropped rows", dict(n_dropped), "held-out figures", len(held))
    if arguments.calibrate:
        from latency_calibration import calibrate

        for family, scale in calibrate(held).items():
            print(f'    "{family}": Scale{astuple(scale)},')
    print(*accuracy_table(held), sep="\n")
    print()
    print(*coverage_table(held), sep="\n")
    if (arguments.data / "aibrix").is_dir():
        with ProcessPoolExecutor() as pool:
            parts = pool.map(_all_open_held_out, aibrix(arguments.data), chunksize=4)
            opened = [h for part in parts for h in part]
        print()
        print(*open_table(opened), sep="\n")


def _all_held_out(curve: Curve) -> list[Held]:
    return list(held_out(curve))


def _all_open_held_out(curve: Curve) -> list[OpenHeld]:
    return list(open_held_out(curve))


if __name__ == "__main__":
    main()
