"""The targets of `rb export`: what each writes, who routes by the plan's shares, how it was tried.

A target is a module with `files(fleet) -> tuple[File, ...]`; it is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from planner.errors import InputError
from planner.export.fleet import File, Fleet

RB_SERVE = "rb serve, whose files are included"


@dataclass(frozen=True)
class Target:
    """One tool that a plan can be written for."""

    name: str
    writes: str
    routes: str  # what sends requests to pools by the plan's shares
    validated: str  # by what, and what was not

    @property
    def module(self) -> str:
        """Returns the module that makes its files."""
        return f"planner.export.{self.name.replace('-', '_')}"

    def files(self, fleet: Fleet) -> tuple[File, ...]:
        """Returns the files of a fleet.

        Raises:
            InputError: the target cannot say what the plan orders.
        """
        make: Callable[[Fleet], tuple[File, ...]] = import_module(self.module).files
        return make(fleet)

    def limits(self) -> tuple[str, ...]:
        """Returns what the target does not do, one sentence each; none where `rb serve` routes."""
        if self.routes.startswith(RB_SERVE):
            return ()
        return (
            f"who routes: {self.routes}; only rb serve refuses what exceeds the plan, and chooses "
            "by prompt and load",
        )


TARGETS = (
    Target(
        "vllm",
        "start scripts per pool and per machine, the router's folder",
        RB_SERVE,
        "every command line by the argument parser of vLLM 0.32, scripts by bash; one run with "
        "vLLM 0.32 on a CPU, none on GPUs",
    ),
    Target(
        "sglang",
        "start scripts per pool and per machine, the router's folder",
        RB_SERVE,
        "every command line by the argument parser of SGLang 0.5.23, scripts by bash; not started",
    ),
    Target(
        "compose",
        "compose.yaml (one per machine where the plan needs several), .env, the router's folder",
        RB_SERVE,
        "docker compose config 2.26 and 2.40, word by word, the Compose Specification's schema and "
        "podman-compose config; nothing was started. Version 1 (until 2023) refuses the key name",
    ),
    Target(
        "kubernetes",
        "StatefulSets or LeaderWorkerSets, services, disruption budgets, a ConfigMap with the plan",
        RB_SERVE,
        "every document by the schemas of Kubernetes 1.37 (strict) and by kubectl kustomize, "
        "LeaderWorkerSet by its CRD; rb serve started on the ConfigMap; not applied to a cluster",
    ),
    Target(
        "helm-production-stack",
        "values.yaml of the chart vllm-stack, manifests of the router in front of it",
        "rb serve, whose files are included: the stack's own router has no weights",
        "values by the schema of chart 0.1.12 and by Helm 4's linter, what its templates make of "
        "them and the router by the schemas of Kubernetes 1.37; not installed",
    ),
    Target(
        "kserve",
        "an LLMInferenceService per pool, a Gateway, HTTPRoutes",
        "a controller of the Gateway API, by weight, between KServe's InferencePools",
        "the CRDs of KServe 0.20 and of the Gateway API 1.6, unknown fields forbidden, CEL rules "
        "evaluated; the pod merged with KServe's template by kubectl; not applied to a cluster",
    ),
    Target(
        "llm-d",
        "Deployments, values of the router's chart per pool, a Gateway, HTTPRoutes, rewrites",
        "a controller of the Gateway API, by weight, between InferencePools",
        "the schemas of Kubernetes 1.37, the CRDs of the Gateway API 1.6 and the llm-d router "
        "0.10; what its chart makes of the values by InferencePool's CRD; not applied to a cluster",
    ),
    Target(
        "dynamo",
        "a DynamoGraphDeployment per pool, manifests of the router in front of their frontends",
        RB_SERVE,
        "the CRD of DynamoGraphDeployment v1beta1 (2026-08-21), unknown fields forbidden, CEL "
        "rules evaluated; pods by the schemas of Kubernetes 1.37; not applied to a cluster",
    ),
    Target(
        "litellm",
        "config.yaml of the LiteLLM proxy",
        "LiteLLM, at random by weight; a class is a model name",
        "LiteLLM 1.106 run on it: 10,000 requests within what chance allows, "
        "fallbacks, streams, keys",
    ),
    Target(
        "envoy",
        "envoy.yaml: routes, retries, health checks, models renamed",
        "Envoy, at random by weight; a class is a header",
        "Envoy 1.40 run on it: 10,000 requests within what chance allows, "
        "fallbacks, streams, renaming, keys",
    ),
    Target(
        "envoy-ai-gateway",
        "ai-gateway.yaml: a route per class, a backend per pool",
        "Envoy AI Gateway, by weight; a class is a model name",
        "the schemas and CEL rules of Envoy AI Gateway, Envoy Gateway and Gateway API; not run",
    ),
    Target(
        "gateway-api",
        "gateway.yaml: a Gateway, an HTTPRoute per class",
        "any controller of the Gateway API, by weight; a class is a header",
        "the schemas and CEL rules of the Gateway API; not run",
    ),
    Target(
        "ray-serve",
        "serve.yaml: an application of ray.serve.llm per pool; the router's folder",
        RB_SERVE,
        "ServeDeploySchema and LLMConfig of Ray 2.60, engine arguments by vLLM 0.32; not deployed",
    ),
    Target(
        "skypilot",
        "a SkyServe service per pool, a task for the router, up.sh for all of it",
        RB_SERVE,
        "Task.from_yaml of SkyPilot 0.14, up.sh with a sky that writes down what it hears; nothing "
        "was rented",
    ),
)


def names() -> tuple[str, ...]:
    """Returns the names of all targets, in the order of the manual."""
    return tuple(target.name for target in TARGETS)


def target_of(name: str) -> Target:
    """Returns the target of a name.

    Raises:
        InputError: there is none; names the nearest one.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    from planner.files.faults import unknown_name

    raise InputError([unknown_name("--to", "", name, names(), "target")])


def refuse_cascades(fleet: Fleet, target: str) -> None:
    """Returns where shares say all that the plan orders.

    Raises:
        InputError: some requests go through a cascade, which a gateway's weights cannot do.
    """
    if fleet.has_cascades:
        what = f"sends requests through cascades, which the weights of {target} cannot do"
        fix = "serve it with rb serve: export to compose or kubernetes, or plan with cascades: off"
        raise InputError.single("plan.json", "cascades", what, fix)
