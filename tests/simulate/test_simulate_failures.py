"""Failures: what a user may write, and what then happens to which replica."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.simulate.failures import Change, Failure, changes, parse
from planner.simulate.units import PS_PER_S

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
POOLS, N_REPLICAS = ["a", "b", "none"], [3, 1, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@600", Failure("a", None, 600.0)),
        ("a@600-900", Failure("a", None, 600.0, 900.0)),
        ("a@600-900x2.5", Failure("a", None, 600.0, 900.0, 2.5)),
        ("a@600x2.5", Failure("a", None, 600.0, None, 2.5)),
        ("a/3@0.5", Failure("a", 3, 0.5)),
        ("a@1234567.25", Failure("a", None, 1234567.25)),
        ("llama-3.1-8b_h100+x2@0-120", Failure("llama-3.1-8b_h100+x2", None, 0.0, 120.0)),
    ],
)
def test_what_a_user_may_write(text, expected):
    assert parse([text]) == [expected]
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "@600", "a@", "a@-5", "a@1e3", "a@600-", "a@600x", "a@600-900x", "a/@600", "a/b@600",
     "a/-1@600", "a@600 ", "a@600-900-950", "a@nan", "a@b@600", "a@600x2x3"],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_the_forms(text):
    with pytest.raises(InputError, match="cannot be read, got") as caught:
        parse([text])
    assert "POOL@600-900x2.5" in caught.value.faults[0].fix


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a@900-600", "must end after it begins, got a@900-600"),
        ("a@900-900", "must end after it begins"),
        ("a@600x1", "more than 1 times as long"),
        ("a@600x0.5", "more than 1 times as long"),
        ("a/0@600", "counted from 1"),
    ],
)
def test_what_makes_no_sense_is_told(text, what):
    with pytest.raises(InputError, match=what):
        parse([text])


def test_all_faults_are_told_at_once():
    with pytest.raises(InputError) as caught:
        parse(["a@9-5", "b@3", "c", "a/0@3x0.5"])
    assert len(caught.value.faults) == 4


def test_a_failure_that_was_not_written_is_checked_too():
    with pytest.raises(InputError, match=r"must end after it begins, got a@9-5"):
        changes([Failure("a", None, 9.0, 5.0)], POOLS, N_REPLICAS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b@600", [(600, 1, 0, "die", 1.0)]),
        ("a@600-900", [(600, 0, 0, "die", 1.0), (900, 0, 0, "return", 1.0)]),
        ("a/3@600-900x2.5", [(600, 0, 2, "slow", 2.5), (900, 0, 2, "restore", 1.0)]),
        ("a/2@5x2", [(5, 0, 1, "slow", 2.0)]),
    ],
)
def test_what_happens_to_which_replica(text, expected):
    found = changes(parse([text]), POOLS, N_REPLICAS)
    assert found == [Change(at * PS_PER_S, p, r, kind, x) for at, p, r, kind, x in expected]


def test_failures_without_a_number_take_the_lowest_replicas_that_are_left():
    found = changes(parse(["a@600", "a/1@700", "a@500"]), POOLS, N_REPLICAS)
    assert [(c.at_ps // PS_PER_S, c.replica_index) for c in found] == [(500, 2), (600, 1), (700, 0)]


def test_in_a_rolling_restart_one_returns_before_the_next_goes():
    texts = ["a/2@900-1200", "a/1@600-900", "a/3@900-1000x2"]
    found = changes(parse(texts), POOLS, N_REPLICAS)
    assert [(c.at_ps // PS_PER_S, c.replica_index, c.kind) for c in found] == [
        (600, 0, "die"),
        (900, 0, "return"),
        (900, 1, "die"),
        (900, 2, "slow"),
        (1000, 2, "restore"),
        (1200, 1, "return"),
    ]


def test_a_replica_may_fail_again_once_it_is_well():
    assert len(changes(parse(["b/1@5-9", "b/1@9-12", "b/1@1-5x3"]), POOLS, N_REPLICAS)) == 6


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (["c@600"], r"the plan has no replica of c\n  fix: .*: a \(3\), b \(1\)"),
        (["none@600"], r"the plan has no replica of none"),
        (["a/4@600"], r"no such replica: a/4@600\n  fix: .*a \(3\)"),
        (["b@600", "b@700"], r"more failures than replicas of b \(1\)"),
        (["b/1@5-9", "b/1@8-12"], r"b/1@5-9 and b/1@8-12 are one replica at the same time"),
        (["b/1@5", "b/1@8x2"], r"are one replica at the same time"),
    ],
)
def test_what_the_cluster_does_not_have_is_told(texts, what):
    with pytest.raises(InputError, match=what):
        changes(parse(texts), POOLS, N_REPLICAS)


SPANS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 30), st.booleans()), min_size=0, max_size=3
)


@EXAMPLES
@given(SPANS)
def test_a_replica_is_dead_or_slow_exactly_within_its_spans(spans):
    """Replayed in order, the changes leave each replica in the state that its failure says."""
    failures = [
        Failure("a", r + 1, float(at), float(at + length), 2.0 if slow else None)
        for r, (at, length, slow) in enumerate(spans)
    ]
    timeline = changes(failures, POOLS, N_REPLICAS)
    assert timeline == sorted(timeline, key=lambda c: c.at_ps)
    for moment in range(100):
        state = dict.fromkeys(range(3), "well")
        for change in timeline:
            if change.at_ps <= moment * PS_PER_S:
                ill = {"die": "dead", "slow": "slow"}.get(change.kind, "well")
                state[change.replica_index] = ill
        for r, (at, length, slow) in enumerate(spans):
            ill = "slow" if slow else "dead"
            assert state[r] == (ill if at <= moment < at + length else "well")
