"""Headers of a request: what they ask for, and how a wrong one is told."""

import pytest
from plan_cases import headers

from planner.runtime.ask import NOTHING_WANTED, Refused, Wants, read_wants, session_number


def test_everything_that_can_be_asked_for():
    sent = headers(
        rb_class="chat",
        rb_deadline_ms=2000,
        rb_priority=3,
        rb_quality_at_least=0.7,
        rb_budget_usd="1e-3",
        rb_session=" s-1 ",
    )
    assert read_wants(sent) == Wants("chat", 2000.0, 3, 0.7, 0.001, "s-1")


def test_nothing_is_asked_for_by_default():
    assert read_wants([(b"host", b"x"), (b"x-rb-unheard-of", b"1")]) is NOTHING_WANTED


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("x-rb-deadline-ms", "soon", "must be milliseconds above 0"),
        ("x-rb-deadline-ms", "0", "must be milliseconds above 0"),
        ("x-rb-deadline-ms", "-5", "must be milliseconds above 0"),
        ("x-rb-deadline-ms", "nan", "must be milliseconds above 0"),
        ("x-rb-deadline-ms", "inf", "must be milliseconds above 0"),
        ("x-rb-deadline-ms", "1_000", "must be milliseconds above 0"),
        ("x-rb-priority", "1.5", "must be a whole number from 0"),
        ("x-rb-priority", "-1", "must be a whole number from 0"),
        ("x-rb-priority", "²", "must be a whole number from 0"),
        ("x-rb-quality-at-least", "1.2", "must be a quality from 0 to 1"),
        ("x-rb-budget-usd", "-0.1", "must be US dollars from 0"),
        ("x-rb-budget-usd", "", "must be US dollars from 0"),
        ("x-rb-class", " ", "must not be empty"),
        ("x-rb-session", "", "must not be empty"),
    ],
)
def test_a_wrong_header_is_told_with_its_value_and_what_to_do(name, value, must):
    with pytest.raises(Refused) as caught:
        read_wants([(name.encode(), value.encode("latin-1"))])
    refusal = caught.value.refusal
    assert (refusal.status, refusal.code) == (400, "invalid_header")
    assert refusal.message.startswith(f"{name}: {must}, got {value.strip()!r}; fix: ")


def test_a_long_value_is_not_sent_back_whole():
    with pytest.raises(Refused) as caught:
        read_wants([(b"x-rb-priority", b"9" * 5000)])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["quality_at_least", "budget_usd"])
def test_bounds_may_be_met(name):
    field = f"rb_{name}"
    assert getattr(read_wants(headers(**{field: 0})), name) == 0.0
    assert getattr(read_wants(headers(**{field: 1})), name) == 1.0


def test_a_session_is_the_same_number_in_every_process():
    assert session_number("s-1") == 0x03231059C9D4DE0D  # b2sum -l 64
    assert len({session_number(f"s-{i}") for i in range(1000)}) == 1000
    assert 0 <= session_number("\udcff" * 4000) < 1 << 64
