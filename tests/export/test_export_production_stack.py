"""The production stack: values of its chart, pool by pool, and the router in front of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from k8s_checks import Document, by_path, documents, expanded, of_kind, validate_core, validate_pod
from made_fleets import FLEETS, with_first

from planner.errors import InputError
from planner.export import helm_production_stack
from planner.export.engine_flags import vllm_flags
from planner.export.fleet import Engine, Fleet

REFUSED = {"sglang": "SGLang", "spanning": "span nodes"}


@pytest.fixture(params=("demo", "data-parallel", "hosted", "odd-names"))
def fleet(request: pytest.FixtureRequest) -> Fleet:
    return FLEETS[request.param]()


def values(fleet: Fleet) -> Document:
    (read,) = documents(by_path(helm_production_stack.files(fleet))["values.yaml"])
    return read


def router(fleet: Fleet) -> list[Document]:
    return documents(by_path(helm_production_stack.files(fleet))["router.yaml"])


def chart_args(model: Document) -> list[str]:
    """Returns the arguments that the chart's template makes of an entry of modelSpec."""
    config = model["vllmConfig"]
    flags = {
        "maxModelLen": "--max-model-len",
        "dtype": "--dtype",
        "tensorParallelSize": "--tensor-parallel-size",
        "maxNumSeqs": "--max-num-seqs",
        "gpuMemoryUtilization": "--gpu-memory-utilization",
    }
    prefix = "--enable-prefix-caching" if config["enablePrefixCaching"] else "--no-"
    args = [prefix]
    for key, flag in flags.items():
        if key in config:
            args += [flag, str(config[key])]
    revision = ["--revision", model["modelRevision"]] if "modelRevision" in model else []
    return [*args, *config["extraArgs"], *revision]


def pairs(args: list[str]) -> set[tuple[str, ...]]:
    """Returns flags with their values, whatever their order."""
    found: list[list[str]] = []
    for arg in args:
        if arg.startswith("--") or not found:
            found.append([arg])
        else:
            found[-1].append(arg)
    return {tuple(each) for each in found}


def test_the_chart_gives_vllm_every_flag_of_the_plan(fleet: Fleet) -> None:
    models = values(fleet)["servingEngineSpec"]["modelSpec"]
    for engine, model in zip(fleet.engines, models, strict=True):
        wanted = pairs([*vllm_flags(engine), "--served-model-name", engine.dns_name])
        given = pairs(expanded(chart_args(model)))
        assert wanted <= given <= wanted | {("--enable-prefix-caching",)}
        assert model["modelURL"] == engine.weights
        assert f"{model['repository']}:{model['tag']}" == engine.image
        assert model["replicaCount"] == engine.replicas


def test_pods_ask_for_the_gpus_of_a_replica(fleet: Fleet) -> None:
    for engine, model in zip(
        fleet.engines, values(fleet)["servingEngineSpec"]["modelSpec"], strict=True
    ):
        asked = model["resources"]
        for each in ("requests", "limits"):
            assert asked[each][engine.gpu_resource] == str(engine.gpus_per_replica)
        pod = {
            "containers": [
                {
                    "name": "vllm",
                    "image": engine.image,
                    "resources": asked,
                    "env": model.get("env", []),
                    "volumeMounts": model["extraVolumeMounts"],
                }
            ],
            "volumes": model["extraVolumes"],
            "tolerations": model["tolerations"],
        }
        if engine.node_selector:
            terms = {"nodeSelectorTerms": model["nodeSelectorTerms"]}
            required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
            pod["affinity"] = {"nodeAffinity": required}
        validate_pod({"spec": pod})


def test_the_slowest_pool_has_time_to_start(fleet: Fleet) -> None:
    probe = values(fleet)["servingEngineSpec"]["startupProbe"]
    patience_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert patience_s >= max(e.startup_s for e in fleet.engines)


