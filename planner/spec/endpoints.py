"""Where models are served (endpoints.yaml): addresses, and names of keys, never the keys."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from planner.spec.base import Spec, Text

_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^\s#]*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Server(Spec):
    """One OpenAI-compatible server of a pool or a model."""

    url: Text
    served_model_name: Text | None = None  # default: the name of the pool or the model
    api_key_env: Text | None = None  # the environment variable that holds the key
    data_parallel_ranks: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    """Engines behind this one address that a request may name (X-data-parallel-rank)."""
    metrics: Text | None = None
    """Where its /metrics page is, or "off"; default: at the root of its address."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _off_is_a_word(cls, metrics: object) -> object:
        return "off" if metrics is False else metrics  # YAML reads a bare off as false

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Server:
        # About the whole entry, so that no message repeats what may be a password or a key.
        if "@" in self.url or "?" in self.url:
            raise ValueError("url must hold no user, password or query: name api_key_env instead")
        if not _URL.fullmatch(self.url):
            raise ValueError("url must be an address such as http://localhost:8000")
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            raise ValueError("api_key_env must be the name of an environment variable, not a key")
        if self.metrics not in (None, "off") and ("@" in self.metrics or "?" in self.metrics):
            raise ValueError("metrics must hold no user, password or query")
        if self.metrics not in (None, "off") and not _URL.fullmatch(self.metrics):
            raise ValueError("metrics must be off, or an address as http://localhost:8000/metrics")
        return self
