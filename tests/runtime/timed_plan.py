"""From unknown engines to a plan of them, through the command line alone.

Six engines of three models keep time by a step law each and compute nothing (timed_engine.py). The
planner is told no more than a user knows: addresses, the limit of places, scores, lengths, rates.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from time import monotonic, sleep

import numpy as np
from replaying import Asked, Got

ROOT = Path(__file__).parent.parent.parent
ENGINE = Path(__file__).parent / "timed_engine.py"
RB = [sys.executable, "-m", "planner"]
PLACES = 16


@dataclass(frozen=True)
class Kind:
    """One model: its engines, what their steps take, and what a user knows of it."""

    n_engines: int
    law: Mapping[str, float]
    n_parameters: float
    open_rps: float  # about half of what an engine can


@dataclass(frozen=True)
class Traffic:
    """One class: rate, lengths (mean and cv, of prompt and answer), scores by model."""

    rate_rps: float
    lengths: tuple[float, float, float, float]
    scores: tuple[float, ...]


KINDS = {
    "small": Kind(3, {"step_ms": 18.0, "sequence_ms": 0.6, "prompt_token_ms": 0.05}, 1.25e9, 5.0),
    "medium": Kind(2, {"step_ms": 30.0, "sequence_ms": 0.9, "prompt_token_ms": 0.10}, 2.5e9, 3.0),
    "large": Kind(1, {"step_ms": 45.0, "sequence_ms": 1.5, "prompt_token_ms": 0.20}, 5e9, 1.6),
}
CLASSES = {
    "easy": Traffic(7.0, (120, 0.5, 40, 0.6), (0.80, 0.85, 0.90)),
    "hard": Traffic(2.2, (200, 0.5, 80, 0.6), (0.30, 0.55, 0.80)),
}
HEADROOM_RATIO = 0.4
PERCENTILES = {"p50": 50, "p95": 95}
LONGEST_MS = 60_000  # of a limit that is there so that its figure is predicted


def wait_for(is_there: Callable[[], bool], process: subprocess.Popen) -> None:
    end_s = monotonic() + 30
    while not is_there():
        if process.poll() is not None or monotonic() > end_s:
            raise RuntimeError(f"it did not start, exit code {process.returncode}")
        sleep(0.05)


@contextlib.contextmanager
def engines(folder: Path) -> Iterator[dict[str, list[str]]]:
    """Yields the URLs of the running engines by model; they are a process of their own."""
    laws = [
        {"model_name": name, "max_num_seqs": PLACES, **kind.law}
        for name, kind in KINDS.items()
        for _ in range(kind.n_engines)
    ]
    ready = folder / "engines.json"
    process = subprocess.Popen(
        [sys.executable, str(ENGINE), str(ready), json.dumps(laws)], stdin=subprocess.PIPE
    )
    try:
        wait_for(lambda: ready.exists() and bool(ready.read_text()), process)
        urls = iter(json.loads(ready.read_text()))
        yield {name: [next(urls) for _ in range(kind.n_engines)] for name, kind in KINDS.items()}
    finally:
        process.kill()
        process.communicate()


def rb(*arguments: str, codes: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
    """Returns what a command of `rb` said; raises where it ended in another way than it may."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*RB, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode not in codes:
        raise RuntimeError(f"rb {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done


# ---- Profiles ------------------------------------------------------------------------------------


def measure(urls: Mapping[str, Sequence[str]], profiles: Path) -> None:
    """Profiles one engine of each model, all at the same time."""
    _write_facts(profiles)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda name: _profile(urls[name][0], name, profiles), urls))


def _profile(url: str, name: str, profiles: Path) -> None:
    """Measures closed loops, and then one rate in the open loop: nobody comes amid a step in a
    closed one."""
    shape = ["--api", "chat", "--input-tokens", "160", "--output-tokens", "60"]
    where = ["--url", url, "--model", name, "--gpu", "pretended", "--pool", name, *shape]
    where += ["--profiles", str(profiles), "--max-num-seqs", str(PLACES), "--quiet"]
    for budget, *loads in (
        ("40s", "--loads", "1,4,16"),
        ("30s", "--rate-rps", f"{KINDS[name].open_rps:g}"),
    ):
        rb("profile", "run", *where, "--time-budget", budget, *loads, codes=(0, 1))


def _write_facts(profiles: Path) -> None:
    """Writes what is known of the models, and of the accelerator that is not there."""
    profiles.mkdir()
    (profiles / "gpus.yaml").write_text(
        "- {name: pretended, memory_gib: 80, fp16_tflops: 100, memory_gb_per_s: 1000,\n"
        "   gpus_per_node: 8, interconnect_gb_per_s: 100, usd_per_h: 1.0, source: made up,\n"
        "   as_of: 2026-01-01}\n"
    )
    shape = (
        "n_layers: 8, hidden_size: 1024, n_heads: 8, n_kv_heads: 8, head_dim: 128, "
        "bytes_per_parameter: 2, max_context_tokens: 8192, source: made up"
    )
    (profiles / "models.yaml").write_text(
        "".join(
            f"- {{name: {name}, n_parameters: {kind.n_parameters:.0f}, "
            f"n_active_parameters: {kind.n_parameters:.0f}, {shape}}}\n"
            for name, kind in KINDS.items()
        )
    )


# ---- The plan ------------------------------------------------------------------------------------


