"""Whose class is read from the request: by declaration, by rules, by the router, or not at all."""

import hashlib
from dataclasses import replace

import pytest
from fleets import class_sheet, pool_sheet, servers, sheet_of
from plan_cases import CHAT, Site, call, headers, weighted
from router_cases import made_router

from planner.quality.router import judge
from planner.quality.rules import Facts
from planner.runtime.body import read_call
from planner.runtime.reader import Reader
from planner.runtime.setup import Options, Setup
from planner.spec.plan import Routes
from planner.spec.router import Rule

TALK = "hello friend, coffee and a movie on the weekend? the garden is fine in this weather."
SUM = "Add 3 + 4 + 512 + 99 + 77 up."
NAMES = ("sum", "talk", "some")  # the router knows a fourth one


def setup(**options: object) -> Setup:
    """A plan of the router's two models."""
    routes = Routes(
        classes={name: weighted({"small": 0.5, "big": 0.5}) for name in NAMES},
        load_prices={},
        fallback=dict.fromkeys(NAMES, ("small", "big")),
        plan_hash="0" * 64,
    )
    pools = {name: pool_sheet(model_name=name) for name in ("small", "big")}
    sheet = sheet_of(pools, {name: class_sheet(list(pools)) for name in NAMES})
    return Setup(
        routes=routes,
        endpoints={"small": servers(2), "big": servers(2, 9000)},
        sheet=sheet,
        router=made_router(),
        options=Options(admission=False, **options),
    )


def class_of(site: Site, text: str, model: str = "rb/auto", system: str = "", **sent: object):
    turns = [f'{{"role": "user", "content": "{text}"}}']
    if system:
        turns.insert(0, f'{{"role": "system", "content": "{system}"}}')
    body = f'{{"model": "{model}", "messages": [{", ".join(turns)}]}}'
    ticket = site.dispatcher.begin(read_call(CHAT, body.encode()), headers(**sent), site.now_s)
    return ticket.ask.class_name


@pytest.fixture(scope="module")
def site() -> Site:
    return Site(setup())


def test_the_text_tells_where_nothing_else_does(site):
    assert class_of(site, TALK) == "talk"
    assert class_of(site, SUM) == "sum"


def test_rules_come_before_the_text(site):
    assert class_of(site, "one sonnet: " + TALK) == "some"
    assert class_of(site, TALK, system="You are a calculator.") == "sum"
    assert class_of(site, SUM, client="chat") == "talk"  # X-Client


def test_what_is_declared_comes_before_all(site):
    assert class_of(site, TALK, rb_class="sum") == "sum"
    assert class_of(site, TALK, "rb/sum") == "sum"
    assert class_of(site, "one sonnet: " + TALK, rb_class="sum") == "sum"


def test_a_class_of_the_router_that_the_plan_does_not_have_is_unknown(site):
    law = "statute clause tort plaintiff appeal verdict counsel lien deed bail statute tort clause"
    ticket = site.dispatcher.begin(call(text=law), [], site.now_s)
    read = Reader(made_router()).class_of(call(text=law), [])
    assert read not in ("talk", "some")
    assert ticket.ask.class_name == (read if read in NAMES else None)
    assert class_of(site, TALK, rb_class="rare") is None


def test_who_names_a_model_is_not_read(site):
    assert class_of(site, TALK, "big") is None


def test_keys_tell_a_class_and_stand_nowhere():
    key = "sk-team-b"
    rule = Rule("some", "api_key_sha256", hashlib.sha256(key.encode()).hexdigest())
    of = setup()
    assert of.router is not None
    site = Site(replace(of, router=replace(of.router, rules=(rule,))))
    sent = [(b"authorization", b"Bearer " + key.encode())]
    ticket = site.dispatcher.begin(call(text=TALK), sent, site.now_s)
    assert ticket.ask.class_name == "some"
    assert key not in repr(ticket)
    other = site.dispatcher.begin(call(text=TALK), [(b"authorization", b"Basic x")], site.now_s)
    assert other.ask.class_name == "talk"


def test_estimates_are_those_of_the_router():
    reader, wanted = Reader(made_router()), call(text=SUM)
    read = reader.read(wanted, [], None)
    judged = judge(made_router(), [SUM], [Facts()])
    assert read.class_name == "sum"
    assert read.estimates is not None
    assert list(read.estimates.quality.values()) == judged.quality[0].tolist()
    assert list(read.estimates.output_tokens.values()) == judged.output_tokens[0].tolist()
    assert list(read.estimates.quality) == ["small", "big"]


def test_a_class_never_seen_gets_the_means_of_the_fleet():
    read = Reader(made_router()).read(call(text=SUM), [], "never heard of")
    assert read.class_name is None
    assert read.estimates is not None
    assert list(read.estimates.quality.values()) == made_router().means.fleet.tolist()


def test_expected_lengths_are_the_router_s_where_it_reads():
    site = Site(setup(route_by="routebalance:quality"))
    ticket = site.dispatcher.begin(call(text=SUM), [], site.now_s)
    assert ticket.estimates is not None
    expected = ticket.estimates.output_tokens["big"]
    assert ticket.ask.size_at("big").output_tokens == pytest.approx(expected)
