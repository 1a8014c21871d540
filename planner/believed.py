"""What a plan's quality rests on: what its router can know, judged on prompts held out (§4).

Notation (C classes, R rows of the workload, P pools, M models, N scored prompts)
    w_c      share of class c in the traffic                                           (C,)
    x_cm     share of class c that goes to model m, by the plan                        (C, M)
    y_nm     recorded score of model m on prompt n; not scored: its held-out class mean  (N, M)
    s_cm     work of one request of class c on model m's pools          replica-s      (C, M)

by class     The routes of a fold's prompts are made again without them: class means of the other
             folds, the plan's deployment. Each prompt is worth sum_m x_cm y_nm there, and the plan
             the mean by traffic. The best of noisy means is too good to be true; this is not.
             What a cascade answers of a class counts with the cascade's own held-out mean.
per prompt   The same traffic, where the gated estimator of the router chooses the model of each
             prompt, from predictions by the other folds. No model does more work than by class:
             prices keep the work that is predicted, and as the prompts that go to a model are not
             average ones, they are raised until the work of the recorded answers is kept, too.
oracle       Each prompt to the model with the best recorded score: mostly luck of one sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case
from planner.explore import Effort
from planner.money import priced
from planner.objectives import Objectives
from planner.proofs.prompt_bound import prompt_bound
from planner.quality.folds import fold_of
from planner.quality.means import class_models
from planner.quality.scores import Scores, scores_of
from planner.quality.shrink import shrunk_means
from planner.quality.train import cross_fit, data_sha256
from planner.routing.prompts import route_prompts
from planner.settle import Settled
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.inputs import QuestionFiles
from planner.spec.plan import Bound, QualityBasis, QualityEstimate

N_FOLDS = 5
TWO_SIDED = 1.959964
WIDEST_VARIANCE = 0.25  # that scores in [0, 1] can have
DIGITS = 6
DOUBTFUL = 5e-4
MOST_CORRECTIONS = 8
BOUND_ROUNDS: dict[Effort, int] = {"quick": 0, "standard": 2, "thorough": 6}
KEPT_WITHIN = 1.005
"""Work of the recorded answers per work by class that counts as the same load."""

_STALE = "the router was trained on other scores: rb router train DIR"


@dataclass(frozen=True)
class _Setting:
    """A plan and the scored prompts that judge it, by class and model."""

    scores: Scores
    true_class: IntArray  # (N,) of the plan's classes
    row: FloatArray  # (N, C) which class a prompt is routed as; rows sum to 1
    mixture: FloatArray  # (C, C) true classes (columns) in what is routed as a class (rows)
    weight: FloatArray  # (N,) of each prompt in the traffic; sums to 1
    work: FloatArray  # (C, M) s; NaN where the class may not use a deployed pool of the model
    member: FloatArray  # (P, M) 1 where the pool runs the model


def quality_basis(
    files: QuestionFiles,
    objectives: Objectives,
    settled: Settled,
    seed: int,
    effort: Effort = "quick",
) -> QualityBasis:
    """Returns what the quality of a settled plan rests on.

    Args:
        files: the question and the tables that it names.
        objectives: the evaluation that the plan came from.
        settled: the plan.
        seed: of the folds.
        effort: how hard to look for what other deployments reach where models are chosen by prompt.
    """
    scores = scores_of(files)
    if scores is None:
        return _as_stated(files, objectives, settled)
    served = priced(objectives.case, scores).scores
    scores = scores.take(np.isin(scores.prompt_ids, served.prompt_ids))
    setting = _setting(files, objectives, settled, scores)
    by_class = _held_out(setting, objectives, settled, seed)
    value = (by_class.shares * by_class.score).sum(axis=1) + by_class.by_cascade
    why, may_choose = _estimator(files, served)
    basis = QualityBasis(
        by_class=_rounded(_estimate(setting, value, _cascades_variance(objectives.case, settled))),
        held_out=True,
        n_prompts=scores.n_prompts,
        why=why,
        oracle=_oracle(setting),
    )
    if may_choose and by_class.by_cascade.any():
        why, may_choose = "the plan's cascades judge answers, not prompts", False
        basis = basis.model_copy(update={"why": why})
    known = _foretold(setting, served, seed) if may_choose else None
    if known is None:
        return basis
    chosen = _per_prompt(setting, by_class, known)
    if chosen is None:
        return basis.model_copy(update={"why": "no routing by prompt keeps the plan's loads"})
    prices, shares = chosen
    bound = _bound(setting, objectives, settled, known, BOUND_ROUNDS[effort])
    found = {**_by_prompt(setting, by_class, value, prices, shares), "per_prompt_bound": bound}
    return basis.model_copy(update=found)


def _by_prompt(
    setting: _Setting, by_class: _HeldOut, value: FloatArray, prices: FloatArray, shares: FloatArray
) -> dict[str, object]:
    """Returns what a routing by prompt, of prices (M,) and shares (N, M), adds to a basis.

    Every deployed model has its price, one with room to spare that of 0: without any, routing is by
    class.
    """
    better = (shares * by_class.score).sum(axis=1)
    _, low, high = _estimate(setting, better - value)
    names, deployed = setting.scores.model_names, np.isfinite(setting.work).any(axis=0)
    return {
        "per_prompt": _rounded(_estimate(setting, better)),
        "gain_low": round(low, DIGITS),
        "gain_high": round(high, DIGITS),
        "model_prices": {names[m]: float(f"{prices[m]:.6g}") for m in np.flatnonzero(deployed)},
    }


def _bound(
    setting: _Setting, objectives: Objectives, settled: Settled, known: _Foretold, n_rounds: int
) -> Bound | None:
    """Returns what no deployment of the plan's rent exceeds by prompt; None without rounds."""
    if not n_rounds:
        return None
    quality = known.quality[:, setting.member.argmax(axis=1)]
    return prompt_bound(objectives, settled, setting.weight, setting.row, quality, n_rounds)


