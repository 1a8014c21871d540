"""Records of loads on queues whose answer times are known, made without the load generator."""

from __future__ import annotations

import heapq

import numpy as np

from planner.profile.load.client import Outcome
from planner.profile.load.driver import Records


def records_of(mode, scheduled_s, first_s, done_s, n_output, load_end_s, **more) -> Records:
    """Records of requests sent on time; those not done when the load ends are cancelled."""
    order = np.argsort(scheduled_s, kind="stable")
    kept = order[np.asarray(scheduled_s)[order] < load_end_s]
    scheduled_s, first_s, done_s = (
        np.asarray(v, float)[kept] for v in (scheduled_s, first_s, done_s)
    )
    n_output = np.broadcast_to(np.asarray(n_output), order.shape)[kept]
    over = done_s > load_end_s
    n = kept.size
    fields = {
        "concurrency": None,
        "scheduled_s": scheduled_s,
        "sent_s": scheduled_s + 1e-4,
        "first_s": np.where(over, np.nan, first_s),
        "done_s": np.where(over, load_end_s, done_s),
        "n_input": np.full(n, 100),
        "n_output": np.where(over, 0, n_output),
        "outcome": np.where(over, Outcome.CANCELLED, Outcome.OK).astype(np.int64),
        "status": np.full(n, 200),
        "lag_s": np.full(50, 5e-4),
        "n_unsent": 0,
        "end": "duration",
        "examples": {},
    }
    return Records(mode=mode, load_end_s=load_end_s, **fields | more)


def open_queue(rate_rps, service_s, load_end_s, seed, n_servers=1, n_output=11, **more) -> Records:
    """An open loop on a queue with exponential services of a mean; the first token at its start."""
    random = np.random.default_rng(seed)
    n = int(rate_rps * load_end_s * 1.5 + 100)
    arrivals_s = np.cumsum(random.exponential(1 / rate_rps, n))
    services_s = random.exponential(service_s, n)
    free_s = [0.0] * n_servers
    starts_s = np.empty(n)
    for i, (arrival_s, length_s) in enumerate(zip(arrivals_s, services_s, strict=True)):
        starts_s[i] = max(arrival_s, heapq.heappop(free_s))
        heapq.heappush(free_s, starts_s[i] + length_s)
    dones_s = starts_s + services_s
    return records_of("open", arrivals_s, starts_s, dones_s, n_output, load_end_s, **more)


def closed_loop(concurrency, answer_s, load_end_s, seed=0, n_output=11, **more) -> Records:
    """A closed loop on a server where an answer takes `answer_s(random, sent_s)`."""
    random = np.random.default_rng(seed)
    free_s = [0.0] * concurrency
    sent_s, done_s = [], []
    while free_s[0] < load_end_s:
        now_s = heapq.heappop(free_s)
        sent_s.append(now_s)
        done_s.append(now_s + answer_s(random, now_s))
        heapq.heappush(free_s, done_s[-1])
    first_s = np.array(sent_s) + 0.1 * (np.array(done_s) - sent_s)
    return records_of(
        "closed", sent_s, first_s, done_s, n_output, load_end_s,
        **{"concurrency": concurrency} | more,
    )  # fmt: skip
