"""The pools of two plans side by side: who of them runs before, who after.

Pools that are started anew under their old name are two members.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from planner.spec.plan import DeployedPool, Plan, WeightedPool

AS_IT_WAS = " (as it was)"
"""Behind the name of a pool whose replicas are replaced by others under the same name."""


@dataclass(frozen=True)
class Member:
    """A pool of the old plan, the new one, or both."""

    name: str
    pool: str  # as the plans call it
    gpu: str | None
    gpus_per_replica: float
    n_old: int
    n_new: int


def members_of(old: Plan, new: Plan, replaced: AbstractSet[str]) -> tuple[Member, ...]:
    """Returns the pools of two plans, by name, (M,).

    Args:
        old: what runs now.
        new: what will run.
        replaced: pools of both whose replicas are others from then on.
    """
    before, after = ({d.pool: d for d in plan.deployment} for plan in (old, new))
    found = []
    for pool in sorted({*before, *after}):
        was, will = before.get(pool), after.get(pool)
        if was is not None and will is not None and pool in replaced:
            found += [_member(pool + AS_IT_WAS, was, None), _member(pool, None, will)]
        else:
            found.append(_member(pool, was, will))
    return tuple(found)


def _member(name: str, was: DeployedPool | None, will: DeployedPool | None) -> Member:
    row = will or was
    assert row is not None  # it is a pool of one of them
    return Member(
        name,
        row.pool,
        row.gpu,
        row.n_gpus / row.replicas if row.gpu is not None else 0.0,
        was.replicas if was else 0,
        will.replicas if will else 0,
    )


def replaced_pools(old: Plan, new: Plan) -> frozenset[str]:
    """Returns the pools of both plans whose replicas are others, as far as the plans tell.

    Their rows differ in more than how many there are; or their pool.yaml does, in whatever it may
    be. What is hosted in both is nobody's to start.
    """
    return replaced_by_hash(old, new) | frozenset(
        row.pool for was, row in _both(old, new) if _kind_of(was) != _kind_of(row)
    )


def replaced_by_hash(old: Plan, new: Plan) -> frozenset[str]:
    """Returns the pools of both plans whose pool.yaml differs, by its hash."""
    hashes = old.provenance.inputs, new.provenance.inputs
    found = set()
    for _, row in _both(old, new):
        then, now = (h.get(f"profiles/{row.pool}/pool.yaml") for h in hashes)
        if None not in (then, now) and then != now:
            found.add(row.pool)
    return frozenset(found)


def _both(old: Plan, new: Plan) -> Iterator[tuple[DeployedPool, DeployedPool]]:
    """Yields the rows of each pool of both plans, but of those that are hosted before and after."""
    before = {d.pool: d for d in old.deployment}
    for row in new.deployment:
        was = before.get(row.pool)
        if was is not None and (was.gpu, row.gpu) != (None, None):
            yield was, row


def _kind_of(row: DeployedPool) -> tuple[str, str | None, int]:
    return row.model_name, row.gpu, row.tensor_parallel


def as_it_was(old: Plan, members: Sequence[Member]) -> Plan:
    """Returns the old plan with its pools called as the members are."""
    name = {m.pool: m.name for m in members if m.n_old}

    def stage(entries: Sequence[WeightedPool]) -> tuple[WeightedPool, ...]:
        return tuple(e.model_copy(update={"pool": name.get(e.pool, e.pool)}) for e in entries)

    return old.model_copy(
        update={
            "deployment": tuple(
                d.model_copy(update={"pool": name[d.pool]}) for d in old.deployment
            ),
            "routing": tuple(
                r.model_copy(update={"pool": name.get(r.pool, r.pool)}) for r in old.routing
            ),
            "cascades": tuple(
                c.model_copy(update={"first": stage(c.first), "second": stage(c.second)})
                for c in old.cascades
            ),
        }
    )
