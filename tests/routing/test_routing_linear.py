"""The solver calls: signs of duals, bounds of integer programs, and silence."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from planner.routing.linear import (
    NODE_CELLS,
    Program,
    maximise,
    maximise_in_order,
    maximise_integer,
    nodes_within,
)


def two_by_two() -> Program:
    """max 3 a + 2 b, a + b <= 4, a + 3 b <= 6, a <= 3."""
    program = Program()
    v = program.add_columns(2, 0.0, np.array([3.0, np.inf]), np.array([3.0, 2.0]))
    row = np.zeros(2, dtype=np.int64)
    program.add_rows("sum", 1, [(row, v, 1.0)], upper=4.0)
    program.add_rows("mixed", 1, [(row, v, np.array([1.0, 3.0]))], upper=6.0)
    return program


def test_optimum_and_duals_by_hand() -> None:
    program = two_by_two()
    solution = maximise(program)
    assert solution.solved
    assert solution.values == pytest.approx([3.0, 1.0])
    assert solution.objective == pytest.approx(11.0)
    assert program.dual(solution, "sum") + 3 * program.dual(solution, "mixed") == pytest.approx(2.0)
    assert (solution.duals >= 0).all()
    assert program.dual(solution, "no such block").size == 0


def test_infeasible_program_has_no_solution_and_raises_nothing() -> None:
    program = two_by_two()
    zero = np.zeros(1, dtype=np.int64)
    program.add_rows("never", 1, [(zero, zero, 1.0)], lower=5.0, upper=np.inf)
    solution = maximise(program)
    assert not solution.solved
    assert solution.objective == -np.inf
    assert solution.bound == np.inf
    proof = maximise_integer(program, 1e-6, 100)
    assert (proof.status, proof.found) == ("none", False)
    assert proof.objective == proof.bound == -np.inf


def test_an_upper_bound_can_be_moved() -> None:
    program = two_by_two()
    program.set_upper(np.array([0]), 1.0)
    assert maximise(program).values == pytest.approx([1.0, 5.0 / 3.0])
    program.set_upper(np.array([0, 1]), np.array([3.0, 0.5]))
    assert maximise(program).values == pytest.approx([3.0, 0.5])


def test_large_programs_get_fewer_nodes() -> None:
    assert nodes_within(500, 10) == 500
    assert nodes_within(500, 2 * NODE_CELLS // 1000) == 250
    assert nodes_within(500, 10**9) == 5


def test_objectives_in_order_keep_the_first() -> None:
    program = Program()
    v = program.add_columns(3, 0.0, 1.0, np.array([1.0, 1.0, 0.0]))
    program.add_rows("sum", 1, [(np.zeros(3, dtype=np.int64), v, 1.0)], upper=1.0)
    first = maximise(program)
    later = maximise_in_order(program, first, [program.gains()], [np.array([0.0, 1.0, 5.0])])
    assert later.values == pytest.approx([0.0, 1.0, 0.0], abs=1e-7)
    np.testing.assert_array_equal(later.duals, first.duals)


@pytest.mark.parametrize("seed", range(10))
def test_integer_bound_is_a_bound_against_enumeration(seed: int) -> None:
    random = np.random.default_rng(seed)
    gain, size = random.uniform(1, 9, 10), random.uniform(1, 9, 10)
    best = max(
        float(gain @ np.array(pick)) for pick in product((0, 1), repeat=10) if size @ pick <= 20.0
    )
    program = Program()
    v = program.add_columns(10, 0.0, 1.0, gain, integer=True)
    program.add_rows("size", 1, [(np.zeros(10, dtype=np.int64), v, size)], upper=20.0)
    loose = maximise_integer(program, 0.3, 1)
    assert loose.objective <= best + 1e-9 <= loose.bound + 1e-6
    tight = maximise_integer(program, 1e-9, 100_000)
    assert tight.objective == pytest.approx(best)
    assert tight.bound == pytest.approx(best)


def test_solvers_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    maximise(two_by_two())
    maximise_integer(two_by_two(), 1e-6, 100)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
