"""A real engine: llama.cpp serving a tiny model, four requests at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

SLOTS = 4


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the path of a tiny model; skips where the packages that make it are missing."""
    for package in ("xllamacpp", "gguf", "tokenizers", "safetensors"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra dev)")
    from tiny_model import make

    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def llamacpp_url(tiny_gguf: Path) -> Iterator[str]:
    """Yields the base URL of a running server."""
    from llamacpp import serving

    with serving(tiny_gguf, slots=SLOTS) as url:
        yield url
