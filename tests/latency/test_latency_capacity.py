"""Capacity laws: exact where a capacity was measured, between its neighbours elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from planner.latency.capacity import CapacityLaw
from planner.spec.pool import CapacityPoint
from planner.spec.workload import RequestShape

SHAPES = ((100.0, 100.0), (100.0, 400.0), (800.0, 100.0), (800.0, 400.0))


def shape(tokens: tuple[float, float]) -> RequestShape:
    return RequestShape(np.array([tokens[0]]), np.array([tokens[1]]))


def law_of(rates: tuple[float, ...], shapes: tuple[tuple[float, float], ...] = SHAPES):
    return CapacityLaw.measured(
        [
            CapacityPoint(input_tokens=i, output_tokens=o, max_rps=rps, source="test")
            for (i, o), rps in zip(shapes, rates, strict=True)
        ]
    )


@pytest.mark.parametrize("rates", [(2.0, 1.0, 5.0, 2.0), (20.0, 20.0, 40.0, 20.0)])
def test_at_a_measured_shape_the_work_is_what_was_measured(rates: tuple[float, ...]) -> None:
    work = law_of(rates).work_s([shape(tokens) for tokens in SHAPES])
    assert work == pytest.approx(1.0 / np.array(rates), rel=1e-12)


def test_between_measured_shapes_the_ratio_to_the_law_lies_between_theirs() -> None:
    law = law_of((2.0, 1.0, 5.0, 2.0))
    ratios = [r for _, _, r in law.measured_at]
    tokens = np.random.default_rng(1).uniform(50.0, 1500.0, (200, 2))
    straight = tokens @ [law.prompt_token_s, law.output_token_s]
    bent = law.work_s([shape((i, o)) for i, o in tokens.tolist()]) / straight
    assert min(ratios) <= bent.min() and bent.max() <= max(ratios)
    assert bent.max() > 1.01 * bent.min()


def test_capacities_on_a_line_stay_a_line() -> None:
    rates = tuple(1.0 / (1e-5 * i + 1e-3 * o) for i, o in SHAPES)
    law = law_of(rates)
    assert law.work_s([shape((300.0, 250.0))])[0] == pytest.approx(0.253, rel=1e-2)


def test_of_several_capacities_of_one_shape_the_middle_one_counts() -> None:
    law = law_of((2.0, 4.0, 2.1), ((100.0, 100.0),) * 3)
    assert law.work_s([shape((100.0, 100.0))])[0] == pytest.approx(1 / 2.1)


def test_a_slower_replica_needs_longer_for_everything() -> None:
    law = law_of((2.0, 1.0, 5.0, 2.0))
    shapes = [shape(tokens) for tokens in (*SHAPES, (333.0, 77.0))]
    assert law.scaled(1.3).work_s(shapes) == pytest.approx(1.3 * law.work_s(shapes))
    api = CapacityLaw.hosted(10.0, 200.0, None).scaled(2.0)
    assert (api.request_s, api.ttft_ms, api.tpot_ms) == (0.2, 400.0, None)
