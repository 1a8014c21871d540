"""The choice of a model against the best of all choices, found by trying them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from planner.scheduling.choice import best_model

VALUES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few and exact, so that there are ties


@st.composite
def decisions(draw):
    """Quality and work of some requests, and a price by model."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(2, 5)))
    quality, work = (draw(hnp.arrays(np.float64, shape, elements=VALUES)) for _ in range(2))
    return quality, work, draw(hnp.arrays(np.float64, shape[1], elements=VALUES))


def by_trying(quality, work, price):
    """Of each request: the first of the models of least work among those of most worth."""
    chosen = []
    for q, w in zip(quality, work, strict=True):
        order = sorted(range(q.size), key=lambda m: (-(q[m] - price[m] * w[m]), w[m], m))
        chosen.append(order[0])
    return chosen


@settings(derandomize=True, max_examples=200, deadline=None)
@given(decisions())
def test_the_choice_is_the_one_that_trying_finds(decision):
    assert best_model(*decision).tolist() == by_trying(*decision)


def test_without_prices_the_best_answer_wins():
    quality = np.array([[0.2, 0.9, 0.5]])
    assert best_model(quality, np.array([[1.0, 99.0, 2.0]]), np.zeros(3)).tolist() == [1]


def test_equals_go_to_the_least_work():
    quality = np.array([[0.5, 0.5, 0.5]])
    assert best_model(quality, np.array([[3.0, 1.0, 2.0]]), np.zeros(3)).tolist() == [1]


def test_what_is_not_offered_is_not_chosen():
    quality = np.array([[-np.inf, 0.1], [0.9, -np.inf]])
    work = np.array([[1.0, 500.0], [500.0, 1.0]])
    assert best_model(quality, work, np.array([0.0, 0.01])).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_right_prices_reach_what_the_linear_program_reaches(seed):
    """With the program's own prices nothing is lost but on the few requests that are split."""
    linprog = pytest.importorskip("scipy.optimize").linprog
    random = np.random.default_rng(seed)
    n, cap = 300, 0.2
    quality = np.stack([random.uniform(0.0, 0.6, n), random.uniform(0.3, 1.0, n)], axis=1)
    work = random.uniform(0.5, 1.5, (n, 2))
    # One unknown per request: its share on the second model, whose work is capped.
    found = linprog(
        quality[:, 0] - quality[:, 1], A_ub=work[None, :, 1], b_ub=[cap * n], bounds=(0.0, 1.0)
    )
    chosen = best_model(quality, work, np.array([0.0, -found.ineqlin.marginals[0]]))
    best = quality[:, 0].sum() - found.fun
    reached = quality[np.arange(n), chosen].sum()
    assert best - 1.0 <= reached <= best + 1.0
    assert work[chosen == 1, 1].sum() == pytest.approx(cap * n, abs=work.max())
