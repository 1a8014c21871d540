"""The question with the traffic seen: what changes, by how rates are stated, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from made_pages import Seen, page_text
from made_sheets import HASH, RATES, made_routes, made_sheet, traffic

from planner.drift.judge import judge
from planner.drift.observed import observe
from planner.drift.page import read_page
from planner.drift.question import Update, update_of
from planner.spec.question import Question

MORE = {"chat": 6.0, "code": 1.5}
LESS = {"chat": 2.0, "code": 0.5}
OTHER_MIX = {"chat": 3.5, "code": 1.5}


def question(**changes: Any) -> Question:
    data = {
        "version": 1,
        "classes": [{"name": name, "rate_rps": rate} for name, rate in RATES.items()],
        "class_scores": "class_scores.csv",
        "stock": {"gpu": 8},
    }
    return Question.model_validate({**data, **changes})


def update(
    seen: Sequence[Seen], asked: Question | None = None, scrape_s: float = 4_600.0, **sheet: Any
) -> Update:
    asked = asked or question()
    planned = made_sheet(arrivals=asked.arrivals.process, **sheet)
    observed = observe(read_page(page_text(list(seen), HASH, scrape_s=scrape_s), "page"))
    return update_of(asked, observed, planned, judge(observed, planned, made_routes()))


def values(found: Update) -> dict[str, object]:
    return {".".join(map(str, change.path)): change.value for change in found.changes}


def test_what_has_not_drifted_stays() -> None:
    assert update(traffic()) == Update((), ())
    assert update(traffic(late=0.5, slower=2.0)) == Update((), ())  # no matter of the question


def test_a_little_more_is_stated_where_it_takes_the_headroom() -> None:
    """A rate 6 % up is as planned; of a pool that was planned full it takes the headroom."""
    little = traffic(rates={"chat": 4.24, "code": 1.06}, seconds=360_000.0)
    assert update(little, scrape_s=361_000.0) == Update((), ())
    full = update(little, scrape_s=361_000.0, headroom_ratio=0.4)
    assert values(full) == {"classes.0.rate_rps": 4.24, "classes.1.rate_rps": 1.06}
    as_planned = update(traffic(), headroom_ratio=0.5)
    assert as_planned == Update((), ())


@pytest.mark.parametrize("arrivals", [{"process": "poisson"}, {"process": "gamma", "cv": 2.0}])
def test_rates_are_those_that_were_seen(arrivals: dict[str, Any]) -> None:
    found = update(traffic(rates=MORE), question(arrivals=arrivals))
    assert values(found) == {"classes.0.rate_rps": 6.0, "classes.1.rate_rps": 1.5}
    assert found.changes[0].why == "chat: 4 requests/s stated, 6 seen"


def test_only_the_class_that_moved_is_changed() -> None:
    found = update(traffic(rates={"chat": 4.0, "code": 1.5}))
    assert values(found) == {"classes.1.rate_rps": 1.5}


def test_a_factor_on_all_arrivals_is_taken_off() -> None:
    asked = question(
        classes=[{"name": name, "rate_rps": rate / 2.0} for name, rate in RATES.items()],
        arrivals={"process": "poisson", "rate_factor": 2.0},
    )
    assert values(update(traffic(rates=MORE), asked))["classes.0.rate_rps"] == 3.0


SCHEDULE = {"process": "schedule", "file": "a.csv", "rate_factor": 10.0}
SQUARE = {"process": "square", "low_rps": 1.0, "high_rps": 9.0, "period_s": 60.0}
TRACE = {"process": "trace", "trace": "t.csv", "rate_factor": 2.0}


def test_of_a_schedule_the_level_rises_and_never_falls() -> None:
    asked = question(arrivals=SCHEDULE)
    assert values(update(traffic(rates=MORE), asked))["arrivals.rate_factor"] == pytest.approx(15.0)
    assert update(traffic(rates=LESS), asked).changes == ()


def test_of_a_schedule_the_rates_are_a_mix_with_the_sum_as_it_was() -> None:
    found = values(update(traffic(rates=OTHER_MIX), question(arrivals=SCHEDULE)))
    assert found == {"classes.0.rate_rps": 3.5, "classes.1.rate_rps": 1.5}


def test_of_a_square_wave_both_levels_rise() -> None:
    found = values(update(traffic(rates=MORE), question(arrivals=SQUARE)))
    assert (found["arrivals.low_rps"], found["arrivals.high_rps"]) == (1.5, 13.5)


def test_of_a_trace_the_mix_is_not_ours_to_change() -> None:
    found = update(traffic(rates=MORE), question(arrivals=TRACE))
    assert values(found) == {"arrivals.rate_factor": 3.0}
    assert "mix of a question with a trace" in found.left[0]


SPANS = [
    {"name": "night", "hours": [0, 8], "rate_factor": 0.5},
    {"name": "day", "hours": [8, 24], "rate_factor": 2.0},
]


def test_of_periods_the_rates_rise_with_the_busiest() -> None:
    asked = question(
        classes=[{"name": name, "rate_rps": rate / 2.0} for name, rate in RATES.items()],
        periods={"spans": SPANS},
    )
    found = values(update(traffic(rates=MORE), asked, period="day"))
    assert found == {"classes.0.rate_rps": 3.0, "classes.1.rate_rps": 0.75}
    assert update(traffic(rates=LESS), asked, period="day").changes == ()
    own = [SPANS[0], {"name": "day", "hours": [8, 24], "class_rates": {"chat": 4.0}}]
    stated = update(traffic(rates=MORE), question(periods={"spans": own}), period="day")
    assert stated.changes == () and "yours to change" in stated.left[0]


def test_inferred_classes_rise_together() -> None:
    asked = question(router={"classes": "inferred"})
    found = values(update(traffic(rates={"chat": 5.0, "code": 2.5}), asked))
    assert found == {"classes.0.rate_rps": 6.0, "classes.1.rate_rps": 1.5}


def test_lengths_that_drifted_are_stated_with_their_spread() -> None:
    found = values(update(traffic(longer=1.5)))
    assert found == {
        "classes.0.output_tokens": {"mean": 300.0, "cv": 0.5},
        "classes.1.output_tokens": {"mean": 450.0, "cv": 0.5},
    }


def test_answers_without_a_token_make_a_question_that_can_be_planned() -> None:
    found = values(update(traffic(longer=0.0)))
    assert found["classes.0.output_tokens"] == {"mean": 1.0, "cv": 0.0}


def test_the_longest_answer_that_was_allowed_stays_the_longest() -> None:
    lengths = {"mean": 200.0, "cv": 1.0, "max": 1000.0}
    classes = [
        {"name": "chat", "rate_rps": 4.0, "output_tokens": lengths},
        {"name": "code", "rate_rps": 1.0, "output_tokens": {**lengths, "max": 310.0}},
    ]
    found = values(update(traffic(longer=1.5), question(classes=classes)))
    assert found == {
        "classes.0.output_tokens.mean": 300.0,  # all else that it states may stay
        "classes.0.output_tokens.cv": 0.5,
        "classes.1.output_tokens": {"mean": 450.0, "cv": 0.5},
    }
    constant = {"mean": 200.0, "max": 1000.0, "distribution": "constant"}
    classes[0] = {"name": "chat", "rate_rps": 4.0, "output_tokens": constant}
    found = values(update(traffic(longer=1.5), question(classes=classes)))
    assert found["classes.0.output_tokens"] == {"mean": 300.0, "cv": 0.5, "max": 1000.0}
