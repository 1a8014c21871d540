"""The requests of a question: their rates, mix and lengths against what the question says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.arrivals import gamma, poisson, trace
from planner.simulate.demand import (
    Demand,
    busiest_window,
    drawn_workload,
    make_demand,
    own_duration_s,
)
from planner.simulate.units import PS_PER_S
from planner.spec.inputs import QuestionFiles
from planner.spec.pool import Pool, Profile
from planner.spec.question import (
    Bursty,
    ClassScore,
    Poisson,
    Question,
    RatePoint,
    RequestClass,
    Schedule,
    Square,
    Trace,
    TraceRow,
)
from planner.workload import planning_rates

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)
CLASSES = (
    RequestClass(name="chat", rate_rps=6.0, cached_input_ratio=0.3, priority=2),
    RequestClass(name="code", rate_rps=3.0, not_pools=("small",)),
    RequestClass(name="rare", rate_rps=1.0, pools=("small",)),
)


def score_of(cls: str, model_name: str, output_tokens: float) -> ClassScore:
    row = {
        "class": cls,
        "model_name": model_name,
        "n_prompts": 5,
        "score": 0.5,
        "input_tokens_mean": 300.0,
        "input_tokens_cv": 1.0,
        "output_tokens_mean": output_tokens,
        "output_tokens_cv": 1.5,
        "source": "made for a test",
    }
    return ClassScore.model_validate(row)


SCORES = tuple(
    score_of(cls, model_name, tokens)
    for cls in ("chat", "code", "rare")
    for model_name, tokens in (("l", 200.0), ("s", 250.0))
)
POOLS = tuple(
    Profile(Pool(name=name, model_name=model_name, gpu="g", source="test"), None, None)
    for name, model_name in (("large", "l"), ("large-2", "l"), ("small", "s"), ("other", "none"))
)


def files_of(arrivals=None, classes=CLASSES, **more) -> QuestionFiles:
    question = Question(
        version=1,
        classes=classes,
        arrivals=arrivals or Poisson(),
        class_scores="c.csv",
        stock={"g": 8},
    )
    return QuestionFiles("question.yaml", question, SCORES, **more)


def demand_of(files: QuestionFiles, duration_s: float, seed: int = 1, **more) -> Demand:
    workload = drawn_workload(files, POOLS)
    return make_demand(files, workload, duration_s=duration_s, seed=seed, **more)


def times_s(demand: Demand):
    return demand.arrived_ps / PS_PER_S


# ---- Arrivals and classes ------------------------------------------------------------------------


def test_poisson_arrivals_are_those_of_all_classes_together():
    demand = demand_of(files_of(Poisson(rate_factor=2.0)), 500.0, rate_factor=1.5)
    stream = np.random.SeedSequence(1).spawn(1)[0]
    assert times_s(demand) == pytest.approx(poisson(30.0, seed=stream, duration_s=500.0))
    assert demand.arrived_ps.dtype == demand.class_index.dtype == np.int64


def test_each_class_of_a_poisson_stream_is_a_poisson_stream_of_its_own():
    demand = demand_of(files_of(), 2000.0)
    for c, rate_rps in enumerate([6.0, 3.0, 1.0]):
        gaps = np.diff(times_s(demand)[demand.class_index == c], prepend=0.0)
        assert stats.kstest(gaps, stats.expon(scale=1 / rate_rps).cdf).pvalue > 0.01


@pytest.mark.parametrize("process", ["gamma", "weibull"])
def test_a_bursty_stream_has_its_variation_and_its_classes_less_of_it(process):
    """A thinned renewal stream with share q has cv^2 = 1 + q (cv^2 - 1)."""
    demand = demand_of(files_of(Bursty(process=process, cv=3.0)), 20_000.0)
    gaps = np.diff(times_s(demand))
    assert gaps.mean() == pytest.approx(0.1, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.05)
    of_class = np.diff(times_s(demand)[demand.class_index == 0])
    assert (of_class.std() / of_class.mean()) ** 2 == pytest.approx(1 + 0.6 * 8.0, rel=0.08)


def test_a_gamma_stream_is_that_of_the_load_generator():
    demand = demand_of(files_of(Bursty(process="gamma", cv=2.0)), 100.0)
    stream = np.random.SeedSequence(1).spawn(1)[0]
    assert times_s(demand) == pytest.approx(gamma(10.0, 2.0, seed=stream, duration_s=100.0))


def test_a_square_wave_is_replayed_in_time_with_the_mix_of_the_classes():
    arrivals = Square(process="square", low_rps=5.0, high_rps=50.0, period_s=100.0)
    demand = demand_of(files_of(arrivals), 2000.0, rate_factor=2.0)
    is_high = times_s(demand) % 100.0 < 50.0
    assert is_high.sum() == pytest.approx(100_000, abs=4 * np.sqrt(100_000))
    assert (~is_high).sum() == pytest.approx(10_000, abs=4 * np.sqrt(10_000))
    shares = np.bincount(demand.class_index) / demand.class_index.size
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=4 * np.sqrt(0.24 / 110_000))


SCHEDULE = tuple(
    RatePoint(start_s=start, rate_rps=rate)
    for start, rate in ((50.0, 10.0), (150.0, 40.0), (200.0, 0.0))
)


def test_a_schedule_is_replayed_from_its_first_row_and_over_and_over():
    files = files_of(Schedule(process="schedule", file="s.csv", rate_factor=3.0), schedule=SCHEDULE)
    assert own_duration_s(files) == own_duration_s(files, rate_factor=7.0) == 200.0
    demand = demand_of(files, 400.0)
    counts = np.histogram(times_s(demand), [0.0, 100.0, 150.0, 200.0, 300.0, 350.0, 400.0])[0]
    assert counts[[2, 5]].tolist() == [0, 0]
    expected = np.array([3000.0, 6000.0, 3000.0, 6000.0])
    assert (abs(counts[[0, 1, 3, 4]] - expected) < 4 * np.sqrt(expected)).all()


def test_only_a_trace_and_a_schedule_have_a_duration_of_their_own():
    square = Square(process="square", low_rps=5.0, high_rps=50.0, period_s=100.0)
    for arrivals in (Poisson(), Bursty(process="gamma", cv=2.0), square):
        assert own_duration_s(files_of(arrivals)) is None


@pytest.mark.parametrize(
    ("start_s", "duration_s"),
    [(0.0, 0.0), (0.0, -1.0), (0.0, np.nan), (0.0, np.inf), (0.0, 1e8), (-1.0, 5.0)],
)
def test_a_time_that_makes_no_sense_is_refused(start_s, duration_s):
    with pytest.raises(ValueError, match="requests arrive for some time"):
        demand_of(files_of(), duration_s, start_s=start_s)


def test_a_demand_may_be_empty():
    demand = demand_of(files_of(), 1e-6)
    assert demand.arrived_ps.size == demand.tokens[0].prompt.size == 0
    assert demand.tokens[3] is None


# ---- The five minutes that are planned for -------------------------------------------------------


def counted_rps(files: QuestionFiles, rate_factor: float = 1.0, n_seeds: int = 40) -> float:
    """The requests per second that come in the busiest window of a question."""
    start_s, end_s = busiest_window(files, rate_factor)
    workload = drawn_workload(files, POOLS)
    found = [
        make_demand(
            files,
            workload,
            start_s=start_s,
            duration_s=end_s - start_s,
            seed=seed,
            rate_factor=rate_factor,
        ).arrived_ps.size
        for seed in range(n_seeds)
    ]
    return float(np.mean(found)) / (end_s - start_s)


LONG_SCHEDULE = tuple(
    RatePoint(start_s=start, rate_rps=rate)
    for start, rate in ((50.0, 5.0), (400.0, 20.0), (600.0, 30.0), (900.0, 2.0), (1500.0, 1.0))
)


@pytest.mark.parametrize(
    "arrivals",
    [
        Schedule(process="schedule", file="s.csv", rate_factor=2.0),
        Square(process="square", low_rps=2.0, high_rps=30.0, period_s=900.0),
        Square(process="square", low_rps=2.0, high_rps=30.0, period_s=40.0),
    ],
    ids=["schedule", "slow wave", "fast wave"],
)
def test_in_the_busiest_window_the_planned_rate_arrives(arrivals):
    files = files_of(arrivals, schedule=LONG_SCHEDULE)
    planned_rps = planning_rates(files)[0].sum()
    error_rps = np.sqrt(planned_rps / 300.0 / 40)
    assert counted_rps(files) == pytest.approx(planned_rps, abs=4 * error_rps)


def test_the_busiest_window_of_a_schedule_is_where_its_rate_is_highest():
    arrivals = Schedule(process="schedule", file="s.csv")
    assert busiest_window(files_of(arrivals, schedule=LONG_SCHEDULE)) == (550.0, 850.0)


def test_five_minutes_that_come_too_early_are_those_of_a_later_round():
    """Before them a cluster is to fill: the same rate arrives then, a round or a period later."""
    wave = files_of(Square(process="square", low_rps=2.0, high_rps=9.0, period_s=140.0))
    assert busiest_window(wave) == (420.0, 720.0)
    early = tuple(
        RatePoint(start_s=start, rate_rps=rate)
        for start, rate in ((0.0, 9.0), (400.0, 1.0), (800.0, 1.0))
    )
    files = files_of(Schedule(process="schedule", file="rates.csv"), schedule=early)
    begin_s, end_s = busiest_window(files)
    assert (begin_s, end_s) == (1200.0, 1500.0)  # rounds of 1,200 s
    assert counted_rps(files) == pytest.approx(9.0, rel=0.05)


@pytest.mark.parametrize("rate_factor", [1.0, 2.5])
def test_the_busiest_window_of_a_trace_goes_by_faster_with_the_trace(rate_factor):
    times = np.sort(np.random.default_rng(0).uniform(0.0, 400.0, 900) ** 2 / 160.0 + 7.0)
    rows = tuple(row(t, cls) for t, cls in zip(times, ["chat", "code", "rare"] * 300, strict=True))
    files = files_of(Trace(trace="t.csv", rate_factor=2.0), trace=rows)
    start_s, end_s = busiest_window(files, rate_factor)
    assert end_s - start_s == pytest.approx(300.0 / (2.0 * rate_factor))
    windows = [int(((times >= t) & (times < t + 300.0)).sum()) for t in times]
    planned_rps = max(windows) / 300.0 * 2.0 * rate_factor
    assert counted_rps(files, rate_factor, 1) == pytest.approx(planned_rps, rel=3 / max(windows))


@pytest.mark.parametrize(
    "files",
    [
        files_of(Poisson()),
        files_of(Bursty(process="gamma", cv=2.0)),
        files_of(
            Square(process="square", low_rps=1.0, high_rps=2.0, period_s=9.0, planning_rate="mean")
        ),
        files_of(
            Schedule(process="schedule", file="s.csv", planning_rate="mean"),
            schedule=LONG_SCHEDULE,
        ),
        files_of(Schedule(process="schedule", file="s.csv"), schedule=SCHEDULE),
        files_of(
            Trace(trace="t.csv"), trace=(TraceRow(timestamp_s=1.0), TraceRow(timestamp_s=9.0))
        ),
    ],
    ids=["poisson", "gamma", "wave", "schedule", "short schedule", "short trace"],
)
def test_what_is_planned_at_its_mean_has_no_busiest_window(files):
    assert busiest_window(files) is None


# ---- Traces --------------------------------------------------------------------------------------


def row(at_s: float, cls: str | None = None, prompt=None, output=None) -> TraceRow:
    given = {"timestamp_s": at_s, "class": cls, "input_tokens": prompt, "output_tokens": output}
    return TraceRow.model_validate(given)


ROWS = (row(10.0, "code", 70.4, 30.0), row(12.0), row(13.0, "rare", None, 0.2), row(16.0, "chat"))


def test_a_trace_keeps_what_it_tells_and_the_rest_is_drawn():
    files = files_of(Trace(trace="t.csv", rate_factor=2.0), trace=ROWS)
    assert own_duration_s(files) == pytest.approx(4.0)
    demand = demand_of(files, 4.0)
    assert times_s(demand).tolist() == [0.0, 1.0, 1.5, 3.0]
    assert demand.class_index[[0, 2, 3]].tolist() == [1, 2, 0]
    large, small = demand.tokens[0], demand.tokens[2]
    assert (large.prompt[0], large.fresh[0], large.output[0]) == (70, 70, 30)
    assert small.output[2] == 1 and small.prompt[2] >= 1
    assert large.prompt[3] >= 1 and large.output[3] >= 1


def test_rows_without_a_class_follow_the_mix():
    rows = tuple(row(float(t)) for t in range(20_000))
    demand = demand_of(files_of(), 20_000.0, rows=rows)
    shares = np.bincount(demand.class_index) / 20_000
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=4 * np.sqrt(0.24 / 20_000))


def test_another_trace_takes_the_place_of_the_questions_arrivals():
    """The factor of the question's own arrivals is theirs; only that of the call counts."""
    own = files_of(Trace(trace="t.csv", rate_factor=5.0), trace=ROWS)
    for files in (files_of(Poisson(rate_factor=7.0)), own):
        demand = demand_of(files, 16.0, rows=ROWS)
        assert times_s(demand).tolist() == [0.0, 2.0, 3.0, 6.0, 8.0, 10.0, 11.0, 14.0]
        assert demand.tokens[0].output[[0, 4]].tolist() == [30, 30]
        assert own_duration_s(files, 2.0, ROWS) == 4.0


