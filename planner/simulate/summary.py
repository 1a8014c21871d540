"""What runs of a cluster say: latency against the limits, goodput, quality, money, and the pools.

    counted      the requests that arrive in the window (planner/simulate/warmup.py)
    goodput      answers within every percentile limit on them, per second of the window; one of a
                 single token has no tpot and breaks no limit on it
    quality      mean score of the counted requests; one without an answer scores 0 (§4), one that a
                 cascade answered what all users of that cascade get on average
    tokens/s     output tokens of answers that were finished in the window, per second of it; first
                 answers of cascades that were not trusted, too, as they are work like any
    money        rent, and what hosted pools charge for those answers, per output token of them;
                 of the whole cluster per output token that users see

Latency figures are those of planner/simulate/figures.py, the pools' of planner/simulate/pools.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.simulate.estimates import Estimate, of_groups, parts_per_run
from planner.simulate.figures import asked_figures, in_scope, latency_ratio
from planner.simulate.pools import PoolMeans, pool_means
from planner.simulate.records import Outcome, Records, Usage
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.plan import Simulated, SimulatedPool
from planner.spec.question import LatencyObjective
from planner.spec.workload import ScopedLimit

MONEY_DIGITS = 4
RATE_DIGITS = 6


@dataclass(frozen=True)
class Terms:
    """What runs are held against, and what the pools cost and are worth."""

    limits: tuple[ScopedLimit, ...]
    objective: LatencyObjective
    quality: FloatArray  # (C, P) mean score, NaN where a class may not use a pool
    rent_usd_per_h: FloatArray  # (P,) of all replicas of a pool
    usd_per_million_input_tokens: FloatArray  # (P,) of a hosted pool, 0 on own GPUs
    usd_per_million_output_tokens: FloatArray  # (P,)
    cascade_quality: FloatArray = field(default_factory=lambda: np.empty(0))  # (O,)


@dataclass(frozen=True)
class Conditions:
    """Under which conditions the runs were made, for the reader."""

    seeds: tuple[int, ...]
    balance: str
    rate_factor: float = 1.0
    failures: tuple[str, ...] = ()


def summarise(
    runs: Sequence[Records],
    usages: Sequence[Usage],
    terms: Terms,
    window: Window,
    conditions: Conditions,
) -> Simulated:
    """Returns what runs of one cluster say, one run per seed, rounded for the file (§6)."""
    counted = [run.between(window.start_ps, window.end_ps) for run in runs]
    names = runs[0].class_names
    figures = asked_figures(runs, window, terms.limits, terms.objective)
    good = [_is_good(run, terms.limits) for run in counted]
    scores = [_scores(run, terms) for run in counted]
    goodput = _goodput(counted, good, window)
    rate = _per_s([np.full(run.n_requests, True) for run in counted], window)
    means = pool_means(runs, counted, usages, window)
    pools = _pools(runs[0].pool_names, means, terms, _pool_goodput(counted, good, window))
    cost_usd_per_h = float((terms.rent_usd_per_h + _hosted_usd_per_h(means, terms)).sum())
    return Simulated(
        rate_rps=rate,
        class_rps=_by_class(counted, None, window),
        rate_factor=conditions.rate_factor,
        cost_usd_per_h=round(cost_usd_per_h, MONEY_DIGITS),
        usd_per_million_output_tokens=_per_million(
            cost_usd_per_h, float(means.delivered_tokens_per_s.sum())
        ),
        quality=_quality(counted, scores, None),
        class_quality={name: _quality(counted, scores, c) for c, name in enumerate(names)},
        goodput_rps=round(goodput.value, RATE_DIGITS),
        goodput_low_rps=round(goodput.low, RATE_DIGITS),
        goodput_high_rps=round(goodput.high, RATE_DIGITS),
        class_goodput_rps=_by_class(counted, good, window),
        latency=figures,
        latency_ratio=latency_ratio(figures),
        pools=pools,
        n_requests=sum(run.n_requests for run in counted),
        n_failed=_n_ended(counted, Outcome.FAILED),
        n_refused=_n_ended(counted, Outcome.REFUSED),
        n_preempted=int(sum(run.n_preempted.sum() for run in counted)),
        seeds=conditions.seeds,
        counted_from_s=round(window.start_ps / PS_PER_S, 3),
        duration_s=round(window.duration_s, 3),
        settled=window.settled,
        balance=conditions.balance,
        failures=conditions.failures,
    )


# ---- Rates, quality, money -----------------------------------------------------------------------


def _is_good(run: Records, limits: Sequence[ScopedLimit]) -> BoolArray:
    """Returns which requests are answered within every percentile limit on them, (N,)."""
    good = run.is_answered
    for scoped in limits:
        if scoped.limit.tail_ratio is None:
            continue
        late = ~run.is_timed | (run.latency_ms(scoped.limit.metric) > scoped.limit.at_most_ms)
        good = good & ~(late & in_scope(run, scoped.class_name))
    return good


def _goodput(counted: Sequence[Records], good: Sequence[BoolArray], window: Window) -> Estimate:
    """Returns the good answers per second, with an interval over runs or parts of them."""
    n_parts = parts_per_run(len(counted))
    edges = np.linspace(window.start_ps, window.end_ps, n_parts + 1)
    per_part = [
        np.histogram(run.arrived_ps[kept], edges)[0] * (n_parts / window.duration_s)
        for run, kept in zip(counted, good, strict=True)
    ]
    groups = np.concatenate(per_part)
    return of_groups(float(groups.mean()), groups)


def _per_s(kept: Sequence[BoolArray], window: Window) -> float:
    """Returns how many requests per second are kept, on average over the runs."""
    n = sum(int(k.sum()) for k in kept)
    return round(n / len(kept) / window.duration_s, RATE_DIGITS)


def _by_class(
    counted: Sequence[Records], kept: Sequence[BoolArray] | None, window: Window
) -> dict[str, float]:
    """Returns requests per second by class: those kept, or all of them."""
    chosen = kept or [np.full(run.n_requests, True) for run in counted]
    return {
        name: _per_s(
            [k & in_scope(run, name) for run, k in zip(counted, chosen, strict=True)], window
        )
        for name in counted[0].class_names
    }


def _pool_goodput(
    counted: Sequence[Records], good: Sequence[BoolArray], window: Window
) -> FloatArray:
    """Returns the good answers per second of each pool, (P,)."""
    n_pools = len(counted[0].pool_names)
    n = sum(
        np.bincount(run.pool_index[kept], minlength=n_pools)
        for run, kept in zip(counted, good, strict=True)
    )
    return np.asarray(n / len(counted) / window.duration_s)


def _quality(counted: Sequence[Records], scores: Sequence[FloatArray], c: int | None) -> float:
    """Returns the mean score of all requests, or of a class's; one without an answer scores 0."""
    total, n = 0.0, 0
    for run, expected in zip(counted, scores, strict=True):
        here = np.full(run.n_requests, True) if c is None else run.class_index == c
        total += float(np.nan_to_num(expected[here & run.is_answered]).sum())
        n += int(here.sum())
    return round(min(total / n, 1.0), RATE_DIGITS) if n else 0.0


