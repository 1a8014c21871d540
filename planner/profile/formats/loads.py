"""What several formats share: sections of an object, statistics that it states, load of a run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from planner.errors import InputError
from planner.profile.fields import Fields, json_objects, plain_text, shown

OVERLOADED_RATIO = 0.9  # below this share of the offered rate a run is called overloaded
CAP_REACHED_RATIO = 0.8  # a mean in flight below this share of the cap never filled the cap
_FIX = "leave the file out, or export it again from the tool that wrote it"


def spells(text: str, *keys: str) -> bool:
    """Returns whether a text starts like a JSON object and spells all of the keys somewhere.

    A damaged file still does, so that it is told what is wrong with it.
    """
    start = text.removeprefix("\ufeff").lstrip()
    return start.startswith("{") and all(f'"{key}"' in start for key in keys)


def one_object(name: str, text: str) -> dict[str, object]:
    """Returns the JSON object that a text is; raises InputError for none, or for several."""
    objects = json_objects(name, plain_text(name, text))
    if len(objects) != 1:
        what = f"must hold one JSON object, got {len(objects)}"
        raise InputError.single(name, "content", what, _FIX)
    return objects[0]


def list_of_objects(name: str, text: str) -> list[Fields]:
    """Returns the objects of a JSON list, one Fields each; raises InputError for anything else."""
    # json_objects reads objects only: as the value of a key the list keeps its line numbers.
    wrapped = '{"list":' + plain_text(name, text) + "}"
    fields = Fields(name, one_object(name, wrapped))
    entries = fields.items("list")
    if entries is None or len(fields.values) > 1:
        what = f"must be one JSON list, got {shown(fields.values)}"
        raise InputError.single(name, "content", what, _FIX)
    found: list[Fields] = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            what = f"must be an object, got {shown(entry)}"
            raise InputError.single(name, f"[{place}]", what, _FIX)
        found.append(Fields(name, entry, f"[{place}]."))
    return found


def section(fields: Fields, key: str, *, required: bool = False) -> Fields:
    """Returns the object under a key, empty where there is none; its faults join those above."""
    value = fields.values.get(key)
    if value is not None and not isinstance(value, dict):
        fields.fault(key, f"must be an object, got {shown(value)}")
    elif value is None and required:
        fields.fault(key, "is missing, an object is needed, got nothing")
    inner = Fields(fields.file, value if isinstance(value, dict) else {}, f"{fields.prefix}{key}.")
    inner.faults = fields.faults
    return inner


def stated_ms(
    fields: Fields, metric: str, keys: Mapping[str, str], unit: str = "s"
) -> dict[str, float]:
    """Returns the statistics in ms that an object states, by field of Point.

    Zeros mean 'not measured'. Percentiles that fall are a fault.

    Args:
        fields: the object.
        metric: ttft, tpot, itl or e2e.
        keys: the object's key of each statistic (mean, p50 ...), lowest percentile first.
        unit: what the object's numbers are in: s or ms.
    """
    found: dict[str, float] = {}
    for statistic, key in keys.items():
        value = fields.number(key, unit)
        if value:
            found[statistic] = value * (1.0 if unit == "ms" else 1e3)
    ranked = [(s, found[s]) for s in keys if s in found and s != "mean"]
    for (_, low), (statistic, high) in pairwise(ranked):
        if high < low * (1 - 1e-9):
            what = f"percentiles must not fall, {low:g} ms comes before, got {high:g} ms"
            fields.fault(keys[statistic], what)
    return {f"{metric}_{statistic}_ms": value for statistic, value in found.items()}


def closed_load(
    cap: float, n_requests: int, in_flight: float | None, notes: list[str]
) -> dict[str, object]:
    """Returns mode and concurrency of a closed loop: its cap, or what was in flight below it."""
    concurrency = float(cap)
    if in_flight is not None and in_flight < CAP_REACHED_RATIO * cap:
        notes.append(f"the cap of {cap:g} was not reached: {in_flight:.3g} in flight on average")
        concurrency = in_flight
    elif n_requests < cap:
        notes.append(f"the cap of {cap:g} was not reached: only {n_requests} requests were sent")
        concurrency = float(n_requests)
    return {"mode": "closed", "concurrency": concurrency}


def batch_load(n_requests: int, notes: list[str]) -> dict[str, object]:
    """Returns mode and concurrency of requests that were all sent at once."""
    notes.append(f"all {n_requests} requests were sent at once: a batch, not a steady load")
    return {"mode": "batch", "concurrency": float(n_requests)}


def note_overload(achieved_rps: float, offered_rps: float, notes: list[str]) -> None:
    """Returns nothing; notes a run that answered less than was offered (requests/s)."""
    if achieved_rps < OVERLOADED_RATIO * offered_rps:
        notes.append(
            f"answered {achieved_rps:.3g} of {offered_rps:.3g} offered requests/s: overloaded, "
            "or a run so short that its end counts"
        )


def note_failures(n_failed: int | None, n_requests: int, notes: list[str]) -> None:
    """Returns nothing; notes requests that failed."""
    if n_failed:
        notes.append(f"{n_failed} of {n_requests} requests failed and are in no latency figure")
