"""Speed of the router: CPU time per prompt of each step, import and memory, and of training.

    python benchmarks/router_speed.py

CPU time of one thread (set OMP_NUM_THREADS=1), so that other programs on the machine count little;
every measured prompt is another one. Texts are made of words drawn by rank (Zipf's law) in 14
classes whose words differ in part, and of a few signs, digits and line breaks. The router has 14
classes and 8 models with per-prompt terms and answer lengths; "decision" is all of it: reading the
text, features, class, qualities, lengths and the choice of a model by price.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from planner.quality.answers import fit_answer_lengths, predict
from planner.quality.classify import posterior_of, train_naive_bayes
from planner.quality.contrast import adjust, class_residual, fit_contrast
from planner.quality.features import surface, surface_of
from planner.quality.router import judge
from planner.quality.scores import Scores, make_scores
from planner.quality.train import train_router
from planner.quality.words import read_words
from planner.scheduling.choice import best_model
from planner.spec.router import PER_PROMPT, Router

N_CLASSES, N_MODELS, N_MEASURED, BATCH = 14, 8, 2000, 32
CHARACTERS = (300, 1000, 7600)
TARGET_US = (200.0, 1000.0)  # median and p99 of a decision at 1,000 characters
N_TRAINED = 20_000


def make_texts(n: int, n_characters: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Returns texts and their classes, (n,)."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    vocabulary = ["".join(random.choice(letters, size)) for size in random.integers(1, 11, 6000)]
    signs = [",", ".", "?", "(2)", "3.5", "\n", ":", "$x$", "12", "A)"]
    code = random.integers(0, N_CLASSES, n)
    n_words = n_characters // 4
    texts = []
    for c in code:
        rank = np.minimum(random.zipf(1.3, n_words), 4000) - 1
        own = random.random(n_words) < 0.1
        words = [vocabulary[r + 100 * c * o] for r, o in zip(rank % 4000, own, strict=True)]
        for place in range(7, n_words, 8):
            words[place] += signs[int(rank[place]) % len(signs)]
        texts.append(" ".join(words)[:n_characters])
    return texts, code


def make_world(n: int, seed: int = 0) -> Scores:
    """Returns scores of n prompts of 1,000 characters."""
    texts, code = make_texts(n, 1000, seed)
    random = np.random.default_rng(seed)
    worth = random.uniform(0.3, 0.9, (N_CLASSES, N_MODELS))
    tokens = np.exp(random.normal(5.5, 0.5, (N_CLASSES, N_MODELS))[code])
    return make_scores(
        class_names=[f"class{c}" for c in range(N_CLASSES)],
        model_names=[f"model{m}" for m in range(N_MODELS)],
        prompt_ids=[str(i) for i in range(n)],
        class_code=code,
        score=(random.random((n, N_MODELS)) < worth[code]).astype(np.float64),
        output_tokens=np.ceil(tokens * random.lognormal(0.0, 0.6, (n, N_MODELS))),
        text=texts,
    )


def make_router() -> Router:
    """Returns a router with all its parts in use, whatever the gate would say of them."""
    scores = make_world(3000)
    x = surface(scores.text or ())
    price = np.full((N_CLASSES, N_MODELS), 1e-6)
    router = train_router(scores, price)
    residual = class_residual(scores.score, scores.class_code, N_CLASSES, scores.group)
    contrast = fit_contrast(x, residual, scores.group)
    return replace(router, contrast=contrast, trust=np.full(N_CLASSES, PER_PROMPT))


def times_us(step: Callable[[object], object], inputs: Sequence[object]) -> tuple[float, float]:
    """Returns the median and the 99th percentile of the CPU time of a step in microseconds."""
    for one in inputs[:20]:
        step(one)
    taken = np.empty(len(inputs))
    for i, one in enumerate(inputs):
        start = time.thread_time_ns()
        step(one)
        taken[i] = time.thread_time_ns() - start
    p50, p99 = np.percentile(taken / 1e3, [50, 99])
    return float(p50), float(p99)


def steps_of(router: Router) -> dict[str, Callable[[list[str]], object]]:
    """Returns what is measured, each a function of a batch of texts; parts get what they need."""
    price = np.linspace(0.0, 1e-3, N_MODELS)

    def decision(texts: list[str]) -> object:
        judged = judge(router, texts)
        return best_model(judged.quality, judged.output_tokens, price)

    return {
        "reading": lambda texts: list(read_words(texts)),
        "features": lambda blocks: [surface_of(words) for words in blocks],
        "naive Bayes": lambda blocks: [posterior_of(router.bayes, words) for words in blocks],
        "lengths + contrast": lambda x: (
            adjust(router.contrast, x[0]),
            predict(router.lengths, *x),
        ),
        "decision": decision,
    }


def print_speed(router: Router) -> bool:
    """Prints CPU time per prompt of each step; returns whether the targets are met."""
    print(f"{'step':20}{'batch':>6}" + "".join(f"{n:>12} characters" for n in CHARACTERS))
    met = True
    for batch in (1, BATCH):
        n = N_MEASURED if batch == 1 else 10 * N_MEASURED
        columns: dict[str, list[tuple[float, float]]] = {}
        for n_characters in CHARACTERS:
            texts = make_texts(N_MEASURED, n_characters, 1)[0]
            batches = [texts[i % N_MEASURED : i % N_MEASURED + batch] for i in range(0, n, batch)]
            blocks = [list(read_words(b)) for b in batches]
            heads = [(surface(b), judge(router, b).class_weight) for b in batches]
            inputs = {"features": blocks, "naive Bayes": blocks, "lengths + contrast": heads}
            for name, step in steps_of(router).items():
                times = times_us(step, inputs.get(name, batches))
                columns.setdefault(name, []).append((times[0] / batch, times[1] / batch))
        for name, times in columns.items():
            print(
                f"{name:20}{batch:6}" + "".join(f"{p50:12.1f} ({p99:6.1f})  " for p50, p99 in times)
            )
        if batch == 1:
            met = all(np.array(columns["decision"][1]) <= TARGET_US)
    print("microseconds per prompt, median (p99)")
    return met


def print_import() -> None:
    """Prints wall time and memory of fresh processes: Python, numpy, the modules of the router."""
    code = (
        "import time; start = time.perf_counter(); {}; took = time.perf_counter() - start; "
        "status = dict(line.split(':', 1) for line in open('/proc/self/status')); "
        "print(took, int(status['VmHWM'].split()[0]) / 1024)"
    )
    print("\nimport                     wall s     RSS MiB")
    imports = {
        "nothing": "pass",
        "numpy": "import numpy",
        "planner.quality.router": "import planner.quality.router, planner.files.router",
    }
    for name, statement in imports.items():
        runs = [
            subprocess.check_output([sys.executable, "-c", code.format(statement)]).split()
            for _ in range(5)
        ]
        print(
            f"{name:26}{min(float(r[0]) for r in runs):7.3f}{min(float(r[1]) for r in runs):12.1f}"
        )


def peak_mib() -> float:
    """Returns the most memory that this process has had, in MiB (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def train() -> None:
    """Prints time and memory of training; run in a process of its own."""
    scores = make_world(N_TRAINED)
    before_mib = peak_mib()
    start = time.perf_counter()
    x = surface(scores.text or ())
    marks = [("features", time.perf_counter())]
    train_naive_bayes(scores.text or (), scores.class_code, N_CLASSES, scores.group % 5)
    marks.append(("naive Bayes", time.perf_counter()))
    residual = class_residual(scores.score, scores.class_code, N_CLASSES, scores.group)
    fit_contrast(x, residual, scores.group)
    marks.append(("contrast", time.perf_counter()))
    fit_answer_lengths(x, scores.class_code, N_CLASSES, scores.output_tokens, scores.group)
    marks.append(("answer lengths", time.perf_counter()))
    train_router(scores, np.full((N_CLASSES, N_MODELS), 1e-6))
    marks.append(("whole, with cross-fit and gate", time.perf_counter()))
    print(f"\ntraining on {N_TRAINED} prompts of 1,000 characters x {N_MODELS} models")
    for name, end in marks:
        print(f"{name:32}{end - start:8.2f} s")
        start = end
    print(f"peak RSS {peak_mib():.0f} MiB, of which {before_mib:.0f} before training")


def main() -> None:
    """Prints the tables; exits with 1 where a decision misses its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only-training", action="store_true")
    if parser.parse_args().only_training:
        train()
        return
    met = print_speed(make_router())
    print_import()
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, "--only-training"], check=True)
    print(f"\ntarget of a decision at 1,000 characters: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
