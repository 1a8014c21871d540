"""Data-parallel ranks: chosen on arrival or held until a place is free, as the simulator does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from fleets import PLACES, ask, class_sheet, pool_sheet, servers, setup_of, sheet_of
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run_at_once

from planner.runtime.fleet import Fleet
from planner.runtime.instance import Instance
from planner.runtime.ranks import (
    BATCH_POLICIES,
    DEAL_S,
    RANK_POLICIES,
    Decoding,
    RankQueue,
    make_batch_policy,
)
from planner.runtime.setup import Setup
from planner.scheduling.balance import POLICIES, Workers, make_policy
from planner.scheduling.batch import AGE_GUARD, DecodeWorkers, Running, largest_first
from planner.scheduling.delay import StepCurve
from planner.scheduling.survival import Survival
from planner.simulate.central import Places, WaitingPool

N_RANKS = 4


def setup_with(rank_policy: str, n_servers: int = 1, *, is_known: bool = True) -> Setup:
    """One pool of servers with four ranks each, eight places a rank."""
    sheet = sheet_of(
        {"pool": pool_sheet(n_replicas=n_servers, n_ranks=N_RANKS)},
        {"chat": class_sheet(["pool"])},
    )
    there = {"pool": servers(n_servers, data_parallel_ranks=N_RANKS)}
    return setup_of(there, sheet if is_known else None, rank_policy=rank_policy)


def fill(fleet: Fleet, n_places: int = PLACES, tokens: float = 100.0) -> dict[int, list[int]]:
    """Tickets by instance, after so many requests were sent to every rank."""
    return {
        instance.index: [fleet.sent(instance, ask(tokens), 0.0) for _ in range(n_places)]
        for instance in fleet.instances
    }


# ---- On arrival ----------------------------------------------------------------------------------


def test_every_rank_is_an_instance_of_one_server():
    fleet = Fleet(setup_with("least_kv", 2), 0.0)
    assert [i.name for i in fleet.instances] == [
        *(f"pool/0#{k}" for k in range(4)),
        *(f"pool/1#{k}" for k in range(4)),
    ]
    assert [i.rank for i in fleet.instances] == [0, 1, 2, 3] * 2
    assert len({i.address for i in fleet.instances}) == len(fleet.backends) == 2
    assert not fleet.holds("pool")


def test_ranks_that_are_not_told_apart_are_one_instance_as_fast_as_all_of_them():
    """An engine of four ranks behind one address has their places, and predicts no queue."""
    sheet = sheet_of({"pool": pool_sheet(n_ranks=N_RANKS)}, {"chat": class_sheet(["pool"])})
    together = Fleet(setup_of({"pool": servers(2)}, sheet), 0.0).curve("pool")
    apart = Fleet(setup_with("least_kv"), 0.0).curve("pool")
    assert together is not None and apart is not None
    assert together.max_num_seqs == N_RANKS * apart.max_num_seqs == N_RANKS * PLACES
    assert together.kv_capacity_tokens == N_RANKS * apart.kv_capacity_tokens
    for n in (1, 5, PLACES):  # evenly loaded, all ranks step as one alone does
        assert together.step_ms(N_RANKS * n, N_RANKS * 300.0) == pytest.approx(
            apart.step_ms(n, 300.0)
        )


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(set(POLICIES) - {"random", "power_of_two"})),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2_000)), max_size=40),
    st.lists(st.integers(1, 2_000), min_size=1, max_size=12),
)
def test_on_arrival_the_rank_is_that_of_the_simulators_policy(policy, busy, coming):
    """The same states: all requests sent, none begun. Eight run on a rank, the others wait."""
    fleet, reference = Fleet(setup_with(policy), 0.0), make_policy(policy, 0)
    counts, tokens = [0] * 4, [0] * 4
    for k, n_tokens in busy:
        fleet.sent(fleet.instances[k], ask(float(n_tokens), 1.0), 0.0)
        counts[k] += 1
        tokens[k] += n_tokens
    for n_tokens in coming:
        running = [min(n, PLACES) for n in counts]
        waiting = [n - r for n, r in zip(counts, running, strict=True)]
        expected = reference.pick(n_tokens, Workers(running, waiting, tokens, [True] * 4))
        chosen = fleet.choose("pool", ask(float(n_tokens), 1.0), 0.0)
        assert chosen.rank == expected
        fleet.sent(chosen, ask(float(n_tokens), 1.0), 0.0)
        counts[expected] += 1
        tokens[expected] += n_tokens


def test_the_server_is_chosen_first():
    fleet = Fleet(setup_with("least_kv", 2), 0.0)
    for k in (0, 1, 2):  # of the first server; its last rank is idle
        for _ in range(6):
            fleet.sent(fleet.instances[k], ask(), 0.0)
    assert fleet.choose("pool", ask(), 0.0).name.startswith("pool/1#")
    fleet.failed(fleet.instances[4], 0.0, "connect")  # a rank of the second: its server
    assert fleet.choose("pool", ask(), 0.0).name == "pool/0#3"
    assert fleet.choose("pool", ask(), 0.0, tried=[0]).name.startswith(
        "pool/1#"
    )  # the only one left


# ---- Held: the queue -----------------------------------------------------------------------------

COMES = st.tuples(st.just("come"), st.integers(1, 3_000))
DEALS = st.tuples(st.just("deal"), st.lists(st.integers(0, 3), min_size=4, max_size=4))
LEAVES = st.tuples(st.just("leave"), st.integers(0, 30))
STEPS = st.lists(st.one_of(COMES, DEALS), min_size=1, max_size=30)
LEAVING = st.lists(st.one_of(COMES, DEALS, LEAVES), min_size=1, max_size=30)


@pytest.mark.parametrize("name", ["largest_first", "best_match", "br0"])
@settings(derandomize=True, max_examples=50, deadline=None)
@given(STEPS, st.integers(0, 10_000))
def test_the_queue_deals_as_the_simulators_pool(name, steps, seed):
    """Everything placed is sent at once; who is placed where, and in what order, is the same."""
    ours, theirs = RankQueue(make_batch_policy(name)), WaitingPool(make_batch_policy(name))
    draw = np.random.default_rng(seed)
    keys: list[int] = []  # ours, by the simulator's number
    for what, much in steps:
        if what == "come":
            theirs.append(len(keys), much)
            keys.append(ours.join(much))
        else:
            workers = DecodeWorkers(draw.integers(0, 5_000, N_RANKS).tolist(), much)
            expected = theirs.deal(workers) if any(much) else []
            found = ours.place(workers)
            assert [(keys.index(key), rank) for key, rank in found] == expected
            for key, _ in found:
                ours.leave(key)
        assert len(ours) == len(theirs)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.sampled_from(["largest_first", "best_match", "br0"]), LEAVING)
def test_no_place_is_given_twice_and_nobody_is_placed_who_left(name, steps):
    queue = RankQueue(make_batch_policy(name))
    waiting: list[int] = []
    held: dict[int, int] = {}  # key -> rank, placed and not sent
    for what, much in steps:
        if what == "come":
            waiting.append(queue.join(much))
        elif what == "leave":
            everyone = [*waiting, *held]
            if everyone:
                key = everyone[much % len(everyone)]
                queue.leave(key)
                queue.leave(key)  # twice is no harm
                waiting = [each for each in waiting if each != key]
                held.pop(key, None)
        else:
            placed = queue.place(DecodeWorkers([0] * N_RANKS, much))
            for key, rank in placed:
                assert key in waiting
                waiting.remove(key)
                held[key] = rank
            for rank in range(N_RANKS):
                n_held = sum(r == rank for r in held.values())
                n_new = sum(r == rank for _, r in placed)
                assert n_new <= max(much[rank] - (n_held - n_new), 0)
            if waiting and placed:  # it stopped only because the places were over
                assert all(
                    sum(r == rank for r in held.values()) >= much[rank] for rank in range(N_RANKS)
                )
        assert len(queue) == len(waiting)


def test_nobody_is_overtaken_for_ever():
    """One that never fits best: a long one among short ones, with a single place at a time."""
    queue = RankQueue(make_batch_policy("best_match"))
    old = queue.join(100_000)
    workers = DecodeWorkers([5_000, 0], [0, 1])
    for n in range(AGE_GUARD + 2):
        for _ in range(3 - len(queue)):
            queue.join(10)
        [(key, _)] = queue.place(workers)
        queue.leave(key)
        if key == old:
            assert n == AGE_GUARD
            return
    raise AssertionError("it still waits")


@pytest.mark.parametrize("name", BATCH_POLICIES)
def test_every_name_makes_a_policy_that_places(name):
    running = Running(*(np.full((2, 1), -1, dtype=np.int64) for _ in range(3)))
    queue = RankQueue(make_batch_policy(name))
    keys = {queue.join(100), queue.join(300)}
    placed = queue.place(DecodeWorkers([0, 50], [1, 1], running))
    assert {key for key, _ in placed} == keys
    assert {rank for _, rank in placed} == {0, 1}


def test_the_names_are_those_of_arrival_and_of_batches():
    assert set(RANK_POLICIES) == {*POLICIES, *BATCH_POLICIES}
    with pytest.raises(KeyError):
        make_batch_policy("least_kv")


# ---- Held: coroutines ----------------------------------------------------------------------------


async def settle() -> None:
    """Lets everything run that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)


