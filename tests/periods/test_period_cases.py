"""What a period is: its hours, its rates, its question, and what holds it to the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from period_questions import SPANS, day_of, periods, round_of
from questions import PROFILES, inputs_of, small, write_question

from planner.errors import InputError
from planner.files.inputs import read_inputs
from planner.periods.cases import inputs_in, spans_of


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        inputs_of(folder, small(**changes))
    return str(caught.value)


def rates_file(folder: Path, text: str) -> Path:
    write_question(folder, small(periods={"file": "rates.csv"}))
    (folder / "rates.csv").write_text(text)
    return folder


def test_a_period_has_its_factor_times_the_rates(tmp_path: Path) -> None:
    inputs = day_of(tmp_path)
    night = inputs_in(inputs, spans_of(inputs.files)[0])
    assert [c.rate_rps for c in night.question.classes] == pytest.approx([4.8, 1.6])
    assert night.question.periods is None


def test_class_rates_replace_those_of_their_classes(tmp_path: Path) -> None:
    spans = [SPANS[0], {"name": "rest", "hours": [8, 24], "class_rates": {"hard": 3.0}}]
    inputs = inputs_of(tmp_path, small(periods={"spans": spans}))
    rest = inputs_in(inputs, spans_of(inputs.files)[1])
    assert [c.rate_rps for c in rest.question.classes] == [24.0, 3.0]


def test_the_budget_is_of_all_periods(tmp_path: Path) -> None:
    inputs = day_of(tmp_path, budget_usd_per_h=20.0)
    assert inputs_in(inputs, spans_of(inputs.files)[0]).question.budget_usd_per_h is None


def test_hours_of_a_file_are_periods(tmp_path: Path) -> None:
    text = "hour,rate_rps,class\n0,16,\n1,30,easy\n1,2,hard\n"
    inputs = read_inputs(rates_file(tmp_path, text), PROFILES)
    spans = spans_of(inputs.files)
    assert [(s.name, s.hours) for s in spans] == [("00-01", (0, 1)), ("01-02", (1, 2))]
    each = [[c.rate_rps for c in inputs_in(inputs, s).question.classes] for s in spans]
    assert each == [pytest.approx([12.0, 4.0]), [30.0, 2.0]]
    assert "rates.csv" in inputs.hashes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hour,rate_rps\n0,5\n2,5\n", "none left out"),
        ("hour,rate_rps,class\n0,5,easy\n", "needs one row for all traffic, or one of each"),
        ("hour,rate_rps,class\n0,5,\n0,5,hard\n", "needs one row for all traffic"),
        ("hour,rate_rps,class\n0,5,other\n", "other"),
        ("hour,rate_rps\n0,0\n", "rate_rps"),
        ("hour,rate_rps\n", "rates.csv"),
        ("hour,rate_rps\n" + "".join(f"{h},5\n" for h in range(8785)), "at most 8784 hours"),
    ],
)
def test_a_file_with_holes_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_inputs(rates_file(tmp_path, text), PROFILES)


def test_rates_of_classes_need_declared_ones(tmp_path: Path) -> None:
    asked = small(periods={"file": "rates.csv"}, router={"classes": "inferred"})
    write_question(tmp_path, asked)
    (tmp_path / "rates.csv").write_text("hour,rate_rps,class\n0,5,easy\n0,2,hard\n")
    with pytest.raises(InputError, match="rates of classes need declared classes"):
        read_inputs(tmp_path, PROFILES)


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        ([SPANS[1]], "must start at hour 0"),
        ([SPANS[0], SPANS[2]], "evening must start where night ends"),
        ([SPANS[0], {**SPANS[1], "name": "night"}], "names of spans must differ"),
        ([{**SPANS[0], "hours": [0, 0]}], "end must be later"),
        ([{"name": "a", "hours": [0, 1]}], "exactly one of rate_factor and class_rates"),
        ([{"name": "a", "hours": [0, 1], "class_rates": {"x": 1.0}}], "no class of the question"),
    ],
)
def test_spans_follow_each_other_with_a_rate_each(
    tmp_path: Path, spans: list[dict[str, Any]], says: str
) -> None:
    assert says in refused(tmp_path, periods={"spans": spans})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"choose": "best_quality"}, "least money"),
        ({"maximise": "rate_factor"}, "least money"),
        ({"keep": {"plan": "../a", "usd_per_replica_change": 1.0}}, "keep"),
        ({"robust": {"failures": "replica"}}, "robust"),
        (
            {"arrivals": {"process": "square", "low_rps": 1, "high_rps": 2, "period_s": 600}},
            "poisson or bursty",
        ),
        ({"periods": {"spans": [], "file": None}}, "exactly one of spans and file"),
    ],
)
def test_what_has_another_meaning_beside_periods_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    assert says in refused(tmp_path, **{"periods": periods(), **changes})


def test_equal_rates_are_one_site_and_the_busiest_comes_first(tmp_path: Path) -> None:
    made = round_of(tmp_path, 0.4, 1.0, 0.4)
    assert made.site_of == (1, 0, 1)
    assert made.busiest == 1
    assert made.case_of(0) is made.case_of(2)


def test_a_quiet_period_may_hold_what_a_busy_one_needs(tmp_path: Path) -> None:
    made = round_of(tmp_path)
    upper = [made.case_of(t).space.upper for t in range(3)]
    assert (upper[0] == upper[1]).all()
    np.testing.assert_array_equal(made.schedule.before, [2, 0, 1])