def _scores(run: Records, terms: Terms) -> FloatArray:
    """Returns the expected score of each request where it went, (N,)."""
    alone = terms.quality[run.class_index, run.pool_index]
    if run.cascaded is None:
        return alone
    cascade = run.cascaded.cascade_index
    known = np.append(terms.cascade_quality, np.nan)  # where -1 leads
    return np.where(cascade >= 0, known[cascade], alone)


def _hosted_usd_per_h(means: PoolMeans, terms: Terms) -> FloatArray:
    """Returns what the answers of each hosted pool cost, (P,) in $/h."""
    per_s = means.input_tokens_per_s * terms.usd_per_million_input_tokens
    per_s = per_s + means.output_tokens_per_s * terms.usd_per_million_output_tokens
    return np.asarray(per_s * 3600.0 / 1e6)


def _per_million(usd_per_h: float, output_tokens_per_s: float) -> float | None:
    per_h = output_tokens_per_s * 3600.0
    return round(usd_per_h / per_h * 1e6, MONEY_DIGITS) if per_h >= 1.0 else None


def _n_ended(counted: Sequence[Records], outcome: Outcome) -> int:
    return int(sum((run.outcome == outcome).sum() for run in counted))


def _pools(
    names: Sequence[str], means: PoolMeans, terms: Terms, goodput_rps: FloatArray
) -> tuple[SimulatedPool, ...]:
    usd_per_h = terms.rent_usd_per_h + _hosted_usd_per_h(means, terms)
    return tuple(
        SimulatedPool(
            pool=name,
            rate_rps=round(float(means.rate_rps[p]), RATE_DIGITS),
            output_tokens_per_s=round(float(means.output_tokens_per_s[p]), 3),
            goodput_rps=round(float(goodput_rps[p]), RATE_DIGITS),
            usd_per_million_output_tokens=_per_million(
                float(usd_per_h[p]), float(means.output_tokens_per_s[p])
            ),
            busy_ratio=round(min(float(means.busy_ratio[p]), 1.0), RATE_DIGITS),
            n_in_flight_mean=round(float(means.n_in_flight_mean[p]), 4),
            n_decoding_mean=round(float(means.n_decoding_mean[p]), 4),
            kv_ratio=_rounded(means.kv_ratio[p]),
            n_preempted=round(float(means.n_preempted[p]), 2),
            imbalance_tokens=_rounded(means.imbalance_tokens[p]),
            barrier_idle_ratio=_rounded(means.barrier_idle_ratio[p]),
        )
        for p, name in enumerate(names)
    )


def _rounded(value: float) -> float | None:
    """Returns a figure for the file; None for NaN, where there is none."""
    return None if np.isnan(value) else round(float(value), RATE_DIGITS)
