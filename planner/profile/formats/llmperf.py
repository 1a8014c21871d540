"""Result files of llmperf: `*_summary.json` and `*_individual_responses.json` of the same runs.

Facts of the format (llmperf token_benchmark_ray.py, common_metrics.py @f1d6bed): times in s; a
closed loop of `num_concurrent_requests` threads; a request failed when its error_code is not null;
the duration is not written but follows from requests and requests per minute. Tokens are counted
by llmperf with one Llama tokenizer, whatever the model. `inter_token_latency_s` is the whole time
of a request, first token included, over its tokens: neither our itl nor our tpot, so it is never
read. tpot = (end_to_end_latency_s - ttft_s) / (tokens - 1) needs the individual responses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from planner.errors import Fault, InputError
from planner.profile.fields import Fields, Reading, base_name
from planner.profile.formats import requests as arrays
from planner.profile.formats.loads import (
    closed_load,
    list_of_objects,
    note_failures,
    one_object,
    spells,
    stated_ms,
)

NAME = "llmperf"
_SUMMARY, _RESPONSES = "_summary.json", "_individual_responses.json"
_METRICS = {"ttft": "results_ttft_s", "e2e": "results_end_to_end_latency_s"}
_N_OK = "results_num_completed_requests"
_FIX_PAIR = "give the summary and the individual responses of the same run"


def recognises(name: str, text: str) -> bool:
    """Returns whether a text is a summary or a list of responses of llmperf."""
    if spells(text, "num_concurrent_requests", "results_ttft_s_mean"):
        return True
    start = text.removeprefix("\ufeff").lstrip()[:4000]
    keys = ('"inter_token_latency_s"', '"ttft_s"', '"number_output_tokens"')
    return start.startswith("[") and all(key in start for key in keys)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the point (ms, requests/s, tokens/s) of each summary, with its responses if given.

    Raises InputError with the faults of all files together.
    """
    readings: list[Reading] = []
    faults: list[Fault] = []
    summaries = {name for name in files if not _is_list(files[name])}
    for name in sorted(files):
        partner = _partner(name)
        try:
            if name in summaries:
                lists = partner if partner in files and partner not in summaries else None
                responses = None if lists is None else list_of_objects(lists, files[lists])
                readings.append(_read_run(name, files[name], responses))
            elif partner not in summaries:
                what = f"its summary is needed for model, load and duration, got no {partner}"
                raise InputError.single(name, "content", what, _FIX_PAIR)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return readings


def _is_list(text: str) -> bool:
    """Returns whether a text is a list of responses rather than a summary."""
    return text.removeprefix("\ufeff").lstrip().startswith("[")


def _partner(name: str) -> str:
    """Returns the name of the other file of a run: responses for a summary and back."""
    if name.endswith(_SUMMARY):
        return name.removesuffix(_SUMMARY) + _RESPONSES
    return name.removesuffix(_RESPONSES) + _SUMMARY


def _read_run(name: str, text: str, responses: list[Fields] | None) -> Reading:
    """Returns the point of a summary; raises InputError with the faults of both files."""
    fields = Fields(name, one_object(name, text))
    notes = ["tokens are counted with llmperf's Llama tokenizer, whatever the model"]
    model_id = fields.text("model", required=True)
    cap = fields.count("num_concurrent_requests", required=True, at_least=1)
    stamp = fields.number("timestamp", "s")
    stated = _stated(fields)
    figures: Mapping[str, object] | None = stated
    if stated is not None and responses is not None:
        requests = _requests(fields, responses, stated)
        if not fields.faults:
            figures = arrays.figures(requests, stated["duration_s"])
            notes += arrays.remarks(requests)
    elif stated is not None:
        note_failures(int(stated["n_failed"]), int(stated["n_requests"]), notes)
        notes.append(
            "tpot and itl are left out: inter_token_latency_s counts the first token too, and "
            "the individual responses, which give tpot, are not among the files"
        )
    if fields.faults or cap is None or figures is None:
        raise InputError(fields.faults)
    point = fields.point(
        {
            **figures,
            **_load(cap, figures, notes),
            "source": f"{base_name(name)} {stamp:.0f}" if stamp else base_name(name),
        }
    )
    if point is None:
        raise InputError(fields.faults)
    return Reading([point], [f"{base_name(name)}: {note}" for note in notes], model_id)


