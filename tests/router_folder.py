"""A small plan folder with scored prompts whose truth is known, on the repository's own profiles.

Three classes that a reader tells apart by their words, three sizes of Llama 3.1. A prompt that one
model fails is more often failed by the others, too; longer prompts get longer answers; the large
model was scored on every other prompt of `chat` only; an answer's `signal_agreement` is higher
where it is right.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b")
POOLS = ("llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4", "llama-3.1-405b-fp8-h100-tp8")
COUNTS = {"chat": 150, "code": 150, "math": 100}
RATES_RPS = {"chat": 60.0, "code": 30.0, "math": 20.0}

QUALITY = {"chat": (0.86, 0.88, 0.89), "code": (0.45, 0.72, 0.75), "math": (0.22, 0.48, 0.74)}
"""The true mean score of each model on a class."""

OUTPUT_TOKENS = {"chat": (90, 80, 85), "code": (210, 190, 200), "math": (620, 480, 440)}
"""The true mean length of each model's answers to a class."""

SHARED_RATIO = 0.5  # of the luck of a prompt is that of every model
N_WORDS = (8, 60)
SAID_BY_ALL = "please the a of to with and for that is in on can you this it what"
SAID_IN = {
    "chat": "hello weekend recipe travel friend letter birthday garden film story dinner",
    "code": "function python loop array string compile return recursion bug index stack",
    "math": "integral prove triangle equation prime sum matrix root angle probability",
}

QUESTION = {
    "version": 1,
    "title": "chat, code and maths on three sizes of one model",
    "classes": [{"name": name, "rate_rps": rate} for name, rate in RATES_RPS.items()],
    "scores": "scores.csv",
    "prompts": "prompts.jsonl",
    "quality_at_least": 0.75,
    "stock": {"h100-sxm-80g": 48},
    "pools": list(POOLS),
}


def write_router_folder(
    folder: Path,
    counts: Mapping[str, int] = COUNTS,
    seed: int = 0,
    texts: bool = True,
    signals: bool = True,
    **changes: object,
) -> Path:
    """Writes question.yaml, scores.csv and prompts.jsonl; returns the folder.

    Args:
        folder: where to write; made if it is not there.
        counts: prompts of each class.
        seed: of the draws; same seed, same bytes.
        texts: whether there is a prompts.jsonl.
        signals: whether scores.csv has the column signal_agreement.
        changes: keys of question.yaml to set; None removes one.
    """
    rows, prompts = [], []
    for prompt_id, name, text, answers in _drawn(counts, seed):
        prompts.append(json.dumps({"prompt_id": prompt_id, "text": text, "class": name}))
        rows += [(prompt_id, name, *answer) for answer in answers]
    question = {**QUESTION, **({} if texts else {"prompts": None}), **changes}
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in question.items() if value is not None}
    (folder / "question.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    (folder / "scores.csv").write_text(_csv(rows, signals))
    if texts:
        (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in prompts))
    return folder


Answer = tuple[str, float, int, int, float]
"""Model name, score, input tokens, output tokens, agreement."""


def _drawn(counts: Mapping[str, int], seed: int) -> Iterator[tuple[str, str, str, list[Answer]]]:
    """The prompts with their answers, the classes mixed as traffic mixes them."""
    rng = np.random.default_rng(seed)
    names = [name for name, n in counts.items() for _ in range(n)]
    for i in rng.permutation(len(names)):
        name = names[i]
        n_words = int(rng.integers(*N_WORDS))
        own = rng.random(n_words) < 0.3
        text = " ".join(rng.choice((SAID_IN[name] if o else SAID_BY_ALL).split()) for o in own)
        yield f"p{i:05d}", name, text, _answers(rng, name, n_words, whole=i % 2 == 0)


def _answers(rng: np.random.Generator, name: str, n_words: int, whole: bool) -> list[Answer]:
    """What the models made of one prompt; the large one of chat only where it is `whole`."""
    shared = rng.random()
    longer = (n_words / np.mean(N_WORDS)) ** 0.5
    found: list[Answer] = []
    for m, model_name in enumerate(MODELS):
        luck = shared if rng.random() < SHARED_RATIO else rng.random()
        score = float(luck < QUALITY[name][m])
        tokens = OUTPUT_TOKENS[name][m] * longer * rng.lognormal(-0.08, 0.4)
        agreement = round(float(rng.beta(8, 2) if score else rng.beta(3, 4)), 3)
        if whole or name != "chat" or m < 2:
            found.append((model_name, score, 2 * n_words, max(1, round(tokens)), agreement))
    return found


def _csv(rows: list[tuple[object, ...]], signals: bool) -> str:
    header = ["prompt_id", "class", "model_name", "score", "input_tokens", "output_tokens"]
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow([*header, *(["signal_agreement"] if signals else [])])
    writer.writerows(row if signals else row[:-1] for row in rows)
    return made.getvalue()
