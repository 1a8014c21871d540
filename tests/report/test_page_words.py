"""The answer, the proof and the prices as sentences, with the figures of the plan."""

from __future__ import annotations

import pytest
from drawn_plans import demo, with_periods
from paged import hosted, missed, unbounded

from planner.report.page.subject import Subject
from planner.report.page.summary import verdicts
from planner.report.page.words import (
    answer,
    bound_sentence,
    in_words,
    n_pools,
    price_in_words,
    proved,
    rent,
    replicas,
    tightest,
    traffic_sentences,
)
from planner.spec.base import FOREVER_MS
from planner.spec.plan import LatencyFigure, Plan, Price
from planner.spec.reasons import Reasons


def test_the_answer_says_what_for_how_much_how_good_how_tight_and_how_sure() -> None:
    said = answer(demo())
    assert said.startswith("Rent 9 h100-sxm-80g and 4 b200-sxm-180g for $48.55 per hour ($35,442")
    assert "serve 78.8 requests/s at a quality of 0.7039" in said
    assert "simulation cannot tell whether p95 e2e of math-l5 stays within 120 s" in said
    assert said.endswith("no plan costs less than $48.55 per hour, by the fitted tables.")


def test_where_traffic_is_maximised_the_answer_says_how_much_it_is() -> None:
    plan = demo()
    most = plan.predicted.model_copy(update={"rate_factor": 1.25})
    said = answer(plan.model_copy(update={"predicted": most}))
    assert "to serve 78.8 requests/s (1.250 times the stated traffic) at a quality" in said


def test_gpus_of_a_kind_are_added_up_and_hosted_pools_named() -> None:
    assert rent(hosted(demo())) == "Rent 9 h100-sxm-80g and ask llama-3.1-70b-b200-tp2"
    first = hosted(demo()).deployment[:1]
    alone = demo().model_copy(update={"deployment": first})
    assert rent(alone) == "Rent no GPU and ask llama-3.1-70b-b200-tp2"


def test_a_hosted_pool_has_no_replicas_of_its_own() -> None:
    assert n_pools(demo()) == "5 replicas in 3 pools"
    assert n_pools(hosted(demo())) == "3 replicas in 2 pools and 1 hosted pool"
    alone = hosted(demo()).deployment[:1]
    assert n_pools(demo().model_copy(update={"deployment": alone})) == "1 hosted pool"
    assert n_pools(demo().model_copy(update={"deployment": ()})) == "nothing"


def test_simulation_has_the_last_word_about_limits() -> None:
    plan = demo()
    assert tightest(missed(plan)) == "simulation MISSED p95 e2e of gsm: 20 s where 10 s is allowed"
    lost = missed(plan)
    first = lost.simulated.latency[0].model_copy(update={"ms": FOREVER_MS})
    tried = lost.simulated.model_copy(update={"latency": (first,)})
    assert tightest(lost.model_copy(update={"simulated": tried})) == (
        "simulation MISSED p95 e2e of gsm: requests stay without an answer"
    )
    untried = plan.model_copy(update={"simulated": None})
    assert tightest(untried) == (
        "its tightest limit, p95 tpot of crux, is predicted to be used to 100.0%"
    )
    assert plan.simulated is not None
    sure = tuple(f.model_copy(update={"verdict": "met"}) for f in plan.simulated.latency[:2])
    held = plan.simulated.model_copy(update={"latency": sure})
    assert tightest(plan.model_copy(update={"simulated": held})) == (
        "2 of 4 latency limits, all that were tried, held in simulation (tightest: p95 e2e of "
        "gsm, used to 92.4%)"
    )
    two = plan.predicted.model_copy(update={"latency": plan.predicted.latency[:2]})
    whole = plan.model_copy(update={"simulated": held, "predicted": two})
    assert tightest(whole) == (
        "both latency limits held in simulation (tightest: p95 e2e of gsm, used to 92.4%)"
    )
    for known, chip in ((plan, "Simulated: 2 of 4 limits hold"), (whole, "Simulated: limits hold")):
        seen = Subject(known.model_copy(update={"simulated": held}))
        assert chip in [words for words, _ in verdicts(seen)]
    unlimited = plan.predicted.model_copy(update={"latency": ()})
    assert "no latency limit" in tightest(plan.model_copy(update={"predicted": unlimited}))


def test_a_proof_is_said_as_what_it_is() -> None:
    bound = unbounded(demo()).bound
    assert proved(bound) == "it is proved within 2.9% of the best possible"
    assert proved(None) == "how far it is from the best is not proved"
    assert bound is not None
    assert bound_sentence(bound) == (
        "No plan of at most $50.00/h reaches a quality above 0.7200 by the fitted tables; this "
        "plan is within 2.9% of that."
    )


@pytest.mark.parametrize(
    "objective", ["cost_usd_per_h", "quality", "latency_ratio", "latency_ms", "rate_factor"]
)
def test_every_objective_has_words(objective: str) -> None:
    bound = unbounded(demo(), objective).bound
    assert bound is not None and bound_sentence(bound).startswith("No plan")


