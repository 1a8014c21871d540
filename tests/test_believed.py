"""What a plan's quality rests on, against the truth that the scores were drawn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from questions import PROFILES, inputs_of, small
from router_folder import MODELS, QUALITY, RATES_RPS, write_router_folder

from planner.believed import (
    _estimate,
    _Foretold,
    _held_out,
    _per_prompt,
    _setting,
    quality_basis,
    remarks,
)
from planner.case import make_case
from planner.files.inputs import read_inputs
from planner.objectives import Objectives, make_objectives
from planner.quality.folds import fold_of
from planner.quality.scores import scores_of
from planner.quality.train import train_router
from planner.settle import Settled, settle
from planner.spec.arrays import FloatArray
from planner.spec.inputs import InferredClasses, Inputs
from planner.workload import make_workload

REPLICAS = np.array([0, 2, 1])  # 405b, 70b, 8b: pools in the order of their names


@dataclass(frozen=True)
class Planned:
    inputs: Inputs
    objectives: Objectives
    settled: Settled


def planned(folder: Path) -> Planned:
    """A routed deployment of the folder with scored prompts."""
    write_router_folder(folder, quality_at_least=None)
    inputs = read_inputs(folder, PROFILES)
    objectives = make_objectives(make_case(inputs))
    return Planned(inputs, objectives, settle(objectives, REPLICAS))


def with_scores(made: Planned, score: FloatArray, replicas: np.ndarray = REPLICAS) -> Planned:
    """The same question and tables after other scores of the same answers."""
    table = made.inputs.files.prompts
    files = replace(made.inputs.files, prompts=replace(table, score=score))
    case = made.objectives.case
    case = replace(case, workload=make_workload(files, case.pools))
    objectives = make_objectives(case, made.objectives.tables)
    settled = settle(objectives, replicas)
    return Planned(replace(made.inputs, files=files), objectives, settled)


def true_quality(settled: Settled, objectives: Objectives) -> float:
    """The mean score that the plan's shares truly have."""
    workload = objectives.case.workload
    at = [MODELS.index(p.pool.scored_as) for p in objectives.case.pools]
    truth = np.array([[QUALITY[c][m] for m in at] for c in workload.class_names])
    return float(workload.weights @ (settled.shares * truth).sum(axis=1))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    return planned(tmp_path_factory.mktemp("believed") / "q")


@pytest.mark.slow
def test_the_interval_holds_the_truth(base: Planned):
    """Of 12 draws of the same truth, one may miss at 95 %."""
    table, rng = base.inputs.files.prompts, np.random.default_rng(5)
    at = [MODELS.index(name) for name in table.model_names]
    worth = np.array([[QUALITY[c][m] for m in at] for c in table.classes])
    worth = worth[table.class_code, table.model_code]
    inside, off = 0, []
    for _ in range(12):
        made = with_scores(base, (rng.random(worth.size) < worth).astype(float))
        basis = quality_basis(made.inputs.files, made.objectives, made.settled, 0)
        truth = true_quality(made.settled, made.objectives)
        inside += basis.by_class.low <= truth <= basis.by_class.high
        off.append(basis.by_class.quality - truth)
    assert inside >= 11
    assert abs(np.mean(off)) < 2.5 * np.std(off) / np.sqrt(len(off))


def test_a_prompt_has_no_say_in_its_own_route(base: Planned):
    files, table = base.inputs.files, base.inputs.files.prompts
    before = _held_out(
        _setting(files, base.objectives, base.settled, scores_of(files)),
        base.objectives, base.settled, 0,
    )  # fmt: skip
    for prompt in (0, 57):
        score = table.score.copy()
        score[table.prompt_code == prompt] = 1.0 - score[table.prompt_code == prompt]
        changed = replace(files, prompts=replace(table, score=score))
        setting = _setting(changed, base.objectives, base.settled, scores_of(changed))
        after = _held_out(setting, base.objectives, base.settled, 0)
        row = setting.scores.prompt_ids.index(table.prompt_ids[prompt])
        assert after.shares[row].tolist() == before.shares[row].tolist()
        assert after.score[row].tolist() != before.score[row].tolist()


