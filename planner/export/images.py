"""Container images of the engines and of `rb`, and what pip installs of `rb`.

Public images of an engine are named after its version; those for AMD's GPUs are others. Sources:
Docker Hub's vllm/vllm-openai-rocm (one tag per release since 0.14.0) and lmsysorg/sglang, whose
tags for AMD's GPUs also name ROCm and a series of GPUs (v0.5.18-rocm720-mi35x).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from planner.export.fleet import Engine
from planner.export.gpu_names import Maker
from planner.spec.export import EngineName

VLLM_VERSION, SGLANG_VERSION = "0.32.0", "0.5.23"
"""Of the images, where a pool was not measured with the engine or nobody wrote down with which."""
_VERSIONS: dict[EngineName, str] = {"vllm": VLLM_VERSION, "sglang": SGLANG_VERSION}
_REPOSITORIES: dict[EngineName, str] = {"vllm": "vllm/vllm-openai", "sglang": "lmsysorg/sglang"}
_VLLM_ON_AMD = "vllm/vllm-openai-rocm"
_FIRST_VLLM_ON_AMD = (0, 14, 0)
_SGLANG_ROCM = "rocm720"
_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(\.post\d+)?")


def rb_image(rb_version: str) -> str:
    """Returns what the image with `rb` is called where export.yaml names none."""
    return f"rb-planner:{rb_version}"


def rb_requirement(rb_version: str) -> str:
    """Returns what pip installs for the router."""
    return f"rb-planner[fast]=={rb_version}"


def engine_image(
    name: EngineName, version: str | None, gpu: str, maker: Maker | None
) -> tuple[str, str | None]:
    """Returns the public image of an engine for a kind of GPU, and what is doubtful about it.

    Args:
        name: of the engine.
        version: that a pool was measured with; None: not with this engine, or nobody knows.
        gpu: the kind that it runs on.
        maker: of the GPU; None: neither NVIDIA nor AMD.
    """
    release = _RELEASE.fullmatch(version or "")
    has_image = release is not None and (
        (name, maker) != ("vllm", "amd")
        or tuple(int(release[i]) for i in (1, 2, 3)) >= _FIRST_VLLM_ON_AMD
    )
    tag = f"v{_VERSIONS[name]}"
    if release is not None and has_image:
        tag = f"v{release[0].removeprefix('v')}"
    said = []
    if version is not None and not has_image:
        where = " for AMD's GPUs" if release is not None else ""
        said.append(f"there is no public image of {name} {version}{where}")
    if maker == "amd" and name == "sglang":
        tag = f"{tag}-{_SGLANG_ROCM}-{'mi35x' if 'mi35' in gpu.lower() else 'mi30x'}"
        said.append(
            f"images of sglang for AMD's GPUs are named after ROCm, {_SGLANG_ROCM} is a guess"
        )
    if maker is None:
        said.append(f"images of {name} are for GPUs of NVIDIA and AMD, and {gpu} is neither")
    repository = _VLLM_ON_AMD if (name, maker) == ("vllm", "amd") else _REPOSITORIES[name]
    return f"{repository}:{tag}", "; ".join(said) or None


def mixed_makers(engines: Iterable[Engine]) -> Iterator[str]:
    """Yields what is wrong where one image is to run on GPUs of several makers."""
    gpus: dict[str, dict[str, str]] = {}
    for engine in engines:
        gpus.setdefault(engine.image, {}).setdefault(engine.maker or "neither", engine.gpu)
    for image, of in gpus.items():
        if len(of) > 1:
            yield (
                f"the image {image} is to run on {' and '.join(sorted(of.values()))}, and an image "
                "is built for one maker's GPUs: give pools: {POOL: {image: ...}} in export.yaml"
            )
