"""What only a deployment knows (export.yaml): weights, images, labels of nodes, names of secrets.

A plan says how many replicas of which pool run with which engine settings. Where their weights
lie, what a cluster calls its GPUs and where its token is kept is nobody's business but the
cluster's; all of it has a default, and what was guessed is said in the files. Keys and tokens never
stand here: they are named.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from planner.spec.base import Name, PositiveCount, Spec, Text

DnsLabel = Annotated[
    str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", min_length=1, max_length=63)
]
Variable = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", min_length=1, max_length=120)
]
Word = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=500)]
"""One word of a command line or a file: printable ASCII without blanks."""
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]+$", min_length=1, max_length=80)
]
Port = Annotated[int, Field(ge=1, le=65_535, strict=True)]
EngineName = Literal["vllm", "sglang"]
"""The engines that can be started."""
ImageName = Literal["vllm", "sglang", "rb"]
"""What a container image is named for."""

_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?$", re.IGNORECASE)
_KEYS_IN_ARGS = frozenset({"--api-key", "--admin-api-key", "--hf-token"})
_WRITTEN_ARGS = frozenset({"--host", "--port", "--served-model-name", "--model", "--model-path"})
"""Of an engine's command line: what the routes lead to, so nobody may say it otherwise."""


def _from_the_root(weights: str) -> str:
    """Returns weights that mean the same wherever an engine is started."""
    if weights.startswith((".", "~")):
        raise ValueError("must be a repository, or a path from the root (/...), as nodes have it")
    return weights


Weights = Annotated[Word, AfterValidator(_from_the_root)]


class ModelExport(Spec):
    """Where the weights of one model are, and what it may be asked."""

    weights: Weights | None = None
    """A repository (org/name) or a path that every node has. Default: the model's name, a guess."""
    revision: Word | None = None
    """Branch, tag or commit of the repository. Default: its newest."""
    max_model_len: PositiveCount | None = None
    """Most tokens of one request, prompt and answer. Default: see the manual of rb export."""
    trust_remote_code: bool = False
    """Whether code of the repository may run."""


class PoolExport(Spec):
    """What one pool needs beside the plan; where it names the same as its model, it counts."""

    weights: Weights | None = None
    """Of this pool: e.g. a repository of weights in fp8. Default: those of its model."""
    revision: Word | None = None
    """Of this pool's repository."""
    quantization: Word | None = None
    """What the engine makes of unquantised weights as it loads them, in its own words: fp8."""
    max_model_len: PositiveCount | None = None
    """Of this pool. Default: that of its model."""
    engine: EngineName | None = None
    """vllm or sglang. Default: the one it was measured with, else vllm."""
    image: Word | None = None
    """Container image of the engine. Default: the public one of the measured version."""
    gpu_memory_ratio: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    """Of each GPU's memory that the engine may take. Default: 0.9, or the pool's part of it."""
    extra_args: tuple[Word, ...] = ()
    """Further words of the engine's command line; they come last, so they win."""
    node_selector: dict[Word, Word] = Field(default_factory=dict)
    """Labels of the nodes that it may run on, in Kubernetes. Default: those of its GPU."""
    env: dict[Variable, Text] = Field(default_factory=dict)
    """Environment variables of the engine; no keys and no tokens."""

    @model_validator(mode="after")
    def _leaves_keys_and_routes(self) -> PoolExport:
        # About the whole entry, so that no message repeats what may be a key.
        for word in self.extra_args:
            flag = word.partition("=")[0].replace("_", "-").lower()
            if flag in _KEYS_IN_ARGS:
                named = "name api_key_env in endpoints.yaml, or token_env"
                raise ValueError(f"extra_args must hold no secrets such as {flag}: {named}")
            if flag in _WRITTEN_ARGS:
                raise ValueError(f"extra_args must leave {flag} alone: routes lead to what is set")
        return self

    @field_validator("env")
    @classmethod
    def _holds_no_secret(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if _SECRET.search(name):
                # The message names the variable only, never what it holds.
                raise ValueError(f"no secrets stand here: {name} looks like one, see token_secret")
        return env


class GpuExport(Spec):
    """What other tools call one kind of GPU."""

    resource: Word | None = None
    """The resource that a Kubernetes node offers. Default: nvidia.com/gpu, or amd.com/gpu."""
    node_selector: dict[Word, Word] | None = None
    """Labels of its nodes in Kubernetes. Default: the product's name, as NVIDIA labels it."""
    skypilot: Word | None = None
    """SkyPilot's name of it."""
    ray: Word | None = None
    """Ray's accelerator type of it."""


class SecretName(Spec):
    """Where a cluster keeps the token that downloads weights."""

    name: DnsLabel
    """Of the secret."""
    key: Word = "token"
    """Of the entry in it."""


class GatewayExport(Spec):
    """Where requests come in, for targets with a gateway of their own."""

    name: DnsLabel = "rb"
    """Of the gateway in the cluster."""
    gateway_class: Word | None = None
    """Of the Gateway API: which controller runs it. Default: the target's."""
    hostname: Word | None = None
    """That clients ask for. Default: any."""


class ExportSettings(Spec):
    """What only a deployment knows, of all targets; every key may be left out."""

    version: Literal[1] = 1
    """Of this file kind."""
    models: dict[Name, ModelExport] = Field(default_factory=dict)
    """By model name of the plan."""
    pools: dict[Name, PoolExport] = Field(default_factory=dict)
    """By pool of the plan."""
    gpus: dict[Name, GpuExport] = Field(default_factory=dict)
    """By GPU name of the profiles."""
    images: dict[ImageName, Word] = Field(default_factory=dict)
    """Container images by what they hold. Default: the engines' public ones, a built one of rb."""
    namespace: DnsLabel = "default"
    """Of the cluster."""
    token_secret: SecretName | None = None
    """Of the token that downloads weights. Default: secret `huggingface`, key `token`."""
    token_env: Variable = "HF_TOKEN"
    """Environment variable that holds this token, where there is no cluster."""
    port: Port = 8000
    """Where clients reach the gateway or router."""
    client_key_env: Variable | None = None
    """Environment variable with the key that clients of `rb serve` must send. Default: anybody who
    reaches it is answered."""
    class_header: HeaderName = "x-rb-class"
    """Header in which a request says its class, where a gateway looks at headers; lower case."""
    gateway: GatewayExport = GatewayExport()
    """Where requests come in."""
