"""An evaluation on made-up worlds whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from planner.quality.curve import Outcome
from planner.quality.evaluate import Evaluation, difficulty_known, evaluate
from planner.quality.features import FEATURE_NAMES, surface
from planner.quality.gate import run_gate
from planner.quality.labels import class_labels
from planner.quality.scores import Scores, make_scores
from planner.quality.splitting import class_splits
from planner.quality.train import cross_fit

MODELS = ("small", "medium", "large")
MEANS = np.array([[0.3, 0.5, 0.9], [0.8, 0.8, 0.8], [0.2, 0.7, 0.75]])
WORDS = ("prove the lemma on rings", "sort a list in python", "translate the letter")
USD = np.tile([1e-6, 4e-6, 2e-5], (3, 1))


def made(n_prompts: int, seed: int = 0, with_text: bool = True) -> tuple[Scores, np.ndarray]:
    """Scores of three classes whose models differ, and the hidden difficulty of each prompt."""
    random = np.random.default_rng(seed)
    code = np.arange(n_prompts) % 3
    difficulty = random.normal(0, 0.15, (n_prompts, 1))
    truth = np.clip(MEANS[code] - difficulty * np.array([1.5, 1.0, 0.2]), 0, 1)
    score = (random.random(truth.shape) < truth).astype(float)
    tokens = random.lognormal(4.0, 0.5, truth.shape) * np.array([2.0, 1.5, 1.0])
    text = [f"{WORDS[c]} number {i}" for i, c in enumerate(code)]
    scores = make_scores(
        ("math", "code", "text"),
        MODELS,
        code,
        score,
        output_tokens=tokens,
        text=text if with_text else None,
    )
    return scores, difficulty


def evaluated(scores: Scores, others: np.ndarray | None = None) -> Evaluation:
    crossfit = cross_fit(scores)
    gate = run_gate(scores, USD[scores.class_code], lambda k: cross_fit(scores, k))
    return evaluate(scores, crossfit, gate, USD, others=others)


@pytest.fixture(scope="module")
def world() -> Evaluation:
    scores, difficulty = made(1200)
    random = np.random.default_rng(9)
    others = (random.random((1200, 12)) < 0.5 - 2.0 * difficulty).astype(float)
    return evaluated(scores, others)


def test_the_curve_runs_from_the_cheapest_to_the_best_model(world):
    scores, _ = made(1200)
    usd = (USD[scores.class_code] * scores.output_tokens).mean(axis=0)
    assert world.curve[0].cost_usd == pytest.approx(usd[0])
    assert world.curve[-1].cost_usd == pytest.approx(usd[2])
    assert world.curve[0].mixing == pytest.approx(scores.score[:, 0].mean())
    assert world.curve[-1].mixing == pytest.approx(scores.score[:, 2].mean())
    for point in world.curve[1:-1]:
        assert point.router.low <= point.router.value <= point.router.high
        assert point.mixing < point.router.value < point.oracle


def test_prompts_count_by_the_traffic_that_they_stand_for():
    """A class that nearly all traffic is of decides alone; the unit of the weights does not."""
    scores, _ = made(600, with_text=False)
    crossfit = cross_fit(scores)
    gate = run_gate(scores, USD[scores.class_code], lambda k: crossfit)

    def best(weight: np.ndarray | None) -> float:
        return evaluate(scores, crossfit, gate, USD, weight=weight).curve[-1].mixing

    code = scores.class_code == 0
    alone = float(scores.score[code, 2].mean())
    assert best(np.where(code, 1.0, 1e-9)) == pytest.approx(alone, abs=1e-6)
    assert best(None) == pytest.approx(best(np.full(600, 7.0)))
    assert best(None) != pytest.approx(alone, abs=1e-3)


def test_gaps_and_gains_say_the_same(world):
    worth = world.class_means
    assert 0.0 < worth.gap.low < worth.gap.value < worth.gap.high < 1.0
    assert worth.gain.value == pytest.approx(worth.gap.value * world.oracle_points.value)
    on_curve = 100.0 * np.mean([p.router.value - p.mixing for p in world.curve])
    assert worth.gain.value == pytest.approx(on_curve, rel=0.1)


def test_per_prompt_terms_ship_only_through_the_gate(world):
    assert world.gate.n_prompts == 1200
    assert world.ships_prompt_terms == world.gate.passed
    assert world.per_prompt is not None
    difference = world.per_prompt.gain.value - world.class_means.gain.value
    assert difference == pytest.approx(world.gate.gain)


def test_classes_told_by_their_words_keep_the_gain(world):
    assert world.inference is not None
    assert world.inference.accuracy > 0.98
    assert world.inference.kept.value == pytest.approx(1.0, abs=0.1)


def test_who_knows_the_difficulty_closes_more(world):
    assert world.reference is not None
    assert world.reference.gap.value > world.class_means.gap.value


def test_without_texts_and_other_models_there_is_less_to_say():
    scores, _ = made(300, with_text=False)
    found = evaluated(scores)
    assert found.reference is None and found.inference is None and not found.splits
    assert found.class_means.gap.value > 0.0
    assert not found.ships_prompt_terms


def test_calibration_and_lengths_are_those_of_held_out_prompts(world):
    assert world.class_calibration.ece < 0.05
    for fit in world.models:
        assert fit.lengths.total_ratio == pytest.approx(1.0, abs=0.02)
        assert fit.class_auc > 0.5 or fit.model_name == "large"


def test_gaps_in_the_scores_are_counted_and_leave_no_hole():
    scores, _ = made(400, seed=3)
    missing = np.random.default_rng(0).random(scores.score.shape) < 0.3
    missing[:, 0] &= ~missing.all(axis=1)
    blank = replace(
        scores,
        score=np.where(missing, np.nan, scores.score),
        output_tokens=np.where(missing, np.nan, scores.output_tokens),
        n_samples=np.where(missing, 0, 1),
    )
    found = evaluated(blank)
    assert found.missing_ratio == pytest.approx(missing.mean())
    assert np.isfinite(found.class_means.gap.value)
    assert all(np.isfinite(point.router.value) for point in found.curve)


def test_the_same_data_say_the_same():
    scores, _ = made(150, seed=4)
    assert repr(evaluated(scores)) == repr(evaluated(scores))


def test_more_labels_close_more_of_the_gap(world):
    sizes = [point.n_prompts for point in world.learning]
    assert sizes == [100, 300, 960]
    assert world.learning[-1].gap.value > 0.8 * world.class_means.gap.value
    assert world.learning[-1].gap.value >= world.learning[0].gap.value - 0.02


def test_twice_the_labels_narrow_an_interval_by_root_two():
    scores, _ = made(1200)
    rows = np.flatnonzero((scores.class_code != 1) | (np.arange(1200) < 120))
    labels = {each.class_name: each for each in class_labels(scores.take(rows))}
    assert labels["code"].n_prompts == 40 and labels["math"].n_prompts == 400
    assert labels["code"].width > 2.0 * labels["math"].width
    for each in labels.values():
        assert each.width_doubled == pytest.approx(each.width / np.sqrt(2), rel=0.12)


def test_the_reference_leaves_each_prompt_out_of_its_own_fit():
    scores, difficulty = made(60)
    others = np.repeat(np.where(difficulty < 0, 0.6, 0.4), 3, axis=1)
    others[7] = 0.7  # unlike all others: in its own fit it would be followed by 0.05
    class_quality = MEANS[scores.class_code]
    plain = difficulty_known(scores, others, class_quality)
    flipped = scores.score.copy()
    flipped[7] = 1.0 - flipped[7]
    after = difficulty_known(replace(scores, score=flipped), others, class_quality)
    by_class_means = 0.005  # the other prompts' residuals are those from means with this one
    np.testing.assert_allclose(after[7], plain[7], rtol=0.0, atol=by_class_means)
    assert np.abs(after - plain).max() > 0.03


def two_faced(n_prompts: int, seed: int, reach: float) -> Scores:
    """One class in which, with digits in the prompt, the small model is as good as the large."""
    random = np.random.default_rng(seed)
    has_digits = random.random(n_prompts) < 0.4
    truth = np.tile([0.5, 0.75], (n_prompts, 1))
    truth[has_digits] += [reach, -reach]
    score = (random.random(truth.shape) < truth).astype(float)
    letters = random.integers(97, 123, (n_prompts, 24))
    text = [
        " ".join(["".join(map(chr, row[:8])), "7 3" if d else "a b", "".join(map(chr, row[8:]))])
        for row, d in zip(letters, has_digits, strict=True)
    ]
    return make_scores(("all",), ("small", "large"), np.zeros(n_prompts, int), score, text=text)


def splits_of(scores: Scores):
    cost = np.tile([1.0, 10.0], (scores.n_prompts, 1))
    outcome = Outcome(scores.score, cost, np.ones(scores.n_prompts))
    assert scores.text is not None
    return class_splits(scores, surface(scores.text), cost, outcome)


def test_a_class_of_two_kinds_is_found_and_cut_where_they_differ():
    (split,) = splits_of(two_faced(900, 0, 0.15))
    assert split.worthwhile
    assert split.share_above in (pytest.approx(0.4, abs=0.05), pytest.approx(0.6, abs=0.05))
    assert split.feature in FEATURE_NAMES
    assert "digit" in split.feature or "number" in split.feature


def test_a_class_of_one_kind_is_left_whole():
    found = [splits_of(two_faced(320, seed, 0.0))[0] for seed in range(15)]
    assert not any(split.worthwhile for split in found)
    assert np.mean([split.gain.value for split in found]) < 0.3


def test_small_classes_are_not_tried():
    assert splits_of(two_faced(200, 0, 0.15)) == ()
