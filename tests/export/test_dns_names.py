"""What pools and classes are called in a cluster: their own names alone say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k8s_checks import documents
from made_fleets import demo_fleet

from planner.errors import InputError
from planner.export.dns_names import DNS_LENGTH, dns_name, dns_names
from planner.export.fleet import ClassRoute, Fleet
from planner.export.targets import target_of

LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
NAMES = st.tuples(st.sampled_from("aA1"), st.text("aA1._+-", max_size=3), st.sampled_from((0, 60)))


@settings(derandomize=True, max_examples=30)
@given(*[st.sets(NAMES.map(lambda n: n[0] + n[1] + "x" * n[2]), max_size=5)] * 2)
def test_a_label_is_its_own_names_business(staying: set[str], others: set[str]) -> None:
    names = sorted(staying | others)
    labels = {name: dns_name(name) for name in names}
    assert all(LABEL.fullmatch(label) for label in labels.values())
    assert all(len(label) <= DNS_LENGTH for label in labels.values())
    for given_names in (names, names[::-1], sorted(staying)):
        try:
            found = dns_names(given_names)
        except InputError:
            assert len({labels[name] for name in given_names}) < len(given_names)
        else:
            assert found == {name: labels[name] for name in given_names}
            assert len(set(found.values())) == len(given_names)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("llama-3.1-70b-h100-tp4", "llama-3-1-70b-h100-tp4"),
        ("Llama_3.1+", "llama-3-1"),
        ("70b", "p-70b"),
        ("模型", "p"),
        ("x" * 50, "x" * 50),
    ],
)
def test_names_stay_readable(name: str, label: str) -> None:
    assert dns_name(name) == label


def test_long_names_that_begin_alike_differ() -> None:
    one, other = dns_name("x" * 50 + "y"), dns_name("x" * 50 + "z")
    assert one[:-6] == other[:-6] == "x" * 43 + "-"
    assert one != other
    assert dns_name("X" * 51) != dns_name("x" * 51)  # the hash is of what was cut and folded


def test_look_alikes_are_refused_by_both_names() -> None:
    with pytest.raises(InputError) as caught:
        dns_names(["a.b", "c", "a-b", "A_B"])
    assert [(fault.field, fault.what) for fault in caught.value.faults] == [
        ("deployment.a-b", "would be called a-b by DNS, as a.b is"),
        ("deployment.A_B", "would be called a-b by DNS, as a.b is"),
    ]


@pytest.mark.parametrize("target", ["gateway-api", "envoy-ai-gateway", "kserve", "llm-d"])
def test_classes_that_look_alike_are_refused_where_routes_have_their_names(target: str) -> None:
    fleet = demo_fleet()
    first, second, _ = fleet.routes
    like = replace(second, class_name=first.class_name.upper(), dns_name=first.dns_name)
    with pytest.raises(InputError, match=f"would be called {first.dns_name} by DNS"):
        target_of(target).files(replace(fleet, routes=(first, like)))


@pytest.mark.parametrize(
    "target", ["kubernetes", "llm-d", "dynamo", "kserve", "helm-production-stack"]
)
def test_a_pool_that_leaves_renames_and_restarts_no_other(target: str) -> None:
    before, after = _objects(target, demo_fleet()), _objects(target, _without_the_last())
    gone = demo_fleet().engines[-1].dns_name
    assert set(after) < set(before)
    assert {name for name in before if name not in after} == {n for n in before if gone in n[1]}
    files = target_of(target).files(_without_the_last())
    says = "".join(f.text for f in files if f.path == "kustomization.yaml")
    deleted = {
        kind for kinds in re.findall(r"kubectl delete (\S+)", says) for kind in kinds.split(",")
    }
    left = {kind.lower() for kind, _ in before.keys() - after.keys()}
    assert left <= deleted or target == "helm-production-stack"  # helm itself deletes
    for key, doc in after.items():
        if key[0] not in ("ConfigMap", "HTTPRoute"):  # they say who is routed where
            assert doc == before[key]


def _objects(target: str, fleet: Fleet) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Returns all that a cluster is told of, by kind and name; of the chart, its models."""
    found = {}
    for file in target_of(target).files(fleet):
        if file.path.endswith(".yaml"):
            for doc in documents(file):
                if doc.get("kind", "Kustomization") != "Kustomization":
                    found[doc["kind"], doc["metadata"]["name"]] = doc
                for model in doc.get("servingEngineSpec", {}).get("modelSpec", ()):
                    found["model", model["name"]] = model
    return found


def _without_the_last() -> Fleet:
    """The demo's fleet without its last pool, whose share the largest of its classes' pools get."""
    fleet = demo_fleet()
    gone = fleet.engines[-1].pool
    routes = []
    for route in fleet.routes:
        (first, most), *others = [(p, n) for p, n in route.shares if p != gone]
        freed = dict(route.shares).get(gone, 0)
        shares = ((first, most + freed), *others)
        fallback = tuple(p for p in route.fallback if p != gone)
        routes.append(ClassRoute(route.class_name, route.dns_name, shares, fallback))
    return replace(fleet, engines=fleet.engines[:-1], routes=tuple(routes))