def test_the_best_of_lucky_models_is_seen_through(base: Planned):
    """Of three models of the same worth the best mean is luck; held out it is gone."""
    rng = np.random.default_rng(2)
    stated, held_out = [], []
    for _ in range(12):
        coin = (rng.random(base.inputs.files.prompts.score.size) < 0.5).astype(float)
        made = with_scores(base, coin, np.array([1, 4, 8]))
        basis = quality_basis(made.inputs.files, made.objectives, made.settled, 0)
        stated.append(_raw_quality(made.inputs.files, made.objectives, made.settled))
        held_out.append(basis.by_class.quality)
    assert np.mean(stated) > 0.51
    assert abs(np.mean(held_out) - 0.5) < 2.5 * np.std(held_out) / np.sqrt(len(held_out))


def _raw_quality(files, objectives: Objectives, settled: Settled) -> float:
    """What plain means of the recorded scores say of the shares that they chose."""
    scores = scores_of(files)
    total = 0.0
    for c, name in enumerate(objectives.case.workload.class_names):
        of_class = scores.class_code == scores.class_names.index(name)
        for p, profile in enumerate(objectives.case.pools):
            m = scores.model_names.index(profile.pool.scored_as)
            mean = float(np.nanmean(scores.score[of_class, m]))
            total += objectives.case.workload.weights[c] * settled.shares[c, p] * mean
    return total


def test_the_oracle_is_each_prompts_best_score(base: Planned):
    basis = quality_basis(base.inputs.files, base.objectives, base.settled, 0)
    scores = scores_of(base.inputs.files)
    deployed = [scores.model_names.index(name) for name in MODELS[:2]]
    rates = sum(RATES_RPS.values())
    expected = 0.0
    for name, rate in RATES_RPS.items():
        mine = scores.class_code == scores.class_names.index(name)
        expected += rate / rates * float(scores.score[mine][:, deployed].max(axis=1).mean())
    assert basis.oracle == pytest.approx(expected, abs=1e-6)
    assert basis.oracle > basis.by_class.high
    assert basis.per_prompt is None and "no router" in basis.why


def test_a_floor_that_held_out_prompts_do_not_bear_out(base: Planned):
    files = base.inputs.files
    basis = quality_basis(files, base.objectives, base.settled, 0)
    assert remarks(files, basis) == []
    for above, n in ((0.0, 0), (0.01, 1)):
        floor = basis.by_class.quality + above
        question = files.question.model_copy(update={"quality_at_least": floor})
        assert len(remarks(replace(files, question=question), basis)) == n
    assert "0.0100 below the floor" in remarks(replace(files, question=question), basis)[0]


def test_wrongly_inferred_classes_are_named(base: Planned):
    files = base.inputs.files
    basis = quality_basis(files, base.objectives, base.settled, 0)
    confusion = np.array([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 0.8]])
    inferred = InferredClasses(np.array(list(RATES_RPS.values())), confusion)
    (text,) = remarks(replace(files, inferred=inferred), basis)
    assert f"{(60 * 0.1 + 20 * 0.2) / 110:.1%}" in text


def test_a_router_of_other_scores_does_not_tell_the_mistakes_of_today(base: Planned):
    scores = scores_of(base.inputs.files)
    router = train_router(scores, np.full((scores.n_classes, scores.n_models), 1e-6))
    other = replace(router, provenance=replace(router.provenance, data_sha256="0" * 64))
    inferred = InferredClasses(np.array(list(RATES_RPS.values())), np.eye(3))
    for known, stale in ((router, False), (other, True)):
        files = replace(base.inputs.files, router=known)
        basis = quality_basis(files, base.objectives, base.settled, 0)
        assert (basis.why == "the router was trained on other scores: rb router train DIR") == stale
        (text,) = remarks(replace(files, inferred=inferred), basis)
        assert text.endswith("rb router train DIR") == stale


def test_what_is_taken_for_a_class_is_routed_by_what_it_truly_is(base: Planned):
    """Each class is taken for the one before: only names change, so all go where they went."""
    files, case = base.inputs.files, base.objectives.case
    rate_rps = np.array([c.rate_rps for c in files.question.classes])
    confusion = np.roll(np.eye(3), -1, axis=1)
    classes = tuple(
        c.model_copy(update={"rate_rps": float(rate)})
        for c, rate in zip(files.question.classes, rate_rps @ confusion, strict=True)
    )
    question = files.question.model_copy(update={"classes": classes})
    swapped = replace(files, question=question, inferred=InferredClasses(rate_rps, confusion))
    objectives = make_objectives(replace(case, workload=make_workload(swapped, case.pools)))
    settled = settle(objectives, REPLICAS)
    scores = scores_of(files)
    found, wanted = (
        _held_out(_setting(f, o, s, scores), o, s, 0).shares
        for f, o, s in ((swapped, objectives, settled), (files, base.objectives, base.settled))
    )
    assert np.abs(found - wanted).mean() < 0.01
    assert wanted.std(axis=0).max() > 0.2


