"""Public per-prompt scores as rb sees them: the sets that benchmarks/router_quality.py measures on.

Expects a folder with zeroeval/, llmrouter_9model/ and routellm/; sources and licences are in the
README of each. A set whose files are not there is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from planner.quality.scores import Scores, make_scores
from planner.spec.arrays import BoolArray, FloatArray

# Billions of parameters, by which tokens are weighted into cost; mixtures of experts: active ones.
LADDERS = {
    "zeroeval Llama-3.1": {
        "Meta-Llama-3.1-8B-Instruct": 8.0,
        "Meta-Llama-3.1-70B-Instruct": 70.0,
        "Llama-3.1-405B-Inst@sambanova": 405.0,
    },
    "zeroeval Gemma-2": {"gemma-2-2b-it": 2.6, "gemma-2-9b-it": 9.2, "gemma-2-27b-it": 27.2},
    "zeroeval Qwen2.5": {
        "Qwen2.5-3B-Instruct": 3.1,
        "Qwen2.5-7B-Instruct": 7.6,
        "Qwen2.5-32B-Instruct": 32.5,
        "Qwen2.5-72B-Instruct": 72.7,
    },
}
SAME_MODEL = {"gemma-2-27b-it@together": "gemma-2-27b-it"}  # the same weights, hosted elsewhere
NINE_MODELS = {
    "codegemma-7b": 8.5,
    "gemma-2-9b-it": 9.2,
    "llama-3.1-8b-instruct": 8.0,
    "llama-3.1-nemotron-51b-instruct": 51.5,
    "llama-3.3-nemotron-super-49b-v1": 49.9,
    "llama3-chatqa-1.5-70b": 70.6,
    "llama3-chatqa-1.5-8b": 8.0,
    "mistral-7b-instruct-v0.3": 7.2,
    "qwen2.5-7b-instruct": 7.6,
}
WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"


@dataclass(frozen=True, eq=False)
class DataSet:
    """One set: the scores of a fleet, what its tokens cost, and how it is to be split."""

    name: str
    scores: Scores
    unit_cost: FloatArray  # (M,) cost of one output token; of one answer where lengths are unknown
    has_lengths: bool
    tested: BoolArray | None  # (N,) the set's own test part; None: folds
    others: FloatArray  # (N, K) scores of models outside the fleet on the same prompts

    @property
    def usd_per_token(self) -> FloatArray:
        """Returns the cost of a token, (C, M): here the same in every class."""
        return np.tile(self.unit_cost, (self.scores.n_classes, 1))

    @property
    def cost(self) -> FloatArray:
        """Returns the realised cost of each answer, (N, M)."""
        return self.unit_cost * self.scores.output_tokens


def data_sets(folder: Path) -> Iterator[DataSet]:
    """Yields every set whose files are in the folder."""
    if (folder / "zeroeval" / "scores.csv.gz").exists():
        yield from _zeroeval(folder / "zeroeval")
    if (folder / "llmrouter_9model" / "scores.csv").exists():
        own = _llmrouter(folder / "llmrouter_9model")
        yield own
        yield replace(own, name="llmrouter, 5 folds", tested=None)
    if (folder / "routellm" / "mmlu_gsm8k_scores.csv").exists():
        yield _routellm(folder / "routellm" / "mmlu_gsm8k_scores.csv")


def _zeroeval(folder: Path) -> Iterator[DataSet]:
    rows = pd.read_csv(folder / "scores.csv.gz")
    rows["model"] = rows["model"].replace(SAME_MODEL)
    rows = rows.drop_duplicates(["prompt_id", "model"])
    prompts = pd.read_json(folder / "prompts.jsonl", lines=True).set_index("prompt_id")
    correct = rows.pivot_table(index="prompt_id", columns="model", values="correct")
    tokens = rows.pivot_table(index="prompt_id", columns="model", values="output_tokens")
    silent = rows.pivot_table(index="prompt_id", columns="model", values="no_answer")
    for name, ladder in LADDERS.items():
        models = list(ladder)
        ids = correct.index[correct[models].notna().all(axis=1)]
        scored = correct.loc[ids]
        elsewhere = scored.drop(columns=models)
        elsewhere = elsewhere.loc[:, elsewhere.notna().all(axis=0)]
        tasks = prompts.loc[ids, "task"].astype("category")
        yield DataSet(
            name,
            make_scores(
                tuple(tasks.cat.categories),
                models,
                tasks.cat.codes.to_numpy(np.int64),
                scored[models].to_numpy(np.float64),
                output_tokens=tokens.loc[ids, models].to_numpy(np.float64),
                input_tokens=prompts.loc[ids, "full_prompt_tokens_cl100k"].to_numpy(np.float64),
                text=list(prompts.loc[ids, "question"]),
                signals={"answered": 1.0 - silent.loc[ids, models].to_numpy(np.float64)},
                prompt_ids=list(ids),
            ),
            np.array(list(ladder.values())),
            True,
            None,
            elsewhere.to_numpy(np.float64),
        )


def _llmrouter(folder: Path) -> DataSet:
    rows = pd.read_csv(folder / "scores.csv")
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").split("\n")
    text = {row["id"]: row["question"] for row in map(json.loads, filter(None, lines))}
    tasks = rows["task"].astype("category")
    scores = make_scores(
        tuple(tasks.cat.categories),
        list(NINE_MODELS),
        tasks.cat.codes.to_numpy(np.int64),
        rows[list(NINE_MODELS)].to_numpy(np.float64),
        input_tokens=rows["prompt_tokens_cl100k"].to_numpy(np.float64),
        text=[text[i] for i in rows["id"]],
        prompt_ids=list(rows["id"]),
    )
    costs = np.array(list(NINE_MODELS.values()))
    tested = (rows["split"] == "test").to_numpy()
    return DataSet("llmrouter", scores, costs, False, tested, np.zeros((len(rows), 0)))


def _routellm(path: Path) -> DataSet:
    rows = pd.read_csv(path)
    tasks = rows["task"].astype("category")
    scores = make_scores(
        tuple(tasks.cat.categories),
        (WEAK, STRONG),
        tasks.cat.codes.to_numpy(np.int64),
        rows[[WEAK, STRONG]].to_numpy(np.float64),
        input_tokens=rows["prompt_tokens_cl100k"].to_numpy(np.float64),
        prompt_ids=[f"{t}-{r}" for t, r in zip(rows["task"], rows["row"], strict=True)],
    )
    calls = np.array([0.0, 1.0])  # the cost is the share of calls to the strong model
    return DataSet("routellm", scores, calls, False, None, np.zeros((len(rows), 0)))
