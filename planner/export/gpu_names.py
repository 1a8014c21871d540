"""What other tools call a kind of GPU, as far as its name in the profiles tells.

Sources: SkyPilot's catalogue (`sky show-gpus`), ray.util.accelerators, and the product labels that
NVIDIA's GPU feature discovery sets on nodes (nvidia.com/gpu.product). export.yaml overrules them.
A name that may be of several kinds ("a100": with 40 or 80 GB?) has only what all of them share.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from planner.profile.gpu_names import matching_gpus

Maker = Literal["nvidia", "amd"]
"""Whose GPUs the engines' images are built for, each with an image of its own."""
NVIDIA, AMD = "nvidia.com/gpu", "amd.com/gpu"
PRODUCT = "nvidia.com/gpu.product"


@dataclass(frozen=True)
class GpuNames:
    """One kind of GPU in the words of others; None: nobody knows."""

    resource: str = NVIDIA
    product: str | None = None
    skypilot: str | None = None
    ray: str | None = None


# Memory stands in a name where there are several; what makes the rest of it is in the name.
_KNOWN = {
    "a10": GpuNames(NVIDIA, "NVIDIA-A10", "A10", None),
    "a10g": GpuNames(NVIDIA, "NVIDIA-A10G", "A10G", "A10G"),
    "a100-sxm-40g": GpuNames(NVIDIA, "NVIDIA-A100-SXM4-40GB", "A100", "A100"),
    "a100-sxm-80g": GpuNames(NVIDIA, "NVIDIA-A100-SXM4-80GB", "A100-80GB", "A100"),
    "a100-pcie-40g": GpuNames(NVIDIA, "NVIDIA-A100-PCIE-40GB", "A100", "A100"),
    "a100-pcie-80g": GpuNames(NVIDIA, "NVIDIA-A100-80GB-PCIe", "A100-80GB", "A100"),
    "b200": GpuNames(NVIDIA, "NVIDIA-B200", "B200", "B200"),
    "b300": GpuNames(NVIDIA, "NVIDIA-B300", None, "B300"),
    "gb200": GpuNames(NVIDIA, "NVIDIA-GB200", None, "GB200"),
    "h100-sxm": GpuNames(NVIDIA, "NVIDIA-H100-80GB-HBM3", "H100", "H100"),
    "h100-hbm3": GpuNames(NVIDIA, "NVIDIA-H100-80GB-HBM3", "H100", "H100"),
    "h100-pcie": GpuNames(NVIDIA, "NVIDIA-H100-PCIe", "H100", "H100"),
    "h100-nvl": GpuNames(NVIDIA, "NVIDIA-H100-NVL", None, "H100"),
    "h200": GpuNames(NVIDIA, "NVIDIA-H200", "H200", "H200"),
    "h200-nvl": GpuNames(NVIDIA, "NVIDIA-H200-NVL", None, "H200"),
    "l4": GpuNames(NVIDIA, "NVIDIA-L4", "L4", "L4"),
    "l40s": GpuNames(NVIDIA, "NVIDIA-L40S", "L40S", "L40S"),
    "mi300x": GpuNames(AMD, None, "MI300X", "AMD-Instinct-MI300X-OAM"),
    "t4": GpuNames(NVIDIA, "Tesla-T4", "T4", "T4"),
    "v100-pcie-16g": GpuNames(NVIDIA, "Tesla-V100-PCIE-16GB", "V100", "V100"),
    "v100-pcie-32g": GpuNames(NVIDIA, "Tesla-V100-PCIE-32GB", "V100-32GB", "V100"),
    "v100-sxm2-16g": GpuNames(NVIDIA, "Tesla-V100-SXM2-16GB", "V100", "V100"),
    "v100-sxm2-32g": GpuNames(NVIDIA, "Tesla-V100-SXM2-32GB", "V100-32GB", "V100"),
}
_AMD = re.compile(r"amd|instinct|radeon|mi\d{2,3}[a-z]?")
_OTHERS = re.compile(
    r"apple|m[1-9]|intel|gaudi\d*|arc|tpu|v\d[ep]|trainium\d*|trn\d|inferentia\d*|inf\d|ascend\w*"
    r"|cpu|processor"
)
"""Words in names of what runs models and is no GPU of NVIDIA or AMD: Apple's M3, Gaudi, TPUs."""


def names_of(gpu: str) -> GpuNames:
    """Returns what others call a kind of GPU; nothing but its resource where it is not known."""
    fits = matching_gpus(gpu, _KNOWN)
    words = set(_words(gpu))
    said = [known for known in fits if set(_words(known)) <= words]  # every word of it is there
    if said:
        return _KNOWN[max(said, key=lambda known: len(_words(known)))]
    if fits:
        return _shared([_KNOWN[known] for known in fits])
    return GpuNames(AMD) if maker_of(gpu) == "amd" else GpuNames()


def maker_of(gpu: str) -> Maker | None:
    """Returns who makes a kind of GPU: NVIDIA unless its name says another; None: none of them."""
    words = _words(gpu)
    if any(_AMD.fullmatch(word) for word in words):
        return "amd"
    return None if any(_OTHERS.fullmatch(word) for word in words) else "nvidia"


def _shared(kinds: Sequence[GpuNames]) -> GpuNames:
    """Returns the names that all of some kinds have, as far as any has one."""
    told = {f.name: {getattr(kind, f.name) for kind in kinds} - {None} for f in fields(GpuNames)}
    return replace(GpuNames(), **{n: min(every) for n, every in told.items() if len(every) == 1})


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