def _estimator(files: QuestionFiles, served: Scores) -> tuple[str, bool]:
    """Returns why a model is chosen by the prompt itself, or why not; and whether it is."""
    router, is_off = files.router, files.question.router.per_prompt == "off"
    stale = router is not None and router.provenance.data_sha256 != data_sha256(served)
    if stale and (files.inferred is not None or not is_off):
        return _STALE, False
    if is_off:
        return "the question wants routing by class alone (router.per_prompt: off)", False
    if router is None:
        return "no router was trained (rb router train DIR)", False
    return router.gate.why, router.gate.passed


def remarks(files: QuestionFiles, basis: QualityBasis) -> list[str]:
    """Returns in plain words what a reader of the plan's quality must know."""
    found = []
    if files.inferred is not None:
        known = float(files.inferred.rate_rps @ np.diag(files.inferred.confusion))
        wrong = 1.0 - known / float(files.inferred.rate_rps.sum())
        found.append(
            "classes are what the router takes requests for by their text: "
            f"{wrong:.1%} of the traffic is taken for another class, which is planned for"
        )
        if basis.why == _STALE:
            found[-1] += "; but that is what a router of other scores says: rb router train DIR"
    floor = files.question.quality_at_least
    if floor is not None and basis.held_out and basis.by_class.quality < floor - DOUBTFUL:
        found.append(
            f"on prompts held out the quality is {basis.by_class.quality:.4f}, "
            f"{floor - basis.by_class.quality:.4f} below the floor: the choice rests on luck with "
            f"{basis.n_prompts} prompts, score more of them (rb router next DIR)"
        )
    return found


def _as_stated(files: QuestionFiles, objectives: Objectives, settled: Settled) -> QualityBasis:
    """Returns the plan's quality by stated class means, with the interval of their prompt counts.

    All models of a class may have answered the same prompts: their errors count as one.
    """
    case, models = objectives.case, class_models(files)
    workload = case.workload
    half = np.zeros(workload.n_classes)
    for c, name in enumerate(workload.class_names):
        for p in np.flatnonzero(settled.shares[c] > 0).tolist():
            stated = models[name, case.pools[p].pool.scored_as]
            half[c] += float(settled.shares[c, p]) * (stated.high - stated.low) / 2.0
    mean, width = settled.score.quality, float(np.sqrt(((workload.weights * half) ** 2).sum()))
    n_prompts: dict[str, int] = {}
    for row in files.class_scores:
        n_prompts[row.class_name] = max(n_prompts.get(row.class_name, 0), row.n_prompts)
    return QualityBasis(
        by_class=_rounded((mean, mean - width, mean + width)),
        held_out=False,
        n_prompts=sum(n_prompts.values()),
        why="class means cannot tell one prompt from another (scores: names a file that can)",
    )


# ---- The plan by class and model -----------------------------------------------------------------


def _setting(
    files: QuestionFiles, objectives: Objectives, settled: Settled, scores: Scores
) -> _Setting:
    """Returns a plan by class and model, and the weights of the prompts that judge it."""
    case = objectives.case
    names = case.workload.class_names
    true_class = np.array([names.index(name) for name in scores.class_names])[scores.class_code]
    row = np.eye(len(names))[true_class]
    traffic, mixture = case.workload.weights, np.eye(len(names))
    if files.inferred is not None:
        row = files.inferred.confusion[true_class]
        traffic = files.inferred.rate_rps / files.inferred.rate_rps.sum()
        mixture = files.inferred.mixture
    per_class = np.bincount(true_class, minlength=len(names))
    models = np.array([scores.model_names.index(p.pool.scored_as) for p in case.pools])
    member = np.eye(scores.n_models)[models]
    return _Setting(
        scores=scores,
        row=row,
        mixture=mixture,
        true_class=true_class,
        weight=traffic[true_class] / per_class[true_class],
        work=_work(settled, case.workload.class_rate_rps, member),
        member=member,
    )


