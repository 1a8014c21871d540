"""By the plan's prices and by RouteBalance's score, against every offer looked at."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import MODEL_OF, REPLICAS, USD_PER_H, Site, endpoints, routes, setup, sheet

from planner.runtime.ask import Ask, Size
from planner.runtime.reader import Reading
from planner.runtime.served import Usage
from planner.runtime.worth import Estimates, Worths
from planner.scheduling.delay import Delay
from planner.scheduling.fused import NO_WANTS, Offer, Prices, Wants, choose
from planner.spec.router import Router
from planner.spec.sheet import ServingSheet

POOLS = tuple(REPLICAS)


class Times:
    """Delays that are as they are."""

    def __init__(self, ms: dict[str, float | None]) -> None:
        self.ms, self.n_asked = ms, 0

    def delay(self, pool: str, ask: Ask, now_s: float) -> Delay | None:
        self.n_asked += 1
        ms = self.ms[pool]
        return None if ms is None else Delay(0.0, 0.1 * ms, 1.0, ms, 0.3 * ms)

    def is_up(self, pool: str, now_s: float) -> bool:
        return self.ms[pool] is not None


class Known:
    """Requests of the plan's mean size."""

    def size(self, ask: Ask, pool: str) -> Size:
        return Size(100.0, 100.0, 50.0)


def asked(**wants: float | None) -> Ask:
    nothing = {"deadline_ms": None, "quality_at_least": None, "budget_usd": None}
    return Ask(
        class_name="chat",
        priority=1,
        session=None,
        prompt_tokens=100.0,
        max_tokens=None,
        sizes=Known(),
        **{**nothing, **wants},
    )


ratios = st.floats(0, 1)


@given(
    quality=st.tuples(*[ratios] * 4),
    price=st.tuples(*[st.floats(0, 4)] * 4),
    ms=st.tuples(*[st.none() | st.floats(1, 1e4)] * 4),
    per_s=st.sampled_from([0.0, 0.01, 0.5]),
    wants=st.fixed_dictionaries(
        {
            "deadline_ms": st.none() | st.floats(1, 1e4),
            "quality_at_least": st.none() | ratios,
            "budget_usd": st.none() | st.floats(0, 1e-3),
        }
    )
    | st.just({}),
)
def test_the_best_pool_is_that_of_all_offers(quality, price, ms, per_s, wants):
    """Written out here from the plan's figures: work 0.2 replica-seconds everywhere."""
    worths = Worths(setup(known=sheet().model_copy(update={"delay_price_per_s": per_s})))
    prices = {MODEL_OF[pool]: p for pool, p in zip(POOLS, price, strict=True)}
    estimates = Estimates({MODEL_OF[p]: q for p, q in zip(POOLS, quality, strict=True)}, {})
    times, ask = Times(dict(zip(POOLS, ms, strict=True))), asked(**wants)
    found = worths.best(POOLS, ask, times, 0.0, estimates, prices)
    up = [k for k in range(4) if ms[k] is not None]
    if not up:
        assert found is None
        return
    offers = [
        Offer(
            instance=k,
            quality=quality[k],
            usd=USD_PER_H[POOLS[k]] / 3600 * 0.2,
            work=0.2,
            input_tokens=100.0,
            fresh_tokens=100.0,
            output_tokens=50.0,
            high_ratio=1.2,
            price=price[k],
        )
        for k in up
    ]
    delays = [Times({"x": ms[k]}).delay("x", ask, 0.0) for k in up]
    wanted = Wants(**wants) if any(v is not None for v in wants.values()) else NO_WANTS
    whose = choose(offers, delays, Prices(0.0, per_s, per_s), wanted)
    best = POOLS[up[whose]]
    if best != found:  # a tie: which comes first is then a matter of order
        value = {
            POOLS[k]: quality[k] - 0.2 * price[k] - per_s * 1e-3 * (d.e2e_ms + d.others_ms)
            for k, d in zip(up, delays, strict=True)
        }
        assert value[found] == pytest.approx(value[best], abs=1e-12)


def test_no_delay_is_predicted_that_cannot_matter():
    worths = Worths(setup())  # without limits time has no price
    times = Times(dict.fromkeys(POOLS, 100.0))
    assert worths.best(POOLS, asked(), times, 0.0) == "72b-a100"
    assert times.n_asked == 1


@given(st.floats(0, 500), st.floats(0, 500))
def test_work_follows_the_lengths(n_input, n_output):
    worths, ask = Worths(setup()), asked()
    work_s = worths.work_s(ask, "7b-a30", n_input, n_output)
    assert work_s == pytest.approx(max(0.2 + 1e-4 * (n_input - 100) + 2e-3 * (n_output - 50), 0))
    assert worths.work_s(replace(ask, class_name=None), "7b-a30", n_input, n_output) == work_s


