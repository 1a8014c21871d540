"""Class means that may be believed: compared fairly, shrunk, and with an interval each.

Notation, for one class until "across classes"
    y_nm     score of model m on prompt n, in [0, 1]; some are missing
    k_nm     answers of which y_nm is the mean
    x_m      mean score of model m over the class: what is wanted
    s_m^2    variance of y_nm over prompts          r     its part that all models share
    f_nm     what k_nm answers leave of the rest: 1/2 + 1/(2 k_nm), scaled to 1 on average

1. Fair comparison. A model that was scored on hard prompts only has a low plain mean. So a prompt
has a difficulty d_n that every model meets, and which models were scored on it may tell about it:
with h_nm = 1 where m was scored, else 0, less the mean of that over the prompts with scores,

    y_nm = x_m + s_m (sum_j h_nj t_j + d_n + e_nm)
    Var d_n = r,     Var e_nm = (1 - r) f_nm,     Var t_j = v     (Mundlak 1978, "On the pooling of
                                        time series and cross section data", for prompts with gaps)

and the x_m are generalised least squares. With w_nm = 1 / Var e_nm (0 if missing), p_n =
r / (1 + r sum_m w_nm) and q_n = w_n / (1 + r sum_m w_nm), the inverse of a prompt's covariance is
diag(w_n) - p_n w_n w_n' (Sherman-Morrison), which leaves a system of 2 M equations in x/s and t:

    A = [ diag(sum_n w_n) - sum_n p_n w_n w_n'     sum_n q_n h_n'                        ]
        [ sum_n h_n q_n'                           sum_n (sum_m q_nm) h_n h_n' + I / v   ]

r and v are those of all classes together; v is 0 where nothing tells how prompts were chosen, so
that prompts answered by one model each count as a fair draw. Complete data give the plain means.
Half of e is taken to be the prompt's own: asking again and again tells everything about a prompt
and little about a class.

2. Spread. No score in [0, 1] varies more than a coin of its mean, so s_m^2 = h m (1 - m), with h
the share of the coin's variance that was seen: 1 for right or wrong, less for graded scores. Scores
that happen to be all equal would say h = 0: seen and possible spread each start with that of a few
answers, as they were elsewhere; and everywhere with that of one coin.

3. Across classes. The cells are x_cm = B_m + a_c + g_cm with variances (of B_m) v_model, v_class
and v_cell, and of every class one knows an x_c with the covariance of 1. The posterior is that of
a normal law (an M x M system per class and one for B); a cell without scores gets what its class
and its model say, and the width of that. Each variance is the sum of squared posterior means over
the degrees of freedom that the data determine (restricted maximum likelihood as the fixed point of
Harville 1977, "Maximum likelihood approaches to variance component estimation"), joined by half a
pseudo-effect of variance u = q (1 - q) / 5, q the overall mean: before there are data a prior is
worth five answers, right or wrong. v_cell never exceeds u, so a cell's is never worth less.

4. Interval. Wilson's (1927) with the number of coin flips that would know the mean as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.quality.ridge import class_sums
from planner.quality.scores import Scores
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.router import ClassMeans

LEAST_STRENGTH = 5.0  # answers that the prior of a cell is worth at least
_Z_95 = 1.959963984540054  # two-sided normal quantile
_OWN = 0.5  # share of e_nm that more answers to the same prompt do not average out
_COMMON = 0.3  # r before there are data, worth _COMMON_PAIRS pairs of scores
_COMMON_PAIRS = 10.0
_COMMON_MOST = 0.95  # r at which A is still well conditioned
_COIN = 0.25  # variance of one fair coin flip
_PSEUDO = 0.5  # pseudo-effects of variance u that join those of each kind
_N_ROUNDS = 20  # at most, of x, and r and v, in turn
_SETTLED = 1e-3  # change of r and of v at which they are taken as settled
_N_UPDATES = 200  # at most, of the variances across classes
_TOLERANCE = 1e-6  # relative change of a variance at which they are taken as settled


def shrunk_means(scores: Scores) -> ClassMeans:
    """Returns the mean score of each model in each class as far as the scores support it."""
    cells = _cells(scores)
    found = _fair_means(scores, cells)
    n_scored = int((~np.isnan(scores.score)).sum())
    overall = (float(np.nansum(scores.score)) + 0.5) / (n_scored + 1.0)
    scale = overall * (1.0 - overall)
    belief = across(found, cells.n_prompts > 0, scale / LEAST_STRENGTH)
    least = 0.5 / (cells.n_prompts + LEAST_STRENGTH)  # half an answer from 0 and from 1
    mean = np.clip(belief.mean, least, 1.0 - least)
    coin = np.where(cells.n_prompts > 0, _coin(cells.smoothed), _coin(mean))
    n_effective = coin / belief.variance
    low, high = wilson(mean, n_effective)
    return ClassMeans(
        mean,
        low,
        high,
        _coin(mean) / n_effective,
        cells.raw,
        cells.n_prompts,
        n_effective,
        np.clip(belief.fleet, least.min(), 1.0 - least.min()),
        float(scale / belief.variances[2]),
    )


def wilson(mean: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns the ends of Wilson's 95 % interval of means in [0, 1] of n answers each.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z2 = _Z_95**2
    middle = (mean + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = _Z_95 / (1.0 + z2 / n) * np.sqrt(_coin(mean) / n + z2 / (4.0 * n**2))
    return np.clip(middle - half, 0.0, mean), np.clip(middle + half, mean, 1.0)


@dataclass(frozen=True)
class Fit:
    """What generalised least squares finds in the scores of one class."""

    mean: FloatArray  # (M,)
    covariance: FloatArray  # (M, M) of the means
    ease: FloatArray  # (n,) sum_j h_nj t_j: what it tells of a prompt who was scored on it
    n_told: float  # how many of the t_j the scores determine
    squares: float  # sum of t_j^2


def fair_means(
    score: FloatArray, spread: FloatArray, noise: FloatArray, common: float, choice: float
) -> Fit:
    """Returns the fair means of one class.

    Args:
        score: (n, M), NaN where missing; every model has at least one.
        spread: (M,) standard deviation s_m of each model's scores over prompts.
        noise: (n, M) f_nm, relative variance of what prompts do not share.
        common: r, the share of the variance that a prompt gives to all models, below 1.
        choice: v, variance of what the choice of models tells about a prompt.
    """
    scored = ~np.isnan(score)
    n_models = spread.size
    weight = np.where(scored, 1.0 / ((1.0 - common) * noise), 0.0)
    shared = common / (1.0 + common * weight.sum(axis=1, keepdims=True))
    all_alike = weight * (1.0 - shared * weight.sum(axis=1, keepdims=True))  # q
    standard = np.where(scored, score / spread, 0.0)
    chosen = np.sqrt(choice) * (scored - scored.mean(axis=0))  # in units of sqrt(v): 1/v becomes 1
    matrix = np.eye(2 * n_models)
    matrix[:n_models, :n_models] = np.diag(weight.sum(axis=0)) - (weight * shared).T @ weight
    matrix[:n_models, n_models:] = all_alike.T @ chosen
    matrix[n_models:, :n_models] = chosen.T @ all_alike
    matrix[n_models:, n_models:] += (chosen * all_alike.sum(axis=1, keepdims=True)).T @ chosen
    of_prompt = (weight * standard).sum(axis=1, keepdims=True)
    means = (weight * standard - weight * shared * of_prompt).sum(axis=0)
    choices = chosen.T @ (all_alike * standard).sum(axis=1)
    inverse = np.linalg.inv(matrix)
    found = inverse @ np.concatenate([means, choices])
    told = found[n_models:]
    return Fit(
        spread * found[:n_models],
        spread[:, None] * inverse[:n_models, :n_models] * spread,
        chosen @ told,
        float((1.0 - np.diag(inverse)[n_models:]).sum()),
        float(choice * told @ told),
    )


@dataclass(frozen=True)
class _Cells:
    """What the scores of each class and model look like by themselves, (C, M) each."""

    n_prompts: IntArray
    raw: FloatArray  # plain mean, NaN without scores
    smoothed: FloatArray  # the same with two answers as in the rest of the class: inside (0, 1)
    spread: FloatArray  # standard deviation over prompts, above 0


@dataclass(frozen=True)
class FairMeans:
    """Fair means of the cells that have scores, zero elsewhere."""

    mean: FloatArray  # (C, M)
    covariance: FloatArray  # (C, M, M)


@dataclass(frozen=True)
class Belief:
    """What all fair means together say of every cell, and of a class without any."""

    mean: FloatArray  # (C, M)
    variance: FloatArray  # (C, M)
    fleet: FloatArray  # (M,)
    variances: FloatArray  # (3,) v_model, v_class, v_cell


def _cells(scores: Scores) -> _Cells:
    """Returns number, mean and spread of the scores of each cell, by sums over its rows."""
    scored = ~np.isnan(scores.score)
    score = np.where(scored, scores.score, 0.0)
    n_prompts, total, squares = (
        class_sums(values, scores.class_code, scores.n_classes)
        for values in (scored.astype(np.float64), score, score**2)
    )
    raw = np.divide(total, n_prompts, out=np.full(total.shape, np.nan), where=n_prompts > 0)
    of_class = _smoothed(total.sum(axis=1, keepdims=True), n_prompts.sum(axis=1, keepdims=True))
    smoothed = (total + 2.0 * of_class) / (n_prompts + 2.0)
    mean = np.nan_to_num(raw)
    seen = np.maximum(squares - n_prompts * mean**2, 0.0)
    possible = n_prompts * _coin(mean)
    anywhere = (seen.sum() + _COIN) / (possible.sum() + _COIN)
    share = (seen + 4.0 * _COIN * anywhere) / (possible + 4.0 * _COIN)
    spread = np.sqrt(np.minimum(share, 1.0) * _coin(smoothed))
    return _Cells(n_prompts.astype(np.int64), raw, smoothed, spread)


def _fair_means(scores: Scores, cells: _Cells) -> FairMeans:
    """Returns the fair means of every class, with r and v from what they leave unexplained."""
    code = np.where(np.isnan(scores.score).all(axis=1), -1, scores.class_code)
    rows = [np.flatnonzero(code == c) for c in range(scores.n_classes)]
    noise = _noise(scores, rows)
    shape = (scores.n_classes, scores.n_models)
    common, choice = _COMMON, 1.0
    for _ in range(_N_ROUNDS):
        found = FairMeans(np.zeros(shape), np.zeros((*shape, scores.n_models)))
        product, n_pairs = _COMMON * _COMMON_PAIRS, _COMMON_PAIRS
        squares, n_told = 0.0, 1.0
        for c, mine in enumerate(rows):
            seen = np.flatnonzero(cells.n_prompts[c] > 0)
            if not seen.size:
                continue
            score, spread = scores.score[np.ix_(mine, seen)], cells.spread[c, seen]
            fit = fair_means(score, spread, noise[np.ix_(mine, seen)], common, choice)
            found.mean[c, seen] = fit.mean
            found.covariance[c][np.ix_(seen, seen)] = fit.covariance
            left = (score - fit.mean) / spread - fit.ease[:, None]
            n_scored = (~np.isnan(left)).sum(axis=1)
            product += float((np.nansum(left, axis=1) ** 2 - np.nansum(left**2, axis=1)).sum())
            # n residuals around their own mean keep (n - 1)/n of what they had in common
            n_pairs += float((n_scored * (n_scored - 1)).sum()) * (1.0 - 1.0 / max(mine.size, 1))
            squares, n_told = squares + fit.squares, n_told + fit.n_told
        before, common = (common, choice), float(np.clip(product / n_pairs, 0.0, _COMMON_MOST))
        choice = squares / n_told
        if np.allclose(before, (common, choice), rtol=0.0, atol=_SETTLED):
            break
    return found


def _noise(scores: Scores, rows: list[IntArray]) -> FloatArray:
    """Returns f_nm, (N, M): how the part of a score that is not shared falls with its answers."""
    noise = _OWN + (1.0 - _OWN) / np.maximum(scores.n_samples, 1)
    scored = scores.n_samples > 0
    for mine in rows:
        n_scored = np.maximum(scored[mine].sum(axis=0), 1)
        average = np.where(scored[mine], noise[mine], 0.0).sum(axis=0) / n_scored
        noise[mine] /= np.where(average > 0.0, average, 1.0)
    return noise


def across(found: FairMeans, scored: BoolArray, unit: float) -> Belief:
    """Returns the belief in every cell given the fair means of those scored.

    Args:
        found: of every class.
        scored: (C, M) whether a cell has scores.
        unit: u of the notation.
    """
    variances = np.full(3, unit)
    for _ in range(_N_UPDATES):
        belief, updated = _posterior(found, scored, variances, unit)
        if np.allclose(updated, variances, rtol=_TOLERANCE, atol=0.0):
            break
        variances = updated
    return belief


def _posterior(
    found: FairMeans, scored: BoolArray, variances: FloatArray, unit: float
) -> tuple[Belief, FloatArray]:
    """Returns the belief at v_model, v_class, v_cell, and what these should be in its light."""
    v_model, v_class, v_cell = variances
    n_models = scored.shape[1]
    between = v_class + v_cell * np.eye(n_models)  # covariance of a_c + g_cm in a class
    precision = _inverse(between + found.covariance, scored)
    about, about_cov = _models(found, precision, v_model)
    pull = np.einsum("cij,cj->ci", precision, np.where(scored, found.mean - about, 0.0))
    rest = np.eye(n_models) - between @ precision
    variance = rest @ between + rest @ about_cov @ rest.transpose(0, 2, 1)
    diagonal = np.diagonal(variance, axis1=1, axis2=2)
    belief = Belief(about + pull @ between, diagonal, about, variances)
    told = precision - precision @ about_cov @ precision
    by_class, of_models = v_class * pull.sum(axis=1), about - about.mean()
    free = n_models - 1.0 - (np.trace(about_cov) - n_models * about_cov.mean()) / v_model
    squares = np.array([of_models @ of_models, by_class @ by_class, (v_cell**2 * pull**2).sum()])
    freedom = np.array(
        [free, v_class * told.sum(), v_cell * np.trace(told, axis1=1, axis2=2).sum()]
    )
    updated = (squares + _PSEUDO * unit) / (np.maximum(freedom, 0.0) + _PSEUDO)
    updated[2] = min(updated[2], unit)
    return belief, updated


def _models(
    found: FairMeans, precision: FloatArray, v_model: float
) -> tuple[FloatArray, FloatArray]:
    """Returns what is believed of the B_m of all classes, (M,), and its covariance.

    Models differ from their mean with variance v_model; that mean is 1/2 give or take 1/2.
    """
    n_models = precision.shape[1]
    mean = np.full((n_models, n_models), 1.0 / n_models)
    inverse = (np.eye(n_models) - mean) / v_model + mean / (n_models * _COIN)
    right = np.einsum("cij,cj->i", precision, found.mean) + 0.5 / (n_models * _COIN)
    covariance = np.linalg.inv(precision.sum(axis=0) + inverse)
    return covariance @ right, covariance


def _inverse(covariance: FloatArray, scored: BoolArray) -> FloatArray:
    """Returns the inverses of (C, M, M) over the models scored in each class, zero elsewhere."""
    both = scored[:, :, None] & scored[:, None, :]
    return np.where(both, np.linalg.inv(np.where(both, covariance, np.eye(scored.shape[1]))), 0.0)


def _smoothed(total: FloatArray, n: FloatArray) -> FloatArray:
    """Returns means that one more answer, half right, keeps inside (0, 1)."""
    return (total + 0.5) / (n + 1.0)


def _coin(mean: FloatArray) -> FloatArray:
    """Returns the variance of a coin with this mean: the most that scores in [0, 1] can have."""
    return mean * (1.0 - mean)
