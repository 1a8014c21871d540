"""What is to run, said once for all export targets: engines, hosted models, routes, settings.

Everything here follows from plan.json, the profiles of its pools and export.yaml; a target adds
nothing to it but the form. Shares are whole millionths, so that every format can be exact (§6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.export.gpu_names import Maker

MILLION = 1_000_000


@dataclass(frozen=True)
class Engine:
    """One pool of own replicas: how one replica is started, and how many there are.

    Counts that an engine takes per data-parallel rank (max_num_seqs, max_num_batched_tokens) are
    of one rank; kv_capacity_tokens is of all ranks of a replica.
    """

    pool: str
    model_name: str  # as the plan names it
    dns_name: str
    """Of the pool in Kubernetes, compose and host names: a label of RFC 1035, at most 50 long."""
    engine: str  # "vllm" or "sglang": what the files start
    measured_with: str | None  # the engine of the profile, as it names it, with its version
    image: str
    weights: str
    """Repository or path of the weights."""
    revision: str | None
    trust_remote_code: bool
    served_model_name: str  # what the engine calls the model; routes rename to it
    gpu: str
    gpu_resource: str  # e.g. nvidia.com/gpu
    node_selector: Mapping[str, str]
    replicas: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    gpus_per_replica: int  # whole GPUs that it sees, also where it shares them
    gpu_memory_ratio: float  # of each GPU's memory that the engine may take
    gpu_compute_ratio: float | None  # of each GPU where it is shared
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    max_model_len: int | None
    weight_precision: str | None
    kv_precision: str | None
    kv_capacity_tokens: int | None  # that the plan counts on, per replica
    prefix_caching: bool  # the plan counts on it; False: it is left to the engine
    port: int
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    """Of endpoints.yaml, where there is one: the base addresses (ending in /v1) of its replicas."""
    quantization: str | None = None  # that the engine makes of the weights as it loads them
    gpu_memory_gib: float = 80.0  # of one GPU
    gpus_per_node: int = 8
    weights_gib: float | None = None  # of one data-parallel rank: what is downloaded and loaded
    skypilot_gpu: str | None = None  # SkyPilot's name of the GPU
    ray_gpu: str | None = None  # Ray's accelerator type of it
    placement: tuple[tuple[int, ...], ...] = ()
    """GPUs of each replica, numbered over all nodes of the kind, where the plan says which."""
    served_aliases: tuple[str, ...] = ()
    """The plan's classes: the engine answers to their names, too, for gateways that rename nothing;
    to all of them, so that other shares restart no engine."""
    cached_input_ratio: float = 0.0  # largest of the classes that come here
    api_key_env: str | None = None
    """The variable with the key that it asks for, by endpoints.yaml; None: it asks for none."""
    maker: Maker | None = "nvidia"
    """Of its GPUs; None: neither NVIDIA nor AMD."""

    @property
    def n_gpus(self) -> int:
        """Returns the GPUs that all replicas see together."""
        return self.replicas * self.gpus_per_replica

    @property
    def n_nodes(self) -> int:
        """Returns the nodes that one replica needs."""
        return -(-self.gpus_per_replica // self.gpus_per_node)

    @property
    def startup_s(self) -> int:
        """Returns how long one may wait until a replica answers, in s; a patience, no forecast.

        Five minutes for graphs and kernels, and the weights at a quarter of a GiB per second; of
        weights that nobody knows, as many as the GPUs of a replica could hold.
        """
        weights_gib = self.weights_gib or self.gpus_per_replica * self.gpu_memory_gib
        return 60 * math.ceil((300 + 4 * weights_gib) / 60)

    @property
    def shm_gib(self) -> int:
        """Returns the shared memory that the GPUs of a replica talk through, in GiB."""
        return 2 if self.gpus_per_replica == 1 else 2 * self.gpus_per_replica + 8


@dataclass(frozen=True)
class HostedEngine:
    """One pool of somebody else's servers, paid by the request."""

    pool: str
    dns_name: str
    url: str | None  # base address ending in /v1; None: not known, the files say so
    model_name: str  # what the provider calls it
    api_key_env: str | None  # the environment variable that holds the key
    max_rps: float


@dataclass(frozen=True)
class ClassRoute:
    """Where the requests of one class go: pools with whole millionths.

    They sum to one million, except for what goes to cascades, which only `rb serve` can do.
    """

    class_name: str
    dns_name: str
    shares: tuple[tuple[str, int], ...]  # (pool, millionths), largest first
    fallback: tuple[str, ...]  # pools that the class may use, in the order they take over


@dataclass(frozen=True)
class Address:
    """How a request says which class it is of, and where it comes in."""

    namespace: str
    port: int  # of the gateway
    class_header: str  # e.g. x-rb-class
    gateway_name: str = "rb"
    gateway_class: str | None = None  # of the Gateway API; None: a target's own default
    hostname: str | None = None  # that clients ask for; None: any


@dataclass(frozen=True)
class Secret:
    """Where the token lies that downloads weights: a name and a key, never the token."""

    name: str
    key: str


@dataclass(frozen=True)
class Fleet:
    """All that runs by a plan (or by one of its periods), and who is routed where."""

    title: str
    plan_hash: str
    rb_version: str
    cost_usd_per_h: float  # of a period: what it is paid with, reserved GPUs included
    period: str | None  # of a plan with periods: which one this is
    engines: tuple[Engine, ...]
    hosted: tuple[HostedEngine, ...]
    routes: tuple[ClassRoute, ...]
    has_cascades: bool  # shares cannot say them: only `rb serve` can
    address: Address
    token_secret: Secret | None
    images: Mapping[str, str]  # by what they hold: vllm, sglang, rb
    plan_files: Mapping[str, str]
    """Text by name of what `rb serve` reads: routes.json, serving.json, plan.json."""
    notes: tuple[str, ...]
    """What was guessed or left out, one sentence each; in the files and on stderr."""
    token_env: str = "HF_TOKEN"  # how the engines' environment calls the token
    client_key_env: str | None = None
    """The variable with the key that clients of `rb serve` must send; None: it asks for none."""

    def engine(self, pool: str) -> Engine | None:
        """Returns the engine of a pool; None where it is hosted or not deployed."""
        return next((e for e in self.engines if e.pool == pool), None)

    @property
    def router_keys(self) -> tuple[str, ...]:
        """Returns the variables with keys that `rb serve` reads: of pools, and of its clients."""
        own = [engine.api_key_env for engine in self.engines]
        named = [*own, *(pool.api_key_env for pool in self.hosted), self.client_key_env]
        return tuple(dict.fromkeys(key for key in named if key))


@dataclass(frozen=True)
class File:
    """One file of an export: where it goes below the folder, and its text."""

    path: str
    text: str