def test_a_repeated_trace_draws_what_is_open_anew():
    rows = tuple(row(float(t), "chat") for t in range(50))
    demand = demand_of(files_of(), 100.0, rows=rows)
    prompt = demand.tokens[0].prompt
    assert prompt.size == 100 and not np.array_equal(prompt[:50], prompt[50:])


def test_a_trace_of_one_moment_is_refused():
    with pytest.raises(ValueError, match="span some time"):
        demand_of(files_of(), 10.0, rows=(row(1.0), row(1.0)))


# ---- Lengths -------------------------------------------------------------------------------------


def lognormal(mean: float, cv: float):
    sigma = np.sqrt(np.log1p(cv**2))
    return stats.lognorm(sigma, scale=mean * np.exp(-(sigma**2) / 2))


@pytest.mark.parametrize(
    ("pool", "column", "mean", "cv"),
    [(0, "prompt", 300.0, 1.0), (0, "output", 200.0, 1.5), (2, "output", 250.0, 1.5)],
)
def test_drawn_lengths_have_the_mean_the_spread_and_the_tail_of_their_class(pool, column, mean, cv):
    demand = demand_of(files_of(), 60_000.0)
    found = getattr(demand.tokens[pool], column)[demand.class_index == 0]
    law = lognormal(mean, cv)
    n = found.size
    assert n > 350_000
    assert found.mean() == pytest.approx(mean, abs=4 * mean * cv / np.sqrt(n))
    assert found.std() / found.mean() == pytest.approx(cv, rel=0.04)
    levels = np.array([0.1, 0.5, 0.9, 0.99, 0.999])
    expected = law.ppf(levels)
    # Four standard errors of a quantile; half a token of rounding; 1 % for the tail past p99.99.
    allowed = 4 * np.sqrt(levels * (1 - levels) / n) / law.pdf(expected) + 0.5 + 0.01 * expected
    assert (abs(np.quantile(found, levels) - expected) < allowed).all()


