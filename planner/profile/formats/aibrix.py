"""Results of AIBrix's GPU optimizer: benchmark rows (JSONL) and throughput tables (JSON).

Facts of the rows (aibrix gpu_optimizer/optimizer/profiling/gpu_benchmark.py @e3e10f9): up to five
rows per run, which share input_tokens, output_tokens, request_rate, seed, model and samples and
differ in `metric`: TPUT answered requests/s, TT output tokens/s, and E2E, TTFT, TPOT in s: mean,
P50, P90, P99. Token counts are those asked for. Arrivals are Poisson; a rate of Infinity sends all
at once. Failed requests are sent again, so none is counted. TPOT pools the gaps between the chunks
of all requests: that is our itl, and no tpot of ours follows from it. Without streaming TPOT is 0
and TTFT is the time to read an answer that is already there: both mean nothing.

Facts of the table (gen_profile.py): {gpu, cost, tputs, indexes: [output_tokens, input_tokens]};
`gpu` is the name of the deployment, by convention of model and GPU, so it is no name of a GPU;
tputs[i][j] is the highest answered rate, requests/s, that met the SLOs for indexes[0][i] output and
indexes[1][j] input tokens; 0 where none did.

Files that AIBrix ships and whose names say `simulator` come from its simulator, not from GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from pydantic import ValidationError

from planner.errors import Fault, InputError
from planner.profile.fields import (
    Fields,
    Reading,
    base_name,
    each_file,
    json_objects,
    plain_text,
    shown,
)
from planner.profile.formats.loads import (
    OVERLOADED_RATIO,
    one_object,
    section,
    spells,
    stated_ms,
)
from planner.spec.base import Origin
from planner.spec.pool import CapacityPoint, Point

NAME = "AIBrix GPU optimizer"
_RUN_KEYS = ("input_tokens", "output_tokens", "request_rate", "seed", "model", "samples")
_ROW_KEYS = ("metric", "mean", "request_rate", "input_tokens")
_TABLE_KEYS = ("tputs", "indexes")
_METRICS = ("TPUT", "TT", "E2E", "TTFT", "TPOT")
_STATISTICS = {"mean": "mean", "p50": "P50", "p90": "P90", "p99": "P99"}
_MAX_NAMED = 3  # runs that a note names before it only counts them


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a table or starts with a benchmark row of AIBrix."""
    if spells(text, *_TABLE_KEYS):
        return True
    return spells(text, *_ROW_KEYS) and any(f'"{metric}"' in text for metric in _METRICS)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the points (ms, requests/s) of each file of rows and the capacity of each table.

    Raises InputError with the faults of all files together.
    """
    return each_file(files, _read_file)


def _read_file(name: str, text: str) -> Reading:
    """Returns what one file says: a table, or rows."""
    if spells(text, *_TABLE_KEYS):
        return _read_table(name, text)
    return _read_rows(name, text)


def _origin(*names: str | None) -> Origin:
    """Returns how the figures of a file came to be: AIBrix names its simulator in its files."""
    return "simulated" if any("simulator" in (name or "").lower() for name in names) else "measured"


# --- benchmark rows ---------------------------------------------------------------------------


def _read_rows(name: str, text: str) -> Reading:
    """Returns one point per run of a file of rows."""
    rows = [
        Fields(name, values, f"row {place}.")
        for place, values in enumerate(json_objects(name, plain_text(name, text)), start=1)
    ]
    origin = _origin(base_name(name))
    points = [_read_run(run, origin) for run in _runs(rows)]
    faults = [fault for row in rows for fault in row.faults]
    models = sorted({model for row in rows if isinstance(model := row.values.get("model"), str)})
    if len(models) > 1 and not faults:
        what = f"one file, one model, got {', '.join(models)[:300]}"
        faults.append(Fault(name, "model", what, "split the file by model"))
    if faults:
        raise InputError(faults)
    kept = [point for point in points if point is not None]
    notes = [f"{base_name(name)}: {note}" for note in _row_notes(rows, kept, origin)]
    return Reading(kept, notes, next(iter(models), None))


def _runs(rows: Sequence[Fields]) -> list[list[Fields]]:
    """Returns the rows run by run: equal settings, one after the other, each metric once."""
    runs: list[list[Fields]] = []
    for _, same in groupby(rows, key=lambda row: [repr(row.values.get(k)) for k in _RUN_KEYS]):
        seen: set[str] = set()
        for row in same:
            metric = repr(row.values.get("metric"))
            if not seen or metric in seen:  # the same load was measured once more
                runs.append([])
                seen = set()
            seen.add(metric)
            runs[-1].append(row)
    return runs


def _read_run(rows: Sequence[Fields], origin: Origin) -> Point | None:
    """Returns the point of a run's rows, None after keeping a fault in one of them."""
    by_metric = {metric: row for row in rows if (metric := _metric(row)) is not None}
    first = rows[0]
    input_tokens = first.number("input_tokens", "tokens", required=True, above_zero=True)
    output_tokens = first.number("output_tokens", "tokens", required=True, above_zero=True)
    samples = first.count("samples", at_least=1)
    first.text("model")
    load = _load(first, samples)
    figures: dict[str, object] = {}
    for metric, column in (("TPUT", "achieved_rps"), ("TT", "output_tokens_per_s")):
        if metric in by_metric:
            unit = "requests/s" if metric == "TPUT" else "tokens/s"
            figures[column] = by_metric[metric].number("mean", unit, required=True) or None
    figures |= _latencies(by_metric)
    if any(row.faults for row in rows) or load is None:
        return None
    run = {"input_tokens": input_tokens, "output_tokens": output_tokens, "n_requests": samples}
    source = base_name(first.file)
    return first.point({**figures, **load, **run, "origin": origin, "source": source})