def test_the_answer_of_a_day_counts_all_its_hours() -> None:
    plan = with_periods(demo())
    assert plan.periods is not None
    said = answer(plan)
    assert f"${plan.periods.total_usd:,.0f} per 24 hours" in said
    gpus = [sum(d.n_gpus for d in p.deployment) for p in plan.periods.each]
    few, many = min(gpus), max(gpus)
    assert f"{few:g} GPUs" in said if few == many else f"{few:g} to {many:g} GPUs" in said


def price(what: str, value: float, unit: str) -> Price:
    return Price(what=what, value=value, unit=unit)


PER_LOAD = "replica-second per second"
PER_TAIL = "ratio of requests above the limit"


@pytest.mark.parametrize(
    ("given", "change", "gain"),
    [
        # a tenth of 0.5 of quality per replica
        (
            price("load:p", 0.5, f"quality per {PER_LOAD}"),
            "a tenth of a replica's work less to do on p",
            "buy +0.0500 of quality",
        ),
        # one request in a hundred more: 0.01 of the price
        (
            price("limit:p95 e2e of gsm", 0.25, f"quality per {PER_TAIL}"),
            "6% of gsm (not 5%) may exceed 10 s of e2e",
            "buy +0.0025 of quality",
        ),
        (
            price("quality", 88.0, "USD per hour per unit of quality"),
            "a quality floor lower by 0.01",
            "save $0.88 per hour",
        ),
        (
            price("quality:gsm", 0.5, "USD per hour per unit of quality"),
            "a quality floor of gsm lower by 0.01",
            "save 0.5 cents per hour",
        ),
        (
            price("budget", 0.002, "quality per USD per hour"),
            "$1 per hour more for hosted requests",
            "buy +0.0020 of quality",
        ),
        (
            price("load:p", 0.05, f"rate factor per {PER_LOAD}"),
            "a tenth of a replica's work less to do on p",
            "carry 0.005 times the stated traffic more",
        ),
    ],
    ids=lambda value: value.what if isinstance(value, Price) else None,
)
def test_a_price_is_a_small_change_and_what_it_is_worth(
    given: Price, change: str, gain: str
) -> None:
    assert price_in_words(given, demo()) == (change, gain)


def test_a_limit_on_a_mean_is_loosened_by_a_hundredth() -> None:
    plan = demo()
    figure = LatencyFigure.model_validate(
        {"class": "gsm", "metric": "ttft", "statistic": "mean", "ms": 150.0, "low_ms": 100.0,
         "high_ms": 200.0, "at_most_ms": 200.0, "origin": "measured"}
    )  # fmt: skip
    latency = (*plan.predicted.latency, figure)
    plan = plan.model_copy(
        update={"predicted": plan.predicted.model_copy(update={"latency": latency})}
    )
    given = price("limit:mean ttft of gsm", 0.001, "quality per ms")
    words = price_in_words(given, plan)
    assert words == ("mean ttft of gsm up to 202 ms (not 200 ms)", "buy +0.0020 of quality")


def test_a_price_that_nobody_knows_is_said_as_it_is() -> None:
    strange = price("luck:today", 3.0, "smiles per hour")
    assert price_in_words(strange, demo()) == ("luck:today", "be worth 3 smiles per hour")
    gone = price("limit:p95 e2e of nobody", 3.0, f"quality per {PER_TAIL}")
    assert price_in_words(gone, demo())[0] == "limit:p95 e2e of nobody"


def test_what_a_request_costs_and_how_many_more_are_free() -> None:
    plan = demo()
    (mean,) = traffic_sentences(plan)
    cost = plan.predicted.cost_usd_per_h / (3600 * plan.predicted.rate_rps)
    # The replicas are rented for the peak: at other times a request costs more.
    assert mean == (
        f"At the planned rate, the busiest, a thousand requests cost {1000 * 100 * cost:.3g} "
        "cents; over all hours, a million output tokens cost $0.697."
    )
    stays = {"what": "traffic", "unit": "rate_factor", "now": 1.0, "low": None, "high": 1.25}
    more = with_reasons(plan, stays)
    assert "up to 1.250 times the traffic (98.5 requests/s)" in list(traffic_sentences(more))[1]
    endless = with_reasons(plan, {**stays, "high": None})
    assert "No amount of traffic" in list(traffic_sentences(endless))[1]


def with_reasons(plan: Plan, stays: dict[str, object]) -> Plan:
    return plan.model_copy(update={"reasons": Reasons.model_validate({"stays": [stays]})})


def test_deployments_in_words() -> None:
    assert in_words({"a": 1, "b": 2, "c": 3}) == "1 × a, 2 × b and 3 × c"
    assert replicas({"a": 1, "b": 2}) == (
        '<span class="entry">1 × a,</span> <span class="entry">2 × b</span> '
    )
