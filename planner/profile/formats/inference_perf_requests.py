"""The requests of an inference-perf run, one by one, told apart by stage.

Facts of `per_request_lifecycle_metrics.json` (inference_perf/reportgen/base.py, apis/base.py
@7de5ef2): a list of {start_time, end_time, request, response, info, error}, times in s of one
monotonic clock; error is null for an answer; info.response_metrics has output_tokens (the client's
count), server_usage.completion_tokens (the server's) and, of streamed answers, output_token_times.
Older files have input_tokens, output_tokens and output_token_times in info itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.errors import Fault, InputError
from planner.profile.fields import Fields, base_name
from planner.profile.formats import requests as arrays
from planner.profile.formats.loads import list_of_objects, section
from planner.spec.arrays import FloatArray

_MAX_FAULTS = 20
_FIX_FILES = "give the files of one run only"


@dataclass(frozen=True)
class StageRequests:
    """The requests of one stage; gaps between tokens in s of all its answers."""

    requests: arrays.Requests
    gaps_s: FloatArray  # (m,)
    by_server: bool  # whether output tokens are the server's count

    def figures(self, duration_s: float) -> dict[str, float]:
        """Returns the figures of the stage by field of Point (ms, requests/s, tokens/s)."""
        found = arrays.figures(self.requests, duration_s)
        numbers = {key: value for key, value in found.items() if isinstance(value, int | float)}
        return numbers | arrays.statistics_ms("itl", self.gaps_s)

    def remarks(self) -> list[str]:
        """Returns what a reader should know of these requests."""
        notes = arrays.remarks(self.requests)
        if not self.by_server:
            notes.append("output tokens and tpot are by the client's count of tokens")
        return notes


@dataclass(frozen=True)
class _Request:
    """One request; nan is 'not measured'."""

    input_tokens: float
    client_tokens: float
    server_tokens: float
    start_s: float
    end_s: float
    token_times_s: FloatArray  # (o,)
    ok: bool


def by_stage(
    names: Sequence[str],
    files: Mapping[str, str],
    stages: Mapping[str, Fields],
    notes: list[str],
    faults: list[Fault],
) -> dict[str, StageRequests]:
    """Returns the requests of each stage, by the name of its report; none where none are listed.

    Args:
        names: the lists of requests among `files`; more than one is a fault.
        files: texts by name.
        stages: the report of each stage by file name, in order of the stages.
        notes: grows by the reason where the list does not fit the stages.
        faults: grows by what is wrong with the list.
    """
    if not names or not stages:
        return {}
    if len(names) > 1:
        what = f"one run has one list of requests, got {', '.join(map(base_name, names))}"
        faults.append(Fault(names[1], "content", what[:300], _FIX_FILES))
        return {}
    try:
        requests = _requests(names[0], files[names[0]])
    except InputError as error:
        faults += error.faults
        return {}
    requests.sort(key=lambda request: request.start_s)
    blocks = _blocks(requests, stages)
    if blocks is None:
        notes.append(
            f"{base_name(names[0])}: its requests do not fit the counts and times of the stages "
            "given: the figures that the stages state are used"
        )
        return {}
    found: dict[str, StageRequests] = {}
    for name, block in blocks.items():
        stage = _stage(block)
        fields = Fields(names[0], {}, f"{base_name(name)} ")
        arrays.check(fields, "requests", stage.requests)
        faults += fields.faults
        if not fields.faults:
            found[name] = stage
    return found


def _blocks(
    requests: Sequence[_Request], stages: Mapping[str, Fields]
) -> dict[str, Sequence[_Request]] | None:
    """Returns the requests of each stage, None where counts or times say they are not its."""
    blocks: dict[str, Sequence[_Request]] = {}
    at = 0
    for name, report in stages.items():
        n_requests = _count(report, "load_summary")
        block = requests[at : at + n_requests]
        at += n_requests
        if len(block) < n_requests or not block:
            return None
        if sum(not request.ok for request in block) != _count(report, "failures"):
            return None
        took_s = max(r.end_s for r in block) - min(r.start_s for r in block)
        stated_s = report.values.get("benchmark_time_seconds")
        if isinstance(stated_s, float) and not math.isclose(took_s, stated_s, rel_tol=1e-6):
            return None
        blocks[name] = block
    return blocks if at == len(requests) else None


def _count(report: Fields, key: str) -> int:
    """Returns the count that a section of a report states, 0 where it states none."""
    part = report.values.get(key)
    count = part.get("count") if isinstance(part, dict) else None
    return count if isinstance(count, int) and 0 <= count <= 10**9 else 0


def _stage(block: Sequence[_Request]) -> StageRequests:
    """Returns the arrays of the requests of one stage."""
    ok = np.array([request.ok for request in block], dtype=np.bool_)
    server = np.array([request.server_tokens for request in block])
    client = np.array([request.client_tokens for request in block])
    by_server = bool(ok.any() and np.isfinite(server[ok]).all())
    start_s = np.array([request.start_s for request in block])
    first_s = np.array(
        [r.token_times_s[0] if r.token_times_s.size else math.nan for r in block], dtype=np.float64
    )
    requests = arrays.Requests(
        input_tokens=np.array([request.input_tokens for request in block]),
        output_tokens=np.where(ok, server if by_server else client, 0.0),
        start_s=start_s,
        ttft_s=first_s - start_s,
        e2e_s=np.array([request.end_s for request in block]) - start_s,
        ok=ok,
    )
    gaps = [np.diff(request.token_times_s) for request in block if request.ok]
    return StageRequests(requests, np.concatenate([np.zeros(0), *gaps]), by_server)


def _requests(name: str, text: str) -> list[_Request]:
    """Returns the requests of a list; raises InputError with its first faults."""
    found: list[_Request] = []
    faults: list[Fault] = []
    for entry in list_of_objects(name, text):
        found.append(_request(entry))
        faults += entry.faults
        if len(faults) >= _MAX_FAULTS:
            break
    if faults:
        raise InputError(faults[:_MAX_FAULTS])
    return found


def _request(entry: Fields) -> _Request:
    """Returns one request; faults are kept in `entry`."""
    start_s = entry.number("start_time", "s", required=True)
    end_s = entry.number("end_time", "s", required=True)
    info = section(entry, "info")
    text = section(section(info, "request_metrics"), "text")
    response = section(info, "response_metrics") if info.has("response_metrics") else info
    usage = section(response, "server_usage")
    input_tokens = text.number("input_tokens", "tokens")
    if input_tokens is None:
        input_tokens = info.number("input_tokens", "tokens")
    client_tokens = response.number("output_tokens", "tokens")
    server_tokens = usage.number("completion_tokens", "tokens")
    times_s = response.numbers("output_token_times", "s")
    if times_s is not None and (np.diff(times_s) < 0).any():
        response.fault("output_token_times", "times of tokens must not fall, got some that do")
    return _Request(
        input_tokens=math.nan if input_tokens is None else input_tokens,
        client_tokens=client_tokens or 0.0,
        server_tokens=server_tokens or math.nan,
        start_s=start_s or 0.0,
        end_s=end_s or 0.0,
        token_times_s=np.zeros(0) if times_s is None else times_s,
        ok=not entry.has("error"),
    )
