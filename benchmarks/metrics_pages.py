"""Reading engines' /metrics pages: ours, which searches for what is wanted, against a whole parser.

    python benchmarks/metrics_pages.py

The page is made like that of vLLM 0.32: some 600 lines, most of them buckets of histograms. Both
sides read the running and waiting requests off it, by turns; times are of the process (CPU). The
other side is the parser of prometheus_client, the library that the engines write the page with.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import process_time

from planner.metrics_page import read_page, read_ranks

N_ROUNDS, N_READS = 15, 20
N_HISTOGRAMS, N_BUCKETS = 26, 20


def page_of(n_engines: int) -> str:
    """Returns a page of so many data-parallel engines."""
    lines = ['python_info{implementation="CPython",major="3"} 1.0']
    for engine in range(n_engines):
        labels = f'engine="{engine}",model_name="a-model"'
        lines += [
            f"vllm:num_requests_running{{{labels}}} {engine + 3}.0",
            f"vllm:num_requests_waiting{{{labels}}} 1.0",
            f"vllm:kv_cache_usage_perc{{{labels}}} 0.25",
            f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="8192",{labels}}} 1.0',
        ]
    for h in range(N_HISTOGRAMS):
        name = f"vllm:some_time_{h}_seconds"
        lines += [f"# HELP {name} Histogram of a time in seconds.", f"# TYPE {name} histogram"]
        for engine in range(n_engines):
            labels = f'engine="{engine}",model_name="a-model"'
            lines += [
                f'{name}_bucket{{{labels},le="{0.01 * 2**b}"}} {10.0 * b}' for b in range(N_BUCKETS)
            ]
            lines += [f"{name}_count{{{labels}}} 190.0", f"{name}_sum{{{labels}}} 88.25"]
    return "\n".join(lines) + "\n"


def parsed(text: str) -> tuple[float, float]:
    """Returns (running, waiting) as a program with the whole parser would find them."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {"vllm:num_requests_running": 0.0, "vllm:num_requests_waiting": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name] += sample.value
    running, waiting = found.values()
    return running, waiting


def searched(text: str) -> tuple[float, float]:
    """Returns (running, waiting) as the poller finds them."""
    state = read_page(text)
    return state.n_running, state.n_waiting


def us_each(read: Callable[[str], object], text: str) -> float:
    """Returns the CPU time of one reading, us."""
    start_s = process_time()
    for _ in range(N_READS):
        read(text)
    return 1e6 * (process_time() - start_s) / N_READS


def main() -> None:
    print("| engines | lines | kB | searched us | each rank us | whole parser us | ratio |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for n_engines in (1, 4, 8):
        text = page_of(n_engines)
        assert searched(text) == parsed(text)
        rounds = [
            tuple(us_each(read, text) for read in (searched, read_ranks, parsed))
            for _ in range(N_ROUNDS)
        ]
        ours, ranks, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(t / o for o, _, t in rounds)
        print(
            f"| {n_engines} | {text.count(chr(10))} | {len(text) / 1e3:.0f} "
            f"| {ours:.0f} | {ranks:.0f} | {theirs:,.0f} | {ratio:.0f} |"
        )


if __name__ == "__main__":
    main()
