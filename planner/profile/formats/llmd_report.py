"""Benchmark Reports of llm-d, versions 0.2 and 0.2.1, as YAML or JSON.

Facts of the format (llm-d-benchmark llmdbenchmark/analysis/benchmark_report: schema_v0_2.py,
schema_v0_2_components.py, base.py, native_to_br0_2.py @8bc9f1d): one object of version, run,
scenario and results; results.request_performance.aggregate has requests, latency and throughput,
each statistic with its own `units` (s or ms, s/token or ms/token); 0.2.1 only adds fields.
scenario.stack lists components; those of kind inference_engine name tool, tool_version, role,
replicas, model and accelerator {model, count, parallelism}. scenario.load.standardized has tool,
rate_qps and concurrency, either of which may be .inf or absent.

A report is made from the file of another tool, and time_per_output_token means what it means there:
GuideLLM counts the first token in and has tpot as inter_token_latency; so does AIPerf.
inference-perf divides by its own count of the answer's tokens, as its output_token_rate does, while
output_length may be the server's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import Fault, InputError
from planner.files.yamls import parse_yaml
from planner.profile.fields import Fields, Reading, base_name, each_file, plain_text, shown
from planner.profile.formats import requests as arrays
from planner.profile.formats.loads import (
    batch_load,
    closed_load,
    note_failures,
    note_overload,
    one_object,
    section,
    spells,
    stated_ms,
)
from planner.spec.base import STATISTICS

NAME = "llm-d Benchmark Report"
_VERSIONS = ("0.2", "0.2.1")
_YAML_KEYS = tuple(re.compile(rf"^{key}:", re.MULTILINE) for key in ("version", "run", "results"))
_STATED: dict[str, str] = {statistic: statistic for statistic in STATISTICS}
_UNITS = {"s": "s", "ms": "ms", "s/token": "s", "ms/token": "ms"}
_TPOT_IN_ITL = ("guidellm", "aiperf")  # tools whose inter_token_latency is our tpot
_COUNTS_AGREE = 0.01  # counts of tokens that differ by more are of two tokenizers
_FIX_UNIT = "export the report again with its units"


@dataclass(frozen=True)
class _Stack:
    """What the report says of the engines that were measured."""

    served: Reading
    n_replicas: int


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a Benchmark Report, of any version."""
    if spells(text, "run", "results", "request_performance"):
        return True
    return not text.lstrip().startswith(("{", "[")) and all(key.search(text) for key in _YAML_KEYS)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the point (ms, requests/s, tokens/s) of one replica, of each report.

    Raises InputError with the faults of all files together.
    """
    return each_file(files, _read_file)


def _read_file(name: str, text: str) -> Reading:
    """Returns the reading of one report."""
    fields = Fields(name, _data(name, text))
    version = fields.values.get("version")
    if str(version) not in _VERSIONS:
        what = f"must be {' or '.join(_VERSIONS)}, got {shown(version)}"
        fields.fault("version", what, "convert the report with llm-d-benchmark")
    notes: list[str] = []
    scenario = section(fields, "scenario")
    load = section(section(scenario, "load"), "standardized")
    performance = section(section(fields, "results", required=True), "request_performance")
    aggregate = section(performance, "aggregate", required=True)
    stack = _stack(scenario, notes)
    figures = _figures(aggregate, load, notes)
    if figures is not None:
        arrays.check_summary(aggregate, figures)
    if not fields.faults and figures is not None:
        figures |= _load(load, figures, notes)
    if fields.faults or figures is None:
        raise InputError(fields.faults)
    origin = "measured"
    if stack.n_replicas > 1:
        figures = _one_replica(figures, stack.n_replicas, notes)
        origin = "estimated"
    run = section(fields, "run")
    uid = run.values.get("uid")
    source = f"{base_name(name)} {uid}" if isinstance(uid, str) else base_name(name)
    point = fields.point({**figures, "origin": origin, "source": source[:2000]})
    if point is None or fields.faults:
        raise InputError(fields.faults)
    noted = [f"{base_name(name)}: {note}" for note in notes]
    return stack.served._replace(points=[point], notes=noted)


def _data(name: str, text: str) -> dict[str, object]:
    """Returns the object of a report, read as JSON or as YAML; raises InputError for another."""
    clean = plain_text(name, text)
    if clean.lstrip().startswith(("{", "[")):
        return one_object(name, clean)
    faults: list[Fault] = []
    data = parse_yaml(clean, name, faults)
    if faults:
        raise InputError(faults)
    if not isinstance(data, dict):
        what = f"must be an object, got {shown(data)}"
        raise InputError.single(name, "content", what, "give a Benchmark Report")
    return data


def _stack(scenario: Fields, notes: list[str]) -> _Stack:
    """Returns the engine of a report; keeps a fault where prefill and decode are apart."""
    engines: list[Fields] = []
    for place, component in enumerate(scenario.items("stack") or []):
        where = f"stack[{place}]"
        if not isinstance(component, dict):
            scenario.fault(where, f"must be an object, got {shown(component)}")
            continue
        outer = Fields(scenario.file, component, f"{scenario.prefix}{where}.")
        outer.faults = scenario.faults
        standardized = section(outer, "standardized")
        if standardized.values.get("kind") == "inference_engine":
            engines.append(standardized)
    if not engines:
        notes.append("no inference engine in scenario.stack: say GPU and tensor_parallel yourself")
        return _Stack(Reading([], []), 1)
    readings = [_engine(engine, notes) for engine in engines]
    if any(engine.values.get("role") == "prefill" for engine in engines):
        what = "prefill and decode run apart: no replica answers a request alone, got both roles"
        scenario.fault("stack", what, "measure a deployment where one engine does both")
    elif len({reading[2:] for reading in readings}) > 1:
        what = f"one model on one kind of GPU, got {len(readings)} engines that differ"
        scenario.fault("stack", what, "measure each kind of engine apart")
    counts = [engine.count("replicas", at_least=1) or 1 for engine in engines]
    return _Stack(readings[0], sum(counts))


def _engine(engine: Fields, notes: list[str]) -> Reading:
    """Returns what one inference engine says of itself, without points."""
    accelerator = section(engine, "accelerator")
    parallelism = section(accelerator, "parallelism")
    for key in ("pp", "dp"):
        n = parallelism.count(key)
        if n is not None and n > 1:
            notes.append(f"the engine ran with {key} {n}: set it in the pool, points have no such")
    return Reading(
        [],
        [],
        model_id=section(engine, "model").text("name"),
        engine=_engine_name(engine.text("tool")),
        engine_version=engine.text("tool_version"),
        gpu=accelerator.text("model"),
        tensor_parallel=parallelism.count("tp", at_least=1),
    )


def _engine_name(tool: str | None) -> str | None:
    """Returns the engine that a tool names, which may be the path of a container image."""
    if tool is None:
        return None
    image = base_name(tool).split(":")[0].split("@")[0].lower()
    return next((known for known in ("vllm", "sglang") if known in image), image or None)


def _figures(aggregate: Fields, load: Fields, notes: list[str]) -> dict[str, object] | None:
    """Returns counts, lengths, rates and latencies by field of Point; None after a fault."""
    requests = section(aggregate, "requests", required=True)
    total = requests.count("total", required=True, at_least=1)
    failures = requests.count("failures")
    if load.values.get("tool") == "aiperf":
        failures = None  # the report counts kinds of error there, and only answers in total
    n_failed = None if failures is None else failures + (requests.count("incomplete") or 0)
    input_tokens = _mean(requests, "input_length", ("count",), required=True)
    output_tokens = _mean(requests, "output_length", ("count",), required=True)
    throughput = section(aggregate, "throughput")
    rate_rps = _mean(throughput, "request_rate", ("queries/s",), required=True)
    tokens_per_s = _mean(throughput, "output_token_rate", ("tokens/s",))
    latencies = _latencies(section(aggregate, "latency"), load.values.get("tool"), notes)
    if total is not None and n_failed is not None and n_failed >= total:
        requests.fault("failures", f"no request was answered of {total}, got {n_failed} failures")
    if total is None or input_tokens is None or output_tokens is None or not rate_rps:
        return None
    client_tokens = (tokens_per_s or 0.0) / rate_rps
    by_client = client_tokens > 0 and load.values.get("tool") == "inference-perf"
    if by_client and not math.isclose(client_tokens, output_tokens, rel_tol=_COUNTS_AGREE):
        notes.append(
            f"output tokens and tpot are by the client's count of {client_tokens:.4g} tokens per "
            f"answer; output_length says {output_tokens:.4g}"
        )
        output_tokens = client_tokens
    note_failures(n_failed, total, notes)
    return {
        **latencies,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "achieved_rps": rate_rps,
        "output_tokens_per_s": tokens_per_s or None,
        "n_requests": total,
        "n_failed": n_failed,
        "duration_s": (total - (n_failed or 0)) / rate_rps,
    }


def _mean(outer: Fields, key: str, units: Sequence[str], *, required: bool = False) -> float | None:
    """Returns the mean of a statistic in one of its units; None where absent or faulty."""
    if not outer.has(key) and not required:
        return None
    statistic = section(outer, key, required=required)
    if statistic.values and statistic.values.get("units") not in units:
        got = shown(statistic.values.get("units"))
        statistic.fault("units", f"must be {' or '.join(units)}, got {got}", _FIX_UNIT)
        return None
    return statistic.number("mean", units[0], required=required, above_zero=required)


def _latencies(latency: Fields, tool: object, notes: list[str]) -> dict[str, float]:
    """Returns the latencies in ms by field of Point, under our names for what the tool measured."""
    keys = {"ttft": "time_to_first_token", "e2e": "request_latency"}
    if tool in _TPOT_IN_ITL:
        keys["tpot"] = "inter_token_latency"
        if latency.has("time_per_output_token"):
            notes.append(f"time_per_output_token of {tool} counts the first token: left out")
    else:
        keys |= {"tpot": "time_per_output_token", "itl": "inter_token_latency"}
    figures: dict[str, float] = {}
    for metric, key in keys.items():
        statistic = section(latency, key)
        if not statistic.values:
            continue
        unit = statistic.values.get("units")
        if not isinstance(unit, str) or unit not in _UNITS:
            what = f"must be one of {', '.join(_UNITS)}, got {shown(unit)}"
            statistic.fault("units", what, _FIX_UNIT)
            continue
        figures |= stated_ms(statistic, metric, _STATED, _UNITS[unit])
    return figures


def _load(load: Fields, figures: Mapping[str, object], notes: list[str]) -> dict[str, object]:
    """Returns mode, concurrency and offered rate (requests/s); notes what to know of the load."""
    rate_rps = _limit(load, "rate_qps", "requests/s")
    cap = _limit(load, "concurrency", "requests")
    achieved_rps, n_requests = figures["achieved_rps"], figures["n_requests"]
    e2e_mean_ms = figures.get("e2e_mean_ms")
    assert isinstance(achieved_rps, float)
    assert isinstance(n_requests, int)
    bounded = cap is not None and math.isfinite(cap)
    paced = rate_rps is not None and math.isfinite(rate_rps)
    # inference-perf states a rate for its closed loops too; nobody else states both.
    if cap is not None and bounded and (not paced or load.values.get("tool") == "inference-perf"):
        in_flight = achieved_rps * e2e_mean_ms / 1e3 if isinstance(e2e_mean_ms, float) else None
        return closed_load(cap, n_requests, in_flight, notes)
    if rate_rps is not None and paced:
        note_overload(achieved_rps, rate_rps, notes)
        if bounded:
            notes.append(f"concurrency {cap:g} may have held requests back in the client")
        return {"mode": "open", "offered_rps": rate_rps}
    if rate_rps is not None:
        return batch_load(n_requests, notes)
    what = "neither rate_qps nor concurrency says which load this was, got nothing"
    load.fault("rate_qps", what, "add the offered rate, or the concurrency, to the report")
    return {}


def _limit(load: Fields, key: str, unit: str) -> float | None:
    """Returns a rate or a concurrency, infinite where it was not limited; None if absent."""
    value = load.values.get(key)
    if value == math.inf or (isinstance(value, str) and value.strip().lower() == "inf"):
        return math.inf
    return load.number(key, unit, above_zero=True)


def _one_replica(
    figures: Mapping[str, object], n_replicas: int, notes: list[str]
) -> dict[str, object]:
    """Returns the figures of one of several replicas that shared the load evenly."""
    notes.append(
        f"{n_replicas} replicas were measured together: loads are divided by {n_replicas}, as if "
        "each had an even share, and the point counts as estimated"
    )
    shared = ("concurrency", "offered_rps", "achieved_rps", "output_tokens_per_s")
    return {
        key: value / n_replicas if key in shared and isinstance(value, float) else value
        for key, value in figures.items()
    }
