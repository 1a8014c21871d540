"""What the router may believe, on public per-prompt scores: gaps, planning by class, calibration.

    python benchmarks/router_quality.py --data DIR [--permutations 200]

Every estimate comes from a router that was trained without the prompts it is judged on: five folds
by hash, or the set's own test part. Gaps, gains and intervals are those of planner.quality.curve,
as `rb router eval` prints them. A target is printed beside each figure, and whether it is met.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from router_quality_data import DataSet, data_sets
from scipy.optimize import linprog

from planner.quality.calibration import calibration_of, length_fit_of
from planner.quality.cascade import proven_cascades
from planner.quality.curve import (
    Interval,
    Outcome,
    Yardstick,
    interval_of,
    measure,
    resamples_of,
    yardstick_of,
)
from planner.quality.features import surface
from planner.quality.folds import fold_of
from planner.quality.gate import run_gate
from planner.quality.router import classify, estimate
from planner.quality.scores import Scores
from planner.quality.splitting import class_splits
from planner.quality.train import cross_fit, train_router
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.router import Router

GAP_TARGETS = {"zeroeval Llama-3.1": 0.08, "zeroeval Gemma-2": 0.12, "routellm": 0.19}
PLANNED_BY_CLASS = ("zeroeval Llama-3.1", "zeroeval Gemma-2")
KEPT_TARGET = 0.8
NEVER_WORSE = -0.02
CAPS = (0.10, 0.25)
CAP_TARGET_POINTS = 4.0
N_PERMUTED = 1000  # prompts whose labels are shuffled


@dataclass(frozen=True)
class Row:
    """One figure with its target; None: reported only."""

    claim: str
    data: str
    figure: str
    target: str = ""
    is_met: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "met", False: "MISSED", None: ""}[self.is_met]
        return f"| {self.claim} | {self.data} | {self.figure} | {self.target} | {verdict} |"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What routers that never saw them believe of the judged prompts, and what happened."""

    data: DataSet
    scores: Scores  # of the judged prompts
    cost: FloatArray  # (n, M) realised
    class_quality: FloatArray  # (n, M) of the declared class
    shipped_quality: FloatArray  # (n, M) class means, or per-prompt terms behind the gate
    inferred_quality: FloatArray  # (n, M) where the class is not declared
    tokens: FloatArray  # (n, M) predicted
    class_tokens: FloatArray  # (n, M) class means
    inferred_tokens: FloatArray  # (n, M)
    yardstick: Yardstick

    @property
    def cost_hat(self) -> FloatArray:
        return self.data.unit_cost * self.tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--permutations", type=int, default=200)
    arguments = parser.parse_args()
    print("| claim | data | figure [95 %] | target | |\n|---|---|---|---|---|")
    proven = []
    for data in data_sets(arguments.data):
        held = held_out(data)
        for row in (*gaps(held), *calibration(held), *lengths(held), *unseen_task(data)):
            print(row, flush=True)
        if data.name in PLANNED_BY_CLASS:
            for cap in CAPS:
                print(planned_by_class(data, cap), flush=True)
            print(shuffled(data, arguments.permutations), flush=True)
        for row in earned(data):
            print(row, flush=True)
            proven.append((data.name, row.is_met))
    names = sorted({name for name, is_met in proven if is_met})
    figure = ", ".join(names) or "none"
    print(Row("stretch: proven gains", "all", figure, "two sets", len(names) >= 2))


def shown(found: Interval, digits: int = 3) -> str:
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


# ---- Held-out estimates --------------------------------------------------------------------------


def held_out(data: DataSet) -> HeldOut:
    """What is believed of each judged prompt by a router trained on the others."""
    fold = fold_of(data.scores) if data.tested is None else data.tested.astype(np.int64)
    judged = [fold == f for f in np.unique(fold)] if data.tested is None else [data.tested]
    order = np.concatenate([np.flatnonzero(rows) for rows in judged])
    parts = [_believed(data, rows) for rows in judged]
    scores, cost = data.scores.take(order), data.cost[order]
    outcome = Outcome(scores.score, cost, np.ones(order.size))
    believed = [np.concatenate(part) for part in zip(*parts, strict=True)]
    yardstick = yardstick_of(outcome, resamples_of(scores.group), fold[order])
    return HeldOut(data, scores, cost, *believed, yardstick)


