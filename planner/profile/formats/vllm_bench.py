"""Result files of `vllm bench serve`: JSON, or JSON objects one after the other (--append-result).

Facts of the format (vllm/benchmarks/serve.py @009e6d4): summary latencies in ms, arrays per request
in s (only with --save-detailed); `e2el` is end to end; `output_lens` is 0 for a failed request.

Notation
    o_i  output tokens of request i             t_i  its time to first token, s     (n,)
    e_i  its end-to-end latency, s              N    requests answered, D duration, s
    tpot_i = (e_i - t_i) / (o_i - 1)            over requests with o_i >= 2 (§2)
    L      = (N / D) * mean(e_i)                mean requests in flight (Little 1961, L = lambda W)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from planner.errors import Fault, InputError
from planner.profile.fields import Fields, Reading, base_name, json_objects, plain_text
from planner.profile.formats.vllm_arrays import PerRequest, per_request, statistics_ms
from planner.spec.base import STATISTICS

_KEYS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}  # ours -> vLLM's
_ENGINES = {"vllm", "sglang", "tgi", "tensorrt-llm", "lmdeploy", "scalellm", "deepspeed-mii"}
OVERLOADED_RATIO = 0.9  # below this share of the offered rate a run is called overloaded
CAP_REACHED_RATIO = 0.8  # a mean in flight below this share of the cap never filled the cap
_FIX_RUN = "measure this load level again and import the new file"


@dataclass(frozen=True)
class _Totals:
    """The counts of one run."""

    n_ok: int
    n_failed: int | None
    duration_s: float
    input_tokens: float
    output_tokens: float


def parse(name: str, text: str) -> Reading:
    """Returns the points (ms, requests/s, tokens/s) of one result file, one per run.

    Raises InputError with every fault of every run of the file.
    """
    objects = json_objects(name, plain_text(name, text))
    whole = Reading([], [])
    faults: list[Fault] = []
    served: list[tuple[str | None, str | None]] = []
    for place, values in enumerate(objects, start=1):
        prefix = f"run {place}." if len(objects) > 1 else ""
        fields = Fields(name, values, prefix)
        reading = _read_run(fields)
        faults += fields.faults
        whole.points.extend(reading.points)
        whole.notes.extend(reading.notes)
        served.append((reading.model_id, reading.engine))
    if len(set(served)) > 1 and not faults:
        got = ", ".join(sorted({f"{model} on {engine or 'unknown'}" for model, engine in served}))
        what = f"one file, one model and one engine, got {got}"
        faults.append(Fault(name, "model_id", what, "split the file by model and engine"))
    if faults:
        raise InputError(faults)
    return whole._replace(model_id=served[0][0], engine=served[0][1])


def _read_run(fields: Fields) -> Reading:
    """Returns the one point of a run, none when a fault was kept in `fields`."""
    label = f"{base_name(fields.file)}: {fields.prefix.rstrip('.')}".rstrip(": ")
    notes: list[str] = []
    model_id = fields.text("model_id", required=True)
    date = fields.text("date")
    _refuse_ramps(fields)
    requests = per_request(fields)
    totals = _totals(fields, requests)
    figures = _latencies(fields, requests)
    if totals is not None:
        figures |= _load(fields, totals, figures.get("e2e_mean_ms"), notes)
        if requests is not None:
            notes += requests.notes
    if fields.faults or totals is None:
        return Reading([], [])
    if not any(field.endswith("_ms") for field in figures):
        notes.append("no latency figure: only the throughput is known")
    point = fields.point(
        {
            **figures,
            "input_tokens": totals.input_tokens,
            "output_tokens": totals.output_tokens,
            "achieved_rps": totals.n_ok / totals.duration_s,
            "output_tokens_per_s": totals.output_tokens * totals.n_ok / totals.duration_s,
            "n_requests": totals.n_ok + (totals.n_failed or 0),
            "n_failed": totals.n_failed,
            "duration_s": totals.duration_s,
            "origin": "measured",
            "source": " ".join([base_name(fields.file), date or ""]).strip(),
        }
    )
    noted = [f"{label}: {note}" for note in notes]
    return Reading([point] if point else [], noted, model_id, _engine(fields))


def _totals(fields: Fields, requests: PerRequest | None) -> _Totals | None:
    """Returns the counts of a run, from its requests where they are known; None on a fault."""
    duration_s = fields.number("duration", "s", required=True, above_zero=True)
    completed = fields.count("completed", required=True)
    failed = fields.count("failed")
    n_input = fields.number("total_input_tokens", "tokens", required=True, above_zero=True)
    n_output = fields.number("total_output_tokens", "tokens", required=True, above_zero=True)
    if completed == 0:
        fields.fault("completed", "no request was answered, got 0", _FIX_RUN)
    if not (duration_s and completed and n_input and n_output):
        return None
    _agrees(fields, "request_throughput", "requests/s", completed / duration_s)
    _agrees(fields, "output_throughput", "tokens/s", n_output / duration_s)
    if requests is None:
        n_failed = failed if failed is not None else _failed_of_old_file(fields, completed)
        n_in, n_out = n_input / completed, n_output / completed
        return _Totals(completed, n_failed, duration_s, n_in, n_out)
    if not requests.n_ok <= completed <= requests.n_ok + requests.n_empty:
        what = f"the list of requests holds {requests.n_ok} answers, got {completed}"
        fields.fault("completed", what)
    if requests.output_tokens_sum != n_output:
        what = f"output_lens adds up to {requests.output_tokens_sum:g} tokens, got {n_output:g}"
        fields.fault("total_output_tokens", what)
    if requests.n_ok == 0:
        return None
    return _Totals(
        n_ok=requests.n_ok,
        n_failed=requests.n_failed,
        duration_s=duration_s,
        input_tokens=requests.input_tokens_mean or n_input / completed,
        output_tokens=requests.output_tokens_sum / requests.n_ok,
    )


def _failed_of_old_file(fields: Fields, completed: int) -> int | None:
    """Returns the failures of a file that does not count them: those sent but not completed."""
    n_prompts = fields.count("num_prompts")
    if n_prompts is None:
        return None
    if n_prompts < completed:
        fields.fault("completed", f"more than num_prompts {n_prompts}, got {completed}")
    return max(n_prompts - completed, 0)


def _agrees(fields: Fields, field: str, unit: str, expected: float) -> None:
    """Returns nothing; keeps a fault when a redundant figure contradicts the totals by over 1 %."""
    value = fields.number(field, unit)
    if value is not None and not math.isclose(value, expected, rel_tol=0.01):
        fields.fault(field, f"the totals give {expected:.6g} {unit}, got {value:.6g}")


def _latencies(fields: Fields, requests: PerRequest | None) -> dict[str, object]:
    """Returns the latency figures in ms by field of Point; arrays win over the summary."""
    if requests is not None:
        return dict(requests.figures_ms)
    figures: dict[str, object] = {}
    for metric, key in _KEYS.items():
        figures |= _summary(fields, metric, key)
    latencies_s = fields.numbers("latencies", "s")
    # Without --save-detailed newer versions still list latencies, of failed requests too: then
    # the list is longer than the answers, and nothing tells whose entry is whose.
    if latencies_s is not None and len(latencies_s) == fields.values.get("completed"):
        figures |= statistics_ms("e2e", latencies_s)
    return figures


def _summary(fields: Fields, metric: str, key: str) -> dict[str, object]:
    """Returns the figures of one metric in ms that the summary holds; 0 means not measured."""
    found: dict[str, float] = {}
    for statistic in STATISTICS:
        value = fields.number(f"{statistic}_{key}_ms", "ms")
        if value:
            found[statistic] = value
    median = fields.number(f"median_{key}_ms", "ms")
    if median:
        p50 = found.setdefault("p50", median)
        if not math.isclose(p50, median, rel_tol=1e-3):
            fields.fault(f"median_{key}_ms", f"p50 is {p50:g} ms, got {median:g} ms")
    ranked = [(s, found[s]) for s in STATISTICS[1:] if s in found]
    for (_, low), (statistic, high) in pairwise(ranked):
        if high < low * (1 - 1e-9):
            what = f"percentiles must not fall, {low:g} ms comes before, got {high:g} ms"
            fields.fault(f"{statistic}_{key}_ms", what)
    return {f"{metric}_{statistic}_ms": value for statistic, value in found.items()}


def _load(
    fields: Fields, totals: _Totals, e2e_mean_ms: object, notes: list[str]
) -> dict[str, object]:
    """Returns mode, concurrency and offered rate (requests/s) of a run; adds what to know of it."""
    offered_rps = _offered_rps(fields)
    cap = fields.count("max_concurrency", at_least=1)
    if offered_rps is None:
        return {}
    n_requests = totals.n_ok + (totals.n_failed or 0)
    if math.isfinite(offered_rps):
        _note_open(fields, totals, offered_rps, cap, notes)
        return {"mode": "open", "offered_rps": offered_rps}
    if cap is None:
        notes.append(f"all {n_requests} requests were sent at once: a batch, not a steady load")
        return {"mode": "batch", "concurrency": float(n_requests)}
    in_flight = None
    if isinstance(e2e_mean_ms, float):
        in_flight = totals.n_ok / totals.duration_s * e2e_mean_ms / 1e3
    return {"mode": "closed", "concurrency": _concurrency(cap, n_requests, in_flight, notes)}


def _offered_rps(fields: Fields) -> float | None:
    """Returns the offered rate in requests/s, infinite for a closed loop; None on a fault."""
    value = fields.values.get("request_rate")
    if value == math.inf or (isinstance(value, str) and value.strip().lower() in {"inf", "+inf"}):
        return math.inf
    if isinstance(value, str):
        what = f"must be a number above 0, in requests/s, or 'inf', got {value[:40]!r}"
        fields.fault("request_rate", what)
        return None
    return fields.number("request_rate", "requests/s", required=True, above_zero=True)


def _note_open(
    fields: Fields, totals: _Totals, offered_rps: float, cap: int | None, notes: list[str]
) -> None:
    """Returns nothing; notes what makes an open run unlike Poisson arrivals at its rate."""
    achieved_rps = totals.n_ok / totals.duration_s
    if achieved_rps < OVERLOADED_RATIO * offered_rps:
        notes.append(
            f"answered {achieved_rps:.3g} of {offered_rps:.3g} offered requests/s: overloaded, "
            "or a run so short that its end counts"
        )
    if cap is not None:
        notes.append(f"max_concurrency {cap} may have held requests back in the client")
    burstiness = fields.number("burstiness", "ratio")
    if burstiness is not None and burstiness != 1.0:
        notes.append(f"arrivals were not Poisson (burstiness {burstiness:g})")


def _concurrency(cap: int, n_requests: int, in_flight: float | None, notes: list[str]) -> float:
    """Returns the requests in flight: the cap, or their mean when the cap never filled."""
    if in_flight is not None and in_flight < CAP_REACHED_RATIO * cap:
        notes.append(f"the cap of {cap} was not reached: {in_flight:.3g} in flight on average")
        return in_flight
    if n_requests < cap:
        notes.append(f"the cap of {cap} was not reached: only {n_requests} requests were sent")
        return float(n_requests)
    return float(cap)


def _refuse_ramps(fields: Fields) -> None:
    """Returns nothing; keeps a fault for a run whose rate changed while it was measured."""
    if fields.has("ramp_up_strategy"):
        what = f"the rate changed during the run, got {fields.values['ramp_up_strategy']!r:.40}"
        fields.fault("ramp_up_strategy", what, "measure one rate per run, without a ramp")


def _engine(fields: Fields) -> str | None:
    """Returns the engine of a run (--metadata engine=..., or its backend), None if unnamed."""
    for key in ("engine", "backend"):
        value = fields.values.get(key)
        engine = value.strip().lower() if isinstance(value, str) else ""
        if engine in _ENGINES or (engine and key == "engine"):
            return engine
    return None
