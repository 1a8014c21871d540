"""Three periods over two pools: bounds and paths against every deployment of every period."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from exact_cases import HEADROOM_RATIO, Joined, best_quality_on_grid, deployments, random_joined

from planner.exact.path import bill, cheapest_path
from planner.exact.periods import (
    Candidate,
    Prices,
    Schedule,
    at_least_usd,
    best_of_period,
    free_prices,
    prices_of,
)
from planner.exact.readings import Tiers, halved, read_tiers
from planner.space import Offer

FACTORS = (0.4, 1.0, 0.7)
HOURS = np.array([9.0, 5.0, 10.0])
SEEDS = range(12)
STOCK = 3
CHANGES = [
    pytest.param(0.0, marks=pytest.mark.slow),
    3.0,
    pytest.param(40.0, marks=pytest.mark.slow),
]


@dataclass(frozen=True)
class Day:
    """Three periods of a random case, and who serves them by enumeration."""

    schedule: Schedule
    tiers: tuple[Tiers, ...]
    known: tuple[tuple[Candidate, ...], ...]


def offers_of(random: np.random.Generator, usd: float, reserved: bool) -> tuple[Offer, ...]:
    """Returns GPUs by the hour at one or two prices and, where wanted, some to reserve."""
    offers = [Offer(2.0, usd), Offer(1.0, 1.4 * usd)]
    if reserved:
        offers = [Offer(2.0, float(random.uniform(0.3, 0.9)) * usd, "reserved"), *offers[:1]]
        offers[1] = Offer(1.0, usd)
    return tuple(sorted(offers, key=lambda offer: offer.usd_per_h))


def at_rates(joined: Joined, factor: float) -> Joined:
    workload = joined.workload
    rates = workload.rate_rps * factor
    return replace(joined, workload=replace(workload, rate_rps=rates, mean_rate_rps=rates))


@cache
def day(seed: int, change_usd: float, reserved: bool, repeats: bool = True) -> Day | None:
    """Returns a random day, None where a period cannot be served on the grid of shares."""
    joined, random = random_joined(seed, stock=STOCK), np.random.default_rng(seed + 1000)
    space = joined.space
    usd = [space.offers[gpu][0].usd_per_h for gpu in ("g0", "g1")]
    offers = {f"g{p}": offers_of(random, usd[p], reserved) for p in range(2)}
    space = replace(space, offers=offers)
    floor = joined.workload.quality_at_least or 0.0
    known, tiers = [], []
    for factor in FACTORS:
        now = at_rates(joined, factor)
        serves = [n for n in deployments(space) if best_quality_on_grid(now, n) >= floor]
        known.append(tuple(Candidate(n, 0.0) for n in serves))
        read = read_tiers(now.workload, now.tables, space, HEADROOM_RATIO, "optimistic", 8)
        tiers.append(halved(read))
    schedule = Schedule(HOURS, repeats, space, np.full(2, change_usd))
    return Day(schedule, tuple(tiers), tuple(known)) if all(known) else None


def hourly_usd(offers: tuple[Offer, ...], n_gpus: float) -> float:
    """What GPUs by the hour cost, cheapest first, written once more."""
    total = 0.0
    for offer in offers:
        if offer.kind != "reserved":
            taken = min(max(n_gpus, 0.0), offer.count)
            total, n_gpus = total + taken * offer.usd_per_h, n_gpus - taken
    return np.inf if n_gpus > 1e-9 else total


def least_usd(made: Day) -> float:
    """The money of the best path of all, every path and every reserve tried."""
    schedule, best = made.schedule, np.inf
    offers = [schedule.space.offers["g0"], schedule.space.offers["g1"]]
    kept = [sum(o.count for o in each if o.kind == "reserved") for each in offers]
    price = [next((o.usd_per_h for o in each if o.kind == "reserved"), 0.0) for each in offers]
    for reserve in itertools.product(*(range(int(n) + 1) for n in kept)):
        fixed = HOURS.sum() * float(np.dot(reserve, price))
        own = [
            [
                hours * sum(hourly_usd(offers[p], c.replicas[p] - reserve[p]) for p in range(2))
                for c in each
            ]
            for hours, each in zip(HOURS, made.known, strict=True)
        ]
        for path in itertools.product(*(range(len(each)) for each in made.known)):
            n = [made.known[t][k].replicas for t, k in enumerate(path)]
            moves = [(0, 1), (1, 2)] + ([(2, 0)] if schedule.repeats else [])
            moved = sum(int(np.abs(n[a] - n[b]).sum()) for a, b in moves)
            usd = fixed + sum(own[t][k] for t, k in enumerate(path))
            best = min(best, usd + schedule.change_usd[0] * moved)
    return float(best)


def bound_usd(made: Day, prices: Prices) -> float:
    answers = [
        best_of_period(made.schedule, t, tiers, prices) for t, tiers in enumerate(made.tiers)
    ]
    return at_least_usd(made.schedule, prices, answers)


def days(change_usd: float, reserved: bool, repeats: bool = True) -> list[Day]:
    found = [day(seed, change_usd, reserved, repeats) for seed in SEEDS]
    return [made for made in found if made is not None][:3]


@pytest.mark.parametrize("reserved", [False, True])
@pytest.mark.parametrize("change_usd", CHANGES)
def test_no_path_is_cheaper_than_the_path_found(change_usd: float, reserved: bool) -> None:
    for made in days(change_usd, reserved):
        path = cheapest_path(made.schedule, made.known)
        assert path.usd == pytest.approx(least_usd(made), rel=1e-9)
        chosen = [each[k] for each, k in zip(made.known, path.chosen, strict=True)]
        total = bill(made.schedule, chosen, path.reserved)
        assert total is not None
        assert total.usd == pytest.approx(path.usd, rel=1e-12)


def test_a_day_that_does_not_repeat_starts_and_ends_for_nothing() -> None:
    for made in days(3.0, False, repeats=False):
        path = cheapest_path(made.schedule, made.known)
        assert path.usd == pytest.approx(least_usd(made), rel=1e-9)


def test_a_day_that_does_not_repeat_has_prices_that_prove_more_than_free_ones() -> None:
    n_more = 0
    for made in days(3.0, False, repeats=False):
        prices = prices_of(made.schedule, made.known)
        assert prices is not None
        found = bound_usd(made, prices)
        assert found <= least_usd(made) * (1 + 1e-9)
        n_more += found > 1.001 * bound_usd(made, free_prices(made.schedule))
    assert n_more >= 1


def test_one_period_is_its_own_neighbour() -> None:
    made = days(3.0, False)[0]
    alone = replace(made.schedule, hours=HOURS[:1])
    prices = prices_of(alone, made.known[:1])
    assert prices is not None
    assert not prices.replica_usd.any()
    assert len(cheapest_path(alone, made.known[:1]).chosen) == 1


@pytest.mark.parametrize("reserved", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("change_usd", CHANGES)
def test_no_path_costs_less_than_the_bound_at_its_best_prices(
    change_usd: float, reserved: bool
) -> None:
    """And where the tiers of single periods are the truth, it is the cheapest path itself."""
    n_exact = 0
    for made, alone in zip(days(change_usd, reserved), days(0.0, False), strict=True):
        prices = prices_of(made.schedule, made.known)
        assert prices is not None
        least = least_usd(made)
        found = bound_usd(made, prices)
        assert found <= least * (1 + 1e-9)
        if bound_usd(alone, free_prices(alone.schedule)) > 0.999 * least_usd(alone):
            n_exact += 1
            assert found > 0.999 * least
    assert n_exact >= 2


def test_no_path_costs_less_than_the_bound_at_any_prices() -> None:
    """The proof does not ask where prices come from."""
    made = days(3.0, True)[0]
    least, random = least_usd(made), np.random.default_rng(5)
    free = free_prices(made.schedule)
    for _ in range(3):
        u = random.uniform(-3.0, 3.0, (3, 2))
        reserved = {gpu: usd * random.uniform(0.0, 2.0) for gpu, usd in free.reserved_usd.items()}
        found = bound_usd(made, Prices(u - np.roll(u, -1, axis=0), reserved))
        assert found <= least * (1 + 1e-9)


def test_free_changes_leave_every_period_to_itself() -> None:
    for made in days(0.0, False):
        path = cheapest_path(made.schedule, made.known)
        for each, k, hours in zip(made.known, path.chosen, HOURS, strict=True):
            usd = [float(made.schedule.space.cost_usd_per_h(c.replicas)) * hours for c in each]
            assert usd[k] == pytest.approx(min(usd), rel=1e-9)
        assert bound_usd(made, free_prices(made.schedule)) <= path.usd * (1 + 1e-9)


def test_dear_changes_hold_one_deployment() -> None:
    for made in days(1000.0, False):
        path = cheapest_path(made.schedule, made.known)
        chosen = {tuple(each[k].replicas) for each, k in zip(made.known, path.chosen, strict=True)}
        assert len(chosen) == 1


def test_what_cannot_be_rented_has_no_bill() -> None:
    made = days(0.0, False)[0]
    too_many = Candidate(np.array([4, 0]), 0.0)
    assert bill(made.schedule, [too_many] * 3, {}) is None
    assert bill(made.schedule, [made.known[0][0]] * 3, {"g0": 1.0}) is None  # none to reserve


def test_hosted_money_counts_by_the_hour() -> None:
    made = days(0.0, False)[0]
    path = [replace(each[0], hosted_usd_per_h=2.0) for each in made.known]
    total = bill(made.schedule, path, {})
    assert total is not None
    assert total.hosted_usd == pytest.approx(48.0)
