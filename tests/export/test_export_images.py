"""Which image an engine gets: of the measured version, and for the maker of its GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_fleets import demo_source, settings, with_pool

from planner.export.engine_flags import environment
from planner.export.fleet_of import fleet_of
from planner.export.manifest import engine_comments
from planner.spec.pool import GpuShare

BIG = "llama-3.1-70b-h100-tp4"


@pytest.mark.parametrize(
    ("engine", "version", "gpu", "image", "doubt"),
    [
        ("vllm", "v0.11.1", None, "vllm/vllm-openai:v0.11.1", None),
        ("vllm", "0.8.5.post1", None, "vllm/vllm-openai:v0.8.5.post1", None),
        ("vllm", "0.11.1rc2.dev3+g1a2b3c", None, "vllm/vllm-openai:v0.32.0", "no public image of"),
        ("vllm", "0.11", None, "vllm/vllm-openai:v0.32.0", "no public image of vllm 0.11"),
        ("vllm", "0.20.2", "mi300x-192g", "vllm/vllm-openai-rocm:v0.20.2", None),
        ("vllm", "0.14.0", "mi300x-192g", "vllm/vllm-openai-rocm:v0.14.0", None),
        (
            "vllm", "0.13.0", "mi300x-192g", "vllm/vllm-openai-rocm:v0.32.0",
            "no public image of vllm 0.13.0 for AMD's GPUs",
        ),
        (
            "sglang", "0.5.18", "mi325x-256g", "lmsysorg/sglang:v0.5.18-rocm720-mi30x",
            "rocm720 is a guess",
        ),
        (
            "sglang", None, "mi355x-288g", "lmsysorg/sglang:v0.5.23-rocm720-mi35x",
            "rocm720 is a guess",
        ),
        ("vllm", "0.13.0", "apple-m3", "vllm/vllm-openai:v0.13.0", "apple-m3 is neither"),
    ],
)  # fmt: skip
def test_an_image_is_of_the_measured_version_and_of_the_gpu_s_maker(
    engine, version, gpu, image, doubt
):
    changed = {"engine": engine, "engine_version": version, **({"gpu": gpu} if gpu else {})}
    source = with_pool(demo_source(), BIG, **changed)
    fleet = fleet_of(source)
    big = fleet.engine(BIG)
    assert big is not None and big.image == image
    said = [note for note in fleet.notes if note.startswith(f"{BIG} gets the image {image}")]
    assert [doubt in note for note in said] == ([] if doubt is None else [True])
    assert all(f"give pools: {{{BIG}: {{image: ...}}}}" in note for note in said)
    named = fleet_of(replace(source, settings=settings(pools={BIG: {"image": "mine:1"}})))
    assert not any("gets the image" in note for note in named.notes)


def test_a_gpu_of_neither_maker_is_told_until_its_resource_is_named():
    source = with_pool(demo_source(), BIG, gpu="gaudi-3")
    (big,) = [e for e in fleet_of(source).engines if e.pool == BIG]
    assert (big.maker, big.gpu_resource) == (None, "nvidia.com/gpu")
    said = "gaudi-3 is no GPU of NVIDIA or AMD, and nvidia.com/gpu stands for it"
    assert sum(note.startswith(said) for note in fleet_of(source).notes) == 1
    named = replace(source, settings=settings(gpus={"gaudi-3": {"resource": "habana.ai/gaudi"}}))
    assert not any(note.startswith(said) for note in fleet_of(named).notes)
    big = next(e for e in fleet_of(named).engines if e.pool == BIG)
    assert (big.maker, big.gpu_resource) == (None, "habana.ai/gaudi")


def test_a_resource_says_who_makes_a_gpu():
    source = with_pool(demo_source(), BIG, gpu="our-cards", engine_version="0.20.2")
    for resource, maker in (("amd.com/gpu", "amd"), ("nvidia.com/mig-1g.10gb", "nvidia")):
        said = settings(gpus={"our-cards": {"resource": resource}})
        big = fleet_of(replace(source, settings=said)).engine(BIG)
        assert big is not None and (big.maker, big.gpu_resource) == (maker, resource)
        assert ("rocm" in big.image) == (maker == "amd")


def test_one_image_on_gpus_of_two_makers_is_told():
    source = with_pool(demo_source(), BIG, gpu="mi300x-192g")
    told = fleet_of(replace(source, settings=settings(images={"vllm": "mirror/vllm:1"})))
    (said,) = [note for note in told.notes if "is to run on" in note]
    assert "mirror/vllm:1 is to run on b200-sxm-180g and mi300x-192g, and an image" in said
    assert not any("is to run on" in note for note in fleet_of(source).notes)


def test_no_mps_divides_a_gpu_of_amd():
    share = GpuShare(compute_ratio=0.5, memory_gib=40.0).model_dump()
    shared = with_pool(demo_source(), BIG, share=share)
    for source, is_divided in ((shared, True), (with_pool(shared, BIG, gpu="mi300x"), False)):
        big = fleet_of(source).engine(BIG)
        assert big is not None
        assert ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" in environment(big)) == is_divided
        said = " ".join(engine_comments(big))
        assert ("run CUDA's MPS" in said) == is_divided
        assert ("nothing here keeps it to its compute" in said) != is_divided