def _metric(row: Fields) -> str | None:
    """Returns the metric of a row, None after keeping a fault for one that AIBrix does not have."""
    metric = row.text("metric", required=True)
    if metric is None or metric in _METRICS:
        return metric
    row.fault("metric", f"must be one of {', '.join(_METRICS)}, got {shown(metric)}")
    return None


def _load(row: Fields, samples: int | None) -> dict[str, object] | None:
    """Returns mode and offered rate (requests/s) of a run; None after keeping a fault."""
    if row.values.get("request_rate") == math.inf:
        if samples is None:
            row.fault("samples", "is missing, a batch needs the requests sent, got nothing")
            return None
        return {"mode": "batch", "concurrency": float(samples)}
    rate_rps = row.number("request_rate", "requests/s", required=True, above_zero=True)
    return None if rate_rps is None else {"mode": "open", "offered_rps": rate_rps}


def _latencies(rows: Mapping[str, Fields]) -> dict[str, float]:
    """Returns the latencies of a run in ms by field of Point; TTFT and gaps only if streamed."""
    stated = {
        metric: stated_ms(rows[key], metric, _STATISTICS)
        for metric, key in (("e2e", "E2E"), ("ttft", "TTFT"), ("itl", "TPOT"))
        if key in rows
    }
    figures = stated.get("e2e", {})
    gaps = stated.get("itl", {})
    return {**figures, **stated.get("ttft", {}), **gaps} if gaps else figures


def _row_notes(rows: Sequence[Fields], points: Sequence[Point], origin: Origin) -> list[str]:
    """Returns what a reader should know of the runs of a file."""
    notes = ["these figures come from AIBrix's simulator, not from a GPU"]
    notes = notes if origin == "simulated" else []
    n_streamed = sum(point.itl_mean_ms is not None for point in points)
    if n_streamed:
        notes.append("AIBrix's TPOT pools the gaps between chunks: it is kept as itl, not as tpot")
    if n_streamed < len(points):
        n = len(points) - n_streamed
        notes.append(f"{n} of {len(points)} runs were not streamed: ttft, tpot, itl not measured")
    late = [p for p in points if _is_overloaded(p)]
    if late:
        named = ", ".join(
            f"{p.input_tokens:g} in, {p.output_tokens:g} out at {p.offered_rps:g}/s"
            for p in late[:_MAX_NAMED]
        )
        more = f" and {len(late) - _MAX_NAMED} more" if len(late) > _MAX_NAMED else ""
        notes.append(
            f"{len(late)} of {len(points)} runs answered less than {OVERLOADED_RATIO:g} of the "
            f"offered rate (overloaded, or short): {named}{more}"
        )
    if any(point.mode == "batch" for point in points):
        notes.append("runs at an infinite rate sent all requests at once: batches, no steady load")
    notes.append("token counts are those asked for; failed requests are not counted by AIBrix")
    return notes


