"""The loops in virtual time, where every instant can be told exactly, and once over the network."""

import asyncio
import signal
from contextlib import nullcontext

import numpy as np
import pytest
from fake_server import serving
from virtual_time import run_at_once

from planner.profile.load import driver
from planner.profile.load.client import Answer, Client, Endpoint, Outcome
from planner.profile.load.driver import Ending, closed_loop, open_loop
from planner.profile.load.prompts import Ask, Lengths, PromptSource

OK, CANCELLED, HTTP = Outcome.OK, Outcome.CANCELLED, Outcome.HTTP


@pytest.fixture(autouse=True)
def no_collection(request, monkeypatch):
    """Among all tests there is much to collect before a load, which virtual time does not see."""
    if request.node.name != "test_both_loops_measure_a_server":
        monkeypatch.setattr(driver, "_quiet_collector", nullcontext)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def ask(index: int) -> Ask:
    return Ask(f"request {index}", 2, index + 1)


class Engine:
    """Answers every request after a time of its own; keeps what it saw."""

    def __init__(self, service_s=1.0, first_s=0.25, outcome=OK):
        self.service_s, self.first_s, self.outcome = service_s, first_s, outcome
        self.asked: list[str] = []
        self.n_in_flight = self.n_most = self.n_closed = 0

    async def send(self, ask: Ask) -> Answer:
        self.asked.append(ask.text)
        self.n_in_flight += 1
        self.n_most = max(self.n_most, self.n_in_flight)
        sent_s = now_s()
        try:
            await asyncio.sleep(self.service_s)
        except asyncio.CancelledError:
            self.n_closed += 1
            raise
        finally:
            self.n_in_flight -= 1
        if self.outcome is not OK:
            return Answer(self.outcome, sent_s, np.nan, now_s(), 0, 0, 503, "busy")
        return Answer(OK, sent_s, sent_s + self.first_s, now_s(), 7, ask.n_output, 200)


def opened(engine, times_s, on_progress=None, source=ask, **ending):
    work = open_loop(engine.send, source, np.array(times_s), Ending(**ending), on_progress)
    return run_at_once(_within(work))


def closed(engine, concurrency, on_progress=None, ramp_s=0.0, **ending):
    work = closed_loop(
        engine.send, ask, concurrency, Ending(**ending), ramp_s=ramp_s, on_progress=on_progress
    )
    return run_at_once(_within(work))


async def _within(work):
    """What work returns; nothing may be left running in the loop."""
    result = await work
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return result


def about(values):
    return pytest.approx(values, abs=2e-3)  # the selector waits in whole milliseconds


# ---- The open loop -------------------------------------------------------------------------------


def test_an_open_loop_sends_on_time_whatever_comes_back():
    times_s = [0.0, 0.5, 0.6, 3.0, 3.0, 7.25]
    for service_s in (0.001, 100.0):
        records = opened(Engine(service_s), times_s, drain_s=500.0)
        assert records.scheduled_s.tolist() == times_s
        assert records.sent_s == about(times_s)
        assert records.done_s == about(np.array(times_s) + service_s)
        assert (records.outcome == OK).all()
        assert (records.mode, records.end, records.concurrency) == ("open", "requests", None)
        assert records.load_end_s == about(7.25)


def test_requests_are_numbered_in_the_order_of_sending():
    engine = Engine()
    records = opened(engine, [0.0, 1.0, 2.0], drain_s=9.0)
    assert engine.asked == ["request 0", "request 1", "request 2"]
    assert records.n_output.tolist() == [1, 2, 3]
    assert records.n_input.tolist() == [7, 7, 7]
    assert records.first_s - records.sent_s == about([0.25] * 3)
    assert records.status.tolist() == [200] * 3


def test_a_generator_that_is_held_up_does_not_hide_it():
    """While the third prompt is made, half a second passes: the fourth is late by that much."""

    def slow(index: int) -> Ask:
        if index == 2:
            asyncio.get_running_loop().now_s += 0.5
        return ask(index)

    records = opened(Engine(), [0.0, 0.1, 0.2, 0.3, 1.0], source=slow, drain_s=9.0)
    late_s = records.sent_s - records.scheduled_s
    assert late_s == about([0.0, 0.0, 0.5, 0.4, 0.0])
    assert records.scheduled_s.tolist() == [0.0, 0.1, 0.2, 0.3, 1.0]
    assert records.lag_s.max() == pytest.approx(0.5, abs=0.03)


