"""Result files of AIPerf and GenAI-Perf: one run is a JSON summary, a CSV of it, requests as JSONL.

Facts of the format (AIPerf docs/reference/json-export-schema.md 1.0 to 1.4; files of 0.13.0):
    - Every figure has its `unit`; scalars have only `avg`; a figure that does not apply is absent.
    - `request_latency` ends with the last content, `request_end_ns` with the last byte.
    - `output_sequence_length` counts the client's own tokens, reasoning included, unless the run
      was told to take the server's; `usage_completion_tokens` is what the server says it made.
    - `inter_token_latency` of a request is (latency - ttft) / (output_sequence_length - 1): a tpot.
    - `inter_chunk_latency` is between chunks of the stream, and a chunk may hold several tokens.
    - GenAI-Perf has the same figures, fewer of them, and settings of its own.
    - Aggregates over repeated runs hold statistics of statistics, no load level of one run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from planner.errors import Fault, InputError
from planner.files.csvs import raw_rows
from planner.profile.fields import Fields, Reading, base_name, plain_text, shown
from planner.profile.formats import requests as arrays
from planner.profile.formats.aiperf_records import Records, is_tokens, read_records, to_ms
from planner.profile.formats.aiperf_settings import gpu_name, load, model_id, settings
from planner.profile.formats.loads import note_failures, one_object, section, stated_ms

NAME = "AIPerf / GenAI-Perf"
_TIMES = {
    "ttft": "time_to_first_token",
    "tpot": "inter_token_latency",
    "e2e": "request_latency",
}  # ours -> AIPerf's
_STATISTICS = {"mean": "avg", **{p: p for p in ("p50", "p90", "p95", "p99")}}
_SUFFIX = re.compile(r"(_aiperf|_genai_perf)?\.[A-Za-z]+$")
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)")
_COUNTS_AGREE_RATIO = 0.01  # token counts of client and server that differ by more are told
_NO_ITL = "itl is left out: its gaps are between chunks, and a chunk may hold several tokens"
_FIX_TABLE = "export the run again, or import its .json instead"


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a summary, an aggregate, a CSV or the requests of a run."""
    start = text.lstrip("\ufeff \t\r\n")
    if start.startswith("Metric,avg"):
        return True
    return start.startswith("{") and bool(_kind(start))


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the points (ms, requests/s, tokens/s) of the runs in a folder, one Reading per run.

    Files of one run are joined: requests give the figures, the JSON summary the settings, and the
    CSV serves only alone. Raises InputError with the faults of all files together.
    """
    runs: dict[str, dict[str, str]] = {}
    left_out: list[Reading] = []
    faults: list[Fault] = []
    for name in sorted(files):
        kind = _kind(files[name].lstrip("\ufeff \t\r\n")) or "summary"
        if kind == "aggregate":
            note = "left out, it sums up repeated runs: import the files of the single runs"
            left_out.append(Reading([], [f"{base_name(name)}: {note}"]))
            continue
        run = runs.setdefault(_SUFFIX.sub("", name), {})
        if kind in run:
            what = f"{base_name(run[kind])} tells the same run, got a second file"
            faults.append(Fault(name, "content", what, "keep one of the two"))
        run[kind] = name
    readings: list[Reading] = []
    for run in runs.values():
        try:
            readings.append(_read_run({kind: (name, files[name]) for kind, name in run.items()}))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return readings + left_out


def _kind(start: str) -> str:
    """Returns what a text without leading blanks is: summary, records, table, aggregate or ''."""
    if not start.startswith("{"):
        return "table"
    if '"aggregation_type"' in start:
        return "aggregate"
    if '"request_start_ns"' in start or '"benchmark_phase"' in start:
        return "records" if '"metrics"' in start else ""
    figures = any(f'"{key}"' in start for key in ("request_latency", "request_throughput"))
    settled = '"input_config"' in start or '"aiperf_version"' in start
    return "summary" if figures and settled and '"avg"' in start else ""


def _read_run(run: Mapping[str, tuple[str, str]]) -> Reading:
    """Returns the one Reading of a run, by kind of file; raises InputError with its faults."""
    notes: list[str] = []
    faults: list[Fault] = []
    records: Records | None = None
    summary: Fields | None = None
    if set(run) == {"table"}:
        notes.append("read from the CSV: figures are rounded")
    try:
        summary = _summary(run)
    except InputError as error:
        faults += error.faults
    try:
        if "records" in run:
            records, kept = read_records(*run["records"])
            faults += kept.faults
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(faults)
    main = next(run[kind][0] for kind in ("records", "summary", "table") if kind in run)
    return _reading(main, summary, records, notes)


def _summary(run: Mapping[str, tuple[str, str]]) -> Fields | None:
    """Returns the figures and settings of a run: its JSON, or its CSV where that stands alone."""
    if "summary" in run:
        return Fields(run["summary"][0], one_object(*run["summary"]))
    if "records" in run:
        return None
    return Fields(run["table"][0], _table(*run["table"]))


def _reading(
    main: str, summary: Fields | None, records: Records | None, notes: list[str]
) -> Reading:
    """Returns the one point of a run; raises InputError with its faults."""
    own = Fields(main, {})  # keeps what is wrong with the run as a whole
    told = summary if summary is not None else own
    n_requests, n_ok = _counts(told)
    if records is not None:
        _check_records(records, own, n_ok)
        figures, in_flight = _from_records(records, told, notes)
    else:
        figures, in_flight = _from_summary(told, n_requests, n_ok, notes)
    how = load(own, settings(summary, main), figures, in_flight, notes)
    if told.values.get("was_cancelled") is True or told.values.get("is_complete") is False:
        notes.append("the run was cancelled before its end")
    model, gpu = model_id(told), gpu_name(told, notes)
    source = f"{base_name(main)} {_date(told, records)}".strip()
    faults = [*told.faults, *own.faults]
    point = None
    if not faults:
        point = own.point({**figures, **how, "origin": "measured", "source": source})
        faults = own.faults
    if point is None:
        raise InputError(faults)
    noted = [f"{source}: {note}" for note in notes]
    return Reading([point], noted, model_id=model, gpu=gpu)


def _check_records(records: Records, own: Fields, n_ok: int | None) -> None:
    """Returns nothing; keeps a fault when the requests cannot be, or are not all there."""
    arrays.check(own, "requests", records.requests)
    n_listed = int(records.requests.ok.sum())
    if n_ok is not None and n_ok != n_listed:
        what = f"the summary counts {n_ok} answers, got {n_listed}"
        own.fault("requests", what, "import the files of one run together, all of them whole")


def _from_records(
    records: Records, told: Fields, notes: list[str]
) -> tuple[dict[str, object], float | None]:
    """Returns the figures of a run's requests by field of Point, and the mean in flight."""
    requests = records.requests
    duration_s = _scalar(told, "benchmark_duration", "time") or records.span_s
    if duration_s <= 0 or not requests.answered.any():
        told.fault("benchmark_duration", f"must be above 0 s, got {duration_s:g}")
        return {}, None
    figures = arrays.figures(requests, duration_s)
    notes += arrays.remarks(requests)
    if records.n_warmup:
        notes.append(f"{records.n_warmup} warm-up requests are left out")
    if records.n_cancelled:
        notes.append(f"{records.n_cancelled} cancelled requests are left out")
    if records.gaps_s is not None:
        figures |= arrays.statistics_ms("itl", records.gaps_s)
    elif requests.streamed:
        notes.append(_NO_ITL)
    for what, server, client in (
        ("input", records.server_input, records.client_input),
        ("output", records.server_output, records.client_output),
    ):
        _note_tokens(what, server, client, notes)
    return figures, arrays.in_flight(requests, duration_s)


