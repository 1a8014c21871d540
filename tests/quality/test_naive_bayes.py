"""Class inference against Bayes' rule written out, and on texts from known word frequencies."""

import numpy as np
import pytest

from planner.quality.classify import posterior, train_naive_bayes
from planner.quality.hashing import word_buckets
from planner.spec.router import NaiveBayes

TOPICS = tuple(
    line.split()
    for line in """code function return list loop string print class
    river mountain lake forest island coast valley desert
    price market profit sales cost tax budget loan""".splitlines()
)
COMMON = list("abcdefghijklmnop")


def texts_of(n: int, seed: int, topic_words: int = 2):
    """Texts of 12 common words and some of their topic; n of them, the last topic half as often."""
    rng = np.random.default_rng(seed)
    code = rng.choice(3, size=n, p=[0.4, 0.4, 0.2])
    texts = []
    for c in code:
        words = [*rng.choice(COMMON, 12), *rng.choice(TOPICS[c], rng.integers(0, topic_words + 1))]
        rng.shuffle(words)
        texts.append(" ".join(words))
    return texts, code, np.arange(n) % 5


@pytest.fixture(scope="module")
def trained():
    texts, code, fold = texts_of(1200, 1)
    return train_naive_bayes(texts, code, 3, fold)


def test_the_posterior_is_bayes_rule_over_the_buckets(trained):
    text = "the market a b a lake"
    bucket = word_buckets(text, trained.log_likelihood.shape[0])
    support = trained.log_likelihood[bucket].astype(np.float64).sum(axis=0)
    odds = np.exp(trained.log_prior) * np.exp(
        support / (trained.temperature * np.sqrt(bucket.size))
    )
    np.testing.assert_allclose(posterior(trained, [text])[0], odds / odds.sum(), rtol=1e-5)


def test_it_knows_the_topics_and_how_sure_it_may_be(trained):
    texts, code, _ = texts_of(3000, 2)
    found = posterior(trained, texts)
    told = np.array([max(map(len, text.split())) > 1 for text in texts])
    assert (found.argmax(axis=1) == code)[told].mean() > 0.97
    # one text in three says nothing of its topic: there the share of classes is all there is
    assert found.max(axis=1).mean() == pytest.approx(
        (found.argmax(axis=1) == code).mean(), abs=0.05
    )
    np.testing.assert_allclose(found.mean(axis=0), [0.4, 0.4, 0.2], atol=0.03)


def test_texts_are_judged_alone_and_rows_sum_to_one(trained):
    texts = [*texts_of(50, 3)[0], "", "日本語", "x" * 9000]
    together = posterior(trained, texts)
    np.testing.assert_array_equal(
        together, np.concatenate([posterior(trained, [t]) for t in texts])
    )
    np.testing.assert_allclose(together.sum(axis=1), 1.0)


def test_the_mix_of_the_traffic_can_replace_that_of_the_training_texts(trained):
    texts = texts_of(20, 4)[0]
    mix = np.array([0.1, 0.1, 0.8])
    expected = posterior(trained, texts) * mix / np.exp(trained.log_prior)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posterior(trained, texts, np.log(mix)), expected, rtol=1e-9)


def test_labels_by_chance_are_answered_with_the_shares_of_the_classes():
    texts, _, fold = texts_of(600, 5)
    code = np.random.default_rng(6).choice(3, size=600, p=[0.5, 0.3, 0.2])
    blind = train_naive_bayes(texts, code, 3, fold)
    found = posterior(blind, texts_of(300, 7)[0])
    loss = -(np.array([0.5, 0.3, 0.2]) * np.log(found)).sum(axis=1).mean()
    entropy = -(np.array([0.5, 0.3, 0.2]) * np.log([0.5, 0.3, 0.2])).sum()
    assert loss < entropy + 0.05


def test_copies_that_straddle_no_fold_do_not_make_it_sure_of_chance():
    """Each text 5 times with the same random label: held-out folds see through it."""
    texts, _, fold = texts_of(120, 8)
    code = np.random.default_rng(9).integers(0, 3, 120)
    by_copies = train_naive_bayes(texts * 5, np.tile(code, 5), 3, np.tile(fold, 5))
    careless = train_naive_bayes(texts * 5, np.tile(code, 5), 3, np.repeat(np.arange(5), 120))
    fresh = texts_of(200, 10)[0]
    assert posterior(by_copies, fresh).max(axis=1).mean() < 0.45
    assert posterior(careless, fresh).max(axis=1).mean() > 0.6


def test_a_class_without_texts_is_never_inferred():
    texts, code, fold = texts_of(300, 11)
    bayes = train_naive_bayes(texts, code, 5, fold)
    odd = posterior(bayes, ["completely unseen vocabulary everywhere " * 20, ""])
    assert np.isfinite(bayes.log_likelihood).all() and np.isfinite(bayes.log_prior).all()
    assert (odd[:, 3:] < 1e-3).all()


def test_many_classes_get_fewer_buckets():
    texts = [f"word{i} only" for i in range(200)]
    bayes = train_naive_bayes(texts * 2, np.tile(np.arange(200), 2), 200, np.zeros(400, np.int64))
    assert bayes.log_likelihood.shape == (4096, 200)
    assert bayes.log_likelihood.nbytes <= 4 << 20
    assert (posterior(bayes, texts).argmax(axis=1) == np.arange(200)).mean() > 0.9


def test_the_same_texts_give_the_same_bytes():
    first, second = (train_naive_bayes(*texts_of(200, 12)[:2], 3, np.arange(200) % 4) for _ in "ab")
    assert first.log_likelihood.tobytes() == second.log_likelihood.tobytes()
    assert (first.temperature, first.log_prior.tolist()) == (
        second.temperature,
        second.log_prior.tolist(),
    )


def test_no_texts_are_no_rows(trained: NaiveBayes):
    assert posterior(trained, []).shape == (0, 3)


def test_from_no_texts_every_class_is_as_likely():
    none = np.zeros(0, np.int64)
    bayes = train_naive_bayes([], none, 4, none)
    assert posterior(bayes, ["anything at all"]) == pytest.approx(np.full((1, 4), 0.25))
