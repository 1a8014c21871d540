"""Runs that were met twice: exported in two formats, converted by another tool, or copied.

Two points of different runs are the same measurement when
    rounded    they say the same load and shape, and agree in at least three figures, and in all
               that both have, to the digits that a table keeps; or
    converted  their mean ttft and their mean e2e agree to the last digits, whatever else differs:
               who counted the tokens, which percentiles, how the load is described.
Repeats of a load never do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isclose, log, log1p

from planner.profile.fields import base_name
from planner.spec.base import STATISTICS
from planner.spec.pool import Point

_Place = tuple[str | int, ...]  # where a point is looked up, by load or by means
_DIGITS_RATIO = 1e-3  # what rounding to four digits may move
_ENOUGH_FIGURES = 3
_MEANS = ("ttft_mean_ms", "e2e_mean_ms")
_CONDITION = ("input_tokens", "output_tokens", "concurrency", "offered_rps", "n_requests")
_FIGURES = (
    "output_tokens_per_s",
    "duration_s",
    *(f"{m}_{s}_ms" for m in ("ttft", "tpot", "itl", "e2e") for s in STATISTICS),
)


def without_doubles(
    runs: Sequence[tuple[str, Sequence[Point]]],
) -> tuple[list[list[Point]], list[str]]:
    """Returns the points of each run (name, points) without those met twice, and remarks on them.

    Of two points that are the same measurement the one with more figures stays. Equal points
    inside one run are repeats, and stay.
    """
    places = [(run, n) for run, (_, points) in enumerate(runs) for n in range(len(points))]
    places.sort(key=lambda at: -_n_figures(runs[at[0]][1][at[1]]))
    stay: dict[_Place, list[tuple[int, int]]] = {}
    gone: dict[tuple[int, int], int] = {}  # -> the run that stays
    for run, n in places:
        point = runs[run][1][n]
        at_load, by_means = _load_place(point), _means_place(point)
        neighbours = [(point.mode, at_load + step) for step in (-1, 0, 1)]
        near = [at for place in (*neighbours, by_means) for at in stay.get(place, ())]
        twin = next(
            (a for a, m in near if a != run and same_measurement(runs[a][1][m], point)), None
        )
        if twin is None:
            stay.setdefault((point.mode, at_load), []).append((run, n))
            if by_means:
                stay.setdefault(by_means, []).append((run, n))
        else:
            gone[run, n] = twin
    kept = [
        [point for n, point in enumerate(points) if (run, n) not in gone]
        for run, (_, points) in enumerate(runs)
    ]
    met = Counter((run, twin) for (run, _), twin in gone.items())
    return kept, [_remark(runs[run][0], runs[twin][0], n) for (run, twin), n in sorted(met.items())]


def load_as_set(point: Point) -> float:
    """Returns the load of a point as it was set: offered requests/s, or requests in flight."""
    rate_rps = point.offered_rps or point.achieved_rps
    return (rate_rps if point.mode == "open" else point.concurrency) or 1.0


def same_measurement(one: Point, other: Point) -> bool:
    """Returns whether two points are one measurement, told by two files."""
    if (means := _means_place(one)) and means == _means_place(other):
        return True
    if one.mode != other.mode or not all(_agree(one, other, c) in (True, None) for c in _CONDITION):
        return False
    agreeing = [_agree(one, other, figure) for figure in _FIGURES]
    return False not in agreeing and (agreeing.count(True) >= _ENOUGH_FIGURES or one == other)


def _agree(one: Point, other: Point, column: str) -> bool | None:
    """Returns whether two points say the same of a column; None where one does not say it."""
    a, b = getattr(one, column), getattr(other, column)
    return None if a is None or b is None else isclose(a, b, rel_tol=_DIGITS_RATIO)


def _load_place(point: Point) -> int:
    """Returns where a point's load lies on a scale whose steps are wider than what may differ."""
    return round(log(load_as_set(point)) / log1p(4 * _DIGITS_RATIO))


def _means_place(point: Point) -> tuple[str, ...]:
    """Returns the means that no two measurements share, empty where they are not both known."""
    means = [getattr(point, column) for column in _MEANS]
    return () if None in means else tuple(f"{mean:.6g}" for mean in means)


def _n_figures(point: Point) -> int:
    return sum(getattr(point, figure) is not None for figure in _FIGURES)


def _remark(name: str, twin: str, n: int) -> str:
    levels = f"{n} load levels are" if n > 1 else "its load level is"
    return f"{base_name(name)}: {levels} in {_apart(twin, name)} too and counted once"


def _apart(name: str, other: str) -> str:
    """Returns a file's base name, or its whole name where the other's is the same."""
    return name if base_name(name) == base_name(other) else base_name(name)
