"""Pages of metrics of `rb serve` as they would look after some traffic, written line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HISTOGRAMS = {
    "e2e": "gen_ai_server_request_duration_seconds",
    "ttft": "gen_ai_server_time_to_first_token_seconds",
    "tpot": "gen_ai_server_time_per_output_token_seconds",
}


@dataclass(frozen=True)
class Seen:
    """What one worker counted of one class on one pool."""

    class_name: str
    pool: str
    n: int
    input_tokens: float = 100.0
    output_tokens: float = 200.0
    cv: float = 0.5
    n_error: int = 0
    n_cancelled: int = 0
    scores: tuple[int, float] = (0, 0.0)  # how many, their sum
    latency_s: Mapping[str, Mapping[float, int]] = field(default_factory=dict)
    """By metric: how many lie at or below each bound; the rest lies above all."""


def page_text(
    seen: list[Seen],
    plan_hash: str,
    start_s: float = 1_000.0,
    scrape_s: float = 4_600.0,
    worker: str = "0",
    refused: Mapping[tuple[str, str], int] | None = None,
    escalated: Mapping[str, int] | None = None,
) -> str:
    """The text of a page."""
    lines = [
        "# HELP rb_plan_info 1: the plan that a worker serves.",
        "# TYPE rb_plan_info gauge",
        f'rb_plan_info{{plan_hash="{plan_hash}",worker="{worker}"}} 1.0',
        f'rb_start_time_seconds{{worker="{worker}"}} {start_s}',
        f'rb_scrape_time_seconds{{worker="{worker}"}} {scrape_s}',
        "process_cpu_seconds_total 3.0",
    ]
    for s in seen:
        lines += _lines(s, worker)
    for name, n in (escalated or {}).items():
        lines.append(f'rb_escalations_total{{rb_class="{name}",worker="{worker}"}} {n}.0')
    for (class_name, why), n in (refused or {}).items():
        of = f'rb_class="{class_name}"'
        lines.append(f'rb_refused_total{{{of},why="{why}",worker="{worker}"}} {n}.0')
        lines.append(
            f'rb_requests_total{{{of},rb_pool="",outcome="refused",worker="{worker}"}} {n}.0'
        )
    return "\n".join(lines) + "\n"


def _lines(s: Seen, worker: str) -> list[str]:
    of = f'rb_class="{s.class_name}",rb_pool="{s.pool}"'
    by = f'{of},worker="{worker}"'
    lines = [
        f'rb_requests_total{{{of},outcome="{outcome}",worker="{worker}"}} {n}.0'
        for outcome, n in (("ok", s.n), ("error", s.n_error), ("cancelled", s.n_cancelled))
    ]
    lines.append(f"rb_answers_with_usage_total{{{by}}} {s.n}.0")
    for side, mean in (("input", s.input_tokens), ("output", s.output_tokens)):
        squares = s.n * mean**2 * (1.0 + s.cv**2)
        lines.append(f"rb_{side}_tokens_total{{{by}}} {s.n * mean!r}")
        lines.append(f"rb_{side}_tokens_squared_total{{{by}}} {squares!r}")
    lines.append(f"rb_quality_samples_total{{{by}}} {s.scores[0]}.0")
    lines.append(f"rb_quality_score_total{{{by}}} {s.scores[1]!r}")
    for metric, buckets in s.latency_s.items():
        name = HISTOGRAMS[metric]
        told = f'{of},gen_ai_request_model="rb/auto",worker="{worker}"'
        lines += [f'{name}_bucket{{{told},le="{le}"}} {n}.0' for le, n in buckets.items()]
        lines.append(f'{name}_bucket{{{told},le="+Inf"}} {s.n}.0')
        lines.append(f"{name}_count{{{told}}} {s.n}.0")
        lines.append(f"{name}_sum{{{told}}} 1.5")
    return lines
