"""Statistics, intervals, verdicts and money of runs, against numpy, scipy and known queues."""

from dataclasses import replace

import numpy as np
import pytest
from made_runs import in_ps, records, usage
from scipy import stats

from planner.simulate.estimates import Estimate, estimates, of_groups
from planner.simulate.figures import asked_figures, every_figure, verdict
from planner.simulate.records import Outcome, Records
from planner.simulate.summary import Conditions, Terms, summarise
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window, steady_window
from planner.spec.base import FOREVER_MS, STATISTICS
from planner.spec.question import LatencyObjective, Limit
from planner.spec.workload import ScopedLimit

# ---- Statistics and their intervals --------------------------------------------------------------


def percentile(values, statistic):
    return np.mean(values) if statistic == "mean" else np.percentile(values, int(statistic[1:]))


@pytest.mark.parametrize("n_runs", [1, 2, 5])
@pytest.mark.parametrize("n", [200, 203, 1001])
def test_statistics_are_those_of_numpy(n_runs, n):
    random = np.random.default_rng(n)
    runs = [random.gamma(2.0, 50.0, n) for _ in range(n_runs)]
    found = estimates(runs, STATISTICS)
    for statistic in STATISTICS:
        assert found[statistic].value == pytest.approx(
            percentile(np.concatenate(runs), statistic), rel=1e-12
        )


