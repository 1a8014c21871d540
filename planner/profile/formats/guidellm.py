"""Report files of GuideLLM: one JSON file holds one benchmark per rate, a whole curve.

Facts of the format (guidellm/benchmark/schemas and guidellm/schemas @ee7a774; v0.3.1 benchmark.py):
    - `request_latency` is in s, figures named `_ms` in ms; percentiles lie one level deeper.
    - `time_per_output_token_ms` counts the first token, (last - start) / tokens: never used here.
    - `inter_token_latency_ms` of a request is (last - first) / (tokens - 1), so a tpot. Its summary
      has one entry per request up to 0.3 and one per token since 0.4: there the percentiles weigh
      requests by their length, and only the mean keeps a meaning, that of the mean gap (itl).
    - Since 0.4 `requests` lists warm-up and cool-down too; `metrics` covers the requests that
      overlap measure_start_time..measure_end_time.
    - With a sample size, `requests` is a sample; `request_totals` counts all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce

import numpy as np

from planner.errors import InputError
from planner.profile.fields import (
    Fields,
    Reading,
    base_name,
    each_file,
    plain_text,
    shown,
)
from planner.profile.formats import requests as arrays
from planner.profile.formats.loads import (
    batch_load,
    closed_load,
    note_failures,
    note_overload,
    one_object,
    section,
    stated_ms,
)
from planner.profile.formats.requests import Requests

NAME = "GuideLLM"
_CSV_STARTS = ("Run Info,", "Type,Run Id,")
_FIX_JSON = "import the .json report of the same run, it holds every request"
_RATE_KINDS = ("constant", "poisson")
_KINDS = ("synchronous", "concurrent", "throughput", *_RATE_KINDS, "trace", "replay")
_NOT_POISSON = {
    "constant": "requests were sent at even intervals, not as Poisson arrivals",
    "trace": "requests were sent as a recorded trace says, not as Poisson arrivals",
}
_PERCENTILES = {p: p for p in ("p50", "p90", "p95", "p99")}
_LATEST_S = 253_402_300_800.0  # the year 10000, which no date can show


@dataclass(frozen=True)
class _Run:
    """How one benchmark was measured."""

    kind: str  # of its strategy
    duration_s: float
    window_s: tuple[float, float]  # from when to when requests count, s since 1970
    totals: dict[str, int | None]  # requests by outcome, inside the window
    per_token: bool  # whether the summary of inter_token_latency_ms has one entry per token


@dataclass(frozen=True)
class _Measured:
    """What one benchmark measured, from its requests or its summary."""

    figures: dict[str, object]  # by field of Point
    in_flight: float | None  # mean requests in flight
    n_sent: int  # requests inside the measured time, whatever became of them


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a JSON report of this tool, or its CSV."""
    start = text.lstrip("\ufeff \t\r\n")
    if start.startswith(_CSV_STARTS):
        return True
    marks = ('"generative_benchmark"', '"guidellm_version"')
    return start.startswith("{") and '"benchmarks"' in text and any(m in text for m in marks)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the points (ms, requests/s, tokens/s) of reports, one Reading per file.

    A CSV beside the JSON of the same name is left out. Raises InputError with the faults of all
    files together, and for a CSV that stands alone.
    """
    stems = {_stem(name) for name, text in files.items() if _is_json(text)}
    spare = [name for name, text in files.items() if not _is_json(text) and _stem(name) in stems]
    readings = each_file({n: text for n, text in files.items() if n not in spare}, _read_file)
    if readings and spare:
        said = [f"{base_name(name)}: left out, the .json says the same" for name in sorted(spare)]
        readings[0].notes.extend(said)
    return readings


def _is_json(text: str) -> bool:
    """Returns whether a text starts as a JSON object."""
    return text.lstrip("\ufeff \t\r\n").startswith("{")


def _stem(name: str) -> str:
    """Returns a file's name without its ending."""
    return name.rsplit(".", 1)[0]


def _read_file(name: str, text: str) -> Reading:
    """Returns the points of one report; raises InputError with the faults of all its benchmarks."""
    clean = plain_text(name, text)
    if not _is_json(clean):
        what = f"is a table without the single requests, got {shown(clean.lstrip()[:20])}"
        raise InputError.single(name, "content", what, _FIX_JSON)
    report = Fields(name, one_object(name, clean))
    benchmarks = report.items("benchmarks")
    if not benchmarks:
        report.fault("benchmarks", f"is missing or empty, got {shown(benchmarks)}", _FIX_JSON)
    points, notes, model_ids, engines = [], [], [], []
    for place, values in enumerate(benchmarks or []):
        if not isinstance(values, dict):
            report.fault(f"benchmarks[{place}]", f"must be an object, got {shown(values)}")
            continue
        reading = _read_benchmark(Fields(name, values, f"benchmarks[{place}]."), report)
        points += reading.points
        notes += reading.notes
        model_ids += [reading.model_id] if reading.model_id else []
        engines += [reading.engine] if reading.engine else []
    if len(set(model_ids)) > 1:
        what = f"one report, one model, got {', '.join(sorted(set(model_ids)))[:200]}"
        report.fault("benchmarks", what, "split the report by model")
    if report.faults:
        raise InputError(report.faults)
    served = (model_ids[0] if model_ids else None), (engines[0] if engines else None)
    return Reading(points, notes, *served)


