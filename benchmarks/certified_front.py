"""The certified front: how good it is, whether its proofs are true, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/certified_front.py [--only small realistic nsga large boute]

small       23,562 deployments by six limits, all of them known (small_instance.py): the volume
            that the front reaches of the true one, every point and every proof against the truth
realistic   6 models on 6 kinds of GPU, 64 GPUs, 50 and 200 classes (realistic_instance.py): 27
            cells over three limits; how far each is certified, CPU seconds per cell and together
nsga        NSGA-II (pymoo) on the same instance of 50 classes with the exact routing program
            inside: what 4,000 of its evaluations reach within each cell's budget and limit
large       10 models on 8 kinds of GPU, 512 GPUs: six cells, three budgets by two limits
boute       two models, 24 to 48 GPUs of 3 to 6 kinds, p95 limit: one budget and one target, beside
            the search time of BOute (arXiv 2602.10729, its table of scalability, another machine)

All times are process CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from realistic_instance import LARGE, Size, realistic_instance
from small_instance import (
    LIMITS_S,
    N_CLASSES,
    WORST_COST_USD_PER_H,
    WORST_LATENCY_S,
    WORST_QUALITY,
    Instance,
)

from planner.exact.front import Cell, Front, Grid, Solve, certified_front
from planner.exact.solve import Setting, Solved, Want, solve_joint
from planner.routing.problem import RoutingProblem
from planner.routing.solve import solve as solve_routing
from planner.search import hypervolume, sampling
from planner.search.problem import Box
from planner.space import Offer, Space
from planner.spec.question import Limit
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit, Workload

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMALL_GRID = Grid(n_cells=170, gap_ratio=2e-4, n_nodes=2000)
DEFAULT_GRID = Grid(n_cells=27, gap_ratio=5e-3, n_nodes=2000)
THOROUGH_GRID = Grid(n_cells=27, gap_ratio=1e-3, n_nodes=2000)
RATIOS = (1.0, 0.7, 0.5)
N_NSGA_EVALUATIONS, N_NSGA_POPULATION = 4000, 100
BOUTE_S = {24: (3, 23.5), 32: (4, 32.5), 40: (5, 48.6), 48: (6, 72.0)}  # GPUs: kinds, its seconds
BOUTE_BUDGET_USD_PER_H = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts: dict[str, Callable[[], None]] = {
        "small": small, "realistic": realistic, "nsga": nsga, "large": large, "boute": boute
    }  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    for name in parser.parse_args().only:
        parts[name]()


def timed(setting: Setting, ratios: Floats, seconds: list[float]) -> Solve:
    """A solve of every level of the limits that writes down its CPU seconds."""

    def solve(level: int, want: Want, start: Ints | None) -> Solved:
        begin = time.process_time()
        solved = solve_joint(setting, replace(want, limits_ratio=float(ratios[level])), start)
        if want.objective != "cost":
            seconds.append(time.process_time() - begin)
        return solved

    return solve


# ---- The small instance, whose truth is known ----------------------------------------------------


def small_setting(instance: Instance) -> Setting:
    """The small instance as the planner sees one: its occupancy curves are those of the tables.

    Requests of a class stay in proportion to their tokens, so that the mean over all traffic is
    occupancy over arrivals for any mix, as in the instance.
    """
    rates = instance.arrivals_rps * instance.shares
    pools = [f"o{i}" for i in range(len(instance.options))]
    quality = instance.quality[:, instance.model_of]
    limit = Limit(metric="e2e", statistic="mean", at_most_ms=1000.0 * float(LIMITS_S[-1]))
    shape = RequestShape(np.array([1.0]), np.array([1.0]))
    workload = Workload(
        class_names=tuple(f"c{c}" for c in range(N_CLASSES)),
        pool_names=tuple(pools),
        rate_rps=rates,
        mean_rate_rps=rates,
        quality=quality,
        allowed=np.ones(quality.shape, dtype=bool),
        shapes=((shape,) * len(pools),) * N_CLASSES,
        limits=(ScopedLimit(None, limit),),
        quality_at_least=None,
        class_quality_at_least=np.full(N_CLASSES, np.nan),
        priority=np.ones(N_CLASSES),
        request_usd=np.zeros(quality.shape),
        origin="assumed",
    )
    tables = tuple(small_table(instance, i, name, rates) for i, name in enumerate(pools))
    kinds = sorted({option.gpu for option in instance.options})
    space = Space(
        pool_names=tuple(pools),
        lower=np.zeros(len(pools), dtype=np.int64),
        upper=instance.box.upper[:-1],
        rows=instance.box.rows[:, :-1],
        limits=instance.box.limits,
        row_names=tuple(f"stock:{gpu}" for gpu in kinds),
        gpu_of=tuple(str(option.gpu) for option in instance.options),
        gpus_per_replica=np.array([float(o.tensor_parallel) for o in instance.options]),
        offers={str(gpu): (offer_of(instance, gpu),) for gpu in kinds},
    )
    return Setting(workload, tables, space, 0.0)


def offer_of(instance: Instance, gpu: int) -> Offer:
    each = {o.cost_usd_per_h / o.tensor_parallel for o in instance.options if o.gpu == gpu}
    return Offer(float(instance.n_gpus_per_type), min(each))


def small_table(instance: Instance, i: int, name: str, rates: Floats) -> PoolTable:
    """One option: its segments end at the loads of the table."""
    tokens_per_s = np.cumsum(instance.widths[i])
    in_system = np.cumsum(instance.widths[i] * instance.slopes[i])
    loads = np.append(0.0, tokens_per_s / tokens_per_s[-1])
    seconds_per_token = np.append(instance.slopes[i][0], in_system / tokens_per_s)
    mean_ms = 1000.0 * instance.tokens[:, None] * seconds_per_token
    times_ms = np.array([1.0, 1e6])
    return PoolTable(
        pool=name,
        work_s=instance.tokens / tokens_per_s[-1],
        mix=rates / rates.sum(),
        loads=loads,
        mean_ms={"e2e": mean_ms},
        times_ms={"e2e": times_ms},
        survival={"e2e": np.tile([1.0, 0.0], (*mean_ms.shape, 1))},
        band_ratio={"e2e": np.zeros(loads.size)},
        extrapolated=np.zeros(loads.size, dtype=bool),
        origin={"e2e": "assumed"},
    )


def small() -> None:
    instance = Instance()
    begin = time.process_time()
    points, values = instance.truth()
    truth_s = time.process_time() - begin
    reference = np.array([WORST_COST_USD_PER_H, -WORST_QUALITY, np.log2(WORST_LATENCY_S)])
    true_volume = hypervolume.hypervolume(values, reference)
    limits_s = LIMITS_S[::-1]
    ratios = limits_s / limits_s[0]
    # The volume is counted along log2 of the limit: a level stands for what lies up to the next.
    weights = np.diff(np.append(np.log2(limits_s)[::-1], reference[2]))[::-1]
    seconds: list[float] = []
    begin = time.process_time()
    solve = timed(small_setting(instance), ratios, seconds)
    front = certified_front(
        solve, ratios.tolist(), "quality", None, SMALL_GRID, None, weights.tolist()
    )
    front_s = time.process_time() - begin
    found = np.array(
        [[c.cost_usd_per_h, -c.gain, np.log2(limits_s[c.level])] for c in front.best()]
    )
    reached = hypervolume.hypervolume(found, reference)
    _, at_most = front.volumes(WORST_COST_USD_PER_H, WORST_QUALITY, weights.tolist())

    def true_best(cell: Cell, usd_per_h: float) -> float:
        able = (values[:, 0] <= usd_per_h + 1e-7) & (
            values[:, 2] <= np.log2(limits_s[cell.level]) + 1e-9
        )
        return float(-values[able, 1].min(initial=np.inf))

    off = [abs(c.gain - true_best(c, c.cost_usd_per_h)) for c in front.best()]
    real = [-float(instance.evaluate(np.append(c.replicas, 5 - c.level)).values[1])
            for c in front.best()]  # fmt: skip
    promised = [abs(c.gain - q) for c, q in zip(front.best(), real, strict=True)]
    lies = [c for c in front.cells if c.best_possible < true_best(c, c.budget_usd_per_h) - 1e-6]
    print("## Small instance\n")
    print(f"true front: {len(points)} points, {truth_s:.1f} s CPU")
    print(f"front: {len(front.cells)} cells, {len(front.best())} points, {front_s:.1f} s CPU")
    print(f"volume reached / true: {reached / true_volume:.5f}; proved / true: "
          f"{at_most / true_volume:.4f}")  # fmt: skip
    print(f"largest distance of a point from the best of its cost: {max(off):.2e} quality")
    print(f"largest error of a promised quality: {max(promised):.2e}")
    print(f"proofs that are wrong: {len(lies)} of {len(front.cells)}\n")


# ---- Realistic instances -------------------------------------------------------------------------


def realistic() -> None:
    print("## Realistic instances\n")
    print("| classes | grid | cells | gap worst | gap median | cell median s | worst s | front s |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    for n_classes in (50, 200):
        for name, grid in (("default", DEFAULT_GRID), ("thorough", THOROUGH_GRID)):
            front, seconds, front_s = realistic_front(n_classes, grid)
            gaps = [100.0 * cell.gap_ratio for cell in front.cells]
            print(
                f"| {n_classes} | {name} | {len(gaps)} | {max(gaps):.3f} % | "
                f"{np.median(gaps):.3f} % | {np.median(seconds):.2f} | {max(seconds):.2f} | "
                f"{front_s:.1f} |",
                flush=True,
            )
    print()


def realistic_front(n_classes: int, grid: Grid) -> tuple[Front, list[float], float]:
    """The front of the first realistic instance, CPU seconds per cell and of all of it."""
    seconds: list[float] = []
    begin = time.process_time()
    solve = timed(realistic_instance(n_classes), np.array(RATIOS), seconds)
    front = certified_front(solve, RATIOS, "quality", None, grid)
    return front, seconds, time.process_time() - begin


def nsga() -> None:
    setting = realistic_instance(50)
    front, _, front_s = realistic_front(50, DEFAULT_GRID)
    begin = time.process_time()
    seen = nsga_evaluations(setting)
    nsga_s = time.process_time() - begin
    behind = []
    for cell in front.cells:
        able = (seen[:, 0] <= cell.budget_usd_per_h + 1e-9) & (seen[:, 2] <= RATIOS[cell.level])
        best = seen[able, 1].max(initial=-np.inf)
        if cell.replicas is not None:
            behind.append(best - cell.gain)
    finite = [b for b in behind if np.isfinite(b)]
    print("## NSGA-II with the exact routing inside\n")
    print(f"{len(seen)} feasible of {N_NSGA_EVALUATIONS} evaluations, {nsga_s:.0f} s CPU "
          f"(certified front: {front_s:.0f} s)")  # fmt: skip
    print(f"its quality minus the front's over {len(behind)} cells: best {max(finite):+.4f}, mean "
          f"{np.mean(finite):+.4f}, worst {min(finite):+.4f}; nothing found in "
          f"{len(behind) - len(finite)}\n")  # fmt: skip


def nsga_evaluations(setting: Setting) -> Floats:
    """Cost, quality and limits ratio of every feasible evaluation of NSGA-II, (n, 3)."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.core.repair import Repair
    from pymoo.core.sampling import Sampling
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.optimize import minimize

    space, random = setting.space, np.random.default_rng(0)
    box = Box(
        np.append(space.lower, 0),
        np.append(space.upper, len(RATIOS) - 1),
        np.column_stack([space.rows, np.zeros(len(space.limits))]),
        space.limits,
    )
    levels = [setting.workload.with_limits_scaled(ratio) for ratio in RATIOS]
    found: list[list[float]] = []

    class Routed(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=box.n_dims, n_obj=3, n_ieq_constr=1,
                             xl=box.lower, xu=box.upper, vtype=int)  # fmt: skip

        def _evaluate(self, x: Ints, out: dict[str, object], *_: object, **__: object) -> None:
            z, level = np.asarray(x[:-1], dtype=np.int64), int(x[-1])
            routing = solve_routing(
                RoutingProblem(levels[level], tuple(setting.tables), z, setting.headroom_ratio)
            )
            cost, miss = float(space.cost_usd_per_h(z)), float(routing.unserved.sum())
            miss += 0.0 if routing.feasible else 1e-3
            if miss <= 1e-9:
                found.append([cost, routing.quality, RATIOS[level]])
            out["F"], out["G"] = [cost, -routing.quality, RATIOS[level]], [miss]

    class Sparse(Sampling):  # type: ignore[misc]
        def _do(self, _: object, n_samples: int, **__: object) -> Ints:
            return sampling.sparse_points(box, n_samples, random)[:n_samples]

    class IntoTheBox(Repair):  # type: ignore[misc]
        def _do(self, _: object, x: Floats, **__: object) -> Ints:
            whole = np.rint(x).astype(np.int64)
            return np.array([sampling.repaired(row, box, random) for row in whole])

    into = IntoTheBox()
    minimize(
        Routed(),
        NSGA2(
            pop_size=N_NSGA_POPULATION,
            sampling=Sparse(),
            crossover=UniformCrossover(repair=into),
            mutation=PM(vtype=float, repair=into),
        ),
        ("n_eval", N_NSGA_EVALUATIONS),
        seed=0,
    )
    return np.array(found).reshape(-1, 3)


