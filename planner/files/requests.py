"""Which answers to score, in: the JSON that `rb router next --json` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from planner.errors import Fault
from planner.files.csvs import capped
from planner.files.faults import build
from planner.files.text import MAX_CSV_BYTES, read_text, shown
from planner.spec.answers import AnswerRequest

_FIX = "make it with: rb router next DIR --json > FILE"


def read_requests(path: Path, faults: list[Fault]) -> frozenset[tuple[str, str]]:
    """Returns pairs of prompt id and model name; none after adding a fault.

    What else such a file says of classes and models is not read.
    """
    text = read_text(path, MAX_CSV_BYTES, faults)
    if text is None:
        return frozenset()
    name = shown(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        faults.append(Fault(name, "", "is not valid JSON", _FIX))
        return frozenset()
    entries = data.get("requests") if isinstance(data, Mapping) else None
    if not isinstance(entries, list):
        faults.append(Fault(name, "requests", "must be a list of answers to score", _FIX))
        return frozenset()
    if not entries:
        fix = "its cells say how many new prompts are wanted (n_new_prompts), if any"
        faults.append(Fault(name, "requests", "lists no prompt that is left to score", fix))
    found: list[Fault] = []
    pairs = set()
    for place, entry in enumerate(entries):
        request = build(AnswerRequest, entry, name, found, f"requests[{place}]")
        if request is not None:
            pairs.add((request.prompt_id, request.model_name))
    faults += capped(found, name)
    return frozenset(pairs)