def test_short_answers_keep_their_mean_in_whole_tokens():
    short = tuple(
        s.model_copy(update={"output_tokens_mean": 1.3, "output_tokens_cv": 0.0}) for s in SCORES
    )
    output = demand_of(replace(files_of(), class_scores=short), 20_000.0).tokens[2].output
    answered = output[output > 0]
    assert set(answered.tolist()) == {1, 2}
    assert answered.mean() == pytest.approx(1.3, abs=4 * np.sqrt(0.21 / answered.size))


def test_prompt_and_answer_of_a_request_are_independent():
    demand = demand_of(files_of(), 5000.0)
    chat = demand.class_index == 0
    tokens = demand.tokens[0]
    found = stats.spearmanr(tokens.prompt[chat], tokens.output[chat]).statistic
    assert abs(found) < 4 / np.sqrt(chat.sum())


def test_cached_tokens_are_taken_off_with_the_right_mean():
    demand = demand_of(files_of(), 20_000.0)
    tokens, chat = demand.tokens[0], demand.class_index == 0
    asked, fresh = tokens.prompt[chat], tokens.fresh[chat]
    assert (abs(fresh - 0.7 * asked) <= 1.0).all()
    # The rounding has a variance of at most 1/4; tiny prompts keep one fresh token.
    assert (fresh - 0.7 * asked).mean() == pytest.approx(0.0, abs=4 * 0.5 / np.sqrt(chat.sum()))
    code = demand.class_index == 1
    assert np.array_equal(tokens.fresh[code], tokens.prompt[code])


