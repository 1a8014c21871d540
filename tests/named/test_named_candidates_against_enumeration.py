"""BOute's candidate lists against every homogeneous and every mixed deployment of a small box."""

import itertools

import numpy as np
import pytest
from made_cases import objectives_of, small

from planner.named import candidates as module
from planner.named.candidates import _heterogeneous, _lists, _merged, _non_dominated, candidates
from planner.named.fractions import Fractions

POOLS = ["llama-3.1-8b-b200", "llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    stock = {"h100-sxm-80g": 5, "b200-sxm-180g": 3}
    objectives = objectives_of(tmp_path_factory.mktemp("c"), small(pools=POOLS, stock=stock))
    fractions = Fractions(objectives)
    group = fractions.groups[1]
    flow = objectives.case.workload.class_rate_rps
    return fractions, group, _lists(fractions, group, flow)


def test_a_list_per_type_of_gpu(made):
    fractions, _, lists = made
    assert len(lists) == 2
    for one in lists:
        assert np.count_nonzero(one.replicas.any(axis=0)) == 1
        space = fractions.objectives.case.space
        assert np.allclose(one.usd_per_h, space.cost_usd_per_h(one.replicas))
        # n replicas carry n times what one carries, at the same figure.
        n = one.replicas.sum(axis=1)
        assert np.allclose(one.rps, n[:, None] / n[0] * one.rps[0])
    assert {int(one.replicas.max()) for one in lists} <= {3, 5}


def test_homogeneous_ones_are_those_that_nobody_beats(made):
    _, _, lists = made
    for one in lists:
        wanted = np.array([4.0, 16.0, 32.0])
        kept = {tuple(n) for n in _non_dominated(one, wanted).replicas.tolist()}
        for i, n in enumerate(one.replicas.tolist()):
            on_a_front = False
            for rps in wanted:
                t = one.figures_at(rps)
                if np.isfinite(t[i]):
                    k = one.usd_per_h
                    better = (t <= t[i]) & (k <= k[i]) & ((t < t[i]) | (k < k[i]))
                    on_a_front |= not better.any()
            assert on_a_front == (tuple(n) in kept)


def test_the_knapsack_is_exact_for_each_figure(made):
    _, _, lists = made
    for figure in (0.2, 0.5, 1.0):
        usd, rps, replicas = _merged(lists, figure)
        assert len(usd) == len(replicas)
        carried = [np.append(0.0, one.carried(figure)) for one in lists]
        rent = [np.append(0.0, one.usd_per_h) for one in lists]
        for budget in np.linspace(0.0, 40.0, 9):
            every = [
                carried[0][i] + carried[1][j]
                for i, j in itertools.product(range(len(rent[0])), range(len(rent[1])))
                if rent[0][i] + rent[1][j] <= budget
            ]
            assert rps[usd <= budget].max() == pytest.approx(max(every))


def test_mixed_ones_keep_load_and_budget(made):
    fractions, group, lists = made
    space = fractions.objectives.case.space
    wanted = np.array([16.0, 32.0])
    found = _heterogeneous(lists, wanted, 12.0)
    assert found
    assert all(space.cost_usd_per_h(one)[0] <= 12.0 + 1e-9 for one in found)
    every = candidates(fractions, group, 12.0)
    assert len(np.unique(every, axis=0)) == len(every)
    assert not every[:, fractions.groups[0].pools].any()
    assert any(np.count_nonzero(row) == 2 for row in every)


def test_long_lists_are_thinned_at_both_ends_kept(made, monkeypatch):
    _, _, lists = made
    monkeypatch.setattr(module, "MOST_PER_TYPE", 2)
    wanted = np.array([4.0, 16.0, 32.0])
    thinned = _non_dominated(lists[1], wanted)
    assert len(thinned.replicas) == 2
