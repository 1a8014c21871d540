"""The solver calls: signs of duals, bounds of integer programs, and silence."""

from __future__ import annotations

from _thread import interrupt_main
from itertools import product
from threading import Timer

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


def hard(seed: int, n: int = 60, n_rows: int = 20) -> tuple[Program, np.ndarray, np.ndarray]:
    """Returns a program of many knapsacks, its gains and its sizes."""
    random = np.random.default_rng(seed)
    gain, size = random.uniform(1, 9, n), random.uniform(1, 9, (n_rows, n))
    program = Program()
    v = program.add_columns(n, 0.0, 1.0, gain, integer=True)
    for k in range(n_rows):
        program.add_rows(f"size:{k}", 1, [(np.zeros(n, dtype=np.int64), v, size[k])], upper=1.4 * n)
    return program, gain, size


@pytest.mark.parametrize("seed", range(4))
def test_a_search_stopped_early_tells_no_lies(seed: int) -> None:
    program, gain, size = hard(seed, 14, 6)
    picks = np.array(list(product((0, 1), repeat=14)))
    best = float((picks @ gain)[(picks @ size.T <= 1.4 * 14).all(axis=1)].max())
    for n_nodes in (0, 1, 3):
        for start in (None, np.zeros(14)):
            found = maximise_integer(program, 0.0, n_nodes, start)
            assert found.objective <= best + 1e-9 <= found.bound + 2e-9


def test_a_start_is_improved_on_and_one_outside_is_ignored() -> None:
    program, _, _ = hard(0, 14, 6)
    best = maximise_integer(program, 0.0, 10_000)
    again = maximise_integer(program, 0.0, 10_000, best.values)
    outside = maximise_integer(program, 0.0, 10_000, np.ones(14))
    assert again.objective == pytest.approx(best.objective)
    assert outside.objective == pytest.approx(best.objective)
    kept = maximise_integer(program, 0.9, 1, best.values)
    assert kept.objective == pytest.approx(best.objective)


def test_a_linear_program_has_its_optimum_as_bound_and_without_one_none() -> None:
    assert maximise_integer(two_by_two(), 0.0, 1).bound == pytest.approx(11.0)
    program = Program()
    v = program.add_columns(1, gain=1.0)
    program.add_rows("negative", 1, [(np.zeros(1, dtype=np.int64), v, -1.0)])
    assert maximise_integer(program, 0.0, 1).bound == np.inf


def test_columns_can_be_fixed() -> None:
    fixed = two_by_two().fixed(np.array([0]), np.array([1.5]))
    assert maximise(fixed).values == pytest.approx([1.5, 1.5])
    assert maximise(two_by_two()).values == pytest.approx([3.0, 1.0])


def test_an_interrupt_comes_through_a_long_search() -> None:
    program, _, _ = hard(0)
    timer = Timer(0.3, interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        maximise_integer(program, 0.0, 10**8)
    timer.join()


def test_solvers_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    maximise(two_by_two())
    maximise_integer(two_by_two(), 1e-6, 100)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
