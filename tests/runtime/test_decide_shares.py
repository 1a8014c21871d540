"""Where requests go by the plan's shares, by name, by hour, and in shadow mode."""

from collections import Counter
from dataclasses import replace
from itertools import accumulate

import pytest
from plan_cases import FALLBACK, MODEL_OF, RATES, REPLICAS, SHARES, Site, routes, setup, weighted

from planner.spec.plan import PeriodRoutes

WINDOW = 1000
WITHIN = 0.002


def pools_of(site: Site, n: int, model: str = "rb/auto", **headers: object) -> list[str]:
    """The pools of so many requests."""
    return [site.ask(model, **headers).pool for _ in range(n)]


def worst_window(pools: list[str], shares: dict[str, float]) -> float:
    """How far the share of any pool is off in any window of 1,000 requests."""
    worst = 0.0
    for pool, share in shares.items():
        sent = [0, *accumulate(each == pool for each in pools)]
        windows = zip(sent, sent[WINDOW:], strict=False)
        worst = max(worst, *(abs((b - a) / WINDOW - share) for a, b in windows))
    return worst


def mixed_shares() -> dict[str, float]:
    """The shares of all traffic: those of the classes by their rates."""
    total, mixed = sum(RATES.values()), Counter()
    for name, shares in SHARES.items():
        for pool, share in shares.items():
            mixed[pool] += RATES[name] / total * share
    return dict(mixed)


@pytest.mark.parametrize(
    ("headers", "shares"),
    [({"rb_class": "chat"}, SHARES["chat"]), ({}, mixed_shares())],
    ids=["of a class", "of nobody knows which class"],
)
def test_any_window_of_a_thousand_requests_meets_the_shares(headers, shares):
    assert worst_window(pools_of(Site(setup()), 2500, **headers), shares) < WITHIN


def test_classes_take_turns_of_their_own():
    site = Site(setup())
    order = [site.ask(rb_class=name).pool for _ in range(1500) for name in ("chat", "math")]
    assert worst_window(order[::2], SHARES["chat"]) < WITHIN
    assert worst_window(order[1::2], SHARES["math"]) < WITHIN


def test_a_class_that_the_plan_does_not_know_is_unknown():
    site = Site(setup())
    served = site.ask(rb_class="poems")
    assert served.class_name is None
    assert Counter(pools_of(site, 999, rb_class="poems"))["72b-a100"] == pytest.approx(187, abs=2)


def test_without_a_sheet_classes_weigh_the_same():
    site = Site(setup(known=None))
    pools = Counter(pools_of(site, 1000))
    assert pools["72b-a100"] == pytest.approx(375, abs=2)
    assert pools["3b-a30"] == pytest.approx(276.6, abs=2)


def test_a_class_is_declared_by_header_or_by_name():
    site = Site(setup())
    assert site.ask("rb/math").class_name == "math"
    assert site.ask("rb/auto", rb_class="math").class_name == "math"
    assert site.ask("rb/math", rb_class="chat").class_name == "chat"
    assert site.ask("qwen-7b", rb_class="math").class_name == "math"
    assert site.ask("rb/auto").class_name is None
    assert {each.model_name for each in site.served} <= set(MODEL_OF.values())


def test_the_only_class_needs_no_name():
    site = Site(setup(routes({"chat": SHARES["chat"]})))
    assert site.ask().class_name == "chat"


def test_a_model_has_its_pools_in_turn_and_a_pool_is_itself():
    of = routes({"chat": {"3b-a30": 0.5, "7b-a30": 0.5}})
    site = Site(setup(of, known=None))  # by model: pools in turn by their number of servers
    assert set(pools_of(site, 20, "qwen-7b")) == {"7b-a30"}
    assert set(pools_of(site, 20, "14b-v100")) == {"14b-v100"}


def test_pools_of_one_model_share_by_their_planned_rates():
    plain = setup()
    known = plain.sheet
    assert known is not None
    pools = {
        name: pool.model_copy(update={"model_name": "one" if "b-a30" in name else pool.model_name})
        for name, pool in known.pools.items()
    }
    site = Site(setup(known=known.model_copy(update={"pools": pools})))
    assert Counter(pools_of(site, 80, "one")) == {"3b-a30": 30, "7b-a30": 50}
    site.take_down("7b-a30")
    assert set(pools_of(site, 20, "one")) == {"3b-a30"}
    assert site.dispatcher.next_instance(site.begin("7b-a30"), site.now_s) is not None  # panic


