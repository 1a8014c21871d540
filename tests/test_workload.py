"""Planned rates against a brute-force sliding window, and the arrays of a workload by hand."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.spec.hardware import Gpu
from planner.spec.inputs import QuestionFiles
from planner.spec.pool import HostedPrice, Pool, Profile
from planner.spec.question import (
    Bursty,
    ClassScore,
    Limit,
    Poisson,
    Question,
    RatePoint,
    RequestClass,
    Schedule,
    Square,
    Trace,
    TraceRow,
)
from planner.workload import arrival_cv, make_workload, planning_rates

CLASSES = (RequestClass(name="a", rate_rps=3.0), RequestClass(name="b", rate_rps=1.0))
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
WINDOW_S = 300


def files_of(arrivals, classes=CLASSES, **more) -> QuestionFiles:
    question = Question(
        version=1, classes=classes, arrivals=arrivals, class_scores="c.csv", stock={"g": 8}
    )
    return QuestionFiles("question.yaml", question, **more)


def busiest_rps(rate_of_second: np.ndarray) -> float:
    """The mean rate of the busiest five minutes of a rate given for each second."""
    windows = np.lib.stride_tricks.sliding_window_view(rate_of_second, WINDOW_S)
    return float(windows.mean(axis=1).max())


def test_poisson_and_bursty_rates_are_the_stated_ones_times_the_factor() -> None:
    for arrivals in (Poisson(rate_factor=2.5), Bursty(process="gamma", cv=3.0, rate_factor=2.5)):
        planned, mean = planning_rates(files_of(arrivals))
        assert planned.tolist() == mean.tolist() == [7.5, 2.5]
    assert arrival_cv(files_of(Poisson()).question) == 1.0
    assert arrival_cv(files_of(Bursty(process="gamma", cv=3.0)).question) == 3.0


def schedule_files(points: list[tuple[float, float]], **changes) -> QuestionFiles:
    rows = tuple(RatePoint(start_s=start, rate_rps=rate) for start, rate in points)
    return files_of(Schedule(process="schedule", file="s.csv", **changes), schedule=rows)


@EXAMPLES
@given(
    st.lists(st.tuples(st.integers(1, 250), st.integers(0, 50)), min_size=3, max_size=12),
    st.integers(0, 100),
)
def test_a_schedule_is_planned_at_its_busiest_five_minutes(
    steps: list[tuple[int, int]], begin: int
) -> None:
    steps[0] = (steps[0][0], steps[0][1] + 1)
    lengths = [length for length, _ in steps]
    starts = begin + np.concatenate([[0], np.cumsum(lengths[:-1])])
    points = [(float(t), float(rate)) for t, (_, rate) in zip(starts, steps, strict=True)]
    lengths[-1] = lengths[-2]  # the last rate holds as long as the one before it
    by_second = np.repeat([float(rate) for _, rate in steps], lengths)
    planned, mean = planning_rates(schedule_files(points, rate_factor=2.0))
    average = float(by_second.mean())
    peak = max(average, busiest_rps(by_second)) if by_second.size > WINDOW_S else average
    assert mean == pytest.approx(np.array([0.75, 0.25]) * average * 2.0)
    assert planned == pytest.approx(np.array([0.75, 0.25]) * peak * 2.0)


def test_a_schedule_planned_at_its_mean() -> None:
    points = [(0.0, 1.0), (400.0, 9.0), (800.0, 2.0)]
    planned, mean = planning_rates(schedule_files(points, planning_rate="mean"))
    assert planned.tolist() == mean.tolist() == pytest.approx([3.0, 1.0])


def test_traffic_at_both_ends_of_a_short_schedule_is_not_planned_below_its_mean() -> None:
    points = [(0.0, 10.0), (150.0, 0.0), (300.0, 10.0)]  # 5 req/s in every five minutes
    planned, _ = planning_rates(schedule_files(points))
    assert planned.sum() == pytest.approx(20.0 / 3.0)


@pytest.mark.parametrize("period_s", [2, 50, 90, 300, 400, 500, 599, 600, 5000])
def test_a_square_wave_is_planned_at_its_busiest_five_minutes(period_s: int) -> None:
    arrivals = Square(process="square", low_rps=2.0, high_rps=10.0, period_s=float(period_s))
    ticks = np.arange(20 * max(period_s, WINDOW_S) * 2)  # half seconds
    rate = np.where(ticks % (2 * period_s) < period_s, 10.0, 2.0)
    windows = np.convolve(rate, np.full(2 * WINDOW_S, 0.5 / WINDOW_S), mode="valid")
    planned, mean = planning_rates(files_of(arrivals))
    assert mean.sum() == pytest.approx(6.0)
    assert planned.sum() == pytest.approx(windows.max())
    assert planned / planned.sum() == pytest.approx([0.75, 0.25])
    at_mean = arrivals.model_copy(update={"planning_rate": "mean"})
    assert planning_rates(files_of(at_mean))[0].sum() == pytest.approx(6.0)


def trace_files(rows: list[tuple[float, str | None]], **changes) -> QuestionFiles:
    trace = tuple(TraceRow.model_validate({"timestamp_s": t, "class": name}) for t, name in rows)
    return files_of(Trace(trace="t.csv", **changes), trace=trace)


@EXAMPLES
@given(st.integers(0, 2**31 - 1), st.integers(5, 300), st.integers(310, 2000))
def test_a_trace_is_planned_at_its_busiest_five_minutes(seed: int, n: int, span: int) -> None:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, span, n))
    times[0], times[-1] = 0, span
    kinds = random.choice(["a", "b", ""], n).tolist()
    kinds[0], kinds[-1] = "a", "b"
    files = trace_files([(float(t), k or None) for t, k in zip(times, kinds, strict=True)])
    planned, mean = planning_rates(files)
    weight = {"a": (1.0, 0.0), "b": (0.0, 1.0), "": (0.75, 0.25)}
    expected_mean = sum(np.array(weight[k]) for k in kinds) * (n - 1) / n / span
    assert mean == pytest.approx(expected_mean)
    # Whole seconds: the busiest window starts at a request; of equal ones the first counts.
    counts = [int(((times >= s) & (times < s + WINDOW_S)).sum()) for s in times]
    start = times[int(np.argmax(counts))]
    inside = [k for t, k in zip(times, kinds, strict=True) if start <= t < start + WINDOW_S]
    peak = sum(np.array(weight[k]) for k in inside) / WINDOW_S
    assert planned == pytest.approx(np.maximum(peak, expected_mean))
    by_second = np.bincount(times, minlength=span + WINDOW_S).astype(float)
    assert len(inside) / WINDOW_S == pytest.approx(busiest_rps(by_second))


def test_one_request_a_second_is_one_request_a_second() -> None:
    rows = [(float(t), "a" if t % 4 else "b") for t in range(1001)]
    planned, mean = planning_rates(trace_files(rows, rate_factor=3.0))
    assert mean.sum() == pytest.approx(3.0)
    assert planned.sum() == pytest.approx(3.0, rel=0.01)
    assert planned / planned.sum() == pytest.approx([0.75, 0.25], rel=0.01)


def test_a_short_trace_is_planned_at_its_mean() -> None:
    rows = [(float(t), "ab"[t % 2]) for t in range(11)]
    planned, mean = planning_rates(trace_files(rows))
    assert planned.tolist() == mean.tolist()
    assert mean.sum() == pytest.approx(1.0)


def test_a_trace_planned_at_its_mean() -> None:
    rows = [(0.1 * t, "a") for t in range(100)] + [(2000.0, "b")]
    planned, mean = planning_rates(trace_files(rows, planning_rate="mean"))
    assert planned.tolist() == mean.tolist()
    assert mean.sum() == pytest.approx(100 / 2000)


def test_a_class_that_is_absent_in_the_busiest_minutes_keeps_its_mean() -> None:
    # With rate 0 nothing would have to serve it.
    rows = [(0.1 * t, "a") for t in range(100)] + [(2000.0, "b")]
    planned, mean = planning_rates(trace_files(rows))
    assert planned[0] == pytest.approx(100 / 300)
    assert planned[1] == pytest.approx(mean[1]) and mean[1] > 0


def test_a_class_that_never_occurs_in_the_trace_is_a_fault() -> None:
    with pytest.raises(InputError, match=r"classes\.b: never occurs in t\.csv") as caught:
        planning_rates(trace_files([(0.0, "a"), (9.0, "a")]))
    assert [fault.field for fault in caught.value.faults] == ["classes.b"]


# ---- the arrays -----------------------------------------------------------------------------

GPU = Gpu(
    name="g",
    memory_gib=80.0,
    fp16_tflops=1.0,
    memory_gb_per_s=1.0,
    usd_per_h=2.0,
    source="made for a test",
    as_of=datetime.date(2026, 1, 1),
)


def own(name: str, model_name: str, scored_as: str | None = None) -> Profile:
    pool = Pool(
        name=name, model_name=model_name, scores_model_name=scored_as, gpu="g", source="test"
    )
    return Profile(pool, GPU, None)


def hosted(name: str, model_name: str, in_usd: float, out_usd: float) -> Profile:
    price = HostedPrice(usd_per_million_input_tokens=in_usd, usd_per_million_output_tokens=out_usd)
    return Profile(
        Pool(name=name, model_name=model_name, price=price, max_rps=5.0, source="test"), None, None
    )


def score_of(cls: str, model_name: str, score: float, **changes) -> ClassScore:
    row = {
        "class": cls,
        "model_name": model_name,
        "n_prompts": 5,
        "score": score,
        "input_tokens_mean": 100.0,
        "output_tokens_mean": 40.0,
        "source": "made for a test",
    }
    return ClassScore.model_validate(row | changes)


SCORES = (
    score_of("a", "big", 0.9),
    score_of("b", "big", 0.8, output_tokens_mean=60.0),
    score_of("a", "small", 0.5, origin="estimated"),
    score_of("a", "elsewhere", 0.7, origin="assumed"),
)
POOLS = (own("big-1", "big"), own("big-2", "big-fp8", "big"), own("small-1", "small"))


def test_pools_are_allowed_where_scored_listed_and_not_barred() -> None:
    classes = (
        RequestClass(name="a", rate_rps=3.0, pools=("big-1", "small-1")),
        RequestClass(name="b", rate_rps=1.0, not_pools=("big-2",)),
    )
    made = make_workload(files_of(Poisson(), classes, class_scores=SCORES), POOLS)
    assert made.allowed.tolist() == [[True, False, True], [True, False, False]]
    nan = np.nan
    np.testing.assert_array_equal(made.quality, [[0.9, nan, 0.5], [0.8, nan, nan]])
    held = [[shape is not None for shape in row] for row in made.shapes]
    assert held == made.allowed.tolist()
    assert made.pool_names == ("big-1", "big-2", "small-1")


def test_a_class_that_may_use_no_pool_is_a_row_of_nothing() -> None:
    classes = (CLASSES[0], RequestClass(name="b", rate_rps=1.0, pools=("small-1",)))
    made = make_workload(files_of(Poisson(), classes, class_scores=SCORES), POOLS)
    assert not made.allowed[1].any() and np.isnan(made.quality[1]).all()
    assert not made.request_usd.any() and np.isfinite(made.request_usd).all()


def test_a_pool_is_scored_under_the_name_of_its_scores() -> None:
    made = make_workload(files_of(Poisson(), class_scores=SCORES), POOLS)
    assert made.quality[:, 1].tolist() == [0.9, 0.8]
    shape = made.shapes[1][1]
    assert shape is not None and shape.mean_output_tokens == pytest.approx(60.0)


def test_the_origin_is_the_worst_of_what_the_pools_use() -> None:
    files = files_of(Poisson(), class_scores=SCORES)
    assert make_workload(files, POOLS).origin == "estimated"
    assert make_workload(files, POOLS[:2]).origin == "measured"  # no pool runs "elsewhere"
    assert make_workload(files, (*POOLS, own("e", "elsewhere"))).origin == "assumed"


def test_a_hosted_request_costs_its_tokens_and_an_own_one_nothing() -> None:
    cached = RequestClass(name="a", rate_rps=3.0, cached_input_ratio=0.5)
    files = files_of(Poisson(), (cached, CLASSES[1]), class_scores=SCORES)
    made = make_workload(
        files, (*POOLS, hosted("api", "big", 3.0, 15.0), hosted("free", "big", 0.0, 0.0))
    )
    # Cached prompt tokens are charged too: a discount is the provider's secret.
    assert made.request_usd[0, 3] == pytest.approx((100 * 3.0 + 40 * 15.0) / 1e6)
    assert made.request_usd[1, 3] == pytest.approx((100 * 3.0 + 60 * 15.0) / 1e6)
    assert not made.request_usd[:, [0, 1, 2, 4]].any()
    shape = made.shapes[0][3]
    assert shape is not None and shape.cached_input_ratio == 0.5
    assert shape.input_tokens.mean() == pytest.approx(100.0)  # what is cached is taken off later


def test_limits_floors_and_priorities_carry_their_scope() -> None:
    slow = Limit(metric="e2e", statistic="p95", at_most_ms=9000.0)
    fast = Limit(metric="ttft", statistic="mean", at_most_ms=500.0)
    classes = (
        RequestClass(name="a", rate_rps=3.0, limits=(slow,), quality_at_least=0.6),
        RequestClass(name="b", rate_rps=1.0, priority=4),
    )
    files = files_of(Poisson(), classes, class_scores=SCORES)
    question = files.question.model_copy(update={"limits": (fast,), "quality_at_least": 0.7})
    made = make_workload(QuestionFiles("q", question, SCORES), POOLS)
    assert [s.label for s in made.limits] == ["mean ttft of all traffic", "p95 e2e of a"]
    assert made.quality_at_least == 0.7
    np.testing.assert_array_equal(made.class_quality_at_least, [0.6, np.nan])
    assert made.priority.tolist() == [1.0, 4.0]
    assert made.weights.tolist() == [0.75, 0.25] and made.total_rps == 4.0


def test_the_planned_rates_are_in_the_workload() -> None:
    points = [(0.0, 1.0), (400.0, 9.0), (800.0, 2.0)]
    files = schedule_files(points)
    made = make_workload(QuestionFiles("q", files.question, SCORES, schedule=files.schedule), POOLS)
    assert made.rate_rps.sum() == pytest.approx(9.0)
    assert made.mean_rate_rps.sum() == pytest.approx(4.0)