def test_requests_of_a_provider_cost_their_tokens():
    plain = sheet()
    hosted = plain.pools["3b-a30"].model_copy(
        update={
            "usd_per_h": 0.0,
            "usd_per_million_input_tokens": 2.0,
            "usd_per_million_output_tokens": 10.0,
        }
    )
    pools = {**plain.pools, "3b-a30": hosted}
    worths = Worths(setup(known=plain.model_copy(update={"pools": pools})))
    offer = worths.offer(0, "3b-a30", asked(), None)
    assert offer is not None
    assert offer.usd == pytest.approx((100 * 2.0 + 50 * 10.0) / 1e6)
    own = worths.offer(0, "7b-a30", asked(), None)
    assert own is not None
    assert own.usd == pytest.approx(0.5 / 3600 * 0.2)


class Oracle:
    """A reader of prompts that always says the same."""

    def __init__(self, quality: dict[str, float], tokens: dict[str, float]) -> None:
        self._reading = Reading("chat", Estimates(quality, tokens))

    def read(self, call: object, headers: object, declared: object) -> Reading:
        return self._reading


def by_prices(
    model_prices: dict[str, float],
    quality: dict[str, float],
    known: ServingSheet | str = "plan",
    **options: object,
) -> Site:
    """A site whose router says of every prompt what each model is worth."""
    router = object.__new__(Router)  # all that is asked of it before the first request
    object.__setattr__(router, "class_names", ("chat", "math"))
    object.__setattr__(router, "model_names", tuple(quality))
    object.__setattr__(router, "rules", ())
    plain = setup(routes(model_prices=model_prices), known, route_by="prices", **options)
    site = Site(replace(plain, router=router))
    tokens = dict.fromkeys(quality, 50.0)
    site.dispatcher._chooser._reader = Oracle(quality, tokens)
    return site


QUALITIES = {"qwen-3b": 0.5, "qwen-7b": 0.55, "qwen-14b": 0.6, "qwen-72b": 0.9}


