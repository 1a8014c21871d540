"""Names that Kubernetes does not take, or misreads, in every target that runs on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from k8s_checks import Document, documents, kubectl_reads, validate_core
from made_fleets import demo_fleet, with_first
from odd_plans import CLASSES, LONG, POOLS, odd_fleet

from planner.errors import InputError
from planner.export.fleet import MILLION, File
from planner.export.targets import target_of
from planner.files.serving import read_serving

TARGETS = ("kubernetes", "helm-production-stack", "kserve", "llm-d", "dynamo")
DNS = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
GATEWAY = ("kserve", "llm-d")


def files_of(target: str) -> tuple[File, ...]:
    return target_of(target).files(odd_fleet())


def objects(target: str) -> list[Document]:
    """Returns all that a cluster is told of."""
    yaml_files = [f for f in files_of(target) if f.path.endswith(".yaml")]
    docs = [doc for file in yaml_files for doc in documents(file)]
    return [d for d in docs if "kind" in d and d["kind"] != "Kustomization"]


@pytest.mark.parametrize("target", TARGETS)
def test_objects_have_names_that_kubernetes_takes(target: str) -> None:
    docs = objects(target)
    names = [(d["kind"], d["metadata"]["name"]) for d in docs]
    assert len(set(names)) == len(names)
    assert all(DNS.fullmatch(name) for _, name in names)
    assert validate_core(docs) > 0 or target == "kserve"
    for doc in docs:
        for key, value in mappings(doc, "labels", "matchLabels"):
            assert LABEL.fullmatch(value), (key, value)


@pytest.mark.parametrize("target", TARGETS)
def test_names_leave_room_for_what_controllers_add(target: str) -> None:
    for doc in objects(target):
        if doc["kind"] == "StatefulSet":  # its pods carry NAME-HASH as a label, and NAME-NUMBER
            assert len(f"{doc['metadata']['name']}-0123456789") <= 63
            assert len(f"{doc['metadata']['name']}-99") <= 63
    if target == "llm-d":  # a release per pool, whose chart adds words of its own
        heads = [f.path for f in files_of(target) if f.path.startswith("router-")]
        assert len(set(heads)) == len(POOLS)


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "helm-production-stack"])
def test_kubectl_reads_every_name_as_the_text_that_it_is(target: str, tmp_path: Path) -> None:
    for file in files_of(target):
        (tmp_path / file.path).write_text(file.text)
    key = lambda d: (d["kind"], d["metadata"]["name"])  # noqa: E731 - for both sides
    assert sorted(kubectl_reads(tmp_path), key=key) == sorted(objects(target), key=key)


@pytest.mark.parametrize("target", [t for t in TARGETS if t not in GATEWAY])
def test_rb_serve_knows_pools_and_classes_by_their_own_names(target: str, tmp_path: Path) -> None:
    (plan,) = [d for d in objects(target) if d["kind"] == "ConfigMap"]
    for name, text in plan["data"].items():
        (tmp_path / name).write_text(text)
    faults: list[Any] = []
    read = read_serving(tmp_path, tmp_path / "endpoints.yaml", faults)
    assert read is not None
    assert not faults
    assert set(read.endpoints) == set(POOLS.values())
    assert set(read.routes.classes) == set(CLASSES.values())


@pytest.mark.parametrize("target", GATEWAY)
def test_routes_match_classes_and_weights_whatever_they_are_called(target: str) -> None:
    docs = objects(target)
    pool_of = {
        _pool_name(target, d["metadata"]["name"]): d["metadata"]["annotations"]["rb-planner/pool"]
        for d in docs
        if d["kind"] in ("Deployment", "LLMInferenceService")
    }
    assert set(pool_of.values()) == set(POOLS.values())
    rules = [r for d in docs if d["kind"] == "HTTPRoute" for r in d["spec"]["rules"]]
    found = {
        rule["matches"][0]["headers"][0]["value"]: {
            pool_of[b["name"]]: b["weight"] for b in rule["backendRefs"]
        }
        for rule in rules
    }
    routes = json.loads(odd_fleet().plan_files["routes.json"])["classes"]
    assert found == {
        name: {e["pool"]: round(e["share"] * MILLION) for e in entries if e["share"] > 0}
        for name, entries in routes.items()
    }
    assert {sum(weights.values()) for weights in found.values()} == {MILLION}


def _pool_name(target: str, name: str) -> str:
    return f"{name}-inference-pool" if target == "kserve" else name


def mappings(value: Any, *keys: str) -> Iterator[tuple[str, str]]:
    """Yields the entries of all mappings below some keys."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in keys and isinstance(inner, Mapping):
                yield from inner.items()
            else:
                yield from mappings(inner, *keys)
    elif isinstance(value, list):
        for each in value:
            yield from mappings(each, *keys)


def test_the_names_are_as_bad_as_they_are_meant_to_be() -> None:
    assert len(LONG) == 80
    first, second, _ = (e.dns_name for e in odd_fleet().engines)
    assert first[:-6] == second[:-6]
    assert first != second


@pytest.mark.parametrize("target", ["kserve", "dynamo"])
@pytest.mark.parametrize("maker", ["amd", None])
def test_what_brings_an_image_of_its_own_refuses_other_gpus(target: str, maker: str | None) -> None:
    with pytest.raises(InputError, match="are not NVIDIA's") as caught:
        target_of(target).files(with_first(demo_fleet(), maker=maker))
    assert [fault.field for fault in caught.value.faults] == [demo_fleet().engines[0].pool]
