"""Bayesian optimisation on small integer problems whose truth is enumerated."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

from planner.search import enumeration, mobo, random_search, surrogate
from planner.search.lens import Lens
from planner.search.problem import Box, Expected, Outcome, Prior, Problem, Trials

BOX = Box(np.zeros(4, np.int64), np.full(4, 4), np.array([[1.0, 2, 1, 3]]), np.array([12.0]))
PRICES = np.array([1.0, 2.1, 1.3, 3.0])
REFERENCE = np.array([20.0, 0.0])
N_INITIAL = 12


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
        return mobo.search(TOY, 24, seed=0)


def test_enlarges_its_start_and_beats_random_search(run):
    truth = enumeration.search(TOY, 5000, seed=0).hypervolume(REFERENCE)
    found = run.hypervolume(REFERENCE)
    assert found > first(run, N_INITIAL).hypervolume(REFERENCE)
    assert found > random_search.search(TOY, 24, seed=0).hypervolume(REFERENCE)
    assert found > 0.97 * truth


def test_evaluates_each_point_once_within_box_and_budget(run):
    assert len(run.points) == len(np.unique(run.points, axis=0)) == 24
    assert BOX.admits(run.points).all()
    assert run.complete


def test_meets_violations_and_learns_from_them(run):
    missed = ~run.acceptable()
    assert missed[:N_INITIAL].any()
    assert missed[N_INITIAL:].mean() < 0.5


def test_same_seed_same_bytes(run):
    again, before = mobo.search(TOY, 15, seed=0), first(run, 15)
    assert again.points.tobytes() == before.points.tobytes()
    assert again.values.tobytes() == before.values.tobytes()


def test_torch_is_left_as_it_was():
    import torch

    torch.manual_seed(5)
    n_threads = torch.get_num_threads()
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    mobo.search(TOY, 13, seed=0)
    assert torch.get_num_threads() == n_threads
    assert torch.rand(1).item() == expected


def trials_of(points):
    outcomes = [evaluate(z) for z in points]
    values = np.array([o.values for o in outcomes])
    return Trials(points, values, np.array([o.violation for o in outcomes]), True)


def fitted(points):
    trials = trials_of(points)
    lens = Lens(TOY, trials, np.empty(0))
    with surrogate.quiet(seed=0):
        return surrogate.Surrogate.fit(lens.view(points), lens.found(trials)), lens, trials


def test_known_objectives_are_exact_and_have_no_process():
    points = random_search.search(TOY, 40, seed=3).points
    model, lens, _ = fitted(points)
    others = random_search.search(TOY, 60, seed=4).points
    with surrogate.quiet(seed=0):
        forecast = model.forecast(lens.view(others))
    assert np.array_equal(forecast.mean[:, 0], lens.view(others).gains[:, 0])
    assert not forecast.deviation[:, 0].any()
    assert (forecast.deviation[:, 1] > 0).all()
    # One process for the quality, one for the violation, none for the cost.
    assert list(model._processes) == [1, 2]


def test_forecast_is_close_where_it_was_not_told():
    points = BOX.points(1000)[::4]
    model, lens, _ = fitted(points)
    others = BOX.points(1000)[1::4]
    with surrogate.quiet(seed=0):
        forecast = model.forecast(lens.view(others))
    outcomes = [evaluate(z) for z in others]
    ok = np.array([o.violation == 0.0 for o in outcomes])
    truth = lens.found(trials_of(others)).gains[:, 1]
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
    trials = mobo.search(best, 18, seed=0)
    truth = min(evaluate(z).values[1] for z in BOX.points(1000))
    assert trials.values.min() <= 0.97 * truth


def test_a_start_without_anything_acceptable_and_beyond_the_reference_is_survived():
    def far(z):
        return Outcome(np.array([30.0 + z[0], 5.0 - z[1]]), 1.0 + z.sum())

    hopeless = Problem(BOX, 2, far, REFERENCE)
    assert len(mobo.search(hopeless, 15, seed=0).points) == 15


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
        if len(calls) == 14:
            raise KeyboardInterrupt
        calls.append(z)
        return evaluate(z)

    trials = mobo.search(Problem(BOX, 2, interrupted, REFERENCE, known=known), 20, seed=0)
    assert not trials.complete
    assert len(trials.points) == 14


# ---- A prior, margins, noise, several at once, an end -------------------------------------------


SLOWER = np.array([0.3, -0.2, 0.25, -0.3])
"""The parameters of the true world, of which the prior believes 0."""


def believed(points, theta):
    """What the toy would do in a world with theta; the true one adds a wave of its own."""
    z = points * np.exp(theta)
    quality = np.log1p(z[:, 0] + 1.5 * z[:, 1]) + np.sqrt(z[:, 3]) + 0.3 * np.sin(z[:, 2])
    return Expected(np.column_stack([points @ PRICES, -quality]), 1.0 - z[:, 0] - z[:, 3])


def played(z):
    seen = believed(z[None, :], SLOWER)
    values = seen.values[0] - np.array([0.0, 0.02 * np.cos(3.0 * z.sum())])
    margin = float(seen.margins[0])
    return Outcome(values, max(0.0, margin), margin, np.array([0.0, 1e-4, 1e-4]))


PRIOR = Prior(believed, np.full(4, 0.3), np.array([1.0, 0.02, 0.02]))
PLAYED = Problem(BOX, 2, played, REFERENCE, known=known, prior=PRIOR)


def share_of_truth(trials):
    truth = enumeration.search(PLAYED, 5000, seed=0).hypervolume(REFERENCE)
    return trials.hypervolume(REFERENCE) / truth


@pytest.fixture(scope="module")
def front_by_belief():
    tables = Problem(BOX, 2, _expected, REFERENCE)
    trials = enumeration.search(tables, 5000, seed=0)
    front = trials.points[trials.front()]
    return front[np.linspace(0, len(front) - 1, 4).round().astype(int)]


def _expected(z):
    seen = believed(z[None, :], np.zeros(4))
    return Outcome(seen.values[0], max(0.0, float(seen.margins[0])))


def test_a_prior_finds_in_few_trials_what_is_nearly_all(front_by_belief):
    found = mobo.search(PLAYED, 12, seed=0, start=front_by_belief)
    assert share_of_truth(first(found, 4)) < 0.9
    assert share_of_truth(found) > 0.99
    without = replace(PLAYED, prior=None)
    blind = mobo.search(without, 12, seed=0, start=front_by_belief)
    assert share_of_truth(found) > share_of_truth(blind)


def test_several_are_evaluated_at_once_with_the_same_answer(front_by_belief):
    batches = []

    def many(points):
        batches.append(len(points))
        yield from [played(z) for z in points]

    together = replace(PLAYED, evaluate_many=many)
    found = mobo.search(together, 10, seed=0, start=front_by_belief, n_batch=4)
    one_by_one = mobo.search(PLAYED, 10, seed=0, start=front_by_belief, n_batch=4)
    assert batches == [4, 4, 2]
    assert found.points.tobytes() == one_by_one.points.tobytes()


def test_it_ends_where_nothing_promises_anything(front_by_belief):
    found = mobo.search(PLAYED, 200, seed=0, start=front_by_belief, least_gain_ratio=0.02)
    assert len(found.points) < 60
    assert found.complete
    assert share_of_truth(found) > 0.9


def test_only_the_given_points_are_evaluated(front_by_belief):
    among = np.vstack([front_by_belief, BOX.points(1000)[::40]])
    found = mobo.search(PLAYED, 200, seed=0, start=front_by_belief, among=among)
    assert {tuple(z) for z in found.points.tolist()} == {tuple(z) for z in among.tolist()}


def test_fewer_points_than_a_first_fit_needs_are_all_evaluated(front_by_belief):
    one_by_one = replace(
        PLAYED, known=lambda points: np.array([known(z[None, :])[0] for z in points])
    )
    for n in (1, 3):
        among = front_by_belief[:n]
        found = mobo.search(one_by_one, 20, seed=0, start=among, among=among)
        assert found.points.tolist() == among.tolist()
        assert found.complete


def test_what_a_prior_expects_counts_where_all_miss_alike():
    points = BOX.points(1000)[::40]
    outcomes = [Outcome(evaluate(z).values, 0.5, 0.5) for z in points]
    trials = Trials(
        points,
        np.array([o.values for o in outcomes]),
        np.full(len(points), 0.5),
        True,
        margins=np.full(len(points), 0.5),
    )
    lens = Lens(PLAYED, trials, np.zeros(4))
    with surrogate.quiet(seed=0):
        model = surrogate.Surrogate.fit(lens.view(points), lens.found(trials))
        assert (model.forecast(lens.view(points)).chance < 0.1).all()


def test_noisy_trials_are_smoothed_and_exact_ones_are_not():
    points = BOX.points(1000)[::6]
    exact = trials_of(points)
    rng = np.random.default_rng(0)
    noisy_points = np.isin(np.arange(len(points)), rng.permutation(len(points))[::2])
    noise = np.where(noisy_points, rng.normal(0.0, 0.5, len(points)), 0.0)
    values = exact.values + np.column_stack([np.zeros(len(points)), noise])
    variances = np.column_stack([np.zeros(len(points)), 0.25 * noisy_points, np.zeros(len(points))])
    trials = replace(exact, values=values, variances=variances)
    lens = Lens(TOY, trials, np.empty(0))
    with surrogate.quiet(seed=0):
        model = surrogate.Surrogate.fit(lens.view(points), lens.found(trials))
        forecast = model.forecast(lens.view(points))
    ok = exact.acceptable()
    truth = lens.found(exact).gains[:, 1]
    off = np.abs(forecast.mean[:, 1] - truth)
    told = np.abs(lens.found(trials).gains[:, 1] - truth)
    assert off[ok & noisy_points].mean() < 0.75 * told[ok & noisy_points].mean()
    assert off[ok & ~noisy_points].mean() < 0.5 * off[ok & noisy_points].mean()
