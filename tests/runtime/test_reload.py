"""Another setup while requests are under way: judged first, then taken between two requests."""

from collections import Counter
from dataclasses import replace

import pytest
from fleets import servers
from plan_cases import MODEL_OF, REPLICAS, Site, cascade, endpoints, routes, setup, weighted

from planner.errors import InputError
from planner.runtime.served import Usage
from planner.runtime.setup import Options, Setup, setup_faults
from planner.spec.plan import PeriodRoutes
from planner.spec.router import Router

PLAIN = setup()
SMALL = routes({"chat": {"3b-a30": 1.0}})
MORE = {**REPLICAS, "3b-a30": 4}


class TestFaults:
    def faults(self, of: Setup) -> list[tuple[str, str, str]]:
        return [(each.file, each.field, each.what) for each in setup_faults(of)]

    def test_a_right_setup_has_none(self):
        assert setup_faults(PLAIN) == []
        assert setup_faults(setup(known=None)) == []
        assert setup_faults(setup(route_by="routebalance:latency")) == []

    def test_pools_and_endpoints_that_do_not_fit_together(self):
        known = endpoints()
        del known["72b-a100"]
        found = self.faults(replace(PLAIN, endpoints={**known, "nobody": servers(1)}))
        assert [fault[:2] for fault in found] == [
            ("endpoints.yaml", "72b-a100"),
            ("endpoints.yaml", "nobody"),
        ]
        assert "has no server" in found[0][2]
        assert "no pool and no model" in found[1][2]

    def test_a_model_s_name_will_do_where_it_has_one_pool(self):
        known = endpoints()
        known["qwen-72b"] = known.pop("72b-a100")
        of = replace(PLAIN, endpoints=known)
        assert setup_faults(of) == []
        assert of.servers()["72b-a100"] == known["qwen-72b"]

    def test_a_model_s_name_for_several_pools_says_too_little(self):
        models = {**MODEL_OF, "14b-v100": "qwen-72b"}
        known = endpoints()
        known["qwen-72b"] = known.pop("72b-a100")
        of = replace(PLAIN, endpoints=known, sheet=None, models=models)
        ((file, field, what),) = self.faults(of)
        assert (file, field) == ("endpoints.yaml", "qwen-72b")
        assert "14b-v100, 72b-a100" in what

    def test_a_sheet_of_another_plan(self):
        assert PLAIN.sheet is not None
        other = PLAIN.sheet.model_copy(update={"plan_hash": "ab" * 32})
        ((file, field, what),) = self.faults(replace(PLAIN, sheet=other))
        assert (file, field) == ("serving.json", "plan_hash")
        assert "abababababab" in what

    def test_cascades_that_cannot_be_played(self):
        entries = [cascade(signal=s, share=0.25) for s in ("length", "agreement", "answered", "x")]
        period = PeriodRoutes(
            name="day",
            start_h=0.0,
            end_h=24.0,
            classes={"chat": weighted({"3b-a30": 1.0})},
            cascades={"chat": (cascade(signal="agreement"),)},
            load_prices={},
            fallback={"chat": ("3b-a30",)},
        )
        of = setup(routes({"chat": {}}, {"chat": entries}, periods=(period,)))
        assert [fault[:2] for fault in self.faults(of)] == [
            ("routes.json", "cascades.chat[1].signal"),
            ("routes.json", "cascades.chat[2].signal"),
            ("routes.json", "cascades.chat[3].signal"),
            ("routes.json", "periods[0].cascades.chat[0].signal"),
        ]
        graded = replace(of, options=replace(of.options, answered_by="numeric"))
        assert len(setup_faults(graded)) == 3

    def test_shares_that_send_nothing_anywhere(self):
        nowhere = cascade()
        nowhere = nowhere.model_copy(update={"second": weighted({"72b-a100": 0.0})})
        of = setup(routes({"chat": {"3b-a30": 0.0}, "math": {}}, {"math": [nowhere]}))
        assert [fault[:2] for fault in self.faults(of)] == [
            ("routes.json", "classes.chat"),
            ("routes.json", "cascades.math[0].second"),
        ]
        empty = replace(PLAIN, routes=PLAIN.routes.model_copy(update={"classes": {}}))
        assert ("routes.json", "classes") in [fault[:2] for fault in self.faults(empty)]

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"policy": "best"}, "--policy"),
            ({"rank_policy": "best"}, "--rank-policy"),
            ({"max_tries": 0}, "--max-tries"),
            ({"route_by": "taste"}, "--route-by"),
            ({"route_by": "routebalance:taste"}, "--route-by"),
            ({"route_by": "shares:all"}, "--route-by"),
        ],
    )
    def test_options_that_do_not_exist(self, options, field):
        (fault,) = setup_faults(replace(PLAIN, options=Options(**options)))
        assert fault.file == field
        assert next(iter(str(each) for each in options.values())) in fault.what

    def test_prices_need_a_router_a_sheet_and_prices(self):
        found = self.faults(setup(known=None, route_by="prices"))
        assert [(file, field) for file, field, _ in found] == [
            ("--route-by", ""),
            ("--route-by", ""),
            ("routes.json", "model_prices"),
        ]

    def test_a_router_of_another_question(self):
        strange = object.__new__(Router)
        object.__setattr__(strange, "class_names", ("poems",))
        object.__setattr__(strange, "model_names", ("qwen-3b",))
        of = replace(PLAIN, router=strange)
        assert [fault[:2] for fault in self.faults(of)] == [("router.npz", "class_names")]
        by_score = replace(of, options=Options(route_by="routebalance:cost"))
        assert [fault[:2] for fault in self.faults(by_score)] == [
            ("router.npz", "class_names"),
            ("router.npz", "model_names"),
        ]

    def test_all_of_them_at_once(self):
        assert PLAIN.sheet is not None
        of = replace(
            setup(routes({"chat": {}}, {"chat": [cascade(signal="x")]}), policy="best"),
            endpoints={},
            sheet=PLAIN.sheet.model_copy(update={"plan_hash": "ab" * 32}),
        )
        with pytest.raises(InputError) as caught:
            Site(of)
        assert len(caught.value.faults) == 4 + 1 + 1 + 1


