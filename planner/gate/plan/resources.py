"""What a deployment takes, against what there is: replica ranges, memory, nodes, stock, budget."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from planner.case import Case
from planner.gate.finding import PLAN_AGAIN, Finding, error, warning
from planner.gate.plan.roundings import USD_STEP
from planner.ordered import replicas_of
from planner.spec.arrays import IntArray
from planner.spec.plan import DeployedPool, Plan

GPU_ROUNDING = 1e-4


def rent_usd_per_h(case: Case, replicas: IntArray) -> float | None:
    """Returns the rent of a deployment (P,); None where it takes GPUs that nobody offers."""
    for gpu, n_gpus in case.space.gpu_count(replicas).items():
        if n_gpus > sum(offer.count for offer in case.space.offers[gpu]) + GPU_ROUNDING:
            return None
    return float(case.space.cost_usd_per_h(replicas))


def resource_findings(case: Case, plan: Plan) -> list[Finding]:
    """Returns what a deployment takes that it may not take, and rows that add up wrongly."""
    replicas = replicas_of(case, plan)
    found = []
    broken = [row.partition(":") for row in dict.fromkeys(case.space.broken(replicas))]
    over = [(kind, name) for kind, _, name in broken if kind != "replicas"]
    full = {name.split(":")[0] for _, name in over}
    for p, n in enumerate(replicas.tolist()):
        found += _range(case, p, n, full)
    found += [_over(case, replicas, kind, name) for kind, name in over]
    usd_per_h, n_gpus = case.space.pool_usd_per_h(replicas), case.space.pool_gpus(replicas)
    priced = rent_usd_per_h(case, replicas) is not None
    for entry in plan.deployment:
        if entry.pool in case.workload.pool_names:
            p = case.workload.pool_names.index(entry.pool)
            usd = float(usd_per_h[p]) if priced else None
            found += _row(case, entry, p, float(n_gpus[p]), usd)
    return found


def _range(case: Case, p: int, n: int, full: AbstractSet[str]) -> list[Finding]:
    """Returns what is wrong with the number of replicas of one pool; `full` GPUs are told of."""
    profile, space = case.pools[p], case.space
    where = f"plan.json:deployment[{profile.name}].replicas"
    if n < space.lower[p]:
        what = f"{n} replicas, the question asks for at least {space.lower[p]}"
        return [error("replica-range", where, what, PLAN_AGAIN)]
    if n <= space.upper[p]:
        return []
    if not case.models[p].memory.fits:
        weights = case.models[p].memory.weights_gib_per_gpu
        what = f"{profile.pool.model_name} does not fit: {weights:.0f} GiB of weights per GPU"
        return [error("memory", where, what, "use more or larger GPUs per replica")]
    bounds = case.question.replicas.get(profile.name)
    most = 1 if profile.pool.gpu is None else bounds.max if bounds is not None else None
    if most is not None and n > most:
        what = f"{n} replicas, at most {most} are allowed"
        return [error("replica-range", where, what, PLAN_AGAIN)]
    if profile.pool.gpu is not None and space.gpus_per_replica[p] == 0:
        what = f"a replica of {profile.pool.replica_gpus} GPUs does not fit into one node"
        return [error("node", where, what, "lower tensor_parallel, or set spans_nodes: true")]
    what = f"{n} replicas would idle even with all traffic on them"
    return [] if profile.pool.gpu in full else [warning("idle", where, what, PLAN_AGAIN)]


def _over(case: Case, replicas: IntArray, kind: str, name: str) -> Finding:
    """Returns the finding of a row of the box that a deployment breaks."""
    if kind == "budget":
        cost = float(case.space.cost_usd_per_h(replicas))
        what = f"costs ${cost:,.4f} per hour, budget ${case.question.budget_usd_per_h:,.4f}"
        return error(
            "budget", "plan.json:deployment", what, "raise budget_usd_per_h, or plan again"
        )
    where, fix = f"plan.json:deployment ({name})", "raise the stock, or plan again"
    if kind == "placement":
        what = f"its replicas find no places on the GPUs of {name}: nodes or shared GPUs are full"
        return error("placement", where, what, fix)
    row = case.space.row_names.index(f"{kind}:{name}")
    taken, limit = float(case.space.rows[row] @ replicas), float(case.space.limits[row])
    if kind == "memory":
        what = f"takes {taken:,.1f} GiB of memory on {name}, there are {limit:,.1f} GiB"
        return error("memory", where, what, fix)
    if kind == "halves":
        what = f"{taken:g} replicas take more than half a node, {limit:g} nodes have room for one"
        return error("halves", where, what, fix)
    if kind == "copies":
        gpu, _, model_name = name.partition(":")
        what = (
            f"takes {taken:g} GPUs of {gpu}: no two shards of {model_name} on one, {limit:g} exist"
        )
        return error("copies", where, what, fix)
    what = f"takes {taken:g} GPUs of {name}, {limit:g} exist"
    return error("stock", where, what, fix)


def _row(
    case: Case, entry: DeployedPool, p: int, n_gpus: float, usd_per_h: float | None
) -> list[Finding]:
    """Returns the fields of a deployment row that do not follow from its pool and replicas."""
    pool = case.pools[p].pool
    fits = case.space.gpus_per_replica[p] > 0
    placed = pool.gpu is None or fits  # else it fits into no node, which is said elsewhere
    right: list[tuple[str, object, object, bool]] = [
        ("model_name", entry.model_name, pool.model_name, entry.model_name == pool.model_name),
        ("gpu", entry.gpu, pool.gpu, entry.gpu == pool.gpu),
        (
            "tensor_parallel",
            entry.tensor_parallel,
            pool.tensor_parallel,
            entry.tensor_parallel == pool.tensor_parallel,
        ),
        (
            "n_gpus",
            entry.n_gpus,
            n_gpus,
            not placed or abs(entry.n_gpus - n_gpus) <= GPU_ROUNDING,
        ),
    ]
    # What a hosted pool costs depends on its traffic; GPUs beyond the stock have no price.
    if pool.gpu is not None and placed and usd_per_h is not None:
        close = abs(entry.usd_per_h - usd_per_h) <= USD_STEP
        right.append(("usd_per_h", entry.usd_per_h, round(usd_per_h, 4), close))
    return [
        error(
            "deployment-row",
            f"plan.json:deployment[{entry.pool}].{field}",
            f"says {said}, its profile and {entry.replicas} replicas give {should}",
            PLAN_AGAIN,
        )
        for field, said, should, fine in right
        if not fine
    ]
