from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_fleets import FLEETS, demo_fleet, shared_fleet, spanning_fleet

from planner.export.fleet import Fleet
from planner.export.hosts import hosts_of
from planner.export.scripts import replica_urls


def judge(fleet: Fleet) -> None:
    """Every replica lies somewhere, whole, on GPUs of its kind that nobody else needs."""
    hosts = hosts_of(fleet)
    assert len({host.name for host in hosts}) == len(hosts)
    placed: Counter[tuple[str, int]] = Counter()
    for host in hosts:
        compute, memory = Counter[int](), Counter[int]()
        ports = [part.port for part in host.parts]
        assert len(set(ports)) == len(ports)
        for part in host.parts:
            assert part.engine.gpu == host.gpu
            assert len(set(part.gpus)) == len(part.gpus)
            assert all(0 <= g < host.n_gpus for g in part.gpus)
            placed[part.engine.pool, part.replica] += len(part.gpus)
            whole = part.engine.gpu_compute_ratio is None
            for g in part.gpus:
                compute[g] += 1.0 if whole else part.engine.gpu_compute_ratio
                memory[g] += 1.0 if whole else part.engine.gpu_memory_ratio
        assert all(v <= 1 + 1e-9 for v in (*compute.values(), *memory.values()))
    assert placed == {
        (e.pool, replica): e.gpus_per_replica
        for e in fleet.engines
        for replica in range(e.replicas)
    }


@pytest.mark.parametrize("name", sorted(FLEETS))
def test_every_replica_has_its_gpus_for_itself(name):
    judge(FLEETS[name]())


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 4, 8, 3, 16]), st.integers(1, 5), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
def test_so_have_those_of_any_plan(pools):
    template = demo_fleet().engines[0]
    engines = tuple(
        replace(
            template,
            pool=f"p{i}",
            dns_name=f"p{i}",
            gpus_per_replica=n_gpus,
            replicas=replicas,
            gpu_compute_ratio=0.3 if shares and n_gpus == 1 else None,
            gpu_memory_ratio=0.4 if shares and n_gpus == 1 else 0.9,
        )
        for i, (n_gpus, replicas, shares) in enumerate(pools)
    )
    judge(replace(demo_fleet(), engines=engines))


def test_powers_of_two_leave_no_gaps():
    """13 GPUs in replicas of 4, 4, 4 and 1 lie on two machines of eight."""
    engine = demo_fleet().engines[0]
    fours = replace(engine, gpus_per_replica=4, replicas=3)
    one = replace(engine, pool="one", dns_name="one", gpus_per_replica=1, replicas=1)
    hosts = hosts_of(replace(demo_fleet(), engines=(one, fours)))
    assert [len({g for part in host.parts for g in part.gpus}) for host in hosts] == [8, 5]


def test_a_replica_lies_where_the_plan_says():
    hosts = hosts_of(shared_fleet())
    small = [(h.name, p.gpus) for h in hosts for p in h.parts if p.engine.gpu_compute_ratio]
    assert small == [("h100-sxm-80g-1", (0,)), ("h100-sxm-80g-1", (0,))]  # GPU 8 of the kind


def test_a_replica_over_two_machines_is_asked_at_its_first():
    fleet = spanning_fleet()
    hosts = hosts_of(fleet)
    parts = [(h.name, p.node_rank, p.master, len(p.gpus)) for h in hosts for p in h.parts
             if p.engine.n_nodes > 1]  # fmt: skip
    assert parts == [
        ("b200-sxm-180g-0", 0, "b200-sxm-180g-0", 8),
        ("b200-sxm-180g-1", 1, "b200-sxm-180g-0", 8),
    ]
    assert replica_urls(hosts)[fleet.engines[0].pool] == ["http://b200-sxm-180g-0:8001"]


def test_every_replica_has_an_address_of_its_own():
    fleet = demo_fleet()
    urls = replica_urls(hosts_of(fleet))
    assert {pool: len(found) for pool, found in urls.items()} == {
        e.pool: e.replicas for e in fleet.engines
    }
    every = [url for found in urls.values() for url in found]
    assert len(set(every)) == len(every)
