"""What a plan orders, judged as written: its pools, its classes, its shares, its routes.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from planner.case import Case
from planner.files.plans import routes_of
from planner.gate.finding import Finding, error
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Route, Routes

UNITS = 1_000_000  # a share is a whole number of millionths (§6)
_TOLERANCE = 1e-4  # of one millionth: what binary numbers lose


def order_findings(case: Case, inputs: Inputs, plan: Plan) -> list[Finding]:
    """Returns what is wrong with the pools and shares of a plan as such."""
    found = _unknown_pools(case, inputs, plan)
    found += _doubled((d.pool for d in plan.deployment), "deployment")
    found += _doubled((f"{r.class_name}->{r.pool}" for r in plan.routing), "routing")
    found += _unknown_classes(case, plan)
    found += _sums(case, plan)
    found += _destinations(case, plan)
    return found


def routes_findings(plan: Plan, routes: Routes | None) -> list[Finding]:
    """Returns whether routes.json is there and says what the plan says."""
    fix = "rb plan DIR writes both files; do not edit routes.json"
    if routes is None:
        return [error("routes-missing", "routes.json", "there is no such file", fix)]
    wanted = routes_of(plan)
    if routes.plan_hash != wanted.plan_hash:
        what = "belongs to another plan: its plan_hash is not that of plan.json"
        return [error("routes-differ", "routes.json:plan_hash", what, fix)]
    return [
        error("routes-differ", f"routes.json:{name}", "is not what plan.json says", fix)
        for name in ("classes", "load_prices", "fallback")
        if getattr(routes, name) != getattr(wanted, name)
    ]


def _unknown_pools(case: Case, inputs: Inputs, plan: Plan) -> list[Finding]:
    named = {d.pool: "deployment" for d in reversed(plan.deployment)}
    for route in plan.routing:
        named.setdefault(route.pool, "routing")
    profiled = inputs.profiles.by_name()
    found = []
    for pool, part in named.items():
        if pool in case.workload.pool_names:
            continue
        what, fix = "is not in the profiles", f"known: {', '.join(case.workload.pool_names)}"
        if pool in profiled:
            gpu = profiled[pool].pool.gpu
            what = "has a profile but may not be planned with"
            fix = f"the question must allow it: pools, scores of its model, stock of {gpu}"
        found.append(error("unknown-pool", f"plan.json:{part}[{pool}]", what, fix))
    return found


def _unknown_classes(case: Case, plan: Plan) -> list[Finding]:
    known = case.workload.class_names
    return [
        error(
            "unknown-class",
            f"plan.json:routing[{name}]",
            "the question has no such class",
            f"known: {', '.join(known)}",
        )
        for name in dict.fromkeys(r.class_name for r in plan.routing)
        if name not in known
    ]


def _doubled(keys: Iterable[str], part: str) -> list[Finding]:
    return [
        error("duplicate", f"plan.json:{part}[{key}]", f"is given {n} times", "keep one entry")
        for key, n in Counter(keys).items()
        if n > 1
    ]


def _sums(case: Case, plan: Plan) -> list[Finding]:
    """Returns the classes whose shares do not sum to exactly 1, counted in millionths (§6)."""
    by_class: dict[str, list[Route]] = defaultdict(list)
    for route in plan.routing:
        by_class[route.class_name].append(route)
    found = []
    fix = "shares have 6 decimals and sum to exactly 1 per class"
    for name in dict.fromkeys((*case.workload.class_names, *by_class)):
        routes = by_class.get(name, [])
        units = sum(round(r.share * UNITS) for r in routes)
        where = f"plan.json:routing[{name}]"
        if units != UNITS:
            what = f"shares sum to {units / UNITS:.6f}, not to 1"
            found.append(error("shares-sum", where, what, fix))
        found += [
            error("shares-sum", f"{where}[{r.pool}]", f"{r.share!r} has more than 6 decimals", fix)
            for r in routes
            if abs(r.share * UNITS - round(r.share * UNITS)) > _TOLERANCE
        ]
    return found


def _destinations(case: Case, plan: Plan) -> list[Finding]:
    """Returns traffic that goes where it may not go, or where nothing runs."""
    workload = case.workload
    deployed = {d.pool for d in plan.deployment}
    found = []
    for route in plan.routing:
        if route.share <= 0:
            continue
        where = f"plan.json:routing[{route.class_name}][{route.pool}]"
        if route.pool not in deployed:
            what = f"gets {route.share:.2%} of {route.class_name} and has no replica"
            found.append(error("no-replica", where, what, "deploy it, or move the share"))
        if route.class_name in workload.class_names and route.pool in workload.pool_names:
            c = workload.class_names.index(route.class_name)
            p = workload.pool_names.index(route.pool)
            if not workload.allowed[c, p]:
                what = f"{route.class_name} may not use it (pools, not_pools, or no scores)"
                found.append(error("not-allowed", where, what, "move the share to another pool"))
    return found
