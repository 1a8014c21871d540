"""What routing by price is worth: the curve of mean score over mean cost, and the gap it closes.

Notation
    n, m       prompt (N), model (M)              k     price index (K)    b   resample (B)
    q_nm       believed quality                   c_nm  predicted cost
    y_nm       realised score in [0, 1]           x_nm  realised cost, same unit as c
    lambda     price: quality per unit of cost    g     bag of prompts that are resampled together

At price lambda a router sends prompt n to argmax_m q_nm - lambda c_nm. As lambda falls from
infinity to 0 each prompt climbs the upper hull of its points (c_nm, q_nm), from its cheapest to
its best model. Every price gives one point (mean realised cost, mean realised score); neighbouring
prices may be mixed, so the router's curve is the line through its points in the order of the
prices. No hull is taken over them: that would choose prices on the very scores being judged.

    hull     the upper hull of the M points (mean cost, mean score) of the single models: what
             mixing single models reaches without looking at a prompt
    range    the mean costs from the cheapest single model to the best one
    oracle   the same curve with q = y and c = x: mostly luck of one sample, never a goal
    A        mean score over the range (area / width), a line integral, so that a curve that
             turns back is not counted twice
    gap      (A_router - A_hull) / (A_oracle - A_hull)

Every router may also send everything to the cheapest model, and need not spend all it may: its
curve starts at the cheapest model's point and goes on flat after its last one.

Cross-fitted estimates are those of one router per fold, each judged on its own fold. Their curves
are joined at equal predicted spend (as a share of each fold's range), not at equal price: a fold
whose own scores are high by luck gets low estimates from the others, so equal prices would buy
last where it pays most, and every class mean would look worse than mixing.

A bootstrap resamples prompts, not choices: q and c are given, so that a resample is only a weight
per bag of prompts and all resamples are one matrix product with the realised sums per price. So an
interval is that of the routers at hand: it holds the luck of the prompts that they are judged on,
not of those that they learned from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray, IntArray

N_POINTS = 256  # of a curve at most; between them neighbouring prices are mixed
N_RESAMPLES = 1000
MAX_BAGS = 2000  # more groups of prompts than this are resampled in random bags of equal size


@dataclass(frozen=True)
class Outcome:
    """What really happened: no entry is missing, and a prompt's weight is above zero."""

    score: FloatArray  # (N, M) in [0, 1]
    cost: FloatArray  # (N, M) in the unit of the predicted cost
    weight: FloatArray  # (N,) share of traffic that the prompt stands for, in any unit


@dataclass(frozen=True)
class Resamples:
    """How often each bag of prompts counts: the data as they are first, then the resamples."""

    bag: IntArray  # (N,) in 0..G-1
    count: FloatArray  # (1 + B, G), the first row all ones


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % bootstrap interval; all NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class FoldSweep:
    """The choices of one router: the models that each of its prompts climbs as the price falls."""

    rows: IntArray  # (n,) its prompts
    model: IntArray  # (n, S + 1) from cheapest to best, the last one repeated
    moves_at: IntArray  # (n, S) price index at which the next model is taken; n_prices for never
    n_prices: int  # at index 0 every prompt has its cheapest model
    place: FloatArray  # (K,) the price index of each point, a fraction for a mix of neighbours


@dataclass(frozen=True, eq=False)
class Sweep:
    """The choices of the routers of all folds at K points, from nothing spent to all spent."""

    folds: tuple[FoldSweep, ...]
    spend: FloatArray  # (K,) rising share of the predicted range of costs


@dataclass(frozen=True)
class Curve:
    """Mean realised cost and score from cheap to good: of the data, then of every resample."""

    cost: FloatArray  # (1 + B, K)
    score: FloatArray  # (1 + B, K)


@dataclass(frozen=True)
class Yardstick:
    """What routers are held against on the same prompts and the same resamples."""

    outcome: Outcome
    resamples: Resamples
    fold: IntArray  # (N,) what the estimates of a prompt were learned without; zeros: one router
    hull: Curve  # the single models that mixing uses, the cheapest first
    oracle: Curve
    hull_quality: FloatArray  # (1 + B,) mean score over the cost range
    oracle_quality: FloatArray  # (1 + B,)


@dataclass(frozen=True)
class Measured:
    """What one router reaches: of the data, then of every resample."""

    curve: Curve
    quality: FloatArray  # (1 + B,) mean score over the cost range; NaN where that is one point
    gap: FloatArray  # (1 + B,) share of the way from hull to oracle


