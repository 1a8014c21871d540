"""What other tools call a kind of GPU, by what its name in the profiles begins with.

Sources: SkyPilot's catalogue (`sky show-gpus`), ray.util.accelerators, and the product labels that
NVIDIA's GPU feature discovery sets on nodes (nvidia.com/gpu.product). export.yaml overrules them.
"""

from __future__ import annotations

from dataclasses import dataclass

NVIDIA, AMD = "nvidia.com/gpu", "amd.com/gpu"
PRODUCT = "nvidia.com/gpu.product"


@dataclass(frozen=True)
class GpuNames:
    """One kind of GPU in the words of others; None: nobody knows."""

    resource: str = NVIDIA
    product: str | None = None
    skypilot: str | None = None
    ray: str | None = None


# The longest beginning that fits a name counts.
_KNOWN = {
    "a10": GpuNames(NVIDIA, "NVIDIA-A10", "A10", None),
    "a10g": GpuNames(NVIDIA, "NVIDIA-A10G", "A10G", "A10G"),
    "a100": GpuNames(NVIDIA, "NVIDIA-A100-SXM4-40GB", "A100", "A100"),
    "a100-sxm-40g": GpuNames(NVIDIA, "NVIDIA-A100-SXM4-40GB", "A100", "A100"),
    "a100-sxm-80g": GpuNames(NVIDIA, "NVIDIA-A100-SXM4-80GB", "A100-80GB", "A100"),
    "a100-pcie": GpuNames(NVIDIA, "NVIDIA-A100-PCIE-40GB", "A100", "A100"),
    "a100-pcie-80g": GpuNames(NVIDIA, "NVIDIA-A100-80GB-PCIe", "A100-80GB", "A100"),
    "b200": GpuNames(NVIDIA, "NVIDIA-B200", "B200", "B200"),
    "b300": GpuNames(NVIDIA, "NVIDIA-B300", None, "B300"),
    "gb200": GpuNames(NVIDIA, "NVIDIA-GB200", None, "GB200"),
    "h100": GpuNames(NVIDIA, "NVIDIA-H100-80GB-HBM3", "H100", "H100"),
    "h100-nvl": GpuNames(NVIDIA, "NVIDIA-H100-NVL", None, "H100"),
    "h100-pcie": GpuNames(NVIDIA, "NVIDIA-H100-PCIe", "H100", "H100"),
    "h200": GpuNames(NVIDIA, "NVIDIA-H200", "H200", "H200"),
    "h200-nvl": GpuNames(NVIDIA, "NVIDIA-H200-NVL", None, "H200"),
    "l4": GpuNames(NVIDIA, "NVIDIA-L4", "L4", "L4"),
    "l40s": GpuNames(NVIDIA, "NVIDIA-L40S", "L40S", "L40S"),
    "mi300x": GpuNames(AMD, None, "MI300X", "AMD-Instinct-MI300X-OAM"),
    "t4": GpuNames(NVIDIA, "Tesla-T4", "T4", "T4"),
    "v100": GpuNames(NVIDIA, "Tesla-V100-SXM2-16GB", "V100", "V100"),
}


def names_of(gpu: str) -> GpuNames:
    """Returns what others call a kind of GPU; nothing but its resource where it is not known."""
    name = gpu.lower()
    fits = [known for known in _KNOWN if name == known or name.startswith(f"{known}-")]
    return _KNOWN[max(fits, key=len)] if fits else GpuNames()