def _work(settled: Settled, rate_rps: FloatArray, member: FloatArray) -> FloatArray:
    """Returns the work of a request of each class on the deployed pools of each model, (C, M).

    Pools of one model count by the requests that the plan sends to them; NaN without any pool.
    """
    n = rate_rps.size  # without the stages of cascades
    work_s = np.stack([table.work_s[:n] for table in settled.tables], axis=1)  # (C, P)
    deployed = settled.replicas > 0
    sent = (rate_rps[:, None] * settled.shares[:n]).sum(axis=0)  # (P,)
    weight = np.where(deployed, sent + 1e-9 * rate_rps.sum() * settled.replicas, 0.0)
    may = np.isfinite(work_s) & deployed
    total = (may * weight) @ member
    made = (np.where(may, work_s, 0.0) * weight) @ member
    return np.asarray(np.where(total > 0, made / np.where(total > 0, total, 1.0), np.nan))


@dataclass(frozen=True)
class _HeldOut:
    """What a router by class does with each prompt that it has not seen."""

    shares: FloatArray  # (N, M) without what cascades answer
    score: FloatArray  # (N, M) recorded, or else the class mean of the other folds
    by_cascade: FloatArray  # (N,) share of cascades times their mean scores


def _held_out(setting: _Setting, objectives: Objectives, settled: Settled, seed: int) -> _HeldOut:
    """Returns the plan's routes, made for the prompts of each fold from those of the others."""
    scores, names = setting.scores, objectives.case.workload.class_names
    at = np.array([scores.class_names.index(name) for name in names])
    fold = fold_of(scores, N_FOLDS, seed)
    shares, score = np.zeros_like(scores.score), scores.score.copy()
    by_cascade = np.zeros(scores.n_prompts)
    for f in range(N_FOLDS):
        mine = fold == f
        if not mine.any():
            continue
        means = shrunk_means(scores.take(~mine)).mean[at]  # (C, M) in the plan's order
        believed = setting.mixture @ means @ setting.member.T  # (C, P) of what is routed as c
        routed = _routed(objectives, settled, believed)  # (R, P)
        shares[mine] = setting.row[mine] @ (routed[: len(names)] @ setting.member)
        by_cascade[mine] = setting.row[mine] @ _by_cascade(objectives, routed)
        known = setting.true_class[mine]
        score[mine] = np.where(np.isnan(score[mine]), means[known], score[mine])
    return _HeldOut(shares, score, by_cascade)


def _by_cascade(objectives: Objectives, shares: FloatArray) -> FloatArray:
    """Returns what cascades add to the mean score of each class, (C,), at shares (R, P)."""
    workload = objectives.case.workload
    added = np.zeros(workload.n_classes)
    for cascade in workload.cascades:
        answered = float(shares[cascade.first_row].sum())
        added[cascade.class_index] += answered * cascade.quality
    return added


def _cascades_variance(case: Case, settled: Settled) -> float:
    """Returns the variance of the mean quality that comes from how well cascades are known."""
    variance = 0.0
    options = {(o.class_name, o.first, o.second, o.signal, o.below): o for o in case.cascades}
    for cascade in case.workload.cascades:
        option = options[cascade.key]
        answered = float(settled.shares[cascade.first_row].sum())
        traffic = answered * float(case.workload.weights[cascade.class_index])
        deviation = (option.quality_high - option.quality_low) / (2.0 * TWO_SIDED)
        variance += (traffic * deviation) ** 2
    return variance


def _routed(objectives: Objectives, settled: Settled, quality: FloatArray) -> FloatArray:
    """Returns the shares (R, P) of the plan's deployment for class means (C, P) of its pools.

    Where these few means leave something unserved, e.g. below a floor, the plan's own shares.
    """
    asked = objectives.problem_at(settled.replicas, settled.level)
    known = asked.workload.quality.copy()
    of_class = known[: len(quality)]
    known[: len(quality)] = np.where(np.isnan(of_class), np.nan, quality)
    workload = replace(asked.workload, quality=known)
    problem = replace(
        asked, workload=workload, tables=settled.tables, start_loads=settled.score.loads
    )
    routing = objectives.route(problem, "fast")
    return routing.shares if routing.feasible else settled.shares


