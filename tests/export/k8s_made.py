"""The documents of the kubernetes target, for the tests of its pods and of all the rest."""

from __future__ import annotations

from k8s_checks import Document, by_path, documents, of_kind

from planner.export import kubernetes
from planner.export.fleet import Fleet

KINDS = ("demo", "sglang", "shared", "data-parallel", "spanning", "hosted", "odd-names")
"""Fleets that differ in what Kubernetes is told."""


def made(fleet: Fleet) -> list[Document]:
    """Returns all documents but the kustomization, which is no object of a cluster."""
    files = by_path(kubernetes.files(fleet))
    del files["kustomization.yaml"]
    files.pop("Dockerfile", None)
    return [doc for file in files.values() for doc in documents(file)]


def named(docs: list[Document], kind: str, name: str) -> Document:
    return next(d for d in of_kind(docs, kind) if d["metadata"]["name"] == name)