async def taken(fleet: Fleet, tokens: float = 100.0) -> tuple[Instance, int]:
    """Who takes a request, and its ticket, as a proxy would do it."""
    loop = asyncio.get_running_loop()
    instance = await fleet.held("pool", ask(tokens), loop.time)
    return instance, fleet.sent(instance, ask(tokens), loop.time())


def test_while_places_are_free_nobody_waits():
    async def main() -> None:
        fleet = Fleet(setup_with("best_match"), 0.0)
        assert fleet.holds("pool")
        found = [await taken(fleet) for _ in range(N_RANKS * PLACES)]
        assert asyncio.get_running_loop().time() == 0.0
        assert sorted(i.rank for i, _ in found) == sorted(list(range(N_RANKS)) * PLACES)

    run_at_once(main())


def test_a_request_waits_until_a_place_is_free_and_gets_that():
    async def main() -> None:
        fleet = Fleet(setup_with("largest_first"), 0.0)
        tickets = fill(fleet)
        waits = asyncio.create_task(taken(fleet))
        await asyncio.sleep(10.0)
        assert not waits.done()
        fleet.ended(tickets[2][0], 10.0, 50.0)
        instance, _ = await waits
        assert instance.rank == 2
        assert asyncio.get_running_loop().time() == pytest.approx(10.0, abs=1e-6)

    run_at_once(main())


