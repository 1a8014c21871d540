"""Time of one online decision over the 13 instances of RouteBalance's cluster, p50 and p99.

    python benchmarks/decision_time.py

CPU time of one thread per decision, estimates of quality and length given: that is what a request
waits for beside them. The cluster is that of RouteBalance (arXiv 2606.17949): 2 instances of a 72B,
3 of a 14B, 5 of a 7B and 3 of a 3B model, 12, 18 and 30 requests per second. Requests begin, run
and end meanwhile, so that the ledger has as much to reckon as it has when serving. The figure to
compare with is the one that its authors publish, on their machine: 28 to 32 ms of decision time.

Rows. "fused": worth in money and seconds over all instances, by three prices of time, which say
how many of the instances must be looked at; "all looked at" asks for every delay first. "wants":
with deadline, budget and a quality floor. "shares": the routing table picks the pool, the least
delay its replica. "prices": a model by the plan's prices, then the fused choice in it.
"bookkeeping": what the ledger takes for one request, from sending to its end. "proxy": all that
`rb serve` does between the parsed body and the first byte upstream: headers, class, pool,
admission by predicted delays, instance, ledger.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "runtime"))

from fleets import class_sheet, pool_sheet, servers, setup_of, sheet_of

from planner.runtime.ask import Refusal
from planner.runtime.body import read_call
from planner.runtime.dispatch import Dispatcher
from planner.runtime.served import Usage
from planner.scheduling.choice import best_model
from planner.scheduling.delay import Delay, StepCurve
from planner.scheduling.feedback import PriceKeeper
from planner.scheduling.fused import NO_WANTS, Offer, Prices, Wants, choose, decide
from planner.scheduling.least_delay import LeastDelay
from planner.scheduling.ledger import Ledger
from planner.scheduling.routebalance import PRESETS, Bid, RouteBalance
from planner.scheduling.table import Turns
from planner.spec.sheet import StepKnots

RATES_RPS = (12.0, 18.0, 30.0)
N_DECISIONS, N_WARM = 6000, 500
TARGET_US = (50.0, 200.0)
PUBLISHED_US = 30_000.0
PAUSE_S = 5e-5  # between taking a request and asking who gets it: the proxy reads the clock anew


@dataclass(frozen=True)
class Tier:
    """The instances of one model."""

    n: int
    step_ms: float
    sequence_ms: float
    prompt_token_ms: float
    max_num_seqs: int
    quality: float
    usd_per_token: float

    @property
    def curve(self) -> StepCurve:
        """Returns its steps."""
        knots = (0, *(2**k for k in range(10) if 2**k <= self.max_num_seqs))
        return StepCurve(
            n=knots,
            decode_ms=tuple(self.step_ms + self.sequence_ms * (n - 1) for n in knots),
            context_token_ms=(1e-5,) * len(knots),
            prompt_token_ms=self.prompt_token_ms,
            request_ms=15.0,
            max_num_seqs=self.max_num_seqs,
            kv_capacity_tokens=120_000,
            max_num_batched_tokens=2048,
        )


TIERS = (
    Tier(2, 47.0, 0.4, 0.10, 64, 0.45, 0.39e-6),
    Tier(3, 18.0, 0.8, 0.05, 64, 0.40, 0.15e-6),
    Tier(5, 20.6, 0.3, 0.03, 64, 0.36, 0.07e-6),
    Tier(3, 12.0, 0.3, 0.02, 64, 0.32, 0.06e-6),
)
ONE_POOL = (replace(TIERS[2], n=13),)
TIER_OF = [t for t, tier in enumerate(TIERS) for _ in range(tier.n)]
CURVES = [TIERS[t].curve for t in TIER_OF]
N = len(CURVES)
BY_TIER = [[g for g in range(N) if TIER_OF[g] == t] for t in range(len(TIERS))]
USD = [tier.usd_per_token for tier in TIERS]


@dataclass
class Request:
    """What is known of a request when it is decided."""

    input_tokens: float
    output_tokens: list[float]  # by tier
    quality: list[float]  # by tier


@dataclass
class Serving:
    """A cluster as a proxy sees it: its ledger, and when what is under way begins and ends."""

    ledger: Ledger = field(default_factory=lambda: Ledger(CURVES))
    now_s: float = 0.0
    due: list[tuple[float, int, int]] = field(default_factory=list)  # when, what, ticket

    def pass_time(self, gap_s: float) -> None:
        """Lets what is due by then happen."""
        self.now_s += gap_s
        while self.due and self.due[0][0] <= self.now_s:
            at_s, what, ticket = heappop(self.due)
            if what == 0:
                self.ledger.first_token(ticket, at_s)
            else:
                self.ledger.ended(ticket, at_s)

    def send(self, request: Request, g: int) -> None:
        """Sends a request to an instance; it takes about as long as predicted."""
        tokens = request.output_tokens[TIER_OF[g]]
        delay = self.ledger.delay(g, request.input_tokens, request.input_tokens, tokens, self.now_s)
        ticket = self.ledger.sent(g, request.input_tokens, tokens, self.now_s)
        heappush(self.due, (self.now_s + delay.ttft_ms / 1e3, 0, ticket))
        heappush(self.due, (self.now_s + delay.e2e_ms / 1e3, 1, ticket))


def requests(n: int, seed: int) -> list[Request]:
    """Returns requests of the published lengths: log-normal answers, 130 tokens on average."""
    random = np.random.default_rng(seed)
    prompts = np.minimum(random.lognormal(5.0, 0.8, n), 3000.0).tolist()
    answers = np.minimum(random.lognormal(4.2, 1.1, (n, 1)) * np.ones(len(TIERS)), 1024.0).tolist()
    quality = [tier.quality for tier in TIERS] + random.normal(0.0, 0.08, (n, len(TIERS)))
    rows = zip(prompts, answers, quality.tolist(), strict=True)
    return [Request(1.0 + p, [1.0 + x for x in a], q) for p, a, q in rows]


Decide = Callable[[Serving, Request], int]


def offers(serving: Serving, request: Request, instances: Sequence[int]) -> list[Offer]:
    """Returns what the instances offer; making them is part of a decision."""
    made, tokens = [], request.input_tokens
    for g in instances:
        t = TIER_OF[g]
        output = request.output_tokens[t]
        usd = USD[t] * (tokens + output)
        made.append(Offer(g, request.quality[t], usd, output, tokens, tokens, output, 1.25))
    return made


def taken(serving: Serving, made: list[Offer], prices: Prices, wants: Wants) -> int:
    """Returns the index of the offer that is taken."""
    predict, now_s = serving.ledger.delay, serving.now_s

    def delay_of(o: Offer) -> Delay:
        return predict(o.instance, o.fresh_tokens, o.input_tokens, o.output_tokens, now_s)

    found = decide(made, delay_of, prices, wants)
    assert found is not None
    return found[0]


def fused(quality_per_s: float, wants: Wants) -> Decide:
    """Returns the fused choice over all instances."""
    prices, everywhere = Prices(1.0, quality_per_s, quality_per_s), range(N)

    def decided(serving: Serving, request: Request) -> int:
        return taken(serving, offers(serving, request, everywhere), prices, wants)

    return decided


def fused_all(quality_per_s: float) -> Decide:
    """Returns the same with the delays of all instances."""
    prices, everywhere = Prices(1.0, quality_per_s, quality_per_s), range(N)

    def decided(serving: Serving, request: Request) -> int:
        made, tokens = offers(serving, request, everywhere), request.input_tokens
        delay, now_s = serving.ledger.delay, serving.now_s
        delays = [delay(o.instance, tokens, tokens, o.output_tokens, now_s) for o in made]
        return choose(made, delays, prices)

    return decided


def by_shares() -> Decide:
    """Returns the choice by the shares of a plan and the least delay in the pool."""
    turns = Turns([0.1, 0.2, 0.4, 0.3])
    policies = [LeastDelay(TIERS[t].curve) for t in range(len(TIERS))]

    def decided(serving: Serving, request: Request) -> int:
        t = turns.next()
        loads = [serving.ledger.load(g, serving.now_s) for g in BY_TIER[t]]
        fresh, up = [request.input_tokens] * len(loads), [True] * len(loads)
        output = request.output_tokens[t]
        return BY_TIER[t][policies[t].pick(fresh, request.input_tokens, output, loads, up)]

    return decided


def by_prices(rate_rps: float) -> Decide:
    """Returns the choice of a model by prices and of an instance by the fused choice."""
    caps = rate_rps * np.array([10.0, 30.0, 60.0, np.inf])
    keeper = PriceKeeper(np.array([1e-3, 5e-4, 1e-4, 0.0]), caps, window=2000 / rate_rps)
    prices = Prices(1.0, 0.02, 0.02)

    def decided(serving: Serving, request: Request) -> int:
        quality, work = np.array([request.quality]), np.array([request.output_tokens])
        t = int(best_model(quality, work, keeper.price)[0])
        keeper.routed(t, float(work[0, t]), 1.0 / rate_rps)
        made = offers(serving, request, BY_TIER[t])
        return BY_TIER[t][taken(serving, made, prices, NO_WANTS)]

    return decided


def by_routebalance() -> Decide:
    """Returns RouteBalance's own score over the same ledger."""
    policy = RouteBalance(PRESETS["balance"])

    def decided(serving: Serving, request: Request) -> int:
        bids = []
        for g in range(N):
            t = TIER_OF[g]
            output = request.output_tokens[t]
            load = serving.ledger.load(g, serving.now_s)
            usd = USD[t] * (request.input_tokens + output)
            bid = Bid.of(
                g, CURVES[g], load, quality=request.quality[t], usd=usd, output_tokens=output
            )
            bids.append(bid)
        return policy.pick(bids)

    return decided


