from __future__ import annotations

from importlib.util import find_spec

import pytest
from made_fleets import cascade_fleet, demo_fleet

from planner.errors import InputError
from planner.export.gpu_names import names_of
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
        ("a100-40g", "A100", "NVIDIA-A100-SXM4-40GB"),
        ("B200-sxm-180g", "B200", "NVIDIA-B200"),
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
