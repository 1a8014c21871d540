"""Importing benchmark results: the pools that were measured, each with the points of its runs.

runs    which tool wrote which files, each run once                    (runs.py)
pools   runs by the rb-pool.yaml that is about them, facts settled     (sidecar.py)
points  of ONE replica: divided where the address had several behind it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import Fault, InputError
from planner.files.faults import build
from planner.files.results import ResultFiles
from planner.profile.doubles import load_as_set
from planner.profile.runs import Run, Runs, once, read_runs
from planner.profile.sidecar import FROM_FILES, OPTIONS, Fact, Known, settle
from planner.spec.base import worst_origin
from planner.spec.pool import CapacityPoint, Point, Pool, PoolSettings

_MODES = ("closed", "open", "batch")
_PER_REPLICA = ("concurrency", "offered_rps", "achieved_rps", "output_tokens_per_s")


@dataclass(frozen=True)
class PoolImport:
    """One measured pool: what it is, who says so, and its points, sorted by load."""

    pool: Pool
    facts: tuple[Fact, ...]
    runs: tuple[Run, ...]
    points: tuple[Point, ...]
    capacity: tuple[CapacityPoint, ...]
    notes: tuple[str, ...]

    @property
    def told(self) -> frozenset[str]:
        """Returns the keys of pool.yaml that a person said now; they win over what was there."""
        return frozenset(f.key for f in self.facts if f.said_now) - {"name", "n_replicas"}


@dataclass(frozen=True)
class Imported:
    """Everything that some result files say, by pool."""

    pools: tuple[PoolImport, ...]
    left_out: tuple[str, ...]  # found in a folder, the result of no tool
    notes: tuple[str, ...]


def import_results(files: ResultFiles, flags: PoolSettings, known: Known) -> Imported:
    """Returns the pools that result files measured, in the order of their names.

    Args:
        files: the texts, and the rb-pool.yaml that is about each.
        flags: what the user says now; it wins.
        known: what the profiles folder says already.

    Raises:
        InputError: with the faults of all files together.
    """
    faults = list(files.faults)
    try:
        found = read_runs(files.texts, files.named)
    except InputError as error:
        raise InputError([*faults, *error.faults]) from None
    if faults:  # without all files and sidecars, what is missing is a mere consequence
        raise InputError(faults)
    groups = _by_sidecar(found.runs, files)
    if not groups:
        raise InputError([_nothing_found(found, len(files.texts))])
    if len(groups) > 1 and flags.name is not None:
        what = f"names one pool, got results of {len(groups)}: " + ", ".join(map(_titled, groups))
        fix = "leave it out and let each rb-pool.yaml say its name, or import them apart"
        raise InputError.single(OPTIONS, "--pool", what, fix)
    pools: list[PoolImport] = []
    for about, runs in groups.items():
        try:
            pools.append(_pool(about, runs, flags, files.sidecars, known))
        except InputError as error:
            faults += error.faults
    faults += _named_twice(pools)
    if faults:
        raise InputError(faults)
    ordered = sorted(pools, key=lambda p: p.pool.name)
    return Imported(tuple(ordered), found.left_out, found.notes)


def names_of_pools(files: ResultFiles, flags: PoolSettings) -> tuple[str, ...]:
    """Returns the names that the options or a rb-pool.yaml give to the pools."""
    if flags.name is not None:
        return (flags.name,)
    return tuple(dict.fromkeys(s.name for s in files.sidecars.values() if s.name is not None))


def sorted_by_load(points: Sequence[Point]) -> tuple[Point, ...]:
    """Returns points in the order of a points.csv: by mode, load and lengths."""
    return tuple(sorted(points, key=_by_load))


def _nothing_found(found: Runs, n_files: int) -> Fault:
    """Returns the fault of files without any load level, with what is known of the reason."""
    why = "; ".join([*found.notes, *(note for run in found.runs for note in run.reading.notes)])
    what = f"no file holds a load level, got {n_files} without one"
    fix = "name at least one result file"
    return Fault("import", "files", f"{what} ({why[:500]})" if why else what, fix)


def _by_sidecar(runs: Sequence[Run], files: ResultFiles) -> dict[str | None, list[Run]]:
    """Returns the runs with points by the rb-pool.yaml about them; equal ones are one."""
    first: dict[PoolSettings, str] = {}
    groups: dict[str | None, list[Run]] = {}
    for run in runs:
        if not run.reading.points and not run.reading.capacity:
            continue
        about = files.sidecar_of.get(run.files[0])
        if about is not None:
            about = first.setdefault(files.sidecars[about], about)
        groups.setdefault(about, []).append(run)
    return groups


def _pool(
    about: str | None,
    runs: Sequence[Run],
    flags: PoolSettings,
    sidecars: Mapping[str, PoolSettings],
    known: Known,
) -> PoolImport:
    """Returns the pool that runs measured; raises InputError with what is not known of it."""
    facts, notes = settle(flags, (about, sidecars[about]) if about else None, runs, known)
    runs, remarks = once(runs)
    notes += remarks
    values = {fact.key: fact.value for fact in facts}
    n_replicas = values.pop("n_replicas", 1)
    assert isinstance(n_replicas, int)
    points = sorted_by_load([p for run in runs for p in run.reading.points])
    capacity = tuple(c for run in runs for c in run.reading.capacity)
    notes += [note for run in runs for note in run.reading.notes]
    if n_replicas > 1:
        points = tuple(_of_one_replica(point, n_replicas) for point in points)
        capacity = tuple(_capacity_of_one(entry, n_replicas) for entry in capacity)
        notes.insert(0, f"loads and throughput are divided by {n_replicas} replicas")
    if points and capacity:
        notes.append(f"{len(capacity)} capacities are left out: the points say more")
        capacity = ()
    pool = make_pool(values, points, capacity)
    return PoolImport(pool, facts, tuple(runs), points, capacity, tuple(notes))


def make_pool(
    values: Mapping[str, object],
    points: Sequence[Point],
    capacity: Sequence[CapacityPoint] = (),
) -> Pool:
    """Returns the pool of the given settings, with origin and source of what was measured.

    Raises InputError with every setting that is wrong.
    """
    rows: list[Point | CapacityPoint] = [*points, *capacity]
    origin = worst_origin(*(row.origin for row in rows))
    source = "; ".join(dict.fromkeys(row.source for row in rows))[:2000]
    faults: list[Fault] = []
    pool = build(Pool, {**values, "origin": origin, "source": source}, OPTIONS, faults)
    if pool is None:
        raise InputError([_with_option(fault) for fault in faults])
    return pool


def _with_option(fault: Fault) -> Fault:
    """Returns a fault whose fix names the option, where a file may have said what is wrong."""
    option = FROM_FILES.get(fault.field)
    return fault if option is None else replace(fault, fix=f"say it with {option}: {fault.fix}")


def appended(
    pool: PoolImport, points: Sequence[Point], capacity: Sequence[CapacityPoint] = ()
) -> PoolImport:
    """Returns an import with the rows of its kind that are there already, equal ones once."""
    n_new = len(pool.points) + len(pool.capacity)
    all_points = tuple(dict.fromkeys((*points, *pool.points))) if pool.points else ()
    all_capacity = tuple(dict.fromkeys((*capacity, *pool.capacity))) if pool.capacity else ()
    there: set[Point | CapacityPoint] = {*points, *capacity}
    n_known = sum(row in there for row in (*pool.points, *pool.capacity))
    values = {f.key: f.value for f in pool.facts if f.key != "n_replicas"}
    note = (f"{n_known} of {n_new} rows were there already",) if n_known else ()
    return replace(
        pool,
        pool=make_pool(values, all_points, all_capacity),
        points=sorted_by_load(all_points),
        capacity=all_capacity,
        notes=(*pool.notes, *note),
    )


def _of_one_replica(point: Point, n_replicas: int) -> Point:
    """Returns what one of several equal replicas did; counts and times are those of the run."""
    shares = {
        column: value / n_replicas
        for column in _PER_REPLICA
        if (value := getattr(point, column)) is not None
    }
    source = f"{point.source}, one of {n_replicas} replicas"
    return point.model_copy(update={**shares, "source": source})


def _capacity_of_one(entry: CapacityPoint, n_replicas: int) -> CapacityPoint:
    source = f"{entry.source}, one of {n_replicas} replicas"
    return entry.model_copy(update={"max_rps": entry.max_rps / n_replicas, "source": source})


def _named_twice(pools: Sequence[PoolImport]) -> list[Fault]:
    """Returns a fault for each pool that two different rb-pool.yaml describe."""
    names = [p.pool.name for p in pools]
    return [
        Fault(
            _said_name(pool),
            "name",
            f"another rb-pool.yaml describes this pool differently, got {pool.pool.name}",
            "give each pool a name of its own, or make the two files equal",
        )
        for n, pool in enumerate(pools)
        if pool.pool.name in names[:n]
    ]


def _said_name(pool: PoolImport) -> str:
    return next(fact.said_by for fact in pool.facts if fact.key == "name")


def _titled(about: str | None) -> str:
    return about or "files without a rb-pool.yaml"


def _by_load(point: Point) -> tuple[int, float, float, float, str, str]:
    """Returns the sort key of a point: kind of run, load, lengths, then all that tells apart."""
    return (
        _MODES.index(point.mode),
        load_as_set(point),
        point.input_tokens,
        point.output_tokens,
        point.source,
        point.model_dump_json(),
    )
