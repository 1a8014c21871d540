"""Scores made from a known truth, and routers trained on them.

sum    400 prompts: the small model gets long sums wrong, the big one any, so prompts differ
talk   300 prompts: both models do alike on all of them
some   100 prompts: enough for means, too few for per-prompt terms
rare    10 prompts: too few for anything
"""

from __future__ import annotations

from functools import cache
from unittest.mock import patch

import numpy as np

from planner.quality.scores import Scores, make_scores
from planner.quality.train import train_router
from planner.spec.router import GateResult, Router, Rule

SIZES = {"sum": 400, "talk": 300, "some": 100, "rare": 10}
CLASSES, MODELS = tuple(SIZES), ("small", "big")
QUALITY = {"talk": (0.7, 0.75), "some": (0.4, 0.8), "rare": (0.1, 0.2)}
TOKENS = {
    "sum": (300.0, 200.0),
    "talk": (80.0, 100.0),
    "some": (150.0, 150.0),
    "rare": (50.0, 60.0),
}
USD_PER_TOKEN = np.tile([1e-6, 8e-6], (len(CLASSES), 1))
RULES = (
    Rule("talk", "header", "chat", "X-Client"),
    Rule("some", "pattern", r"\bsonnet\b"),
    Rule("sum", "system_prompt", "calculator"),
)
PASSED = GateResult(True, 8.0, 7.0, 9.0, 0.5, 0.4, 0.6, 1000, 1000, "made to pass")
_WORDS = {
    "talk": "hello friend weather coffee weekend music garden holiday movie dinner",
    "some": "poem verse rhyme stanza metre ballad elegy muse lyric ode",
    "rare": "statute clause tort plaintiff appeal verdict counsel lien deed bail",
}


def made_text(random: np.random.Generator, class_name: str) -> tuple[str, int]:
    """A prompt of a class, and how many terms its sum has (0: it is none)."""
    if class_name != "sum":
        return " ".join(random.choice(_WORDS[class_name].split(), 12)) + ".", 0
    n_terms = int(random.integers(2, 30))
    return f"Add {' + '.join(str(x) for x in random.integers(1, 999, n_terms))} up.", n_terms


def made_scores(seed: int = 0, sizes: dict[str, int] = SIZES) -> Scores:
    """Right or wrong answers of two models to prompts of up to four classes."""
    random = np.random.default_rng(seed)
    code = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    names = tuple(sizes)
    texts, chances, tokens = [], [], []
    for name in (names[c] for c in code):
        text, n_terms = made_text(random, name)
        texts.append(text)
        chances.append(QUALITY.get(name) or (0.95 if n_terms < 16 else 0.05, 0.9))
        tokens.append(np.array(TOKENS[name]) * (0.5 + n_terms / 30 if n_terms else 1.0))
    score = (random.random((code.size, 2)) < np.array(chances)).astype(np.float64)
    output = np.array(tokens) * np.exp(random.normal(-0.02, 0.2, score.shape))
    return make_scores(names, MODELS, code, score, output_tokens=output, text=texts)


@cache
def made_router() -> Router:
    """A router with rules and per-prompt terms, trained once per process; its gate is made up."""
    with patch("planner.quality.train.run_gate", return_value=PASSED):
        return train_router(made_scores(), USD_PER_TOKEN, rules=RULES)
