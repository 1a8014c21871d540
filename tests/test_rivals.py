"""The deployments that were not chosen, against every deployment of a small box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changed_questions import Answered, able
from made_cases import GPU, objectives_of, small, unlimited

from planner.reasons.asked import deployment_of
from planner.reasons.rivals import (
    Others,
    how_long,
    rival_and_refused,
    rival_sentences,
    stays_sentences,
)
from planner.settle import Settled, settle
from planner.spec.reasons import Stays

B200 = "b200-sxm-180g"
TWO_KINDS = {
    "stock": {GPU: 8, B200: 4},
    "pools": ["llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4", "llama-3.1-70b-b200-tp2"],
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    """Two kinds of GPU, every deployment looked at."""
    return Answered(tmp_path_factory.mktemp("mixed"), unlimited(**TWO_KINDS))


@pytest.fixture(scope="module")
def others(mixed: Answered) -> Others:
    return Others(mixed.asked, mixed.explored, mixed.chosen, "standard")


@pytest.fixture(scope="module")
def plans(mixed: Answered) -> list[Settled]:
    return able(mixed.objectives)


@pytest.fixture(scope="module")
def stays(mixed: Answered, others: Others) -> dict[str, Stays]:
    return {each.what: each for each in how_long(others, mixed.bound)}


def test_the_rival_is_the_second_cheapest_of_all(
    mixed: Answered, others: Others, plans: list[Settled]
) -> None:
    rival, refused = rival_and_refused(others)
    left = [s for s in plans if not np.array_equal(s.replicas, mixed.chosen.replicas)]
    second = min(s.cost_usd_per_h for s in left)
    assert rival is not None
    assert rival.cost_usd_per_h == pytest.approx(second, abs=1e-3)
    dearer = second - mixed.chosen.cost_usd_per_h
    assert rival.lost.startswith(f"dearer by {dearer:.2f} $/h")
    if refused is not None:
        settled = next(
            s for s in others._settled.values() if deployment(mixed, s) == refused.deployment
        )
        assert settled.cost_usd_per_h < mixed.chosen.cost_usd_per_h
        assert refused.lost in settled.score.problems


def deployment(answered: Answered, settled: Settled) -> dict[str, int]:
    return deployment_of(answered.objectives.case, settled.replicas)


def test_what_is_cheaper_and_misses_a_floor_is_refused_for_it(tmp_path: Path) -> None:
    answered = Answered(tmp_path, unlimited(quality_at_least=0.69))
    _, refused = rival_and_refused(
        Others(answered.asked, answered.explored, answered.chosen, "standard")
    )
    assert refused is not None
    # The 8b alone scores 0.675: cheaper, and a hundredth and a half short.
    assert set(refused.deployment) == {"llama-3.1-8b-h100"}
    assert refused.cost_usd_per_h < answered.chosen.cost_usd_per_h
    assert "floor" in refused.lost
    (said,) = rival_sentences(None, refused)
    assert said.startswith("refused: ")
    assert said.endswith(refused.lost)


@pytest.mark.parametrize("gpu", [GPU, B200])
def test_the_plan_is_the_cheapest_within_its_price_range_and_not_beyond(
    mixed: Answered, plans: list[Settled], stays: dict[str, Stays], gpu: str
) -> None:
    each, space = stays[f"price of {gpu}"], mixed.objectives.case.space

    def best_at(usd: float) -> float:
        offers = {**space.offers, gpu: (replace(space.offers[gpu][0], usd_per_h=usd),)}
        priced = replace(space, offers=offers)
        mine = float(priced.cost_usd_per_h(mixed.chosen.replicas))
        return mine - min(float(priced.cost_usd_per_h(s.replicas)) for s in plans)

    low = 0.0 if each.low is None else each.low
    high = 4.0 * each.now if each.high is None else each.high
    assert low < each.now < high
    assert all(best_at(usd) <= 1e-3 for usd in np.linspace(low, high, 9))
    if each.low is not None:
        assert best_at(0.97 * each.low) > 1e-3
    if each.high is not None:
        assert best_at(1.03 * each.high) > 1e-3


def test_both_ends_of_some_range_are_proved(stays: dict[str, Stays]) -> None:
    prices = [each for what, each in stays.items() if what.startswith("price")]
    assert any(p.proved_low is not None or p.proved_high is not None for p in prices)


@pytest.mark.slow
def test_nothing_is_proved_of_a_plan_that_is_not(mixed: Answered, others: Others) -> None:
    fresh = replace(others, _proved={})
    for each in how_long(fresh, None):
        if each.unit != "rate_factor":
            assert (each.proved_low, each.proved_high) == (None, None)


def scaled(factor: float, **changes: Any) -> dict[str, Any]:
    question = unlimited(**{**TWO_KINDS, **changes})
    for cls in question["classes"]:
        cls["rate_rps"] *= factor
    return question


def test_the_deployment_carries_the_traffic_that_is_said_and_no_more(
    mixed: Answered, stays: dict[str, Stays], tmp_path: Path
) -> None:
    most = stays["traffic"].high
    assert most is not None
    assert most >= 1.0
    for factor, works in ((0.998 * most, True), (1.01 * most, False)):
        objectives = objectives_of(tmp_path / f"{factor}", scaled(factor))
        assert settle(objectives, mixed.chosen.replicas).acceptable == works


@pytest.mark.slow
def test_something_cheaper_does_below_the_traffic_that_is_said_and_not_above(
    mixed: Answered, stays: dict[str, Stays], tmp_path: Path
) -> None:
    each = stays["traffic"]
    assert each.low is not None
    assert each.below
    cost = mixed.chosen.cost_usd_per_h
    less = able(objectives_of(tmp_path / "less", scaled(0.995 * each.low)))
    assert min(s.cost_usd_per_h for s in less) < cost - 1e-3
    more = able(objectives_of(tmp_path / "more", scaled(min(1.0, 1.01 * each.low))))
    assert min(s.cost_usd_per_h for s in more) >= cost - 1e-3
    if each.proved_low is not None:
        assert each.low <= each.proved_low <= 1.0


@pytest.mark.slow
def test_one_kind_of_gpu_has_no_price_range(tmp_path: Path) -> None:
    answered = Answered(tmp_path, small(), "quick")
    found = how_long(Others(answered.asked, answered.explored, answered.chosen, "quick"), None)
    assert [each.what for each in found] == ["traffic"]


def test_sentences_about_ranges() -> None:
    price = Stays(
        what="price of b200", unit="usd_per_gpu_h", now=5.5, low=5.1625, high=7.375, proved_low=5.1
    )
    anything = Stays(what="price of h100", unit="usd_per_gpu_h", now=3.0, low=None, high=None)
    traffic = Stays(
        what="traffic", unit="rate_factor", now=1.0, low=0.97, high=1.015, proved_low=0.98
    )
    assert list(stays_sentences([price, anything, traffic])) == [
        "stays the cheapest with one b200 from 5.16 to 7.38 $/h, 5.50 now (proved downwards)",
        "stays the cheapest with one h100 at any price up to 12.00 $/h, 3.00 now "
        "(as far as was looked)",
        "carries up to 1.015 times this traffic within every limit and its headroom; at 0.970 "
        "times something cheaper would do, proved not above 0.980",
    ]


def test_a_range_holds_what_is_now() -> None:
    with pytest.raises(ValueError, match="low <= now <= high"):
        Stays(what="traffic", unit="rate_factor", now=1.0, low=1.2, high=None)
