"""Which device is measured, and what torch says of it; a made-up CUDA where there is none."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import pytest
from device_cases import H200

from planner.errors import InputError, MissingExtra
from planner.profile.device import machine as machines
from planner.profile.device.machine import entry_name, find

torch = pytest.importorskip("torch")

FACTS = {
    "name": "NVIDIA H200",
    "total_memory": 150_000_000_000,
    "multi_processor_count": 132,
    "L2_cache_size": 50 * 2**20,
    "memory_clock_rate": 3_201_000,
    "memory_bus_width": 6144,
}


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA device with the facts that it is called with."""

    def make(**facts: object) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (149_000_000_000, 150_000_000_000))
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda _: SimpleNamespace(**(FACTS | facts))
        )

    return make


def test_a_gpu_is_taken_where_there_is_one(cuda, monkeypatch):
    cuda()
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="580.65\n580.65\n")
    )
    found = find("auto", 16)
    assert found.on_gpu and found.name == "NVIDIA H200" and found.n_devices == 4
    assert found.memory_gib == pytest.approx(139.7, abs=0.01)
    assert found.n_cold_bytes == 4 * 50 * 2**20 and found.n_free_bytes == 149e9
    # Two transfers per cycle of 3.201 GHz over 768 bytes: what the data sheet calls 4.8 TB/s.
    assert found.bus_gb_per_s == pytest.approx(4916.7, abs=0.1)
    assert (found.driver, found.n_multiprocessors) == ("580.65", 132)
    assert find("cpu", 16).device == "cpu"


def test_facts_that_are_not_told_are_not_made_up(cuda, monkeypatch):
    cuda(memory_clock_rate=0, L2_cache_size=0)

    def gone(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", gone)
    found = find("cuda", 16)
    assert found.bus_gb_per_s is None and found.driver is None
    assert found.n_cold_bytes > 0


def test_another_makers_memory_clock_is_not_read_as_nvidias(cuda, monkeypatch):
    cuda()
    monkeypatch.setattr(torch.version, "hip", "6.4")
    found = find("cuda", 16)
    assert found.bus_gb_per_s is None and found.driver is None


def test_a_processor_stands_in(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = find("auto", 16)
    assert not found.on_gpu and found.memory_gib == 16 and "processor" in found.name
    with pytest.raises(InputError, match="torch sees no CUDA device"):
        find("cuda", 16)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"rb-planner\[plan\]"):
        find("cpu", 16)


@pytest.mark.parametrize(
    ("name", "memory_gib", "expected"),
    [
        ("NVIDIA H200", 139.8, "h200-140g"),
        ("NVIDIA A100-SXM4-80GB", 79.25, "a100-sxm4-80g"),
        ("Tesla V100-SXM2-16GB", 15.8, "v100-sxm2-16g"),
        ("AMD Instinct MI300X", 191.7, "instinct-mi300x-192g"),
        ("x86_64 processor, AVX2, 2 threads", 7.6, "x86-64-processor-avx2-2-threads-8g"),
    ],
)
def test_a_name_for_the_entry(name, memory_gib, expected):
    assert entry_name(dataclasses.replace(H200, name=name, memory_gib=memory_gib)) == expected


def test_the_fake_has_what_torch_calls_them():
    """The made-up device would prove nothing if torch named its facts otherwise."""
    stub = machines.__file__ and torch.__file__.replace("__init__.py", "_C/__init__.pyi")
    with open(stub, encoding="utf-8") as file:
        text = file.read()
    told = text[text.index("class _CudaDeviceProperties") :][:1500]
    assert [fact for fact in FACTS if f"{fact}:" not in told] == []
