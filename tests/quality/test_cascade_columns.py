"""Cascades as columns: proven on other folds, realised on the prompts themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.quality.cascade import proven_cascades
from planner.quality.cascade_columns import RouteArrays, with_cascades
from planner.quality.folds import fold_of
from planner.quality.scores import Scores, make_scores

USD_PER_TOKEN = np.array([[1.0, 20.0], [1.0, 20.0]])


def draw(n: int = 400, *, informed: bool = True) -> Scores:
    """Returns two classes, of which only the first has a signal that tells right from wrong."""
    random = np.random.default_rng(0)
    code = np.repeat([0, 1], n)
    score = (random.random((2 * n, 2)) < [0.5, 0.9]).astype(float)
    told = np.where((code == 0)[:, None] & informed, score, random.random(score.shape))
    tokens = random.integers(20, 60, score.shape).astype(float)
    return make_scores(
        ["told", "blind"],
        ["small", "large"],
        code,
        score,
        output_tokens=tokens,
        signals={"sure": told + 0.2 * random.standard_normal(score.shape)},
    )


def single(scores: Scores) -> RouteArrays:
    """Returns arrays of the models alone; what is believed does not matter here."""
    cost = scores.output_tokens * USD_PER_TOKEN[scores.class_code]
    believed = np.tile([0.5, 0.9], (scores.n_prompts, 1))
    return RouteArrays(believed, np.tile([40.0, 800.0], (scores.n_prompts, 1)), scores.score, cost)


def test_a_column_scores_and_costs_what_the_cascade_of_the_other_folds_does() -> None:
    scores = draw()
    found = with_cascades(scores, USD_PER_TOKEN, single(scores))
    fold = fold_of(scores)
    assert found.score.shape[1] > 2
    for k in range(5):
        option = proven_cascades(scores.take(fold != k), USD_PER_TOKEN)[0]
        assert (option.class_name, option.first, option.second) == ("told", "small", "large")
        for i in np.flatnonzero((fold == k) & (scores.class_code == 0))[:20]:
            signal = {"length": -scores.output_tokens, **scores.signals}[option.signal][i, 0]
            escalated = bool(signal < option.below)
            paid = scores.output_tokens[i, 0] + escalated * 20.0 * scores.output_tokens[i, 1]
            assert found.score[i, 2] == scores.score[i, int(escalated)]
            assert found.cost[i, 2] == paid
            assert found.quality_hat[i, 2] == option.quality


def test_a_class_without_a_cascade_repeats_the_first_model() -> None:
    scores = draw()
    before = single(scores)
    found = with_cascades(scores, USD_PER_TOKEN, before)
    blind = scores.class_code == 1
    for name in ("quality_hat", "cost_hat", "score", "cost"):
        widened, models = getattr(found, name), getattr(before, name)
        assert np.array_equal(widened[:, :2], models)
        assert (widened[blind, 2:] == models[blind, :1]).all()


def test_nothing_is_added_where_nothing_is_proven() -> None:
    scores = draw(informed=False)
    assert with_cascades(scores, USD_PER_TOKEN, single(scores)).score.shape[1] == 2


def test_what_is_believed_of_a_prompt_does_not_depend_on_its_own_fold() -> None:
    scores = draw()
    fold = fold_of(scores)
    flipped = np.where((fold == 1)[:, None], 1.0 - scores.score, scores.score)
    before = with_cascades(scores, USD_PER_TOKEN, single(scores))
    other = replace(scores, score=flipped)
    after = with_cascades(other, USD_PER_TOKEN, single(other))
    here = fold == 1
    assert np.array_equal(before.quality_hat[here, :3], after.quality_hat[here, :3])
    assert np.array_equal(before.cost_hat[here, :3], after.cost_hat[here, :3])
    assert not np.array_equal(before.quality_hat, after.quality_hat)
