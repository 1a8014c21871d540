"""Choosers of instances: the functions of planner/scheduling, fed with what a proxy hears.

Notation
    i, k, p    a request, an instance, its pool
    q, L, usd  quality, output tokens and cost that are believed of i on p before it is answered

Program
    Fused          k = fused.decide over all offers, with the delays that the ledger predicts
    ByRouteBalance k = RouteBalance.pick; what an instance has to do is what it said of itself last
                   and, since then, what was sent there ("dead reckoning"). Its pending tokens are
                   those believed of what is in flight there, less what its KV cache holds already

Step times are those of the simulated engines: what a plan knows from its profiles, without error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.scheduling.delay import Delay, Load
from planner.scheduling.fused import Offer, Prices, decide, longest_first
from planner.scheduling.ledger import LENGTH_CV, Ledger, Seen
from planner.scheduling.routebalance import Bid, RouteBalance, Weights
from planner.simulate.cluster import Cluster
from planner.simulate.curves import curve_of
from planner.simulate.demand import Demand
from planner.spec.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Believed:
    """What is believed of every request on every pool before it is answered, (N, P) each."""

    quality: FloatArray
    output_tokens: FloatArray
    usd: FloatArray


class _Hearing:
    """What every chooser here remembers: what is asked, what is believed, who is where."""

    def __init__(self, cluster: Cluster, demand: Demand, believed: Believed) -> None:
        self._pool_of = [p for p, s in enumerate(cluster.pools) for _ in range(s.n_replicas)]
        self._curves = [curve_of(setup.engine, setup.request_ps) for setup in cluster.pools]
        self._prompt = [_column(None if t is None else t.prompt) for t in demand.tokens]
        self._fresh = [_column(None if t is None else t.fresh) for t in demand.tokens]
        self._quality = believed.quality.tolist()
        self._output = believed.output_tokens.tolist()
        self._usd = believed.usd.tolist()

    def order(self, batch: Sequence[int]) -> list[int]:
        """Returns the requests of a batch, the longest predicted answers first."""
        return [batch[at] for at in longest_first([max(self._output[i]) for i in batch])]

    def first_token(self, i: int, now_s: float) -> None:
        """Hears the first token of request i."""

    def seen(self, instance: int, report: Seen, now_s: float) -> None:
        """Hears what an instance said of itself a while ago."""


def _column(tokens: IntArray | None) -> list[int]:
    return [] if tokens is None else tokens.tolist()


class Fused(_Hearing):
    """Takes the offer that is worth most after the prices of money and time, by a ledger."""

    def __init__(
        self,
        cluster: Cluster,
        demand: Demand,
        believed: Believed,
        prices: Prices,
        *,
        length_cv: float = LENGTH_CV,
    ) -> None:
        """Starts with nothing sent.

        Args:
            cluster: the instances.
            demand: the requests.
            believed: what is believed of them.
            prices: of money and time.
            length_cv: how uncertain the lengths are that are believed; 0: they are known.
        """
        super().__init__(cluster, demand, believed)
        self._prices = prices
        self._ledger = Ledger([self._curves[p] for p in self._pool_of], length_cv=length_cv)
        self._ticket: dict[int, int] = {}

    def choose(self, i: int, instances: Sequence[int], now_s: float) -> int:
        """Returns the instance of the best offer."""
        offers = [self._offer(i, k) for k in instances]
        taken = decide(offers, lambda offer: self.delay(offer, now_s), self._prices)
        assert taken is not None  # every offer has a delay
        return instances[taken[0]]

    def delay(self, offer: Offer, now_s: float) -> Delay:
        """Returns what is predicted of a request on an instance."""
        return self._ledger.delay(
            offer.instance, offer.fresh_tokens, offer.input_tokens, offer.output_tokens, now_s
        )

    def _offer(self, i: int, k: int) -> Offer:
        p = self._pool_of[k]
        return Offer(
            instance=k,
            quality=self._quality[i][p],
            usd=self._usd[i][p],
            work=self._output[i][p],
            input_tokens=self._prompt[p][i],
            fresh_tokens=self._fresh[p][i],
            output_tokens=self._output[i][p],
        )

    def sent(self, i: int, instance: int, now_s: float) -> None:
        """Enters request i into the ledger."""
        p = self._pool_of[instance]
        self._ticket[i] = self._ledger.sent(
            instance, self._prompt[p][i], self._output[i][p], now_s, self._fresh[p][i]
        )

    def first_token(self, i: int, now_s: float) -> None:
        """Notes the first token of request i in the ledger."""
        self._ledger.first_token(self._ticket[i], now_s)

    def ended(self, i: int, now_s: float, output_tokens: int | None) -> None:
        """Takes request i out of the ledger."""
        self._ledger.ended(self._ticket.pop(i), now_s, output_tokens)

    def seen(self, instance: int, report: Seen, now_s: float) -> None:
        """Puts the ledger right."""
        self._ledger.reconcile(instance, report, now_s)


class ByRouteBalance(_Hearing):
    """Takes the instance of the largest score of RouteBalance."""

    def __init__(
        self, cluster: Cluster, demand: Demand, believed: Believed, weights: Weights
    ) -> None:
        super().__init__(cluster, demand, believed)
        self._rule = RouteBalance(weights)
        self._loads = [Load() for _ in self._pool_of]
        self._in_flight: list[dict[int, float]] = [{} for _ in self._pool_of]
        self._at: dict[int, int] = {}

    def choose(self, i: int, instances: Sequence[int], now_s: float) -> int:
        """Returns the instance of the largest score."""
        return instances[self._rule.pick([self._bid(i, k) for k in instances])]

    def _bid(self, i: int, k: int) -> Bid:
        p = self._pool_of[k]
        return Bid.of(
            k,
            self._curves[p],
            self._loads[k],
            quality=self._quality[i][p],
            usd=self._usd[i][p],
            output_tokens=self._output[i][p],
        )

    def sent(self, i: int, instance: int, now_s: float) -> None:
        """Counts request i where it was sent."""
        p, load = self._pool_of[instance], self._loads[instance]
        n = load.n_running + load.n_waiting + 1
        self._loads[instance] = self._load(instance, n, load.decode_tokens + self._output[i][p])
        self._at[i] = instance
        self._in_flight[instance][i] = self._prompt[p][i] + self._output[i][p]

    def _load(self, instance: int, n_requests: float, pending_tokens: float) -> Load:
        """Returns what an instance has to do; whoever finds a place there has it."""
        n_places = self._curves[self._pool_of[instance]].max_num_seqs
        n_running = min(n_requests, n_places)
        return Load(n_running, n_requests - n_running, decode_tokens=pending_tokens)

    def ended(self, i: int, now_s: float, output_tokens: int | None) -> None:
        """Forgets request i; the instance itself will say that it has a place more."""
        del self._in_flight[self._at.pop(i)][i]

    def seen(self, instance: int, report: Seen, now_s: float) -> None:
        """Replaces all that is known of an instance."""
        expected = sum(self._in_flight[instance].values())
        pending = max(expected - (report.kv_tokens or 0.0), 0.0)
        n_requests = report.n_running + report.n_waiting
        self._loads[instance] = self._load(instance, n_requests, pending)