def _load(cap: int, figures: Mapping[str, object], notes: list[str]) -> dict[str, object]:
    """Returns mode and concurrency of a run, from its cap and the requests in flight."""
    achieved_rps, e2e_mean_ms = figures["achieved_rps"], figures.get("e2e_mean_ms")
    in_flight = None
    if isinstance(achieved_rps, float) and isinstance(e2e_mean_ms, float):
        in_flight = achieved_rps * e2e_mean_ms / 1e3
    n_requests = figures["n_requests"]
    assert isinstance(n_requests, int)
    return closed_load(cap, n_requests, in_flight, notes)


def _stated(fields: Fields) -> dict[str, float] | None:
    """Returns what the summary itself says, by field of Point (ms, requests/s); None on a fault."""
    n_ok = fields.count(_N_OK, required=True)
    n_failed = fields.count("results_number_errors", required=True)
    per_min = fields.number(f"{_N_OK}_per_min", "requests/min", required=True)
    tokens = [
        fields.number(f"results_number_{which}_tokens_mean", "tokens", required=True)
        for which in ("input", "output")
    ]
    figures: dict[str, float] = {}
    for metric, key in _METRICS.items():
        keys = {p: f"{key}_quantiles_{p}" for p in ("p50", "p90", "p95", "p99")}
        figures |= stated_ms(fields, metric, {"mean": f"{key}_mean", **keys})
    if n_ok == 0 or per_min == 0:
        fields.fault(_N_OK, "no request was answered, got 0", "measure this load level again")
    if not n_ok or not per_min or n_failed is None or tokens[0] is None or tokens[1] is None:
        return None
    duration_s = 60.0 * n_ok / per_min
    return {
        **figures,
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "achieved_rps": n_ok / duration_s,
        "output_tokens_per_s": tokens[1] * n_ok / duration_s,
        "n_requests": n_ok + n_failed,
        "n_failed": n_failed,
        "duration_s": duration_s,
    }


def _requests(
    fields: Fields, responses: list[Fields], stated: Mapping[str, float]
) -> arrays.Requests:
    """Returns the requests of a run; faults of the responses are kept in `fields`."""
    rows: list[tuple[float, ...]] = []
    for response in responses:
        failed = response.has("error_code")
        needed = not failed
        values = (
            response.number("number_input_tokens", "tokens", required=needed),
            response.number("number_output_tokens", "tokens", required=needed),
            response.number("ttft_s", "s", required=needed) or None,  # 0 where none came
            response.number("end_to_end_latency_s", "s", required=needed),
        )
        rows.append((*(math.nan if value is None else value for value in values), not failed))
        fields.faults += response.faults
    input_tokens, output_tokens, ttft_s, e2e_s, ok = np.array(rows).reshape(-1, 5).T
    requests = arrays.Requests(
        input_tokens, output_tokens, np.zeros(len(rows)), ttft_s, e2e_s, ok > 0
    )
    n_ok, n_failed = int(requests.ok.sum()), int((~requests.ok).sum())
    if (n_ok + n_failed, n_failed) != (stated["n_requests"], stated["n_failed"]):
        got = f"{stated['n_requests'] - stated['n_failed']} and {stated['n_failed']}"
        what = f"the responses hold {n_ok} answers and {n_failed} errors, got {got}"
        fields.fault(_N_OK, what, _FIX_PAIR)
    elif not fields.faults and responses:
        lists = Fields(responses[0].file, {})
        arrays.check(lists, "responses", requests)
        fields.faults += lists.faults
    return requests
