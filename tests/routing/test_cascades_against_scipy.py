"""The routing program with cascades against the same written out by hand for scipy's HiGHS."""

from __future__ import annotations

import numpy as np
import pytest
from cascade_cases import random_cascades
from routing_cases import PENALTY, value
from scipy.optimize import linprog

from planner.routing.problem import Objective, RoutingProblem
from planner.routing.solve import solve
from planner.routing.truth import served_shares

OBJECTIVES: tuple[Objective, ...] = ("quality", "cost", "rate_factor")


class Written:
    """The program in columns x (C, P), X (O,), first and second (O, P), u (C,), phi."""

    def __init__(self, problem: RoutingProblem) -> None:
        self.problem, w = problem, problem.workload
        n, m, n_p = w.n_classes, len(w.cascades), w.n_pools
        self.x = np.arange(n * n_p).reshape(n, n_p)
        self.whole = n * n_p + np.arange(m)
        self.first = n * n_p + m + np.arange(m * n_p).reshape(m, n_p)
        self.second = self.first + m * n_p
        self.u = n * n_p + m + 2 * m * n_p + np.arange(n)
        self.phi = int(self.u[-1]) + 1
        self.size = self.phi + 1
        self.rows = [(self.x[c], c) for c in range(n)]
        for k, cascade in enumerate(w.cascades):
            self.rows.append((self.first[k], cascade.first_row))
            self.rows.append((self.second[k], cascade.second_row))

    def row(self, *entries: tuple[object, object]) -> np.ndarray:
        """Returns a row with the given values at the given columns."""
        row = np.zeros(self.size)
        for columns, values in entries:
            row[columns] = values
        return row

    def costs(self) -> np.ndarray:
        """Returns what is minimised."""
        problem, w = self.problem, self.problem.workload
        if problem.objective == "quality":
            worth = [-w.weights[k.class_index] * k.quality for k in w.cascades]
            direct = -w.weights[:, None] * w.quality[: w.n_classes]
            return self.row((self.x, direct), (self.whole, worth), (self.u, PENALTY * w.weights))
        if problem.objective == "cost":
            usd = [(at, 3600.0 * w.rate_rps[r] * w.request_usd[r]) for at, r in self.rows]
            return self.row(*usd, (self.u, 3600.0 * w.class_rate_rps * problem.unserved_usd))
        return self.row((self.phi, -1.0))

    def equal_to_zero(self) -> list[np.ndarray]:
        """Returns the rows that serve every class, and that fill both stages of every cascade."""
        w = self.problem.workload
        rows = []
        for c in range(w.n_classes):
            mine = self.whole[[k for k, o in enumerate(w.cascades) if o.class_index == c]]
            rows.append(self.row((self.x[c], 1.0), (mine, 1.0), (self.u[c], 1.0), (self.phi, -1.0)))
        for k in range(len(w.cascades)):
            rows += [
                self.row((stage[k], 1.0), (self.whole[k], -1.0))
                for stage in (self.first, self.second)
            ]
        return rows

    def at_most(self) -> list[tuple[np.ndarray, float]]:
        """Returns the rows of the loads and of the floors, each with its bound."""
        problem, w = self.problem, self.problem.workload
        rows = []
        for p, table in enumerate(problem.tables):
            work = [(at[p], w.rate_rps[r] * np.nan_to_num(table.work_s[r])) for at, r in self.rows]
            most = table.max_load * (1.0 - problem.headroom_ratio)
            rows.append((self.row(*work) / problem.replicas[p], most))
        floors = [(np.eye(w.n_classes)[c], q) for c, q in enumerate(w.class_quality_at_least)]
        if w.quality_at_least is not None:
            floors.append((w.weights, w.quality_at_least))
        for weight, floor in floors:
            if np.isfinite(floor):
                direct = weight[:, None] * (floor - w.quality[: w.n_classes])
                worth = [weight[k.class_index] * (floor - k.quality) for k in w.cascades]
                rows.append((self.row((self.x, direct), (self.whole, worth)), 0.0))
        return rows

    def optimum(self) -> float:
        """Returns the least cost, by HiGHS."""
        w, free = self.problem.workload, self.problem.objective == "rate_factor"
        low, high = np.zeros(self.size), np.full(self.size, np.inf)
        for columns, row in self.rows:
            high[columns[~w.allowed[row]]] = 0.0
        high[self.u] = 0.0 if free else 1.0
        low[self.phi], high[self.phi] = (0.0, np.inf) if free else (1.0, 1.0)
        equal, above = self.equal_to_zero(), self.at_most()
        found = linprog(
            self.costs(),
            A_ub=np.array([row for row, _ in above]),
            b_ub=[bound for _, bound in above],
            A_eq=np.array(equal),
            b_eq=np.zeros(len(equal)),
            bounds=np.column_stack([low, high]),
            method="highs",
        )
        assert found.status == 0, found.message
        return float(found.fun)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_with_cascades_equals_scipy(objective: Objective) -> None:
    used = unserved = 0
    for seed in range(25):
        floor = 0.55 if seed % 3 == 0 and objective != "quality" else None
        demand = 1.6 if seed % 4 == 0 else 0.6
        problem = random_cascades(seed, (), objective, demand, floor)
        routing = solve(problem)
        expected = Written(problem).optimum()
        assert abs(value(problem, routing) - expected) <= 1e-6 * max(1.0, abs(expected)), seed
        assert routing.status == ("optimal" if routing.feasible else routing.status)
        w = problem.workload
        by_row = routing.shares.sum(axis=1)
        for cascade in w.cascades:
            assert by_row[cascade.first_row] == pytest.approx(by_row[cascade.second_row], abs=1e-12)
        served = served_shares(routing.shares, w.cascades)
        np.testing.assert_allclose(served, 1.0 - routing.unserved, atol=1e-9)
        used += bool(by_row[w.n_classes :].any())
        unserved += not routing.feasible
    assert used > 5
    assert objective == "rate_factor" or 3 < unserved < 22