def large() -> None:
    setting = realistic_instance(50, size=LARGE)
    offers = [offer for each in setting.space.offers.values() for offer in each]
    everything = sum(offer.count * offer.usd_per_h for offer in offers)
    print("## Large\n")
    print(f"{setting.space.lower.size} pools, {LARGE.n_gpus} GPUs, 50 classes\n")
    print("| budget, part of all GPUs | limits | quality | certified within | s CPU |")
    print("|--:|--:|--:|--:|--:|")
    for part, ratio in itertools.product((0.15, 0.3, 0.6), (1.0, 0.5)):
        begin = time.process_time()
        want = Want("quality", None, ratio, part * everything, gap_ratio=0.02, n_nodes=5000)
        solved = solve_joint(setting, want)
        seconds = time.process_time() - begin
        print(f"| {part:.0%} | {ratio:.0%} | {certified(solved)} | {seconds:.1f} |", flush=True)
    print()


def certified(solved: Solved) -> str:
    """The value of a solve and how far the best can be from it, as two cells of a table."""
    if solved.value is None or solved.best_possible is None:
        return f"{solved.status} | -"
    return f"{solved.value:.4f} | {(solved.best_possible - solved.value) / solved.value:.3%}"


def boute() -> None:
    print("## BOute's table of search times\n")
    print("| GPUs | kinds | BOute s | ours s CPU | ratio | quality | certified within |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for n_gpus, (n_kinds, their_s) in BOUTE_S.items():
        setting = realistic_instance(50, size=Size(2, n_kinds, n_gpus), statistics=("p95",))
        begin = time.process_time()
        want = Want("quality", budget_usd_per_h=BOUTE_BUDGET_USD_PER_H, gap_ratio=1e-3)
        solved = solve_joint(setting, want)
        seconds = time.process_time() - begin
        print(
            f"| {n_gpus} | {n_kinds} | {their_s} | {seconds:.2f} | {seconds / their_s:.3f} | "
            f"{certified(solved)} |",
            flush=True,
        )
    print()


if __name__ == "__main__":
    main()
