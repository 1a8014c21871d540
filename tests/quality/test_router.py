"""A router at work: whose class a prompt is, what its answers are worth, and how long they are."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from router_cases import CLASSES, made_router, made_scores

from planner.quality.answers import predict
from planner.quality.contrast import adjust
from planner.quality.features import surface
from planner.quality.router import classify, estimate, judge
from planner.quality.rules import Facts
from planner.spec.router import CLASS_MEAN

SUM, TALK, SOME, RARE = range(4)
TEXTS = (
    "Add 12 + 700 up.",
    "Add " + " + ".join(str(x) for x in range(100, 128)) + " up.",
    "hello friend, coffee at the weekend?",
    "verse and rhyme and metre",
    "",
)


def plain(router):
    """The same without what needs texts, and without rules."""
    return replace(
        router,
        bayes=None,
        contrast=None,
        lengths=None,
        rules=(),
        trust=np.minimum(router.trust, CLASS_MEAN),
    )


def only(class_code):
    return np.eye(len(CLASSES))[[class_code]]


# ---- Classes -------------------------------------------------------------------------------------


def test_a_class_is_inferred_from_the_text():
    weight = classify(made_router(), TEXTS)
    np.testing.assert_allclose(weight.sum(axis=1), 1.0)
    assert weight[:4].argmax(axis=1).tolist() == [SUM, SUM, TALK, SOME]


def test_what_is_declared_comes_first_then_rules_then_the_text():
    router, text = made_router(), "Add 1 + 2 up in a sonnet."
    of_rule = Facts(headers={"x-client": "chat"})
    declared = Facts(declared="rare", headers={"x-client": "chat"})
    weight = classify(router, [text, text, text, TEXTS[0]], [declared, of_rule, Facts(), Facts()])
    np.testing.assert_array_equal(weight[:3], np.eye(4)[[RARE, TALK, SOME]])
    assert weight[3].argmax() == SUM


def test_without_a_classifier_the_shares_of_the_classes_are_all_that_is_known():
    router = plain(made_router())
    np.testing.assert_array_equal(classify(router, ["anything"]), router.prior[None])


@pytest.mark.parametrize("bare", [False, True])
def test_a_class_that_nobody_knows_gets_the_means_of_the_fleet(bare):
    router = plain(made_router()) if bare else made_router()
    facts = [Facts(declared="chess"), Facts(declared="talk")]
    weight, quality, tokens = judge(router, TEXTS[:2], facts)
    assert np.isnan(weight[0]).all()
    np.testing.assert_array_equal(quality[0], router.means.fleet)
    assert np.isfinite(quality).all() and np.isfinite(tokens).all()
    if bare:
        np.testing.assert_array_equal(tokens[0], router.fleet_tokens)
        np.testing.assert_array_equal(tokens[1], router.class_tokens[TALK])


def test_a_rule_for_a_class_without_scores_is_a_class_that_nobody_knows():
    router = replace(made_router(), rules=(replace(made_router().rules[1], class_name="chess"),))
    assert np.isnan(classify(router, ["a sonnet"])).all()


# ---- Estimates -----------------------------------------------------------------------------------


def test_a_class_with_few_labels_is_worth_what_the_fleet_is():
    router = made_router()
    assert not np.allclose(router.means.mean[RARE], router.means.fleet, atol=0.2)
    np.testing.assert_array_equal(
        estimate(router, ["a text"], only(RARE)).quality[0], router.means.fleet
    )
    np.testing.assert_array_equal(
        estimate(router, ["a text"], only(SOME)).quality[0], router.means.mean[SOME]
    )


def test_per_prompt_terms_tell_long_sums_from_short_ones():
    quality = estimate(made_router(), TEXTS[:2], only(SUM)[[0, 0]]).quality
    assert quality[0, 0] > 0.75 and quality[1, 0] < 0.25  # in truth 0.95 and 0.05
    assert quality[:, 1] == pytest.approx([0.9, 0.9], abs=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_a_mixture_is_what_its_parts_are_by_weight(seed):
    """The formula of the module, class by class."""
    router = made_router()
    weights = np.random.default_rng(seed).dirichlet(np.ones(4), len(TEXTS))
    found = estimate(router, TEXTS, weights)
    terms = adjust(router.contrast, surface(TEXTS))
    for n, weight in enumerate(weights):
        expected = np.zeros(2)
        for c, part in enumerate(weight):
            expected += part * (router.means.fleet if c == RARE else router.means.mean[c])
        expected += (weight[SUM] + weight[TALK]) * terms[n]
        np.testing.assert_allclose(found.quality[n], np.clip(expected, 0.005, 0.995), rtol=1e-12)
    np.testing.assert_array_equal(
        found.output_tokens, predict(router.lengths, surface(TEXTS), weights)
    )


def test_no_score_is_certain():
    router = made_router()
    steep = replace(router, contrast=replace(router.contrast, scale=router.contrast.scale / 1e3))
    quality = estimate(steep, TEXTS, only(SUM)[[0] * len(TEXTS)]).quality
    assert quality.min() == 0.005 and quality.max() == 0.995


def test_without_texts_tokens_are_those_of_the_classes():
    router = plain(made_router())
    weight = np.array([[0.5, 0.5, 0.0, 0.0]])
    found = estimate(router, ["a text"], weight)
    np.testing.assert_allclose(found.output_tokens[0], router.class_tokens[:2].mean(axis=0))
    np.testing.assert_allclose(found.quality[0], router.means.mean[:2].mean(axis=0))


@pytest.mark.parametrize("bare", [False, True])
def test_one_by_one_or_together_and_in_one_step_or_two(bare):
    router = plain(made_router()) if bare else made_router()
    texts = list(TEXTS) + list(made_scores(1).text[::40])
    facts = [Facts(declared="talk" if i % 3 else None) for i in range(len(texts))]
    together = judge(router, texts, facts)
    weight = classify(router, texts, facts)
    np.testing.assert_array_equal(together.class_weight, weight)
    for ours, theirs in zip(together[1:], estimate(router, texts, weight), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for i, text in enumerate(texts):
        for ours, theirs in zip(together, judge(router, [text], [facts[i]]), strict=True):
            np.testing.assert_allclose(ours[i], theirs[0], rtol=1e-9)


def test_no_prompts_no_estimates():
    weight, quality, tokens = judge(made_router(), [])
    assert weight.shape == (0, 4) and quality.shape == tokens.shape == (0, 2)


# ---- Weight of the code --------------------------------------------------------------------------


def test_a_router_loads_nothing_but_numpy():
    """What a proxy imports to read and to use one: in a fresh interpreter."""
    script = (
        "import json, sys\n"
        "import planner.files.router, planner.quality.router\n"
        "import planner.scheduling.choice, planner.scheduling.feedback\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "numpy" in loaded
    heavy = {"pydantic", "pandas", "ortools", "torch", "yaml", "scipy", "aiohttp", "rich", "typer"}
    assert loaded & heavy == set()
