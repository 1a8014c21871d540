"""Balance of data-parallel decode ranks under a step barrier: every policy, saturated and not.

    python benchmarks/dp_balance.py [--lengths CSV] [--ranks 16 64 144] [--ratios 1 2]

CSV is the Azure LLM inference trace of 2023, conversations (github.com/Azure/AzurePublicDataset,
AzureLLMInferenceTrace_conv.csv): columns ContextTokens and GeneratedTokens, one row per request.
Requests are drawn from its rows with replacement. Without it lengths are lognormal with the same
means and coefficients of variation, prompts and answers independent.

A step takes b + a * (KV tokens of the most loaded rank); `ratio` is a * (mean load of full ranks)
over b. Prefill is done elsewhere; memory is not a limit. Look-ahead policies know the distribution
of all answer lengths, no single one.

Saturated: a closed loop keeps every place taken and 500 requests waiting in one pool. Arrival
policies are applied one by one, oldest first, over the ranks with a free place. The first 1,000
steps are not counted. Efficiency is the time of the same steps, had every one been perfectly even,
over the time that they took.
Open loop: Poisson arrivals. Arrival policies send each request to a rank the moment it comes.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner.parallel.local import over_seeds
from planner.scheduling.balance import make_policy
from planner.scheduling.balanceroute import BalanceRoute
from planner.scheduling.batch import BatchPolicy, OneByOne, fifo, largest_first
from planner.scheduling.lookahead import Lookahead
from planner.scheduling.matching import BestMatch
from planner.scheduling.survival import Survival
from planner.simulate.barrier import Group
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens
from planner.spec.arrays import FloatArray, IntArray

STEP_PS = 10**10  # b
N_POOLED = 500
N_WARM_STEPS, N_STEPS = 1_000, 2_000
OPEN_STEPS, OPEN_WARM_STEPS, OPEN_PLACES = 8_000, 2_000, 64
NO_LIMIT = 2**40
FOREVER = 2**62

# Of the conversations: (mean, coefficient of variation) of prompts and of answers.
PROMPT_MOMENTS = (1155.0, 0.96)
ANSWER_MOMENTS = (211.0, 0.77)

BATCH_POLICIES: Mapping[str, Callable[[Sequence[int]], BatchPolicy]] = {
    "fifo": lambda _: fifo,
    "largest_first": lambda _: largest_first,
    "br0": lambda _: BalanceRoute(),
    "brh": lambda answers: BalanceRoute(Survival(answers)),
    "lookahead": lambda answers: Lookahead(Survival(answers)),
    "best_match": lambda _: BestMatch(),
}
BLIND = ("random", "round_robin", "power_of_two", "fewest_requests")
SATURATED = (*BLIND, "least_kv", *BATCH_POLICIES)
OPEN = (*BLIND, "least_kv", "vllm", "largest_first", "br0", "lookahead", "best_match")
AT_LEAST_GAIN = {16: 0.05, 64: 0.10, 144: 0.12}
AT_LEAST_EFFICIENCY = 0.955


class Lengths(NamedTuple):
    """Rows to draw requests from."""

    prompt: IntArray
    answer: IntArray

    def load_per_place(self) -> float:
        """Returns the KV tokens that a busy place holds on average over time."""
        o = self.answer.astype(np.float64)
        return float((o * self.prompt + o * (o - 1) / 2).sum() / o.sum())


@dataclass(frozen=True)
class Setting:
    """One run."""

    policy: str
    lengths: Lengths
    n_ranks: int
    n_places: int
    ratio: float
    seed: int
    utilisation: float = 1.0  # open loop: nominal share of the places that are busy


class Saturated(NamedTuple):
    """What one saturated run shows."""

    tokens_per_step_time: float  # tokens while an empty step would pass
    efficiency: float
    imbalance: float  # (largest - mean) / mean
    spread_tokens: float  # largest - smallest


class Open(NamedTuple):
    """What one open-loop run shows."""

    tpot: float  # mean over requests, over a perfectly even step at the nominal load
    e2e: float  # mean, in empty steps


def group_of(setting: Setting, tokens: Tokens, times: Times) -> Group:
    """Returns an empty group with its policy: in front of one pool, unless it is open-loop."""
    load = setting.n_places * setting.lengths.load_per_place()
    per_token_ps = round(setting.ratio * STEP_PS / load)
    n_tables = setting.n_places + 1
    engine = EngineSettings(
        steps=StepTimes((STEP_PS,) * n_tables, (per_token_ps,) * n_tables, 0),
        max_num_seqs=setting.n_places,
        max_num_batched_tokens=setting.n_places,
        kv_blocks=NO_LIMIT,
        prefill="elsewhere",
        n_ranks=setting.n_ranks,
    )
    if setting.policy in BATCH_POLICIES:
        batch = BATCH_POLICIES[setting.policy](setting.lengths.answer.tolist())
        return Group(engine, tokens, times, batch=batch)
    arrival = make_policy(setting.policy, setting.seed)
    if setting.utilisation < 1.0:
        return Group(engine, tokens, times, arrival=arrival)
    return Group(engine, tokens, times, batch=OneByOne(arrival))


def drawn(setting: Setting, n_requests: int, rng: np.random.Generator) -> Tokens:
    """Returns requests; every policy gets the same ones for the same seed."""
    rows = rng.integers(setting.lengths.prompt.size, size=n_requests)
    prompt = setting.lengths.prompt[rows].tolist()
    return Tokens(prompt, list(prompt), setting.lengths.answer[rows].tolist())


def saturated(setting: Setting) -> Saturated:
    """Returns what a group shows whose places are always taken."""
    n_here = setting.n_ranks * setting.n_places + N_POOLED
    n_steps = N_WARM_STEPS + N_STEPS
    n_ended = n_steps * n_here / float(setting.lengths.answer.mean())
    tokens = drawn(setting, n_here + round(1.5 * n_ended), np.random.default_rng(setting.seed))
    times = Times.none_yet(len(tokens.prompt))
    group = group_of(setting, tokens, times)
    for i in range(n_here):
        group.submit(i, 0)
    n_submitted = n_here
    before: IntArray | None = None
    while group.n_steps < n_steps:
        group.advance(FOREVER, to_completion=True)
        now_ps = times.done_ps[group.ended[0]]
        for i in range(n_submitted, n_submitted + len(group.ended)):
            group.submit(i, now_ps)
        n_submitted += len(group.ended)
        if before is None and group.n_steps >= N_WARM_STEPS:
            before = _counters(group)
    assert before is not None
    return _between(before, _counters(group), setting.n_ranks)


def _counters(group: Group) -> IntArray:
    sums = (group.spread_tokens, group.largest_tokens, group.read_tokens)
    return np.array([group.busy_ps, group.own_ps, group.n_steps, group.n_decoded, *sums])


def _between(before: IntArray, after: IntArray, n_ranks: int) -> Saturated:
    """Returns what happened between two readings of the counters."""
    busy, own, n_steps, n_tokens, spread, largest, read = (after - before).tolist()
    return Saturated(
        tokens_per_step_time=n_tokens * STEP_PS / busy,
        efficiency=own / (n_ranks * busy),
        imbalance=n_ranks * largest / read - 1.0,
        spread_tokens=spread / n_steps,
    )


def open_loop(setting: Setting) -> Open:
    """Returns what requests see that come at random and find places free."""
    rng = np.random.default_rng(setting.seed)
    even_step = 1.0 + setting.ratio * setting.utilisation  # in empty steps
    n_busy = setting.utilisation * setting.n_ranks * setting.n_places
    rate = n_busy / (float(setting.lengths.answer.mean()) * even_step)
    at = np.cumsum(rng.exponential(1.0 / rate, size=round(rate * OPEN_STEPS)))
    tokens = drawn(setting, at.size, rng)
    times = Times.none_yet(at.size)
    group = group_of(setting, tokens, times)
    arrived_ps = (at * STEP_PS).astype(np.int64)
    for i, at_ps in enumerate(arrived_ps.tolist()):
        group.advance(at_ps)
        group.submit(i, at_ps)
    group.drain()
    first_ps, done_ps = np.array(times.first_ps), np.array(times.done_ps)
    n_gaps = np.array(tokens.output) - 1
    counted = at >= OPEN_WARM_STEPS
    tpot = ((done_ps - first_ps)[counted & (n_gaps > 0)] / n_gaps[counted & (n_gaps > 0)]).mean()
    e2e = (done_ps - arrived_ps)[counted].mean()
    return Open(float(tpot) / (STEP_PS * even_step), float(e2e) / STEP_PS)


def saturated_table(
    lengths: Lengths,
    n_ranks: int,
    n_places: int,
    ratio: float,
    n_seeds: int,
    n_processes: int | None,
) -> Iterator[str]:
    """Yields a Markdown table over policies, and which targets it meets."""
    settings = [
        Setting(policy, lengths, n_ranks, n_places, ratio, seed)
        for policy in SATURATED
        for seed in range(n_seeds)
    ]
    figures = np.array(list(over_seeds(saturated, settings, n_processes)))
    figures = figures.reshape(len(SATURATED), n_seeds, 4)
    runs = dict(zip(SATURATED, figures, strict=True))
    base = runs["round_robin"][:, 0]
    yield f"### {n_ranks} ranks of {n_places} places, ratio {ratio:g}, {n_seeds} seeds"
    yield ""
    yield "| policy | throughput | least | most | efficiency | imbalance | max - min tokens |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for policy, found in runs.items():
        gain = found[:, 0] / base
        _, efficiency, imbalance, spread = found.mean(axis=0)
        yield (
            f"| {policy} | {gain.mean():.3f} | {gain.min():.3f} | {gain.max():.3f} "
            f"| {efficiency:.3f} | {imbalance:.3f} | {spread:,.0f} |"
        )
    yield ""
    yield from _order_verdicts(runs)
    if ratio == 1.0 and n_ranks in AT_LEAST_GAIN:
        yield from _gain_verdicts(runs, AT_LEAST_GAIN[n_ranks])
    yield ""


def _order_verdicts(runs: Mapping[str, FloatArray]) -> Iterator[str]:
    """Yields whether blind policies < BR-0 < BR-H, in throughput and in balance."""
    means = {policy: found.mean(axis=0) for policy, found in runs.items()}
    for name, column, sign in (("throughput", 0, 1.0), ("imbalance", 2, -1.0), ("spread", 3, -1.0)):
        blind = max(sign * means[policy][column] for policy in BLIND)
        br0, brh = sign * means["br0"][column], sign * means["brh"][column]
        yield f"- blind < br0 < brh by {name}: {_verdict(blind < br0 < brh)}"


def _gain_verdicts(runs: Mapping[str, FloatArray], at_least: float) -> Iterator[str]:
    """Yields whether the policy of most throughput is as much better as it has to be."""
    best = max(runs, key=lambda policy: float(runs[policy][:, 0].mean()))
    for other in ("round_robin", "fewest_requests"):
        gain = runs[best][:, 0] / runs[other][:, 0] - 1.0
        yield (
            f"- {best} over {other}, at least {at_least:+.0%}: mean {gain.mean():+.1%} "
            f"{_verdict(gain.mean() >= at_least)}, least {gain.min():+.1%} "
            f"{_verdict(gain.min() >= at_least)}"
        )
    efficiency = runs[best][:, 1].min()
    yield (
        f"- efficiency of {best}, at least {AT_LEAST_EFFICIENCY}: least {efficiency:.3f} "
        f"{_verdict(efficiency >= AT_LEAST_EFFICIENCY)}"
    )


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def open_table(
    lengths: Lengths, n_ranks: int, n_places: int, n_seeds: int, n_processes: int | None
) -> Iterator[str]:
    """Yields a Markdown table of what Poisson arrivals see at two loads, ratio 1."""
    loads = (0.7, 0.9)
    settings = [
        Setting(policy, lengths, n_ranks, n_places, 1.0, seed, load)
        for policy in OPEN
        for load in loads
        for seed in range(n_seeds)
    ]
    figures = np.array(list(over_seeds(open_loop, settings, n_processes)))
    figures = figures.reshape(len(OPEN), len(loads), n_seeds, 2)
    yield f"### Open loop: {n_ranks} ranks of {n_places} places, ratio 1, {n_seeds} seeds"
    yield ""
    yield "| policy | TPOT at .7 | E2E at .7 | TPOT at .9 | E2E at .9 |"
    yield "|---|--:|--:|--:|--:|"
    for policy, by_load in zip(OPEN, figures.mean(axis=2), strict=True):
        cells = " | ".join(f"{tpot:.3f} | {e2e:.0f}" for tpot, e2e in by_load)
        yield f"| {policy} | {cells} |"
    yield ""


def read_lengths(path: Path) -> Lengths:
    """Returns the lengths of a trace, rows in file order."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(file)]
    prompt, answer = np.array(rows, dtype=np.int64).T
    return Lengths(prompt, answer)


