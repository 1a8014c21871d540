"""plan.json and routes.json, out and in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from planner import __version__
from planner.errors import Fault, InputError
from planner.files.faults import build, short
from planner.files.folders import not_a_plan
from planner.files.text import MAX_CSV_BYTES, content_hash, is_link, is_there, read_text, shown
from planner.files.write import canonical_json, write_text
from planner.spec.base import Spec
from planner.spec.plan import CascadeEntry, PeriodRoutes, Plan, Routes, WeightedPool

PLAN_FILE = "plan.json"
ROUTES_FILE = "routes.json"

S = TypeVar("S", bound=Spec)


def plan_text(plan: Plan) -> str:
    """Returns the text of plan.json."""
    return canonical_json(plan.model_dump(mode="json", by_alias=True))


def routes_of(plan: Plan) -> Routes:
    """Returns the routing table of a plan: shares, load prices, and who takes over for whom.

    The fallback order of a class is its own pools by share, then those that give the second and
    the first answers of its cascades, then the plan's other pools by spare capacity; the runtime
    skips those that a class may not use.
    """
    classes: dict[str, list[WeightedPool]] = {}
    for route in plan.routing:
        entry = WeightedPool(pool=route.pool, share=route.share)
        classes.setdefault(route.class_name, []).append(entry)
    cascades: dict[str, list[CascadeEntry]] = {}
    for cascade in plan.cascades:
        classes.setdefault(cascade.class_name, [])
        cascades.setdefault(cascade.class_name, []).append(cascade.entry)
    spare = {p.pool: 1.0 - p.utilisation_ratio for p in plan.predicted.pools}
    fallback: dict[str, tuple[str, ...]] = {}
    for name, entries in classes.items():
        asked = cascades.get(name, [])
        stages = [entries, *(c.second for c in asked), *(c.first for c in asked)]
        own = list(dict.fromkeys(pool for stage in stages for pool in _by_share(stage)))
        others = sorted(set(spare) - set(own), key=lambda p: (-spare[p], p))
        fallback[name] = tuple(own + others)
    prices = {
        p.what.removeprefix("load:"): p.value for p in plan.prices if p.what.startswith("load:")
    }
    return Routes(
        classes={name: tuple(entries) for name, entries in classes.items()},
        cascades={name: tuple(entries) for name, entries in cascades.items()},
        load_prices=prices,
        model_prices={} if plan.quality_basis is None else plan.quality_basis.model_prices,
        fallback=fallback,
        periods=_period_routes(plan),
        plan_hash=plan_hash(plan),
    )


def _period_routes(plan: Plan) -> tuple[PeriodRoutes, ...]:
    """Returns the routing table of each period of a plan with periods, in their order."""
    found = []
    for period in plan.periods.each if plan.periods else ():
        own = routes_of(plan.in_period(period))
        found.append(
            PeriodRoutes(
                name=period.name,
                start_h=period.start_h,
                end_h=period.end_h,
                classes=own.classes,
                cascades=own.cascades,
                load_prices=own.load_prices,
                fallback=own.fallback,
            )
        )
    return tuple(found)


def _by_share(entries: Sequence[WeightedPool]) -> list[str]:
    return [e.pool for e in sorted(entries, key=lambda e: (-e.share, e.pool))]


def plan_hash(plan: Plan) -> str:
    """Returns the sha256 of what a plan orders: its deployment and its routing (§6)."""
    orders: dict[str, object] = {
        "deployment": [d.model_dump(mode="json") for d in plan.deployment],
        "routing": [r.model_dump(mode="json", by_alias=True) for r in plan.routing],
    }
    if plan.cascades:
        orders["cascades"] = [c.model_dump(mode="json", by_alias=True) for c in plan.cascades]
    if plan.periods is not None:
        orders["periods"] = [
            [period.start_h, period.end_h, plan_hash(plan.in_period(period))]
            for period in plan.periods.each
        ]
    return content_hash(orders)


def write_plan(folder: Path, plan: Plan) -> tuple[Path, Path]:
    """Writes plan.json and routes.json; returns their paths.

    Each file is replaced whole. The routing table carries the hash of its plan, so that a kill
    between the two renames is seen by `rb check`.
    """
    routes = canonical_json(routes_of(plan).model_dump(mode="json", by_alias=True))
    paths = folder / PLAN_FILE, folder / ROUTES_FILE
    write_text(paths[0], plan_text(plan))
    write_text(paths[1], routes)
    return paths


def read_plan(folder: Path, faults: list[Fault]) -> Plan | None:
    """Returns the plan of a folder (or of a plan.json); None after adding its faults."""
    path = folder if folder.suffix == ".json" else folder / PLAN_FILE
    read = _read_data(path, faults, "make one with: rb plan DIR")
    plan = None if read is None else build(Plan, read[0], shown(path), faults)
    if read is not None and plan is None:
        faults += _of_another_version(read[0], shown(path))
    return plan


def _of_another_version(data: object, file: str) -> Iterator[Fault]:
    """Yields who wrote a plan that cannot be read, where that was another version."""
    made = data.get("provenance") if isinstance(data, dict) else None
    version = made.get("rb_version") if isinstance(made, dict) else None
    if isinstance(version, str) and version != __version__:
        what = f"it was written by rb {version[:40]}, this is rb {__version__}"
        fix = "read it with that version, or plan again with this one: rb plan DIR"
        yield Fault(file, "provenance.rb_version", what, fix)


def read_routes(folder: Path, faults: list[Fault]) -> Routes | None:
    """Returns the routing table of a folder; None after adding its faults."""
    return read_json(folder / ROUTES_FILE, Routes, faults, "make one with: rb plan DIR")


def need_plan(folder: Path) -> Plan:
    """Returns the plan of a folder.

    Raises:
        InputError: with every fault of the file.
    """
    faults: list[Fault] = []
    plan = read_plan(folder, faults)
    if plan is None:
        raise InputError(faults)
    return plan


def need_plan_and_routes(folder: Path) -> tuple[Plan, Routes]:
    """Returns the plan and the routing table of a folder.

    Raises:
        InputError: with every fault of both files.
    """
    faults: list[Fault] = []
    plan, routes = read_plan(folder, faults), read_routes(folder, faults)
    if plan is None or routes is None:
        raise InputError(faults)
    return plan, routes


def read_json(path: Path, spec: type[S], faults: list[Fault], fix: str) -> S | None:
    """Returns the content of a JSON file of a kind; None after adding its faults."""
    read = _read_data(path, faults, fix)
    return None if read is None else build(spec, read[0], shown(path), faults)


def _read_data(path: Path, faults: list[Fault], fix: str) -> tuple[object] | None:
    """Returns what a JSON file says, which may be null; None after adding its faults."""
    if not is_there(path) and not is_link(path):
        missing = Fault(shown(path), "", "file not found", fix)
        faults.append(not_a_plan(path.parent, path.name) or missing)
        return None
    text = read_text(path, MAX_CSV_BYTES, faults)
    if text is None:
        return None
    try:
        return (json.loads(text, object_pairs_hook=_without_doubles),)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        why = str(error) if isinstance(error, _DoubledKeyError) else "is not valid JSON"
        faults.append(Fault(shown(path), where, why, fix))
        return None


class _DoubledKeyError(ValueError):
    """A JSON object names a key twice, so that a reader cannot know which one counts."""


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise _DoubledKeyError(f"key given twice, got {short(key)}")
    return dict(pairs)
