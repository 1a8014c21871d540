"""What a collection will take, from the first few answers: requests, tokens, money, time.

Notation: n_left requests of a model; t, d mean output tokens and seconds of its pilot answers
    tokens = n_left t            at most n_left max_tokens
    usd    = tokens price        output tokens only: prices of prompts differ by caching
    time   = n_left d / concurrency; models are asked side by side, so the longest counts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

PILOT = 4  # answers of each model


@dataclass(frozen=True)
class Taken:
    """What one answer took."""

    output_tokens: int
    duration_s: float


@dataclass(frozen=True)
class ModelBudget:
    """What the rest of a model's requests will take; None: not known."""

    model_name: str
    n_left: int
    output_tokens: float | None
    most_output_tokens: int
    usd: float | None
    most_usd: float | None
    duration_s: float | None


@dataclass(frozen=True)
class Budget:
    """What a collection will take, model by model; the judge is one of them."""

    models: tuple[ModelBudget, ...]

    @property
    def n_left(self) -> int:
        """Returns the number of requests."""
        return sum(entry.n_left for entry in self.models)

    @property
    def output_tokens(self) -> float | None:
        """Returns the expected output tokens of all models."""
        return _sum([entry.output_tokens for entry in self.models])

    @property
    def usd(self) -> float | None:
        """Returns the expected cost of output tokens of the models with a price; None: no price."""
        known = [entry.usd for entry in self.models if entry.usd is not None]
        return sum(known) if known else None

    @property
    def duration_s(self) -> float | None:
        """Returns the expected time in s: that of the slowest model."""
        times = [e.duration_s for e in self.models if e.duration_s is not None]
        return max(times, default=None)


def budget(
    n_left: Mapping[str, int],
    taken: Mapping[str, Sequence[Taken]],
    *,
    max_tokens: Mapping[str, int],
    concurrency: int,
    usd_per_million_output: Mapping[str, float],
) -> Budget:
    """Returns what the requests that are left will take.

    Args:
        n_left: requests by model.
        taken: answers by model that the estimate rests on; none: nothing is known of it.
        max_tokens: the limit of an answer by model.
        concurrency: requests in flight at each model.
        usd_per_million_output: prices by model, for those that have one.
    """
    entries = []
    for name, n in n_left.items():
        answers = taken.get(name, ())
        each = fmean(t.output_tokens for t in answers) if answers else None
        output_tokens = None if each is None else n * each
        most = n * max_tokens[name]
        price = usd_per_million_output.get(name)
        costs = price is not None and output_tokens is not None
        entries.append(
            ModelBudget(
                model_name=name,
                n_left=n,
                output_tokens=output_tokens,
                most_output_tokens=most,
                usd=(price or 0.0) * (output_tokens or 0.0) / 1e6 if costs else None,
                most_usd=None if price is None else price * most / 1e6,
                duration_s=_duration_s(n, [t.duration_s for t in answers], concurrency),
            )
        )
    return Budget(tuple(entries))


def _duration_s(n_left: int, durations_s: Sequence[float], concurrency: int) -> float | None:
    if not durations_s:
        return None
    return n_left * fmean(durations_s) / min(concurrency, max(n_left, 1))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
