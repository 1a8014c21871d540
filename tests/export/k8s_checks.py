"""What the tests of all Kubernetes targets ask of documents, beside what the schemas ask."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from planner.export.fleet import File

CORE = ("v1", "apps/v1", "policy/v1")
Document = Mapping[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(file: File) -> list[Document]:
    """Returns the documents of a YAML file."""
    return list(yaml.load_all(file.text, LOADER))


def by_path(files: Iterable[File]) -> dict[str, File]:
    """Returns files by where they go; each goes somewhere of its own."""
    listed = list(files)
    named = {file.path: file for file in listed}
    assert len(named) == len(listed)
    return named


def of_kind(docs: Iterable[Document], kind: str) -> list[Document]:
    return [doc for doc in docs if doc["kind"] == kind]


def validate_core(docs: Iterable[Document]) -> int:
    """Validates every document of Kubernetes' own kinds, strictly; returns how many there were."""
    core = [doc for doc in docs if doc["apiVersion"] in CORE]
    for doc in core:
        _validator(doc["kind"], doc["apiVersion"]).validate(doc)
    return len(core)


@cache
def _definitions() -> tuple[str, Any]:
    """Returns the folder of the newest strict schemas, and the types that all of them share."""
    package = pytest.importorskip(
        "kubernetes_validate", reason="needs the package kubernetes-validate"
    )
    folder = f"kubernetes-json-schema/v{package.latest_version()}-local-strict"
    shared = package.utils.schema_contents(f"{folder}/_definitions.json", "")
    return folder, (Resource.from_contents(shared) @ Registry()).crawl()


@cache
def _validator(kind: str, api_version: str) -> Draft202012Validator:
    """Returns the validator of a kind; the package's own would read 2 MB for each document."""
    folder, shared = _definitions()
    utils = pytest.importorskip("kubernetes_validate").utils
    schema = utils.schema_contents(
        f"{folder}/{kind.lower()}-{api_version.replace('/', '-')}.json", ""
    )
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ shared)


def validate_pod(template: Document) -> None:
    """Validates a pod template that stands in a document of somebody else's kind."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}
    pod["metadata"] = {"name": "x", **template.get("metadata", {})}
    assert validate_core([pod]) == 1


def kubectl_reads(folder: Path) -> list[Document]:
    """Returns what `kubectl kustomize` makes of a folder."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, LOADER))


def pods_of(doc: Document) -> Iterator[Document]:
    """Yields the pod templates within a document."""
    if isinstance(doc, Mapping):
        for key, value in doc.items():
            if isinstance(value, Mapping) and "containers" in value.get("spec", {}):
                yield value
            elif key != "containers":
                yield from pods_of(value)
    elif isinstance(doc, list):
        for value in doc:
            yield from pods_of(value)


def selects(selector: Document, labels: Document) -> bool:
    """Returns whether a selector finds something with these labels."""
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


def expanded(words: Iterable[str], known: Mapping[str, str] | None = None) -> list[str]:
    """Returns what a container is told: $(NAME) of a known variable is replaced, $$ is one $."""
    values = known or {}
    return [
        re.sub(
            r"\$\$|\$\(([^()]*)\)",
            lambda found: "$" if found[0] == "$$" else values.get(found[1], found[0]),
            word,
        )
        for word in words
    ]


def gpus(pod: Document) -> dict[str, int]:
    """Returns the GPUs that a pod asks for, by resource; requests and limits agree."""
    asked: dict[str, int] = {}
    for container in pod["spec"]["containers"]:
        limits = container["resources"]["limits"]
        for name, n in limits.items():
            if "/" in name:
                assert container["resources"]["requests"][name] == n
                asked[name] = asked.get(name, 0) + int(n)
    return asked
