"""Recorded AIPerf runs, ways to read parts of them, and their figures in plain numpy."""

import json
from pathlib import Path

import numpy as np
import pytest

from planner.profile.fields import Reading
from planner.profile.formats.aiperf import parse
from planner.spec.base import STATISTICS
from planner.spec.pool import Point

FIXTURES = Path(__file__).parent.parent / "fixtures" / "aiperf"
RUNS = ["c2", "c8", "rate12"]
SUMMARY, REQUESTS, TABLE = (
    "profile_export_aiperf.json",
    "profile_export.jsonl",
    "profile_export_aiperf.csv",
)
PERCENTS = (50, 90, 95, 99)
FOLDER = "concurrency1/"  # tells the load of files that do not
GENAI = {
    "request_throughput": {"unit": "requests/sec", "avg": 2.0},
    "request_latency": {"unit": "ms", "avg": 900.0, "p99": 1500.0, "p90": 1200.0, "p50": 850.0},
    "time_to_first_token": {"unit": "ms", "avg": 100.0, "p99": 150.0},
    "inter_token_latency": {"unit": "ms", "avg": 8.0, "p99": 9.0},
    "output_sequence_length": {"unit": "tokens", "avg": 101.0},
    "input_sequence_length": {"unit": "tokens", "avg": 200.0},
    "request_count": {"unit": "count", "avg": 40.0},
    "input_config": {"model": ["org/model"], "concurrency": 2, "request_rate": None},
}


def text_of(run: str, name: str) -> str:
    return (FIXTURES / run / name).read_text(encoding="utf-8")


def files_of(run: str, *names: str) -> dict[str, str]:
    return {f"{run}/{name}": text_of(run, name) for name in names or (SUMMARY, REQUESTS, TABLE)}


def rows_of(run: str) -> list[dict]:
    return [json.loads(line) for line in text_of(run, REQUESTS).splitlines()]


def reading_of(files: dict[str, str]) -> Reading:
    (reading,) = parse(files)
    return reading


def from_rows(rows: list[dict], **others: object) -> Reading:
    texts = {REQUESTS: "\n".join(json.dumps(row) for row in rows), **others}
    return reading_of({f"{FOLDER}{name}": text for name, text in texts.items()})


def from_summary(data: dict) -> Reading:
    return reading_of({SUMMARY: json.dumps(data)})


def column(rows: list[dict], key: str) -> np.ndarray:
    units = {row["metrics"][key]["unit"] for row in rows}
    assert units <= {"ms", "tokens"}
    return np.array([row["metrics"][key]["value"] for row in rows], dtype=float)


def expected_of(rows: list[dict], duration_s: float) -> dict:
    """Figures of a run from its requests, with plain numpy; tokens as the server counts."""
    n_output = column(rows, "usage_completion_tokens")
    e2e, ttft = column(rows, "request_latency"), column(rows, "time_to_first_token")
    times = {"ttft": ttft, "tpot": (e2e - ttft) / (n_output - 1), "e2e": e2e}
    gaps = [gap for row in rows for gap in row["metrics"]["inter_chunk_latency"]["value"]]
    figures = {f"itl_{statistic}_ms": None for statistic in STATISTICS}
    if len(gaps) == n_output.sum() - len(rows):
        times["itl"] = np.array(gaps)
    for metric, values in times.items():
        figures[f"{metric}_mean_ms"] = np.mean(values)
        for percent in PERCENTS:
            figures[f"{metric}_p{percent}_ms"] = np.percentile(values, percent)
    return {
        **figures,
        "input_tokens": column(rows, "usage_prompt_tokens").mean(),
        "output_tokens": n_output.mean(),
        "achieved_rps": len(rows) / duration_s,
        "output_tokens_per_s": n_output.sum() / duration_s,
        "duration_s": duration_s,
        "n_requests": len(rows),
        "n_failed": 0,
    }


def unequal(point: Point, expected: dict, rel: float = 1e-6) -> list[str]:
    return [
        k for k, v in expected.items() if getattr(point, k) != (v and pytest.approx(v, rel=rel))
    ]