def test_requests_that_are_due_and_never_sent_are_counted():
    """Making a prompt takes a second: after the first, the time of the load is over."""

    def slow(index: int) -> Ask:
        asyncio.get_running_loop().now_s += 1.0
        return ask(index)

    records = opened(Engine(), [0.0, 0.1, 0.2, 0.3, 5.0], source=slow, duration_s=0.9)
    assert records.end == "duration"
    assert (records.sent_s.size, records.n_unsent) == (2, 2)


def test_what_runs_when_the_load_ends_is_closed_and_counted_apart():
    engine = Engine(service_s=2.0)
    records = opened(engine, [0.0, 1.0, 2.0, 3.0, 4.0], duration_s=3.5)
    assert (records.end, records.load_end_s) == ("duration", about(3.5))
    assert records.outcome.tolist() == [OK, OK, CANCELLED, CANCELLED]
    assert records.done_s == about([2.0, 3.0, 3.5, 3.5])
    assert np.isnan(records.first_s[2:]).all()
    assert (engine.n_closed, engine.n_in_flight) == (2, 0)


def test_draining_lets_requests_finish_in_their_time():
    engine = Engine(service_s=2.0)
    records = opened(engine, [0.0, 1.0, 2.0, 3.0, 9.0], duration_s=3.5, drain_s=1.0)
    assert records.outcome.tolist() == [OK, OK, OK, CANCELLED]
    assert records.done_s == about([2.0, 3.0, 4.0, 4.5])
    assert records.load_end_s == about(3.5)


def test_a_load_ends_at_the_cap_of_requests_in_flight():
    engine = Engine(service_s=100.0)
    records = opened(engine, np.arange(50) * 0.1, max_in_flight=8)
    assert (records.end, records.outcome.size, engine.n_most) == ("cap", 8, 8)
    assert records.load_end_s == about(0.8)


def test_a_load_ends_after_a_number_of_requests():
    engine = Engine()
    records = opened(engine, np.arange(50) * 0.1, n_requests=6, drain_s=9.0)
    assert (records.end, len(engine.asked)) == ("requests", 6)


def test_a_load_without_requests_is_empty():
    records = opened(Engine(), [])
    assert (records.outcome.size, records.end) == (0, "requests")


# ---- The closed loop -----------------------------------------------------------------------------


def test_a_closed_loop_keeps_a_number_of_requests_in_flight():
    engine = Engine(service_s=1.0)
    records = closed(engine, 4, duration_s=9.5)
    assert engine.n_most == 4
    assert records.outcome.tolist() == [OK] * 36 + [CANCELLED] * 4
    assert records.sent_s == pytest.approx(np.repeat(np.arange(10.0), 4), abs=0.02)
    assert (records.mode, records.concurrency, records.end) == ("closed", 4, "duration")
    assert sorted(engine.asked) == sorted(f"request {i}" for i in range(40))


def test_a_ramp_spreads_the_first_requests():
    records = closed(Engine(service_s=1.0), 4, duration_s=2.9, ramp_s=1.0)
    assert records.sent_s[:8] == pytest.approx(np.arange(8) * 0.25, abs=0.02)


def test_a_closed_loop_sends_no_more_than_it_is_told():
    engine = Engine(service_s=1.0)
    records = closed(engine, 4, n_requests=10, drain_s=9.0)
    assert (records.end, len(engine.asked)) == ("requests", 10)
    assert (records.outcome == OK).all()
    assert records.load_end_s == about(2.0)
    assert records.done_s.max() == about(3.0)


def test_a_slot_rests_after_a_failure():
    """A server that refuses at once would be flooded otherwise."""
    engine = Engine(service_s=0.0, outcome=HTTP)
    records = closed(engine, 2, duration_s=2.2)
    assert len(engine.asked) == 10
    assert set(records.outcome.tolist()) == {HTTP}
    assert records.status.tolist() == [503] * 10
    assert records.examples == {HTTP: "busy"}