class TestPrices:
    def test_the_largest_quality_less_the_price_of_its_work(self):
        free = by_prices(dict.fromkeys(QUALITIES, 0.0), QUALITIES)
        assert free.ask().pool == "72b-a100"
        dear = by_prices({**dict.fromkeys(QUALITIES, 0.0), "qwen-72b": 3.0}, QUALITIES)
        assert dear.ask().pool == "14b-v100"
        assert dear.dispatcher.prices()["qwen-72b"] == pytest.approx(3.0, rel=0.05)

    @pytest.mark.parametrize("n_workers", [1, 4])
    def test_a_model_gets_no_more_than_its_cap(self, n_workers):
        """All prefer the large model; the plan gives it 2 x 0.7 replica-seconds per second.

        Of four workers each sees a quarter of the requests, and has a quarter to give.
        """
        site = by_prices(dict.fromkeys(QUALITIES, 0.0), QUALITIES, n_workers=n_workers)
        work_s, n = 0.0, 2000 // n_workers
        for k in range(2 * n):
            site.now_s += 0.06 * n_workers
            served = site.ask()
            if served.pool == "72b-a100" and k >= n:
                work_s += site.dispatcher._chooser.worths.work_s(asked(), "72b-a100", 10.0, 20.0)
        assert work_s / (2000 * 0.06) == pytest.approx(1.4 / n_workers, rel=0.08)
        assert site.dispatcher.prices()["qwen-72b"] > 0.5
        assert len(Counter(each.pool for each in site.served)) >= 2

    def test_what_was_charged_is_corrected_to_what_came(self):
        site = by_prices(dict.fromkeys(QUALITIES, 1.0), QUALITIES)
        seen: list[tuple[str, float, float]] = []
        prices = site.dispatcher._prices
        assert prices is not None
        prices.ended = lambda *told: seen.append(told)
        ticket = site.begin()
        instance = site.dispatcher.next_instance(ticket, site.now_s)
        site.dispatcher.failed_try(ticket, instance, site.now_s, "connect")
        assert seen.pop()[2] == 0.0
        assert prices._charges == []  # taken in, though no answer has begun
        site.dispatcher.next_instance(ticket, site.now_s)
        site.end(ticket, Usage(100, 100))
        assert seen.pop()[2] == pytest.approx(0.3)
        ticket = site.begin()
        site.dispatcher.next_instance(ticket, site.now_s)
        site.dispatcher.ended(ticket, site.now_s, "cancelled", "client left", None, 499)
        assert seen == []  # what a cut answer took nobody knows: it stays at what was predicted

    def test_prices_stay_where_they_are_as_long_as_the_plan_does(self):
        site = by_prices(dict.fromkeys(QUALITIES, 0.0), QUALITIES)
        for _ in range(300):
            site.now_s += 0.001
            site.ask()
        moved, of = site.dispatcher.prices(), site.dispatcher.setup
        assert max(moved.values()) > 0.0
        site.dispatcher.renew(replace(of, endpoints=endpoints({**REPLICAS, "3b-a30": 9})), 1e3)
        assert site.dispatcher.prices() == moved
        other = of.routes.model_copy(update={"model_prices": dict.fromkeys(QUALITIES, 0.1)})
        site.dispatcher.renew(replace(of, routes=other), 1e3)
        assert site.dispatcher.prices() == dict.fromkeys(QUALITIES, 0.1)

    def test_who_is_down_is_not_chosen(self):
        site = by_prices(dict.fromkeys(QUALITIES, 0.0), QUALITIES)
        site.take_down("72b-a100")
        assert site.ask().pool == "14b-v100"

    def test_a_model_is_known_by_its_name_in_the_scores(self):
        """Prices and router name models as the scores do; the pools serve a build of each."""
        plain = sheet()
        pools = {
            pool: each.model_copy(
                update={"scores_model_name": MODEL_OF[pool], "model_name": MODEL_OF[pool] + "-fp8"}
            )
            for pool, each in plain.pools.items()
        }
        known = plain.model_copy(update={"pools": pools})
        site = by_prices({**dict.fromkeys(QUALITIES, 0.0), "qwen-72b": 3.0}, QUALITIES, known)
        served = site.ask()
        assert (served.pool, served.model_name) == ("14b-v100", "qwen-14b-fp8")
        assert served.n_output == 20
        for _ in range(300):
            site.now_s += 0.001
            assert site.ask("qwen-7b-fp8").pool == "7b-a30"
        assert site.dispatcher.prices()["qwen-7b"] > 0.0  # it was charged

    def test_a_pool_that_nobody_knows_how_fast_it_is_is_taken_all_the_same(self):
        plain = sheet()
        unknown = plain.pools["72b-a100"].model_copy(
            update={"steps": None, "max_num_seqs": None, "max_num_batched_tokens": None}
        )
        known = plain.model_copy(update={"pools": {**plain.pools, "72b-a100": unknown}})
        site = by_prices(dict.fromkeys(QUALITIES, 0.0), QUALITIES, known)
        assert site.ask().pool == "72b-a100"
        assert site.ask(rb_deadline_ms=5000).pool == "72b-a100"
        site.take_down("72b-a100")
        assert site.ask().pool == "14b-v100"

    def test_in_shadow_mode_prices_follow_what_was_decided(self):
        site = by_prices(dict.fromkeys(QUALITIES, 0.0), QUALITIES, shadow=True)
        seen: list[tuple[str, float]] = []
        site.dispatcher._prices.sent = lambda pool, work_s, now_s: seen.append((pool, work_s))
        served = site.ask("qwen-3b")
        assert (served.pool, served.decided_pool) == ("3b-a30", "72b-a100")
        assert [pool for pool, _ in seen] == ["72b-a100"]

    def test_a_charge_is_corrected_where_it_was_made(self):
        site = by_prices(dict.fromkeys(QUALITIES, 0.0), QUALITIES)
        ticket = site.begin()
        site.dispatcher.next_instance(ticket, site.now_s)
        old, of = site.dispatcher._prices, site.dispatcher.setup
        other = of.routes.model_copy(update={"model_prices": dict.fromkeys(QUALITIES, 0.1)})
        site.dispatcher.renew(replace(of, routes=other), site.now_s)
        seen: list[tuple[object, ...]] = []
        old.ended = lambda *told: seen.append(told)
        site.end(ticket, Usage(100, 100))
        ((pool, _, realised_s),) = seen
        assert (pool, realised_s) == ("72b-a100", pytest.approx(0.3))
        assert site.dispatcher.prices() == dict.fromkeys(QUALITIES, 0.1)


class TestRouteBalance:
    def test_each_preset_has_its_way(self):
        pools = {}
        for preset in ("quality", "cost"):
            site = Site(setup(route_by=f"routebalance:{preset}"))
            pools[preset] = site.ask(rb_class="chat").pool
        # cost: .1 x .25 for quality and .8 (1 - .5 / 8) for money; 3B: 0 and .8 (1 - .3 / 8)
        assert pools == {"quality": "72b-a100", "cost": "7b-a30"}

    def test_retries_go_to_the_next_best(self):
        site = Site(setup(route_by="routebalance:quality", max_tries=4))
        ticket = site.begin(rb_class="chat")
        order = []
        for _ in range(3):
            instance = site.dispatcher.next_instance(ticket, site.now_s)
            order.append(instance.pool)
            site.dispatcher.failed_try(ticket, instance, site.now_s, "connect")
        assert order[:2] == ["72b-a100", "72b-a100"]
        assert order[2] != "72b-a100"

    def test_a_model_s_name_is_kept(self):
        site = Site(setup(route_by="routebalance:quality"))
        assert site.ask("qwen-7b").pool == "7b-a30"