@pytest.mark.parametrize("alike", [False, True])
def test_copies_of_prompts_tell_nothing_more(base: Planned, alike: bool):
    """Every prompt twice: the same mean, and an interval as wide as with each of them once."""
    setting = _setting(
        base.inputs.files, base.objectives, base.settled, scores_of(base.inputs.files)
    )
    scores = setting.scores
    value = np.ones(len(scores.score)) if alike else np.nanmean(scores.score, axis=1)
    twice = np.repeat(np.arange(value.size), 2)
    doubled = replace(
        setting,
        scores=scores.take(twice),
        true_class=setting.true_class[twice],
        weight=setting.weight[twice] / 2,
    )
    once, both = _estimate(setting, value), _estimate(doubled, value[twice])
    assert both == pytest.approx(once)


def test_a_few_prompts_of_equal_scores_are_not_certain(base: Planned):
    table = base.inputs.files.prompts
    made = with_scores(base, np.ones(table.score.size))
    by_class = quality_basis(made.inputs.files, made.objectives, made.settled, 0).by_class
    assert by_class.quality == by_class.high == 1.0
    weight = np.array(list(RATES_RPS.values())) / sum(RATES_RPS.values())
    n = np.array([(table.class_code[np.unique(table.prompt_code, return_index=True)[1]]
                   == table.classes.index(name)).sum() for name in RATES_RPS])  # fmt: skip
    width = 1.959964 * np.sqrt((weight**2 * 0.25 / n**2).sum())
    assert by_class.low == pytest.approx(1.0 - width, abs=1e-6)


def test_knowing_more_gains_at_the_same_work(base: Planned):
    """A noisy oracle gains; noise alone does not; no model gets more work than by class."""
    files = base.inputs.files
    scores = scores_of(files)
    setting = _setting(files, base.objectives, base.settled, scores)
    by_class = _held_out(setting, base.objectives, base.settled, 0)
    value = (by_class.shares * by_class.score).sum(axis=1)
    rng, fold = np.random.default_rng(0), fold_of(scores)
    class_tokens = np.empty_like(scores.score)
    for c in range(scores.n_classes):
        mine = scores.class_code == c
        class_tokens[mine] = np.nanmean(scores.output_tokens[mine], axis=0)
    tokens = np.where(np.isnan(scores.output_tokens), class_tokens, scores.output_tokens)
    gains = {}
    for kind, weight in (("knows", 0.3), ("noise", 0.0)):
        told = weight * by_class.score + rng.normal(0.0, 0.05, scores.score.shape)
        ratio = tokens / class_tokens
        foretold = _Foretold(fold, told, ratio * rng.lognormal(0.0, 0.2, ratio.shape), ratio)
        found = _per_prompt(setting, by_class, foretold)
        assert found is not None
        prices, shares = found
        better = (shares * by_class.score).sum(axis=1)
        gains[kind] = float(setting.weight @ (better - value))
        assert (prices >= 0.0).all() and (prices > 0.0).any()
        work = setting.row @ np.nan_to_num(setting.work) * ratio
        allowed = setting.weight @ (work * by_class.shares)
        assert (setting.weight @ (work * shares) <= allowed * 1.0051).all()
    assert gains["knows"] > 0.03
    assert gains["noise"] < 0.01


def test_stated_class_means_have_the_interval_of_their_prompt_counts(tmp_path: Path):
    inputs = inputs_of(tmp_path / "stated", small())
    objectives = make_objectives(make_case(inputs))
    settled = settle(objectives, np.array([1, 2]))
    basis = quality_basis(inputs.files, objectives, settled, 0)
    assert not basis.held_out and basis.n_prompts == 200 and basis.oracle is None
    assert basis.by_class.quality == pytest.approx(settled.score.quality, abs=1e-6)
    # Two classes of 100 answers each, three quarters of the traffic is of the first.
    quality, shares = objectives.case.workload.quality, settled.shares
    deviation = (shares * np.sqrt(quality * (1.0 - quality) / 100)).sum(axis=1)
    half = 1.96 * float(np.hypot(0.75 * deviation[0], 0.25 * deviation[1]))
    assert (basis.by_class.high - basis.by_class.low) / 2 == pytest.approx(half, rel=0.05)
