"""Training and judging a router from 100 to 100,000 prompts, 2 to 40 models, 1 to 200 classes.

    python benchmarks/router_scale.py

Made-up scores, three cells of ten missing, with texts. Every size runs in a process of its own, for
its peak memory; seconds are CPU time (set OMP_NUM_THREADS=1), texts and scores at hand.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from planner.quality.evaluate import evaluate
from planner.quality.scores import Scores, make_scores
from planner.quality.train import cross_fit, train_router

SIZES = (
    (100, 2, 1),
    (1_000, 40, 200),
    (20_000, 2, 1),
    (20_000, 8, 12),
    (100_000, 8, 20),
    (100_000, 40, 200),
)
MISSING_RATIO = 0.3
TARGET = "20,000 prompts x 8 models: training under 30 s and 1 GB"


def made_up(n_prompts: int, n_models: int, n_classes: int) -> Scores:
    """Scores of models on classes whose texts share some of their words."""
    random = np.random.default_rng(0)
    code = random.integers(0, n_classes, n_prompts)
    code[:n_classes] = np.arange(n_classes)
    means = np.linspace(0.3, 0.8, n_models) + random.normal(0, 0.1, (n_classes, n_models))
    score = (random.random((n_prompts, n_models)) < means[code]).astype(float)
    tokens = random.lognormal(5.0, 0.7, score.shape)
    missing = random.random(score.shape) < MISSING_RATIO
    missing[:, 0] &= ~missing.all(axis=1)
    score[missing] = np.nan
    words = np.array([f"word{i}" for i in range(4000)])
    drawn = (code[:, None] * 37 + random.geometric(0.01, (n_prompts, 40))) % words.size
    text = [f"{' '.join(row)} {i}" for i, row in enumerate(words[drawn])]
    return make_scores(
        [f"class {c}" for c in range(n_classes)],
        [f"model {m}" for m in range(n_models)],
        code,
        score,
        output_tokens=tokens,
        text=text,
    )


def one_size(n_prompts: int, n_models: int, n_classes: int) -> None:
    """Prints a row: seconds of training, seconds of judging, peak memory of both."""
    scores = made_up(n_prompts, n_models, n_classes)
    usd_per_token = np.tile(np.geomspace(1.0, 50.0, n_models), (n_classes, 1))
    start = time.process_time()
    router = train_router(scores, usd_per_token)
    trained = time.process_time()
    train_gib = peak_gib()
    crossfit = cross_fit(scores)
    judged = time.process_time()
    evaluate(scores, crossfit, router.gate, usd_per_token)
    done = time.process_time()
    print(
        f"| {n_prompts:,} | {n_models} | {n_classes} | {trained - start:.1f} | {train_gib:.2f} "
        f"| {done - judged:.1f} | {peak_gib():.2f} |",
        flush=True,
    )


def peak_gib() -> float:
    """Returns the largest resident memory of this process so far, in GiB (Linux: ru_maxrss KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=int, nargs=3, metavar=("PROMPTS", "MODELS", "CLASSES"))
    one = parser.parse_args().one
    if one is not None:
        one_size(*one)
        return
    print(f"{TARGET}\n| prompts | models | classes | train s | GiB | judge s | GiB |")
    print("|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for size in SIZES:
        subprocess.run([sys.executable, __file__, "--one", *map(str, size)], check=True)


if __name__ == "__main__":
    main()
