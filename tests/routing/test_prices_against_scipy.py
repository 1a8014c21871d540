"""All prompts of a deployment by prices, against one large linear program by another solver."""

from __future__ import annotations

import numpy as np
import pytest
from prompt_cases import PromptCase, by_linprog, random_case

import planner.routing.prices as engine
from planner.routing import policies
from planner.routing.policies import ColumnPool
from planner.routing.prices import Curves, Priced, route_all, route_sweep

N_FAST, N_ALL = 60, 500


def in_units_of_gain(case: PromptCase, difference: float) -> float:
    return abs(difference) / case.prompts().gain_unit


def proved(case: PromptCase, found: Priced, of_gain: float) -> float:
    """Returns the bound at the prices that were found, worked out from the case alone."""
    c, deployed = case.curves, np.isin(np.arange(found.prices.size), case.curves.option)
    price = np.where(deployed, found.prices, 0.0)
    net = of_gain * case.gain + found.floor_price * case.quality - price * case.work
    net = np.where(case.allowed & deployed, net, -np.inf).max(axis=1)
    segments = price[c.option] - found.limit_prices @ c.slope
    at_floor = 0.0 if case.floor is None else found.floor_price * case.floor
    value = case.weight @ net / case.weight.sum() + found.limit_prices @ c.limit - at_floor
    return float(value + c.width @ np.maximum(segments, 0.0))


def assert_kept(case: PromptCase, found: Priced) -> None:
    """The shares keep every row: they sum to 1, their loads are carried within the limits."""
    shares, p, c = found.shares(), case.weight / case.weight.sum(), case.curves
    assert shares.sum(axis=1) == pytest.approx(np.ones(p.size))
    assert (shares[~case.allowed] == 0).all()
    load = p @ (shares * case.work)
    assert load == pytest.approx(found.load, rel=1e-9, abs=1e-12)
    assert p @ (shares * case.gain).sum(axis=1) == pytest.approx(found.value, rel=1e-9, abs=1e-12)
    if case.floor is not None:
        assert p @ (shares * case.quality).sum(axis=1) >= case.floor - 1e-7
    all_of_it = p @ case.work
    for m in range(load.size):  # in one option, segments fill by slope; with several limits no more
        mine = c.option == m
        assert load[m] <= c.width[mine].sum() + 1e-7 * all_of_it[m]
    if len(c.limit) == 1:
        flow = 0.0
        for m in range(load.size):
            mine = np.flatnonzero(c.option == m)
            order = mine[np.argsort(c.slope[0, mine])]
            before = np.cumsum(c.width[order]) - c.width[order]
            taken = np.clip(load[m] - before, 0.0, c.width[order])
            flow += float(taken @ c.slope[0, order])
        assert flow <= c.limit[0] * (1.0 + 1e-6)


def assert_exact(seed: int) -> str:
    """Checks one random case; returns its status."""
    case = random_case(seed)
    truth = by_linprog(case)
    found = route_all(case.prompts(), case.curves, case.floor)
    assert found.status == ("optimal" if truth.status == 0 else "infeasible"), seed
    if found.status == "infeasible":
        if found.n_rounds:  # Farkas: with these prices nothing balances
            assert proved(case, found, 0.0) < 0, seed
        else:  # a prompt has no deployed option
            deployed = np.isin(np.arange(case.quality.shape[1]), case.curves.option)
            assert not (case.allowed & deployed).any(axis=1).all(), seed
        return found.status
    assert in_units_of_gain(case, found.value + truth.fun) <= 1e-6, seed
    assert in_units_of_gain(case, found.bound - found.value) <= 1e-6, seed
    assert found.bound >= -truth.fun - 1e-8 * case.prompts().gain_unit, seed
    assert in_units_of_gain(case, proved(case, found, 1.0) - found.bound) <= 1e-6, seed
    assert_kept(case, found)
    return found.status


def test_value_bound_and_proofs() -> None:
    seen = [assert_exact(seed) for seed in range(N_FAST)]
    assert min(seen.count("optimal"), seen.count("infeasible")) > N_FAST // 5


@pytest.mark.slow
def test_value_bound_and_proofs_of_all() -> None:
    seen = [assert_exact(seed) for seed in range(N_FAST, N_ALL)]
    assert min(seen.count("optimal"), seen.count("infeasible")) > N_ALL // 5


@pytest.mark.parametrize("n_rounds", [1, 2, 4])
def test_the_gap_is_true_wherever_the_rounds_end(
    n_rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST_ROUNDS", n_rounds)
    open_gaps = 0
    for seed in range(40):
        case = random_case(seed)
        truth = by_linprog(case)
        found = route_all(case.prompts(), case.curves, case.floor)
        slack = 1e-7 * case.prompts().gain_unit
        if found.status == "infeasible":
            assert truth.status == 2, seed
        if truth.status == 0:
            assert found.value <= -truth.fun + slack, seed
            assert found.bound >= -truth.fun - slack, seed
            open_gaps += found.bound > found.value + 10 * slack
    assert open_gaps > 3


def test_a_shared_pool_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many deployments one after the other, as a search does; the pool forgets on the way."""
    monkeypatch.setattr(policies, "POOL_SIZE", 30)
    rng, case = np.random.default_rng(5), random_case(55)  # 48 prompts, 5 options, 2 limits, floor
    prompts = case.prompts()
    pool, seen = ColumnPool(prompts), []
    for _ in range(60):
        curves = case.curves
        some = rng.random(curves.option.size) < 0.8
        these = Curves(
            curves.option[some],
            curves.width[some] * rng.uniform(0.1, 1.5),
            curves.slope[:, some],
            curves.limit * rng.uniform(0.3, 2.0),
        )
        warm = route_all(prompts, these, case.floor, pool=pool)
        cold = route_all(prompts, these, case.floor)
        assert warm.status == cold.status
        seen.append(warm.status)
        if warm.feasible:
            assert warm.value == pytest.approx(cold.value, abs=1e-6 * prompts.gain_unit)
    assert {"optimal", "infeasible"} <= set(seen)


def test_a_sweep_over_limits_is_as_good_as_each_alone() -> None:
    n_seen = 0
    for seed in range(40):
        case = random_case(seed)
        if not case.curves.limit.size:
            continue
        prompts = case.prompts()
        limits = case.curves.limit * np.array([3.0, 1.0, 0.5, 0.2, 1.5])[:, None]
        for limit, found in zip(
            limits, route_sweep(prompts, case.curves, limits, case.floor), strict=True
        ):
            c = case.curves
            alone = route_all(prompts, Curves(c.option, c.width, c.slope, limit), case.floor)
            assert found.status == alone.status, seed
            n_seen += found.feasible
            if found.feasible:
                assert found.value == pytest.approx(alone.value, abs=1e-6 * prompts.gain_unit)
    assert n_seen > 20


def test_what_does_not_fit_is_refused() -> None:
    case = random_case(0)
    prompts, c = case.prompts(), case.curves
    with pytest.raises(ValueError, match="shapes"):
        route_all(prompts, Curves(c.option, c.width[:-1], c.slope, c.limit))
    with pytest.raises(ValueError, match="positive"):
        route_sweep(prompts, c, np.zeros((2, c.limit.size + 1)))
    with pytest.raises(ValueError, match="other prompts"):
        route_all(prompts, c, pool=ColumnPool(random_case(1).prompts()))