def test_a_request_has_the_same_quantiles_on_every_pool():
    demand = demand_of(files_of(), 3000.0)
    chat = demand.class_index == 0
    large, small = demand.tokens[0], demand.tokens[2]
    assert np.array_equal(large.prompt[chat], small.prompt[chat])
    ratio = small.output[chat] / large.output[chat]
    assert (abs(small.output[chat] - 1.25 * large.output[chat]) <= 2.25).all()
    assert ratio.mean() == pytest.approx(1.25, rel=0.02)


def test_pools_of_one_model_share_what_is_drawn():
    demand = demand_of(files_of(), 10.0)
    assert demand.tokens[0] is demand.tokens[1]
    assert demand.tokens[2] is not demand.tokens[0]


def test_a_class_asks_nothing_of_a_pool_that_it_may_not_use():
    demand = demand_of(files_of(), 300.0)
    assert demand.tokens[3] is None  # nobody scored its model
    served = np.array([[True, True, False], [True, False, True]])  # large, small by class
    for tokens, may in zip((demand.tokens[0], demand.tokens[2]), served, strict=True):
        for column in (tokens.prompt, tokens.fresh, tokens.output):
            assert np.array_equal(column > 0, may[demand.class_index])


def test_priorities_are_those_of_the_classes():
    demand = demand_of(files_of(), 100.0)
    assert np.array_equal(demand.priority, np.array([2, 1, 1])[demand.class_index])