@pytest.mark.parametrize(("n_runs", "n_groups"), [(1, 10), (2, 10), (3, 12), (5, 5), (7, 7)])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_interval_is_that_of_a_jackknife_written_out(statistic, n_runs, n_groups):
    random = np.random.default_rng(3)
    sizes = random.integers(150, 400, n_runs)
    runs = [np.round(random.gamma(2.0, 50.0, n)) for n in sizes]  # with ties
    groups = [part for run in runs for part in np.array_split(run, n_groups // n_runs)]
    assert len(groups) == n_groups
    whole = percentile(np.concatenate(groups), statistic)
    pseudo = [
        n_groups * whole
        - (n_groups - 1) * percentile(np.concatenate(groups[:g] + groups[g + 1 :]), statistic)
        for g in range(n_groups)
    ]
    half = stats.t.ppf(0.975, n_groups - 1) * stats.sem(pseudo)
    found = estimates(runs, [statistic])[statistic]
    assert (found.low, found.high) == pytest.approx((max(whole - half, 0), whole + half), rel=1e-4)


def test_a_second_run_makes_no_interval_vaguer():
    """Two runs are cut into parts as one is: t(1) = 12.7 would be sure of nothing."""
    random = np.random.default_rng(5)
    widths = []
    for _ in range(20):
        runs = [random.gamma(2.0, 50.0, 400) for _ in range(2)]
        parts = [part.mean() for run in runs for part in np.split(run, 5)]
        expected = stats.t.interval(0.95, 9, np.mean(parts), stats.sem(parts))
        two, one = estimates(runs, ["mean"])["mean"], estimates(runs[:1], ["mean"])["mean"]
        assert (two.low, two.high) == pytest.approx(expected, rel=1e-4)
        widths.append((two.high - two.low, one.high - one.low))
    of_two, of_one = np.mean(widths, axis=0)
    assert of_two == pytest.approx(of_one / np.sqrt(2), rel=0.15)


def test_a_mean_over_equal_runs_has_the_usual_t_interval():
    random = np.random.default_rng(4)
    runs = [random.gamma(2.0, 50.0, 300) for _ in range(6)]
    means = [run.mean() for run in runs]
    expected = stats.t.interval(0.95, 5, np.mean(means), stats.sem(means))
    found = estimates(runs, ["mean"])["mean"]
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-4)


def mm1_sojourns(seed: int, n: int, load: float) -> np.ndarray:
    """Times in an M/M/1 queue that starts empty, mean service 1, by Lindley's recursion."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / load, n)
    services = random.exponential(1.0, n)
    walk = np.concatenate([[0.0], np.cumsum(services[:-1] - gaps[1:])])
    return walk - np.minimum.accumulate(walk) + services


@pytest.mark.parametrize("n_runs", [1, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_intervals_of_a_known_queue_cover_the_truth(n_runs):
    """An M/M/1 sojourn is exponential with rate 1 - load; 200 replications, load 0.6."""
    load, asked = 0.6, ("mean", "p50", "p95", "p99")
    scale = 1 / (1 - load)
    truth = {s: -scale * np.log(1 - int(s[1:]) / 100) for s in asked[1:]} | {"mean": scale}
    covered = dict.fromkeys(asked, 0)
    for k in range(200):
        runs = [mm1_sojourns(1000 * k + r, 8000, load)[500:] for r in range(n_runs)]
        for statistic, found in estimates(runs, asked).items():
            covered[statistic] += found.low <= truth[statistic] <= found.high
    assert {s: n for s, n in covered.items() if not 0.90 <= n / 200 <= 0.99} == {}


def test_infinite_values_move_a_percentile_only_when_there_are_enough():
    values = np.random.default_rng(1).uniform(100, 200, 1000)
    some, many = values.copy(), values.copy()
    some[:40], many[:60] = np.inf, np.inf
    assert estimates([some], ["p95"])["p95"].value == pytest.approx(
        np.percentile(values[40:], 100 * 949.05 / 959), rel=1e-3
    )
    assert estimates([many], ["p95"])["p95"].value == FOREVER_MS
    assert estimates([some, some], ["mean"])["mean"] == Estimate(*[FOREVER_MS] * 3)


def test_every_run_beyond_all_times_is_sure_and_one_of_five_is_not():
    random = np.random.default_rng(2)
    fine = [random.uniform(100, 200, 400) for _ in range(5)]
    lost = [np.where(np.arange(400) % 10 == 0, np.inf, run) for run in fine]
    assert verdict(estimates(lost, ["p95"])["p95"], 250.0) == "missed"
    once = estimates([*fine[:4], np.full(400, np.inf)], ["p95"])["p95"]
    assert verdict(once, 250.0) == "too close to call"
    assert verdict(estimates(fine, ["p95"])["p95"], 250.0) == "met"


def test_too_few_values_are_not_judged_unless_all_of_them_are_above():
    few = np.array([300.0, 200.0, 400.0])
    found = estimates([few], ["mean", "p99"])
    assert found["mean"] == Estimate(300.0, 200.0, FOREVER_MS)
    assert found["p99"] == Estimate(pytest.approx(398.0), 200.0, FOREVER_MS)
    assert verdict(found["p99"], 1000.0) == "too close to call"
    assert verdict(found["p99"], 199.0) == "missed"
    hundred = np.arange(1.0, 101.0)
    bounded = {s: e.high < FOREVER_MS for s, e in estimates([hundred], STATISTICS).items()}
    assert bounded == {"mean": True, "p50": True, "p90": True, "p95": True, "p99": False}


def test_of_nothing_nothing_is_known():
    assert estimates([np.empty(0), np.empty(0)], ["p95"])["p95"] == Estimate(0.0, 0.0, 0.0)
    values = np.arange(1.0, 101.0)
    assert estimates([np.empty(0), values], ["p50"]) == estimates([values], ["p50"])


def test_an_interval_never_reaches_below_zero():
    assert of_groups(1.0, np.array([0.0, 0.0, 3.0])).low == 0.0


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (90.0, 100.0, "met"),
        (90.0, 100.1, "too close to call"),
        (100.0, 110.0, "too close to call"),
        (100.1, 110.0, "missed"),
        (0.0, 0.0, "met"),
    ],
)
def test_verdict_at_its_edges(low, high, said):
    assert verdict(Estimate((low + high) / 2, low, high), 100.0) == said


# ---- Warm-up -------------------------------------------------------------------------------------


def loaded(seed: int, e2e_s=1.0, n: int = 20_000, until_s: float = 1000.0) -> Records:
    random = np.random.default_rng(seed)
    return records(np.sort(random.uniform(0, until_s, n)), e2e_s, output_tokens=1)


def test_a_cluster_that_fills_slowly_is_not_counted_while_it_does():
    """Answers take 60 s: the number in flight settles after 60 of 1000 s."""
    window = steady_window([loaded(seed, 60.0) for seed in range(3)], 1000 * PS_PER_S)
    assert 50 <= window.start_ps / PS_PER_S <= 120
    assert window.settled and window.end_ps == 1000 * PS_PER_S


def test_a_cluster_that_is_full_at_once_loses_little():
    window = steady_window([loaded(1, 0.5)], 1000 * PS_PER_S)
    assert window.start_ps <= 30 * PS_PER_S
    assert window.duration_s == pytest.approx(1000 - window.start_ps / PS_PER_S)


def test_a_queue_that_keeps_growing_is_told():
    arrived = np.linspace(0, 1000, 20_000)
    growing = records(arrived, 0.5 * arrived + 0.1, output_tokens=1)
    window = steady_window([growing], 1000 * PS_PER_S)
    assert not window.settled
    assert window.start_ps <= 500 * PS_PER_S


def test_nothing_arrived_is_no_failure():
    assert steady_window([records([], 1.0)], PS_PER_S) == Window(0, PS_PER_S)


WHOLE = Window(0, 40 * PS_PER_S)


# ---- Figures -------------------------------------------------------------------------------------


def limit(metric, statistic, at_most_ms, scope=None) -> ScopedLimit:
    return ScopedLimit(
        scope, Limit(metric=metric, statistic=statistic, at_most_ms=float(at_most_ms))
    )


def of(figures, *key):
    return next(f for f in figures if (f.class_name, f.metric, f.statistic) == key)


def mixed(n: int = 400, **changes) -> Records:
    """Chat answers take 300 ms, code answers 600 ms, half of each."""
    kind = np.arange(n) % 2
    return records(np.arange(n) / 10, 0.2 + 0.3 * kind, class_index=kind, **changes)


def test_limits_come_first_then_the_usual_statistics():
    limits = (limit("e2e", "p95", 500), limit("ttft", "p99", 400, "chat"))
    figures = asked_figures(
        [mixed()], WHOLE, limits, LatencyObjective(metric="tpot", statistic="p99")
    )
    keys = [(f.class_name, f.metric, f.statistic) for f in figures]
    assert keys == [
        (None, "e2e", "p95"),
        ("chat", "ttft", "p99"),
        (None, "tpot", "p99"),
        (None, "ttft", "mean"),
        (None, "ttft", "p95"),
        (None, "tpot", "mean"),
        (None, "tpot", "p95"),
        (None, "e2e", "mean"),
        ("chat", "e2e", "p95"),
        ("code", "e2e", "p95"),
    ]
    assert [f.verdict for f in figures] == ["missed", "met"] + [None] * 8
    assert of(figures, "chat", "ttft", "p99").ms == 200.0
    assert of(figures, None, "ttft", "mean").ms == 350.0


@pytest.mark.parametrize("how", [Outcome.FAILED, Outcome.REFUSED, Outcome.UNTIMED])
@pytest.mark.parametrize(("n_lost", "said"), [(0, "met"), (8, "met"), (40, "missed")])
def test_what_failed_breaks_a_percentile_when_it_is_more_than_its_tail(how, n_lost, said):
    lost = np.zeros(400, dtype=int)
    lost[:: 400 // n_lost if n_lost else 401] = how if n_lost else 0
    run = mixed(outcome=lost)
    figures = asked_figures([run], WHOLE, (limit("e2e", "p95", 700),), LatencyObjective())
    assert figures[0].verdict == said
    assert figures[0].ms == (FOREVER_MS if said == "missed" else 600.0)
    usual = asked_figures([run], WHOLE, (), LatencyObjective())
    assert of(usual, None, "e2e", "p95").ms == 600.0  # over the answers alone


def test_one_failure_breaks_a_mean():
    run = mixed(outcome=[Outcome.FAILED] + [Outcome.OK] * 399)
    figures = asked_figures([run], WHOLE, (limit("e2e", "mean", 1e6),), LatencyObjective())
    assert (figures[0].ms, figures[0].verdict) == (FOREVER_MS, "missed")


def test_one_token_answers_break_no_tpot_limit_and_failed_ones_do():
    single = records(np.arange(400) / 10, 0.2, output_tokens=1)
    figures = asked_figures([single], WHOLE, (limit("tpot", "p95", 1),), LatencyObjective())
    assert (figures[0].ms, figures[0].verdict) == (0.0, "met")
    lost = replace(single, outcome=np.full(400, Outcome.FAILED))
    figures = asked_figures([lost], WHOLE, (limit("tpot", "p95", 1),), LatencyObjective())
    assert figures[0].verdict == "missed"


@pytest.mark.parametrize("metric", ["e2e", "tpot"])
def test_of_a_class_that_never_came_nothing_is_known(metric):
    run = records(np.arange(100) / 10, 0.2)
    figures = asked_figures([run], WHOLE, (limit(metric, "p95", 9, "code"),), LatencyObjective())
    assert (figures[0].verdict, figures[0].high_ms) == ("too close to call", FOREVER_MS)
    assert ("code", "e2e") not in {(f.class_name, f.metric) for f in figures[1:]}
    assert {f.class_name for f in every_figure([run], WHOLE)} == {None, "chat"}


def test_every_figure_is_every_statistic_of_every_scope():
    figures = every_figure([mixed(), mixed()], WHOLE)
    assert len(figures) == 3 * 3 * 5
    assert of(figures, "code", "e2e", "p50").ms == 600.0
    assert of(figures, None, "tpot", "p99").ms == 10.0


# ---- The summary ---------------------------------------------------------------------------------

ONE = Conditions(seeds=(0,), balance="round_robin")


def terms(*limits: ScopedLimit, **changes) -> Terms:
    none = np.zeros(2)
    fields = {
        "limits": limits,
        "objective": LatencyObjective(),
        "quality": np.array([[0.5, 0.9], [0.3, np.nan]]),
        "rent_usd_per_h": np.array([10.0, 26.0]),
        "usd_per_million_input_tokens": none,
        "usd_per_million_output_tokens": none,
    }
    return Terms(**fields | changes)


def test_rates_quality_and_money():
    run = mixed(pool_index=np.arange(400) % 4 == 0)  # half of chat on the big pool
    found = summarise([run], [usage()], terms(), WHOLE, ONE)
    assert found.rate_rps == 10.0
    assert found.class_rps == {"chat": 5.0, "code": 5.0}
    assert found.class_quality == {"chat": 0.7, "code": 0.3}
    assert found.quality == pytest.approx(0.5)
    assert found.cost_usd_per_h == 36.0
    n_finished = (run.done_ps <= WHOLE.end_ps).sum()
    per_h = n_finished * 11 / 40 * 3600
    assert found.usd_per_million_output_tokens == pytest.approx(36e6 / per_h, abs=1e-4)
    small, big = found.pools
    assert (small.pool, small.rate_rps, big.rate_rps) == ("small", 7.5, 2.5)
    assert big.output_tokens_per_s == pytest.approx(27.5)
    assert big.usd_per_million_output_tokens == pytest.approx(26e6 / (27.5 * 3600), abs=1e-4)
    assert (found.n_requests, found.duration_s, found.counted_from_s) == (400, 40.0, 0.0)


def test_hosted_pools_charge_for_what_they_answered():
    run = mixed(pool_index=1, outcome=[Outcome.FAILED] * 200 + [Outcome.UNTIMED] * 200)
    priced = terms(
        rent_usd_per_h=np.zeros(2),
        usd_per_million_input_tokens=np.array([9.0, 2.0]),
        usd_per_million_output_tokens=np.array([9.0, 10.0]),
    )
    found = summarise([run], [usage()], priced, WHOLE, ONE)
    n_finished = int(((run.done_ps <= WHOLE.end_ps) & run.is_answered).sum())
    per_request = (100 * 2 + 11 * 10) / 1e6
    assert found.cost_usd_per_h == pytest.approx(n_finished / 40 * 3600 * per_request, abs=1e-4)
    assert found.pools[0].usd_per_million_output_tokens is None


def test_what_failed_is_counted_scores_nothing_and_is_no_goodput():
    ends = np.array([Outcome.OK, Outcome.FAILED, Outcome.REFUSED, Outcome.UNTIMED])
    run = records(np.arange(400) / 10, 0.2, outcome=np.tile(ends, 100))
    free = summarise([run], [usage()], terms(), WHOLE, ONE)
    assert (free.n_requests, free.n_failed, free.n_refused) == (400, 100, 100)
    assert free.class_quality["chat"] == 0.25
    assert free.goodput_rps == 5.0  # without a limit an answer of unknown time is good
    held = summarise([run], [usage()], terms(limit("ttft", "p50", 300)), WHOLE, ONE)
    assert held.goodput_rps == held.class_goodput_rps["chat"] == held.pools[0].goodput_rps == 2.5


def test_goodput_is_within_all_percentile_limits_at_once():
    ttft, tpot = np.tile([0.2, 0.9], 200), np.repeat([0.01, 0.09], 200)
    run = records(np.arange(400) / 10, ttft, tpot, class_index=np.arange(400) // 2 % 2)
    limits = (
        limit("ttft", "p95", 500),
        limit("tpot", "p50", 50, "chat"),
        limit("e2e", "mean", 1, "code"),  # a mean says nothing of a single request
    )
    found = summarise([run], [usage()], terms(*limits), WHOLE, ONE)
    assert found.class_goodput_rps == {"chat": 1.25, "code": 2.5}
    assert found.goodput_rps == 3.75
    assert found.goodput_low_rps <= 3.75 <= found.goodput_high_rps


def test_only_arrivals_in_the_window_count_and_they_are_followed_to_their_end():
    slow = records(np.arange(400) / 10, np.where(np.arange(400) < 200, 9.0, 0.2))
    window = Window(20 * PS_PER_S, 40 * PS_PER_S)
    found = summarise([slow], [usage()], terms(), window, ONE)
    assert (found.n_requests, found.duration_s, found.counted_from_s) == (200, 20.0, 20.0)
    assert of(found.latency, None, "ttft", "mean").ms == 200.0
    late = records([*np.arange(0, 39, 0.1), 39.9], [0.1] * 390 + [500.0])
    assert of(
        summarise([late], [usage()], terms(limit("ttft", "mean", 9)), WHOLE, ONE).latency,
        None, "ttft", "mean",
    ).ms == pytest.approx((390 * 100 + 500_000) / 391, abs=0.06)  # fmt: skip


def test_runs_are_averaged_and_spread_the_interval():
    runs = [records(np.arange(n) / 10, 0.2 + n / 10_000) for n in (300, 400, 380)]
    three = Conditions(seeds=(0, 1, 2), balance="random", rate_factor=1.5, failures=("big@6",))
    found = summarise(runs, [usage()] * 3, terms(), WHOLE, three)
    assert found.rate_rps == pytest.approx(360 / 40)
    assert found.seeds == (0, 1, 2) and found.failures == ("big@6",)
    assert found.goodput_low_rps < found.goodput_rps < found.goodput_high_rps
    figure = of(found.latency, None, "ttft", "mean")
    assert figure.low_ms < figure.ms < figure.high_ms


def test_pools_are_busy_by_the_records():
    run = records([0.0, 10.0, 30.0], 2.0, 0.1, replica_index=[0, 0, 1], output_tokens=21)
    pool = summarise([run], [usage((2, 1))], terms(), WHOLE, ONE).pools[0]
    assert pool.busy_ratio == pytest.approx(12 / 80)
    assert pool.n_in_flight_mean == pytest.approx(12 / 80)
    assert pool.n_decoding_mean == pytest.approx(6 / 80)
    assert pool.kv_ratio == pytest.approx(6 / 40 * 110.5 / 20_000, abs=1e-6)
    assert pool.imbalance_tokens is None and pool.barrier_idle_ratio is None
    (hosted,) = summarise([run], [usage((2,), kv_capacity_tokens=0)], terms(), WHOLE, ONE).pools[:1]
    assert (hosted.busy_ratio, hosted.kv_ratio) == (0.0, None)
    assert hosted.n_in_flight_mean == pool.n_in_flight_mean


def test_data_parallel_groups_tell_what_the_barrier_costs():
    run = records([0.0, 1.0], 0.2)
    grouped = replace(
        usage((2, 1)),
        busy_ps=in_ps([10.0, 30.0, 5.0]),
        barrier_idle_ps=in_ps([1.0, 6.0, 0.0]),
        imbalance_tokens=np.array([100.0, 300.0, np.nan]),
    )
    small, big = summarise([run], [grouped], terms(), WHOLE, ONE).pools
    assert (small.imbalance_tokens, small.barrier_idle_ratio) == (200.0, pytest.approx(0.15))
    assert (big.imbalance_tokens, big.barrier_idle_ratio) == (None, None)


def test_no_request_at_all_is_a_summary_too():
    found = summarise([records([], 0.1)], [usage()], terms(limit("e2e", "p95", 9)), WHOLE, ONE)
    assert (found.n_requests, found.quality, found.goodput_rps) == (0, 0.0, 0.0)
    assert found.usd_per_million_output_tokens is None
    assert found.latency_ratio == 0.0


def test_the_latency_ratio_is_the_worst_limit():
    limits = (limit("e2e", "p95", 1200), limit("ttft", "p50", 250, "chat"))
    found = summarise([mixed()], [usage()], terms(*limits), WHOLE, ONE)
    assert found.latency_ratio == pytest.approx(0.8)
    assert found.missed == ()
    assert [f.statistic for f in summarise(
        [mixed()], [usage()], terms(limit("e2e", "p95", 500), *limits), WHOLE, ONE
    ).missed] == ["p95"]  # fmt: skip
