"""Ready fleets for the tests of every target: of the demo's plan, and with one oddity each."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import cache
from pathlib import Path

from hand_plan import ROOT

from planner.export.fleet import MILLION, ClassRoute, Fleet, HostedEngine
from planner.export.fleet_of import Source, fleet_of
from planner.files.inputs import read_inputs
from planner.files.plans import need_plan
from planner.files.sheets import read_sheet
from planner.spec.export import ExportSettings
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Route
from planner.spec.pool import Pool
from planner.spec.sheet import ServingSheet

DEMO_PLAN = ROOT / "tests" / "demo_plan"
SETTINGS = ExportSettings.model_validate(
    {
        "models": {
            "llama-3.1-70b": {"weights": "meta-llama/Llama-3.1-70B-Instruct", "revision": "main"},
            "llama-3.1-8b": {"weights": "meta-llama/Llama-3.1-8B-Instruct"},
        },
        "namespace": "llm",
    }
)


@cache
def demo_inputs() -> Inputs:
    """The demo's question and profiles."""
    return read_inputs(ROOT / "plans" / "demo", ROOT / "profiles")


@cache
def _plan(folder: Path) -> Plan:
    return need_plan(folder)


@cache
def _sheet(folder: Path) -> ServingSheet | None:
    return read_sheet(folder, [])


def demo_source(settings: ExportSettings = SETTINGS, folder: Path = DEMO_PLAN) -> Source:
    """What an export of the demo's plan is made of."""
    inputs = demo_inputs()
    return Source(
        plan=_plan(folder),
        profiles=inputs.profiles.by_name(),
        files=inputs.files,
        sheet=_sheet(folder),
        settings=settings,
    )


def with_pool(source: Source, name: str, **changes: object) -> Source:
    """The demo with one pool that is another."""
    profile = source.profiles[name]
    pool = Pool.model_validate({**profile.pool.model_dump(), **changes})
    profiles = {**source.profiles, name: replace(profile, pool=pool)}
    return replace(source, profiles=profiles)


def settings(**changes: object) -> ExportSettings:
    return ExportSettings.model_validate({**SETTINGS.model_dump(), **changes})


@cache
def demo_fleet() -> Fleet:
    """The demo's plan: three pools on two kinds of GPU, three classes; weights are named."""
    return fleet_of(demo_source())


@cache
def guessed_fleet() -> Fleet:
    """The demo's plan without export.yaml: all that can be guessed is guessed."""
    return fleet_of(demo_source(ExportSettings()))


def with_first(fleet: Fleet, **changes: object) -> Fleet:
    """A fleet whose first engine is another."""
    first = dataclasses.replace(fleet.engines[0], **changes)  # type: ignore[arg-type]
    return replace(fleet, engines=(first, *fleet.engines[1:]))


@cache
def sglang_fleet() -> Fleet:
    """The demo's plan, every pool started with SGLang."""
    return fleet_of(demo_source(), engine="sglang")


@cache
def shared_fleet() -> Fleet:
    """Its 8B: two replicas that share one GPU, half of it each."""
    fleet = demo_fleet()
    *others, small = fleet.engines
    halves = replace(
        small,
        replicas=2,
        gpu_compute_ratio=0.5,
        gpu_memory_ratio=0.45,
        placement=((8,), (8,)),
    )
    return replace(fleet, engines=(*others, halves))


@cache
def data_parallel_fleet() -> Fleet:
    """Its first pool: two data-parallel ranks of two GPUs, and two pipeline stages."""
    return with_first(
        demo_fleet(), pipeline_parallel=2, data_parallel=2, gpus_per_replica=8, replicas=1
    )


@cache
def spanning_fleet() -> Fleet:
    """Its first pool: one replica over two nodes of eight GPUs."""
    return with_first(
        demo_fleet(), tensor_parallel=8, pipeline_parallel=2, gpus_per_replica=16, replicas=1
    )


HOSTED = HostedEngine(
    pool="gpt-hosted",
    dns_name="gpt-hosted",
    url="https://api.example.com/v1",
    model_name="gpt-x-mini",
    api_key_env="PROVIDER_API_KEY",
    max_rps=20.0,
)


@cache
def hosted_fleet() -> Fleet:
    """A tenth of gsm goes to somebody else's servers."""
    fleet = demo_fleet()
    gsm, *others = fleet.routes
    shares = tuple(
        (pool, n - (MILLION // 10 if i == 0 else 0)) for i, (pool, n) in enumerate(gsm.shares)
    )
    routed = replace(gsm, shares=(*shares, (HOSTED.pool, MILLION // 10)))
    return replace(fleet, hosted=(HOSTED,), routes=(routed, *others))


@cache
def cascade_fleet() -> Fleet:
    """Some of its requests go through a cascade, which no share can say."""
    return replace(demo_fleet(), has_cascades=True)


@cache
def odd_names_fleet() -> Fleet:
    """Names of every allowed kind, a title that would break comments, YAML and scripts."""
    fleet = demo_fleet()
    title = "a'b\"c: #{$(rm -rf /)} `x`\n--- !!python/object\x07 ]]> {{ .Values.x }}"
    route = fleet.routes[0]
    odd = ClassRoute("No", "no", route.shares, route.fallback)
    return replace(
        with_first(fleet, extra_args=("--a=b'c$(x)`y`", '{"k":"v"}'), env={"A_B": "x y'\"$z\n#"}),
        title=title,
        plan_hash="3324e394" * 8,
        routes=(odd, *fleet.routes[1:]),
    )


@cache
def small_fleet() -> Fleet:
    """All of it fits one node: two replicas of the 8B and one of the 70B on eight H100."""
    source = demo_source()
    plan, replicas = source.plan, {"llama-3.1-70b-h100-tp4": 1, "llama-3.1-8b-h100": 2}
    big, small = replicas
    shares = {("gsm", big): 0.7, ("gsm", small): 0.3, ("crux", big): 1.0, ("math-l5", small): 1.0}
    fewer = plan.model_copy(
        update={
            "deployment": tuple(
                d.model_copy(update={"replicas": replicas[d.pool]})
                for d in plan.deployment
                if d.pool in replicas
            ),
            "routing": tuple(
                Route.model_validate({"class": name, "pool": pool, "share": share})
                for (name, pool), share in shares.items()
            ),
            "predicted": plan.predicted.model_copy(
                update={"pools": tuple(p for p in plan.predicted.pools if p.pool in replicas)}
            ),
        }
    )
    return fleet_of(replace(source, plan=fewer, sheet=None))


FLEETS = {
    "demo": demo_fleet,
    "guessed": guessed_fleet,
    "sglang": sglang_fleet,
    "shared": shared_fleet,
    "data-parallel": data_parallel_fleet,
    "spanning": spanning_fleet,
    "hosted": hosted_fleet,
    "odd-names": odd_names_fleet,
    "small": small_fleet,
}
"""Every fleet that has no cascade, by name: what a target must not stumble over."""