# ---- The same requests, again and again ----------------------------------------------------------

TRACE_ROWS = tuple(
    row(float(t) ** 1.1, cls) for t, cls in enumerate(["chat", "code", "rare", None] * 10)
)
PROCESSES = [
    Poisson(),
    Bursty(process="gamma", cv=2.0),
    Bursty(process="weibull", cv=0.5),
    Square(process="square", low_rps=1.0, high_rps=30.0, period_s=7.0),
    Schedule(process="schedule", file="s.csv"),
    Trace(trace="t.csv"),
]


def process_files(arrivals) -> QuestionFiles:
    return files_of(arrivals, schedule=SCHEDULE, trace=TRACE_ROWS)


def columns_of(demand: Demand):
    yield from (demand.arrived_ps, demand.class_index, demand.priority)
    for tokens in demand.tokens:
        if tokens is not None:
            yield from (tokens.prompt, tokens.fresh, tokens.output)


@EXAMPLES
@given(st.sampled_from(PROCESSES), st.integers(0, 2**40), st.floats(0.1, 40.0), st.floats(0, 40.0))
def test_a_longer_demand_begins_with_the_shorter_one(arrivals, seed, duration_s, more_s):
    files = process_files(arrivals)
    short = demand_of(files, duration_s, seed)
    long = demand_of(files, duration_s + more_s, seed)
    n = short.arrived_ps.size
    assert (np.diff(long.arrived_ps) >= 0).all() and (short.arrived_ps >= 0).all()
    assert (short.arrived_ps <= duration_s * PS_PER_S).all()
    for a, b in zip(columns_of(short), columns_of(long), strict=True):
        assert np.array_equal(a, b[:n])


