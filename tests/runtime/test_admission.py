"""Who is turned away: bounds by hand, a chain with a known solution, capacities without a model."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fleets import ask, class_sheet, known_setup, pool_sheet, servers, setup_of, sheet_of
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.runtime.admission import MOST_RETRY_S, Admission
from planner.runtime.fleet import Fleet
from planner.runtime.promises import KEPT, PATIENCE_MS
from planner.runtime.setup import Options, Setup
from planner.scheduling.delay import Delay, Load, predict_delay
from planner.spec.plan import WeightedPool
from planner.spec.question import Limit
from planner.spec.sheet import PredictedLatency

IDLE = predict_delay(Fleet(known_setup(1), 0.0).curve("pool"), Load(), 100.0, 100.0, 50.0)
ROOM_MS = 1_000.0
TTFT = Limit(metric="ttft", statistic="p95", at_most_ms=IDLE.ttft_ms + ROOM_MS)


class Waits:
    """A fleet of which only the wait is known."""

    def __init__(self, wait_ms: float = 0.0, slower_ms: float = 0.0, n_up: int = 1) -> None:
        self.wait_ms, self.slower_ms, self.n = wait_ms, slower_ms, n_up

    def delay(self, pool: str, asked: object, now_s: float) -> Delay:
        ttft_ms, tpot_ms = IDLE.ttft_ms + self.wait_ms, IDLE.tpot_ms + self.slower_ms
        return Delay(self.wait_ms, ttft_ms, tpot_ms, ttft_ms + 49.0 * tpot_ms, 0.0)

    def is_up(self, pool: str, now_s: float) -> bool:
        return self.n > 0

    def n_up(self, pool: str, now_s: float) -> int:
        return self.n


def setup_with(classes: dict, limits: Sequence[Limit] = (), **pool: object) -> Setup:
    """One pool that all of some classes use."""
    sheet = sheet_of({"pool": pool_sheet(**pool)}, classes, limits)
    setup = setup_of({"pool": servers(1)}, sheet)
    shares = {name: (WeightedPool(pool="pool", share=1.0),) for name in classes}
    return replace(setup, routes=setup.routes.model_copy(update={"classes": shares}))


def admitted(
    setup: Setup, fleet: Waits, class_name: str | None, priority: int, *, pressed: bool = True
) -> bool:
    """Whether a request comes in; pressed: right after others had to be turned away."""
    asked, admission = ask(class_name=class_name, priority=priority), Admission(setup)
    before = Waits(1e6, 1e6, n_up=fleet.n) if pressed else Waits(n_up=fleet.n)
    admission.admit(asked, before, ["pool"], 0.0)
    return admission.admit(asked, fleet, ["pool"], 0.0) is None


THREE = {
    "high": class_sheet(["pool"], priority=3, limits=[TTFT]),
    "middle": class_sheet(["pool"], priority=2),
    "low": class_sheet(["pool"], priority=1),
}


def in_time_ms(room_ms: float) -> float:
    """The y of which y + z sqrt(t y) is the room, by bisection."""
    full = 50.0 * (14.0 + 1e-5 * 8 * 125.0) / 8.0  # steps of 8, 50 of them, shared by 8 places
    low, high = 0.0, room_ms
    for _ in range(80):
        y = 0.5 * (low + high)
        low, high = (y, high) if y + 1.6449 * math.sqrt(full * y) < room_ms else (low, y)
    return low


# ---- Bounds by hand ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("class_name", "priority", "distance"),
    [
        ("high", 3, 0),
        ("middle", 2, 1),
        ("low", 1, 2),
        (None, 3, 0),  # nothing tells its class: its priority does
        (None, 0, 3),
        ("low", 3, 0),  # a header may raise it ..
        ("high", 1, 2),  # .. or lower it
        ("high", 9, 0),
    ],
)
def test_where_too_much_comes_each_priority_leaves_half_of_the_room_to_the_next(
    class_name, priority, distance
):
    setup = setup_with(THREE)
    bound_ms = KEPT**distance * in_time_ms(ROOM_MS)
    assert admitted(setup, Waits(bound_ms - 1.0), class_name, priority)
    assert not admitted(setup, Waits(bound_ms + 1.0), class_name, priority)


def test_at_a_peak_that_does_not_last_all_may_come_in_who_can_still_make_it():
    setup = setup_with(THREE)
    for priority, bound_ms in ((3, ROOM_MS), (2, in_time_ms(ROOM_MS)), (1, in_time_ms(ROOM_MS))):
        assert admitted(setup, Waits(bound_ms - 1.0), None, priority, pressed=False)
        assert not admitted(setup, Waits(bound_ms + 1.0), None, priority, pressed=False)


def test_nobody_waits_longer_than_patience():
    assert admitted(setup_with(THREE), Waits(PATIENCE_MS - 1.0), "low", 9)
    assert not admitted(setup_with(THREE), Waits(PATIENCE_MS + 1.0), "low", 9)


def planned(metric: str, statistic: str, ms: float) -> PredictedLatency:
    return PredictedLatency(metric=metric, statistic=statistic, ms=ms, low_ms=ms, high_ms=ms)


def test_tokens_that_come_slower_count_from_what_is_planned():
    """One replica at 1 request a second: the plan's own figure is 4 ms below the limit."""
    tpot = Limit(metric="tpot", statistic="mean", at_most_ms=IDLE.tpot_ms + 8.0)
    high = class_sheet(["pool"], 2, [tpot], rate_rps=0.5)
    high = high.model_copy(update={"latency": (planned("tpot", "mean", tpot.at_most_ms - 4.0),)})
    setup = setup_with({"high": high, "low": class_sheet(["pool"], 1, rate_rps=0.5)}, n_replicas=1)
    n = 0.55  # busy at 1 a second with answers of 550 ms
    # 0.5 ms for each that decodes beside it; 10 ms of prefills in every second.
    level_ms = (10.5 + 0.5 * n) / 0.99 - 10.5
    for priority, bound_ms in ((2, level_ms + 4.0), (1, level_ms + 2.0)):
        assert admitted(setup, Waits(0.0, bound_ms - 0.1), None, priority)
        assert not admitted(setup, Waits(0.0, bound_ms + 0.1), None, priority)