def _read_benchmark(fields: Fields, report: Fields) -> Reading:
    """Returns the one point of a benchmark, none when a fault was kept in `report`."""
    fields.faults = report.faults
    before = len(report.faults)
    strategy = _strategy(fields)
    run = _run(fields, strategy)
    notes: list[str] = []
    measured = _measured(fields, run, notes) if run and len(report.faults) == before else None
    if run is None or measured is None or len(report.faults) > before:
        return Reading([], [])
    load = _load(strategy, run, measured, notes)
    _note_warnings(fields, notes)
    if len(report.faults) > before:
        return Reading([], [])
    source = f"{base_name(fields.file)} {_date(run.window_s[0])}".strip()
    point = fields.point({**measured.figures, **load, "origin": "measured", "source": source})
    label = f"{base_name(fields.file)} {run.kind} {_amount(load)}".rstrip()
    noted = [f"{label}: {note}" for note in notes]
    return Reading([point] if point else [], noted, _model_id(fields, report), _engine(fields))


def _inside(fields: Fields, *keys: str) -> Fields:
    """Returns the object that lies below keys, one in the other, empty where there is none."""
    return reduce(section, keys, fields)


def _strategy(fields: Fields) -> Fields:
    """Returns how requests were scheduled: config.strategy since 0.4, args.strategy before."""
    return _inside(fields, "config" if fields.has("config") else "args", "strategy")


def _run(fields: Fields, strategy: Fields) -> _Run | None:
    """Returns how a benchmark was measured, None after keeping a fault."""
    before = len(fields.faults)
    kind = strategy.text("type_", required=True)
    if kind is not None and kind not in _KINDS:
        strategy.fault("type_", f"must be one of {', '.join(_KINDS)}, got {shown(kind)}")
    scheduler = section(fields, "scheduler_metrics")
    start_s = scheduler.number("measure_start_time", "s")
    end_s = scheduler.number("measure_end_time", "s")
    if start_s is None or end_s is None:  # up to 0.3, where nothing but the window is listed
        start_s = fields.number("start_time", "s", required=True)
        end_s = fields.number("end_time", "s", required=True)
    if start_s is not None and end_s is not None and end_s <= start_s:
        fields.fault("end_time", f"must come after {start_s:.6f} s, got {end_s:.6f} s")
    metrics = section(fields, "metrics")
    home = metrics if metrics.has("request_totals") else fields
    totals = section(home, "request_totals")
    counts = {k: totals.count(k) for k in ("successful", "errored", "incomplete")}
    if len(fields.faults) > before or start_s is None or end_s is None or kind is None:
        return None
    return _Run(kind, end_s - start_s, (start_s, end_s), counts, fields.has("config"))


def _measured(fields: Fields, run: _Run, notes: list[str]) -> _Measured | None:
    """Returns what a benchmark measured: from its requests when all are listed."""
    before = len(fields.faults)
    listed = _listed(fields, run, notes)
    if len(fields.faults) > before:
        return None
    n_known = run.totals["successful"]
    n_listed = 0 if listed is None else int(listed.ok.sum())
    if n_known is not None and n_listed > n_known:
        what = f"lists {n_listed} requests inside the measured time, got a total of {n_known}"
        fields.fault("requests.successful", what)
        return None
    in_flight = _mean_in_flight(fields)
    n_total = sum(n or 0 for n in run.totals.values())
    if listed is None or n_listed < (n_known or 0):
        if n_listed:
            notes.append(f"{n_listed} of {n_known} answers are listed: figures are the summary's")
        return _Measured(_summary(fields, run, notes), in_flight, n_total)
    arrays.check(fields, "requests.successful", listed)
    if len(fields.faults) > before:
        return None
    figures = arrays.figures(listed, run.duration_s, run.window_s)
    n_errored = run.totals["errored"]
    if n_errored is not None:  # the list of failures may be a sample where that of answers is not
        n_empty = int((listed.ok & ~listed.answered).sum())
        figures |= {"n_requests": n_listed + n_errored, "n_failed": n_empty + n_errored}
    notes += arrays.remarks(listed)
    _note_incomplete(run, notes)
    in_flight = in_flight or arrays.in_flight(listed, run.duration_s)
    return _Measured(figures, in_flight, max(n_total, listed.ok.size))


