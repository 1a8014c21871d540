"""The benchmark's world that differs from its tables: its truth, its margins, its beliefs."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy.optimize")


@pytest.fixture(scope="module")
def module():
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    import hidden_instance

    sys.path.pop(0)
    return hidden_instance


@pytest.fixture(scope="module")
def little(module):
    return module.Hidden(seed=3, n_gpus_per_type=1, arrivals_rps=7.5)


@pytest.fixture(scope="module")
def enumerated(little):
    points = little.box.points(10**4)
    return points, [little.evaluate(z) for z in points]


def test_truth_equals_enumeration_of_a_smaller_stock(little, enumerated):
    _, outcomes = enumerated
    values = np.array([o.values for o in outcomes])
    accepted = np.array([o.violation == 0.0 for o in outcomes])
    assert 10 < accepted.sum() < len(values)
    margin = np.array([0.0, 1e-7, 0.0])
    front = []
    for value in values[accepted]:
        better = np.all(values[accepted] <= value + margin, axis=1)
        if not np.any(better & np.any(values[accepted] < value - margin, axis=1)):
            front.append(value)
    found = little.truth()[1]
    expected = np.unique(np.round(front, 6), axis=0).tolist()
    assert np.unique(found.round(6), axis=0).tolist() == expected


def test_margins_say_what_violations_say(enumerated):
    _, outcomes = enumerated
    margins = np.array([o.margin for o in outcomes])
    missed = np.array([o.violation > 0.0 for o in outcomes])
    assert np.array_equal(margins > 1e-8, missed)


def test_the_true_world_is_not_the_tables(little, enumerated, module):
    points, outcomes = enumerated
    believed = module.margins(little.table, points)
    true = np.array([o.margin for o in outcomes])
    assert np.abs(believed - true).max() > 0.2
    assert ((believed > 0.0) != (true > 0.0)).any()


def test_beliefs_bound_the_tables_and_meet_them_on_their_front(little):
    table, beliefs = little.table, little.beliefs
    points = little.box.points(10**4)
    accepted = [z for z in points if table.evaluate(z).violation == 0.0]
    truth = np.array([table.evaluate(z).values[1] for z in accepted])
    expected = beliefs.expect(np.array(accepted), np.zeros(len(table.options)))
    assert (expected.values[:, 1] <= truth + 1e-9).all()
    front = beliefs.expect(beliefs.front, np.zeros(len(table.options)))
    on_front = np.array([table.evaluate(z).values[1] for z in beliefs.front])
    assert front.values[:, 1] == pytest.approx(on_front, abs=1e-9)


def test_beliefs_with_the_true_speeds_are_the_truth_where_nothing_is_shared(little, module):
    theta = np.log(little.slower[0])
    points = little.box.points(10**4)
    alone = points[little.world_of(points[:, :-1]) == 0]
    expected = little.beliefs.expect(alone, theta)
    assert expected.margins == pytest.approx(module.margins(little.worlds[0], alone), abs=1e-12)
