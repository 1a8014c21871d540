"""Which instance takes a request: quality, less what its work, its money and its time are worth.

One choice over concrete instances, of several models where they are offered, in place of a choice
of a model and then of an instance. All terms are in quality (0..1), by prices that have a unit: an
instance more or less, or a slow one, changes nothing between the others.

Notation
    i                  an offer: one instance for this request
    q                  predicted quality                                                   1
    w, mu              work of the request there; price of a unit of it                    ., 1/.
    c, T, X            its cost; its predicted time; what it costs others of theirs  usd, s, s
    p_c, p_T, p_X      prices of these                                               1/usd, 1/s, 1/s
    h_T, h_c           upper ends of their error bands: real / predicted             1
    B, Q, E            what the request wants: budget, quality at least, deadline

Program
    worth_i = q - mu w - p_c c - p_T T - p_X X
    choice  = argmin over i, one after the other, of
        1  max(0, c - B)         money above the budget
        2  max(0, Q - q)         quality below what is wanted
        3  max(0, T - E)         time after the deadline
        4  [h_c c > B]           the budget holds at the upper end of its error band, too
        5  [h_T T > E]           the deadline holds at the upper end of its error band, too
        6  -worth
        7  w, then T             ties by least work, then the soonest, then the first

So a want that somebody can meet is a filter, and what nobody can meet is given up step by step:
first that the deadline holds in its whole error band, then the same of the budget, then the
deadline (the soonest answer is taken), then the quality (the best one), at last the budget (the
cheapest one).

In a plan with prices (feedback.py) mu is the price of the model's load, which stands for the time
that one request costs all later ones where load is scarce; p_X is of those that are there already
and of the queue. p_T is the plan's price of its latency limits. The affinity of a session to an
instance is the time that its tokens in the prefix cache there save; affinity.py says how many.

A batch is assigned longest answer first, as Graham's rule (batch.py) has it, and the ledger is told
of each choice before the next: else all of a batch would go where it was emptiest before.

Reference for the comparison of both kinds of score: RouteBalance, arXiv 2606.17949 (routebalance.py
has its own).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.scheduling.delay import Delay


@dataclass(slots=True)
class Offer:
    """What one instance would be for one request. Made for every decision: hence not frozen."""

    instance: int
    quality: float  # predicted, 0..1
    usd: float  # predicted cost of the request there
    work: float  # predicted, in the unit of `price`
    input_tokens: float
    fresh_tokens: float  # of these, not in a prefix cache there
    output_tokens: float  # predicted
    high_ratio: float = 1.0  # upper end of the error band of its time: real / predicted, >= 1
    price: float = 0.0  # of a unit of `work` there, in quality
    usd_high_ratio: float = 1.0  # upper end of the error band of its cost: real / predicted, >= 1


@dataclass(frozen=True, slots=True)
class Prices:
    """What money and time are worth, in quality (0..1)."""

    quality_per_usd: float = 0.0
    quality_per_s: float = 0.0  # of the request's own time
    quality_per_added_s: float = 0.0  # of the time that others there lose by it


@dataclass(frozen=True, slots=True)
class Wants:
    """What a request asks for; None: nothing."""

    deadline_ms: float | None = None  # end to end, from now on
    budget_usd: float | None = None
    quality_at_least: float | None = None


NO_WANTS = Wants()


def choose(
    offers: Sequence[Offer], delays: Sequence[Delay], prices: Prices, wants: Wants = NO_WANTS
) -> int:
    """Returns the index of the offer that is taken; delays are by offer, (n,).

    Raises:
        ValueError: there is no offer.
    """
    if not offers:
        raise ValueError("there is no offer to choose from")
    missed = [_missed(o, delay.e2e_ms, wants) for o, delay in zip(offers, delays, strict=True)]
    least = min(missed)
    candidates = [i for i, each in enumerate(missed) if each == least]

    def rank(i: int) -> tuple[float, float, float]:
        worth = _worth_at_once(offers[i], prices) - _time_price(delays[i], prices)
        return -worth, offers[i].work, delays[i].e2e_ms

    return min(candidates, key=rank)


def decide(
    offers: Sequence[Offer],
    delay_of: Callable[[Offer], Delay | None],
    prices: Prices,
    wants: Wants = NO_WANTS,
) -> tuple[int, Delay] | None:
    """Returns the index of the offer that is taken and its delay; None where none can be taken.

    The same as `choose` over those that can be taken, but delays are asked for only where they can
    change the choice: offers come in order of what they would be worth in no time at all, and when
    that is below the best worth found, it is so for all that follow.

    Args:
        offers: what there is, (n,).
        delay_of: predicts the time of one of them; None: it cannot be taken.
        prices: of money and time, not negative.
        wants: what the request asks for.
    """
    most = [_worth_at_once(o, prices) for o in offers]
    delays: dict[int, Delay] = {}
    best, best_worth = -1, 0.0
    for i in sorted(range(len(offers)), key=most.__getitem__, reverse=True):
        if best >= 0 and most[i] < best_worth:
            break
        o = offers[i]
        delay = delay_of(o)
        if delay is None:
            continue
        delays[i] = delay
        if wants is not NO_WANTS and any(_missed(o, delay.e2e_ms, wants)):
            continue
        worth = most[i] - _time_price(delay, prices)
        if best >= 0 and worth == best_worth:
            held = offers[best].work, delays[best].e2e_ms, best
            is_better = (o.work, delay.e2e_ms, i) < held
        else:
            is_better = best < 0 or worth > best_worth
        if is_better:
            best, best_worth = i, worth
    if not delays:
        return None
    if best < 0:  # nobody meets every want for sure; all delays are known by now
        known = sorted(delays)
        best = known[choose([offers[i] for i in known], [delays[i] for i in known], prices, wants)]
    return best, delays[best]


def _worth_at_once(o: Offer, prices: Prices) -> float:
    """Returns what an offer is worth but for its time."""
    return o.quality - o.price * o.work - prices.quality_per_usd * o.usd


def _time_price(delay: Delay, prices: Prices) -> float:
    """Returns what an offer's time costs, in quality."""
    own, others = prices.quality_per_s, prices.quality_per_added_s
    return 1e-3 * (own * delay.e2e_ms + others * delay.others_ms)


def _missed(o: Offer, e2e_ms: float, wants: Wants) -> tuple[float, float, float, bool, bool]:
    """Returns by how much an offer misses what is wanted: lines 1 to 5 of the program."""
    over_usd = short_of_quality = late_ms = 0.0
    over_band = late_band = False
    budget, at_least, deadline_ms = wants.budget_usd, wants.quality_at_least, wants.deadline_ms
    if budget is not None:
        over_usd = max(o.usd - budget, 0.0)
        over_band = o.usd * o.usd_high_ratio > budget
    if at_least is not None:
        short_of_quality = max(at_least - o.quality, 0.0)
    if deadline_ms is not None:
        late_ms = max(e2e_ms - deadline_ms, 0.0)
        late_band = e2e_ms * o.high_ratio > deadline_ms
    return over_usd, short_of_quality, late_ms, over_band, late_band


def longest_first(output_tokens: Sequence[float]) -> list[int]:
    """Returns the order in which a batch is decided: longest answers first, (n,) indices.

    Of equals the first comes first.
    """
    return sorted(range(len(output_tokens)), key=lambda i: -output_tokens[i])