def times_us(decided: Decide, rate_rps: float) -> np.ndarray:
    """Returns the time of each decision of a run, us."""
    serving, times = Serving(), []
    gaps_s = np.random.default_rng(1).exponential(1.0 / rate_rps, N_DECISIONS).tolist()
    for request, gap_s in zip(requests(N_DECISIONS, 2), gaps_s, strict=True):
        serving.pass_time(gap_s)
        start = time.thread_time()
        g = decided(serving, request)
        times.append(time.thread_time() - start)
        serving.send(request, g)
    return np.array(times[N_WARM:]) * 1e6


def bookkeeping_us() -> np.ndarray:
    """Returns the time that the ledger takes for one request from sending to its end, us."""
    ledger, taken = Ledger(CURVES), []
    open_tickets: list[int] = []
    for k, request in enumerate(requests(N_DECISIONS, 3)):
        now_s, g = 0.03 * k, k % N
        start = time.thread_time()
        ticket = ledger.sent(g, request.input_tokens, request.output_tokens[0], now_s)
        ledger.first_token(ticket, now_s + 0.01)
        if len(open_tickets) >= 100:
            ledger.ended(open_tickets.pop(0), now_s + 0.02, 100.0)
        taken.append(time.thread_time() - start)
        open_tickets.append(ticket)
    return np.array(taken[N_WARM:]) * 1e6


