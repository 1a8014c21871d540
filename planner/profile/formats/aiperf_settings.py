"""What an AIPerf or GenAI-Perf run was set to: the load, the model, the GPUs it saw.

Facts of the format: the settings are the tool's own and moved twice. `input_config` holds
    since AIPerf 0.10 or so   phases[{kind, type, concurrency, rate}], models.items[{name}]
    AIPerf before             loadgen{concurrency, request_rate, request_rate_mode},
                              endpoint.model_names[]
    GenAI-Perf                concurrency, request_rate, or perf_analyzer.stimulus{...};
                              model_names[] or model
`telemetry_data.endpoints.*.gpus.*.gpu_name` names GPUs when telemetry was on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from planner.profile.fields import Fields, shown
from planner.profile.formats.loads import closed_load, note_overload, section

_IN_NAME = re.compile(r"(concurrency|request_rate)_?([0-9]+(?:\.[0-9]+)?)(?![0-9.]*[0-9])")
_RATE_TYPES = {"poisson", "constant", "gamma", "user_centric", "request_rate"}
_UNTIMED_TYPES = {"fixed_schedule", "schedule", "trace", "replay"}
_FIX_LOAD = (
    "import the .json of the run too, or name its folder by the load: concurrency8, request_rate12"
)
_FIX_PHASES = "run one profiling phase per run, so that its figures belong to one load"


@dataclass(frozen=True)
class Settings:
    """How a run was loaded: a cap, a rate, both, or neither."""

    cap: int | None  # requests in flight at most
    rate_rps: float | None
    pattern: str  # how requests were sent: poisson, constant, ...; blank where it is not told


def settings(summary: Fields | None, name: str) -> Settings:
    """Returns how a run was loaded, from its summary or else from its file's name."""
    if summary is not None:
        config = section(summary, "input_config")
        found = _phases(config) if config.has("phases") else _older(config)
        if found.cap is not None or found.rate_rps is not None or found.pattern:
            return found
    told = dict(_IN_NAME.findall(name[-500:]))
    if "request_rate" in told and float(told["request_rate"]) > 0:
        return Settings(None, float(told["request_rate"]), "")
    cap = float(told.get("concurrency", 0))
    return Settings(int(cap) if 1 <= cap <= 1e9 else None, None, "")


def load(
    run: Fields,
    given: Settings,
    figures: Mapping[str, object],
    in_flight: float | None,
    notes: list[str],
) -> dict[str, object]:
    """Returns mode, concurrency and offered rate (requests/s) of a run by field of Point.

    Args:
        run: keeps a fault where nothing tells the load: the mean in flight of an unknown mode is
            no load that anybody could set again.
        given: how the run was set.
        figures: what was measured, by field of Point.
        in_flight: mean requests in flight, measured.
        notes: gets what a reader should know of the load.
    """
    if given.pattern in _UNTIMED_TYPES:
        notes.append("requests were sent as a schedule says, not as Poisson arrivals")
        return {"mode": "open"}
    if given.rate_rps is not None:
        achieved_rps = figures.get("achieved_rps")
        if isinstance(achieved_rps, float):
            note_overload(achieved_rps, given.rate_rps, notes)
        if given.cap is not None:
            notes.append(f"a cap of {given.cap} in flight may have held requests back")
        if given.pattern not in ("", "poisson"):
            notes.append(f"arrivals were not Poisson ({given.pattern})")
        return {"mode": "open", "offered_rps": given.rate_rps}
    if given.cap is not None:
        n_requests = figures.get("n_requests")
        n_sent = n_requests if isinstance(n_requests, int) else given.cap
        return closed_load(given.cap, n_sent, in_flight, notes)
    mean = "" if in_flight is None else f", {in_flight:.3g} in flight on average"
    run.fault("input_config", f"the load that was set is not told, got no setting{mean}", _FIX_LOAD)
    return {}


def model_id(summary: Fields) -> str | None:
    """Returns the model that was asked; keeps a fault when a run asked several."""
    config = section(summary, "input_config")
    items = section(config, "models").values.get("items")
    lists = (
        [item.get("name") for item in items if isinstance(item, dict)]
        if isinstance(items, list)
        else None,
        section(config, "endpoint").values.get("model_names"),
        config.values.get("model_names"),
        config.values.get("model"),
    )
    for found in lists:
        names = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        known = sorted(
            {n.strip() for n in names if isinstance(n, str) and 0 < len(n.strip()) < 1000}
        )
        if len(known) > 1:
            what = f"one run, one model, got {', '.join(known)[:200]}"
            summary.fault("input_config", what, "run the models apart")
        if known:
            return known[0]
    return None


def gpu_name(summary: Fields, notes: list[str]) -> str | None:
    """Returns the GPU that telemetry saw, None where it saw none or several kinds."""
    endpoints = reduce(section, ("telemetry_data", "endpoints"), summary).values.values()
    names: set[str] = set()
    for endpoint in endpoints:
        gpus = endpoint.get("gpus") if isinstance(endpoint, dict) else None
        for gpu in gpus.values() if isinstance(gpus, dict) else ():
            name = gpu.get("gpu_name") if isinstance(gpu, dict) else None
            if isinstance(name, str) and 0 < len(name.strip()) < 1000:
                names.add(name.strip())
    if len(names) > 1:
        notes.append(f"telemetry saw several kinds of GPU ({', '.join(sorted(names))[:200]})")
    return names.pop() if len(names) == 1 else None


def _phases(config: Fields) -> Settings:
    """Returns the load of the one profiling phase; keeps a fault when there are several."""
    phases = [phase for phase in config.items("phases") or [] if isinstance(phase, dict)]
    measured = [p for p in phases if p.get("kind", p.get("name")) != "warmup"]
    if len(measured) != 1:
        config.fault("phases", f"one profiling phase is needed, got {len(measured)}", _FIX_PHASES)
        return Settings(None, None, "")
    place = phases.index(measured[0])
    phase = Fields(config.file, measured[0], f"{config.prefix}phases[{place}].")
    phase.faults = config.faults
    pattern = phase.text("type", required=True) or ""
    cap = phase.count("concurrency", at_least=1)
    rate_rps = phase.number("rate", "requests/s", above_zero=True)
    if pattern == "concurrency" and cap is None:
        phase.fault("concurrency", f"is missing, got {shown(phase.values.get('concurrency'))}")
    if pattern in _RATE_TYPES and rate_rps is None:
        phase.fault("rate", f"is missing, got {shown(phase.values.get('rate'))}")
    if pattern not in {"concurrency", *_RATE_TYPES, *_UNTIMED_TYPES}:
        phase.fault("type", f"is no way to send requests that rb knows, got {shown(pattern)}")
    return Settings(cap, None if pattern == "concurrency" else rate_rps, pattern)


def _older(config: Fields) -> Settings:
    """Returns the load as AIPerf before its phases, or GenAI-Perf, tell it."""
    places = (
        section(config, "loadgen"),
        reduce(section, ("perf_analyzer", "stimulus"), config),
        config,
    )
    for place in places:
        cap = place.count("concurrency", at_least=1)
        rate_rps = place.number("request_rate", "requests/s", above_zero=True)
        if cap is None and rate_rps is None:
            continue
        pattern = place.text("arrival_pattern") or place.text("request_rate_mode") or ""
        return Settings(cap, rate_rps, "" if pattern == "concurrency_burst" else pattern)
    if reduce(section, ("input",), config).values.get("fixed_schedule") is True:
        return Settings(None, None, "fixed_schedule")
    return Settings(None, None, "")
