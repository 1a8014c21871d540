"""Open-loop latency predicted from closed loops, against what `rb profile run` measured.

    python benchmarks/open_loop.py PROFILES [POOL...]

PROFILES holds pool folders as `rb profile run` writes them: points.csv with closed and open rows.
The open rows are hidden, the rest is fitted, and every open rate is predicted at its own request
shape: TTFT, TPOT and E2E, mean and p95. points.csv holds mean lengths, so all requests are taken as
equally long: where they are not, their E2E p95 is mostly that of the lengths, and comes out too
low here. A rate at which requests piled up (fewer than 0.9 of the offered ones answered) has no
steady state and is left out. Repeats of a rate are rows of their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.errors import Fault, FitError
from planner.files.profiles import read_profiles
from planner.latency.fit import fit
from planner.latency.observation import answered_rps, kept_up, usable
from planner.latency.predict import Condition, Figure, figures
from planner.spec.pool import Point, Profile
from planner.spec.workload import RequestShape

COLUMNS = tuple(f"{m}_{s}_ms" for m in ("ttft", "tpot", "e2e") for s in ("mean", "p95"))


@dataclass(frozen=True)
class Compared:
    """One measured open-loop figure; the prediction is None where the closed loops say nothing."""

    pool: str
    rate_rps: float
    load_ratio: float  # of the predicted saturation rate
    column: str
    measured_ms: float
    predicted: Figure | None

    @property
    def error_ratio(self) -> float | None:
        """Returns predicted over measured less one, None without a prediction."""
        return self.predicted.value / self.measured_ms - 1.0 if self.predicted else None

    @property
    def inside(self) -> bool:
        """Returns whether the band holds the measurement."""
        return bool(
            self.predicted and self.predicted.low <= self.measured_ms <= self.predicted.high
        )


def compared(profile: Profile) -> Iterator[Compared]:
    """Yields every open-loop figure of a pool beside its prediction from the pool's other rows.

    Raises:
        FitError: the pool has no closed loop or batch to predict from.
    """
    hidden = [p for p in profile.points if p.mode == "open" and usable(p) and kept_up(p)]
    model = fit(replace(profile, points=tuple(p for p in profile.points if p.mode != "open")))
    for point in sorted(hidden, key=lambda p: answered_rps(p) or 0.0):
        rate = answered_rps(point) or 0.0
        at = Condition("open", point.input_tokens, point.output_tokens, rate)
        found = figures(model, at)
        load = rate / model.capacity_rps(_shape(point))
        for column in COLUMNS:
            measured_ms = getattr(point, column)
            if measured_ms is not None:
                yield Compared(profile.name, rate, load, column, measured_ms, found.get(column))


def table(rows: Sequence[Compared]) -> Iterator[str]:
    """Yields a Markdown table of single figures."""
    yield "| pool | requests/s | load | figure | measured | predicted | off | band |"
    yield "|---|--:|--:|---|--:|--:|--:|--:|"
    for row in rows:
        start = f"| {row.pool} | {row.rate_rps:.3g} | {row.load_ratio:.0%} | {row.column[:-3]} | "
        start += f"{row.measured_ms:.4g} ms | "
        if row.predicted is None:
            yield start + "nothing | | |"
            continue
        band = f"{row.predicted.low:.4g} to {row.predicted.high:.4g} ms"
        yield (
            f"{start}{row.predicted.value:.4g} ms | {row.error_ratio:+.1%} | "
            f"{band if row.inside else f'**{band}**'} |"
        )


def summary(rows: Sequence[Compared]) -> Iterator[str]:
    """Yields a Markdown table of errors and coverage by figure."""
    yield "| figure | predicted of | error, median / p90 | inside the band |"
    yield "|---|--:|--:|--:|"
    for column in COLUMNS:
        mine = [r for r in rows if r.column == column]
        told = [abs(e) for r in mine if (e := r.error_ratio) is not None]
        if told:
            inside = sum(r.inside for r in mine)
            error = f"{np.median(told):.1%} / {np.quantile(told, 0.9):.1%}"
            yield f"| {column[:-3]} | {len(told)} of {len(mine)} | {error} | {inside} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", type=Path, help="folder with pool folders")
    parser.add_argument("pools", nargs="*", help="only these pools")
    arguments = parser.parse_args()
    faults: list[Fault] = []
    read = read_profiles(arguments.profiles, faults, arguments.pools or None, facts_needed=False)
    if read is None:
        parser.exit(2, "".join(f"{fault}\n" for fault in faults))
    rows: list[Compared] = []
    for name, profile in sorted(read.by_name().items()):
        try:
            rows += compared(profile)
        except FitError as error:
            print(f"{name}: {error}")
    print(*table(rows), "", *summary(rows), sep="\n")


def _shape(point: Point) -> RequestShape:
    return RequestShape(np.array([point.input_tokens]), np.array([point.output_tokens]))


if __name__ == "__main__":
    main()
