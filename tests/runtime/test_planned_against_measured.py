"""What `rb plan` predicts against what a client of `rb serve` measures, engines unknown to both.

Six engines of three models keep time by step laws (timed_plan.py); they are profiled, planned and
served through the command line, and traces are replayed by a client that shares no code with `rb`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import timed_plan
from replaying import replay
from serving import serving

pytestmark = pytest.mark.slow

GOALS = {"share": 0.01, "p50": 0.15, "p95": 0.25}
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Planned:
    """A plan folder with its endpoints, and the profiles it was planned with."""

    folder: Path
    profiles: Path
    plan: dict


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    folder = tmp_path_factory.mktemp("timed")
    with timed_plan.engines(folder) as urls:
        timed_plan.measure(urls, folder / "profiles")
        plan = timed_plan.make_plan(folder / "plan", folder / "profiles", urls)
        yield Planned(folder / "plan", folder / "profiles", plan)


def test_predicted_against_measured(planned):
    trace = timed_plan.draw_trace(seconds := 75.0, seed=0)
    with serving(planned.folder) as rb:
        got = asyncio.run(replay(HOST, rb.port, trace, timeout_s=60))
    assert all((g.status, g.n_output) == (200, g.asked.n_output) for g in got)
    figures = timed_plan.compare(planned.plan, got, warm_s=seconds / 5)
    kinds = Counter(f.kind for f in figures)
    assert kinds == {"share": len(planned.plan["routing"]), "p50": 4, "p95": 4}
    off = [f for f in figures if f.deviation > GOALS[f.kind]]
    assert not off, off


def test_other_traffic_than_planned_is_planned_anew(planned, tmp_path):
    """Four workers tell as one that the hard requests have doubled, and the next plan knows."""
    hard = timed_plan.CLASSES["hard"].rate_rps
    trace = timed_plan.draw_trace(45.0, seed=1, faster={"hard": 2.0})
    with serving(planned.folder, "--workers", "4", "--no-admission") as rb:
        got = asyncio.run(replay(HOST, rb.port, trace, timeout_s=60))
        assert {g.status for g in got} == {200}
        page = f"http://{HOST}:{rb.port}/metrics"
        question = tmp_path / "question.yaml"
        asked = [str(planned.folder), "--metrics", page, "--write-question", str(question)]
        report = json.loads(timed_plan.rb("drift", *asked, "--json", codes=(1,)).stdout)
        served = Counter((g.asked.class_name, g.pool) for g in got)
        for (name, pool), n in served.items():
            labels = {"rb_class": name, "rb_pool": pool}
            assert rb.count("rb_requests_total", **labels) == n
            tokens = [g.asked for g in got if (g.asked.class_name, g.pool) == (name, pool)]
            assert rb.count("rb_input_tokens_total", **labels) == sum(a.n_input for a in tokens)
            assert rb.count("rb_output_tokens_total", **labels) == sum(a.n_output for a in tokens)
        end_s, start_s = (
            rb.count(f"rb_{at}_time_seconds", worker="0") for at in ("scrape", "start")
        )
        seconds = end_s - start_s  # with those in which the last were answered
        n_by_worker = [rb.count("rb_requests_total", worker=str(k)) for k in range(4)]
    assert min(n_by_worker) > 0.1 * len(got)
    for route in planned.plan["routing"]:
        n = sum(g.asked.class_name == route["class"] for g in got)
        share = served[route["class"], route["pool"]] / n
        assert abs(share - route["share"]) <= max(0.01, 4 / n)  # one of each worker
    assert report["fits"] == "no longer fits"

    shutil.copy(planned.folder / "class_scores.csv", tmp_path)
    where = ("--profiles", str(planned.profiles), "--effort", "quick", "--quiet")
    timed_plan.rb("plan", str(tmp_path), *where)
    rates_rps = json.loads((tmp_path / "plan.json").read_text())["predicted"]["class_rps"]
    n_hard = sum(asked.class_name == "hard" for asked in trace)
    assert rates_rps["hard"] == pytest.approx(n_hard / seconds, rel=0.05)
    assert rates_rps["hard"] > 1.4 * hard
