"""The GPU that a tool names ("NVIDIA H100 80GB HBM3") as an id of gpus.yaml ("h100-sxm-80g").

words   lower case, cut at everything that is neither letter nor digit; 80gb = 80g, sxm5 = sxm
an id fits a name when all its words are in the name, but for memory and form (sxm, pcie),
which may be missing there and must not contradict what the name says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MEMORY = re.compile(r"(\d+)(?:g|gb|gib)")
_FORM = re.compile(r"(sxm|pcie|nvl|oam|hgx)\d*")
_MEMORY_RATIO = 0.05  # 180 and 183 GB are the same card, told by two tools


def matching_gpus(named: str, ids: Iterable[str]) -> tuple[str, ...]:
    """Returns the ids that the GPU named by a tool may be, sorted; one means that it is clear."""
    known = sorted(ids)
    words = _words(named)
    exact = [name for name in known if _words(name) == words]
    return tuple(exact or [name for name in known if _fits(_words(name), words)])


def _words(name: str) -> frozenset[str]:
    words = (word for word in re.split(r"[^a-z0-9]+", name.lower()) if word)
    return frozenset(_plain(word) for word in words)


def _plain(word: str) -> str:
    memory, form = _MEMORY.fullmatch(word), _FORM.fullmatch(word)
    return f"{memory[1]}g" if memory else form[1] if form else word


def _fits(gpu_id: frozenset[str], named: frozenset[str]) -> bool:
    core = {w for w in gpu_id if not _MEMORY.fullmatch(w) and not _FORM.fullmatch(w)}
    if not core or not core <= named:
        return False
    return _memory_fits(gpu_id, named) and _form_fits(gpu_id, named)


def _memory_fits(gpu_id: frozenset[str], named: frozenset[str]) -> bool:
    sizes, told = ([int(m[1]) for w in s if (m := _MEMORY.fullmatch(w))] for s in (gpu_id, named))
    return not sizes or not told or abs(sizes[0] - told[0]) <= _MEMORY_RATIO * sizes[0]


def _form_fits(gpu_id: frozenset[str], named: frozenset[str]) -> bool:
    forms, told = ({w for w in s if _FORM.fullmatch(w)} for s in (gpu_id, named))
    return not forms or not told or bool(forms & told)
