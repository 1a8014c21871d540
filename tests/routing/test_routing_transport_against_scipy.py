"""The best assignment at load fractions against scipy's linear program, and what its prices say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from planner.routing.transport import Transport

AWAY = 4.0


def by_linprog(weight, quality, fractions):
    """The same program with its two deviations, written out."""
    n, m = quality.shape
    gain = np.where(np.isfinite(quality), weight[:, None] * quality, 0.0).ravel()
    served = np.repeat(np.eye(n), m, axis=1)
    given_to = np.kron(weight, np.eye(m))
    equal = np.block(
        [[served, np.zeros((n, 2 * m))], [given_to, np.eye(m), -np.eye(m)]],
    )
    most = np.append(np.isfinite(quality).ravel().astype(float), np.ones(2 * m))
    return linprog(
        np.append(-gain, np.full(2 * m, AWAY)), A_eq=equal, b_eq=np.append(np.ones(n), fractions),
        bounds=np.column_stack([np.zeros_like(most), most]), method="highs",
    )  # fmt: skip


def instance(seed, n, m, blanks, ties):
    rng = np.random.default_rng(seed)
    quality = rng.random((n, m))
    if ties:
        quality = np.round(quality, 1)
    if blanks:
        hidden = rng.random((n, m)) < 0.3
        hidden[np.arange(n), rng.integers(0, m, n)] = False
        quality = np.where(hidden, np.nan, quality)
    return rng.dirichlet(np.ones(n)), quality, rng


@settings(max_examples=40)
@given(
    st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 5), st.booleans(), st.booleans()
)  # fmt: skip
def test_value_shares_and_prices(seed, n, m, blanks, ties):
    weight, quality, rng = instance(seed, n, m, blanks, ties)
    transport = Transport(weight, quality)
    every = [rng.dirichlet(np.full(m, 0.7)) for _ in range(4)]
    found = [transport.at(w) for w in every]  # one after the other, each from the last basis
    for w, one in zip(every, found, strict=True):
        assert one.value == pytest.approx(-by_linprog(weight, quality, w).fun, abs=1e-7)
        assert np.all(one.shares >= 0) and np.allclose(one.shares.sum(axis=1), 1.0)
        assert not one.shares[np.isnan(quality)].any()
        reached = weight @ one.shares
        own = float(weight @ (np.nan_to_num(quality) * one.shares).sum(axis=1))
        assert own - AWAY * np.abs(reached - w).sum() == pytest.approx(one.value, abs=1e-6)
        # S is concave: its prices bound it everywhere from above.
        for other, there in zip(every, found, strict=True):
            assert there.value <= one.value + one.prices @ (other - w) + 1e-6


def test_two_models_are_told_apart_by_one_threshold():
    weight, quality, _ = instance(3, 30, 2, False, False)
    shares = Transport(weight, quality).at(np.array([0.35, 0.65])).shares
    order = np.argsort(quality[:, 0] - quality[:, 1])
    first = shares[order, 0]
    assert np.all(np.diff(first) >= -1e-9)
    assert weight @ shares[:, 0] == pytest.approx(0.35)
    assert np.sum((first > 1e-9) & (first < 1 - 1e-9)) <= 1


def test_a_fraction_out_of_reach_is_approached():
    quality = np.array([[0.9, np.nan], [0.4, 0.5]])
    found = Transport(np.array([0.6, 0.4]), quality).at(np.array([0.1, 0.9]))
    assert np.allclose(found.shares, [[1.0, 0.0], [0.0, 1.0]])


def test_a_class_that_nobody_may_answer():
    with pytest.raises(ValueError, match="no model"):
        Transport(np.array([1.0]), np.array([[np.nan, np.nan]]))