@pytest.mark.parametrize("name", ["gpt-9", "rb/poems", "rb/", "auto", "RB/auto"])
def test_a_name_that_does_not_exist(name):
    site = Site(setup())
    refusal = site.refused(name)
    assert (refusal.status, refusal.code) == (404, "model_not_found")
    assert name in refusal.message
    (served,) = site.served
    assert (served.outcome, served.why, served.status) == ("refused", "model_not_found", 404)
    assert served.pool is None


def test_the_names_that_a_client_may_ask_for():
    names = Site(setup()).dispatcher.model_names()
    assert names[:3] == ("rb/auto", "rb/chat", "rb/math")
    assert set(names[3:]) == {*REPLICAS, *MODEL_OF.values()}


class TestPeriods:
    """A plan with a night and a day."""

    def of(self):
        spans = ((0.0, 8.0, {"7b-a30": 1.0}), (8.0, 24.0, {"3b-a30": 0.5, "72b-a100": 0.5}))
        periods = [
            PeriodRoutes(
                name=f"p{k}",
                start_h=start,
                end_h=end,
                classes={"chat": weighted(shares)},
                load_prices={},
                fallback={"chat": tuple(shares)},
            )
            for k, (start, end, shares) in enumerate(spans)
        ]
        return setup(routes({"chat": {"3b-a30": 1.0}}, periods=tuple(periods)))

    def test_the_hour_decides(self):
        hour = 3.0
        site = Site(self.of(), hours=lambda: hour)
        assert set(pools_of(site, 10)) == {"7b-a30"}
        hour = 24.0 * 5 + 9.0  # Saturday, at nine
        assert set(pools_of(site, 10)) == {"7b-a30"}  # it is looked at once a second
        site.now_s += 1.0
        assert Counter(pools_of(site, 10)) == {"3b-a30": 5, "72b-a100": 5}
        hour = 24.0 * 6
        site.now_s += 1.0
        assert set(pools_of(site, 10)) == {"7b-a30"}

    def test_a_class_without_routes_at_that_hour_goes_with_all_others(self):
        of = self.of()
        both = of.routes.model_copy(
            update={"classes": {**of.routes.classes, "math": weighted({"72b-a100": 1.0})}}
        )
        site = Site(replace(of, routes=both), hours=lambda: 3.0)
        assert site.ask(rb_class="math").pool == "7b-a30"

    def test_somebody_must_tell_the_hour(self):
        with pytest.raises(ValueError, match="hour"):
            Site(self.of())


class TestShadow:
    """Decides, and lets requests go where they would have gone without a plan."""

    def test_auto_goes_to_the_first_pool_in_turn(self):
        site = Site(setup(shadow=True))
        served = [site.ask(rb_class="chat") for _ in range(300)]
        assert {each.pool for each in served} == {FALLBACK["chat"][0]}
        assert set(Counter(each.instance for each in served).values()) == {100}
        decided = Counter(each.decided_pool for each in served)
        assert decided["7b-a30"] == pytest.approx(93, abs=1)

    def test_in_turn_whatever_they_have_to_do(self):
        site = Site(setup(shadow=True))
        tickets = [site.begin(rb_class="chat") for _ in range(4)]
        first, second, third = (
            site.dispatcher.next_instance(ticket, site.now_s) for ticket in tickets[:3]
        )
        assert len({first.index, second.index, third.index}) == 3
        site.end(tickets[1])
        assert site.dispatcher.next_instance(tickets[3], site.now_s) is first

    def test_a_model_is_that_model_whatever_the_plan_says(self):
        site = Site(setup(shadow=True))
        served = [site.ask("qwen-7b", rb_class="math") for _ in range(40)]
        assert set(Counter(each.instance for each in served).values()) == {8}
        assert {each.model_name for each in served} == {"qwen-7b"}
        assert Counter(each.decided_pool for each in served) == {"72b-a100": 30, "14b-v100": 10}

    def test_without_it_nothing_is_noted(self):
        assert Site(setup()).ask().decided_pool is None
