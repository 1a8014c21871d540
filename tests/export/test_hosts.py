from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_fleets import FLEETS, demo_fleet, shared_fleet, spanning_fleet

from planner.errors import InputError
from planner.export.fleet import Fleet
from planner.export.hosts import hosts_of
from planner.export.scripts import replica_urls
from planner.export.targets import target_of


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
             if p.n_nodes > 1]  # fmt: skip
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


def test_the_gpus_of_a_replica_are_spread_evenly_over_its_machines():
    engine = replace(demo_fleet().engines[0], gpus_per_replica=12, replicas=2)
    hosts = hosts_of(replace(demo_fleet(), engines=(engine,)))
    assert [[p.gpus for p in h.parts] for h in hosts] == [[tuple(range(6))]] * 4
    assert [p.master for h in hosts for p in h.parts] == [hosts[0].name] * 2 + [hosts[2].name] * 2


def test_a_replica_that_is_planned_over_two_machines_is_one_replica_of_two_parts():
    """It would fit one machine, but the plan had room on none."""
    engine = replace(
        demo_fleet().engines[0],
        gpus_per_replica=8,
        replicas=1,
        placement=((4, 5, 6, 7, 8, 9, 10, 11),),
    )
    fleet = replace(demo_fleet(), engines=(engine,))
    parts = [p for h in hosts_of(fleet) for p in h.parts]
    assert [(p.gpus, p.n_nodes, p.node_rank) for p in parts] == [
        ((4, 5, 6, 7), 2, 0),
        ((0, 1, 2, 3), 2, 1),
    ]
    scripts = [f.text for f in target_of("vllm").files(fleet) if f.path.startswith("hosts/")]
    assert ["--nnodes 2 --node-rank" in script for script in scripts] == [True, True]


@pytest.mark.parametrize("target", ["vllm", "sglang", "compose", "skypilot"])
@pytest.mark.parametrize("placement", [(), (tuple(range(9)),)])
def test_a_replica_that_is_more_on_one_machine_than_on_another_is_refused(target, placement):
    engine = replace(demo_fleet().engines[0], gpus_per_replica=9, replicas=1, placement=placement)
    with pytest.raises(InputError, match=f"{engine.pool}: has replicas whose GPUs do not divide"):
        target_of(target).files(replace(demo_fleet(), engines=(engine,)))


def of_kinds(*gpus: str) -> Fleet:
    """Two pools on two kinds of GPU."""
    engines = zip(demo_fleet().engines, gpus, strict=False)
    return replace(demo_fleet(), engines=tuple(replace(e, gpu=gpu) for e, gpu in engines))


@pytest.mark.parametrize("target", ["vllm", "compose"])
def test_two_kinds_of_gpu_never_share_a_machine_s_name(target):
    with pytest.raises(InputError, match=r"gpu\.h100-sxm: would be called h100-sxm by DNS"):
        target_of(target).files(of_kinds("H100.sxm", "h100-sxm"))


def test_machines_have_names_that_hosts_and_variables_may_have():
    fleet = of_kinds("4090", "a" * 80)
    hosts = [host.name for host in hosts_of(fleet)]
    assert len(set(hosts)) == len(hosts)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", name) for name in hosts)
    for target in ("vllm", "compose"):
        files = target_of(target).files(fleet)
        assert len({file.path for file in files}) == len(files)
        for file in files:
            if file.path == "router/.env.example":
                names = re.findall(r"^([^#=]+)=", file.text, re.MULTILINE)
                assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in names)
                assert len(set(names)) == len(names) == len(hosts)
