"""Rules that tell a request's class by a header, its system prompt, its API key or its words.

What a caller declares comes before every rule: it knows what it asks for. The rules come in their
order and the first that fits decides. Only where nothing fits is a class inferred from the text.

Keys are compared by their sha256: they stand in no file. Expressions are those of Python's `re`,
which keeps them compiled; they come from the team, see at most the characters of words.cap, and
should not nest quantifiers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from planner.quality.words import cap
from planner.spec.router import Rule

if TYPE_CHECKING:
    from planner.spec.question import RouterSettings


@dataclass(frozen=True)
class Facts:
    """What is known of a request besides its text."""

    declared: str | None = None  # the class that the caller says it is of
    headers: Mapping[str, str] = field(default_factory=dict)  # names in any case
    system_prompt: str = ""
    api_key_sha256: str = ""  # see key_digest


NOTHING = Facts()


def rules_of(settings: RouterSettings) -> tuple[Rule, ...]:
    """Returns the rules of a question, in their order."""
    rules = []
    for rule in settings.rules:
        if rule.header is not None:
            made = Rule(rule.class_name, "header", rule.header.equals, rule.header.name)
        elif rule.system_prompt is not None:
            made = Rule(rule.class_name, "system_prompt", rule.system_prompt)
        elif rule.api_key_sha256 is not None:
            made = Rule(rule.class_name, "api_key_sha256", rule.api_key_sha256)
        else:
            made = Rule(rule.class_name, "pattern", rule.pattern or "")
        rules.append(made)
    return tuple(rules)


def key_digest(api_key: str) -> str:
    """Returns what a rule knows of an API key: its sha256 (hex)."""
    return sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()


def first_match(rules: Sequence[Rule], text: str, facts: Facts = NOTHING) -> str | None:
    """Returns the class of the first rule that fits a request; None if none does."""
    return next((rule.class_name for rule in rules if _fits(rule, text, facts)), None)


def class_name_of(rules: Sequence[Rule], text: str, facts: Facts = NOTHING) -> str | None:
    """Returns the class that is declared, else that of the first rule that fits, else None."""
    return facts.declared or first_match(rules, text, facts)


def _fits(rule: Rule, text: str, facts: Facts) -> bool:
    if rule.kind == "header":
        wanted = rule.header.lower()
        return any(k.lower() == wanted and v == rule.value for k, v in facts.headers.items())
    if rule.kind == "api_key_sha256":
        return facts.api_key_sha256 == rule.value
    searched = facts.system_prompt if rule.kind == "system_prompt" else text
    return re.search(rule.value, cap(searched)) is not None
