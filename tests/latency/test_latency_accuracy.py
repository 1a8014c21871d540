"""Accuracy at left-out loads and coverage of the bands: small, self-contained regression.

The curves are those of the pools in profiles/ and of a simulated closed loop; the full table on
public data is benchmarks/latency_accuracy.py.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from latency_cases import draw_lengths
from test_latency_fit import _real_profiles

from planner.latency.fit import fit
from planner.latency.predict import FIGURES, Condition, figures
from planner.latency.steplaw import StepLaw
from planner.spec.pool import Point, Pool, Profile

MIN_LOADS = 4
USERS = (1, 2, 4, 8, 16, 32, 64)


def closed_loop(law, n_users, n_requests, seed):
    """A row of points.csv from an engine that steps n users who never pause."""
    rng = np.random.default_rng([seed, n_users])
    prompts, outputs = (
        draw_lengths(rng, 200, 0.6, n_requests),
        draw_lengths(rng, 40, 0.6, n_requests),
    )
    start, first, last = (np.zeros(n_requests) for _ in range(3))
    running, coming, now = list(range(n_users)), n_users, 0.0
    done = np.zeros(n_requests, dtype=int)
    while running:
        new = [i for i in running if done[i] == 0]
        old = [i for i in running if done[i] > 0]
        context = sum(prompts[i] + done[i] for i in old)
        step = law.step_ms + law.sequence_ms * len(old) + law.root_ms * len(old) ** 0.5
        step += law.context_token_ms * context + law.prompt_token_ms * sum(prompts[i] for i in new)
        now += step * rng.lognormal(0.0, 0.05)
        done[running] += 1
        first[new] = now
        for i in [i for i in running if done[i] >= outputs[i]]:
            last[i] = now
            running.remove(i)
            if coming < n_requests:
                start[coming] = now
                running.append(coming)
                coming += 1
    steady = slice(n_users, n_requests - n_users)
    several = outputs[steady] >= 2
    times = {
        "ttft": (first - start)[steady],
        "tpot": ((last - first)[steady] / np.maximum(outputs[steady] - 1, 1))[several],
        "e2e": (last - start)[steady],
    }
    found = {f"{m}_mean_ms": float(v.mean()) for m, v in times.items()}
    for name, level in (("p50", 50), ("p95", 95)):
        found |= {f"{m}_{name}_ms": float(np.percentile(v, level)) for m, v in times.items()}
    e2e_ms = float((last - start)[steady].mean())
    return Point(
        input_tokens=float(prompts[steady].mean()),
        output_tokens=float(outputs[steady].mean()),
        mode="closed",
        concurrency=float(n_users),
        achieved_rps=1000.0 * n_users / e2e_ms,
        output_tokens_per_s=1000.0 * n_users / e2e_ms * float(outputs[steady].mean()),
        source="test",
        **found,
    )


def profiles():
    """One profile per pool and request shape."""
    for real in _real_profiles().values():
        shapes = defaultdict(list)
        for point in real.points:
            shapes[point.mode, point.input_tokens].append(point)
        for points in shapes.values():
            yield Profile(real.pool, real.gpu, real.facts, tuple(points))
    pool = Pool(name="simulated", model_name="m", gpu="g", source="test")
    for i, law in enumerate((StepLaw(8, 0.1, 3e-5, 0.04, 0.3), StepLaw(20, 0.02, 1e-4, 0.1, 2.0))):
        points = tuple(closed_loop(law, n, 260, i) for n in USERS)
        yield Profile(pool, None, None, points)


@cache
def held_out():
    """{(experiment, figure): [(log error, half-width of the band), ...]} of all profiles."""
    found = defaultdict(list)
    for profile in profiles():
        points = sorted(profile.points, key=lambda p: p.concurrency)
        if len(points) < MIN_LOADS:
            continue
        for i in range(1, len(points)):
            known = tuple(p for p in points if p is not points[i])
            model = fit(Profile(profile.pool, profile.gpu, profile.facts, known))
            p = points[i]
            at = Condition(p.mode, p.input_tokens, p.output_tokens, p.concurrency)
            experiment = "interior" if i < len(points) - 1 else "doubling"
            for column, figure in figures(model, at).items():
                if (measured := getattr(p, column)) is not None:
                    half = np.log(figure.high / figure.value)
                    found[experiment, column].append((np.log(figure.value / measured), half))
    return dict(found)


def relative(experiment, columns):
    errors = [e for c in columns for e, _ in held_out().get((experiment, c), [])]
    return 100 * np.abs(np.expm1(errors))


@pytest.mark.parametrize(
    ("experiment", "columns", "median", "p90"),
    [
        ("interior", ["output_tokens_per_s"], 3, 12),
        ("interior", ["tpot_mean_ms"], 3, 12),
        ("interior", ["tpot_p95_ms", "itl_p95_ms", "itl_p99_ms"], 8, 30),
        ("interior", ["ttft_mean_ms"], 7, 28),
        ("interior", ["ttft_p95_ms"], 9, 32),
        ("interior", ["e2e_mean_ms"], 5, 18),
        # The public data's target is 5 / 20 over 1,164 curves; these are 13 of its harder ones.
        ("doubling", ["output_tokens_per_s"], 7, 20),
        ("doubling", ["tpot_mean_ms"], 8, 30),
    ],
)
def test_left_out_loads_are_predicted(experiment, columns, median, p90):
    errors = relative(experiment, columns)
    assert errors.size >= 2
    assert np.median(errors) <= median and np.quantile(errors, 0.9) <= p90, errors.round(1)


def covered(experiment, part=1.0):
    """Share of the held-out figures inside a part of their bands."""
    rows = [r for (e, _), found in held_out().items() if e == experiment for r in found]
    error, half = np.array(rows).T
    return np.mean(np.abs(error) <= part * half)


def test_bands_hold_what_was_left_out_and_not_by_being_wide():
    assert {c for _, c in held_out()} <= set(FIGURES)
    assert sum(len(rows) for rows in held_out().values()) >= 200
    assert 0.85 <= covered("interior") <= 0.98
    assert covered("interior", 0.5) < 0.85
    assert covered("doubling") >= 0.8
