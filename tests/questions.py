"""Small questions on the repository's own profiles, for tests that plan from end to end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from planner.files.inputs import read_inputs
from planner.spec.inputs import Inputs

REPOSITORY = Path(__file__).parent.parent
PROFILES = REPOSITORY / "profiles"

SCORES = """\
class,model_name,n_prompts,score,input_tokens_mean,input_tokens_cv,output_tokens_mean,output_tokens_cv,output_tokens_max,origin,source
easy,llama-3.1-8b,100,0.80,150,0.5,200,0.6,1000,assumed,made for a test
easy,llama-3.1-70b,100,0.90,150,0.5,180,0.6,1000,assumed,made for a test
easy,llama-3.1-405b,100,0.91,150,0.5,180,0.6,1000,assumed,made for a test
hard,llama-3.1-8b,100,0.30,200,0.5,500,0.8,2000,assumed,made for a test
hard,llama-3.1-70b,100,0.60,200,0.5,400,0.8,2000,assumed,made for a test
hard,llama-3.1-405b,100,0.65,200,0.5,400,0.8,2000,assumed,made for a test
"""

SMALL: dict[str, Any] = {
    "version": 1,
    "title": "two classes, two sizes of one model, one kind of GPU",
    "classes": [
        {
            "name": "easy",
            "rate_rps": 24.0,
            "limits": [{"metric": "e2e", "statistic": "p95", "at_most_ms": 15000}],
        },
        {
            "name": "hard",
            "rate_rps": 8.0,
            "limits": [{"metric": "e2e", "statistic": "p95", "at_most_ms": 60000}],
        },
    ],
    "class_scores": "class_scores.csv",
    "quality_at_least": 0.75,
    "stock": {"h100-sxm-80g": 8},
    "pools": ["llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4"],
}


def small(**changes: Any) -> dict[str, Any]:
    """A copy of the small question with some keys changed; None removes a key."""
    question = copy.deepcopy(SMALL)
    question.update(changes)
    return {key: value for key, value in question.items() if value is not None}


def write_question(folder: Path, question: dict[str, Any], scores: str = SCORES) -> Path:
    """Writes a plan folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "question.yaml").write_text(yaml.safe_dump(question, sort_keys=False))
    (folder / "class_scores.csv").write_text(scores)
    return folder


def inputs_of(folder: Path, question: dict[str, Any], scores: str = SCORES) -> Inputs:
    """The inputs of a question written to a folder, with the repository's profiles."""
    return read_inputs(write_question(folder, question, scores), PROFILES)
