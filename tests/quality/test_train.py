"""What is learned from scores, how far it is trusted, and that held out means held out."""

from dataclasses import replace

import numpy as np
import pytest
from router_cases import (
    CLASSES,
    PASSED,
    RULES,
    SIZES,
    TOKENS,
    USD_PER_TOKEN,
    made_router,
    made_scores,
)

from planner.files.router import router_hash
from planner.quality import train
from planner.quality.scores import Scores, make_scores
from planner.quality.shrink import shrunk_means
from planner.quality.train import cross_fit, data_sha256, train_router
from planner.spec.router import CLASS_MEAN, FLEET, PER_PROMPT

SMALL = {"sum": 320, "talk": 60, "rare": 10}  # sums are many enough for per-prompt terms
COLUMNS = (
    "class_quality", "prompt_quality", "output_tokens", "class_tokens", "class_posterior",
    "inferred_quality", "inferred_tokens",
)  # fmt: skip


def other_results(scores: Scores, rows: np.ndarray) -> Scores:
    """The same prompts with other results in some rows."""
    score, tokens = scores.score.copy(), scores.output_tokens.copy()
    score[rows], tokens[rows] = 1.0 - score[rows], 40.0 * tokens[rows]
    return replace(scores, score=score, output_tokens=tokens)


@pytest.fixture
def gate(monkeypatch):
    """A gate that lets everything pass, or nothing."""

    def set_to(passed: bool) -> None:
        verdict = replace(PASSED, passed=passed)
        monkeypatch.setattr(train, "run_gate", lambda *given: verdict)

    return set_to


# ---- Held out ------------------------------------------------------------------------------------


def test_the_results_of_a_prompt_and_its_duplicates_move_nothing_said_of_them():
    once = made_scores(1, SMALL)
    rows = np.concatenate([np.arange(once.n_prompts), [5, 340, 385]])  # a sum, a talk, a rare one
    scores = make_scores(
        once.class_names,
        once.model_names,
        once.class_code[rows],
        once.score[rows],
        output_tokens=once.output_tokens[rows],
        text=[once.text[i] for i in rows],
    )
    known = cross_fit(scores)
    moved = (known.prompt_quality != known.class_quality).any(axis=1)
    assert (moved == (scores.class_code == 0)).all()  # terms are at work where labels are many
    for group in ([5, 390], [340, 391], [385, 392]):
        changed = cross_fit(other_results(scores, np.array(group)))
        for name in COLUMNS:
            before, after = getattr(known, name), getattr(changed, name)
            np.testing.assert_array_equal(before[group], after[group], err_msg=name)
        assert (known.output_tokens != changed.output_tokens).any()


def test_a_class_is_predicted_by_the_means_of_the_other_folds():
    scores = made_scores(0, {"talk": 60, "some": 40, "rare": 10})
    known = cross_fit(scores)
    for fold in range(5):
        means = shrunk_means(scores.take(known.fold != fold))
        believed = np.stack([means.mean[0], means.mean[1], means.fleet])  # too few rare ones
        mine = known.fold == fold
        expected = believed[scores.class_code[mine]]
        np.testing.assert_array_equal(known.class_quality[mine], expected)
        np.testing.assert_allclose(
            known.inferred_quality[mine], known.class_posterior[mine] @ believed, rtol=1e-12
        )


def test_a_class_is_not_inferred_from_its_own_prompt():
    """Every prompt has words that no other has, and a class by chance: nothing can be told."""
    code = np.random.default_rng(0).integers(0, 2, 200)
    texts = [f"{chr(97 + i % 26) * 3}{i} {i}z{i} q{i}" for i in range(200)]
    scores = make_scores(("a", "b"), ("x", "y"), code, np.full((200, 2), 0.5), text=texts)
    taken_for = cross_fit(scores).class_posterior.argmax(axis=1)
    assert 0.35 < (taken_for == code).mean() < 0.65


def test_a_model_that_was_scored_on_hard_prompts_only_is_not_thought_bad_at_easy_ones():
    random = np.random.default_rng(0)
    hard = np.arange(800) % 2 == 1
    chance = np.where(hard, 0.3, 0.8)[:, None] + [0.0, 0.03]
    score = (random.random((800, 2)) < chance).astype(np.float64)
    score[~hard, 1] = np.nan
    texts = [f"{'1 + 2 * 3 ' * 20 if h else 'please'} {i}" for i, h in enumerate(hard.tolist())]
    scores = make_scores(("a",), ("x", "y"), np.zeros(800, np.int64), score, text=texts)
    quality = cross_fit(scores).prompt_quality
    assert quality[hard].mean(axis=0) == pytest.approx([0.30, 0.33], abs=0.06)
    assert quality[~hard].mean(axis=0) == pytest.approx([0.80, 0.83], abs=0.08)