def _is_overloaded(point: Point) -> bool:
    """Returns whether an open run answered less than was offered."""
    if point.offered_rps is None or point.achieved_rps is None:
        return False
    return point.achieved_rps < OVERLOADED_RATIO * point.offered_rps


# --- the table --------------------------------------------------------------------------------


def _read_table(name: str, text: str) -> Reading:
    """Returns the capacity that a table states, requests/s per input and output length."""
    fields = Fields(name, one_object(name, text))
    deployment = fields.text("gpu")
    output_tokens, input_tokens = _indexes(fields)
    rows = _matrix(fields, len(output_tokens), len(input_tokens))
    origin = _origin(base_name(name), deployment)
    capacity: list[CapacityPoint] = []
    for n_out, rates in zip(output_tokens, rows, strict=False):
        for n_in, rate_rps in zip(input_tokens, rates, strict=False):
            if rate_rps > 0:
                capacity += _capacity(fields, n_in, n_out, rate_rps, origin)
    if not capacity and not fields.faults:
        fields.fault("tputs", "no length sustains any load, got only zeros", "measure again")
    slos = section(fields, "slos")
    if fields.faults:
        raise InputError(fields.faults)
    notes = ["a table of throughput gives capacity only: it says nothing of latency"]
    if deployment is not None:
        notes.append(f"AIBrix measured the deployment {deployment}")
    n_none = len(output_tokens) * len(input_tokens) - len(capacity)
    if n_none:
        notes.append(f"{n_none} lengths met the SLOs at no rate and are left out")
    limits = [f"{key} {shown(slos.values[key])}" for key in sorted(slos.values)]
    if limits:
        notes.append(f"sustained under AIBrix's own limits: {', '.join(limits)}")
    if origin == "simulated":
        notes.append("these figures come from AIBrix's simulator, not from a GPU")
    noted = [f"{base_name(name)}: {note}" for note in notes]
    return Reading([], noted, capacity=tuple(capacity))


def _capacity(
    fields: Fields, input_tokens: float, output_tokens: float, max_rps: float, origin: Origin
) -> list[CapacityPoint]:
    """Returns one capacity point, none after keeping the faults of its figures."""
    source = base_name(fields.file)
    try:
        point = CapacityPoint(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            max_rps=max_rps,
            origin=origin,
            source=source,
        )
    except ValidationError as error:
        fields.reject(error)
        return []
    return [point]


def _indexes(fields: Fields) -> tuple[list[float], list[float]]:
    """Returns the output and the input lengths (tokens) of a table; empty after a fault."""
    lists = fields.items("indexes")
    if lists is None or len(lists) != 2:
        if lists is not None:
            what = f"must hold two lists, output and input tokens, got {len(lists)}"
            fields.fault("indexes", what)
        return [], []
    found: list[list[float]] = []
    for place, values in enumerate(lists):
        where = f"indexes[{place}]"
        numbers = fields.array(where, values, "tokens") if isinstance(values, list) else None
        if not isinstance(values, list):
            fields.fault(where, f"must be a list of token counts, got {shown(values)}")
        lengths = [] if numbers is None else [float(value) for value in numbers]
        if any(high <= low for low, high in pairwise(lengths)):
            fields.fault(where, "token counts must rise, got some that do not")
        found.append(lengths)
    return found[0], found[1]


def _matrix(fields: Fields, n_rows: int, n_columns: int) -> list[list[float]]:
    """Returns the rates (requests/s) of a table, (n_rows, n_columns); empty after a fault."""
    rows = fields.items("tputs") or []
    if len(rows) != n_rows:
        fields.fault("tputs", f"indexes[0] has {n_rows} entries, got {len(rows)} rows")
        return []
    found: list[list[float]] = []
    for place, row in enumerate(rows):
        where = f"tputs[{place}]"
        if not isinstance(row, list) or len(row) != n_columns:
            got = shown(row) if not isinstance(row, list) else f"{len(row)} entries"
            fields.fault(where, f"must be a list of {n_columns} rates in requests/s, got {got}")
            continue
        rates = fields.array(where, row, "requests/s")
        if rates is not None:
            found.append([float(value) for value in rates])
    return found
