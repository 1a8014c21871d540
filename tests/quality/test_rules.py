"""Rules: which one fits, in which order, and what a question may say of them."""

import pytest

from planner.errors import Fault
from planner.files.faults import build
from planner.quality.rules import Facts, class_name_of, first_match, key_digest, rules_of
from planner.spec.question import Question, RouterSettings
from planner.spec.router import Rule

HEADER = Rule("code", "header", "ide", "X-Client")
SYSTEM = Rule("law", "system_prompt", r"\blawyer\b")
KEY = Rule("math", "api_key_sha256", key_digest("sk-school"))
WORDS = Rule("poem", "pattern", r"(?i)\bsonnet\b")
RULES = (HEADER, SYSTEM, KEY, WORDS)


@pytest.mark.parametrize(
    ("text", "facts", "class_name"),
    [
        ("", Facts(headers={"x-CLIENT": "ide"}), "code"),
        ("", Facts(headers={"x-client": "IDE"}), None),  # values are told apart by case
        ("", Facts(headers={"client": "ide"}), None),
        ("", Facts(system_prompt="You are a lawyer."), "law"),
        ("lawyer", Facts(), None),  # said by the user, not by the system prompt
        ("", Facts(api_key_sha256=key_digest("sk-school")), "math"),
        ("", Facts(api_key_sha256=key_digest("sk-other")), None),
        ("", Facts(), None),  # no key is no key, not the empty one
        ("Write a Sonnet.", Facts(), "poem"),
        ("Write a sonnet.", Facts(headers={"X-Client": "ide"}), "code"),  # the first that fits
    ],
)
def test_the_first_rule_that_fits_decides(text, facts, class_name):
    assert first_match(RULES, text, facts) == class_name


def test_the_order_of_the_rules_decides():
    text, facts = "a sonnet", Facts(system_prompt="a lawyer")
    assert first_match((SYSTEM, WORDS), text, facts) == "law"
    assert first_match((WORDS, SYSTEM), text, facts) == "poem"


def test_what_is_declared_comes_before_every_rule():
    assert class_name_of(RULES, "a sonnet", Facts(declared="chat")) == "chat"
    assert class_name_of(RULES, "a sonnet") == "poem"
    assert class_name_of(RULES, "a letter") is None


def test_a_pattern_sees_the_head_and_the_tail_of_a_long_text():
    filler = "x " * 2000
    assert first_match((WORDS,), "sonnet " + filler) == "poem"
    assert first_match((WORDS,), filler + " sonnet") == "poem"
    assert first_match((WORDS,), filler + " sonnet " + filler) is None


def test_a_key_digest_is_the_known_sha256():
    """The test vector of FIPS 180-2 for 'abc'."""
    assert key_digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# ---- In a question -------------------------------------------------------------------------------


def settings(rules):
    faults: list[Fault] = []
    made = build(RouterSettings, {"rules": rules}, "question.yaml", faults, "router")
    return made, [f"{fault.field}: {fault.what}" for fault in faults]


def test_the_rules_of_a_question_are_kept_in_order():
    made, faults = settings(
        [
            {"class": "code", "header": {"name": "X-Client", "equals": "ide"}},
            {"class": "law", "system_prompt": r"\blawyer\b"},
            {"class": "math", "api_key_sha256": key_digest("sk-school")},
            {"class": "poem", "pattern": r"(?i)\bsonnet\b"},
        ]
    )
    assert faults == []
    assert rules_of(made) == RULES


def test_without_settings_there_are_no_rules():
    assert rules_of(RouterSettings()) == ()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"class": "a"}, "give exactly one of header, system_prompt"),
        ({"class": "a", "pattern": "x", "system_prompt": "y"}, "give exactly one of header"),
        ({"class": "a", "pattern": "("}, "pattern is no regular expression"),
        ({"class": "a", "system_prompt": "*"}, "system_prompt is no regular expression"),
        ({"class": "a", "api_key_sha256": "sk-school"}, "has the wrong form"),
        ({"class": "a", "api_key_sha256": "A" * 64}, "has the wrong form"),
        ({"class": "a", "header": {"name": "X"}}, "is missing"),
        ({"pattern": "x"}, "is missing"),
    ],
)
def test_a_faulty_rule_is_told(rule, said):
    made, faults = settings([rule])
    assert made is None
    assert [said in fault for fault in faults] == [True]


def test_a_rule_must_name_a_class_of_its_question():
    question = {
        "version": 1,
        "classes": [{"name": "chat", "rate_rps": 1.0}],
        "class_scores": "class_scores.csv",
        "stock": {"h100": 1},
        "router": {"classes": "inferred", "rules": [{"class": "chess", "pattern": "mate"}]},
    }
    faults: list[Fault] = []
    assert build(Question, question, "question.yaml", faults) is None
    assert [fault.what for fault in faults] == ["router.rules name no class of the question: chess"]
    question["router"]["rules"][0]["class"] = "chat"
    assert build(Question, question, "question.yaml", []).router.classes == "inferred"
