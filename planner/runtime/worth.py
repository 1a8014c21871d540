"""What each pool would be for one request: quality, money, work and time; and the best of them.

Notation
    c, p, m   class, pool, model of the pool
    i, o      tokens of prompt and answer (lengths.py)     I_cp, O_cp   the plan's means of them
    w_cp      replica-seconds of a request of mean length; a_cp, b_cp per token more of i and of o

    quality   the router's of m for this prompt, else the plan's of c and p
    work      max(w_cp + a_cp (i - I_cp) + b_cp (o - O_cp), 0)                        replica-s
    money     work x the price of a replica-second, or tokens x the prices of a provider       usd
    time      that of the pool's best instance as it stands, with the plan's error band

A pool of which the plan does not say what it is worth to the class makes no offer: without a
serving sheet none does. Which offer is taken, scheduling/fused.py decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from planner.runtime.ask import Ask
from planner.scheduling.delay import Delay
from planner.scheduling.fused import NO_WANTS, Offer, Prices, Wants, decide

if TYPE_CHECKING:
    from planner.runtime.book import Path
    from planner.runtime.setup import Setup
    from planner.spec.sheet import PoolSheet, ServingSheet

_HOUR_S = 3600.0
_MILLION = 1e6
_UNKNOWN = Delay(0.0, 0.0, 0.0, 0.0, 0.0)
"""The time on a pool that is up, but of which nobody knows how fast it is."""


class Delays(Protocol):
    """Who predicts how long a request would take."""

    def delay(self, pool: str, ask: Ask, now_s: float) -> Delay | None:
        """Returns what is predicted on the best instance of a pool.

        None: nobody takes it, or the plan does not know how fast the pool is.
        """
        ...

    def is_up(self, pool: str, now_s: float) -> bool:
        """Returns whether anybody of a pool takes requests."""
        ...


class _Expected(NamedTuple):
    """A request of one class on one pool, by the plan; means over the classes where unknown."""

    quality: float
    input_tokens: float
    output_tokens: float
    work_s: float
    work_s_per_input_token: float
    work_s_per_output_token: float

    def work_at(self, input_tokens: float, output_tokens: float) -> float:
        """Returns the replica-seconds of a request of another length."""
        longer_prompt_s = self.work_s_per_input_token * (input_tokens - self.input_tokens)
        longer_answer_s = self.work_s_per_output_token * (output_tokens - self.output_tokens)
        return max(self.work_s + longer_prompt_s + longer_answer_s, 0.0)


class Estimates(NamedTuple):
    """What a router says of one prompt, by model."""

    quality: Mapping[str, float]
    output_tokens: Mapping[str, float]


class Worths:
    """What pools are worth to requests, by the plan."""

    def __init__(self, setup: Setup) -> None:
        sheet = setup.sheet
        self._pools: Mapping[str, PoolSheet] = {} if sheet is None else sheet.pools
        self._expected = {} if sheet is None else _expected(sheet)
        per_s = 0.0 if sheet is None else sheet.delay_price_per_s
        self._prices = Prices(quality_per_s=per_s, quality_per_added_s=per_s)

    def offer(
        self, index: int, pool: str, ask: Ask, estimates: Estimates | None, price: float = 0.0
    ) -> Offer | None:
        """Returns what a pool is worth to a request; None where the plan does not say."""
        expected = self._expected.get((ask.class_name, pool))
        if expected is None:
            return None
        sheet, size = self._pools[pool], ask.size_at(pool)
        quality = expected.quality
        if estimates is not None:
            quality = estimates.quality.get(sheet.scored_as, quality)
        work_s = expected.work_at(size.input_tokens, size.output_tokens)
        usd = sheet.usd_per_h / _HOUR_S * work_s
        if sheet.usd_per_million_output_tokens is not None:
            per_input_usd = sheet.usd_per_million_input_tokens or 0.0
            usd += size.input_tokens * per_input_usd / _MILLION
            usd += size.output_tokens * sheet.usd_per_million_output_tokens / _MILLION
        return Offer(index, quality, usd, work_s, *size, sheet.high_ratio, price=price)

    def work_s(self, ask: Ask, pool: str, input_tokens: float, output_tokens: float) -> float:
        """Returns the replica-seconds of a request of some length on a pool; 0 where unknown."""
        expected = self._expected.get((ask.class_name, pool))
        return 0.0 if expected is None else expected.work_at(input_tokens, output_tokens)

    def best(
        self,
        pools: Iterable[str],
        ask: Ask,
        delays: Delays,
        now_s: float,
        estimates: Estimates | None = None,
        prices: Mapping[str, float] | None = None,
    ) -> str | None:
        """Returns the pool that is taken; None where no pool makes an offer.

        Args:
            pools: that may answer the request.
            ask: the request.
            delays: who predicts how long it would take.
            now_s: the time.
            estimates: by a router that read the prompt.
            prices: of a replica-second, in quality, by model.
        """
        offers: list[Offer] = []
        names: list[str] = []
        for pool in pools:
            known = self._pools.get(pool)
            price = 0.0 if prices is None or known is None else prices.get(known.scored_as, 0.0)
            offer = self.offer(len(offers), pool, ask, estimates, price)
            if offer is not None:
                offers.append(offer)
                names.append(pool)

        def delay_of(offer: Offer) -> Delay | None:
            pool = names[offer.instance]
            delay = delays.delay(pool, ask, now_s)
            return _UNKNOWN if delay is None and delays.is_up(pool, now_s) else delay

        found = decide(offers, delay_of, self._prices, wants_of(ask))
        return None if found is None else names[found[0]]

    def fits(self, path: Path, ask: Ask, delays: Delays, now_s: float) -> bool:
        """Returns whether a path gives what a request asks for, as far as anyone knows.

        A cascade has the quality that was planned of it, and the money and time of both stages.
        """
        offers = [self.offer(0, pool, ask, None) for pool in path.stages]
        known = [offer for offer in offers if offer is not None]
        if len(known) < len(offers):
            return True
        floor, budget, deadline = ask.quality_at_least, ask.budget_usd, ask.deadline_ms
        quality = known[0].quality if path.cascade is None else path.cascade.quality
        if floor is not None and quality < floor:
            return False
        if budget is not None and sum(offer.usd for offer in known) > budget:
            return False
        if deadline is None:
            return True
        times = [delays.delay(pool, ask, now_s) or _UNKNOWN for pool in path.stages]
        late_ms = sum(t.e2e_ms * o.high_ratio for t, o in zip(times, known, strict=True))
        return late_ms <= deadline


def wants_of(ask: Ask) -> Wants:
    """Returns what a request asks for itself."""
    if not wants_anything(ask):
        return NO_WANTS
    return Wants(ask.deadline_ms, ask.budget_usd, ask.quality_at_least)


def wants_anything(ask: Ask) -> bool:
    """Returns whether a request asks for anything that a pool may not give."""
    floor, budget, deadline = ask.quality_at_least, ask.budget_usd, ask.deadline_ms
    return floor is not None or budget is not None or deadline is not None


def _expected(sheet: ServingSheet) -> dict[tuple[str | None, str], _Expected]:
    """Returns what is expected by class and pool, and by pool where no class is known."""
    found: dict[tuple[str | None, str], _Expected] = {}
    for pool in sheet.pools:
        rows: list[_Expected] = []
        weights: list[float] = []
        for name, each in sheet.classes.items():
            answer = each.answers.get(pool)
            if answer is not None:
                row = _Expected(
                    answer.quality,
                    answer.input_tokens,
                    answer.output_tokens,
                    answer.work_s,
                    answer.work_s_per_input_token,
                    answer.work_s_per_output_token,
                )
                found[name, pool] = row
                rows.append(row)
                weights.append(each.rate_rps)
        if rows:
            found[None, pool] = _mean(rows, weights)
    return found


def _mean(rows: list[_Expected], weights: list[float]) -> _Expected:
    total = sum(weights)
    shares = [w / total if total > 0.0 else 1.0 / len(rows) for w in weights]
    columns = zip(*rows, strict=True)
    return _Expected(*(sum(s * v for s, v in zip(shares, c, strict=True)) for c in columns))
