"""Cascades as rows: of the workload, of the tables, and in the score of a routed deployment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cascade_options import LARGE_MODEL, SMALL_MODEL, option
from questions import inputs_of, small

from planner.case import Case, make_case
from planner.memo import reference
from planner.objectives import make_objectives
from planner.quality.lengths import DRAWN
from planner.score import Score, score
from planner.settle import class_mixes, settle
from planner.spec.plan import Learned
from planner.spec.question import LatencyObjective, Limit
from planner.spec.table import PoolTable
from planner.spec.workload import ScopedLimit
from planner.workload import make_workload

OPTIONS = (option(), option("easy", escalated_ratio=0.2, quality=0.88))
BIG, TINY = 0, 1  # pools


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(inputs_of(tmp_path_factory.mktemp("rows"), small()), cascades=OPTIONS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(inputs_of(tmp_path_factory.mktemp("plain"), small()))


def scored(case: Case, shares: np.ndarray, n: tuple[int, int] = (1, 2), **changes: object) -> Score:
    workload = replace(case.workload, **changes)  # type: ignore[arg-type]
    tables = case.tables(class_mixes(workload, shares))
    return score(workload, tables, np.array(n), shares, 0.1, LatencyObjective())


def shares_of(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows)


def test_classes_come_first_and_are_what_they_were(case: Case, plain: Case) -> None:
    w, bare = case.workload, plain.workload
    assert (w.n_classes, w.n_rows, bare.n_rows) == (2, 6, 2)
    assert w.class_names == bare.class_names == ("easy", "hard")
    for name in ("rate_rps", "mean_rate_rps", "quality", "allowed", "request_usd"):
        np.testing.assert_array_equal(getattr(w, name)[:2], getattr(bare, name))
    assert w.total_rps == bare.total_rps == 32.0
    np.testing.assert_array_equal(w.weights, bare.weights)
    assert w.row_class.tolist() == [0, 1, 1, 1, 0, 0]
    assert w.counted.tolist() == [True, True, True, False, True, False]
    assert len(set(w.row_names)) == w.n_rows
    assert w.row_names[2:4] == (
        "hard (first answer of a cascade)",
        "hard (second answer of a cascade)",
    )
    np.testing.assert_array_equal(case.space.upper, plain.space.upper)


def test_stages_are_the_rows_of_their_models(case: Case) -> None:
    w = case.workload
    hard = w.cascades[0]
    assert (hard.first_row, hard.second_row, hard.class_index) == (2, 3, 1)
    assert (hard.first_model, hard.second_model) == (SMALL_MODEL, LARGE_MODEL)
    assert w.rate_rps[2:].tolist() == pytest.approx([8.0, 0.4 * 8.0, 24.0, 0.2 * 24.0])
    assert w.allowed[2:].tolist() == [[False, True], [True, False]] * 2
    assert w.quality[2, TINY] == 0.62
    assert w.quality[3, BIG] == 0.0
    assert w.shapes[2][TINY] is w.shapes[1][TINY]
    shape, made = w.shapes[3][BIG], option()
    assert shape is not None
    assert shape.mean_output_tokens == pytest.approx(made.second_output_tokens.mean())
    longer = made.second_input_tokens.mean() / made.first_input_tokens.mean()
    assert shape.input_tokens.mean() == pytest.approx(200.0 * longer)


def test_answer_lengths_that_the_question_states_hold_for_escalated_ones(tmp_path: Path) -> None:
    question = small()
    question["classes"][1]["output_tokens"] = {"mean": 100.0, "cv": 0.5}
    w = make_workload(*_files_of(tmp_path, question), cascades=OPTIONS)
    shape = w.shapes[3][BIG]
    assert shape is not None
    assert shape.mean_output_tokens == pytest.approx(100.0)


def _files_of(tmp_path: Path, question: dict[str, object]):
    inputs = inputs_of(tmp_path, question)
    return inputs.files, inputs.candidates


@pytest.mark.parametrize(
    "barred", [{"not_pools": ["llama-3.1-8b-h100"]}, {"pools": ["llama-3.1-8b-h100"]}]
)
def test_a_class_that_may_not_use_a_stage_has_no_cascade(
    tmp_path: Path, barred: dict[str, list[str]]
) -> None:
    question = small()
    question["classes"][1].update(barred)
    w = make_workload(*_files_of(tmp_path, question), cascades=OPTIONS)
    assert [cascade.class_name for cascade in w.cascades] == ["easy"]


def test_options_of_nothing_here_are_left_out(tmp_path: Path) -> None:
    strangers = (option("other"), option(first="a"), option(second="b"))
    w = make_workload(*_files_of(tmp_path, small()), cascades=strangers)
    assert w.cascades == ()
    assert w.n_rows == 2


def test_finer_lengths_have_the_same_rows(tmp_path: Path) -> None:
    files, pools = _files_of(tmp_path, small())
    fine = make_workload(files, pools, DRAWN, OPTIONS)
    shape = fine.shapes[3][BIG]
    assert shape is not None
    assert shape.output_tokens.size == DRAWN.n_output
    assert fine.n_rows == 6


def test_time_is_split_as_the_stages_need_it(case: Case) -> None:
    tables = case.tables()
    for cascade in case.workload.cascades:
        first = tables[TINY].mean_at("e2e", tables[TINY].max_load / 2)[cascade.first_row]
        second = tables[BIG].mean_at("e2e", tables[BIG].max_load / 2)[cascade.second_row]
        ratio = cascade.first_time_ratio["e2e"]
        assert ratio == pytest.approx(first / (first + second), abs=1e-3)
        assert ratio < cascade.first_time_ratio["ttft"] <= 0.95


def test_tables_of_stages_are_those_of_single_rows(case: Case) -> None:
    """Rows with the same shape share a row of the table; made one by one they are the same."""
    random = np.random.default_rng(3)
    mixes = np.where(case.workload.allowed.T, random.random((2, 6)), 0.0)
    for p, table in enumerate(case.tables(mixes)):
        shapes = [row[p] for row in case.workload.shapes]
        mix = mixes[p] / mixes[p].sum()
        whole = case.models[p].tabulate(shapes, mix, case.workload.limits, case.arrival_cv)
        np.testing.assert_allclose(table.mix, mix, atol=1e-12)
        np.testing.assert_allclose(table.work_s, whole.work_s)
        np.testing.assert_allclose(table.loads, whole.loads)
        known = case.workload.allowed[:, p]
        for metric in ("ttft", "tpot", "e2e"):
            np.testing.assert_allclose(
                table.mean_ms[metric][known], whole.mean_ms[metric][known], rtol=1e-6
            )


def test_what_was_learned_of_a_class_holds_for_its_stages(case: Case) -> None:
    entry = {"class": "hard", "pool": "llama-3.1-8b-h100", "metric": "e2e"}
    slower = Learned.model_validate(entry | {"load_ratio": (0.1, 0.9), "slower_ratio": (2.0, 2.0)})
    before, after = case.tables()[TINY], replace(case, learned=(slower,)).tables()[TINY]
    ratio = after.mean_ms["e2e"] / before.mean_ms["e2e"]
    np.testing.assert_allclose(ratio[[1, 2]], 2.0)  # the class, and its first stage
    np.testing.assert_allclose(ratio[[0, 4]], 1.0)


def test_the_split_of_time_does_not_depend_on_what_was_learned(case: Case, tmp_path: Path) -> None:
    """A plan learns after its case was made; its check knows what it learned from the start."""
    entry = {"class": None, "pool": "llama-3.1-8b-h100", "metric": "e2e"}
    slower = Learned.model_validate(entry | {"load_ratio": (0.1, 0.9), "slower_ratio": (3.0, 3.0)})
    again = make_case(inputs_of(tmp_path, small()), learned=(slower,), cascades=OPTIONS)
    assert again.workload.cascades == case.workload.cascades


def test_a_score_counts_each_request_once(case: Case) -> None:
    shares = shares_of((0.4, 0.6), (0.3, 0.0), (0.0, 0.7), (0.7, 0.0), (0.0, 0.0), (0.0, 0.0))
    s = scored(case, shares)
    assert s.class_quality.tolist() == pytest.approx(
        [0.4 * 0.9 + 0.6 * 0.8, 0.3 * 0.6 + 0.7 * 0.62]
    )
    assert s.quality == pytest.approx(0.75 * s.class_quality[0] + 0.25 * s.class_quality[1])
    twice = 0.4 * 0.7 * 8.0
    assert s.pool_rps.tolist() == pytest.approx([0.4 * 24 + 0.3 * 8 + twice, 0.6 * 24 + 0.7 * 8])
    assert s.problems == ()
    assert s.mix_shift_ratio < 1e-9
    assert s.goodput_rps.sum() <= 32.0


def test_without_limits_all_answers_are_good_where_they_were_given(case: Case) -> None:
    shares = shares_of((0.4, 0.6), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    s = scored(case, shares, limits=())
    assert s.goodput_rps.tolist() == pytest.approx([0.4 * 24 + 0.4 * 8, 0.6 * 24 + 0.6 * 8])


def test_late_answers_of_a_cascade_are_no_good(case: Case) -> None:
    shares = shares_of((0.4, 0.6), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    at_once = ScopedLimit("hard", Limit(metric="e2e", statistic="p95", at_most_ms=1.0))
    s = scored(case, shares, limits=(at_once,))
    assert s.goodput_rps.tolist() == pytest.approx([0.4 * 24, 0.6 * 24], abs=1e-6)
    soon = replace(at_once, limit=Limit(metric="ttft", statistic="p95", at_most_ms=400.0))
    s = scored(case, shares, limits=(soon,))  # who waits for the first answer is late already
    assert s.goodput_rps.tolist() == pytest.approx([0.4 * 24, 0.6 * 24], abs=0.05)
    pace = replace(at_once, limit=Limit(metric="tpot", statistic="p95", at_most_ms=0.5))
    s = scored(case, shares, limits=(pace,))  # first answers come whole, second ones too slowly
    assert s.goodput_rps.tolist() == pytest.approx([0.4 * 24, 0.6 * 24 + 0.6 * 8], abs=0.05)
    in_time = replace(at_once, limit=Limit(metric="ttft", statistic="p95", at_most_ms=1e9))
    assert scored(case, shares, limits=(in_time,)).goodput_rps.sum() == pytest.approx(32.0)


def test_a_cascade_with_a_stage_of_unknown_latency_is_left_out_of_open_figures(case: Case) -> None:
    """Figures without a limit are over requests whose latency is known: not over half of one."""
    shares = shares_of((0.4, 0.6), (0.0, 0.3), (0.0, 0.7), (0.7, 0.0), (0.0, 0.0), (0.0, 0.0))
    workload = replace(case.workload, limits=())
    tables = case.tables(class_mixes(workload, shares))
    blind = (replace(tables[BIG], has_latency=False), tables[TINY])
    s = score(workload, blind, np.array([1, 2]), shares, 0.1, LatencyObjective())
    load = float(s.loads[TINY])
    known = tables[TINY].mean_at("e2e", load)[:2] @ [24.0 * 0.6, 8.0 * 0.3] / (14.4 + 2.4)
    said = {f.label: f.ms for f in s.figures}
    assert said["mean e2e of all traffic"] == pytest.approx(float(known))


def _table_of(*work_s: float) -> PoolTable:
    figures = np.ones((len(work_s), 2))
    return PoolTable(
        pool="p0",
        work_s=np.array(work_s),
        mix=np.full(len(work_s), 1.0 / len(work_s)),
        loads=np.array([0.0, 0.9]),
        mean_ms={"e2e": figures},
        times_ms={"e2e": np.array([1.0, 10.0])},
        survival={"e2e": figures[:, :, None]},
        band_ratio={"e2e": np.zeros(2)},
        extrapolated=np.zeros(2, dtype=bool),
        origin={"e2e": "measured"},
    )


def test_of_rows_that_are_alike_the_first_stands_for_a_mix_of_nothing() -> None:
    table = _table_of(1.0, 2.0)
    more = table.with_rows(np.array([0, 1, 1]), np.array([0.2, 0.0, 0.0]))
    assert more.mix.tolist() == [0.5, 0.5, 0.0]
    assert more.work_s.tolist() == [1.0, 2.0, 2.0]
    some = table.with_rows(np.array([0, 1, 1]), np.array([0.2, 0.1, 0.3]))
    assert some.mix.tolist() == pytest.approx([0.5, 0.125, 0.375])


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        (((1, 0), (1, 0), (0, 0.5), (0.5, 0), (0, 0), (0, 0)), "the shares of class hard sum to"),
        (((1, 0), (0.5, 0), (0, 0.5), (0.4, 0), (0, 0), (0, 0)), "stages of a cascade differ"),
        (((1, 0), (0, 0), (0, 0.5), (0.5, 0), (0, 0), (0, 0)), "50.00% of class hard has no place"),
        (((1, 0), (0, 0), (1, 0), (1, 0), (0, 0), (0, 0)), "may not use it"),
    ],
)
def test_what_is_wrong_with_stages_is_said(
    case: Case, shares: tuple[tuple[float, float], ...], says: str
) -> None:
    assert any(says in problem for problem in scored(case, np.array(shares)).problems)


def test_a_class_may_go_through_cascades_alone(case: Case) -> None:
    shares = shares_of((0.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0))
    s = scored(case, shares, n=(1, 2))
    assert s.class_quality[0] == pytest.approx(0.88)
    assert {f.class_name for f in s.figures} == {None, "easy", "hard"}
    assert all(np.isfinite(f.ms) for f in s.figures)


def test_what_the_search_counts_from_is_the_same_with_cascades(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, small(quality_at_least=None))
    cases = (make_case(inputs, cascades=options) for options in ((), OPTIONS))
    theirs, ours = (reference(make_objectives(each)) for each in cases)
    np.testing.assert_allclose(ours, theirs)
    assert ours[1] == pytest.approx(-0.3, abs=1e-5)  # the worst that a single model is worth


def test_the_search_counts_real_requests(case: Case) -> None:
    objectives = make_objectives(case)
    e = objectives.evaluate(np.array([1, 0]))
    assert e.routing.unserved.shape == (2,)
    lost_rps = float(e.routing.unserved @ [24.0, 8.0])
    usd_per_h = lost_rps * 3600.0 * objectives.unserved_usd
    assert objectives.unserved_usd_per_h(e.routing) == pytest.approx(usd_per_h)
    assert usd_per_h > 0.0
    assert e.violation > 0.0
    settled = settle(objectives, np.array([1, 1]))
    assert settled.shares.shape == (6, 2)
