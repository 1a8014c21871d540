from __future__ import annotations

from importlib.util import find_spec

import pytest
from made_fleets import cascade_fleet, demo_fleet

from planner.errors import InputError
from planner.export.gpu_names import AMD, NVIDIA, GpuNames, maker_of, names_of
from planner.export.targets import RB_SERVE, TARGETS, names, refuse_cascades, target_of

ISSUED = {
    "vllm", "sglang", "compose", "kubernetes", "helm-production-stack", "kserve", "llm-d", "dynamo",
    "litellm", "envoy-ai-gateway", "gateway-api", "ray-serve", "skypilot",
}  # fmt: skip


def test_every_target_that_is_promised_is_there():
    assert set(names()) >= ISSUED
    assert len(set(names())) == len(names())
    assert all(find_spec(target.module) is not None for target in TARGETS)


def test_every_target_says_what_it_writes_and_how_it_was_tried():
    for target in TARGETS:
        assert target.writes and target.routes and target.validated
        assert "see its files" not in target.routes


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"did you mean kubernetes\?"):
        target_of("kubernets")


def test_a_target_without_rb_serve_says_what_it_does_not_do():
    for target in TARGETS:
        said = " ".join(target.limits())
        assert ("only rb serve refuses" in said) == (RB_SERVE not in target.routes)
        assert said == "" or target.routes in said


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_cascades_go_to_rb_serve_or_nowhere(target):
    """Weights cannot say them: a target without `rb serve` must not drop them silently."""
    if RB_SERVE in target.routes:
        assert target.files(cascade_fleet())
        return
    with pytest.raises(InputError, match="cascades"):
        target.files(cascade_fleet())


def test_a_plan_without_cascades_is_refused_by_none():
    refuse_cascades(demo_fleet(), "litellm")
    with pytest.raises(InputError, match="the weights of litellm cannot do"):
        refuse_cascades(cascade_fleet(), "litellm")


@pytest.mark.parametrize(
    ("gpu", "skypilot", "product"),
    [
        ("h100-sxm-80g", "H100", "NVIDIA-H100-80GB-HBM3"),
        ("h100-pcie-80g", "H100", "NVIDIA-H100-PCIe"),
        ("a100-sxm-80g", "A100-80GB", "NVIDIA-A100-SXM4-80GB"),
        ("a100-40g", "A100", None),  # of SXM or PCIe: both have 40 GB
        ("a100-sxm4-80g", "A100-80GB", "NVIDIA-A100-SXM4-80GB"),  # as rb profile gpu writes it
        ("a100-80g", "A100-80GB", None),
        ("a100", None, None),
        ("v100-sxm2-32g", "V100-32GB", "Tesla-V100-SXM2-32GB"),
        ("h100", "H100", None),
        ("h100-80g-hbm3", "H100", "NVIDIA-H100-80GB-HBM3"),
        ("h200-140g", "H200", "NVIDIA-H200"),
        ("B200-sxm-180g", "B200", "NVIDIA-B200"),
        ("gb200-186g", None, "NVIDIA-GB200"),
        ("b300-288g", None, "NVIDIA-B300"),
        ("v100-pcie-16g", "V100", "Tesla-V100-PCIE-16GB"),
        ("v100-pcie-32g", "V100-32GB", "Tesla-V100-PCIE-32GB"),
        ("v100-sxm2-16g", "V100", "Tesla-V100-SXM2-16GB"),
        ("t4-15g", "T4", "Tesla-T4"),
        ("l4", "L4", "NVIDIA-L4"),
        ("l40s-48g", "L40S", "NVIDIA-L40S"),
        ("h100-nvl-94g", None, "NVIDIA-H100-NVL"),
        ("h200-nvl", None, "NVIDIA-H200-NVL"),
        ("a100-pcie-40g", "A100", "NVIDIA-A100-PCIE-40GB"),
        ("a100-pcie-80g", "A100-80GB", "NVIDIA-A100-80GB-PCIe"),
        ("a10-24g", "A10", "NVIDIA-A10"),
        ("a10g", "A10G", "NVIDIA-A10G"),
        ("h1000", None, None),
        ("tpu-v6e", None, None),
    ],
)
def test_a_gpu_is_called_what_others_call_it(gpu, skypilot, product):
    called = names_of(gpu)
    assert (called.skypilot, called.product) == (skypilot, product)


@pytest.mark.parametrize(
    ("gpu", "maker", "resource"),
    [
        ("h100-sxm-80g", "nvidia", NVIDIA),
        ("rtx-4090-24g", "nvidia", NVIDIA),
        ("m40-24g", "nvidia", NVIDIA),
        ("mi300x-oam-192g", "amd", AMD),
        ("instinct-mi355x-288g", "amd", AMD),  # as rb profile gpu writes it
        ("Radeon-RX-7900-XTX", "amd", AMD),
        ("apple-m3-ultra-512g", None, NVIDIA),
        ("m4-max", None, NVIDIA),
        ("gaudi-3", None, NVIDIA),
        ("tpu-v6e", None, NVIDIA),
        ("x86-64-processor-avx2-2-threads-8g", None, NVIDIA),
    ],
)
def test_a_gpu_of_another_maker_is_not_nvidia_s(gpu, maker, resource):
    assert (maker_of(gpu), names_of(gpu).resource) == (maker, resource)


def test_a_gpu_that_nobody_knows_has_no_names():
    assert names_of("mi325x-256g") == GpuNames(AMD)
    assert names_of("mi300x").ray == "AMD-Instinct-MI300X-OAM"
    assert names_of("a100").ray == names_of("a100-pcie-80g").ray == "A100"