def _listed(fields: Fields, run: _Run, notes: list[str]) -> Requests | None:
    """Returns the listed requests that overlap the measured time, None when none is listed."""
    lists = section(fields, "requests")
    rows: list[tuple[float, ...]] = []
    n_outside = 0
    for status in ("successful", "errored"):
        for place, values in enumerate(lists.items(status) or []):
            if not isinstance(values, dict):
                lists.fault(f"{status}[{place}]", f"must be an object, got {shown(values)}")
                return None
            request = Fields(fields.file, values, f"{lists.prefix}{status}[{place}].")
            request.faults = fields.faults
            row = _request(request, status == "successful")
            if row is None:
                return None
            # GuideLLM's own rule: whatever overlaps the measured time is in its metrics.
            if row[2] + row[4] >= run.window_s[0] - 1e-6 and row[2] <= run.window_s[1]:
                rows.append(row)
            else:
                n_outside += 1
    if not any(row[5] for row in rows):
        return None
    if n_outside:
        notes.append(f"{n_outside} requests of the warm-up or cool-down are left out")
    columns = np.array(rows, dtype=np.float64).T
    n_input, n_output, start_s, ttft_s, e2e_s, ok = columns
    return Requests(n_input, n_output, start_s, ttft_s, e2e_s, ok > 0)


def _request(request: Fields, successful: bool) -> tuple[float, ...] | None:
    """Returns the entries of one request in the order of Requests, None after keeping a fault."""
    before = len(request.faults)
    prefix = "request_" if request.has("request_end_time") else ""  # since 0.4
    start_s = request.number(f"{prefix}start_time", "s", required=successful)
    end_s = request.number(f"{prefix}end_time", "s", required=True)
    latency_s = request.number("request_latency", "s")
    ttft_ms = request.number("time_to_first_token_ms", "ms")
    n_input = request.number("prompt_tokens", "tokens")
    n_output = request.number("output_tokens", "tokens")
    if len(request.faults) > before or end_s is None:
        return None
    start_s = end_s if start_s is None else start_s  # an errored request may never have started
    e2e_s = end_s - start_s
    if e2e_s < 0 or (latency_s is not None and abs(latency_s - e2e_s) > 1e-3 + 0.01 * e2e_s):
        what = f"start and end are {e2e_s:g} s apart, got {shown(latency_s)}"
        request.fault("request_latency", what)
        return None
    return (
        math.nan if n_input is None else n_input,
        n_output or 0.0,
        start_s,
        math.nan if ttft_ms is None else ttft_ms / 1e3,
        e2e_s,
        float(successful),
    )


def _summary(fields: Fields, run: _Run, notes: list[str]) -> dict[str, object]:
    """Returns the figures of a benchmark that its summary holds, by field of Point."""
    metrics = section(fields, "metrics")
    lengths = {
        "input_tokens": _inside(metrics, "prompt_token_count", "successful"),
        "output_tokens": _inside(metrics, "output_token_count", "successful"),
    }
    figures: dict[str, object] = {
        key: stats.number("mean", "tokens", required=True, above_zero=True)
        for key, stats in lengths.items()
    }
    figures |= _statistics(metrics, "request_latency", "e2e", "s")
    figures |= _statistics(metrics, "time_to_first_token_ms", "ttft", "ms")
    figures |= _tpot(metrics, lengths["output_tokens"], run, notes)
    n_ok, n_errored = run.totals["successful"], run.totals["errored"]
    if not n_ok:
        metrics.fault("request_totals.successful", f"no request was answered, got {shown(n_ok)}")
        return figures
    n_output = figures["output_tokens"]
    figures |= {
        "achieved_rps": n_ok / run.duration_s,
        "n_requests": n_ok + (n_errored or 0),
        "n_failed": n_errored,
        "duration_s": run.duration_s,
    }
    if isinstance(n_output, float):
        figures["output_tokens_per_s"] = n_output * n_ok / run.duration_s
    note_failures(n_errored, n_ok + (n_errored or 0), notes)
    _note_incomplete(run, notes)
    arrays.check_summary(fields, figures)
    return figures


def _tpot(metrics: Fields, lengths: Fields, run: _Run, notes: list[str]) -> dict[str, object]:
    """Returns what the summary of inter_token_latency_ms says of tpot and itl, in ms."""
    figures = _statistics(metrics, "inter_token_latency_ms", "tpot", "ms")
    shortest, longest = lengths.number("min", "tokens"), lengths.number("max", "tokens")
    if not figures or not run.per_token or (shortest is not None and shortest == longest):
        return figures
    notes.append(
        "tpot is left out: the summary weighs long answers more; its mean is the mean gap (itl)"
    )
    return {"itl_mean_ms": figures["tpot_mean_ms"]} if "tpot_mean_ms" in figures else {}