def make_plan(
    folder: Path,
    profiles: Path,
    urls: Mapping[str, Sequence[str]],
    headroom_ratio: float = HEADROOM_RATIO,
) -> dict:
    """Writes a question, plans it, and writes the endpoints beside it; returns the plan."""
    folder.mkdir()
    _write_question(folder, headroom_ratio)
    rb("plan", str(folder), "--profiles", str(profiles), "--effort", "quick", "--quiet")
    served = {
        name: [{"url": url, "served_model_name": name} for url in each]
        for name, each in urls.items()
    }
    (folder / "endpoints.yaml").write_text(json.dumps(served))
    return json.loads((folder / "plan.json").read_text())


def _write_question(folder: Path, headroom_ratio: float) -> None:
    heading = "class,model_name,n_prompts,score,input_tokens_mean,input_tokens_cv,"
    rows = [heading + "output_tokens_mean,output_tokens_cv,source"]
    classes = ""
    for name, traffic in CLASSES.items():
        lengths = ",".join(f"{x:g}" for x in traffic.lengths)
        for model, score in zip(KINDS, traffic.scores, strict=True):
            rows.append(f"{name},{model},1000,{score},{lengths},made up")
        classes += f"  - name: {name}\n    rate_rps: {traffic.rate_rps}\n    limits:\n"
        for metric in ("ttft", "e2e"):
            for statistic in PERCENTILES:
                limit = f"metric: {metric}, statistic: {statistic}, at_most_ms: {LONGEST_MS}"
                classes += f"      - {{{limit}}}\n"
    (folder / "class_scores.csv").write_text("\n".join(rows) + "\n")
    replicas = "".join(
        f"  {m}: {{min: {k.n_engines}, max: {k.n_engines}}}\n" for m, k in KINDS.items()
    )
    (folder / "question.yaml").write_text(
        f"version: 1\ntitle: timed engines\nclasses:\n{classes}arrivals: {{process: poisson}}\n"
        f"class_scores: class_scores.csv\nstock: {{pretended: 6}}\nreplicas:\n{replicas}"
        f"choose: best_quality\nheadroom_ratio: {headroom_ratio}\n"
    )


# ---- Traffic, and what came of it ----------------------------------------------------------------


def draw_trace(seconds: float, seed: int, faster: Mapping[str, float] | None = None) -> list[Asked]:
    """Returns Poisson arrivals of all classes with lognormal lengths.

    They are stratified: as many as the rate says, at moments drawn evenly, which is a Poisson
    process of that many; and each of n lengths lies in another n-th of its distribution. So what
    is measured is off by little more than what the queues do by chance.
    """
    random = np.random.default_rng(seed)
    trace = []
    for name, traffic in CLASSES.items():
        rate_rps = traffic.rate_rps * (faster or {}).get(name, 1.0)
        at_s = random.uniform(0.0, seconds, round(rate_rps * seconds))
        mean_in, cv_in, mean_out, cv_out = traffic.lengths
        n_input = _lognormal(random, len(at_s), mean_in, cv_in)
        n_output = _lognormal(random, len(at_s), mean_out, cv_out)
        trace += [
            Asked(float(t), name, i, o) for t, i, o in zip(at_s, n_input, n_output, strict=True)
        ]
    return sorted(trace, key=lambda asked: asked.at_s)


def _lognormal(random: np.random.Generator, n: int, mean: float, cv: float) -> list[int]:
    variance = math.log1p(cv * cv)
    normal = NormalDist(math.log(mean) - variance / 2, math.sqrt(variance))
    ranks = (random.permutation(n) + random.random(n)) / n
    return [max(1, round(math.exp(normal.inv_cdf(float(rank))))) for rank in ranks]


@dataclass(frozen=True)
class Figure:
    """One figure, planned and measured; latencies in ms."""

    kind: str  # share, p50, p95
    name: str
    planned: float
    measured: float
    simulated: float = math.nan  # where the plan was simulated, too

    @property
    def deviation(self) -> float:
        """Of shares in shares, of latencies as a ratio."""
        if self.kind == "share":
            return abs(self.measured - self.planned)
        return abs(self.measured / self.planned - 1.0)


def compare(plan: dict, got: Sequence[Got], warm_s: float) -> list[Figure]:
    """Returns shares and latencies as the plan has them and as the client has seen them."""
    figures = []
    for route in plan["routing"]:
        own = [g for g in got if g.asked.class_name == route["class"]]
        share = sum(g.pool == route["pool"] for g in own) / len(own)
        figures.append(
            Figure("share", f"{route['class']} -> {route['pool']}", route["share"], share)
        )
    simulated = {_key(f): f["ms"] for f in (plan.get("simulated") or {"latency": []})["latency"]}
    for figure in plan["predicted"]["latency"]:
        name, metric, statistic = _key(figure)
        if name is None or statistic not in PERCENTILES:
            continue
        own = [g for g in got if g.asked.class_name == name and g.asked.at_s > warm_s]
        seen_s = [g.ttft_s if metric == "ttft" else g.e2e_s for g in own]
        measured_ms = 1000.0 * float(np.percentile(seen_s, PERCENTILES[statistic]))
        simulated_ms = simulated.get(_key(figure), math.nan)
        figures.append(
            Figure(statistic, f"{name} {metric}", figure["ms"], measured_ms, simulated_ms)
        )
    return figures


def _key(figure: dict) -> tuple[str | None, str, str]:
    return figure["class"], figure["metric"], figure["statistic"]