def _from_summary(
    told: Fields, n_requests: int | None, n_ok: int | None, notes: list[str]
) -> tuple[dict[str, object], float | None]:
    """Returns the figures of a run's summary by field of Point, and the mean in flight."""
    figures: dict[str, object] = {}
    for metric, key in _TIMES.items():
        stats = section(told, key)
        factor = to_ms(stats) if stats.values else None
        if factor is not None:
            stated = stated_ms(stats, metric, _STATISTICS, "ms")
            figures |= {name: value * factor for name, value in stated.items()}
    server_input = _scalar(told, "usage_prompt_tokens", "tokens")
    server_output = _scalar(told, "usage_completion_tokens", "tokens")
    client_input = _client_tokens(told, "input_sequence_length", "total_isl", n_ok)
    client_output = _client_tokens(told, "output_sequence_length", "total_osl", n_ok)
    n_input, n_output = server_input or client_input, server_output or client_output
    for key, value in (("input_sequence_length", n_input), ("output_sequence_length", n_output)):
        if value is None:
            told.fault(key, "is missing, the mean number of tokens is needed, got nothing")
    _note_tokens("input", server_input, client_input, notes)
    if _note_tokens("output", server_output, client_output, notes):
        figures = {name: v for name, v in figures.items() if not name.startswith("tpot")}
        notes.append("tpot is left out: it was divided by the client's count")
    if section(told, "inter_chunk_latency").values:
        notes.append(_NO_ITL)
    duration_s = _scalar(told, "benchmark_duration", "time")
    achieved_rps = _scalar(told, "request_throughput", "rate")
    if n_ok and duration_s:
        if achieved_rps is not None and not 0.9 < achieved_rps * duration_s / n_ok < 1.1:
            what = f"{n_ok} answers in {duration_s:g} s are {n_ok / duration_s:.6g}/s"
            told.fault("request_throughput", f"{what}, got {achieved_rps:g}")
        achieved_rps = n_ok / duration_s
    n_failed = None if n_requests is None or n_ok is None else n_requests - n_ok
    note_failures(n_failed, n_requests or 0, notes)
    figures |= {
        "input_tokens": n_input,
        "output_tokens": n_output,
        "achieved_rps": achieved_rps,
        "output_tokens_per_s": n_output * achieved_rps if n_output and achieved_rps else None,
        "n_requests": n_ok if n_requests is None else n_requests,
        "n_failed": n_failed,
        "duration_s": duration_s,
    }
    arrays.check_summary(told, figures)
    e2e_ms = figures.get("e2e_mean_ms")
    if isinstance(e2e_ms, float) and achieved_rps is not None:
        return figures, achieved_rps * e2e_ms / 1e3  # Little's law
    return figures, None


