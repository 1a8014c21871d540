"""Memory arithmetic, interpolation and the averaging factor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from test_latency_fit import FACTS, GPU, closed, profile

from planner.latency.lattice import COIN, COIN_WEIGHT, Survival, noise_factor
from planner.latency.memory import GIB, Memory
from planner.latency.pchip import Pchip
from planner.latency.sojourn import averaging_ratio
from planner.spec.pool import GpuShare, Pool, Profile


def memory(**pool):
    base = {"name": "p", "model_name": "m", "gpu": "gpu", "source": "test"}
    return Memory.of(Profile(Pool(**(base | pool)), GPU, FACTS))


def test_memory_of_an_8b_model_on_80_gib():
    found = memory()
    assert found.weights_gib_per_gpu == pytest.approx(16e9 / GIB)
    # 128 KiB per token: 2 x 32 layers x 8 heads x 128 x 2 bytes.
    assert found.kv_capacity_tokens == pytest.approx((72 - 16e9 / GIB - 1) * GIB / 131072)
    assert found.fits
    assert memory(weight_precision="fp8").weights_gib_per_gpu == pytest.approx(8e9 / GIB)
    assert memory(tensor_parallel=2).kv_capacity_tokens > 2 * found.kv_capacity_tokens
    assert memory(data_parallel=2).kv_capacity_tokens == 2 * found.kv_capacity_tokens


def test_heads_are_not_split_beyond_their_number():
    assert memory(tensor_parallel=16).kv_capacity_tokens < 1.3 * (
        memory(tensor_parallel=8).kv_capacity_tokens
    )


def test_what_does_not_fit_is_said():
    assert not memory(share=GpuShare(memory_gib=15)).fits
    stated = memory(share=GpuShare(memory_gib=15), kv_capacity_tokens=5000)
    assert stated.fits and stated.kv_capacity_tokens == 5000


def test_pool_memory_reaches_the_model():
    from planner.latency.fit import fit

    small = fit(profile([closed(n) for n in (1, 8, 64)], kv_capacity_tokens=4000))
    large = fit(profile([closed(n) for n in (1, 8, 64)]))
    from test_latency_fit import shape

    assert small.capacity_rps(shape(300, 200)) < large.capacity_rps(shape(300, 200)) / 2


def test_pchip_against_scipy():
    rng = np.random.default_rng(0)
    for size in (2, 3, 4, 9):
        x = np.cumsum(rng.uniform(0.1, 2.0, size))
        y = rng.normal(size=size)
        at = np.linspace(x[0], x[-1], 200)
        np.testing.assert_allclose(Pchip.through(x, y)(at), PchipInterpolator(x, y)(at), atol=1e-12)
        outside = np.array([x[0] - 5, x[-1] + 5])
        np.testing.assert_allclose(Pchip.through(x, y)(outside), y[[0, -1]])


def test_pchip_of_none_and_one():
    at = np.array([1.0, 2.0])
    np.testing.assert_array_equal(Pchip()(at), [0, 0])
    np.testing.assert_array_equal(Pchip((1.0,), (7.0,))(at), [7, 7])


def test_averaging_ratio_against_a_simulated_ornstein_uhlenbeck_process():
    rng = np.random.default_rng(1)
    dt, n_paths = 0.02, 4000
    decay = np.exp(-dt)
    value, total = rng.normal(size=n_paths), np.zeros(n_paths)
    for step in range(1, 251):
        value = decay * value + np.sqrt(1 - decay**2) * rng.normal(size=n_paths)
        total += value * dt
        if step in {50, 250}:
            r = step * dt
            expected = float(averaging_ratio(np.array([r]))[0])
            assert np.var(total / r) == pytest.approx(expected, rel=0.08)
    np.testing.assert_allclose(averaging_ratio(np.array([0.0, 1e-4])), 1.0, atol=1e-4)


def test_survival_of_nodes_keeps_mean_and_weights():
    values = np.array([10.0, 20.0, 400.0])
    weights = np.array([0.5, 0.3, 0.2])
    law = Survival(values.reshape(1, 1, 3), weights, (1, 1))
    between = law.at(np.array([5.0, 14.0, 80.0, 600.0]))[0, 0]
    np.testing.assert_allclose(between, [1.0, 0.5, 0.2, 0.0], atol=1e-6)
    t = np.exp(np.linspace(np.log(5), np.log(600), 4000))
    s = law.at(t)[0, 0]
    assert t[0] + np.sum((s[1:] + s[:-1]) / 2 * np.diff(t)) == pytest.approx(91.0, rel=2e-3)


def test_noise_factors_have_mean_one_and_the_asked_spread():
    weights = np.array([1, 4, 1]) / 6
    for cv in (0.05, 0.3):
        factor = noise_factor(np.array(cv))
        assert factor @ weights == pytest.approx(1.0)
        assert np.sqrt(factor**2 @ weights - 1) == pytest.approx(cv, rel=0.02)
        coin = noise_factor(np.array(cv), COIN, COIN_WEIGHT)
        assert coin @ COIN_WEIGHT == pytest.approx(1.0)