class TestReload:
    def test_a_broken_setup_changes_nothing(self):
        site = Site(PLAIN)
        before, names = site.begin(rb_class="chat"), site.dispatcher.model_names()
        with pytest.raises(InputError):
            site.dispatcher.renew(replace(setup(SMALL), endpoints={}), site.now_s)
        assert site.dispatcher.setup is PLAIN
        assert site.dispatcher.model_names() == names
        assert site.dispatcher.next_instance(before, site.now_s) is not None
        assert site.ask(rb_class="math").class_name == "math"

    def test_other_routes_hold_from_the_next_request(self):
        site = Site(PLAIN)
        assert "math" in "".join(site.dispatcher.model_names())
        site.dispatcher.renew(setup(SMALL), site.now_s)
        assert {site.ask().pool for _ in range(50)} == {"3b-a30"}
        assert "rb/math" not in site.dispatcher.model_names()
        assert site.ask(rb_class="math").class_name is None

    def test_what_is_under_way_ends_as_it_began(self):
        site = Site(PLAIN)
        tickets = [site.begin(rb_class="math") for _ in range(40)]
        for ticket in tickets:
            site.dispatcher.next_instance(ticket, site.now_s)
        assert site.n_in_flight() == 40
        site.dispatcher.renew(setup(SMALL), site.now_s)
        assert site.n_in_flight() == 40  # its servers stay
        for ticket in tickets:
            site.end(ticket)
        assert site.n_in_flight() == 0
        assert Counter(each.pool for each in site.served) == {"72b-a100": 30, "14b-v100": 10}
        assert {each.class_name for each in site.served} == {"math"}

    def test_requests_at_servers_that_go_end_silently(self):
        site = Site(setup(SMALL))
        tickets = [site.begin() for _ in range(9)]
        for ticket in tickets:
            site.dispatcher.next_instance(ticket, site.now_s)
        site.dispatcher.renew(setup(SMALL, replicas={**REPLICAS, "3b-a30": 1}), site.now_s)
        assert site.n_in_flight() == 3
        for ticket in tickets:
            site.end(ticket)
        assert site.n_in_flight() == 0
        assert len(site.served) == 9

    def test_health_and_load_of_servers_that_stay_are_kept(self):
        site = Site(setup(SMALL))
        tickets = [site.begin() for _ in range(30)]
        for ticket in tickets:
            site.dispatcher.next_instance(ticket, site.now_s)
        site.take_down("7b-a30")
        site.dispatcher.renew(setup(SMALL, replicas=MORE), site.now_s)
        assert not site.dispatcher.fleet.is_up("7b-a30", site.now_s)
        (new,) = {site.dispatcher.next_instance(site.begin(), site.now_s).name for _ in range(5)}
        assert new == "3b-a30/3"  # the others have ten each

    def test_what_was_learned_of_lengths_is_kept(self):
        site = Site(setup(SMALL))
        for _ in range(100):
            site.ask()
        before = site.begin().ask.size_at("3b-a30")
        site.dispatcher.renew(setup(SMALL, replicas=MORE), site.now_s)
        assert site.begin().ask.size_at("3b-a30") == before
        assert before.output_tokens < 30.0  # planned: 50

    def test_what_a_new_plan_knows_is_not_corrected_again(self):
        """Answers came twice as long as planned; the next plan was made with what came."""
        site = Site(setup(SMALL))
        for _ in range(400):
            ticket = site.begin(rb_class="chat")
            site.dispatcher.next_instance(ticket, site.now_s)
            site.end(ticket, Usage(20, 100))
        before = site.begin(rb_class="chat").ask.size_at("3b-a30")
        assert before.output_tokens == pytest.approx(100.0, rel=0.06)
        assert PLAIN.sheet is not None
        chat = PLAIN.sheet.classes["chat"]
        longer = {p: a.model_copy(update={"output_tokens": 100.0}) for p, a in chat.answers.items()}
        classes = {"chat": chat.model_copy(update={"answers": longer})}
        known = PLAIN.sheet.model_copy(update={"classes": classes})
        site.dispatcher.renew(setup(SMALL, known=known), site.now_s)
        after = site.begin(rb_class="chat").ask.size_at("3b-a30")
        assert after.output_tokens == 100.0
        assert after.input_tokens == before.input_tokens  # by characters: no plan says that

    @pytest.mark.parametrize(
        ("model", "pool"), [("rb/math", "3b-a30"), ("qwen-72b", None), ("72b-a100", None)]
    )
    def test_who_has_lost_all_pools_goes_by_the_new_plan(self, model, pool):
        """It began with the large model alone, which the next plan does not have."""
        fallback = {"math": ("72b-a100",)}
        old = routes({"math": {"72b-a100": 1.0}}).model_copy(update={"fallback": fallback})
        site = Site(replace(setup(old, known=None), endpoints={"72b-a100": servers(2)}))
        ticket = site.begin(model)
        first = site.dispatcher.next_instance(ticket, site.now_s)
        new = SMALL.model_copy(update={"fallback": {"chat": ("3b-a30",)}})
        at = {"3b-a30": servers(2, 9000)}
        site.dispatcher.renew(replace(setup(new, known=None), endpoints=at), site.now_s)
        site.dispatcher.failed_try(ticket, first, site.now_s, "reset")
        instance = site.dispatcher.next_instance(ticket, site.now_s)
        if pool is None:  # nobody else answers to that name
            assert instance is None
            return
        assert instance.pool == pool
        site.end(ticket)
        (served,) = site.served
        assert (served.pool, served.class_name, served.outcome) == (pool, "math", "ok")
        assert site.n_in_flight() == 0

    def test_under_load_shares_hold_before_and_after(self):
        site = Site(PLAIN)
        live, order = [], []
        for k in range(3000):
            if k == 1500:
                site.dispatcher.renew(
                    setup(routes({"chat": {"72b-a100": 0.2, "7b-a30": 0.8}})), 1.0
                )
            site.now_s += 0.01
            ticket = site.begin(rb_class="chat")
            order.append(site.dispatcher.next_instance(ticket, site.now_s).pool)
            live.append(ticket)
            if len(live) > 25:
                site.end(live.pop(0))
        assert site.n_in_flight() == len(live) == 25
        first, last = Counter(order[:1000]), Counter(order[-1000:])
        assert first == {"3b-a30": 553, "7b-a30": 310, "14b-v100": 137}
        assert last == {"72b-a100": 200, "7b-a30": 800}
        assert len({each.request_id for each in site.served}) == 2975