def made_lengths(n_rows: int = 20_000) -> Lengths:
    """Returns independent lognormal lengths with the moments of the conversations."""
    rng = np.random.default_rng(0)

    def column(mean: float, cv: float) -> IntArray:
        variance = np.log1p(cv * cv)
        sizes = rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), n_rows)
        return np.maximum(np.rint(sizes), 1).astype(np.int64)

    return Lengths(column(*PROMPT_MOMENTS), column(*ANSWER_MOMENTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=Path, help="trace to draw requests from")
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 144])
    parser.add_argument("--ratios", type=float, nargs="+", default=[1.0])
    parser.add_argument("--places", type=int, default=32, help="of a rank, saturated")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--open-ranks", type=int, nargs="*", default=[16])
    parser.add_argument("--processes", type=int, help="at once; default: one for each core")
    arguments = parser.parse_args()
    n_seeds, n_processes = arguments.seeds, arguments.processes
    lengths = read_lengths(arguments.lengths) if arguments.lengths else made_lengths()
    print(f"Lengths: {arguments.lengths.name if arguments.lengths else 'made, lognormal'}\n")
    for n_ranks in arguments.ranks:
        for ratio in arguments.ratios:
            places = arguments.places
            table = saturated_table(lengths, n_ranks, places, ratio, n_seeds, n_processes)
            print("\n".join(table), flush=True)
    for n_ranks in arguments.open_ranks:
        table = open_table(lengths, n_ranks, OPEN_PLACES, n_seeds, n_processes)
        print("\n".join(table), flush=True)


if __name__ == "__main__":
    main()
