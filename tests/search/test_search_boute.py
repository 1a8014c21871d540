"""BOute's optimiser: its kernel in closed form, and small problems whose truth is enumerated."""

import warnings

import numpy as np
import pytest

pytest.importorskip("torch")

from planner.search import boute, boute_kernel, enumeration, random_search, surrogate
from planner.search.problem import Box, Outcome, Problem

# A load fraction in tenths, and replicas of a small and a large model.
BOX = Box(np.zeros(3, np.int64), np.array([10, 4, 3]), np.array([[0.0, 1, 3]]), np.array([9.0]))
REFERENCE = np.array([3.0, 0.0])


def evaluate(z):
    """A queue per model, and quality that grows with the large one's fraction."""
    large = z[0] / 10.0
    loads = (1.0 - large) / (0.35 * z[1] + 1e-3), large / (0.45 * z[2] + 1e-3)
    latency = max(1.0 / (1.0 - min(load, 0.9)) - 1.0 + max(load - 0.9, 0.0) for load in loads)
    quality = 0.5 + 0.4 * np.sqrt(large)
    return Outcome(np.array([np.log(0.1 + latency), -quality]), max(0.0, latency - 8.0))


def parts(ceilings=None):
    rng_box = BOX

    def draw(n, rng):
        points = rng.integers(rng_box.lower, rng_box.upper + 1, (n, 3))
        return points[rng_box.admits(points)]

    def near(z, n, rng):
        points = z + rng.integers(-1, 2, (n, 3))
        return points[rng_box.admits(points)]

    return boute.Parts(
        routing=lambda points: points[:, :1] / 10.0,
        deployment=lambda points: points[:, 1:].astype(float),
        preference=lambda points: points[:, 1:] @ np.array([0.1, -0.1]),
        draw=draw,
        near=near,
        ceilings=ceilings,
    )


TOY = Problem(BOX, 2, evaluate, REFERENCE)


@pytest.mark.slow
def test_beats_random_search_and_comes_close_to_the_truth():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = boute.search(TOY, 32, 0, parts=parts(np.array([np.log(8.1), np.inf])))
    truth = enumeration.search(TOY, 5000, 0).hypervolume(REFERENCE)
    found = run.hypervolume(REFERENCE)
    assert found > random_search.search(TOY, 32, 0).hypervolume(REFERENCE)
    assert found > 0.95 * truth


def test_same_seed_same_bytes_within_box_and_budget():
    ceilings = np.array([np.log(8.1), np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = [boute.search(TOY, 14, 3, parts=parts(ceilings), n_batch=2) for _ in range(2)]
    assert runs[0].points.tobytes() == runs[1].points.tobytes()
    assert len(np.unique(runs[0].points, axis=0)) == len(runs[0].points) == 14
    assert BOX.admits(runs[0].points).all() and runs[0].complete


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_without_ceilings_violations_are_learned(seed):
    found = boute.search(TOY, 28, seed, parts=parts(), n_batch=4)
    drawn, proposed = np.split(found.acceptable(), [boute.N_INITIAL])
    assert not drawn.all()
    assert proposed.size == 16 and proposed.mean() > drawn.mean()


def test_ends_when_nothing_has_grown_for_long():
    flat = Problem(BOX, 2, lambda z: Outcome(np.array([1.0, -0.5]), 0.0), REFERENCE)
    ended = boute.search(flat, 100, 0, parts=parts(), n_stable=2)
    assert len(ended.points) == boute.N_INITIAL + 3 and ended.complete


def test_one_objective_is_refused():
    single = Problem(BOX, 1, evaluate, np.array([1.0]))
    with pytest.raises(ValueError, match="two objectives"):
        boute.search(single, 3, 0, parts=parts())


def test_the_kernel_is_the_published_one():
    import torch

    rng = np.random.default_rng(0)
    points = rng.random((6, 5))
    e = points[:, 4]
    kernel = boute_kernel.make_kernel(1, 3)
    lengths = np.array([0.4, 0.9, 1.7])
    kernel.beta.data.fill_(0.8)
    kernel.initialize(raw_phi=kernel.raw_phi_constraint.inverse_transform(torch.tensor([0.6])))
    kernel.routing.base_kernel.lengthscale = 0.3
    kernel.routing.outputscale = 1.4
    kernel.deployment.base_kernel.lengthscale = torch.from_numpy(lengths)
    kernel.deployment.outputscale = 0.7
    d_f = np.abs(points[:, None, 0] - points[None, :, 0]) / 0.3
    k_f = 1.4 * (1 + np.sqrt(5) * d_f + 5 * d_f**2 / 3) * np.exp(-np.sqrt(5) * d_f)
    d_c = np.linalg.norm((points[:, None, 1:4] - points[None, :, 1:4]) / lengths, axis=2)
    k_c = 0.7 * (1 + np.sqrt(3) * d_c) * np.exp(-np.sqrt(3) * d_c)
    k_c *= np.exp(0.8 * (e[:, None] + e[None, :]))
    with surrogate.quiet(0), torch.no_grad():
        tensor = torch.from_numpy(points)
        found = kernel(tensor).to_dense().numpy()
        diagonal = kernel(tensor, diag=True).numpy()
    assert np.allclose(found, k_f + k_c + 0.6 * k_f * k_c, atol=1e-6)
    assert np.allclose(diagonal, np.diag(found), atol=1e-6)
    assert np.linalg.eigvalsh(found).min() > -1e-8
