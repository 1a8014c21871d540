"""What runs teach about the tables, from runs written down by hand whose lateness is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import made_runs
import numpy as np
import pytest
from made_cases import OWN, case_of, small, unlimited

from planner.case import Case, corrected
from planner.simulate.learn import FEWEST_REQUESTS, Lesson, learn
from planner.simulate.records import Outcome, Records
from planner.spec.base import Metric
from planner.spec.plan import Learned
from planner.spec.question import Limit
from planner.spec.table import PoolTable, quantile_ms, survival_at_time
from planner.spec.workload import ScopedLimit

BIG, SMALL = 0, 1  # pools: 70b, 8b
EASY, HARD = 0, 1
EASY_MS, HARD_MS = 15_000.0, 60_000.0
GRID = 6  # the place on the table's grid at which the plans of these tests load their replicas


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("learn"), small())


@pytest.fixture(scope="module")
def tables(case: Case) -> tuple[PoolTable, ...]:
    return case.tables()


def at_grid(tables: Sequence[PoolTable], k: int = GRID) -> np.ndarray:
    """Loads per replica, (P,), at one place of the pools' grids."""
    return np.array([table.loads[k] for table in tables])


def runs(
    e2e_s: Sequence[float] | np.ndarray, c: int = EASY, p: int = BIG, outcome: int = Outcome.OK
) -> Records:
    """Requests of one class on one pool, each with an answer of one token after so long."""
    return made_runs.records(
        list(np.arange(len(e2e_s))),
        list(e2e_s),
        output_tokens=1,
        class_index=c,
        pool_index=p,
        outcome=outcome,
        class_names=("easy", "hard"),
        pool_names=OWN,
    )


def late(share: float, limit_ms: float, n: int = 2000) -> np.ndarray:
    """Latencies in s of which exactly a share lies above a limit."""
    above = np.arange(n) >= n - round(share * n)
    return np.where(above, 2.0, 0.5) * limit_ms / 1000.0


def taught(
    case: Case, tables: Sequence[PoolTable], *lessons: Lesson, k: int = GRID
) -> tuple[Learned, ...]:
    return learn(case, tables, at_grid(tables, k), lessons)


def entry(learned: Sequence[Learned], pool: str, metric: Metric, name: str | None) -> Learned:
    (found,) = [e for e in learned if (e.pool, e.metric, e.class_name) == (pool, metric, name)]
    return found


def over(case: Case, table: PoolTable, learned: Sequence[Learned], limit_ms: float) -> np.ndarray:
    """P(e2e > limit) of every class by the corrected table at every grid load, (C, K)."""
    return corrected(table, learned, case.workload.class_names).exceedance("e2e", limit_ms)


# ---- Limits on percentiles -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.03, 0.06, 0.17, 0.5, 0.9])
@pytest.mark.parametrize(("c", "limit_ms"), [(EASY, EASY_MS), (HARD, HARD_MS)])
def test_afterwards_the_table_misses_a_limit_as_often_as_simulation_did(
    case: Case, tables: tuple[PoolTable, ...], share: float, c: int, limit_ms: float
) -> None:
    assert tables[BIG].exceedance("e2e", limit_ms)[c, GRID] < share
    learned = taught(case, tables, Lesson(1.0, (runs(late(share, limit_ms), c),)))
    found = over(case, tables[BIG], learned, limit_ms)[c, GRID]
    assert found == pytest.approx(share, rel=2e-3)  # a ratio has four decimals


def test_several_runs_count_as_one(case: Case, tables: tuple[PoolTable, ...]) -> None:
    lesson = Lesson(1.0, (runs(late(0.1, EASY_MS, 1000)), runs(late(0.3, EASY_MS, 3000))))
    learned = taught(case, tables, lesson)
    found = over(case, tables[BIG], learned, EASY_MS)[EASY, GRID]
    assert found == pytest.approx(0.25, rel=2e-3)


def test_each_load_has_its_own_lesson(case: Case, tables: tuple[PoolTable, ...]) -> None:
    loads = tables[BIG].loads
    shares = {3: 0.1, 5: 0.2, 6: 0.25, 8: 0.4}
    lessons = [
        Lesson(float(loads[k] / loads[6]), (runs(late(share, EASY_MS)),))
        for k, share in shares.items()
    ]
    learned = taught(case, tables, *lessons, k=6)
    found = over(case, tables[BIG], learned, EASY_MS)[EASY]
    for k, share in shares.items():
        assert found[k] == pytest.approx(share, rel=5e-3)
    assert (np.diff(found) >= 0).all()
    told = entry(learned, OWN[BIG], "e2e", "easy")
    assert told.load_ratio == pytest.approx([loads[k] for k in shares], rel=1e-5)