def dispatcher(route_by: str, tiers: Sequence[Tier], *, admission: bool) -> Dispatcher:
    """Returns the proxy's own decisions over a cluster, one pool for each tier."""
    names = [f"pool-{t}" for t in range(len(tiers))]
    pools = {}
    for name, tier in zip(names, tiers, strict=True):
        curve = tier.curve
        knots = StepKnots(
            n=curve.n, decode_ms=curve.decode_ms, context_token_ms=curve.context_token_ms
        )
        pools[name] = pool_sheet(
            model_name=name,
            n_replicas=tier.n,
            max_num_seqs=curve.max_num_seqs,
            max_num_batched_tokens=curve.max_num_batched_tokens,
            kv_capacity_tokens=float(curve.kv_capacity_tokens),
            steps=knots,
            prompt_token_ms=curve.prompt_token_ms,
            request_ms=curve.request_ms,
        )
    sheet = sheet_of(pools, {"chat": class_sheet(names, output_tokens=130.0)})
    endpoints = {name: servers(tier.n) for name, tier in zip(names, tiers, strict=True)}
    setup = setup_of(endpoints, sheet, route_by=route_by, admission=admission)
    return Dispatcher(setup, 0.0, ())


def proxy_us(
    route_by: str, rate_rps: float, tiers: Sequence[Tier] = TIERS, *, admission: bool
) -> np.ndarray:
    """Returns the time of each decision of the proxy, us."""
    decides = dispatcher(route_by, tiers, admission=admission)
    text = "hello world, what do you know of it? " * 20
    body = msgspec.json.encode(
        {"model": "rb/auto", "messages": [{"role": "user", "content": text}], "stream": True}
    )
    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"x-rb-class", b"chat")]
    gaps_s = np.random.default_rng(1).exponential(1.0 / rate_rps, N_DECISIONS).tolist()
    now_s, times, due = 0.0, [], []
    for k, gap_s in enumerate(gaps_s):
        now_s += gap_s
        while due and due[0][0] <= now_s:
            at_s, _, what, ticket = heappop(due)
            if what == 0:
                decides.first_token(ticket, at_s)
            else:
                decides.ended(ticket, at_s, "ok", "", Usage(200, 130), 200)
        call = read_call("/v1/chat/completions", body)
        assert not isinstance(call, Refusal)
        start = time.thread_time()
        ticket = decides.begin(call, headers, now_s)
        if not isinstance(ticket, Refusal):
            decides.next_instance(ticket, now_s + PAUSE_S)
        times.append(time.thread_time() - start)
        if not isinstance(ticket, Refusal):
            heappush(due, (now_s + 0.1, 2 * k, 0, ticket))
            heappush(due, (now_s + 3.0, 2 * k + 1, 1, ticket))
    return np.array(times[N_WARM:]) * 1e6


