"""Least delay between replicas: its definition, and that it serves a simulated pool well."""

import numpy as np
import pytest
from replica_states import ENGINES, MEAN_OUTPUT, lengths

from planner.scheduling.balance import Workers, make_policy
from planner.scheduling.delay import Load, predict_delay
from planner.scheduling.least_delay import NAMES, LeastDelay
from planner.scheduling.ledger import Ledger
from planner.simulate.replica import Replica
from planner.simulate.settings import Times, Tokens
from planner.simulate.units import PS_PER_MS, PS_PER_S

CURVE = ENGINES["few places"].curve


def test_it_is_named_beside_the_others():
    assert NAMES[0] == "least_delay"
    assert "fewest_requests" in NAMES


def test_the_least_cost_of_those_up_wins():
    random = np.random.default_rng(0)
    for _ in range(50):
        n = int(random.integers(1, 6))
        columns = random.uniform(0, 1, (n, 5)) * [16, 4, 2000, 4000, 20_000]
        loads = [Load(*row) for row in columns.tolist()]
        fresh = random.uniform(1, 900, n).tolist()
        is_up = (random.random(n) < 0.7).tolist()
        if not any(is_up):
            continue
        delays = [
            predict_delay(CURVE, load, f, 900, 100) for load, f in zip(loads, fresh, strict=True)
        ]
        cost = [d.e2e_ms + d.added_ms + 2 * d.wait_ms for d in delays]
        chosen = LeastDelay(CURVE).pick(fresh, 900, 100, loads, is_up)
        assert cost[chosen] == min(c for c, up in zip(cost, is_up, strict=True) if up)


def test_ties_are_taken_in_turn():
    policy = LeastDelay(CURVE)
    picks = [policy.pick([9] * 3, 9, 9, [Load()] * 3, [True, True, True]) for _ in range(6)]
    assert picks == [0, 1, 2, 0, 1, 2]


def test_what_is_cached_draws_a_session_until_the_queue_there_is_longer():
    loads = [Load(), Load(n_running=2, decode_tokens=200, kv_tokens=400)]
    assert LeastDelay(CURVE).pick([3000, 100], 3000, 50, loads, [True, True]) == 1
    loads[1] = Load(n_running=16, n_waiting=6, decode_tokens=4000, kv_tokens=9000)
    assert LeastDelay(CURVE).pick([3000, 100], 3000, 50, loads, [True, True]) == 0


def test_nobody_up_is_said():
    with pytest.raises(ValueError, match="no replica is up"):
        LeastDelay(CURVE).pick([1.0], 1, 1, [Load()], [False])


class Pool:
    """Simulated replicas and a ledger that is told of what becomes of requests, when it does."""

    def __init__(self, n_replicas, n_requests, seed, slow_ratio):
        random = np.random.default_rng(seed)
        engine = ENGINES["few places"]
        gap_ms = 1 / (0.75 * n_replicas * engine.rate_per_ms(1.0))
        self.arrived_ps = np.cumsum(random.exponential(gap_ms * PS_PER_MS, n_requests)).astype(int)
        self.prompt, self.output = (x.tolist() for x in lengths(random, n_requests, "exponential"))
        self.times = Times.none_yet(n_requests)
        tokens = Tokens(self.prompt, self.prompt, self.output)
        self.replicas = [Replica(engine.settings, tokens, self.times) for _ in range(n_replicas)]
        self.replicas[0].slow(0, slow_ratio)
        self.ledger = Ledger([engine.curve] * n_replicas, length_cv=1.0)
        self.open = {}

    def tell(self, now_ps):
        """Brings the replicas to a moment and tells the ledger what has happened."""
        for replica in self.replicas:
            replica.advance(now_ps)
        first, done = self.times.first_ps, self.times.done_ps
        for i, (ticket, has_begun) in list(self.open.items()):
            if not has_begun and first[i] >= 0:
                self.ledger.first_token(ticket, first[i] / PS_PER_S)
                self.open[i] = ticket, True
            if done[i] >= 0:
                self.ledger.ended(ticket, done[i] / PS_PER_S, self.output[i])
                del self.open[i]

    def send(self, i, g, now_ps):
        ticket = self.ledger.sent(g, self.prompt[i], MEAN_OUTPUT, now_ps / PS_PER_S)
        self.open[i] = ticket, False
        self.replicas[g].submit(i, now_ps)

    def mean_e2e_ms(self, choose):
        for i, now_ps in enumerate(self.arrived_ps.tolist()):
            self.tell(now_ps)
            self.send(i, choose(self, i, now_ps), now_ps)
        for replica in self.replicas:
            replica.drain()
        return float((np.array(self.times.done_ps) - self.arrived_ps).mean() / PS_PER_MS)


def by_least_delay():
    policy = LeastDelay(CURVE)

    def choose(pool, i, now_ps):
        n, prompt = len(pool.replicas), pool.prompt[i]
        loads = [pool.ledger.load(g, now_ps / PS_PER_S) for g in range(n)]
        return policy.pick([prompt] * n, prompt, MEAN_OUTPUT, loads, [True] * n)

    return choose


def by_fewest_requests():
    policy = make_policy("fewest_requests", 0)

    def choose(pool, i, now_ps):
        n = len(pool.replicas)
        running = [r.n_outstanding for r in pool.replicas]
        return policy.pick(pool.prompt[i], Workers(running, [0] * n, [0] * n, [True] * n))

    return choose


@pytest.mark.parametrize(("slow_ratio", "at_most"), [(1.0, 1.002), (2.0, 0.97)])
def test_a_slow_replica_is_found_out_and_among_equals_nothing_is_lost(slow_ratio, at_most):
    """Against the exact numbers of requests, which the ledger only reckons."""
    ratios = []
    for seed in range(4):
        mean_ms = [
            Pool(3, 500, seed, slow_ratio).mean_e2e_ms(make())
            for make in (by_least_delay, by_fewest_requests)
        ]
        ratios.append(mean_ms[0] / mean_ms[1])
    assert np.mean(ratios) <= at_most