def _believed(data: DataSet, rows: BoolArray) -> tuple[FloatArray, ...]:
    """Class, shipped and inferred quality, then predicted, class and inferred tokens."""
    router = train_router(data.scores.take(~rows), data.usd_per_token)
    judged = data.scores.take(rows)
    declared = np.eye(judged.n_classes)[judged.class_code]
    known = estimate(router, texts_of(judged), declared)
    inferred = estimate(router, texts_of(judged), classify(router, texts_of(judged)))
    return (
        router.means.mean[judged.class_code],
        known.quality,
        inferred.quality,
        known.output_tokens,
        router.class_tokens[judged.class_code],
        inferred.output_tokens,
    )


def texts_of(scores: Scores) -> tuple[str, ...]:
    return ("",) * scores.n_prompts if scores.text is None else scores.text


# ---- Decisions -----------------------------------------------------------------------------------


def gaps(held: HeldOut) -> Iterator[Row]:
    """The gap closed with the class known, unknown, and by what ships."""
    name, yardstick = held.data.name, held.yardstick
    known = measure(held.class_quality, held.cost_hat, yardstick)
    gap = interval_of(known.gap)
    target = GAP_TARGETS.get(name)
    text, is_met = ("", None) if target is None else (f">= {target}", gap.value >= target)
    yield Row("gap, class known", name, shown(gap), text, is_met)
    shipped = measure(held.shipped_quality, held.cost_hat, yardstick)
    paired = interval_of(shipped.gap - known.gap)
    is_met = paired.low > NEVER_WORSE
    yield Row("shipped minus class means, gap", name, shown(paired, 4), "low > -.02", is_met)
    if held.data.has_lengths:
        by_class = measure(held.class_quality, held.data.unit_cost * held.class_tokens, yardstick)
        gained = shown(interval_of(known.gap - by_class.gap))
        yield Row("predicted minus class-mean lengths, gap", name, gained)
    if held.scores.text is None:
        return
    inferred_cost = held.data.unit_cost * held.inferred_tokens
    unknown = measure(held.inferred_quality, inferred_cost, yardstick)
    kept = interval_of(unknown.gap / known.gap)
    figure = f"{shown(kept, 2)}, gap {unknown.gap[0]:.3f}"
    judged = name in PLANNED_BY_CLASS
    is_met = kept.value >= KEPT_TARGET if judged else None
    yield Row("class unknown, share kept", name, figure, ">= .8" if judged else "", is_met)


def unseen_task(data: DataSet) -> Iterator[Row]:
    """Trained without a task and asked about it, not declared: shipped minus the plain means."""
    if not data.name.startswith("zeroeval"):
        return
    scores = data.scores
    for c, task in enumerate(scores.class_names):
        rows = scores.class_code == c
        learned, judged = scores.take(~rows), scores.take(rows)
        router = train_router(learned, data.usd_per_token)
        nobody_knows = np.full((judged.n_prompts, scores.n_classes), np.nan)
        found = estimate(router, texts_of(judged), nobody_knows)
        outcome = Outcome(judged.score, data.cost[rows], np.ones(judged.n_prompts))
        yardstick = yardstick_of(outcome, resamples_of(judged.group))
        plain = np.tile(np.nanmean(learned.score, axis=0), (judged.n_prompts, 1))
        cost_hat = data.unit_cost * found.output_tokens
        shipped = measure(found.quality, cost_hat, yardstick)
        paired = interval_of(shipped.gap - measure(plain, cost_hat, yardstick).gap)
        figure = f"{shown(paired, 4)}, gap {shipped.gap[0]:.3f}"
        is_met = paired.low > NEVER_WORSE
        yield Row(f"{task} never seen", data.name, figure, "low > -.02", is_met)