def test_places_that_become_free_together_are_dealt_together():
    """One by one the older, small request would take the place on the emptier rank, the first."""

    async def main() -> None:
        fleet = Fleet(setup_with("largest_first"), 0.0)
        tickets = fill(fleet)
        fleet.ended(tickets[0].pop(), 0.0)
        fleet.sent(fleet.instances[0], ask(9_000.0), 0.0)
        small = asyncio.create_task(taken(fleet, 10.0))
        large = asyncio.create_task(taken(fleet, 5_000.0))
        await settle()
        fleet.ended(tickets[3].pop(), 0.0)
        fleet.ended(tickets[0].pop(), 0.0)
        assert ((await large)[0].rank, (await small)[0].rank) == (3, 0)

    run_at_once(main())


def test_two_requests_do_not_get_the_same_place():
    async def main() -> None:
        fleet = Fleet(setup_with("best_match"), 0.0)
        tickets = fill(fleet)
        waiting = [asyncio.create_task(taken(fleet)) for _ in range(3)]
        await settle()
        fleet.ended(tickets[1][0], 0.0)
        await settle()
        assert [task.done() for task in waiting].count(True) == 1
        fleet.ended(tickets[1][1], 0.0)
        fleet.ended(tickets[0][0], 0.0)
        found = await asyncio.gather(*waiting)
        assert sorted(i.rank for i, _ in found) == [0, 1, 1]
        assert {row["n_in_flight"] for row in fleet.status(0.0)} == {PLACES}

    run_at_once(main())


