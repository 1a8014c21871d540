"""What every method promises, and that the cheap ones find known fronts."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from planner.errors import MissingExtra
from planner.search import enumeration, local_search, mobo, pareto, random_search
from planner.search.problem import Box, Outcome, Problem

CHEAP = [random_search.search, local_search.search, enumeration.search]


def balanced(n_dims=5, top=3, acceptable=lambda z: True):
    """Minimise (sum z, sum (top - z)^2): the front of s units spreads them evenly."""
    box = Box(np.zeros(n_dims, np.int64), np.full(n_dims, top), np.empty((0, n_dims)), np.empty(0))

    def evaluate(z):
        values = np.array([z.sum(), ((top - z) ** 2).sum()], dtype=np.float64)
        return Outcome(values, 0.0 if acceptable(z) else 1.0)

    return Problem(box, 2, evaluate, np.array([n_dims * top + 1.0, n_dims * top**2 + 1.0]))


def balanced_front(n_dims=5, top=3):
    """The true front in closed form: s units are r times q + 1 and the rest q."""
    front = []
    for s in range(n_dims * top + 1):
        q, r = divmod(s, n_dims)
        front.append([s, r * (top - q - 1) ** 2 + (n_dims - r) * (top - q) ** 2])
    return front


def front_values(trials):
    return np.unique(trials.values[trials.front()], axis=0).tolist()


def counted(problem):
    calls = []

    def evaluate(z):
        calls.append(tuple(z.tolist()))
        return problem.evaluate(z)

    return Problem(problem.box, problem.n_objectives, evaluate, problem.reference), calls


def test_enumeration_finds_the_closed_form_front():
    trials = enumeration.search(balanced(), 2000, seed=0)
    assert len(trials.points) == 4**5
    assert trials.complete
    assert front_values(trials) == balanced_front()


def test_local_search_finds_the_front_in_a_third_of_the_points():
    found = [front_values(local_search.search(balanced(), 340, seed=s)) for s in range(3)]
    assert found == [balanced_front()] * 3


def test_local_search_beats_random_search():
    problem = balanced(n_dims=8)
    volumes = {
        search: [search(problem, 200, seed).hypervolume(problem.reference) for seed in range(5)]
        for search in (local_search.search, random_search.search)
    }
    assert np.median(volumes[local_search.search]) > np.median(volumes[random_search.search])


def test_local_search_walks_out_of_an_unacceptable_region():
    # Acceptable only at one corner and next to it: 7 of 4,096 points.
    plain = balanced(n_dims=6)

    def evaluate(z):
        return Outcome(plain.evaluate(z).values, float(max(0, (3 - z).sum() - 1)))

    problem = Problem(plain.box, 2, evaluate, plain.reference)
    found = [len(local_search.search(problem, 200, seed).front()) > 0 for seed in range(5)]
    assert found == [True] * 5


@pytest.mark.parametrize("search", [random_search.search, local_search.search])
def test_a_budget_above_the_box_evaluates_each_point_once(search):
    problem, calls = counted(balanced(n_dims=3))
    trials = search(problem, 500, seed=4)
    assert len(calls) == len(set(calls)) == 4**3 == len(trials.points)
    assert trials.complete
    assert front_values(trials) == balanced_front(n_dims=3)


@pytest.mark.parametrize("search", CHEAP)
@pytest.mark.parametrize("budget", [0, 1, 37])
def test_never_a_point_twice_nor_beyond_the_budget(search, budget):
    problem, calls = counted(balanced())
    trials = search(problem, budget, seed=1)
    assert len(calls) == len(set(calls)) == len(trials.points) == budget
    assert [tuple(z) for z in trials.points.tolist()] == calls


@pytest.mark.parametrize("search", CHEAP)
def test_same_seed_same_bytes(search):
    one, two = (search(balanced(), 60, seed=9) for _ in range(2))
    assert one.points.tobytes() == two.points.tobytes()
    assert one.values.tobytes() == two.values.tobytes()


@pytest.mark.parametrize("search", [random_search.search, local_search.search])
def test_another_seed_is_another_search(search):
    assert search(balanced(), 60, 1).points.tolist() != search(balanced(), 60, 2).points.tolist()


@pytest.mark.parametrize("search", CHEAP)
def test_a_start_is_evaluated_first_and_only_once(search):
    start = np.array([[3, 3, 3, 3, 3], [0, 1, 2, 3, 0], [3, 3, 3, 3, 3]])
    problem, calls = counted(balanced())
    search(problem, 40, seed=0, start=start)
    assert calls[:2] == [(3, 3, 3, 3, 3), (0, 1, 2, 3, 0)]
    assert len(calls) == len(set(calls)) == 40


@pytest.mark.parametrize("search", CHEAP)
def test_a_start_outside_the_box_is_an_error(search):
    with pytest.raises(ValueError, match="start point"):
        search(balanced(), 10, seed=0, start=np.array([[0, 0, 0, 0, 4]]))


@pytest.mark.parametrize("search", CHEAP)
def test_an_interrupt_returns_what_was_found(search):
    problem, calls = counted(balanced())

    def interrupted(z):
        if len(calls) == 11:
            raise KeyboardInterrupt
        return problem.evaluate(z)

    broken = Problem(problem.box, 2, interrupted, problem.reference)
    trials = search(broken, 50, seed=0)
    assert not trials.complete
    assert len(trials.points) == len(trials.values) == len(trials.violations) == 11
    assert trials.points.tolist() == [list(z) for z in calls]


def test_an_interrupt_in_a_batch_keeps_what_had_come_back():
    problem = balanced()

    def many(points):
        for i, z in enumerate(points):
            if i == 5:
                raise KeyboardInterrupt
            yield problem.evaluate(z)

    together = replace(problem, evaluate_many=many)
    trials = random_search.search(together, 40, seed=0)
    one_by_one = random_search.search(problem, 40, seed=0)
    assert not trials.complete
    assert trials.points.tolist() == one_by_one.points[:5].tolist()
    assert trials.values.tolist() == one_by_one.values[:5].tolist()


def test_margins_and_variances_are_kept():
    problem = balanced()
    noise = np.array([0.1, 0.2, 0.3])

    def noisy(z):
        plain = problem.evaluate(z)
        return replace(plain, margin=float(-z.sum()), variances=noise) if z[0] else plain

    trials = random_search.search(replace(problem, evaluate=noisy), 30, seed=0)
    told = trials.points[:, 0] > 0
    assert told.any()
    assert not told.all()
    assert trials.margins[told].tolist() == (-trials.points[told].sum(axis=1)).tolist()
    assert np.isnan(trials.margins[~told]).all()
    assert trials.variances.tolist() == np.where(told[:, None], noise, 0.0).tolist()
    assert not trials.has_margins


@pytest.mark.parametrize("search", CHEAP)
def test_progress_counts_and_reports_the_hypervolume_so_far(search):
    problem = balanced(acceptable=lambda z: z[0] > 0)
    seen = []
    trials = search(problem, 30, seed=0, on_trial=lambda *progress: seen.append(progress))
    assert [done for done, _, _ in seen] == list(range(1, 31))
    assert {total for _, total, _ in seen} == {30}
    ok = trials.acceptable()
    for done, _, volume in seen:
        front = trials.values[:done][ok[:done]]
        # In the plane: sorted by the first objective, each step adds a rectangle.
        truth, ceiling = 0.0, problem.reference[1]
        for x, y in sorted(front[pareto.non_dominated(front)].tolist()):
            truth += (problem.reference[0] - x) * (ceiling - y)
            ceiling = min(ceiling, y)
        assert volume == pytest.approx(truth)


def test_enumeration_that_is_cut_short_says_so():
    assert not enumeration.search(balanced(), 100, seed=0).complete


def test_enumeration_refuses_a_large_box():
    with pytest.raises(ValueError, match="more than 50000"):
        enumeration.search(balanced(n_dims=9), 10, seed=0)


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (Outcome(np.array([1.0, np.inf]), 0.0), "finite values"),
        (Outcome(np.array([1.0]), 0.0), "finite values"),
        (Outcome(np.zeros(2), -1.0), "violation"),
        (Outcome(np.zeros(2), np.nan), "violation"),
    ],
)
def test_an_outcome_that_is_no_outcome_is_an_error(outcome, complaint):
    problem = balanced()
    wrong = Problem(problem.box, 2, lambda z: outcome, problem.reference)
    with pytest.raises(ValueError, match=complaint):
        random_search.search(wrong, 5, seed=0)


def test_a_negative_budget_is_an_error():
    with pytest.raises(ValueError, match="negative"):
        random_search.search(balanced(), -1, seed=0)


@pytest.mark.parametrize("missing", ["torch", "botorch"])
def test_mobo_without_its_extra_says_what_to_install(monkeypatch, missing):
    if missing == "botorch":
        pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match="'plan' extra") as caught:
        mobo.search(balanced(), 5, seed=0)
    assert caught.value.extra == "plan"
