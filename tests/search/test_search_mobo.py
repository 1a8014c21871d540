"""Bayesian optimisation on small integer problems whose truth is enumerated."""

import warnings

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

from planner.search import enumeration, mobo, random_search, surrogate
from planner.search.problem import Box, Outcome, Problem, Trials

BOX = Box(np.zeros(4, np.int64), np.full(4, 4), np.array([[1.0, 2, 1, 3]]), np.array([12.0]))
PRICES = np.array([1.0, 2.1, 1.3, 3.0])
REFERENCE = np.array([20.0, 0.0])
N_INITIAL = 24


def evaluate(z):
    quality = np.log1p(z[0] + 1.5 * z[1]) + np.sqrt(z[3]) + 0.3 * np.sin(z[2])
    return Outcome(np.array([PRICES @ z, -quality]), max(0.0, 1.0 - z[0] - z[3]))


def known(points):
    return np.column_stack([points @ PRICES, np.full(len(points), np.nan)])


TOY = Problem(BOX, 2, evaluate, REFERENCE, known=known)


def first(trials, n_trials):
    return Trials(
        trials.points[:n_trials], trials.values[:n_trials], trials.violations[:n_trials], True
    )


@pytest.fixture(scope="module")
def run():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return mobo.search(TOY, 44, seed=0)


def test_enlarges_its_start_and_beats_random_search(run):
    truth = enumeration.search(TOY, 5000, seed=0).hypervolume(REFERENCE)
    found = run.hypervolume(REFERENCE)
    assert found > first(run, N_INITIAL).hypervolume(REFERENCE)
    assert found > random_search.search(TOY, 44, seed=0).hypervolume(REFERENCE)
    assert found > 0.97 * truth


def test_evaluates_each_point_once_within_box_and_budget(run):
    assert len(run.points) == len(np.unique(run.points, axis=0)) == 44
    assert BOX.admits(run.points).all()
    assert run.complete


def test_meets_violations_and_learns_from_them(run):
    missed = ~run.acceptable()
    assert missed[:N_INITIAL].any()
    assert missed[N_INITIAL:].mean() < 0.5


def test_same_seed_same_bytes(run):
    again = mobo.search(TOY, 44, seed=0)
    assert again.points.tobytes() == run.points.tobytes()
    assert again.values.tobytes() == run.values.tobytes()


def test_torch_is_left_as_it_was():
    import torch

    torch.manual_seed(5)
    n_threads = torch.get_num_threads()
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    mobo.search(TOY, 28, seed=0)
    assert torch.get_num_threads() == n_threads
    assert torch.rand(1).item() == expected


def view_of(points):
    gains = (REFERENCE - known(points)) / REFERENCE.max()
    return surrogate.View(points.astype(float), gains)


def fitted(points):
    outcomes = [evaluate(z) for z in points]
    values = np.array([o.values for o in outcomes])
    trials = Trials(points, values, np.array([o.violation for o in outcomes]), True)
    gains = (REFERENCE - values) / REFERENCE.max()
    with surrogate.quiet(seed=0):
        return surrogate.Surrogate.fit(view_of(points), gains, trials), gains, trials


def test_known_objectives_are_exact_and_have_no_process():
    points = random_search.search(TOY, 40, seed=3).points
    model, _, _ = fitted(points)
    others = random_search.search(TOY, 60, seed=4).points
    with surrogate.quiet(seed=0):
        forecast = model.forecast(view_of(others))
    assert np.array_equal(forecast.mean[:, 0], view_of(others).gains[:, 0])
    assert not forecast.deviation[:, 0].any()
    assert (forecast.deviation[:, 1] > 0).all()
    # One process for the quality, one for the violation, none for the cost.
    assert len(model._processes()) == 2


def test_forecast_is_close_where_it_was_not_told():
    points = BOX.points(1000)[::4]
    model, _, _ = fitted(points)
    others = BOX.points(1000)[1::4]
    with surrogate.quiet(seed=0):
        forecast = model.forecast(view_of(others))
    outcomes = [evaluate(z) for z in others]
    ok = np.array([o.violation == 0.0 for o in outcomes])
    truth = np.array([-o.values[1] for o in outcomes]) / REFERENCE.max()
    assert np.sqrt(np.mean((forecast.mean[ok, 1] - truth[ok]) ** 2)) < truth[ok].std() / 4
    assert np.mean((forecast.chance > 0.5) == ok) > 0.9


def test_misses_are_below_zero_exactly_where_acceptable():
    violations = np.array([0.0, 1e-10, 1e-6, 2.0, 4.0, 100.0])
    misses = surrogate.misses(violations)
    assert ((misses < 0) == (violations <= 1e-9)).all()
    assert (np.diff(misses[1:]) > 0).all()
    assert (surrogate.misses(np.zeros(3)) < 0).all()


def test_a_single_objective_is_maximised_too():
    best = Problem(BOX, 1, lambda z: Outcome(evaluate(z).values[1:], 0.0), np.array([0.0]))
    trials = mobo.search(best, 36, seed=0)
    truth = min(evaluate(z).values[1] for z in BOX.points(1000))
    assert trials.values.min() <= 0.97 * truth


def test_a_start_without_anything_acceptable_and_beyond_the_reference_is_survived():
    def far(z):
        return Outcome(np.array([30.0 + z[0], 5.0 - z[1]]), 1.0 + z.sum())

    hopeless = Problem(BOX, 2, far, REFERENCE)
    assert len(mobo.search(hopeless, 28, seed=0).points) == 28


def test_an_exhausted_box_ends_the_search():
    tiny = Box(np.zeros(3, np.int64), np.full(3, 2), np.empty((0, 3)), np.empty(0))

    def values(z):
        return Outcome(np.array([z.sum(), ((2 - z) ** 2).sum()], dtype=float), 0.0)

    trials = mobo.search(Problem(tiny, 2, values, np.array([9.0, 15.0])), 100, seed=0)
    assert len(trials.points) == 27
    assert trials.complete


def test_an_interrupt_in_a_batch_returns_what_was_found():
    calls = []

    def interrupted(z):
        if len(calls) == 26:
            raise KeyboardInterrupt
        calls.append(z)
        return evaluate(z)

    trials = mobo.search(Problem(BOX, 2, interrupted, REFERENCE, known=known), 40, seed=0)
    assert not trials.complete
    assert len(trials.points) == 26