def test_luck_is_no_gain():
    """Scores that no text can tell: the gate stays shut, and nothing seems to be won."""
    shut = 0
    for seed in range(3):
        scores = made_scores(seed, {"sum": 1100})
        luck = np.random.default_rng(seed).permutation(scores.n_prompts)
        found = train_router(replace(scores, score=scores.score[luck]), USD_PER_TOKEN[:1]).gate
        assert abs(found.gain) < 1.0
        shut += not found.passed
    assert shut == 3


def test_terms_that_tell_pass_the_gate():
    scores = made_scores(0, {"sum": 600, "talk": 400})
    found = train_router(scores, USD_PER_TOKEN[:2]).gate
    assert found.passed
    assert found.gain_low > 5.0  # points: the small model fails on every other sum


# ---- Trust ---------------------------------------------------------------------------------------


def test_trust_depends_on_the_number_of_labels(gate):
    gate(True)
    sizes = {"sum": 300, "talk": 299, "some": 30, "rare": 29}
    router = train_router(made_scores(0, sizes), USD_PER_TOKEN)
    assert router.n_labels.tolist() == [300, 299, 30, 29]
    assert router.trust.tolist() == [PER_PROMPT, CLASS_MEAN, CLASS_MEAN, FLEET]
    assert router.contrast is not None


def test_prompts_without_scores_are_no_labels(gate):
    gate(True)
    scores = made_scores(0, {"sum": 310, "talk": 40})
    score = scores.score.copy()
    score[:20], score[20:30, 0] = np.nan, np.nan  # one score of two is a label
    tokens = np.where(np.isnan(score), np.nan, scores.output_tokens)
    scores = replace(
        scores, score=score, output_tokens=tokens, n_samples=np.isfinite(score).astype(int)
    )
    assert train_router(scores, USD_PER_TOKEN[:2]).n_labels.tolist() == [290, 40]


@pytest.mark.parametrize(("passed", "per_prompt"), [(False, True), (True, False)])
def test_terms_are_left_out_where_they_may_not_be_used(gate, passed, per_prompt):
    gate(passed)
    router = train_router(made_scores(0, SMALL), USD_PER_TOKEN[:3], per_prompt=per_prompt)
    assert router.trust.max() == CLASS_MEAN
    assert router.contrast is None
    assert router.lengths is not None  # lengths need no gate


# ---- What is learned -----------------------------------------------------------------------------


def test_all_parts_are_there_and_in_place():
    router, scores = made_router(), made_scores()
    assert router.class_names == CLASSES
    assert router.rules == RULES
    assert router.trust.tolist() == [PER_PROMPT, PER_PROMPT, CLASS_MEAN, FLEET]
    assert router.prior.tolist() == pytest.approx([n / sum(SIZES.values()) for n in SIZES.values()])
    assert router.provenance.n_prompts == scores.n_prompts
    assert router.provenance.data_sha256 == data_sha256(scores)
    np.testing.assert_array_equal(router.means.mean, shrunk_means(scores).mean)


def test_classes_with_words_of_their_own_are_told_apart():
    confusion = made_router().confusion
    np.testing.assert_allclose(confusion.sum(axis=1), 1.0)
    assert np.diag(confusion).min() > 0.95


def test_mean_tokens_are_those_of_the_class_and_totals_are_kept():
    router, scores = made_router(), made_scores()
    for c, (name, truth) in enumerate(TOKENS.items()):
        mine = scores.class_code == c
        plain = scores.output_tokens[mine].mean(axis=0)
        enough = mine.sum() >= 100
        assert router.class_tokens[c] == pytest.approx(plain, rel=0.01 if enough else 0.4)
        assert router.class_tokens[c] == pytest.approx(truth, rel=0.05 if enough else 0.4), name
    known = cross_fit(scores)
    for predicted in (known.class_tokens, known.output_tokens):
        assert predicted.sum(axis=0) == pytest.approx(scores.output_tokens.sum(axis=0), rel=0.01)


