"""RouteBalance's own score and presets, as published: a policy to compare with.

Notation (over the instances i that a request may go to)
    q, c, L     predicted quality, cost, output tokens on i                        1, usd, tokens
    t           time per output token of i as it stands                            ms
    D, r        decode tokens still to come on i; requests that run there          tokens, 1
    w_q, w_l, w_c  weights of quality, latency and cost, which add up to 1

Program
    T      = L t                            where i has a free place, else (D / max(r, 1) + L) t
    Q      = (q - min q) / (max q - min q); 1 where all are the same
    choice = argmax w_q Q + w_l (1 - T / max T) + w_c (1 - c / max c)
             ties by fewest requests, then by the instance used longest ago

Quality, time and money are relative to the candidates of the one request, so the weights have no
unit, and another candidate changes the score of all. A batch is decided longest answer first, and
counters are advanced after each choice; both are the caller's (fused.longest_first, the ledger).

Reference: RouteBalance, arXiv 2606.17949.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from planner.scheduling.delay import Load, StepCurve


class Weights(NamedTuple):
    """How much quality, latency and cost count; they add up to 1."""

    quality: float
    latency: float
    cost: float


PRESETS: Mapping[str, Weights] = {
    "balance": Weights(1 / 3, 1 / 3, 1 / 3),
    "quality": Weights(0.8, 0.1, 0.1),
    "latency": Weights(0.1, 0.8, 0.1),
    "cost": Weights(0.1, 0.1, 0.8),
}


class Bid(NamedTuple):
    """One instance for one request."""

    instance: int
    quality: float
    usd: float
    output_tokens: float  # predicted
    tpot_ms: float  # of the instance as it stands
    pending_tokens: float  # decode tokens still to come there
    n_running: float
    n_requests: float  # running and waiting
    has_free_slot: bool

    @staticmethod
    def of(
        instance: int,
        curve: StepCurve,
        load: Load,
        *,
        quality: float,
        usd: float,
        output_tokens: float,
    ) -> Bid:
        """Returns the bid of an instance that has so much to do.

        Its time per token is a step with the request among those that decode.
        """
        there = load.n_running + load.n_waiting
        n = min(load.n_running + 1.0, float(curve.max_num_seqs))
        tpot_ms = curve.step_ms(n, load.kv_tokens) * load.slowness_ratio
        has_free_slot = there + 1.0 <= curve.max_num_seqs
        return Bid(
            instance, quality, usd, output_tokens, tpot_ms, load.decode_tokens,
            load.n_running, there, has_free_slot,
        )  # fmt: skip

    @property
    def latency_ms(self) -> float:
        """Returns T: behind an equal part of all pending tokens where there is no free place."""
        ahead = 0.0 if self.has_free_slot else self.pending_tokens / max(self.n_running, 1.0)
        return (ahead + self.output_tokens) * self.tpot_ms


class RouteBalance:
    """The choice by these scores; it remembers when it used which instance."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._used: dict[int, int] = {}
        self._n_picks = 0

    def pick(self, bids: Sequence[Bid]) -> int:
        """Returns the index of the bid that is taken.

        Raises:
            ValueError: there is no bid.
        """
        found = scores(bids, self._weights)
        used = self._used
        best = min(
            range(len(bids)),
            key=lambda i: (-found[i], bids[i].n_requests, used.get(bids[i].instance, 0)),
        )
        self._n_picks += 1
        used[bids[best].instance] = self._n_picks
        return best


def scores(bids: Sequence[Bid], weights: Weights) -> list[float]:
    """Returns the score of each bid, 0..1, (n,).

    Raises:
        ValueError: there is no bid.
    """
    if not bids:
        raise ValueError("there is no bid to choose from")
    qualities = [bid.quality for bid in bids]
    times_ms = [bid.latency_ms for bid in bids]
    low, spread = min(qualities), max(qualities) - min(qualities)
    most_ms, most_usd = max(times_ms) or 1.0, max(bid.usd for bid in bids) or 1.0
    return [
        weights.quality * ((bid.quality - low) / spread if spread else 1.0)
        + weights.latency * (1.0 - time_ms / most_ms)
        + weights.cost * (1.0 - bid.usd / most_usd)
        for bid, time_ms in zip(bids, times_ms, strict=True)
    ]