NOT_ALONG_A_CURVE = [p for p in PROCESSES if not isinstance(p, Square | Schedule)]


@EXAMPLES
@given(
    st.sampled_from(NOT_ALONG_A_CURVE), st.integers(0, 99), st.floats(0, 40.0), st.floats(0.1, 40.0)
)
def test_a_part_of_a_demand_is_the_same_requests(arrivals, seed, start_s, duration_s):
    files = process_files(arrivals)
    whole = demand_of(files, start_s + duration_s, seed)
    part = demand_of(files, duration_s, seed, start_s=start_s)
    n = part.arrived_ps.size
    first = whole.arrived_ps.size - n
    assert abs(part.arrived_ps + start_s * PS_PER_S - whole.arrived_ps[first:]).max(initial=0) <= 1
    assert first == 0 or whole.arrived_ps[first - 1] <= start_s * PS_PER_S
    for a, b in zip(list(columns_of(part))[1:], list(columns_of(whole))[1:], strict=True):
        assert np.array_equal(a, b[first:])


def test_a_late_part_of_a_year_costs_what_comes_in_it():
    """100 billion requests come in that year; those of one hour in autumn are drawn."""
    hours = np.arange(365 * 24)
    rates = 3000.0 + 1000.0 * (hours % 24 == 12)
    year = tuple(
        RatePoint(start_s=3600.0 * h, rate_rps=r)
        for h, r in zip(hours.tolist(), rates.tolist(), strict=True)
    )
    files = files_of(Schedule(process="schedule", file="year.csv"), schedule=year)
    noon_s = (280 * 24 + 12) * 3600.0
    part = demand_of(files, 60.0, 3, start_s=noon_s - 30.0)
    halves = np.histogram(part.arrived_ps, [0, 30 * PS_PER_S, 60 * PS_PER_S])[0]
    assert halves[0] == pytest.approx(90_000, abs=4 * np.sqrt(90_000))
    assert halves[1] == pytest.approx(120_000, abs=4 * np.sqrt(120_000))
    assert (np.diff(part.arrived_ps) >= 0).all()
    assert part.arrived_ps[0] >= 0
    assert part.arrived_ps[-1] < 60 * PS_PER_S


def test_another_seed_gives_another_demand():
    one, other = (demand_of(files_of(), 100.0, seed) for seed in (1, 2))
    assert not np.array_equal(one.arrived_ps[:50], other.arrived_ps[:50])
    assert not np.array_equal(one.tokens[0].prompt[:50], other.tokens[0].prompt[:50])


def test_at_twice_the_rate_the_same_requests_come_in_half_the_time():
    slow = demand_of(files_of(), 200.0)
    fast = demand_of(files_of(), 100.0, rate_factor=2.0)
    assert fast.arrived_ps * 2 == pytest.approx(slow.arrived_ps, abs=4)
    assert np.array_equal(fast.tokens[2].output, slow.tokens[2].output)


def test_a_trace_at_twice_the_rate_is_the_same_trace():
    files = process_files(PROCESSES[-1])
    slow, fast = demand_of(files, 50.0), demand_of(files, 25.0, rate_factor=2.0)
    assert np.array_equal(fast.tokens[0].prompt, slow.tokens[0].prompt)
    recorded = trace(np.array([r.timestamp_s for r in files.trace]))
    n = min(recorded.size, slow.arrived_ps.size)
    assert times_s(slow)[:n] == pytest.approx(recorded[:n])