def show(name: str, rate_rps: float | None, taken: np.ndarray, has_target: bool) -> None:
    """Prints one row of the table."""
    p50, p99 = np.percentile(taken, [50, 99])
    met = p50 <= TARGET_US[0] and p99 <= TARGET_US[1]
    verdict = ("met" if met else "MISSED") if has_target else ""
    rate = "" if rate_rps is None else f"{rate_rps:g}"
    faster = f"{PUBLISHED_US / p50:,.0f}"
    print(f"| {name} | {rate} | {p50:.1f} | {p99:.1f} | {faster} | {verdict} |", flush=True)


def main() -> None:
    """Prints one row per way to decide and rate."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("| decision | req/s | p50 us | p99 us | published / p50 | target 50 / 200 us |")
    print("| :-- | --: | --: | --: | --: | :-- |")
    sure = Wants(deadline_ms=8_000.0, budget_usd=4e-4, quality_at_least=0.3)
    for rate_rps in RATES_RPS:
        rows: list[tuple[str, Decide, bool]] = [
            ("fused, no price of time", fused(0.0, NO_WANTS), True),
            ("fused, 0.02 per s", fused(0.02, NO_WANTS), True),
            ("fused, 0.1 per s", fused(0.1, NO_WANTS), True),
            ("fused, 0.02 per s, wants", fused(0.02, sure), True),
            ("fused, 0.02 per s, all looked at", fused_all(0.02), False),
            ("shares, least delay", by_shares(), True),
            ("prices, then fused", by_prices(rate_rps), True),
            ("RouteBalance's score", by_routebalance(), False),
        ]
        for name, decided, has_target in rows:
            show(name, rate_rps, times_us(decided, rate_rps), has_target)
        shares, all_13 = "shares", "routebalance:balance"
        show("proxy, shares", rate_rps, proxy_us(shares, rate_rps, admission=False), True)
        show("proxy, shares, admission", rate_rps, proxy_us(shares, rate_rps, admission=True), True)
        one_pool = proxy_us(shares, rate_rps, ONE_POOL, admission=True)
        show("proxy, shares, admission, 13 in one pool", rate_rps, one_pool, True)
        show("proxy, RouteBalance", rate_rps, proxy_us(all_13, rate_rps, admission=False), False)
    show("bookkeeping", None, bookkeeping_us(), False)


if __name__ == "__main__":
    main()