def test_a_whole_answer_takes_its_wait_and_all_its_tokens():
    e2e = Limit(metric="e2e", statistic="p95", at_most_ms=IDLE.e2e_ms + 1_000.0)
    setup = setup_with({"chat": class_sheet(["pool"], 1)}, limits=[e2e])  # over all traffic
    for pressed in (True, False):  # no lower class: it has the room either way
        assert admitted(setup, Waits(510.0, 9.8), "chat", 1, pressed=pressed)  # 510 + 49 x 9.8
        assert not admitted(setup, Waits(510.0, 10.2), "chat", 1, pressed=pressed)


def test_a_limit_that_an_idle_instance_misses_turns_nobody_away():
    hopeless = Limit(metric="ttft", statistic="p50", at_most_ms=IDLE.ttft_ms / 2.0)
    setup = setup_with({"chat": class_sheet(["pool"], 1, [hopeless])})
    assert admitted(setup, Waits(5_000.0), "chat", 1)
    assert not admitted(setup, Waits(PATIENCE_MS + 1.0), "chat", 1)


def test_classes_that_do_not_use_the_pool_do_not_count():
    setup = setup_with(THREE)
    routes = setup.routes.model_copy(
        update={"classes": {n: e for n, e in setup.routes.classes.items() if n != "high"}}
    )
    assert admitted(replace(setup, routes=routes), Waits(30_000.0), "middle", 2)


def test_nobody_is_turned_away_without_a_sheet_or_where_nobody_is_up():
    assert Admission(setup_of({"pool": servers(1)})).admit(ask(), Waits(1e9), ["pool"], 0.0) is None
    assert admitted(setup_with(THREE), Waits(1e9, n_up=0), "low", 1)