def test_those_that_are_held_count_in_what_the_next_one_is_told_to_wait():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        fleet = Fleet(setup_with("best_match"), 0.0)
        fill(fleet)
        waits_ms = [fleet.delay("pool", ask(), 0.0).wait_ms]
        held = []
        for _ in range(3):
            held += [asyncio.create_task(fleet.held("pool", ask(), loop.time)) for _ in range(8)]
            await settle()
            waits_ms.append(fleet.delay("pool", ask(), 0.0).wait_ms)
        at_engines = Fleet(setup_with("least_kv"), 0.0)  # the same requests wait there instead
        fill(at_engines, PLACES + 6)
        assert waits_ms == sorted(set(waits_ms))
        waits_there_ms = at_engines.delay("pool", ask(), 0.0).wait_ms
        assert waits_ms[-1] == pytest.approx(waits_there_ms, rel=0.15)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert fleet.delay("pool", ask(), 0.0).wait_ms == waits_ms[0]

    run_at_once(main())


def test_whoever_is_cancelled_leaves_its_place_to_the_next():
    async def main() -> None:
        fleet = Fleet(setup_with("largest_first"), 0.0)
        tickets = fill(fleet)
        first = asyncio.create_task(taken(fleet, 500.0))
        second = asyncio.create_task(taken(fleet, 400.0))
        third = asyncio.create_task(taken(fleet, 300.0))
        await settle()
        first.cancel()  # while it waits
        await settle()
        fleet.ended(tickets[0][0], 0.0)
        await asyncio.sleep(0)  # the place is dealt to the second, which has not run yet ..
        second.cancel()  # .. and is cancelled before it does
        instance, _ = await third
        assert instance.rank == 0
        assert second.cancelled()
        assert asyncio.get_running_loop().time() < DEAL_S

    run_at_once(main())


def test_a_deadline_ends_the_wait():
    async def main() -> None:
        fleet = Fleet(setup_with("best_match"), 0.0)
        fill(fleet)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await taken(fleet)
        assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=1e-3)

    run_at_once(main())


def test_requests_of_others_that_end_free_places_too():
    """Another worker's requests, of which only the engine's page tells."""

    async def main() -> None:
        fleet = Fleet(setup_with("best_match"), 0.0)
        backend = next(iter(fleet.backends.values()))
        loop = asyncio.get_running_loop()

        def page(n: int) -> str:
            return "".join(
                f'vllm:num_requests_running{{engine="{k}"}} {n}\n' for k in range(N_RANKS)
            )

        for at_s in (0.1, 0.2, 0.3):
            await asyncio.sleep(0.1)
            fleet.observed(backend, page(PLACES), at_s, loop.time())
        waits = asyncio.create_task(taken(fleet))
        await settle()
        assert not waits.done()
        fleet.observed(backend, page(0), loop.time(), loop.time())
        await waits
        assert loop.time() < 5.0

    run_at_once(main())


def test_what_was_seen_of_others_fades_when_no_page_comes_any_more():
    async def main() -> None:
        fleet, loop = Fleet(setup_with("best_match"), 0.0), asyncio.get_running_loop()
        backend = next(iter(fleet.backends.values()))
        page = "".join(f'vllm:num_requests_running{{engine="{k}"}} 8\n' for k in range(N_RANKS))
        for _ in range(3):
            await asyncio.sleep(0.1)
            fleet.observed(backend, page, loop.time(), loop.time())
        waits = asyncio.create_task(taken(fleet))
        await settle()
        assert not waits.done()
        async with asyncio.timeout(60.0):
            await waits

    run_at_once(main())


def test_whoever_waits_at_a_server_that_is_ejected_waits_at_another_one():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        fleet = Fleet(setup_with("best_match", 2), 0.0)
        tickets = fill(fleet)
        for instance in fleet.instances[N_RANKS:]:  # so that the first server is preferred
            fleet.sent(instance, ask(), 0.0)
        waits = asyncio.create_task(fleet.held("pool", ask(), loop.time))
        await settle()
        fleet.failed(fleet.instances[0], 0.0, "connect")
        await settle()
        assert not waits.done()
        second = fleet.instances[N_RANKS + 1].index
        fleet.ended(tickets[second][0], 0.0)
        fleet.ended(tickets[second][1], 0.0)
        await settle()
        assert (await waits).name == "pool/1#1"
        assert loop.time() < DEAL_S

    run_at_once(main())


