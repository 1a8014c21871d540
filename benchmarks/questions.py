"""Builds the full-size questions of the benchmarks from published data sets.

The demo in plans/ is small enough to read. These are as large as the data: per-prompt scores,
a whole hour of arrivals, fourteen tasks, nine models, prompts of 100,000 tokens.

    python benchmarks/questions.py --data DIR --out DIR

DIR/ of --data holds one folder per data set (nothing is downloaded):
    zeroeval/scores.csv.gz, prompts.jsonl    task, prompt_id, model, correct, output_tokens; prompt
                                             lengths (github.com/WildEval/ZeroEval, commit 8c1485ed)
    azure2023/AzureLLMInferenceTrace_conv.csv    TIMESTAMP (github.com/Azure/AzurePublicDataset)
    llmrouter_9model/scores.csv              id, task, prompt_tokens_cl100k, one column per model
                                             (github.com/ulab-uiuc/LLMRouter, commit 4e7a7969)
    mooncake/conversation_trace.jsonl.gz     timestamp, input_length, output_length
                                             (github.com/kvcache-ai/Mooncake, commit 3b5a5941)

--out then holds zeroeval12/, llmrouter/ (with its own profiles/) and mooncake/, each with a
question.yaml for `rb plan`. Same data in, same bytes out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from roofline_profiles import LENGTHS_OF_TASK, ROUTED, write_routed_profiles
from tables import write_csv, write_yaml

PROFILES = Path(__file__).resolve().parent.parent / "profiles"
QUANTILES = (10, 25, 50, 75, 90, 95, 99)

LLAMA_31 = {
    "llama-3.1-8b": "Meta-Llama-3.1-8B-Instruct",
    "llama-3.1-70b": "Meta-Llama-3.1-70B-Instruct",
    "llama-3.1-405b": "Llama-3.1-405B-Inst@sambanova",
}
TASK_LIMITS: dict[str, list[dict[str, Any]]] = {
    "gsm": [{"metric": "e2e", "statistic": "p95", "at_most_ms": 10_000}],
    "crux": [{"metric": "e2e", "statistic": "p95", "at_most_ms": 20_000}],
    "math-l5": [{"metric": "e2e", "statistic": "p95", "at_most_ms": 120_000}],
}


# ---- Arrivals ------------------------------------------------------------------------------------


def azure_times_s(data: Path) -> np.ndarray:
    """Returns the arrival times of the Azure 2023 conversation trace in s, (n,), first at 0."""
    table = pd.read_csv(
        data / "azure2023" / "AzureLLMInferenceTrace_conv.csv", parse_dates=["TIMESTAMP"]
    )
    return (table["TIMESTAMP"] - table["TIMESTAMP"].iloc[0]).dt.total_seconds().to_numpy()


def assign_classes(weights: Sequence[float], n_requests: int) -> np.ndarray:
    """Returns a class index per request, (n_requests,), each prefix within one of the mix.

    Every request goes to the class that is furthest behind its share so far; no draw is made.
    """
    share = np.asarray(weights, dtype=float) / float(np.sum(weights))
    behind = np.zeros(len(share))
    chosen = np.empty(n_requests, dtype=int)
    for k in range(n_requests):
        behind += share
        chosen[k] = int(np.argmax(behind))
        behind[chosen[k]] -= 1.0
    return chosen


def azure_requests(data: Path, names: Sequence[str], weights: Sequence[float]) -> pd.DataFrame:
    """Returns the trace with classes in the proportion of the weights; lengths stay blank."""
    times_s = azure_times_s(data)
    picked = assign_classes(weights, len(times_s))
    return pd.DataFrame(
        {
            "timestamp_s": [f"{t:.6f}" for t in times_s],
            "class": [names[k] for k in picked],
            "input_tokens": "",
            "output_tokens": "",
        }
    )


def mean_rates_rps(requests: pd.DataFrame) -> dict[str, float]:
    """Returns the mean rate of each class of a trace in requests per second."""
    span_s = float(requests["timestamp_s"].astype(float).max())
    counts = requests["class"].value_counts().sort_index()
    return {str(name): round(count / span_s, 6) for name, count in counts.items()}


# ---- zeroeval12: tasks x quartiles of prompt length, per-prompt scores ---------------------------


def zeroeval_table(data: Path, models: dict[str, str]) -> pd.DataFrame:
    """Returns one row per prompt and model, with model_name, prompt and answer lengths."""
    folder = data / "zeroeval"
    scores = pd.read_csv(folder / "scores.csv.gz")
    prompts = pd.read_json(folder / "prompts.jsonl", lines=True)
    lengths = prompts[["task", "prompt_id", "full_prompt_tokens_cl100k"]]
    renamed = {source: name for name, source in models.items()}
    table = scores[scores["model"].isin(renamed)].merge(lengths, on=["task", "prompt_id"])
    return table.assign(model_name=table["model"].map(renamed)).rename(
        columns={"full_prompt_tokens_cl100k": "input_tokens", "correct": "score"}
    )


def quartile_classes(table: pd.DataFrame) -> pd.Series:
    """Returns the class of each row: its task and the quarter its prompt's length falls in."""
    prompts = table[["task", "prompt_id", "input_tokens"]].drop_duplicates()
    prompts = prompts.sort_values(["task", "input_tokens", "prompt_id"])
    rank = prompts.groupby("task").cumcount()
    size = prompts.groupby("task")["prompt_id"].transform("size")
    quarter = (4 * rank // size + 1).astype(str)
    names = prompts.assign(name=prompts["task"] + "-q" + quarter)
    keyed = names.set_index(["task", "prompt_id"])["name"]
    return pd.Series(
        keyed.loc[list(zip(table["task"], table["prompt_id"], strict=True))].to_numpy(),
        index=table.index,
    )


def build_zeroeval12(data: Path, out: Path) -> None:
    """Writes the question with 12 classes, 3 models and a score for each prompt and model."""
    table = zeroeval_table(data, LLAMA_31)
    table = table.assign(**{"class": quartile_classes(table)})
    columns = ["prompt_id", "class", "model_name", "score", "input_tokens", "output_tokens"]
    scores = table[columns].sort_values(["class", "prompt_id", "model_name"])
    write_csv(out / "scores.csv", scores)
    n_prompts = scores.drop_duplicates("prompt_id").groupby("class").size()
    names = [str(name) for name in n_prompts.index]
    requests = azure_requests(data, names, n_prompts.tolist())
    write_csv(out / "requests.csv", requests)
    rates = mean_rates_rps(requests)
    question = {
        "version": 1,
        "title": "ZeroEval in 12 classes, Llama 3.1 in three sizes",
        "classes": [
            {"name": name, "rate_rps": rates[name], "limits": TASK_LIMITS[name[:-3]]}
            for name in names
        ],
        "arrivals": {"trace": "requests.csv", "rate_factor": 10, "planning_rate": "peak_5min"},
        "scores": "scores.csv",
        "quality_at_least": 0.70,
        "stock": {"h100-sxm-80g": 32, "b200-sxm-180g": 32},
        "choose": "cheapest",
        "headroom_ratio": 0.1,
    }
    write_yaml(
        out / "question.yaml",
        question,
        "Classes: task and quarter of prompt length. Profiles: those of the repository.\n"
        "The 405B ran at a hosted service that stops at 2048 tokens: its scores are assumed\n"
        "for bfloat16 and fp8 alike.",
    )


# ---- llmrouter: 14 tasks x 9 models on roofline pools --------------------------------------------


def routed_scores(data: Path) -> pd.DataFrame:
    """Returns scores.csv of the nine models: measured scores, borrowed answer lengths."""
    wide = pd.read_csv(data / "llmrouter_9model" / "scores.csv")
    lengths = zeroeval_table(data, {m.lengths_of: m.lengths_of for m in ROUTED})
    means = lengths.groupby(["task", "model"])["output_tokens"].mean()
    borrowed = [LENGTHS_OF_TASK.get(task, "crux") for task in wide["task"]]
    tables = [
        pd.DataFrame(
            {
                "prompt_id": wide["id"],
                "class": wide["task"],
                "model_name": model.name,
                "score": wide[model.name],
                "input_tokens": wide["prompt_tokens_cl100k"],
                "output_tokens": [round(float(means[t, model.lengths_of])) for t in borrowed],
            }
        )
        for model in ROUTED
    ]
    return pd.concat(tables).sort_values(["class", "prompt_id", "model_name"])


def routed_limit(task: str) -> dict[str, Any]:
    """Returns the limit of one task: long answers get more time."""
    at_most_ms = 90_000 if LENGTHS_OF_TASK.get(task) == "math-l5" else 20_000
    return {"metric": "e2e", "statistic": "p95", "at_most_ms": at_most_ms}


def build_llmrouter(data: Path, out: Path) -> None:
    """Writes the question with 14 tasks and 9 models, and its estimated profiles."""
    scores = routed_scores(data)
    write_csv(out / "scores.csv", scores)
    n_prompts = scores.drop_duplicates("prompt_id").groupby("class").size()
    names = [str(name) for name in n_prompts.index]
    requests = azure_requests(data, names, n_prompts.tolist())
    write_csv(out / "requests.csv", requests)
    by_class = scores.groupby(["class", "model_name"])["score"].mean().unstack()
    best = float((by_class.max(axis=1) * n_prompts / n_prompts.sum()).sum())
    write_routed_profiles(PROFILES, out / "profiles")
    rates = mean_rates_rps(requests)
    question = {
        "version": 1,
        "title": "Fourteen tasks, nine models",
        "classes": [
            {"name": name, "rate_rps": rates[name], "limits": [routed_limit(name)]}
            for name in names
        ],
        "arrivals": {"trace": "requests.csv", "rate_factor": 10, "planning_rate": "peak_5min"},
        "scores": "scores.csv",
        "quality_at_least": round(0.95 * best, 2),
        "stock": {"h100-sxm-80g": 32, "a100-sxm-80g": 32, "l40s-48g": 32},
        "choose": "cheapest",
        "headroom_ratio": 0.1,
    }
    write_yaml(
        out / "question.yaml",
        question,
        "Scores are measured. Answer lengths are not: they are ZeroEval's means of the nearest\n"
        "task and model. Speeds are a roofline. Plan it with --profiles profiles (this folder's).\n"
        f"The best score by class means is {best:.3f}; the floor is 95 % of it.",
    )


# ---- mooncake: long prompts ----------------------------------------------------------------------


def length_columns(tokens: pd.Series, side: str) -> dict[str, float]:
    """Returns mean and cv of token counts, and for answers their quantiles and maximum."""
    mean = float(tokens.mean())
    row = {
        f"{side}_tokens_mean": round(mean, 2),
        f"{side}_tokens_cv": round(float(tokens.std(ddof=0)) / mean, 4),
    }
    if side == "output":
        for q in QUANTILES:
            row[f"output_tokens_p{q}"] = round(float(np.quantile(tokens, q / 100)), 1)
        row["output_tokens_max"] = int(tokens.max())
    return row


def build_mooncake(data: Path, out: Path) -> None:
    """Writes the question with the long prompts of a conversation service in three classes."""
    trace = pd.read_json(data / "mooncake" / "conversation_trace.jsonl.gz", lines=True)
    rank = trace["input_length"].rank(method="first") - 1
    names = np.array(["short", "medium", "long"])
    classes = names[(3 * rank // len(trace)).astype(int)]
    requests = pd.DataFrame(
        {
            "timestamp_s": [f"{t / 1000:.3f}" for t in trace["timestamp"]],
            "class": classes,
            "input_tokens": trace["input_length"],
            "output_tokens": trace["output_length"].clip(lower=1),
        }
    )
    write_csv(out / "requests.csv", requests)
    scored = zeroeval_table(data, LLAMA_31).groupby(["task", "model_name"])["score"].mean()
    stands_for = {"short": "gsm", "medium": "crux", "long": "math-l5"}
    rows: list[dict[str, object]] = []
    for name, task in stands_for.items():
        own = requests[requests["class"] == name]
        rows.extend(
            {
                "class": name,
                "model_name": model_name,
                "n_prompts": len(own),
                "score": round(float(scored[task, model_name]), 6),
                **length_columns(own["input_tokens"], "input"),
                **length_columns(own["output_tokens"], "output"),
                "origin": "assumed",
                "source": f"lengths: Mooncake conversation trace; score: ZeroEval {task} stands in",
            }
            for model_name in LLAMA_31
        )
    write_csv(out / "class_scores.csv", pd.DataFrame(rows))
    rates = mean_rates_rps(requests)
    question = {
        "version": 1,
        "title": "Long conversations (Mooncake)",
        "classes": [
            {
                "name": name,
                "rate_rps": rates[name],
                "limits": [{"metric": "e2e", "statistic": "p95", "at_most_ms": at_most_ms}],
            }
            for name, at_most_ms in (("short", 60_000), ("medium", 90_000), ("long", 180_000))
        ],
        "arrivals": {"trace": "requests.csv", "rate_factor": 1, "planning_rate": "peak_5min"},
        "class_scores": "class_scores.csv",
        "quality_at_least": 0.65,
        "stock": {"h100-sxm-80g": 64, "b200-sxm-180g": 64},
        "choose": "cheapest",
        "headroom_ratio": 0.1,
    }
    write_yaml(
        out / "question.yaml",
        question,
        "Prompts of 12,000 tokens on average, far from the shapes that the profiles measured:\n"
        "a test of what the planner says about its own extrapolation. Scores are assumed.",
    )


def main() -> None:
    """Builds every question whose data is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    for name, build in (
        ("zeroeval12", build_zeroeval12),
        ("llmrouter", build_llmrouter),
        ("mooncake", build_mooncake),
    ):
        build(arguments.data, arguments.out / name)
        own = arguments.out / name / "profiles"
        print(f"rb plan {arguments.out / name} --profiles {own if own.is_dir() else PROFILES}")


if __name__ == "__main__":
    main()