def test_while_refusals_go_on_the_queue_stays_with_the_important():
    """The wait is short again, but only because two of three are turned away."""
    admission, high = Admission(setup_with(THREE)), ask(class_name="high", priority=3)
    low = ask(class_name="low", priority=1)
    wait_ms = 0.5 * in_time_ms(ROOM_MS)
    for k in range(100):
        admission.admit(low, Waits(ROOM_MS + 1.0), ["pool"], 0.1 * k)
        admission.admit(low, Waits(ROOM_MS + 1.0), ["pool"], 0.1 * k + 0.03)
        assert admission.admit(high, Waits(wait_ms), ["pool"], 0.1 * k + 0.06) is None
    assert admission.admit(low, Waits(wait_ms), ["pool"], 10.0) is not None
    for k in range(300):
        admission.admit(high, Waits(wait_ms), ["pool"], 10.0 + 0.1 * k)
    assert admission.admit(low, Waits(wait_ms), ["pool"], 40.0) is None


def test_retry_after_is_whole_grows_with_the_excess_and_is_spread():
    admission = Admission(setup_with(THREE))
    asked = ask(class_name="high", priority=3)
    over_ms = 6_000.0 - in_time_ms(ROOM_MS)
    times = [admission.admit(asked, Waits(6_000.0), ["pool"], 0.0) for _ in range(50)]
    assert all(t == int(t) and over_ms <= 1e3 * t <= 2 * over_ms + 1e3 for t in times)
    assert len(set(times)) > 3
    assert admission.admit(asked, Waits(1e9), ["pool"], 0.0) == MOST_RETRY_S
    assert 1.0 <= admission.admit(asked, Waits(ROOM_MS + 1.0), ["pool"], 0.0) <= 2.0


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.floats(1.0, 1e5)), min_size=1, max_size=5),
    st.floats(0.0, 2e5),
    st.integers(0, 9),
    st.integers(0, 9),
    st.booleans(),
)
def test_whoever_is_more_important_comes_in_wherever_the_other_one_does(
    classes, wait_ms, one, other, pressed
):
    made = {
        f"c{n}": class_sheet(
            ["pool"],
            priority,
            [Limit(metric="ttft", statistic="p95", at_most_ms=IDLE.ttft_ms + room_ms)],
        )
        for n, (priority, room_ms) in enumerate(classes)
    }
    setup = setup_with(made)
    if admitted(setup, Waits(wait_ms), None, min(one, other), pressed=pressed):
        assert admitted(setup, Waits(wait_ms), None, max(one, other), pressed=pressed)
        assert admitted(setup, Waits(wait_ms / 2.0), None, min(one, other), pressed=pressed)


# ---- A chain with a known solution ---------------------------------------------------------------


def chain(low: float, high: float, served: float, n_low: int, n_high: int) -> list[float]:
    """P(n in the system) where the low class comes in up to n_low there, the high one to n_high."""
    weights = [1.0]
    for n in range(n_high + 1):
        rate = high + (low if n <= n_low else 0.0)
        weights.append(weights[-1] * rate / served)
    total = sum(weights)
    return [w / total for w in weights]


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.5), (0.5, 0.9), (3.0, 0.7)])
def test_against_the_chain_of_one_server(low, high):
    """Exponential services at rate 1: n there are n seconds of wait, of which 8.5 are allowed.

    No time passes, so what was turned away first keeps the high class pressed.
    """
    limit = Limit(metric="ttft", statistic="p95", at_most_ms=IDLE.ttft_ms + 8_500.0)
    setup = setup_with({"high": class_sheet(["pool"], 2, [limit]), "low": class_sheet(["pool"], 1)})
    admission, fleet, draw = Admission(setup), Waits(), random.Random(7)
    asks = {name: ask(class_name=name, priority=p) for name, p in (("high", 2), ("low", 1))}
    fleet.wait_ms = 1e6
    assert admission.admit(asks["high"], fleet, ["pool"], 0.0) is not None
    total, n = low + high + 1.0, 0
    came, refused = {"low": 0, "high": 0}, {"low": 0, "high": 0}
    for _ in range(30_000):
        u = draw.random() * total
        if u >= low + high:
            n = max(n - 1, 0)
            continue
        name = "low" if u < low else "high"
        came[name] += 1
        fleet.wait_ms = 1e3 * n
        if admission.admit(asks[name], fleet, ["pool"], 0.0) is None:
            n += 1
        else:
            refused[name] += 1
    y = in_time_ms(8_500.0)
    n_low, n_high = int(KEPT * y / 1e3), int(y / 1e3)
    assert (n_low, n_high) == (3, 7)
    p = chain(low, high, 1.0, n_low, n_high)
    assert refused["low"] / came["low"] == pytest.approx(sum(p[n_low + 1 :]), abs=0.02)
    assert refused["high"] / came["high"] == pytest.approx(p[n_high + 1], abs=0.02)


