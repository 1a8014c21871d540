"""Results of the simulator Vidur: `request_metrics.csv` with the `config.json` beside it.

Facts of the format (vidur/metrics/metrics_store.py, entities/request.py @7d47513): one row per
request, times in s. request_e2e_time runs from arrival to the last token, prefill_e2e_time from
arrival to the first, which counts as the first of request_num_decode_tokens. A request that had not
finished when the simulation ended has blanks. Vidur's own decode time per token divides by all
decode tokens and is not read. request_inter_arrival_delay is the time since the row before.
config.json names model_name, device, tensor_parallel_size and num_replicas.

Facts of Vidur's profiling files (data/profiling: mlp.csv, attention.csv, all_reduce.csv,
send_recv.csv): columns `time_stats.<operator>.<statistic>` in ms of single operators of one layer.
They are recognised and refused: nothing in them says how many layers there are, how long output
projection, sampling and the CPU take, or how requests queue, so no latency of a request follows.

Notation
    a_i  arrival of request i, s                e_i  its end-to-end latency, s          (n,)
    D = max(a_i + e_i) - a_0                    the simulated duration, s
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planner.errors import Fault, InputError
from planner.files.csvs import number, parse_rows, raw_rows
from planner.profile.fields import Fields, Reading, base_name, plain_text
from planner.profile.formats import requests as arrays
from planner.profile.formats.loads import (
    batch_load,
    note_overload,
    one_object,
    section,
    spells,
)
from planner.spec.arrays import FloatArray

NAME = "Vidur"
_E2E, _TTFT = "request_e2e_time", "prefill_e2e_time"
_INPUT, _OUTPUT = "request_num_prefill_tokens", "request_num_decode_tokens"
_GAP = "request_inter_arrival_delay"
_NEEDED = (_E2E, _TTFT, _INPUT, _OUTPUT, _GAP)
_OPERATORS = "time_stats."
_CONFIG_KEYS = ("cluster_config", "request_generator_config")
_MAX_FAULTS = 20


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a request table, a configuration or a profile of Vidur."""
    columns = _columns(text)
    if set(_NEEDED) <= columns or any(column.startswith(_OPERATORS) for column in columns):
        return True
    return spells(text, *_CONFIG_KEYS)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the simulated point (ms, requests/s, tokens/s) of each request table.

    Raises InputError for profiles of single operators, and with the faults of all files together.
    """
    tables: dict[str, str] = {}
    configs: dict[str, str] = {}
    faults: list[Fault] = []
    for name in sorted(files):
        if spells(files[name]):
            configs[name] = files[name]
        elif any(column.startswith(_OPERATORS) for column in _columns(files[name])):
            faults.append(_refusal(name, files[name]))
        else:
            tables[name] = files[name]
    readings: list[Reading] = []
    for name, text in {**tables, **(configs if not tables and not faults else {})}.items():
        try:
            readings.append(_read_run(name, text, configs))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return readings


def _columns(text: str) -> set[str]:
    """Returns the column names of a CSV text; of any other text some words of its first line."""
    line = text.removeprefix("\ufeff").lstrip().split("\n", 1)[0][:20_000]
    rows = raw_rows(line)
    return set(rows[0]) if rows else set()


def _refusal(name: str, text: str) -> Fault:
    """Returns the fault of a file that times single operators, and what to do instead."""
    columns = sorted(c for c in _columns(text) if c.startswith(_OPERATORS))
    what = (
        "times single operators of one layer: the number of layers, output projection, sampling, "
        f"CPU time and queueing are missing, got {columns[0][:60]} and {len(columns) - 1} more"
    )
    fix = (
        "run Vidur's simulator with it, one replica, and import its request_metrics.csv and "
        "config.json; or measure the pool"
    )
    return Fault(name, "content", what, fix)


def _read_run(name: str, text: str, configs: Mapping[str, str]) -> Reading:
    """Returns the point of one request table; raises InputError with its faults."""
    if name in configs:
        what = "a configuration alone holds no figures, got no request_metrics.csv"
        raise InputError.single(name, "content", what, "give request_metrics.csv of the same run")
    served = _served(configs)
    fields = Fields(name, {})
    requests = _requests(fields, text)
    if requests is not None:
        arrays.check(fields, "requests", requests)
    if fields.faults or requests is None:
        raise InputError(fields.faults)
    done = requests.answered
    duration_s = float((requests.start_s + requests.e2e_s)[done].max() - requests.start_s[0])
    figures = arrays.figures(requests, duration_s)
    notes = ["these figures come from the simulator Vidur, not from a GPU"]
    if not done.all():
        n = int((~done).sum())
        notes.append(f"{n} of {done.size} requests were not finished: they count as failed")
    load = _load(requests.start_s, int(done.sum()) / duration_s, notes)
    source = f"{base_name(name)} Vidur"
    point = fields.point({**figures, **load, "origin": "simulated", "source": source})
    if point is None:
        raise InputError(fields.faults)
    noted = [f"{base_name(name)}: {note}" for note in notes]
    return served._replace(points=[point], notes=noted)


def _load(arrival_s: FloatArray, achieved_rps: float, notes: list[str]) -> dict[str, object]:
    """Returns mode and offered rate (requests/s) of arrivals (n,) in s."""
    span_s = float(arrival_s[-1] - arrival_s[0])
    if span_s <= 0:
        return batch_load(int(arrival_s.size), notes)
    offered_rps = (arrival_s.size - 1) / span_s
    note_overload(achieved_rps, offered_rps, notes)
    return {"mode": "open", "offered_rps": offered_rps}


def _requests(fields: Fields, text: str) -> arrays.Requests | None:
    """Returns the requests of a table; None after keeping faults in `fields`."""
    known = {column: column in _NEEDED for column in _columns(text).union(_NEEDED)}
    rows: list[tuple[float, ...]] = []
    faults: list[Fault] = []
    for line, cells in parse_rows(plain_text(fields.file, text), fields.file, known, faults):
        row = Fields(fields.file, {c: _cell(cells[c]) for c in _NEEDED}, f"line {line}.")
        rows.append(_request(row, first=not rows))
        faults += row.faults
        if len(faults) >= _MAX_FAULTS:
            break
    fields.faults += faults
    if faults or not rows:
        return None
    input_tokens, output_tokens, ttft_s, e2e_s, gaps_s = np.array(rows).T
    return arrays.Requests(
        input_tokens, output_tokens, np.cumsum(gaps_s), ttft_s, e2e_s, ~np.isnan(e2e_s)
    )


def _cell(text: str) -> object:
    """Returns the number that a cell holds, None where it is blank, else its text."""
    value = number(text)
    return value if value is not None else (text or None)


def _request(row: Fields, *, first: bool) -> tuple[float, ...]:
    """Returns input, output tokens, ttft, e2e (nan if unfinished), gap to the one before (s)."""
    e2e_s = row.number(_E2E, "s", above_zero=True)
    ttft_s = row.number(_TTFT, "s", required=e2e_s is not None, above_zero=True)
    input_tokens = row.number(_INPUT, "tokens", required=True, above_zero=True)
    output_tokens = row.number(_OUTPUT, "tokens", required=True)
    gap_s = row.number(_GAP, "s", required=not first)
    nan = float("nan")
    return (
        input_tokens or nan,
        output_tokens or 0.0,
        ttft_s if ttft_s is not None else nan,
        e2e_s if e2e_s is not None else nan,
        0.0 if first else gap_s or 0.0,
    )


def _served(configs: Mapping[str, str]) -> Reading:
    """Returns what the configuration beside a run says of it; raises InputError with its faults."""
    for name, text in configs.items():
        cluster = section(Fields(name, one_object(name, text)), "cluster_config", required=True)
        n_replicas = cluster.count("num_replicas", at_least=1)
        if n_replicas is not None and n_replicas > 1:
            what = f"a point is one replica, got {n_replicas}"
            cluster.fault("num_replicas", what, "simulate one replica")
        replica = section(cluster, "replica_config")
        found = Reading(
            [],
            [],
            model_id=replica.text("model_name"),
            gpu=replica.text("device"),
            tensor_parallel=replica.count("tensor_parallel_size", at_least=1),
        )
        if cluster.faults:
            raise InputError(cluster.faults)
        return found
    return Reading([], [])
