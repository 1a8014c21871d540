"""policy.yaml in: every fault at once, each with the nearest right name; nothing silently off."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import Fault
from planner.files.policy import read_policy, strange_names
from planner.spec.described import described
from planner.spec.inputs import Inputs
from planner.spec.policy import Policy

RULES = ("stale", "incomplete", "policy-cost")

WHOLE = """\
version: 1
max_cost_usd_per_h: 60
max_cost_increase_ratio: 0.1
max_cost_increase_usd_per_h: 5
min_quality: 0.7
min_class_quality: {crux: 0.6}
max_quality_drop: 0.01
max_traffic_drop_ratio: 0.1
max_latency_increase_ratio: 0.1
max_limit_used_ratio: 0.95
max_limit_used_with_band_ratio: 1.1
keep_limits: true
min_headroom_ratio: 0.1
max_extrapolated_traffic_ratio: 0
forbidden_gpus: [a100-sxm-80g]
required_gpus: [h100-sxm-80g]
max_gpus: {h100-sxm-80g: 32}
max_gpus_moved: 8
max_traffic_moved_ratio: 0.5
require_safe_transition: true
max_peak_gpus: {h100-sxm-80g: 32}
max_gap_ratio: 0.02
require_simulated: true
require_complete: true
required_scenarios: [without 1 of 2 llama-3.1-70b-h100-tp4]
measured_only: true
max_price_age_days: 90
severity: {incomplete: error, stale: off}
"""


def read(folder: Path, text: str) -> tuple[Policy | None, list[Fault]]:
    path = folder / "policy.yaml"
    path.write_text(text)
    faults: list[Fault] = []
    return read_policy(path, RULES, faults), faults


def test_a_whole_policy_is_read(tmp_path: Path) -> None:
    policy, faults = read(tmp_path, WHOLE)
    assert faults == [] and policy is not None
    assert policy.severity == {"incomplete": "error", "stale": "off"}  # off is a word
    keys = [line.partition(":")[0] for line in WHOLE.splitlines()]
    assert sorted(keys) == sorted(Policy.model_fields)  # every key is tried here
    assert list(policy.asked) == [key for key in Policy.model_fields if key in keys[1:-1]]


def test_every_key_says_what_it_means() -> None:
    assert [field.name for field in described(Policy) if not field.meaning] == []


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("max_gpus_moved: 0", ("max_gpus_moved",)),  # a 0 asks for much
        ("max_gap_ratio: 0.0", ("max_gap_ratio",)),
        ("min_quality: 0.5\nkeep_limits: false\nforbidden_gpus: []", ("min_quality",)),
        ("severity: {stale: off}", ()),
    ],
)
def test_what_a_policy_asks_for(tmp_path: Path, text: str, asked: tuple[str, ...]) -> None:
    policy, faults = read(tmp_path, f"version: 1\n{text}\n")
    assert faults == [] and policy is not None
    assert policy.asked == asked


@pytest.mark.parametrize(
    ("text", "place", "what", "fix"),
    [
        ("version: 1\n", "policy.yaml", "asks for nothing", "correct that entry"),
        ("version: 1\nkeep_limits: false\n", "policy.yaml", "asks for nothing", ""),
        ("", "policy.yaml", "file is empty", ""),
        ("- a\n", "policy.yaml", "must be a mapping", ""),
        ("min_quality: 0.7\n", "version", "is missing", "add it"),
        ("version: 2\nmin_quality: 0.7\n", "version", "must be 1", ""),
        (
            "version: 1\nmax_cost_usd: 7\n",
            "max_cost_usd",
            "unknown key",
            "did you mean max_cost_usd_per_h?",
        ),
        ("version: 1\nmin_quality: 70\n", "min_quality", "must be at most 1", ""),
        ("version: 1\nmax_gpus_moved: -1\n", "max_gpus_moved", "must be at least 0", ""),
        ("version: 1\nmax_cost_usd_per_h: $60\n", "max_cost_usd_per_h", "must be a number", ""),
        ("version: 1\nforbidden_gpus: a100\n", "forbidden_gpus", "must be a list", ""),
        ("version: 1\nmin_quality: .nan\n", "min_quality", "must be a finite number", ""),
        (
            "version: 1\nforbidden_gpus: [a]\nrequired_gpus: [b, a]\n",
            "policy.yaml",
            "cannot be both forbidden and required: a",
            "",
        ),
        ("version: 1\nseverity: {stale: silent}\n", "severity.stale", "must be 'error'", ""),
        (
            "version: 1\nseverity: {stal: off}\n",
            "severity.stal",
            "unknown rule, got stal",
            "did you mean stale?",
        ),
    ],
)
def test_faults(tmp_path: Path, text: str, place: str, what: str, fix: str) -> None:
    policy, faults = read(tmp_path, text)
    assert policy is None
    (fault,) = faults
    assert place in f"{fault.file}:{fault.field}" and what in fault.what and fix in fault.fix


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    _, faults = read(tmp_path, "version: 1\nmin_quality: 7\nmax_gap: 1\nkeep_limits: perhaps\n")
    assert {fault.field for fault in faults} == {"min_quality", "max_gap", "keep_limits"}
    _, faults = read(tmp_path, "version: 1\nseverity: {stal: off, policy-costs: off}\n")
    assert [fault.fix for fault in faults] == ["did you mean stale?", "did you mean policy-cost?"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    faults: list[Fault] = []
    assert read_policy(tmp_path / "none.yaml", RULES, faults) is None
    assert [fault.what for fault in faults] == ["file not found"]


def test_classes_and_gpus_that_nobody_knows(tmp_path: Path, demo_inputs: Inputs) -> None:
    """A GPU forbidden under a wrong name would be allowed."""
    text = (
        "version: 1\nmin_class_quality: {gms: 0.9, crux: 0.5}\nforbidden_gpus: [a100]\n"
        "required_gpus: [h100-sxm-80g]\nmax_gpus: {b200: 8}\nmax_peak_gpus: {tpu-v5: 1}\n"
    )
    policy, _ = read(tmp_path, text)
    assert policy is not None
    faults = list(strange_names(policy, tmp_path / "policy.yaml", demo_inputs))
    *alike, unlike = faults
    assert [(fault.field, fault.fix) for fault in alike] == [
        ("min_class_quality.gms", "did you mean gsm?"),
        ("forbidden_gpus.a100", "did you mean a100-sxm-80g?"),
        ("max_gpus.b200", "did you mean b200-sxm-180g?"),
    ]
    assert unlike.field == "max_peak_gpus.tpu-v5"
    assert unlike.fix.startswith("known: a100-sxm-80g, b200-sxm-180g, h100-sxm-80g")