def test_a_cell_without_answers_takes_after_its_class_and_its_model():
    """Twice as long a class, three times as long a model: six times as long together."""
    code = np.repeat([0, 1], 200)
    tokens = np.outer(np.where(code == 0, 100.0, 200.0), [1.0, 3.0])
    score = np.full(tokens.shape, 0.5)
    score[code == 1, 1] = np.nan
    scores = make_scores(("a", "b"), ("x", "y"), code, score, output_tokens=tokens)
    learned = train_router(scores, np.ones((2, 2))).class_tokens
    # Both models' fleet means see other classes: x answers 100 and 200, y only 100.
    assert learned[:, 0] == pytest.approx([100.0, 200.0], rel=0.02)
    assert learned[0, 1] == pytest.approx(300.0, rel=0.02)
    assert learned[1, 1] == pytest.approx(3.0 * 100.0 * 200.0 / 150.0, rel=0.02)


def test_without_texts_class_means_are_all_there_is():
    scores = replace(made_scores(0, SMALL), text=None)
    known = cross_fit(scores)
    assert known.prompt_quality is known.class_posterior is known.inferred_quality is None
    np.testing.assert_array_equal(known.output_tokens, known.class_tokens)
    router = train_router(scores, USD_PER_TOKEN[:3], crossfit=known)
    assert router.bayes is router.contrast is router.lengths is None
    assert not router.gate.passed
    np.testing.assert_array_equal(router.confusion, np.eye(3))


def test_a_model_that_answered_one_prompt_does_no_harm():
    scores = made_scores(0, SMALL)
    score, tokens = scores.score.copy(), scores.output_tokens.copy()
    score[1:, 1], tokens[1:, 1] = np.nan, np.nan
    n_samples = np.isfinite(score).astype(np.int64)
    scores = replace(scores, score=score, output_tokens=tokens, n_samples=n_samples)
    known = cross_fit(scores)
    assert all(np.isfinite(getattr(known, name)).all() for name in COLUMNS)
    router = train_router(scores, USD_PER_TOKEN[:3], crossfit=known)
    assert np.isfinite(router.means.mean).all()
    assert (router.class_tokens > 0).all()


@pytest.mark.parametrize(
    ("n_prompts", "n_classes", "n_models"),
    [(100, 1, 2), (200, 25, 6), pytest.param(600, 200, 40, marks=pytest.mark.slow)],
)
def test_many_and_few_of_everything_with_gaps(n_prompts, n_classes, n_models):
    random = np.random.default_rng(0)
    score = random.random((n_prompts, n_models)).round()
    score[random.random(score.shape) < 0.3] = np.nan
    code = random.integers(0, n_classes, n_prompts)
    scores = make_scores(
        [f"c{c}" for c in range(n_classes)],
        [f"m{m}" for m in range(n_models)],
        code,
        score,
        output_tokens=random.lognormal(5.0, 1.0, score.shape),
        text=[f"{'word ' * (i % 7)}class{c} {i}" for i, c in enumerate(code.tolist())],
    )
    router = train_router(scores, np.ones((n_classes, n_models)))
    assert np.isfinite(router.means.mean).all()
    assert np.isfinite(router.confusion).all()
    np.testing.assert_allclose(router.confusion.sum(axis=1), 1.0)


# ---- The same again ------------------------------------------------------------------------------


def test_the_same_scores_make_the_same_router(gate):
    gate(True)
    again = train_router(made_scores(), USD_PER_TOKEN, rules=RULES)
    assert again.contrast is not None
    assert router_hash(again) == router_hash(made_router())


def test_classes_are_not_inferred_where_nobody_asks():
    scores = made_scores(0, SMALL)
    known, bare = cross_fit(scores), cross_fit(scores, with_inference=False)
    assert bare.class_posterior is bare.inferred_quality is bare.inferred_tokens is None
    for name in ("fold", *COLUMNS[:4]):
        np.testing.assert_array_equal(getattr(known, name), getattr(bare, name))


def test_the_hash_of_the_data_sees_every_result_and_no_sign_of_nan():
    scores = made_scores(0, {"talk": 20})
    score = scores.score.copy()
    score[3, 0] = np.nan
    negative = score.copy()
    negative[3, 0] = -np.nan
    gap, signed = (replace(scores, score=grid) for grid in (score, negative))
    texts = replace(scores, text=(*scores.text[:-1], "another"))
    hashes = [data_sha256(s) for s in (scores, other_results(scores, np.array([7])), gap, texts)]
    assert len(set(hashes)) == 4
    assert data_sha256(signed) == data_sha256(gap)
    assert data_sha256(made_scores(0, {"talk": 20})) == hashes[0]