def test_a_reload_keeps_those_that_wait():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        fleet = Fleet(setup_with("best_match"), 0.0)
        tickets = fill(fleet)
        waits = asyncio.create_task(fleet.held("pool", ask(), loop.time))
        await settle()
        fleet.renew(setup_with("best_match"), 0.0)
        await settle()
        assert not waits.done()
        fleet.ended(tickets[0][0], 0.0)
        assert (await waits).rank == 0

    run_at_once(main())


def test_nobody_waits_for_a_pool_whose_servers_are_gone():
    async def main() -> None:
        fleet = Fleet(setup_with("best_match"), 0.0)
        fill(fleet)
        loop = asyncio.get_running_loop()
        waits = asyncio.create_task(fleet.held("pool", ask(), loop.time))
        await settle()
        fleet.renew(replace(setup_with("best_match"), endpoints={"pool": ()}), 0.0)
        assert await waits is None

    run_at_once(main())


def test_without_a_known_number_of_places_nobody_is_held():
    fleet = Fleet(setup_with("best_match", is_known=False), 0.0)
    assert not fleet.holds("pool")
    assert fleet.choose("pool", ask(), 0.0).rank == 0


def test_held_of_a_pool_that_does_not_hold_is_a_choice():
    async def main() -> None:
        fleet = Fleet(setup_with("least_kv"), 0.0)
        assert (await fleet.held("pool", ask(), lambda: 0.0)).rank == 0
        assert await fleet.held("unknown", ask(), lambda: 0.0) is None

    run_at_once(main())


# ---- How far answers are -------------------------------------------------------------------------


def test_answers_age_by_the_steps_of_the_fullest_rank():
    """Steps of 10 ms alone and 20 ms for two: as the simulator's places after so many steps."""
    curve = StepCurve((1, 2), (10.0, 20.0), (0.0, 0.0), 0.0, 0.0, 4, 10_000, 512)
    decoding = Decoding(2, curve, Survival())
    decoding.began(7, 0, 100, 0.0)
    decoding.began(8, 1, 50, 0.1)  # after 10 steps
    decoding.began(9, 1, 60, 0.1)
    found = decoding.running(0.5)  # 20 more
    places = Places(2, 2)
    places.set(0, [(0, 101, 1)])
    places.set(1, [(0, 51, 1), (0, 61, 1)])
    expected = places.running([30, 20])
    assert found.kv_tokens.tolist() == expected.kv_tokens.tolist()
    assert found.age_tokens.tolist() == expected.age_tokens.tolist()
    assert found.keys.tolist() == expected.keys.tolist()


def test_a_policy_that_looks_ahead_learns_from_whole_answers_only():
    predictor = Survival()
    curve = StepCurve((1,), (10.0,), (0.0,), 0.0, 0.0, 4, 10_000, 512)
    decoding = Decoding(1, curve, predictor)
    now = np.zeros(1, dtype=np.int64)
    for ticket in range(40):
        decoding.began(ticket, 0, 10, 0.0)
        decoding.ended(ticket, 1.0, 30.0 if ticket % 2 else None)
    alive = predictor.alive(now, np.array([29, 31]), now)[0]
    assert alive[0] == 1.0
    assert alive[1] == pytest.approx(1 / 21, abs=0.02)
    assert (decoding.running(2.0).age_tokens == -1).all()


def test_looking_ahead_through_the_fleet():
    async def main() -> None:
        fleet = Fleet(setup_with("brh"), 0.0)
        tickets = fill(fleet)
        for k, each in tickets.items():
            for ticket in each:
                fleet.first_token(ticket, 0.01 * k)
        waits = asyncio.create_task(taken(fleet))
        await asyncio.sleep(1.0)
        fleet.ended(tickets[3][4], 1.0, 40.0)
        assert (await waits)[0].rank == 3

    run_at_once(main())


def test_the_simplest_batch_policy_is_the_simulators_own():
    assert make_batch_policy("largest_first") is largest_first
