"""What is taken for a class is a mixture of true classes: nothing of the traffic gets lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.quality.inferred import mixed_models
from planner.quality.lengths import Nodes, lognormal_nodes, mixed_nodes
from planner.quality.means import ClassModel
from planner.spec.inputs import InferredClasses

NODES = Nodes(16, 64)
RATES = np.array([3.0, 1.0])
CONFUSION = np.array([[0.9, 0.1], [0.2, 0.8]])


def class_model(score: float, tokens: float) -> ClassModel:
    return ClassModel(
        score=score,
        low=score - 0.1,
        high=score + 0.1,
        input_tokens=lognormal_nodes(100.0, 0.5, NODES.n_input),
        output_tokens=lognormal_nodes(tokens, 1.0, NODES.n_output),
        origin="measured",
    )


MODELS = {
    ("maths", "small"): class_model(0.4, 500.0),
    ("code", "small"): class_model(0.7, 100.0),
    ("maths", "large"): class_model(0.8, 300.0),
    ("code", "large"): class_model(0.9, 80.0),
}


def test_the_mixture_by_hand():
    mixture = InferredClasses(RATES, CONFUSION).mixture
    assert mixture == pytest.approx(np.array([[2.7 / 2.9, 0.2 / 2.9], [0.3 / 1.1, 0.8 / 1.1]]))
    mixed = mixed_models(MODELS, ("maths", "code"), mixture, NODES)
    assert mixed["maths", "small"].score == pytest.approx((2.7 * 0.4 + 0.2 * 0.7) / 2.9)
    assert mixed["code", "large"].output_tokens.mean() == pytest.approx(
        (0.3 * 300 + 0.8 * 80) / 1.1
    )


def test_what_is_never_inferred_counts_as_itself():
    always_first = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert InferredClasses(RATES, always_first).mixture.tolist() == [[0.75, 0.25], [0.0, 1.0]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_scores_and_tokens_of_all_traffic_stay(seed):
    """A model that takes everything sees the same, whatever the classes are taken for."""
    rng = np.random.default_rng(seed)
    confusion = rng.dirichlet(np.ones(2), size=2)
    mixture = InferredClasses(RATES, confusion).mixture
    taken_for = RATES @ confusion
    mixed = mixed_models(MODELS, ("maths", "code"), mixture, NODES)
    for model in ("small", "large"):
        for figure in (lambda m: m.score, lambda m: m.output_tokens.mean(), lambda m: m.low):
            before = RATES @ [figure(MODELS[c, model]) for c in ("maths", "code")]
            after = taken_for @ [figure(mixed[c, model]) for c in ("maths", "code")]
            assert after == pytest.approx(before)


def test_a_model_without_scores_on_much_of_it_is_not_offered():
    models = {key: value for key, value in MODELS.items() if key != ("code", "large")}
    mixture = InferredClasses(RATES, CONFUSION).mixture
    mixed = mixed_models(models, ("maths", "code"), mixture, NODES)
    assert ("maths", "large") not in mixed  # 7 % of it is code
    assert ("maths", "small") in mixed
    rare = InferredClasses(np.array([3.0, 0.1]), CONFUSION).mixture
    assert mixed_models(models, ("maths", "code"), rare, NODES)["maths", "large"].score == 0.8


def test_mixed_nodes_against_a_large_sample():
    parts = [lognormal_nodes(100.0, 0.5, 64), lognormal_nodes(900.0, 1.0, 64)]
    nodes = mixed_nodes(parts, [3.0, 1.0], 64)
    assert nodes.mean() == pytest.approx(0.75 * parts[0].mean() + 0.25 * parts[1].mean())
    sample = np.concatenate([np.repeat(parts[0], 3), parts[1]])
    for level in (0.1, 0.5, 0.9):
        assert np.quantile(nodes, level) == pytest.approx(np.quantile(sample, level), rel=0.08)
    assert mixed_nodes([parts[0]], [1.0], 64) == pytest.approx(parts[0], rel=1e-9)
