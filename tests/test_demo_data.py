"""The committed tables: every figure has a source, obeys the law it must obey, and reads back."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.spec.base import Spec
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.pool import BYTES_PER_PARAMETER, Point, Pool
from planner.spec.question import ClassScore, Question, RatePoint, Schedule

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "profiles"
POOLS = tuple(sorted(folder.parent.name for folder in PROFILES.glob("*/pool.yaml")))
PLANS = ("a100", "demo")
ML_ENERGY = tuple(name for name in POOLS if name.startswith("llama-3.1-"))
ARGONNE = tuple(name for name in POOLS if name.startswith("llama-3-"))

N_TRACE_REQUESTS = 19_366  # Azure 2023 conv trace
N_PROMPTS = {"gsm": 1319, "crux": 800, "math-l5": 721}  # ZeroEval
# Published accuracies of ZeroEval's own summaries, in percent, to 0.01.
PUBLISHED_SCORE = {
    ("gsm", "llama-3.1-8b"): 84.00,
    ("gsm", "llama-3.1-70b"): 94.16,
    ("gsm", "llama-3.1-405b"): 95.91,
    ("crux", "llama-3.1-8b"): 39.88,
    ("crux", "llama-3.1-70b"): 64.25,
    ("crux", "llama-3.1-405b"): 73.00,
    ("math-l5", "llama-3.1-8b"): 22.19,
    ("math-l5", "llama-3.1-70b"): 43.13,
    ("math-l5", "llama-3.1-405b"): 49.79,
}


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _typed(spec: type[Spec], row: dict[str, str]) -> Any:
    """Returns the entry of one CSV row; blank cells are 'not measured'."""
    cells = {key: _number_or_text(value) for key, value in row.items() if value != ""}
    return spec.model_validate(cells)


def _number_or_text(cell: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(cell)
    return cell


def _points(pool: str) -> list[Point]:
    return [_typed(Point, row) for row in _rows(PROFILES / pool / "points.csv")]


def _pool(name: str) -> Pool:
    return Pool.model_validate(_load(PROFILES / name / "pool.yaml"))


def _gpus() -> dict[str, Gpu]:
    return {e["name"]: Gpu.model_validate(e) for e in _load(PROFILES / "gpus.yaml")}


def _models() -> dict[str, ModelFacts]:
    return {e["name"]: ModelFacts.model_validate(e) for e in _load(PROFILES / "models.yaml")}


def _question(plan: str) -> Question:
    return Question.model_validate(_load(ROOT / "plans" / plan / "question.yaml"))


def _scores(plan: str) -> list[ClassScore]:
    return [_typed(ClassScore, r) for r in _rows(ROOT / "plans" / plan / "class_scores.csv")]


def _schedule() -> list[RatePoint]:
    return [_typed(RatePoint, r) for r in _rows(ROOT / "plans" / "demo" / "arrivals.csv")]


def test_ten_pools_are_committed() -> None:
    assert len(ML_ENERGY) == 7
    assert len(ARGONNE) == 3
    assert len(POOLS) == 10


def test_every_gpu_has_a_dated_price_and_a_source() -> None:
    for gpu in _gpus().values():
        assert gpu.usd_per_h is not None and 0.5 < gpu.usd_per_h < 20
        assert gpu.source and "Price:" in gpu.source and "commit" in gpu.source
        assert gpu.as_of.year == 2025


@pytest.mark.parametrize("model", list(_models().values()), ids=lambda m: m.name)
def test_parameter_count_follows_from_the_architecture(model: ModelFacts) -> None:
    # Llama: gated MLP, grouped-query attention, untied embeddings, vocabulary of 128,256.
    mlp_width = {4096: 14336, 8192: 28672, 16384: 53248}[model.hidden_size]
    h, kv = model.hidden_size, model.n_kv_heads * model.head_dim
    layer = 2 * h * h + 2 * h * kv + 3 * h * mlp_width + 2 * h
    assert model.n_parameters == model.n_layers * layer + 2 * 128_256 * h + h
    assert model.n_heads * model.head_dim == h
    assert model.n_active_parameters == model.n_parameters


@pytest.mark.parametrize("name", POOLS)
def test_pool_is_named_after_its_folder_and_its_weights_fit(name: str) -> None:
    pool, gpus, models = _pool(name), _gpus(), _models()
    assert pool.name == name
    assert pool.gpu is not None and pool.weight_precision is not None
    gpu = gpus[pool.gpu]
    weights_gib = (
        models[pool.model_name].n_parameters * BYTES_PER_PARAMETER[pool.weight_precision] / 2**30
    )
    assert weights_gib < 0.9 * pool.n_gpus * gpu.memory_gib
    assert pool.n_gpus <= gpu.gpus_per_node
    assert re.search(r"commit [0-9a-f]{40}", " ".join(pool.source.split()))


@pytest.mark.parametrize("name", POOLS)
def test_points_have_the_columns_of_the_format_in_order(name: str) -> None:
    header = (PROFILES / name / "points.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.split(",") == list(Point.model_fields)


@pytest.mark.parametrize("name", POOLS)
def test_every_row_has_a_source_with_commit_file_and_at_most_six_loads(name: str) -> None:
    points = _points(name)
    for point in points:
        assert re.match(r"\S+/\S+@[0-9a-f]{8} .*\.(json|csv) ", point.source)
        assert point.origin == "measured"
        assert set(point.estimated.split()) <= set(Point.model_fields)
        assert all(getattr(point, column) is not None for column in point.estimated.split())
    assert 2 <= len({point.concurrency for point in points}) <= 6
    assert len({(p.input_tokens, p.concurrency) for p in points}) == len(points)


@pytest.mark.parametrize("name", POOLS)
def test_throughput_rises_with_load_and_the_cap_is_the_largest_load(name: str) -> None:
    points, cap = _points(name), _pool(name).max_num_seqs
    assert cap is not None
    assert max(p.concurrency or 0 for p in points) == pytest.approx(cap, rel=0.01)
    for _, group in itertools.groupby(
        points, key=lambda p: p.input_tokens if name in ARGONNE else 0
    ):
        curve = [(p.concurrency, p.output_tokens_per_s) for p in group]
        assert curve == sorted(curve)
        rates = [rate for _, rate in curve]
        assert rates == sorted(rates, key=lambda rate: rate or 0.0)


@pytest.mark.parametrize("name", ML_ENERGY)
def test_gaps_between_tokens_stay_in_the_itl_columns_and_obey_littles_law(name: str) -> None:
    for point in _points(name):
        assert point.mode == "closed"
        assert point.estimated == "input_tokens"
        assert all(
            getattr(point, f"{metric}_{statistic}_ms") is None
            for metric in ("ttft", "tpot", "e2e")
            for statistic in ("mean", "p50", "p90", "p95", "p99")
        )
        quantiles = [point.itl_p50_ms, point.itl_p90_ms, point.itl_p95_ms, point.itl_p99_ms]
        gaps_ms = [gap for gap in quantiles if gap is not None]
        assert len(gaps_ms) == 4 and gaps_ms == sorted(gaps_ms)
        # N = X * mean gap. The median is below the mean, but not below half of it.
        assert point.concurrency is not None and point.output_tokens_per_s is not None
        mean_gap_ms = 1000 * point.concurrency / point.output_tokens_per_s
        assert 0.5 * mean_gap_ms < gaps_ms[0] < 1.02 * mean_gap_ms


@pytest.mark.parametrize("name", ML_ENERGY)
def test_no_row_is_faster_than_reading_the_weights_once_per_token(name: str) -> None:
    pool, gpus, models = _pool(name), _gpus(), _models()
    assert pool.gpu is not None and pool.weight_precision is not None
    weight_bytes = models[pool.model_name].n_parameters * BYTES_PER_PARAMETER[pool.weight_precision]
    floor_ms = 1000 * weight_bytes / (pool.n_gpus * gpus[pool.gpu].memory_gb_per_s * 1e9)
    assert all((point.itl_p50_ms or 0) > floor_ms for point in _points(name))


@pytest.mark.parametrize("name", ARGONNE)
def test_batches_give_their_output_tokens_in_their_latency(name: str) -> None:
    for point in _points(name):
        assert point.mode == "batch"
        assert point.concurrency is not None and point.n_requests == point.concurrency
        assert point.e2e_mean_ms is not None and point.output_tokens_per_s is not None
        tokens = point.output_tokens_per_s * point.e2e_mean_ms / 1000
        assert tokens == pytest.approx(point.n_requests * point.output_tokens, rel=1e-4)
        assert point.itl_mean_ms is None and point.tpot_mean_ms is None
        if point.ttft_mean_ms is not None:
            assert point.estimated == "ttft_mean_ms"
            assert point.ttft_mean_ms < 0.2 * point.e2e_mean_ms


@pytest.mark.parametrize("plan", PLANS)
def test_question_reads_and_names_what_exists(plan: str) -> None:
    question, scores = _question(plan), _scores(plan)
    assert {c.name for c in question.classes} == set(N_PROMPTS)
    assert set(question.stock or {}) <= set(_gpus())
    assert {s.model_name for s in scores} <= set(_models())
    usable = [
        p
        for p in map(_pool, POOLS)
        if p.gpu in (question.stock or {}) and p.scored_as in {s.model_name for s in scores}
    ]
    assert {p.scored_as for p in usable} == {s.model_name for s in scores}
    for file in (question.class_scores, getattr(question.arrivals, "file", None)):
        assert file is None or (ROOT / "plans" / plan / file).is_file()


@pytest.mark.parametrize("plan", PLANS)
def test_class_scores_are_complete_and_their_quantiles_rise(plan: str) -> None:
    scores = _scores(plan)
    names = {s.model_name for s in scores}
    assert {(s.class_name, s.model_name) for s in scores} == set(
        itertools.product(N_PROMPTS, names)
    )
    assert len(scores) == len(N_PROMPTS) * len(names)
    for s in scores:
        assert s.n_prompts == N_PROMPTS[s.class_name]
        assert 0 < s.score < 1
        # A share of right answers is a whole number of prompts.
        assert s.score * s.n_prompts == pytest.approx(round(s.score * s.n_prompts), abs=0.01)
        levels = [getattr(s, f"output_tokens_p{q}") for q in (10, 25, 50, 75, 90, 95, 99)]
        levels.append(s.output_tokens_max)
        assert all(level is not None for level in levels) and levels == sorted(levels)
        assert levels[0] < s.output_tokens_mean < s.output_tokens_max
        assert "WildEval/ZeroEval@8c1485ed" in s.source and "cl100k" in s.source


def test_demo_scores_are_the_published_ones() -> None:
    for s in _scores("demo"):
        assert 100 * s.score == pytest.approx(
            PUBLISHED_SCORE[s.class_name, s.model_name], abs=0.0051
        )


def test_prompts_of_a_class_are_the_same_for_every_model() -> None:
    inputs = {(s.class_name, s.input_tokens_mean) for p in PLANS for s in _scores(p)}
    assert len(inputs) == len(N_PROMPTS)
    assert {name: round(mean) for name, mean in inputs} == {"gsm": 137, "crux": 195, "math-l5": 159}


def test_scores_of_the_largest_model_are_assumed_and_of_the_others_measured() -> None:
    for s in [*_scores("demo"), *_scores("a100")]:
        assert s.origin == ("assumed" if s.model_name == "llama-3.1-405b" else "measured")


@pytest.mark.parametrize("plan", PLANS)
def test_mix_is_proportional_to_the_prompts_of_each_class(plan: str) -> None:
    classes = _question(plan).classes
    total_rps = sum(c.rate_rps for c in classes)
    for c in classes:
        assert c.rate_rps / total_rps == pytest.approx(N_PROMPTS[c.name] / 2840, abs=0.001)


def test_schedule_holds_every_request_of_the_trace() -> None:
    schedule = _schedule()
    assert [row.start_s for row in schedule] == [60.0 * k for k in range(59)]
    assert 60 * sum(row.rate_rps for row in schedule) == pytest.approx(N_TRACE_REQUESTS, abs=0.5)
    for row in schedule:
        assert 60 * row.rate_rps == pytest.approx(round(60 * row.rate_rps), abs=0.005)


def test_demo_rates_are_those_that_its_comments_state() -> None:
    rates = [row.rate_rps for row in _schedule()]
    mean_rps = sum(rates) / len(rates)
    peak_rps = max(sum(rates[k : k + 5]) / 5 for k in range(len(rates) - 4))
    question = _question("demo")
    assert sum(c.rate_rps for c in question.classes) == pytest.approx(mean_rps, abs=0.001)
    assert isinstance(question.arrivals, Schedule)
    factor = question.arrivals.rate_factor
    text = (ROOT / "plans" / "demo" / "question.yaml").read_text(encoding="utf-8")
    assert f"{factor * mean_rps:.1f} requests per second on average" in text
    assert f"{factor * peak_rps:.1f} in the busiest five minutes" in text


def test_demo_comments_show_every_key_that_a_question_may_have() -> None:
    """What is commented out is as true as the rest: each key reads, and none is missing."""
    text = (ROOT / "plans/demo/question.yaml").read_text(encoding="utf-8")
    said = yaml.safe_load(text)
    comments = text.split("More that a question may say", 1)[1].splitlines()[1:]
    more = yaml.safe_load("\n".join(line.removeprefix("#   ") for line in comments))
    without = {"supply": ("stock", "prices"), "periods": ("arrivals",)}
    for key, value in more.items():
        other = {k: v for k, v in said.items() if k not in without.get(key, ())}
        Question.model_validate_json(json.dumps({**other, key: value}))
    hinted = {"router", "prices", "scores", "prompts"}
    assert all(f"{key}: " in text or f"{key}:\n" in text for key in hinted)
    assert set(Question.model_fields) == set(said) | set(more) | hinted


def test_demo_floor_lies_between_the_small_and_the_middle_model() -> None:
    question, scores = _question("demo"), _scores("demo")
    weight = {c.name: c.rate_rps for c in question.classes}

    def alone(model_name: str) -> float:
        own = [s for s in scores if s.model_name == model_name]
        return sum(weight[s.class_name] * s.score for s in own) / sum(weight.values())

    assert question.quality_at_least is not None
    assert alone("llama-3.1-8b") == pytest.approx(0.56, abs=0.005)
    assert alone("llama-3.1-70b") == pytest.approx(0.73, abs=0.005)
    assert alone("llama-3.1-405b") == pytest.approx(0.78, abs=0.005)
    assert alone("llama-3.1-8b") < question.quality_at_least < alone("llama-3.1-405b")


def test_notice_names_every_repository_that_a_row_cites() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    sources = [p.source for name in POOLS for p in _points(name)]
    sources += [s.source for plan in PLANS for s in _scores(plan)]
    cited = {match for s in sources for match in re.findall(r"(\S+/\S+)@([0-9a-f]{8})", s)}
    assert len(cited) == 3
    for repository, commit in cited:
        assert f"https://github.com/{repository}" in notice
        assert f"commit {commit}" in notice
    for gpu in _gpus().values():
        for commit in re.findall(r"commit ([0-9a-f]{8})", gpu.source):
            assert f"commit {commit}" in notice
    assert "Azure/AzurePublicDataset" in notice and "CC-BY-4.0" in notice
