"""What a serving engine says of itself on its /metrics page (Prometheus text format).

The names are those that the engines document:

    engine      running                  waiting                preempted so far
    vLLM        num_requests_running     num_requests_waiting   num_preemptions_total
    SGLang      num_running_reqs         num_queue_reqs         num_retracted_requests_total
    llama.cpp   requests_processing      requests_deferred      -
    TGI         tgi_batch_current_size   tgi_queue_size         -

The tokens that the KV cache holds are labels of vllm:cache_config_info, and SGLang's gauge
max_total_num_tokens; the other two do not say.

One page may hold several engines (data parallel), told apart by a label: `engine` of vLLM,
`dp_rank` of SGLang. They add up, or are read one by one. The ranks of one engine (tensor or
pipeline parallel) repeat the same figure: the largest counts.

A page has hundreds of lines of which a few are wanted. They are searched for by name, so reading
one takes a fraction of a millisecond and may happen in an event loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

RANK_LABELS = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"})
ENGINE_LABELS = ("engine", "dp_rank")


@dataclass(frozen=True)
class EngineState:
    """One look at an engine; None is 'not on the page'."""

    engine: str
    kv_capacity_tokens: int | None
    kv_used_ratio: float | None
    n_running: float | None
    n_waiting: float | None
    n_preempted: float | None  # since the engine started


@dataclass(frozen=True)
class _Names:
    """The names of one engine's figures; the first that is on the page counts."""

    engine: str
    prefix: str
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    preempted: tuple[str, ...] = ()
    kv_used: tuple[str, ...] = ()
    kv_capacity: tuple[str, ...] = ()
    kv_settings: tuple[str, ...] = ()  # a sample whose labels tell the capacity

    @property
    def all(self) -> tuple[str, ...]:
        """Returns every name of the engine that is read."""
        state = (*self.running, *self.waiting, *self.preempted)
        return (*state, *self.kv_used, *self.kv_capacity, *self.kv_settings)


_ENGINES = (
    _Names(
        "vllm",
        "vllm:",
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
        preempted=("vllm:num_preemptions_total", "vllm:num_preemptions"),
        kv_used=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        kv_settings=("vllm:cache_config_info",),
    ),
    _Names(
        "sglang",
        "sglang:",
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        preempted=(
            "sglang:num_retracted_requests_total",
            "sglang:num_retracted_reqs_total",
            "sglang:num_retracted_reqs",
        ),
        kv_used=("sglang:token_usage",),
        kv_capacity=("sglang:max_total_num_tokens",),
    ),
    _Names(
        "llama.cpp",
        "llamacpp:",
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv_used=("llamacpp:kv_cache_usage_ratio",),
    ),
    _Names("tgi", "tgi_", running=("tgi_batch_current_size",), waiting=("tgi_queue_size",)),
)


def read_page(text: str) -> EngineState | None:
    """Returns what a /metrics page says of the engine, None where no known engine wrote it."""
    found = _found(text)
    return None if found is None else _state(*found)


def read_ranks(text: str) -> dict[int, EngineState]:
    """Returns what the page says of each data-parallel engine behind the server, by its number.

    Empty where the page is of no known engine, or does not tell them apart.
    """
    found = _found(text)
    if found is None:
        return {}
    names, samples = found
    by_rank: dict[int, list[_Sample]] = {}
    for sample in samples:
        rank = _engine_number(sample.labels)
        if rank is not None:
            by_rank.setdefault(rank, []).append(sample)
    return {rank: _state(names, by_rank[rank]) for rank in sorted(by_rank)}


@dataclass(frozen=True, slots=True)
class _Sample:
    name: str
    labels: Mapping[str, str]
    value: float


_LINE = re.compile(
    r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>[^\s{}]+)(?:\s+-?\d+)?"
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def _found(text: str) -> tuple[_Names, list[_Sample]] | None:
    """Returns whose page it is and its samples that are wanted, in the order of the names."""
    for names in _ENGINES:
        if any(line.startswith(names.prefix) for line in _lines_with(text, names.prefix)):
            return names, [s for name in names.all for s in _samples(text, name)]
    return None


def _samples(text: str, name: str) -> Iterator[_Sample]:
    """Yields the samples of exactly that name."""
    for line in _lines_with(text, name):
        found = _LINE.fullmatch(line)
        value = _number(found["value"]) if found and found["name"] == name else None
        if found and value is not None:
            yield _Sample(name, dict(_LABEL.findall(found["labels"] or "")), value)


def _lines_with(text: str, start: str) -> Iterator[str]:
    """Yields the lines that hold some text, trimmed."""
    at = text.find(start)
    while at >= 0:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        yield text[text.rfind("\n", 0, at) + 1 : end].strip()
        at = text.find(start, end)


def _number(text: str) -> float | None:
    """Returns a finite number from 0 up, None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None


def _engine_number(labels: Mapping[str, str]) -> int | None:
    for name in ENGINE_LABELS:
        text = labels.get(name, "")
        if text.isascii() and text.isdecimal() and len(text) <= 6:
            return int(text)
    return None


def _state(names: _Names, samples: Sequence[_Sample]) -> EngineState:
    capacity = _sum(samples, names.kv_capacity)
    return EngineState(
        engine=names.engine,
        kv_capacity_tokens=int(capacity) if capacity else _capacity_told(samples, names),
        kv_used_ratio=max((s.value for s in samples if s.name in names.kv_used), default=None),
        n_running=_sum(samples, names.running),
        n_waiting=_sum(samples, names.waiting),
        n_preempted=_sum(samples, names.preempted),
    )


def _sum(samples: Sequence[_Sample], names: Sequence[str]) -> float | None:
    """Returns a figure summed over engines; ranks of one engine repeat it and count once."""
    for name in names:
        engines: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in samples:
            if sample.name == name:
                key = tuple(
                    sorted((k, v) for k, v in sample.labels.items() if k not in RANK_LABELS)
                )
                engines[key] = max(engines.get(key, 0.0), sample.value)
        if engines:
            return sum(engines.values())
    return None


def _capacity_told(samples: Sequence[_Sample], names: _Names) -> int | None:
    """Returns the tokens that vLLM's KV caches hold, from the labels of its settings."""
    sizes = [
        _label_number(s.labels, "kv_cache_size_tokens")
        or _label_number(s.labels, "num_gpu_blocks") * _label_number(s.labels, "block_size")
        for s in samples
        if s.name in names.kv_settings
    ]
    return int(sum(sizes)) or None


def _label_number(labels: Mapping[str, str], name: str) -> float:
    """Returns the number in a label, 0 where there is none (vLLM writes None as text)."""
    return _number(labels.get(name, "")) or 0.0
