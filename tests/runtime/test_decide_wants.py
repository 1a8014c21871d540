"""What a request asks for beside a class: less time, less money, more quality."""

import pytest
from plan_cases import QUALITY, Site, cascade, routes, setup

ONLY_SMALL = routes({"chat": {"3b-a30": 1.0}})


def pool(site: Site, **headers: object) -> str | None:
    return site.ask(rb_class="chat", **headers).pool


def test_a_turn_that_gives_what_is_wanted_is_kept():
    site = Site(setup(ONLY_SMALL))
    assert pool(site, rb_quality_at_least=0.4, rb_deadline_ms=60_000, rb_budget_usd=1) == "3b-a30"


@pytest.mark.parametrize(("floor", "taken"), [(0.45, "72b-a100"), (0.9, "72b-a100")])
def test_more_quality_than_the_turn_gives(floor, taken):
    """Where quality has a price only in the limits of a plan without any, the best is taken."""
    assert pool(Site(setup(ONLY_SMALL)), rb_quality_at_least=floor) == taken
    assert QUALITY[taken] == max(QUALITY.values())


def test_a_budget_is_kept_before_all_else():
    of = routes({"chat": {"72b-a100": 1.0}})
    dear_usd = 8.0 / 3600 * 0.15
    assert pool(Site(setup(of)), rb_budget_usd=2 * dear_usd) == "72b-a100"
    assert pool(Site(setup(of)), rb_budget_usd=dear_usd / 3) == "14b-v100"
    assert pool(Site(setup(of)), rb_budget_usd=0) == "3b-a30"  # the cheapest, as none is free


def test_a_deadline_that_the_turn_misses_goes_to_who_is_faster():
    plain = setup(ONLY_SMALL)
    assert plain.sheet is not None
    slow = plain.sheet.pools["3b-a30"]
    assert slow.steps is not None
    steps = slow.steps.model_copy(update={"decode_ms": (100.0, 140.0)})
    pools = {**plain.sheet.pools, "3b-a30": slow.model_copy(update={"steps": steps})}
    site = Site(setup(ONLY_SMALL, known=plain.sheet.model_copy(update={"pools": pools})))
    assert pool(site, rb_deadline_ms=60_000) == "3b-a30"
    assert pool(site, rb_deadline_ms=2000) == "72b-a100"


def test_the_error_band_counts():
    site = Site(setup(ONLY_SMALL))
    ticket = site.begin(rb_class="chat")
    delay = site.dispatcher.fleet.delay("3b-a30", ticket.ask, site.now_s)
    assert delay is not None
    band = site.begin(rb_class="chat", rb_deadline_ms=1.21 * delay.e2e_ms)  # it is 1.2
    assert band.pools[0] == "3b-a30"
    beyond = site.begin(rb_class="chat", rb_deadline_ms=1.19 * delay.e2e_ms)
    assert beyond.pools[0] != "3b-a30"


def test_where_nobody_has_what_is_wanted_the_nearest_is_taken():
    site = Site(setup(ONLY_SMALL))
    assert pool(site, rb_quality_at_least=1.0) == "72b-a100"


def test_a_class_uses_only_its_own_pools():
    site = Site(setup())
    assert site.ask(rb_class="math", rb_budget_usd=0).pool == "7b-a30"  # not 3b, which is cheaper


class TestCascades:
    """Small, then large: planned quality 0.7, the money and time of both."""

    OF = routes({"chat": {}}, {"chat": [cascade()]})

    def is_played(self, **wants: object) -> bool:
        return Site(setup(self.OF)).begin(rb_class="chat", **wants).is_buffered

    def test_its_quality_is_that_of_both(self):
        assert self.is_played(rb_quality_at_least=0.7)
        assert not self.is_played(rb_quality_at_least=0.71)

    def test_it_costs_both(self):
        both_usd = (0.3 + 8.0) / 3600 * (0.2 - 1e-4 * 92.5)  # of a prompt of 7.5 tokens
        assert self.is_played(rb_budget_usd=1.001 * both_usd)
        assert not self.is_played(rb_budget_usd=0.999 * both_usd)

    def test_it_takes_the_time_of_both(self):
        site = Site(setup(self.OF))
        ask, fleet = site.begin(rb_class="chat").ask, site.dispatcher.fleet
        times = [fleet.delay(pool, ask, site.now_s) for pool in ("3b-a30", "72b-a100")]
        both_ms = 1.2 * sum(time.e2e_ms for time in times)
        assert self.is_played(rb_deadline_ms=1.001 * both_ms)
        assert not self.is_played(rb_deadline_ms=0.999 * both_ms)


def test_priorities_are_the_class_s_but_for_those_who_say_theirs():
    site = Site(setup())
    assert site.begin(rb_class="math").ask.priority == 2
    assert site.begin(rb_class="chat").ask.priority == 1
    assert site.begin().ask.priority == 1
    assert site.begin(rb_class="math", rb_priority=0).ask.priority == 0


def test_without_a_sheet_nobody_knows_and_the_turn_stays():
    assert pool(Site(setup(ONLY_SMALL, known=None)), rb_quality_at_least=1.0) == "3b-a30"