def planned_by_class(data: DataSet, cap: float) -> Row:
    """Quality of planned shares at capped work, by class minus class-blind, on held-out prompts."""
    fold = fold_of(data.scores)
    gain = np.empty(data.scores.n_prompts)
    loads = []
    for f in np.unique(fold).tolist():
        rows, learned = fold == f, data.scores.take(fold != f)
        router = train_router(learned, data.usd_per_token)
        code, score = data.scores.class_code[rows], data.scores.score[rows]
        by_class, caps = _planned(router, learned, data, cap, blind=False)
        blind, _ = _planned(router, learned, data, cap, blind=True)
        gain[rows] = ((by_class[code] - blind[code]) * score).sum(axis=1)
        loads.append((by_class[code] * data.cost[rows]).mean(axis=0)[1:] / caps[1:])
    resamples = resamples_of(data.scores.group)
    means = resamples.count @ np.bincount(resamples.bag, gain) / resamples.count.sum(axis=1)
    points = interval_of(100.0 * means)
    load = np.mean(loads, axis=0).max()
    figure = f"{shown(points, 1)} points, realised load at most {load:.2f} of the cap"
    is_met = points.value >= CAP_TARGET_POINTS
    return Row(f"planning by class, caps {cap:.0%}", data.name, figure, ">= 4 points", is_met)


def _planned(
    router: Router, learned: Scores, data: DataSet, cap: float, blind: bool
) -> tuple[FloatArray, FloatArray]:
    """Shares of each class to each model, (C, M), within caps (M,) on all but the cheapest."""
    n_classes, n_models = router.means.mean.shape
    traffic = np.bincount(learned.class_code, minlength=n_classes) / learned.n_prompts
    quality, work = router.means.mean, data.unit_cost * router.class_tokens
    caps = cap * (traffic @ work)
    if blind:
        quality, work = ((traffic @ part)[None, :] for part in (quality, work))
    weight = np.ones(1) if blind else traffic
    cells = (weight[:, None] * quality).ravel()
    load = np.zeros((n_models, cells.size))
    for m in range(n_models):
        load[m, m::n_models] = weight * work[:, m]
    one = np.kron(np.eye(weight.size), np.ones(n_models))
    found = linprog(-cells, A_ub=load[1:], b_ub=caps[1:], A_eq=one, b_eq=np.ones(weight.size))
    shares = found.x.reshape(weight.size, n_models)
    return np.tile(shares, (n_classes, 1)) if blind else shares, caps


# ---- Estimates -----------------------------------------------------------------------------------


def calibration(held: HeldOut) -> Iterator[Row]:
    """Expected calibration errors of class means and of per-prompt terms, in and out of use."""
    name, score = held.data.name, held.scores.score
    enough = held.scores.n_prompts >= 1500
    found = calibration_of(held.class_quality, score)
    figure = f"{found.ece:.4f} (luck alone {found.ece_by_luck:.4f})"
    is_met = found.ece <= 0.01 if enough else None
    yield Row("ECE, class means", name, figure, "<= .01" if enough else "", is_met)
    if held.scores.text is None or held.data.tested is not None:
        return
    terms = cross_fit(held.data.scores, with_inference=False).prompt_quality
    if terms is None:
        return
    found = calibration_of(terms, held.data.scores.score)
    figure = f"{found.ece:.4f} (luck alone {found.ece_by_luck:.4f})"
    is_met = found.ece <= 0.04 if enough else None
    yield Row("ECE, per-prompt terms", name, figure, "<= .04" if enough else "", is_met)