def sweep_of(
    quality_hat: FloatArray,
    cost_hat: FloatArray,
    fold: IntArray | None = None,
    n_points: int = N_POINTS,
) -> Sweep:
    """Returns the choices argmax_m quality_hat - price * cost_hat, (N, M) each, at all prices.

    Where there are more prices than `n_points`, as many are kept as evenly spaced among the moves.
    At the very price of a move the better model is taken.
    """
    fold = np.zeros(len(quality_hat), dtype=np.int64) if fold is None else fold
    climbs = []
    for f in np.unique(fold):
        rows = np.flatnonzero(fold == f)
        climbs.append((rows, *_prices(quality_hat[rows], cost_hat[rows], n_points)))
    spend = _thinned(np.unique(np.concatenate([spent for *_, spent in climbs])), n_points)
    return Sweep(
        tuple(
            FoldSweep(
                rows, model, moves_at, spent.size, np.interp(spend, spent, np.arange(spent.size))
            )
            for rows, model, moves_at, spent in climbs
        ),
        spend,
    )


def resamples_of(group: IntArray, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Resamples:
    """Returns bootstrap counts over groups of prompts (N,): duplicates come and go together.

    More than MAX_BAGS groups are put into that many random bags first. Bags are as independent
    as groups, so the spread of a mean stays the same, known to 2 % instead of exactly.
    """
    random = np.random.default_rng(seed)
    names, bag = np.unique(group, return_inverse=True)
    n_bags = min(names.size, MAX_BAGS)
    if names.size > MAX_BAGS:
        bag = (random.permutation(names.size) % MAX_BAGS)[bag]
    count = np.ones((1 + n_resamples, n_bags))
    for row in count[1:]:
        row[:] = np.bincount(random.integers(0, n_bags, n_bags), minlength=n_bags)
    return Resamples(bag, count)


def curve_of(sweep: Sweep, outcome: Outcome, resamples: Resamples) -> Curve:
    """Returns the realised mean cost and score of routers at each point of their sweep."""
    weight = outcome.weight
    total = resamples.count @ np.bincount(resamples.bag, weight)
    cost = resamples.count @ _sums(sweep, outcome.cost, weight, resamples)
    score = resamples.count @ _sums(sweep, outcome.score, weight, resamples)
    return Curve(cost / total[:, None], score / total[:, None])


def yardstick_of(outcome: Outcome, resamples: Resamples, fold: IntArray | None = None) -> Yardstick:
    """Returns the hull of the single models and the oracle on these prompts and resamples.

    Args:
        outcome: what happened.
        resamples: of the same prompts.
        fold: (N,) of the estimates that will be measured; None: those of one router for all.
    """
    fold = np.zeros(len(outcome.score), dtype=np.int64) if fold is None else fold
    hull = _hull(outcome, resamples)
    oracle = curve_of(sweep_of(outcome.score, outcome.cost), outcome, resamples)
    by_hull, by_oracle = _quality_over(hull, hull), _quality_over(oracle, hull)
    return Yardstick(outcome, resamples, fold, hull, oracle, by_hull, by_oracle)


def measure(quality_hat: FloatArray, cost_hat: FloatArray, yardstick: Yardstick) -> Measured:
    """Returns what routing on these estimates, (N, M) each, reaches against the yardstick."""
    sweep = sweep_of(quality_hat, cost_hat, yardstick.fold)
    curve = curve_of(sweep, yardstick.outcome, yardstick.resamples)
    quality = _quality_over(curve, yardstick.hull)
    return Measured(curve, quality, as_gap(quality - yardstick.hull_quality, yardstick))


def as_gap(gain: FloatArray, yardstick: Yardstick) -> FloatArray:
    """Returns a gain of mean score, (1 + B,), as a share of the way from hull to oracle."""
    way = yardstick.oracle_quality - yardstick.hull_quality
    share = np.full(gain.shape, np.nan)
    np.divide(gain, way, out=share, where=way > 0.0)
    return share


def interval_of(values: FloatArray) -> Interval:
    """Returns the first of (1 + B,) values with the 2.5 and 97.5 % quantiles of the others.

    Resamples in which the value is not defined are left out.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not drawn.size:
        return Interval(np.nan, np.nan, np.nan)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def score_at(curve: Curve, hull: Curve, cost: FloatArray) -> FloatArray:
    """Returns the mean score of a curve where it has cost (P,) per request, (1 + B, P).

    Where the curve turns back, the cost that it has reached already stays spent.
    """
    spent = np.maximum.accumulate(np.concatenate([hull.cost[:, :1], curve.cost], axis=1), axis=1)
    score = np.concatenate([hull.score[:, :1], curve.score], axis=1)
    return np.stack([np.interp(cost, x, y) for x, y in zip(spent, score, strict=True)])


def _climb(quality: FloatArray, cost: FloatArray) -> tuple[IntArray, FloatArray]:
    """Returns the models on each row's upper hull, (R, S + 1), and the prices between, (R, S).

    From the cheapest model on, the next one is that of the steepest rise in quality per cost;
    rows that have arrived at their best model stay there at price 0.
    """
    rows = np.arange(len(quality))
    least = cost == cost.min(axis=1, keepdims=True)
    at = np.where(least, quality, -np.inf).argmax(axis=1)
    models, prices = [at], []
    for _ in range(quality.shape[1] - 1):
        more = cost - cost[rows, at, None]
        better = quality - quality[rows, at, None]
        rises = (more > 0.0) & (better > 0.0)
        slope = np.divide(better, more, out=np.zeros_like(cost), where=rises)
        price = slope.max(axis=1)
        if not price.any():
            break
        steepest = rises & (slope == price[:, None])
        farthest = np.where(steepest, cost, -np.inf).argmax(axis=1)
        at = np.where(price > 0.0, farthest, at)
        models.append(at)
        prices.append(price)
    if not prices:
        return models[0][:, None], np.zeros((len(quality), 0))
    return np.stack(models, axis=1), np.minimum.accumulate(np.stack(prices, axis=1), axis=1)


def _prices(
    quality: FloatArray, cost: FloatArray, n_points: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Returns each prompt's models, (n, S + 1), the price indices of its moves, (n, S), and the
    share of the predicted range of costs that is spent at each price, (K,).
    """
    model, price = _climb(quality, cost)
    kept = _thinned(np.sort(-price[price > 0.0]), n_points - 1)  # from the highest price down
    moves_at = 1 + np.searchsorted(kept, -price, side="left")
    steps = np.diff(np.take_along_axis(cost, model, axis=1), axis=1)
    spent = np.bincount(moves_at.ravel(), steps.ravel(), kept.size + 2)[: kept.size + 1].cumsum()
    return model, moves_at, spent / spent[-1] if spent[-1] > 0.0 else spent


def _thinned(values: FloatArray, n_most: int) -> FloatArray:
    """Returns at most n_most distinct ones of sorted values, evenly spaced among them."""
    distinct = np.unique(values)
    if distinct.size <= n_most:
        return distinct
    return np.unique(values[np.linspace(0, values.size - 1, n_most).round().astype(np.int64)])


def _sums(sweep: Sweep, value: FloatArray, weight: FloatArray, resamples: Resamples) -> FloatArray:
    """Returns the weighted sum of each bag's chosen values at each point, (G, K)."""
    n_bags = resamples.count.shape[1]
    total = np.zeros((n_bags, sweep.spend.size))
    for part in sweep.folds:
        chosen = np.take_along_axis(value[part.rows], part.model, axis=1)
        changes = np.diff(chosen * weight[part.rows, None], axis=1, prepend=0.0)
        at = np.insert(part.moves_at, 0, 0, axis=1)
        cells = resamples.bag[part.rows, None] * part.n_prices + at
        done = at < part.n_prices
        sums = np.bincount(cells[done], changes[done], minlength=n_bags * part.n_prices)
        sums = sums.reshape(n_bags, part.n_prices).cumsum(axis=1)
        below = np.floor(part.place).astype(np.int64)
        above = np.minimum(below + 1, part.n_prices - 1)
        total += sums[:, below] + (part.place - below) * (sums[:, above] - sums[:, below])
    return total


def _hull(outcome: Outcome, resamples: Resamples) -> Curve:
    """Returns the points of the single models that are on the upper hull, cheapest to best."""
    n_bags, weight = resamples.count.shape[1], outcome.weight
    total = resamples.count @ np.bincount(resamples.bag, weight)

    def means(value: FloatArray) -> FloatArray:
        sums = [np.bincount(resamples.bag, weight * v, minlength=n_bags) for v in value.T]
        return resamples.count @ np.stack(sums, axis=1) / total[:, None]

    cost, score = means(outcome.cost), means(outcome.score)
    model, _ = _climb(score, cost)
    return Curve(np.take_along_axis(cost, model, axis=1), np.take_along_axis(score, model, axis=1))


def _quality_over(curve: Curve, hull: Curve) -> FloatArray:
    """Returns the mean score of a curve over the hull's cost range, (1 + B,).

    Each piece of the curve is cut to the range; NaN where the cheapest model is the best one.
    """
    low, high = hull.cost[:, :1], hull.cost[:, -1:]
    end = np.maximum(curve.cost[:, -1:], high)
    cost = np.concatenate([low, curve.cost, end], axis=1)
    score = np.concatenate([hull.score[:, :1], curve.score, curve.score[:, -1:]], axis=1)
    inside = np.clip(cost, low, high)
    run, rise = np.diff(cost, axis=1), np.diff(score, axis=1)
    slope = np.divide(rise, run, out=np.zeros_like(run), where=run != 0.0)
    middle = 0.5 * (inside[:, 1:] + inside[:, :-1])
    height = score[:, :-1] + slope * (middle - cost[:, :-1])
    area = (height * np.diff(inside, axis=1)).sum(axis=1)
    width = (high - low)[:, 0]
    mean = np.full(area.shape, np.nan)
    np.divide(area, width, out=mean, where=width > 0.0)
    return mean
