"""Result files of `vllm bench serve`: JSON, or JSON objects one after the other (--append-result).

Facts of the format (vllm/benchmarks/serve.py @009e6d4): what bench_serving.py tells, and `e2el` is
end to end, absent from summaries by default; lists per request only with --save-detailed;
`request_rate` is the word inf for a closed loop or a batch. GPU, engine and parallelism are there
only where the user put them (--metadata KEY=VALUE).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from planner.profile.fields import Fields, Reading, base_name, each_file, shown
from planner.profile.formats import requests as arrays
from planner.profile.formats.bench_serving import (
    PerRequest,
    Served,
    Totals,
    per_request,
    read_file,
    summary_ms,
    totals,
)
from planner.profile.formats.loads import batch_load, closed_load, note_overload
from planner.spec.pool import Point

NAME = "vLLM bench serve"
_KEYS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}  # ours -> vLLM's
_ENGINES = {"vllm", "sglang", "tgi", "tensorrt-llm", "lmdeploy", "scalellm", "deepspeed-mii"}
_TP_KEYS = ("tensor_parallel", "tensor_parallel_size", "tp")  # habits of users with --metadata
_GPU_KEYS = ("gpu", "gpu_type", "gpu_name", "accelerator")
_SMALL_COUNT = re.compile(r"[1-9][0-9]{0,3}")
_MARKS = (
    "model_id", "tokenizer_id", "num_prompts", "request_rate", "duration", "completed",
    "total_input_tokens", "total_output_tokens", "request_throughput", "mean_ttft_ms",
)  # fmt: skip
_MARKS_NEEDED = 4  # so that a file that lost some keys is told what is wrong with it
_FOREIGN_MARKS = ("sharegpt_output_len", "mean_e2e_latency_ms")  # SGLang's, much alike else


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is made of JSON objects with the keys of this tool."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return False
    if any(f'"{key}"' in text for key in _FOREIGN_MARKS):
        return False
    return sum(f'"{key}"' in text for key in _MARKS) >= _MARKS_NEEDED


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the points (ms, requests/s, tokens/s) of result files, one Reading per file.

    Raises InputError with every fault of every run of every file.
    """
    return each_file(files, lambda name, text: read_file(name, text, _read_run, _served))


def _read_run(fields: Fields, notes: list[str]) -> Point | None:
    """Returns the point of a run, None when a fault was kept in `fields`."""
    fields.text("model_id", required=True)
    date = fields.text("date")
    if fields.has("ramp_up_strategy"):
        what = f"the rate changed during the run, got {shown(fields.values['ramp_up_strategy'])}"
        fields.fault("ramp_up_strategy", what, "measure one rate per run, without a ramp")
    requests = per_request(fields)
    counts = totals(fields, requests, _n_failed(fields))
    latencies = _latencies(fields, requests)
    if counts is None:
        return None
    arrays.check_summary(fields, {**latencies, "output_tokens": counts.output_tokens})
    load = _load(fields, counts, latencies.get("e2e_mean_ms"), notes)
    if requests is not None:
        notes += requests.notes
    if fields.faults:
        return None
    if not latencies:
        notes.append("no latency figure: only the throughput is known")
    source = f"{base_name(fields.file)} {date or ''}".strip()
    return fields.point({**latencies, **load, **counts.figures(), "source": source})


def _n_failed(fields: Fields) -> int | None:
    """Returns the failures of a run; an old file does not count them, but what was sent."""
    failed, completed = fields.count("failed"), fields.values.get("completed")
    n_prompts = fields.count("num_prompts")
    if failed is not None or n_prompts is None or not isinstance(completed, int):
        return failed
    if n_prompts < completed:
        fields.fault("completed", f"more than num_prompts {n_prompts}, got {shown(completed)}")
    return max(n_prompts - completed, 0)


def _latencies(fields: Fields, requests: PerRequest | None) -> dict[str, float]:
    """Returns the latency figures in ms by field of Point; lists win over the summary."""
    if requests is not None:
        return requests.figures_ms
    figures = summary_ms(fields, _KEYS)
    latencies_s = fields.numbers("latencies", "s")
    # Without --save-detailed newer versions still list latencies, of failed requests too: then
    # the list is longer than the answers, and nothing tells whose entry is whose.
    if latencies_s is not None and len(latencies_s) == fields.values.get("completed"):
        figures |= arrays.statistics_ms("e2e", latencies_s)
    return figures


def _load(
    fields: Fields, counts: Totals, e2e_mean_ms: float | None, notes: list[str]
) -> dict[str, object]:
    """Returns mode, concurrency and offered rate (requests/s) of a run; adds what to know of it."""
    offered_rps = _offered_rps(fields)
    cap = fields.count("max_concurrency", at_least=1)
    if offered_rps is None:
        return {}
    if math.isfinite(offered_rps):
        note_overload(counts.achieved_rps, offered_rps, notes)
        if cap is not None:
            notes.append(f"max_concurrency {cap} may have held requests back in the client")
        burstiness = fields.number("burstiness", "ratio")
        if burstiness is not None and burstiness != 1.0:
            notes.append(f"arrivals were not Poisson (burstiness {burstiness:g})")
        return {"mode": "open", "offered_rps": offered_rps}
    if cap is None:
        return batch_load(counts.n_requests, notes)
    in_flight = None if e2e_mean_ms is None else counts.achieved_rps * e2e_mean_ms / 1e3
    return closed_load(cap, counts.n_requests, in_flight, notes)


def _offered_rps(fields: Fields) -> float | None:
    """Returns the offered rate in requests/s, infinite for a closed loop; None on a fault."""
    value = fields.values.get("request_rate")
    if value == math.inf or (isinstance(value, str) and value.strip().lower() in {"inf", "+inf"}):
        return math.inf
    if isinstance(value, str):
        what = f"must be a number above 0, in requests/s, or 'inf', got {shown(value)}"
        fields.fault("request_rate", what)
        return None
    return fields.number("request_rate", "requests/s", required=True, above_zero=True)


def _served(fields: Fields) -> Served:
    """Returns what a run served, on what, as far as it is known (--metadata KEY=VALUE)."""
    tensor_parallel = next(filter(None, (_metadata(fields, key) for key in _TP_KEYS)), "")
    return Served(
        model_id=_metadata(fields, "model_id"),
        engine=_engine(fields),
        engine_version=_metadata(fields, "engine_version"),
        gpu=next(filter(None, (_metadata(fields, key) for key in _GPU_KEYS)), None),
        tensor_parallel=int(tensor_parallel) if _SMALL_COUNT.fullmatch(tensor_parallel) else None,
    )


def _metadata(fields: Fields, key: str) -> str | None:
    """Returns a text that the user may have put into the file, None where there is none."""
    value = fields.values.get(key)
    return (value.strip() or None) if isinstance(value, str) and len(value) <= 200 else None


def _engine(fields: Fields) -> str | None:
    """Returns the engine of a run (--metadata engine=..., or its backend), None if unnamed."""
    for key in ("engine", "backend"):
        engine = (_metadata(fields, key) or "").lower()
        if engine in _ENGINES or (engine and key == "engine"):
            return engine
    return None
