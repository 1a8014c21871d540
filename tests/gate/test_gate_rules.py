"""The table of rules: complete, held by the code both ways, and every rule provoked by a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_plan import ROOT
from plan_mutants import OF_PLAN
from policy_breaches import OF_POLICY

import planner.gate
from planner.gate.finding import Finding, error, warning
from planner.gate.policy.table import POLICY
from planner.gate.rules import RULES, in_order, rule
from planner.spec.policy import Policy

GATE = Path(planner.gate.__file__).parent
MAKERS = {"error", "warning", "told"}  # told: one of the two, as mix shift explains it or not

# What no folder that can be read breaks through its files alone, or what needs other plans.
PROVOKED_ELSEWHERE = {
    "cascade-drift": "tests/test_cascade_plans.py",
    "node": "tests/gate/test_check.py",  # profiles refuse it before, where they are read
    "halves": "tests/gate/test_check.py",
    "copies": "tests/gate/test_check.py",
    "supply": "tests/periods/test_period_plans.py",
    "periods": "tests/periods/test_period_plans.py",
}


def made_codes() -> Iterator[tuple[str, str | None]]:
    """Yields where the code of the gate makes a finding, and its code; None: not a plain word."""
    for path in sorted(GATE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in MAKERS:
                code = node.args[0] if node.args else None
                word = code.value if isinstance(code, ast.Constant) else None
                yield f"{path.name}:{node.lineno}", word if isinstance(word, str) else None


def test_every_finding_is_of_a_rule_and_every_rule_has_a_finding() -> None:
    made = list(made_codes())
    assert len(made) > 60
    assert [at for at, code in made if code is None] == []
    assert {code for _, code in made} == {each.id for each in RULES}


def test_findings_are_made_by_their_makers_alone() -> None:
    """Else a finding could have a code that the walk above does not see."""
    direct = [
        f"{path.name}:{node.lineno}"
        for path in GATE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Finding"
        and path.name != "finding.py"
    ]
    assert direct == []


def test_ids_are_words_and_differ() -> None:
    ids = [each.id for each in RULES]
    assert len(ids) == len(set(ids))
    assert all(id.replace("-", "").isalpha() and id.islower() for id in ids)
    assert {each.id for each in RULES if each.of == "policy"} == {
        id for id in ids if id.startswith("policy-")
    }


@pytest.mark.parametrize("each", RULES, ids=lambda each: each.id)
def test_a_rule_says_what_why_and_what_to_do(each: object) -> None:
    summary, why, fix = each.summary, each.why, each.fix  # type: ignore[attr-defined]
    assert summary[0].islower() and not summary.endswith(".")
    assert why[0].isupper() and why.endswith(".")
    assert fix and not fix.endswith(".")
    assert max(len(summary), len(why), len(fix)) <= 100


def test_the_plans_rules_come_first_in_the_table() -> None:
    kinds = [each.of for each in RULES]
    assert kinds == sorted(kinds)


def test_a_rule_is_found_by_its_id() -> None:
    assert all(rule(each.id) is each for each in RULES)
    with pytest.raises(KeyError):
        rule("no-such-rule")


def test_findings_come_errors_first_then_as_the_rules_do() -> None:
    late, early = error("proof", "b", "", ""), error("stale", "z", "", "")
    mild, same = warning("stale", "", "", ""), error("stale", "a", "", "")
    assert in_order([mild, late, early, same]) == (early, same, late, mild)
    assert in_order(()) == ()


def test_a_finding_without_a_rule_is_a_bug_of_ours() -> None:
    with pytest.raises(KeyError):
        in_order([Finding("error", "nothing-of-ours", "", "", "")])


def test_every_rule_is_provoked_by_a_test() -> None:
    """By a mutant through the command line wherever files can break it, else where it says."""
    provoked = {mutant.rules[0] for mutant in OF_PLAN} | {breach.rule for breach in OF_POLICY}
    missing = {each.id for each in RULES} - provoked
    assert missing == PROVOKED_ELSEWHERE.keys()
    for id, file in PROVOKED_ELSEWHERE.items():
        assert f'"{id}"' in (ROOT / file).read_text(encoding="utf-8"), (id, file)


# ---- The policy's table --------------------------------------------------------------------------


def test_every_key_of_a_policy_is_judged_by_exactly_one_rule() -> None:
    keys = [key for each in POLICY for key in each.keys]
    assert sorted(keys) == sorted(set(Policy.model_fields) - {"version", "severity"})


def test_the_policys_rules_are_those_of_the_table_in_its_order() -> None:
    listed = [each.id for each in RULES if each.of == "policy" and each.id != "policy-not-judged"]
    assert [each.id for each in POLICY] == listed


def test_each_is_judged_by_itself_or_against_the_plan_before() -> None:
    assert all((each.judge is None) != (each.judge_change is None) for each in POLICY)


@pytest.mark.parametrize("each", POLICY, ids=lambda each: each.id)
def test_a_policys_rule_names_its_keys(each: object) -> None:
    told = rule(each.id)  # type: ignore[attr-defined]
    first = each.keys[0]  # type: ignore[attr-defined]
    words = f"{told.summary} {told.fix} {told.why}"
    is_figure = first.startswith(("max_", "min_", "required_", "forbidden_"))
    assert first in words or not is_figure
