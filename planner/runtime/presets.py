"""RouteBalance's score over the instances as they stand, for comparison with the plan's prices."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from planner.scheduling.routebalance import PRESETS, Bid, RouteBalance

if TYPE_CHECKING:
    from planner.runtime.ask import Ask
    from planner.runtime.fleet import Fleet
    from planner.runtime.instance import Instance
    from planner.runtime.worth import Estimates, Worths


class Scored:
    """The choice of an instance by one preset."""

    def __init__(self, preset: str) -> None:
        """Takes the name of a preset.

        Raises:
            KeyError: there is no such preset.
        """
        self._rule = RouteBalance(PRESETS[preset])

    def pick(
        self,
        pools: Iterable[str],
        ask: Ask,
        estimates: Estimates | None,
        worths: Worths,
        fleet: Fleet,
        now_s: float,
        tried: Collection[int],
    ) -> Instance | None:
        """Returns the instance that is taken; None where nobody can be scored."""
        bids: list[Bid] = []
        bidders: list[Instance] = []
        for pool in pools:
            curve, offer = fleet.curve(pool), worths.offer(0, pool, ask, estimates)
            if curve is None or offer is None:
                continue
            for instance, load in fleet.offers(pool, ask, now_s, tried):
                bid = Bid.of(
                    instance.index,
                    curve,
                    load,
                    quality=offer.quality,
                    usd=offer.usd,
                    output_tokens=offer.output_tokens,
                )
                bids.append(bid)
                bidders.append(instance)
        return bidders[self._rule.pick(bids)] if bids else None