def _statistics(metrics: Fields, field: str, metric: str, unit: str) -> dict[str, object]:
    """Returns the statistics of one metric of the answered requests in ms, by field of Point."""
    stats = _inside(metrics, field, "successful")
    percentiles = section(stats, "percentiles")
    return {
        **stated_ms(stats, metric, {"mean": "mean"}, unit),
        **stated_ms(percentiles, metric, _PERCENTILES, unit),
    }


def _mean_in_flight(fields: Fields) -> float | None:
    """Returns the time-weighted mean requests in flight, whatever became of them."""
    concurrency = _inside(fields, "metrics", "request_concurrency", "total")
    return concurrency.number("mean", "requests")


def _load(strategy: Fields, run: _Run, measured: _Measured, notes: list[str]) -> dict[str, object]:
    """Returns mode, concurrency and offered rate (requests/s) of a benchmark."""
    ramp_s = strategy.number("rampup_duration", "s")
    if ramp_s:
        notes.append(f"the load rose during the first {ramp_s:g} s, which may count")
    if run.kind == "synchronous":
        return {"mode": "closed", "concurrency": 1.0}
    if run.kind == "concurrent":
        cap = strategy.count("streams", required=True, at_least=1)
        return closed_load(cap or 1, measured.n_sent, measured.in_flight, notes)
    if run.kind == "throughput":
        return _as_fast_as_possible(strategy, measured.n_sent, measured.in_flight, notes)
    if run.kind not in _RATE_KINDS:
        notes.append(_NOT_POISSON["trace"])
        return {"mode": "open"}
    rate_rps = strategy.number("rate", "requests/s", required=True, above_zero=True)
    if run.kind in _NOT_POISSON:
        notes.append(_NOT_POISSON[run.kind])
    achieved_rps = measured.figures.get("achieved_rps")
    if rate_rps is not None and isinstance(achieved_rps, float):
        note_overload(achieved_rps, rate_rps, notes)
    return {"mode": "open", "offered_rps": rate_rps}


def _as_fast_as_possible(
    strategy: Fields, n_requests: int, in_flight: float | None, notes: list[str]
) -> dict[str, object]:
    """Returns the load of a throughput benchmark: a batch, or as many in flight as were seen."""
    cap = strategy.count("max_concurrency", at_least=1)
    if cap is not None and n_requests <= cap:
        return batch_load(n_requests, notes)
    if not in_flight:
        strategy.fault("max_concurrency", f"nothing says how many were in flight, got {shown(cap)}")
        return {}
    notes.append(f"as many requests as possible: {in_flight:.3g} in flight on average")
    return {"mode": "closed", "concurrency": in_flight}


def _note_incomplete(run: _Run, notes: list[str]) -> None:
    """Returns nothing; notes the requests that the end of the benchmark cut off."""
    n_cut = run.totals["incomplete"]
    if n_cut:
        notes.append(f"{n_cut} requests were cut off by the end of the run and are in no figure")


def _note_warnings(fields: Fields, notes: list[str]) -> None:
    """Returns nothing; notes what GuideLLM itself warns of, by its code."""
    warnings = fields.values.get("warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        code = warning.get("code") if isinstance(warning, dict) else None
        if isinstance(code, str) and code.isidentifier():
            notes.append(f"GuideLLM itself warns of {code[:60]}")


def _model_id(fields: Fields, report: Fields) -> str | None:
    """Returns the model that was asked, by the places where versions keep it."""
    places = (
        _inside(fields, "config", "backend").text("model"),
        _inside(fields, "worker").text("backend_model"),
        _inside(report, "config", "spec", "backend").text("model"),
        _inside(report, "args").text("model"),
        _inside(report, "args", "backend_kwargs").text("model"),
    )
    return next((place for place in places if place), None)


def _engine(fields: Fields) -> str | None:
    """Returns the engine where GuideLLM ran it itself; behind an address it is unknown."""
    backend = _inside(fields, "config", "backend")
    return "vllm" if backend.values.get("kind") == "vllm_python" else None


def _amount(load: Mapping[str, object]) -> str:
    """Returns a benchmark's load in a few characters, to tell it from the others of its file."""
    amount = load.get("offered_rps") or load.get("concurrency")
    return f"{amount:.4g}" if isinstance(amount, float) else ""


def _date(time_s: float) -> str:
    """Returns a time in s since 1970 as date and time in UTC, blank where no calendar has it."""
    if not 0 < time_s < _LATEST_S:
        return ""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y%m%d-%H%M%S")
