"""Result files of SGLang's `bench_serving`: JSON objects one after the other (JSONL), one per run.

Facts of the format (sglang python/sglang/bench_serving.py @0033168): what bench_serving.py tells;
lists per request only with --output-details. tpot leaves the first token out; itl pools the gaps of
all requests. Intervals between arrivals are exponential.
`request_rate` is Infinity for a closed loop or a batch, and the word `trace` for a replayed trace.
`concurrency` is the mean in flight, the sum of all latencies over the duration. No field names the
model unless `server_info`, which newer versions add, does.

Told from `vllm bench serve` by keys that only SGLang writes, MARKS: vLLM has `mean_e2el_ms` for
`mean_e2e_latency_ms`, and neither `sharegpt_output_len` nor a field of that meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from planner.profile.fields import Fields, Reading, base_name, each_file, shown
from planner.profile.formats import requests as arrays
from planner.profile.formats.bench_serving import (
    Served,
    Totals,
    per_request,
    read_file,
    summary_ms,
    totals,
)
from planner.profile.formats.loads import batch_load, closed_load, note_overload, section, spells
from planner.spec.pool import Point

NAME = "SGLang bench_serving"
MARKS = ("mean_e2e_latency_ms", "sharegpt_output_len")
_KEYS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2e_latency"}  # ours -> SGLang's
_ENGINES = {"sglang", "vllm", "lmdeploy", "trt", "truss", "gserver"}


def recognises(name: str, text: str) -> bool:
    """Returns whether a text starts with a run of SGLang's bench_serving."""
    return any(spells(text, key) for key in MARKS)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the points (ms, requests/s, tokens/s) of each file, one per run.

    Raises InputError with every fault of every run of all files.
    """
    return each_file(files, lambda name, text: read_file(name, text, _read_run, _served))


def _read_run(fields: Fields, notes: list[str]) -> Point | None:
    """Returns the point of a run, None when a fault was kept in `fields`."""
    requests = per_request(fields)
    counts = totals(fields, requests, n_failed=None)
    stated = summary_ms(fields, _KEYS)
    if counts is None:
        return None
    latencies = stated if requests is None else requests.figures_ms
    latencies = _streamed_only(latencies, counts.output_tokens, notes)
    arrays.check_summary(fields, {**latencies, "output_tokens": counts.output_tokens})
    load = _load(fields, counts, latencies.get("e2e_mean_ms"), notes)
    if requests is not None:
        notes += requests.notes
    else:
        notes.append("failed requests are not counted without --output-details")
    if fields.faults:
        return None
    tag = fields.values.get("tag")
    source = f"{base_name(fields.file)} {tag if isinstance(tag, str) else ''}".strip()[:2000]
    return fields.point({**latencies, **load, **counts.figures(), "source": source})


def _served(fields: Fields) -> Served:
    """Returns what server_info says, where a newer version wrote it, and the backend."""
    info = section(fields, "server_info")
    engine = (fields.text("backend") or "").lower().split("-")[0]
    return Served(
        model_id=info.text("served_model_name") or info.text("model_path"),
        engine=engine if engine in _ENGINES else None,
        engine_version=info.text("version"),
        gpu=None,
        tensor_parallel=info.count("tp_size", at_least=1),
    )


def _streamed_only(
    figures: dict[str, float], output_tokens: float, notes: list[str]
) -> dict[str, float]:
    """Returns the latencies without those of tokens where answers were not streamed.

    Such an answer has its whole latency as ttft, and no gap between its tokens.
    """
    gaps = {"tpot_mean_ms", "itl_mean_ms"} & set(figures)
    if output_tokens <= 1 or gaps or "ttft_mean_ms" not in figures:
        return figures
    notes.append("answers were not streamed: ttft, tpot and itl are not measured")
    return {key: value for key, value in figures.items() if key.startswith("e2e")}


def _load(
    fields: Fields, counts: Totals, e2e_mean_ms: float | None, notes: list[str]
) -> dict[str, object]:
    """Returns mode, concurrency and offered rate (requests/s) of a run; notes what to know."""
    rate = fields.values.get("request_rate")
    cap = fields.count("max_concurrency", at_least=1)
    in_flight = fields.number("concurrency", "requests")
    if in_flight is None and e2e_mean_ms is not None:
        in_flight = counts.achieved_rps * e2e_mean_ms / 1e3
    if rate == "trace":
        notes.append("arrivals replay a trace: not Poisson, and no rate was offered")
        return {"mode": "open"}
    if rate == math.inf or (isinstance(rate, str) and rate.strip().lower() == "inf"):
        if cap is None:
            return batch_load(counts.n_requests, notes)
        return closed_load(cap, counts.n_requests, in_flight or None, notes)
    if isinstance(rate, str):
        what = f"must be a number above 0, in requests/s, or 'inf' or 'trace', got {shown(rate)}"
        fields.fault("request_rate", what)
        return {}
    offered_rps = fields.number("request_rate", "requests/s", required=True, above_zero=True)
    if offered_rps is None:
        return {}
    note_overload(counts.achieved_rps, offered_rps, notes)
    if cap is not None:
        notes.append(f"max_concurrency {cap} may have held requests back in the client")
    return {"mode": "open", "offered_rps": offered_rps}