# ---- Prompt by prompt ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Foretold:
    """What a trained router would have said of each prompt, had it not seen it; (N, M) but fold."""

    fold: IntArray  # (N,)
    quality: FloatArray
    tokens_ratio: FloatArray  # predicted tokens per mean tokens of the class
    recorded_ratio: FloatArray  # recorded tokens per mean tokens of the class; 1: not recorded


def _foretold(setting: _Setting, served: Scores, seed: int) -> _Foretold | None:
    """Returns the cross-fit of the models that a pool serves; None without a prompt's own terms."""
    known = cross_fit(served, seed)
    if known.prompt_quality is None:
        return None
    at = [setting.scores.model_names.index(name) for name in served.model_names]
    one = np.ones_like(setting.scores.score)
    quality, predicted, recorded = np.zeros_like(one), one.copy(), one.copy()
    quality[:, at] = known.prompt_quality
    predicted[:, at] = known.output_tokens / known.class_tokens
    tokens = served.output_tokens / known.class_tokens
    recorded[:, at] = np.where(np.isnan(tokens), 1.0, tokens)
    return _Foretold(known.fold, quality, predicted, recorded)


def _per_prompt(
    setting: _Setting, by_class: _HeldOut, known: _Foretold
) -> tuple[FloatArray, FloatArray] | None:
    """Returns prices (M,) and shares (N, M) of a routing by prompt; None if none keeps the loads.

    Each fold is routed by itself: what the others taught is too low where it was lucky itself, so
    at one price for all folds the lucky ones would get the least. The room of a model starts at the
    work predicted of the prompts that it gets by class, and is corrected by what their recorded
    answers took against what those of its new prompts took.
    """
    each = setting.row @ np.nan_to_num(setting.work)  # (N, M)
    may = (setting.row @ np.isfinite(setting.work)) > 0.5
    predicted, recorded = each * known.tokens_ratio, each * known.recorded_ratio
    allowed = setting.weight @ (recorded * by_class.shares)
    factor, shares = np.ones_like(allowed), np.zeros_like(each)
    for _ in range(MOST_CORRECTIONS):
        prices = np.zeros_like(allowed)
        for mine in (known.fold == f for f in np.unique(known.fold)):
            weight = setting.weight[mine]
            room = weight @ (predicted[mine] * by_class.shares[mine]) / weight.sum() * factor
            found = route_prompts(weight, known.quality[mine], predicted[mine], room, may[mine])
            if not found.feasible:
                return None
            shares[mine], prices = found.shares, prices + weight.sum() * found.prices
        used = setting.weight @ (recorded * shares)
        if (used <= allowed * KEPT_WITHIN).all():
            return prices, shares
        factor = factor * np.where(used > 0, allowed / np.where(used > 0, used, 1.0), 1.0)
    return None


# ---- Figures -------------------------------------------------------------------------------------


def _estimate(
    setting: _Setting, value: FloatArray, variance: float = 0.0
) -> tuple[float, float, float]:
    """Returns the mean by traffic of values of prompts (N,), and its 95 % interval.

    Copies of a prompt vary together. To the variance comes that of what all prompts of a class have
    in common.
    """
    mean = float(setting.weight @ value)
    for c in np.unique(setting.true_class).tolist():
        mine = setting.true_class == c
        n, traffic = int(mine.sum()), float(setting.weight[mine].sum())
        copies = np.unique(setting.scores.group[mine], return_inverse=True)[1]
        off = np.bincount(copies, value[mine] - value[mine].mean())
        seen = float(off @ off) / n**2 * off.size / max(off.size - 1, 1)
        # A prompt more might have been anywhere: equal scores of a few prompts are not certain.
        variance += traffic**2 * max(seen, WIDEST_VARIANCE / off.size**2)
    width = TWO_SIDED * float(np.sqrt(variance))
    return mean, mean - width, mean + width


def _rounded(estimate: tuple[float, float, float]) -> QualityEstimate:
    """Returns an estimate for the file, within what a score can be."""
    quality, low, high = (round(min(max(x, 0.0), 1.0), DIGITS) for x in estimate)
    return QualityEstimate(quality=quality, low=low, high=high)


def _oracle(setting: _Setting) -> float | None:
    """Returns the mean by traffic of each prompt's best recorded score among deployed models.

    None where no deployed model has answered some prompt.
    """
    deployed = np.isfinite(setting.work).any(axis=0)
    score = setting.scores.score[:, deployed]
    best = np.where(np.isnan(score), -1.0, score).max(axis=1)
    seen = best >= 0.0
    if not seen.all():
        return None
    return round(float(setting.weight @ best), DIGITS)
