"""Who may be sent requests: stories of servers that fail, and what holds whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.runtime.health import (
    FAILURES,
    FIRST_OUT_S,
    FIRST_SHARE,
    JITTER,
    MOST_OUT_S,
    PROBE_EXPIRES_S,
    SLOW_START_S,
    Health,
    State,
)


def out_s(health: Health, now_s: float) -> float:
    """How long it is out from now on."""
    assert health.state(now_s) is State.EJECTED
    return health.retry_at_s - now_s


def ejected(at_s: float = 0.0, seed: int = 1) -> Health:
    health = Health(seed)
    health.failed(at_s, "connect")
    return health


# ---- Stories -------------------------------------------------------------------------------------


def test_a_new_server_is_up():
    health = Health(0)
    assert (health.state(0.0), health.share_ratio(0.0), health.is_clear) == (State.UP, 1.0, True)


def test_a_refused_connection_ejects_at_once():
    health = ejected()
    assert (health.state(0.0), health.share_ratio(0.0)) == (State.EJECTED, 0.0)
    assert not health.is_clear


@pytest.mark.parametrize("kind", ["timeout", "reset", "status"])
def test_other_failures_eject_when_so_many_follow_one_another(kind):
    health = Health(0)
    for n in range(1, FAILURES):
        health.failed(float(n), kind)
        assert health.state(float(n)) is State.SUSPECTED
        assert health.share_ratio(float(n)) == 0.5**n
    health.failed(9.0, kind)
    assert health.state(9.0) is State.EJECTED


def test_one_answer_clears_a_suspicion():
    health = Health(0)
    for n in range(100):
        health.failed(float(n), "status")
        health.failed(float(n), "reset")
        health.succeeded(float(n))
        assert health.is_clear
    assert health.n_failed == 200


def test_an_ejected_server_comes_back_slowly():
    health = ejected()
    back_s = health.retry_at_s
    assert not health.probe(back_s - 1e-6)
    assert health.state(back_s) is State.HALF_OPEN
    assert health.probe(back_s)
    health.succeeded(back_s, health.epoch)
    assert health.state(back_s) is State.RETURNING
    for part in (0.0, 0.25, 0.5, 0.75):
        share = health.share_ratio(back_s + part * SLOW_START_S)
        assert share == pytest.approx(FIRST_SHARE + (1 - FIRST_SHARE) * part)
    assert health.state(back_s + SLOW_START_S) is State.UP
    assert health.is_clear


def test_one_probe_at_a_time():
    health = ejected()
    back_s = health.retry_at_s
    assert health.probe(back_s)
    assert not health.probe(back_s)
    assert not health.probe(back_s + PROBE_EXPIRES_S - 0.01)
    health.give_up_probe()
    assert health.probe(back_s + 1.0)


def test_a_probe_of_which_nothing_is_heard_expires():
    health = ejected()
    back_s = health.retry_at_s
    assert health.probe(back_s)
    assert health.probe(back_s + PROBE_EXPIRES_S)


def test_time_out_doubles_up_to_the_ceiling_and_an_answered_probe_alone_does_not_reset_it():
    health, now_s, outs = ejected(), 0.0, []
    for _ in range(9):
        outs.append(out_s(health, now_s))
        now_s = health.retry_at_s
        assert health.probe(now_s)
        health.failed(now_s, "timeout", health.epoch)
    wholes = [min(FIRST_OUT_S * 2**k, MOST_OUT_S) for k in range(9)]
    assert all(w * (1 - JITTER) <= o <= w for w, o in zip(wholes, outs, strict=True))
    assert outs[-1] > MOST_OUT_S * (1 - JITTER)
    now_s = health.retry_at_s
    health.succeeded(now_s)
    health.failed(now_s + 1.0, "status")  # returning: the first failure ejects
    assert out_s(health, now_s + 1.0) > MOST_OUT_S * (1 - JITTER)


def test_a_whole_slow_start_resets_the_time_out():
    health, now_s = ejected(), 0.0
    for _ in range(6):
        now_s = health.retry_at_s
        health.probe(now_s)
        health.failed(now_s, "connect")
    now_s = health.retry_at_s
    health.succeeded(now_s)
    now_s += SLOW_START_S
    assert health.state(now_s) is State.UP
    health.failed(now_s, "connect")
    assert out_s(health, now_s) <= FIRST_OUT_S


def test_a_returning_server_that_has_answered_is_judged_like_any_other():
    """One that fails now and then: the doubling time out would keep it away for ever."""
    health = ejected()
    now_s = health.retry_at_s
    health.succeeded(now_s, health.epoch)
    health.succeeded(now_s + 0.1, health.epoch)  # the first request
    share = health.share_ratio(now_s + 1.0)
    for n in range(1, FAILURES):
        health.failed(now_s + 1.0, "status", health.epoch)
        assert health.state(now_s + 1.0) is State.RETURNING
        assert health.share_ratio(now_s + 1.0) == pytest.approx(share * 0.5**n)
    health.failed(now_s + 1.0, "status", health.epoch)
    assert health.state(now_s + 1.0) is State.EJECTED


def test_requests_sent_before_an_ejection_are_not_heard():
    """A hundred streams break with the server: one ejection. One goes on: it is not back."""
    health = Health(3)
    epoch = health.epoch
    for _ in range(100):
        health.failed(0.0, "reset", epoch)
    back_s = health.retry_at_s
    assert back_s <= FIRST_OUT_S
    health.succeeded(0.5, epoch)
    assert health.state(0.5) is State.EJECTED
    assert health.probe(back_s)
    health.failed(back_s, "reset", epoch)
    health.succeeded(back_s, epoch)
    assert health.state(back_s) is State.HALF_OPEN
    assert health.n_failed == 101


def test_failures_while_it_is_out_do_not_prolong_it():
    health = ejected()
    back_s = health.retry_at_s
    for n in range(50):
        health.failed(0.01 * n, "connect")
    assert health.retry_at_s == back_s


def test_a_request_that_gets_through_while_it_is_out_brings_it_back():
    health = ejected()
    health.succeeded(0.2, health.epoch)
    assert health.state(0.2) is State.RETURNING


def test_the_jitter_follows_from_the_seed():
    assert ejected(seed=5).retry_at_s == ejected(seed=5).retry_at_s
    assert len({ejected(seed=n).retry_at_s for n in range(20)}) == 20


# ---- Whatever happens ----------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["connect", "timeout", "reset", "status", "answer", "probe", "give up"]),
        st.floats(0.0, 20.0),  # time since the event before
        st.integers(0, 2),  # of which epoch: this one, the one before, not said
    ),
    max_size=60,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(EVENTS, st.integers(0, 2**64))
def test_what_holds_whatever_happens(events, seed):
    health, now_s, n_in_a_row, probe_s = Health(seed), 0.0, 0, None
    for what, later_s, which in events:
        now_s += later_s
        before, epoch_before = health.state(now_s), health.epoch
        epoch = {0: health.epoch, 1: health.epoch - 1, 2: None}[which]
        is_heard = which != 1
        if what == "probe":
            allowed = before is State.HALF_OPEN and (
                probe_s is None or now_s >= probe_s + PROBE_EXPIRES_S
            )
            assert health.probe(now_s) == allowed
            probe_s = now_s if allowed else probe_s
        elif what == "give up":
            health.give_up_probe()
            probe_s = None
        elif what == "answer":
            health.succeeded(now_s, epoch)
            n_in_a_row = 0 if is_heard else n_in_a_row
            if is_heard and before in (State.EJECTED, State.HALF_OPEN):
                assert health.state(now_s) is State.RETURNING
        else:
            health.failed(now_s, what, epoch)
            n_in_a_row += is_heard and before not in (State.EJECTED, State.HALF_OPEN)
            is_new = health.epoch > epoch_before and before in (State.UP, State.SUSPECTED)
            if is_new:  # nobody is ejected for less
                assert what == "connect" or n_in_a_row >= FAILURES
            if what == "connect" and is_heard:
                assert health.retry_at_s is not None
        if health.epoch > epoch_before:
            n_in_a_row, probe_s = 0, None
        state, share = health.state(now_s), health.share_ratio(now_s)
        assert 0.0 <= share <= 1.0
        assert (share == 0.0) == (state in (State.EJECTED, State.HALF_OPEN))
        assert health.is_clear == (state is State.UP)
        if not is_heard:
            assert state is before
        if health.retry_at_s is not None:
            assert health.retry_at_s <= now_s + MOST_OUT_S
    # From wherever it is, one answer and a quiet slow start make it as good as new.
    now_s += MOST_OUT_S + PROBE_EXPIRES_S
    if health.retry_at_s is not None:
        assert health.probe(now_s)
    health.succeeded(now_s)
    assert health.state(now_s + SLOW_START_S) is State.UP