def _counts(told: Fields) -> tuple[int | None, int | None]:
    """Returns the requests sent and answered, None where the summary does not say."""
    n_ok = _scalar(told, "request_count", "requests")
    n_failed = _scalar(told, "error_request_count", "requests")
    if n_failed is None and told.has("error_summary"):
        kinds = told.items("error_summary") or []
        n_failed = float(
            sum(Fields(told.file, k).count("count") or 0 for k in kinds if isinstance(k, dict))
        )
    if n_ok is None:
        return None, None
    if n_ok < 1 or n_ok > 1e9:
        told.fault("request_count", f"must be from 1 to 1e9 answers, got {n_ok:g}")
    return (None if n_failed is None else int(n_ok + n_failed)), int(n_ok)


def _scalar(told: Fields, key: str, what: str) -> float | None:
    """Returns the mean of a figure in s (time), tokens, requests/s (rate) or requests.

    None where it is absent or faulty; 0 of anything but requests means not measured.
    """
    metric = section(told, key)
    if not metric.values:
        return None
    value = metric.number("avg", what)
    if value is None or (value == 0 and what != "requests"):
        return None
    if what == "time":
        factor = to_ms(metric)
        return None if factor is None else value * factor / 1e3
    if what == "tokens":
        return value if is_tokens(metric) else None
    unit = (metric.text("unit") or "").lower()
    if what == "rate" and not re.search(r"(/|per )s(ec)?", unit):
        metric.fault("unit", f"must be requests per second, got {shown(unit)}")
        return None
    return value


def _client_tokens(told: Fields, mean: str, total: str, n_ok: int | None) -> float | None:
    """Returns the mean tokens per answer as the client counts, from their total if need be."""
    found = _scalar(told, mean, "tokens")
    total_tokens = _scalar(told, total, "tokens") if found is None else None
    return total_tokens / n_ok if total_tokens and n_ok else found


def _note_tokens(what: str, server: float | None, client: float | None, notes: list[str]) -> bool:
    """Returns whether the mean token counts of server and client differ; notes whose is taken."""
    if server is None and client is not None:
        notes.append(f"{what} tokens are the client's count: the server's is not in the file")
    if not server or not client or abs(client / server - 1) <= _COUNTS_AGREE_RATIO:
        return False
    notes.append(
        f"{what} tokens are the server's {server:.4g} per request; the client counted {client:.4g}"
    )
    return True


def _table(name: str, text: str) -> dict[str, object]:
    """Returns the figures of a CSV in the shape of the JSON summary."""
    figures: dict[str, object] = {}
    header: list[str] = []
    rows = raw_rows(plain_text(name, text))
    if not rows:
        raise InputError.single(name, "content", "must be a CSV, got no rows", _FIX_TABLE)
    for row in rows:
        if len(row) < 2 or row[0] == "Endpoint":
            header = []
        elif row[0] == "Metric":
            header = ["avg" if cell == "Value" else cell for cell in row]
        elif header:
            title, _, unit = row[0].rpartition(" (")
            key = (title or unit).strip().lower().replace(" ", "_")
            cells = zip(header[1:], row[1:], strict=False)
            stats: dict[str, object] = {s: _number(c) for s, c in cells if c.strip()}
            figures[key] = {**stats, "unit": unit.rstrip(") ") if title else "requests"}
    return figures


def _number(cell: str) -> float | str:
    """Returns a cell as a number where it is one; thousands may be set apart by commas."""
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return cell


def _date(told: Fields, records: Records | None) -> str:
    """Returns when a run began as date and time, blank where nothing tells it."""
    began = told.values.get("start_time")
    found = _DATE.match(began) if isinstance(began, str) else None
    if found:
        return "{}{}{}-{}{}{}".format(*found.groups())
    if records is None:
        return ""
    return datetime.fromtimestamp(records.requests.start_s.min(), UTC).strftime("%Y%m%d-%H%M%S")