# ---- Where only a capacity is known --------------------------------------------------------------


def test_a_providers_rate_is_not_exceeded_and_the_low_class_goes_first():
    setup = setup_with(
        {"high": class_sheet(["pool"], 2), "low": class_sheet(["pool"], 1)},
        steps=None,
        max_num_seqs=None,
        max_num_batched_tokens=None,
        ttft_ms=200.0,
        tpot_ms=20.0,
        max_rps=10.0,
    )
    admission, fleet = Admission(setup), Waits()
    came_in = {"high": 0, "low": 0}
    for k in range(3_000):  # 30 a second, a third of them high: just what is allowed
        name = "high" if k % 3 == 0 else "low"
        asked = ask(class_name=name, priority=2 if name == "high" else 1)
        came_in[name] += admission.admit(asked, fleet, ["pool"], k / 30.0) is None
    assert sum(came_in.values()) == pytest.approx(10.0 * 100.0, abs=11)
    assert came_in["high"] >= 0.98 * 1_000


def test_the_workers_of_one_proxy_share_what_a_provider_allows():
    setup = setup_with({"chat": class_sheet(["pool"], 1)}, max_rps=8.0)
    workers = [Admission(replace(setup, options=Options(n_workers=4))) for _ in range(4)]
    asked, fleet = ask(class_name="chat"), Waits()
    taken = [w.admit(asked, fleet, ["pool"], n / 40.0) for n in range(1_000) for w in workers]
    assert taken.count(None) == pytest.approx(8.0 * 25.0, abs=2 * 4)


def test_no_two_workers_send_their_clients_back_after_the_same_times():
    setup, asked = setup_with(THREE), ask(class_name="low")
    times = set()
    for k in range(4):
        admission = Admission(replace(setup, options=Options(request_prefix=f"rb-{k}-")))
        times.add(tuple(admission.admit(asked, Waits(2e4), ["pool"], 0.0) for _ in range(8)))
    assert len(times) == 4


def test_a_pool_that_the_sheet_does_not_know_is_nobodys_promise():
    """Where the first pool that is up is unknown, a later one is not judged in its place."""
    setup = setup_with(THREE)
    admission, asked = Admission(setup), ask(class_name="low")
    assert admission.admit(asked, Waits(1e9), ["new", "pool"], 0.0) is None
    assert admission.admit(asked, Waits(1e9), ["pool", "new"], 0.0) is not None


def test_a_pool_of_known_capacity_only_serves_that_by_those_that_are_up():
    limit = Limit(metric="e2e", statistic="p95", at_most_ms=3_000.0)
    setup = setup_with(
        {"chat": class_sheet(["pool"], 1, [limit])},
        steps=None,
        max_num_seqs=None,
        max_num_batched_tokens=None,
        max_load_ratio=0.5,
    )
    for n_up in (1, 4):
        admission, fleet = Admission(setup), Waits(n_up=n_up)
        asked = ask(class_name="chat")
        n = sum(admission.admit(asked, fleet, ["pool"], k / 50.0) is None for k in range(5_000))
        per_s = n_up * 0.5 / 0.2  # 0.2 s of work each
        burst = per_s * 2.8  # of which so much may wait: 3 s less its own 0.2
        assert n == pytest.approx(100.0 * per_s + burst, abs=2)