def test_between_grid_loads_the_table_is_about_right(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    load = float(tables[BIG].loads[5:7].mean())
    lessons = (Lesson(1.0, (runs(late(0.2, EASY_MS)),)),)
    learned = learn(case, tables, np.array([load, 0.0]), lessons)
    table = corrected(tables[BIG], learned, case.workload.class_names)
    survival = table.survival_at("e2e", load)[EASY]
    found = float(survival_at_time(table.times_ms["e2e"], survival, EASY_MS))
    assert found == pytest.approx(0.2, rel=0.05)


def test_of_two_limits_on_a_metric_the_one_that_is_further_off_counts(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    tight = ScopedLimit(None, Limit(metric="e2e", statistic="p50", at_most_ms=9_000.0))
    twice = replace(case, workload=replace(case.workload, limits=(*case.workload.limits, tight)))
    made = twice.tables()
    seen = np.where(np.arange(2000) < 1600, 9.5, 14.0)  # all above the one, none above the other
    learned = learn(twice, made, at_grid(made), (Lesson(1.0, (runs(seen),)),))
    table = corrected(made[BIG], learned, twice.workload.class_names)
    alone = learn(
        replace(case, workload=replace(case.workload, limits=(tight,))),
        made,
        at_grid(made),
        (Lesson(1.0, (runs(seen),)),),
    )
    assert entry(learned, OWN[BIG], "e2e", "easy") == entry(alone, OWN[BIG], "e2e", "easy")
    assert table.exceedance("e2e", 9_000.0)[EASY, GRID] > 0.99


# ---- Limits on means, and none -------------------------------------------------------------------


def test_afterwards_a_limited_mean_is_the_simulated_one(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    limit = ScopedLimit("easy", Limit(metric="e2e", statistic="mean", at_most_ms=15_000.0))
    asked = replace(case, workload=replace(case.workload, limits=(limit,)))
    seen = np.random.default_rng(4).gamma(2.0, 9.0, 3000)
    learned = taught(asked, tables, Lesson(1.0, (runs(seen),)))
    table = corrected(tables[BIG], learned, case.workload.class_names)
    found = table.mean_at("e2e", float(tables[BIG].loads[GRID]))[EASY]
    assert found == pytest.approx(1000.0 * seen.mean(), rel=1e-4)


def test_without_a_limit_the_p95_is_the_simulated_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    free = case_of(tmp_path_factory.mktemp("free"), unlimited())
    made = free.tables()
    seen = np.random.default_rng(5).gamma(2.0, 9.0, 4000)
    learned = learn(free, made, at_grid(made), (Lesson(1.0, (runs(seen),)),))
    table = corrected(made[BIG], learned, free.workload.class_names)
    found = table.statistic_ms("e2e", "p95")[EASY, GRID]
    assert found == pytest.approx(1000.0 * np.quantile(seen, 0.95), rel=1e-2)


# ---- Who learns from whom ------------------------------------------------------------------------


def test_a_class_that_was_not_served_gets_the_mean_of_those_that_were(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    learned = taught(case, tables, Lesson(1.0, (runs(late(0.2, EASY_MS)),)))
    others = entry(learned, OWN[BIG], "e2e", None)
    assert others.slower_ratio == entry(learned, OWN[BIG], "e2e", "easy").slower_ratio
    found = corrected(tables[BIG], learned, case.workload.class_names).mean_ms["e2e"]
    assert found / tables[BIG].mean_ms["e2e"] == pytest.approx(others.slower_ratio[0])
    assert not [e for e in learned if e.class_name == "hard"]


def test_the_mean_of_several_classes_weighs_them_by_their_traffic(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    both = made_runs.records(
        list(np.arange(4000)),
        [*late(0.2, EASY_MS), *late(0.3, HARD_MS)],
        output_tokens=1,
        class_index=[EASY] * 2000 + [HARD] * 2000,
        pool_index=BIG,
        class_names=("easy", "hard"),
        pool_names=OWN,
    )
    learned = taught(case, tables, Lesson(1.0, (both,)))
    easy, hard, others = (
        entry(learned, OWN[BIG], "e2e", name).slower_ratio[0] for name in ("easy", "hard", None)
    )
    assert easy > 1.0
    assert hard > 1.0
    assert others == pytest.approx((24.0 * easy + 8.0 * hard) / 32.0, abs=1e-4)


def test_only_the_pool_that_was_slow_is_corrected(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    lesson = Lesson(1.0, (runs(late(0.2, EASY_MS), p=SMALL),))
    learned = taught(case, tables, lesson)
    assert {e.pool for e in learned} == {OWN[SMALL]}
    assert corrected(tables[BIG], learned, case.workload.class_names) is tables[BIG]


# ---- What teaches nothing ------------------------------------------------------------------------


def test_a_faster_simulation_teaches_nothing(case: Case, tables: tuple[PoolTable, ...]) -> None:
    assert taught(case, tables, Lesson(1.0, (runs(np.full(2000, 0.1)),))) == ()


def test_no_ratio_is_below_one(case: Case, tables: tuple[PoolTable, ...]) -> None:
    slow, fast = Lesson(1.0, (runs(late(0.3, EASY_MS)),)), Lesson(0.5, (runs(np.full(2000, 0.1)),))
    learned = taught(case, tables, fast, slow)
    assert min(r for e in learned for r in e.slower_ratio) == 1.0
    assert max(r for e in learned for r in e.slower_ratio) > 1.0


@pytest.mark.parametrize(("n", "teaches"), [(FEWEST_REQUESTS - 1, False), (FEWEST_REQUESTS, True)])
def test_too_few_requests_teach_nothing(
    case: Case, tables: tuple[PoolTable, ...], n: int, teaches: bool
) -> None:
    learned = taught(case, tables, Lesson(1.0, (runs(np.full(n, 30.0)),)))
    assert bool(learned) == teaches


def test_requests_without_an_answer_teach_nothing(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    lost = runs(np.full(2000, 30.0), outcome=Outcome.FAILED)
    assert taught(case, tables, Lesson(1.0, (lost,))) == ()


def test_a_load_above_the_tables_is_left_out(case: Case, tables: tuple[PoolTable, ...]) -> None:
    slow = runs(late(0.3, EASY_MS))
    most = tables[BIG].max_load / tables[BIG].loads[GRID]
    beyond = Lesson(float(most) * 1.01, (slow,))
    assert taught(case, tables, beyond) == ()
    learned = taught(case, tables, Lesson(1.0, (slow,)), beyond)
    assert entry(learned, OWN[BIG], "e2e", "easy").load_ratio == pytest.approx(
        [tables[BIG].loads[GRID]], rel=1e-5
    )


def test_a_pool_without_load_or_without_latency_is_left_out(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    lesson = Lesson(1.0, (runs(late(0.3, EASY_MS)),))
    assert learn(case, tables, np.array([0.0, 0.5]), (lesson,)) == ()
    unknown = (replace(tables[BIG], has_latency=False), tables[SMALL])
    assert learn(case, unknown, at_grid(tables), (lesson,)) == ()


def test_loads_that_are_tiny_stay_apart(case: Case, tables: tuple[PoolTable, ...]) -> None:
    lessons = [Lesson(f, (runs(late(0.3, EASY_MS)),)) for f in (0.8, 0.9, 1.0, 1.1)]
    learned = learn(case, tables, np.array([2e-5, 0.0]), lessons)
    told = entry(learned, OWN[BIG], "e2e", "easy").load_ratio
    assert told == pytest.approx([1.6e-5, 1.8e-5, 2e-5, 2.2e-5])


def test_an_answer_of_one_token_teaches_nothing_about_tpot(
    case: Case, tables: tuple[PoolTable, ...]
) -> None:
    learned = taught(case, tables, Lesson(1.0, (runs(late(0.3, EASY_MS)),)))
    assert {e.metric for e in learned} == {"ttft", "e2e"}


def test_a_limit_that_nothing_exceeds_teaches_nothing(case, tables):
    """Latencies that are the table's own, all below the limit: the pool is as fast as said."""
    table, load = tables[BIG], float(tables[BIG].loads[1])
    survival = table.survival_at("e2e", load)[EASY]
    n = 2000
    own_ms = np.array(
        [float(quantile_ms(table.times_ms["e2e"], survival, (i + 0.5) / n)) for i in range(n)]
    )
    assert own_ms.max() < EASY_MS
    learned = learn(case, tables, at_grid(tables, 1), [Lesson(1.0, (runs(own_ms / 1000.0),))])
    assert [e for e in learned if e.metric == "e2e"] == []
    slower = learn(case, tables, at_grid(tables, 1), [Lesson(1.0, (runs(own_ms / 800.0),))])
    of_class = [e for e in slower if e.metric == "e2e" and e.class_name == "easy"]
    assert of_class[0].slower_ratio[0] == pytest.approx(1.25, rel=0.01)