# ---- Endings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("drain_s", [0.0, 60.0])
def test_a_load_can_be_stopped(drain_s):
    async def run():
        stop, engine = asyncio.Event(), Engine(service_s=2.0)
        asyncio.get_running_loop().call_later(5.0, stop.set)
        ending = Ending(duration_s=60.0, drain_s=drain_s, stop=stop)
        return await closed_loop(engine.send, ask, 3, ending), engine

    records, engine = run_at_once(run())
    assert (records.end, records.load_end_s) == ("stopped", about(5.0))
    assert records.outcome.tolist() == [OK] * 6 + [CANCELLED] * 3
    assert engine.n_closed == 3


def test_stopping_ends_the_drain_as_well():
    async def run():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(5.0, stop.set)
        ending = Ending(duration_s=1.0, drain_s=100.0, stop=stop)
        records = await open_loop(Engine(service_s=50.0).send, ask, np.array([0.0]), ending)
        return records, now_s()

    records, ended_s = run_at_once(run())
    assert (records.end, ended_s) == ("requests", about(5.0))
    assert records.outcome.tolist() == [CANCELLED]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_cancelled_load_leaves_nothing_behind(is_open):
    engine = Engine(service_s=9.0)

    async def run():
        ending = Ending(duration_s=60.0)
        work = (
            open_loop(engine.send, ask, np.arange(60.0), ending)
            if is_open
            else closed_loop(engine.send, ask, 3, ending)
        )
        task = asyncio.create_task(work)
        await asyncio.sleep(5.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_at_once(run())
    assert engine.n_in_flight == 0
    assert engine.n_closed == (6 if is_open else 3)


def test_an_interrupt_closes_what_is_in_flight():
    engine = Engine(service_s=60.0)

    async def interrupt():
        while engine.n_in_flight < 2:
            await asyncio.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    async def run():
        interrupting = asyncio.create_task(interrupt())
        await closed_loop(engine.send, ask, 2, Ending(duration_s=60.0))
        await interrupting

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run())
    assert (engine.n_closed, engine.n_in_flight) == (2, 0)


@pytest.mark.parametrize("is_open", [True, False])
def test_a_mistake_of_ours_is_not_swallowed(is_open):
    async def broken(_: Ask) -> Answer:
        raise ZeroDivisionError("a slip")

    work = (
        open_loop(broken, ask, np.arange(5.0), Ending())
        if is_open
        else closed_loop(broken, ask, 2, Ending(duration_s=9.0))
    )
    with pytest.raises(ZeroDivisionError, match="a slip"):
        run_at_once(work)


def test_progress_is_told_twice_a_second():
    seen = []
    closed(Engine(service_s=1.0), 3, duration_s=4.2, on_progress=seen.append)
    assert len(seen) == 9
    assert [p.elapsed_s for p in seen] == pytest.approx([0.02 + k / 2 for k in range(9)], abs=0.1)
    assert all(p.n_in_flight == 3 for p in seen)
    assert all(p.n_sent == p.n_ok + p.n_failed + p.n_in_flight for p in seen)
    assert seen[-1].n_ok == 12


def test_the_lateness_of_the_loop_is_sampled_all_through():
    records = closed(Engine(), 1, duration_s=2.0)
    assert 95 <= records.lag_s.size <= 100
    assert records.lag_s.max() < 2e-3


# ---- Over the network ----------------------------------------------------------------------------


def test_both_loops_measure_a_server():
    """Three slots of 160 ms: eight in flight wait, and eight at once come in three waves."""

    async def run():
        source = PromptSource(Lengths.fixed(20, 4), seed=1)
        async with serving(ttft_s=0.15, slots=3) as server:
            async with Client(Endpoint(server.url, "fake", "chat")) as client:
                together = await open_loop(
                    client.send, source.ask, np.zeros(8), Ending(drain_s=5.0)
                )
                kept = await closed_loop(client.send, source.ask, 3, Ending(duration_s=0.8))
            while server.n_in_flight:
                await asyncio.sleep(0.01)
        return together, kept, server.n_most_in_flight

    together, kept, n_most = asyncio.run(run())
    assert n_most == 8
    assert (together.outcome == OK).all()
    waits_s = np.sort(together.first_s - together.scheduled_s)
    assert (waits_s[[0, 3, 6]] >= [0.15, 0.3, 0.45]).all()
    assert (together.n_input == 27).all() and (together.n_output == 4).all()
    answered = kept.outcome == OK
    assert answered.sum() >= 6
    assert (kept.outcome[~answered] == CANCELLED).all()
