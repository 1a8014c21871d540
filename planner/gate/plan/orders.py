"""What a plan orders, judged as written: its pools, its classes, its shares, its routes.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from planner.case import Case
from planner.files.plans import routes_of
from planner.gate.finding import PLAN_AGAIN, Finding, error
from planner.ordered import cascade_of
from planner.spec.inputs import Inputs
from planner.spec.plan import CascadeRoute, Plan, Routes

UNITS = 1_000_000  # a share is a whole number of millionths (§6)
_RATIO_ROUNDING = 2e-6
_TOLERANCE = 1e-4  # of one millionth: what binary numbers lose


def order_findings(case: Case, inputs: Inputs, plan: Plan) -> list[Finding]:
    """Returns what is wrong with the pools and shares of a plan as such."""
    found = _unknown_pools(case, inputs, plan)
    found += _doubled((d.pool for d in plan.deployment), "deployment")
    found += _doubled((f"{r.class_name}->{r.pool}" for r in plan.routing), "routing")
    found += _doubled((_label(c) for c in plan.cascades), "cascades")
    found += _unknown_classes(case, plan)
    found += _unknown_cascades(case, plan)
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
        for name in ("classes", "cascades", "load_prices", "model_prices", "fallback", "periods")
        if getattr(routes, name) != getattr(wanted, name)
    ]


def _unknown_pools(case: Case, inputs: Inputs, plan: Plan) -> list[Finding]:
    named = {d.pool: "deployment" for d in reversed(plan.deployment)}
    for route in plan.routing:
        named.setdefault(route.pool, "routing")
    for cascade in plan.cascades:
        for entry in (*cascade.first, *cascade.second):
            named.setdefault(entry.pool, "cascades")
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
    named = {c.class_name: "cascades" for c in plan.cascades}
    named = {**{r.class_name: "routing" for r in plan.routing}, **named}
    return [
        error(
            "unknown-class",
            f"plan.json:{part}[{name}]",
            "the question has no such class",
            f"known: {', '.join(known)}",
        )
        for name, part in named.items()
        if name not in known
    ]


def _label(cascade: CascadeRoute) -> str:
    """Returns what tells a cascade from others in a message."""
    pools = "->".join("+".join(e.pool for e in stage) for stage in (cascade.first, cascade.second))
    return f"{cascade.class_name}:{pools}:{cascade.signal}<{cascade.below:g}"


def _unknown_cascades(case: Case, plan: Plan) -> list[Finding]:
    """Returns the cascades that today's scores do not prove, or not so."""
    found = []
    for route in plan.cascades:
        where = f"plan.json:cascades[{_label(route)}]"
        cascade = cascade_of(case, route)
        if cascade is None:
            what = "is no cascade that the scores prove to be worth it"
            found.append(error("unknown-cascade", where, what, PLAN_AGAIN))
            continue
        said = route.escalated_ratio, route.quality
        given = cascade.escalated_ratio, cascade.quality
        if any(abs(a - b) > _RATIO_ROUNDING for a, b in zip(said, given, strict=True)):
            what = (
                f"says that {said[0]:.4f} are escalated at quality {said[1]:.4f}, the scores give "
                f"{given[0]:.4f} at {given[1]:.4f}"
            )
            found.append(error("cascade-drift", where, what, PLAN_AGAIN))
    return found


def _doubled(keys: Iterable[str], part: str) -> list[Finding]:
    return [
        error("duplicate", f"plan.json:{part}[{key}]", f"is given {n} times", "keep one entry")
        for key, n in Counter(keys).items()
        if n > 1
    ]


def _sums(case: Case, plan: Plan) -> list[Finding]:
    """Returns the classes whose shares do not sum to exactly 1, counted in millionths (§6).

    A class is split between its pools and its cascades, a cascade between the pools of each stage.
    """
    by_class: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for route in plan.routing:
        by_class[route.class_name].append((route.pool, route.share))
    for cascade in plan.cascades:
        by_class[cascade.class_name].append((_label(cascade), cascade.share))
    found = []
    for name in dict.fromkeys((*case.workload.class_names, *by_class)):
        found += _sum(f"plan.json:routing[{name}]", by_class.get(name, []), "class")
    for cascade in plan.cascades:
        where = f"plan.json:cascades[{_label(cascade)}]"
        for part, stage in (("first", cascade.first), ("second", cascade.second)):
            found += _sum(f"{where}.{part}", [(e.pool, e.share) for e in stage], "stage")
    return found


def _sum(where: str, shares: list[tuple[str, float]], of: str) -> list[Finding]:
    """Returns what keeps shares by name from being whole millionths that sum to 1."""
    fix = f"shares have 6 decimals and sum to exactly 1 per {of}"
    found = []
    units = sum(round(share * UNITS) for _, share in shares)
    if units != UNITS:
        what = f"shares sum to {units / UNITS:.6f}, not to 1"
        found.append(error("shares-sum", where, what, fix))
    return found + [
        error("shares-sum", f"{where}[{name}]", f"{share!r} has more than 6 decimals", fix)
        for name, share in shares
        if abs(share * UNITS - round(share * UNITS)) > _TOLERANCE
    ]


def _destinations(case: Case, plan: Plan) -> list[Finding]:
    """Returns traffic that goes where it may not go, or where nothing runs."""
    workload = case.workload
    deployed = {d.pool for d in plan.deployment}
    found = []
    for class_name, pool, share, where in _ways(plan):
        if share <= 0:
            continue
        if pool not in deployed:
            what = f"gets {share:.2%} of {class_name} and has no replica"
            found.append(error("no-replica", where, what, "deploy it, or move the share"))
        if class_name in workload.class_names and pool in workload.pool_names:
            c = workload.class_names.index(class_name)
            p = workload.pool_names.index(pool)
            if not workload.allowed[c, p]:
                what = f"{class_name} may not use it (pools, not_pools, or no scores)"
                found.append(error("not-allowed", where, what, "move the share to another pool"))
    return found


def _ways(plan: Plan) -> Iterator[tuple[str, str, float, str]]:
    """Yields (class, pool, share, where in the file) of everything that a pool gets."""
    for route in plan.routing:
        where = f"plan.json:routing[{route.class_name}][{route.pool}]"
        yield route.class_name, route.pool, route.share, where
    for cascade in plan.cascades:
        for part, stage in (("first", cascade.first), ("second", cascade.second)):
            for entry in stage:
                where = f"plan.json:cascades[{_label(cascade)}].{part}[{entry.pool}]"
                yield cascade.class_name, entry.pool, cascade.share * entry.share, where
