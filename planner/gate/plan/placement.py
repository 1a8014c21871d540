"""Where a plan puts its replicas, judged GPU by GPU: whole, on one node, and side by side.

Nothing is packed here: the places are read as they are written. A plan without any is from before
there were places, or needs none; whether there are places for it at all the box says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from planner.case import Case
from planner.gate.finding import PLAN_AGAIN, Finding, error
from planner.space.packing import Packing
from planner.space.parts import EPSILON, Part
from planner.spec.plan import PlacedReplica, Plan


def placement_findings(case: Case, plan: Plan) -> list[Finding]:
    """Returns what is wrong with the places of a plan's replicas."""
    if not plan.placement:
        return []
    parts = _parts(case)
    found = list(_counted(parts, plan))
    for gpu, packing in case.space.packings.items():
        n_gpus = int(sum(offer.count for offer in case.space.offers[gpu]))
        here = {pool: part for pool, (on, part) in parts.items() if on == gpu}
        mine = [(entry, here[entry.pool]) for entry in plan.placement if entry.pool in here]
        for entry, part in mine:
            found += _alone(entry, part, packing, n_gpus)
        found += _together(gpu, mine)
        found += _paid(plan, gpu, mine)
    return found


def _parts(case: Case) -> dict[str, tuple[str, Part]]:
    """Returns the kind of GPU and the part of each pool that has its places written down."""
    names = case.space.pool_names
    return {
        names[p]: (gpu, part)
        for gpu, packing in case.space.packings.items()
        for p, part in zip(case.space.pools_on(gpu).tolist(), packing.parts, strict=True)
    }


def _counted(parts: Mapping[str, tuple[str, Part]], plan: Plan) -> Iterator[Finding]:
    """Yields pools of which not each replica has its places exactly once."""
    placed = defaultdict(list)
    for entry in plan.placement:
        placed[entry.pool].append(entry.replica)
    deployed = {row.pool: row.replicas for row in plan.deployment if row.pool in parts}
    for pool in sorted({*placed, *deployed}):
        numbers, n = sorted(placed[pool]), deployed.get(pool, 0)
        if numbers != list(range(1, n + 1)):
            what = f"places replicas {_listed(numbers)}, the deployment has {n}"
            yield _wrong(pool, what)


def _alone(entry: PlacedReplica, part: Part, packing: Packing, n_gpus: int) -> Iterator[Finding]:
    """Yields what is wrong with the places of one replica by itself."""
    where = f"{entry.pool}, replica {entry.replica}"
    if len(set(entry.gpus)) != part.n_gpus or len(entry.gpus) != part.n_gpus:
        what = f"lies on GPUs {_listed(entry.gpus)}, it needs {part.n_gpus} different ones"
        yield _wrong(where, what)
    if max(entry.gpus) >= n_gpus:
        yield _wrong(where, f"lies on GPU {max(entry.gpus)}, the last one is {n_gpus - 1}")
    nodes = {gpu // packing.node_size for gpu in entry.gpus}
    if len(nodes) > 1 and not part.spans_nodes:
        yield _wrong(where, f"lies on nodes {_listed(sorted(nodes))}, and may not span nodes")


def _together(gpu: str, placed: Sequence[tuple[PlacedReplica, Part]]) -> Iterator[Finding]:
    """Yields what is wrong with replicas that lie on one GPU."""
    on: dict[int, list[Part]] = defaultdict(list)
    for entry, part in placed:
        for number in entry.gpus:
            on[number].append(part)
    for number, parts in sorted(on.items()):
        where = f"GPU {number} of {gpu}"
        compute = sum(part.compute_ratio for part in parts)
        memory = sum(part.memory_ratio for part in parts)
        if compute > 1.0 + EPSILON:
            yield _wrong(where, f"{compute:.0%} of its compute is given away")
        if memory > 1.0 + EPSILON:
            yield _wrong(where, f"{memory:.0%} of its memory is given away")
        names = [part.model_name for part in parts]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield _wrong(where, f"carries {name} {names.count(name)} times")


def _paid(plan: Plan, gpu: str, placed: Sequence[tuple[PlacedReplica, Part]]) -> Iterator[Finding]:
    """Yields a finding where places open more GPUs than the deployment pays for."""
    opened = {number for entry, _ in placed for number in entry.gpus}
    paid = sum(row.n_gpus for row in plan.deployment if row.gpu == gpu)
    if len(opened) > paid + 1e-3:
        yield _wrong(f"of {gpu}", f"opens {len(opened)} GPUs, {paid:g} are paid for")


def _wrong(where: str, what: str) -> Finding:
    return error("placement", f"plan.json:placement ({where})", what, PLAN_AGAIN)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
