"""policy.yaml in: what a team allows its plans to be; every name in it must be one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from planner.errors import Fault
from planner.files.faults import build, unknown_name
from planner.files.text import shown
from planner.files.yamls import read_yaml
from planner.spec.inputs import Inputs
from planner.spec.policy import Policy

POLICY_FILE = "policy.yaml"


def read_policy(path: Path, rules: Collection[str], faults: list[Fault]) -> Policy | None:
    """Returns the policy of a file; None after adding every fault of it.

    Args:
        path: of the file.
        rules: the ids of all rules, whose severity it may set.
        faults: where they are added.
    """
    data = read_yaml(path, faults)
    if data is None:
        return None
    name = shown(path)
    policy = build(Policy, data, name, faults)
    if policy is None:
        return None
    unknown = [
        unknown_name(name, f"severity.{rule}", rule, rules, "rule")
        for rule in policy.severity
        if rule not in rules
    ]
    faults += unknown
    return None if unknown else policy


def strange_names(policy: Policy, path: Path, inputs: Inputs) -> Iterator[Fault]:
    """Yields the classes and GPUs of a policy that the inputs of the plan do not know.

    A GPU that is forbidden under a wrong name would not be forbidden at all.
    """
    name = shown(path)
    classes = [cls.name for cls in inputs.question.classes]
    for each in policy.min_class_quality:
        if each not in classes:
            yield unknown_name(name, f"min_class_quality.{each}", each, classes, "class")
    gpus = [gpu.name for gpu in inputs.profiles.gpus]
    for key in ("forbidden_gpus", "required_gpus", "max_gpus", "max_peak_gpus"):
        for each in getattr(policy, key):
            if each not in gpus:
                yield unknown_name(name, f"{key}.{each}", each, gpus, "GPU")
