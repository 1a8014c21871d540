"""The exact routing of prompts against one large linear program by another solver."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from planner.routing.prompts import route_prompts


def by_linprog(weight, quality, work, room):
    n, m = quality.shape
    p = weight / weight.sum()
    j = np.arange(n * m)
    one = coo_matrix((np.ones(n * m), (j // m, j)), (n, n * m))
    load = coo_matrix(((p[:, None] * work).ravel(), (j % m, j)), (m, n * m))
    return linprog(
        -(p[:, None] * quality).ravel(), A_ub=load, b_ub=room, A_eq=one, b_eq=np.ones(n),
        method="highs",
    )  # fmt: skip


def instance(seed, n, m, tightness, ties):
    rng = np.random.default_rng(seed)
    quality = rng.random((n, m))
    work = rng.lognormal(0.0, 0.7, (n, m)) * 10.0 ** rng.uniform(-3, 3, m)
    if ties:  # class means: many prompts are alike
        alike = rng.integers(0, min(3, n), n)
        quality, work = quality[alike], work[alike]
    room = tightness * work.mean(axis=0) * rng.uniform(0.2, 1.0, m)
    return rng.random(n) + 0.1, quality, work, room


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 6),
    st.sampled_from([0.3, 1.0, 3.0]), st.booleans(),
)  # fmt: skip
def test_value_prices_and_feasibility(seed, n, m, tightness, ties):
    weight, quality, work, room = instance(seed, n, m, tightness, ties)
    truth = by_linprog(weight, quality, work, room)
    found = route_prompts(weight, quality, work, room)
    assert found.feasible == (truth.status == 0)
    if not found.feasible:
        # Farkas: at these prices even the least work costs more than the room is worth.
        p = weight / weight.sum()
        least = p @ np.min(found.prices * work, axis=1)
        assert (found.prices >= -1e-12).all() and least > found.prices @ room
        return
    assert found.quality == pytest.approx(-truth.fun, abs=2e-6)
    assert found.quality <= found.bound + 1e-12 and found.bound - found.quality <= 2e-6
    p = weight / weight.sum()
    assert found.shares.sum(axis=1) == pytest.approx(np.ones(n))
    assert (p @ (found.shares * work) <= room * (1 + 1e-6)).all()
    assert p @ (found.shares * quality).sum(axis=1) == pytest.approx(found.quality, abs=1e-9)
    # The prices are a proof by themselves.
    net = (quality - found.prices * work).max(axis=1)
    assert p @ net + found.prices @ room == pytest.approx(found.bound, abs=2e-6)


def test_without_limits_every_prompt_goes_to_its_best_model():
    rng = np.random.default_rng(1)
    quality = rng.random((50, 3))
    found = route_prompts(np.ones(50), quality, np.ones((50, 3)), np.full(3, np.inf))
    assert found.prices == pytest.approx(np.zeros(3))
    assert found.quality == pytest.approx(quality.max(axis=1).mean())
    assert np.array_equal(found.shares.argmax(axis=1), quality.argmax(axis=1))


def test_a_model_that_is_not_allowed_gets_nothing():
    quality = np.array([[0.2, 0.9], [0.3, 0.8]])
    allowed = np.array([[True, False], [True, True]])
    found = route_prompts(np.ones(2), quality, np.ones((2, 2)), np.full(2, np.inf), allowed)
    assert found.shares.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(ValueError, match="no model"):
        route_prompts(np.ones(2), quality, np.ones((2, 2)), np.ones(2), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="shapes"):
        route_prompts(np.ones(3), quality, np.ones((2, 2)), np.ones(2))


def test_thousands_of_prompts_take_few_rounds():
    weight, quality, work, room = instance(3, 20_000, 8, 0.2, False)
    found = route_prompts(weight, quality, work, room)
    assert found.feasible and found.bound - found.quality <= 2e-6
    assert found.n_rounds < 100
    assert (found.shares.max(axis=1) < 1 - 1e-9).mean() < 0.05
