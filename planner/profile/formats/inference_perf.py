"""Reports of inference-perf: `stage_<N>_lifecycle_metrics.json`, one load level each, and what lies
beside them: the configuration, the requests one by one, the summary.

Facts of the format (kubernetes-sigs/inference-perf inference_perf/reportgen/base.py, apis/base.py
@7de5ef2; files of 0.7.0): all times in s; the median is `median`, a distribution of nothing is
null. `load_summary.requested_rate` is what was asked for, `achieved_rate` what the client sent,
`throughput.requests_per_sec` what was answered. `load_summary.concurrency` is there for a closed
loop. time_per_output_token leaves the first token out: last minus first token time over tokens - 1.
Its tokens, and those of output_tokens_per_sec, are the client's own count of the text unless
report.request_lifecycle.use_server_output_tokens is set; `successes.output_tokens` is the server's.
Older files have `prompt_len` for `prompt_tokens` and no `benchmark_time_seconds`.

`per_request_lifecycle_metrics.json` lists start_time, end_time, info and error of each request, not
its stage. Stages run one after the other, so the requests in order of start_time fall to the stages
by their counts; the time that each stage took proves it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from planner.errors import Fault, InputError
from planner.files.yamls import parse_yaml
from planner.profile.fields import Fields, Reading, base_name, plain_text, shown
from planner.profile.formats import requests as arrays
from planner.profile.formats.inference_perf_requests import StageRequests, by_stage
from planner.profile.formats.loads import (
    closed_load,
    note_failures,
    note_overload,
    one_object,
    section,
    spells,
    stated_ms,
)

NAME = "inference-perf"
_METRICS = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "itl": "inter_token_latency",
    "e2e": "request_latency",
}
_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_REPORT_KEYS = ("load_summary", "successes", "failures")
_REQUEST_KEYS = ('"start_time"', '"end_time"', '"request"', '"info"')
_CONFIG_KEYS = tuple(re.compile(rf"^{key}:", re.MULTILINE) for key in ("load", "(server|api)"))
_STAGE = re.compile(r"(?:^|[^a-z])stage_([0-9]{1,6})_lifecycle_metrics")
_RUN_DATE = re.compile(r"reports-([0-9]{8}-[0-9]{6})")
_SENT_RATIO = 0.9  # a client that sent less than this share of the rate did not offer it
_COUNTS_AGREE = 0.01  # beyond this difference the client's token count is worth a word
_FIX_FILES = "give the stage_<N>_lifecycle_metrics.json of the run"


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a report, a list of requests or a configuration of the tool."""
    start = text.removeprefix("\ufeff").lstrip()
    if start.startswith("["):
        return all(key in start for key in _REQUEST_KEYS)
    if start.startswith("{"):
        return spells(text, *_REPORT_KEYS)
    return all(key.search(text) for key in _CONFIG_KEYS)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the point (ms, requests/s, tokens/s) of each stage of a run.

    Raises InputError with the faults of all files together.
    """
    if not files:
        return []
    stages, lists, configs, others = _sorted_out(files)
    faults: list[Fault] = []
    config = _config(configs, files, faults)
    notes = [f"{base_name(name)}: left out, {why}" for name, why in others]
    if not stages and not faults:
        first = sorted(files)[0]
        what = f"no stage has its own report, got {', '.join(map(base_name, sorted(files)))}"
        faults.append(Fault(first, "content", what[:300], _FIX_FILES))
    requests = by_stage(lists, files, stages, notes, faults)
    readings: list[Reading] = []
    for name in stages:
        fields = stages[name]
        reading = _read_stage(fields, config, requests.get(name))
        faults += fields.faults
        readings += [reading] if reading else []
    if faults:
        raise InputError(faults)
    readings[0].notes[:0] = notes
    return readings


def _sorted_out(
    files: Mapping[str, str],
) -> tuple[dict[str, Fields], list[str], list[str], list[tuple[str, str]]]:
    """Returns the stage reports by name, lists of requests, configurations, and what is left out.

    Raises InputError for a report that is not JSON.
    """
    stages: dict[str, Fields] = {}
    lists: list[str] = []
    configs: list[str] = []
    others: list[tuple[str, str]] = []
    for name in sorted(files, key=_stage_order):
        start = plain_text(name, files[name]).lstrip()
        if start.startswith("["):
            lists.append(name)
            continue
        if not start.startswith("{"):
            configs.append(name)
            continue
        report = Fields(name, one_object(name, files[name]))
        load = report.values.get("load_summary")
        if base_name(name).startswith("adapter_"):
            others.append((name, "it repeats requests of the stages, by adapter"))
        elif load == {}:
            others.append((name, "it is a view of the server, not of its answers"))
        elif _stage_order(name)[0] or not isinstance(load, dict) or "requested_rate" in load:
            stages[name] = report
        else:
            others.append((name, "it mixes the stages, which have reports of their own"))
    return stages, lists, configs, others


def _stage_order(name: str) -> tuple[int, str]:
    """Returns the sort key of a file: its stage from 1 up (0 for no stage), then its name."""
    found = _STAGE.search(base_name(name))
    return (int(found.group(1)) + 1 if found else 0, name)


# --- the configuration ------------------------------------------------------------------------


def _config(names: Sequence[str], files: Mapping[str, str], faults: list[Fault]) -> Fields | None:
    """Returns the configuration of a run, None without one; keeps a fault for two."""
    if len(names) > 1:
        what = f"one run has one configuration, got {', '.join(map(base_name, names))}"
        faults.append(Fault(names[1], "content", what[:300], "import each run from its own folder"))
    if not names:
        return None
    data = parse_yaml(files[names[0]], names[0], faults)
    if isinstance(data, dict):
        return Fields(names[0], data)
    if data is not None:
        what = f"must be an object, got {shown(data)}"
        faults.append(Fault(names[0], "content", what, "give the config.yaml of the run"))
    return None


# --- one stage --------------------------------------------------------------------------------


def _read_stage(
    fields: Fields, config: Fields | None, requests: StageRequests | None
) -> Reading | None:
    """Returns the reading of one stage, None after keeping a fault in `fields`."""
    notes: list[str] = []
    answers = section(fields, "successes", required=True)
    stated = _stated(fields, answers, notes)
    if stated is None:
        return None
    # A list without the times of tokens says less than the report, which was made with them.
    if requests is not None and (requests.requests.streamed or "ttft_mean_ms" not in stated):
        stated = requests.figures(stated["duration_s"])
        notes = requests.remarks()
    arrays.check_summary(fields, stated)
    load = _load(fields, stated, notes)
    settings = Fields(config.file if config else fields.file, config.values if config else {})
    settings.faults = fields.faults
    server = section(settings, "server")
    if load.get("mode") == "open":
        _note_arrivals(config is not None, section(settings, "load").text("type"), notes)
    date = _RUN_DATE.search(fields.file)
    source = " ".join([base_name(fields.file), *(date.groups() if date else ())])
    point = None if fields.faults else fields.point({**stated, **load, "source": source})
    model_id, engine = server.text("model_name"), server.text("type")
    if point is None or fields.faults:
        return None
    noted = [f"{base_name(fields.file)}: {note}" for note in notes]
    return Reading([point], noted, model_id, engine)


def _stated(fields: Fields, answers: Fields, notes: list[str]) -> dict[str, float] | None:
    """Returns counts, lengths, rates and latencies that a stage states, by field of Point."""
    n_ok = answers.count("count", required=True)
    failures = section(fields, "failures", required=True)
    n_failed = failures.count("count", required=True)
    sent = section(fields, "load_summary", required=True)
    n_requests = sent.count("count", required=True)
    if n_ok == 0:
        answers.fault("count", "no request was answered, got 0", "measure this load level again")
    if None not in (n_ok, n_failed, n_requests) and (n_ok or 0) + (n_failed or 0) != n_requests:
        sent.fault("count", f"{n_ok} answers and {n_failed} failures, got {n_requests}")
    throughput = section(answers, "throughput", required=True)
    rps = throughput.number("requests_per_sec", "requests/s", required=True, above_zero=True)
    key = "output_tokens_per_sec"
    tokens_per_s = throughput.number(key, "tokens/s", required=True, above_zero=True)
    duration_s = fields.number("benchmark_time_seconds", "s", above_zero=True)
    lengths = section(answers, "prompt_tokens" if answers.has("prompt_tokens") else "prompt_len")
    input_tokens = lengths.number("mean", "tokens", required=True, above_zero=True)
    figures = _latencies(section(answers, "latency", required=True))
    if not (n_ok and rps and tokens_per_s and input_tokens) or n_failed is None:
        return None
    if duration_s is not None and not math.isclose(n_ok / duration_s, rps, rel_tol=0.01):
        what = f"{n_ok} answers in {duration_s:g} s give {n_ok / duration_s:.6g}, got {rps:.6g}"
        throughput.fault("requests_per_sec", what)
    note_failures(n_failed, n_ok + n_failed, notes)
    _note_streaming(figures, notes)
    _note_tokens(answers, tokens_per_s / rps, notes)
    return {
        **figures,
        "input_tokens": input_tokens,
        "output_tokens": tokens_per_s / rps,  # the count that time_per_output_token divides by
        "achieved_rps": rps,
        "output_tokens_per_s": tokens_per_s,
        "n_requests": n_ok + n_failed,
        "n_failed": n_failed,
        "duration_s": duration_s or n_ok / rps,
    }


def _latencies(latency: Fields) -> dict[str, float]:
    """Returns the latency statistics in ms of a stage, by field of Point."""
    figures: dict[str, float] = {}
    for metric, key in _METRICS.items():
        figures |= stated_ms(section(latency, key), metric, _STATISTICS)
    return figures


def _note_streaming(figures: Mapping[str, float], notes: list[str]) -> None:
    """Returns nothing; notes a stage that has end-to-end latencies only."""
    if "ttft_mean_ms" not in figures:
        notes.append("answers were not streamed: ttft, tpot and itl are not measured")


def _note_tokens(answers: Fields, client_tokens: float, notes: list[str]) -> None:
    """Returns nothing; notes an answer length that the server counts otherwise than the client."""
    server_tokens = section(answers, "output_tokens").number("mean", "tokens")
    if not server_tokens or math.isclose(client_tokens, server_tokens, rel_tol=_COUNTS_AGREE):
        return
    notes.append(
        f"output tokens, tpot and itl are by the client's count of {client_tokens:.4g} tokens per "
        f"answer, the server counted {server_tokens:.4g}: set report.request_lifecycle."
        "use_server_output_tokens, or per_request, to have them by the server's"
    )


def _load(fields: Fields, stated: Mapping[str, float], notes: list[str]) -> dict[str, object]:
    """Returns mode, concurrency and offered rate (requests/s) of a stage; notes what to know."""
    sent = section(fields, "load_summary")
    n_requests, achieved_rps = int(stated["n_requests"]), stated["achieved_rps"]
    cap = sent.count("concurrency", at_least=1)
    if cap is not None:
        e2e_mean_ms = stated.get("e2e_mean_ms")
        in_flight = None if e2e_mean_ms is None else achieved_rps * e2e_mean_ms / 1e3
        return closed_load(cap, n_requests, in_flight, notes)
    offered_rps = sent.number("requested_rate", "requests/s", required=True, above_zero=True)
    sent_rps = sent.number("achieved_rate", "requests/s")
    if offered_rps is None:
        return {}
    if sent_rps and sent_rps < _SENT_RATIO * offered_rps:
        notes.append(
            f"the client sent {sent_rps:.3g} of {offered_rps:.3g} requests/s asked for: the rate "
            "that it sent counts as offered"
        )
        offered_rps = sent_rps
    note_overload(achieved_rps, offered_rps, notes)
    return {"mode": "open", "offered_rps": offered_rps}


def _note_arrivals(configured: bool, load_type: str | None, notes: list[str]) -> None:
    """Returns nothing; notes arrivals of an open stage that were not, or may not be, Poisson."""
    if not configured:
        notes.append("no config.yaml beside it says whether arrivals were Poisson")
    elif load_type == "constant":
        notes.append("arrivals were evenly spaced, not Poisson (load type constant)")
    elif load_type != "poisson":
        notes.append(f"arrivals may not have been Poisson (load type {load_type or 'not named'})")
