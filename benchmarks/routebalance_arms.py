"""Our policy with a part of it taken away or changed, for benchmarks/routebalance_cluster.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from routebalance_data import PUBLISHED, TIERS, Prompts

from planner.scheduling.delay import Delay, Load, predict_delay
from planner.scheduling.fused import Offer, Prices
from planner.scheduling.ledger import Seen
from planner.simulate.choosers import Fused
from planner.simulate.choosing import AT_ONCE, Chooser, Rhythm

POLL_S, POLL_AGE_S = 1.0, 0.5
HARDLY = 1e-9  # a price that only breaks ties, so that replicas of one model still share its load
MAKES_EVEN_MS = 1e-3  # per request in flight: of instances that look alike the emptier one

Make = Callable[..., Chooser]  # of cluster, demand and what is believed


class Forgetful(Fused):
    """Knows of an instance what it said of itself at the last poll, and nothing of what it sent."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._loads = [Load() for _ in self._pool_of]
        self._mean_tokens = sum(map(max, self._output)) / len(self._output)

    def delay(self, offer: Offer, now_s: float) -> Delay:
        """Returns what would be if the instance were as it was, and stayed so."""
        return predict_delay(
            self._curves[self._pool_of[offer.instance]],
            self._loads[offer.instance],
            offer.fresh_tokens,
            offer.input_tokens,
            offer.output_tokens,
        )

    def seen(self, instance: int, report: Seen, now_s: float) -> None:
        """Keeps what an instance says of itself."""
        n = report.n_running + report.n_waiting
        self._loads[instance] = Load(
            n_running=report.n_running,
            n_waiting=report.n_waiting,
            decode_tokens=n * self._mean_tokens,
            kv_tokens=report.kv_tokens or 0.0,
            usual_running=report.n_running,
        )


class Constants(Fused):
    """Believes in one time per token for each model, whatever the load."""

    def delay(self, offer: Offer, now_s: float) -> Delay:
        """Returns the constant times the length; the emptier one of two equal instances."""
        tpot_ms = TIERS[self._pool_of[offer.instance]].constant_tpot_ms
        n = self._ledger.n_in_flight(offer.instance)
        return Delay(0.0, tpot_ms, tpot_ms, tpot_ms * offer.output_tokens + MAKES_EVEN_MS * n, 0.0)


@dataclass(frozen=True)
class Arm:
    """How one arm chooses, when, and what it knows of prompts."""

    make: Make
    rhythm: Rhythm = AT_ONCE
    knowing: Callable[[Prompts], Prompts] = lambda prompts: prompts


def arms(prices: Prices) -> dict[str, Arm]:
    """Returns every arm by name, the whole policy first."""
    unpriced = replace(prices, quality_per_s=HARDLY, quality_per_added_s=HARDLY)
    selfish = replace(prices, quality_per_added_s=HARDLY)

    def whole(*given: Any) -> Chooser:
        return Fused(*given, prices)

    return {
        "ours": Arm(whole),
        "engines polled every 1 s as well": Arm(
            whole, Rhythm(look_every_s=POLL_S, look_age_s=POLL_AGE_S)
        ),
        "in RouteBalance's batches": Arm(whole, replace(PUBLISHED, look_every_s=None)),
        "no ledger, polled every 1 s": Arm(
            lambda *given: Forgetful(*given, prices), Rhythm(look_every_s=POLL_S)
        ),
        "no latency price": Arm(lambda *given: Fused(*given, unpriced)),
        "no price of others' delay": Arm(lambda *given: Fused(*given, selfish)),
        "static latency": Arm(lambda *given: Constants(*given, prices)),
        "oracle lengths": Arm(
            lambda *given: Fused(*given, prices, length_cv=0.0), knowing=Prompts.knowing_lengths
        ),
    }