def lengths(held: HeldOut) -> Iterator[Row]:
    """Totals, ranks and errors of predicted lengths against realised ones."""
    if not held.data.has_lengths:
        return
    name, realised = held.data.name, held.scores.output_tokens
    fits = [
        length_fit_of(held.tokens[:, m], held.class_tokens[:, m], realised[:, m])
        for m in range(held.scores.n_models)
    ]
    off = max(abs(f.total_ratio - 1.0) for f in fits)
    yield Row("length totals, worst model", name, f"{off:.2%} off", "<= 1 %", off <= 0.01)
    rank = float(np.mean([f.spearman for f in fits]))
    yield Row("length ranks, mean Spearman", name, f"{rank:.3f}", ">= .65", rank >= 0.65)
    error = float(np.mean([f.mean_error_tokens / f.class_mean_error_tokens for f in fits]))
    figure = f"{error:.3f} of the class mean's"
    yield Row("length error, mean over models", name, figure, "<= 1", error <= 1.0)


def shuffled(data: DataSet, n_permutations: int) -> Row:
    """What labels that mean nothing gain by class, and how often per-prompt terms look proven.

    Costs are constants of the models: routing on predicted lengths would gain without any labels.
    """
    random = np.random.default_rng(0)
    scores = data.scores.take(random.permutation(data.scores.n_prompts)[:N_PERMUTED])
    cost = np.tile(data.unit_cost * np.nanmean(scores.output_tokens, axis=0), (N_PERMUTED, 1))
    resamples = resamples_of(scores.group, 200)
    gains, n_passed = [], 0
    for _ in range(n_permutations):
        lucky = replace(scores, score=scores.score[random.permutation(N_PERMUTED)])
        found = cross_fit(lucky, with_inference=False)
        outcome = Outcome(lucky.score, cost, np.ones(N_PERMUTED))
        yardstick = yardstick_of(outcome, resamples, found.fold)
        by_class = measure(found.class_quality, cost, yardstick).quality
        terms = measure(found.prompt_quality, cost, yardstick).quality - by_class
        gains.append((by_class[0] - yardstick.hull_quality[0], terms[0]))
        n_passed += interval_of(terms).low > 0.0
    by_class_points, by_prompt_points = 100.0 * np.mean(gains, axis=0)
    figure = (
        f"mean gain {by_class_points:+.2f} points by class, {by_prompt_points:+.2f} by prompt; "
        f"per-prompt terms look proven in {n_passed} of {n_permutations}"
    )
    is_met = n_passed <= 0.05 * n_permutations and max(by_class_points, by_prompt_points) <= 0.05
    return Row("random labels", data.name, figure, "no gain, <= 5 %", is_met)


# ---- Stretch -------------------------------------------------------------------------------------


def earned(data: DataSet) -> Iterator[Row]:
    """Gains that the data prove: per-prompt terms, classes cut in two, and cascades."""
    if data.tested is not None:
        return
    scores = data.scores
    if scores.text is not None:
        price = data.usd_per_token[scores.class_code]
        dealt = partial(cross_fit, scores, with_inference=False)
        gate = run_gate(scores, price, dealt)
        gap = Interval(gate.gap_gain, gate.gap_gain_low, gate.gap_gain_high)
        is_met = gate.passed or None
        yield Row("stretch: per-prompt terms, gap", data.name, shown(gap, 4), "low > 0", is_met)
        outcome = Outcome(scores.score, data.cost, np.ones(scores.n_prompts))
        cost_hat = price * dealt().output_tokens
        for split in class_splits(scores, surface(scores.text), cost_hat, outcome):
            if split.worthwhile:
                figure = f"{split.class_name} by {split.feature}: {shown(split.gain, 2)} points"
                yield Row("stretch: class cut in two", data.name, figure, "low > 0", True)
    for option in proven_cascades(scores, data.usd_per_token):
        gain = Interval(option.gain, option.gain_low, option.gain_high)
        figure = (
            f"{option.class_name}: {option.first} then {option.second} for "
            f"{option.escalated_ratio:.0%} by {option.signal}: {shown(gain, 2)} points"
        )
        yield Row("stretch: cascade", data.name, figure, "low > 0", True)


if __name__ == "__main__":
    main()
