"""A real plan folder with one thing changed: the named rule finds it, through `rb check` itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from _pytest.mark import ParameterSet
from hand_plan import SMALL
from plan_mutants import OF_PLAN, Data, Folder, Mutant
from policy_breaches import OF_POLICY, Breach
from typer.main import get_command

from planner.cli.app import run
from planner.errors import Fault
from planner.files.yamls import parse_yaml
from planner.latency.fit import fit

T = TypeVar("T")


def checked(folder: Folder, capsys: pytest.CaptureFixture[str]) -> tuple[int, Data, str]:
    """Returns the exit code, the data on stdout, and stderr of a check."""
    code = run(folder.arguments())
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def errors(data: Data) -> set[str]:
    return {f["code"] for f in data["findings"] if f["severity"] == "error"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Returns a folder of its own; what is alike in all folders is worked out once for them all."""
    monkeypatch.setattr("planner.case.fit", fitted)
    monkeypatch.setattr("planner.files.yamls.parse_yaml", parsed)
    monkeypatch.setattr("typer.main.get_command", commands)
    return Folder(tmp_path)


fitted = cache(fit)
commands = cache(get_command)
known: dict[str, object] = {}


def parsed(text: str, name: str, faults: list[Fault]) -> object:
    """Returns the data of a YAML text, a copy of its own; parsed once where it is right."""
    if text not in known:
        n_faults = len(faults)
        data = parse_yaml(text, name, faults)
        if len(faults) > n_faults:
            return data
        known[text] = data
    return deepcopy(known[text])


def test_the_clean_plan_passes(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    code, data, err = checked(folder, capsys)
    assert (code, data["ok"], data["findings"], err) == (0, True, [], "")


N_TH = 6
"""Each file of a folder is read, judged and told by a sixth of the mutants; the rest is slow."""


def some_fast(cases: Sequence[T]) -> list[ParameterSet]:
    """Returns all cases, of which every N_TH-th is not slow."""
    slow = pytest.mark.slow
    return [pytest.param(c, marks=[slow] if k % N_TH else []) for k, c in enumerate(cases)]


@pytest.mark.parametrize("mutant", some_fast(OF_PLAN), ids=lambda m: m.name)
def test_a_mutant_is_caught_by_the_named_rule(
    folder: Folder, mutant: Mutant, capsys: pytest.CaptureFixture[str]
) -> None:
    mutant.mutate(folder)
    code, data, _ = checked(folder, capsys)
    assert code == 1
    assert errors(data) == set(mutant.rules)
    assert {f["code"] for f in data["findings"]} <= set(data["judged"])


@pytest.mark.parametrize("breach", some_fast(OF_POLICY), ids=lambda b: b.name)
def test_a_breach_of_the_policy_is_caught_by_the_named_rule(
    folder: Folder, breach: Breach, capsys: pytest.CaptureFixture[str]
) -> None:
    breach.mutate(folder)
    if breach.before is not None:
        folder.before(breach.before)
    folder.policy(**breach.broken)
    code, data, _ = checked(folder, capsys)
    assert (code, errors(data)) == (1, {breach.rule})
    assert {f["code"] for f in data["findings"]} <= set(data["judged"])


def together() -> dict[tuple[object, object], list[Breach]]:
    """Returns the breaches by what is done to the folder before they are judged."""
    alike: dict[tuple[object, object], list[Breach]] = {}
    for breach in OF_POLICY:
        alike.setdefault((breach.mutate, breach.before), []).append(breach)
    return alike


@pytest.mark.parametrize(
    "alike", some_fast([*together().values()]), ids=lambda alike: alike[0].name
)
def test_what_the_policy_just_allows_passes(
    folder: Folder, alike: list[Breach], capsys: pytest.CaptureFixture[str]
) -> None:
    alike[0].mutate(folder)
    if alike[0].before is not None:
        folder.before(alike[0].before)
    kept: dict[str, Any] = {}
    for breach in alike:
        for key, value in breach.kept.items():
            whole = kept.get(key, {})
            kept[key] = {**whole, **value} if isinstance(value, dict) else value
    folder.policy(**kept)
    code, data, _ = checked(folder, capsys)
    assert (code, errors(data)) == (0, set())


UNREADABLE: Sequence[tuple[str, Callable[[Folder], object], str]] = (
    ("no-plan", lambda f: (f.path / "plan.json").unlink(), "plan.json: file not found"),
    ("broken-plan", lambda f: (f.path / "plan.json").write_text("{"), "plan.json:line 1"),
    ("broken-routes", lambda f: (f.path / "routes.json").write_text("[]"), "routes.json"),
    ("no-question", lambda f: (f.path / "question.yaml").unlink(), "question.yaml"),
    (
        "unfitted-pool",
        lambda f: (f.profiles() / SMALL / "points.csv").write_text("concurrency\n"),
        SMALL,
    ),
    ("empty-policy", lambda f: f.policy(), "asks for nothing"),
    ("unknown-rule", lambda f: f.policy(severity={"stal": "off"}), "did you mean stale?"),
    ("no-plan-before", lambda f: (f.path.parent / "old").mkdir(), "old/plan.json"),
    (
        "nan-in-plan",
        lambda f: f.text("plan.json", '"quality": 0.7', '"quality": NaN, "was": 0.7'),
        "plan.json",
    ),
)


@pytest.mark.parametrize(
    ("mutate", "said"), [u[1:] for u in UNREADABLE], ids=[u[0] for u in UNREADABLE]
)
def test_what_cannot_be_read_cannot_be_judged(
    folder: Folder,
    mutate: Callable[[Folder], object],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mutate(folder)
    code, data, err = checked(folder, capsys)
    assert (code, data) == (2, {})
    assert said in err and "Traceback" not in err


def test_there_are_mutants_enough() -> None:
    assert len(OF_PLAN) + len(OF_POLICY) >= 60
    assert len({m.name for m in (*OF_PLAN, *OF_POLICY)}) == len(OF_PLAN) + len(OF_POLICY)
