"""GPUs as tools name them, as ids of gpus.yaml."""

import pytest

from planner.profile.gpu_names import matching_gpus

IDS = ("a10-24g", "a100-pcie-80g", "a100-sxm-40g", "a100-sxm-80g", "b200-sxm-180g",
       "h100-pcie-80g", "h100-sxm-80g", "h200-sxm-141g", "l4-24g", "l40s-48g", "rtx-4090-24g",
       "mi300x-oam-192g")  # fmt: skip

CLEAR = [
    ("h100-sxm-80g", "h100-sxm-80g"),
    ("H100_SXM_80GB", "h100-sxm-80g"),
    ("NVIDIA H100 PCIe", "h100-pcie-80g"),
    ("NVIDIA A100-SXM4-80GB", "a100-sxm-80g"),
    ("NVIDIA A100 80GB PCIe", "a100-pcie-80g"),
    ("A100-SXM4-40GB", "a100-sxm-40g"),
    ("NVIDIA A10", "a10-24g"),
    ("NVIDIA H200", "h200-sxm-141g"),
    ("NVIDIA H200 141GB HBM3e", "h200-sxm-141g"),
    ("NVIDIA B200 183GB", "b200-sxm-180g"),
    ("NVIDIA L4", "l4-24g"),
    ("NVIDIA L40S", "l40s-48g"),
    ("NVIDIA GeForce RTX 4090", "rtx-4090-24g"),
    ("AMD Instinct MI300X OAM", "mi300x-oam-192g"),
]


@pytest.mark.parametrize(("named", "expected"), CLEAR)
def test_a_clear_name_has_one_id(named, expected):
    assert matching_gpus(named, IDS) == (expected,)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", ("h100-pcie-80g", "h100-sxm-80g")),
        ("A100", ("a100-pcie-80g", "a100-sxm-40g", "a100-sxm-80g")),
        ("A100 80GB", ("a100-pcie-80g", "a100-sxm-80g")),
    ],
)
def test_an_unclear_name_has_all_its_candidates(named, expected):
    assert matching_gpus(named, IDS) == expected


def test_what_is_ambiguous_depends_on_what_is_known():
    assert matching_gpus("NVIDIA H100 80GB HBM3", ("h100-sxm-80g",)) == ("h100-sxm-80g",)


@pytest.mark.parametrize(
    "named", ["cpu", "", "NVIDIA", "V100", "GH200", "A100 20GB", "4090", "sxm"]
)
def test_an_unknown_name_has_none(named):
    assert matching_gpus(named, IDS) == ()


def test_every_id_is_clear_by_its_own_name():
    assert [matching_gpus(name, IDS) for name in IDS] == [(name,) for name in IDS]