def test_pods_are_tolerated_and_replaced_without_a_gap(fleet: Fleet) -> None:
    spec = values(fleet)["servingEngineSpec"]
    assert values(fleet)["routerSpec"]["routingLogic"] == "roundrobin"  # of the replicas of a pool
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    for model in spec["modelSpec"]:
        assert [t["key"] for t in model["tolerations"]] == ["nvidia.com/gpu"]
        assert model["pdb"] == {"enabled": True, "maxUnavailable": 1}
    (router_of_ours,) = of_kind(router(fleet), "Deployment")
    args = router_of_ours["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--no-admission" in args  # what stands behind one address cannot be counted


def test_engines_that_ask_for_a_key_are_refused(demo_fleet: Fleet) -> None:
    engine = replace(demo_fleet.engines[0], api_key_env="KEY")
    with pytest.raises(InputError, match="asks its clients for a key"):
        helm_production_stack.files(replace(demo_fleet, engines=(engine,)))


def test_probes_wait_for_a_busy_server(fleet: Fleet) -> None:
    spec = values(fleet)["servingEngineSpec"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert spec[probe]["timeoutSeconds"] >= 5  # Kubernetes would wait for 1 s
    liveness = spec["livenessProbe"]  # a restart loads the weights again: a minute of silence
    assert liveness["periodSeconds"] * liveness["failureThreshold"] == 60


def test_rb_serve_asks_the_stack_for_each_pool_by_its_name(fleet: Fleet) -> None:
    docs = router(fleet)
    assert validate_core(docs) == len(docs)
    (plan,) = of_kind(docs, "ConfigMap")
    endpoints = yaml.safe_load(plan["data"]["endpoints.yaml"])
    stack = f"http://rb-router-service.{fleet.address.namespace}.svc"
    for engine in fleet.engines:
        (server,) = endpoints[engine.pool]
        assert server == {"url": stack, "served_model_name": engine.dns_name, "metrics": "off"}
    names = [e.dns_name for e in fleet.engines]
    assert len(set(names)) == len(names)  # two pools of one model are two names to the stack


def test_long_names_leave_room_for_what_the_chart_adds(demo_fleet: Fleet) -> None:
    names = [f"{'a-very-long-name-of-a-pool-' * 2}"[:48] + f"{i}x" for i in range(3)]
    engines = [
        replace(e, dns_name=n, pool=n) for e, n in zip(demo_fleet.engines, names, strict=True)
    ]
    served = [helm_production_stack.served_name(e) for e in engines]
    assert len(set(served)) == 3
    assert all(len(f"rb-{name}-engine-service") <= 63 for name in served)


def test_comments_say_that_the_router_of_the_stack_has_no_weights(demo_fleet: Fleet) -> None:
    text = by_path(helm_production_stack.files(demo_fleet))["values.yaml"].text
    assert "router has no weights" in text


@pytest.mark.parametrize("image", ["vllm/vllm-openai", "registry:5000/vllm", "x@sha256:00"])
def test_an_image_without_a_tag_is_refused(demo_fleet: Fleet, image: str) -> None:
    engine: Engine = replace(demo_fleet.engines[0], image=image)
    with pytest.raises(InputError, match="tag"):
        helm_production_stack.files(replace(demo_fleet, engines=(engine,)))


@pytest.mark.parametrize(("kind", "why"), REFUSED.items())
def test_what_it_cannot_do_is_refused(kind: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        helm_production_stack.files(FLEETS[kind]())


def test_the_runtime_class_is_for_nvidias_pods_only(demo_fleet: Fleet) -> None:
    mixed = with_first(demo_fleet, maker="amd", gpu_resource="amd.com/gpu")
    first, *others = values(mixed)["servingEngineSpec"]["modelSpec"]
    assert first["runtimeClassName"] == ""
    assert first["resources"]["limits"]["amd.com/gpu"] == str(mixed.engines[0].tensor_parallel)
    assert not any("runtimeClassName" in model for model in others)
